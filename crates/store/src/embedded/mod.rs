//! The store in a folder beside the hub: durable, in one process, without a server.
//!
//! ```text
//! commit, trim, drop ──▶ writer (one thread) ──▶ engine (fjall): one batch, one sync
//! range, facts, ...  ──▶ pool (a few threads) ──▶ a view of the engine at one moment
//! ```
//!
//! * `folder` takes the folder for this process, knows its format and what space is left.
//! * `journal` looks at the engine's journals before it opens: cuts a torn tail, refuses damage.
//! * `engine` opens fjall and translates its errors; `layout` is what is on disk, each value with a checksum.
//! * `plan` decides what a batch comes to; `writer` writes it and gets the engine back on its feet when that fails.
//! * `reads` answers questions; `pool` does that away from the caller's thread.
//!
//! What holds: a commit is answered after its sync; a reader sees a batch whole or not at all, and never before it is
//! durable; a value is served only if its checksum matches. Trims are not synced (what they removed may come back after
//! a power loss, and is trimmed again). When to trim is left to the caller, and so is how many commits go into a batch.

mod engine;
mod folder;
mod journal;
mod layout;
mod plan;
mod pool;
mod reads;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use ecow::EcoString;
use tokio::sync::{Semaphore, oneshot};

use folder::Folder;
use pool::Pool;
use writer::{Job, Queued, Reply, Shared, Writer};

use crate::{
    Answer, Appended, AuthoredPage, Batch, FactKey, FactPage, Health, LogKey, LogState, LogsPage, Page,
    Place, Range, Retention, Space, Store, StoreError, Stored, VerifyReport,
};

/// Jobs that may wait for the writer; who comes after them waits to be let in.
const QUEUE: usize = 64;

/// What an embedded store may use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Space that is left free on the file system, in bytes: commits are refused before it is used, so that trimming
    /// and the engine's own files have room. Default 64 MiB. Zero: none.
    pub reserve_bytes: u64,
    /// Blocks of files kept in memory, in bytes. Default 16 MiB.
    pub cache_bytes: u64,
    /// How much the newest records may take in memory before they are written into a file of their own, in bytes, and
    /// how much their keys; up to three times that while the disk is busy. The rest has a quarter. Default 16 MiB.
    pub memtable_bytes: u64,
    /// Threads that read. Default 2.
    pub readers: usize,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self { reserve_bytes: 64 * MIB, cache_bytes: 16 * MIB, memtable_bytes: 16 * MIB, readers: 2 }
    }
}

/// Logs and facts in a folder.
///
/// Dropping it without [`close`](Store::close) waits for the jobs that are begun, and loses nothing that was answered.
#[derive(Debug)]
pub struct EmbeddedStore {
    path: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    pool: Pool,
    jobs: Mutex<Option<SyncSender<Queued>>>,
    places: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in a folder, which is made if it is not there. Blocks for as long as that takes: what the
    /// journals hold is read, at most some 130 MB.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when another process has the folder or it cannot be used;
    /// [`StoreError::Damaged`] when what is there is not what was written, or a newer version wrote it.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let folder = Folder::take(&path)?;
        let shared = Arc::new(Shared::default());
        let writer = Writer::open(folder, options.clone(), shared.clone())?;
        let no_thread = |error| StoreError::Unavailable(format!("no thread for the store: {error}"));
        let pool = Pool::start(options.readers, shared.clone()).map_err(no_thread)?;
        let (jobs, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("store-write".to_owned());
        let thread = thread.spawn(move || writer.run(&queue)).map_err(no_thread)?;
        Ok(Self {
            path,
            options,
            shared,
            pool,
            jobs: Mutex::new(Some(jobs)),
            places: Arc::new(Semaphore::new(QUEUE)),
            writer: Mutex::new(Some(thread)),
        })
    }

    /// Looks at the journals of a folder that cannot be opened, and says what is wrong; changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the place; [`StoreError::Unavailable`] when another process has the folder.
    pub fn examine(path: impl AsRef<Path>) -> Result<(), StoreError> {
        let folder = Folder::take(path.as_ref())?;
        if folder.is_marked()? {
            folder.check_whole()?;
            journal::inspect(&folder.engine(), false)?;
        }
        Ok(())
    }

