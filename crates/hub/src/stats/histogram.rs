//! How values are spread: counted by size, each power of two in eight parts, so that a bucket is 9 % wide.
//!
//! The buckets are those of Prometheus' native histograms of schema 3, so that nothing is lost on the way there. Recording is a
//! few instructions and two atomic additions without ordering: cheap enough for every turn of a shard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Parts of a power of two.
const PARTS: i32 = 8;
/// Powers of two that are told apart: for times from 2⁻²⁰ s, about a microsecond, to 2¹⁰ s.
const OCTAVES: usize = 30;
const BUCKETS: usize = OCTAVES * PARTS as usize + 1;
/// A second is so many units of a time: a power of two, so that the buckets' bounds come out exactly.
const TIME_SHIFT: u32 = 30;
/// The upper bounds of a power of two's parts, as mantissas with 31 bits behind the point.
const BOUNDS: [u64; PARTS as usize] =
    [0x8000_0000, 0x8b95_c1e3, 0x9837_f051, 0xa5fe_d6a9, 0xb504_f333, 0xc567_2a11, 0xd744_fcca, 0xeac0_c6e7];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Time,
    Number,
}

/// Counts values by their size.
#[derive(Debug)]
pub(crate) struct Histogram {
    unit: Unit,
    buckets: Box<[AtomicU64; BUCKETS]>,
    /// Nanoseconds, or the numbers.
    sum: AtomicU64,
}

/// What a histogram has counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// How many values.
    pub count: u64,
    /// All values together: seconds, or numbers.
    pub sum: f64,
    /// The buckets that have values, by their numbers: that of number `n` has values above 2^((n-1)/8) and up to 2^(n/8).
    pub buckets: Vec<(i32, u64)>,
}

impl Histogram {
    /// Of durations.
    pub(crate) fn of_times() -> Self {
        Self::new(Unit::Time)
    }

    /// Of whole numbers.
    pub(crate) fn of_numbers() -> Self {
        Self::new(Unit::Number)
    }

    fn new(unit: Unit) -> Self {
        Self { unit, buckets: Box::new([const { AtomicU64::new(0) }; BUCKETS]), sum: AtomicU64::new(0) }
    }

    /// Counts a duration. Shorter ones than a microsecond are all in the first bucket, longer ones than 17 minutes in the last.
    pub(crate) fn record(&self, duration: Duration) {
        debug_assert_eq!(self.unit, Unit::Time);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let units = (u128::from(nanos) << TIME_SHIFT) / 1_000_000_000;
        self.add(u64::try_from(units).unwrap_or(u64::MAX), nanos);
    }

    /// Counts a number.
    pub(crate) fn record_number(&self, number: u64) {
        debug_assert_eq!(self.unit, Unit::Number);
        self.add(number, number);
    }

    fn add(&self, units: u64, summand: u64) {
        let place = part_of(units) - self.first();
        let place = usize::try_from(place.max(0)).unwrap_or(0).min(BUCKETS - 1);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(summand, Ordering::Relaxed);
    }

    /// The number, counted in units, of the first bucket.
    fn first(&self) -> i32 {
        match self.unit {
            Unit::Time => PARTS * 10,
            Unit::Number => 0,
        }
    }

    /// What was counted so far.
    pub(crate) fn distribution(&self) -> Distribution {
        let mut distribution = Distribution::default();
        self.add_to(&mut distribution);
        distribution
    }

    /// Adds what was counted to what others of the same unit have.
    pub(crate) fn add_to(&self, whole: &mut Distribution) {
        let (shift, per_unit) = match self.unit {
            Unit::Time => (PARTS * i32::try_from(TIME_SHIFT).unwrap_or(0), 1e-9),
            Unit::Number => (0, 1.0),
        };
        let first = self.first() - shift;
        for (number, bucket) in (first..).zip(self.buckets.iter()) {
            let count = bucket.load(Ordering::Relaxed);
            if count > 0 {
                whole.put(number, count);
            }
        }
        whole.sum += self.sum.load(Ordering::Relaxed) as f64 * per_unit;
    }
}

impl Distribution {
    /// Buckets in a power of two: Prometheus' schema 3.
    pub const BUCKETS_PER_OCTAVE: i32 = PARTS;

