//! What is configured about the servers.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::remote::masked;

/// Which servers, and how to use them.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://user:password@host:port` or `nats://token@host:port`, `tls://` for TLS from the beginning of NATS's handshake on (it is also used when the
    /// server demands it). Of a cluster several, with commas between; each connection takes one that answers.
    pub url: String,
    /// What the subjects begin with: clusters with the same servers and account need different ones. Default: `outspoke`.
    pub prefix: String,
    /// A `.creds` file, or one with the seed of an NKey; read at each login. Default: none.
    pub credentials_file: Option<PathBuf>,
    /// Authorities, in PEM, that certificates are checked against. Default: the public ones.
    pub ca_file: Option<PathBuf>,
    /// How long a server may be silent before it is given up. Default: 3 s.
    pub timeout: Duration,
}

impl NatsOptions {
    /// Servers with everything else as it is by default.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "outspoke".to_owned(),
            credentials_file: None,
            ca_file: None,
            timeout: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("url", &masked(&self.url))
            .field("prefix", &self.prefix)
            .field("credentials_file", &self.credentials_file)
            .field("ca_file", &self.ca_file)
            .field("timeout", &self.timeout)
            .finish()
    }
}
