//! What a stored room reads from its store before a client can come in: where its log is, and the end of it.
//!
//! Clients that come back at the same moment share a read: the first one starts it, the others wait for it. After
//! one that did not suffice the next reads as much as anybody can be given, so that a storm costs at most two reads of a
//! room's log, however many clients and places there are in it.
//!
//! A read answers with the log as it was at some moment of it. What was changed meanwhile is noted ([`Changes`]), and a
//! page that has the former state of it is neither kept nor answered, but read again.

use std::collections::VecDeque;
use std::ops;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspoke_protocol::{Epoch, Message, Position, RoomName, StartFrom, decode_record};
use outspoke_store::{Direction, Page, Range, Retention, StoreError, Stored};
use tokio::sync::oneshot;

use super::{Room, State};
use crate::hub::Inner;
use crate::keeper::Keeper;
use crate::publication::Publication;
use crate::sync::Arc;

/// Messages of a stored room that are kept in memory at most.
const CACHED_MAX: u64 = 4096;
/// How many messages are read with a room's state, for those who come first.
const FIRST_READ: usize = 64;
/// After a read its messages stay this long, however scarce memory is: whoever waited for them comes to them.
const PINNED: Duration = Duration::from_secs(10);
/// How often a part of a log is read that is changed during each read.
const READS_MAX: usize = 5;
/// Changes of single messages that are remembered: of a read that has missed more, everything counts as changed.
const CHANGES_MAX: usize = 32;

/// What must be in memory before a client can come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Where the log is.
    State,
    /// Every message after this offset.
    After(u64),
    /// So many of the newest messages.
    Last(u32),
    /// Who has read how much, beside what is known of the log already.
    Cursors,
    /// What others have written since, beside what is known of the log already.
    Newest,
}

impl Need {
    pub(super) fn of(from: StartFrom) -> Self {
        match from {
            StartFrom::Now => Self::State,
            StartFrom::After(position) => Self::After(position.offset),
            StartFrom::Last(count) => Self::Last(count),
        }
    }
}

/// What a room knows of its stored log, and who waits to learn more.
#[derive(Debug, Default)]
pub(super) struct Loading {
    known: bool,
    reading: bool,
    /// The last read did not suffice for somebody: the next one reads everything that may be wanted.
    thorough: bool,
    /// It has been done: what is not in memory is more than anybody may be sent at once.
    exhausted: bool,
    waiting: Vec<oneshot::Sender<Result<(), StoreError>>>,
    /// Until when the messages in memory are not dropped.
    pinned: Option<tokio::time::Instant>,
    changes: Changes,
    /// Where the room was when its keeper last began to write to the log.
    written_after: u64,
    /// Where the log was, under the epoch that it still has, before it went back.
    lost: u64,
}

/// What was changed in the log that a read under way may have as it was before.
#[derive(Debug, Default)]
struct Changes {
    /// So many so far.
    count: u64,
    /// Of the last ones, each for one message: at which offset.
    offsets: VecDeque<u64>,
}

impl Changes {
    fn note(&mut self, offset: u64) {
        self.count += 1;
        if self.offsets.len() >= CHANGES_MAX {
            self.offsets.pop_front();
        }
        self.offsets.push_back(offset);
    }

    /// Nobody knows at which offsets.
    fn note_all(&mut self) {
        self.count += 1;
        self.offsets = VecDeque::new();
    }

    /// Whether one of these was changed since there were `before` changes.
    fn concern(&self, before: u64, offsets: &ops::Range<u64>) -> bool {
        let news = usize::try_from(self.count - before).unwrap_or(usize::MAX);
        news > self.offsets.len()
            || self.offsets.iter().rev().take(news).any(|offset| offsets.contains(offset))
    }
}

impl State {
    /// How many changes there were so far, for [`is_changed`](Self::is_changed).
    pub(super) fn changes(&self) -> u64 {
        self.loading.as_ref().map_or(0, |loading| loading.changes.count)
    }

    /// Whether what was read at these offsets may not be what they are now. `before`: the changes when the read began.
    pub(super) fn is_changed(&self, before: u64, offsets: &ops::Range<u64>) -> bool {
        self.loading.as_ref().is_some_and(|loading| loading.changes.concern(before, offsets))
    }

    /// The message at this offset is another one now.
    pub(super) fn note_change(&mut self, offset: u64) {
        if let Some(loading) = &mut self.loading {
            loading.changes.note(offset);
        }
    }

    /// Drops what is in memory of the log, and what is being read of it.
    pub(super) fn forget_log(&mut self) {
        self.tail.clear();
        if let Some(loading) = &mut self.loading {
            loading.changes.note_all();
        }
        self.not_exhausted();
    }

    /// Whether it is known where the log is.
    pub(super) fn is_known(&self) -> bool {
        self.loading.as_ref().is_none_or(|loading| loading.known)
    }

    /// What the keeper of the log writes comes behind this place, unless the log has gone back.
    pub(super) fn written_after(&self) -> u64 {
        self.loading.as_ref().map_or(0, |loading| loading.written_after)
    }

