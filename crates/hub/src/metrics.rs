//! What operators' tools ask of a hub: one look at everything that it counts and measures.
//!
//! Taken now and then, by whoever scrapes; it costs a look at each shard's counters, and one at each client for what waits.
//! Nothing here is named for a tool: how it is written down is the server's.

use std::sync::atomic::{AtomicU64, Ordering};

use ecow::EcoString;
use outspoke_protocol::{Disconnect, ErrorCode};

use crate::cluster::ClusterCounts;
use crate::hub::Hub;
use crate::keeper::Keeper;
use crate::stats::{Distribution, Stats};

/// Everything that a hub counts and measures, of all tenants, since it started.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// Clients connected now.
    pub clients: usize,
    /// Connections now that have not said yet who they are.
    pub unauthenticated: usize,
    /// Clients now for which something waits, because they read more slowly than it comes.
    pub clients_behind: usize,
    /// Bytes that wait for clients now.
    pub outbox_bytes: usize,
    /// Rooms that this hub holds now.
    pub rooms: usize,
    /// Whether publishing clients are held back now, because a shard is behind.
    pub congested: bool,
    /// What was counted.
    pub stats: Stats,
    /// Requests refused, by their code; every code once.
    pub refused: Vec<(ErrorCode, u64)>,
    /// Answers to upgrades, by their status; every status once.
    pub upgrades: Vec<(u16, u64)>,
    /// Credentials not accepted, by the code; every code once.
    pub credentials_refused: Vec<(ErrorCode, u64)>,
    /// Messages that the application has published, beside those of [clients](Stats::published).
    pub published_by_application: u64,
    /// Connections that the hub has ended, by their code; every code once.
    pub closed: Vec<(Disconnect, u64)>,
    /// From when the hub had a message until a shard had handed it to the sockets or queues of all its members: seconds.
    pub deliveries: Distribution,
    /// Each shard's.
    pub shards: Vec<ShardMetrics>,
    /// Each store's.
    pub stores: Vec<StoreMetrics>,
    /// Of a node of a cluster.
    pub cluster: Option<ClusterMetrics>,
}

/// What there is to say of a shard.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShardMetrics {
    /// Bytes of commands that wait for it now.
    pub inbox_bytes: usize,
    /// How long its turns take: what arrives during one waits for its end. Seconds.
    pub turns: Distribution,
}

/// What there is to say of a store and its keeper.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoreMetrics {
    /// Its name in the configuration.
    pub name: EcoString,
    /// Bytes that wait to be written now.
    pub queue_bytes: usize,
    /// Messages written.
    pub messages: u64,
    /// Messages refused, because they could not be written.
    pub refused: u64,
    /// Parts of rooms' logs read.
    pub log_reads: u64,
    /// Messages of other nodes that were read from the store rather than heard of over the bus.
    pub repairs: u64,
    /// Times that a room's members were told that messages are not to be had.
    pub gaps: u64,
    /// How long a commit takes, tries again included: seconds.
    pub commits: Distribution,
    /// How many messages become durable together.
    pub commit_messages: Distribution,
    /// From when a message came until its acknowledgement was on its way: seconds.
    pub acknowledgements: Distribution,
}

/// What there is to say of a node of a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterMetrics {
    /// Nodes heard of now, this one included.
    pub nodes: usize,
    /// What was counted.
    pub counts: ClusterCounts,
}

impl Hub {
    /// What the hub counts and measures, of all tenants.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let inner = &self.inner;
        let (mut clients_behind, mut outbox_bytes) = (0, 0);
        inner.registry.for_each(|client| {
            let queued = client.queued_bytes();
            clients_behind += usize::from(queued > 0);
            outbox_bytes += queued;
        });
        let mut metrics = Metrics {
            clients: self.client_count(),
            unauthenticated: self.unauthenticated_count(),
            clients_behind,
            outbox_bytes,
            rooms: inner.tenants.rooms(),
            congested: inner.congestion.is_congested(),
            stats: self.stats(),
            refused: ErrorCode::ALL.iter().map(|code| (*code, 0)).collect(),
            closed: Disconnect::ALL.iter().map(|code| (*code, 0)).collect(),
            upgrades: inner.doors.upgrades(),
            credentials_refused: inner.doors.credentials(),
            published_by_application: inner.doors.published.load(Ordering::Relaxed),
            deliveries: Distribution::default(),
            shards: Vec::with_capacity(inner.shards.len()),
            stores: inner.keepers.iter().map(|keeper| keeper.metrics()).collect(),
            cluster: self.cluster_counts().map(|counts| ClusterMetrics { nodes: self.nodes().len(), counts }),
        };
        for shard in &inner.shards {
            let measures = &shard.measures;
            measures.add_refused(&mut metrics.refused);
            measures.add_closed(&mut metrics.closed);
            measures.deliveries.add_to(&mut metrics.deliveries);
            let turns = measures.turns.distribution();
            metrics.shards.push(ShardMetrics { inbox_bytes: shard.inbox.bytes(), turns });
        }
        metrics
    }
}

impl Keeper {
    fn metrics(&self) -> StoreMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        StoreMetrics {
            name: self.name.clone(),
            queue_bytes: self.queue_bytes(),
            messages: read(&counters.committed),
            refused: read(&counters.refused),
            log_reads: read(&counters.log_reads),
            repairs: read(&counters.repairs),
            gaps: read(&counters.gaps),
            commits: counters.commit_times.distribution(),
            commit_messages: counters.commit_messages.distribution(),
            acknowledgements: counters.acknowledgements.distribution(),
        }
    }
}
