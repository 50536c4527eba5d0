//! Trimming, dropping and restoring logs. Each step is a transaction under the log's lock, short enough that appends to the
//! same log wait only a moment.

use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::columns::{Records, names, signed};
use super::pool::{Pool, Reader};
use super::{errors, read};
use crate::limits::{REMEMBERED_MS, REMEMBERED_RECORDS, check_restore};
use crate::{LogKey, LogState, Retention, StoreError, Stored};

/// How many records one transaction drops at most.
const STEP: u64 = 2_000;
/// How often a transaction is begun again after a conflict with another hub.
const TRIES_MAX: usize = 8;

const LOCK: &str = "\
    SELECT epoch, first, head, ordinal, bytes, id FROM logs WHERE tenant = $1 AND room = $2 FOR UPDATE";

/// The record with which so many bytes are gone, if it is among the next few.
const OVER_BYTES: &str = "\
    SELECT off FROM ( \
        SELECT off, sum(size) OVER (ORDER BY off) AS gone FROM ( \
            SELECT off, length(payload) AS size FROM records \
            WHERE log = $1 AND off >= $2 ORDER BY off LIMIT $4 \
        ) p \
    ) q WHERE gone >= $3 ORDER BY off LIMIT 1";

/// The first record that is young enough, if it is among the next few.
const YOUNG: &str = "\
    SELECT off FROM ( \
        SELECT off, ts FROM records WHERE log = $1 AND off >= $2 ORDER BY off LIMIT $4 \
    ) p WHERE ts >= $3 ORDER BY off LIMIT 1";

/// What nobody has to remember any longer.
const FORGET: &str = "DELETE FROM records WHERE log = $1 AND off < $2 AND off < $3 AND ts < $4";

/// What is left of a trimmed record are its id and key; answers with the bytes that are gone.
const EMPTY: &str = "\
    WITH gone AS ( \
        SELECT coalesce(sum(length(payload)), 0)::bigint AS bytes \
        FROM records WHERE log = $1 AND off >= $2 AND off < $3 \
    ), emptied AS ( \
        UPDATE records SET author = '', payload = '' WHERE log = $1 AND off >= $2 AND off < $3 \
    ) \
    UPDATE logs l SET first = $3, bytes = l.bytes - gone.bytes FROM gone WHERE l.id = $1 \
    RETURNING l.epoch, l.first, l.head, l.ordinal, l.bytes";

const DROP: &str = "DELETE FROM logs WHERE tenant = $1 AND room = $2 RETURNING id, head";

const DROP_RECORDS: &str = "DELETE FROM records WHERE log = $1 AND off < $2";

const RESTORE: &str = "\
    INSERT INTO logs (tenant, room, epoch, first, head, ordinal, bytes) \
    VALUES ($1, $2, $3, $4::bigint + 1, $4, $5, 0) RETURNING id";

const RESTORED: &str = "\
    UPDATE logs SET head = $2, ordinal = $3, bytes = bytes + $4 WHERE id = $1 \
    RETURNING epoch, first, head, ordinal, bytes";

/// Why a transaction was not committed.
enum Abort {
    Failed(Error),
    Refused(StoreError),
}

impl From<Error> for Abort {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A transaction under way. Dropped, it is rolled back, and its connection closed.
struct Transaction<'a> {
    reader: Reader<'a>,
}

impl<'a> Transaction<'a> {
    async fn begin(pool: &'a Pool) -> Result<Self, Abort> {
        let reader = pool.reader().await.map_err(Abort::Refused)?;
        reader.client.batch_execute("BEGIN").await?;
        Ok(Self { reader })
    }

    async fn query(&self, sql: &'static str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        self.reader.query(sql, parameters).await
    }

    async fn commit(self) -> Result<(), Abort> {
        let committed = self.reader.client.batch_execute("COMMIT").await;
        committed.map_err(|error| Abort::Refused(StoreError::InDoubt(errors::text(&error))))?;
        self.reader.keep();
        Ok(())
    }
}

/// The tries of one transaction.
struct Tries<'a> {
    pool: &'a Pool,
    deadline: Instant,
    left: usize,
}

impl<'a> Tries<'a> {
    fn new(pool: &'a Pool) -> Self {
        Self { pool, deadline: pool.deadline(), left: TRIES_MAX }
    }

    /// Does one try. `None`: it met another hub, or an old connection; the next may work.
    async fn once<T>(
        &mut self,
        work: impl Future<Output = Result<T, Abort>>,
    ) -> Option<Result<T, StoreError>> {
        self.left -= 1;
        Some(match timeout_at(self.deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Abort::Failed(error))) if self.left > 0 && errors::is_passing(&error) => return None,
            Ok(Err(Abort::Failed(error))) => Err(errors::refused(&error)),
            Ok(Err(Abort::Refused(error))) => Err(error),
            Err(_) => Err(StoreError::InDoubt(self.pool.too_slow_text())),
        })
    }
}

pub(super) async fn trim(
    pool: &Pool,
    log: &LogKey,
    keep: Retention,
    now: i64,
) -> Result<LogState, StoreError> {
    let mut tries = Tries::new(pool);
    loop {
        match tries.once(trim_step(pool, log, keep, now)).await {
            None => {}
            Some(Ok((_, false))) => tries = Tries::new(pool),
            Some(Ok((state, true))) => return Ok(state),
            // Trimming twice is trimming once.
            Some(Err(StoreError::InDoubt(text))) => return Err(StoreError::Unavailable(text)),
            Some(Err(error)) => return Err(error),
        }
    }
}

