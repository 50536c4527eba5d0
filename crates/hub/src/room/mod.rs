//! A room on this node: its log position, and which shards have members of it.
//!
//! The one place where a room's order is made: under the room's lock a message takes its offset and is
//! appended to the inbox of every shard concerned, so every shard sees the room's messages, joins and
//! announcements in one order. The members themselves belong to the shards (`shard/rooms.rs`).
//!
//! A room whose log is stored takes offsets from its store: a message goes to the room's
//! [keeper](crate::keeper), and comes back here, with its place, when it is durable.

pub(crate) mod amend;
pub(crate) mod directory;
pub(crate) mod follow;
mod guests;
pub(crate) mod history;
pub(crate) mod idle;
pub(crate) mod join;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod presence;
pub(crate) mod receipts;
mod roster;
mod timed;
mod topic;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ecow::EcoString;
use outspoke_bus::Topic as BusTopic;
use outspoke_protocol::{
    Body, Details, Durability, Epoch, Kind, Message, MessageId, Position, Publisher, RoomName, Timestamp,
};
use outspoke_store::{LogKey, LogState, Retention};

use self::load::Loading;
pub(crate) use self::load::message_of;
use self::log::{CacheBudget, Tail};
use self::receipts::Receipts;
use self::roster::Roster;
use self::topic::Topic;
pub(crate) use self::topic::facts_of;
use crate::analytics::Tally;
use crate::class::RoomClass;
use crate::direct::Pair;
use crate::hub::Inner;
use crate::keeper::Keeper;
use crate::publication::Publication;
use crate::quota::Meter;
use crate::rate::bucket::Bucket;
use crate::shard::command::Command;
use crate::sync::{Arc, Mutex, MutexGuard, lock};
use crate::trace::Heard;
use crate::trace::follow::{Sight, Sighting};

/// A room of this hub.
#[derive(Debug)]
pub(crate) struct Room {
    /// Unique in this process, never used again.
    pub(crate) id: RoomId,
    /// `None` for the room that everybody is in.
    pub(crate) name: Option<RoomName>,
    /// Whose it is.
    pub(crate) tenant: EcoString,
    /// What it keeps, tells and allows; another can take its place while it lives, but for what [`Room::reclassify`] keeps.
    class: ArcSwap<RoomClass>,
    /// What an acknowledgement means here, as long as it lives.
    durability: Durability,
    /// What its tenant may use.
    pub(crate) meter: Arc<Meter>,
    /// Whose private conversation this is, if it is one.
    pub(crate) pair: Option<Box<Pair>>,
    /// Where other nodes hear of it, if there are any.
    pub(crate) bus_topic: Option<BusTopic>,
    /// What clients say here, in time.
    pub(crate) messages: Bucket,
    /// Keeps the log of a room that is stored.
    pub(crate) keeper: Option<Arc<Keeper>>,
    /// Zero until a stored room's is known.
    epoch: AtomicU64,
    state: Mutex<State>,
}

/// How long a room whose messages are stored, or that has none, stays when nobody is in it any more: whoever lost a
/// connection comes back within this time.
const CACHE_LINGERS: Duration = Duration::from_secs(10);

/// How long after it was looked for in a stored log what is too old is looked for again: at least, and at most.
const SWEEP_AFTER: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));

/// Where a room is made.
#[derive(Debug)]
pub(crate) struct Home<'a> {
    pub(crate) tenant: &'a EcoString,
    pub(crate) meter: &'a Arc<Meter>,
    pub(crate) shards: usize,
}

/// A room's number in this process.
pub(crate) type RoomId = u64;

#[derive(Debug)]
pub(crate) struct State {
    /// Offset of the newest message.
    head: u64,
    /// Offset of the oldest message that history has; `head + 1` when it has none.
    first: u64,
    /// Messages said so far (see [`Kind::is_said`]).
    ordinal: u64,
    /// Bit n: shard n has members, or is about to.
    shards: u64,
    /// Members by shard.
    members: Vec<u32>,
    total: usize,
    tail: Tail,
    topic: Topic,
    /// What is counted for operators.
    tally: Option<Box<Tally>>,
    /// Of a stored room: what is read of it.
    loading: Option<Box<Loading>>,
    /// Of a stored room: what is known to be missing.
    ahead: Option<Box<follow::Ahead>>,
    /// Of a stored room: when what is too old is looked for in its log.
    sweep_at: Option<tokio::time::Instant>,
    /// Members on other nodes.
    guests: Option<Box<guests::Guests>>,
    /// The named clients, by user.
    roster: Option<Box<Roster>>,
    /// Who has read how much. In a stored room `None` until that is read, elsewhere until somebody says so.
    receipts: Option<Box<Receipts>>,
    /// How long it stays without members.
    pub(super) stay: idle::Stay,
}

