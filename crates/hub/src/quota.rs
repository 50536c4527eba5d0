//! What a tenant may use, and what it uses.
//!
//! One [`Meter`] per tenant, asked from every shard before something is taken: all of it is atomics, and a quota that
//! changes counts from the next question on. What is refused has no effect at all. How tenants come and go is in
//! [`crate::tenant`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ecow::eco_format;
use outspoke_protocol::{ErrorCode, Refusal};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::rate::bucket::{Bucket, Clock, Moment, Rate};

/// What a tenant may use. Zero is always no limit; what the whole hub may use counts besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    /// Connections. More are refused with 503 before the upgrade.
    pub connections_max: usize,
    /// Rooms that have members, or messages in memory. More are answered with `quota_exceeded`.
    pub rooms_max: usize,
    /// Messages that are published, by clients and by the application; up to one second's worth at once. More are
    /// answered with `quota_exceeded`, which says when to try again.
    pub messages_per_second: u32,
    /// Bytes of messages in the stores. What would be more is answered with `quota_exceeded`.
    pub stored_bytes_max: u64,
}

/// What a tenant uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// Connections, those included that are just being attached or closed.
    pub connections: usize,
    /// Rooms that have members, or messages in memory.
    pub rooms: usize,
    /// Bytes of messages in the stores; `None` when they could not be counted.
    pub stored_bytes: Option<u64>,
}

/// How soon the stores are counted again after a publish was refused for what they hold: trimming by age, and erasing, may
/// have made room.
const RECOUNT: Duration = Duration::from_secs(10);

/// A tenant's quotas and what it uses of them.
#[derive(Debug)]
pub(crate) struct Meter {
    connections_max: AtomicUsize,
    rooms_max: AtomicUsize,
    messages_per_second: AtomicU32,
    stored_bytes_max: AtomicU64,
    connections: AtomicUsize,
    /// A connection has ended.
    left: Notify,
    messages: Bucket,
    /// Of every kind, not only messages.
    frames: Bucket,
    clock: Clock,
    began: Instant,
    /// In the stores.
    stored: AtomicU64,
    /// On the way there.
    on_the_way: AtomicU64,
    counted: AtomicBool,
    /// When the stores were last counted, in milliseconds since `began`, and 1 at least; 0: never.
    counted_at: AtomicU64,
    /// The tenant is being removed: nothing more is taken.
    closed: AtomicBool,
}

/// A quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Rooms {
        max: usize,
    },
    Rate {
        max: u32,
        retry_after: Duration,
    },
    Stored {
        max: u64,
    },
    /// The tenant is being removed.
    Removed,
}

impl From<Exceeded> for Refusal {
    fn from(exceeded: Exceeded) -> Self {
        match exceeded {
            Exceeded::Rooms { max } => {
                let detail = eco_format!("{max} rooms are in use, as many as there may be; leave one first");
                Self::new(ErrorCode::QuotaExceeded, detail)
            }
            Exceeded::Rate { max, retry_after } => {
                let detail = eco_format!(
                    "at most {max} messages per second may be published here; nobody got this, send it again later"
                );
                Self { retry_after: Some(retry_after), ..Self::new(ErrorCode::QuotaExceeded, detail) }
            }
            Exceeded::Stored { max } => {
                let detail = eco_format!(
                    "the {max} bytes that may be stored here are used; nobody got this: older messages must go first"
                );
                Self::new(ErrorCode::QuotaExceeded, detail)
            }
            Exceeded::Removed => Self::new(ErrorCode::TenantNotFound, "the tenant is being removed"),
        }
    }
}

impl Meter {
    pub(crate) fn new(quotas: Quotas) -> Self {
        let meter = Self {
            connections_max: AtomicUsize::new(0),
            rooms_max: AtomicUsize::new(0),
            messages_per_second: AtomicU32::new(0),
            stored_bytes_max: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            left: Notify::new(),
            messages: Bucket::default(),
            frames: Bucket::default(),
            clock: Clock::new(),
            began: Instant::now(),
            stored: AtomicU64::new(0),
            on_the_way: AtomicU64::new(0),
            counted: AtomicBool::new(false),
            counted_at: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        };
        meter.set(quotas);
        meter
    }

