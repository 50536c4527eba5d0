//! A stored room's log, wherever its messages come from: this hub's keeper, other nodes, the store itself.
//!
//! Each is handed out once, in the order of the offsets. What comes too early waits here; what does not come by itself is
//! read from the store ([`Room::look`]), which is the truth: the bus between nodes is a hint. A log that has another epoch
//! than the room believes begins anew for the members, who are told that something is missing; so does the end of one
//! that has gone back, as when a replica takes over that did not have the last messages.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspoke_protocol::{Epoch, Event, Gap, Message, MessageId, Position};
use outspoke_store::{Direction, LogState, Page, Range, StoreError, Stored};

use super::load::offsets_of;
use super::receipts::Receipts;
use super::{Room, State};
use crate::hub::Inner;
use crate::publication::Publication;
use crate::sync::Arc;
use crate::trace::Heard;

/// How long a message may be behind its successor before the store is asked for it: on the bus it is on its way.
const PATIENCE: Duration = Duration::from_millis(25);
/// How long to wait before a store that could not be read, or had nothing new, is asked again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often the store is read to its end for messages that wait and do not follow what it has. A node tells of what is
/// durable, so that the first read should find what is before it; nine seconds are for a store that shows it late. Then what
/// waits is dropped, true or not: no word of another node may keep this one reading. If it was true, the next message or
/// heartbeat brings the room to it.
const VAIN_LOOKS_MAX: u32 = 8;
/// Messages, and about how many bytes of them, that may wait for those before them. More are read from the store.
const AHEAD_MAX: (usize, usize) = (1024, 1024 * 1024);
/// Records, and bytes of them, read at once.
const PAGE: (usize, usize) = (1024, 1024 * 1024);

/// A message with its place.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) message: Message,
    /// Messages said in the log up to this one.
    pub(crate) ordinal: u64,
    /// The earlier message that it amends, as it is from now on, where that is known.
    pub(crate) amended: Option<Box<Message>>,
    /// From acceptance to durability, where it was stored by this hub.
    pub(crate) stored: Option<Duration>,
}

/// Where messages come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// This hub has committed them.
    Keeper(LogState),
    /// Another node says so.
    Bus,
    /// They were read.
    Store,
}

/// What the room knows to be missing, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// With where they are from: whoever frees them may be another.
    waiting: BTreeMap<u64, (Source, Placed)>,
    bytes: usize,
    /// Something may be missing that nobody has seen.
    doubt: bool,
    /// Another node has said another message at this offset than the one that is here.
    contradicted: Option<u64>,
    /// How often the store was read to its end, and something still waited.
    vain: u32,
    /// Somebody looks into the store, or will.
    looking: bool,
}

impl Ahead {
    fn contradict(&mut self, offset: u64) {
        self.contradicted = Some(self.contradicted.map_or(offset, |other| other.min(offset)));
        self.doubt = true;
    }

    /// The store was read to its end, and what it had was handed out.
    fn read_to_end(&mut self) {
        self.vain = if self.waiting.is_empty() { 0 } else { self.vain + 1 };
        if self.vain >= VAIN_LOOKS_MAX {
            self.waiting.clear();
            self.bytes = 0;
            self.vain = 0;
        }
    }

    fn hold(&mut self, offset: u64, source: Source, placed: Placed) {
        let bytes = 256 + placed.message.body.len();
        if self.waiting.len() >= AHEAD_MAX.0 || self.bytes + bytes > AHEAD_MAX.1 {
            self.waiting.clear();
            self.bytes = 0;
            self.doubt = true;
        } else if self.waiting.insert(offset, (source, placed)).is_none() {
            self.bytes += bytes;
        }
    }

    fn take(&mut self, offset: u64) -> Option<(Source, Placed)> {
        let (source, placed) = self.waiting.remove(&offset)?;
        self.bytes = self.bytes.saturating_sub(256 + placed.message.body.len());
        Some((source, placed))
    }
}

