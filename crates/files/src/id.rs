//! What a file is called by programs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A file's id: 32 hexadecimal digits, made here, so that it can be part of a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileId(u128);

impl FileId {
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7().as_u128())
    }

    /// Which of several folders it is in: its last two digits, which are random.
    pub(crate) fn shard(self) -> String {
        format!("{:02x}", self.0 & 0xff)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no [`FileId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file's id has 32 hexadecimal digits")]
pub struct InvalidFileId;

impl FromStr for FileId {
    type Err = InvalidFileId;

    /// Only as it is written here: one file has one name.
    fn from_str(text: &str) -> Result<Self, InvalidFileId> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(digit) {
            return Err(InvalidFileId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidFileId)
    }
}

impl TryFrom<String> for FileId {
    type Error = InvalidFileId;

    fn try_from(text: String) -> Result<Self, InvalidFileId> {
        text.parse()
    }
}

impl From<FileId> for String {
    fn from(id: FileId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn id_is_read_only_as_it_is_written() {
        let id = FileId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in [
            "",
            "../../../../etc/passwd",
            "+123456789abcdef0123456789abcdef",
            "0123456789ABCDEF0123456789ABCDEF",
            "0123456789abcdef0123456789abcdef0",
        ] {
            assert_eq!(text.parse::<FileId>(), Err(InvalidFileId), "{text}");
        }
    }
}
