//! Families of metrics, as the encoder of the library takes them.

use std::fmt;

use outspoke_hub::Distribution;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Bounds of classic buckets: every second power of two, from 15 microseconds to 16 seconds.
const TIMES: std::ops::RangeInclusive<i32> = -16..=4;
/// The same for whole numbers, up to 4,096.
const NUMBERS: std::ops::RangeInclusive<i32> = 0..=12;

/// Writes families, one after the other.
pub(super) struct Families<'e>(pub(super) DescriptorEncoder<'e>);

impl Families<'_> {
    /// Something that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// Time that only grows.
    #[cfg(target_os = "linux")]
    pub(super) fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// The same as a counter, told apart by labels.
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    /// Something that comes and goes.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// The same, told apart by labels.
    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    /// How long something takes.
    pub(super) fn times(&mut self, name: &str, help: &str, times: &Distribution) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        write(&mut family, times, TIMES)
    }

    /// The same, told apart by labels.
    pub(super) fn times_of<'d, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        times: impl IntoIterator<Item = (L, &'d Distribution)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        times
            .into_iter()
            .try_for_each(|(labels, times)| write(&mut family.encode_family(&labels)?, times, TIMES))
    }

    /// How many at once, told apart by labels.
    pub(super) fn numbers_of<'d, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        numbers: impl IntoIterator<Item = (L, &'d Distribution)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let mut numbers = numbers.into_iter();
        numbers.try_for_each(|(labels, numbers)| write(&mut family.encode_family(&labels)?, numbers, NUMBERS))
    }
}

fn write(
    metric: &mut MetricEncoder<'_>,
    values: &Distribution,
    octaves: std::ops::RangeInclusive<i32>,
) -> fmt::Result {
    let (spans, deltas) = sparse(&values.buckets);
    let none = NativeHistogramBuckets { spans: &[], deltas: &[] };
    let native = NativeHistogram {
        // 8 buckets to a power of two.
        schema: 3,
        zero_threshold: f64::from(i16::MIN).exp2(),
        zero_count: 0,
        negative: none,
        positive: NativeHistogramBuckets { spans: &spans, deltas: &deltas },
        created: None,
    };
    let classic = classic(values, octaves);
    metric.encode_histogram_with_native::<NoLabelSet>(values.sum, values.count, &classic, None, native)
}

/// Upper bounds, and how many values are between each and the one before.
fn classic(values: &Distribution, octaves: std::ops::RangeInclusive<i32>) -> Vec<(f64, u64)> {
    let mut before = 0;
    let mut buckets: Vec<(f64, u64)> = octaves
        .step_by(2)
        .map(|octave| {
            let within = values.up_to(octave);
            (f64::from(octave).exp2(), within - std::mem::replace(&mut before, within))
        })
        .collect();
    buckets.push((f64::INFINITY, values.count - before));
    buckets
}

/// Runs of buckets that have values (how far from the end of the last run, how many), and each bucket's count less the one
/// before: the form of Prometheus' native histograms.
fn sparse(buckets: &[(i32, u64)]) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), Vec::with_capacity(buckets.len()));
    let (mut next, mut before) = (0, 0);
    for (number, count) in buckets {
        match spans.last_mut() {
            Some((_, length)) if *number == next => *length += 1,
            _ => spans.push((number - next, 1)),
        }
        next = number + 1;
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        deltas.push(count - before);
        before = count;
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use outspoke_hub::Distribution;

    use super::{classic, sparse};

    #[test]
    fn runs_of_buckets_are_told_by_where_they_begin() {
        let (spans, deltas) = sparse(&[(-3, 5), (-2, 7), (1, 1), (2, 1)]);
        assert_eq!((spans, deltas), (vec![(-3, 2), (2, 2)], vec![5, 2, -6, 0]));
        assert_eq!(sparse(&[]), (vec![], vec![]));
    }

    #[test]
    fn classic_buckets_have_every_value_once() {
        let mut values = Distribution::default();
        (values.count, values.buckets) = (10, vec![(-200, 1), (-16, 2), (1, 3), (300, 4)]);
        let buckets = classic(&values, -4..=4);
        assert_eq!(buckets[0], (0.0625, 1));
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 10);
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 4)));
    }
}