impl State {
    /// Which message is at an offset, if it is in memory.
    fn id_at(&self, offset: u64) -> Option<MessageId> {
        self.tail.at(offset, self.head)?.message_ref().map(|message| message.id)
    }

    /// Whether this message is in memory where it says that it is; `None`: nothing is there.
    fn has(&self, message: &Message) -> Option<bool> {
        self.id_at(message.position?.offset).map(|id| id == message.id)
    }

    /// The message with where it is from, or the same one as this hub has stored it: it may have waited for one before it
    /// that was read from the store, and itself with it.
    fn own_or(&mut self, source: Source, placed: Placed) -> (Source, Placed) {
        let offset = placed.message.position.map_or(0, |position| position.offset);
        match self.ahead.as_mut().and_then(|ahead| ahead.take(offset)) {
            Some((own @ Source::Keeper(_), held)) if held.message.id == placed.message.id => (own, held),
            _ => (source, placed),
        }
    }

    /// Whether another node has said what does not fit what is here: what it says next waits for the store's word.
    fn is_contradicted(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.contradicted.is_some())
    }
}

impl Room {
    /// Takes in messages of the log that are durable. Returns how many members there are on this hub.
    pub(crate) fn place(
        self: &Arc<Self>,
        hub: &Inner,
        source: Source,
        epoch: Epoch,
        placed: Vec<Placed>,
    ) -> usize {
        let mut state = self.lock();
        if !self.settle_epoch(hub, &mut state, source, epoch, &placed) {
            return state.total;
        }
        if let Source::Keeper(log) = source {
            self.find_gone_back(hub, &mut state, log, &placed);
        }
        let before = state.head;
        for placed in placed {
            let offset = placed.message.position.map_or(0, |position| position.offset);
            let follows = !matches!(source, Source::Bus) || !state.is_contradicted();
            if offset == state.head + 1 && follows {
                let (source, placed) = state.own_or(source, placed);
                self.hand_out_placed(hub, &mut state, source, placed);
            } else if offset > state.head {
                state.ahead.get_or_insert_default().hold(offset, source, placed);
            } else if matches!(source, Source::Bus) && state.has(&placed.message) == Some(false) {
                state.ahead.get_or_insert_default().contradict(offset);
            } else if matches!(source, Source::Keeper(_)) {
                // It was read before this hub had the answer, and is this hub's to count all the same.
                hub.analytics.count(self, &mut state.tally, &placed.message);
            }
        }
        if let (Source::Store, Some(keeper)) = (source, &self.keeper) {
            keeper.counters.repairs.fetch_add(state.head - before, Ordering::Relaxed);
        }
        self.hand_out_ahead(hub, &mut state);
        if let Source::Keeper(log) = source {
            // The log may have been read since, further on.
            state.first = state.first.max(log.first);
        }
        if state.head > before {
            self.reach(hub, before, None);
        }
        self.trim_cache(hub, &mut state);
        if state.ahead.as_ref().is_some_and(|ahead| !ahead.waiting.is_empty() || ahead.doubt) {
            self.look_later(hub, &mut state, PATIENCE);
        }
        state.total
    }

    /// Makes the room's epoch and the messages' the same. Returns whether they can be taken in.
    fn settle_epoch(
        self: &Arc<Self>,
        hub: &Inner,
        state: &mut State,
        source: Source,
        epoch: Epoch,
        placed: &[Placed],
    ) -> bool {
        let first = placed.first().and_then(|placed| placed.message.position);
        if !state.is_known() {
            return match (source, first) {
                (Source::Keeper(_), Some(Position { offset, .. })) => {
                    self.set_epoch(epoch);
                    state.head = offset - 1;
                    state.found();
                    true
                }
                // Whoever reads where the log is looks again then: the read may have begun before this.
                _ => {
                    state.ahead.get_or_insert_default().doubt = true;
                    false
                }
            };
        }
        if epoch == self.epoch() {
            return true;
        }
        match source {
            Source::Bus => {
                state.ahead.get_or_insert_default().doubt = true;
                self.look_later(hub, state, Duration::ZERO);
                false
            }
            Source::Keeper(_) | Source::Store => {
                self.begin_anew(hub, state, epoch, 0);
                true
            }
        }
    }

