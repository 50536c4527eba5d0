//! Who has received and read how much of a room.
//!
//! Two places in the log for each user: up to where a device of the user has it, and up to where the user has read it.
//! They only move forward, and what is read has been received. With the place read goes how many messages were said up
//! to there ([`Kind::is_said`](outspoke_protocol::Kind::is_said)), so that what is unread needs no look at the log.
//!
//! Belongs to the room's state, behind its lock, and takes no memory before the first receipt. In a stored room a
//! receipt counts when it is durable: what users want gathers while the last of it is being written, goes through the
//! room's keeper as one write, and is then told and answered. The first read of a room brings the places of up to
//! [`CURSORS_MAX`] users; who is not among them is read when needed. A room in memory keeps those of about as many users,
//! the ones who have come furthest.
//!
//! **Own words are no news**: who had read everything before saying something has read that as well. The rule is
//! applied as messages are placed, and again to the end of the log when a room is read, so that a crash between the
//! message and the note of it changes nothing.
//!
//! On disk: `room, epoch, user, "s"` -> offset and messages said (8 bytes each, big-endian), `room, epoch, user, "d"` ->
//! offset. Each is written as a maximum, so none can step back, whatever the order. What is read is not noted as received
//! a second time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use ecow::eco_format;
use outspoke_protocol::{
    Cursor, Epoch, ErrorCode, Event, Message, Position, Receipt, ReceiptCounts, ReceiptOf, Receipts as Page,
    Refusal, RequestId, RoomName, UserId,
};
use outspoke_store::{Direction, Fact, FactKey, FactWrite, Range, StoreError};
use tokio::sync::oneshot;

use super::{Room, State};
use crate::facts::{self, CURSORS};
use crate::hub::Inner;
use crate::keeper::{Keeper, refusal_of_store};
use crate::publication::Publication;
use crate::shard::Key;
use crate::shard::command::Command;
use crate::sync::Arc;

/// Users whose places are in memory, for one room.
const CURSORS_MAX: usize = 10_000;
/// So many more are let in before the ones who are behind are let go, so that not every newcomer costs a search.
const CURSORS_SLACK: usize = CURSORS_MAX / 4;
/// How long is waited for more of what people have read by saying something.
const OWN_WORDS: Duration = Duration::from_secs(1);
/// What is told of one user waits for so long for what comes next.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Users on a page at most.
pub(crate) const RECEIPTS_PAGE_MAX: usize = 500;
/// Users whose places are written at once.
const USERS_PER_WRITE: usize = 4096;

/// A user's places in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Up to here a device has it.
    pub(crate) delivered: u64,
    /// Up to here it is read; never after `delivered`.
    pub(crate) seen: u64,
    /// Messages said up to `seen`.
    pub(crate) ordinal: u64,
}

impl Marks {
    fn read_up_to(seen: u64, ordinal: u64) -> Self {
        Self { delivered: seen, seen, ordinal }
    }

    /// The further of both, place by place.
    fn raised(self, other: Self) -> Self {
        let (seen, ordinal) = (self.seen, self.ordinal).max((other.seen, other.ordinal));
        Self { delivered: self.delivered.max(other.delivered).max(seen), seen, ordinal }
    }

    /// How far the user has come.
    pub(crate) fn at(&self, receipt: Receipt) -> u64 {
        match receipt {
            Receipt::Delivered => self.delivered,
            Receipt::Seen => self.seen,
        }
    }

    /// Messages that a user with these places has not read, of those that a log still has. No count of messages can be
    /// more than there are records, so a user who was away for long is told what there is to read.
    pub(crate) fn unread(&self, head: u64, first: u64, ordinal: u64) -> u64 {
        let left = head.saturating_sub(self.seen.max(first.saturating_sub(1)));
        ordinal.saturating_sub(self.ordinal).min(left)
    }
}

/// What a room knows of who has come how far.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// Durable, in a stored room.
    cursors: BTreeMap<UserId, Marks>,
    /// There are, or were, more users than those in `cursors`.
    partial: bool,
    /// Nobody who is not in `cursors` any more had come further.
    let_go_up_to: u64,
    /// Users to be read from the store.
    missing: BTreeSet<UserId>,
    /// On the way into the store.
    wanted: BTreeMap<UserId, Wanted>,
    /// Somebody is writing what is wanted.
    writing: bool,
    /// Somebody will, in a while.
    later: bool,
    untold: BTreeMap<UserId, Untold>,
    counts_untold: bool,
    /// Somebody will look at what is untold.
    telling: bool,
    counted: Counted,
}

/// How many users have the message at `offset`, which was the newest one when somebody last came to it.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    offset: u64,
    delivered: u64,
    seen: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Untold {
    delivered: bool,
    seen: bool,
}

/// Where a user wants to be.
#[derive(Debug, Default)]
struct Wanted {
    delivered: u64,
    seen: u64,
    /// Messages said up to `seen`; `None`: the store knows.
    ordinal: Option<u64>,
    /// The user said so, and others are told.
    said: bool,
    waiting: Vec<Waiter>,
}

