//! Keeps logs and facts in Redis (6.2 or newer) or Valkey, a single server or a cluster, which several hubs may share.
//!
//! A log is a stream whose entries have the log's own offsets as ids, beside a few small keys; all keys of a log share a hash
//! tag, so that they are on one node of a cluster. An append is one script: Redis runs it alone and as a whole, and
//! it finds by itself what is there already. Streams cannot be changed, so replaced payloads are kept beside and merged
//! when read.
//!
//! What an answer of Redis means for what survives a crash is the server's configuration, and by default it is little:
//! that is found out on connecting and said in [`Health::durability`] and in the log.
//!
//! Neighbours: `options` (what is configured), `link` (connections, and when to try again), `keys` (names of
//! keys), `scripts` (what runs in the server), `commit`, `read`, `care` (each a part of the contract), `errors` (what
//! an error means). Invariant: with an append-only file that is synced always, nothing is answered as written
//! that a crash of the server could lose.

mod care;
mod commit;
mod errors;
mod format;
mod keys;
mod link;
mod options;
mod read;
mod scripts;

use bytes::Bytes;
use ecow::EcoString;

pub use options::RedisOptions;

use crate::remote::walk;
use crate::{
    Answer, Appended, AuthoredPage, Batch, FactKey, FactPage, Health, LogKey, LogState, LogsPage, Page,
    Place, Range, Retention, Space, Store, StoreError, Stored, VerifyReport,
};
use link::Links;

/// Logs and facts in Redis. See the [module](self) for how.
#[derive(Debug)]
pub struct RedisStore {
    links: Links,
}

impl RedisStore {
    /// Prepares a store without connecting: what the address leads to is found out when it is first needed, and tried
    /// again until it answers.
    ///
    /// Connections live on the runtime this is called from.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the options make no sense in themselves.
    ///
    /// # Panics
    /// There is no tokio runtime.
    pub fn new(options: &RedisOptions) -> Result<Self, StoreError> {
        Ok(Self { links: Links::new(options)? })
    }

    /// Connects, or says what to correct.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`StoreError::Unavailable`] when there is no server, or it lets us not in.
    ///
    /// # Panics
    /// There is no tokio runtime.
    pub async fn open(options: &RedisOptions) -> Result<Self, StoreError> {
        let store = Self::new(options)?;
        store.links.connect_reader().await?;
        Ok(store)
    }
}

impl Store for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, Vec<Appended>> {
        Box::pin(commit::commit(&self.links, batch))
    }

    fn range<'a>(&'a self, log: &'a LogKey, range: Range) -> Answer<'a, Page> {
        Box::pin(read::range(&self.links, log, range))
    }

    fn states<'a>(&'a self, logs: &'a [LogKey]) -> Answer<'a, Vec<Option<LogState>>> {
        Box::pin(read::states(&self.links, logs))
    }

    fn trim<'a>(&'a self, log: &'a LogKey, keep: Retention, now: i64) -> Answer<'a, LogState> {
        Box::pin(commit::trim(&self.links, log, keep, now))
    }

    fn restore<'a>(
        &'a self,
        log: &'a LogKey,
        start: LogState,
        records: &'a [Stored],
    ) -> Answer<'a, LogState> {
        Box::pin(commit::restore(&self.links, log, start, records))
    }

    fn drop_log<'a>(&'a self, log: &'a LogKey) -> Answer<'a, ()> {
        Box::pin(commit::drop_log(&self.links, log))
    }

    fn logs<'a>(&'a self, tenant: &'a str, after: Option<&'a str>, max: usize) -> Answer<'a, LogsPage> {
        Box::pin(read::logs(&self.links, tenant, after, max))
    }

    fn tenants(&self) -> Answer<'_, Vec<EcoString>> {
        Box::pin(read::tenants(&self.links))
    }

    fn facts<'a>(&'a self, keys: &'a [FactKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        Box::pin(read::facts(&self.links, keys))
    }

    fn scan<'a>(
        &'a self,
        tenant: &'a str,
        space: Space,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        max: usize,
    ) -> Answer<'a, FactPage> {
        Box::pin(read::scan(&self.links, (tenant, space.0), prefix, after, max))
    }

    fn authored<'a>(
        &'a self,
        tenant: &'a str,
        author: &'a str,
        from: Option<Place>,
        max: usize,
    ) -> Answer<'a, AuthoredPage> {
        Box::pin(walk::authored(self, tenant, author, from, max))
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(care::health(&self.links))
    }

    fn verify(&self) -> Answer<'_, VerifyReport> {
        Box::pin(care::verify(self, &self.links))
    }

    /// Redis gives space back by itself, and rewrites its append-only file when it finds that worth while.
    fn compact(&self) -> Answer<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.links.close().await;
            Ok(())
        })
    }
}
