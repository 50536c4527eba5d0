//! What the HTTP server knows of a request's sender: from where it came, and how it reached the server.
//!
//! Everything here is put into the request's extensions by whoever accepts connections, because only that side knows which proxies
//! may be believed. The hub reads them at the upgrade; it never looks into `X-Forwarded-For` and the like itself.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// The address of the client behind a request, as far as the server can know it: the socket's, or what a trusted proxy said.
///
/// A request extension. An IPv4 address that came in IPv6 form (`::ffff:192.0.2.1`) is kept as the IPv4 address it is, so
/// that one client has one address.
///
/// ```
/// use outspoke_hub::ClientAddress;
///
/// let address = ClientAddress::new("::ffff:192.0.2.1".parse()?);
/// assert_eq!(address.to_string(), "192.0.2.1");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The address `ip`.
    #[must_use]
    pub fn new(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }

    /// The address, never an IPv4 address in IPv6 form.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.0
    }
}

impl From<IpAddr> for ClientAddress {
    fn from(ip: IpAddr) -> Self {
        Self::new(ip)
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a request reached the server, as the client sees it: over TLS or not, and by which host name.
///
/// A request extension, like [`ClientAddress`]. Without it the hub takes `Host` as it came, and knows nothing of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached {
    /// Whether the client's own connection is TLS; `None` where a proxy that nobody vouches for may be in between.
    pub secure: Option<bool>,
    /// Host and port that the client asked for, where a trusted proxy says so; `None`: those of the request.
    pub host: Option<String>,
}

impl Reached {
    /// Over TLS.
    #[must_use]
    pub fn securely() -> Self {
        Self { secure: Some(true), host: None }
    }
}

/// The certificate that a client has shown and the server has verified.
///
/// A request extension, for [authenticators](crate::Authenticator); absent where the client showed none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCertificate {
    /// The subject, as RFC 4514 writes it: `CN=worker-7,O=Example`.
    pub subject: String,
    /// The subject's common name, if it has one.
    pub common_name: Option<String>,
    /// Alternative names that are host names.
    pub dns_names: Vec<String>,
    /// Alternative names that are email addresses.
    pub emails: Vec<String>,
    /// Alternative names that are URIs, such as `spiffe://example.org/worker`.
    pub uris: Vec<String>,
    /// The serial number in hexadecimal.
    pub serial: String,
}

impl ClientCertificate {
    /// A certificate of that subject.
    #[must_use]
    pub fn of(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), ..Self::default() }
    }
}

/// How to take the stream out of an upgraded connection, so that nothing of the HTTP server stays behind.
///
/// A request extension for servers whose streams are not plain TCP: `Unwrap::of::<TlsStream<TcpStream>>()` where hyper
/// was given a `TokioIo<TlsStream<TcpStream>>`. Without it such a connection keeps what hyper has for it.
#[derive(Clone, Copy)]
pub struct Unwrap(fn(Upgraded) -> Taken);

/// The stream and what was read of it already, or what was given if that is another stream.
type Taken = Result<(Box<dyn Stream>, Bytes), Upgraded>;

/// Any stream.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Unwrap {
    /// Hyper was given a `TokioIo<S>`.
    #[must_use]
    pub fn of<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>() -> Self {
        Self(|upgraded| {
            let parts = upgraded.downcast::<TokioIo<S>>()?;
            Ok((Box::new(parts.io.into_inner()), parts.read_buf))
        })
    }

    /// Takes it.
    pub(crate) fn apply(self, upgraded: Upgraded) -> Taken {
        (self.0)(upgraded)
    }
}

impl fmt::Debug for Unwrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unwrap")
    }
}
