//! What a shard remembers: hand-outs of rooms, stays in rooms, refusals, slow times.
//!
//! Belongs to one shard, so nothing is locked. Filled off the fast path, but for [`Diary::handed_out`], which is called once per
//! room and turn. Asked by `shard/account.rs`.

use std::time::Instant;

use ecow::EcoString;
use outspoke_protocol::{ClientId, Epoch, RoomName, UserId};

use super::PARTS;
use super::recent::Ring;
use crate::client::Client;
use crate::client::outbox::Ranges;
use crate::hub::Departure;
use crate::room::RoomId;

/// A room's messages that went to its members together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HandedOut {
    pub(crate) room: RoomId,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) at: Instant,
    pub(crate) members: u32,
    /// Bit n: the dialect n had no words for at least one of them.
    pub(crate) unsaid: u64,
}

/// Why a client is not in a room any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Because {
    Left,
    Removed,
    Ended(Departure),
}

/// A client's time in a room, when it is over.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    pub(crate) room: RoomName,
    pub(crate) room_id: RoomId,
    pub(crate) epoch: Epoch,
    /// It was sent what follows this place,
    pub(crate) joined: u64,
    /// up to here,
    pub(crate) until: u64,
    /// but that from here on still waited for it.
    pub(crate) waiting: Option<u64>,
    pub(crate) because: Because,
    pub(crate) dialect: u8,
}

/// Something about a connection.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Stayed(Box<Stay>),
    /// It was refused what it asked for: coming into the room, if one is named.
    Refused {
        room: RoomName,
        code: u16,
        reason: EcoString,
    },
    /// It got what it had missed, behind `after` up to `upto`.
    Recovered {
        room: RoomId,
        after: u64,
        upto: u64,
    },
    /// It did not take bytes from then until this was noted.
    WasSlow {
        since: Instant,
    },
    /// These were left out.
    Skipped {
        room: RoomId,
        ranges: Box<Ranges>,
        policy: &'static str,
    },
}

/// A note about a connection.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) at: Instant,
    pub(crate) tenant: EcoString,
    pub(crate) user: UserId,
    pub(crate) device: EcoString,
    pub(crate) client: ClientId,
    pub(crate) what: What,
}

/// What a shard remembers.
#[derive(Debug)]
pub(crate) struct Diary {
    handed: Box<[Ring<HandedOut>]>,
    /// Stays, refusals, recoveries.
    notes: Ring<Note>,
    /// Slow times and what they cost: others' comings and goings do not push them out.
    slow: Ring<Note>,
    /// When the newest note was made that is not there any more.
    forgotten: [Option<Instant>; 2],
    is_on: bool,
}

impl Diary {
    /// Remembers about so many hand-outs, and so many notes of each of two sorts; zero: none.
    pub(crate) fn new(messages_max: usize, notes_max: usize) -> Self {
        let each = messages_max.div_ceil(PARTS);
        Self {
            handed: (0..PARTS).map(|_| Ring::new(each)).collect(),
            notes: Ring::new(notes_max),
            slow: Ring::new(notes_max),
            forgotten: [None; 2],
            is_on: notes_max > 0,
        }
    }

    /// Whether notes are kept: whoever makes dear ones asks first.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// A room's messages are with its members here. *Cost*: once per room and turn, 48 bytes.
    pub(crate) fn handed_out(&mut self, handed: HandedOut) {
        self.handed[handed.room as usize % PARTS].push(handed);
    }

    /// The hand-out that a message was in.
    pub(crate) fn hand_out_of(&self, room: RoomId, offset: u64) -> Option<HandedOut> {
        let ring = &self.handed[room as usize % PARTS];
        ring.iter()
            .rev()
            .find(|handed| handed.room == room && (handed.first..=handed.last).contains(&offset))
            .copied()
    }

    /// Notes something about a connection.
    pub(crate) fn note(&mut self, client: &Client, what: What) {
        if !self.is_on {
            return;
        }
        let identity = client.identity();
        let note = Note {
            at: Instant::now(),
            tenant: identity.tenant.clone(),
            user: identity.user.clone(),
            device: identity.device.clone(),
            client: client.id(),
            what,
        };
        let slow = matches!(note.what, What::WasSlow { .. } | What::Skipped { .. });
        let ring = if slow { &mut self.slow } else { &mut self.notes };
        if let Some(gone) = ring.push(note) {
            self.forgotten[usize::from(slow)] = Some(gone.at);
        }
    }

    /// Everything noted of a user, oldest first, slow times last.
    pub(crate) fn of_user<'a>(&'a self, tenant: &'a str, user: &'a UserId) -> impl Iterator<Item = &'a Note> {
        self.notes
            .iter()
            .chain(self.slow.iter())
            .filter(move |note| note.user == *user && note.tenant == tenant)
    }

    /// Whether comings and goings since then are all remembered.
    pub(crate) fn knows_stays_since(&self, at: Instant) -> bool {
        self.is_on && self.forgotten[0].is_none_or(|forgotten| forgotten < at)
    }

    /// Whether slow times since then are all remembered.
    pub(crate) fn knows_slow_since(&self, at: Instant) -> bool {
        self.is_on && self.forgotten[1].is_none_or(|forgotten| forgotten < at)
    }
}
