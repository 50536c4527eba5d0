//! What the hub counts and measures.
//!
//! One block per shard, written by that shard alone, per batch; summed up when somebody looks. What operators get of it is
//! [`Metrics`](crate::Metrics).

mod histogram;

use std::sync::atomic::{AtomicU64, Ordering};

use outspoke_protocol::{Disconnect, ErrorCode, Timestamp};

pub use self::histogram::Distribution;
pub(crate) use self::histogram::Histogram;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One shard's counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// What happened since the hub started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.load(Ordering::Relaxed);)*
            }
        }
    };
}

counters! {
    /// Connections taken over.
    connections_opened,
    /// Connections ended, for whatever reason.
    connections_closed,
    /// Of those: the client said goodbye.
    connections_closed_by_peer,
    /// Of those: the stream ended or failed without a goodbye.
    connections_lost,
    /// Rooms come into.
    joins,
    /// Of those: by clients that had been there and got everything that they had missed.
    recoveries,
    /// Of those: by clients that had been there and could not get everything.
    recoveries_failed,
    /// Messages and control frames read.
    frames_read,
    /// Bytes read.
    bytes_read,
    /// Messages of clients accepted.
    published,
    /// Messages handed to a member's socket or queue.
    deliveries,
    /// Writes those took.
    delivery_writes,
    /// Bytes written or queued by deliveries.
    bytes_delivered,
    /// Messages a slow member did not get.
    deliveries_skipped,
    /// Clients closed because their queue overflowed or a write timed out.
    slow_clients_closed,
    /// Clients closed because nothing came from them.
    heartbeats_missed,
    /// Clients replaced by a newer connection with the same identity.
    clients_replaced,
    /// Requests refused.
    requests_refused,
    /// Messages and control frames that nobody looked into, because there were too many.
    frames_refused,
    /// Clients closed because they went on after being told that they are too fast.
    clients_rate_limited,
    /// Connections closed because the peer broke the protocol.
    protocol_errors,
    /// Panics contained.
    panics,
    /// Clients held back because shards were behind.
    publishers_throttled,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What a shard counts by its reason, and how long it takes.
#[derive(Debug)]
pub(crate) struct Measures {
    /// Requests refused, in the order of [`ErrorCode::ALL`].
    refused: Box<[AtomicU64]>,
    /// Connections that this side has ended, in the order of [`Disconnect::ALL`].
    closed: Box<[AtomicU64]>,
    /// How long turns take: what arrives during one waits for its end.
    pub(crate) turns: Histogram,
    /// From when the hub had a message until it was handed to the sockets or queues of all of the shard's members.
    pub(crate) deliveries: Histogram,
}

impl Default for Measures {
    fn default() -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            refused: zeros(ErrorCode::ALL.len()),
            closed: zeros(Disconnect::ALL.len()),
            turns: Histogram::of_times(),
            deliveries: Histogram::of_times(),
        }
    }
}

impl Measures {
    pub(crate) fn refused(&self, code: ErrorCode) {
        if let Some(place) = ErrorCode::ALL.iter().position(|known| *known == code) {
            count(&self.refused[place], 1);
        }
    }

    pub(crate) fn closed(&self, disconnect: Disconnect) {
        if let Some(place) = Disconnect::ALL.iter().position(|known| *known == disconnect) {
            count(&self.closed[place], 1);
        }
    }

    /// Adds how often each code was given to a table in the order of [`ErrorCode::ALL`].
    pub(crate) fn add_refused(&self, table: &mut [(ErrorCode, u64)]) {
        add(&self.refused, table);
    }

    /// Adds how often each code was given to a table in the order of [`Disconnect::ALL`].
    pub(crate) fn add_closed(&self, table: &mut [(Disconnect, u64)]) {
        add(&self.closed, table);
    }
}

/// Statuses with which an upgrade is answered; what is not among them counts as 500.
const STATUSES: [u16; 11] = [101, 400, 401, 403, 404, 405, 426, 429, 500, 503, 505];

/// What happens before a connection has a shard, or without one.
#[derive(Debug)]
pub(crate) struct Doors {
    /// Messages that the application has published.
    pub(crate) published: AtomicU64,
    upgrades: [AtomicU64; STATUSES.len()],
    /// Credentials not accepted, in the order of [`ErrorCode::ALL`].
    credentials: Box<[AtomicU64]>,
    /// The minute after that in which a refused origin was last told of.
    origin_told: AtomicU64,
}

impl Default for Doors {
    fn default() -> Self {
        Self {
            published: AtomicU64::new(0),
            upgrades: [const { AtomicU64::new(0) }; STATUSES.len()],
            credentials: ErrorCode::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            origin_told: AtomicU64::new(0),
        }
    }
}

impl Doors {
    /// Whether a refused origin may be told of: once a minute.
    pub(crate) fn may_tell_of_origin(&self, now: Timestamp) -> bool {
        let minute = now.as_millis().unsigned_abs() / 60_000 + 1;
        self.origin_told.swap(minute, Ordering::Relaxed) != minute
    }

    pub(crate) fn answered(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status);
        let place = place.or_else(|| STATUSES.iter().position(|known| *known == 500));
        if let Some(place) = place {
            count(&self.upgrades[place], 1);
        }
    }

    pub(crate) fn credential_refused(&self, code: ErrorCode) {
        if let Some(place) = ErrorCode::ALL.iter().position(|known| *known == code) {
            count(&self.credentials[place], 1);
        }
    }

    pub(crate) fn upgrades(&self) -> Vec<(u16, u64)> {
        let counted = self.upgrades.iter().map(|counter| counter.load(Ordering::Relaxed));
        STATUSES.into_iter().zip(counted).collect()
    }

    pub(crate) fn credentials(&self) -> Vec<(ErrorCode, u64)> {
        let mut table: Vec<_> = ErrorCode::ALL.iter().map(|code| (*code, 0)).collect();
        add(&self.credentials, &mut table);
        table
    }
}

fn add<T>(counters: &[AtomicU64], table: &mut [(T, u64)]) {
    for (counter, (_, sum)) in counters.iter().zip(table) {
        *sum += counter.load(Ordering::Relaxed);
    }
}
