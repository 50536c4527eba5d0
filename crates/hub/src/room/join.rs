//! In and out of a room, and with what a client begins there.
//!
//! All under the room's lock: what a newcomer has missed is taken, its place is counted and its activation queued in one
//! step, so that no message falls between what it is given and what it will be delivered, and none comes twice.

use ecow::EcoString;
use outspoke_protocol::{Position, StartFrom, Unread, UserId};
use outspoke_store::Retention;

use super::presence::Exit;
use super::{Room, State};
use crate::client::Client;
use crate::hub::Inner;
use crate::publication::Publication;
use crate::room::load::Need;
use crate::shard::Key;
use crate::shard::command::Command;
use crate::sync::Arc;

/// A client that wants to come in.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) shard: usize,
    pub(crate) key: Key,
    pub(crate) ticket: u32,
    pub(crate) from: StartFrom,
    /// Who it is, where the room is to know: it hears of everybody who has a name.
    pub(crate) client: Option<Arc<Client>>,
    /// Who wants to know what there is unread.
    pub(crate) user: Option<UserId>,
    /// ... and waits until that is read, should it not be in memory.
    pub(crate) insists: bool,
    /// Nothing was read for it yet.
    pub(crate) asks: bool,
    /// The store was asked for what other nodes have written, as far as it seemed that they have.
    pub(crate) looked: bool,
}

/// Whether it came in.
#[derive(Debug)]
pub(crate) enum Admission {
    In(Joined),
    /// Once the room has read this from its store.
    Once(Need),
    Full,
}

/// How a client came into a room.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Messages after this place follow: first `missed`, then what is delivered.
    pub(crate) position: Position,
    pub(crate) head: u64,
    pub(crate) first: u64,
    /// Where the client said where it was: whether it gets all it has missed.
    pub(crate) recovered: Option<bool>,
    /// Members on this hub, the new one included.
    pub(crate) members: usize,
    /// What its user has not read, where that is known.
    pub(crate) unread: Option<Unread>,
    pub(crate) topic: EcoString,
    /// What it gets before anything is delivered.
    pub(crate) missed: Vec<Arc<Publication>>,
}

/// Where a newcomer begins.
struct Start {
    after: u64,
    recovered: Option<bool>,
    missed: Vec<Arc<Publication>>,
}

impl Room {
    /// Counts a member and queues its activation. The members it finds are told first, under the same lock: so the
    /// number that the newcomer is given, and the joins and leaves that everybody is told, add up on every side.
    pub(crate) fn admit(self: &Arc<Self>, hub: &Inner, newcomer: Newcomer) -> Admission {
        let mut state = self.lock();
        if !state.is_known() || !state.topic.is_known() {
            return Admission::Once(Need::of(newcomer.from));
        }
        if self.lacks_cursors(&state) {
            return Admission::Once(Need::Cursors);
        }
        let members_max = self.class().members_max;
        if members_max > 0 && state.everybody() >= members_max {
            return Admission::Full;
        }
        // Before anything else that is to be read, so that one read brings both.
        let user = newcomer.user.as_ref().filter(|_| newcomer.insists);
        let lacks = user.is_some_and(|user| self.lacks_cursor_of(&mut state, user, newcomer.asks));
        let Start { after, recovered, missed } =
            match self.start(hub, &mut state, newcomer.from, newcomer.looked) {
                Ok(start) => start,
                Err(need) => return Admission::Once(need),
            };
        if lacks {
            return Admission::Once(Need::Cursors);
        }
        let unread = newcomer.user.as_ref().and_then(|user| self.unread_of(&state, user));
        if let Some(client) = &newcomer.client {
            self.arrive(hub, &mut state, client);
        }
        state.members[newcomer.shard] += 1;
        state.total += 1;
        state.shards |= 1 << newcomer.shard;
        let Newcomer { shard, key, ticket, .. } = newcomer;
        let activation = Command::Activate { room: Arc::clone(self), client: key, ticket };
        // The shard itself is asking, so its inbox is open.
        let _ = hub.shards[shard].inbox.push(activation, Command::WEIGHT);
        Admission::In(Joined {
            position: Position { epoch: self.epoch(), offset: after },
            head: state.head,
            first: self.oldest(&state),
            recovered,
            members: state.everybody(),
            unread,
            topic: state.topic.text(),
            missed,
        })
    }

