//! A connection to a server: TCP, or TLS over it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Place {
    pub(crate) async fn connect(&self) -> Result<TcpStream, String> {
        let cannot = |error| {
            format!("{self} cannot be reached ({error}): check that it runs, and host and port in `url`")
        };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(cannot)?;
        // Batches are written at once; waiting for more would only delay them.
        stream.set_nodelay(true).map_err(cannot)?;
        Ok(stream)
    }
}

/// How a connection is encrypted: the server's certificate is always checked.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Believes the authorities in a file; without one, the public ones.
    pub(crate) fn new(ca_file: Option<&Path>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(file) => add_from(&mut roots, file)
                .map_err(|error| format!("`ca_file` {} cannot be used: {error}", file.display()))?,
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(crate) async fn secure(
        &self,
        stream: TcpStream,
        place: &Place,
    ) -> Result<impl Stream + use<>, String> {
        let name = ServerName::try_from(place.host.clone())
            .map_err(|_| format!("{} is no name for a certificate", place.host))?;
        let secured = self.0.connect(name, stream).await;
        secured.map_err(|error| {
            format!("{place} does not speak TLS with us ({error}): check its certificate, and `ca_file`")
        })
    }
}

fn add_from(roots: &mut RootCertStore, file: &Path) -> Result<(), String> {
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(()) }
}
