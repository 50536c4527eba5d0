//! Private conversations: rooms of two users, whose names nobody else can use.
//!
//! A conversation is a room like any other (log, recovery, receipts, amendments), with three differences. Its name is made of
//! the two user ids ([`Pair`]), and only their clients may come in. Every connected device of both is put into it by
//! the first message it would otherwise miss, in the room's order ([`Room::reach`]; the shard's part is in
//! `shard/social.rs`). And who is away finds it at the next connect: conversations are listed by user, in the store
//! together with the message, or in memory where the class keeps its messages there.
//!
//! A device that connects while a message is being placed misses nothing: a message is listed before the connected devices are
//! looked up, a device is known as connected before it looks at the list.
//!
//! On disk: `user, other user` -> when the newest message was said (milliseconds since 1970, 8 bytes, big-endian), for
//! both directions, as a maximum. Where the log is, the log knows.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ecow::{EcoString, eco_format};
use outspoke_protocol::{
    ClientId, Conversation, Conversations as Page, Epoch, ErrorCode, Message, Position, Publisher, Refusal,
    RequestId, RoomName, Timestamp, Unread, UserId,
};
use outspoke_store::{FactKey, FactWrite, LogKey, LogState, StoreError, limits};
use tokio::sync::{OnceCell, Semaphore};

use crate::auth::{Identity, is_unprintable};
use crate::config::HubConfig;
use crate::facts::{self, CONVERSATIONS};
use crate::hub::Inner;
use crate::keeper::Keeper;
use crate::publish::Publication;
use crate::room::receipts::{cursor_keys, marks_of};
use crate::room::{Draft, Room};
use crate::shard::command::Command;
use crate::sync::Arc;
use crate::tenant::Tenant;

/// What every conversation's name begins with, and no other room's that a client may name.
const SIGN: char = '@';
/// Between the two ids; in an id it is encoded.
const BETWEEN: char = '~';
/// Conversations of users whose ids are too long for a name are refused. The names are ours: what clients' own room
/// names may have does not bind them.
pub(crate) const NAME_BYTES_MAX: usize = limits::NAME_BYTES_MAX;
/// Conversations of a tenant that are remembered in memory, for a class that keeps its messages there.
const HELD_MAX: usize = 100_000;
/// Conversations looked at with one read.
const PER_SCAN: usize = 256;
/// Reads for one page: after so many conversations without news, the rest is left to the next page.
const SCANS_MAX: usize = 16;
/// Conversations on a page, where nobody says how many, and at most.
pub(crate) const PAGE: usize = 50;
const PAGE_MAX: usize = 500;
/// Newcomers of a tenant that look at the store at the same moment; others wait for them.
const LOOKS_MAX: usize = 32;

/// Two users who talk, or one who takes notes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    low: UserId,
    high: UserId,
}

impl Pair {
    pub(crate) fn of(one: &UserId, other: &UserId) -> Self {
        let (low, high) = if one <= other { (one, other) } else { (other, one) };
        Self { low: low.clone(), high: high.clone() }
    }

    /// The pair whose conversation has that name. There is one name for each pair, and one pair for each name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (low, high) = name.strip_prefix(SIGN)?.split_once(BETWEEN)?;
        let pair = Self { low: decode(low)?, high: decode(high)? };
        let well_formed = pair.low <= pair.high && !pair.low.as_str().is_empty() && pair.name() == name;
        well_formed.then_some(pair)
    }

    fn name(&self) -> String {
        let mut name = String::from(SIGN);
        encode(self.low.as_str(), &mut name);
        name.push(BETWEEN);
        encode(self.high.as_str(), &mut name);
        name
    }

    /// The conversation's name; `None`: the ids are too long for one.
    pub(crate) fn room(&self) -> Option<RoomName> {
        RoomName::new(&self.name(), NAME_BYTES_MAX).ok()
    }

    pub(crate) fn has(&self, user: &UserId) -> bool {
        self.low == *user || self.high == *user
    }

    /// Who the conversation is with, for one of the two.
    pub(crate) fn other(&self, user: &UserId) -> &UserId {
        if self.low == *user { &self.high } else { &self.low }
    }

    /// Each user once.
    pub(crate) fn users(&self) -> impl Iterator<Item = &UserId> {
        let high = (self.low != self.high).then_some(&self.high);
        std::iter::once(&self.low).chain(high)
    }
}

