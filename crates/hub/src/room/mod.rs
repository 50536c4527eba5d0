//! A room on this node: its log position, and which shards have members of it.
//!
//! The one place where a room's order is made: under the room's lock a message takes its offset and is
//! appended to the inbox of every shard concerned, so every shard sees the room's messages, joins and
//! announcements in one order. The members themselves belong to the shards (`shard/rooms.rs`).

pub(crate) mod directory;

use outspoke_protocol::{Body, Epoch, Kind, Message, MessageId, Position, Publisher, RoomName, Timestamp};

use crate::hub::Inner;
use crate::publication::Publication;
use crate::shard::command::Command;
use crate::sync::{Arc, Mutex, lock};

/// A room with at least one member on this hub.
#[derive(Debug)]
pub(crate) struct Room {
    /// Unique in this process, never used again.
    pub(crate) id: RoomId,
    /// `None` for the room that everybody is in.
    pub(crate) name: Option<RoomName>,
    pub(crate) epoch: Epoch,
    state: Mutex<State>,
}

/// A room's number in this process.
pub(crate) type RoomId = u64;

#[derive(Debug, Default)]
struct State {
    head: u64,
    /// Bit n: shard n has members, or is about to.
    shards: u64,
    /// Members by shard.
    members: Vec<u32>,
    total: usize,
}

/// What the publisher of a message says of it; the room adds the rest.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) from: Option<Publisher>,
    pub(crate) body: Body,
    /// Part of the room's log, or an announcement beside it.
    pub(crate) logged: bool,
}

/// What became of a published message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The message's id.
    pub id: MessageId,
    /// Its place in the room's log; `None` when the room had no member to keep a log for.
    pub position: Option<Position>,
    /// When it was accepted.
    pub ts: Timestamp,
    /// Members on this hub it is on the way to.
    pub members: usize,
}

impl Room {
    pub(crate) fn new(id: RoomId, name: Option<RoomName>, shards: usize) -> Self {
        let state = State { members: vec![0; shards], ..State::default() };
        Self { id, name, epoch: Epoch::random(), state: Mutex::new(state) }
    }

    pub(crate) fn members(&self) -> usize {
        lock(&self.state).total
    }

    /// Gives the message its place and its receivers.
    pub(crate) fn publish(self: &Arc<Self>, hub: &Inner, draft: Draft) -> Published {
        self.accept(hub, &mut lock(&self.state), draft)
    }

    fn accept(self: &Arc<Self>, hub: &Inner, state: &mut State, draft: Draft) -> Published {
        let (id, ts) = (MessageId::random(), hub.now());
        let position = draft.logged.then(|| {
            state.head += 1;
            Position { epoch: self.epoch, offset: state.head }
        });
        let message = Message {
            id,
            room: self.name.clone(),
            position,
            kind: draft.kind,
            from: draft.from,
            ts,
            body: draft.body,
        };
        self.hand_out(hub, state, &Arc::new(Publication::message(message, hub.dialects.len())));
        Published { id, position, ts, members: state.total }
    }

    /// Sends what has no place in a log to every member.
    pub(crate) fn hand_to_all(self: &Arc<Self>, hub: &Inner, publication: &Arc<Publication>) {
        self.hand_out(hub, &lock(&self.state), publication);
    }

    fn hand_out(self: &Arc<Self>, hub: &Inner, state: &State, publication: &Arc<Publication>) {
        let weight = publication.weight();
        let mut shards = state.shards;
        while shards != 0 {
            let shard = shards.trailing_zeros() as usize;
            shards &= shards - 1;
            let delivery = Command::Deliver { room: Arc::clone(self), publication: Arc::clone(publication) };
            // A shard that has ended has no members left to miss anything.
            let _ = hub.shards[shard].inbox.push(delivery, weight);
        }
    }
}

/// How a client came into a room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    /// The room's head at that moment: messages after it follow.
    pub(crate) position: Position,
    /// Members on this hub, the new one included.
    pub(crate) members: usize,
}
