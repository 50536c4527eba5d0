//! The hub's families.

use std::fmt;
use std::sync::Arc;

use outspoke_hub::{ClusterMetrics, Hub, Metrics, StoreMetrics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::family::Families;
use crate::http::api::refusals::Refusals;

/// What the hub counts and measures.
#[derive(Debug)]
pub(super) struct HubFamilies {
    pub(super) hub: Hub,
    /// What was refused over HTTP.
    pub(super) refusals: Arc<Refusals>,
}

impl Collector for HubFamilies {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = self.hub.metrics();
        let mut families = Families(encoder);
        connections(&mut families, &metrics)?;
        messages(&mut families, &metrics)?;
        refusals(&mut families, &metrics, &self.refusals)?;
        shards(&mut families, &metrics)?;
        stores(&mut families, &metrics.stores)?;
        match &metrics.cluster {
            Some(cluster) => bus(&mut families, cluster),
            None => Ok(()),
        }
    }
}

fn connections(families: &mut Families<'_>, metrics: &Metrics) -> fmt::Result {
    let stats = &metrics.stats;
    families.gauge("outspoke_clients", "Clients connected", metrics.clients as f64)?;
    families.gauge(
        "outspoke_clients_unauthenticated",
        "Connections that have not said yet who they are",
        metrics.unauthenticated as f64,
    )?;
    families.gauge(
        "outspoke_clients_behind",
        "Clients for which something waits, because they read more slowly than it comes",
        metrics.clients_behind as f64,
    )?;
    families.gauge("outspoke_outbox_bytes", "Bytes that wait for clients", metrics.outbox_bytes as f64)?;
    families.gauge("outspoke_rooms", "Rooms that this server holds", metrics.rooms as f64)?;
    families.counters(
        "outspoke_upgrades",
        "Answers to requests for a WebSocket, by their status",
        metrics.upgrades.iter().map(|(status, count)| ([("status", status.to_string())], *count)),
    )?;
    families.counter("outspoke_connections_opened", "Connections taken over", stats.connections_opened)?;
    let by_server = metrics
        .closed
        .iter()
        .map(|(disconnect, count)| ([("by", "server"), ("reason", disconnect.name())], *count));
    let by_others = [
        ([("by", "client"), ("reason", "goodbye")], stats.connections_closed_by_peer),
        ([("by", "network"), ("reason", "lost")], stats.connections_lost),
    ];
    families.counters(
        "outspoke_connections_closed",
        "Connections ended, by whom and why",
        by_server.chain(by_others),
    )?;
    families.counter(
        "outspoke_protocol_errors",
        "Connections closed for breaking RFC 6455",
        stats.protocol_errors,
    )?;
    families.counter("outspoke_panics", "Panics that were contained to one connection", stats.panics)
}

fn messages(families: &mut Families<'_>, metrics: &Metrics) -> fmt::Result {
    let stats = &metrics.stats;
    families.counters(
        "outspoke_messages",
        "Messages accepted, by who published them",
        [
            ([("from", "client")], stats.published),
            ([("from", "application")], metrics.published_by_application),
        ],
    )?;
    families.counter(
        "outspoke_deliveries",
        "Messages handed to a member's socket or queue",
        stats.deliveries,
    )?;
    families.counter("outspoke_delivery_writes", "Writes that those took", stats.delivery_writes)?;
    families.counter(
        "outspoke_delivered_bytes",
        "Bytes of messages handed to members' sockets or queues",
        stats.bytes_delivered,
    )?;
    families.counter(
        "outspoke_deliveries_skipped",
        "Messages that a member who reads too slowly did not get, and was told so",
        stats.deliveries_skipped,
    )?;
    families.times(
        "outspoke_delivery",
        "From when the server had a message until a shard had handed it to all its members' sockets or queues",
        &metrics.deliveries,
    )?;
    families.counter("outspoke_frames_read", "Frames read from clients", stats.frames_read)?;
    families.counter("outspoke_read_bytes", "Bytes read from clients", stats.bytes_read)?;
    let first = stats.joins.saturating_sub(stats.recoveries + stats.recoveries_failed);
    families.counters(
        "outspoke_joins",
        "Rooms come into: for the first time, back with everything missed (recovered), or without (not_recovered)",
        [
            ([("outcome", "first")], first),
            ([("outcome", "recovered")], stats.recoveries),
            ([("outcome", "not_recovered")], stats.recoveries_failed),
        ],
    )
}

