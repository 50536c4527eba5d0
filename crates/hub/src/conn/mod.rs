//! What the hub knows of a connection: bytes in, bytes out, and whether it has a socket of its own.
//!
//! The shard is the only caller, always from its own thread. TCP sockets are read and written by descriptor,
//! without passing through here again ([`WsConn::socket`]); every other stream (TLS, HTTP/2, a pipe in a
//! test) is polled. What the bytes mean is the codec's business.

mod memory;
mod stream;
mod tcp;

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};

pub use memory::{MemoryConn, MemoryPeer};
pub use stream::StreamConn;
pub use tcp::TcpConn;

/// A byte stream that carries one WebSocket connection, after the upgrade.
///
/// Implementers must not block and must not call back into the hub. After `Poll::Pending` the waker is woken
/// when the same call may succeed; reads and writes are polled from one task but may wait at the same time.
pub trait WsConn: fmt::Debug + Send + 'static {
    /// Reads what is there; `Ok(0)` is the end of the stream.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes as much as is taken at once, from the first slice on.
    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Passes on what an inner layer holds back. A layer that holds nothing back keeps the default.
    fn poll_flush(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be written; reading goes on.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The plain socket behind this connection, if it is nothing but that.
    ///
    /// The shard then waits for the descriptor itself and uses `recv` and `send` on it, which is what makes a
    /// delivery cost little more than its system call. The descriptor must be non-blocking, and stay the same
    /// and open for as long as this value lives.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
