//! Bytes on their way into an upload.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::files::Shared;
use crate::locks::Taken;
use crate::{FileId, FilesError};

/// What a sender says that a part has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    algorithm: &'static str,
    digest: Vec<u8>,
}

impl Checksum {
    /// The algorithms that [`parse`](Self::parse) knows, as the tus protocol lists them.
    pub const ALGORITHMS: &'static str = "sha1,sha256";

    /// As the tus protocol has it: the algorithm, a blank, and the checksum in Base64. `None`: it is not known here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, digest) = text.split_once(' ')?;
        let (algorithm, length) = match algorithm {
            "sha1" => ("sha1", 20),
            "sha256" => ("sha256", 32),
            _ => return None,
        };
        let digest = STANDARD.decode(digest.trim()).ok().filter(|digest| digest.len() == length)?;
        Some(Self { algorithm, digest })
    }

    fn begin(&self) -> Context {
        Context::new(if self.algorithm == "sha1" { &SHA1_FOR_LEGACY_USE_ONLY } else { &SHA256 })
    }
}

/// Adds bytes to an upload, which nobody else does meanwhile.
///
/// What was written counts even if this is dropped unfinished, which is what happens when a connection breaks; with a checksum
/// nothing does, since nothing was compared.
pub struct Append {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: FileId,
    pub(crate) file: File,
    pub(crate) start: u64,
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) checking: Option<(Checksum, Context)>,
    /// The part is as it is to be: nothing is left to do when this is dropped.
    pub(crate) settled: bool,
    pub(crate) _taken: Taken,
}

impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append").field("id", &self.id).field("at", &self.at).finish_non_exhaustive()
    }
}

impl Append {
    pub(crate) fn check_with(&mut self, checksum: Checksum) {
        let context = checksum.begin();
        self.checking = Some((checksum, context));
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// They are more than were announced, of which none is added; or the disk does not take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), FilesError> {
        let end = self.at.saturating_add(bytes.len() as u64);
        if end > self.length {
            return Err(FilesError::TooLong { length: self.length });
        }
        self.file.write_all_at(bytes, self.at)?;
        if let Some((_, context)) = &mut self.checking {
            context.update(bytes);
        }
        self.at = end;
        Ok(())
    }

    /// Which upload it is.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Bytes that the upload is to have.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that the upload has now.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.at
    }

    /// All bytes have come: they are on the disk when this returns. Returns how many the upload has now.
    ///
    /// # Errors
    /// They are not those that were sent, and count as if they had not come; or the disk does not take them.
    pub fn finish(mut self) -> Result<u64, FilesError> {
        let mut as_sent = true;
        if let Some((checksum, context)) = self.checking.take() {
            as_sent = context.finish().as_ref() == checksum.digest;
            self.settle(as_sent)?;
        }
        self.file.sync_data()?;
        self.settled = true;
        if as_sent { Ok(self.at) } else { Err(FilesError::Checksum) }
    }

    /// Of a part with a checksum: all of it counts, or nothing.
    fn settle(&mut self, counts: bool) -> Result<(), FilesError> {
        if !counts {
            self.at = self.start;
            self.file.set_len(self.start)?;
        }
        self.shared.trust(self.id, None)
    }
}

impl Drop for Append {
    fn drop(&mut self) {
        if self.settled || self.checking.is_none() {
            return;
        }
        if let Err(error) = self.settle(false) {
            // The record still says how much is to be trusted, which is looked at before anything is added.
            tracing::debug!(id = %self.id, %error, "a part that was not compared was not taken back");
        }
    }
}