    pub(crate) fn set(&self, quotas: Quotas) {
        let Quotas { connections_max, rooms_max, messages_per_second, stored_bytes_max } = quotas;
        self.connections_max.store(connections_max, Ordering::Relaxed);
        self.rooms_max.store(rooms_max, Ordering::Relaxed);
        self.messages_per_second.store(messages_per_second, Ordering::Relaxed);
        self.stored_bytes_max.store(stored_bytes_max, Ordering::Relaxed);
    }

    pub(crate) fn quotas(&self) -> Quotas {
        Quotas {
            connections_max: self.connections_max.load(Ordering::Relaxed),
            rooms_max: self.rooms_max.load(Ordering::Relaxed),
            messages_per_second: self.messages_per_second.load(Ordering::Relaxed),
            stored_bytes_max: self.stored_bytes_max.load(Ordering::Relaxed),
        }
    }

    /// Takes nothing more from here on, or again.
    pub(crate) fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    // ---- connections ----

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Counts one connection more; if there may be none, says how many there may be.
    pub(crate) fn connect(&self) -> Result<(), usize> {
        let max = self.connections_max.load(Ordering::Relaxed);
        let one_more = |count| (max == 0 || count < max).then_some(count + 1);
        self.connections
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more)
            .map(|_| ())
            .map_err(|_| max)
    }

    /// Counts one connection less.
    pub(crate) fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
        self.left.notify_waiters();
    }

    /// Waits until another connection has ended.
    pub(crate) async fn somebody_left(&self) {
        self.left.notified().await;
    }

    // ---- rooms ----

    /// Whether there may be one more than `count`.
    pub(crate) fn room(&self, count: usize) -> Result<(), Exceeded> {
        let max = self.rooms_max.load(Ordering::Relaxed);
        if max == 0 || count < max { Ok(()) } else { Err(Exceeded::Rooms { max }) }
    }

    // ---- messages ----

    /// Takes one message's place in the rate.
    pub(crate) fn message(&self) -> Result<(), Exceeded> {
        if self.is_closed() {
            return Err(Exceeded::Removed);
        }
        let max = self.messages_per_second.load(Ordering::Relaxed);
        if max == 0 {
            return Ok(());
        }
        let taken = self.messages.take(Rate::per_second(max, max), self.clock.now());
        taken.map_err(|retry_after| Exceeded::Rate { max, retry_after })
    }

    /// Takes one frame's place in the rate of what the tenant's clients send.
    pub(crate) fn frame(&self, rate: Rate, now: Moment) -> Result<(), Duration> {
        self.frames.take(rate, now)
    }

    // ---- stored bytes ----

    /// Takes room for a message in a store.
    pub(crate) fn store(self: &Arc<Self>, bytes: u64) -> Result<Charge, Exceeded> {
        let max = self.stored_bytes_max.load(Ordering::Relaxed);
        let before = self.on_the_way.fetch_add(bytes, Ordering::AcqRel);
        let charge = Charge { meter: Arc::clone(self), bytes };
        let used = self.stored.load(Ordering::Acquire) + before + bytes;
        if max > 0 && used > max { Err(Exceeded::Stored { max }) } else { Ok(charge) }
    }

    /// What is in the stores has changed otherwise than by a charge.
    pub(crate) fn stored_changed(&self, before: u64, after: u64) {
        let changed = |stored: u64| Some((stored + after).saturating_sub(before));
        let _ = self.stored.fetch_update(Ordering::AcqRel, Ordering::Relaxed, changed);
    }

    /// Bytes in the stores, if they have been counted.
    pub(crate) fn stored(&self) -> Option<u64> {
        self.counted.load(Ordering::Acquire).then(|| self.stored.load(Ordering::Acquire))
    }

    /// Whether there is a limit, and the stores have not been counted yet.
    pub(crate) fn is_uncounted(&self) -> bool {
        self.stored_bytes_max.load(Ordering::Relaxed) > 0 && !self.counted.load(Ordering::Acquire)
    }

    /// So many bytes were found in the stores. What was written meanwhile may count twice or not at all until they are
    /// counted again.
    pub(crate) fn found_stored(&self, bytes: u64) {
        self.stored.store(bytes, Ordering::Release);
        self.counted.store(true, Ordering::Release);
    }

    /// Whether the stores should be counted, again or for the first time: true once, for whoever then does.
    pub(crate) fn should_count(&self) -> bool {
        let now = (self.began.elapsed().as_millis() as u64).max(1);
        let due = |at: u64| (at == 0 || at + RECOUNT.as_millis() as u64 <= now).then_some(now);
        self.counted_at.fetch_update(Ordering::AcqRel, Ordering::Relaxed, due).is_ok()
    }

    /// The stores were not counted after all.
    pub(crate) fn not_counted(&self) {
        self.counted_at.store(0, Ordering::Release);
    }
}

