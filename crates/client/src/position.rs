//! A place in a room's log, as a client remembers it.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest epoch; the server's have sixteen digits.
const EPOCH_BYTES_MAX: usize = 31;

/// Which log of a room an offset belongs to: a text that is only ever compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    bytes: [u8; EPOCH_BYTES_MAX],
    len: u8,
}

impl Epoch {
    /// The epoch's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Made from a text only, whole.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// A text that is too long for an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an epoch has 1 to {EPOCH_BYTES_MAX} bytes")]
pub struct InvalidEpoch;

impl std::str::FromStr for Epoch {
    type Err = InvalidEpoch;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > EPOCH_BYTES_MAX {
            return Err(InvalidEpoch);
        }
        let mut bytes = [0; EPOCH_BYTES_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        // Bounded above: it fits a byte.
        Ok(Self { bytes, len: text.len() as u8 })
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Epoch({})", self.as_str())
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A place in a room's log. Keep it, and another process can go on from there: [`Subscribe::since`](crate::Subscribe::since).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which log the offset belongs to.
    pub epoch: Epoch,
    /// 1 for the first message of the log; 0 is the place before it.
    pub offset: u64,
}
