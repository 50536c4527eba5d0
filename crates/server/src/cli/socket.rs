//! A connection of the command line as a client like others: the Rust client, with this command line's address and
//! credential.
//!
//! For verbs that listen, or speak as a user. An API key opens no such connection; the verbs that are given one use the HTTP
//! API instead.

use std::time::Duration;

use outspoke_client::{Backoff, Client, Error, Overflow, Tcp};

use super::explain;
use super::link::Trust;
use super::reach::{Credential, Reach};
use crate::exit::Exit;

/// How soon to come back: somebody is watching.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Messages that wait for their acknowledgements.
const OUTBOX_MAX: usize = 1024;

/// Why there is no connection any more, or none came about.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SocketError(#[from] Error);

impl SocketError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let name = match &self.0 {
            Error::Refused(refusal) => Some(refusal.name.as_str()),
            Error::Rejected { refusal, .. } | Error::Removed { refusal, .. } => {
                refusal.as_ref().map(|refusal| refusal.name.as_str())
            }
            _ => None,
        };
        let of_code = || match &self.0 {
            Error::Disconnected { code, .. } => explain::cure_of_close(*code),
            _ => None,
        };
        let cure = name.and_then(explain::cure).or_else(of_code).or_else(|| self.0.hint());
        let other = "start the server, or name its address with --server and a token with --token";
        cure.unwrap_or(other).to_owned()
    }

    /// How the process ends for it.
    pub fn exit(&self) -> Exit {
        match &self.0 {
            Error::Rejected { status: 401 | 403, .. } => Exit::Denied,
            error if error.is_unauthorized() => Exit::Denied,
            Error::Refused(refusal) if refusal.code == FORBIDDEN => Exit::Denied,
            Error::Removed { refusal: Some(refusal), .. } if refusal.code == FORBIDDEN => Exit::Denied,
            Error::Network(_) | Error::Silent | Error::TimedOut { .. } | Error::Handshake(_) => {
                Exit::Unreachable
            }
            _ => Exit::Failure,
        }
    }
}

/// `forbidden`.
const FORBIDDEN: u16 = 131;

/// Connects; the first attempt decides whether there is a server at all.
pub(super) async fn connect(reach: &Reach, user: &str) -> Result<Client, SocketError> {
    let target = &reach.target;
    let scheme = if target.secure { "wss" } else { "ws" };
    // In no room: which ones is up to the verb.
    let url = format!("{scheme}://{}{}/ws?join=none", target.host, target.path.trim_end_matches('/'));
    let mut builder = Client::builder(&url)
        .reconnect(Backoff::full_jitter(BACKOFF.0..=BACKOFF.1).stable_after(Duration::from_secs(5)))
        .outbox(OUTBOX_MAX, Overflow::Wait)
        .connect_timeout(reach.timeout)
        .close_timeout(Duration::from_secs(2));
    builder = match &reach.credential {
        Some(Credential::Token(token)) => builder.token(token.reveal()),
        _ => builder.user(user, user),
    };
    if let Trust::Named(_) = &target.trust {
        let tls = target.trust.config().map_err(|error| Error::Network(std::sync::Arc::new(error)))?;
        builder = builder.dialer(Tcp::with_tls(tls));
    }
    if let Some(tenant) = &reach.tenant {
        builder = builder.header("X-Tenant", tenant);
    }
    Ok(builder.connect().await?)
}