/// Room in the stores for a message on its way, given back unless it gets there.
#[derive(Debug)]
pub(crate) struct Charge {
    meter: Arc<Meter>,
    bytes: u64,
}

impl Charge {
    /// The message is there.
    pub(crate) fn keep(self) {
        self.meter.stored.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.on_the_way.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn meter(quotas: Quotas) -> Arc<Meter> {
        Arc::new(Meter::new(quotas))
    }

    /// A burst of one second's worth, then exactly the rate; whoever waits as told gets through.
    #[tokio::test(start_paused = true)]
    async fn rate_lets_a_seconds_worth_through_and_then_one_per_interval() {
        for max in [1, 3, 10, 1000] {
            let meter = meter(Quotas { messages_per_second: max, ..Quotas::default() });
            for number in 0..max {
                assert_eq!(meter.message(), Ok(()), "{number} of {max}");
            }
            for _ in 0..3 {
                let Err(Exceeded::Rate { retry_after, .. }) = meter.message() else {
                    panic!("more than {max}")
                };
                let interval = Duration::from_secs(1) / max;
                // What was waited too long, to the millisecond, is saved up.
                let millisecond = Duration::from_millis(1);
                assert!(retry_after + 3 * millisecond >= interval && retry_after <= interval + millisecond);
                tokio::time::advance(retry_after).await;
                assert_eq!(meter.message(), Ok(()), "after {retry_after:?}");
            }
            tokio::time::advance(Duration::from_secs(3600)).await;
            let passed = (0..2 * max + 2).filter(|_| meter.message().is_ok()).count();
            assert_eq!(passed, max as usize, "no more is saved up than a second's worth");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changed_quota_counts_at_once() {
        let meter = meter(Quotas::default());
        assert!((0..10_000).all(|_| meter.message().is_ok()));
        meter.set(Quotas { messages_per_second: 2, connections_max: 1, ..Quotas::default() });
        assert_eq!((0..10).filter(|_| meter.message().is_ok()).count(), 2);
        assert_eq!((meter.connect(), meter.connect()), (Ok(()), Err(1)));
        meter.set(Quotas::default());
        assert!((0..10_000).all(|_| meter.message().is_ok()));
        meter.close(true);
        assert_eq!(meter.message(), Err(Exceeded::Removed));
    }

    #[test]
    fn stored_bytes_count_from_the_moment_they_are_on_the_way_and_come_back_if_they_do_not_arrive() {
        let meter = meter(Quotas { stored_bytes_max: 100, ..Quotas::default() });
        assert_eq!(meter.stored(), None);
        meter.found_stored(40);
        let first = meter.store(30).unwrap();
        let second = meter.store(30).unwrap();
        assert_eq!(meter.store(1).unwrap_err(), Exceeded::Stored { max: 100 });
        drop(first);
        second.keep();
        assert_eq!(meter.stored(), Some(70));
        meter.store(30).unwrap().keep();
        assert!(meter.store(1).is_err());
        meter.stored_changed(90, 0);
        assert_eq!(meter.stored(), Some(10));
        // The count was less exact than what was then taken from it.
        meter.stored_changed(90, 0);
        assert_eq!(meter.stored(), Some(0));
    }

    #[test]
    fn many_threads_never_take_more_than_there_is() {
        let meter = meter(Quotas { connections_max: 100, stored_bytes_max: 1000, ..Quotas::default() });
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let _ = meter.connect().map(|()| taken.fetch_add(1, Ordering::Relaxed));
                        let _ = meter.store(7).map(Charge::keep);
                    }
                });
            }
        });
        assert_eq!((taken.into_inner(), meter.connections()), (100, 100));
        meter.found_stored(meter.stored.load(Ordering::Relaxed));
        assert!(meter.stored().unwrap() <= 1000 && meter.stored().unwrap() > 1000 - 7 * 5);
    }
}