impl Wanted {
    fn marks(&self) -> Option<Marks> {
        let read = Marks::read_up_to(self.seen, self.ordinal?);
        Some(Marks { delivered: self.delivered.max(self.seen), ..read })
    }
}

/// What one write is to make durable for one user.
#[derive(Debug)]
struct Going {
    user: UserId,
    delivered: u64,
    seen: u64,
    ordinal: Option<u64>,
    said: bool,
    waiting: Vec<Waiter>,
    /// What the store has of the user, where that was not known.
    found: Option<Marks>,
}

/// Who waits for a receipt to be durable.
#[derive(Debug)]
pub(crate) enum Waiter {
    Client { shard: usize, key: Key, request: RequestId, receipt: Receipt },
    Api(oneshot::Sender<Result<Marks, StoreError>>),
}

/// What was read of the cursors of a room.
#[derive(Debug, Default)]
pub(super) struct Found {
    cursors: BTreeMap<UserId, Marks>,
    partial: bool,
}

impl Receipts {
    /// Those of a log of which the store knows who has read how much, and nobody here does.
    pub(super) fn unread() -> Self {
        Self { partial: true, ..Self::default() }
    }

    /// Moves a user forward. Returns what has moved.
    fn advance(&mut self, user: &UserId, marks: Marks, head: u64) -> Untold {
        if self.counted.offset != head {
            // Whoever had come further than the last look would have been counted then.
            self.counted = Counted { offset: head, ..Counted::default() };
        }
        let known = self.cursors.get(user).copied();
        let former = known.unwrap_or_default();
        let now = former.raised(marks);
        let moved = Untold { delivered: now.delivered > former.delivered, seen: now.seen > former.seen };
        self.counted.delivered += u64::from(moved.delivered && now.delivered >= head);
        self.counted.seen += u64::from(moved.seen && now.seen >= head);
        if known != Some(now) {
            self.cursors.insert(user.clone(), now);
            self.let_go();
        }
        moved
    }

    /// Lets those go who are furthest behind.
    fn let_go(&mut self) {
        if self.cursors.len() <= CURSORS_MAX + CURSORS_SLACK {
            return;
        }
        let mut places: Vec<u64> = self.cursors.values().map(|marks| marks.delivered).collect();
        let surplus = places.len() - CURSORS_MAX;
        let (behind, &mut limit, _) = places.select_nth_unstable(surplus);
        let mut of_equals = behind.iter().filter(|place| **place == limit).count();
        self.cursors.retain(|_, marks| {
            let equal = marks.delivered == limit && of_equals > 0;
            of_equals -= usize::from(equal);
            marks.delivered >= limit && !equal
        });
        self.partial = true;
        self.let_go_up_to = self.let_go_up_to.max(limit);
    }

    /// Where a user is, or will be when what is on its way is durable; `None`: it must be read first.
    fn ahead(&self, user: &UserId) -> Option<Marks> {
        let known = self.known(user)?;
        let wanted = self.wanted.get(user).and_then(Wanted::marks);
        Some(wanted.map_or(known, |wanted| known.raised(wanted)))
    }

    fn known(&self, user: &UserId) -> Option<Marks> {
        match self.cursors.get(user) {
            Some(marks) => Some(*marks),
            None => (!self.partial).then(Marks::default),
        }
    }

    fn want(&mut self, user: &UserId) -> &mut Wanted {
        if !self.wanted.contains_key(user) {
            self.wanted.insert(user.clone(), Wanted { ordinal: Some(0), ..Wanted::default() });
        }
        self.wanted.get_mut(user).expect("it was put there")
    }
}

impl Wanted {
    fn raise(&mut self, receipt: Receipt, offset: u64, ordinal: Option<u64>) {
        match receipt {
            Receipt::Delivered => self.delivered = self.delivered.max(offset),
            Receipt::Seen if offset > self.seen => (self.seen, self.ordinal) = (offset, ordinal),
            Receipt::Seen => {}
        }
    }
}

impl Room {
    /// Whether the room keeps who has read how much.
    pub(crate) fn keeps_receipts(&self) -> bool {
        self.keeps() && self.class().receipts && self.name.is_some()
    }

    /// Whether the room must read who has read how much before anybody comes in.
    pub(super) fn lacks_cursors(&self, state: &State) -> bool {
        self.keeps_receipts() && self.keeper.is_some() && state.receipts.is_none()
    }

    /// Whether this user's places must be read first; the next read brings them. `asks`: the user comes, and nothing was read for
    /// that yet. Who comes from another node may have been told there what this one has not heard.
    pub(super) fn lacks_cursor_of(&self, state: &mut State, user: &UserId, asks: bool) -> bool {
        let elsewhere = asks && self.bus_topic.is_some();
        let Some(receipts) = &mut state.receipts else { return false };
        let here = !receipts.partial || receipts.cursors.contains_key(user);
        // Asked for, but by a read that had begun before.
        let elsewhere = elsewhere || receipts.missing.contains(user);
        if self.keeper.is_none() || (here && !elsewhere) {
            return false;
        }
        receipts.missing.insert(user.clone());
        true
    }

