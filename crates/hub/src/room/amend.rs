//! Amendments to messages in memory.

use outspoke_protocol::{Details, Message, MessageId, Position, Publisher, Refusal, Timestamp};

use super::{Draft, Published, Room, State};
use crate::amend::{Change, not_found};
use crate::hub::Inner;
use crate::publication::Publication;
use crate::sync::Arc;

/// An earlier message of a room, and what somebody does to it.
#[derive(Debug)]
pub(crate) struct Amending {
    pub(crate) target: u64,
    pub(crate) change: Change,
    /// `None`: the application.
    pub(crate) by: Option<Publisher>,
    /// Whether they may delete what others have said.
    pub(crate) moderates: bool,
    pub(crate) key: Option<bytes::Bytes>,
}

impl Amending {
    /// The message that tells of it.
    pub(crate) fn draft(&self) -> Draft {
        let (kind, body, withdrawn) = self.change.told();
        let details = Details { target: Some(self.target), withdrawn, ..Details::default() };
        Draft { kind, from: self.by.clone(), body, details: Some(Box::new(details)), key: self.key.clone() }
    }
}

impl Amending {
    /// The message after it; `None` when nothing changes.
    ///
    /// # Errors
    /// The message cannot be changed like that, or not by this user.
    pub(crate) fn apply(
        &self,
        hub: &Inner,
        message: &Message,
        now: Timestamp,
    ) -> Result<Option<Message>, Refusal> {
        if matches!(self.change, Change::Edit(_)) {
            hub.check_editable(&message.kind)?;
        }
        self.change.apply(message, self.by.as_ref(), self.moderates, now)
    }
}

impl Room {
    /// Amends a message of a room that is not stored.
    ///
    /// # Errors
    /// The message is not kept, or cannot be changed like that, or not by this user.
    pub(crate) fn amend(self: &Arc<Self>, hub: &Inner, amending: &Amending) -> Result<Published, Refusal> {
        let now = hub.now();
        let mut state = self.lock();
        if let Some(key) = &amending.key
            && let Some(known) = state.tail.known(key, now.as_millis())
        {
            return Ok(Published { duplicate: true, ..known });
        }
        self.forget_old(hub, &mut state);
        let Some(target) = message_at(&state, amending.target) else {
            return Err(not_found(missing(amending.target, self.oldest(&state), state.head)));
        };
        let Some(amended) = amending.apply(hub, &target, now)? else {
            return Ok(unchanged(&target));
        };
        self.put_back(hub, &mut state, amended);
        let published = self.publish_now(hub, &mut state, amending.draft(), now);
        drop(state);
        if amending.change == Change::Delete {
            hub.tell_deleted(&self.tenant, &target);
        }
        Ok(published)
    }

    /// Does to the message of that id what another node's message says. Returns whether it is here.
    pub(super) fn amend_relayed(
        &self,
        hub: &Inner,
        state: &mut State,
        message: &mut Message,
        target: MessageId,
    ) -> bool {
        let held = state.tail.iter().filter_map(|publication| publication.message_ref());
        let Some(target) = held.rev().find(|held| held.id == target).cloned() else { return false };
        let (Some(change), Some(position)) = (Change::told_by(message), target.position) else {
            return false;
        };
        message.details.get_or_insert_default().target = Some(position.offset);
        // Judged where it was said, also whether it was a moderator's to say.
        if let Ok(Some(amended)) = change.apply(&target, message.from.as_ref(), true, message.ts) {
            self.put_back(hub, state, amended);
        }
        true
    }

    /// The message at an offset, if it is in memory.
    pub(crate) fn message_in_memory(&self, offset: u64) -> Option<Message> {
        message_at(&self.lock(), offset)
    }

    /// Shows a message in its new state from now on.
    pub(crate) fn replace_in_memory(&self, hub: &Inner, message: Message) {
        self.put_back(hub, &mut self.lock(), message);
    }

    pub(super) fn put_back(&self, hub: &Inner, state: &mut State, message: Message) {
        let Some(Position { offset, .. }) = message.position else { return };
        state.note_change(offset);
        let head = state.head;
        state.tail.replace(offset, head, Arc::new(Publication::message(message, hub.dialects.len())));
    }

    /// Why there is no message at an offset.
    pub(crate) fn why_missing(&self, offset: u64) -> Refusal {
        let state = self.lock();
        not_found(missing(offset, self.oldest(&state), state.head))
    }
}

fn message_at(state: &State, offset: u64) -> Option<Message> {
    state.tail.at(offset, state.head)?.message_ref().cloned()
}

fn missing(offset: u64, first: u64, head: u64) -> ecow::EcoString {
    ecow::eco_format!("there is no message {offset}: the room has those from {first} to {head}")
}

/// What is answered when the message is like that already.
pub(crate) fn unchanged(target: &Message) -> Published {
    let (id, position): (MessageId, Option<Position>) = (target.id, target.position);
    let ts: Timestamp = target.ts;
    Published { id, position, ts, members: 0, duplicate: true }
}
