//! The rulings that this hub knows of, and what they mean for a credential.
//!
//! Looked at by every connection that comes, and by the policy for every request while there is a ruling of that kind; written a
//! few times a minute. Split over locks by whom a ruling is about, so that shards do not wait for each other; a guard never
//! lives past one function of this file. While there are no rulings, a look costs one load of an atomic.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{Timestamp, UserId};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::record::Entry;
use super::{Subject, Verdict};
use crate::admin::{First, Listing};
use crate::affinity::weight;
use crate::auth::Identity;
use crate::clock::CarefulClock;
use crate::policy::Permissions;

const SHELVES: usize = 64;
/// How often it is looked for rulings that have ended.
const SWEEP: Duration = Duration::from_secs(30);

/// Whom rulings are about, as far as they are found together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Token(EcoString, EcoString),
    User(EcoString, UserId),
}

impl Holder {
    fn of(entry: &Entry) -> Self {
        let tenant = entry.tenant.clone();
        match &entry.ruling.subject {
            Subject::Token(id) => Self::Token(tenant, id.clone()),
            Subject::User(user) | Subject::Device { user, .. } => Self::User(tenant, user.clone()),
        }
    }
}

/// Rulings by whom they are about.
type Shelf = HashMap<Holder, Vec<Arc<Entry>>>;

/// What rulings make of a credential.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// It is not accepted any more; who has it should come back with a fresh one, or should not.
    pub(crate) revoked: Option<bool>,
    /// It allows this instead of what it says.
    pub(crate) permissions: Option<Permissions>,
}

/// Every ruling that this hub knows of.
#[derive(Debug)]
pub(crate) struct Book {
    hasher: std::hash::RandomState,
    shelves: Box<[RwLock<Shelf>]>,
    count: AtomicUsize,
    /// How many are there that the policy must ask about.
    roles: AtomicUsize,
    bars: AtomicUsize,
    /// All of them, in 64 bits: nodes that know the same have the same.
    digest: AtomicU64,
    /// What others have said that is no ruling, or one too many.
    pub(super) garbage: AtomicU64,
    /// Whether the stored ones are known.
    pub(super) read: watch::Sender<bool>,
    /// Something may have been missed.
    pub(super) doubt: Notify,
    pub(super) journal: tokio::sync::Mutex<super::keep::Journal>,
    pub(super) sent: super::gossip::Sent,
    pub(super) clock: CarefulClock,
    swept: Mutex<Option<Instant>>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            hasher: std::hash::RandomState::new(),
            shelves: (0..SHELVES).map(|_| RwLock::default()).collect(),
            count: AtomicUsize::new(0),
            roles: AtomicUsize::new(0),
            bars: AtomicUsize::new(0),
            digest: AtomicU64::new(0),
            garbage: AtomicU64::new(0),
            read: watch::Sender::new(true),
            doubt: Notify::new(),
            journal: tokio::sync::Mutex::default(),
            sent: super::gossip::Sent::default(),
            clock: CarefulClock::default(),
            swept: Mutex::default(),
        }
    }
}

impl Book {
    /// How many there are, those included that were lifted and are not forgotten yet.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// What others have said that is no ruling.
    pub(crate) fn garbage(&self) -> u64 {
        self.garbage.load(Ordering::Relaxed)
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest.load(Ordering::Relaxed)
    }

    /// What rulings make of a credential now.
    pub(crate) fn judge(&self, identity: &Identity, now: Timestamp) -> Judgement {
        if self.count() == 0 {
            return Judgement::default();
        }
        let mut judgement = Judgement::default();
        let mut made = i64::MIN;
        self.about(identity, now, |entry| match &entry.ruling.verdict {
            // One that tells to stay away counts more than one that does not.
            Verdict::Revoked { reconnect } => {
                judgement.revoked = Some(*reconnect && judgement.revoked.unwrap_or(true));
            }
            Verdict::Permissions(permissions) if entry.made > made => {
                made = entry.made;
                judgement.permissions = Some(permissions.clone());
            }
            _ => {}
        });
        judgement
    }

    /// What a credential allows instead of what it says, if there is a ruling about that.
    ///
    /// *Cost*: a load, while no ruling changes what anybody may do; otherwise two look-ups.
    pub(crate) fn permissions(
        &self,
        identity: &Identity,
        now: impl Fn() -> Timestamp,
    ) -> Option<Permissions> {
        if self.roles.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.judge(identity, now()).permissions
    }

