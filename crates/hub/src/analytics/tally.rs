//! What one room counts, under the lock that publishing takes anyway.
//!
//! A tally begins with the first message after a look at the room, and ends with the next look; a room in which nothing is
//! said has none. Invariant: no count is lost with its room: a tally that is dropped hands over what it has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use ecow::EcoString;
use tokio::sync::Notify;

use super::distinct::{Distinct, hash};
use crate::room::Room;

/// Ended rooms that wait to be counted before the flusher is called early.
const CROWD: usize = 4096;

/// What was said in one minute.
#[derive(Debug)]
pub(super) struct Span {
    /// Minutes since 1970.
    pub(super) minute: i64,
    pub(super) messages: u64,
    pub(super) users: Distinct,
}

/// Whose counts they are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Whose {
    pub(super) tenant: EcoString,
    /// `None` for what is counted in its tenant only: private conversations.
    pub(super) room: Option<EcoString>,
}

/// What a room has counted since it was last looked at.
#[derive(Debug)]
pub(crate) struct Tally {
    whose: Whose,
    /// Usually one; the newest last.
    spans: Vec<Span>,
    desk: Arc<Desk>,
}

impl Tally {
    pub(super) fn new(whose: Whose, desk: Arc<Desk>) -> Self {
        Self { whose, spans: Vec::new(), desk }
    }

    /// Counts a message of `user`; of nobody, if an application said it.
    pub(super) fn count(&mut self, minute: i64, user: Option<&str>) {
        // From the newest: only a clock that was set back goes further.
        let span = match self.spans.iter().rposition(|span| span.minute == minute) {
            Some(at) => &mut self.spans[at],
            None => {
                self.spans.push(Span { minute, messages: 0, users: Distinct::default() });
                self.spans.last_mut().expect("it was pushed a line ago")
            }
        };
        span.messages += 1;
        if let Some(user) = user {
            span.users.insert(hash(user));
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.desk.hand_over(self.whose.clone(), std::mem::take(&mut self.spans));
    }
}

/// Where counts wait for the flusher.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Rooms that have a tally.
    counting: Mutex<Vec<Weak<Room>>>,
    counted: Mutex<HashMap<Whose, Vec<Span>>>,
    /// The flusher is to come before its time.
    pub(super) crowded: Notify,
}

impl Desk {
    /// The room has a tally from now on.
    pub(super) fn remember(&self, room: Weak<Room>) {
        self.counting.lock().unwrap_or_else(PoisonError::into_inner).push(room);
    }

    fn hand_over(&self, whose: Whose, spans: Vec<Span>) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.entry(whose).or_default().extend(spans);
        if counted.len() >= CROWD {
            self.crowded.notify_one();
        }
    }

    /// Everything counted so far.
    pub(super) fn collect(&self) -> HashMap<Whose, Vec<Span>> {
        let counting = std::mem::take(&mut *self.counting.lock().unwrap_or_else(PoisonError::into_inner));
        for room in counting.iter().filter_map(Weak::upgrade) {
            // Dropped outside the room's lock, and so handed over.
            let tally = room.lock().take_tally();
            drop(tally);
        }
        std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
