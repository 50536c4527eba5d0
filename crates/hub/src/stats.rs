//! What the hub counts.
//!
//! One block of counters per shard, written by that shard alone, per batch; summed up when somebody looks.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Messages and control frames read.
    frames_read,
    /// Bytes read.
    bytes_read,
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