    /// Whether messages that this hub has just stored got places that the log had given before it lost them.
    fn find_gone_back(self: &Arc<Self>, hub: &Inner, state: &mut State, log: LogState, placed: &[Placed]) {
        let Some(message) = placed.first().map(|placed| &placed.message) else { return };
        let Some(Position { offset, .. }) = message.position else { return };
        // What the room had before this hub began to write was durable then. What it has come to since may be this
        // message, read before this hub had the answer, or others behind it.
        if offset <= state.written_after().min(state.head) && state.has(message) != Some(true) {
            self.go_back(hub, state, log.first, offset - 1);
        }
    }

    /// Hands out what has waited for what is here now.
    fn hand_out_ahead(self: &Arc<Self>, hub: &Inner, state: &mut State) {
        let Some(ahead) = &mut state.ahead else { return };
        let head = state.head;
        ahead.waiting.retain(|offset, _| *offset > head);
        if ahead.contradicted.is_some() {
            return;
        }
        while let Some((source, next)) = state.ahead.as_mut().and_then(|ahead| ahead.take(state.head + 1)) {
            self.hand_out_placed(hub, state, source, next);
        }
        let done = |ahead: &Ahead| ahead.waiting.is_empty() && !ahead.doubt && !ahead.looking;
        if state.ahead.as_deref().is_some_and(done) {
            state.ahead = None;
        }
    }

    fn hand_out_placed(self: &Arc<Self>, hub: &Inner, state: &mut State, source: Source, placed: Placed) {
        let Placed { message, ordinal, amended, stored } = placed;
        let Some(Position { offset, .. }) = message.position else { return };
        state.topic.follow(&message);
        match amended {
            Some(amended) => self.put_back(hub, state, *amended),
            // What it changed is in the store.
            None if message.details.as_ref().is_some_and(|details| details.target.is_some()) => {
                state.forget_log();
            }
            None => {}
        }
        state.head = offset;
        state.ordinal = state.ordinal.max(ordinal);
        let own = matches!(source, Source::Keeper(_));
        self.note_own_words(hub, state, &message, ordinal, own);
        if own {
            hub.analytics.count(self, &mut state.tally, &message);
        }
        let heard = match source {
            Source::Keeper(_) => Heard::Published,
            Source::Bus => Heard::Bus,
            Source::Store => Heard::Store,
        };
        self.trace(hub, &message, heard, stored);
        let publication = Arc::new(Publication::message(message, hub.dialects.len()));
        self.hand_out(hub, state, &publication);
        state.tail.push(publication);
    }

    /// The log is another one, or has gone back: members get it from `head` on, and are told so.
    fn begin_anew(self: &Arc<Self>, hub: &Inner, state: &mut State, epoch: Epoch, head: u64) {
        // Where nothing was said yet, nothing is lost: another node has begun the log.
        let news = state.head > 0 || head > 0;
        if news {
            tracing::warn!(
                room = self.name.as_ref().map_or("", |name| name.as_str()),
                "the room's log is not the one it was: its history begins anew"
            );
        }
        if epoch != self.epoch() {
            state.note_lost(0);
        }
        self.set_epoch(epoch);
        state.head = head;
        state.first = head + 1;
        state.note_written_after(state.written_after().min(head));
        state.ordinal = 0;
        state.forget_log();
        // Who has read how much of this one is asked of the store as it is needed.
        state.receipts = state.receipts.take().map(|_| Box::new(Receipts::unread()));
        state.ahead = None;
        if news {
            self.tell_gap(hub, state, 0);
        }
    }

