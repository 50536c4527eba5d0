//! The rooms that a client is in, or wants to be in, and what their streams have.
//!
//! A room is joined once per connection however many streams it has. Every stream has its own place in the room's log;
//! the one rule of delivery is that the message after that place is the only one that may be yielded, unless a gap is
//! yielded before. A stream that was polled too slowly, or whose room could not be recovered, *lags*: it is fed from the
//! room's history until it has caught up, and what history has not is a gap. So nothing is lost silently, and nothing is
//! doubled, whichever way it came.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::outbox::{Outbox, Pause, UNANSWERED};
use super::wire::{Head, History, Subscribed, WireGap};
use crate::client::Client;
use crate::error::{Error, Refusal};
use crate::event::{Gap, GapReason, Joined};
use crate::position::Position;
use crate::queue::{Item, Queue};

/// Messages asked for at once when a stream lags.
const PAGE: usize = 200;
/// Live messages that wait for a stream to be recovered.
const WAITING_MAX: usize = 4096;

/// What a stream gets when the client could not be there all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recover {
    /// Everything that the room still has, in order; the rest is a gap.
    #[default]
    Replay,
    /// What is new, and a gap for what was passed over.
    Latest,
    /// What is new, and nothing is said.
    None,
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Start {
    #[default]
    Live,
    Last(u32),
    Since(Position),
}

/// A stream that wants to begin.
pub(crate) struct Subscription {
    pub(crate) queue: Arc<Queue>,
    pub(crate) start: Start,
    pub(crate) recover: Recover,
    /// Told when the room was joined, or was not.
    pub(crate) ready: Option<oneshot::Sender<Result<(), Error>>>,
    /// The stream has other rooms as well: the end of this one is not its own.
    pub(crate) shared: bool,
}

struct Subscriber {
    queue: Arc<Queue>,
    start: Start,
    recover: Recover,
    ready: Option<oneshot::Sender<Result<(), Error>>>,
    shared: bool,
    /// The last message in the queue, or the place before the first.
    at: Option<Position>,
    lag: Option<Lag>,
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    id: i64,
    /// It is made again then, under the same id: whichever of the answers comes counts.
    again: Instant,
}

impl Asked {
    fn at(now: Instant, id: i64) -> Self {
        Self { id, again: now + UNANSWERED }
    }
}

/// The id for a request that may have been made before.
fn id_of(asked: Option<Asked>, next_id: &mut i64) -> i64 {
    asked.map_or_else(
        || {
            *next_id += 1;
            *next_id
        },
        |asked| asked.id,
    )
}

/// A stream that is behind.
struct Lag {
    /// The newest message that it must have before it follows again.
    head: u64,
    /// The request for its next page.
    asked: Option<Asked>,
    /// No request before it is over.
    pause: Pause,
    /// What came meanwhile, from `head` on without a hole.
    waiting: VecDeque<(Position, Item)>,
    /// How much may wait; beyond it, `head` moves on and history must have it. Nothing, if the consumer is slow.
    waiting_max: usize,
}

impl Lag {
    /// The consumer is slow: what comes is left to history.
    fn slow(head: u64) -> Self {
        Self { head, asked: None, pause: Pause::default(), waiting: VecDeque::new(), waiting_max: 0 }
    }

    /// The stream is to be recovered, and what comes meanwhile can wait.
    fn recovery(head: u64) -> Self {
        Self { waiting_max: WAITING_MAX, ..Self::slow(head) }
    }

    /// Everything up to `head` is history's.
    fn came_to(&mut self, head: u64) {
        self.waiting.clear();
        self.waiting_max = 0;
        self.head = self.head.max(head);
    }

