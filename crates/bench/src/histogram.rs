//! Latencies in logarithmic buckets: fixed memory, one addition per value, under 1 % error.
//!
//! Filled by the scenarios, read by the report. Invariant: `total` equals the sum of `counts`. A value
//! falls into one of 128 equal steps of its power of two, so a percentile is at most 1/128 above the truth
//! and never below it.

/// Steps per power of two, as a power of two.
const STEP_BITS: u32 = 7;
const STEPS: u64 = 1 << STEP_BITS;
const BUCKETS: usize = ((64 - STEP_BITS as usize) + 1) * STEPS as usize;

/// Counts of values (here: nanoseconds) by size.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS].into_boxed_slice(), total: 0, sum: 0, min: u64::MAX, max: 0 }
    }

    /// Counts one value.
    #[inline]
    pub(crate) fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.total += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// How many values were counted.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// The smallest value; 0 when there is none.
    pub(crate) fn min(&self) -> u64 {
        if self.total == 0 { 0 } else { self.min }
    }

    /// The largest value, exact.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The arithmetic mean, exact; 0 when there is no value.
    pub(crate) fn mean(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.sum as f64 / self.total as f64 }
    }

    /// The value that `share` (0 to 1) of all values do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = ((share * self.total as f64).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return upper_edge(index).min(self.max);
            }
        }
        self.max
    }
}

/// Which bucket counts `value`: below [`STEPS`] one each, above that [`STEPS`] per power of two.
#[inline]
fn bucket(value: u64) -> usize {
    let exponent = 63 - (value | 1).leading_zeros();
    if exponent < STEP_BITS {
        return value as usize;
    }
    let shift = exponent - STEP_BITS;
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value that `bucket` counts.
fn upper_edge(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    let step = index % STEPS + STEPS;
    // The last bucket ends at u64::MAX: written so that nothing overflows on the way.
    (step << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn histogram_every_value_lies_within_its_bucket() {
        let mut previous = None;
        for bits in 0..64 {
            for value in [1u64 << bits, (1u64 << bits) + 1, (1u64 << bits).wrapping_sub(1), u64::MAX >> bits]
            {
                let index = bucket(value);
                assert!(upper_edge(index) >= value, "{value} above the edge of bucket {index}");
                assert!(index == 0 || upper_edge(index - 1) < value, "{value} belongs below bucket {index}");
            }
        }
        for index in 0..BUCKETS {
            let edge = upper_edge(index);
            assert!(previous < Some(edge), "edges rise");
            previous = Some(edge);
        }
        assert_eq!(previous, Some(u64::MAX));
    }

    #[test]
    fn histogram_error_is_below_one_percent() {
        for value in (0..2_000_000).step_by(37) {
            let edge = upper_edge(bucket(value));
            assert!(edge - value <= value / 128 + 1, "{value} reported as {edge}");
        }
    }

    #[test]
    fn histogram_quantiles_of_a_ramp_are_where_they_belong() {
        let mut histogram = Histogram::new();
        for value in 1..=100_000 {
            histogram.record(value);
        }
        for (share, truth) in [(0.5, 50_000u64), (0.99, 99_000), (0.999, 99_900), (1.0, 100_000)] {
            let found = histogram.quantile(share);
            assert!(found >= truth && found <= truth + truth / 128, "{share}: {found} for {truth}");
        }
        assert_eq!((histogram.min(), histogram.max(), histogram.count()), (1, 100_000, 100_000));
        assert!((histogram.mean() - 50_000.5).abs() < 1e-6);
    }

    #[test]
    fn histogram_one_outlier_shows_in_the_last_quantile_only() {
        let mut histogram = Histogram::new();
        for _ in 0..9_999 {
            histogram.record(100);
        }
        histogram.record(5_000_000);
        assert_eq!(histogram.quantile(0.999), 100);
        assert_eq!(histogram.quantile(1.0), 5_000_000);
    }

    #[test]
    fn histogram_without_values_answers_zero() {
        let histogram = Histogram::new();
        assert_eq!((histogram.quantile(0.99), histogram.max(), histogram.min()), (0, 0, 0));
        assert_eq!(histogram.mean(), 0.0);
    }
}
