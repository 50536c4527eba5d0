//! Things to come back to at a certain time, the soonest first.
//!
//! A list beside the rooms rather than a task or timer for each: filled from any thread, worked off by the first shard once
//! per tick. Whoever takes something off decides whether its time has really come; a list knows nothing of what is on it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// A list by time.
#[derive(Debug)]
pub(crate) struct Timed<T>(Mutex<BinaryHeap<Reverse<Entry<T>>>>);

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    what: T,
}

impl<T> Default for Timed<T> {
    fn default() -> Self {
        Self(Mutex::new(BinaryHeap::new()))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<T> Timed<T> {
    pub(crate) fn put(&self, at: Instant, what: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Reverse(Entry { at, what }));
    }

    /// Takes what is due first, if its time has come, and says what its time was.
    pub(crate) fn take_due(&self, now: Instant) -> Option<(Instant, T)> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = list.peek().is_some_and(|Reverse(entry)| entry.at <= now);
        let Reverse(Entry { at, what }) = due.then(|| list.pop()).flatten()?;
        // A crowd that has passed gives its memory back.
        if list.capacity() > 64 && list.len() * 8 < list.capacity() {
            list.shrink_to_fit();
        }
        Some((at, what))
    }
}
