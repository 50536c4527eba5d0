//! Which node.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// One life of a node: made anew at each start, never used again. Later ones are greater, as far as clocks agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u128);

impl NodeId {
    /// A new one (a UUID of version 7).
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7().as_u128())
    }

    /// The one of that number.
    #[must_use]
    pub fn from_u128(number: u128) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

impl Default for NodeId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(|id| Self(id.as_u128()))
    }
}
