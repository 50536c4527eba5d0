//! What is published under, and subscribed to.

use std::fmt;

use ecow::EcoString;

/// A name on the bus: `broadcast`, `unicast/<client>`, `room/<tenant>/<room>` and so on. Any text of 1 to
/// [`Topic::BYTES_MAX`] bytes without control characters; back ends encode it, none may paste it into a subject, a
/// pattern or a key as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(EcoString);

/// It is empty, too long, or has control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a topic has 1 to {max} bytes and no control characters", max = Topic::BYTES_MAX)]
pub struct InvalidTopic;

impl Topic {
    /// Longest topic, in bytes.
    pub const BYTES_MAX: usize = 1200;

    /// A topic of that name.
    ///
    /// # Errors
    /// See [`InvalidTopic`].
    pub fn new(name: impl Into<EcoString>) -> Result<Self, InvalidTopic> {
        let name = name.into();
        let valid = (1..=Self::BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if valid { Ok(Self(name)) } else { Err(InvalidTopic) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
