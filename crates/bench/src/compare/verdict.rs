//! From figures to a judgement: medians, ratios within a repetition, and the bars they must pass.

use std::fmt::Write;

use serde::Serialize;

use super::Figures;
use super::case::{Case, Figure};
use super::servers::Contender;

/// "Not behind" allows for what medians of a few runs cannot tell apart.
const EVEN: f64 = 1.05;

/// One bar, and whether it was passed.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Verdict {
    /// What was asked.
    question: String,
    /// The median that answers it.
    value: f64,
    /// The lowest and the highest of the runs.
    range: (f64, f64),
    /// The bar.
    bar: String,
    /// Whether it was passed.
    pub(super) passed: bool,
}

/// Everything that can be judged with the figures there are.
pub(super) fn judge(figures: &Figures) -> Vec<Verdict> {
    use Contender::{Bare, Bun, Outspoke};
    let cpu = |case, server| (case, server, Figure::Cpu);
    let ours = |case, figure| (case, Outspoke, figure);
    let at_most = |question: &str, values: Option<Vec<f64>>, bar: f64| judged(question, values, "<=", bar);
    let at_least = |question: &str, values: Option<Vec<f64>>, bar: f64| judged(question, values, ">=", bar);
    let over = |case, other| ratios(figures, cpu(case, Outspoke), cpu(case, other));
    let plain = |case, figure| figures.get(&ours(case, figure)).cloned();
    let coalesced = ratios(figures, cpu(Case::Fanout16, Outspoke), cpu(Case::Fanout, Outspoke));
    let embedded = figures.get(&(Case::Stored, Contender::Embedded, Figure::PerSecond)).cloned();
    [
        at_most("fanout: CPU per delivery, outspoke / bare", over(Case::Fanout, Bare), 1.15),
        at_most("fanout16: CPU per delivery, 16 in flight / one per write", coalesced, 0.1),
        at_most("fanout16: CPU per delivery, outspoke / bun", over(Case::Fanout16, Bun), EVEN),
        at_most("rooms: CPU per delivery, outspoke / bare", over(Case::Rooms, Bare), 1.15),
        at_most("echo: CPU per reply, outspoke / bun", over(Case::Echo, Bun), EVEN),
        at_most("idle: bytes per connection", plain(Case::Idle, Figure::Memory), 2048.0),
        at_least("idle: connects per second", plain(Case::Idle, Figure::Connects), 20_000.0),
        at_most("idle-tls: bytes per connection", plain(Case::IdleTls, Figure::Memory), 10_240.0),
        at_most("slow: p99 of the others, during / before", plain(Case::Slow, Figure::P99Ratio), 2.0),
        at_least("slow: share closed with a code", plain(Case::Slow, Figure::ClosedWithCode), 1.0),
        at_least("stored: acknowledged per second, embedded", embedded, 30_000.0),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// `None` if nothing was measured. A run without a figure (it failed) fails the bar.
fn judged(question: &str, values: Option<Vec<f64>>, relation: &str, bar: f64) -> Option<Verdict> {
    let values = values?;
    let value = median(&values);
    let passed = match relation {
        "<=" => value <= bar,
        _ => value >= bar,
    };
    let passed = passed && !values.iter().any(|value| value.is_nan());
    let bar = format!("{relation} {bar}");
    Some(Verdict { question: question.to_owned(), value, range: range(&values), bar, passed })
}

type Key = (Case, Contender, Figure);

/// How much of the measured time other programs took, at the median of the worst case; `None` if it was quiet.
/// The references tell: they have one thread, which waits for its core only if something else has it.
pub(super) fn disturbance(figures: &Figures) -> Option<f64> {
    let references = figures.iter().filter(|((_, server, figure), _)| {
        matches!(server, Contender::Bare | Contender::Disk) && *figure == Figure::Disturbed
    });
    let worst = references.map(|(_, values)| median(values)).fold(0.0, f64::max);
    (worst > crate::report::QUIET).then_some(worst)
}

/// The quotients of two figures, run by run.
fn ratios(figures: &Figures, part: Key, whole: Key) -> Option<Vec<f64>> {
    let (part, whole) = (figures.get(&part)?, figures.get(&whole)?);
    Some(part.iter().zip(whole).map(|(part, whole)| part / whole).collect())
}

/// The middle value; failed runs (NaN) do not count. NaN if there is none.
fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::NAN, f64::NAN), |(low, high), &value| (low.min(value), high.max(value)))
}

