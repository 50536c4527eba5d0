//! What can go wrong, and whether trying again helps.
//!
//! One enum for the whole client, since most of its variants can come out of every request. Clones are cheap: the error
//! that ends a connection is told to everybody who waits for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use outspoke_websocket::ClientError;
use serde::Deserialize;

/// Why something did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address, a header or an option cannot be used. Nothing was tried.
    #[error("{0}")]
    Invalid(Arc<str>),
    /// No connection came about, or it broke: see the source.
    #[error("cannot reach the server: {0}")]
    Network(#[source] Arc<io::Error>),
    /// Nothing came from the server for longer than it pings.
    #[error("the connection is silent although the server should have pinged; it is given up")]
    Silent,
    /// The server answered the handshake, and not with a WebSocket.
    #[error("{0}")]
    Handshake(Arc<ClientError>),
    /// The server refused the connection over HTTP.
    #[error("the server refused the connection with {status}{}", detail(.refusal.as_deref()))]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// What the server said about it, if it was this hub that answered.
        refusal: Option<Box<Refusal>>,
        /// How long to stay away, if it was said.
        retry_after: Option<Duration>,
    },
    /// The token provider failed.
    #[error("no token: {0}")]
    Token(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The server closed the connection.
    #[error("the server closed the connection with {code}{}", reason_suffix(.reason))]
    Disconnected {
        /// The close code.
        code: u16,
        /// The reason in the close frame.
        reason: Arc<str>,
    },
    /// The server broke the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(Arc<str>),
    /// The server refused the request.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The server took the client out of the room.
    #[error("taken out of room {room:?}{}", detail(.refusal.as_deref()))]
    Removed {
        /// The room.
        room: Arc<str>,
        /// Why, if the server said so.
        refusal: Option<Box<Refusal>>,
    },
    /// The connection broke before the answer came; the request was carried out or not.
    #[error("the connection was lost before the answer came; the request may have been carried out")]
    Interrupted,
    /// The answer did not come in time. A message that was sent already may have been published.
    #[error("no answer came in time{}", if *.sent { "; the request may have been carried out" } else { ": the request was never sent" })]
    TimedOut {
        /// Whether it had left the client.
        sent: bool,
    },
    /// As many messages wait as may.
    #[error(
        "{queued} messages wait to be sent already; wait for their acknowledgements, or allow more with `outbox`"
    )]
    OutboxFull {
        /// Messages that wait.
        queued: usize,
    },
    /// The message gave its place to a newer one ([`Overflow::DropOldest`](crate::Overflow::DropOldest)).
    #[error("the outbox was full and a newer message took this one's place")]
    Dropped,
    /// The frame is longer than the server takes.
    #[error("the message has {bytes} bytes as a frame, and the server takes {max}")]
    TooLarge {
        /// Bytes of the frame.
        bytes: usize,
        /// What the server said in its welcome.
        max: usize,
    },
    /// The value cannot be written as JSON.
    #[error("the value cannot be written as JSON: {0}")]
    Encode(#[source] Arc<serde_json::Error>),
    /// A message is not what the room's type expects; the stream goes on behind it.
    #[error("what came is not of the type expected: {source}; it was {json}")]
    Decode {
        /// What does not fit.
        #[source]
        source: Arc<serde_json::Error>,
        /// What came.
        json: Arc<str>,
    },
    /// The connection does not speak what is needed.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The client was closed before everything was sent and acknowledged.
    #[error("the client was closed with {messages} messages unacknowledged")]
    Unsent {
        /// Messages whose publishers got an error instead of an acknowledgement.
        messages: usize,
    },
    /// As many attempts in a row have failed as may ([`Backoff::attempts_max`](crate::Backoff::attempts_max)).
    #[error("gave up coming back: {0}")]
    GaveUp(#[source] Box<Self>),
    /// There is no connection now.
    #[error("not connected")]
    NotConnected,
    /// The client is closed, by `close` or for the reason that is in its state.
    #[error("the client is closed")]
    Closed,
}

/// What the server says when it refuses something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({name})")]
#[non_exhaustive]
pub struct Refusal {
    /// The number, for programs.
    pub code: u16,
    /// The code's name.
    pub name: String,
    /// For people.
    pub message: String,
    /// Whether the same request may succeed later.
    pub temporary: bool,
    /// How long to wait before.
    pub retry_after: Option<Duration>,
}

/// The same on the wire.
#[derive(Deserialize)]
struct WireRefusal {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    error: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    temporary: bool,
    #[serde(default, rename = "retryAfter")]
    retry_after: Option<u64>,
}

impl Refusal {
    /// From an `error`, or whatever carries its fields. A code above 0 makes it one.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        let wire: WireRefusal = serde_json::from_slice(json).ok()?;
        (wire.code != 0).then(|| Self {
            code: wire.code,
            name: wire.error,
            message: wire.message,
            temporary: wire.temporary,
            retry_after: wire.retry_after.map(Duration::from_millis),
        })
    }
}

