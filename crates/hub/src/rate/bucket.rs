//! A leaky bucket in eight bytes, which any thread may ask at any time.
//!
//! Kept as one instant: when the next one would be on time, if they came exactly at their rate (the generic cell rate
//! algorithm, ITU-T I.371). How far that is ahead of the clock is how full the bucket is, so it empties without anybody's
//! doing, and one compare-and-swap both looks and takes. The [rate](Rate) and the [clock](Clock) are the caller's: a bucket
//! stays eight bytes, and a rate that changes counts from the next question on.
//!
//! Invariant: in any interval of length `t` at most `burst + t * rate` are let through, however many threads ask
//! (`tests/loom_models.rs`). What happens to those that are not is the caller's business.
#![cfg_attr(not(loom), allow(unreachable_pub))] // public only to the models

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::atomic::{AtomicU64, Ordering};

/// The ticks of a second: sixteenths of a nanosecond, so that the interval of a hundred million a second is still a whole
/// number. They overflow after 36 years.
const SECOND: u64 = 16_000_000_000;

/// So far the bucket may be ahead of what it can be filled to before it is taken for one that was filled at another rate:
/// far more than two threads' looks at the clock are apart.
const STALE: u64 = 60 * SECOND;

/// How many, in what time, and how many at once.
///
/// [`Rate::OFF`], the default, limits nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Ticks from one to the next; 0: no limit.
    interval: u64,
    /// So many at once after a pause.
    burst: u32,
    /// As it was given, to be shown.
    count: u32,
    period: Duration,
}

impl Rate {
    /// No limit.
    pub const OFF: Self = Self { interval: 0, burst: 0, count: 0, period: Duration::ZERO };

    /// `count` a second, up to `burst` at once. A `count` of zero is no limit; a `burst` of zero is one.
    #[must_use]
    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self::per(count, Duration::from_secs(1), burst)
    }

    /// `count` in every `period`, up to `burst` at once. A `count` of zero is no limit, and so is a `period` of zero; a
    /// `burst` of zero is one.
    #[must_use]
    pub const fn per(count: u32, period: Duration, burst: u32) -> Self {
        if count == 0 || period.is_zero() {
            return Self::OFF;
        }
        // Rounded up: never more than the rate. A year at most, which no multiplication below overflows in 64 bits unseen.
        let ticks = period.as_nanos().saturating_mul(16).div_ceil(count as u128);
        let longest = SECOND as u128 * 365 * 24 * 3600;
        let interval = if ticks > longest { longest as u64 } else { ticks as u64 };
        let burst = if burst == 0 { 1 } else { burst };
        Self { interval, burst, count, period }
    }

    /// Whether it limits nothing.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        self.interval == 0
    }

    /// So many at once after a pause; 0 if there is no limit.
    #[must_use]
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// So many in every [`period`](Self::period); 0 if there is no limit.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The time in which [`count`](Self::count) are let through.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// The time that a full bucket takes to empty.
    const fn window(&self) -> u64 {
        self.interval.saturating_mul(self.burst as u64)
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_off() {
            true => f.write_str("off"),
            false => write!(f, "{} in {:?}, {} at once", self.count, self.period, self.burst),
        }
    }
}

/// A moment, on the scale of one [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// So long after the clock began.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(u64::try_from(time.as_nanos().saturating_mul(16)).unwrap_or(u64::MAX))
    }

    /// The moment so much later.
    pub(crate) fn plus(self, time: Duration) -> Self {
        Self(self.0.saturating_add(Self::after(time).0))
    }
}

/// What tells the time to buckets: monotonic, and the same for all that share one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// Now. Costs a look at the system's clock: ask once for many.
    #[must_use]
    pub(crate) fn now(&self) -> Moment {
        Moment::after(self.began.elapsed())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// One leaky bucket. The default is empty: a whole burst is free.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When the next one would be on time.
    due: AtomicU64,
}

/// Millions of connections have one each.
const _: () = assert!(cfg!(loom) || size_of::<Bucket>() == 8);

