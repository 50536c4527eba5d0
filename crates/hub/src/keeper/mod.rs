//! The keeper of a store: everything the hub writes goes through it, in one order, many at a time.
//!
//! Shards submit messages of stored rooms; while one batch is being made durable, the next gathers (group commit).
//! What has become durable goes back to its room, which hands it out, and then its publisher is told: so nobody sees
//! a message that a crash could take back. One keeper per store, as a task on a thread of its own; reads run beside the
//! writing.
//!
//! Invariants: jobs are done in the order of the queue. A message is refused only if it is known for sure that it was
//! not written; until that is known, it stays unanswered, and a client's for ever if nobody can know any more. The queue is bounded
//! in bytes, and in time the wait in it of everything that somebody waits for, whatever stands before it.

mod amend;
mod commit;
mod erase;
mod fence;
mod job;
mod queue;
mod seed;
mod sweep;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{ErrorCode, Message, Refusal, RequestId};
use outspoke_store::{
    Batch, FactKey, FactPage, FactWrite, LogKey, LogState, Page, Range, Record, Space, Store, StoreError,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use self::amend::Amendment;
use self::fence::Fence;
use self::job::{Asker, Job};
use self::queue::Queue;
pub(crate) use self::seed::key as key_of_epochs;
use crate::analytics::Analytics;
use crate::clock::CarefulClock;
use crate::error::PublishError;
use crate::hub::Inner;
use crate::quota::Charge;
use crate::room::{Published, Room};
use crate::shard::Key;
use crate::shard::command::LastCall;
use crate::stats::Histogram;

/// Writes to one store and reads from it.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// What room classes call it.
    pub(crate) name: EcoString,
    store: Arc<dyn Store>,
    queue: Queue,
    fence: Fence,
    /// By which messages are too old.
    clock: CarefulClock,
    runtime: OnceLock<Handle>,
    pub(crate) counters: KeeperCounters,
}

/// What a keeper counts and measures.
#[derive(Debug)]
pub(crate) struct KeeperCounters {
    pub(crate) commits: AtomicU64,
    pub(crate) committed: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) log_reads: AtomicU64,
    /// Messages that rooms have read rather than heard of.
    pub(crate) repairs: AtomicU64,
    /// Times that members were told that messages are not to be had.
    pub(crate) gaps: AtomicU64,
    pub(crate) commit_times: Histogram,
    pub(crate) commit_messages: Histogram,
    pub(crate) acknowledgements: Histogram,
}

impl Default for KeeperCounters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            commits: zero(),
            committed: zero(),
            refused: zero(),
            log_reads: zero(),
            repairs: zero(),
            gaps: zero(),
            commit_times: Histogram::of_times(),
            commit_messages: Histogram::of_numbers(),
            acknowledgements: Histogram::of_times(),
        }
    }
}

/// A message on its way into a store.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) room: Arc<Room>,
    /// Without a place yet.
    pub(crate) message: Message,
    pub(crate) record: Record,
    pub(crate) origin: Origin,
    /// Facts that become durable with it.
    pub(crate) facts: Vec<FactWrite>,
    /// Its bytes among those that its tenant may store.
    pub(crate) charge: Charge,
    /// When the hub had it.
    pub(crate) accepted: std::time::Instant,
    /// Not begun by then: refused.
    pub(crate) deadline: Instant,
    /// Ends with it.
    pub(crate) span: tracing::Span,
}

/// Why something will not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// More is waiting for the store than may.
    Full,
    /// The keeper has ended.
    Closed,
}

impl From<NotQueued> for StoreError {
    fn from(error: NotQueued) -> Self {
        match error {
            NotQueued::Full => Self::Unavailable("too much is waiting for it".to_owned()),
            NotQueued::Closed => stopped(),
        }
    }
}

impl From<NotQueued> for PublishError {
    fn from(error: NotQueued) -> Self {
        match error {
            NotQueued::Full => Self::Overloaded,
            NotQueued::Closed => Self::Stopping,
        }
    }
}

