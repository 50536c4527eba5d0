//! The rooms of this hub by name.
//!
//! A room exists from its first member's join to its last member's leave. Lock order: a bucket here, then the
//! room, then a shard's inbox.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use outspoke_protocol::{Body, Kind, Position, Publisher, RoomName};

use super::{Draft, Joined, Room, State};
use crate::hub::Inner;
use crate::shard::Key;
use crate::shard::command::Command;
use crate::sync::{Arc, lock};

const BUCKETS: usize = 64;

type Bucket = std::sync::Mutex<HashMap<RoomName, Arc<Room>>>;

/// Every room that has members.
#[derive(Debug)]
pub(crate) struct Directory {
    hasher: RandomState,
    buckets: Box<[Bucket]>,
    count: AtomicUsize,
    next_id: AtomicU64,
    shards: usize,
    /// The room that everybody is in; broadcasts go here. It has no name and never ends.
    pub(crate) everyone: Arc<Room>,
}

/// Why a client did not get into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinRefused {
    RoomLimit,
    RoomFull,
}

impl Directory {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            hasher: RandomState::new(),
            buckets: (0..BUCKETS).map(|_| std::sync::Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            next_id: AtomicU64::new(1),
            shards,
            everyone: Arc::new(Room::new(0, None, shards)),
        }
    }

    /// Rooms with members.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Room>> {
        self.bucket(name).get(name).cloned()
    }

    /// Every room's name and members, in no order: for operators.
    pub(crate) fn all(&self) -> Vec<Arc<Room>> {
        let rooms = |bucket: &Bucket| {
            bucket.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>()
        };
        self.buckets.iter().flat_map(rooms).collect()
    }

    /// Counts a client of `shard` as a member and queues its activation in the room's order: what is published
    /// from here on reaches it, nothing before does.
    pub(crate) fn join(
        &self,
        hub: &Inner,
        name: &RoomName,
        shard: usize,
        client: Key,
        ticket: u32,
        newcomer: Option<Publisher>,
    ) -> Result<(Arc<Room>, Joined), JoinRefused> {
        let mut bucket = self.bucket(name.as_str());
        let room = match bucket.get(name) {
            Some(room) => Arc::clone(room),
            None if !self.take_place(hub.config.rooms_max) => return Err(JoinRefused::RoomLimit),
            None => {
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                let room = Arc::new(Room::new(id, Some(name.clone()), self.shards));
                bucket.insert(name.clone(), Arc::clone(&room));
                room
            }
        };
        let members_max = hub.config.room_members_max;
        if members_max > 0 && room.members() >= members_max {
            return Err(JoinRefused::RoomFull);
        }
        let joined = room.admit(hub, shard, client, ticket, newcomer);
        Ok((room, joined))
    }

    /// Counts one room more, if there may be one.
    fn take_place(&self, rooms_max: usize) -> bool {
        let one_more = |count| (count < rooms_max).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok()
    }

    /// Undoes one join of `shard`; the last one ends the room.
    pub(crate) fn leave(&self, hub: &Inner, room: &Arc<Room>, shard: usize, leaver: Option<Publisher>) {
        let Some(name) = &room.name else {
            room.dismiss(hub, shard, None);
            return;
        };
        let mut bucket = self.bucket(name.as_str());
        if room.dismiss(hub, shard, leaver) == 0 {
            bucket.remove(name.as_str());
            self.count.fetch_sub(1, Ordering::AcqRel);
            if bucket.capacity() > 64 && bucket.len() * 8 < bucket.capacity() {
                bucket.shrink_to_fit();
            }
        }
    }

    fn bucket(&self, name: &str) -> std::sync::MutexGuard<'_, HashMap<RoomName, Arc<Room>>> {
        let index = self.hasher.hash_one(name) as usize % BUCKETS;
        self.buckets[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Counts a member and queues its activation. The members it finds are told first, under the same lock: so the
    /// number that the newcomer is given, and the joins and leaves that everybody is told, add up on every side.
    pub(crate) fn admit(
        self: &Arc<Self>,
        hub: &Inner,
        shard: usize,
        client: Key,
        ticket: u32,
        newcomer: Option<Publisher>,
    ) -> Joined {
        let mut state = lock(&self.state);
        self.announce(hub, &mut state, Kind::Join, newcomer);
        state.members[shard] += 1;
        state.total += 1;
        state.shards |= 1 << shard;
        let activation = Command::Activate { room: Arc::clone(self), client, ticket };
        // The shard itself is asking, so its inbox is open.
        let _ = hub.shards[shard].inbox.push(activation, Command::WEIGHT);
        Joined { position: Position { epoch: self.epoch, offset: state.head }, members: state.total }
    }

    /// Returns how many members are left on the hub; they are told.
    fn dismiss(self: &Arc<Self>, hub: &Inner, shard: usize, leaver: Option<Publisher>) -> usize {
        let mut state = lock(&self.state);
        state.members[shard] -= 1;
        state.total -= 1;
        if state.members[shard] == 0 {
            state.shards &= !(1 << shard);
        }
        self.announce(hub, &mut state, Kind::Leave, leaver);
        state.total
    }

    /// Tells the members who came or went, unless they are so many that nobody could follow.
    fn announce(self: &Arc<Self>, hub: &Inner, state: &mut State, kind: Kind, who: Option<Publisher>) {
        let crowd = state.total > hub.config.announce_members_max;
        if let Some(who) = who.filter(|_| state.total > 0 && !crowd) {
            self.accept(hub, state, Draft { kind, from: Some(who), body: Body::Empty, logged: false });
        }
    }
}
