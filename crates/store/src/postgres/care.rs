//! How the database is: what a commit survives, whether all is well, and giving space back.

use std::fmt::Write as _;

use tokio_postgres::{Error, Row};

use super::connect::{Connection, Purpose};
use super::pool::Pool;
use super::read;
use crate::limits::{REMEMBERED_MS, REMEMBERED_RECORDS};
use crate::{Health, LogKey, StoreError, VerifyReport};

/// As this session has them: a role or a database may have settings of its own.
const SETTINGS: &str = "\
    SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', \
           current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on', \
           current_setting('synchronous_commit'), current_setting('synchronous_standby_names')";

/// One row per log that is not as it must be, and what it should be beside what it is.
const BROKEN: &str = "\
    SELECT l.tenant, l.room, l.first, l.head, l.ordinal, l.bytes, \
           coalesce(r.kept, 0), coalesce(r.bytes, 0), coalesce(r.ordinal, 0), coalesce(r.steps, true), \
           coalesce(r.beyond, 0) \
    FROM logs l LEFT JOIN ( \
        SELECT log, count(*) FILTER (WHERE off BETWEEN first AND head) AS kept, \
               count(*) FILTER (WHERE off > head) AS beyond, \
               sum(length(payload)) FILTER (WHERE off >= first)::bigint AS bytes, \
               max(ordinal) FILTER (WHERE off = head) AS ordinal, \
               bool_and(ordinal - before BETWEEN 0 AND off - off_before) AS steps \
        FROM ( \
            SELECT r.log, r.off, r.ordinal, r.payload, g.first, g.head, \
                   lag(r.ordinal) OVER w AS before, lag(r.off) OVER w AS off_before \
            FROM records r JOIN logs g ON g.id = r.log WINDOW w AS (PARTITION BY r.log ORDER BY r.off) \
        ) s GROUP BY log \
    ) r ON r.log = l.id \
    WHERE l.epoch = 0 OR l.first < 1 OR l.first > l.head + 1 \
       OR coalesce(r.kept, 0) <> l.head - l.first + 1 OR coalesce(r.bytes, 0) <> l.bytes \
       OR (r.ordinal IS NOT NULL AND r.ordinal <> l.ordinal) OR NOT coalesce(r.steps, true) OR r.beyond > 0 \
    ORDER BY 1, 2 LIMIT 1000";

/// Reads every byte, also those that are compressed or kept beside the table.
const COUNTS: &str = "\
    SELECT (SELECT count(*) FROM logs), \
           (SELECT count(md5(r.payload)) FROM records r JOIN logs l ON l.id = r.log AND r.off >= l.first), \
           (SELECT count(md5(value)) FROM facts)";

/// What dropping and trimming left because they were interrupted, or because it was to be remembered then.
const SWEEP: [&str; 2] = [
    "DELETE FROM records r WHERE NOT EXISTS (SELECT FROM logs l WHERE l.id = r.log)",
    "DELETE FROM records r USING logs l \
     WHERE l.id = r.log AND r.off < l.first AND r.off < l.head - $1 AND r.ts < $2",
];

const NEWEST: &str = "SELECT coalesce(max(ts), 0) FROM records";

const SIZE: &str = "\
    SELECT coalesce(sum(pg_total_relation_size(t::regclass)), 0)::bigint \
    FROM unnest(ARRAY['logs', 'records', 'facts']) AS t";

/// What the server is set to.
#[derive(Debug)]
pub(super) struct Settings {
    standby: bool,
    read_only: bool,
    fsync: bool,
    full_page_writes: bool,
    synchronous_commit: String,
    standbys: String,
}

impl Settings {
    pub(super) async fn of(connection: &Connection) -> Result<Self, Error> {
        let rows = connection.query(SETTINGS, &[]).await?;
        Ok(Self::from(&rows[0]))
    }

    /// Whether a commit survives less than a crash of the server's machine.
    pub(super) fn is_weak(&self) -> bool {
        !self.fsync || !self.full_page_writes || self.synchronous_commit == "off"
    }

