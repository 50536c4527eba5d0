//! What waits for the bus: payloads, gathered into frames by topic.
//!
//! A payload joins the last frame of its topic as long as that one waits, has room and is young; so a link that is busy sends
//! fewer and larger frames, and one that is not sends each payload at once. The order on a topic is kept. Between topics a
//! payload that joins a frame overtakes what was sent before it; one that joins nothing overtakes nothing.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::frame::{Draft, Header, OVERHEAD, Secret};
use crate::{NodeId, Outgoing, Topic};

/// A topic that nothing was sent on for so long is forgotten; its numbers go on as a new run.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// Bytes of a frame that further payloads join.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// For how long: a frame's age is its first payload's, and when that is too old the others go with it.
const JOINED_WITHIN: Duration = Duration::from_millis(250);
/// Frames published at once, and their bytes.
const BATCH: (usize, usize) = (1024, 512 * 1024);

#[derive(Debug, Default)]
pub(super) struct Queue {
    frames: VecDeque<Waiting>,
    /// How many frames have left the queue: the number of the one at its head.
    left: u64,
    bytes: usize,
    topics: HashMap<Topic, Sent>,
    /// Greater than or equal to every number used so far.
    high: u64,
}

/// A frame that gathers payloads.
#[derive(Debug)]
struct Waiting {
    topic: Topic,
    draft: Draft,
    run: u64,
    first: u64,
    count: u64,
    since: Instant,
}

/// What was sent on a topic.
#[derive(Debug)]
struct Sent {
    run: u64,
    number: u64,
    at: Instant,
    /// The last frame, by its number in the queue, if there was one.
    frame: Option<u64>,
}

/// Whether a payload may join a frame that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joins {
    /// The last one of its topic.
    Frame,
    /// It tells of what was sent before it, on any topic, and must not overtake that.
    Nothing,
}

/// Frames to publish together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) frames: Vec<Outgoing>,
    /// Payloads in them.
    pub(super) payloads: u64,
    /// When the first of them was queued.
    pub(super) since: Instant,
}

impl Queue {
    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a batch would be a large one, which no further payloads need join.
    pub(super) fn has_much(&self) -> bool {
        self.bytes >= BATCH.1 || self.frames.len() >= BATCH.0
    }

    /// Gives a payload its number and its place. Returns whether it fits; its number is used in any case, so that others see
    /// that something is missing.
    pub(super) fn push(
        &mut self,
        topic: &Topic,
        payload: &[u8],
        joins: Joins,
        bytes_max: usize,
        now: Instant,
    ) -> bool {
        let (high, next_frame) = (&mut self.high, self.left + self.frames.len() as u64);
        let begun = |high: u64| Sent { run: high + 1, number: high, at: now, frame: None };
        let sent = match self.topics.get_mut(topic) {
            Some(sent) => sent,
            None => self.topics.entry(topic.clone()).or_insert(begun(*high)),
        };
        sent.number += 1;
        sent.at = now;
        *high = (*high).max(sent.number);
        if self.bytes + payload.len() > bytes_max {
            return false;
        }
        // The head of the queue has its number for as long as it is there.
        let waiting =
            sent.frame.filter(|_| joins == Joins::Frame).and_then(|frame| frame.checked_sub(self.left));
        let open = waiting.and_then(|at| self.frames.get_mut(at as usize));
        if let Some(frame) = open.filter(|frame| frame.takes(sent, payload.len(), now)) {
            self.bytes += frame.draft.put(payload);
            frame.count += 1;
            return true;
        }
        sent.frame = Some(next_frame);
        let mut draft = Draft::new(payload.len());
        self.bytes += OVERHEAD + draft.put(payload);
        let (run, first) = (sent.run, sent.number);
        self.frames.push_back(Waiting { topic: topic.clone(), draft, run, first, count: 1, since: now });
        true
    }

    /// The next frames, made ready. What is older than `age_max`, or longer than the bus carries, is dropped: `dropped` counts
    /// its payloads.
    pub(super) fn take(&mut self, limits: &Limits<'_>, dropped: &mut u64) -> Option<Batch> {
        let now = Instant::now();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = self.frames.front() {
            let len = OVERHEAD + next.draft.len();
            if taken.len() == BATCH.0 || (bytes + len > BATCH.1 && !taken.is_empty()) {
                break;
            }
            let Some(waiting) = self.frames.pop_front() else { break };
            self.left += 1;
            self.bytes -= len;
            if now.duration_since(waiting.since) > limits.age_max || len > limits.frame_bytes_max {
                *dropped += waiting.count;
                continue;
            }
            bytes += len;
            taken.push(waiting);
        }
        let since = taken.first()?.since;
        let payloads = taken.iter().map(|frame| frame.count).sum();
        let frames = taken.into_iter().map(|frame| frame.finish(limits)).collect();
        Some(Batch { frames, payloads, since })
    }

    /// The newest number on each topic that something was sent on since then, at most so many.
    pub(super) fn newest(&self, then: Instant, max: usize) -> Vec<(Topic, u64)> {
        let recent = self.topics.iter().filter(|(_, sent)| sent.at >= then);
        recent.take(max).map(|(topic, sent)| (topic.clone(), sent.number)).collect()
    }

    /// Forgets topics that nothing was sent on for long.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.topics.retain(|_, sent| now.duration_since(sent.at) < FORGOTTEN_AFTER);
    }
}

/// What frames need to leave.
#[derive(Debug)]
pub(super) struct Limits<'a> {
    pub(super) origin: NodeId,
    pub(super) secret: Option<&'a Secret>,
    /// Milliseconds since 1970.
    pub(super) now: i64,
    pub(super) age_max: Duration,
    pub(super) frame_bytes_max: usize,
}

