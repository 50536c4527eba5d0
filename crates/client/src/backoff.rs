//! How long a client stays away before it tries again.
//!
//! Pure arithmetic: the random number comes in, a duration goes out, so that the distribution can be tested without a
//! clock. Full jitter, since ten thousand clients that return at the same moment are an attack, however friendly.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The delays between attempts: a random time between nothing and a limit that grows with every failure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    multiplier: f64,
    jitter: bool,
    attempts_max: Option<u32>,
    stable_after: Duration,
}

impl Backoff {
    /// The first limit and the highest; it doubles in between.
    ///
    /// The default is the protocol's: 1 s to 30 s.
    #[must_use]
    pub const fn full_jitter(limits: RangeInclusive<Duration>) -> Self {
        Self {
            first: *limits.start(),
            cap: *limits.end(),
            multiplier: 2.0,
            jitter: true,
            attempts_max: None,
            stable_after: Duration::from_mins(1),
        }
    }

    /// The limit grows by this factor with every failure; below 1 counts as 1.
    #[must_use]
    pub const fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// Whether a delay is anywhere between nothing and its limit (true), or the limit itself.
    ///
    /// Exact delays are for a handful of clients; many of them return in step.
    #[must_use]
    pub const fn jitter(mut self, jitter: bool) -> Self {
        self.jitter = jitter;
        self
    }

    /// Gives up after so many failures in a row. Without it, never.
    #[must_use]
    pub const fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts);
        self
    }

    /// Begins with the first limit again only after having been online for so long: one minute by default.
    ///
    /// A server that accepts and drops at once would otherwise be asked as often as the first limit allows.
    #[must_use]
    pub const fn stable_after(mut self, online: Duration) -> Self {
        self.stable_after = online;
        self
    }

    /// How long a connection must last to count as a success.
    pub(crate) const fn stability(&self) -> Duration {
        self.stable_after
    }

    /// Whether this many failures in a row are the last.
    pub(crate) fn gives_up_after(&self, failures: u32) -> bool {
        self.attempts_max.is_some_and(|max| failures > max)
    }

    /// The delay after `failures` failures in a row (0 is the first), of a `random` number from the whole range.
    ///
    /// `asked` takes the limit's place: what a server that goes away has asked for.
    #[must_use]
    pub fn delay(&self, failures: u32, asked: Option<Duration>, random: u64) -> Duration {
        let limit = asked.unwrap_or_else(|| self.limit(failures));
        if !self.jitter {
            return limit;
        }
        // 53 bits are what a double holds exactly: uniform in [0, 1).
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        limit.mul_f64(fraction)
    }

    /// The longest that the delay after `failures` failures can be.
    #[must_use]
    pub fn limit(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
        let factor = self.multiplier.max(1.0).powi(exponent);
        let seconds = (self.first.as_secs_f64() * factor).min(self.cap.as_secs_f64());
        Duration::try_from_secs_f64(seconds).unwrap_or(self.cap)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::full_jitter(Duration::from_secs(1)..=Duration::from_secs(30))
    }
}

#[cfg(test)]
mod tests {
    use outspoke_websocket::Random;

    use super::*;

    #[test]
    fn backoff_limits_double_up_to_the_highest() {
        let limits: Vec<_> = (0..8).map(|n| Backoff::default().limit(n).as_secs()).collect();
        assert_eq!(limits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(Backoff::default().limit(u32::MAX).as_secs(), 30);
    }

    #[test]
    fn backoff_takes_the_limit_that_the_server_asks_for() {
        let asked = Some(Duration::from_mins(2));
        assert_eq!(Backoff::default().delay(0, asked, 1 << 63), Duration::from_mins(1));
        assert_eq!(Backoff::default().delay(3, asked, 1 << 63), Duration::from_mins(1));
    }

    #[test]
    fn backoff_without_jitter_is_exact() {
        let exact = Backoff::default().jitter(false);
        assert_eq!(exact.delay(2, None, 17), Duration::from_secs(4));
    }

    /// Thirty equal bins of ten thousand delays each: a mean, or a lower bound above nothing, would not show here.
    #[test]
    fn backoff_full_jitter_is_uniform_below_its_limit() {
        let mut random = Random::seeded(1);
        for failures in 0..8 {
            let limit = Backoff::default().limit(failures).as_secs_f64();
            let mut bins = [0_u32; 30];
            for _ in 0..300_000 {
                let delay = Backoff::default().delay(failures, None, random.next_u64()).as_secs_f64();
                assert!(delay < limit);
                bins[(delay / limit * 30.0) as usize] += 1;
            }
            // Chi-squared with 29 degrees of freedom: above 58 once in a thousand sequences; this one is fixed.
            let squared: f64 = bins.iter().map(|bin| (f64::from(*bin) - 1e4).powi(2) / 1e4).sum();
            assert!(squared < 58.0, "{failures}: {squared}, {bins:?}");
        }
    }

    #[test]
    fn backoff_gives_up_after_its_attempts() {
        assert!(!Backoff::default().gives_up_after(u32::MAX));
        let few = Backoff::default().attempts_max(2);
        assert!(!few.gives_up_after(2));
        assert!(few.gives_up_after(3));
    }
}
