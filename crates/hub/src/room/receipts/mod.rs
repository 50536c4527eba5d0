//! Who has received and read how much of a room.
//!
//! Two places in the log for each user: up to where a device of the user has it, and up to where the user has read it.
//! They only move forward, and what is read has been received. With the place read goes how many messages were said up
//! to there ([`Kind::is_said`](outspoke_protocol::Kind::is_said)), so that what is unread needs no look at the log.
//!
//! Belongs to the room's state, behind its lock, and takes no memory before the first receipt. In a stored room a
//! receipt counts when it is durable: what users want gathers while the last of it is being written, goes through the
//! room's keeper as one write, and is then told and answered. The first read of a room brings the places of up to
//! `CURSORS_MAX` users; who is not among them is read when needed. A room in memory keeps those of about as many users,
//! the ones who have come furthest.
//!
//! **Own words are no news**: who had read everything before saying something has read that as well. The rule is
//! applied as messages are placed, and again to the end of the log when a room is read, so that a crash between the
//! message and the note of it changes nothing.
//!
//! On disk: `room, epoch, user, "s"` -> offset and messages said (8 bytes each, big-endian), `room, epoch, user, "d"` ->
//! offset. Each is written as a maximum, so none can step back, whatever the order. What is read is not noted as received
//! a second time.
//!
//! `cursors` has the places and what is wanted of them, `write` makes them durable, `tell` tells of them, `read` gets them back;
//! here is what members and operators ask of a room.

mod cursors;
mod read;
mod tell;
mod write;

use bytes::Bytes;
use ecow::eco_format;
use outspoke_protocol::{
    Epoch, ErrorCode, Event, Message, Position, Receipt, Refusal, RequestId, RoomName, UserId,
};
use outspoke_store::StoreError;
use tokio::sync::oneshot;

use self::cursors::Marks;
pub(super) use self::cursors::Receipts;
pub(crate) use self::read::{cursor_keys, marks_of};
use super::{Room, State};
use crate::facts;
use crate::hub::Inner;
use crate::publication::Publication;
use crate::shard::Key;
use crate::sync::Arc;

/// Users on a page at most.
pub(crate) const RECEIPTS_PAGE_MAX: usize = 500;

/// Who waits for a receipt to be durable.
#[derive(Debug)]
pub(crate) enum Waiter {
    Client { shard: usize, key: Key, request: RequestId, receipt: Receipt },
    Api(oneshot::Sender<Result<Marks, StoreError>>),
}

impl Room {
    /// Whether the room keeps who has read how much.
    pub(crate) fn keeps_receipts(&self) -> bool {
        self.keeps() && self.class().receipts && self.name.is_some()
    }

    /// Whether the room must read who has read how much before anybody comes in.
    pub(super) fn lacks_cursors(&self, state: &State) -> bool {
        self.keeps_receipts() && self.keeper.is_some() && state.receipts.is_none()
    }

    /// Whether this user's places must be read first; the next read brings them. `asks`: the user comes, and nothing was read for
    /// that yet. Who comes from another node may have been told there what this one has not heard.
    pub(super) fn lacks_cursor_of(&self, state: &mut State, user: &UserId, asks: bool) -> bool {
        let elsewhere = asks && self.bus_topic.is_some();
        let Some(receipts) = &mut state.receipts else { return false };
        let here = !receipts.partial || receipts.cursors.contains_key(user);
        // Asked for, but by a read that had begun before.
        let elsewhere = elsewhere || receipts.missing.contains(user);
        if self.keeper.is_none() || (here && !elsewhere) {
            return false;
        }
        receipts.missing.insert(user.clone());
        true
    }

    /// Whether somebody waits for places that the next read is to bring.
    pub(super) fn wants_cursors(&self) -> bool {
        self.lock().receipts.as_ref().is_some_and(|receipts| !receipts.missing.is_empty())
    }

    /// What a user has not read, if that is known.
    pub(super) fn unread_of(&self, state: &State, user: &UserId) -> Option<outspoke_protocol::Unread> {
        if !self.keeps_receipts() {
            return None;
        }
        let none = Receipts::default();
        let receipts = state.receipts.as_deref().unwrap_or(&none);
        let durable = receipts.known(user)?;
        let ahead = receipts.ahead(user).unwrap_or(durable);
        let count = ahead.unread(state.head, self.oldest(state), state.ordinal);
        Some(outspoke_protocol::Unread { count, seen: durable.seen, delivered: durable.delivered })
    }

    /// Where the log is and what a user has not read of it, if that is in memory.
    pub(crate) fn unread_in_memory(&self, user: &UserId) -> Option<(Position, outspoke_protocol::Unread)> {
        let state = self.lock();
        if !state.is_known() || self.lacks_cursors(&state) {
            return None;
        }
        let head = Position { epoch: self.epoch(), offset: state.head };
        let unread = match self.keeps_receipts() {
            true => self.unread_of(&state, user)?,
            false => outspoke_protocol::Unread::default(),
        };
        Some((head, unread))
    }

    /// Forgets how far a user has come; the store's facts are the caller's to delete.
    pub(crate) fn forget_reader(&self, user: &UserId) {
        if let Some(receipts) = &mut self.lock().receipts {
            receipts.cursors.remove(user);
            receipts.untold.remove(user);
        }
    }

