//! A node's end of the bus: what it sends is numbered, what it hears is checked.
//!
//! Sending never waits: payloads gather in a bounded queue, in one frame per topic, and one task publishes all that has
//! gathered at once, in order, and again until the bus has taken it. What has waited too long is dropped; the others see the
//! hole. Hearing: bytes that are no frames of this cluster are counted and forgotten, so is what comes from this node
//! itself, what comes twice, and what is too old to be anything but a replay. Holes are told, by origin and topic.
//!
//! A loss at the end of what a node sends shows in its next [beat](Link::beat), which says how far it has come on which topic.

mod frame;
mod numbers;
mod queue;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::frame::Secret;
use self::frame::{Header, NoFrame, OVERHEAD, PAYLOAD_OVERHEAD};
use self::numbers::{Seen, Verdict};
use self::queue::{Batch, Joins, Limits, Queue};
use crate::{Arrival, BusError, Feed, MessageBus, NodeId, Outlet, Topic, feed};

/// Topics that a beat tells of.
const TOLD_MAX: usize = 2048;
/// How long to wait before the bus is tried again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// How a link is set up.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// Who this node is. Default: somebody new.
    pub node: NodeId,
    /// What frames are signed with. Default: nothing; whoever can reach the bus can then speak for any node.
    pub secret: Option<Secret>,
    /// Bytes that may wait for the bus. Default: 16 MiB.
    pub queue_bytes_max: usize,
    /// What has waited so long for the bus is dropped. Default: 10 s.
    pub queue_age_max: Duration,
    /// Frames whose time of sending is so far from this node's clock, either way, are not heard. Default: 5 min.
    pub clock_difference_max: Duration,
    /// Where beats are sent and heard. Default: `nodes`.
    pub beats: Topic,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            node: NodeId::new(),
            secret: None,
            queue_bytes_max: 16 * 1024 * 1024,
            queue_age_max: Duration::from_secs(10),
            clock_difference_max: Duration::from_secs(300),
            beats: Topic::new("nodes").expect("it is a topic"),
        }
    }
}

/// What a link has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkCounts {
    /// Payloads that the bus has taken.
    pub sent: u64,
    /// Payloads heard, of other nodes.
    pub heard: u64,
    /// Payloads that the bus did not take in time, or that it cannot carry.
    pub unsent: u64,
    /// Payloads that other nodes have sent and that did not arrive, as far as that can be known.
    pub missed: u64,
    /// Payloads that came more than once.
    pub repeated: u64,
    /// Bytes that are no frame.
    pub garbage: u64,
    /// Frames of another version, or with a signature where there is no secret, or without one where there is.
    pub foreign: u64,
    /// Frames with a signature that is not the cluster's.
    pub forged: u64,
    /// Frames whose time of sending is too far from now.
    pub stale: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    heard: AtomicU64,
    unsent: AtomicU64,
    missed: AtomicU64,
    repeated: AtomicU64,
    garbage: AtomicU64,
    foreign: AtomicU64,
    forged: AtomicU64,
    stale: AtomicU64,
}

/// What a link hears.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// Another node has sent this.
    Message {
        /// Where to.
        topic: Topic,
        /// Who.
        origin: NodeId,
        /// When, by its clock, in milliseconds since 1970.
        sent: i64,
        /// What.
        payload: Bytes,
    },
    /// Another node says that it is there.
    Beat {
        /// Who.
        origin: NodeId,
        /// When, by its clock, in milliseconds since 1970.
        sent: i64,
        /// What it says of itself.
        payload: Bytes,
    },
    /// Something that another node sent has not arrived, and will not.
    Missed {
        /// Where to.
        topic: Topic,
        /// Who.
        origin: NodeId,
    },
    /// The bus was away: anything of any topic may be missing.
    Interrupted,
}

/// The queue holds as much as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting for the bus")]
pub struct QueueFull;

/// Sends for a node. Clones are the same link.
#[derive(Clone, Debug)]
pub struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bus: Arc<dyn MessageBus>,
    options: LinkOptions,
    outlet: Outlet,
    queue: Mutex<Queue>,
    /// Something was queued.
    more: Notify,
    seen: Mutex<Seen>,
    counters: Counters,
    closed: AtomicBool,
}

/// Hears for a node.
#[derive(Debug)]
pub struct LinkEvents {
    link: Link,
    feed: Feed,
    /// What a beat has brought beside itself.
    pending: VecDeque<LinkEvent>,
}

impl Link {
    /// A link over a bus. Nothing is sent until [`run`](Self::run) runs.
    #[must_use]
    pub fn new(bus: Arc<dyn MessageBus>, options: LinkOptions) -> (Self, LinkEvents) {
        let (outlet, feed) = feed();
        let link = Self(Arc::new(Shared {
            bus,
            options,
            outlet,
            queue: Mutex::default(),
            more: Notify::new(),
            seen: Mutex::default(),
            counters: Counters::default(),
            closed: AtomicBool::new(false),
        }));
        (link.clone(), LinkEvents { link, feed, pending: VecDeque::new() })
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.options.node
    }

