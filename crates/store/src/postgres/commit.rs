//! Committing a batch.
//!
//! First round trip: begin, lock the rows of the batch's logs in the order of their names, look which of its records are
//! there, and at the clock. Then, if a log is new, its row. Last round trip: the conditions, records, logs, facts, the
//! clock again, commit. Each trip is several statements
//! sent at once. Whatever goes wrong before the last trip is sent has written nothing; what the server refuses in
//! it before the commit has written nothing either; anything else leaves the batch in doubt.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use tokio::join;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::columns::{
    ADVANCE, Advanced, DELETE_FACTS, Facts, INSERT, RAISE_FACTS, REPLACE, Records, Replaced, SET_FACTS,
    UNCHANGED, names,
};
use super::connect::{Connection, Purpose};
use super::pool::{Pool, Writer};
use super::{errors, read};
use crate::limits::check;
use crate::remote::plan::{Held, Planned};
use crate::remote::{Change, fold};
use crate::{Appended, Batch, FactKey, LogKey, Outcome, StoreError};

const LOCK: &str = "\
    SELECT l.tenant, l.room, l.epoch, l.first, l.head, l.ordinal, l.bytes, l.id \
    FROM unnest($1::bytea[], $2::bytea[]) AS w(tenant, room) \
    JOIN logs l ON l.tenant = w.tenant AND l.room = w.room \
    ORDER BY l.tenant, l.room FOR UPDATE OF l";

const FIND: &str = "\
    SELECT l.tenant, l.room, r.off, r.ordinal, r.ts, r.id, r.key \
    FROM unnest($1::bytea[], $2::bytea[], $3::uuid[]) AS w(tenant, room, id) \
    JOIN logs l ON l.tenant = w.tenant AND l.room = w.room \
    JOIN records r ON r.log = l.id AND r.id = w.id \
    UNION ALL \
    SELECT l.tenant, l.room, r.off, r.ordinal, r.ts, r.id, r.key \
    FROM unnest($4::bytea[], $5::bytea[], $6::bytea[]) AS w(tenant, room, key) \
    JOIN logs l ON l.tenant = w.tenant AND l.room = w.room \
    JOIN records r ON r.log = l.id AND r.key = w.key";

const CREATE: &str = "\
    INSERT INTO logs (tenant, room, epoch, first, head, ordinal, bytes) \
    SELECT w.tenant, w.room, w.epoch, 1, 0, 0, 0 \
    FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) AS w(tenant, room, epoch) ORDER BY 1, 2 \
    ON CONFLICT (tenant, room) DO NOTHING \
    RETURNING tenant, room, id";

const CLOCK: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// Divides by zero, and so ends the transaction, when the time is over.
const IN_TIME: &str = "\
    SELECT 1 / (floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint <= $1::bigint)::integer";

/// What a connection prepares before it commits anything.
pub(super) const STATEMENTS: [&str; 12] = [
    LOCK,
    FIND,
    CLOCK,
    CREATE,
    UNCHANGED,
    INSERT,
    ADVANCE,
    REPLACE,
    SET_FACTS,
    RAISE_FACTS,
    DELETE_FACTS,
    IN_TIME,
];

/// How often a batch is begun again after a conflict with another hub.
const TRIES_MAX: usize = 8;

/// Why an attempt did not commit.
enum Failure {
    /// Nothing was written, and the same may work at once.
    Passing(StoreError),
    /// Nothing was written.
    Refused(StoreError),
    /// The commit was sent, and its answer did not come.
    InDoubt(String),
}

