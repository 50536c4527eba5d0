//! The newest messages of a room's log, in memory.
//!
//! For a room that keeps its messages in memory this is the history; for a stored one it is the end of it, so that
//! most who come back are served without a read. Belongs to the room's state, behind its lock. Invariant: the messages
//! are the log's last ones, without holes, so that a place in the log is a place in the queue.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use outspoke_store::Retention;

use super::Published;
use crate::publication::Publication;

/// How long the id that a client gave a message is remembered.
pub(crate) const KEY_AGE: Duration = Duration::from_secs(5 * 60);
/// How many such ids a room remembers.
pub(crate) const KEYS_MAX: usize = 10_000;

/// Memory that the tails of all stored rooms share.
#[derive(Debug, Default)]
pub(crate) struct CacheBudget(AtomicUsize);

impl CacheBudget {
    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The end of a room's log. Takes no memory until there is something in it.
#[derive(Debug, Default)]
pub(crate) struct Tail(Option<Box<Held>>);

#[derive(Debug, Default)]
struct Held {
    messages: VecDeque<Arc<Publication>>,
    bytes: usize,
    keys: Keys,
    /// Where its bytes count, if anywhere.
    budget: Option<Arc<CacheBudget>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

impl Held {
    fn charge(&mut self, publication: &Publication) {
        self.bytes += publication.weight();
        if let Some(budget) = &self.budget {
            budget.0.fetch_add(publication.weight(), Ordering::Relaxed);
        }
    }

    fn release(&mut self, bytes: usize) {
        self.bytes -= bytes;
        if let Some(budget) = &self.budget {
            budget.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn place(&self, offset: u64, head: u64) -> Option<usize> {
        let from_end = usize::try_from(head.checked_sub(offset)?).ok()?;
        self.messages.len().checked_sub(from_end + 1)
    }
}

impl Tail {
    /// An empty one whose bytes count in `budget`.
    pub(crate) fn cached(budget: Arc<CacheBudget>) -> Self {
        let mut held = Box::<Held>::default();
        held.budget = Some(budget);
        Self(Some(held))
    }

    /// Lets its bytes count in `budget` from the first message on.
    pub(crate) fn count_in(&mut self, budget: &Arc<CacheBudget>) {
        if self.len() == 0 {
            self.0.get_or_insert_default().budget.get_or_insert_with(|| Arc::clone(budget));
        }
    }

    /// Drops the oldest messages while more than `bytes_max` is in use where they count; the newest stays.
    pub(crate) fn relieve(&mut self, bytes_max: usize) {
        let Some(held) = &mut self.0 else { return };
        let over = |held: &Held| held.budget.as_ref().is_some_and(|budget| budget.used() > bytes_max);
        while held.messages.len() > 1 && over(held) {
            if let Some(oldest) = held.messages.pop_front() {
                held.release(oldest.weight());
            }
        }
    }

    /// Messages here.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.messages.len())
    }

    pub(crate) fn push(&mut self, publication: Arc<Publication>) {
        let held = self.0.get_or_insert_default();
        held.charge(&publication);
        held.messages.push_back(publication);
    }

    /// Puts older messages before those that are here. They must end where these begin.
    pub(crate) fn prepend(&mut self, older: Vec<Arc<Publication>>) {
        let held = self.0.get_or_insert_default();
        for publication in older.into_iter().rev() {
            held.charge(&publication);
            held.messages.push_front(publication);
        }
    }

    /// Drops what is more than `keep` at `now`, in milliseconds since 1970.
    pub(crate) fn trim(&mut self, keep: &Retention, now: i64) {
        let Some(held) = &mut self.0 else { return };
        let oldest = match i64::try_from(keep.age_max.as_millis()) {
            Ok(age) if age > 0 => now.saturating_sub(age),
            _ => i64::MIN,
        };
        while let Some(front) = held.messages.front() {
            let over = (keep.records_max > 0 && held.messages.len() as u64 > keep.records_max)
                || (keep.bytes_max > 0 && held.bytes as u64 > keep.bytes_max);
            let old = front.message_ref().is_some_and(|message| message.ts.as_millis() < oldest);
            if !over && !old {
                break;
            }
            let freed = front.weight();
            held.messages.pop_front();
            held.release(freed);
        }
        if held.messages.capacity() > 64 && held.messages.len() * 4 < held.messages.capacity() {
            held.messages.shrink_to(held.messages.len() * 2);
        }
    }

    /// Drops every message.
    pub(crate) fn clear(&mut self) {
        if let Some(held) = &mut self.0 {
            held.messages = VecDeque::new();
            held.release(held.bytes);
        }
    }

    /// The messages after `offset`, given that the log's head is `head`; `None` when some are not here.
    pub(crate) fn after(&self, offset: u64, head: u64) -> Option<Vec<Arc<Publication>>> {
        let missed = usize::try_from(head.checked_sub(offset)?).ok()?;
        if missed == 0 {
            return Some(Vec::new());
        }
        let held = self.0.as_ref()?;
        let start = held.messages.len().checked_sub(missed)?;
        Some(held.messages.range(start..).cloned().collect())
    }

    /// The message at `offset`, given that the log's head is `head`.
    pub(crate) fn at(&self, offset: u64, head: u64) -> Option<&Arc<Publication>> {
        let held = self.0.as_ref()?;
        held.messages.get(held.place(offset, head)?)
    }

    /// Puts another state of a message in the place of the one that is here, if it is.
    pub(crate) fn replace(&mut self, offset: u64, head: u64, publication: Arc<Publication>) {
        let Some(held) = &mut self.0 else { return };
        let Some(place) = held.place(offset, head).filter(|place| *place < held.messages.len()) else {
            return;
        };
        held.release(held.messages[place].weight());
        held.charge(&publication);
        held.messages[place] = publication;
    }

    /// Every message here, the oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Publication>> {
        self.0.iter().flat_map(|held| held.messages.iter())
    }

    /// What was published under this key before, if it is still known.
    pub(crate) fn known(&mut self, key: &Bytes, now: i64) -> Option<Published> {
        self.0.as_mut()?.keys.known(key, now)
    }

    /// Remembers what was published under a key.
    pub(crate) fn remember(&mut self, key: Bytes, published: Published) {
        self.0.get_or_insert_default().keys.remember(key, published);
    }
}

/// What was published under which key.
#[derive(Debug, Default)]
struct Keys {
    known: HashMap<Bytes, Published>,
    /// The oldest first.
    order: VecDeque<Bytes>,
}

impl Keys {
    fn known(&mut self, key: &Bytes, now: i64) -> Option<Published> {
        self.forget_old(now);
        self.known.get(key).cloned()
    }

    fn remember(&mut self, key: Bytes, published: Published) {
        self.forget_old(published.ts.as_millis());
        if self.known.insert(key.clone(), published).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn forget_old(&mut self, now: i64) {
        let oldest = now.saturating_sub(KEY_AGE.as_millis() as i64);
        while let Some(key) = self.order.front() {
            if self.known.get(key).is_some_and(|published| published.ts.as_millis() >= oldest) {
                break;
            }
            self.known.remove(key);
            self.order.pop_front();
        }
    }
}
