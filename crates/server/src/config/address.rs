//! The address to listen on, as operators write it.
//!
//! Read by the configuration, resolved by the listener. Follows Go's rule that an empty host means every interface
//! over IPv4 and IPv6. Binding, and the dual-stack socket option, belong to the listener.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A host and a port to listen on: `:8080`, `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddr {
    host: Host,
    port: u16,
}

/// The host part of a [`ListenAddr`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Every interface, IPv4 and IPv6: the address was written `:8080`.
    Any,
    /// One interface, or all of one family.
    Ip(IpAddr),
    /// A name, resolved when the listener starts.
    Name(String),
}

/// Why a text is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddrError {
    /// Nothing that could be a port.
    #[error("has no port")]
    NoPort(String),
    /// The port is not a number up to 65535.
    #[error("has no valid port (0 to 65535)")]
    BadPort,
    /// An IPv6 address outside brackets.
    #[error("is an IPv6 address without brackets")]
    BareIpv6(String),
    /// A URL instead of an address.
    #[error("is a URL, not an address to listen on")]
    Url(String),
    /// The host is neither an IP address nor a name.
    #[error("has no valid host")]
    BadHost,
}

impl AddrError {
    /// What to write instead, where the mistake allows a guess.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoPort(text) if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
                Some(format!("write \":{text}\" for this port on all interfaces"))
            }
            Self::NoPort(text) => Some(format!("write \"{text}:8080\"")),
            Self::BareIpv6(text) => {
                Some(format!("write \"[{text}]:8080\", the address in brackets, then the port"))
            }
            Self::Url(rest) => Some(format!("write \"{rest}\"")),
            Self::BadPort | Self::BadHost => None,
        }
    }
}

impl ListenAddr {
    /// Reads `host:port`; an empty host means all interfaces, port 0 lets the system choose.
    ///
    /// # Errors
    /// [`AddrError`] says what is wrong; its [`hint`](AddrError::hint) says what to write.
    pub fn parse(text: &str) -> Result<Self, AddrError> {
        if let Some((_, rest)) = text.split_once("://") {
            return Err(AddrError::Url(rest.trim_end_matches('/').to_owned()));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(AddrError::BareIpv6(text.to_owned()));
        }
        if text.ends_with(']') || !text.contains(':') {
            return Err(AddrError::NoPort(text.to_owned()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddrError::BadPort)?;
        let plain_digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port = plain_digits.then(|| port.parse().ok()).flatten().ok_or(AddrError::BadPort)?;
        Ok(Self { host: Host::parse(host)?, port })
    }

    /// The host part.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port; 0 lets the system choose one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can reach it, as far as the address itself says.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Any => false,
            Host::Ip(ip) => ip.is_loopback(),
            // Reserved for this meaning (RFC 6761, section 6.3).
            Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }

    /// The same host with another port.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { host: self.host.clone(), port }
    }

    /// The addresses to try, best first.
    ///
    /// [`Host::Any`] gives `[::]`, to be bound for both families, then `0.0.0.0` for systems without IPv6: bind the
    /// first that works. A name gives every address it resolves to.
    ///
    /// # Errors
    /// A name that does not resolve. This may wait for the system's resolver; call it before serving.
    pub fn socket_addrs(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Any => Ok(vec![
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.port)),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port)),
            ]),
            Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => Ok((name.as_str(), self.port).to_socket_addrs()?.collect()),
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, AddrError> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return inner.parse::<Ipv6Addr>().map(|ip| Self::Ip(ip.into())).map_err(|_| AddrError::BadHost);
        }
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Ip(ip.into()));
        }
        // A name that ends in a number can only be a mistyped IPv4 address (WHATWG URL, "ends in a number").
        let mistyped_ip =
            text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        let is_name = text.len() <= 253
            && text.split('.').all(|label| !label.is_empty() && label.len() <= 63)
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
        (is_name && !mistyped_ip).then(|| Self::Name(text.to_owned())).ok_or(AddrError::BadHost)
    }
}

impl FromStr for ListenAddr {
    type Err = AddrError;

    fn from_str(text: &str) -> Result<Self, AddrError> {
        Self::parse(text)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => write!(f, ":{}", self.port),
            Host::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn address_prints_as_it_was_written() {
        for text in
            [":8080", "0.0.0.0:8080", "[::]:8080", "[::1]:0", "localhost:8080", "chat.example.org:443"]
        {
            assert_eq!(ListenAddr::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn address_without_host_means_both_families() {
        let addrs = ListenAddr::parse(":8080").unwrap().socket_addrs().unwrap();
        assert_eq!(addrs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["[::]:8080", "0.0.0.0:8080"]);
    }

    #[test]
    fn address_mistakes_say_what_to_write() {
        let hint = |text: &str| ListenAddr::parse(text).unwrap_err().hint();
        assert_eq!(hint("8080").as_deref(), Some("write \":8080\" for this port on all interfaces"));
        assert_eq!(hint("localhost").as_deref(), Some("write \"localhost:8080\""));
        assert_eq!(
            hint("::1").as_deref(),
            Some("write \"[::1]:8080\", the address in brackets, then the port")
        );
        assert_eq!(hint("http://localhost:9000/").as_deref(), Some("write \"localhost:9000\""));
        assert_eq!(ListenAddr::parse("[::1]"), Err(AddrError::NoPort("[::1]".into())));
    }

    #[test]
    fn address_with_bad_host_or_port_is_refused() {
        for text in
            [":", ":x", ":65536", ":-1", ":+1", "host:", "a b:1", "[x]:1", "300.0.0.1:1", "1.2.3:4", "a..b:1"]
        {
            assert!(ListenAddr::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn address_keeps_its_host_when_the_port_changes() {
        assert_eq!(ListenAddr::parse("127.0.0.1:1").unwrap().with_port(9).to_string(), "127.0.0.1:9");
    }
}