impl From<NotQueued> for Refusal {
    fn from(error: NotQueued) -> Self {
        let detail = match error {
            NotQueued::Full => "the storage cannot keep up: nothing was done; send it again later",
            NotQueued::Closed => "the storage is away: nothing was done; send it again later",
        };
        Self::new(ErrorCode::Unavailable, detail)
    }
}

/// Who waits for the answer.
#[derive(Debug)]
pub(crate) enum Origin {
    Client { shard: usize, key: Key, request: Option<RequestId> },
    Api(oneshot::Sender<Result<Published, PublishError>>),
}

impl Submission {
    /// About how much memory it holds.
    fn weight(&self) -> usize {
        512 + 2 * self.record.payload.len()
    }
}

impl Keeper {
    pub(crate) fn new(name: EcoString, store: Arc<dyn Store>, queue_bytes_max: usize) -> Self {
        Self {
            name,
            store,
            queue: Queue::new(queue_bytes_max),
            fence: Fence::default(),
            clock: CarefulClock::default(),
            runtime: OnceLock::new(),
            counters: KeeperCounters::default(),
        }
    }

    /// How much may wait for the store from now on.
    pub(crate) fn set_queue_bytes_max(&self, bytes_max: usize) {
        self.queue.set_bytes_max(bytes_max);
    }

    /// Says where the keeper runs, before anybody asks it for anything.
    pub(crate) fn lives_on(&self, runtime: Handle) {
        // Set once: a hub is built once.
        let _ = self.runtime.set(runtime);
    }

    /// Queues a message; its origin is answered in any case but an error here.
    ///
    /// # Errors
    /// See [`NotQueued`].
    pub(crate) fn submit(&self, submission: Box<Submission>) -> Result<(), NotQueued> {
        let weight = submission.weight();
        self.queue.offer(Job::Publish(submission), weight)
    }

    /// Queues a change to an earlier message; its origin is answered in any case but an error here.
    ///
    /// # Errors
    /// See [`NotQueued`].
    pub(crate) fn submit_amendment(&self, amendment: Box<Amendment>) -> Result<(), NotQueued> {
        self.queue.offer(Job::Amend(amendment), 1024)
    }

    /// The time by which messages are too old to be kept, in milliseconds since 1970.
    fn age_clock(&self, hub: &Inner) -> i64 {
        self.clock.follow(Instant::now(), hub.now()).as_millis()
    }

    /// Bytes that wait to be written.
    pub(crate) fn queue_bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Whether other hubs may write to the same store.
    pub(crate) fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Makes facts durable, in order with the messages before and after.
    pub(crate) async fn write(&self, facts: Vec<FactWrite>) -> Result<(), StoreError> {
        let weight = facts.iter().map(weight_of_fact).sum();
        self.ask(weight, |asker| Job::Write(facts, Some(asker))).await
    }

    /// Makes facts durable some time soon; whether it came about nobody asks.
    pub(crate) fn write_soon(&self, facts: Vec<FactWrite>) {
        let weight = facts.iter().map(weight_of_fact).sum();
        if let Err(error) = self.queue.offer(Job::Write(facts, None), weight) {
            tracing::warn!(store = %self.name, error = %StoreError::from(error), "facts were not written");
        }
    }

