//! Keeps logs and facts in a PostgreSQL database, which several hubs may share.
//!
//! A batch is one transaction of two round trips: the first locks the rows of its logs and finds what is there already, the
//! second writes and commits. The lock is what keeps offsets without holes when several hubs write, and what makes a repeated
//! batch exact: while an earlier try of it is still on its way through a server that was paused, it holds the lock, so
//! the repetition waits and then finds everything done.
//!
//! Neighbours: `options` (what is configured), `connect` (one connection and its session), `pool` (which connection
//! does what, and when to try again), `schema` (tables and migrations), `commit` with `columns`, `read`, `trim`, `care` (each
//! a part of the contract), `errors` (what an error means). Invariant: nothing is answered as written before the server has
//! confirmed the commit, and nothing as not written after the commit was sent.

mod care;
mod columns;
mod commit;
mod connect;
mod errors;
mod options;
mod pool;
mod read;
mod schema;
mod tls;
mod trim;

use bytes::Bytes;
use ecow::EcoString;

pub use options::PostgresOptions;

use crate::{
    Answer, Appended, AuthoredPage, Batch, FactKey, FactPage, Health, LogKey, LogState, LogsPage, Page,
    Place, Range, Retention, Space, Store, StoreError, Stored, VerifyReport,
};
use pool::Pool;

/// Logs and facts in PostgreSQL. See the [module](self) for how.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
}

impl PostgresStore {
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
    pub fn new(options: &PostgresOptions) -> Result<Self, StoreError> {
        Ok(Self { pool: Pool::new(options)? })
    }

    /// Connects and brings the tables up to date, or says what to correct.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`StoreError::Unavailable`] when there is no server, or it lets us not in.
    ///
    /// # Panics
    /// There is no tokio runtime.
    pub async fn open(options: &PostgresOptions) -> Result<Self, StoreError> {
        let store = Self::new(options)?;
        store.pool.reader().await?.keep();
        Ok(store)
    }
}

impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        "postgresql"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, Vec<Appended>> {
        Box::pin(commit::commit(&self.pool, batch))
    }

    fn range<'a>(&'a self, log: &'a LogKey, range: Range) -> Answer<'a, Page> {
        Box::pin(read::range(&self.pool, log, range))
    }

    fn states<'a>(&'a self, logs: &'a [LogKey]) -> Answer<'a, Vec<Option<LogState>>> {
        Box::pin(read::states(&self.pool, logs))
    }

    fn trim<'a>(&'a self, log: &'a LogKey, keep: Retention, now: i64) -> Answer<'a, LogState> {
        Box::pin(trim::trim(&self.pool, log, keep, now))
    }

    fn restore<'a>(
        &'a self,
        log: &'a LogKey,
        start: LogState,
        records: &'a [Stored],
    ) -> Answer<'a, LogState> {
        Box::pin(trim::restore(&self.pool, log, start, records))
    }

    fn drop_log<'a>(&'a self, log: &'a LogKey) -> Answer<'a, ()> {
        Box::pin(trim::drop_log(&self.pool, log))
    }

    fn logs<'a>(&'a self, tenant: &'a str, after: Option<&'a str>, max: usize) -> Answer<'a, LogsPage> {
        Box::pin(read::logs(&self.pool, tenant, after, max))
    }

    fn tenants(&self) -> Answer<'_, Vec<EcoString>> {
        Box::pin(read::tenants(&self.pool))
    }

    fn facts<'a>(&'a self, keys: &'a [FactKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        Box::pin(read::facts(&self.pool, keys))
    }

    fn scan<'a>(
        &'a self,
        tenant: &'a str,
        space: Space,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        max: usize,
    ) -> Answer<'a, FactPage> {
        Box::pin(read::scan(&self.pool, tenant, space, prefix, after, max))
    }

    fn authored<'a>(
        &'a self,
        tenant: &'a str,
        author: &'a str,
        from: Option<Place>,
        max: usize,
    ) -> Answer<'a, AuthoredPage> {
        Box::pin(read::authored(&self.pool, tenant, author, from, max))
    }

    fn health(&self) -> Answer<'_, Health> {
        Box::pin(care::health(&self.pool))
    }

    fn verify(&self) -> Answer<'_, VerifyReport> {
        Box::pin(care::verify(&self.pool))
    }

    fn compact(&self) -> Answer<'_, u64> {
        Box::pin(care::compact(&self.pool))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.pool.close().await;
            Ok(())
        })
    }
}
