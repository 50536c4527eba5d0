//! Why TLS cannot be served with the files that the settings name, each with its cure.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is none of what the file is for.
    #[error("{} holds no {what}", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The key needs a password, which nobody is there to type.
    #[error("the private key in {} is encrypted", path.display())]
    Encrypted {
        /// Which.
        path: PathBuf,
    },
    /// A certificate that is none, or a key of a kind that TLS has no use for.
    #[error("{} cannot be used: {why}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Certificate and key do not belong together.
    #[error("the key in {} is not that of the certificate in {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The certificate's time is over.
    #[error("the certificate in {} expired at {at}", path.display())]
    Expired {
        /// Which.
        path: PathBuf,
        /// When.
        at: Timestamp,
    },
    /// This build asks no authority.
    #[error("tls.acme_domains is set, and this build has no ACME")]
    NoAcme,
    /// The TLS library takes none of it.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl TlsError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "let the user that the server runs as read the file, for example with its group".to_owned()
            }
            Self::Unreadable { .. } => "correct the path in the section tls of the configuration".to_owned(),
            Self::Empty { what, .. } => format!(
                "it must be PEM: a text with -----BEGIN {}----- in it",
                if *what == "private key" { "PRIVATE KEY" } else { "CERTIFICATE" }
            ),
            Self::Encrypted { path } => format!(
                "write it without a password: openssl pkey -in {} -out server.key, readable for the server alone",
                path.display()
            ),
            Self::Unusable { .. } => {
                "get an ECDSA (P-256), Ed25519 or RSA (2048 bits or more) certificate and its key as PEM"
                    .to_owned()
            }
            Self::Mismatch { .. } => {
                "name the files that were made together; the server's certificate must come first in its file"
                    .to_owned()
            }
            Self::Expired { .. } => "renew it".to_owned(),
            Self::NoAcme => {
                "build with `cargo build --release --features acme`, or let another program get the certificates (docs/operating/tls.md)"
                    .to_owned()
            }
            Self::Setup(_) => "correct the section tls of the configuration".to_owned(),
        }
    }
}