impl Error {
    pub(crate) fn lost(error: io::Error) -> Self {
        Self::Network(Arc::new(error))
    }

    pub(crate) fn invalid(why: impl Into<Arc<str>>) -> Self {
        Self::Invalid(why.into())
    }

    pub(crate) fn rejected(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let refusal = Refusal::parse(body).map(Box::new);
        let said = refusal.as_ref().and_then(|refusal| refusal.retry_after);
        let retry_after = said.or(seconds.map(Duration::from_secs));
        Self::Rejected { status: status.as_u16(), refusal, retry_after }
    }

    /// Whether the same may succeed later, unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Network(_)
            | Self::Silent
            | Self::Interrupted
            | Self::TimedOut { .. }
            | Self::OutboxFull { .. }
            | Self::Dropped
            | Self::NotConnected
            | Self::Token(_) => true,
            Self::Rejected { status, refusal, .. } => {
                refusal.as_ref().is_some_and(|refusal| refusal.temporary) || is_temporary(*status)
            }
            Self::Disconnected { code, .. } => comes_back(*code),
            Self::Refused(refusal) => refusal.temporary,
            Self::Removed { refusal, .. } => refusal.as_ref().is_some_and(|refusal| refusal.temporary),
            _ => false,
        }
    }

    /// Whether the credential is what was wrong.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Self::Rejected { status, .. } => *status == 401,
            Self::Disconnected { code, .. } => *code == 4504,
            Self::Refused(refusal) => matches!(refusal.code, 130 | 133),
            _ => false,
        }
    }

    /// What could be done about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Network(source) if source.kind() == io::ErrorKind::ConnectionRefused => {
                "is the server running, and is this its address and port?"
            }
            Self::Rejected { status: 401, .. } => "show a token: `token` or `token_provider`",
            Self::Rejected { status: 403, .. } => "the credential, or the Origin header, is not allowed here",
            Self::Rejected { status: 404, .. } => "the address needs its path, mostly /ws",
            Self::Disconnected { code: 4500, .. } => {
                "another connection has the same user and device; give each install a `device` of its own"
            }
            Self::Disconnected { code: 1009, .. } => "the server takes smaller messages only",
            Self::OutboxFull { .. } => "wait for acknowledgements, or use `Overflow::Wait`",
            _ => return None,
        })
    }
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        Self::Handshake(Arc::new(error))
    }
}

/// Whether a client that was closed with this code comes back. The range says it, also for codes of the future.
pub(crate) const fn comes_back(code: u16) -> bool {
    match code {
        // 1005 and 1006 stand for no code at all: the connection broke.
        1001 | 1005 | 1006 | 1011 | 1013 => true,
        3000..=4499 => true,
        _ => false,
    }
}

/// Whether an HTTP status is of the moment.
const fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

fn detail(refusal: Option<&Refusal>) -> String {
    refusal.map(|refusal| format!(": {refusal}")).unwrap_or_default()
}

fn reason_suffix(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

#[cfg(test)]
mod tests {
    use outspoke_protocol::{Disconnect, Reconnect};

    use super::*;

    /// The table says it, and the range must say the same.
    #[test]
    fn close_codes_are_obeyed_as_the_protocol_table_says() {
        for disconnect in Disconnect::ALL {
            let back = disconnect.reconnect() == Reconnect::Backoff;
            assert_eq!(comes_back(disconnect.code()), back, "{disconnect:?}");
        }
    }

    #[test]
    fn close_codes_of_the_future_are_obeyed_by_their_range() {
        assert!(comes_back(3000) && comes_back(4499) && comes_back(1005) && comes_back(1006));
        assert!(!comes_back(4500) && !comes_back(4999) && !comes_back(1008));
    }

    #[test]
    fn refusal_is_read_with_its_delay() {
        let json = br#"{"type":"error","id":1,"code":162,"error":"rate_limited","message":"slower","temporary":true,"retryAfter":250}"#;
        let refusal = Refusal::parse(json).unwrap();
        assert_eq!((refusal.code, refusal.temporary), (162, true));
        assert_eq!(refusal.retry_after, Some(Duration::from_millis(250)));
        assert_eq!(Refusal::parse(b"{\"type\":\"unsubscribed\"}"), None);
    }
}
