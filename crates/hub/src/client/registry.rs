//! Which clients are connected: by id, by user for private messages, and by identity for eviction.
//!
//! Written at connect and disconnect, read by pushes from any thread. Sharded mutexes: a look-up is a few
//! tens of nanoseconds beside a system call, and a guard never lives past one statement. Lock order: an
//! identity bucket, then an id bucket; a room, then a user bucket.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ecow::EcoString;
use outspoke_protocol::{ClientId, UserId};

use super::Client;
use crate::auth::Identity;
use crate::rate::gate::Standing;
use crate::tenant::Tenant;

const BUCKETS: usize = 64;

/// Everybody connected to this hub.
#[derive(Debug)]
pub(crate) struct Registry {
    by_id: Buckets<ClientId, Arc<Client>>,
    by_identity: Buckets<IdentityKey, Arc<Client>>,
    /// Connections of users who are somebody.
    by_user: Buckets<UserKey, Vec<Arc<Client>>>,
    count: AtomicUsize,
    max: AtomicUsize,
}

/// What eviction compares. Client-chosen texts: hashed with the standard, keyed hasher.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct IdentityKey {
    tenant: EcoString,
    user: UserId,
    device: EcoString,
}

impl IdentityKey {
    fn of(identity: &Identity) -> Option<Self> {
        (!identity.anonymous).then(|| Self {
            tenant: identity.tenant.clone(),
            user: identity.user.clone(),
            device: identity.device.clone(),
        })
    }
}

/// Whose devices are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct UserKey {
    tenant: EcoString,
    user: UserId,
}

impl UserKey {
    fn of(identity: &Identity) -> Option<Self> {
        (!identity.anonymous).then(|| Self { tenant: identity.tenant.clone(), user: identity.user.clone() })
    }
}

/// A place for one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    registry: Arc<Registry>,
    tenant: Arc<Tenant>,
    /// What it may use beside the tenant's.
    pub(crate) standing: Standing,
}

impl Place {
    /// Whose connection it is.
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tenant.meter.disconnect();
        self.registry.count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Registry {
    pub(crate) fn new(max: usize) -> Self {
        let registry = Self {
            by_id: Buckets::new(),
            by_identity: Buckets::new(),
            by_user: Buckets::new(),
            count: AtomicUsize::new(0),
            max: AtomicUsize::new(0),
        };
        registry.set_max(max);
        registry
    }

    /// How many places there are from now on; zero: no limit. Who has one keeps it.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(if max == 0 { usize::MAX } else { max }, Ordering::Relaxed);
    }

    /// Takes a place for a connection of a tenant: `None` when every place is taken, an error when the tenant has as many as
    /// it may have.
    pub(crate) fn place(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Option<Result<Place, usize>> {
        let max = self.max.load(Ordering::Relaxed);
        let one_more = |count| (count < max).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok()?;
        Some(match tenant.meter.connect() {
            Ok(()) => {
                let (registry, tenant) = (Arc::clone(self), Arc::clone(tenant));
                Ok(Place { registry, tenant, standing: Standing::default() })
            }
            Err(max) => {
                self.count.fetch_sub(1, Ordering::AcqRel);
                Err(max)
            }
        })
    }

    /// Connections, those included that are just being attached.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Makes `client` the holder of its identity and returns the connection that held it before.
    pub(crate) fn claim(&self, client: &Arc<Client>) -> Option<Arc<Client>> {
        let key = IdentityKey::of(client.identity())?;
        self.by_identity.with(&key.clone(), |bucket| bucket.insert(key, Arc::clone(client)))
    }

    /// Makes `client` known by its id and its user.
    pub(crate) fn insert(&self, client: &Arc<Client>) {
        if let Some(key) = UserKey::of(client.identity()) {
            self.by_user.with(&key.clone(), |bucket| {
                // Most users have one connection.
                let devices = bucket.entry(key).or_insert_with(|| Vec::with_capacity(1));
                devices.push(Arc::clone(client));
            });
        }
        let former = self.by_id.with(&client.id(), |bucket| bucket.insert(client.id(), Arc::clone(client)));
        if former.is_none() {
            client.tenant.gauge.enter();
        }
    }

    /// Forgets `client`; its identity too, unless a newer connection holds it by now.
    pub(crate) fn remove(&self, client: &Client) {
        if let Some(key) = IdentityKey::of(client.identity()) {
            self.by_identity.with(&key, |bucket| {
                if bucket.get(&key).is_some_and(|holder| holder.id() == client.id()) {
                    bucket.remove(&key);
                }
            });
        }
        if let Some(key) = UserKey::of(client.identity()) {
            self.by_user.with(&key, |bucket| {
                let Some(devices) = bucket.get_mut(&key) else { return };
                devices.retain(|device| device.id() != client.id());
                if devices.is_empty() {
                    bucket.remove(&key);
                }
            });
        }
        if self.by_id.with(&client.id(), |bucket| bucket.remove(&client.id())).is_some() {
            client.tenant.gauge.leave();
        }
    }

    /// The connections of a user who is somebody.
    pub(crate) fn devices(&self, tenant: &EcoString, user: &UserId) -> Vec<Arc<Client>> {
        let key = UserKey { tenant: tenant.clone(), user: user.clone() };
        self.by_user.with(&key, |bucket| bucket.get(&key).cloned()).unwrap_or_default()
    }

    /// Whether no newer connection has taken the client's identity.
    pub(crate) fn holds(&self, client: &Client) -> bool {
        IdentityKey::of(client.identity()).is_none_or(|key| {
            self.by_identity
                .with(&key, |bucket| bucket.get(&key).is_some_and(|holder| holder.id() == client.id()))
        })
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<Arc<Client>> {
        self.by_id.with(&id, |bucket| bucket.get(&id).cloned())
    }

    /// Looks at everybody, in no order.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Client)) {
        for bucket in &self.by_id.buckets {
            let bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.values().for_each(|client| look(client));
        }
    }

    /// Everybody like that, in no order. Costs a look at each.
    pub(crate) fn matching(&self, like: impl Fn(&Client) -> bool) -> Vec<Arc<Client>> {
        let mut found = Vec::new();
        for bucket in &self.by_id.buckets {
            let bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(bucket.values().filter(|client| like(client)).cloned());
        }
        found
    }

    /// Everybody, in no order: for operators, not for the hot path.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.by_id
            .buckets
            .iter()
            .flat_map(|bucket| {
                bucket.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect::<Vec<_>>()
            })
            .collect()
    }
}

/// A map split over mutexes.
#[derive(Debug)]
struct Buckets<K, V> {
    hasher: std::hash::RandomState,
    buckets: Box<[Mutex<HashMap<K, V>>]>,
}

impl<K: Hash + Eq, V> Buckets<K, V> {
    fn new() -> Self {
        Self {
            hasher: std::hash::RandomState::new(),
            buckets: (0..BUCKETS).map(|_| Mutex::default()).collect(),
        }
    }

    fn with<T>(&self, key: &K, act: impl FnOnce(&mut HashMap<K, V>) -> T) -> T {
        let index = self.hasher.hash_one(key) as usize % BUCKETS;
        let mut bucket = self.buckets[index].lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut bucket);
        // A crowd that has left gives its memory back.
        if bucket.capacity() > 64 && bucket.len() * 8 < bucket.capacity() {
            bucket.shrink_to_fit();
        }
        result
    }
}