    /// A message came. Where it cannot wait, history must have it and what waited before it.
    fn came(&mut self, position: Position, item: impl FnOnce() -> Item) {
        if self.waiting.len() < self.waiting_max {
            self.waiting.push_back((position, item()));
        } else {
            self.came_to(position.offset);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Absent,
    /// Asked for, with these newest messages.
    Joining(Asked, Option<u32>),
    Joined,
}

impl Status {
    /// The request to come in that is not answered yet.
    const fn asked(self) -> Option<Asked> {
        match self {
            Self::Joining(asked, _) => Some(asked),
            Self::Absent | Self::Joined => None,
        }
    }
}

pub(super) struct Room {
    subscribers: Vec<Subscriber>,
    /// Handles that have used the room, and may again.
    users: Vec<Weak<Alive>>,
    token: Option<Arc<str>>,
    /// The handle that was given the token.
    token_of: Weak<Alive>,
    status: Status,
    /// No request to come in before it is over.
    pause: Pause,
    /// Rooms are come into in the order in which they were asked for.
    order: u64,
    /// The newest message that came.
    place: Option<Position>,
    /// Messages up to here were said before the client came.
    replayed_to: u64,
}

impl Room {
    fn new(order: u64) -> Self {
        Self {
            subscribers: Vec::new(),
            users: Vec::new(),
            token: None,
            token_of: Weak::new(),
            status: Status::Absent,
            pause: Pause::default(),
            order,
            place: None,
            replayed_to: 0,
        }
    }

    fn is_wanted(&self, name: &str, outbox: &Outbox) -> bool {
        !self.subscribers.is_empty() || !self.users.is_empty() || outbox.needs(name)
    }

    /// The place that a request to come in names: that of the stream that is furthest behind, of those that keep up.
    fn recover_from(&self) -> Option<Position> {
        let replays = || self.subscribers.iter().filter(|subscriber| subscriber.recover == Recover::Replay);
        let slow = |subscriber: &Subscriber| {
            subscriber.lag.as_ref().is_some_and(|lag| lag.waiting_max == 0) && subscriber.queue.room() == 0
        };
        let place = self.place.filter(|_| replays().next().is_some());
        let current = |at: &Position| self.place.is_none_or(|place| place.epoch == at.epoch);
        let behind = replays().filter(|subscriber| !slow(subscriber)).filter_map(|subscriber| subscriber.at);
        behind.filter(current).min_by_key(|at| at.offset).or(place)
    }

    /// The server has let the client in, with the newest messages if it was asked for `last`.
    fn let_in(&mut self, name: &str, last: Option<u32>, json: &str) {
        let wire: Subscribed = match serde_json::from_str(json) {
            Ok(wire) => wire,
            Err(error) => {
                tracing::warn!(room = name, %error, "what the server says of a room is not understood");
                return;
            }
        };
        let here = wire.position();
        self.status = Status::Joined;
        self.pause = Pause::default();
        self.place = Some(here);
        self.replayed_to = wire.head;
        for subscriber in &mut self.subscribers {
            match (subscriber.at, subscriber.start) {
                (Some(_), _) => {}
                (None, Start::Last(count)) if last != Some(count) => {
                    let offset = wire.head.saturating_sub(count.into()).max(wire.first.saturating_sub(1));
                    subscriber.at = Some(Position { offset, ..here });
                }
                (None, Start::Live) if last.is_some() => {
                    subscriber.at = Some(Position { offset: wire.head, ..here });
                }
                (None, _) => subscriber.at = Some(here),
            }
            subscriber.queue.push(Item::Joined(Box::new(joined(&wire))));
            reconcile(subscriber, here, wire.first);
            tell_ready(subscriber);
        }
    }
}

/// Lives as long as a handle of a room that may use it.
pub(crate) struct Alive {
    pub(crate) client: Client,
}

impl Drop for Alive {
    fn drop(&mut self) {
        // The room may be left now.
        self.client.handle().shared.bell.notify_one();
    }
}

/// Every room by its name.
pub(super) struct Rooms {
    map: BTreeMap<Arc<str>, Room>,
    /// How many there ever were.
    count: u64,
    /// Nothing is asked for before it is over: the server would ignore it, and might not even say so.
    pause: Pause,
}

/// What the rooms want to be sent.
pub(super) type Frames = Vec<String>;

impl Rooms {
    pub(super) fn new() -> Self {
        Self { map: BTreeMap::new(), count: 0, pause: Pause::default() }
    }

    fn room(&mut self, name: &Arc<str>) -> &mut Room {
        self.map.entry(Arc::clone(name)).or_insert_with(|| {
            self.count += 1;
            Room::new(self.count)
        })
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A request waits for this room: it is come into for as long as the outbox has one.
    pub(super) fn need(&mut self, name: &Arc<str>) {
        self.room(name);
    }

    /// Whether requests may be made in this room.
    pub(super) fn is_joined(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|room| room.status == Status::Joined)
    }

    /// The room is used by a handle: the client stays in it for as long as `user` lives.
    pub(super) fn uses(&mut self, name: &Arc<str>, user: &Arc<Alive>) {
        let room = self.room(name);
        let user = Arc::downgrade(user);
        if !room.users.iter().any(|known| known.ptr_eq(&user)) {
            room.users.push(user);
        }
    }

    pub(super) fn set_token(&mut self, name: &Arc<str>, token: Arc<str>, holder: &Arc<Alive>) {
        let room = self.room(name);
        room.token = Some(token);
        room.token_of = Arc::downgrade(holder);
    }

    pub(super) fn subscribe(&mut self, name: &Arc<str>, subscription: Subscription) {
        let room = self.room(name);
        let Subscription { queue, start, recover, ready, shared } = subscription;
        let mut new = Subscriber { queue, start, recover, ready, shared, at: None, lag: None };
        if let Start::Since(position) = start {
            new.at = Some(position);
        }
        if room.status == Status::Joined
            && let Some(place) = room.place
        {
            // The room is here already: the stream starts from what is known of it.
            match start {
                Start::Live => new.at = Some(place),
                Start::Last(count) => {
                    let offset = place.offset.saturating_sub(count.into());
                    new.at = Some(Position { offset, ..place });
                    new.lag = (offset < place.offset).then(|| Lag::recovery(place.offset));
                }
                Start::Since(_) => reconcile(&mut new, place, 1),
            }
            tell_ready(&mut new);
        }
        room.subscribers.push(new);
    }

    /// A conversation that a stream of private messages begins to follow, having seen it up to `place`.
    pub(super) fn follow(&mut self, name: &Arc<str>, place: Position, queues: &[Arc<Queue>]) {
        for queue in queues {
            let subscription = Subscription {
                queue: Arc::clone(queue),
                start: Start::Since(place),
                recover: Recover::Replay,
                ready: None,
                shared: true,
            };
            self.subscribe(name, subscription);
        }
    }

    /// The server has put the client into a room by itself.
    pub(super) fn put_into(&mut self, name: &Arc<str>, json: &str) {
        let room = self.room(name);
        if room.status == Status::Absent {
            // The same as an answer to a request that was never made.
            room.let_in(name, None, json);
        }
    }

    /// Names of conversations among the rooms.
    pub(super) fn conversations(&self) -> Vec<(Arc<str>, Position)> {
        let conversations = self.map.iter().filter(|(name, _)| name.starts_with('@'));
        conversations.filter_map(|(name, room)| Some((Arc::clone(name), room.place?))).collect()
    }

    /// The connection is gone.
    pub(super) fn disconnected(&mut self) {
        self.pause = Pause::default();
        for room in self.map.values_mut() {
            room.status = Status::Absent;
            room.pause = Pause::default();
            for subscriber in &mut room.subscribers {
                // Recovered anew, from what was handed out.
                subscriber.lag.take_if(|lag| lag.waiting_max > 0);
                if let Some(lag) = &mut subscriber.lag {
                    lag.asked = None;
                }
            }
        }
    }

    /// Ends every stream.
    pub(super) fn end(&mut self, error: &Error) {
        for (_, mut room) in std::mem::take(&mut self.map) {
            for subscriber in room.subscribers.drain(..) {
                end(subscriber, error, true);
            }
        }
    }

    /// Comes into rooms, goes out of rooms, and asks for what streams lack.
    pub(super) fn poll(&mut self, now: Instant, outbox: &Outbox, next_id: &mut i64, frames: &mut Frames) {
        let mut joins = Vec::new();
        let paused = !self.pause.is_over(now);
        self.map.retain(|name, room| {
            room.subscribers.retain(|subscriber| !subscriber.queue.is_closed());
            room.users.retain(|user| user.strong_count() > 0);
            if !room.is_wanted(name, outbox) {
                if room.status != Status::Absent {
                    frames.push(json!({ "type": "unsubscribe", "room": &**name }).to_string());
                }
                // Messages that are still under way find no room, and are passed over.
                room.status = Status::Absent;
                room.place = None;
                return room.token_of.strong_count() > 0;
            }
            if paused {
                return true;
            }
            let due = match room.status {
                Status::Absent => true,
                Status::Joining(asked, _) => now >= asked.again,
                Status::Joined => false,
            };
            if due && room.pause.is_over(now) {
                joins.push((room.order, Arc::clone(name)));
            }
            if room.status == Status::Joined {
                for subscriber in &mut room.subscribers {
                    ask(name, subscriber, now, next_id, frames);
                }
            }
            true
        });
        joins.sort_unstable();
        for (_, name) in joins {
            if let Some(room) = self.map.get_mut(&name) {
                let id = id_of(room.status.asked(), next_id);
                frames.push(join_frame(&name, room, Asked::at(now, id)));
            }
        }
    }

    /// When [`poll`](Self::poll) has something to do although nothing came.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let waits = self.map.values().flat_map(|room| {
            let lags = room.subscribers.iter().filter_map(|subscriber| subscriber.lag.as_ref());
            let own = (&room.pause, room.status.asked());
            lags.map(|lag| (&lag.pause, lag.asked)).chain([own])
        });
        let waits = waits.chain([(&self.pause, None)]);
        let moments = waits.flat_map(|(pause, asked)| [pause.until(), asked.map(|asked| asked.again)]);
        moments.flatten().filter(|moment| *moment > now).min()
    }

    /// The server did not even read what it was asked.
    pub(super) fn ignored(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.pause.ignored(retry_after, now);
        for room in self.map.values_mut() {
            if let Status::Joining(asked, _) = &mut room.status {
                asked.again = now;
            }
            let lags = room.subscribers.iter_mut().filter_map(|subscriber| subscriber.lag.as_mut());
            for asked in lags.filter_map(|lag| lag.asked.as_mut()) {
                asked.again = now;
            }
        }
    }

    /// The answer to a request to come in. Returns whether it was one of ours.
    pub(super) fn subscribed(&mut self, name: &str, id: i64, json: &str) -> bool {
        let Some(room) = self.map.get_mut(name) else { return false };
        let last = match room.status {
            Status::Joining(asked, last) if asked.id == id => last,
            _ => return false,
        };
        room.let_in(name, last, json);
        self.pause.accepted();
        true
    }

    /// A request of the rooms' own was refused. Returns whether it was one.
    pub(super) fn refused(&mut self, id: i64, refusal: &Refusal, now: Instant, outbox: &mut Outbox) -> bool {
        let joining = |room: &Room| room.status.asked().is_some_and(|asked| asked.id == id);
        if let Some((name, room)) = self.map.iter_mut().find(|(_, room)| joining(room)) {
            room.status = Status::Absent;
            if refusal.temporary {
                room.pause.refused(refusal.retry_after, now);
                return true;
            }
            let error = Error::Refused(Box::new(refusal.clone()));
            for subscriber in room.subscribers.drain(..) {
                end(subscriber, &error, false);
            }
            room.users.clear();
            outbox.fail_room(name, &error);
            return true;
        }
        let Some(subscriber) = self.asking(id) else { return false };
        let Some(lag) = &mut subscriber.lag else { return true };
        lag.asked = None;
        if refusal.temporary {
            lag.pause.refused(refusal.retry_after, now);
        } else {
            let head = lag.head;
            give_up(subscriber, head);
        }
        true
    }

    /// The stream that has asked for a page.
    fn asking(&mut self, id: i64) -> Option<&mut Subscriber> {
        let asks = |subscriber: &&mut Subscriber| {
            let asked = subscriber.lag.as_ref().and_then(|lag| lag.asked);
            asked.is_some_and(|asked| asked.id == id)
        };
        self.map.values_mut().flat_map(|room| room.subscribers.iter_mut()).find(asks)
    }

    /// The server has taken the client out.
    pub(super) fn removed(&mut self, name: &str, refusal: Option<Refusal>, outbox: &mut Outbox) {
        let Some(room) = self.map.get_mut(name) else { return };
        if room.status != Status::Joined {
            return;
        }
        let error = Error::Removed { room: name.into(), refusal: refusal.map(Box::new) };
        room.status = Status::Absent;
        room.users.clear();
        for subscriber in room.subscribers.drain(..) {
            end(subscriber, &error, false);
        }
        outbox.fail_room(name, &error);
    }

    /// The server does not have the client in a room in which it should be.
    pub(super) fn absent(&mut self, name: &str) {
        if let Some(room) = self.map.get_mut(name)
            && room.status == Status::Joined
        {
            room.status = Status::Absent;
        }
    }

    /// A message or notice of a room.
    pub(super) fn deliver(&mut self, name: &str, head: &Head<'_>, json: &str, bytes: Option<&Bytes>) {
        let Some(room) = self.map.get_mut(name) else { return };
        if room.status != Status::Joined {
            return;
        }
        let Some(position) = head.position() else {
            if !head.is_notice() {
                return;
            }
            let item = Item::Frame { json: json.into(), bytes: bytes.cloned(), replayed: false };
            for subscriber in &room.subscribers {
                // Notices are of the moment: who is behind does without.
                if subscriber.lag.is_none() && subscriber.queue.room() > 0 {
                    subscriber.queue.push(item.clone());
                }
            }
            return;
        };
        if room.place.is_some_and(|place| place.epoch == position.epoch && position.offset <= place.offset) {
            return;
        }
        room.place = Some(position);
        let replayed = position.offset <= room.replayed_to;
        let mut shared: Option<Arc<str>> = None;
        for subscriber in &mut room.subscribers {
            let item = || {
                let json = Arc::clone(shared.get_or_insert_with(|| json.into()));
                Item::Frame { json, bytes: bytes.cloned(), replayed }
            };
            hand_out(subscriber, position, item);
        }
    }

    /// What is said to everybody.
    pub(super) fn announce(&mut self, json: &str) {
        let item = Item::Frame { json: json.into(), bytes: None, replayed: false };
        for subscriber in self.map.values().flat_map(|room| &room.subscribers) {
            if subscriber.queue.room() > 0 {
                subscriber.queue.push(item.clone());
            }
        }
    }

    /// The server has passed something over.
    pub(super) fn gap(&mut self, name: &str, gap: &WireGap) {
        let Some(room) = self.map.get_mut(name) else { return };
        let to = Position { epoch: gap.epoch, offset: gap.offset };
        room.place = Some(to);
        room.replayed_to = 0;
        for subscriber in &mut room.subscribers {
            match subscriber.at {
                Some(at) if at.epoch == to.epoch && gap.missed > 0 => {
                    if let Some(lag) = &mut subscriber.lag {
                        // It comes to that by its own way.
                        lag.came_to(to.offset);
                    } else if at.offset < to.offset {
                        push_gap(subscriber, to, GapReason::Overflow);
                    }
                }
                _ => {
                    push_gap(subscriber, to, GapReason::Epoch);
                    subscriber.lag = None;
                }
            }
        }
    }

    /// A page for a stream that lags. Returns whether it was asked for.
    pub(super) fn page(&mut self, id: i64, json: &str) -> bool {
        if self.asking(id).is_none() {
            return false;
        }
        self.pause.accepted();
        let Some(subscriber) = self.asking(id) else { return false };
        let Some(lag) = &mut subscriber.lag else { return true };
        lag.asked = None;
        lag.pause = Pause::default();
        let head = lag.head;
        let page: History<'_> = match serde_json::from_str(json) {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(%error, "a page of history is not understood");
                give_up(subscriber, head);
                return true;
            }
        };
        if subscriber.at.is_none_or(|at| at.epoch != page.epoch) {
            let to = Position { epoch: page.epoch, offset: page.first.saturating_sub(1) };
            push_gap(subscriber, to, GapReason::Epoch);
        }
        let any = !page.messages.is_empty();
        for message in page.messages {
            take(subscriber, message.get(), head);
        }
        let at = subscriber.at.map_or(0, |at| at.offset);
        if at >= head {
            catch_up(subscriber);
        } else if !any {
            // What was there when the page was made, and is not in it, is not kept. What came since may be.
            give_up(subscriber, if page.head > at { head.min(page.head) } else { head });
        }
        true
    }
}

