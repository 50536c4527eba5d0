//! Clients found by something that they carry: their id, their user, their identity.
//!
//! An entry is a pointer: the key is read from the client that it leads to. With keys beside the pointers, the three
//! indexes of a hub took some 260 bytes of an idle connection (4,000 of them, heap counted); they take some 50. Split over mutexes, hashed with the standard, keyed
//! hasher, for many of the texts are chosen by strangers.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::Client;

/// Enough that threads seldom meet.
const PARTS: usize = 64;

/// What clients are found by.
pub(super) trait Key {
    type Of<'a>: Hash;

    fn of(client: &Client) -> Self::Of<'_>;

    /// Whether that is the client's.
    fn is(key: &Self::Of<'_>, client: &Client) -> bool;
}

/// Clients by `K`. A guard never lives past one call.
pub(super) struct Index<K> {
    hasher: RandomState,
    parts: Box<[Mutex<Part>]>,
    key: PhantomData<fn() -> K>,
}

type Part = HashTable<Arc<Client>>;

impl<K: Key> Index<K> {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            key: PhantomData,
        }
    }

    /// Makes `client` the only one with its key; returns who was it before.
    pub(super) fn replace(&self, client: &Arc<Client>) -> Option<Arc<Client>> {
        let key = K::of(client);
        let hash = self.hasher.hash_one(&key);
        match self.part(hash).entry(hash, |held| K::is(&key, held), |held| self.hash(held)) {
            Entry::Occupied(mut held) => Some(std::mem::replace(held.get_mut(), Arc::clone(client))),
            Entry::Vacant(place) => {
                place.insert(Arc::clone(client));
                None
            }
        }
    }

    /// Adds `client` to those with its key.
    pub(super) fn add(&self, client: &Arc<Client>) {
        let hash = self.hash(client);
        self.part(hash).insert_unique(hash, Arc::clone(client), |held| self.hash(held));
    }

    /// Forgets `client`, and nobody else with its key; returns whether it was known.
    pub(super) fn remove(&self, client: &Client) -> bool {
        let hash = self.hash(client);
        let mut part = self.part(hash);
        let Ok(held) = part.find_entry(hash, |held| held.id() == client.id()) else { return false };
        let (former, _) = held.remove();
        // A crowd that has left gives its memory back.
        if part.capacity() > 64 && part.len() * 8 < part.capacity() {
            part.shrink_to_fit(|held| self.hash(held));
        }
        drop(part);
        // May be the last of it: what goes with it goes without the lock.
        drop(former);
        true
    }

    /// A client with this key.
    pub(super) fn find(&self, key: &K::Of<'_>) -> Option<Arc<Client>> {
        let hash = self.hasher.hash_one(key);
        self.part(hash).find(hash, |held| K::is(key, held)).cloned()
    }

    /// All clients with this key, in no order.
    pub(super) fn find_all(&self, key: &K::Of<'_>) -> Vec<Arc<Client>> {
        let hash = self.hasher.hash_one(key);
        self.part(hash).iter_hash(hash).filter(|held| K::is(key, held)).cloned().collect()
    }

    /// Looks at everybody, in no order, with a part of the others kept waiting.
    pub(super) fn for_each(&self, mut look: impl FnMut(&Arc<Client>)) {
        for part in &self.parts {
            lock(part).iter().for_each(&mut look);
        }
    }

    fn hash(&self, client: &Client) -> u64 {
        self.hasher.hash_one(K::of(client))
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, Part> {
        // Bits that the table itself does not look at: it takes the lowest for the place, and the highest seven for the tag.
        lock(&self.parts[(hash >> 40) as usize % PARTS])
    }
}

fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K> fmt::Debug for Index<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients: usize = self.parts.iter().map(|part| lock(part).len()).sum();
        f.debug_struct("Index").field("clients", &clients).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::auth::Identity;
    use crate::class::RoomClass;
    use crate::quota::Quotas;
    use crate::tenant::{Tenant, TenantPolicy, Tenants};

    struct ByUser;

    impl Key for ByUser {
        type Of<'a> = &'a str;

        fn of(client: &Client) -> &str {
            client.identity().user.as_str()
        }

        fn is(user: &&str, client: &Client) -> bool {
            Self::of(client) == *user
        }
    }

    fn tenant() -> Arc<Tenant> {
        let tenants = Tenants::new(1, &RoomClass::default(), TenantPolicy::default(), Quotas::default());
        tenants.get("")
    }

    fn client(tenant: &Arc<Tenant>, user: &str) -> Arc<Client> {
        Arc::new(Client::new(Identity::user(user), Arc::clone(tenant), 0, 0))
    }

    #[test]
    fn clients_of_one_key_are_all_found_and_removed_one_by_one() {
        let (tenant, index) = (tenant(), Index::<ByUser>::new());
        let devices: Vec<_> = (0..500).map(|_| client(&tenant, "ann")).collect();
        devices.iter().for_each(|device| index.add(device));
        index.add(&client(&tenant, "ben"));
        for left in (0..500).rev() {
            assert!(index.remove(&devices[left]));
            assert!(!index.remove(&devices[left]), "it is gone");
            assert_eq!(index.find_all(&"ann").len(), left);
        }
        assert_eq!(index.find_all(&"ben").len(), 1);
        assert!(index.find(&"ann").is_none());
    }

    #[test]
    fn newest_takes_the_place_and_the_former_one_removes_nobody() {
        let (tenant, index) = (tenant(), Index::<ByUser>::new());
        let [first, second] = ["ann"; 2].map(|user| client(&tenant, user));
        assert!(index.replace(&first).is_none());
        assert_eq!(index.replace(&second).map(|former| former.id()), Some(first.id()));
        assert!(!index.remove(&first));
        assert_eq!(index.find(&"ann").map(|held| held.id()), Some(second.id()));
    }

    #[test]
    fn crowd_that_has_left_gives_its_memory_back() {
        let (tenant, index) = (tenant(), Index::<ByUser>::new());
        let crowd: Vec<_> = (0..50_000).map(|n| client(&tenant, &format!("user-{n}"))).collect();
        crowd.iter().for_each(|one| index.add(one));
        let mut found = 0;
        index.for_each(|_| found += 1);
        assert_eq!(found, crowd.len());
        assert!(crowd.iter().all(|one| index.remove(one)));
        assert!(index.parts.iter().all(|part| lock(part).capacity() <= 64));
    }
}
