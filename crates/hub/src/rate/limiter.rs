//! A bucket for each of whatever comes: API keys, addresses, users of a command.

use std::hash::Hash;
use std::time::Duration;

use super::bucket::{Bucket, Clock, Moment, Rate};
use super::keyed::{Entry, Keyed};

/// How many are asked about between two looks for what can be forgotten.
const SWEEP_EVERY: u32 = 1024;

/// Limits the rate of each key on its own, in bounded memory and from any thread.
///
/// Keys may be chosen by strangers. With more than it was made for, some that nobody has asked about lately begin anew.
///
/// ```
/// use outspoke_hub::{Rate, RateLimiter};
///
/// let limiter = RateLimiter::new(10_000);
/// let rate = Rate::per_second(1, 2);
/// assert!(limiter.take(&"alice", rate).is_ok() && limiter.take(&"alice", rate).is_ok());
/// assert!(limiter.take(&"alice", rate).is_err_and(|wait| wait.as_millis() <= 1000));
/// assert!(limiter.take(&"bob", rate).is_ok());
/// ```
#[derive(Debug)]
pub struct RateLimiter<K> {
    clock: Clock,
    buckets: Keyed<K, Only>,
    asked: std::sync::atomic::AtomicU32,
}

#[derive(Debug, Default)]
struct Only(Bucket);

impl Entry for Only {
    fn is_blank(&self, now: Moment) -> bool {
        self.0.is_empty(now)
    }
}

impl<K: Hash + Eq + Clone> RateLimiter<K> {
    /// For about `keys_max` keys at a time.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self { clock: Clock::new(), buckets: Keyed::new(keys_max), asked: Default::default() }
    }

    /// Lets one of that key through, or says how long it should wait.
    ///
    /// # Errors
    /// Too many: nothing was taken. After the time that is returned there is place for one.
    pub fn take(&self, key: &K, rate: Rate) -> Result<(), Duration> {
        if rate.is_off() {
            return Ok(());
        }
        let now = self.clock.now();
        if self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.buckets.sweep(now);
        }
        self.buckets.of(key, now).0.take(rate, now)
    }
}