    /// What a commit survives, in a sentence.
    pub(super) fn durability(&self) -> String {
        if !self.fsync || !self.full_page_writes {
            let off = if self.fsync { "full_page_writes" } else { "fsync" };
            return format!(
                "weaker than promised: a commit survives a crash of PostgreSQL, but a crash of its machine may lose or \
                 damage everything, because `{off}` is off; set it to on"
            );
        }
        let standbys = &self.standbys;
        match self.synchronous_commit.as_str() {
            "off" => "weaker than promised: a crash of PostgreSQL loses what was committed in its last moments (up to \
                      three times wal_writer_delay, 0.6 s by default), because `synchronous_commit` is off; set it to on"
                .to_owned(),
            "local" => "a commit survives a crash of PostgreSQL and of its machine; a standby that takes over may lack the \
                        last ones, because `synchronous_commit` is local"
                .to_owned(),
            _ if standbys.is_empty() => "a commit survives a crash of PostgreSQL and of its machine, but not the loss of its \
                                         disk: no synchronous standby is configured"
                .to_owned(),
            "remote_write" => format!(
                "a commit survives a crash of PostgreSQL and of its machine, and the loss of its disk as long as the machine of \
                 the standby ({standbys}) stays up"
            ),
            _ => format!(
                "a commit survives a crash of PostgreSQL and of its machine, and the loss of its disk, thanks to the \
                 synchronous standby ({standbys})"
            ),
        }
    }
}

impl From<&Row> for Settings {
    fn from(row: &Row) -> Self {
        Self {
            standby: row.get(0),
            read_only: row.get(1),
            fsync: row.get(2),
            full_page_writes: row.get(3),
            synchronous_commit: row.get(4),
            standbys: row.get(5),
        }
    }
}

pub(super) async fn health(pool: &Pool) -> Result<Health, StoreError> {
    let unknown =
        || pool.durability().unwrap_or_else(|| "unknown until PostgreSQL can be reached".to_owned());
    let settings = match pool.query(SETTINGS, &[]).await {
        Ok(rows) => Settings::from(&rows[0]),
        Err(error) => {
            return Ok(Health { writable: false, detail: error.to_string(), durability: unknown() });
        }
    };
    let detail = if settings.standby {
        "PostgreSQL is a standby, which takes no writes: point the setting `url` at the primary"
    } else if settings.read_only {
        "PostgreSQL is read-only: set default_transaction_read_only to off"
    } else {
        ""
    };
    let durability = settings.durability();
    Ok(Health { writable: detail.is_empty(), detail: detail.to_owned(), durability })
}

pub(super) async fn verify(pool: &Pool) -> Result<VerifyReport, StoreError> {
    let connection = pool.connect(Purpose::Long, pool.deadline()).await?;
    pool.long(async {
        // Both questions about the same moment, however much is written meanwhile.
        connection.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let broken = connection.query(BROKEN, &[]).await?;
        let counts = connection.query(COUNTS, &[]).await?;
        connection.client.batch_execute("COMMIT").await?;
        let problems = broken.iter().map(|row| {
            let log = LogKey { tenant: read::name(row, 0), room: read::name(row, 1) };
            let number = |at: usize| row.get::<_, i64>(at);
            let mut problem = format!(
                "{log}: the log says records {}..={}, ordinal {}, {} bytes; its records say {} of them, ordinal {}, {} bytes",
                number(2), number(3), number(4), number(5), number(6), number(8), number(7)
            );
            if !row.get::<_, bool>(9) {
                problem.push_str("; the ordinals are out of order");
            }
            if number(10) > 0 {
                let _ = write!(problem, "; {} records are beyond its head", number(10));
            }
            problem
        });
        Ok(VerifyReport {
            logs: read::count(&counts[0], 0),
            records: read::count(&counts[0], 1),
            facts: read::count(&counts[0], 2),
            problems: problems.collect(),
        })
    })
    .await
}

pub(super) async fn compact(pool: &Pool) -> Result<u64, StoreError> {
    let connection = pool.connect(Purpose::Long, pool.deadline()).await?;
    pool.long(async {
        let before = read::count(&connection.query(SIZE, &[]).await?[0], 0);
        let newest: i64 = connection.query(NEWEST, &[]).await?[0].get(0);
        let (records, time) =
            (super::columns::signed(REMEMBERED_RECORDS), newest.saturating_sub(REMEMBERED_MS));
        connection.query(SWEEP[0], &[]).await?;
        connection.query(SWEEP[1], &[&records, &time]).await?;
        for table in ["records", "logs", "facts"] {
            connection.client.batch_execute(&format!("VACUUM (ANALYZE) {table}")).await?;
        }
        let after = read::count(&connection.query(SIZE, &[]).await?[0], 0);
        Ok(before.saturating_sub(after))
    })
    .await
}