/// Letters and digits of every script stay; everything else is percent-encoded, so that neither a sign nor something that
/// room names do not have comes through.
fn encode(id: &str, out: &mut String) {
    use std::fmt::Write;
    for c in id.chars() {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') {
            out.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn decode(text: &str) -> Option<UserId> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok().map(UserId::new)
}

/// Whether a name is in the conversations' part of the names.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(SIGN)
}

/// Whether somebody may come into the conversation of a pair.
pub(crate) fn may_enter(config: &HubConfig, identity: &Identity, pair: &Pair) -> bool {
    config.rooms.direct.keeps() && is_somebody(identity) && pair.has(&identity.user)
}

/// Whether the hub can keep something about the user.
pub(crate) fn is_somebody(identity: &Identity) -> bool {
    !identity.anonymous && facts::is_nameable(identity.user.as_str())
}

/// What is kept of a tenant's conversations outside their rooms.
#[derive(Debug)]
pub(crate) struct Conversations {
    /// Whether there are any in the store: see the constants.
    any: AtomicU8,
    looked: OnceCell<()>,
    looks: Semaphore,
    held: Mutex<Held>,
}

const UNKNOWN: u8 = 0;
const NONE: u8 = 1;
const SOME: u8 = 2;

/// Conversations whose messages are in memory.
#[derive(Debug, Default)]
struct Held {
    by_user: HashMap<UserId, BTreeMap<UserId, Timestamp>>,
    /// Entries in `by_user`'s maps.
    count: usize,
}

impl Default for Conversations {
    fn default() -> Self {
        Self {
            any: AtomicU8::new(UNKNOWN),
            looked: OnceCell::new(),
            looks: Semaphore::new(LOOKS_MAX),
            held: Mutex::default(),
        }
    }
}

impl Conversations {
    /// Whether it is known that nobody has ever written to anybody.
    pub(crate) fn is_unused(&self) -> bool {
        self.any.load(Ordering::Acquire) == NONE
    }

    /// Forgets those in memory: the tenant is erased.
    pub(crate) fn clear(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Held::default();
    }

    pub(crate) fn use_it(&self) {
        self.any.store(SOME, Ordering::Release);
    }

    /// Learns, once, whether there are any in the store.
    async fn look(&self, tenant: &EcoString, keeper: &Keeper) -> Result<(), StoreError> {
        let look = async || {
            let page = keeper.scan(tenant.clone(), CONVERSATIONS, Bytes::new(), None, 1).await?;
            let found = if page.facts.is_empty() { NONE } else { SOME };
            // Somebody may have said something meanwhile.
            let _ = self.any.compare_exchange(UNKNOWN, found, Ordering::AcqRel, Ordering::Acquire);
            Ok(())
        };
        self.looked.get_or_try_init(look).await.map(|_| ())
    }

    /// Remembers a conversation whose messages are in memory.
    fn hold(&self, pair: &Pair, ts: Timestamp) {
        let mut held = self.held();
        for user in pair.users() {
            let of_user = held.by_user.entry(user.clone()).or_default();
            let new = of_user.insert(pair.other(user).clone(), ts).is_none();
            held.count += usize::from(new);
        }
        if held.count > 2 * HELD_MAX {
            held.forget_oldest();
        }
    }

    fn forget(&self, user: &UserId, other: &UserId) {
        let mut held = self.held();
        if let Some(of_user) = held.by_user.get_mut(user) {
            let gone = of_user.remove(other).is_some();
            if of_user.is_empty() {
                held.by_user.remove(user);
            }
            held.count -= usize::from(gone);
        }
    }

    /// Forgets every conversation of a user, on both sides.
    pub(crate) fn forget_all_of(&self, user: &UserId) {
        for (other, _) in self.held_of(user, None) {
            self.forget(user, &other);
            self.forget(&other, user);
        }
    }