    pub(super) fn note_written_after(&mut self, offset: u64) {
        if let Some(loading) = &mut self.loading {
            loading.written_after = offset;
        }
    }

    /// The log has gone back from this offset; 0: it is another one, under another epoch.
    pub(super) fn note_lost(&mut self, offset: u64) {
        if let Some(loading) = &mut self.loading {
            loading.lost = if offset == 0 { 0 } else { loading.lost.max(offset) };
        }
    }

    /// Whether there may have been another message at this offset, or before it, than there is now.
    pub(super) fn has_lost(&self, offset: u64) -> bool {
        self.loading.as_ref().is_some_and(|loading| (1..=loading.lost).contains(&offset))
    }

    /// Whether everything that may be sent at once is in memory.
    pub(super) fn is_exhausted(&self) -> bool {
        self.loading.as_ref().is_none_or(|loading| loading.exhausted)
    }

    /// What is in memory may be less than what may be sent at once.
    pub(super) fn not_exhausted(&mut self) {
        if let Some(loading) = &mut self.loading {
            loading.exhausted = false;
            loading.thorough = false;
        }
    }

    /// It is known now.
    pub(super) fn found(&mut self) {
        if let Some(loading) = &mut self.loading {
            loading.known = true;
        }
    }
}

impl Room {
    /// The keeper begins to write to the log.
    pub(crate) fn begin_to_write(&self) {
        let mut state = self.lock();
        let head = state.head;
        state.note_written_after(head);
    }

    /// Whether it is known where the log is.
    pub(crate) fn is_known(&self) -> bool {
        self.lock().is_known()
    }

