//! The rooms of this hub by name.
//!
//! A room that keeps nothing exists from its first member's join to its last member's leave. One that keeps messages
//! stays for a while after that (`room/idle.rs`). Lock order: a bucket here, then the room, then a shard's inbox.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ecow::EcoString;
use outspoke_protocol::RoomName;
use tokio::time::Instant;

use super::join::{Admission, Newcomer};
use super::presence::Exit;
use super::{Home, Room};
use crate::client::Client;
use crate::error::{JoinError, PublishError};
use crate::hub::Inner;
use crate::quota::{Exceeded, Meter};
use crate::sync::Arc;

const BUCKETS: usize = 64;

type Bucket = std::sync::Mutex<HashMap<RoomName, Arc<Room>>>;

/// Every room of a tenant.
#[derive(Debug)]
pub(crate) struct Directory {
    tenant: EcoString,
    /// How many rooms there may be.
    meter: Arc<Meter>,
    hasher: RandomState,
    buckets: Box<[Bucket]>,
    /// Rooms here.
    count: AtomicUsize,
    /// Rooms on the hub.
    all: Arc<AtomicUsize>,
    next_id: Arc<AtomicU64>,
    shards: usize,
}

/// There are as many rooms as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooManyRooms {
    /// On the hub.
    OnHub { max: usize },
    /// In the tenant, or it takes none.
    InTenant(Exceeded),
}

impl From<TooManyRooms> for JoinError {
    fn from(error: TooManyRooms) -> Self {
        match error {
            TooManyRooms::OnHub { max } => Self::RoomLimit { max },
            TooManyRooms::InTenant(exceeded) => Self::Quota(exceeded.into()),
        }
    }
}

impl From<TooManyRooms> for PublishError {
    fn from(error: TooManyRooms) -> Self {
        match error {
            TooManyRooms::OnHub { max } => Self::RoomLimit { max },
            TooManyRooms::InTenant(exceeded) => Self::Refused(exceeded.into()),
        }
    }
}