/// Drops some of what is too much, and says whether that was all.
async fn trim_step(pool: &Pool, log: &LogKey, keep: Retention, now: i64) -> Result<(LogState, bool), Abort> {
    let (tenant, room) = names(log);
    let transaction = Transaction::begin(pool).await?;
    let rows = transaction.query(LOCK, &[&tenant, &room]).await?;
    let (mut state, mut all) = (LogState::default(), true);
    if let Some(row) = rows.first() {
        let id: i64 = row.get(5);
        let first;
        state = read::state(row, 0);
        (first, all) = new_first(&transaction, id, &state, keep, now).await?;
        if first > state.first {
            state = empty(&transaction, id, &state, first, now).await?;
        }
    }
    transaction.commit().await?;
    Ok((state, all))
}

/// Drops what is before `first`.
async fn empty(
    transaction: &Transaction<'_>,
    id: i64,
    state: &LogState,
    first: u64,
    now: i64,
) -> Result<LogState, Error> {
    let (old, first) = (signed(state.first), signed(first));
    let forgotten = signed(state.head.saturating_sub(REMEMBERED_RECORDS));
    transaction.query(FORGET, &[&id, &first, &forgotten, &now.saturating_sub(REMEMBERED_MS)]).await?;
    let rows = transaction.query(EMPTY, &[&id, &old, &first]).await?;
    Ok(rows.first().map_or(*state, |row| read::state(row, 0)))
}

/// Where the log begins after a step, and whether that is far enough.
async fn new_first(
    transaction: &Transaction<'_>,
    id: i64,
    state: &LogState,
    keep: Retention,
    now: i64,
) -> Result<(u64, bool), Error> {
    let end = (state.first + STEP).min(state.head + 1);
    let mut first = state.first;
    if keep.records_max > 0 {
        first = first.max((state.head + 1).saturating_sub(keep.records_max));
    }
    if keep.bytes_max > 0 && state.bytes > keep.bytes_max {
        let (from, over) = (signed(state.first), signed(state.bytes - keep.bytes_max));
        let rows = transaction.query(OVER_BYTES, &[&id, &from, &over, &signed(STEP)]).await?;
        first = first.max(rows.first().map_or(end, |row| read::count(row, 0) + 1));
    }
    if first >= end {
        return Ok((end, end > state.head));
    }
    if !keep.age_max.is_zero() {
        let age_max = i64::try_from(keep.age_max.as_millis()).unwrap_or(i64::MAX);
        let (from, young) = (signed(first), now.saturating_sub(age_max));
        let rows = transaction.query(YOUNG, &[&id, &from, &young, &signed(end - first)]).await?;
        let Some(row) = rows.first() else { return Ok((end, end > state.head)) };
        first = read::count(row, 0);
    }
    Ok((first, true))
}

pub(super) async fn drop_log(pool: &Pool, log: &LogKey) -> Result<(), StoreError> {
    let (tenant, room) = names(log);
    // Without its row the log is gone; what is left of it has a number that nobody uses again.
    let rows = pool.query(DROP, &[&tenant, &room]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (id, head) = (row.get::<_, i64>(0), read::count(row, 1));
    let mut end = 0;
    while end <= head {
        end += STEP;
        pool.query(DROP_RECORDS, &[&id, &signed(end)]).await?;
    }
    Ok(())
}

pub(super) async fn restore(
    pool: &Pool,
    log: &LogKey,
    start: LogState,
    records: &[Stored],
) -> Result<LogState, StoreError> {
    let mut tries = Tries::new(pool);
    loop {
        if let Some(result) = tries.once(restore_step(pool, log, start, records)).await {
            return result;
        }
    }
}

async fn restore_step(
    pool: &Pool,
    log: &LogKey,
    start: LogState,
    records: &[Stored],
) -> Result<LogState, Abort> {
    let (tenant, room) = names(log);
    let transaction = Transaction::begin(pool).await?;
    let rows = transaction.query(LOCK, &[&tenant, &room]).await?;
    let found = rows.first().map(|row| read::state(row, 0));
    check_restore(found, start, records).map_err(Abort::Refused)?;
    let id: i64 = match rows.first() {
        Some(row) => row.get(5),
        None => {
            let (epoch, head, ordinal) =
                (start.epoch.cast_signed(), signed(start.head), signed(start.ordinal));
            let rows = transaction.query(RESTORE, &[&tenant, &room, &epoch, &head, &ordinal]).await?;
            rows.first().map_or(0, |row| row.get(0))
        }
    };
    let mut columns = Records::default();
    records.iter().for_each(|record| columns.restore(id, record));
    columns.insert(&transaction.reader).await?;
    let last = records.last();
    let head = signed(last.map_or(start.head, |record| record.offset));
    let ordinal = signed(last.map_or(start.ordinal, |record| record.ordinal));
    let bytes: usize = records.iter().map(|record| record.payload.len()).sum();
    let rows = transaction.query(RESTORED, &[&id, &head, &ordinal, &signed(bytes as u64)]).await?;
    transaction.commit().await?;
    Ok(rows.first().map(|row| read::state(row, 0)).unwrap_or_default())
}
