//! Tenants: each has its own rooms, its own everybody, and its own quotas.
//!
//! Separation is by construction: a client holds its tenant, a tenant owns its directory, and nothing looks a room up
//! anywhere else. A tenant comes into being with its first client or the first look at it, and costs some
//! kilobytes from then on; whoever admits identities decides which names there are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use ecow::EcoString;
use outspoke_protocol::Durability;

use crate::analytics::Gauge;
use crate::class::RoomClass;
use crate::direct::Conversations;
use crate::room::Room;
use crate::room::directory::Directory;

/// One tenant on this hub.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Empty for the one tenant of a hub without tenants.
    pub(crate) name: EcoString,
    pub(crate) directory: Directory,
    pub(crate) conversations: Conversations,
    /// Its connections.
    pub(crate) gauge: Gauge,
    /// The room that everybody of the tenant is in; broadcasts go here. It has no name and never ends.
    pub(crate) everyone: Arc<Room>,
}

/// Every tenant of this hub.
#[derive(Debug)]
pub(crate) struct Tenants {
    by_name: RwLock<HashMap<EcoString, Arc<Tenant>>>,
    /// The one without a name, found without a look-up.
    nameless: Arc<Tenant>,
    next_room: Arc<AtomicU64>,
    rooms: Arc<AtomicUsize>,
    shards: usize,
    /// Of the room that everybody is in.
    class: Arc<RoomClass>,
}

impl Tenants {
    pub(crate) fn new(shards: usize, class: &RoomClass) -> Self {
        let class = Arc::new(RoomClass { durability: Durability::None, announce: false, ..class.clone() });
        let next_room = Arc::new(AtomicU64::new(1));
        let rooms = Arc::new(AtomicUsize::new(0));
        let nameless = Arc::new(Tenant::new(EcoString::new(), shards, &class, &next_room, &rooms));
        Self { by_name: RwLock::default(), nameless, next_room, rooms, shards, class }
    }

    /// Rooms of all tenants.
    pub(crate) fn room_count(&self) -> usize {
        self.rooms.load(Ordering::Acquire)
    }

    /// The tenant of that name, which begins to exist if it did not.
    pub(crate) fn get(&self, name: &str) -> Arc<Tenant> {
        if name.is_empty() {
            return Arc::clone(&self.nameless);
        }
        if let Some(tenant) = self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(tenant);
        }
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let name = EcoString::from(name);
            Arc::new(Tenant::new(name, self.shards, &self.class, &self.next_room, &self.rooms))
        };
        Arc::clone(by_name.entry(EcoString::from(name)).or_insert_with(make))
    }

    /// Every tenant, the nameless one first.
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&self.nameless).chain(by_name.values()).cloned().collect()
    }
}

impl Tenant {
    fn new(
        name: EcoString,
        shards: usize,
        class: &Arc<RoomClass>,
        next_room: &Arc<AtomicU64>,
        rooms: &Arc<AtomicUsize>,
    ) -> Self {
        let everyone =
            Arc::new(Room::everyone(next_room.fetch_add(1, Ordering::Relaxed), Arc::clone(class), shards));
        let directory = Directory::new(name.clone(), shards, Arc::clone(next_room), Arc::clone(rooms));
        Self { name, directory, conversations: Conversations::default(), gauge: Gauge::default(), everyone }
    }
}