    /// Notes that a user has received or read everything up to an offset. Returns the user's places if it is done;
    /// otherwise who waits is answered when it is durable. Repeating it costs a look.
    ///
    /// # Errors
    /// The room has no such message yet, or has not read who has come how far.
    pub(crate) fn mark(
        self: &Arc<Self>,
        hub: &Inner,
        user: &UserId,
        receipt: Receipt,
        offset: u64,
        waiter: Option<Waiter>,
    ) -> Result<Option<Marks>, Refusal> {
        let mut state = self.lock();
        if offset > state.head {
            return Err(ahead_of(offset, state.head));
        }
        if self.lacks_cursors(&state) {
            let detail = "the room has not been read yet; try again";
            return Err(Refusal::new(ErrorCode::Unavailable, detail));
        }
        let ordinal = match receipt {
            Receipt::Delivered => Some(0),
            Receipt::Seen => self.ordinal_at(&state, offset),
        };
        let head = state.head;
        let receipts = state.receipts.get_or_insert_default();
        if let Some(known) = receipts.known(user)
            && known.at(receipt) >= offset
        {
            return Ok(Some(known));
        }
        if self.keeper.is_none() {
            let read = match receipt {
                Receipt::Delivered => Marks { delivered: offset, ..Marks::default() },
                Receipt::Seen => Marks::read_up_to(offset, ordinal.unwrap_or_default()),
            };
            if receipts.known(user).is_none() && offset <= receipts.let_go_up_to {
                // Where the user was is forgotten, and this could be a step back.
                return Ok(Some(read));
            }
            let moved = receipts.advance(user, read, head);
            let now = receipts.known(user).unwrap_or(read);
            self.note_untold(&mut state, user, moved);
            self.tell_receipts(hub, &mut state);
            return Ok(Some(now));
        }
        let wanted = receipts.want(user);
        wanted.raise(receipt, offset, ordinal);
        wanted.said = true;
        wanted.waiting.extend(waiter);
        self.write_receipts_soon(hub, receipts);
        Ok(None)
    }

    /// Another node has made durable how far a user has come.
    pub(crate) fn hear_read(
        self: &Arc<Self>,
        hub: &Inner,
        epoch: Epoch,
        user: &UserId,
        (delivered, seen, ordinal): (u64, u64, u64),
    ) {
        let mut state = self.lock();
        // Rooms that are not stored have offsets of their own on each node.
        if self.keeper.is_none() || epoch != self.epoch() || !self.keeps_receipts() {
            return;
        }
        let head = state.head;
        let Some(receipts) = &mut state.receipts else { return };
        let marks = Marks { delivered, ..Marks::default() }.raised(Marks::read_up_to(seen, ordinal));
        let moved = receipts.advance(user, marks, head);
        self.note_untold(&mut state, user, moved);
        self.tell_receipts(hub, &mut state);
    }

    /// Messages said up to an offset, if the end of the log tells. What is trimmed in memory counts as read.
    fn ordinal_at(&self, state: &State, offset: u64) -> Option<u64> {
        let behind = usize::try_from(state.head - offset).ok()?;
        if behind > state.tail.len() && self.keeper.is_some() {
            return None;
        }
        let said = |publication: &&Arc<Publication>| {
            publication.message_ref().is_some_and(|message| message.kind.is_said())
        };
        let unread = state.tail.iter().rev().take(behind).filter(said).count() as u64;
        Some(state.ordinal.saturating_sub(unread))
    }

    /// Own words are no news. `ordinal`: messages said up to this one; `own`: this hub took them from their author, and keeps
    /// what becomes of it.
    pub(super) fn note_own_words(
        self: &Arc<Self>,
        hub: &Inner,
        state: &mut State,
        message: &Message,
        ordinal: u64,
        own: bool,
    ) {
        let (Some(from), Some(position)) = (&message.from, message.position) else { return };
        if !self.keeps_receipts() || !message.kind.is_said() || self.lacks_cursors(state) {
            return;
        }
        let user = &from.user;
        let ahead = match &state.receipts {
            Some(receipts) => receipts.ahead(user),
            None => Some(Marks::default()),
        };
        let Some(ahead) = ahead.filter(|ahead| ahead.ordinal + 1 == ordinal) else { return };
        if ahead == Marks::default() && !self.is_known_user(hub, from) {
            return;
        }
        let head = state.head;
        let receipts = state.receipts.get_or_insert_default();
        if self.keeper.is_some() && own {
            receipts.want(user).raise(Receipt::Seen, position.offset, Some(ordinal));
            self.write_own_words_later(hub, receipts);
        } else {
            receipts.advance(user, Marks::read_up_to(position.offset, ordinal), head.max(position.offset));
        }
    }

    /// Somebody who is somebody: made-up ids would fill the memory.
    fn is_known_user(&self, hub: &Inner, from: &outspoke_protocol::Publisher) -> bool {
        facts::is_nameable(from.user.as_str())
            && (self.pair.is_some()
                || hub.registry.get(from.client).is_some_and(|client| !client.identity().anonymous))
    }

    // ---- into the store ----
}

/// What answers a receipt that has an id.
pub(crate) fn acknowledgement(
    request: RequestId,
    room: &RoomName,
    receipt: Receipt,
    position: Position,
) -> Event {
    #[derive(serde::Serialize)]
    struct Data<'a> {
        room: &'a str,
        receipt: &'static str,
        epoch: Epoch,
        offset: u64,
    }
    let receipt = match receipt {
        Receipt::Delivered => "delivered",
        Receipt::Seen => "seen",
    };
    let data = Data { room: room.as_str(), receipt, epoch: position.epoch, offset: position.offset };
    // Texts and numbers are always JSON.
    let data = serde_json::to_vec(&data).ok().map(Bytes::from);
    Event::Reply { request: Some(request), name: ecow::EcoString::inline("receipt_ack"), data }
}

fn ahead_of(offset: u64, head: u64) -> Refusal {
    let detail = eco_format!("there is no message {offset} yet: the room's newest has the offset {head}");
    Refusal::new(ErrorCode::MessageNotFound, detail)
}
