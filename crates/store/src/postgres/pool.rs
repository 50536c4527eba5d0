//! Which connection does what, and when to try again to have one.
//!
//! One connection writes batches, a few read, and one at a time reads everything for the tools. A connection is lent out
//! and comes back only if it is known to be in order: dropped in the middle of something, it is closed. Connecting happens
//! when a connection is needed and none is there; after failures the callers wait their turn.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::care::Settings;
use super::connect::{Connection, LONG, Purpose};
use super::options::{PostgresOptions, Target};
use super::{commit, errors};
use crate::StoreError;
use crate::remote::Backoff;

/// Every connection to the database.
#[derive(Debug)]
pub(super) struct Pool {
    target: Target,
    home: Handle,
    /// How a batch begins: behind an earlier one of ours that is still on its way through the server. Where only facts are
    /// written, no row could be locked that is not there yet.
    pub(super) begin: String,
    /// The connection for batches; whoever commits holds the lock.
    pub(super) writer: AsyncMutex<Writer>,
    idle: Mutex<Vec<Connection>>,
    readers: Arc<Semaphore>,
    backoff: Mutex<Backoff>,
    /// What was last found out about what a commit survives.
    durability: Mutex<Option<String>>,
    closed: AtomicBool,
}

/// What writing needs to know from one batch to the next.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) connection: Option<Connection>,
    /// Whether the last batch may be written or not.
    pub(super) in_doubt: bool,
}

/// A connection for reading. [`keep`](Self::keep) gives it back; dropped without, it is closed.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pool: &'a Pool,
    connection: Connection,
    _permit: OwnedSemaphorePermit,
}

impl Deref for Reader<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Reader<'_> {
    pub(super) fn keep(self) {
        self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
    }
}

impl Pool {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self, StoreError> {
        Ok(Self {
            target: Target::new(options)?,
            home: Handle::current(),
            begin: format!("BEGIN; SELECT pg_advisory_xact_lock({})", fastrand::i64(..)),
            writer: AsyncMutex::default(),
            idle: Mutex::default(),
            readers: Arc::new(Semaphore::new(options.readers_max.max(1))),
            backoff: Mutex::default(),
            durability: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// When what begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.target.timeout
    }

    /// A new connection, as soon as one may be tried.
    pub(super) async fn connect(
        &self,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<Connection, StoreError> {
        let until = self.backoff.lock().unwrap_or_else(PoisonError::into_inner).until();
        if let Some(until) = until {
            // Half of the time is left for the attempt itself.
            sleep_until(until.min(Instant::now() + (deadline - Instant::now()) / 2)).await;
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        let opened = Connection::open(&self.target, purpose, &self.home, deadline).await;
        let opened = match opened {
            Ok(connection) => self.learn(connection, purpose).await,
            Err(error) => Err(error),
        };
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        match &opened {
            Ok(_) => backoff.worked(),
            Err(_) => backoff.failed(),
        }
        opened
    }

    /// Looks at what a commit survives here; says so in the log whenever that is less than it should be.
    async fn learn(&self, connection: Connection, purpose: Purpose) -> Result<Connection, StoreError> {
        if purpose == Purpose::Short {
            let settings = Settings::of(&connection).await.map_err(|error| errors::refused(&error))?;
            connection.prepare(&commit::STATEMENTS).await.map_err(|error| errors::refused(&error))?;
            let durability = settings.durability();
            let known =
                self.durability.lock().unwrap_or_else(PoisonError::into_inner).replace(durability.clone());
            if settings.is_weak() && known.as_ref() != Some(&durability) {
                tracing::warn!(server = %self.target.place(), "{durability}");
            }
        }
        Ok(connection)
    }

    /// What a commit survives, as far as it is known.
    pub(super) fn durability(&self) -> Option<String> {
        self.durability.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection for reading, within the time limit.
    pub(super) async fn reader(&self) -> Result<Reader<'_>, StoreError> {
        let deadline = self.deadline();
        let permit = timeout_at(deadline, Arc::clone(&self.readers).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(StoreError::Unavailable("too much is read from PostgreSQL at the same time".into()));
        };
        let connection = match self.take_idle() {
            Some(connection) => connection,
            None => self.connect(Purpose::Short, deadline).await?,
        };
        Ok(Reader { pool: self, connection, _permit: permit })
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.client.is_closed());
        idle.pop()
    }

    /// Reads by one statement, within the time limit; once more on a new connection if the old one turns out to be gone.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let mut tries = 0;
        loop {
            let reader = self.reader().await?;
            match timeout_at(self.deadline(), reader.query(sql, parameters)).await {
                Ok(Ok(rows)) => {
                    reader.keep();
                    return Ok(rows);
                }
                Ok(Err(error)) if tries == 0 && errors::is_passing(&error) => {
                    // Whatever ended one idle connection has probably ended all.
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    tries += 1;
                }
                Ok(Err(error)) => return Err(errors::refused(&error)),
                Err(_) => return Err(self.too_slow()),
            }
        }
    }

    /// Does `work`, which was given a connection for reading everything, for as long as that may take.
    pub(super) async fn long<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, StoreError> {
        match timeout(LONG, work).await {
            Ok(result) => result.map_err(|error| errors::refused(&error)),
            Err(_) => Err(self.too_slow()),
        }
    }

    pub(super) fn too_slow(&self) -> StoreError {
        StoreError::Unavailable(self.too_slow_text())
    }

    pub(super) fn too_slow_text(&self) -> String {
        format!("PostgreSQL at {} did not answer within {:?}", self.target.place(), self.target.timeout)
    }

    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.writer.lock().await.connection = None;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
