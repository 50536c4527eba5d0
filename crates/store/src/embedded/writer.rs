//! The one thread that writes, and that gets the engine back on its feet.
//!
//! Jobs come over a bounded queue and are done in their order. A commit is one batch of the engine and one sync.
//! When a write fails, the engine is thrown away and opened anew, and the journal says whether the batch is there: then
//! the answer is known, and [`StoreError::InDoubt`] is left for when it cannot be opened. Before the journal is
//! believed it is written again, since what is read from it may never have reached the disk. While there is nothing else
//! to do, records of dropped logs are removed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Options;
use super::engine::{Batch as Writes, Engine, from_engine, hole, wrong_record};
use super::folder::{self, Folder};
use super::layout::{self, Family, Head, Kept, Past, Turn, Wrong};
use super::plan::{Heads, Plan, forget_record, remembered};
use crate::limits::{check, is_forgotten, local_clock};
use crate::{Appended, Batch, LogKey, LogState, Retention, StoreError, Stored};

/// Heads kept at hand; all are dropped when there are more, which is cheaper than choosing.
const HEADS_MAX: usize = 16_384;
/// How many records a trim or a sweep removes in one step.
const STEP: usize = 4_096;
/// How many records a block of the past has at most.
const PAST_BLOCK: usize = 512;
/// How long an engine that could not be opened is left alone.
const REOPEN_AFTER: Duration = Duration::from_millis(200);

/// Where the answer to a job goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Job {
    Commit(Batch, Reply<Vec<Appended>>),
    Trim(LogKey, Retention, i64, Reply<LogState>),
    Restore(LogKey, LogState, Vec<Stored>, Reply<LogState>),
    Drop(LogKey, Reply<()>),
    Close(Reply<()>),
}

/// A job and its place in the queue.
pub(super) type Queued = (Job, OwnedSemaphorePermit);

/// What the writer shares with the readers.
#[derive(Debug, Default)]
pub(super) struct Shared {
    engine: Mutex<Option<Arc<Engine>>>,
    trouble: Mutex<Option<StoreError>>,
}