    /// Returns when what is needed has been read, by this call or another one. The caller then tries again; it may
    /// have to come back once.
    ///
    /// # Errors
    /// The store cannot be read, or not in time.
    pub(crate) async fn prepare(self: &Arc<Self>, hub: &Arc<Inner>, need: Need) -> Result<(), StoreError> {
        let (done, outcome) = oneshot::channel();
        let read = {
            let mut state = self.lock();
            let Some(loading) = &mut state.loading else { return Ok(()) };
            loading.waiting.push(done);
            let read = !loading.reading;
            loading.reading = true;
            read.then_some(loading.thorough)
        };
        if let (Some(thorough), Some(keeper)) = (read, &self.keeper) {
            let (room, hub) = (Arc::clone(self), Arc::clone(hub));
            keeper.spawn(async move { room.read_and_tell(&hub, need, thorough).await });
        }
        match tokio::time::timeout(hub.config().store_timeout, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Unavailable("the hub is stopping".to_owned())),
            Err(_) => Err(StoreError::Unavailable("it did not answer in time".to_owned())),
        }
    }

    async fn read_and_tell(self: &Arc<Self>, hub: &Inner, need: Need, thorough: bool) {
        let outcome = self.read(hub, need, thorough).await;
        let waiting = {
            let mut state = self.lock();
            let Some(loading) = &mut state.loading else { return };
            loading.reading = false;
            loading.thorough = outcome.is_ok();
            if outcome.is_ok() {
                loading.exhausted |= thorough;
                loading.pinned = Some(tokio::time::Instant::now() + PINNED);
            }
            std::mem::take(&mut loading.waiting)
        };
        for waiting in waiting {
            // Whoever waited may have gone.
            let _ = waiting.send(outcome.clone());
        }
    }

    async fn read(self: &Arc<Self>, hub: &Inner, need: Need, thorough: bool) -> Result<(), StoreError> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        if need == Need::Cursors && self.is_known() {
            let cursors = self.read_cursors(hub, keeper, Some(self.epoch()));
            return tokio::try_join!(cursors, self.read_topic(keeper)).map(drop);
        }
        if need == Need::Newest && self.is_known() {
            self.look(hub).await?;
            let wants = self.wants_cursors();
            return if wants { self.read_cursors(hub, keeper, Some(self.epoch())).await } else { Ok(()) };
        }
        let (records_max, bytes_max) = (CACHED_MAX as usize, hub.config().replay_bytes());
        let newest = |records_max| Range { direction: Direction::Before(u64::MAX), records_max, bytes_max };
        let range = match need {
            _ if thorough => newest(records_max),
            Need::State | Need::Cursors | Need::Newest => newest(FIRST_READ),
            Need::Last(count) => newest((count as usize).clamp(FIRST_READ, records_max)),
            Need::After(offset) => Range { direction: Direction::After(offset), records_max, bytes_max },
        };
        let log = self.read_log(hub, keeper, range).await?;
        if self.is_read() && !self.wants_cursors() {
            return Ok(());
        }
        // A log that does not exist has nobody who has read it.
        self.read_cursors(hub, keeper, (log != 0).then(|| self.epoch())).await
    }

    /// Reads a part of the log and takes it in. Returns the log's epoch; 0: there is none.
    async fn read_log(
        self: &Arc<Self>,
        hub: &Inner,
        keeper: &Keeper,
        range: Range,
    ) -> Result<u64, StoreError> {
        let log = self.log_key();
        for _ in 0..READS_MAX {
            let before = self.lock().changes();
            let (mut page, ()) = tokio::try_join!(keeper.range(&log, range), self.read_topic(keeper))?;
            if matches!(range.direction, Direction::Before(_)) {
                page.records.reverse();
            }
            let epoch = page.state.epoch;
            let to_come = self.epoch_to_come(keeper, epoch).await?;
            if self.take_in(hub, page, to_come, before)? {
                return Ok(epoch);
            }
        }
        Err(changes_too_fast())
    }

    /// Reads a part of the log that nobody changes meanwhile.
    pub(super) async fn range_unchanged(&self, keeper: &Keeper, range: Range) -> Result<Page, StoreError> {
        let log = self.log_key();
        for _ in 0..READS_MAX {
            let before = self.lock().changes();
            let page = keeper.range(&log, range).await?;
            if !self.lock().is_changed(before, &offsets_of(&page.records)) {
                return Ok(page);
            }
        }
        Err(changes_too_fast())
    }

    /// The epoch of the log: `log`, or the one that it will have if it is 0.
    pub(super) async fn epoch_to_come(&self, keeper: &Keeper, log: u64) -> Result<Epoch, StoreError> {
        match log {
            0 if self.bus_topic.is_some() => keeper.epoch_to_come(&self.log_key()).await,
            0 => Ok(Epoch::random()),
            log => Ok(Epoch::from_u64(log)),
        }
    }

    /// Puts what was read before what is in memory. `to_come`: the epoch of a log that does not exist yet. `before`:
    /// the changes when the read began. Returns whether nothing of it was changed meanwhile; else it must be read again.
    fn take_in(
        self: &Arc<Self>,
        hub: &Inner,
        page: Page,
        to_come: Epoch,
        before: u64,
    ) -> Result<bool, StoreError> {
        let Page { state: log, records } = page;
        let mut state = self.lock();
        if !state.is_known() {
            let epoch = if log.epoch == 0 { to_come } else { Epoch::from_u64(log.epoch) };
            self.epoch.store(epoch.as_u64(), Ordering::Release);
            state.head = log.head;
            state.ordinal = log.ordinal;
            self.found(hub, &mut state);
        }
        let epoch = self.epoch();
        if log.epoch == epoch.as_u64() {
            state.first = state.first.max(log.first.max(1));
        }
        let begin = state.head + 1 - state.tail.len() as u64;
        let older: Vec<_> = records.into_iter().filter(|record| record.offset < begin).collect();
        // What is in memory follows every change, and is not dropped during a read.
        if state.is_changed(before, &offsets_of(&older)) {
            return Ok(false);
        }
        let older = older.into_iter().map(|record| self.message_of(record, epoch));
        let older: Result<Vec<_>, StoreError> = older.collect();
        let older: Vec<_> = older?
            .into_iter()
            .map(|message| Arc::new(Publication::message(message, hub.dialects.len())))
            .collect();
        let ends_at =
            older.last().and_then(|last| last.message_ref()?.position).map(|position| position.offset);
        // A read with a limit may have ended before what is in memory begins: it is of no use then.
        if ends_at == Some(begin - 1) {
            state.tail.prepend(older);
        }
        Ok(true)
    }

    /// A stored record as the message it was.
    pub(crate) fn message_of(&self, record: Stored, epoch: Epoch) -> Result<Message, StoreError> {
        let Some(name) = self.name.clone() else {
            return Err(StoreError::Invalid("the room that everybody is in has no log".to_owned()));
        };
        message_of(record, name, epoch)
    }

    /// Keeps the cache of a stored room within its bounds.
    pub(super) fn trim_cache(&self, hub: &Inner, state: &mut State) {
        let Some(loading) = &mut state.loading else { return };
        let pinned = loading.pinned.is_some_and(|until| tokio::time::Instant::now() < until);
        if loading.reading || pinned {
            return;
        }
        loading.pinned = None;
        loading.thorough = false;
        loading.exhausted = false;
        let keep = Retention {
            records_max: CACHED_MAX,
            bytes_max: hub.config().replay_bytes() as u64,
            age_max: Duration::ZERO,
        };
        if hub.history_cache.used() > hub.config().history_cache_bytes_max {
            state.tail.clear();
        } else {
            state.tail.trim(&keep, 0);
        }
    }
}

/// From the first to the last.
pub(super) fn offsets_of(records: &[Stored]) -> ops::Range<u64> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return 0..0 };
    first.offset.min(last.offset)..first.offset.max(last.offset) + 1
}

fn changes_too_fast() -> StoreError {
    StoreError::Unavailable("the room changes faster than it can be read".to_owned())
}

/// A stored record of the room of that name as the message it was.
pub(crate) fn message_of(record: Stored, room: RoomName, epoch: Epoch) -> Result<Message, StoreError> {
    let position = Position { epoch, offset: record.offset };
    decode_record(&record.payload, room.clone(), position).map_err(|damaged| {
        StoreError::Damaged(format!("message {} of the room {:?}: {damaged}", record.offset, room.as_str()))
    })
}