    /// How the room is now, for a member that asks to come in again.
    pub(crate) fn joined_already(&self, position: Position, user: Option<&UserId>) -> Joined {
        let state = self.lock();
        Joined {
            position,
            head: state.head,
            first: self.oldest(&state),
            recovered: None,
            members: state.everybody(),
            unread: user.and_then(|user| self.unread_of(&state, user)),
            topic: state.topic.text(),
            missed: Vec::new(),
        }
    }

    fn start(&self, hub: &Inner, state: &mut State, from: StartFrom, looked: bool) -> Result<Start, Need> {
        self.forget_old(hub, state);
        let now = Start { after: state.head, recovered: None, missed: Vec::new() };
        match from {
            StartFrom::Now => Ok(now),
            StartFrom::After(position) => {
                let refused = Start { recovered: Some(false), ..now };
                if position.epoch != self.epoch() || position.offset > state.head {
                    // Another node may have told the client of what has not arrived here.
                    let elsewhere = self.bus_topic.is_some() && self.keeper.is_some() && !looked;
                    return if elsewhere { Err(Need::Newest) } else { Ok(refused) };
                }
                if position.offset + 1 < self.oldest(state) || state.has_lost(position.offset) {
                    return Ok(refused);
                }
                let Some(missed) = self.missed(state, position.offset, Need::After(position.offset))? else {
                    return Ok(refused);
                };
                let bytes: usize = missed.iter().map(|publication| publication.weight()).sum();
                if bytes > hub.config().replay_bytes() {
                    return Ok(refused);
                }
                Ok(Start { after: position.offset, recovered: Some(true), missed })
            }
            StartFrom::Last(count) => {
                let wanted =
                    state.head.saturating_sub(u64::from(count)).max(self.oldest(state).saturating_sub(1));
                let mut missed = match self.missed(state, wanted, Need::Last(count))? {
                    Some(missed) => missed,
                    None => state.tail.iter().cloned().collect(),
                };
                // As many of the newest as may be sent at once.
                let mut room = hub.config().replay_bytes();
                let fitting = missed.iter().rev().take_while(|publication| {
                    let fits = publication.weight() <= room;
                    room = room.saturating_sub(publication.weight());
                    fits
                });
                let skip = missed.len() - fitting.count();
                missed.drain(..skip);
                Ok(Start { after: state.head - missed.len() as u64, recovered: None, missed })
            }
        }
    }

    /// The messages after `offset`, or what must be read before they are here; `None` when they are more than may be
    /// sent at once.
    fn missed(&self, state: &State, offset: u64, need: Need) -> Result<Option<Vec<Arc<Publication>>>, Need> {
        match state.tail.after(offset, state.head) {
            Some(missed) => Ok(Some(missed)),
            None if state.is_exhausted() => Ok(None),
            None => Err(need),
        }
    }

    /// Drops from memory what is not worth keeping any more, and notes where history begins then.
    pub(super) fn forget_old(&self, hub: &Inner, state: &mut State) {
        if self.keeper.is_some() {
            return self.forget_aged(hub, state);
        }
        if self.keeps() {
            state.tail.trim(&self.class().history, hub.now().as_millis());
        }
        state.first = state.head + 1 - state.tail.len() as u64;
    }

    /// The same for a stored room: what is too old may be in the store still, and is not shown.
    fn forget_aged(&self, hub: &Inner, state: &mut State) {
        let keep = Retention { age_max: self.class().history.age_max, ..Retention::default() };
        let held = state.tail.len();
        state.tail.trim(&keep, hub.now().as_millis());
        if state.tail.len() < held {
            state.first = state.first.max(state.head + 1 - state.tail.len() as u64);
        }
    }

    /// Returns how many members are left on the hub; they are told.
    pub(super) fn dismiss(
        self: &Arc<Self>,
        hub: &Inner,
        shard: usize,
        leaver: Option<(&Arc<Client>, Exit)>,
    ) -> usize {
        let mut state = self.lock();
        state.members[shard] -= 1;
        state.total -= 1;
        if state.members[shard] == 0 {
            state.shards &= !(1 << shard);
        }
        if let Some((client, exit)) = leaver {
            self.part(hub, &mut state, client, exit);
        }
        state.total
    }
}