    /// The log has lost its end, and goes on behind `head`: members get it from there on, and are told so. What is before
    /// it is still there, from `first` on. Who comes back with a place of before is told, too, wherever it is: other nodes
    /// may have written before this one noticed.
    fn go_back(self: &Arc<Self>, hub: &Inner, state: &mut State, first: u64, head: u64) {
        let lost = state.head;
        self.begin_anew(hub, state, self.epoch(), head);
        state.first = first.max(1);
        state.note_lost(lost);
    }

    /// Tells members that messages before the place where the room is now are not to be had.
    fn tell_gap(self: &Arc<Self>, hub: &Inner, state: &State, missed: u64) {
        if let Some(keeper) = &self.keeper {
            keeper.counters.gaps.fetch_add(1, Ordering::Relaxed);
        }
        let Some(room) = self.name.clone() else { return };
        let to = Position { epoch: self.epoch(), offset: state.head };
        let event = Event::Gap(Gap { room, to, missed });
        self.hand_out(hub, state, &Arc::new(Publication::event(event, hub.dialects.len())));
    }

    /// Something of the log may have been missed: looks into the store, now or soon.
    pub(crate) fn doubt(self: &Arc<Self>, hub: &Inner) {
        let mut state = self.lock();
        if self.keeper.is_none() {
            return;
        }
        state.ahead.get_or_insert_default().doubt = true;
        if !state.is_known() {
            // Whoever reads it looks again.
            return;
        }
        self.look_later(hub, &mut state, Duration::ZERO);
    }

    /// Another node says how far the log has come.
    pub(crate) fn hear_head(self: &Arc<Self>, hub: &Inner, epoch: Epoch, head: u64) {
        let behind = {
            let state = self.lock();
            state.is_known() && (epoch != self.epoch() || head > state.head)
        };
        if behind {
            self.doubt(hub);
        }
    }

    /// What is in memory of the log is not what is stored any more.
    pub(crate) fn forget_what_is_read(self: &Arc<Self>, hub: &Inner) {
        if self.keeper.is_none() {
            return;
        }
        self.lock().forget_log();
        self.doubt(hub);
    }

    /// Compares the room with where its log is.
    pub(crate) fn compare(self: &Arc<Self>, hub: &Inner, log: Option<LogState>) {
        let here = {
            let state = self.lock();
            state.is_known().then_some((self.epoch().as_u64(), state.head))
        };
        let there = log.map(|log| (log.epoch, log.head));
        let nothing = there.is_none() && here.is_some_and(|(_, head)| head == 0);
        if here != there && !nothing {
            self.doubt(hub);
        }
    }

    /// It is known where the log is. What was said of it meanwhile may be news.
    pub(super) fn found(self: &Arc<Self>, hub: &Inner, state: &mut State) {
        state.found();
        if state.ahead.is_some() {
            self.look_later(hub, state, Duration::ZERO);
        }
    }

    /// Lets somebody look into the store after a while, unless somebody will.
    fn look_later(self: &Arc<Self>, hub: &Inner, state: &mut State, after: Duration) {
        let hub = hub.myself.get().and_then(Weak::upgrade);
        let (Some(keeper), Some(hub)) = (&self.keeper, hub) else { return };
        let ahead = state.ahead.get_or_insert_default();
        if std::mem::replace(&mut ahead.looking, true) {
            return;
        }
        let room = Arc::downgrade(self);
        keeper.spawn(async move {
            tokio::time::sleep(after).await;
            let mut pause = RETRY.0;
            loop {
                // A room that nobody has any more needs nothing.
                let Some(room) = room.upgrade() else { return };
                if room.has_all() {
                    return;
                }
                match room.look(&hub).await {
                    Ok(true) => {
                        pause = RETRY.0;
                        continue;
                    }
                    Ok(false) if room.has_all() => return,
                    // What others say of the log is not there, or not yet.
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a room that may have missed something cannot be read");
                    }
                }
                drop(room);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        });
    }

