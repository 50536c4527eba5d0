//! What is known of a file: one small JSON document beside its content.

use serde::{Deserialize, Serialize};

use crate::FileId;

/// Whose a file is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    /// The tenant; empty where there is but one.
    pub tenant: String,
    /// The user.
    pub user: String,
}

impl Owner {
    /// A user of a tenant.
    pub fn new(tenant: impl Into<String>, user: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), user: user.into() }
    }
}

/// A file, or an upload that is to become one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// What programs call it.
    pub id: FileId,
    /// Whose it is.
    pub owner: Owner,
    /// What people call it.
    pub name: String,
    /// What its uploader said of it, as it came.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// Its bytes, as announced.
    pub length: u64,
    /// When it was begun, in milliseconds since 1970.
    pub created: i64,
    /// When it goes if it is not finished by then.
    pub expires: i64,
    /// Bytes known to be right, while a part with a checksum is under way: what follows was not compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted: Option<u64>,
    /// What it is, once it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Facts>,
    /// Where it was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
}

impl Record {
    /// What is known of the whole file; `None` as long as it is not.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        self.whole.as_ref()
    }

    /// Whether it was sent to a room.
    #[must_use]
    pub fn is_in(&self, room: &str) -> bool {
        self.attachments.iter().any(|attachment| attachment.room == room)
    }
}

/// What is known of a whole file, by its content alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Facts {
    /// Bytes.
    pub size: u64,
    /// SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// What it may be taken for: never something that a browser would run.
    #[serde(rename = "type")]
    pub media_type: String,
    /// Pixels, as it is to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Pixels, as it is to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Whether there is a small picture of it.
    pub preview: Preview,
    /// When it was whole, in milliseconds since 1970.
    pub finished: i64,
}

/// A small picture of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preview {
    /// It is no image, or one that could not be read.
    None,
    /// It is to be made.
    Pending,
    /// There is one, without transparency.
    Jpeg,
    /// There is one.
    Png,
}

impl Preview {
    /// Whether there is one.
    #[must_use]
    pub fn is_made(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png)
    }

    /// Its media type, if there is one.
    #[must_use]
    pub fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Jpeg => Some("image/jpeg"),
            Self::Png => Some("image/png"),
            Self::None | Self::Pending => None,
        }
    }
}

/// A room to which a file was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The room, of the owner's tenant.
    pub room: String,
    /// When it was sent there last, in milliseconds since 1970.
    pub since: i64,
}