    /// Whether somebody waits for places that the next read is to bring.
    pub(super) fn wants_cursors(&self) -> bool {
        self.lock().receipts.as_ref().is_some_and(|receipts| !receipts.missing.is_empty())
    }

    /// What a user has not read, if that is known.
    pub(super) fn unread_of(&self, state: &State, user: &UserId) -> Option<outspoke_protocol::Unread> {
        if !self.keeps_receipts() {
            return None;
        }
        let none = Receipts::default();
        let receipts = state.receipts.as_deref().unwrap_or(&none);
        let durable = receipts.known(user)?;
        let ahead = receipts.ahead(user).unwrap_or(durable);
        let count = ahead.unread(state.head, self.oldest(state), state.ordinal);
        Some(outspoke_protocol::Unread { count, seen: durable.seen, delivered: durable.delivered })
    }

    /// Where the log is and what a user has not read of it, if that is in memory.
    pub(crate) fn unread_in_memory(&self, user: &UserId) -> Option<(Position, outspoke_protocol::Unread)> {
        let state = self.lock();
        if !state.is_known() || self.lacks_cursors(&state) {
            return None;
        }
        let head = Position { epoch: self.epoch(), offset: state.head };
        let unread = match self.keeps_receipts() {
            true => self.unread_of(&state, user)?,
            false => outspoke_protocol::Unread::default(),
        };
        Some((head, unread))
    }

    /// Forgets how far a user has come; the store's facts are the caller's to delete.
    pub(crate) fn forget_reader(&self, user: &UserId) {
        if let Some(receipts) = &mut self.lock().receipts {
            receipts.cursors.remove(user);
            receipts.untold.remove(user);
        }
    }

    /// Notes that a user has received or read everything up to an offset. Returns the user's places if it is done;
    /// otherwise who waits is answered when it is durable. Repeating it costs a look.
    ///
    /// # Errors
    /// The room has no such message yet, or has not read who has come how far.
    pub(crate) fn mark(
        self: &Arc<Self>,
        hub: &Inner,
        user: &UserId,
        receipt: Receipt,
        offset: u64,
        waiter: Option<Waiter>,
    ) -> Result<Option<Marks>, Refusal> {
        let mut state = self.lock();
        if offset > state.head {
            return Err(ahead_of(offset, state.head));
        }
        if self.lacks_cursors(&state) {
            let detail = "the room has not been read yet; try again";
            return Err(Refusal::new(ErrorCode::Unavailable, detail));
        }
        let ordinal = match receipt {
            Receipt::Delivered => Some(0),
            Receipt::Seen => self.ordinal_at(&state, offset),
        };
        let head = state.head;
        let receipts = state.receipts.get_or_insert_default();
        if let Some(known) = receipts.known(user)
            && known.at(receipt) >= offset
        {
            return Ok(Some(known));
        }
        if self.keeper.is_none() {
            let read = match receipt {
                Receipt::Delivered => Marks { delivered: offset, ..Marks::default() },
                Receipt::Seen => Marks::read_up_to(offset, ordinal.unwrap_or_default()),
            };
            if receipts.known(user).is_none() && offset <= receipts.let_go_up_to {
                // Where the user was is forgotten, and this could be a step back.
                return Ok(Some(read));
            }
            let moved = receipts.advance(user, read, head);
            let now = receipts.known(user).unwrap_or(read);
            self.note_untold(&mut state, user, moved);
            self.tell_receipts(hub, &mut state);
            return Ok(Some(now));
        }
        let wanted = receipts.want(user);
        wanted.raise(receipt, offset, ordinal);
        wanted.said = true;
        wanted.waiting.extend(waiter);
        self.write_receipts_soon(hub, receipts);
        Ok(None)
    }

    /// Another node has made durable how far a user has come.
    pub(crate) fn hear_read(
        self: &Arc<Self>,
        hub: &Inner,
        epoch: Epoch,
        user: &UserId,
        (delivered, seen, ordinal): (u64, u64, u64),
    ) {
        let mut state = self.lock();
        // Rooms that are not stored have offsets of their own on each node.
        if self.keeper.is_none() || epoch != self.epoch() || !self.keeps_receipts() {
            return;
        }
        let head = state.head;
        let Some(receipts) = &mut state.receipts else { return };
        let marks = Marks { delivered, ..Marks::default() }.raised(Marks::read_up_to(seen, ordinal));
        let moved = receipts.advance(user, marks, head);
        self.note_untold(&mut state, user, moved);
        self.tell_receipts(hub, &mut state);
    }

    /// Messages said up to an offset, if the end of the log tells. What is trimmed in memory counts as read.
    fn ordinal_at(&self, state: &State, offset: u64) -> Option<u64> {
        let behind = usize::try_from(state.head - offset).ok()?;
        if behind > state.tail.len() && self.keeper.is_some() {
            return None;
        }
        let said = |publication: &&Arc<Publication>| {
            publication.message_ref().is_some_and(|message| message.kind.is_said())
        };
        let unread = state.tail.iter().rev().take(behind).filter(said).count() as u64;
        Some(state.ordinal.saturating_sub(unread))
    }