    /// Until when somebody is kept out of a room, if at all.
    ///
    /// *Cost*: a load, while nobody is kept out of any room; otherwise two look-ups.
    pub(crate) fn barred(
        &self,
        identity: &Identity,
        room: &str,
        now: impl Fn() -> Timestamp,
    ) -> Option<Timestamp> {
        if self.bars.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut until = None;
        self.about(identity, now(), |entry| {
            if matches!(&entry.ruling.verdict, Verdict::Barred { room: held } if held.as_str() == room) {
                until = until.max(Some(entry.ruling.until));
            }
        });
        until
    }

    /// Every ruling that concerns a credential now.
    fn about(&self, identity: &Identity, now: Timestamp, mut look: impl FnMut(&Entry)) {
        let tenant = &identity.tenant;
        let token = (!identity.credential.is_empty())
            .then(|| Holder::Token(tenant.clone(), identity.credential.clone()));
        let user = Holder::User(tenant.clone(), identity.user.clone());
        for holder in token.into_iter().chain([user]) {
            let shelf = self.shelf(&holder).read().unwrap_or_else(PoisonError::into_inner);
            for entry in shelf.get(&holder).into_iter().flatten() {
                let older = identity.issued.is_none_or(|issued| issued < entry.ruling.issued_before);
                let device = match &entry.ruling.subject {
                    Subject::Device { device, .. } => *device == identity.device,
                    _ => true,
                };
                if older && device && entry.holds(now) {
                    look(entry);
                }
            }
        }
    }

    /// What is known under a name.
    pub(super) fn find(&self, of: &Entry) -> Option<Arc<Entry>> {
        let holder = Holder::of(of);
        let shelf = self.shelf(&holder).read().unwrap_or_else(PoisonError::into_inner);
        shelf.get(&holder)?.iter().find(|entry| entry.name == of.name).cloned()
    }

    /// Takes a ruling in, unless a later one about the same is known. Returns whether it was news; an error where there are
    /// `max` already.
    pub(super) fn merge(&self, entry: Arc<Entry>, max: usize) -> Result<bool, Full> {
        let holder = Holder::of(&entry);
        let mut shelf = self.shelf(&holder).write().unwrap_or_else(PoisonError::into_inner);
        let held = shelf.get_mut(&holder).and_then(|all| all.iter_mut().find(|held| held.name == entry.name));
        if let Some(held) = held {
            if !entry.replaces(held) {
                return Ok(false);
            }
            self.uncount(held);
            self.account(&entry);
            *held = entry;
            return Ok(true);
        }
        if self.count() >= max {
            return Err(Full);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.account(&entry);
        shelf.entry(holder).or_default().push(entry);
        Ok(true)
    }

    fn account(&self, entry: &Entry) {
        if let Some(kind) = self.kind(entry) {
            kind.fetch_add(1, Ordering::AcqRel);
        }
        self.digest.fetch_xor(digest_of(entry), Ordering::Relaxed);
    }

    fn uncount(&self, entry: &Entry) {
        if let Some(kind) = self.kind(entry) {
            kind.fetch_sub(1, Ordering::AcqRel);
        }
        self.digest.fetch_xor(digest_of(entry), Ordering::Relaxed);
    }

    fn kind(&self, entry: &Entry) -> Option<&AtomicUsize> {
        match &entry.ruling.verdict {
            _ if entry.lifted => None,
            Verdict::Revoked { .. } => None,
            Verdict::Permissions(_) => Some(&self.roles),
            Verdict::Barred { .. } => Some(&self.bars),
        }
    }

    /// Those of a tenant that hold, after the one of that name, in the order of their names.
    pub(super) fn list(
        &self,
        tenant: &str,
        after: Option<&[u8]>,
        max: usize,
        now: Timestamp,
    ) -> Listing<Arc<Entry>> {
        let mut first = First::new(max);
        for shelf in &self.shelves {
            let shelf = shelf.read().unwrap_or_else(PoisonError::into_inner);
            for entry in shelf.values().flatten() {
                if entry.tenant == tenant
                    && entry.holds(now)
                    && after.is_none_or(|after| *entry.name > *after)
                {
                    first.put(entry.name.clone(), Arc::clone(entry));
                }
            }
        }
        first.into_listing()
    }

    /// All of them, the lifted ones too.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let mut all = Vec::with_capacity(self.count());
        for shelf in &self.shelves {
            let shelf = shelf.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(shelf.values().flatten().cloned());
        }
        all
    }

