//! What a room is about, and who in it has another name.
//!
//! A topic is set by a message of the room's log, and every newcomer is told it. Where the log is stored, the topic is a
//! fact beside it, written in the same step as the message and read with the room, once for all who come in.

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{Body, Kind, Message, Publisher};
use outspoke_store::{FactKey, FactWrite, StoreError};

use super::{Draft, Room};
use crate::facts::{self, TOPICS};
use crate::hub::Inner;
use crate::keeper::Keeper;
use crate::publication::Publication;
use crate::sync::Arc;

/// A room's topic, as far as it is known.
#[derive(Debug)]
pub(super) enum Topic {
    /// The store has not been asked.
    Unread,
    /// Empty for none.
    Known(EcoString),
}

impl Default for Topic {
    fn default() -> Self {
        Self::Known(EcoString::new())
    }
}

impl Topic {
    pub(super) fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }

    pub(super) fn text(&self) -> EcoString {
        match self {
            Self::Unread => EcoString::new(),
            Self::Known(text) => text.clone(),
        }
    }

    /// Takes over what a message says, in the order of the log.
    pub(super) fn follow(&mut self, message: &Message) {
        if let Some(text) = topic_of(message) {
            *self = Self::Known(text);
        }
    }
}

/// What a message sets the topic to, if it does.
fn topic_of(message: &Message) -> Option<EcoString> {
    match (&message.kind, &message.body) {
        (Kind::Topic, Body::Text(text)) => Some(text.clone()),
        (Kind::Topic, _) => Some(EcoString::new()),
        _ => None,
    }
}

/// What must become durable with a message of a stored room.
pub(crate) fn facts_of(room: &Room, message: &Message) -> Vec<FactWrite> {
    let key = || room.topic_key();
    match topic_of(message) {
        None => Vec::new(),
        Some(text) if text.is_empty() => vec![FactWrite::Delete(key())],
        Some(text) => vec![FactWrite::Set(key(), Bytes::copy_from_slice(text.as_bytes()))],
    }
}

impl Room {
    /// The topic; empty for none.
    pub(crate) fn topic(&self) -> EcoString {
        self.lock().topic.text()
    }

    /// Whether everything is known that a newcomer is told.
    pub(crate) fn is_read(&self) -> bool {
        let state = self.lock();
        state.is_known() && state.topic.is_known() && !self.lacks_cursors(&state)
    }

    fn topic_key(&self) -> FactKey {
        let name = self.name.as_ref().map_or("", |name| name.as_str());
        FactKey { tenant: self.tenant.clone(), space: TOPICS, name: facts::name(&[name]) }
    }

    /// Asks the store for the topic, unless it is known.
    pub(super) async fn read_topic(&self, keeper: &Keeper) -> Result<(), StoreError> {
        if self.lock().topic.is_known() {
            return Ok(());
        }
        let kept = keeper.facts(vec![self.topic_key()]).await?.into_iter().next().flatten();
        let text = match &kept {
            None => "",
            Some(kept) => std::str::from_utf8(kept)
                .map_err(|_| StoreError::Damaged("a room's topic is no text".to_owned()))?,
        };
        let mut state = self.lock();
        // One that was set meanwhile is newer.
        if !state.topic.is_known() {
            state.topic = Topic::Known(EcoString::from(text));
        }
        Ok(())
    }

    /// Tells the members that one of them has another name, unless they are so many that nobody could follow.
    pub(crate) fn renamed(self: &Arc<Self>, hub: &Inner, who: Publisher, former: &EcoString) {
        let state = self.lock();
        if self.is_everyone() || state.total > self.class().announce_members_max {
            return;
        }
        let body = Body::Text(former.clone());
        let draft = Draft { kind: Kind::Rename, from: Some(who), body, details: None, key: None };
        let message = self.message(draft, hub.now());
        let publication = Publication::message(message, hub.dialects.len());
        self.hand_out(hub, &state, &Arc::new(publication));
    }
}