impl Waiting {
    /// Whether a payload that is the topic's newest by now may join.
    fn takes(&self, sent: &Sent, len: usize, now: Instant) -> bool {
        // A number that was used for nothing makes a hole, which only a frame's first number can show.
        self.first + self.count == sent.number
            && self.run == sent.run
            && self.draft.len() + len <= FRAME_BYTES_MAX
            && now.duration_since(self.since) < JOINED_WITHIN
    }

    fn finish(self, limits: &Limits<'_>) -> Outgoing {
        let header = Header { origin: limits.origin, sent: limits.now, run: self.run, number: self.first };
        let payload: Bytes = self.draft.finish(limits.secret, &self.topic, &header);
        Outgoing { topic: self.topic, payload }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::link::frame;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    fn limits(frame_bytes_max: usize) -> Limits<'static> {
        let (origin, age_max) = (NodeId::from_u128(1), Duration::from_secs(10));
        Limits { origin, secret: None, now: 0, age_max, frame_bytes_max }
    }

    /// Run, first number and payloads of every frame, by topic.
    fn read(batch: &Batch) -> Vec<(&str, u64, u64, Vec<Bytes>)> {
        let read = |outgoing: &Outgoing| {
            let (header, bundle) = frame::decode(None, &outgoing.topic, &outgoing.payload).unwrap();
            (header.run, header.number, bundle.collect())
        };
        let frame = |outgoing| {
            let (run, number, payloads) = read(outgoing);
            (outgoing.topic.as_str(), run, number, payloads)
        };
        batch.frames.iter().map(frame).collect()
    }

    fn texts(texts: &[&'static str]) -> Vec<Bytes> {
        texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn payloads_of_a_topic_share_a_frame_in_their_order_while_it_waits() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, text) in [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4"), ("b", "5")] {
            assert!(queue.push(&topic(name), text.as_bytes(), Joins::Frame, 1000, now));
        }
        let mut dropped = 0;
        let batch = queue.take(&limits(1000), &mut dropped).unwrap();
        assert_eq!(read(&batch), [("a", 1, 1, texts(&["1", "3", "4"])), ("b", 2, 2, texts(&["2", "5"]))]);
        assert_eq!((batch.payloads, dropped, queue.bytes()), (5, 0, 0));
        assert!(queue.push(&topic("a"), b"6", Joins::Frame, 1000, now));
        let batch = queue.take(&limits(1000), &mut dropped).unwrap();
        assert_eq!(read(&batch), [("a", 1, 4, texts(&["6"]))], "what has left is closed");
        assert!(queue.take(&limits(1000), &mut dropped).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn payload_that_joins_nothing_overtakes_nothing() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, joins) in [("beats", Joins::Nothing), ("a", Joins::Frame), ("beats", Joins::Nothing)] {
            queue.push(&topic(name), b"", joins, 1000, now);
        }
        let batch = queue.take(&limits(1000), &mut 0).unwrap();
        assert_eq!(read(&batch).iter().map(|frame| frame.0).collect::<Vec<_>>(), ["beats", "a", "beats"]);
    }

    #[tokio::test(start_paused = true)]
    async fn payload_without_room_leaves_a_hole_and_no_frame_spans_it() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert!(queue.push(&topic("a"), b"1", Joins::Frame, 200, now));
        assert!(!queue.push(&topic("a"), &[b'x'; 200], Joins::Frame, 200, now));
        assert!(queue.push(&topic("a"), b"3", Joins::Frame, 200, now));
        let batch = queue.take(&limits(1000), &mut 0).unwrap();
        assert_eq!(read(&batch), [("a", 1, 1, texts(&["1"])), ("a", 1, 3, texts(&["3"]))]);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_that_are_old_large_or_full_are_not_joined() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        assert!(queue.push(&topic("a"), &[b'x'; FRAME_BYTES_MAX], Joins::Frame, 1 << 20, now));
        assert!(queue.push(&topic("a"), b"2", Joins::Frame, 1 << 20, now));
        assert!(queue.push(&topic("a"), b"3", Joins::Frame, 1 << 20, now + JOINED_WITHIN));
        let batch = queue.take(&limits(1 << 20), &mut 0).unwrap();
        assert_eq!(read(&batch).iter().map(|frame| frame.2).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_or_too_long_is_dropped_and_counted() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(&topic("a"), b"1", Joins::Frame, 1000, now);
        queue.push(&topic("a"), b"2", Joins::Frame, 1000, now);
        tokio::time::advance(Duration::from_secs(11)).await;
        queue.push(&topic("a"), &[0; 500], Joins::Frame, 1000, Instant::now());
        queue.push(&topic("b"), b"4", Joins::Frame, 1000, Instant::now());
        let mut dropped = 0;
        let batch = queue.take(&limits(300), &mut dropped).unwrap();
        assert_eq!((read(&batch), dropped), (vec![("b", 4, 4, texts(&["4"]))], 3));
        assert_eq!(queue.bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_count_by_topic_and_a_forgotten_topic_goes_on_above_all() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for name in ["a", "a", "b"] {
            queue.push(&topic(name), b"", Joins::Frame, 1000, now);
        }
        let batch = queue.take(&limits(1000), &mut 0).unwrap();
        assert_eq!(read(&batch), [("a", 1, 1, texts(&["", ""])), ("b", 3, 3, texts(&[""]))]);
        let later = now + FORGOTTEN_AFTER;
        queue.tidy(later);
        queue.push(&topic("a"), b"", Joins::Frame, 1000, later);
        assert_eq!(queue.newest(later, 9), [(topic("a"), 4)]);
        assert_eq!(queue.frames[0].run, 4);
    }
}
