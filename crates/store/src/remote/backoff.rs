//! When to try again to connect.
//!
//! After each failure the wait doubles, up to two seconds: long enough not to hurry a server that is starting, short
//! enough that its return is noticed at once. A random part keeps the nodes of a cluster apart.

use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(2);

/// The pause before the next attempt.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Option<Instant>,
}

impl Backoff {
    /// When the next attempt may begin; `None`: now.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.until
    }

    pub(crate) fn failed(&mut self) {
        let pause = FIRST.saturating_mul(1 << self.failures.min(10)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0));
    }

    pub(crate) fn worked(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn backoff_grows_to_two_seconds_and_starts_over_after_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.until(), None);
        for _ in 0..20 {
            backoff.failed();
        }
        let pause = backoff.until().expect("it failed") - Instant::now();
        assert!(pause <= LAST && pause >= LAST / 2, "{pause:?}");
        backoff.worked();
        assert_eq!(backoff.until(), None);
        backoff.failed();
        assert!(backoff.until().expect("it failed") - Instant::now() <= FIRST);
    }
}
