//! What a batch writes, turned into columns: a statement takes each as one array, however many rows there are.

use std::collections::BTreeMap;

use tokio::join;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::connect::Connection;
use crate::remote::Change;
use crate::remote::plan::New;
use crate::{FactKey, LogKey, LogState, Replace, Stored};

pub(super) const INSERT: &str = "\
    INSERT INTO records (log, off, ordinal, ts, id, key, author, payload) \
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::uuid[], $6::bytea[], \
                         $7::bytea[], $8::bytea[])";

pub(super) const ADVANCE: &str = "\
    UPDATE logs l SET head = w.head, ordinal = w.ordinal, bytes = w.bytes \
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS w(id, head, ordinal, bytes) \
    WHERE l.id = w.id";

/// Divides by zero, and so ends the transaction, when a record says something else than is expected.
pub(super) const UNCHANGED: &str = "\
    SELECT 1 / (count(*) = 0)::integer \
    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS w(log, off, was) \
    JOIN records r ON r.log = w.log AND r.off = w.off WHERE r.payload <> w.was";

/// Answers with the bytes that the logs have afterwards.
pub(super) const REPLACE: &str = "\
    WITH done AS ( \
        UPDATE records r SET author = w.author, payload = w.payload \
        FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[]) AS w(log, off, author, payload) \
        JOIN records o ON o.log = w.log AND o.off = w.off \
        WHERE r.log = w.log AND r.off = w.off \
        RETURNING r.log, length(w.payload)::bigint - length(o.payload)::bigint AS more \
    ) \
    UPDATE logs l SET bytes = l.bytes + d.more \
    FROM (SELECT log, sum(more)::bigint AS more FROM done GROUP BY log) AS d \
    WHERE l.id = d.log RETURNING l.id, l.bytes";

pub(super) const SET_FACTS: &str = "\
    INSERT INTO facts AS f (tenant, space, name, value) \
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) \
    ON CONFLICT (tenant, space, name) DO UPDATE SET value = excluded.value";

pub(super) const RAISE_FACTS: &str = "\
    INSERT INTO facts AS f (tenant, space, name, value) \
    SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[]) \
    ON CONFLICT (tenant, space, name) DO UPDATE SET value = excluded.value WHERE f.value < excluded.value";

pub(super) const DELETE_FACTS: &str = "\
    DELETE FROM facts f USING unnest($1::bytea[], $2::bytea[], $3::bytea[]) AS w(tenant, space, name) \
    WHERE f.tenant = w.tenant AND f.space = w.space AND f.name = w.name";

/// A log's tenant and room, as the tables have them.
pub(super) fn names(key: &LogKey) -> (&[u8], &[u8]) {
    (key.tenant.as_bytes(), key.room.as_bytes())
}

/// As the tables have it: their whole numbers are signed.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// New rows of `records`.
#[derive(Default)]
pub(super) struct Records<'a> {
    logs: Vec<i64>,
    offsets: Vec<i64>,
    ordinals: Vec<i64>,
    times: Vec<i64>,
    ids: Vec<Uuid>,
    keys: Vec<Option<&'a [u8]>>,
    authors: Vec<&'a [u8]>,
    payloads: Vec<&'a [u8]>,
}

impl<'a> Records<'a> {
    pub(super) fn extend(&mut self, log: i64, new: &[New<'a>]) {
        for New { offset, ordinal, record } in new {
            self.push((log, *offset, *ordinal, record.ts, record.id), &record.author, &record.payload);
            self.keys.push(record.key.as_deref());
        }
    }

    /// A record that had its place before.
    pub(super) fn restore(&mut self, log: i64, record: &'a Stored) {
        let Stored { offset, ordinal, id, ts, author, payload } = record;
        self.push((log, *offset, *ordinal, *ts, *id), author, payload);
        self.keys.push(None);
    }

    fn push(&mut self, row: (i64, u64, u64, i64, u128), author: &'a str, payload: &'a [u8]) {
        let (log, offset, ordinal, ts, id) = row;
        self.logs.push(log);
        self.offsets.push(signed(offset));
        self.ordinals.push(signed(ordinal));
        self.times.push(ts);
        self.ids.push(Uuid::from_u128(id));
        self.authors.push(author.as_bytes());
        self.payloads.push(payload);
    }

    pub(super) async fn insert(&self, connection: &Connection) -> Result<(), Error> {
        if self.logs.is_empty() {
            return Ok(());
        }
        let columns: [&(dyn ToSql + Sync); 8] = [
            &self.logs,
            &self.offsets,
            &self.ordinals,
            &self.times,
            &self.ids,
            &self.keys,
            &self.authors,
            &self.payloads,
        ];
        connection.query(INSERT, &columns).await.map(drop)
    }
}

/// Rows of `logs` that have grown.
#[derive(Default)]
pub(super) struct Advanced {
    logs: Vec<i64>,
    heads: Vec<i64>,
    ordinals: Vec<i64>,
    bytes: Vec<i64>,
}

impl Advanced {
    pub(super) fn push(&mut self, log: i64, state: &LogState) {
        self.logs.push(log);
        self.heads.push(signed(state.head));
        self.ordinals.push(signed(state.ordinal));
        self.bytes.push(signed(state.bytes));
    }

