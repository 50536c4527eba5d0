//! The listening socket.
//!
//! Connections come from it as they are: whoever has to wait for one of them tells the runtime of it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use crate::config::ListenAddr;
use crate::config::Source;
use crate::config::settings::Server;
use crate::startup::StartError;

/// A listening socket, and the runtime that waits for it.
#[derive(Debug)]
pub(super) struct Listener(AsyncFd<TcpListener>);

/// Connections may be waiting.
#[derive(Debug)]
pub(super) struct Waiting<'a>(AsyncFdReadyGuard<'a, TcpListener>);

impl Listener {
    #[allow(unsafe_code)]
    fn of(listener: TcpListener) -> io::Result<Self> {
        // SAFETY: the descriptor is the listener's own, which has one from its beginning to its drop; the listener moves in
        // here and is lent by reference alone, by which nobody can close or replace it.
        let registered = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
        Ok(Self(registered?))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// Waits until connections wait.
    ///
    /// # Errors
    /// The runtime is ending.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub(super) async fn ready(&self) -> io::Result<Waiting<'_>> {
        self.0.readable().await.map(Waiting)
    }
}

impl Waiting<'_> {
    /// The next of them, which does not block and has the listener's options; `None`: there is none at the moment.
    ///
    /// # Errors
    /// It was gone before, or the system has no room for it.
    pub(super) fn next(&mut self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        match self.0.try_io(|listener| accept(listener.get_ref())) {
            Ok(accepted) => accepted.map(Some),
            Err(_would_block) => Ok(None),
        }
    }
}

#[cfg(target_os = "linux")]
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};
    // One system call, where the standard library needs another for each connection.
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer =
        peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(io::ErrorKind::ConnectionAborted)?;
    Ok((socket.into(), peer))
}

#[cfg(not(target_os = "linux"))]
fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = listener.accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, peer))
}

/// Binds an address, or the first of its addresses that works, with the options that `server` has for sockets.
///
/// # Errors
/// Why none works, told with what the operator can do.
pub(super) fn bind(addr: &ListenAddr, server: &Server, setting: Source) -> Result<Listener, StartError> {
    let candidates =
        addr.socket_addrs().map_err(|error| StartError::resolve(addr, setting.clone(), error))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in candidates {
        match listen(candidate, server) {
            Ok(listener) => return Ok(listener),
            // The other family would listen beside whoever has the port, and get half of the connections.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(StartError::bind(addr, setting, error));
            }
            Err(error) => last = error,
        }
    }
    Err(StartError::bind(addr, setting, last))
}

fn listen(addr: SocketAddr, server: &Server) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // "[::]" takes IPv4 too, whatever the system's default.
        socket.set_only_v6(false)?;
    }
    // A restarted server must not wait for its predecessor's connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Accepted sockets inherit both: two system calls less for each of them.
    socket.set_tcp_nodelay(server.tcp_nodelay)?;
    if server.tcp_send_buffer > 0 {
        socket.set_send_buffer_size(server.tcp_send_buffer)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(server.backlog).unwrap_or(i32::MAX))?;
    Listener::of(socket.into())
}
