//! How a stream of bytes to the server comes about.
//!
//! [`Tcp`] is what everybody uses; another [`Dialer`] goes through a proxy, a Unix socket or a test's memory. The
//! WebSocket handshake on top of it is `socket.rs`'s, and time limits are the caller's.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// A connection attempt under way.
pub type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn ByteStream>>> + Send + 'a>>;

/// Opens streams to a server.
///
/// Called by the client's own task, once per attempt; dropping the future gives the attempt up. What it opens must be
/// encrypted already when the address is `wss`.
pub trait Dialer: Send + Sync + 'static {
    /// Opens a stream to the host of `url`.
    fn dial<'a>(&'a self, url: &'a Uri) -> Dialing<'a>;
}

/// TCP, and TLS for `wss` addresses.
#[derive(Clone, Default)]
pub struct Tcp {
    #[cfg(feature = "rustls")]
    tls: Option<std::sync::Arc<rustls::ClientConfig>>,
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tcp").finish_non_exhaustive()
    }
}

impl Tcp {
    /// Trusting the authorities that browsers trust.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a TLS configuration of your own: another authority, say, or a client certificate.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn with_tls(config: std::sync::Arc<rustls::ClientConfig>) -> Self {
        Self { tls: Some(config) }
    }

    /// Trusting these authorities, certificates in PEM, and no others: for servers of one's own.
    ///
    /// # Errors
    /// There is no certificate in it, or what looks like one is none.
    #[cfg(feature = "rustls")]
    pub fn with_authorities(pem: &[u8]) -> io::Result<Self> {
        use rustls::pki_types::pem::PemObject as _;
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut roots = rustls::RootCertStore::empty();
        for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
            roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(invalid("no certificate in PEM".to_owned()));
        }
        Ok(Self::with_tls(trusting(roots)?))
    }

    #[cfg(feature = "rustls")]
    async fn encrypt(&self, host: &str, stream: TcpStream) -> io::Result<Box<dyn ByteStream>> {
        let config = match &self.tls {
            Some(config) => std::sync::Arc::clone(config),
            None => public_authorities()?,
        };
        // An IPv6 address has brackets in an address, and none in a certificate.
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = rustls::pki_types::ServerName::try_from(name)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(Box::new(tokio_rustls::TlsConnector::from(config).connect(name, stream).await?))
    }

    #[cfg(not(feature = "rustls"))]
    async fn encrypt(&self, _: &str, _: TcpStream) -> io::Result<Box<dyn ByteStream>> {
        let why = "wss:// needs the crate's feature \"rustls\"";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }
}

#[cfg(feature = "rustls")]
fn public_authorities() -> io::Result<std::sync::Arc<rustls::ClientConfig>> {
    trusting(rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
}

#[cfg(feature = "rustls")]
fn trusting(roots: rustls::RootCertStore) -> io::Result<std::sync::Arc<rustls::ClientConfig>> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(std::sync::Arc::new(config))
}

impl Dialer for Tcp {
    fn dial<'a>(&'a self, url: &'a Uri) -> Dialing<'a> {
        Box::pin(async move {
            let secure = url.scheme_str() == Some("wss");
            let host = url.host().unwrap_or_default();
            let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((bare, port)).await?;
            // Small frames that must not wait for each other.
            stream.set_nodelay(true)?;
            if secure {
                return self.encrypt(host, stream).await;
            }
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}