    /// Own words are no news. `ordinal`: messages said up to this one; `own`: this hub took them from their author, and keeps
    /// what becomes of it.
    pub(super) fn note_own_words(
        self: &Arc<Self>,
        hub: &Inner,
        state: &mut State,
        message: &Message,
        ordinal: u64,
        own: bool,
    ) {
        let (Some(from), Some(position)) = (&message.from, message.position) else { return };
        if !self.keeps_receipts() || !message.kind.is_said() || self.lacks_cursors(state) {
            return;
        }
        let user = &from.user;
        let ahead = match &state.receipts {
            Some(receipts) => receipts.ahead(user),
            None => Some(Marks::default()),
        };
        let Some(ahead) = ahead.filter(|ahead| ahead.ordinal + 1 == ordinal) else { return };
        if ahead == Marks::default() && !self.is_known_user(hub, from) {
            return;
        }
        let head = state.head;
        let receipts = state.receipts.get_or_insert_default();
        if self.keeper.is_some() && own {
            receipts.want(user).raise(Receipt::Seen, position.offset, Some(ordinal));
            self.write_own_words_later(hub, receipts);
        } else {
            receipts.advance(user, Marks::read_up_to(position.offset, ordinal), head.max(position.offset));
        }
    }

    /// Somebody who is somebody: made-up ids would fill the memory.
    fn is_known_user(&self, hub: &Inner, from: &outspoke_protocol::Publisher) -> bool {
        facts::is_nameable(from.user.as_str())
            && (self.pair.is_some()
                || hub.registry.get(from.client).is_some_and(|client| !client.identity().anonymous))
    }

    // ---- into the store ----

    /// Writes what is wanted, unless somebody does.
    fn write_receipts_soon(self: &Arc<Self>, hub: &Inner, receipts: &mut Receipts) {
        let hub = hub.myself.get().and_then(Weak::upgrade);
        let (Some(keeper), Some(hub), false) = (&self.keeper, hub, receipts.writing) else { return };
        receipts.writing = true;
        let room = Arc::clone(self);
        keeper.spawn(async move { room.write_receipts(&hub).await });
    }

    /// Writes what people have read by saying something, together, in a while. Nobody waits for it, and what a crash
    /// takes is found again in the log.
    fn write_own_words_later(self: &Arc<Self>, hub: &Inner, receipts: &mut Receipts) {
        let hub = hub.myself.get().and_then(Weak::upgrade);
        let (Some(keeper), Some(hub), false) = (&self.keeper, hub, receipts.writing || receipts.later) else {
            return;
        };
        receipts.later = true;
        let room = Arc::clone(self);
        keeper.spawn(async move {
            tokio::time::sleep(OWN_WORDS).await;
            let mut state = room.lock();
            if let Some(receipts) = &mut state.receipts {
                receipts.later = false;
                room.write_receipts_soon(&hub, receipts);
            }
        });
    }

    async fn write_receipts(self: Arc<Self>, hub: &Inner) {
        let Some(keeper) = &self.keeper else { return };
        loop {
            let mut going = self.take_wanted();
            if going.is_empty() {
                return;
            }
            while !going.is_empty() {
                let rest = going.split_off(going.len().min(USERS_PER_WRITE));
                let outcome = self.write_going(keeper, &mut going).await;
                self.settle(hub, going, outcome);
                going = rest;
            }
        }
    }

    /// Everything wanted; nothing: nobody is writing any more.
    fn take_wanted(&self) -> Vec<Going> {
        let mut state = self.lock();
        let Some(receipts) = &mut state.receipts else { return Vec::new() };
        receipts.writing = !receipts.wanted.is_empty();
        let going = |(user, wanted): (&UserId, &mut Wanted)| Going {
            user: user.clone(),
            delivered: wanted.delivered.max(wanted.seen),
            seen: wanted.seen,
            ordinal: wanted.ordinal,
            said: wanted.said,
            waiting: std::mem::take(&mut wanted.waiting),
            found: None,
        };
        receipts.wanted.iter_mut().map(going).collect()
    }

    async fn write_going(&self, keeper: &Keeper, going: &mut [Going]) -> Result<(), StoreError> {
        let mut ordinals = HashMap::new();
        for going in going.iter_mut().filter(|going| going.ordinal.is_none()) {
            let ordinal = match ordinals.get(&going.seen) {
                Some(ordinal) => *ordinal,
                None => self.read_ordinal(keeper, going.seen).await?,
            };
            ordinals.insert(going.seen, ordinal);
            going.ordinal = Some(ordinal);
        }
        let unknown = {
            let state = self.lock();
            let known = |user: &UserId| state.receipts.as_ref().is_none_or(|held| held.known(user).is_some());
            going.iter().filter(|going| !known(&going.user)).map(|going| going.user.clone()).collect()
        };
        let mut found = self.read_cursors_of(keeper, unknown).await?;
        for going in going.iter_mut() {
            going.found = found.remove(&going.user);
        }
        let writes = going.iter().flat_map(|going| self.facts_of(going)).collect();
        keeper.write(writes).await
    }

