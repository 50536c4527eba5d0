//! The contract's limits, checked in one place before a back end touches anything.
//!
//! Every back end calls [`check`] first, so that a batch that breaks a limit does nothing at all, and the same texts
//! come from each. What a window of remembered ids and keys is, and what a [`Retention`] drops, is decided here too.

use std::fmt;

use crate::{Append, Batch, FactKey, FactWrite, LogKey, LogState, Retention, StoreError, Stored};

/// Ids and keys are remembered for at least so many records of their log ...
pub const REMEMBERED_RECORDS: u64 = 10_000;
/// ... and for at least so long by the records' own times, in milliseconds.
pub const REMEMBERED_MS: i64 = 5 * 60 * 1000;
/// The longest key of a record, in bytes.
pub const KEY_BYTES_MAX: usize = 256;
/// The longest name of a fact, in bytes.
pub const FACT_NAME_BYTES_MAX: usize = 1024;
/// The longest value of a fact, in bytes.
pub const FACT_VALUE_BYTES_MAX: usize = 64 * 1024;
/// The longest tenant, room or author, in bytes each: what every back end's keys have room for.
pub const NAME_BYTES_MAX: usize = 512;

/// Whether a batch keeps the contract's limits.
///
/// # Errors
/// [`StoreError::Invalid`] with the limit and what broke it.
pub fn check(batch: &Batch) -> Result<(), StoreError> {
    batch.appends.iter().try_for_each(check_append)?;
    batch.facts.iter().try_for_each(|write| match write {
        FactWrite::Set(key, value) | FactWrite::Max(key, value) => {
            check_fact(key)?;
            limit("a fact's value", value.len(), FACT_VALUE_BYTES_MAX)
        }
        FactWrite::Delete(key) => check_fact(key),
    })
}

fn check_append(append: &Append) -> Result<(), StoreError> {
    if append.epoch == 0 && !append.records.is_empty() {
        return Err(StoreError::Invalid("an epoch is never 0".to_owned()));
    }
    if append.fence == Some(0) {
        return Err(StoreError::Invalid("a fence is an epoch, and never 0".to_owned()));
    }
    limit("a tenant's name", append.log.tenant.len(), NAME_BYTES_MAX)?;
    limit("a room's name", append.log.room.len(), NAME_BYTES_MAX)?;
    append.records.iter().try_for_each(|record| {
        limit("an author's name", record.author.len(), NAME_BYTES_MAX)?;
        limit("a record's key", record.key.as_ref().map_or(0, |key| key.len()), KEY_BYTES_MAX)
    })?;
    append
        .replaces
        .iter()
        .try_for_each(|replace| limit("an author's name", replace.author.len(), NAME_BYTES_MAX))
}

fn check_fact(key: &FactKey) -> Result<(), StoreError> {
    limit("a tenant's name", key.tenant.len(), NAME_BYTES_MAX)?;
    limit("a fact's name", key.name.len(), FACT_NAME_BYTES_MAX)
}

fn limit(what: &str, len: usize, max: usize) -> Result<(), StoreError> {
    if len <= max {
        return Ok(());
    }
    Err(StoreError::Invalid(format!("{what} of {len} bytes is longer than {max}")))
}

/// The local clock, in milliseconds since 1970: the store's own for back ends without another.
#[must_use]
pub fn local_clock() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether [`Store::restore`](crate::Store::restore) may do what it is asked, the log being as `found`.
///
/// # Errors
/// [`StoreError::Invalid`] when the log is elsewhere, or the records have holes.
pub fn check_restore(found: Option<LogState>, start: LogState, records: &[Stored]) -> Result<(), StoreError> {
    if start.epoch == 0 {
        return Err(StoreError::Invalid("an epoch is never 0".to_owned()));
    }
    if let Some(found) = found
        && (found.epoch, found.head, found.ordinal) != (start.epoch, start.head, start.ordinal)
    {
        return Err(StoreError::Invalid(
            "the log exists and does not end where the records begin".to_owned(),
        ));
    }
    let (mut head, mut ordinal) = (start.head, start.ordinal);
    for record in records {
        limit("an author's name", record.author.len(), NAME_BYTES_MAX)?;
        if record.offset != head + 1 || !(ordinal..=ordinal + 1).contains(&record.ordinal) {
            let (offset, found) = (record.offset, record.ordinal);
            return Err(StoreError::Invalid(format!(
                "record {offset} with ordinal {found} does not follow record {head} with ordinal {ordinal}"
            )));
        }
        (head, ordinal) = (record.offset, record.ordinal);
    }
    Ok(())
}

/// Whether a record is so far back and so old that its id and key need not be remembered.
#[must_use]
pub fn is_forgotten(offset: u64, ts: i64, head: u64, now: i64) -> bool {
    head.saturating_sub(offset) > REMEMBERED_RECORDS && now.saturating_sub(ts) > REMEMBERED_MS
}

impl Retention {
    /// Whether the oldest of `records` records with `bytes` payload bytes goes, if it was accepted at `ts`.
    #[must_use]
    pub fn drops(&self, records: u64, bytes: u64, ts: i64, now: i64) -> bool {
        let age_max = i64::try_from(self.age_max.as_millis()).unwrap_or(i64::MAX);
        (self.records_max > 0 && records > self.records_max)
            || (self.bytes_max > 0 && bytes > self.bytes_max)
            || (age_max > 0 && now.saturating_sub(ts) > age_max)
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tenant.is_empty() {
            return write!(f, "room {:?}", self.room);
        }
        write!(f, "room {:?} of tenant {:?}", self.room, self.tenant)
    }
}
