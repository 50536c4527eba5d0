//! A circuit breaker: after failures in a row nobody is asked for a while, then one is, and if that works, everybody.
//!
//! Used by [`super::Hook`]. It keeps an application that is down from being hit by every client that comes back, and clients
//! from waiting for a time-out each. Time is tokio's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    open_for: Duration,
    // Held for a comparison; nothing waits in it.
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Everybody may ask; so many failed in a row.
    Closed(u32),
    /// Nobody may, until then.
    Open(Instant),
    /// One is asking; its success closes.
    HalfOpen,
}

/// Leave to ask once. Dropped without a word, it says nothing about the other side.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    breaker: &'a Breaker,
    probe: bool,
    told: bool,
}

impl Breaker {
    /// Opens after `failures_max` failures in a row, for `open_for`.
    pub(super) fn new(failures_max: u32, open_for: Duration) -> Self {
        Self { failures_max: failures_max.max(1), open_for, state: Mutex::new(State::Closed(0)) }
    }

    /// Leave to ask, or how long to wait before trying again.
    pub(super) fn enter(&self) -> Result<Pass<'_>, Duration> {
        let mut state = self.state();
        let now = Instant::now();
        let probe = match *state {
            State::Closed(_) => false,
            State::Open(until) if now < until => return Err(until - now),
            State::Open(_) => {
                *state = State::HalfOpen;
                true
            }
            State::HalfOpen => return Err(self.open_for),
        };
        Ok(Pass { breaker: self, probe, told: false })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// The other side answered.
    pub(super) fn succeeded(mut self) {
        self.told = true;
        let mut state = self.breaker.state();
        match *state {
            State::HalfOpen if self.probe => {
                tracing::info!("the application answers again");
                *state = State::Closed(0);
            }
            State::Closed(_) => *state = State::Closed(0),
            // One that was asked before it opened; the next probe decides.
            State::Open(_) | State::HalfOpen => {}
        }
    }

    /// It did not.
    pub(super) fn failed(mut self) {
        self.told = true;
        let breaker = self.breaker;
        let mut state = breaker.state();
        let opens = match *state {
            State::Closed(failures) if failures + 1 < breaker.failures_max => {
                *state = State::Closed(failures + 1);
                false
            }
            State::Closed(_) => true,
            State::HalfOpen => self.probe,
            State::Open(_) => false,
        };
        if opens {
            tracing::warn!(pause = ?breaker.open_for, "the application does not answer; it is not asked for a while");
            *state = State::Open(Instant::now() + breaker.open_for);
        }
    }
}

/// A probe that nobody waited for must not leave the breaker half open for ever: the next one asks.
impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe && !self.told {
            *self.breaker.state() = State::Open(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    fn fail(breaker: &Breaker, times: u32) {
        (0..times).for_each(|_| breaker.enter().unwrap().failed());
    }

    #[tokio::test(start_paused = true)]
    async fn breaker_opens_after_failures_in_a_row_and_a_success_begins_anew() {
        let breaker = Breaker::new(3, PAUSE);
        fail(&breaker, 2);
        breaker.enter().unwrap().succeeded();
        fail(&breaker, 2);
        drop(breaker.enter().unwrap());
        fail(&breaker, 1);
        assert_eq!(breaker.enter().unwrap_err(), PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn breaker_lets_one_through_after_its_pause_and_closes_if_that_works() {
        let breaker = Breaker::new(1, PAUSE);
        let (late, later) = (breaker.enter().unwrap(), breaker.enter().unwrap());
        fail(&breaker, 1);
        tokio::time::advance(PAUSE - Duration::from_millis(1)).await;
        assert_eq!(breaker.enter().unwrap_err(), Duration::from_millis(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        let probe = breaker.enter().unwrap();
        assert!(breaker.enter().is_err());
        // Answers to questions from before it opened change nothing.
        late.succeeded();
        later.failed();
        assert!(breaker.enter().is_err());
        probe.failed();
        assert_eq!(breaker.enter().unwrap_err(), PAUSE);
        tokio::time::advance(PAUSE).await;
        // A probe that is given up lets the next one through.
        drop(breaker.enter().unwrap());
        breaker.enter().unwrap().succeeded();
        assert!(breaker.enter().is_ok() && breaker.enter().is_ok());
    }
}