    pub(super) async fn update(&self, connection: &Connection) -> Result<(), Error> {
        if self.logs.is_empty() {
            return Ok(());
        }
        let columns: [&(dyn ToSql + Sync); 4] = [&self.logs, &self.heads, &self.ordinals, &self.bytes];
        connection.query(ADVANCE, &columns).await.map(drop)
    }
}

/// Rows of `records` that say something else.
#[derive(Default)]
pub(super) struct Replaced<'a> {
    /// By log and offset.
    last: BTreeMap<(i64, i64), &'a Replace>,
    expected: Vec<((i64, i64), &'a [u8])>,
}

impl<'a> Replaced<'a> {
    /// The last word for a record is the one that counts: a statement can change a row only once.
    pub(super) fn extend(&mut self, log: i64, replaces: &[&'a Replace]) {
        for replace in replaces {
            let place = (log, signed(replace.offset));
            self.expected.extend(replace.was.as_deref().map(|was| (place, was)));
            self.last.insert(place, replace);
        }
    }

    /// Fails unless the records say what is expected of them.
    pub(super) async fn unchanged(&self, connection: &Connection) -> Result<(), Error> {
        if self.expected.is_empty() {
            return Ok(());
        }
        let (places, was): (Vec<_>, Vec<_>) = self.expected.iter().copied().unzip();
        let (logs, offsets): (Vec<_>, Vec<_>) = places.into_iter().unzip();
        connection.query(UNCHANGED, &[&logs, &offsets, &was]).await.map(drop)
    }

    /// Returns the bytes that the logs have afterwards.
    pub(super) async fn update(&self, connection: &Connection) -> Result<Vec<(i64, u64)>, Error> {
        if self.last.is_empty() {
            return Ok(Vec::new());
        }
        let (logs, offsets): (Vec<_>, Vec<_>) = self.last.keys().copied().unzip();
        let authors: Vec<_> = self.last.values().map(|replace| replace.author.as_bytes()).collect();
        let payloads: Vec<&[u8]> = self.last.values().map(|replace| &replace.payload[..]).collect();
        let rows = connection.query(REPLACE, &[&logs, &offsets, &authors, &payloads]).await?;
        Ok(rows.iter().map(|row| (row.get(0), super::read::count(row, 1))).collect())
    }
}

/// Rows of `facts` that become another, or none.
#[derive(Default)]
pub(super) struct Facts<'a> {
    set: FactColumns<'a>,
    raised: FactColumns<'a>,
    deleted: FactColumns<'a>,
}

#[derive(Default)]
struct FactColumns<'a> {
    tenants: Vec<&'a [u8]>,
    spaces: Vec<&'a [u8]>,
    names: Vec<&'a [u8]>,
    values: Vec<&'a [u8]>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(changes: &'a BTreeMap<&'a FactKey, Change>) -> Self {
        let mut facts = Self::default();
        for (key, change) in changes {
            let columns = match change {
                Change::Set(_) => &mut facts.set,
                Change::Max(_) => &mut facts.raised,
                Change::Delete => &mut facts.deleted,
            };
            columns.tenants.push(key.tenant.as_bytes());
            columns.spaces.push(key.space.0.as_bytes());
            columns.names.push(&key.name);
            if let Change::Set(value) | Change::Max(value) = change {
                columns.values.push(value);
            }
        }
        facts
    }

    pub(super) async fn write(&self, connection: &Connection) -> Result<(), Error> {
        let (set, raised, deleted) = join!(
            self.set.upsert(connection, SET_FACTS),
            self.raised.upsert(connection, RAISE_FACTS),
            self.deleted.delete(connection),
        );
        set.and(raised).and(deleted)
    }
}

impl FactColumns<'_> {
    async fn upsert(&self, connection: &Connection, sql: &'static str) -> Result<(), Error> {
        if self.tenants.is_empty() {
            return Ok(());
        }
        let columns: [&(dyn ToSql + Sync); 4] = [&self.tenants, &self.spaces, &self.names, &self.values];
        connection.query(sql, &columns).await.map(drop)
    }

    async fn delete(&self, connection: &Connection) -> Result<(), Error> {
        if self.tenants.is_empty() {
            return Ok(());
        }
        let columns: [&(dyn ToSql + Sync); 3] = [&self.tenants, &self.spaces, &self.names];
        connection.query(DELETE_FACTS, &columns).await.map(drop)
    }
}
