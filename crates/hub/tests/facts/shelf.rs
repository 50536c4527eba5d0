//! A store for tests: one in memory that can be held, refuse, and lose its answers, and that counts reads.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use bytes::Bytes;
use ecow::EcoString;
use outspoke_hub::store::limits::local_clock;
use outspoke_hub::store::{
    Answer, Appended, AuthoredPage, Batch, Direction, FactKey, FactPage, Health, LogKey, LogState, LogsPage,
    MemoryStore, Page, Place, Range, Retention, Space, Store, StoreError, VerifyReport,
};
use tokio::sync::watch;

/// What commits meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Works,
    /// They wait until the mood changes.
    Holds,
    /// Nothing is written.
    Refuses(StoreError),
    /// They break the contract.
    Panics,
    /// The answer is lost, this often; `written`: after the writing.
    Doubts {
        times: usize,
        written: bool,
    },
    /// The answer is lost once after the first appends were written, and the store's clock moves on by so many milliseconds.
    Away {
        appends_written: usize,
        facts_written: bool,
        ms: i64,
    },
    /// One for each commit from now on; then it works.
    Each(Vec<Self>),
}

#[derive(Debug)]
pub(crate) struct Shelf {
    inner: MemoryStore,
    mood: watch::Sender<Mood>,
    reads: AtomicUsize,
    fact_reads: AtomicUsize,
    commits: AtomicUsize,
    /// How often each family of facts was read.
    scans: Mutex<std::collections::HashMap<Space, usize>>,
    /// Facts without a message are lost, as in a crash before they are written.
    drops_facts: AtomicBool,
    /// Reads of logs and of families of facts are refused.
    fails_reads: AtomicBool,
    /// Facts cannot be read by their keys, nor by family.
    refuses_fact_reads: AtomicBool,
    is_shared: AtomicBool,
    /// How far its clock is ahead of the local one, in milliseconds.
    ahead: AtomicI64,
    /// The last time that a batch with records was given.
    not_after: Mutex<Option<i64>>,
    /// So many more reads of logs do not answer before they are let go.
    to_hold: AtomicUsize,
    let_go: watch::Sender<()>,
    /// How often each log was read.
    by_log: Mutex<std::collections::HashMap<EcoString, usize>>,
}