    fn held_of(&self, user: &UserId, after: Option<&UserId>) -> Vec<(UserId, Timestamp)> {
        let held = self.held();
        let Some(of_user) = held.by_user.get(user) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = of_user.range::<UserId, _>((from, Bound::Unbounded));
        range.map(|(other, ts)| (other.clone(), *ts)).collect()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Drops the older half, so that it need not be done again soon.
    fn forget_oldest(&mut self) {
        let mut times: Vec<_> = self.by_user.values().flat_map(|of_user| of_user.values().copied()).collect();
        let middle = times.len() / 2;
        let (_, &mut limit, _) = times.select_nth_unstable(middle);
        self.by_user.retain(|_, of_user| {
            of_user.retain(|_, ts| *ts > limit);
            !of_user.is_empty()
        });
        self.count = self.by_user.values().map(BTreeMap::len).sum();
    }
}

/// The conversation of a client's user with another one.
///
/// # Errors
/// There are no private messages here, nobody knows who the sender is, or `to` can be no user.
pub(crate) fn conversation_of(hub: &Inner, identity: &Identity, to: &str) -> Result<RoomName, Refusal> {
    if !is_somebody(identity) {
        let detail = "private messages need a user: connect with a user id";
        return Err(Refusal::new(ErrorCode::Unauthorized, detail));
    }
    conversation(hub, &identity.user, to)
}

/// The conversation of two users. Whether they exist only who admits them could say.
///
/// # Errors
/// There are no private messages here, or one of the ids can be no user's.
pub(crate) fn conversation(hub: &Inner, user: &UserId, to: &str) -> Result<RoomName, Refusal> {
    if !hub.config().rooms.direct.keeps() {
        return Err(Refusal::new(ErrorCode::Forbidden, "there are no private messages on this server"));
    }
    let max = hub.config().user_id_bytes_max;
    let valid = |id: &str| facts::is_nameable(id) && id.len() <= max && !id.chars().any(is_unprintable);
    if !valid(to) {
        let detail = eco_format!("a user id has 1 to {max} bytes of printable UTF-8");
        return Err(Refusal::new(ErrorCode::UserNotFound, detail));
    }
    let pair = Pair::of(user, &UserId::new(to));
    pair.room().filter(|_| facts::is_nameable(user.as_str())).ok_or_else(|| {
        let detail =
            eco_format!("both user ids are too long: encoded they have more than {NAME_BYTES_MAX} bytes");
        Refusal::new(ErrorCode::UserNotFound, detail)
    })
}

/// A private message in a user's name, from the application.
pub(crate) fn draft(hub: &Inner, tenant: &EcoString, from: &UserId, publication: Publication) -> Draft {
    let Publication { kind, body, key, .. } = publication;
    let connected = hub.registry.devices(tenant, from).into_iter().next();
    let publisher = match connected {
        Some(client) => Publisher { client: ClientId::from_u128(0), ..client.publisher() },
        None => Publisher { user: from.clone(), name: EcoString::new(), client: ClientId::from_u128(0) },
    };
    // No client's key begins with this byte.
    let key = key.map(|key| [&[0], &key[..]].concat().into());
    Draft { kind, from: Some(publisher), body, details: None, key }
}

/// What becomes durable together with a message of a conversation: that there is one, for both.
pub(crate) fn facts(hub: &Inner, room: &Room, message: &Message) -> Vec<FactWrite> {
    let Some(pair) = room.pair.as_deref().filter(|_| message.kind.is_said()) else { return Vec::new() };
    // Before it is written, so that who connects afterwards looks.
    hub.tenants.get(&room.tenant).conversations.use_it();
    let ts = message.ts.as_millis().max(0).to_be_bytes();
    let fact = |user: &UserId| {
        let name = facts::name(&[user.as_str(), pair.other(user).as_str()]);
        let key = FactKey { tenant: room.tenant.clone(), space: CONVERSATIONS, name };
        FactWrite::Max(key, Bytes::copy_from_slice(&ts))
    };
    pair.users().map(fact).collect()
}

impl Room {
    /// Sees to it that the devices here get what follows `before` of a conversation that was just opened for them.
    pub(crate) fn bring_devices(self: &Arc<Self>, hub: &Inner, before: u64) {
        let _state = self.lock();
        self.reach(hub, before, None);
    }

    /// Sees to it that every connected device of a conversation's users gets what follows `before`. Under the room's lock and
    /// after the message was handed out: so a shard learns of the devices in the room's order, and no later message overtakes.
    pub(crate) fn reach(self: &Arc<Self>, hub: &Inner, before: u64, said: Option<Timestamp>) {
        let Some(pair) = &self.pair else { return };
        if let Some(ts) = said.filter(|_| self.keeper.is_none()) {
            hub.tenants.get(&self.tenant).conversations.hold(pair, ts);
        }
        let after = Position { epoch: self.epoch(), offset: before };
        for client in pair.users().flat_map(|user| hub.registry.devices(&self.tenant, user)) {
            let Some(&key) = client.key.get() else { continue };
            let command = Command::Enroll { room: Arc::clone(self), client: key, after, tried: 0 };
            // A shard that has ended has no devices.
            let _ = hub.shards[usize::from(client.shard)].inbox.push(command, Command::WEIGHT);
        }
    }
}

/// What is wanted of a user's conversations.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) user: UserId,
    pub(crate) request: Option<RequestId>,
    pub(crate) after: Option<UserId>,
    pub(crate) limit: usize,
    /// Only those with something unread.
    pub(crate) news: bool,
}