    /// Whether it is time to [forget](Self::take_ended) again; also where there is nothing to forget, for the clock is
    /// then asked.
    pub(super) fn is_time_to_sweep(&self, now: Instant) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        let due = swept.is_none_or(|last| now.duration_since(last) >= SWEEP);
        if due {
            *swept = Some(now);
        }
        due
    }

    /// Forgets those that nobody needs to remember any more. Returns them by their names.
    pub(super) fn take_ended(&self, now: Timestamp) -> BTreeMap<Bytes, Arc<Entry>> {
        let mut ended = BTreeMap::new();
        for shelf in &self.shelves {
            let mut shelf = shelf.write().unwrap_or_else(PoisonError::into_inner);
            shelf.retain(|_, entries| {
                entries.retain(|entry| {
                    let over = entry.remembered_until() <= now;
                    if over {
                        self.count.fetch_sub(1, Ordering::Relaxed);
                        self.uncount(entry);
                        ended.insert(entry.name.clone(), Arc::clone(entry));
                    }
                    !over
                });
                !entries.is_empty()
            });
            if shelf.capacity() > 64 && shelf.len() * 8 < shelf.capacity() {
                shelf.shrink_to_fit();
            }
        }
        ended
    }

    fn shelf(&self, holder: &Holder) -> &RwLock<Shelf> {
        &self.shelves[self.hasher.hash_one(holder) as usize % SHELVES]
    }

    /// Waits until the stored rulings are known, at most so long. Returns whether they are.
    pub(crate) async fn wait_until_read(&self, patience: Duration) -> bool {
        let mut read = self.read.subscribe();
        tokio::time::timeout(patience, read.wait_for(|read| *read)).await.is_ok()
    }

    /// Whether the stored rulings are known.
    pub(crate) fn is_read(&self) -> bool {
        *self.read.borrow()
    }
}

