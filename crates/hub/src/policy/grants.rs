//! What a client may do in single rooms besides what its permissions say.
//!
//! Held by the client's shard for as long as the client is in the room: from a token for the room, from an
//! [`Authorizer`](crate::Authorizer), or because the application has put it there.

use outspoke_protocol::RoomName;

use super::Action;
use crate::shard::wheel::Tick;

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions(u8);

impl Actions {
    pub(crate) fn of(actions: &[Action]) -> Self {
        Self(actions.iter().fold(0, |set, action| set | 1 << *action as u8))
    }

    pub(crate) fn and(self, action: Action) -> Self {
        Self(self.0 | 1 << action as u8)
    }

    pub(crate) fn has(self, action: Action) -> bool {
        self.0 & 1 << action as u8 != 0
    }
}

/// What is granted in one room, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) actions: Actions,
    /// The shard's tick at which it ends; `Tick::MAX` for never.
    pub(crate) ends: Tick,
}

impl Granted {
    /// Being there, for as long as it lasts.
    pub(crate) fn to_be_there() -> Self {
        Self { actions: Actions::of(&[Action::Join]), ends: Tick::MAX }
    }
}

/// A client's grants: a handful at most, one for each room.
#[derive(Debug, Default)]
pub(crate) struct Grants(Vec<(RoomName, Granted)>);

impl Grants {
    pub(crate) fn allow(&self, action: Action, room: &str) -> bool {
        self.0.iter().any(|(name, granted)| granted.actions.has(action) && name.as_str() == room)
    }

    /// In the place of an earlier one for the room.
    pub(crate) fn put(&mut self, room: &RoomName, granted: Granted) {
        self.remove(room.as_str());
        self.0.push((room.clone(), granted));
    }

    pub(crate) fn remove(&mut self, room: &str) {
        self.0.retain(|(name, _)| name.as_str() != room);
    }

    /// Forgets those that have ended. Returns whether there were any.
    pub(crate) fn expire(&mut self, now: Tick) -> bool {
        let before = self.0.len();
        self.0.retain(|(_, granted)| granted.ends > now);
        self.0.len() < before
    }

    /// Counts their ends in the ticks of a clock that was set anew.
    pub(crate) fn end_anew(&mut self, ahead: impl Fn(Tick) -> Tick) {
        self.0.iter_mut().for_each(|(_, granted)| granted.ends = ahead(granted.ends));
    }

    /// When the next one ends; `Tick::MAX` for never.
    pub(crate) fn next_end(&self) -> Tick {
        self.0.iter().map(|(_, granted)| granted.ends).min().unwrap_or(Tick::MAX)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn grants_allow_what_they_say_in_their_room_until_they_end() {
        let room = RoomName::new("a", 8).unwrap();
        let mut grants = Grants::default();
        assert_eq!(grants.next_end(), Tick::MAX);
        grants.put(&room, Granted { actions: Actions::of(&[Action::Join, Action::History]), ends: 7 });
        assert!(grants.allow(Action::Join, "a") && grants.allow(Action::History, "a"));
        assert!(!grants.allow(Action::Publish, "a") && !grants.allow(Action::Join, "b"));
        grants.put(&room, Granted { actions: Actions::of(&[Action::Publish]), ends: 9 });
        assert!(grants.allow(Action::Publish, "a") && !grants.allow(Action::Join, "a"));
        assert_eq!(grants.next_end(), 9);
        assert!(!grants.expire(8) && grants.expire(9) && grants.is_empty());
    }
}
