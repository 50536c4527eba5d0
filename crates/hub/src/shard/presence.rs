//! What clients ask about those who are in their rooms, and what they say without a word: typing.

use std::sync::Arc;

use outspoke_protocol::{ErrorCode, Event, Refusal, RequestId, Typing, UserId};

use super::joins::refusal_of;
use super::receive::Flow;
use super::wheel::Tick;
use super::{Key, Shard};
use crate::error::JoinError;
use crate::hub::Hub;
use crate::policy::Action;
use crate::room::Room;
use crate::room::presence::PAGE;

/// Whether a client types in a room, and when its members were last told so: in the 4 bytes that a membership has
/// left over.
///
/// The lowest bit says whether the members think so, the others are the tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TypingState(u32);

impl TypingState {
    /// What the client says: whether the members are told. Typing is told once per `ticks` at most, its end
    /// only after it.
    fn change(&mut self, active: bool, now: Tick, ticks: Tick) -> bool {
        let (told_at, told) = (self.0 >> 1, self.0 & 1 == 1);
        if !active {
            self.0 &= !1;
            return told;
        }
        let now = now & (u32::MAX >> 1);
        // The ticks wrap around after months: told a moment too late once, at worst.
        if self.0 != 0 && (now.wrapping_sub(told_at) & (u32::MAX >> 1)) < ticks {
            return false;
        }
        self.0 = now << 1 | 1;
        true
    }
}

impl Shard {
    /// Answers with a page of who is in a room.
    pub(super) fn presence(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &str,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Flow, Refusal> {
        let name = self.room_name(room)?;
        let Some(index) = self.membership(key, name.as_str()) else {
            return Err(refusal_of(JoinError::NotSubscribed { room: name }));
        };
        let room = &self.connections[key.slot as usize].memberships[index].room;
        self.may(key, Action::Presence, room)?;
        check_presence(room)?;
        let after = after.map(UserId::new);
        let limit = limit.map_or(PAGE, |limit| limit as usize);
        // A page and what was sent before it leave the client space for a room's news.
        let bytes_max = self.hub.config().replay_bytes() / 2;
        let mut presence = room.presence(&self.hub, name, after.as_ref(), limit, bytes_max);
        presence.request = id.cloned();
        self.reply(key.slot, &Event::Presence(Box::new(presence)));
        Ok(self.drain_if_much(key))
    }

    /// Tells a room that a client is typing, or no longer; the client has no answer. What comes too often is dropped
    /// without a word: the members know already. That typing has ended because something was said, or because the
    /// client has left, they see for themselves.
    ///
    /// Everybody in the room is told, the client itself too: to leave it out, the bytes that all share would have to be put
    /// together once more for it.
    pub(super) fn typing(&mut self, key: Key, room: Option<&str>, active: bool) -> Result<Flow, Refusal> {
        let room = self.room_to_publish(key, room)?;
        self.may(key, Action::Publish, &room)?;
        check_presence(&room)?;
        let client = Arc::clone(&self.connections[key.slot as usize].client);
        if client.name().is_empty() {
            let detail = "typing needs a name: connect with one";
            return Err(Refusal::new(ErrorCode::UsernameRequired, detail));
        }
        // A tick more than a second is: the current one has begun already.
        let ticks = 1 + (1_000_000_000_u128.div_ceil(self.tick.as_nanos().max(1))) as Tick;
        let now = self.now();
        let memberships = &mut self.connections[key.slot as usize].memberships;
        let held = memberships.iter_mut().find(|held| held.room.id == room.id);
        let told = held.is_some_and(|held| held.typing.change(active, now, ticks));
        // Whoever is behind has better things to catch up with.
        let told = told && !self.is_stopping() && !self.hub.congestion.is_congested();
        if let Some(name) = room.name.clone().filter(|_| told) {
            let expires = self.hub.config().typing_timeout;
            let typing = Typing { room: name, from: client.publisher(), active, expires };
            if let Some(cluster) = &self.hub.cluster {
                cluster.tell_typing(&room, &typing);
            }
            room.tell_typing(&self.hub, typing);
        }
        Ok(Flow::Continue)
    }
}

fn check_presence(room: &Room) -> Result<(), Refusal> {
    if room.class().presence {
        return Ok(());
    }
    let detail = "this room does not tell who is in it";
    Err(Refusal::new(ErrorCode::Forbidden, detail))
}

impl Hub {
    /// Who is in a room: users after that one in the order of their ids, at most `limit` of them and at most 1000; 0 for
    /// the counts alone. `None` when there is no such room, or when its class has no presence.
    ///
    /// *Cost*: a step for each user on the page, however many are in the room.
    #[must_use]
    pub fn presence(
        &self,
        room: &str,
        after: Option<&UserId>,
        limit: usize,
    ) -> Option<outspoke_protocol::Presence> {
        let room = self.tenant.directory.get(room).filter(|room| room.class().presence)?;
        Some(room.presence(&self.inner, room.name.clone()?, after, limit, usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::TypingState;

    #[test]
    fn typing_is_told_once_per_interval_and_its_end_only_after_it() {
        let mut typing = TypingState::default();
        assert!(!typing.change(false, 5, 3), "nobody thought so");
        assert!(typing.change(true, 5, 3));
        assert!(!typing.change(true, 7, 3), "too soon");
        assert!(typing.change(true, 8, 3));
        assert!(typing.change(false, 8, 3));
        assert!(!typing.change(false, 9, 3), "told already");
        assert!(!typing.change(true, 10, 3), "an end does not make it sooner");
        assert!(!typing.change(false, 10, 3), "nobody thought so");
        assert!(typing.change(true, 11, 3));
    }

    #[test]
    fn typing_goes_on_when_the_ticks_wrap_around() {
        let mut typing = TypingState::default();
        assert!(typing.change(true, u32::MAX >> 1, 3));
        assert!(!typing.change(true, (u32::MAX >> 1) + 1, 3));
        assert!(typing.change(true, (u32::MAX >> 1) + 3, 3));
    }
}