/// Figures as Markdown tables, then the bars.
pub(super) fn table(figures: &Figures, verdicts: &[Verdict]) -> String {
    let mut text = String::from(
        "| case | server | figure | median | min - max | / reference |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for (&(case, server, figure), values) in figures {
        let (low, high) = range(values);
        let whole = (case, Contender::reference(case), figure);
        let ratio = ratios(figures, (case, server, figure), whole).map_or(f64::NAN, |ratios| median(&ratios));
        let ratio = if ratio.is_nan() { "-".to_owned() } else { format!("{ratio:.2}") };
        let [median, low, high] = [median(values), low, high].map(|value| figure.number(value));
        let (case, server, figure) = (case.name(), server.name(), figure.label());
        line(&mut text, &format!("| {case} | {server} | {figure} | {median} | {low} - {high} | {ratio} |"));
    }
    line(&mut text, "\n| bar | median | min - max | asked | |\n| --- | --- | --- | --- | --- |");
    for Verdict { question, value, range: (low, high), bar, passed } in verdicts {
        let [value, low, high] = [*value, *low, *high].map(short);
        let passed = if *passed { "pass" } else { "FAIL" };
        line(&mut text, &format!("| {question} | {value} | {low} - {high} | {bar} | {passed} |"));
    }
    text
}

fn short(value: f64) -> String {
    if value >= 100.0 { crate::report::grouped(value) } else { format!("{value:.3}") }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn figures(entries: &[(Case, Contender, Figure, &[f64])]) -> Figures {
        entries
            .iter()
            .map(|&(case, server, figure, values)| ((case, server, figure), values.to_vec()))
            .collect()
    }

    #[test]
    fn ratios_are_taken_within_a_run_so_that_a_slow_machine_cancels_out() {
        let figures = figures(&[
            (Case::Fanout, Contender::Bare, Figure::Cpu, &[5.0, 10.0, 5.0]),
            (Case::Fanout, Contender::Outspoke, Figure::Cpu, &[5.5, 11.0, 5.5]),
        ]);
        let verdicts = judge(&figures);
        assert_eq!(verdicts.len(), 1);
        assert!((verdicts[0].value - 1.1).abs() < 1e-9 && verdicts[0].passed);
    }

    #[test]
    fn bar_that_is_missed_fails() {
        let figures = figures(&[
            (Case::Idle, Contender::Outspoke, Figure::Memory, &[2047.0, 2049.0, 2050.0]),
            (Case::Idle, Contender::Outspoke, Figure::Connects, &[19_999.0, 20_001.0, 25_000.0]),
        ]);
        let passed: Vec<_> = judge(&figures).iter().map(|verdict| verdict.passed).collect();
        assert_eq!(passed, [false, true]);
    }

    #[test]
    fn bar_with_a_failed_run_is_not_passed() {
        let figures = figures(&[(Case::Slow, Contender::Outspoke, Figure::P99Ratio, &[1.0, f64::NAN, 1.0])]);
        let verdicts = judge(&figures);
        assert!(!verdicts[0].passed);
        assert_eq!(verdicts[0].value, 1.0);
    }

    #[test]
    fn median_of_an_even_number_is_between_the_middle_ones() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn disturbance_is_told_by_the_bare_loop_alone() {
        let of =
            |server| disturbance(&figures(&[(Case::Echo, server, Figure::Disturbed, &[0.2, 0.01, 0.3])]));
        assert_eq!(of(Contender::Bare), Some(0.2));
        assert_eq!(of(Contender::Bun), None, "its own threads may have waited for each other");
    }

    #[test]
    fn table_without_a_reference_has_no_ratio() {
        let figures = figures(&[(Case::Idle, Contender::Bun, Figure::Memory, &[2700.0])]);
        assert!(table(&figures, &[]).contains("| idle | bun | B/connection | 2,700 | 2,700 - 2,700 | - |"));
    }
}