impl Directory {
    pub(crate) fn new(
        tenant: EcoString,
        meter: Arc<Meter>,
        shards: usize,
        next_id: Arc<AtomicU64>,
        all: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            tenant,
            meter,
            hasher: RandomState::new(),
            buckets: (0..BUCKETS).map(|_| std::sync::Mutex::default()).collect(),
            count: AtomicUsize::new(0),
            all,
            next_id,
            shards,
        }
    }

    /// Rooms of the tenant.
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

    /// The room of that name, which begins to exist if it did not.
    pub(crate) fn open(&self, hub: &Inner, name: &RoomName) -> Result<Arc<Room>, TooManyRooms> {
        self.open_in(hub, &mut self.bucket(name.as_str()), name)
    }

    fn open_in(
        &self,
        hub: &Inner,
        bucket: &mut HashMap<RoomName, Arc<Room>>,
        name: &RoomName,
    ) -> Result<Arc<Room>, TooManyRooms> {
        if let Some(room) = bucket.get(name) {
            return Ok(Arc::clone(room));
        }
        self.take_place(hub.config().rooms_max)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let class = hub.class_of(name.as_str());
        let keeper = hub.keeper_of(&class).map(|keeper| (keeper, Arc::clone(&hub.history_cache)));
        let room = Arc::new(Room::new(
            id,
            name.clone(),
            &Home { tenant: &self.tenant, meter: &self.meter, shards: self.shards },
            class,
            keeper,
            hub.cluster.as_ref().and_then(|cluster| cluster.topic_of(&self.tenant, name)),
        ));
        bucket.insert(name.clone(), Arc::clone(&room));
        if let (Some(cluster), Some(topic)) = (&hub.cluster, &room.bus_topic) {
            cluster.listen_to(topic);
        }
        Ok(room)
    }

    /// Lets a client into the room of that name: what is published from here on reaches it, nothing before does but
    /// what it asked for.
    pub(crate) fn join(
        &self,
        hub: &Inner,
        name: &RoomName,
        newcomer: Newcomer,
    ) -> Result<(Arc<Room>, Admission), TooManyRooms> {
        // With the bucket held, so that the room does not end between the two.
        let mut bucket = self.bucket(name.as_str());
        let room = self.open_in(hub, &mut bucket, name)?;
        let admission = room.admit(hub, newcomer);
        Ok((room, admission))
    }

    /// Counts one room more, if there may be one.
    fn take_place(&self, max: usize) -> Result<(), TooManyRooms> {
        if self.meter.is_closed() {
            return Err(TooManyRooms::InTenant(Exceeded::Removed));
        }
        let in_tenant = |count| self.meter.room(count).is_ok().then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, in_tenant).map_err(|count| {
            let exceeded = self.meter.room(count).err();
            TooManyRooms::InTenant(exceeded.unwrap_or(Exceeded::Rooms { max: count }))
        })?;
        let on_hub = |count| (count < max).then_some(count + 1);
        self.all.fetch_update(Ordering::AcqRel, Ordering::Relaxed, on_hub).map_err(|_| {
            self.count.fetch_sub(1, Ordering::AcqRel);
            TooManyRooms::OnHub { max }
        })?;
        Ok(())
    }

    /// Undoes one join of `shard`; the last one ends a room that keeps nothing.
    pub(crate) fn leave(
        &self,
        hub: &Inner,
        room: &Arc<Room>,
        shard: usize,
        leaver: &Arc<Client>,
        exit: Exit,
    ) {
        let Some(name) = &room.name else {
            room.dismiss(hub, shard, None);
            return;
        };
        let mut bucket = self.bucket(name.as_str());
        if room.dismiss(hub, shard, Some((leaver, exit))) > 0 {
            return;
        }
        if room.keeps() || room.is_expecting() {
            drop(bucket);
            hub.idle.put(room, room.lingers());
        } else {
            self.end(hub, &mut bucket, name);
        }
    }

    /// Ends a room that nobody has use for. Returns whether it did.
    pub(crate) fn end_if_unused(&self, hub: &Inner, room: &Arc<Room>, now: Instant) -> bool {
        let Some(name) = &room.name else { return false };
        let mut bucket = self.bucket(name.as_str());
        let here = bucket.get(name).is_some_and(|held| held.id == room.id);
        // Ours and the directory's: whoever else holds it is about to do something with it.
        let unused = here && Arc::strong_count(room) <= 2 && room.is_over(now);
        if unused {
            self.end(hub, &mut bucket, name);
        }
        unused
    }

    /// Gives every room the class that its name has by now. A room that begins meanwhile has it already: it looks for its class
    /// with its bucket held.
    pub(crate) fn reclassify(&self, hub: &Inner) {
        for room in self.all() {
            if let Some(name) = &room.name {
                room.reclassify(hub, &hub.class_of(name.as_str()));
            }
        }
    }

    /// Ends every room that nobody is in, whatever it keeps: the tenant is being erased.
    pub(crate) fn end_all(&self, hub: &Inner) {
        for bucket in &self.buckets {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            let unused: Vec<RoomName> =
                bucket.iter().filter(|(_, room)| room.members() == 0).map(|(name, _)| name.clone()).collect();
            for name in unused {
                self.end(hub, &mut bucket, &name);
            }
        }
    }

    fn end(&self, hub: &Inner, bucket: &mut HashMap<RoomName, Arc<Room>>, name: &RoomName) {
        let room = bucket.remove(name.as_str());
        if let (Some(cluster), Some(topic)) = (&hub.cluster, room.and_then(|room| room.bus_topic.clone())) {
            // With the bucket held, so that a room that begins anew is listened to after this.
            cluster.stop_listening_to(&topic);
        }
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.all.fetch_sub(1, Ordering::AcqRel);
        if bucket.capacity() > 64 && bucket.len() * 8 < bucket.capacity() {
            bucket.shrink_to_fit();
        }
    }

    fn bucket(&self, name: &str) -> std::sync::MutexGuard<'_, HashMap<RoomName, Arc<Room>>> {
        let index = self.hasher.hash_one(name) as usize % BUCKETS;
        self.buckets[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
