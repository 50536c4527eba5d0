//! What the files hold that the settings name: compared to know whether anything is new.
//!
//! Content is compared, not dates: links that change their target and copies that keep their dates are as common as editors.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::TlsError;
use crate::config::settings::tls::{ClientAuth, Tls};

/// A file's content, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl File {
    fn read(path: &Path) -> Result<Self, TlsError> {
        let bytes = fs::read(path);
        let bytes = bytes.map_err(|source| TlsError::Unreadable { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    pub(super) fn view(&self) -> (&Path, &[u8]) {
        (&self.path, &self.bytes)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PairContents {
    pub(super) certificate: File,
    pub(super) key: File,
}

/// Everything that TLS is made of, as it is in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) pairs: Vec<PairContents>,
    pub(super) client_ca: Option<File>,
    client_auth: ClientAuth,
}

impl Contents {
    pub(super) fn read(settings: &Tls) -> Result<Self, TlsError> {
        let first = settings.certificate.as_deref().zip(settings.key.as_deref());
        let further = settings.certificates.iter().map(|files| (&*files.certificate, &*files.key));
        let pairs: Result<Vec<_>, TlsError> = first
            .into_iter()
            .chain(further)
            .map(|(certificate, key)| {
                Ok(PairContents { certificate: File::read(certificate)?, key: File::read(key)? })
            })
            .collect();
        let pairs = pairs?;
        if pairs.is_empty() {
            return Err(TlsError::Setup("tls.certificate and tls.key are not set".to_owned()));
        }
        let client_ca = settings.client_ca.as_deref().map(File::read).transpose()?;
        Ok(Self { pairs, client_ca, client_auth: settings.client_auth })
    }
}
