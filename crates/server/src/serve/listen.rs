//! The listening socket.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::ListenAddr;
use crate::config::Source;
use crate::config::settings::Server;
use crate::startup::StartError;

/// Binds an address, or the first of its addresses that works, with the options that `server` has for sockets.
///
/// # Errors
/// Why none works, told with what the operator can do.
pub(super) fn bind(addr: &ListenAddr, server: &Server, setting: Source) -> Result<TcpListener, StartError> {
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

fn listen(addr: SocketAddr, server: &Server) -> io::Result<TcpListener> {
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
    TcpListener::from_std(socket.into())
}
