//! Why something is not done with a file.

use std::io;

/// Why something is not done with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// There is no such file or upload: it never was, or has expired, or was taken away.
    #[error("there is no such file")]
    NotFound,
    /// The file is not whole yet.
    #[error("the upload is not finished; send the rest of it first")]
    Unfinished,
    /// The file is whole already, and does not change any more.
    #[error("the upload is finished; nothing can be added to it")]
    Finished,
    /// Another request works on the upload.
    #[error("another request is working on this upload; try again")]
    Busy,
    /// The upload is elsewhere than the request thinks.
    #[error("the upload is at byte {at}; go on from there")]
    Offset {
        /// Bytes that are here.
        at: u64,
    },
    /// More came than was announced.
    #[error("more bytes came than the upload's length, {length}")]
    TooLong {
        /// What was announced.
        length: u64,
    },
    /// A file may not be so long.
    #[error("a file may have at most {max} bytes")]
    TooLarge {
        /// What it may have.
        max: u64,
    },
    /// The user or the tenant has as much as it may have.
    #[error("{of} may keep {max} bytes of files, and this would be more; delete some first")]
    Quota {
        /// Whose quota it is.
        of: &'static str,
        /// What it is.
        max: u64,
    },
    /// The user has begun too many uploads.
    #[error("at most {max} uploads may be unfinished at a time; finish or delete one first")]
    TooManyUploads {
        /// How many may be.
        max: usize,
    },
    /// What came is not what was sent.
    #[error("the checksum is not that of the bytes that came; send them again")]
    Checksum,
    /// Files of this type are not accepted.
    #[error("files of the type {found} are not accepted here")]
    Type {
        /// What it is, by its content.
        found: String,
    },
    /// The image would take too much to be shown.
    #[error("the image has {what}: at most {max} are accepted")]
    Image {
        /// What it has too much of.
        what: String,
        /// What it may have.
        max: u64,
    },
    /// The disk is full.
    #[error("there is no room for more files: the disk is full")]
    Full,
    /// What is on the disk is not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The settings cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The disk does not do what it is told.
    #[error("the files' folder cannot be used: {0}")]
    Io(io::Error),
}

impl From<io::Error> for FilesError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}