impl Shelf {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self::with_clock(false, 0))
    }

    /// One that several hubs may have, with a clock of its own.
    pub(crate) fn shared(ahead_ms: i64) -> Arc<Self> {
        Arc::new(Self::with_clock(true, ahead_ms))
    }

    /// From now on several hubs may have it.
    pub(crate) fn share(&self) {
        self.is_shared.store(true, Ordering::SeqCst);
    }

    fn with_clock(is_shared: bool, ahead_ms: i64) -> Self {
        Self {
            inner: MemoryStore::new(),
            mood: watch::Sender::new(Mood::Works),
            reads: AtomicUsize::new(0),
            fact_reads: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            scans: Mutex::default(),
            drops_facts: AtomicBool::new(false),
            fails_reads: AtomicBool::new(false),
            refuses_fact_reads: AtomicBool::new(false),
            is_shared: AtomicBool::new(is_shared),
            ahead: AtomicI64::new(ahead_ms),
            not_after: Mutex::default(),
            to_hold: AtomicUsize::new(0),
            let_go: watch::Sender::new(()),
            by_log: Mutex::default(),
        }
    }

    /// Its clock moves on, unseen.
    pub(crate) fn pass(&self, ms: i64) {
        self.ahead.fetch_add(ms, Ordering::SeqCst);
    }

    /// For how long after now, by its own clock, the last batch of messages might have been written.
    pub(crate) fn allowed_ms(&self) -> i64 {
        let now = local_clock() + self.ahead.load(Ordering::SeqCst);
        self.not_after.lock().unwrap().expect("a batch with a time") - now
    }

    async fn commit_by_clock(&self, batch: &Batch) -> Result<Vec<Appended>, StoreError> {
        if batch.has_records() {
            *self.not_after.lock().unwrap() = batch.not_after;
        }
        let ahead = self.ahead.load(Ordering::SeqCst);
        let not_after = batch.not_after.map(|not_after| not_after - ahead);
        let committed = self.inner.commit(&Batch { not_after, ..batch.clone() }).await;
        committed.map_err(|error| match error {
            StoreError::TooLate { now } => StoreError::TooLate { now: now + ahead },
            error => error,
        })
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Commits tried so far.
    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// How often facts were read.
    pub(crate) fn fact_reads(&self) -> usize {
        self.fact_reads.load(Ordering::SeqCst)
    }

    /// How often a family of facts was read.
    pub(crate) fn scans_of(&self, space: &'static str) -> usize {
        self.scans.lock().unwrap().get(&Space(space)).copied().unwrap_or(0)
    }

    /// Loses facts that come without a message.
    pub(crate) fn drop_fact_writes(&self, drop: bool) {
        self.drops_facts.store(drop, Ordering::SeqCst);
    }

    /// Refuses reads of logs and of families of facts; what logs there are it still says.
    pub(crate) fn fail_reads(&self, fail: bool) {
        self.fails_reads.store(fail, Ordering::SeqCst);
    }

    fn check_reads(&self) -> Result<(), StoreError> {
        if self.fails_reads.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("it does not read".to_owned()));
        }
        Ok(())
    }

    /// Lets nobody read facts, or everybody again.
    pub(crate) fn refuse_fact_reads(&self, refuse: bool) {
        self.refuses_fact_reads.store(refuse, Ordering::SeqCst);
    }

    fn fact_read<'a, T: Send + 'a>(&self, read: Answer<'a, T>) -> Answer<'a, T> {
        if self.refuses_fact_reads.load(Ordering::SeqCst) {
            let error = StoreError::Unavailable("facts cannot be read".to_owned());
            return Box::pin(std::future::ready(Err(error)));
        }
        read
    }

    /// How often the log of a room was read.
    pub(crate) fn reads_of(&self, room: &str) -> usize {
        self.by_log.lock().unwrap().get(room).copied().unwrap_or(0)
    }

    /// As when a replica takes over that did not have the last records: under the same epoch they are gone.
    pub(crate) async fn forget_last(&self, room: &str, count: usize) {
        let log = LogKey { tenant: "".into(), room: room.into() };
        let range = Range { direction: Direction::After(0), records_max: 100_000, bytes_max: usize::MAX };
        let Page { state, mut records } = self.inner.range(&log, range).await.unwrap();
        records.truncate(records.len() - count);
        self.inner.drop_log(&log).await.unwrap();
        let start = LogState { head: 0, ordinal: 0, ..state };
        self.inner.restore(&log, start, &records).await.unwrap();
    }

    /// Begins a log under the epoch that it has on another shelf, far ahead of that.
    pub(crate) async fn be_ahead_of(&self, other: &Self, room: &str, offset: u64) {
        let log = LogKey { tenant: "".into(), room: room.into() };
        let state = other.inner.states(std::slice::from_ref(&log)).await.unwrap()[0].unwrap();
        self.inner.restore(&log, LogState { head: offset, ..state }, &[]).await.unwrap();
    }

    /// The next reads of logs, so many, find what there is now, and answer with it when they are let go.
    pub(crate) fn hold_answers(&self, count: usize) {
        self.to_hold.store(count, Ordering::SeqCst);
    }

    /// Lets the answers go that are held.
    pub(crate) fn let_go(&self) {
        self.to_hold.store(0, Ordering::SeqCst);
        self.let_go.send_replace(());
    }

    async fn commit_in_mood(&self, batch: &Batch) -> Result<Vec<Appended>, StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        if batch.appends.is_empty() && self.drops_facts.load(Ordering::SeqCst) {
            return Ok(Vec::new());
        }
        let mut moods = self.mood.subscribe();
        let mut mood = moods.wait_for(|mood| *mood != Mood::Holds).await.unwrap().clone();
        if let Mood::Each(mut moods) = mood {
            mood = moods.remove(0);
            self.set(if moods.is_empty() { Mood::Works } else { Mood::Each(moods) });
        }
        match mood {
            Mood::Works | Mood::Holds | Mood::Each(_) => self.commit_by_clock(batch).await,
            Mood::Away { appends_written, facts_written, ms } => {
                if *self.mood.borrow() == mood {
                    self.set(Mood::Works);
                }
                let appends = batch.appends.iter().take(appends_written).cloned().collect();
                let facts = if facts_written { batch.facts.clone() } else { Vec::new() };
                self.commit_by_clock(&Batch { appends, facts, ..batch.clone() }).await?;
                self.pass(ms);
                Err(StoreError::InDoubt("the answer was lost".to_owned()))
            }
            Mood::Refuses(error) => Err(error),
            Mood::Panics => panic!("no store panics"),
            Mood::Doubts { times, written } => {
                self.set(match times {
                    0 | 1 => Mood::Works,
                    times => Mood::Doubts { times: times - 1, written },
                });
                if written {
                    self.commit_by_clock(batch).await?;
                }
                Err(StoreError::InDoubt("the answer was lost".to_owned()))
            }
        }
    }
}

