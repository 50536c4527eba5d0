//! What the handles and the client's task share.
//!
//! The core under a lock, a bell for the task, the state for everybody. The task holds this and no handle, so that it
//! learns when the last handle is gone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Uri};
use tokio::sync::{Notify, watch};

use crate::backoff::Backoff;
use crate::core::{Core, Ending};
use crate::dialer::Dialer;
use crate::error::Error;
use crate::state::ConnectionState;
use crate::token::TokenSource;

/// What the builder was told.
pub(crate) struct Config {
    pub(crate) url: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) token: TokenSource,
    pub(crate) backoff: Backoff,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) compression: bool,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) message_ttl: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) message_bytes_max: usize,
    pub(crate) buffer: usize,
    pub(crate) overflow: crate::core::outbox::Overflow,
}

pub(crate) struct Shared {
    core: Mutex<Core>,
    pub(crate) config: Config,
    pub(crate) state: watch::Sender<ConnectionState>,
    /// Something changed that the task must look at.
    pub(crate) bell: Notify,
    /// A publish has left the outbox.
    pub(crate) space: Arc<Notify>,
    /// Who waits for the outbox's room, one after the other: messages keep their order.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Shared {
    pub(crate) fn new(config: Config, core: Core) -> Self {
        let state = watch::Sender::new(ConnectionState::Idle);
        Self {
            core: Mutex::new(core),
            config,
            state,
            bell: Notify::new(),
            space: Arc::new(Notify::new()),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Does something with the core. The lock is held for as long as `act` takes.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let (result, before, after) = {
            let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            let before = core.outbox.publishes();
            let result = act(&mut core);
            (result, before, core.outbox.publishes())
        };
        if after < before {
            self.space.notify_waiters();
        }
        if after != before {
            self.state.send_if_modified(|state| match state {
                ConnectionState::Offline { queued, .. } if *queued != after => {
                    *queued = after;
                    true
                }
                _ => false,
            });
        }
        result
    }

    /// As [`with`](Self::with), and the task looks at it.
    pub(crate) fn order<R>(&self, act: impl FnOnce(&mut Core) -> R) -> R {
        let result = self.with(act);
        self.bell.notify_one();
        result
    }
}

/// What every handle holds; with the last one the client ends.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.order(|core| core.ending = Some(Ending::Now));
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.shared.config;
        f.debug_struct("Client")
            .field("host", &config.url.host())
            .field("state", &*self.shared.state.borrow())
            .finish_non_exhaustive()
    }
}

/// The error that a closed client's state names, if it names one.
pub(crate) fn closing_error(state: &ConnectionState) -> Option<Error> {
    match state {
        ConnectionState::Closed { error } => Some(error.clone().unwrap_or(Error::Closed)),
        _ => None,
    }
}
