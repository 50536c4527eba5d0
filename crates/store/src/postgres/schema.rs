//! The tables, and how they come to be.
//!
//! Migrations are numbered, run once each in a transaction under a lock that all hubs share, and never changed after a
//! release. Names and texts are `bytea`: PostgreSQL's text can hold no NUL and sorts as the server's locale pleases.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::errors;
use super::options::Target;
use crate::StoreError;

/// Each brings the tables one version further.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_logs_and_facts.sql")];

/// Taken while migrating; any number that nobody else uses in this database.
const LOCK: i64 = 0x6f75_7473_706f_6b65;

/// Makes the schema and its tables, or brings them up to date.
pub(super) async fn migrate(client: &Client, target: &Target) -> Result<(), StoreError> {
    match version(client, target).await? {
        Some(version) if version == MIGRATIONS.len() => return Ok(()),
        Some(version) if version > MIGRATIONS.len() => return Err(too_new(target, version)),
        _ => {}
    }
    let result = run(client, target).await;
    if result.is_err() {
        // The connection is given up with the error; this only lets go of the lock at once.
        let _ = client.batch_execute("ROLLBACK").await;
    }
    result
}

async fn run(client: &Client, target: &Target) -> Result<(), StoreError> {
    let schema = &target.schema;
    let failed = |error: tokio_postgres::Error| cannot_migrate(target, &error);
    client.batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await.map_err(failed)?;
    // Another hub may have been faster.
    let done = version(client, target).await?.unwrap_or(0);
    if done == 0 {
        let exists = "SELECT FROM pg_namespace WHERE nspname = $1";
        // Making it needs a right that its owner may lack, even if there is nothing to make.
        if client.query_opt(exists, &[&target.schema_name]).await.map_err(failed)?.is_none() {
            client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.map_err(failed)?;
        }
        client.batch_execute("CREATE TABLE migrations (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())").await.map_err(failed)?;
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        client.batch_execute(migration).await.map_err(failed)?;
        let version = i32::try_from(index + 1).expect("there are few migrations");
        client.execute("INSERT INTO migrations (version) VALUES ($1)", &[&version]).await.map_err(failed)?;
    }
    client.batch_execute("COMMIT").await.map_err(failed)
}

/// How far the tables are; `None` when there are none.
async fn version(client: &Client, target: &Target) -> Result<Option<usize>, StoreError> {
    // Not `to_regclass`: it may answer from a cache of before the lock.
    let exists = "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                  WHERE n.nspname = $1 AND c.relname = 'migrations'";
    let found = client.query_opt(exists, &[&target.schema_name]).await;
    if found.map_err(|error| errors::refused(&error))?.is_none() {
        return Ok(None);
    }
    let sql = format!("SELECT coalesce(max(version), 0) FROM {}.migrations", target.schema);
    let row = client.query_one(&sql, &[]).await.map_err(|error| cannot_migrate(target, &error))?;
    Ok(Some(usize::try_from(row.get::<_, i32>(0)).unwrap_or(0)))
}

fn cannot_migrate(target: &Target, error: &tokio_postgres::Error) -> StoreError {
    let (schema, user) = (&target.schema, target.user());
    match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => StoreError::Unavailable(format!(
            "PostgreSQL's role {user} may not make or use the tables in the schema {schema} of the database {database}: \
             as an administrator run `CREATE SCHEMA {schema} AUTHORIZATION \"{user}\"` there, or correct the settings \
             `url` and `schema` ({error})",
            database = target.database(),
            error = errors::text(error),
        )),
        _ => errors::refused(error),
    }
}

fn too_new(target: &Target, version: usize) -> StoreError {
    StoreError::Unavailable(format!(
        "the tables in the schema {} are of version {version}, made by a newer Outspoke; this one knows up to {}: \
         use the newer one, or another `schema`",
        target.schema,
        MIGRATIONS.len()
    ))
}
