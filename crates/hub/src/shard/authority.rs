//! What a connection may still do: when its credential ends, and what follows when what holds for it has changed.
//!
//! Time is the shard's own, which does not leap: when a credential ends is reckoned when it is accepted, and only ever made
//! sooner afterwards.

use std::sync::Arc;
use std::time::Duration;

use outspoke_protocol::{Disconnect, ErrorCode, Event, Refusal, RoomName, Timestamp};

use super::connection::{Connection, Waiting};
use super::wheel::Tick;
use super::{Key, Shard};
use crate::policy::{self, Action, Granted, Who};
use crate::room::presence::Exit;
use crate::trace::diary::Because;

impl Connection {
    /// The client as somebody who wants something.
    pub(super) fn who(&self) -> Who<'_> {
        Who::client(&self.client, self.grants.as_deref())
    }

    /// When something of what it may do ends; `Tick::MAX` for never.
    pub(super) fn next_end(&self) -> Tick {
        self.expires.min(self.grants.as_ref().map_or(Tick::MAX, |grants| grants.next_end()))
    }

    /// Notes what was granted in a room, as far as the credential does not permit it anyway.
    pub(super) fn grant(&mut self, room: &RoomName, granted: Granted) {
        self.grants.get_or_insert_default().put(room, granted);
    }

    /// Forgets what was granted in a room.
    pub(super) fn forget_grant(&mut self, room: &str) {
        if let Some(grants) = &mut self.grants {
            grants.remove(room);
            if grants.is_empty() {
                self.grants = None;
            }
        }
    }
}

impl Shard {
    /// Whether a client may do something.
    pub(super) fn may<'a>(
        &self,
        key: Key,
        action: Action,
        on: impl Into<policy::On<'a>>,
    ) -> Result<(), Refusal> {
        policy::check(&self.hub, &self.connections[key.slot as usize].who(), action, on)
    }

    /// The tick by which something ends. Never too soon, and too late by less than two ticks.
    pub(super) fn tick_of(&self, ends: Option<Timestamp>) -> Tick {
        let Some(ends) = ends else { return Tick::MAX };
        let left = ends.as_millis().saturating_sub(self.hub.now().as_millis());
        if left <= 0 {
            return self.now();
        }
        let at = self.began.elapsed().saturating_add(Duration::from_millis(left.unsigned_abs()));
        let ticks = Tick::try_from(at.as_nanos().div_ceil(self.tick.as_nanos())).unwrap_or(Tick::MAX);
        self.base.saturating_add(ticks)
    }

    /// What holds for a client has changed: it does nothing from here on that it may not do.
    pub(super) fn reconsider(&mut self, key: Key) {
        let Some(connection) = self.connection(key).filter(|connection| connection.is_open()) else { return };
        let client = Arc::clone(&connection.client);
        if let Some(disconnect) = self.hub.revoked(&client.holds()) {
            // Not what waits for it, either.
            self.drop_unwritten(key.slot);
            self.begin_close(key, disconnect);
            return;
        }
        let ends = client.holds().expires;
        let ends = self.tick_of(ends);
        let connection = &mut self.connections[key.slot as usize];
        connection.expires = connection.expires.min(ends);
        if self.look_at_authority(key) {
            self.give_up_look(key);
        }
    }

    /// What is being read for a client was allowed when it asked: it asks again, if it still may.
    fn give_up_look(&mut self, key: Key) {
        let Some(connection) = self.connection(key).filter(|connection| connection.is_open()) else { return };
        let Some(stall) = &mut connection.stall else { return };
        if !matches!(stall.waiting, Some(Waiting::Look(_))) {
            return;
        }
        let request = stall.request.take();
        if stall.drop_waiting() {
            self.panicked(key);
            return;
        }
        let detail = "what you may do has changed meanwhile: ask again";
        self.refuse(key.slot, Refusal::new(ErrorCode::Unavailable, detail).answering(request));
        self.send_replies(key.slot, false);
        self.resume(key);
    }

    /// Sees to it that a client is only where it may be, and not beyond its time. Returns whether it is still connected.
    pub(super) fn look_at_authority(&mut self, key: Key) -> bool {
        let now = self.now();
        let connection = &mut self.connections[key.slot as usize];
        if connection.expires <= now {
            self.begin_close(key, Disconnect::CredentialExpired);
            return false;
        }
        if let Some(grants) = &mut connection.grants {
            grants.expire(now);
        }
        for (room, because) in self.rooms_to_leave(key) {
            self.take_out(key, room.as_str(), Box::new(because));
        }
        self.look_at_end(key);
        true
    }

    /// Asks for a look when something of what the client may do ends.
    pub(super) fn look_at_end(&mut self, key: Key) {
        let next = self.connections[key.slot as usize].next_end();
        if next < Tick::MAX {
            self.look_by(key.slot, next);
        }
    }

    /// The rooms that a client is in and may not be in any more.
    fn rooms_to_leave(&self, key: Key) -> Vec<(RoomName, Refusal)> {
        let connection = &self.connections[key.slot as usize];
        let who = connection.who();
        let named =
            connection.memberships.iter().filter_map(|held| Some((&held.room, held.room.name.as_ref()?)));
        named
            .filter_map(|(room, name)| {
                let because = policy::check(&self.hub, &who, Action::Join, room).err()?;
                Some((name.clone(), because))
            })
            .collect()
    }

    /// Takes a client out of a room against its will; what waits for it there is not delivered. Returns whether it was in.
    pub(super) fn take_out(&mut self, key: Key, room: &str, because: Box<Refusal>) -> bool {
        if !self.connection(key).is_some_and(|connection| connection.is_open()) {
            return false;
        }
        let Some(index) = self.membership(key, room) else { return false };
        let connection = &mut self.connections[key.slot as usize];
        let held = &connection.memberships[index].room;
        let Some(name) = held.name.clone() else { return false };
        if let Some(outbox) = connection.outbox.as_mut() {
            let dropped = (outbox.messages_of(held.id), outbox.first_of(held.id));
            let bytes = outbox.drop_room(held.id);
            if let (messages, Some(first)) = dropped {
                outbox.skip(held.id, 0, false, (first, first + messages - 1));
            }
            connection.client.release(bytes);
        }
        self.leave_because(key, index, Exit::Goodbye, Because::Removed);
        self.reply(key.slot, &Event::Unsubscribed { request: None, room: name, because: Some(because) });
        self.send_replies(key.slot, false);
        true
    }
}