/// What the publisher of a message says of it; the room adds the rest.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    pub(crate) from: Option<Publisher>,
    pub(crate) body: Body,
    pub(crate) details: Option<Box<Details>>,
    /// The publisher's own name for it, made unique to the publisher: the same one again publishes nothing.
    pub(crate) key: Option<Bytes>,
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
    /// It was published before, under the same key: this is what became of it then.
    pub duplicate: bool,
}

impl Room {
    /// A room without messages so far, or with those that its store has. `bus_topic`: where other nodes hear of it.
    pub(crate) fn new(
        id: RoomId,
        name: RoomName,
        home: &Home<'_>,
        class: Arc<RoomClass>,
        keeper: Option<(Arc<Keeper>, Arc<CacheBudget>)>,
        bus_topic: Option<BusTopic>,
    ) -> Self {
        let (tenant, meter, shards) = (home.tenant.clone(), Arc::clone(home.meter), home.shards);
        let mut state = State::new(shards);
        let mut epoch = Epoch::random().as_u64();
        if let Some((_, budget)) = &keeper {
            state.loading = Some(Box::default());
            state.tail = Tail::cached(Arc::clone(budget));
            state.topic = Topic::Unread;
            epoch = 0;
        }
        let (state, keeper) = (Mutex::new(state), keeper.map(|(keeper, _)| keeper));
        let (pair, epoch) = (Pair::parse(name.as_str()).map(Box::new), AtomicU64::new(epoch));
        let (durability, class) = (class.durability, ArcSwap::new(class));
        let messages = Bucket::default();
        let name = Some(name);
        Self { id, name, tenant, class, durability, meter, messages, pair, bus_topic, keeper, epoch, state }
    }

    /// The room that everybody is in.
    pub(crate) fn everyone(id: RoomId, class: Arc<RoomClass>, meter: Arc<Meter>, shards: usize) -> Self {
        Self {
            id,
            name: None,
            tenant: EcoString::new(),
            durability: class.durability,
            class: ArcSwap::new(class),
            meter,
            messages: Bucket::default(),
            pair: None,
            bus_topic: None,
            keeper: None,
            epoch: AtomicU64::new(Epoch::random().as_u64()),
            state: Mutex::new(State::new(shards)),
        }
    }

    /// Whether this is the room that everybody is in.
    pub(crate) fn is_everyone(&self) -> bool {
        self.name.is_none()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch::from_u64(self.epoch.load(Ordering::Acquire))
    }

    /// The epoch of its log if this is the first that is said: one that had messages and has lost them has another.
    pub(crate) fn epoch_to_begin_with(&self) -> Epoch {
        let fresh = self.lock().head == 0;
        Some(self.epoch()).filter(|epoch| fresh && epoch.as_u64() != 0).unwrap_or_else(Epoch::random)
    }

    fn set_epoch(&self, epoch: Epoch) {
        self.epoch.store(epoch.as_u64(), Ordering::Release);
    }

    /// Members on this hub.
    pub(crate) fn members(&self) -> usize {
        self.lock().total
    }

    /// Members on every node.
    pub(crate) fn members_everywhere(&self) -> usize {
        self.lock().everybody()
    }

    /// Members, the oldest message's offset and the newest one's.
    pub(crate) fn extent(&self) -> (usize, u64, u64) {
        let state = self.lock();
        (state.everybody(), self.oldest(&state), state.head)
    }

    /// Every message in memory, the oldest first.
    pub(crate) fn all_in_memory(&self) -> Vec<Message> {
        self.lock().tail.iter().filter_map(|publication| publication.message_ref()).cloned().collect()
    }

    /// Forgets the messages in memory.
    pub(crate) fn clear_memory(&self) {
        let mut state = self.lock();
        state.forget_log();
        if self.keeper.is_none() {
            state.first = state.head + 1;
        }
    }

    /// What an acknowledgement means here.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// What the room keeps, tells and allows now: look once per step, lest half of it be done by other rules.
    pub(crate) fn class(&self) -> arc_swap::Guard<Arc<RoomClass>> {
        self.class.load()
    }

    /// Whether the room keeps messages.
    pub(crate) fn keeps(&self) -> bool {
        self.durability != Durability::None
    }

