//! Reading logs and facts. Each answer comes from one statement, so it shows one moment.

use std::cmp::max;

use bytes::Bytes;
use ecow::EcoString;
use tokio_postgres::Row;
use uuid::Uuid;

use super::columns::{names, signed};
use super::connect::Purpose;
use super::pool::Pool;
use crate::remote::{successor, without_holes};
use crate::{
    AuthoredPage, Direction, Fact, FactKey, FactPage, Log, LogKey, LogState, LogsPage, Page, Place, Range,
    Space, StoreError, Stored,
};

/// The state and, beside it, the records; one row with no record if there are none.
macro_rules! range_sql {
    ($condition:literal, $order:literal) => {
        concat!(
            "SELECT l.epoch, l.first, l.head, l.ordinal, l.bytes, \
                    r.off, r.ordinal, r.id, r.author, r.ts, r.payload \
             FROM logs l LEFT JOIN LATERAL ( \
                 SELECT * FROM ( \
                     SELECT p.*, row_number() OVER w AS place, sum(length(p.payload)) OVER w AS so_far \
                     FROM ( \
                         SELECT off, ordinal, id, author, ts, payload FROM records \
                         WHERE log = l.id AND off >= l.first AND ",
            $condition,
            "            ORDER BY off ",
            $order,
            " LIMIT $4 \
                     ) p WINDOW w AS (ORDER BY p.off ",
            $order,
            ") \
                 ) q WHERE q.place = 1 OR q.so_far <= $5 \
             ) r ON true \
             WHERE l.tenant = $1 AND l.room = $2 \
             ORDER BY r.off ",
            $order
        )
    };
}

const RANGE_AFTER: &str = range_sql!("off > $3", "ASC");
const RANGE_BEFORE: &str = range_sql!("off < $3", "DESC");

const STATES: &str = "\
    SELECT w.place, l.epoch, l.first, l.head, l.ordinal, l.bytes \
    FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS w(tenant, room, place) \
    JOIN logs l ON l.tenant = w.tenant AND l.room = w.room";

const LOGS: &str = "\
    SELECT room, epoch, first, head, ordinal, bytes FROM logs \
    WHERE tenant = $1 AND ($2::bytea IS NULL OR room > $2) ORDER BY room LIMIT $3";

/// Hops from one name to the next over the index instead of reading every row.
const TENANTS: &str = "\
    WITH RECURSIVE l AS ( \
        (SELECT tenant FROM logs ORDER BY tenant LIMIT 1) \
        UNION ALL \
        SELECT (SELECT n.tenant FROM logs n WHERE n.tenant > l.tenant ORDER BY n.tenant LIMIT 1) \
        FROM l WHERE l.tenant IS NOT NULL \
    ), f AS ( \
        (SELECT tenant FROM facts ORDER BY tenant LIMIT 1) \
        UNION ALL \
        SELECT (SELECT n.tenant FROM facts n WHERE n.tenant > f.tenant ORDER BY n.tenant LIMIT 1) \
        FROM f WHERE f.tenant IS NOT NULL \
    ) \
    SELECT tenant FROM l WHERE tenant IS NOT NULL UNION SELECT tenant FROM f WHERE tenant IS NOT NULL ORDER BY 1";

const FACTS: &str = "\
    SELECT w.place, f.value \
    FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) WITH ORDINALITY AS w(tenant, space, name, place) \
    JOIN facts f ON f.tenant = w.tenant AND f.space = w.space AND f.name = w.name";

const SCAN: &str = "\
    SELECT name, value FROM facts \
    WHERE tenant = $1 AND space = $2 AND name >= $3 \
      AND ($4::bytea IS NULL OR name > $4) AND ($5::bytea IS NULL OR name < $5) \
    ORDER BY name LIMIT $6";

const AUTHORED: &str = "\
    SELECT l.room, r.off, r.ordinal, r.id, r.author, r.ts, r.payload \
    FROM logs l JOIN records r ON r.log = l.id AND r.off >= l.first \
    WHERE l.tenant = $1 AND r.author = $2 AND (l.room, r.off) >= ($3::bytea, $4::bigint) \
    ORDER BY l.room, r.off LIMIT $5";

pub(super) async fn range(pool: &Pool, log: &LogKey, range: Range) -> Result<Page, StoreError> {
    let (sql, from) = match range.direction {
        Direction::After(offset) => (RANGE_AFTER, signed(offset)),
        Direction::Before(offset) => (RANGE_BEFORE, signed(offset)),
    };
    let (tenant, room) = names(log);
    let (records_max, bytes_max) = (limit(range.records_max), limit(range.bytes_max));
    let rows = pool.query(sql, &[&tenant, &room, &from, &records_max, &bytes_max]).await?;
    let Some(row) = rows.first() else { return Ok(Page::default()) };
    let found = rows.iter().filter(|row| row.get::<_, Option<i64>>(5).is_some());
    let page = Page { state: state(row, 0), records: found.map(|row| stored(row, 5)).collect() };
    without_holes(log, page, range)
}

