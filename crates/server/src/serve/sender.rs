//! Who is behind a connection: the address of the socket, or what a trusted proxy says.
//!
//! Two ways for proxies to say it: the PROXY protocol, once at the beginning of a connection, and `X-Forwarded-For` with its
//! siblings in each request. Both are read only if the socket's own address is one of the trusted ones: anybody can write
//! them. Used by the accept loop; everything else reads the request's [`ClientAddress`] and [`Reached`].

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use http::HeaderMap;
use ipnet::IpNet;
use outspoke_hub::{ClientAddress, Reached};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The proxies that are believed.
#[derive(Clone, Debug)]
pub(super) struct Trusted(Arc<[IpNet]>);

impl Trusted {
    pub(super) fn new(networks: &[IpNet]) -> Self {
        Self(networks.into())
    }

    pub(super) fn has(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// From where a request came over a connection of `peer`, and how it reached the first of the proxies.
    ///
    /// `secure`: whether the connection itself is TLS.
    pub(super) fn sender(&self, peer: IpAddr, secure: bool, headers: &HeaderMap) -> (ClientAddress, Reached) {
        let mut reached = Reached::default();
        if !self.has(peer) {
            // Without TLS there may still be a proxy that took it off: nobody said that there is none.
            reached.secure = secure.then_some(true);
            return (ClientAddress::new(peer), reached);
        }
        reached.secure = match last(headers, "x-forwarded-proto") {
            Some("https" | "wss") => Some(true),
            Some("http" | "ws") => Some(false),
            _ => secure.then_some(true),
        };
        reached.host = last(headers, "x-forwarded-host").map(str::to_owned);
        (ClientAddress::new(self.first_stranger(peer, headers)), reached)
    }

    /// The last address that nobody who is trusted has: whatever stands before it the sender may have written.
    fn first_stranger(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = peer;
        let values = headers.get_all("x-forwarded-for").iter().rev();
        // A value that is no text ends the search: nothing before it can be trusted.
        for value in values {
            let Ok(value) = value.to_str() else { return nearest };
            for hop in value.rsplit(',') {
                match address(hop.trim()) {
                    Some(ip) if self.has(ip) => nearest = ip,
                    Some(ip) => return ip,
                    None => return nearest,
                }
            }
        }
        nearest
    }
}

/// The last of the values, which the nearest proxy has written.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// An address as proxies write it: with or without a port, with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let unbracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || text.parse::<SocketAddr>().ok().map(|addr| addr.ip());
    text.parse().ok().or_else(unbracketed).or_else(with_port)
}

/// The first bytes of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1, with its end of line.
const LINE_BYTES_MAX: usize = 107;
/// Longest header of version 2 that is read: addresses take 36 bytes, the rest are notes of the proxy.
const NOTES_BYTES_MAX: usize = 4096;

/// Reads the PROXY protocol's header, and nothing after it. The caller sets a limit on the time.
///
/// `None`: the proxy speaks for itself, as health checks do, or does not know.
///
/// # Errors
/// It is none, or the connection ended.
pub(super) async fn proxied(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return version_2(stream).await;
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\n") {
        if line.len() == LINE_BYTES_MAX {
            return Err(malformed());
        }
        // A byte at a time: what follows the line is not ours. This is once per connection, from a machine nearby.
        line.push(stream.read_u8().await?);
    }
    version_1(&line)
}

fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the connection does not begin with a header of the PROXY protocol",
    )
}

fn version_1(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let line =
        line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or_else(malformed)?;
    let mut words = line.split(' ');
    let (Some("PROXY"), Some(family)) = (words.next(), words.next()) else { return Err(malformed()) };
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let mut word = || words.next().ok_or_else(malformed);
    let (source, _destination, port) = (word()?, word()?, word()?);
    let ip: Option<IpAddr> = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => source.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    };
    match (ip, port.parse()) {
        (Some(ip), Ok(port)) => Ok(Some(SocketAddr::new(ip, port))),
        _ => Err(malformed()),
    }
}

