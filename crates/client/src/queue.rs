//! What waits for a room's stream to be polled.
//!
//! Filled by the client's task, emptied by the consumer's. Bounded, without ever making the connection wait: when it is
//! full the room's state remembers where it stopped, and the rest is fetched from the room's history once the consumer
//! has caught up (`core/rooms.rs`). A lock for a push's or a pop's time, never held across an await.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::error::Error;
use crate::event::{Gap, Joined};

/// One thing for a stream.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// A frame of the server, not looked into any further.
    Frame {
        json: Arc<str>,
        bytes: Option<Bytes>,
        replayed: bool,
    },
    Joined(Box<Joined>),
    Gap(Gap),
    /// The last item.
    End(Error),
}

/// A stream's queue; both ends share it.
pub(crate) struct Queue {
    state: Mutex<State>,
    capacity: usize,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    waker: Option<Waker>,
    /// No more items come.
    ended: bool,
    /// The consumer is gone.
    closed: bool,
    /// The producer waits for room.
    wants_room: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("len", &self.lock().items.len()).finish_non_exhaustive()
    }
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { state: Mutex::default(), capacity: capacity.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many more items there is room for.
    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.lock().items.len())
    }

    /// How many more items there is room for; if none, asks to be told of it ([`Popped::made_room`]).
    pub(crate) fn room_or_ask(&self) -> usize {
        let mut state = self.lock();
        let room = self.capacity.saturating_sub(state.items.len());
        state.wants_room = room == 0;
        room
    }

    /// Adds an item, beyond the bound if need be: for the few that must not be lost.
    pub(crate) fn push(&self, item: Item) {
        let waker = {
            let mut state = self.lock();
            if state.ended || state.closed {
                return;
            }
            state.ended = matches!(item, Item::End(_));
            state.items.push_back(item);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the next item; `true` with it if the producer waits for the room that has come about.
    pub(crate) fn poll_pop(&self, context: &mut Context<'_>) -> Poll<(Option<Item>, bool)> {
        let mut state = self.lock();
        let Some(item) = state.items.pop_front() else {
            if state.ended {
                return Poll::Ready((None, false));
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        // Half empty, so that a page is worth its question.
        let made_room = state.wants_room && state.items.len() <= self.capacity / 2;
        if made_room {
            state.wants_room = false;
        }
        Poll::Ready((Some(item), made_room))
    }

    /// The consumer is gone.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.items.clear();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}