/// Gives a stream the message at `position`, says what is missing before it, or leaves it for later.
fn hand_out(subscriber: &mut Subscriber, position: Position, item: impl FnOnce() -> Item) {
    let Some(at) = subscriber.at else { return };
    let before = Position { offset: position.offset.saturating_sub(1), ..position };
    if at.epoch != position.epoch {
        // The log has changed without a word, which a server never does; it is said all the same.
        subscriber.lag = None;
        push_gap(subscriber, before, GapReason::Epoch);
    } else if position.offset <= at.offset {
        return;
    } else if let Some(lag) = &mut subscriber.lag {
        return lag.came(position, item);
    } else if before.offset > at.offset {
        push_gap(subscriber, before, GapReason::Lost);
    } else if subscriber.queue.room_or_ask() == 0 {
        subscriber.lag = Some(Lag::slow(position.offset));
        return;
    }
    subscriber.queue.push(item());
    subscriber.at = Some(position);
}

/// A stream has what it lacked: what waited follows.
fn catch_up(subscriber: &mut Subscriber) {
    let Some(lag) = subscriber.lag.take() else { return };
    for (position, item) in lag.waiting {
        hand_out(subscriber, position, || item);
    }
}

/// Brings a stream's place and the room's together, after coming in.
fn reconcile(subscriber: &mut Subscriber, here: Position, first: u64) {
    let Some(at) = subscriber.at else { return };
    let behind = at.epoch != here.epoch || at.offset < here.offset;
    match subscriber.recover {
        Recover::None => subscriber.at = Some(here),
        Recover::Latest if behind => push_gap(subscriber, here, GapReason::Skipped),
        Recover::Latest => {}
        Recover::Replay => {
            if at.epoch != here.epoch {
                let to = Position { offset: first.saturating_sub(1).min(here.offset), ..here };
                subscriber.lag = None;
                push_gap(subscriber, to, GapReason::Epoch);
            }
            if subscriber.at.is_some_and(|at| at.offset < here.offset) {
                match &mut subscriber.lag {
                    Some(lag) => lag.came_to(here.offset),
                    None => subscriber.lag = Some(Lag::recovery(here.offset)),
                }
            }
        }
    }
}