pub(super) async fn states(pool: &Pool, logs: &[LogKey]) -> Result<Vec<Option<LogState>>, StoreError> {
    let (tenants, rooms): (Vec<_>, Vec<_>) = logs.iter().map(names).unzip();
    let rows = pool.query(STATES, &[&tenants, &rooms]).await?;
    let found = rows.iter().map(|row| (row, state(row, 1)));
    Ok(by_place(logs.len(), found))
}

pub(super) async fn logs(
    pool: &Pool,
    tenant: &str,
    after: Option<&str>,
    logs_max: usize,
) -> Result<LogsPage, StoreError> {
    let (name, after, limit) =
        (tenant.as_bytes(), after.map(str::as_bytes), limit(logs_max).saturating_add(1));
    let rows = pool.query(LOGS, &[&name, &after, &limit]).await?;
    let logs = rows.iter().take(logs_max).map(|row| {
        let key = LogKey { tenant: tenant.into(), room: self::name(row, 0) };
        Log { key, state: state(row, 1) }
    });
    Ok(LogsPage { logs: logs.collect(), more: rows.len() > logs_max })
}

pub(super) async fn tenants(pool: &Pool) -> Result<Vec<EcoString>, StoreError> {
    let rows = pool.query(TENANTS, &[]).await?;
    Ok(rows.iter().map(|row| name(row, 0)).collect())
}

pub(super) async fn facts(pool: &Pool, keys: &[FactKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
    let tenants: Vec<_> = keys.iter().map(|key| key.tenant.as_bytes()).collect();
    let spaces: Vec<_> = keys.iter().map(|key| key.space.0.as_bytes()).collect();
    let names: Vec<&[u8]> = keys.iter().map(|key| &key.name[..]).collect();
    let rows = pool.query(FACTS, &[&tenants, &spaces, &names]).await?;
    let found = rows.iter().map(|row| (row, bytes(row, 1)));
    Ok(by_place(keys.len(), found))
}

pub(super) async fn scan(
    pool: &Pool,
    tenant: &str,
    space: Space,
    prefix: &[u8],
    after: Option<&[u8]>,
    facts_max: usize,
) -> Result<FactPage, StoreError> {
    let (tenant, space) = (tenant.as_bytes(), space.0.as_bytes());
    let from = max(prefix, after.unwrap_or_default());
    let end = successor(prefix);
    let limit = limit(facts_max).saturating_add(1);
    let rows = pool.query(SCAN, &[&tenant, &space, &from, &after, &end, &limit]).await?;
    let facts = rows.iter().take(facts_max).map(|row| Fact { name: bytes(row, 0), value: bytes(row, 1) });
    Ok(FactPage { facts: facts.collect(), more: rows.len() > facts_max })
}

pub(super) async fn authored(
    pool: &Pool,
    tenant: &str,
    author: &str,
    from: Option<Place>,
    records_max: usize,
) -> Result<AuthoredPage, StoreError> {
    let (tenant, author) = (tenant.as_bytes(), author.as_bytes());
    let from = from.unwrap_or(Place { room: EcoString::new(), offset: 0 });
    let (room, offset) = (from.room.as_bytes(), signed(from.offset));
    let limit = limit(records_max).saturating_add(1);
    let connection = pool.connect(Purpose::Long, pool.deadline()).await?;
    let rows = pool.long(connection.query(AUTHORED, &[&tenant, &author, &room, &offset, &limit])).await?;
    let next = rows.get(records_max).map(|row| Place { room: name(row, 0), offset: count(row, 1) });
    let records = rows.iter().take(records_max).map(|row| (name(row, 0), stored(row, 1)));
    Ok(AuthoredPage { records: records.collect(), next })
}

/// Puts what was found where it was asked for.
fn by_place<'a, T: Clone>(places: usize, found: impl Iterator<Item = (&'a Row, T)>) -> Vec<Option<T>> {
    let mut answers = vec![None; places];
    for (row, value) in found {
        let place = usize::try_from(row.get::<_, i64>(0)).unwrap_or_default();
        if let Some(answer) = answers.get_mut(place.wrapping_sub(1)) {
            *answer = Some(value);
        }
    }
    answers
}

fn limit(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The state in five columns from `at` on.
pub(super) fn state(row: &Row, at: usize) -> LogState {
    LogState {
        epoch: row.get::<_, i64>(at).cast_unsigned(),
        first: count(row, at + 1),
        head: count(row, at + 2),
        ordinal: count(row, at + 3),
        bytes: count(row, at + 4),
    }
}

/// The record in six columns from `at` on.
fn stored(row: &Row, at: usize) -> Stored {
    Stored {
        offset: count(row, at),
        ordinal: count(row, at + 1),
        id: row.get::<_, Uuid>(at + 2).as_u128(),
        author: name(row, at + 3),
        ts: row.get(at + 4),
        payload: bytes(row, at + 5),
    }
}

pub(super) fn name(row: &Row, at: usize) -> EcoString {
    String::from_utf8_lossy(row.get::<_, &[u8]>(at)).as_ref().into()
}

pub(super) fn count(row: &Row, at: usize) -> u64 {
    u64::try_from(row.get::<_, i64>(at)).unwrap_or_default()
}

fn bytes(row: &Row, at: usize) -> Bytes {
    Bytes::copy_from_slice(row.get(at))
}