    /// Messages said up to an offset that is not in memory; up to the oldest message kept, if it is older.
    async fn read_ordinal(&self, keeper: &Keeper, offset: u64) -> Result<u64, StoreError> {
        let range = Range { direction: Direction::After(offset), records_max: 1, bytes_max: 1 };
        let page = keeper.range(&self.log_key(), range).await?;
        let Some(next) = page.records.into_iter().next() else { return Ok(page.state.ordinal) };
        let ordinal = next.ordinal;
        let next = self.message_of(next, self.epoch())?;
        Ok(ordinal - u64::from(next.kind.is_said()))
    }

    fn facts_of(&self, going: &Going) -> impl Iterator<Item = FactWrite> + use<> {
        let seen = (going.seen > 0).then(|| {
            let value = [going.seen, going.ordinal.unwrap_or_default()].map(u64::to_be_bytes).concat();
            FactWrite::Max(self.cursor_key(&going.user, SEEN), Bytes::from(value))
        });
        let delivered = (going.delivered > going.seen).then(|| {
            let value = Bytes::copy_from_slice(&going.delivered.to_be_bytes());
            FactWrite::Max(self.cursor_key(&going.user, DELIVERED), value)
        });
        seen.into_iter().chain(delivered)
    }

    /// What was on its way has arrived, or not.
    fn settle(self: &Arc<Self>, hub: &Inner, going: Vec<Going>, outcome: Result<(), StoreError>) {
        let mut answers = Vec::new();
        {
            let mut state = self.lock();
            let head = state.head;
            for mut going in going {
                let marks = Marks { delivered: going.delivered, ..Marks::default() }
                    .raised(Marks::read_up_to(going.seen, going.ordinal.unwrap_or_default()));
                let Some(receipts) = &mut state.receipts else { continue };
                let unchanged = receipts.wanted.get(&going.user).is_some_and(|wanted| {
                    wanted.waiting.is_empty()
                        && (wanted.delivered.max(wanted.seen), wanted.seen) == (going.delivered, going.seen)
                });
                if unchanged || outcome.is_err() {
                    // Who came to wait meanwhile waited for the same store.
                    let gone = receipts.wanted.remove(&going.user).unwrap_or_default();
                    going.said |= gone.said;
                    answers.extend(gone.waiting.into_iter().map(|waiter| (waiter, marks)));
                }
                if outcome.is_ok() {
                    if let Some(found) = going.found {
                        receipts.advance(&going.user, found, head);
                    }
                    let moved = receipts.advance(&going.user, marks, head);
                    let now = receipts.known(&going.user).unwrap_or(marks);
                    if let Some(cluster) = hub.cluster.as_ref().filter(|_| going.said) {
                        cluster.tell_read(self, &going.user, (now.delivered, now.seen, now.ordinal));
                    }
                    answers.extend(going.waiting.into_iter().map(|waiter| (waiter, now)));
                    if going.said {
                        self.note_untold(&mut state, &going.user, moved);
                    }
                } else {
                    answers.extend(going.waiting.into_iter().map(|waiter| (waiter, marks)));
                }
            }
            self.tell_receipts(hub, &mut state);
        }
        if let Err(error) = &outcome {
            tracing::warn!(store = self.keeper.as_ref().map_or("", |keeper| &keeper.name), %error, "receipts were not written");
        }
        self.answer(hub, answers, &outcome);
    }

    fn answer(&self, hub: &Inner, answers: Vec<(Waiter, Marks)>, outcome: &Result<(), StoreError>) {
        let mut by_shard: Vec<Vec<(Key, Option<Event>)>> = hub.shards.iter().map(|_| Vec::new()).collect();
        for (waiter, marks) in answers {
            match waiter {
                Waiter::Client { shard, key, request, receipt } => {
                    let answer = match (outcome, &self.name) {
                        (Ok(()), Some(room)) => {
                            let position = Position { epoch: self.epoch(), offset: marks.at(receipt) };
                            acknowledgement(request, room, receipt, position)
                        }
                        (Err(error), _) => Event::Refused(refusal_of_store(error).answering(Some(request))),
                        (Ok(()), None) => continue,
                    };
                    by_shard[shard].push((key, Some(answer)));
                }
                Waiter::Api(done) => {
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(outcome.clone().map(|()| marks));
                }
            }
        }
        for (shard, answers) in by_shard.into_iter().enumerate().filter(|(_, answers)| !answers.is_empty()) {
            let weight = Command::WEIGHT * answers.len();
            // A shard that has ended has nobody who waits.
            let _ = hub.shards[shard].inbox.push(Command::Answers(answers), weight);
        }
    }

    // ---- to the members ----

    fn note_untold(&self, state: &mut State, user: &UserId, moved: Untold) {
        let crowd = state.total > self.class().receipts_members_max;
        let Some(receipts) = &mut state.receipts else { return };
        if !(moved.delivered || moved.seen) || state.total == 0 {
            return;
        }
        if crowd {
            receipts.counts_untold = true;
        } else {
            let untold = receipts.untold.entry(user.clone()).or_default();
            untold.delivered |= moved.delivered;
            untold.seen |= moved.seen;
        }
    }