    /// The bus.
    #[must_use]
    pub fn bus(&self) -> &Arc<dyn MessageBus> {
        &self.0.bus
    }

    /// Longest payload that can be sent now, in bytes.
    #[must_use]
    pub fn payload_bytes_max(&self) -> usize {
        self.0.bus.payload_bytes_max() - OVERHEAD - PAYLOAD_OVERHEAD
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.0.counters;
        LinkCounts {
            sent: read(&counters.sent),
            heard: read(&counters.heard),
            unsent: read(&counters.unsent),
            missed: read(&counters.missed),
            repeated: read(&counters.repeated),
            garbage: read(&counters.garbage),
            foreign: read(&counters.foreign),
            forged: read(&counters.forged),
            stale: read(&counters.stale),
        }
    }

    /// Bytes that wait for the bus.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue().bytes()
    }

    /// Queues a payload for everybody who is subscribed to a topic. What one thread sends on one topic arrives in that order.
    ///
    /// # Errors
    /// Too much is waiting already: this is not sent, and who listens will know that something is missing.
    pub fn send(&self, topic: &Topic, payload: &[u8]) -> Result<(), QueueFull> {
        self.enqueue(topic, payload, Joins::Frame)
    }

    fn enqueue(&self, topic: &Topic, payload: &[u8], joins: Joins) -> Result<(), QueueFull> {
        let (now, max) = (Instant::now(), self.0.options.queue_bytes_max);
        if !self.queue().push(topic, payload, joins, max, now) {
            add(&self.0.counters.unsent, 1);
            return Err(QueueFull);
        }
        self.0.more.notify_one();
        Ok(())
    }

    /// Tells everybody that this node is there, with what it says of itself, and how far it has come on each topic that
    /// it has sent something on within `recent`.
    ///
    /// # Errors
    /// Too much is waiting already.
    pub fn beat(&self, payload: &[u8], recent: Duration) -> Result<(), QueueFull> {
        let now = Instant::now();
        let told = {
            let mut queue = self.queue();
            queue.tidy(now);
            let then = now.checked_sub(recent).unwrap_or(now);
            queue.newest(then, TOLD_MAX)
        };
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).tidy(now);
        let told = told.into_iter().filter(|(topic, _)| *topic != self.0.options.beats);
        self.enqueue(&self.0.options.beats, &encode_beat(payload, told), Joins::Nothing)
    }

    /// Hears a topic from when this has answered; a bus that is away is waited for.
    ///
    /// # Errors
    /// The bus is closed, or refuses.
    pub async fn subscribe(&self, topics: &[Topic]) -> Result<(), BusError> {
        self.0.bus.subscribe(topics, &self.0.outlet).await
    }

    /// Hears a topic no more.
    ///
    /// # Errors
    /// The bus is closed.
    pub async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), BusError> {
        let outcome = self.0.bus.unsubscribe(topics, &self.0.outlet).await;
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        topics.iter().for_each(|topic| seen.forget_topic(topic));
        outcome
    }

    /// Publishes what is queued, until the link is closed.
    pub async fn run(&self) {
        let mut prepared = None;
        loop {
            let batch = match prepared.take() {
                Some(batch) => batch,
                None => match self.take().await {
                    Some(batch) => batch,
                    None => return,
                },
            };
            let (published, next) = tokio::join!(self.publish(&batch), self.prepare());
            prepared = next;
            let counter = if published { &self.0.counters.sent } else { &self.0.counters.unsent };
            add(counter, batch.payloads);
        }
    }

    /// Makes the next frames ready while those before are on their way, if there are many: signing takes its time.
    async fn prepare(&self) -> Option<Batch> {
        // Those before must be on their way first.
        tokio::task::yield_now().await;
        if self.queue().has_much() { self.take_now() } else { None }
    }

    /// Publishes a batch, and again until the bus has taken it; returns whether it has, before it was too late.
    async fn publish(&self, batch: &Batch) -> bool {
        let mut pause = RETRY.0;
        while let Err(error) = self.0.bus.publish(&batch.frames).await {
            let BusError::Unavailable(error) = error else {
                tracing::warn!(%error, payloads = batch.payloads, "a batch was not sent");
                return false;
            };
            tracing::debug!(%error, "the bus did not take a batch");
            if self.0.closed.load(Ordering::Acquire) || batch.since.elapsed() > self.0.options.queue_age_max {
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
        true
    }

    /// Ends [`run`](Self::run) once what is queued is sent, as far as the bus takes it.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.more.notify_one();
    }

    /// The next frames to publish; `None` when the link is closed and all is sent.
    async fn take(&self) -> Option<Batch> {
        loop {
            if let Some(batch) = self.take_now() {
                return Some(batch);
            }
            if self.0.closed.load(Ordering::Acquire) {
                return None;
            }
            self.0.more.notified().await;
        }
    }

    fn take_now(&self) -> Option<Batch> {
        let options = &self.0.options;
        let limits = Limits {
            origin: options.node,
            secret: options.secret.as_ref(),
            now: now_millis(),
            age_max: options.queue_age_max,
            frame_bytes_max: self.0.bus.payload_bytes_max(),
        };
        let mut dropped = 0;
        let batch = self.queue().take(&limits, &mut dropped);
        add(&self.0.counters.unsent, dropped);
        batch
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkEvents {
    /// What is heard next; `None` when the bus is closed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            match self.feed.next().await? {
                Arrival::Message { topic, payload } => self.hear(topic, &payload),
                Arrival::Interrupted => self.pending.push_back(LinkEvent::Interrupted),
            }
        }
    }

    /// What is heard already, without waiting.
    pub fn try_next(&mut self) -> Option<LinkEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            match self.feed.try_next()? {
                Arrival::Message { topic, payload } => self.hear(topic, &payload),
                Arrival::Interrupted => self.pending.push_back(LinkEvent::Interrupted),
            }
        }
    }

    fn hear(&mut self, topic: Topic, bytes: &Bytes) {
        let Shared { options, counters, seen, .. } = &*self.link.0;
        let (header, bundle) = match frame::decode(options.secret.as_ref(), &topic, bytes) {
            Ok(frame) => frame,
            Err(NoFrame::Garbage) => return add(&counters.garbage, 1),
            Err(NoFrame::Foreign) => return add(&counters.foreign, 1),
            Err(NoFrame::Forged) => return add(&counters.forged, 1),
        };
        let Header { origin, sent, .. } = header;
        if origin == options.node {
            return;
        }
        if now_millis().abs_diff(sent) > options.clock_difference_max.as_millis() as u64 {
            return add(&counters.stale, bundle.payloads());
        }
        let Verdict { missing, repeated } = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.judge(&topic, &header, bundle.payloads(), Instant::now())
        };
        add(&counters.repeated, repeated);
        add(&counters.heard, bundle.payloads() - repeated);
        if missing > 0 {
            add(&counters.missed, missing);
            self.pending.push_back(LinkEvent::Missed { topic: topic.clone(), origin });
        }
        let fresh = bundle.skip(repeated as usize);
        if topic == options.beats {
            fresh.for_each(|beat| self.hear_beat(origin, sent, beat));
        } else {
            let message = |payload| LinkEvent::Message { topic: topic.clone(), origin, sent, payload };
            self.pending.extend(fresh.map(message));
        }
    }

    fn hear_beat(&mut self, origin: NodeId, sent: i64, beat: Bytes) {
        let Some((payload, told)) = decode_beat(beat) else { return add(&self.link.0.counters.garbage, 1) };
        self.pending.push_back(LinkEvent::Beat { origin, sent, payload });
        self.compare(origin, told);
    }

    /// Compares what an origin says it has sent with what has arrived.
    fn compare(&mut self, origin: NodeId, told: Vec<(Topic, u64)>) {
        let Shared { counters, seen, bus, outlet, .. } = &*self.link.0;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (topic, number) in told {
            if bus.is_subscribed(&topic, outlet) && seen.promise(&topic, origin, number, Instant::now()) {
                add(&counters.missed, 1);
                self.pending.push_back(LinkEvent::Missed { topic, origin });
            }
        }
    }
}

fn encode_beat(payload: &[u8], told: impl Iterator<Item = (Topic, u64)>) -> Vec<u8> {
    let mut beat = BytesMut::with_capacity(payload.len() + 1024);
    beat.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    beat.put_slice(payload);
    for (topic, number) in told {
        let name = topic.as_str().as_bytes();
        beat.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
        beat.put_slice(name);
        beat.put_u64(number);
    }
    beat.into()
}

fn decode_beat(mut beat: Bytes) -> Option<(Bytes, Vec<(Topic, u64)>)> {
    let len = beat.try_get_u32().ok()? as usize;
    if len > beat.len() {
        return None;
    }
    let payload = beat.split_to(len);
    let mut told = Vec::new();
    while beat.has_remaining() {
        let len = usize::from(beat.try_get_u16().ok()?);
        if len > beat.len() {
            return None;
        }
        let name = beat.split_to(len);
        let topic = Topic::new(std::str::from_utf8(&name).ok()?).ok()?;
        told.push((topic, beat.try_get_u64().ok()?));
    }
    Some((payload, told))
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
