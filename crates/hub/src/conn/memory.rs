//! A connection without a socket: two bounded pipes between the hub and a test.
//!
//! The hub's side is a [`WsConn`]; the other side is a [`MemoryPeer`], which reads and writes raw bytes when
//! the test says so. A peer that does not take bytes is a slow client: the pipe fills and stays full.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use super::WsConn;

/// The hub's end.
#[derive(Debug)]
pub struct MemoryConn {
    incoming: Pipe,
    outgoing: Pipe,
}

/// The client's end.
#[derive(Debug)]
pub struct MemoryPeer {
    incoming: Pipe,
    outgoing: Pipe,
}

type Pipe = Arc<Mutex<PipeState>>;

#[derive(Debug, Default)]
struct PipeState {
    bytes: VecDeque<u8>,
    capacity: usize,
    closed: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl MemoryConn {
    /// Both ends of a connection whose pipes hold `capacity` bytes each.
    #[must_use]
    pub fn pair(capacity: usize) -> (Self, MemoryPeer) {
        let pipe = || Arc::new(Mutex::new(PipeState { capacity, ..PipeState::default() }));
        let (up, down) = (pipe(), pipe());
        (
            Self { incoming: Arc::clone(&up), outgoing: Arc::clone(&down) },
            MemoryPeer { incoming: down, outgoing: up },
        )
    }
}

fn with<T>(pipe: &Pipe, act: impl FnOnce(&mut PipeState) -> T) -> T {
    act(&mut pipe.lock().unwrap_or_else(PoisonError::into_inner))
}

impl PipeState {
    fn poll_take(&mut self, context: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.bytes.is_empty() && !self.closed {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        let count = buffer.len().min(self.bytes.len());
        for (slot, byte) in buffer.iter_mut().zip(self.bytes.drain(..count)) {
            *slot = byte;
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_put(&mut self, context: &Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut room = self.capacity.saturating_sub(self.bytes.len());
        if room == 0 {
            self.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let mut count = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(room)];
            self.bytes.extend(part);
            count += part.len();
            room -= part.len();
        }
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn close(&mut self) {
        self.closed = true;
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl WsConn for MemoryConn {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        with(&self.incoming, |pipe| pipe.poll_take(context, buffer))
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        with(&self.outgoing, |pipe| pipe.poll_put(context, slices))
    }

    fn poll_shutdown(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        with(&self.outgoing, PipeState::close);
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryConn {
    fn drop(&mut self) {
        with(&self.incoming, PipeState::close);
        with(&self.outgoing, PipeState::close);
    }
}

impl MemoryPeer {
    /// Gives bytes to the hub, as many as fit; returns how many that were.
    pub fn send(&self, bytes: &[u8]) -> usize {
        let context = Context::from_waker(Waker::noop());
        match with(&self.outgoing, |pipe| pipe.poll_put(&context, &[IoSlice::new(bytes)])) {
            Poll::Ready(Ok(count)) => count,
            _ => 0,
        }
    }

    /// Gives all of `bytes` to the hub, waiting until they fit. Returns `false` when the hub has closed its end.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the first part of the bytes with the hub.
    pub async fn send_all(&self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let slices = [IoSlice::new(bytes)];
            let sent =
                std::future::poll_fn(|context| with(&self.outgoing, |pipe| pipe.poll_put(context, &slices)));
            match sent.await {
                Ok(count) => bytes = &bytes[count..],
                Err(_) => return false,
            }
        }
        true
    }

    /// Takes what the hub has written and has not been taken yet, without waiting.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        let mut buffer = vec![0; with(&self.incoming, |pipe| pipe.bytes.len())];
        let context = Context::from_waker(Waker::noop());
        match with(&self.incoming, |pipe| pipe.poll_take(&context, &mut buffer)) {
            Poll::Ready(Ok(count)) => buffer.truncate(count),
            _ => buffer.clear(),
        }
        buffer
    }

    /// Waits for bytes from the hub; empty at the end of the stream. Cancel safe: nothing is taken before it returns.
    pub async fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 64 * 1024];
        let count =
            std::future::poll_fn(|context| with(&self.incoming, |pipe| pipe.poll_take(context, &mut buffer)))
                .await
                .unwrap_or(0);
        buffer.truncate(count);
        buffer
    }

    /// Whether the hub has closed its end and everything it wrote has been taken.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        with(&self.incoming, |pipe| pipe.closed && pipe.bytes.is_empty())
    }

    /// Ends the stream towards the hub, as a client that vanishes does.
    pub fn close(&self) {
        with(&self.outgoing, PipeState::close);
    }
}

impl Drop for MemoryPeer {
    fn drop(&mut self) {
        with(&self.incoming, PipeState::close);
        with(&self.outgoing, PipeState::close);
    }
}
