//! What PostgreSQL's errors mean to the contract.

use std::error::Error as _;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::options::Target;
use crate::StoreError;

/// The error and its causes in one line. PostgreSQL's messages never hold the password; row contents may be in their details, so
/// those are left out.
pub(super) fn text(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Whether the server has said so itself, and not merely vanished.
pub(super) fn is_answer(error: &Error) -> bool {
    error.as_db_error().is_some()
}

/// Whether the same may well work at once: the server ended the transaction to resolve a conflict, or the connection was an
/// old one.
pub(super) fn is_passing(error: &Error) -> bool {
    // T_R_*: a deadlock or a conflict between transactions; UNIQUE_VIOLATION: two hubs made the same log; the last: the
    // tables were migrated under our prepared statements.
    error.code().is_none_or(|code| {
        *code == SqlState::T_R_DEADLOCK_DETECTED
            || *code == SqlState::T_R_SERIALIZATION_FAILURE
            || *code == SqlState::UNIQUE_VIOLATION
            || *code == SqlState::FEATURE_NOT_SUPPORTED
            || ends_session(code)
    })
}

/// Whether a condition of a batch did not hold: those divide by zero then, which ends the transaction.
pub(super) fn is_false(error: &Error) -> bool {
    error.code() == Some(&SqlState::DIVISION_BY_ZERO)
}

/// Whether the server closes the connection with this error.
fn ends_session(code: &SqlState) -> bool {
    *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
        || code.code() == "57P05" // idle_session_timeout
}

/// Of an error after which nothing is written.
pub(super) fn refused(error: &Error) -> StoreError {
    let text = text(error);
    let Some(code) = error.code() else {
        return StoreError::Unavailable(format!("talking to PostgreSQL failed: {text}"));
    };
    match code.code() {
        "53100" => StoreError::Full(format!("PostgreSQL has no disk space left: {text}")),
        "25006" => StoreError::Unavailable(format!("PostgreSQL is read-only, a standby perhaps: {text}")),
        "53200" | "53300" => StoreError::Unavailable(format!("PostgreSQL is short of resources: {text}")),
        "57014" | "55P03" => StoreError::Unavailable(format!("PostgreSQL took too long: {text}")),
        "42501" => StoreError::Unavailable(format!("PostgreSQL's role lacks a right: {text}")),
        "XX001" | "XX002" => StoreError::Damaged(format!("PostgreSQL found damage: {text}")),
        code if code.starts_with("54") => StoreError::Invalid(format!("too large for PostgreSQL: {text}")),
        _ => StoreError::Unavailable(format!("PostgreSQL answers: {text}")),
    }
}

/// Of an error while connecting: names the setting and the cure.
pub(super) fn cannot_connect(error: &Error, target: &Target) -> StoreError {
    let (place, user, database) = (target.place(), target.user(), target.database());
    let text = text(error);
    let says = match error.code().map(SqlState::code) {
        Some("28P01") => {
            format!(
                "PostgreSQL at {place} does not accept the password of {user}: correct it in the setting `url`"
            )
        }
        Some("28000") => format!(
            "PostgreSQL at {place} does not let {user} in: correct the user or add `sslmode` in the setting `url`, or \
             allow it in the server's pg_hba.conf ({text})"
        ),
        Some("3D000") => format!(
            "PostgreSQL at {place} has no database {database}: create it, or correct its name in the setting `url`"
        ),
        Some("42501") => format!(
            "PostgreSQL at {place} does not let {user} into the database {database}: grant CONNECT on it ({text})"
        ),
        Some("53300") => format!(
            "PostgreSQL at {place} has no connection left: raise its max_connections or lower `readers_max` ({text})"
        ),
        Some(_) => format!("PostgreSQL at {place} does not let us in: {text}"),
        None => format!(
            "PostgreSQL cannot be reached at {place}: check that it runs, and host and port in the setting `url` ({text})"
        ),
    };
    StoreError::Unavailable(says)
}
