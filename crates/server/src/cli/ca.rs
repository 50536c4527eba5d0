//! Certificate authorities of a file, for servers whose certificate no public authority has signed.
//!
//! Read once, by `reach.rs`; whoever connects is given them. They stand in place of the public ones: who names the authority of
//! a server does not want another one to speak for it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Largest file that is read: all public authorities together are a fifth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a file says nothing about authorities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// It cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is too long to be what it should be.
    #[error("{} has more than {FILE_BYTES_MAX} bytes", .0.display())]
    TooLong(PathBuf),
    /// There is no certificate in it.
    #[error("{} has no certificate in it", .0.display())]
    Empty(PathBuf),
    /// What is in it is no certificate.
    #[error("certificate {number} of {} is none: {why}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Which of its certificates, from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl CaError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "name a file with the certificates of the authority in PEM, which begin with -----BEGIN CERTIFICATE-----"
    }
}

/// The authorities of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorities(Arc<[CertificateDer<'static>]>);

impl Authorities {
    /// Reads them. Each is one that can be used, and there is at least one.
    pub(super) fn read(path: &Path) -> Result<Self, CaError> {
        let failed = |source| CaError::File { path: path.to_owned(), source };
        let mut text = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(CaError::TooLong(path.to_owned()));
        }
        let mut all = Vec::new();
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let malformed = |why| CaError::Malformed { path: path.to_owned(), number: all.len() + 1, why };
            let certificate = certificate.map_err(|error| malformed(error.to_string()))?;
            store.add(certificate.clone()).map_err(|error| malformed(error.to_string()))?;
            all.push(certificate);
        }
        if all.is_empty() { Err(CaError::Empty(path.to_owned())) } else { Ok(Self(all.into())) }
    }

    /// As TLS wants them.
    pub(super) fn store(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        // Every one was accepted when it was read.
        store.add_parsable_certificates(self.0.iter().cloned());
        store
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &[u8]) -> Result<Authorities, CaError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, text).unwrap();
        Authorities::read(&path)
    }

    #[test]
    fn file_that_is_none_says_why() {
        assert!(matches!(Authorities::read(Path::new("/no/such/file.pem")), Err(CaError::File { .. })));
        assert!(matches!(read(b""), Err(CaError::Empty(_))));
        assert!(matches!(read(b"{\"keys\":[]}"), Err(CaError::Empty(_))));
        assert!(matches!(read(&vec![b' '; 1024 * 1024 + 1]), Err(CaError::TooLong(_))));
        let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(read(broken), Err(CaError::Malformed { number: 1, .. })));
    }
}
