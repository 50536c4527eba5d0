//! From nothing to an upgraded connection, without blocking: socket, source address, answer.
//!
//! Many thousand connections from one address to one port run out of ephemeral ports (some 28,000 on Linux),
//! and closed ones hold theirs for a while; so every 16,384th connection moves on to the next loopback address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::{excerpt, in_progress};

/// Connections from one source address before the next one is used.
const PER_SOURCE: u64 = 16_384;

/// Which local address the next connection comes from.
#[derive(Debug)]
pub(crate) struct Sources {
    loopback: bool,
    opened: u64,
}

impl Sources {
    /// Only loopback has addresses to spare; elsewhere the kernel chooses.
    pub(crate) fn for_target(target: SocketAddr) -> Self {
        Self { loopback: matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback()), opened: 0 }
    }

    /// The address to bind for the next connection; `None` leaves it to the kernel, which is cheaper.
    pub(crate) fn next(&mut self) -> Option<SocketAddr> {
        let turn = self.opened / PER_SOURCE;
        self.opened += 1;
        // 127.0.0.1 is the kernel's own choice; then .2 to .250, and around again.
        let host = (turn % 250) as u8;
        (self.loopback && host > 0)
            .then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host + 1)), 0))
    }
}

/// Begins to connect; `receive_buffer` replaces the kernel's own, growing size.
pub(super) fn start(
    target: SocketAddr,
    sources: &mut Sources,
    receive_buffer: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = sources.next() {
        socket.bind(&source.into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if !in_progress(&error) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Whether a connection that was begun is there (`true`), still under way (`false`) or failed.
pub(super) fn outcome(stream: &TcpStream) -> io::Result<bool> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}

/// The length of the server's answer if it upgraded, `None` if the answer is incomplete, else what it said.
pub(super) fn upgrade_answer(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    if bytes.starts_with(b"HTTP/1.1 101") {
        Ok(Some(end + 4))
    } else {
        Err(format!("the server refused the upgrade: {}", excerpt(bytes)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sources_move_on_before_the_ports_run_out() {
        let mut sources = Sources::for_target("127.0.0.1:80".parse().unwrap());
        assert!((0..PER_SOURCE).all(|_| sources.next().is_none()));
        assert!((0..PER_SOURCE).all(|_| sources.next() == Some("127.0.0.2:0".parse().unwrap())));
        assert_eq!(sources.next(), Some("127.0.0.3:0".parse().unwrap()));
    }

    #[test]
    fn sources_beyond_loopback_are_the_kernels_choice() {
        let mut sources = Sources::for_target("192.0.2.1:80".parse().unwrap());
        assert!((0..3 * PER_SOURCE).all(|_| sources.next().is_none()));
    }

    #[test]
    fn upgrade_answer_is_complete_at_the_empty_line_only() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
        for cut in 0..answer.len() {
            assert_eq!(upgrade_answer(&answer[..cut]), Ok(None));
        }
        let with_frame = [&answer[..], &[0x81, 0]].concat();
        assert_eq!(upgrade_answer(&with_frame), Ok(Some(answer.len())));
    }

    #[test]
    fn upgrade_answer_refusal_says_what_the_server_said() {
        let refused = upgrade_answer(b"HTTP/1.1 403 Forbidden\r\n\r\nnot from here").unwrap_err();
        assert!(refused.contains("403 Forbidden") && refused.contains("not from here"), "{refused}");
    }
}
