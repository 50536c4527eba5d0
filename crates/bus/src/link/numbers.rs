//! The numbers of frames: given on the way out, followed on the way in.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::frame::Header;
use crate::{NodeId, Topic};

/// A topic that nothing was sent on for so long is forgotten; its numbers go on as a new run.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// What this node has sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    topics: HashMap<Topic, Counter>,
    /// Greater than or equal to every number used so far.
    high: u64,
}

#[derive(Debug)]
struct Counter {
    run: u64,
    number: u64,
    at: Instant,
}

impl Sent {
    /// The run and the number of the next frame on a topic.
    pub(super) fn next(&mut self, topic: &Topic, now: Instant) -> (u64, u64) {
        let high = &mut self.high;
        let counter = self.topics.entry(topic.clone()).or_insert_with(|| Counter {
            run: *high + 1,
            number: *high,
            at: now,
        });
        counter.number += 1;
        counter.at = now;
        *high = (*high).max(counter.number);
        (counter.run, counter.number)
    }

    /// The newest number on each topic that something was sent on since then, at most so many.
    pub(super) fn since(&self, then: Instant, max: usize) -> Vec<(Topic, u64)> {
        let recent = self.topics.iter().filter(|(_, counter)| counter.at >= then);
        recent.take(max).map(|(topic, counter)| (topic.clone(), counter.number)).collect()
    }

    pub(super) fn tidy(&mut self, now: Instant) {
        self.topics.retain(|_, counter| now.duration_since(counter.at) < FORGOTTEN_AFTER);
    }
}

/// What has arrived from each node.
#[derive(Debug, Default)]
pub(super) struct Seen {
    topics: HashMap<Topic, Vec<Heard>>,
}

#[derive(Debug)]
struct Heard {
    origin: NodeId,
    number: u64,
    at: Instant,
    /// The origin has said that it had sent this number, which has not arrived yet.
    promised: Option<u64>,
}

/// What a frame is, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one, or the first of its origin.
    Next,
    /// So many before it have not arrived, and will not.
    After(u64),
    /// It, or a later one, has arrived before.
    Repeated,
}

impl Seen {
    pub(super) fn judge(&mut self, topic: &Topic, header: &Header, now: Instant) -> Verdict {
        let origins = match self.topics.get_mut(topic) {
            Some(origins) => origins,
            None => self.topics.entry(topic.clone()).or_default(),
        };
        let Some(heard) = origins.iter_mut().find(|heard| heard.origin == header.origin) else {
            origins.push(Heard { origin: header.origin, number: header.number, at: now, promised: None });
            return Verdict::Next;
        };
        if header.number <= heard.number {
            return Verdict::Repeated;
        }
        // A new run says nothing of how many there were in the one before; those it has are known to be missing.
        let expected = (heard.number + 1).max(header.run);
        heard.number = header.number;
        heard.at = now;
        heard.promised = None;
        match header.number - expected {
            0 => Verdict::Next,
            missing => Verdict::After(missing),
        }
    }

    /// An origin says what it has sent last on a topic. Returns whether that, said before already, has not arrived.
    pub(super) fn promise(&mut self, topic: &Topic, origin: NodeId, number: u64, now: Instant) -> bool {
        let origins = self.topics.entry(topic.clone()).or_default();
        let Some(heard) = origins.iter_mut().find(|heard| heard.origin == origin) else {
            // Nothing has been heard of it here, though it has sent: let who is interested look.
            origins.push(Heard { origin, number, at: now, promised: None });
            return true;
        };
        heard.at = now;
        if number <= heard.number {
            heard.promised = None;
            return false;
        }
        // It may be on its way: the second time is too late.
        if heard.promised.is_some_and(|promised| promised > heard.number) {
            heard.number = number;
            heard.promised = None;
            return true;
        }
        heard.promised = Some(number);
        false
    }

    pub(super) fn forget_topic(&mut self, topic: &Topic) {
        self.topics.remove(topic);
    }

    /// Forgets origins that have been silent for as long as they may forget a topic, and longer.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.topics.retain(|_, origins| {
            origins.retain(|heard| now.duration_since(heard.at) < 2 * FORGOTTEN_AFTER);
            !origins.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    fn header(run: u64, number: u64) -> Header {
        Header { origin: NodeId::from_u128(1), sent: 0, run, number }
    }

    #[tokio::test]
    async fn numbers_count_by_topic_and_a_forgotten_topic_goes_on_above_all() {
        let (mut sent, now) = (Sent::default(), Instant::now());
        assert_eq!(sent.next(&topic("a"), now), (1, 1));
        assert_eq!(sent.next(&topic("a"), now), (1, 2));
        assert_eq!(sent.next(&topic("b"), now), (3, 3));
        let later = now + FORGOTTEN_AFTER;
        sent.tidy(later);
        assert_eq!(sent.next(&topic("a"), later), (4, 4));
        assert_eq!(sent.since(later, 9), [(topic("a"), 4)]);
    }

    #[tokio::test]
    async fn holes_are_counted_and_repetitions_known() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let mut judge = |run, number| seen.judge(&topic("a"), &header(run, number), now);
        assert_eq!(judge(1, 5), Verdict::Next, "the first that is heard");
        assert_eq!(judge(1, 6), Verdict::Next);
        assert_eq!(judge(1, 6), Verdict::Repeated);
        assert_eq!(judge(1, 9), Verdict::After(2));
        assert_eq!(judge(1, 7), Verdict::Repeated, "too late");
        assert_eq!(judge(30, 30), Verdict::Next, "a new run");
        assert_eq!(judge(50, 52), Verdict::After(2), "the beginning of a run is missing");
    }

    #[tokio::test]
    async fn what_was_promised_twice_and_has_not_come_is_missing() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let origin = NodeId::from_u128(1);
        seen.judge(&topic("a"), &header(1, 1), now);
        assert!(!seen.promise(&topic("a"), origin, 1, now));
        assert!(!seen.promise(&topic("a"), origin, 2, now), "it may be on its way");
        assert!(seen.promise(&topic("a"), origin, 2, now));
        assert!(!seen.promise(&topic("a"), origin, 2, now), "told once");
        assert_eq!(seen.judge(&topic("a"), &header(1, 2), now), Verdict::Repeated);
        assert!(seen.promise(&topic("b"), origin, 7, now), "never heard of");
    }
}
