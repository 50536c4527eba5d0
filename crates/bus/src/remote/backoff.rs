//! When to try again to connect.
//!
//! After each failure the pause doubles, up to a second: long enough not to hurry a server that is starting, short
//! enough that its return is noticed at once. A random part keeps the nodes of a cluster apart.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LAST: Duration = Duration::from_secs(1);

/// The pause before the next attempt.
#[derive(Debug, Default)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = FIRST.saturating_mul(1 << self.0.min(10)).min(LAST);
        self.0 = self.0.saturating_add(1);
        pause.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    pub(crate) fn worked(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_a_second_and_starts_over_after_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..20).map(|_| backoff.next()).collect();
        assert!(pauses[0] <= FIRST && pauses[19] <= LAST && pauses[19] >= LAST / 2, "{pauses:?}");
        backoff.worked();
        assert!(backoff.next() <= FIRST);
    }
}