impl Bucket {
    /// Lets one through, or says how long it should wait.
    ///
    /// # Errors
    /// The bucket is full: nothing was taken. After the time that is returned there is place for one, unless others are
    /// quicker.
    ///
    /// # Cost
    /// One load and one compare-and-swap, again for every other thread that takes at the same moment; none when off.
    #[inline]
    pub fn take(&self, rate: Rate, now: Moment) -> Result<(), Duration> {
        if rate.is_off() {
            return Ok(());
        }
        // Relaxed: nothing else is published by a bucket.
        let mut due = self.due.load(Ordering::Relaxed);
        loop {
            let next = Self::next(due, rate, now)?;
            match self.due.compare_exchange_weak(due, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(changed) => due = changed,
            }
        }
    }

    /// Whether one would be let through; takes nothing.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn look(&self, rate: Rate, now: Moment) -> Result<(), Duration> {
        if rate.is_off() {
            return Ok(());
        }
        Self::next(self.due.load(Ordering::Relaxed), rate, now).map(|_| ())
    }

    /// Nothing is in it: it says no more than a new one.
    pub fn is_empty(&self, now: Moment) -> bool {
        self.due.load(Ordering::Relaxed) <= now.0
    }

    /// What `due` becomes with one more, if it fits.
    #[inline]
    fn next(due: u64, rate: Rate, now: Moment) -> Result<u64, Duration> {
        let full = now.0.saturating_add(rate.window());
        // Filled at a slower rate, which no longer holds: nobody waits for more than one that is full by this one.
        let due = if due > full.saturating_add(STALE) { full.saturating_sub(rate.interval) } else { due };
        let next = due.max(now.0).saturating_add(rate.interval);
        if next <= full && next < u64::MAX {
            return Ok(next);
        }
        // To the millisecond, and not a moment too soon.
        let early = next.saturating_sub(full);
        Err(Duration::from_millis(early.div_ceil(SECOND / 1000).max(1)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::after(Duration::from_millis(milliseconds))
    }

    #[test]
    fn bucket_lets_a_burst_through_and_then_its_rate() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(10, 5));
        assert_eq!((0..20).filter(|_| bucket.take(rate, at(0)).is_ok()).count(), 5);
        assert_eq!(bucket.take(rate, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(rate, at(99)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(rate, at(100)), Ok(()));
        assert_eq!((0..20).filter(|_| bucket.take(rate, at(3_600_000)).is_ok()).count(), 5, "saved up");
    }

    #[test]
    fn whoever_waits_as_told_gets_through() {
        for rate in [
            Rate::per_second(1, 1),
            Rate::per_second(3, 3),
            Rate::per_second(1000, 10),
            Rate::per(10, Duration::from_secs(60), 2),
            Rate::per_second(u32::MAX, 1),
        ] {
            let (bucket, mut now) = (Bucket::default(), at(77));
            for _ in 0..100 {
                if let Err(wait) = bucket.take(rate, now) {
                    now = now.plus(wait);
                    assert_eq!(bucket.take(rate, now), Ok(()), "{rate:?}");
                }
            }
        }
    }

    #[test]
    fn looking_takes_nothing() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(1, 1));
        assert!((0..10).all(|_| bucket.look(rate, at(0)).is_ok()));
        assert!(bucket.is_empty(at(0)));
        bucket.take(rate, at(0)).unwrap();
        assert!(!bucket.is_empty(at(999)) && bucket.is_empty(at(1000)));
        assert_eq!(bucket.look(rate, at(0)), Err(Duration::from_secs(1)));
    }

    /// A limit that was tightened by mistake, and put right, must not lock people out for as long as it would have.
    #[test]
    fn changed_rate_counts_from_the_next_question_on() {
        let bucket = Bucket::default();
        let (slow, fast) = (Rate::per(1, Duration::from_secs(3600), 10), Rate::per_second(1000, 100));
        assert_eq!((0..20).filter(|_| bucket.take(slow, at(0)).is_ok()).count(), 10);
        assert_eq!(bucket.take(fast, at(0)), Ok(()), "ten hours' worth is stale");
        assert!(bucket.take(fast, at(0)).is_err(), "but as full as can be");
        assert!(bucket.take(fast, at(1)).is_ok());
        assert!((0..10_000).all(|_| bucket.take(Rate::OFF, at(1)).is_ok()));
        assert!(bucket.take(slow, at(1)).is_ok());
    }

    /// A clock that stands still (a suspended machine, a paused test) lets a burst through and no more; one that another
    /// thread has read a little earlier frees nothing.
    #[test]
    fn clock_that_stands_still_or_lags_lets_no_more_through() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(100, 50));
        let passed = (0..100_000).filter(|_| bucket.take(rate, at(500)).is_ok()).count();
        assert_eq!(passed, 50);
        let lagging = (0..500).rev().filter(|early| bucket.take(rate, at(*early)).is_ok()).count();
        assert_eq!(lagging, 0);
    }

    #[test]
    fn extremes_neither_overflow_nor_let_everything_through() {
        let end = Moment(u64::MAX);
        for rate in [
            Rate::per_second(1, u32::MAX),
            Rate::per_second(u32::MAX, u32::MAX),
            Rate::per(1, Duration::MAX, u32::MAX),
            Rate::per(1, Duration::MAX, 1),
            Rate::per(u32::MAX, Duration::from_nanos(1), 0),
        ] {
            let bucket = Bucket::default();
            assert_eq!(bucket.take(rate, Moment(0)), Ok(()), "{rate:?}");
            for now in [end, Moment(u64::MAX - 1), Moment(0), end] {
                let _ = bucket.take(rate, now);
                let _ = bucket.look(rate, now);
            }
            // At the end of time the bucket is full for ever, rather than empty.
            assert!(bucket.take(rate, end).is_err(), "{rate:?}");
        }
        assert!(Rate::per_second(0, 9).is_off() && Rate::per(9, Duration::ZERO, 9).is_off());
        assert_eq!(Rate::per_second(9, 0).burst(), 1);
    }

    /// What the bucket should do, told at length: a level that falls by one per interval and may rise to the burst.
    #[derive(Debug)]
    struct Naive {
        level: u128,
        at: u128,
    }

    impl Naive {
        fn take(&mut self, rate: Rate, now: u128) -> bool {
            let (interval, burst) = (u128::from(rate.interval), u128::from(rate.burst));
            self.level = self.level.saturating_sub(now - self.at);
            self.at = now;
            let fits = self.level + interval <= burst * interval;
            self.level += if fits { interval } else { 0 };
            fits
        }
    }

    proptest! {
        #[test]
        fn bucket_does_what_a_naive_one_does(
            count in 1..100_000_u32,
            burst in 1..1000_u32,
            pauses in proptest::collection::vec(prop_oneof![Just(0_u64), 0..2_000_000_u64, 0..20_000_000_000_u64], 1..400),
        ) {
            let (bucket, rate) = (Bucket::default(), Rate::per_second(count, burst));
            let mut naive = Naive { level: 0, at: 0 };
            let mut now = 0;
            for pause in pauses {
                now += pause;
                prop_assert_eq!(bucket.take(rate, Moment(now)).is_ok(), naive.take(rate, u128::from(now)));
            }
        }

        /// Whatever the moments are that several threads believe it is, and whatever rates hold in between.
        #[test]
        fn bucket_never_panics(asked in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u64>()), 1..100)) {
            let bucket = Bucket::default();
            for (count, burst, now) in asked {
                let _ = bucket.take(Rate::per_second(count, burst), Moment(now));
            }
        }
    }

    #[test]
    fn many_threads_never_get_more_than_there_is() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(1000, 500));
        let passed = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for now in 0..2000_u64 {
                        if bucket.take(rate, at(now)).is_ok() {
                            passed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let passed = passed.into_inner();
        assert!((500..=500 + 2000).contains(&passed), "{passed}");
    }
}
