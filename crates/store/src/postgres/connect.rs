//! One connection: how it is opened, what its session is told, and the statements it has prepared.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::options::Target;
use super::tls::Tls;
use super::{errors, schema};
use crate::StoreError;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One batch after the other, or short reads.
    Short,
    /// Reading everything.
    Long,
}

/// How long reading everything may take.
pub(super) const LONG: Duration = Duration::from_secs(3600);

/// How long a hub may at least take between two steps of a batch.
const IDLE_MIN: Duration = Duration::from_millis(250);

/// An open connection. Dropping it closes it at once, whatever was under way.
pub(super) struct Connection {
    pub(super) client: Client,
    statements: Mutex<HashMap<&'static str, Statement>>,
    driver: AbortHandle,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("closed", &self.client.is_closed()).finish_non_exhaustive()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Left alone it would first send what is queued, which a paused server never takes.
        self.driver.abort();
    }
}

impl Connection {
    /// Connects, brings the tables up to date and sets the session up.
    pub(super) async fn open(
        target: &Target,
        purpose: Purpose,
        home: &Handle,
        deadline: Instant,
    ) -> Result<Self, StoreError> {
        let opening = async {
            let connection = Self::dial(target, home).await?;
            let client = &connection.client;
            client.batch_execute(&session(target, purpose)).await.map_err(|error| errors::refused(&error))?;
            schema::migrate(client, target).await?;
            Ok(connection)
        };
        timeout_at(deadline, opening).await.unwrap_or_else(|_| {
            let place = target.place();
            Err(StoreError::Unavailable(format!(
                "PostgreSQL at {place} does not answer: check that it runs, and host and port in the setting `url`"
            )))
        })
    }

    async fn dial(target: &Target, home: &Handle) -> Result<Self, StoreError> {
        let config = target.config.clone();
        let tls = target.tls.clone();
        // Socket and driver belong to one runtime, whichever runtime the caller is on.
        let dialled = home.spawn(async move {
            match tls {
                Tls::Off => config.connect(NoTls).await.map(|(client, connection)| {
                    (client, tokio::spawn(async move { drop(connection.await) }).abort_handle())
                }),
                Tls::On(tls) => config.connect(tls).await.map(|(client, connection)| {
                    (client, tokio::spawn(async move { drop(connection.await) }).abort_handle())
                }),
            }
        });
        let dialled = AbortOnDrop(dialled);
        let (client, driver) = dialled
            .wait()
            .await
            .ok_or_else(|| StoreError::Unavailable("the store's runtime has ended".into()))?
            .map_err(|error| errors::cannot_connect(&error, target))?;
        Ok(Self { client, statements: Mutex::default(), driver })
    }

    /// Prepares statements that are going to be needed together.
    pub(super) async fn prepare(&self, all: &[&'static str]) -> Result<(), tokio_postgres::Error> {
        try_join_all(all.iter().map(|sql| self.statement(sql))).await.map(drop)
    }

    async fn statement(&self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.prepared(sql) {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, statement.clone());
        Ok(statement)
    }

    fn prepared(&self, sql: &'static str) -> Option<Statement> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner).get(sql).cloned()
    }

    /// Runs a statement that returns rows.
    ///
    /// One that was [prepared](Self::prepare) is sent at the first poll: futures polled in turn are sent in turn.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = self.statement(sql).await?;
        self.client.query(&statement, parameters).await
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn wait(mut self) -> Option<T> {
        (&mut self.0).await.ok()
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What every session is told.
fn session(target: &Target, purpose: Purpose) -> String {
    let timeout = match purpose {
        Purpose::Short => target.timeout,
        Purpose::Long => LONG,
    };
    // We give up first, always: a commit that the server gives up while it waits for a standby is answered as done.
    let statement_ms = (timeout + Duration::from_secs(1)).as_millis();
    // Whoever waits behind a hub that vanished in the middle of a batch must be done within its own time limit. Who was
    // only slow finds nothing written, and begins again.
    let idle_ms = (target.timeout / 4).max(IDLE_MIN).as_millis();
    let mut session = format!(
        "SET search_path TO {schema}; \
         SET client_min_messages TO warning; \
         SET statement_timeout TO {statement_ms}; \
         SET idle_in_transaction_session_timeout TO {idle_ms}; \
         SET default_transaction_isolation TO 'read committed'; \
         SELECT set_config(name, '1000', false) FROM pg_settings WHERE name = 'client_connection_check_interval';",
        schema = target.schema,
    );
    if purpose == Purpose::Short {
        // Every statement here finds its rows by an index. Plans must not wait for statistics to see that, nor change with
        // them: a plan made for an empty table would read all of a large one.
        session.push_str(
            "SET plan_cache_mode TO force_generic_plan; \
             SET enable_seqscan TO off; SET enable_bitmapscan TO off; \
             SET enable_hashjoin TO off; SET enable_mergejoin TO off;",
        );
    }
    session
}
