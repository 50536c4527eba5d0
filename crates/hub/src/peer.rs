//! What the HTTP server knows of a request's sender: from where it came, and how it reached the server.
//!
//! Both are put into the request's extensions by whoever accepts connections, because only that side knows which proxies
//! may be believed. The hub reads them at the upgrade; it never looks into `X-Forwarded-For` and the like itself.

use std::fmt;
use std::net::IpAddr;

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
