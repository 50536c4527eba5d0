//! The shard's own poller: one system call tells which of its sockets are ready.
//!
//! A second epoll (or kqueue) instance whose descriptor waits in the runtime's. Measured against a tokio
//! registration and task per connection it saves the wake-up per readable socket and some 600 bytes per idle
//! connection; the runtime still gives timers, and handlers everything they expect.
//! Edge-triggered: after an event a socket is read until it has no more.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use tokio::io::Interest as TokioInterest;
use tokio::io::unix::AsyncFd;

use super::Key;

/// Sockets looked at per system call.
const EVENTS: usize = 1024;

#[derive(Debug)]
pub(super) struct Poller {
    /// Until the runtime that waits for it is known.
    detached: Option<mio::Poll>,
    poll: Option<AsyncFd<Nested>>,
    events: Events,
}

#[derive(Debug)]
struct Nested(mio::Poll);

impl AsRawFd for Nested {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What happened to a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readiness {
    pub(super) key: Key,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Nothing more will come: read on until the end is seen, also after a short read.
    pub(super) ended: bool,
    /// The connection was reset, or failed otherwise.
    pub(super) failed: bool,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { detached: Some(mio::Poll::new()?), poll: None, events: Events::with_capacity(EVENTS) })
    }

    /// Nests the poller in the runtime that the caller runs in.
    #[allow(unsafe_code)]
    pub(super) fn attach(&mut self) -> io::Result<()> {
        if let Some(poll) = self.detached.take() {
            // SAFETY: the descriptor is the poller's own, opened by `mio::Poll::new` and closed by its drop;
            // `Nested` gives out no way to replace it, and moves into the `AsyncFd` here.
            let poll = unsafe { AsyncFd::register_with_interest(Nested(poll), TokioInterest::READABLE) };
            self.poll = Some(poll?);
        }
        Ok(())
    }

    /// Closing the descriptor ends the registration; what a duplicate of it still reports has a stale key.
    pub(super) fn register(&self, socket: BorrowedFd<'_>, key: Key) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry()?.register(&mut SourceFd(&socket.as_raw_fd()), token(key), interest)
    }

    fn registry(&self) -> io::Result<&mio::Registry> {
        let poll = self.poll.as_ref().ok_or_else(|| io::Error::other("the shard has not begun"))?;
        Ok(poll.get_ref().0.registry())
    }

    /// Ready when some socket may be.
    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        match &self.poll {
            Some(poll) => poll.poll_read_ready(context).map(|_| ()),
            None => Poll::Pending,
        }
    }

    /// Collects which sockets are ready, without waiting. Stays ready while there may be more.
    pub(super) fn collect(&mut self, ready: &mut Vec<Readiness>) {
        let Self { poll: Some(poll), events, .. } = self else { return };
        let mut context = Context::from_waker(std::task::Waker::noop());
        // The guard first: clearing it leaves alone what becomes ready from here on.
        if let Poll::Ready(Ok(mut guard)) = poll.poll_read_ready_mut(&mut context) {
            if guard.get_inner_mut().look(events, ready) && ready.len() < EVENTS {
                guard.clear_ready();
            }
        } else {
            poll.get_mut().look(events, ready);
        }
    }
}

impl Nested {
    /// Appends the sockets that are ready to `ready`, without waiting. Returns `false` if it could not look.
    fn look(&mut self, events: &mut Events, ready: &mut Vec<Readiness>) -> bool {
        // It fails when a signal interrupts it: nothing is taken, and the next turn looks again.
        let looked = self.0.poll(events, Some(Duration::ZERO)).is_ok();
        if looked {
            ready.extend(events.iter().map(Readiness::of));
        }
        looked
    }
}

impl Readiness {
    fn of(event: &Event) -> Self {
        Self {
            key: key(event.token()),
            readable: event.is_readable() || event.is_error(),
            writable: event.is_writable(),
            ended: event.is_read_closed() || event.is_error(),
            failed: event.is_error(),
        }
    }
}

fn token(key: Key) -> Token {
    Token(key.slot as usize | (key.generation as usize) << 32)
}

fn key(token: Token) -> Key {
    Key { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
}

// A key needs 64 bits of token.
const _: () = assert!(size_of::<usize>() == 8, "the shard's poller needs a 64-bit target");