fn refusals(families: &mut Families<'_>, metrics: &Metrics, over_http: &Refusals) -> fmt::Result {
    let stats = &metrics.stats;
    let of_clients = metrics.refused.iter().map(|(code, count)| ("client", *code, *count));
    let over_http = over_http.counts().map(|(code, count)| ("api", code, count));
    families.counters(
        "outspoke_requests_refused",
        "Requests answered with an error, over a connection (client) or over HTTP (api)",
        of_clients
            .chain(over_http)
            .map(|(from, code, count)| ([("from", from), ("error", code.name())], count)),
    )?;
    families.counters(
        "outspoke_credentials_refused",
        "Credentials that were not accepted, or did not come",
        metrics.credentials_refused.iter().map(|(code, count)| ([("error", code.name())], *count)),
    )?;
    families.counter(
        "outspoke_frames_refused",
        "Frames that nobody looked into, because there were too many",
        stats.frames_refused,
    )
}

fn shards(families: &mut Families<'_>, metrics: &Metrics) -> fmt::Result {
    let numbered =
        || metrics.shards.iter().enumerate().map(|(index, shard)| ([("shard", index.to_string())], shard));
    families.times_of(
        "outspoke_shard_turn",
        "How long a shard's turns take: what arrives during one waits for its end",
        numbered().map(|(labels, shard)| (labels, &shard.turns)),
    )?;
    families.gauges(
        "outspoke_shard_inbox_bytes",
        "What waits for a shard",
        numbered().map(|(labels, shard)| (labels, shard.inbox_bytes as f64)),
    )?;
    families.gauge(
        "outspoke_congested",
        "1 while publishing clients are held back, because a shard is behind",
        f64::from(u8::from(metrics.congested)),
    )?;
    families.counter(
        "outspoke_publishers_throttled",
        "Clients held back because a shard was behind",
        metrics.stats.publishers_throttled,
    )
}

fn stores(families: &mut Families<'_>, stores: &[StoreMetrics]) -> fmt::Result {
    let named = || stores.iter().map(|store| ([("store", store.name.as_str())], store));
    families.gauges(
        "outspoke_store_queue_bytes",
        "What waits to be written to a store",
        named().map(|(labels, store)| (labels, store.queue_bytes as f64)),
    )?;
    families.counters(
        "outspoke_store_messages",
        "Messages written to a store",
        named().map(|(labels, store)| (labels, store.messages)),
    )?;
    families.counters(
        "outspoke_store_refused",
        "Messages refused, because they could not be written",
        named().map(|(labels, store)| (labels, store.refused)),
    )?;
    families.counters(
        "outspoke_store_log_reads",
        "Parts of rooms' logs read from a store",
        named().map(|(labels, store)| (labels, store.log_reads)),
    )?;
    families.counters(
        "outspoke_store_repairs",
        "Messages of other nodes read from a store rather than heard of over the bus",
        named().map(|(labels, store)| (labels, store.repairs)),
    )?;
    families.counters(
        "outspoke_store_gaps",
        "Times that a room's members were told that messages are not to be had",
        named().map(|(labels, store)| (labels, store.gaps)),
    )?;
    families.times_of(
        "outspoke_store_commit",
        "How long a store takes to make a group of messages durable, tries again included",
        named().map(|(labels, store)| (labels, &store.commits)),
    )?;
    families.numbers_of(
        "outspoke_store_commit_messages",
        "How many messages become durable together",
        named().map(|(labels, store)| (labels, &store.commit_messages)),
    )?;
    families.times_of(
        "outspoke_acknowledgement",
        "From when the server had a message to store until its acknowledgement was on its way",
        named().map(|(labels, store)| (labels, &store.acknowledgements)),
    )
}

fn bus(families: &mut Families<'_>, cluster: &ClusterMetrics) -> fmt::Result {
    let (counts, link) = (&cluster.counts, &cluster.counts.link);
    families.gauge("outspoke_nodes", "Nodes heard of, this one included", cluster.nodes as f64)?;
    families.gauge("outspoke_bus_queue_bytes", "What waits for the bus", counts.queued_bytes as f64)?;
    families.counter("outspoke_bus_sent", "Frames given to the bus", link.sent)?;
    families.counter("outspoke_bus_heard", "Frames of other nodes heard", link.heard)?;
    families.counter(
        "outspoke_bus_unsent",
        "Frames that waited too long for the bus, or found no room",
        link.unsent,
    )?;
    families.counter(
        "outspoke_bus_missed",
        "Frames of other nodes that did not come; what stored rooms missed is read from the store",
        link.missed,
    )?;
    families.counters(
        "outspoke_bus_ignored",
        "Frames that were not listened to, by the reason",
        [
            ([("reason", "repeated")], link.repeated),
            ([("reason", "garbage")], link.garbage + counts.garbage),
            ([("reason", "foreign")], link.foreign),
            ([("reason", "forged")], link.forged),
            ([("reason", "stale")], link.stale),
        ],
    )
}