/// Takes a message of a page, and says what lies between it and the last.
///
/// What is beyond `head` came live as well, and waits; where it could not, `head` was moved on to it.
fn take(subscriber: &mut Subscriber, json: &str, head: u64) {
    let waits = subscriber.lag.as_ref().is_some_and(|lag| lag.waiting_max > 0);
    let Ok(message) = serde_json::from_str::<Head<'_>>(json) else { return };
    let (Some(position), Some(at)) = (message.position(), subscriber.at) else { return };
    if position.offset <= at.offset || (waits && position.offset > head) {
        return;
    }
    if position.offset > at.offset + 1 {
        let to = Position { offset: position.offset - 1, ..position };
        push_gap(subscriber, to, GapReason::Expired);
    }
    subscriber.queue.push(Item::Frame { json: json.into(), bytes: None, replayed: true });
    subscriber.at = Some(position);
}

/// What lies up to `head` cannot be had.
fn give_up(subscriber: &mut Subscriber, head: u64) {
    if let Some(at) = subscriber.at.filter(|at| at.offset < head) {
        push_gap(subscriber, Position { offset: head, ..at }, GapReason::Expired);
    }
    if subscriber.lag.as_ref().is_some_and(|lag| lag.head <= head) {
        catch_up(subscriber);
    }
}