    fn put(&mut self, number: i32, count: u64) {
        self.count += count;
        match self.buckets.binary_search_by_key(&number, |(known, _)| *known) {
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (number, count)),
        }
    }

    /// How many values are at most 2^`octave`.
    #[must_use]
    pub fn up_to(&self, octave: i32) -> u64 {
        let within = self.buckets.iter().take_while(|(number, _)| *number <= octave * PARTS);
        within.map(|(_, count)| count).sum()
    }

    /// The value that the share `q` of all values does not exceed, at most 9 % too large; 0 where there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        let wanted = (q * self.count as f64).ceil();
        let mut seen = 0;
        for (number, count) in &self.buckets {
            seen += count;
            if seen as f64 >= wanted {
                return (f64::from(*number) / f64::from(PARTS)).exp2();
            }
        }
        0.0
    }
}

/// The number of the bucket for a value: the smallest `n` for which it is at most 2^(n/8).
fn part_of(value: u64) -> i32 {
    if value == 0 {
        return i32::MIN / 2;
    }
    let exponent = 63 - value.leading_zeros() as i32;
    // The mantissa with 31 bits behind the point, rounded up so that what is above a bound stays above it.
    let shifted = value << value.leading_zeros();
    let mantissa = (shifted >> 32) + u64::from(shifted & 0xffff_ffff != 0);
    let part = BOUNDS.iter().filter(|bound| **bound < mantissa).count() as i32;
    exponent * PARTS + part
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use proptest::prelude::*;

    use super::{BOUNDS, Histogram, PARTS, part_of};

    #[test]
    fn bounds_are_the_roots_of_two() {
        for (part, bound) in BOUNDS.iter().enumerate() {
            let exact = (part as f64 / 8.0).exp2() * f64::from(1u32 << 31);
            assert!((exact - *bound as f64).abs() <= 1.0, "{part}");
        }
    }

    #[test]
    fn powers_of_two_end_their_buckets() {
        for exponent in 0..63 {
            assert_eq!(part_of(1 << exponent), exponent * PARTS);
            if exponent > 3 {
                assert_eq!(part_of((1 << exponent) + 1), exponent * PARTS + 1);
                assert_eq!(part_of((1 << exponent) - 1), exponent * PARTS);
            }
        }
    }

    #[test]
    fn times_and_numbers_are_found_again() {
        let times = Histogram::of_times();
        for millis in [1, 10, 10, 100, 1000] {
            times.record(Duration::from_millis(millis));
        }
        let times = times.distribution();
        assert_eq!((times.count, times.up_to(0), times.up_to(-3), times.up_to(-10)), (5, 5, 4, 0));
        assert!((times.sum - 1.121).abs() < 1e-9, "{}", times.sum);
        for (q, value) in [(0.5, 0.010), (0.8, 0.1), (1.0, 1.0)] {
            let found = times.quantile(q);
            assert!((value..value * 1.0906).contains(&found), "{q}: {found}");
        }
        let numbers = Histogram::of_numbers();
        for number in [0, 1, 1, 4096] {
            numbers.record_number(number);
        }
        let numbers = numbers.distribution();
        assert_eq!(
            (numbers.count, numbers.up_to(0), numbers.sum, numbers.quantile(1.0)),
            (4, 3, 4098.0, 4096.0)
        );
    }

    #[test]
    fn what_is_out_of_range_is_counted_at_its_end() {
        let times = Histogram::of_times();
        times.record(Duration::ZERO);
        times.record(Duration::from_nanos(1));
        times.record(Duration::MAX);
        let times = times.distribution();
        assert_eq!((times.count, times.up_to(-20), times.buckets.len()), (3, 2, 2));
        assert_eq!(super::Distribution::default().quantile(0.5), 0.0);
    }

    proptest! {
        #[test]
        fn value_is_in_its_bucket(value in 1..u64::MAX >> 12) {
            let part = f64::from(part_of(value));
            let value = value as f64;
            prop_assert!(value <= (part / 8.0).exp2() * (1.0 + 1e-8), "{value} {part}");
            prop_assert!(value > ((part - 1.0) / 8.0).exp2() * (1.0 - 1e-8), "{value} {part}");
        }
    }
}