async fn version_2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let (command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if command & 0xf0 != 0x20 || length > NOTES_BYTES_MAX {
        return Err(malformed());
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    match (command & 0x0f, family) {
        // LOCAL: the proxy itself.
        (0, _) => Ok(None),
        (1, 0x11) => addresses::<4>(&rest).map(Some),
        (1, 0x21) => addresses::<16>(&rest).map(Some),
        // UDP and Unix sockets say nothing that is of use here.
        (1, _) => Ok(None),
        _ => Err(malformed()),
    }
}

/// Two addresses of `N` bytes, then two ports; the first of each is the client's.
fn addresses<const N: usize>(bytes: &[u8]) -> io::Result<SocketAddr>
where
    IpAddr: From<[u8; N]>,
{
    if bytes.len() < 2 * N + 4 {
        return Err(malformed());
    }
    let ip = bytes.first_chunk::<N>().ok_or_else(malformed)?;
    let port = bytes.get(2 * N..2 * N + 2).ok_or_else(malformed)?;
    Ok(SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes([port[0], port[1]])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn sender(trusted: &str, peer: &str, pairs: &[(&'static str, &str)]) -> String {
        let networks: Vec<IpNet> = trusted.split_whitespace().map(|text| text.parse().unwrap()).collect();
        let (address, _) = Trusted::new(&networks).sender(peer.parse().unwrap(), false, &headers(pairs));
        address.to_string()
    }

    #[test]
    fn forwarded_address_counts_only_from_trusted_proxies() {
        let forged = [("x-forwarded-for", "198.51.100.1")];
        assert_eq!(sender("", "192.0.2.9", &forged), "192.0.2.9");
        assert_eq!(sender("10.0.0.0/8", "192.0.2.9", &forged), "192.0.2.9");
        assert_eq!(sender("10.0.0.0/8", "10.0.0.1", &forged), "198.51.100.1");
        assert_eq!(sender("10.0.0.0/8", "::ffff:10.0.0.1", &forged), "198.51.100.1");
    }

    #[test]
    fn client_is_the_last_address_that_is_no_proxy() {
        let trusted = "10.0.0.0/8 fd00::/8";
        for (forwarded, client) in [
            ("203.0.113.7", "203.0.113.7"),
            ("6.6.6.6, 203.0.113.7", "203.0.113.7"),
            ("6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
            ("6.6.6.6,203.0.113.7,fd00::2", "203.0.113.7"),
            ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("203.0.113.7:4711", "203.0.113.7"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("203.0.113.7, unknown", "10.0.0.1"),
            ("203.0.113.7, unknown, 10.0.0.2", "10.0.0.2"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(sender(trusted, "10.0.0.1", &[("x-forwarded-for", forwarded)]), client, "{forwarded}");
        }
        let two = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "203.0.113.7, 10.0.0.2")];
        assert_eq!(sender(trusted, "10.0.0.1", &two), "203.0.113.7");
    }

    #[test]
    fn trusted_proxy_says_whether_it_was_tls_and_for_which_host() {
        let trusted = Trusted::new(&["10.0.0.1/32".parse().unwrap()]);
        let told = headers(&[("x-forwarded-proto", "https"), ("x-forwarded-host", "chat.example")]);
        let reached = |peer: [u8; 4], secure, headers| trusted.sender(IpAddr::from(peer), secure, headers).1;
        let by_proxy = reached([10, 0, 0, 1], false, &told);
        assert_eq!((by_proxy.secure, by_proxy.host.as_deref()), (Some(true), Some("chat.example")));
        let by_stranger = reached([10, 0, 0, 2], false, &told);
        assert_eq!((by_stranger.secure, by_stranger.host), (None, None));
        let (nothing, plain) = (HeaderMap::new(), headers(&[("x-forwarded-proto", "http")]));
        assert_eq!(reached([10, 0, 0, 2], true, &nothing).secure, Some(true));
        assert_eq!(reached([10, 0, 0, 1], true, &plain).secure, Some(false));
    }

    async fn proxy(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, usize) {
        let mut rest = bytes;
        let read = proxied(&mut rest).await;
        (read, rest.len())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body, b"GET"].concat()
    }

    #[tokio::test]
    async fn proxy_protocol_is_read_in_both_versions_and_nothing_after_it() {
        let some = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        let tcp4 = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let with_notes = [&tcp4[..], &[4, 0, 1, 9]].concat();
        let mut tcp6 = [0; 36];
        (tcp6[15], tcp6[33]) = (1, 7);
        for (bytes, client) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 80\r\nGET".to_vec(), some("203.0.113.7:4660")),
            (b"PROXY TCP6 ::1 ::2 7 80\r\nGET".to_vec(), some("[::1]:7")),
            (b"PROXY UNKNOWN\r\nGET".to_vec(), None),
            (b"PROXY UNKNOWN what ever\r\nGET".to_vec(), None),
            (v2(0x21, 0x11, &tcp4), some("203.0.113.7:4660")),
            (v2(0x21, 0x11, &with_notes), some("203.0.113.7:4660")),
            (v2(0x21, 0x21, &tcp6), some("[::1]:7")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x21, 0x00, &[]), None),
        ] {
            let (read, rest) = proxy(&bytes).await;
            assert_eq!((read.unwrap(), rest), (client, 3), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn whatever_else_begins_a_connection_is_refused() {
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        for bytes in [
            b"".as_slice(),
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 4660 80\n",
            b"PROXY TCP4 ::1 ::2 7 80\r\n",
            b"PROXY TCP4 203.0.113.7 10.0.0.1 99999 80\r\n",
            b"PROXY TCP4 203.0.113.7\r\n",
            b"PROXY UDP4 203.0.113.7 10.0.0.1 1 80\r\n",
            &long,
            &v2(0x31, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 12]),
            &v2(0x21, 0x11, &[0; NOTES_BYTES_MAX + 1]),
            &SIGNATURE,
        ] {
            assert!(proxy(bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
