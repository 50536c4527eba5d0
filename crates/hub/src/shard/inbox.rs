//! What other threads ask of a shard, in one order.
//!
//! Filled from any thread, emptied by the shard once per turn. One wake per batch: while the shard is awake,
//! pushing wakes nobody. Invariant: `bytes` equals the weight of what is queued, and the queue is never left
//! non-empty with the shard asleep, unless somebody has promised to [`wake`](Inbox::wake) it
//! (`tests/loom_models.rs`). A mutexed vector was measured to be as fast as any lock-free list at this batch
//! size, and it gives the one order that rooms need.

#![cfg_attr(not(loom), allow(unreachable_pub))] // public only to the models

use std::task::{Context, Poll, Waker};

use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, lock};

/// How much is waiting in all inboxes of a hub, so that publishers can be held back by one look.
#[derive(Debug, Default)]
pub struct Congestion(AtomicUsize);

impl Congestion {
    /// Whether some shard is so far behind that publishers must wait.
    pub fn is_congested(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

/// A shard's queue of commands.
#[derive(Debug)]
pub struct Inbox<T> {
    state: Mutex<State<T>>,
    bytes_max: usize,
    congestion: Arc<Congestion>,
}

#[derive(Debug)]
struct State<T> {
    queue: Vec<T>,
    bytes: usize,
    /// The shard is running, or has been woken and will run.
    awake: bool,
    /// Something beside the queue has changed.
    nudged: bool,
    /// Somebody has queued something and will wake the shard for it.
    owed: bool,
    /// This inbox counts in the hub's congestion.
    congested: bool,
    /// The shard has ended: nothing will ever be taken again.
    closed: bool,
    waker: Option<Waker>,
}

/// Why a command was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The shard is twice as far behind as publishers are allowed to push it.
    Full,
    /// The shard has ended.
    Closed,
}

impl<T> Inbox<T> {
    /// An empty inbox. Above `bytes_max` the hub counts as congested; above twice that, [`offer`](Self::offer) refuses.
    pub fn new(bytes_max: usize, congestion: Arc<Congestion>) -> Self {
        let state = State {
            queue: Vec::new(),
            bytes: 0,
            awake: false,
            nudged: false,
            owed: false,
            congested: false,
            closed: false,
            waker: None,
        };
        Self { state: Mutex::new(state), bytes_max, congestion }
    }

    /// Queues what must not get lost (closes, joins, deliveries already counted): never refused for size.
    pub fn push(&self, command: T, weight: usize) -> Result<(), Rejected> {
        self.put(command, weight, usize::MAX)
    }

    /// Queues what may be refused, because its sender can do something about it.
    pub fn offer(&self, command: T, weight: usize) -> Result<(), Rejected> {
        self.put(command, weight, self.bytes_max.saturating_mul(2))
    }

    fn put(&self, command: T, weight: usize, limit: usize) -> Result<(), Rejected> {
        let waker = {
            let mut state = lock(&self.state);
            self.append(&mut state, command, weight, limit)?;
            if std::mem::replace(&mut state.awake, true) { None } else { state.waker.take() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn append(&self, state: &mut State<T>, command: T, weight: usize, limit: usize) -> Result<(), Rejected> {
        if state.closed {
            return Err(Rejected::Closed);
        }
        if state.bytes.saturating_add(weight) > limit {
            return Err(Rejected::Full);
        }
        state.queue.push(command);
        state.bytes += weight;
        if state.bytes > self.bytes_max && !state.congested {
            state.congested = true;
            self.congestion.0.fetch_add(1, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Queues like [`push`](Self::push), and wakes nobody: others are about to queue as much. Returns whether the caller owes
    /// a [`wake`](Self::wake), soon; otherwise the shard is awake, or somebody else owes it.
    pub fn push_quietly(&self, command: T, weight: usize) -> Result<bool, Rejected> {
        let mut state = lock(&self.state);
        self.append(&mut state, command, weight, usize::MAX)?;
        Ok(!state.awake && !std::mem::replace(&mut state.owed, true))
    }

    /// Wakes the shard if something is queued and nobody has yet.
    pub fn wake(&self) {
        let waker = {
            let mut state = lock(&self.state);
            state.owed = false;
            if state.queue.is_empty() || std::mem::replace(&mut state.awake, true) {
                None
            } else {
                state.waker.take()
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The weight of what is queued.
    pub fn bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    /// Takes everything queued into `batch` (which must be empty) without waiting. Returns whether that ended
    /// a congestion, so that the caller can tell the other shards.
    pub fn take(&self, batch: &mut Vec<T>) -> bool {
        debug_assert!(batch.is_empty(), "a batch is worked off before the next is taken");
        let mut state = lock(&self.state);
        std::mem::swap(&mut state.queue, batch);
        state.bytes = 0;
        let ended = std::mem::take(&mut state.congested);
        if ended {
            self.congestion.0.fetch_sub(1, Ordering::AcqRel);
        }
        ended
    }

    /// Ready when something is queued; otherwise the shard counts as asleep until the next push wakes it.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.nudged) || !state.queue.is_empty() {
            state.awake = true;
            return Poll::Ready(());
        }
        state.awake = false;
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// The shard was woken by something else: until it asks again whether it may sleep, nobody need wake it.
    pub fn stay_awake(&self) {
        lock(&self.state).awake = true;
    }

    /// Wakes the shard though nothing is queued: something it waits for has changed.
    pub fn nudge(&self) {
        let waker = {
            let mut state = lock(&self.state);
            state.nudged = true;
            if std::mem::replace(&mut state.awake, true) { None } else { state.waker.take() }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Refuses everything from now on and returns what was left.
    pub fn close(&self) -> Vec<T> {
        let mut state = lock(&self.state);
        state.closed = true;
        state.bytes = 0;
        if std::mem::take(&mut state.congested) {
            self.congestion.0.fetch_sub(1, Ordering::AcqRel);
        }
        std::mem::take(&mut state.queue)
    }
}