/// There are as many as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The same on every node.
fn digest_of(entry: &Entry) -> u64 {
    let made = if entry.lifted { format!("-{}", entry.made) } else { entry.made.to_string() };
    weight(&made, &String::from_utf8_lossy(&entry.name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use outspoke_protocol::RoomName;

    use super::*;
    use crate::policy::Action;
    use crate::rulings::Ruling;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn entry(subject: Subject, verdict: Verdict, made: i64) -> Arc<Entry> {
        let ruling = Ruling { subject, verdict, issued_before: at(made), until: at(made + 1000) };
        Arc::new(Entry::new(&"".into(), ruling, at(made), None).unwrap())
    }

    fn user(name: &str) -> Subject {
        Subject::User(UserId::new(name))
    }

    fn issued(name: &str, millis: i64) -> Identity {
        Identity { issued: Some(at(millis)), ..Identity::user(name) }
    }

    const STAY_AWAY: Verdict = Verdict::Revoked { reconnect: false };
    const COME_BACK: Verdict = Verdict::Revoked { reconnect: true };

    #[test]
    fn credentials_from_before_are_revoked_and_later_ones_are_not() {
        let book = Book::default();
        assert_eq!(book.merge(entry(user("ana"), STAY_AWAY, 5000), 10), Ok(true));
        let revoked = |identity: &Identity, now| book.judge(identity, at(now)).revoked;
        assert_eq!(revoked(&issued("ana", 4999), 5500), Some(false));
        assert_eq!(revoked(&Identity::user("ana"), 5500), Some(false), "it does not say when it was issued");
        assert_eq!(revoked(&issued("ana", 5000), 5500), None);
        assert_eq!(revoked(&issued("ben", 1), 5500), None);
        assert_eq!(revoked(&issued("ana", 1), 6000), None, "it has ended");
        assert_eq!(revoked(&issued("ana", 1).of_tenant("acme"), 5500), None, "another tenant's ana");
    }

    #[test]
    fn token_and_device_are_told_apart_and_staying_away_counts_more() {
        let book = Book::default();
        let device = Subject::Device { user: UserId::new("ana"), device: "phone".into() };
        book.merge(entry(device, COME_BACK, 5000), 10).unwrap();
        book.merge(entry(Subject::Token("t-1".into()), STAY_AWAY, 5000), 10).unwrap();
        let with = |device: &str, token: &str| {
            let mut identity = issued("ana", 1).on_device(device);
            identity.credential = token.into();
            book.judge(&identity, at(5500)).revoked
        };
        assert_eq!((with("tablet", "t-2"), with("", "")), (None, None));
        assert_eq!((with("phone", "t-2"), with("tablet", "t-1")), (Some(true), Some(false)));
        assert_eq!(with("phone", "t-1"), Some(false));
    }

    #[test]
    fn latest_role_counts_and_bars_hold_in_their_room() {
        let book = Book::default();
        let role = |pattern: &str| Verdict::Permissions(Permissions::nothing().allow(Action::Join, pattern));
        let device = Subject::Device { user: UserId::new("ana"), device: "".into() };
        assert_eq!(book.permissions(&issued("ana", 1), || at(5500)), None);
        book.merge(entry(device, role("b"), 5002), 10).unwrap();
        book.merge(entry(user("ana"), role("a"), 5001), 10).unwrap();
        let allowed = book.permissions(&issued("ana", 1), || at(5500)).unwrap();
        assert!(allowed.allows(Action::Join, "b") && !allowed.allows(Action::Join, "a"));
        let bar = Verdict::Barred { room: RoomName::new("r", 9).unwrap() };
        book.merge(entry(user("ana"), bar, 5000), 10).unwrap();
        assert_eq!(book.barred(&issued("ana", 1), "r", || at(5500)), Some(at(6000)));
        assert_eq!(book.barred(&issued("ana", 1), "q", || at(5500)), None);
        assert_eq!(book.barred(&issued("ben", 1), "r", || at(5500)), None);
    }

    /// Nodes hear rulings in any order, and some twice.
    #[test]
    fn books_that_heard_the_same_in_any_order_are_the_same() {
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..200 {
            let mut heard = Vec::new();
            for made in 0..12 {
                let name = ["ana", "ben"][random.usize(..2)];
                let verdict = if random.bool() { STAY_AWAY } else { COME_BACK };
                // Several of the same moment.
                let entry = entry(user(name), verdict, 5000 + made / 3);
                heard.push(if random.bool() { Arc::new(entry.lifted(at(5000 + made / 3))) } else { entry });
            }
            let books: Vec<Book> = (0..3)
                .map(|_| {
                    let book = Book::default();
                    random.shuffle(&mut heard);
                    for entry in heard.iter().chain(&heard[..4]) {
                        book.merge(Arc::clone(entry), 10).unwrap();
                    }
                    book
                })
                .collect();
            for book in &books[1..] {
                assert_eq!((book.digest(), book.count()), (books[0].digest(), books[0].count()));
                for name in ["ana", "ben"] {
                    let judge = |book: &Book| book.judge(&issued(name, 1), at(5004));
                    assert_eq!(judge(book), judge(&books[0]));
                }
            }
        }
    }

    #[test]
    fn full_book_takes_no_more_but_changes_and_ended_ones_make_room() {
        let book = Book::default();
        for index in 0..3 {
            book.merge(entry(user(&format!("u{index}")), STAY_AWAY, 5000), 3).unwrap();
        }
        assert_eq!(book.merge(entry(user("other"), STAY_AWAY, 5000), 3), Err(Full));
        assert_eq!(book.merge(entry(user("u1"), COME_BACK, 5001), 3), Ok(true));
        assert!(book.take_ended(at(6000)).is_empty(), "others' clocks may be behind");
        assert_eq!(book.take_ended(at(66_001)).len(), 3);
        assert_eq!((book.count(), book.digest()), (0, 0));
    }

    #[test]
    fn lists_go_on_where_they_ended_and_leave_out_what_was_lifted() {
        let book = Book::default();
        for index in 0..5 {
            book.merge(entry(user(&format!("u{index}")), STAY_AWAY, 5000), 9).unwrap();
        }
        let lifted =
            book.all().iter().find(|entry| entry.ruling.subject == user("u2")).unwrap().lifted(at(5001));
        book.merge(Arc::new(lifted), 9).unwrap();
        let page = book.list("", None, 3, at(5500));
        assert!(page.more && page.items.len() == 3);
        let rest = book.list("", Some(&page.items[2].name), 3, at(5500));
        assert_eq!((rest.items.len(), rest.more), (1, false));
        assert!(book.list("acme", None, 3, at(5500)).items.is_empty());
    }
}