impl Shared {
    /// The engine, for as long as one read lasts.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone();
        engine.ok_or_else(|| {
            self.trouble().unwrap_or_else(|| StoreError::Unavailable("the store is closed".to_owned()))
        })
    }

    /// Why nothing can be written just now.
    pub(super) fn trouble(&self) -> Option<StoreError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_engine(&self, engine: Option<Arc<Engine>>) -> Option<Arc<Engine>> {
        std::mem::replace(&mut *self.engine.lock().unwrap_or_else(PoisonError::into_inner), engine)
    }

    fn set_trouble(&self, trouble: Option<StoreError>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// What became of a write.
enum Written {
    Yes,
    /// Nothing was written; `again`: the engine failed before it came to this batch, and is well now.
    No {
        error: StoreError,
        again: bool,
    },
    Unknown(String),
}

pub(super) struct Writer {
    folder: Folder,
    options: Options,
    shared: Arc<Shared>,
    heads: Heads,
    turn: Turn,
    next_log: u64,
    tried: Option<Instant>,
    /// Whether dropped logs may have left records.
    sweeping: bool,
}

impl Writer {
    /// Opens the engine for the first time.
    pub(super) fn open(folder: Folder, options: Options, shared: Arc<Shared>) -> Result<Self, StoreError> {
        let engine = Engine::open(&folder, &options)?;
        let mut writer = Self {
            folder,
            options,
            shared,
            heads: Heads::new(),
            turn: Turn::default(),
            next_log: 1,
            tried: None,
            sweeping: true,
        };
        writer.take(engine)?;
        Ok(writer)
    }

    /// Makes an engine that was just opened the one that is used.
    fn take(&mut self, engine: Engine) -> Result<(), StoreError> {
        let view = engine.snapshot();
        let number = engine.turn(&view)?.map_or(0, |turn| turn.number);
        let next_log = match view.get(Family::Meta, layout::NEXT_LOG)? {
            Some(value) => layout::decode_number(layout::NEXT_LOG, &value)
                .map_err(|Wrong| super::engine::wrong("the number of the next log"))?,
            None => 1,
        };
        drop(view);
        self.heads.clear();
        // Opening synced the journal, and wrote it again where a sync may have failed.
        self.turn = Turn { number, durable: number };
        self.next_log = next_log;
        self.sweeping = true;
        self.shared.set_engine(Some(Arc::new(engine)));
        self.shared.set_trouble(None);
        Ok(())
    }

    pub(super) fn run(mut self, jobs: &Receiver<Queued>) {
        loop {
            let job = match jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    if self.sweeping {
                        self.sweep();
                        continue;
                    }
                    match jobs.recv_timeout(Duration::from_secs(1)) {
                        Ok(job) => job,
                        Err(RecvTimeoutError::Disconnected) => break,
                        Err(RecvTimeoutError::Timeout) => {
                            // So that reading resumes even if nobody writes.
                            if self.shared.trouble().is_some() {
                                let _ = self.ready();
                            }
                            continue;
                        }
                    }
                }
            };
            let (job, _place) = job;
            match job {
                Job::Close(reply) => {
                    self.let_go();
                    self.shared.set_trouble(Some(StoreError::Unavailable("the store is closed".to_owned())));
                    drop(self);
                    let _ = reply.send(Ok(()));
                    return;
                }
                job => self.do_job(job),
            }
        }
        self.let_go();
    }

    fn do_job(&mut self, job: Job) {
        // Who asked may have gone; the work is done all the same.
        match job {
            Job::Commit(batch, reply) => {
                let result = self.guarded(|writer| writer.commit(&batch));
                let _ = reply.send(result);
            }
            Job::Trim(log, keep, now, reply) => {
                let result = self.guarded(|writer| writer.trim(&log, keep, now));
                let _ = reply.send(result);
            }
            Job::Restore(log, start, records, reply) => {
                let result = self.guarded(|writer| writer.restore(&log, start, &records));
                let _ = reply.send(result);
            }
            Job::Drop(log, reply) => {
                let result = self.guarded(|writer| writer.drop_log(&log));
                let _ = reply.send(result);
            }
            Job::Close(_) => {}
        }
    }

    /// The engine panics on some damage. What was being done is in doubt then, and the engine is not used again.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|_| {
            self.folder.suspect();
            let path = self.folder.path().display();
            let text = format!("{path}: the engine gave up; see the log, and run `outspoke store verify`");
            self.heads.clear();
            self.shared.set_trouble(Some(StoreError::Unavailable(text.clone())));
            self.let_go();
            Err(StoreError::InDoubt(text))
        })
    }

    /// Closes the engine when the last reader is done with it.
    fn let_go(&mut self) {
        let Some(engine) = self.shared.set_engine(None) else { return };
        let watched = Arc::downgrade(&engine);
        engine.stop();
        drop(engine);
        while watched.strong_count() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn reopen(&mut self) -> Result<Arc<Engine>, StoreError> {
        self.folder.suspect();
        self.let_go();
        self.tried = Some(Instant::now());
        let opened = self.open_again().and_then(|engine| self.take(engine));
        if let Err(error) = opened {
            tracing::warn!(%error, "the store cannot be opened again");
            self.shared.set_trouble(Some(error.clone()));
            return Err(error);
        }
        tracing::info!(folder = %self.folder.path().display(), "the store was opened again");
        self.shared.engine()
    }

    fn open_again(&self) -> Result<Engine, StoreError> {
        let mut last = None;
        for _ in 0..3 {
            // The engine that was let go may take a moment to let its files go.
            match Engine::open(&self.folder, &self.options) {
                Err(StoreError::Unavailable(text)) => last = Some(StoreError::Unavailable(text)),
                other => return other,
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Unavailable("not tried".to_owned())))
    }

    /// An engine that can be written to; opened again if the last one failed.
    fn ready(&mut self) -> Result<Arc<Engine>, StoreError> {
        self.check_space(0, 0)?;
        if let Ok(engine) = self.shared.engine()
            && !engine.is_broken()
        {
            self.shared.set_trouble(None);
            return Ok(engine);
        }
        if let Some(trouble) = self.shared.trouble()
            && self.tried.is_some_and(|tried| tried.elapsed() < REOPEN_AFTER)
        {
            return Err(trouble);
        }
        self.reopen()
    }

    /// Refuses on a read-only file system, and when less than `reserve` would be left.
    fn check_space(&self, bytes: u64, reserve: u64) -> Result<(), StoreError> {
        let refusal = folder::refusal(self.folder.path(), bytes, reserve);
        if let Err(error) = &refusal {
            self.shared.set_trouble(Some(error.clone()));
        }
        refusal
    }

    /// Plans and writes in one step; once more if the engine had failed before it came to this.
    fn step<T>(
        &mut self,
        bytes: u64,
        plan: impl Fn(&mut Plan<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut last = None;
        for _ in 0..2 {
            let engine = self.ready()?;
            self.check_space(bytes, self.options.reserve_bytes)?;
            if let Err(error) = engine.wait_for_room() {
                last = Some(error);
                continue;
            }
            let mut planned = Plan::new(engine.snapshot(), &self.heads, self.next_log);
            let answer = plan(&mut planned)?;
            if planned.is_empty() {
                return self.synced(&engine).map(|()| answer);
            }
            let turn = self.next_turn();
            let mut writes = engine.batch();
            let (heads, next_log) = planned.write(&mut writes, turn);
            match self.conclude(writes.commit(true), turn, true, engine) {
                Written::Yes => {
                    self.next_log = next_log;
                    self.remember(heads);
                    return Ok(answer);
                }
                Written::No { error, again: true } => last = Some(error),
                Written::No { error, again: false } => return Err(error),
                Written::Unknown(text) => return Err(StoreError::InDoubt(text)),
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Unavailable("the engine failed twice".to_owned())))
    }

    /// Makes sure that what is answered as a repeat is durable: it may have come with a write that was not synced.
    fn synced(&mut self, engine: &Engine) -> Result<(), StoreError> {
        if self.turn.durable == self.turn.number {
            return Ok(());
        }
        if let Err(error) = engine.sync() {
            self.folder.suspect();
            return Err(StoreError::InDoubt(error.to_string()));
        }
        self.turn.durable = self.turn.number;
        Ok(())
    }

    fn next_turn(&self) -> Turn {
        Turn { number: self.turn.number + 1, durable: self.turn.durable }
    }

    fn remember(&mut self, heads: Vec<(LogKey, Head)>) {
        if self.heads.len() + heads.len() > HEADS_MAX {
            self.heads.clear();
        }
        self.heads.extend(heads);
    }

    /// Finds out what became of a write. The engine comes along so that nobody holds it when it is to be closed.
    fn conclude(
        &mut self,
        result: Result<(), fjall::Error>,
        turn: Turn,
        durable: bool,
        engine: Arc<Engine>,
    ) -> Written {
        drop(engine);
        let error = match result {
            Ok(()) => {
                self.turn.number = turn.number;
                if durable {
                    self.turn.durable = turn.number;
                }
                return Written::Yes;
            }
            Err(error) => error,
        };
        let again = matches!(error, fjall::Error::Poisoned);
        let error = from_engine(self.folder.path(), error);
        tracing::warn!(%error, "a write failed");
        self.folder.suspect();
        self.heads.clear();
        self.shared.set_trouble(Some(error.clone()));
        if self.check_space(0, 0).is_err() {
            // It could not be opened again; what is there can still be read.
            return Written::Unknown(error.to_string());
        }
        match self.reopen() {
            Err(reopening) => Written::Unknown(format!("{error}; {reopening}")),
            Ok(_) if self.turn.number < turn.number => Written::No { error, again },
            // The batch is in the journal, which was written again.
            Ok(_) => Written::Yes,
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<Vec<Appended>, StoreError> {
        check(batch)?;
        self.step(size_of(batch), |plan| plan.batch(batch, local_clock()))
    }

    fn restore(&mut self, log: &LogKey, start: LogState, records: &[Stored]) -> Result<LogState, StoreError> {
        let bytes = records.iter().map(|record| record.payload.len() as u64 + 128).sum();
        self.step(bytes, |plan| plan.restore(log, start, records))
    }

    fn drop_log(&mut self, log: &LogKey) -> Result<(), StoreError> {
        let engine = self.ready()?;
        let Some(head) = engine.snapshot().head(log)? else { return Ok(()) };
        engine.wait_for_room()?;
        let turn = self.next_turn();
        let mut writes = engine.batch();
        let doomed = layout::doomed_key(head.number);
        writes.insert(Family::Meta, layout::TURN, &turn.encode());
        writes.insert(Family::Meta, &doomed, &layout::sealed(Family::Meta, &doomed, &[]));
        writes.remove(Family::Logs, &layout::log_key(log));
        self.heads.remove(log);
        self.sweeping = true;
        self.settled(writes.commit(true), turn, true, engine)
    }

    /// Writes what is not worth another try by itself.
    fn settled(
        &mut self,
        result: Result<(), fjall::Error>,
        turn: Turn,
        durable: bool,
        engine: Arc<Engine>,
    ) -> Result<(), StoreError> {
        match self.conclude(result, turn, durable, engine) {
            Written::Yes => Ok(()),
            Written::No { error, .. } => Err(error),
            Written::Unknown(text) => Err(StoreError::InDoubt(text)),
        }
    }

    /// Trims in steps. None is synced: what comes back after a power loss is what was there before, and is trimmed
    /// again.
    fn trim(&mut self, log: &LogKey, keep: Retention, now: i64) -> Result<LogState, StoreError> {
        loop {
            let engine = self.ready()?;
            let Some(mut head) = engine.snapshot().head(log)? else { return Ok(LogState::default()) };
            if !may_drop(&head, keep) {
                return Ok(head.state);
            }
            engine.wait_for_room()?;
            let mut writes = engine.batch();
            let dropped = drop_oldest(&engine, log, &mut head, keep, now, &mut writes)?;
            if dropped == 0 {
                return Ok(head.state);
            }
            let turn = self.next_turn();
            let key = layout::log_key(log);
            writes.insert(Family::Meta, layout::TURN, &turn.encode());
            writes.insert(Family::Logs, &key, &head.encode(&key));
            self.heads.remove(log);
            self.settled(writes.commit(false), turn, false, engine)?;
            self.remember(vec![(log.clone(), head)]);
            if dropped < STEP {
                return Ok(head.state);
            }
        }
    }

    /// Removes some of what dropped logs left.
    fn sweep(&mut self) {
        let swept = self.guarded(|writer| writer.sweep_some());
        match swept {
            Ok(true) => {}
            Ok(false) => self.sweeping = false,
            Err(error) => {
                tracing::warn!(%error, "records of a dropped log are still there");
                self.sweeping = false;
            }
        }
    }

    /// Whether there may be more.
    fn sweep_some(&mut self) -> Result<bool, StoreError> {
        let engine = self.ready()?;
        let view = engine.snapshot();
        let Some(entry) = view.prefix(Family::Meta, layout::DOOMED.to_vec()).next() else { return Ok(false) };
        let (doomed, _) = entry?;
        let number = layout::doomed_of(&doomed).map_err(|Wrong| super::engine::wrong("a dropped log"))?;
        engine.wait_for_room()?;
        let mut writes = engine.batch();
        let mut left = STEP;
        for family in [Family::Records, Family::Keys, Family::Past] {
            for entry in view.prefix(family, number.to_be_bytes().to_vec()).take(left) {
                writes.remove(family, &entry?.0);
                left -= 1;
            }
        }
        if left > 0 {
            writes.remove(Family::Meta, &doomed);
        }
        let turn = self.next_turn();
        writes.insert(Family::Meta, layout::TURN, &turn.encode());
        drop(view);
        self.settled(writes.commit(false), turn, false, engine)?;
        Ok(true)
    }
}

fn size_of(batch: &Batch) -> u64 {
    let records = batch.appends.iter().flat_map(|append| &append.records);
    let replaces = batch.appends.iter().flat_map(|append| &append.replaces);
    let payloads = records.map(|record| &record.payload).chain(replaces.map(|replace| &replace.payload));
    payloads.map(|payload| payload.len() as u64 + 128).sum::<u64>() + batch.facts.len() as u64 * 1024
}

/// Whether a retention can drop anything, without looking at the records.
fn may_drop(head: &Head, keep: Retention) -> bool {
    let LogState { first, head, bytes, .. } = head.state;
    let records = head + 1 - first;
    records > 0 && (!keep.age_max.is_zero() || keep.drops(records, bytes, i64::MAX, 0))
}

/// Removes the oldest records, up to a step's worth; returns how many.
fn drop_oldest(
    engine: &Engine,
    log: &LogKey,
    head: &mut Head,
    keep: Retention,
    now: i64,
    writes: &mut Writes<'_>,
) -> Result<usize, StoreError> {
    let (number, newest) = (head.number, head.state.head);
    let at = |offset| layout::record_key(number, offset).to_vec();
    let view = engine.snapshot();
    let records = view.range(Family::Records, at(head.state.first), Some(at(newest + 1)));
    let mut past = Past::default();
    let mut last: Option<Kept> = None;
    let mut dropped = 0;
    for record in records.take(STEP) {
        let (key, value) = record?;
        let offset = head.state.first;
        let kept = Kept::decode(&key, &value).map_err(|Wrong| wrong_record(log, offset))?;
        if kept.stored.offset != offset {
            return Err(hole(log, offset));
        }
        let ts = kept.stored.ts;
        if !keep.drops(newest + 1 - offset, head.state.bytes, ts, now) {
            break;
        }
        writes.remove(Family::Records, &key);
        head.state.first = offset + 1;
        head.state.bytes = head.state.bytes.saturating_sub(kept.stored.payload.len() as u64);
        dropped += 1;
        if head.forgotten + 1 == offset && is_forgotten(offset, ts, newest, now) {
            forget_record(number, &remembered(&kept), |key| writes.remove(Family::Keys, &key));
            head.forgotten = offset;
        } else if offset > head.forgotten {
            past.records.push(remembered(&kept));
        }
        if past.records.len() == PAST_BLOCK {
            write_past(number, &mut past, &kept, writes);
        }
        last = Some(kept);
    }
    if let Some(last) = last {
        write_past(number, &mut past, &last, writes);
    }
    Ok(dropped)
}

fn write_past(number: u64, past: &mut Past, last: &Kept, writes: &mut Writes<'_>) {
    if !past.records.is_empty() {
        let key = layout::past_key(number, last.id_high, past.last());
        writes.insert(Family::Past, &key, &past.encode(&key));
        past.records.clear();
    }
}
