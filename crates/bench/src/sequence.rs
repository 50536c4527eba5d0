//! Whether one member got every message of its room, once, in order.
//!
//! Each member of a room has a [`Checker`]; the scenarios feed it the sequence numbers that arrive. In the
//! good case it is one comparison and one addition. Only a fault allocates: the ranges that were skipped are
//! kept, so that a late message (reordered) is told from a repeated one (duplicated) and from one that never
//! comes (lost).

use std::ops::Range;

/// Skipped ranges remembered per member; beyond it the oldest is settled as lost.
const GAPS_MAX: usize = 1024;

/// What a sequence number means to the member that received it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The first time, and nothing later came before it.
    InOrder,
    /// The first time, but after a later one.
    Late,
    /// Not the first time.
    Duplicate,
}

impl Verdict {
    /// Whether it is the first arrival of that message.
    pub(crate) fn is_first(self) -> bool {
        !matches!(self, Self::Duplicate)
    }
}

/// Follows the sequence numbers that one member receives: 0, 1, 2, ...
#[derive(Debug, Default)]
pub(crate) struct Checker {
    next: u64,
    faults: Option<Box<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Skipped and not seen since; ascending, disjoint, not empty.
    gaps: Vec<Range<u64>>,
    settled: u64,
    tally: Tally,
}

/// How many messages went wrong, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Never arrived.
    pub lost: u64,
    /// Arrived again.
    pub duplicated: u64,
    /// Arrived after a later one.
    pub reordered: u64,
}

impl Tally {
    /// Adds another member's faults.
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
    }
}

impl Checker {
    /// Takes the next sequence number that arrived.
    #[inline]
    pub(crate) fn accept(&mut self, sequence: u64) -> Verdict {
        if sequence == self.next {
            self.next += 1;
            return Verdict::InOrder;
        }
        self.accept_out_of_turn(sequence)
    }

    #[cold]
    fn accept_out_of_turn(&mut self, sequence: u64) -> Verdict {
        let faults = self.faults.get_or_insert_default();
        if sequence > self.next {
            faults.skip(self.next..sequence);
            self.next = sequence + 1;
            return Verdict::InOrder;
        }
        if faults.fill(sequence) {
            faults.tally.reordered += 1;
            Verdict::Late
        } else {
            faults.tally.duplicated += 1;
            Verdict::Duplicate
        }
    }

    /// The faults so far, if `sent` messages (0 to `sent - 1`) were published.
    pub(crate) fn tally(&self, sent: u64) -> Tally {
        let mut tally = Tally::default();
        if let Some(faults) = &self.faults {
            tally = faults.tally;
            tally.lost = faults.settled + faults.gaps.iter().map(|gap| gap.end - gap.start).sum::<u64>();
        }
        tally.lost += sent.saturating_sub(self.next);
        tally
    }
}

impl Faults {
    fn skip(&mut self, gap: Range<u64>) {
        if self.gaps.len() == GAPS_MAX {
            let oldest = self.gaps.remove(0);
            self.settled += oldest.end - oldest.start;
        }
        self.gaps.push(gap);
    }

    /// Takes `sequence` out of the skipped ranges; false if it was in none.
    fn fill(&mut self, sequence: u64) -> bool {
        let Some(at) = self.gaps.iter().position(|gap| gap.contains(&sequence)) else { return false };
        let gap = self.gaps.remove(at);
        let rest = [gap.start..sequence, sequence + 1..gap.end];
        self.gaps.splice(at..at, rest.into_iter().filter(|range| !range.is_empty()));
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn after(arrivals: &[u64], sent: u64) -> Tally {
        let mut checker = Checker::default();
        for &sequence in arrivals {
            checker.accept(sequence);
        }
        checker.tally(sent)
    }

    #[test]
    fn checker_in_order_stream_has_no_faults_and_allocates_nothing() {
        let mut checker = Checker::default();
        assert!((0..1000).all(|sequence| checker.accept(sequence) == Verdict::InOrder));
        assert_eq!(checker.tally(1000), Tally::default());
        assert!(checker.faults.is_none());
    }

    #[test]
    fn checker_missing_in_the_middle_and_at_the_end_is_lost() {
        assert_eq!(after(&[0, 1, 4, 5], 8), Tally { lost: 4, duplicated: 0, reordered: 0 });
        assert_eq!(after(&[], 3), Tally { lost: 3, duplicated: 0, reordered: 0 });
    }

    #[test]
    fn checker_repeated_is_duplicated_not_lost() {
        assert_eq!(after(&[0, 1, 1, 0, 2], 3), Tally { lost: 0, duplicated: 2, reordered: 0 });
    }

    #[test]
    fn checker_late_is_reordered_once_and_then_duplicated() {
        let mut checker = Checker::default();
        let verdicts: Vec<_> = [0, 2, 3, 1, 1, 4].iter().map(|&s| checker.accept(s)).collect();
        use Verdict::*;
        assert_eq!(verdicts, [InOrder, InOrder, InOrder, Late, Duplicate, InOrder]);
        assert_eq!(checker.tally(5), Tally { lost: 0, duplicated: 1, reordered: 1 });
    }

    #[test]
    fn checker_swapped_neighbours_are_one_reordering() {
        assert_eq!(after(&[1, 0, 2, 4, 3], 5), Tally { lost: 0, duplicated: 0, reordered: 2 });
    }

    #[test]
    fn checker_gap_filled_in_its_middle_keeps_both_sides_lost() {
        assert_eq!(after(&[0, 9, 5], 10), Tally { lost: 7, duplicated: 0, reordered: 1 });
    }

    #[test]
    fn checker_injected_faults_are_counted_exactly() {
        // A small generator with a fixed seed; each message is delivered, dropped, doubled or held back by one.
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let sent = 20_000;
        let (mut arrivals, mut expected, mut held) = (Vec::new(), Tally::default(), None);
        for sequence in 0..sent {
            match random(100) {
                0 => expected.lost += 1,
                1 => {
                    arrivals.extend([sequence, sequence]);
                    expected.duplicated += 1;
                }
                2 if held.is_none() && sequence + 1 < sent => {
                    held = Some(sequence);
                    continue;
                }
                _ => arrivals.push(sequence),
            }
            if let Some(late) = held.take() {
                // It is only out of order if its follower arrived.
                if arrivals.last() == Some(&sequence) {
                    expected.reordered += 1;
                }
                arrivals.push(late);
            }
        }
        assert!(expected.lost > 0 && expected.duplicated > 0 && expected.reordered > 0);
        assert_eq!(after(&arrivals, sent), expected);
    }

    #[test]
    fn checker_with_endless_gaps_stays_bounded_and_counts_all_lost() {
        let mut checker = Checker::default();
        let rounds = 10 * GAPS_MAX as u64;
        for round in 0..rounds {
            checker.accept(round * 2 + 1);
        }
        assert!(checker.faults.as_ref().unwrap().gaps.len() <= GAPS_MAX);
        assert_eq!(checker.tally(rounds * 2).lost, rounds);
    }
}
