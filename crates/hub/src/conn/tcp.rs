//! A plain TCP socket, tuned for many small writes.

use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};

use super::WsConn;
use crate::config::TcpConfig;

/// A connected TCP socket. The shard reads and writes it by descriptor.
#[derive(Debug)]
pub struct TcpConn {
    stream: TcpStream,
}

impl TcpConn {
    /// Takes a connected socket and applies the options.
    ///
    /// # Errors
    /// What the system says when an option is refused; the socket is then closed.
    pub fn new(stream: TcpStream, config: &TcpConfig) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        if config.nodelay {
            stream.set_nodelay(true)?;
        }
        if config.send_buffer_bytes > 0 {
            // By default the kernel takes megabytes for a peer that does not read, and "slow" means nothing.
            socket2::SockRef::from(&stream).set_send_buffer_size(config.send_buffer_bytes)?;
        }
        Ok(Self { stream })
    }

    /// Takes a socket that does not block and has its options: from its listener, say.
    pub(crate) fn prepared(stream: TcpStream) -> Self {
        Self { stream }
    }
}

impl WsConn for TcpConn {
    // The shard uses the descriptor; these serve whoever drives a `WsConn` without a shard.

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready_or_again(io::Read::read(&mut self.stream, buffer), context)
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready_or_again(io::Write::write_vectored(&mut self.stream, slices), context)
    }

    fn poll_shutdown(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.shutdown(Shutdown::Write))
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stream.as_fd())
    }
}

/// Without a reactor there is nobody to wait for: ask to be polled again.
fn ready_or_again(result: io::Result<usize>, context: &Context<'_>) -> Poll<io::Result<usize>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            context.waker().wake_by_ref();
            Poll::Pending
        }
        result => Poll::Ready(result),
    }
}