impl Store for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::SeqCst)
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, Vec<Appended>> {
        Box::pin(self.commit_in_mood(batch))
    }

    fn range<'a>(&'a self, log: &'a LogKey, range: Range) -> Answer<'a, Page> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        *self.by_log.lock().unwrap().entry(log.room.clone()).or_default() += 1;
        Box::pin(async move {
            if let Mood::Refuses(error) = self.mood.borrow().clone() {
                return Err(error);
            }
            self.check_reads()?;
            // As a real store, it gives others a turn.
            tokio::task::yield_now().await;
            let page = self.inner.range(log, range).await;
            let one_less = |count: usize| count.checked_sub(1);
            if self.to_hold.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                self.let_go.subscribe().changed().await.unwrap();
            }
            page
        })
    }

    fn states<'a>(&'a self, logs: &'a [LogKey]) -> Answer<'a, Vec<Option<LogState>>> {
        self.inner.states(logs)
    }

    fn trim<'a>(&'a self, log: &'a LogKey, keep: Retention, now: i64) -> Answer<'a, LogState> {
        self.inner.trim(log, keep, now)
    }

    fn drop_log<'a>(&'a self, log: &'a LogKey) -> Answer<'a, ()> {
        self.inner.drop_log(log)
    }

    fn logs<'a>(&'a self, tenant: &'a str, after: Option<&'a str>, max: usize) -> Answer<'a, LogsPage> {
        self.inner.logs(tenant, after, max)
    }

    fn tenants(&self) -> Answer<'_, Vec<EcoString>> {
        self.inner.tenants()
    }

    fn facts<'a>(&'a self, keys: &'a [FactKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        self.fact_reads.fetch_add(1, Ordering::SeqCst);
        self.fact_read(self.inner.facts(keys))
    }

    fn scan<'a>(
        &'a self,
        tenant: &'a str,
        space: Space,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        max: usize,
    ) -> Answer<'a, FactPage> {
        *self.scans.lock().unwrap().entry(space).or_default() += 1;
        Box::pin(async move {
            self.check_reads()?;
            self.fact_read(self.inner.scan(tenant, space, prefix, after, max)).await
        })
    }

    fn authored<'a>(
        &'a self,
        tenant: &'a str,
        author: &'a str,
        from: Option<Place>,
        max: usize,
    ) -> Answer<'a, AuthoredPage> {
        self.inner.authored(tenant, author, from, max)
    }

    fn health(&self) -> Answer<'_, Health> {
        self.inner.health()
    }

    fn verify(&self) -> Answer<'_, VerifyReport> {
        self.inner.verify()
    }

    fn compact(&self) -> Answer<'_, u64> {
        self.inner.compact()
    }

    fn close(&self) -> Answer<'_, ()> {
        // Another hub goes on with it.
        Box::pin(std::future::ready(Ok(())))
    }
}