    /// Tells members what they have not been told, unless they were told just now: then it waits for more.
    fn tell_receipts(self: &Arc<Self>, hub: &Inner, state: &mut State) {
        if state.receipts.as_ref().is_none_or(|receipts| receipts.telling) {
            return;
        }
        let Some(mut pause) = self.tell_receipts_now(hub, state) else { return };
        let (Some(runtime), Some(hub)) = (hub.timers.get(), hub.myself.get().cloned()) else { return };
        if let Some(receipts) = &mut state.receipts {
            receipts.telling = true;
        }
        let room = Arc::downgrade(self);
        drop(runtime.spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let (Some(room), Some(hub)) = (room.upgrade(), hub.upgrade()) else { return };
                match room.tell_more_receipts(&hub) {
                    Some(next) => pause = next,
                    None => return,
                }
            }
        }));
    }

    fn tell_more_receipts(self: &Arc<Self>, hub: &Inner) -> Option<Duration> {
        let mut state = self.lock();
        let pause = self.tell_receipts_now(hub, &mut state);
        if let Some(receipts) = &mut state.receipts {
            receipts.telling = pause.is_some();
        }
        pause
    }

    /// Returns how long what comes next is to wait, if anything was told. Under the room's lock, and in the order in which
    /// users move: so nobody is told an older place after a newer one.
    fn tell_receipts_now(self: &Arc<Self>, hub: &Inner, state: &mut State) -> Option<Duration> {
        let room = self.name.clone()?;
        let epoch = self.epoch();
        let head = state.head;
        let receipts = state.receipts.as_mut()?;
        let untold = std::mem::take(&mut receipts.untold);
        let counts = std::mem::take(&mut receipts.counts_untold);
        let mut events = Vec::with_capacity(untold.len());
        for (user, untold) in untold {
            let Some(marks) = receipts.known(&user) else { continue };
            let of = |receipt| {
                let position = Position { epoch, offset: marks.at(receipt) };
                Event::Receipt(ReceiptOf { room: room.clone(), user: user.clone(), receipt, position })
            };
            // Who has read it has it.
            if untold.delivered && marks.delivered > marks.seen {
                events.push(of(Receipt::Delivered));
            }
            if untold.seen {
                events.push(of(Receipt::Seen));
            }
        }
        let mut pause = (!events.is_empty()).then_some(TELL_EVERY);
        if counts {
            let Counted { offset, delivered, seen } = receipts.counted;
            let (delivered, seen) = if offset == head { (delivered, seen) } else { (0, 0) };
            let position = Position { epoch, offset: head };
            events.push(Event::ReceiptCounts(ReceiptCounts { room, position, delivered, seen }));
            pause = Some(self.class().crowd_interval);
        }
        for event in events {
            self.hand_out(hub, state, &Arc::new(Publication::event(event, hub.dialects.len())));
        }
        pause
    }

    // ---- from the store ----

    /// Reads who has come how far, for everybody or for those who are missing. `epoch`: of the log, if there is one.
    pub(super) async fn read_cursors(
        self: &Arc<Self>,
        hub: &Inner,
        keeper: &Keeper,
        epoch: Option<Epoch>,
    ) -> Result<(), StoreError> {
        if !self.keeps_receipts() {
            return Ok(());
        }
        // They are missing until they are read: whoever waits for one of them asks again until then.
        let missing = self.lock().receipts.as_ref().map(|receipts| receipts.missing.clone());
        if let Some(missing) = missing {
            let found = self.read_cursors_of(keeper, missing.iter().cloned().collect()).await;
            let mut state = self.lock();
            let head = state.head;
            if let Some(receipts) = &mut state.receipts {
                // Whoever waited for a read that failed is refused, and comes again.
                receipts.missing.retain(|user| !missing.contains(user));
                let mut found = found?;
                for user in missing {
                    let marks = found.remove(&user).unwrap_or_default();
                    receipts.cursors.entry(user.clone()).or_default();
                    receipts.advance(&user, marks, head);
                }
            }
            return Ok(());
        }
        let found = match epoch {
            Some(epoch) => self.scan_cursors(keeper, epoch).await?,
            None => Found::default(),
        };
        self.take_in_cursors(hub, found);
        Ok(())
    }

    async fn scan_cursors(&self, keeper: &Keeper, epoch: Epoch) -> Result<Found, StoreError> {
        let prefix = self.cursor_prefix(epoch);
        let max = 2 * CURSORS_MAX;
        let page = keeper.scan(self.tenant.clone(), CURSORS, prefix.clone(), None, max).await?;
        let mut cursors = cursors_in(&page.facts, prefix.len());
        if page.more {
            // The last one's other place may be on the next page.
            cursors.pop_last();
        }
        Ok(Found { cursors, partial: page.more })
    }

    fn take_in_cursors(self: &Arc<Self>, hub: &Inner, found: Found) {
        let mut state = self.lock();
        if state.receipts.is_some() {
            return;
        }
        let Found { cursors, partial } = found;
        let head = state.head;
        let at = |receipt: Receipt| cursors.values().filter(|marks| marks.at(receipt) >= head).count() as u64;
        let counted = Counted { offset: head, delivered: at(Receipt::Delivered), seen: at(Receipt::Seen) };
        let mut receipts = Receipts { cursors, partial, counted, ..Receipts::default() };
        let messages = || state.tail.iter().filter_map(|publication| publication.message_ref());
        let said = messages().filter(|message| message.kind.is_said()).count() as u64;
        let mut ordinal = state.ordinal.saturating_sub(said);
        for message in messages().filter(|message| message.kind.is_said()) {
            ordinal += 1;
            let (Some(from), Some(position)) = (&message.from, message.position) else { continue };
            let Some(marks) = receipts.ahead(&from.user) else { continue };
            // Who is not known by a receipt is known only where nobody comes in without an id of their own.
            if marks.ordinal + 1 == ordinal && (marks != Marks::default() || self.pair.is_some()) {
                receipts.want(&from.user).raise(Receipt::Seen, position.offset, Some(ordinal));
            }
        }
        if !receipts.wanted.is_empty() {
            self.write_receipts_soon(hub, &mut receipts);
        }
        state.receipts = Some(Box::new(receipts));
    }

    async fn read_cursors_of(
        &self,
        keeper: &Keeper,
        users: Vec<UserId>,
    ) -> Result<HashMap<UserId, Marks>, StoreError> {
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        let keys = users.iter().flat_map(|user| [SEEN, DELIVERED].map(|which| self.cursor_key(user, which)));
        let values = keeper.facts(keys.collect()).await?;
        let marks = values.chunks(2).map(|both| {
            let of = |index: usize| both.get(index).and_then(Option::as_ref);
            marks_of(of(0), of(1))
        });
        Ok(users.into_iter().zip(marks).collect())
    }

    /// A page of who has come how far, wherever that is known.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn receipts_page(
        &self,
        request: Option<RequestId>,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let unread = || StoreError::Unavailable("the room is not read yet".to_owned());
        let Some(room) = self.name.clone() else { return Err(unread()) };
        let epoch = self.epoch();
        let (page, more) = match self.receipts_in_memory(after.as_ref(), limit) {
            Some(page) => page,
            None => {
                let keeper = self.keeper.as_ref().ok_or_else(unread)?;
                let prefix = self.cursor_prefix(epoch);
                // After everything of that user.
                let after = after.map(|after| [&prefix[..], after.as_str().as_bytes(), &[1]].concat().into());
                let scan = keeper.scan(self.tenant.clone(), CURSORS, prefix.clone(), after, 2 * (limit + 1));
                let facts = scan.await?;
                let cursors = cursors_in(&facts.facts, prefix.len());
                let more = facts.more || cursors.len() > limit;
                (cursors.into_iter().take(limit).collect::<Vec<_>>(), more)
            }
        };
        let next = page.last().filter(|_| more).map(|(user, _)| user.clone());
        let cursor =
            |(user, marks): (UserId, Marks)| Cursor { user, delivered: marks.delivered, seen: marks.seen };
        Ok(Page { request, room, epoch, page: page.into_iter().map(cursor).collect(), next })
    }

    /// `None`: not everybody is in memory.
    fn receipts_in_memory(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> Option<(Vec<(UserId, Marks)>, bool)> {
        let state = self.lock();
        let Some(receipts) = &state.receipts else {
            return self.keeper.is_none().then(|| (Vec::new(), false));
        };
        if receipts.partial && self.keeper.is_some() {
            return None;
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut users = receipts
            .cursors
            .range::<UserId, _>((from, Bound::Unbounded))
            .filter(|(_, marks)| **marks != Marks::default());
        let page = users.by_ref().take(limit).map(|(user, marks)| (user.clone(), *marks)).collect();
        Some((page, users.next().is_some()))
    }

    fn cursor_prefix(&self, epoch: Epoch) -> Bytes {
        let room = self.name.as_ref().map_or("", |name| name.as_str());
        facts::prefix(&[room, &epoch.to_string()])
    }

    fn cursor_key(&self, user: &UserId, which: &str) -> FactKey {
        let room = self.name.as_ref().map_or("", |name| name.as_str());
        cursor_key(&self.tenant, room, self.epoch(), user, which)
    }
}

const SEEN: &str = "s";
const DELIVERED: &str = "d";

fn cursor_key(tenant: &ecow::EcoString, room: &str, epoch: Epoch, user: &UserId, which: &str) -> FactKey {
    let name = facts::name(&[room, &epoch.to_string(), user.as_str(), which]);
    FactKey { tenant: tenant.clone(), space: CURSORS, name }
}

/// The keys of a user's places in a room, for who reads many rooms at once; see [`marks_of`].
pub(crate) fn cursor_keys(
    tenant: &ecow::EcoString,
    room: &RoomName,
    epoch: Epoch,
    user: &UserId,
) -> [FactKey; 2] {
    [SEEN, DELIVERED].map(|which| cursor_key(tenant, room.as_str(), epoch, user, which))
}

/// What the values under [`cursor_keys`] say.
pub(crate) fn marks_of(seen: Option<&Bytes>, delivered: Option<&Bytes>) -> Marks {
    let number = |value: Option<&Bytes>, index: usize| {
        let bytes = value.and_then(|value| value.get(index * 8..index * 8 + 8)?.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    let read = Marks::read_up_to(number(seen, 0), number(seen, 1));
    Marks { delivered: number(delivered, 0), ..Marks::default() }.raised(read)
}

fn cursors_in(facts: &[Fact], prefix: usize) -> BTreeMap<UserId, Marks> {
    let mut cursors: BTreeMap<UserId, Marks> = BTreeMap::new();
    for Fact { name, value } in facts {
        let parts = std::str::from_utf8(name.get(prefix..).unwrap_or_default()).ok();
        let Some((user, which)) = parts.and_then(|parts| parts.rsplit_once('\0')) else { continue };
        let marks = match which {
            SEEN => marks_of(Some(value), None),
            _ => marks_of(None, Some(value)),
        };
        let held = cursors.entry(UserId::new(user)).or_default();
        *held = held.raised(marks);
    }
    cursors
}

/// What answers a receipt that has an id.
pub(crate) fn acknowledgement(
    request: RequestId,
    room: &RoomName,
    receipt: Receipt,
    position: Position,
) -> Event {
    #[derive(serde::Serialize)]
    struct Data<'a> {
        room: &'a str,
        receipt: &'static str,
        epoch: Epoch,
        offset: u64,
    }
    let receipt = match receipt {
        Receipt::Delivered => "delivered",
        Receipt::Seen => "seen",
    };
    let data = Data { room: room.as_str(), receipt, epoch: position.epoch, offset: position.offset };
    // Texts and numbers are always JSON.
    let data = serde_json::to_vec(&data).ok().map(Bytes::from);
    Event::Reply { request: Some(request), name: ecow::EcoString::inline("receipt_ack"), data }
}

fn ahead_of(offset: u64, head: u64) -> Refusal {
    let detail = eco_format!("there is no message {offset} yet: the room's newest has the offset {head}");
    Refusal::new(ErrorCode::MessageNotFound, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name)
    }

    #[test]
    fn marks_only_rise_and_what_is_read_is_received() {
        let read = Marks::read_up_to(5, 4);
        let received = Marks { delivered: 3, ..Marks::default() };
        assert_eq!(received.raised(read), Marks { delivered: 5, seen: 5, ordinal: 4 });
        assert_eq!(read.raised(received), Marks { delivered: 5, seen: 5, ordinal: 4 });
        let further = Marks { delivered: 9, ..read };
        assert_eq!(further.raised(Marks::read_up_to(2, 2)), further);
    }

    #[test]
    fn unread_counts_what_was_said_and_is_still_there() {
        let marks = Marks::read_up_to(10, 8);
        assert_eq!(marks.unread(20, 1, 15), 7);
        assert_eq!(marks.unread(20, 18, 15), 3, "17 of the messages are trimmed");
        assert_eq!(marks.unread(10, 11, 8), 0);
        assert_eq!(Marks::default().unread(3, 1, 3), 3);
    }

    #[test]
    fn who_is_behind_is_let_go_first_and_the_number_in_memory_is_bounded() {
        let mut receipts = Receipts::default();
        for number in 0..(CURSORS_MAX + CURSORS_SLACK + 1) as u64 {
            let marks = Marks { delivered: number + 1, ..Marks::default() };
            receipts.advance(&user(&format!("u{number}")), marks, 1_000_000);
        }
        assert_eq!(receipts.cursors.len(), CURSORS_MAX);
        assert!(receipts.partial);
        assert!(receipts.known(&user("u0")).is_none());
        assert!(receipts.known(&user(&format!("u{}", CURSORS_MAX + CURSORS_SLACK))).is_some());
    }

    #[test]
    fn counts_are_those_of_the_newest_message() {
        let mut receipts = Receipts::default();
        receipts.advance(&user("a"), Marks::read_up_to(5, 5), 5);
        receipts.advance(&user("b"), Marks { delivered: 5, ..Marks::default() }, 5);
        receipts.advance(&user("b"), Marks { delivered: 5, ..Marks::default() }, 5);
        receipts.advance(&user("c"), Marks { delivered: 4, ..Marks::default() }, 5);
        assert_eq!((receipts.counted.delivered, receipts.counted.seen), (2, 1));
        receipts.advance(&user("c"), Marks::read_up_to(6, 6), 6);
        assert_eq!((receipts.counted.delivered, receipts.counted.seen), (1, 1));
    }

    #[test]
    fn values_read_back_as_they_were_written() {
        let seen = Bytes::from([7u64, 5].map(u64::to_be_bytes).concat());
        let delivered = Bytes::copy_from_slice(&9u64.to_be_bytes());
        let marks = marks_of(Some(&seen), Some(&delivered));
        assert_eq!(marks, Marks { delivered: 9, seen: 7, ordinal: 5 });
        assert_eq!(marks_of(None, None), Marks::default());
        assert_eq!(marks_of(Some(&Bytes::from_static(b"x")), None), Marks::default(), "no panic on anything");
    }
}