    /// Gives the room another class. What it has, or has not, from its beginning stays: where its messages are kept, who is in
    /// it, who has read how much. A room that begins later has all of the class.
    pub(crate) fn reclassify(self: &Arc<Self>, hub: &Inner, class: &Arc<RoomClass>) {
        let former = self.class.load_full();
        let knows_members = former.presence || former.announce;
        let own = RoomClass {
            durability: former.durability,
            store: former.store.clone(),
            presence: class.presence && knows_members,
            announce: class.announce && knows_members,
            receipts: class.receipts && former.receipts,
            ..(**class).clone()
        };
        self.class.store(if own == **class { Arc::clone(class) } else { Arc::new(own) });
        if self.keeper.is_none() && self.keeps() {
            self.forget_old(hub, &mut self.lock());
        }
        if self.members() == 0 && !self.is_everyone() {
            hub.idle.put_anew(self, self.lingers());
        }
    }

    /// Where the room's store keeps it.
    pub(crate) fn log_key(&self) -> LogKey {
        let room = self.name.as_ref().map_or("", |name| name.as_str());
        LogKey { tenant: self.tenant.clone(), room: EcoString::from(room) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Gives a message of a room that is not stored its place and its receivers.
    pub(crate) fn publish(self: &Arc<Self>, hub: &Inner, draft: Draft) -> Published {
        let now = hub.now();
        let mut state = self.lock();
        if let Some(key) = &draft.key
            && let Some(known) = state.tail.known(key, now.as_millis())
        {
            return Published { duplicate: true, ..known };
        }
        self.publish_now(hub, &mut state, draft, now)
    }

    fn publish_now(
        self: &Arc<Self>,
        hub: &Inner,
        state: &mut State,
        draft: Draft,
        now: Timestamp,
    ) -> Published {
        let key = draft.key.clone();
        let message = self.message(draft, now);
        if let Some(cluster) = &hub.cluster {
            // Offsets of rooms that are not stored are each node's own.
            let amended = message.details.as_ref().and_then(|details| details.target);
            let amended = amended.and_then(|offset| state.tail.at(offset, state.head)?.message_ref());
            cluster.tell_said(self, &message, amended.map(|amended| amended.id.as_u128()));
        }
        let published = self.append(hub, state, message, true);
        if let Some(key) = key {
            state.tail.remember(key, published.clone());
        }
        published
    }

    /// Takes in a message that another node has taken for a room that is not stored. `target`: the id of the one that it amends.
    pub(crate) fn relay(self: &Arc<Self>, hub: &Inner, mut message: Message, target: Option<u128>) {
        if self.keeper.is_some() {
            return;
        }
        let mut state = self.lock();
        if state.total == 0 && !self.keeps() {
            return;
        }
        if let Some(target) = target
            && !self.amend_relayed(hub, &mut state, &mut message, MessageId::from_u128(target))
        {
            return;
        }
        self.append(hub, &mut state, message, false);
    }

    /// Puts a message behind the others of a room that is not stored, and hands it out. `own`: this hub took it.
    fn append(
        self: &Arc<Self>,
        hub: &Inner,
        state: &mut State,
        mut message: Message,
        own: bool,
    ) -> Published {
        let now = message.ts;
        state.head += 1;
        state.ordinal += u64::from(message.kind.is_said());
        message.position = Some(Position { epoch: self.epoch(), offset: state.head });
        state.topic.follow(&message);
        let published = Published {
            id: message.id,
            position: message.position,
            ts: now,
            members: state.total,
            duplicate: false,
        };
        if own {
            hub.analytics.count(self, &mut state.tally, &message);
        }
        self.trace(hub, &message, if own { Heard::Published } else { Heard::Bus }, None);
        let publication = Arc::new(Publication::message(message, hub.dialects.len()));
        self.hand_out(hub, state, &publication);
        if self.keeps() {
            state.tail.count_in(&hub.history_memory);
            state.tail.push(Arc::clone(&publication));
            state.tail.trim(&self.class().history, now.as_millis());
            state.tail.relieve(hub.config().history_memory_bytes_max);
            state.first = state.head + 1 - state.tail.len() as u64;
        } else {
            state.first = state.head + 1;
        }
        if let Some(message) = publication.message_ref() {
            self.note_own_words(hub, state, message, state.ordinal, own);
            self.reach(hub, state.head - 1, message.kind.is_said().then_some(now));
        }
        published
    }

    /// A message of this room that has no place yet. In a private conversation it is for the other one.
    pub(crate) fn message(&self, mut draft: Draft, ts: Timestamp) -> Message {
        if let (Some(pair), Some(from)) = (&self.pair, &draft.from) {
            draft.details.get_or_insert_default().to = Some(pair.other(&from.user).clone());
        }
        Message {
            id: MessageId::random(),
            room: self.name.clone(),
            position: None,
            kind: draft.kind,
            from: draft.from,
            ts,
            body: draft.body,
            details: draft.details,
        }
    }

    /// Tells every member something that is no part of the log.
    pub(crate) fn tell(self: &Arc<Self>, hub: &Inner, publication: &Arc<Publication>) {
        self.hand_out(hub, &self.lock(), publication);
    }

    /// Whether so much more than is worth keeping has gathered in the store that it is worth a step of its own.
    pub(crate) fn is_due_for_trimming(&self, log: &LogState) -> bool {
        let Retention { records_max, bytes_max, .. } = self.class().history;
        let records = (log.head + 1).saturating_sub(log.first);
        let too_many = records_max > 0 && records > records_max + records_max / 8 + 64;
        let too_much = bytes_max > 0 && log.bytes > bytes_max + bytes_max / 8 + 16 * 1024;
        too_many || too_much
    }

    /// Whether it is time to look for what is too old in the log: not at once, since most rooms are not here for long and
    /// all logs are looked at now and then, and once in a part of the time that messages are kept.
    pub(crate) fn is_due_for_sweeping(&self) -> bool {
        let age_max = self.class().history.age_max;
        if age_max.is_zero() {
            return false;
        }
        let (now, after) = (tokio::time::Instant::now(), (age_max / 8).clamp(SWEEP_AFTER.0, SWEEP_AFTER.1));
        let mut state = self.lock();
        let due = state.sweep_at.is_some_and(|at| at <= now);
        if due || state.sweep_at.is_none() {
            state.sweep_at = Some(now + after);
        }
        due
    }

    /// The store has trimmed the log.
    pub(crate) fn trimmed(&self, log: LogState) {
        let mut state = self.lock();
        state.first = state.first.max(log.first);
    }

    /// How long the room stays when nobody is in it any more; `None`: until the hub ends.
    pub(crate) fn lingers(&self) -> Option<Duration> {
        if self.keeper.is_some() {
            return Some(CACHE_LINGERS);
        }
        let state = self.lock();
        let Some(newest) = state.tail.iter().next_back().and_then(|newest| newest.message_ref()) else {
            return Some(CACHE_LINGERS);
        };
        let age_max = self.class().history.age_max;
        // Counted from now rather than from the message: a room stays a little longer rather than too short.
        (!age_max.is_zero()).then_some(age_max).filter(|_| newest.position.is_some())
    }

    /// Remembers a message for a while, for whoever asks what became of it.
    fn trace(&self, hub: &Inner, message: &Message, heard: Heard, stored: Option<Duration>) {
        let Some(name) = &self.name else { return };
        let told = heard == Heard::Published && hub.cluster.is_some() && self.bus_topic.is_some();
        if hub.watches.any() {
            self.show(hub, name, message, heard == Heard::Published);
        }
        hub.traces.note((self.id, &self.tenant, name), message, heard, stored, told);
    }

    /// Tells those who follow the room or the publisher.
    fn show(&self, hub: &Inner, name: &RoomName, message: &Message, published_here: bool) {
        let user = message.from.as_ref().map(|from| &from.user);
        hub.watches.tell_message(&self.tenant, name, user, published_here, || Sighting {
            user: user.cloned(),
            client: message.from.as_ref().map(|from| from.client),
            offset: message.position.map(|position| position.offset),
            id: Some(message.id),
            kind: Some(message.kind.name().into()),
            message: Some(Box::new(message.clone())),
            ..Sighting::new(Sight::Published, hub.now()).at_room(name)
        });
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

impl State {
    fn new(shards: usize) -> Self {
        Self {
            head: 0,
            first: 1,
            ordinal: 0,
            shards: 0,
            members: vec![0; shards],
            total: 0,
            tail: Tail::default(),
            topic: Topic::default(),
            tally: None,
            loading: None,
            ahead: None,
            sweep_at: None,
            guests: None,
            roster: None,
            receipts: None,
            stay: idle::Stay::default(),
        }
    }

    /// What was counted since the last call.
    pub(crate) fn take_tally(&mut self) -> Option<Box<Tally>> {
        self.tally.take()
    }
}
