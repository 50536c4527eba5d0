//! Where the server is: a `ws://` or `wss://` address, resolved once.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A server's address and the path of its endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: String,
    /// By TLS.
    pub(crate) secure: bool,
    /// Resolved.
    pub(crate) addr: SocketAddr,
    /// Empty, or beginning with a slash.
    pub(crate) path: String,
}

/// Why an address is not one this driver can use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("not a WebSocket address; write ws://HOST:PORT or ws://HOST:PORT/PATH, with wss:// for TLS")]
    NotWs,
    #[error("cannot find {0}: {1}")]
    Unknown(String, std::io::Error),
    #[error("{0} has no address")]
    Empty(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (secure, rest) = match text.strip_prefix("wss://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("ws://").ok_or(TargetError::NotWs)?),
        };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        if authority.is_empty() || path.contains(['?', '#', ' ', '\r', '\n']) {
            return Err(TargetError::NotWs);
        }
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if secure { 443 } else { 80 };
        let host = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        let mut found = host.to_socket_addrs().map_err(|error| TargetError::Unknown(host.clone(), error))?;
        let addr = found.next().ok_or_else(|| TargetError::Empty(host.clone()))?;
        Ok(Self { host, secure, addr, path: path.trim_end_matches('/').to_owned() })
    }
}

impl Target {
    /// The host without its port, as a certificate has it.
    pub(crate) fn host_name(&self) -> &str {
        let name = self.host.rsplit_once(':').map_or(&*self.host, |(name, _)| name);
        name.trim_matches(['[', ']'])
    }

    /// The request of RFC 6455 section 4.1. The key is a constant: it guards against caches, not attackers.
    pub(crate) fn upgrade_request(&self, path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.host
        )
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "wss" } else { "ws" };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn target_with_port_and_path_is_taken_apart() {
        let target: Target = "ws://127.0.0.1:8080/ws".parse().unwrap();
        assert_eq!(target.addr, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(target.path, "/ws");
        assert!(
            target.upgrade_request("/ws?a=b").starts_with("GET /ws?a=b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n")
        );
    }

    #[test]
    fn target_without_port_or_path_has_the_defaults() {
        let target: Target = "ws://127.0.0.1".parse().unwrap();
        assert_eq!((target.addr.port(), target.path.as_str()), (80, ""));
        let v6: Target = "ws://[::1]:9/".parse().unwrap();
        assert_eq!((v6.addr.port(), v6.path.as_str()), (9, ""));
        let secure: Target = "wss://127.0.0.1/ws".parse().unwrap();
        assert_eq!(
            (secure.addr.port(), secure.secure, secure.to_string().as_str()),
            (443, true, "wss://127.0.0.1:443/ws")
        );
        assert_eq!((secure.host_name(), v6.host_name()), ("127.0.0.1", "::1"));
    }

    #[test]
    fn target_that_cannot_work_says_the_cure() {
        for (text, cure) in [("https://a", "wss://"), ("http://a", "ws://HOST"), ("ws:///x", "ws://HOST")] {
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(cure), "{text}: {error}");
        }
    }
}