pub(super) async fn commit(pool: &Pool, batch: &Batch) -> Result<Vec<Appended>, StoreError> {
    check(batch)?;
    let deadline = pool.deadline();
    let Ok(mut writer) = timeout_at(deadline, pool.writer.lock()).await else {
        return Err(pool.too_slow());
    };
    let mut tries = 0;
    loop {
        // Taken out while it is used: if this future is dropped, so is the connection.
        let connection = match writer.connection.take().filter(|connection| !connection.client.is_closed()) {
            Some(connection) => connection,
            None => match pool.connect(Purpose::Short, deadline).await {
                Ok(connection) => connection,
                Err(error) => return Err(doubtful(&writer, error)),
            },
        };
        let attempt = Attempt { pool, connection: &connection, deadline };
        match attempt.run(batch, &mut writer.in_doubt).await {
            Ok(appended) => {
                *writer = Writer { connection: Some(connection), in_doubt: false };
                return Ok(appended);
            }
            Err(Failure::Passing(_)) if tries < TRIES_MAX && Instant::now() < deadline => {
                tries += 1;
                writer.connection = attempt.rolled_back().await.then_some(connection);
            }
            Err(Failure::Passing(error) | Failure::Refused(error)) => {
                writer.connection = attempt.rolled_back().await.then_some(connection);
                let error = doubtful(&writer, error);
                // Those are the last words on a batch.
                writer.in_doubt &= !matches!(error, StoreError::TooLate { .. } | StoreError::Conflict);
                return Err(error);
            }
            Err(Failure::InDoubt(text)) => return Err(StoreError::InDoubt(text)),
        }
    }
}

/// While an earlier try of the batch may be written, "nothing was written" would be a lie, whatever became of this try.
fn doubtful(writer: &Writer, error: StoreError) -> StoreError {
    match error {
        StoreError::Full(text) | StoreError::Unavailable(text) if writer.in_doubt => {
            StoreError::InDoubt(text)
        }
        error => error,
    }
}

/// One try of a batch on one connection.
struct Attempt<'a> {
    pool: &'a Pool,
    connection: &'a Connection,
    deadline: Instant,
}

/// The batch's logs by name, locked.
type Logs<'a> = BTreeMap<&'a LogKey, Log>;

#[derive(Default)]
struct Log {
    /// The database's number for it; `None` while it does not exist.
    id: Option<i64>,
    held: Held,
    /// Whether something is appended to it.
    changed: bool,
}