impl Wish {
    /// What a user is told at connect.
    pub(crate) fn news(user: UserId) -> Self {
        Self { user, request: None, after: None, limit: PAGE, news: true }
    }
}

/// A page of a user's conversations, from memory; `None`: they are in a store.
pub(crate) fn page_in_memory(hub: &Inner, tenant: &Tenant, wish: &Wish) -> Option<Page> {
    if hub.keeper_of(&hub.config().rooms.direct).is_some() {
        return None;
    }
    let mut page = Page { request: wish.request.clone(), page: Vec::new(), next: None };
    let limit = wish.limit.clamp(1, PAGE_MAX);
    for (with, ts) in tenant.conversations.held_of(&wish.user, wish.after.as_ref()) {
        let room = Pair::of(&wish.user, &with).room();
        let Some(room) = room.and_then(|name| tenant.directory.get(name.as_str())) else {
            tenant.conversations.forget(&wish.user, &with);
            continue;
        };
        let (Some((head, unread)), Some(name)) = (room.unread_in_memory(&wish.user), room.name.clone())
        else {
            continue;
        };
        if wish.news && unread.count == 0 {
            continue;
        }
        if page.page.len() == limit {
            page.next = page.page.last().map(|last| last.with.clone());
            break;
        }
        page.page.push(Conversation { room: name, with, head, ts, unread });
    }
    Some(page)
}

/// A page of a user's conversations, wherever they are.
///
/// # Errors
/// The store cannot be read.
pub(crate) async fn page(hub: &Inner, tenant: &Tenant, wish: Wish) -> Result<Page, StoreError> {
    if let Some(page) = page_in_memory(hub, tenant, &wish) {
        return Ok(page);
    }
    let mut page = Page { request: wish.request.clone(), page: Vec::new(), next: None };
    let Some(keeper) = hub.keeper_of(&hub.config().rooms.direct) else { return Ok(page) };
    let limit = wish.limit.clamp(1, PAGE_MAX);
    tenant.conversations.look(&tenant.name, &keeper).await?;
    if tenant.conversations.is_unused() {
        return Ok(page);
    }
    let _turn = tenant.conversations.looks.acquire().await;
    let prefix = facts::prefix(&[wish.user.as_str()]);
    let mut after = wish.after.clone();
    for _ in 0..SCANS_MAX {
        let from = after.as_ref().map(|after| [&prefix[..], after.as_str().as_bytes()].concat().into());
        let scan = keeper.scan(tenant.name.clone(), CONVERSATIONS, prefix.clone(), from, PER_SCAN);
        let facts = scan.await?;
        let entries: Vec<_> = facts
            .facts
            .iter()
            .filter_map(|fact| {
                let with = std::str::from_utf8(fact.name.get(prefix.len()..)?).ok()?;
                let ts = i64::from_be_bytes(fact.value.get(..8)?.try_into().ok()?);
                Some((UserId::new(with), Timestamp::from_millis(ts)))
            })
            .collect();
        let last = entries.last().map(|(with, _)| with.clone());
        for conversation in look_up(tenant, &keeper, &wish.user, entries).await? {
            if wish.news && conversation.unread.count == 0 {
                continue;
            }
            if page.page.len() == limit {
                page.next = page.page.last().map(|last| last.with.clone());
                return Ok(page);
            }
            page.page.push(conversation);
        }
        if !facts.more || last.is_none() {
            return Ok(page);
        }
        after = last;
    }
    page.next = after;
    Ok(page)
}

