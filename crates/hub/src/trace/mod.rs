//! What is remembered of the last messages and connections, for whoever asks why something did or did not arrive.
//!
//! A node notes each message once, where its room gives it out ([`Traces`]); a shard notes each hand-out of a room once per
//! turn, and what befalls a connection ([`diary`]). Nothing is noted per member and message: who got what follows from where a
//! connection stands, which its shard knows anyway (`shard/account.rs`). Everything is bounded, and what fell out is known to
//! have fallen out, so that an [`explain`]ation never takes "not noted" for "did not happen".

pub(crate) mod diary;
pub(crate) mod explain;
pub(crate) mod follow;
pub(crate) mod look;
mod recent;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ecow::EcoString;
use foldhash::fast::FixedState;
use outspoke_protocol::{Kind, Message, MessageId, Position, Publisher, RoomName, Timestamp};
use std::hash::BuildHasher as _;

use self::recent::Ring;
use crate::room::RoomId;

/// Rooms share so many parts of what is remembered: one with much to say pushes out only what its part has.
const PARTS: usize = 256;

/// How a node came by a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Heard {
    /// It was published here.
    Published,
    /// Another node told of it over the bus.
    Bus,
    /// It was read from the store, since nobody had told of it.
    Store,
}

/// A message that was given out.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) tenant: EcoString,
    pub(crate) room: RoomName,
    pub(crate) room_id: RoomId,
    pub(crate) position: Position,
    pub(crate) id: MessageId,
    pub(crate) kind: Kind,
    pub(crate) from: Option<Publisher>,
    pub(crate) ts: Timestamp,
    pub(crate) at: Instant,
    pub(crate) heard: Heard,
    /// From acceptance to durability, where it was stored here.
    pub(crate) stored: Option<Duration>,
    /// It was given to the bus.
    pub(crate) told: bool,
}

/// The last messages of all rooms.
#[derive(Debug)]
pub(crate) struct Traces {
    parts: Box<[Mutex<Ring<Trace>>]>,
    max: usize,
}

impl Traces {
    /// Remembers about `max` messages; zero: none.
    pub(crate) fn new(max: usize) -> Self {
        let each = max.div_ceil(PARTS);
        Self { parts: (0..PARTS).map(|_| Mutex::new(Ring::new(each))).collect(), max }
    }

    /// Whether anything is remembered at all.
    pub(crate) fn is_on(&self) -> bool {
        self.max > 0
    }

    /// Remembers a message. *Cost*: once per message and node, a short lock and four counted references.
    pub(crate) fn note(
        &self,
        room: (RoomId, &EcoString, &RoomName),
        message: &Message,
        heard: Heard,
        stored: Option<Duration>,
        told: bool,
    ) {
        let (room_id, tenant, name) = room;
        let Some(position) = message.position.filter(|_| self.is_on()) else { return };
        let trace = Trace {
            tenant: tenant.clone(),
            room: name.clone(),
            room_id,
            position,
            id: message.id,
            kind: message.kind.clone(),
            from: message.from.clone(),
            ts: message.ts,
            at: Instant::now(),
            heard,
            stored,
            told,
        };
        let part = &self.parts[part_of(tenant, name.as_str())];
        part.lock().unwrap_or_else(PoisonError::into_inner).push(trace);
    }

    /// The newest trace of a room's message, by its id if that is known, else by its place.
    pub(crate) fn in_room(
        &self,
        tenant: &str,
        room: &str,
        id: Option<MessageId>,
        offset: u64,
    ) -> Option<Trace> {
        let part = self.parts[part_of(tenant, room)].lock().unwrap_or_else(PoisonError::into_inner);
        let meant = |trace: &&Trace| match id {
            Some(id) => trace.id == id,
            None => trace.position.offset == offset,
        };
        part.iter()
            .rev()
            .filter(|trace| trace.tenant == tenant && trace.room.as_str() == room)
            .find(meant)
            .cloned()
    }

    /// The trace of a message whose room is not known. *Cost*: a look at everything that is remembered.
    pub(crate) fn anywhere(&self, tenant: &str, id: MessageId) -> Option<Trace> {
        self.parts.iter().find_map(|part| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.iter().find(|trace| trace.id == id && trace.tenant == tenant).cloned()
        })
    }
}

fn part_of(tenant: &str, room: &str) -> usize {
    FixedState::default().hash_one((tenant, room)) as usize % PARTS
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use outspoke_protocol::{Body, Epoch};

    use super::*;

    fn message(room: &RoomName, offset: u64) -> Message {
        Message {
            id: MessageId::from_u128(u128::from(offset) + 1000),
            room: Some(room.clone()),
            position: Some(Position { epoch: Epoch::from_u64(1), offset }),
            kind: Kind::Chat,
            from: None,
            ts: Timestamp::from_millis(0),
            body: Body::Empty,
            details: None,
        }
    }

    /// A room that says much must not make everybody else's questions unanswerable.
    #[test]
    fn traces_of_a_noisy_room_leave_most_others_alone() {
        let traces = Traces::new(PARTS * 2);
        let rooms: Vec<RoomName> = (0..100).map(|n| RoomName::new(&format!("r{n}"), 64).unwrap()).collect();
        let tenant = EcoString::new();
        let note = |room: &RoomName, offset| {
            traces.note((1, &tenant, room), &message(room, offset), Heard::Published, None, false);
        };
        rooms.iter().for_each(|room| note(room, 1));
        (2..100).for_each(|offset| note(&rooms[0], offset));
        let known = rooms.iter().filter(|room| traces.in_room("", room.as_str(), None, 1).is_some()).count();
        assert!((60..100).contains(&known), "{known} of 99 others are remembered");
        assert!(traces.in_room("", "r0", None, 1).is_none() && traces.in_room("", "r0", None, 99).is_some());
        assert!(traces.anywhere("", MessageId::from_u128(1099)).is_some());
        assert!(traces.anywhere("other", MessageId::from_u128(1099)).is_none());
    }
}