fn push_gap(subscriber: &mut Subscriber, to: Position, reason: GapReason) {
    let from = subscriber.at;
    let missed = from.filter(|from| from.epoch == to.epoch).map(|from| to.offset.saturating_sub(from.offset));
    subscriber.at = Some(to);
    subscriber.queue.push(Item::Gap(Gap { from, to, missed, reason }));
}

/// Asks for a stream's next page, once there is room for it.
fn ask(name: &str, subscriber: &mut Subscriber, now: Instant, next_id: &mut i64, frames: &mut Frames) {
    let (Some(at), Some(lag)) = (subscriber.at, &mut subscriber.lag) else { return };
    if lag.asked.is_some_and(|asked| now < asked.again) || !lag.pause.is_over(now) {
        return;
    }
    let limit = subscriber.queue.room_or_ask().min(PAGE);
    if limit == 0 {
        return;
    }
    let id = id_of(lag.asked, next_id);
    lag.asked = Some(Asked::at(now, id));
    let request = json!({ "type": "history", "id": id, "room": name, "after": at.offset, "limit": limit });
    frames.push(request.to_string());
}

fn join_frame(name: &str, room: &mut Room, asked: Asked) -> String {
    let mut frame = json!({ "type": "subscribe", "id": asked.id, "room": name });
    let mut last = None;
    if let Some(place) = room.recover_from() {
        frame["epoch"] = json!(place.epoch);
        frame["offset"] = json!(place.offset);
    } else if let Some(count) = room.subscribers.iter().find_map(|subscriber| match subscriber.start {
        Start::Last(count) if subscriber.at.is_none() => Some(count),
        _ => None,
    }) {
        frame["last"] = json!(count);
        last = Some(count);
    }
    if let Some(token) = &room.token {
        frame["token"] = json!(&**token);
    }
    room.status = Status::Joining(asked, last);
    frame.to_string()
}

fn tell_ready(subscriber: &mut Subscriber) {
    if let Some(ready) = subscriber.ready.take() {
        // Who does not wait any more has dropped the stream as well.
        let _ = ready.send(Ok(()));
    }
}

/// Ends a stream, unless it has other rooms and the client goes on.
fn end(mut subscriber: Subscriber, error: &Error, for_good: bool) {
    if let Some(ready) = subscriber.ready.take() {
        let _ = ready.send(Err(error.clone()));
    } else if !subscriber.shared || for_good {
        subscriber.queue.push(Item::End(error.clone()));
    }
}

fn joined(wire: &Subscribed) -> Joined {
    Joined {
        position: wire.position(),
        head: wire.head,
        first: wire.first,
        members: wire.members,
        recovered: wire.recovered,
        durability: wire.durability.as_str().into(),
        unread: wire.unread,
        topic: wire.topic.as_deref().unwrap_or_default().into(),
    }
}
