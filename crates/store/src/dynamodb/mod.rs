//! Keeps logs and facts in one table of Amazon's DynamoDB, which several hubs may share.
//!
//! An append is one transaction: its records, one item for each id and key to know repetitions by, and the log's state, on the
//! condition that the state is still the version that was read. The condition keeps offsets without holes when
//! several hubs write, and makes a repeated batch exact however late an earlier try arrives. A transaction has at
//! most 100 items, so an append of more than some 30 records is done in several, in order: it is the one back end where
//! a reader may see the first part of an append before the rest.
//!
//! Neighbours: `options` (what is configured), `client` (requests, and what their errors mean), `format` (the mark of the
//! layout), `items` (keys and items), `commit`, `read`, `trim` (each a part of the contract). Invariant: only a state's own
//! version is ever followed by the next, so whatever is written under it is written once.

mod client;
mod commit;
mod format;
mod items;
mod options;
mod read;
mod trim;

use bytes::Bytes;
use ecow::EcoString;

pub use options::DynamoOptions;

use crate::remote::walk;
use crate::{
    Answer, Appended, AuthoredPage, Batch, FactKey, FactPage, Health, LogKey, LogState, LogsPage, Page,
    Place, Range, Retention, Space, Store, StoreError, Stored, VerifyReport,
};
use client::Table;

/// Logs and facts in DynamoDB. See the [module](self) for how.
#[derive(Debug)]
pub struct DynamoStore {
    table: Table,
}

impl DynamoStore {
    /// Prepares a store without connecting.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the options make no sense in themselves.
    pub fn new(options: &DynamoOptions) -> Result<Self, StoreError> {
        Ok(Self { table: Table::new(options)? })
    }

    /// Looks for the table and makes it if that is asked for, or says what to correct. A table that a newer version
    /// laid out is refused.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`StoreError::Unavailable`] when DynamoDB cannot be reached, or does not let us in.
    pub async fn open(options: &DynamoOptions) -> Result<Self, StoreError> {
        let store = Self::new(options)?;
        store.table.ready().await?;
        Ok(store)
    }
}

impl Store for DynamoStore {
    fn name(&self) -> &'static str {
        "dynamodb"
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, Vec<Appended>> {
        Box::pin(commit::commit(&self.table, batch))
    }

    fn range<'a>(&'a self, log: &'a LogKey, range: Range) -> Answer<'a, Page> {
        Box::pin(read::range(&self.table, log, range))
    }

    fn states<'a>(&'a self, logs: &'a [LogKey]) -> Answer<'a, Vec<Option<LogState>>> {
        Box::pin(read::states(&self.table, logs))
    }

    fn trim<'a>(&'a self, log: &'a LogKey, keep: Retention, now: i64) -> Answer<'a, LogState> {
        Box::pin(trim::trim(&self.table, log, keep, now))
    }

    fn restore<'a>(
        &'a self,
        log: &'a LogKey,
        start: LogState,
        records: &'a [Stored],
    ) -> Answer<'a, LogState> {
        Box::pin(commit::restore(&self.table, log, start, records))
    }

    fn drop_log<'a>(&'a self, log: &'a LogKey) -> Answer<'a, ()> {
        Box::pin(trim::drop_log(&self.table, log))
    }

    fn logs<'a>(&'a self, tenant: &'a str, after: Option<&'a str>, max: usize) -> Answer<'a, LogsPage> {
        Box::pin(read::logs(&self.table, tenant, after, max))
    }

    fn tenants(&self) -> Answer<'_, Vec<EcoString>> {
        Box::pin(read::tenants(&self.table))
    }

    fn facts<'a>(&'a self, keys: &'a [FactKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        Box::pin(read::facts(&self.table, keys))
    }

    fn scan<'a>(
        &'a self,
        tenant: &'a str,
        space: Space,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        max: usize,
    ) -> Answer<'a, FactPage> {
        Box::pin(read::scan(&self.table, (tenant, space.0), prefix, after, max))
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
        Box::pin(async {
            let durability = "a commit survives the loss of a machine, a disk or a data centre: DynamoDB answers when it is \
                              on disks in several of its zones"
                .to_owned();
            let detail = self.table.ready().await.err().map(|error| error.to_string()).unwrap_or_default();
            Ok(Health { writable: detail.is_empty(), detail, durability })
        })
    }

    fn verify(&self) -> Answer<'_, VerifyReport> {
        Box::pin(async {
            let mut report = walk::verify_logs(self).await?;
            for tenant in self.tenants().await? {
                for space in read::spaces(&self.table, &tenant).await? {
                    report.facts += read::count_facts(&self.table, (&tenant, &space)).await?;
                }
            }
            Ok(report)
        })
    }

    /// DynamoDB counts only what is there.
    fn compact(&self) -> Answer<'_, u64> {
        Box::pin(async { Ok(0) })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}
