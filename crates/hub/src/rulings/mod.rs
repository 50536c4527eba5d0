//! Rulings: what was decided about credentials that are out already.
//!
//! A credential cannot be called back, so the hub remembers what was decided about it until nobody can hold it any more: a token,
//! a user or one of the user's devices is not accepted any more, may do something else than its credential says, or is kept out
//! of a room. A ruling holds for whoever connects or refreshes later, and for who is connected already, on every node.
//!
//! What is decided is written to the hub's first store (`record.rs`, family [`rulings`](crate::facts::RULINGS)), then remembered
//! (`book.rs`), told to the other nodes, and done to the connections that are here (`enforce.rs`). The bus is a hint again: nodes
//! with a shared store look every two seconds whether another has written something (`keep.rs`), nodes without one compare what
//! they know as often (`gossip.rs`), so that a message that the bus loses costs seconds.
//!
//! Rulings about the same thing replace each other, and the latest counts: they merge to the same on every node, in whichever
//! order they are heard. Lifting one is a ruling, too. All are forgotten some time after they end ([`clock`](crate::clock)).

mod admin;
mod book;
mod enforce;
mod gossip;
mod keep;
mod record;

use std::time::Duration;

use ecow::EcoString;
use outspoke_protocol::{ErrorCode, Refusal, RoomName, Timestamp, UserId};

pub use self::admin::{Ruled, RulingInfo};
pub(crate) use self::book::Book;
pub(crate) use self::keep::begin;
use crate::policy::Permissions;

/// How long a ruling holds where nobody says otherwise: longer than tokens usually live.
pub const RULING_LASTS: Duration = Duration::from_secs(30 * 24 * 3600);
/// The longest that a ruling may hold.
pub const RULING_LASTS_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// The shortest that anybody may be kept out of a room: the others must have heard of it by then.
pub const BAR_LASTS_MIN: Duration = Duration::from_secs(5);

/// Whose credentials a ruling is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// One token, by its id (`jti`); or a key, by its name.
    Token(EcoString),
    /// Every credential of a user.
    User(UserId),
    /// Those of one of the user's devices.
    Device {
        /// The user.
        user: UserId,
        /// The device; empty for the one that has no name.
        device: EcoString,
    },
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// They are not accepted any more. Their connections are closed: with 4003 if who has them should come back with a fresh one,
    /// with 4503 otherwise.
    Revoked {
        /// Whether to come back.
        reconnect: bool,
    },
    /// They allow this from now on, and nothing else.
    Permissions(Permissions),
    /// Who has them is taken out of the room, and kept out, whatever they allow.
    Barred {
        /// The room.
        room: RoomName,
    },
}

/// A decision about credentials that are out already.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ruling {
    /// Whose.
    pub subject: Subject,
    /// What.
    pub verdict: Verdict,
    /// Credentials that were issued then or later are not concerned; those that do not say when they were issued are.
    pub issued_before: Timestamp,
    /// Forgotten then: not before the last of the credentials has ended.
    pub until: Timestamp,
}

impl Ruling {
    /// About the credentials that are out now, for as long as [usual](RULING_LASTS). One about a single token or a room concerns
    /// also those that are issued later.
    #[must_use]
    pub fn new(subject: Subject, verdict: Verdict) -> Self {
        let now = Timestamp::from_system_time(std::time::SystemTime::now());
        let until = after(now, RULING_LASTS);
        let for_good = matches!(subject, Subject::Token(_)) || matches!(verdict, Verdict::Barred { .. });
        Self { issued_before: if for_good { until } else { now }, subject, verdict, until }
    }

    /// The same, forgotten after so long.
    #[must_use]
    pub fn lasting(self, time: Duration) -> Self {
        let until = after(Timestamp::from_system_time(std::time::SystemTime::now()), time);
        let for_good = self.issued_before == self.until;
        Self { until, issued_before: if for_good { until } else { self.issued_before }, ..self }
    }

    /// The same, about credentials that were issued before then.
    #[must_use]
    pub fn issued_before(self, issued: Timestamp) -> Self {
        Self { issued_before: issued, ..self }
    }
}

fn after(at: Timestamp, time: Duration) -> Timestamp {
    let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

/// Why nothing was decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RulingError {
    /// Something about it cannot be.
    #[error("{0}")]
    Invalid(&'static str),
    /// The hub remembers as many as it may.
    #[error(
        "the hub remembers {max} rulings, the configured maximum: lift some, let them end sooner, or raise rulings_max"
    )]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The store cannot be written or read: nothing is decided that a restart would forget. If it only takes too long,
    /// what was to be decided counts when the store has it. Ask again.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
}

impl From<RulingError> for Refusal {
    fn from(error: RulingError) -> Self {
        let code = match &error {
            RulingError::TooMany { .. } => ErrorCode::QuotaExceeded,
            RulingError::Unavailable(_) => ErrorCode::Unavailable,
            RulingError::Invalid(_) => ErrorCode::BadRequest,
        };
        Self::new(code, ecow::eco_format!("{error}"))
    }
}

impl From<outspoke_store::StoreError> for RulingError {
    fn from(error: outspoke_store::StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