    /// Queues what is no message, and waits for its end.
    async fn ask<T>(&self, weight: usize, job: impl FnOnce(Asker<T>) -> Job) -> Result<T, StoreError> {
        let (asker, outcome) = Asker::new();
        self.queue.offer(job(asker), weight)?;
        outcome.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Holds the farewell back until everything that is queued is done.
    pub(crate) fn last_call(&self, last_call: Arc<LastCall>) {
        self.queue.push(Job::LastCall(last_call));
    }

    /// Runs something beside the writing, on the keeper's runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            drop(runtime.spawn(task));
        }
    }

    /// Runs a read on the keeper's runtime, where the store's connections live.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl AsyncFnOnceSend<T>,
    ) -> Result<T, StoreError> {
        let Some(runtime) = self.runtime.get() else {
            return Err(StoreError::Unavailable("the hub is starting".to_owned()));
        };
        runtime.spawn(read.call(Arc::clone(&self.store))).await.map_err(|_| stopped())?
    }

    /// Reads a part of a log.
    pub(crate) async fn range(&self, log: &LogKey, range: Range) -> Result<Page, StoreError> {
        self.counters.log_reads.fetch_add(1, Ordering::Relaxed);
        let log = log.clone();
        self.read(move |store: Arc<dyn Store>| async move { store.range(&log, range).await }).await
    }

    /// What each log has.
    pub(crate) async fn states(&self, logs: Vec<LogKey>) -> Result<Vec<Option<LogState>>, StoreError> {
        self.read(move |store: Arc<dyn Store>| async move { store.states(&logs).await }).await
    }

    /// Reads facts by their keys.
    pub(crate) async fn facts(&self, keys: Vec<FactKey>) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.read(move |store: Arc<dyn Store>| async move { store.facts(&keys).await }).await
    }

    /// Reads a family of facts.
    pub(crate) async fn scan(
        &self,
        tenant: EcoString,
        space: Space,
        prefix: Bytes,
        after: Option<Bytes>,
        max: usize,
    ) -> Result<FactPage, StoreError> {
        self.read(move |store: Arc<dyn Store>| async move {
            store.scan(&tenant, space, &prefix, after.as_deref(), max).await
        })
        .await
    }

    /// Works until the hub has ended, then closes the store.
    pub(crate) async fn run(self: Arc<Self>, hub: Arc<Inner>) {
        let first = hub.keepers.first().is_some_and(|first| Arc::ptr_eq(first, &self));
        // Ends with the hub, after the last figures are written.
        let mut counting = tokio::spawn(Analytics::run(Arc::clone(&hub), first));
        let closing = Closing { keeper: &self, hub: &hub };
        let sweeping = tokio::spawn(Arc::clone(&self).sweep(Arc::clone(&hub)));
        loop {
            let jobs = tokio::select! {
                // What is queued is done before the end is looked at.
                biased;
                jobs = self.queue.take() => jobs,
                _ = &mut counting => break,
            };
            self.work(&hub, jobs).await;
        }
        drop(closing);
        sweeping.abort();
        if let Err(error) = self.store.close().await {
            tracing::error!(store = %self.name, %error, "the store was not closed in good order");
        }
    }
}

/// Closes the queue when the keeper ends, however it does: whoever waits for it is told.
struct Closing<'a> {
    keeper: &'a Keeper,
    hub: &'a Inner,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(store = %self.keeper.name, "the store has panicked: nothing more is written to it");
        }
        self.keeper.turn_away(self.hub, self.keeper.queue.close(), &stopped());
    }
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the hub has stopped".to_owned())
}

/// A read: takes the store, gives a future.
pub(crate) trait AsyncFnOnceSend<T>: Send + 'static {
    /// Begins the read.
    fn call(self, store: Arc<dyn Store>) -> impl Future<Output = Result<T, StoreError>> + Send + 'static;
}

impl<T, F, Fut> AsyncFnOnceSend<T> for F
where
    F: FnOnce(Arc<dyn Store>) -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    fn call(self, store: Arc<dyn Store>) -> impl Future<Output = Result<T, StoreError>> + Send + 'static {
        self(store)
    }
}

fn weight_of_fact(write: &FactWrite) -> usize {
    match write {
        FactWrite::Set(key, value) | FactWrite::Max(key, value) => 128 + key.name.len() + value.len(),
        FactWrite::Delete(key) => 128 + key.name.len(),
    }
}

/// What a client is told of a store's error.
pub(crate) fn refusal_of_store(error: &StoreError) -> Refusal {
    match error {
        StoreError::Full(_) => Refusal::new(
            ErrorCode::StorageFull,
            "the storage is full: nothing was published; try again later",
        ),
        StoreError::Damaged(_) => Refusal::new(
            ErrorCode::Unavailable,
            "what is stored of this room is damaged and is not served; tell the operator",
        ),
        _ => {
            let detail = "the storage is away: nothing was published; try again later";
            Refusal::new(ErrorCode::Unavailable, detail)
        }
    }
}

/// An empty batch has nothing to make durable.
pub(super) fn is_empty(batch: &Batch) -> bool {
    batch.appends.is_empty() && batch.facts.is_empty()
}
