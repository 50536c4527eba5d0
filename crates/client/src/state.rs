//! What a client tells of its connection.
//!
//! Written by the client's own task, read by everybody through a `watch` channel: whoever reads seldom sees the newest
//! state and not every one. Nothing in here needs the client, so a banner can live from this alone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// Where a client's connection stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionState {
    /// Nothing was asked of the client yet.
    Idle,
    /// A connection is being made.
    Connecting {
        /// How many waits there were before it, since the client was last online for a while.
        attempt: u32,
    },
    /// The server has welcomed the client.
    Online(Session),
    /// There is no connection, and there will be another attempt.
    #[non_exhaustive]
    Offline {
        /// What ended or prevented the connection.
        cause: Cause,
        /// The same in detail.
        error: Error,
        /// 1 in the first wait since the client was last online for a while.
        attempt: u32,
        /// When the next attempt is made.
        retry_at: Instant,
        /// Messages that wait to be sent.
        queued: usize,
    },
    /// The end: nothing more is tried.
    Closed {
        /// Why, unless it was `close`.
        error: Option<Error>,
    },
}

/// The connection that a client has.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Session {
    /// The id that the server has given the connection.
    pub client: Arc<str>,
    /// Who the server takes the client for.
    pub user: Arc<str>,
    /// The name that others see; empty for none.
    pub username: Arc<str>,
    /// When it began.
    pub since: Instant,
    /// Whether there was a connection before this one.
    pub resumed: bool,
    /// How long the server took to answer a ping, once that is known.
    pub rtt: Option<Duration>,
    /// The server's name, when several act as one.
    pub node: Option<Arc<str>>,
    /// Whether the server believes whatever a client says of itself.
    pub open_mode: bool,
}

/// What sort of thing ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The connection broke, or could not be made.
    Network,
    /// The server fell silent.
    Watchdog,
    /// The server ended or refused it.
    Server,
    /// The credential was not accepted, or there was none to show.
    Auth,
}

impl Cause {
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            error if error.is_unauthorized() => Self::Auth,
            Error::Token(_) => Self::Auth,
            Error::Silent => Self::Watchdog,
            Error::Rejected { .. } | Error::Disconnected { .. } | Error::Protocol(_) | Error::Refused(_) => {
                Self::Server
            }
            _ => Self::Network,
        }
    }
}

impl ConnectionState {
    /// Whether the client is online.
    #[must_use]
    pub const fn is_online(&self) -> bool {
        matches!(self, Self::Online(_))
    }

    /// Whether the client has ended.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed { .. })
    }
}
