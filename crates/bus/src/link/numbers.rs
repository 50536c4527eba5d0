//! The numbers of payloads, followed on the way in: what is missing, and what came before.
//!
//! They are given in [`super::queue`].

use std::collections::HashMap;

use tokio::time::Instant;

use super::frame::Header;
use super::queue::FORGOTTEN_AFTER;
use crate::{NodeId, Topic};

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

/// What a frame is, by its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// So many before it have not arrived, and will not.
    pub(super) missing: u64,
    /// So many of its payloads, from the first, have arrived before, or count as missing already.
    pub(super) repeated: u64,
}

impl Seen {
    /// Judges a frame of so many payloads.
    pub(super) fn judge(&mut self, topic: &Topic, header: &Header, count: u64, now: Instant) -> Verdict {
        let origins = match self.topics.get_mut(topic) {
            Some(origins) => origins,
            None => self.topics.entry(topic.clone()).or_default(),
        };
        // Nothing is heard without a payload, and the numbers do not overflow: see `frame::decode`.
        let (first, last) = (header.number, header.number + count - 1);
        let Some(heard) = origins.iter_mut().find(|heard| heard.origin == header.origin) else {
            origins.push(Heard { origin: header.origin, number: last, at: now, promised: None });
            return Verdict { missing: 0, repeated: 0 };
        };
        if last <= heard.number {
            return Verdict { missing: 0, repeated: count };
        }
        // A new run says nothing of how many there were in the one before; those it has are known to be missing.
        let expected = (heard.number + 1).max(header.run);
        heard.number = last;
        heard.at = now;
        heard.promised = None;
        Verdict { missing: first.saturating_sub(expected), repeated: expected.saturating_sub(first) }
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
    async fn holes_are_counted_and_repetitions_known() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let mut judge = |run, number, count| {
            let verdict = seen.judge(&topic("a"), &header(run, number), count, now);
            (verdict.missing, verdict.repeated)
        };
        assert_eq!(judge(1, 5, 1), (0, 0), "the first that is heard");
        assert_eq!(judge(1, 6, 1), (0, 0));
        assert_eq!(judge(1, 6, 1), (0, 1));
        assert_eq!(judge(1, 9, 3), (2, 0));
        assert_eq!(judge(1, 7, 2), (0, 2), "too late");
        assert_eq!(judge(1, 12, 5), (0, 0));
        assert_eq!(judge(1, 15, 4), (0, 2), "the first two are known");
        assert_eq!(judge(30, 30, 1), (0, 0), "a new run");
        assert_eq!(judge(50, 52, 1), (2, 0), "the beginning of a run is missing");
    }

    #[tokio::test]
    async fn what_was_promised_twice_and_has_not_come_is_missing() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        let origin = NodeId::from_u128(1);
        seen.judge(&topic("a"), &header(1, 1), 1, now);
        assert!(!seen.promise(&topic("a"), origin, 1, now));
        assert!(!seen.promise(&topic("a"), origin, 2, now), "it may be on its way");
        assert!(seen.promise(&topic("a"), origin, 2, now));
        assert!(!seen.promise(&topic("a"), origin, 2, now), "told once");
        assert_eq!(seen.judge(&topic("a"), &header(1, 2), 1, now).repeated, 1);
        assert!(seen.promise(&topic("b"), origin, 7, now), "never heard of");
    }
}
