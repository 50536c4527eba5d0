//! What is logged, changed while the server runs: by its settings when they are read again, and by operators for a while.
//!
//! An operator's level goes before the settings' until it ends, is taken back, or the server is started anew; a reload changes what it
//! falls back to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::kind::{self, Kind as _};
use crate::config::settings::Log;
use crate::logging::{Filters, LogError, Logging};

/// The log's level, and what it will be later.
#[derive(Debug)]
pub(crate) struct LogLevel {
    logging: Logging,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    configured: Log,
    asked: Option<Asked>,
    /// Which change was the last: an end that was set for an earlier one is none.
    change: u64,
}

/// What an operator wants.
#[derive(Clone, Debug)]
struct Asked {
    directives: String,
    until: Option<Instant>,
}

/// What is logged now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InForce {
    pub(crate) directives: String,
    pub(crate) configured: String,
    /// After this the configured level counts again.
    pub(crate) left: Option<Duration>,
}

/// Directives that are none.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a log level: write {accepts}", accepts = kind::Level::ACCEPTS)]
pub(crate) struct NotALevel(String);

impl LogLevel {
    /// As the settings say.
    pub(crate) fn new(logging: &Logging, configured: &Log) -> Self {
        let state = State { configured: configured.clone(), asked: None, change: 0 };
        Self { logging: logging.clone(), state: Mutex::new(state) }
    }

    /// What is logged now.
    pub(crate) fn in_force(&self) -> InForce {
        let state = self.lock();
        let configured = state.configured.level.clone();
        match &state.asked {
            None => InForce { directives: configured.clone(), configured, left: None },
            Some(asked) => InForce {
                directives: asked.directives.clone(),
                configured,
                left: asked.until.map(|until| until.saturating_duration_since(Instant::now())),
            },
        }
    }

    /// Logs by these directives, for so long; or as configured again.
    ///
    /// # Errors
    /// They are none; nothing has changed.
    pub(crate) fn ask(
        self: &Arc<Self>,
        directives: Option<&str>,
        lasting: Option<Duration>,
    ) -> Result<(), NotALevel> {
        let mut state = self.lock();
        let asked = match directives {
            Some(text) => {
                let directives = kind::Level::read(text).map_err(|_| NotALevel(text.to_owned()))?;
                Some(Asked { directives, until: lasting.map(|lasting| Instant::now() + lasting) })
            }
            None => None,
        };
        self.put(&mut state, asked).map_err(|_| NotALevel(directives.unwrap_or_default().to_owned()))?;
        let change = state.change;
        if let Some(until) = state.asked.as_ref().and_then(|asked| asked.until) {
            let level = Arc::downgrade(self);
            tokio::spawn(async move {
                tokio::time::sleep_until(until).await;
                if let Some(level) = level.upgrade() {
                    level.end(change);
                }
            });
        }
        Ok(())
    }

    /// Follows other settings; gives back those before.
    ///
    /// # Errors
    /// The level is none.
    pub(crate) fn configure(&self, configured: Log) -> Result<Log, LogError> {
        let mut state = self.lock();
        let former = std::mem::replace(&mut state.configured, configured);
        let asked = state.asked.clone();
        match self.put(&mut state, asked) {
            Ok(()) => Ok(former),
            Err(error) => {
                state.configured = former;
                Err(error)
            }
        }
    }

    /// Whether those are the settings already.
    pub(crate) fn is_configured(&self, settings: &Log) -> bool {
        self.lock().configured == *settings
    }

    fn end(&self, change: u64) {
        let mut state = self.lock();
        if state.change == change && self.put(&mut state, None).is_ok() {
            tracing::info!(
                directives = state.configured.level,
                "the log's level is the configured one again"
            );
        }
    }

    fn put(&self, state: &mut State, asked: Option<Asked>) -> Result<(), LogError> {
        let level = asked.as_ref().map_or(&state.configured.level, |asked| &asked.directives);
        let filters = Filters::of(&Log { level: level.clone(), ..state.configured.clone() })?;
        drop(self.logging.swap(filters));
        // A reload in between leaves the end of an operator's level where it was.
        if state.asked.as_ref().map(|former| former.until) != asked.as_ref().map(|asked| asked.until) {
            state.change += 1;
        }
        state.asked = asked;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