    /// Has the writer do a job.
    async fn job<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        let place = self.places.clone().acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        {
            let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let jobs = jobs.as_ref().ok_or_else(closed)?;
            // There is a place for it, so this does not wait; it fails only without a writer.
            jobs.try_send((job(reply), place)).map_err(|_| closed())?;
        }
        answer.await.map_err(|_| StoreError::InDoubt("the writer ended before it answered".to_owned()))?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // Without senders the writer ends when it has done what is queued.
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = writer.join();
        }
    }
}

impl Store for EmbeddedStore {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, Vec<Appended>> {
        Box::pin(self.job(|reply| Job::Commit(batch.clone(), reply)))
    }

    fn range<'a>(&'a self, log: &'a LogKey, range: Range) -> Answer<'a, Page> {
        let log = log.clone();
        Box::pin(self.pool.read(move |engine| reads::range(engine, &log, range)))
    }

    fn states<'a>(&'a self, logs: &'a [LogKey]) -> Answer<'a, Vec<Option<LogState>>> {
        let logs = logs.to_vec();
        Box::pin(self.pool.read(move |engine| reads::states(engine, &logs)))
    }

    fn trim<'a>(&'a self, log: &'a LogKey, keep: Retention, now: i64) -> Answer<'a, LogState> {
        Box::pin(self.job(move |reply| Job::Trim(log.clone(), keep, now, reply)))
    }

    fn restore<'a>(
        &'a self,
        log: &'a LogKey,
        start: LogState,
        records: &'a [Stored],
    ) -> Answer<'a, LogState> {
        Box::pin(self.job(move |reply| Job::Restore(log.clone(), start, records.to_vec(), reply)))
    }

    fn drop_log<'a>(&'a self, log: &'a LogKey) -> Answer<'a, ()> {
        Box::pin(self.job(|reply| Job::Drop(log.clone(), reply)))
    }

    fn logs<'a>(&'a self, tenant: &'a str, after: Option<&'a str>, max: usize) -> Answer<'a, LogsPage> {
        let (tenant, after) = (EcoString::from(tenant), after.map(EcoString::from));
        Box::pin(self.pool.read(move |engine| reads::logs(engine, &tenant, after.as_deref(), max)))
    }

    fn tenants(&self) -> Answer<'_, Vec<EcoString>> {
        Box::pin(self.pool.read(reads::tenants))
    }

    fn facts<'a>(&'a self, keys: &'a [FactKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        let keys = keys.to_vec();
        Box::pin(self.pool.read(move |engine| reads::facts(engine, &keys)))
    }

    fn scan<'a>(
        &'a self,
        tenant: &'a str,
        space: Space,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        max: usize,
    ) -> Answer<'a, FactPage> {
        let (tenant, prefix) = (EcoString::from(tenant), prefix.to_vec());
        let after = after.map(<[u8]>::to_vec);
        Box::pin(
            self.pool.read(move |engine| reads::scan(engine, &tenant, space, &prefix, after.as_deref(), max)),
        )
    }

    fn authored<'a>(
        &'a self,
        tenant: &'a str,
        author: &'a str,
        from: Option<Place>,
        max: usize,
    ) -> Answer<'a, AuthoredPage> {
        let (tenant, author) = (EcoString::from(tenant), EcoString::from(author));
        Box::pin(self.pool.read(move |engine| reads::authored(engine, &tenant, &author, from.as_ref(), max)))
    }

    fn health(&self) -> Answer<'_, Health> {
        let path = self.path.clone();
        let (trouble, reserve) = (self.shared.trouble(), self.options.reserve_bytes);
        Box::pin(async move {
            let trouble = trouble.or_else(|| folder::refusal(&path, 0, reserve).err());
            Ok(Health {
                writable: trouble.is_none(),
                detail: trouble.map(|trouble| trouble.to_string()).unwrap_or_default(),
                durability: format!(
                    "synced to {} before it is acknowledged: survives the end of the process and a power loss, \
                     not the loss of the disk",
                    path.display()
                ),
            })
        })
    }

    fn verify(&self) -> Answer<'_, VerifyReport> {
        Box::pin(self.pool.work(|engine| Ok(reads::verify(engine))))
    }

    fn compact(&self) -> Answer<'_, u64> {
        Box::pin(self.pool.work(engine::Engine::compact))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.job(Job::Close).await?;
            drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
            Ok(())
        })
    }
}
