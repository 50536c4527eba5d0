//! Names for clients, users, messages, requests and histories.
//!
//! Ids made by the hub are UUIDs of version 7 (RFC 9562): unique across nodes, sortable by time. Ids made
//! by others (users, requests) are opaque texts or numbers whose length the hub bounds before they get here.

use std::fmt;

use ecow::EcoString;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One connection, on whichever node it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(Uuid);

/// One message, the same on every node and in every dialect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(Uuid);

macro_rules! uuid_id {
    ($name:ident) => {
        impl $name {
            /// A new id, unique without coordination.
            #[must_use]
            pub fn random() -> Self {
                Self(Uuid::now_v7())
            }

            /// An id with chosen bits: for tests, and for ids that come from elsewhere.
            #[must_use]
            pub const fn from_u128(bits: u128) -> Self {
                Self(Uuid::from_u128(bits))
            }

            /// The id's 128 bits.
            #[must_use]
            pub const fn as_u128(self) -> u128 {
                self.0.as_u128()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id!(ClientId);
uuid_id!(MessageId);

/// Who is behind a connection, as the authenticator (or, in open mode, the client) says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(EcoString);

impl UserId {
    /// Takes the text as it is; whoever accepts identities bounds its length.
    #[must_use]
    pub fn new(text: impl Into<EcoString>) -> Self {
        Self(text.into())
    }

    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client calls its request, echoed in the answer; chosen by the client, never interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RequestId {
    /// A JSON integer.
    Number(i64),
    /// A JSON string.
    Text(EcoString),
}

/// Which history of a room an offset belongs to: it changes when the old offsets mean nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// A new history. The number is random, so that a restarted node cannot mistake the old one for its own.
    #[must_use]
    pub fn random() -> Self {
        // Zero is left for "unknown".
        Self(Uuid::new_v4().as_u64_pair().0.max(1))
    }

    /// An epoch with chosen bits.
    #[must_use]
    pub const fn from_u64(bits: u64) -> Self {
        Self(bits)
    }

    /// The epoch's bits.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// Sixteen hexadecimal digits: JSON numbers do not carry 64 bits everywhere.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl std::str::FromStr for Epoch {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = EcoString::deserialize(deserializer)?;
        text.parse().map_err(|_| serde::de::Error::custom("an epoch is sixteen hexadecimal digits"))
    }
}