    /// Whether nothing is known to be missing; then nobody looks any more.
    fn has_all(&self) -> bool {
        let mut state = self.lock();
        let Some(ahead) = &mut state.ahead else { return true };
        if !ahead.waiting.is_empty() || ahead.doubt {
            return false;
        }
        state.ahead = None;
        true
    }

    /// Reads what follows from the store and takes it in. Returns whether there was anything.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn look(self: &Arc<Self>, hub: &Inner) -> Result<bool, StoreError> {
        let Some(keeper) = &self.keeper else { return Ok(false) };
        let (head, contradicted, before) = {
            let mut state = self.lock();
            let contradicted = state.ahead.as_mut().and_then(|ahead| {
                // What comes to be in doubt during the read is looked for again.
                ahead.doubt = false;
                ahead.contradicted.take()
            });
            (state.head, contradicted, state.changes())
        };
        // Which message is there, the store knows.
        let after = contradicted.map_or(head, |offset| head.min(offset - 1));
        let range = Range { direction: Direction::After(after), records_max: PAGE.0, bytes_max: PAGE.1 };
        let read = async {
            let page = keeper.range(&self.log_key(), range).await?;
            let to_come = self.epoch_to_come(keeper, page.state.epoch).await?;
            if self.lock().is_changed(before, &offsets_of(&page.records)) {
                self.doubt(hub);
                return Ok(false);
            }
            self.take_page(hub, head, page, to_come)
        };
        let taken = read.await;
        if taken.is_err()
            && let Some(ahead) = &mut self.lock().ahead
        {
            ahead.doubt = true;
            ahead.contradicted = ahead.contradicted.or(contradicted);
        }
        taken
    }

    fn take_page(
        self: &Arc<Self>,
        hub: &Inner,
        asked: u64,
        page: Page,
        to_come: Epoch,
    ) -> Result<bool, StoreError> {
        let Page { state: log, records } = page;
        let epoch = Epoch::from_u64(log.epoch);
        {
            let mut state = self.lock();
            if !state.is_known() {
                return Ok(false);
            }
            if log.epoch == 0 {
                if asked > 0 {
                    self.begin_anew(hub, &mut state, to_come, 0);
                }
                return Ok(false);
            }
            if epoch != self.epoch() {
                self.begin_anew(hub, &mut state, epoch, 0);
                state.ahead.get_or_insert_default().doubt = true;
                // The next look reads it from its beginning.
                self.look_later(hub, &mut state, Duration::ZERO);
                return Ok(true);
            }
            // A page that begins before the room's end was asked for because another node has something else there.
            let here = |offset| state.id_at(offset).map(MessageId::as_u128);
            let another = |record: &&Stored| here(record.offset).is_some_and(|id| id != record.id);
            if let Some(offset) = records.iter().find(another).map(|record| record.offset) {
                self.go_back(hub, &mut state, log.first, offset - 1);
            } else if log.head < asked.min(state.head) {
                self.go_back(hub, &mut state, log.first, log.head);
                return Ok(false);
            }
            if log.first > state.head + 1 {
                let missed = log.first - 1 - state.head;
                state.head = log.first - 1;
                state.forget_log();
                self.tell_gap(hub, &state, missed);
            }
            state.first = state.first.max(log.first);
        }
        let last = records.last().map_or(asked.max(log.first.saturating_sub(1)), |record| record.offset);
        let placed = records.into_iter().map(|record| {
            let ordinal = record.ordinal;
            self.message_of(record, epoch).map(|message| Placed {
                message,
                ordinal,
                amended: None,
                stored: None,
            })
        });
        let placed = placed.collect::<Result<Vec<_>, _>>()?;
        self.place(hub, Source::Store, epoch, placed);
        if let Some(ahead) = &mut self.lock().ahead {
            if last < log.head {
                ahead.doubt = true;
            } else {
                ahead.read_to_end();
            }
        }
        Ok(last > asked)
    }
}