impl Attempt<'_> {
    async fn run(&self, batch: &Batch, in_doubt: &mut bool) -> Result<Vec<Appended>, Failure> {
        let changes = fold(&batch.facts);
        let mut logs = Logs::new();
        let now = self.lock(batch, &mut logs).await?;
        let mut planned = Vec::with_capacity(batch.appends.len());
        for append in &batch.appends {
            let log = logs.get_mut(&append.log).expect("every log of the batch is in the map");
            let plan = log.held.plan(append);
            log.changed |= !plan.new.is_empty();
            planned.push(plan);
        }
        let has_records = batch.has_records();
        // The rows are locked, so an earlier try is over, one way or the other: if anything is new, it wrote nothing.
        if planned.iter().any(|planned| !planned.new.is_empty()) {
            *in_doubt = false;
        }
        if batch.is_late(now) {
            if planned.iter().any(Planned::writes) || (!has_records && !changes.is_empty()) {
                return Err(Failure::Refused(StoreError::TooLate { now }));
            }
            // Everything is there already, the facts too, unless something newer is.
            self.before(self.connection.client.batch_execute("ROLLBACK")).await?;
            *in_doubt = false;
            return Ok(planned.into_iter().map(|planned| planned.appended).collect());
        }
        self.create(&mut logs).await?;
        let was_in_doubt = std::mem::replace(in_doubt, true);
        let result = self.write(batch, &logs, &mut planned, &changes).await;
        if matches!(result, Err(Failure::Passing(_) | Failure::Refused(_))) {
            *in_doubt = was_in_doubt;
        }
        result?;
        Ok(planned.into_iter().map(|planned| planned.appended).collect())
    }

    /// Waits for something after which nothing can be written yet.
    async fn before<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
        match timeout_at(self.deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(refused(&error)),
            Err(_) => Err(Failure::Refused(self.pool.too_slow())),
        }
    }

    /// Locks the batch's logs, finds the records that are there already, and looks at the clock.
    async fn lock<'b>(&self, batch: &'b Batch, logs: &mut Logs<'b>) -> Result<i64, Failure> {
        if batch.appends.is_empty() {
            let trip = async {
                let begin = self.connection.client.batch_execute(&self.pool.begin);
                let (begun, clock) = join!(begin, self.connection.query(CLOCK, &[]));
                begun?;
                clock
            };
            return Ok(self.before(trip).await?[0].get(0));
        }
        logs.extend(batch.appends.iter().map(|append| (&append.log, Log::default())));
        let (tenants, rooms): (Vec<_>, Vec<_>) = logs.keys().map(|key| names(key)).unzip();
        let (mut ids, mut keys) = (Wanted::default(), Wanted::default());
        for append in &batch.appends {
            for record in &append.records {
                ids.push(&append.log, Uuid::from_u128(record.id));
                if let Some(key) = &record.key {
                    keys.push(&append.log, &key[..]);
                }
            }
        }
        let trip = async {
            let begin = self.connection.client.batch_execute(&self.pool.begin);
            let lock: [&(dyn ToSql + Sync); 2] = [&tenants, &rooms];
            let find: [&(dyn ToSql + Sync); 6] =
                [&ids.tenants, &ids.rooms, &ids.names, &keys.tenants, &keys.rooms, &keys.names];
            // Sent in this order, all at once. The second search begins after the lock is had, and sees what was
            // committed before.
            let (begun, locked, found, clock) = join!(
                begin,
                self.connection.query(LOCK, &lock),
                self.connection.query(FIND, &find),
                self.connection.query(CLOCK, &[])
            );
            begun?;
            Ok((locked?, found?, clock?))
        };
        let (locked, found, clock) = self.before(trip).await?;
        for row in &locked {
            if let Some(log) = logs.get_mut(&key(row)) {
                (log.id, log.held) = (Some(row.get(7)), Held::new(read::state(row, 2)));
            }
        }
        for row in &found {
            if let Some(log) = logs.get_mut(&key(row)) {
                remember(&mut log.held, row);
            }
        }
        Ok(clock[0].get(0))
    }

    /// Makes the rows of logs that begin with this batch.
    async fn create(&self, logs: &mut Logs<'_>) -> Result<(), Failure> {
        let begins = |log: &Log| log.id.is_none() && log.held.state.epoch != 0;
        let new = logs.iter().filter(|(_, log)| begins(log));
        let new: Vec<_> = new.map(|(key, log)| (names(key), log.held.state.epoch.cast_signed())).collect();
        if new.is_empty() {
            return Ok(());
        }
        let (names, epochs): (Vec<_>, Vec<_>) = new.into_iter().unzip();
        let (tenants, rooms): (Vec<_>, Vec<_>) = names.into_iter().unzip();
        let made = self.before(self.connection.query(CREATE, &[&tenants, &rooms, &epochs])).await?;
        if made.len() < epochs.len() {
            let text = "another hub began the same log in the same moment";
            return Err(Failure::Passing(StoreError::Unavailable(text.into())));
        }
        for row in &made {
            if let Some(log) = logs.get_mut(&key(row)) {
                log.id = Some(row.get(2));
            }
        }
        Ok(())
    }

    /// Writes everything and commits.
    async fn write(
        &self,
        batch: &Batch,
        logs: &Logs<'_>,
        planned: &mut [Planned<'_>],
        changes: &BTreeMap<&FactKey, Change>,
    ) -> Result<(), Failure> {
        let id = |key: &LogKey| logs.get(key).and_then(|log| log.id).unwrap_or_default();
        let (mut records, mut replaced) = (Records::default(), Replaced::default());
        for (append, planned) in batch.appends.iter().zip(&*planned) {
            records.extend(id(&append.log), &planned.new);
            replaced.extend(id(&append.log), &planned.replaces);
        }
        let mut advanced = Advanced::default();
        let changed = logs.values().filter(|log| log.changed);
        changed.for_each(|log| advanced.push(log.id.unwrap_or_default(), &log.held.state));
        let facts = Facts::new(changes);
        let connection = self.connection;
        let trip = async {
            let unchanged = replaced.unchanged(connection);
            let insert = records.insert(connection);
            let advance = advanced.update(connection);
            let replace = replaced.update(connection);
            let facts = facts.write(connection);
            let in_time = self.in_time(batch);
            let commit = connection.client.batch_execute("COMMIT");
            join!(unchanged, insert, advance, replace, facts, in_time, commit)
        };
        let Ok((unchanged, inserted, advanced, sizes, facts, in_time, committed)) =
            timeout_at(self.deadline, trip).await
        else {
            return Err(Failure::InDoubt(self.pool.too_slow_text()));
        };
        // In the order they were sent: what follows an error fails too, and the first tells why.
        unchanged.map_err(|error| match errors::is_false(&error) {
            true => Failure::Refused(StoreError::Conflict),
            false => sent(&error),
        })?;
        inserted.map_err(|error| sent(&error))?;
        advanced.map_err(|error| sent(&error))?;
        let sizes = sizes.map_err(|error| sent(&error))?;
        facts.map_err(|error| sent(&error))?;
        in_time.map_err(|error| match errors::is_false(&error) {
            // The next try finds that in its first round trip.
            true => Failure::Passing(StoreError::Unavailable("the time to write this ended".into())),
            false => sent(&error),
        })?;
        committed.map_err(|error| Failure::InDoubt(errors::text(&error)))?;
        resize(batch, logs, planned, sizes);
        Ok(())
    }

    /// The last thing before the commit: whoever was stopped after the locks were had is too late.
    async fn in_time(&self, batch: &Batch) -> Result<(), Error> {
        match &batch.not_after {
            Some(not_after) => self.connection.query(IN_TIME, &[not_after]).await.map(drop),
            None => Ok(()),
        }
    }

    /// Ends the transaction, so that the connection can be used again. `false`: it cannot.
    async fn rolled_back(&self) -> bool {
        let rolled_back = self.connection.client.batch_execute("ROLLBACK");
        matches!(timeout_at(self.deadline, rolled_back).await, Ok(Ok(())))
    }
}

