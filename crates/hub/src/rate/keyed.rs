//! What is remembered of somebody (an address, a user) for as long as it says anything.
//!
//! A map of bounded size, filled by whoever connects, so with keys that strangers choose: hashed with the standard, keyed
//! hasher, split over mutexes that are held for one look. An entry that nobody holds and that says no more than a new one
//! is swept; when there is no place, one that nobody holds goes, whatever it says. Who can come from a million addresses
//! is not stopped by limits on each of them, and must not fill the memory besides; limits on all together are elsewhere.
//!
//! Invariant: at most `max` entries, or twice as many as somebody holds if that is more.

use std::hash::{BuildHasher, Hash, RandomState};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::HashTable;

use super::bucket::Moment;
use crate::sync::{Mutex, MutexGuard, lock};

/// Enough that threads seldom meet.
const PARTS: usize = 64;

/// What is kept of one key.
pub(crate) trait Entry: Default {
    /// It says no more than a new one.
    fn is_blank(&self, now: Moment) -> bool;
}

/// Entries by key.
#[derive(Debug)]
pub(crate) struct Keyed<K, V> {
    hasher: RandomState,
    parts: Box<[Mutex<Part<K, V>>]>,
    max_per_part: usize,
    next_swept: AtomicUsize,
}

/// What is kept of a key, with the key: a table entry is a pointer then.
#[derive(Debug)]
pub(crate) struct Kept<K, V> {
    key: K,
    value: V,
}

impl<K, V: Default> Kept<K, V> {
    /// What a new key has, in no map.
    pub(crate) fn new(key: K) -> Self {
        Self { key, value: V::default() }
    }
}

impl<K, V> Deref for Kept<K, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

#[derive(Debug)]
struct Part<K, V> {
    entries: HashTable<Arc<Kept<K, V>>>,
    /// With so many there is no place for another one.
    max: usize,
}

impl<K: Hash + Eq + Clone, V: Entry> Part<K, V> {
    /// Makes place: what says nothing goes, and half of the rest that nobody holds. Costs a look at each, but so many come
    /// before it is called again.
    fn shed(&mut self, now: Moment, max_per_part: usize) {
        let (mut held, mut stays) = (0, false);
        self.entries.retain(|entry| {
            if Arc::strong_count(entry) > 1 {
                held += 1;
                return true;
            }
            // In a map's order none is older than another: every second one is as good a choice as any.
            stays ^= true;
            stays && !entry.is_blank(now)
        });
        self.max = max_per_part.max(2 * held);
    }
}

impl<K: Hash + Eq + Clone, V: Entry> Keyed<K, V> {
    /// For at most about `max` keys.
    pub(crate) fn new(max: usize) -> Self {
        let max_per_part = max.div_ceil(PARTS).max(1);
        let part = || Mutex::new(Part { entries: HashTable::new(), max: max_per_part });
        Self {
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| part()).collect(),
            max_per_part,
            next_swept: AtomicUsize::new(0),
        }
    }

    /// The key's entry, which exists from now on; it stays for as long as the result is held, at least.
    pub(crate) fn of(&self, key: &K, now: Moment) -> Arc<Kept<K, V>> {
        let hash = self.hasher.hash_one(key);
        let mut part = self.part(hash);
        if let Some(entry) = part.entries.find(hash, |entry| entry.key == *key) {
            return Arc::clone(entry);
        }
        if part.entries.len() >= part.max {
            part.shed(now, self.max_per_part);
        }
        let entry = Arc::new(Kept::new(key.clone()));
        part.entries.insert_unique(hash, Arc::clone(&entry), |entry| self.hasher.hash_one(&entry.key));
        entry
    }

    /// The key's entry, if there is one.
    #[cfg(test)]
    pub(crate) fn get(&self, key: &K) -> Option<Arc<Kept<K, V>>> {
        let hash = self.hasher.hash_one(key);
        self.part(hash).entries.find(hash, |entry| entry.key == *key).cloned()
    }

    fn part(&self, hash: u64) -> MutexGuard<'_, Part<K, V>> {
        // Bits that the table itself does not look at: it takes the lowest for the place, and the highest seven for the tag.
        lock(&self.parts[(hash >> 40) as usize % PARTS])
    }

    /// Forgets what says nothing, in a part of the map; the next call looks at the next part. For a timer to call.
    pub(crate) fn sweep(&self, now: Moment) {
        let mut part = lock(&self.parts[self.next_swept.fetch_add(1, Ordering::Relaxed) % PARTS]);
        let entries = &mut part.entries;
        entries.retain(|entry| Arc::strong_count(entry) > 1 || !entry.is_blank(now));
        // A crowd that has left gives its memory back.
        if entries.capacity() > 64 && entries.len() * 8 < entries.capacity() {
            entries.shrink_to_fit(|entry| self.hasher.hash_one(&entry.key));
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).entries.len()).sum()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate::bucket::{Bucket, Rate};

    #[derive(Debug, Default)]
    struct Note(Bucket);

    impl Entry for Note {
        fn is_blank(&self, now: Moment) -> bool {
            self.0.is_empty(now)
        }
    }

    const RATE: Rate = Rate::per_second(1, 10);

    fn at(seconds: u64) -> Moment {
        Moment::after(Duration::from_secs(seconds))
    }

    #[test]
    fn million_keys_leave_a_bounded_number_of_entries_and_none_after_a_while() {
        let map: Keyed<u32, Note> = Keyed::new(10_000);
        for key in 0..1_000_000 {
            assert!(map.of(&key, at(0)).0.take(RATE, at(0)).is_ok());
        }
        assert!(map.len() <= 10_000 + PARTS, "{}", map.len());
        for _ in 0..PARTS {
            map.sweep(at(2));
        }
        assert_eq!(map.len(), 0);
        assert!(map.parts.iter().all(|part| lock(part).entries.capacity() <= 64), "the memory is given back");
    }

    /// A connection's own entry must never be another one than the next connection of the same key gets.
    #[test]
    fn entries_that_are_held_stay_however_many_others_come() {
        let map: Keyed<u32, Note> = Keyed::new(640);
        let held: Vec<_> = (0..2000).map(|key| map.of(&key, at(0))).collect();
        for key in 2000..50_000 {
            map.of(&key, at(0));
        }
        for _ in 0..PARTS {
            map.sweep(at(100));
        }
        assert!((0..).zip(&held).all(|(key, held)| Arc::ptr_eq(held, &map.of(&key, at(0)))));
        drop(held);
        for _ in 0..PARTS {
            map.sweep(at(100));
        }
        assert_eq!(map.len(), 0);
    }

    /// Whoever goes away and comes back finds what was used up still used up.
    #[test]
    fn entry_outlives_those_who_hold_it_until_it_says_nothing_more() {
        let map: Keyed<&str, Note> = Keyed::new(100);
        while map.of(&"a", at(0)).0.take(RATE, at(0)).is_ok() {}
        for _ in 0..PARTS {
            map.sweep(at(5));
        }
        assert!(map.get(&"a").is_some_and(|entry| entry.0.take(RATE, at(0)).is_err()));
        assert!(map.get(&"b").is_none());
    }
}
