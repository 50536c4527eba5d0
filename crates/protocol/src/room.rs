//! A room's name.
//!
//! Names come from clients: they are bounded, printable and never pasted into anything. What a name may
//! *mean* (patterns, classes, tenants) is the hub's affair.

use std::borrow::Borrow;
use std::fmt;

use ecow::EcoString;
use serde::Serialize;

/// The name of a room: 1 byte up to the configured maximum of UTF-8 without control characters.
///
/// Clones are cheap: up to 15 bytes live in place, longer names are shared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct RoomName(EcoString);

/// Why a text is no room name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRoomName {
    /// The text is empty.
    #[error("a room name must not be empty")]
    Empty,
    /// The text is longer than the hub allows.
    #[error("a room name has at most {max} bytes of UTF-8, this one has {len}")]
    TooLong {
        /// Bytes in the refused name.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The text has a control character, or blanks at its ends, which people cannot see.
    #[error("a room name has no control characters, and no blank at its start or end")]
    Unprintable,
}

impl RoomName {
    /// Checks `text` and makes it a name.
    ///
    /// # Errors
    /// Says which rule the text breaks; show it to whoever sent it.
    pub fn new(text: &str, bytes_max: usize) -> Result<Self, InvalidRoomName> {
        if text.is_empty() {
            return Err(InvalidRoomName::Empty);
        }
        if text.len() > bytes_max {
            return Err(InvalidRoomName::TooLong { len: text.len(), max: bytes_max });
        }
        if text.chars().any(is_unprintable) || text.trim() != text {
            return Err(InvalidRoomName::Unprintable);
        }
        Ok(Self(EcoString::from(text)))
    }

    /// The name's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Control characters, and the invisible ones that reorder or hide text.
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for RoomName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for RoomName {
    fn borrow(&self) -> &str {
        &self.0
    }
}