/// Texts that name logs, and something in each, column by column.
struct Wanted<'a, T> {
    tenants: Vec<&'a [u8]>,
    rooms: Vec<&'a [u8]>,
    names: Vec<T>,
}

impl<T> Default for Wanted<'_, T> {
    fn default() -> Self {
        Self { tenants: Vec::new(), rooms: Vec::new(), names: Vec::new() }
    }
}

impl<'a, T> Wanted<'a, T> {
    fn push(&mut self, log: &'a LogKey, name: T) {
        let (tenant, room) = names(log);
        self.tenants.push(tenant);
        self.rooms.push(room);
        self.names.push(name);
    }
}

fn key(row: &Row) -> LogKey {
    LogKey { tenant: read::name(row, 0), room: read::name(row, 1) }
}

fn remember(held: &mut Held, row: &Row) {
    let id = row.get::<_, Uuid>(5).as_u128();
    let key = row.get::<_, Option<&[u8]>>(6).map(Bytes::copy_from_slice);
    let outcome = Outcome {
        offset: read::count(row, 2),
        ordinal: read::count(row, 3),
        id,
        ts: row.get(4),
        duplicate: true,
    };
    held.remember(id, key, outcome);
}

/// Gives the last append of each log the bytes that the log has after its replacements.
fn resize(batch: &Batch, logs: &Logs<'_>, planned: &mut [Planned<'_>], sizes: Vec<(i64, u64)>) {
    let mut sizes: HashMap<_, _> = sizes.into_iter().collect();
    for (append, planned) in batch.appends.iter().zip(planned).rev() {
        let id = logs.get(&append.log).and_then(|log| log.id);
        if let Some(bytes) = id.and_then(|id| sizes.remove(&id)) {
            planned.appended.state.bytes = bytes;
        }
    }
}

/// Of an error before the commit was sent.
fn refused(error: &Error) -> Failure {
    let says = errors::refused(error);
    if errors::is_passing(error) { Failure::Passing(says) } else { Failure::Refused(says) }
}

/// Of an error of a statement that was sent together with the commit.
fn sent(error: &Error) -> Failure {
    // What the server refuses aborts the transaction, and the commit behind it does nothing.
    if errors::is_answer(error) { refused(error) } else { Failure::InDoubt(errors::text(error)) }
}