/// Where each conversation's log is, and what the user has not read of it. Rooms in memory know best.
async fn look_up(
    tenant: &Tenant,
    keeper: &Keeper,
    user: &UserId,
    entries: Vec<(UserId, Timestamp)>,
) -> Result<Vec<Conversation>, StoreError> {
    let named = entries.into_iter().filter_map(|(with, ts)| Some((Pair::of(user, &with).room()?, with, ts)));
    let mut found = Vec::new();
    let mut stored = Vec::new();
    for (room, with, ts) in named {
        let here = tenant.directory.get(room.as_str()).and_then(|room| room.unread_in_memory(user));
        match here {
            Some((head, unread)) => found.push(Conversation { room, with, head, ts, unread }),
            None => stored.push((room, with, ts)),
        }
    }
    if !stored.is_empty() {
        let log = |room: &RoomName| LogKey { tenant: tenant.name.clone(), room: room.as_str().into() };
        let states = keeper.states(stored.iter().map(|(room, ..)| log(room)).collect()).await?;
        let logs: Vec<_> = stored
            .into_iter()
            .zip(states)
            .filter_map(|((room, with, ts), state)| Some((room, with, ts, state?)))
            .collect();
        let keys = |(room, _, _, state): &(RoomName, UserId, Timestamp, LogState)| {
            cursor_keys(&tenant.name, room, Epoch::from_u64(state.epoch), user)
        };
        let values = keeper.facts(logs.iter().flat_map(keys).collect()).await?;
        for ((room, with, ts, state), both) in logs.into_iter().zip(values.chunks(2)) {
            let of = |index: usize| both.get(index).and_then(Option::as_ref);
            let marks = marks_of(of(0), of(1));
            let count = marks.unread(state.head, state.first, state.ordinal);
            let unread = Unread { count, seen: marks.seen, delivered: marks.delivered };
            let head = Position { epoch: Epoch::from_u64(state.epoch), offset: state.head };
            found.push(Conversation { room, with, head, ts, unread });
        }
    }
    found.sort_by(|one, other| one.with.cmp(&other.with));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(one: &str, other: &str) -> Pair {
        Pair::of(&UserId::new(one), &UserId::new(other))
    }

    #[test]
    fn name_is_the_same_from_both_sides_and_says_who() {
        assert_eq!(pair("bob", "alice").name(), "@alice~bob");
        assert_eq!(pair("alice", "bob"), pair("bob", "alice"));
        assert_eq!(pair("a", "a").name(), "@a~a");
        assert_eq!(pair("a", "a").users().count(), 1);
        assert_eq!(pair("анна", "李").name(), "@анна~李");
        assert_eq!(pair("a~b", "c/d@e%f").name(), "@a%7Eb~c%2Fd%40e%25f");
    }

    #[test]
    fn names_that_are_not_exactly_a_pairs_are_nobodys() {
        for name in [
            "", "@", "@~", "@a", "a~b", "@a~", "@~a", "@b~a", "@a~b~c", "@a~%62", "@a~%7e", "@a~b%",
            "@a~b%4", "@a~b%zz", "@a~%FF", "@a~b c", "@@a~b", "@a~%+1",
        ] {
            assert_eq!(Pair::parse(name), None, "{name}");
        }
    }

    #[test]
    fn ids_that_are_too_long_for_a_name_have_none() {
        let long = "%".repeat(200);
        assert_eq!(pair(&long, "b").room(), None);
        assert!(pair(&"x".repeat(128), &"y".repeat(128)).room().is_some());
    }

    #[test]
    fn only_the_two_may_enter() {
        let config = HubConfig::default();
        let pair = pair("alice", "bob");
        assert!(may_enter(&config, &Identity::user("alice"), &pair));
        assert!(may_enter(&config, &Identity::user("bob"), &pair));
        assert!(!may_enter(&config, &Identity::user("carol"), &pair));
        assert!(!may_enter(&config, &Identity { anonymous: true, ..Identity::user("alice") }, &pair));
    }

    #[test]
    fn conversations_in_memory_are_bounded_and_the_newest_stay() {
        let conversations = Conversations::default();
        for number in 0..=HELD_MAX as i64 {
            conversations.hold(&pair("me", &format!("u{number}")), Timestamp::from_millis(number));
        }
        assert!(conversations.held().count <= 2 * HELD_MAX);
        let newest = UserId::new(format!("u{HELD_MAX}"));
        assert!(conversations.held_of(&newest, None).len() == 1);
        assert!(conversations.held_of(&UserId::new("u0"), None).is_empty());
    }

    proptest! {
        /// No two pairs share a name, and whoever is in a name is who the name says.
        #[test]
        fn every_pair_has_a_name_of_its_own(one in "\\PC{1,12}|[a-c@~%/. ]{1,6}", other in "\\PC{1,12}|[a-c@~%/. ]{1,6}") {
            let pair = pair(&one, &other);
            let name = pair.name();
            prop_assert_eq!(Pair::parse(&name), Some(pair.clone()));
            let room = pair.room().expect("such names are room names");
            prop_assert_eq!(room.as_str(), &name);
            for id in [&one, &other] {
                prop_assert!(pair.has(&UserId::new(id.as_str())));
            }
        }

        #[test]
        fn parsing_any_text_does_not_panic(name in "@[ -~é]{0,20}|\\PC{0,20}") {
            if let Some(pair) = Pair::parse(&name) {
                prop_assert_eq!(pair.name(), name);
            }
        }
    }
}
