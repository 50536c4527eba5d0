//! The server's settings as the hub's configuration.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use outspoke_hub::{
    CompressionConfig, DrainConfig, Durability, HeartbeatConfig, HubConfig, OriginPolicy, Publishers,
    RoomClass, RoomClasses, RoomName, SlowClient, TcpConfig, TenantPolicy,
};
use outspoke_store::Retention;

use crate::config::settings::{self, Direct, Rooms};
use crate::config::{Config, kind};
use crate::limits::DescriptorLimit;

/// Which web pages may connect: those that may with a cookie may at all.
fn origins(settings: &Config) -> OriginPolicy {
    let with_cookie = settings.auth.cookie_origins.iter().filter_map(|origin| origin.parse().ok());
    let mut policy = OriginPolicy::allowing(settings.origins.allowed.iter().cloned().chain(with_cookie));
    (policy.null, policy.absent) = (settings.origins.null, settings.origins.absent);
    policy
}

/// What the hub is told. Settings were checked one by one and against each other when they were loaded.
pub(super) fn config(settings: &Config, descriptors: DescriptorLimit) -> anyhow::Result<HubConfig> {
    let Config {
        server,
        limits,
        rate,
        rooms,
        store,
        analytics,
        inspect,
        tenants,
        compression,
        heartbeat,
        drain,
        ..
    } = settings;
    let default_room = match rooms.default.as_str() {
        "" => None,
        name => {
            Some(RoomName::new(name, limits.room_name_bytes_max).context("rooms.default is no room name")?)
        }
    };
    let hub = HubConfig {
        shards: server.shards,
        default_room,
        heartbeat: HeartbeatConfig {
            ping_interval: heartbeat.ping_interval,
            pong_timeout: silence_max(server.read_timeout, heartbeat),
        },
        write_timeout: server.write_timeout,
        drain: DrainConfig {
            batch: drain.batch,
            interval: drain.interval,
            spread: drain.spread,
            reconnect_after: drain.reconnect_after,
            grace: drain.grace,
            target: drain.target.as_str().into(),
        },
        message_timeout: limits.message_timeout,
        connections_per_address_max: limits.connections_per_address_max,
        connections_per_user_max: limits.connections_per_user_max,
        unauthenticated_max: limits.unauthenticated_max,
        unauthenticated_per_address_max: limits.unauthenticated_per_address_max,
        rate: rate.of_hub(),
        message_bytes_max: limits.message_bytes_max,
        content_chars_max: limits.content_chars_max,
        username_chars_max: limits.username_chars_max,
        user_id_bytes_max: limits.user_id_bytes_max,
        room_name_bytes_max: limits.room_name_bytes_max,
        rooms_per_client_max: limits.rooms_per_client_max,
        rooms_max: limits.rooms_max,
        rulings_max: limits.rulings_max,
        connections_max: descriptors.connections(server.connections_max),
        outbox_bytes_max: limits.outbox_bytes_max,
        inbox_bytes_max: limits.inbox_bytes_max,
        rooms: classes(rooms),
        replay_bytes_max: limits.replay_bytes_max,
        history_cache_bytes_max: limits.history_cache_bytes_max,
        history_memory_bytes_max: limits.history_memory_bytes_max,
        store_queue_bytes_max: limits.store_queue_bytes_max,
        store_timeout: store.timeout,
        typing_timeout: rooms.typing_timeout,
        analytics: analytics.enabled,
        remembered_messages_max: inspect.messages_max,
        remembered_events_max: inspect.events_max,
        slow_down: inspect.slow,
        origins: origins(settings),
        // Those of the settings, and those that the HTTP API has put.
        tenants: TenantPolicy::Known,
        tenant_quotas: super::tenants::quotas(tenants),
        compression: CompressionConfig {
            enabled: compression.enabled,
            bytes_min: compression.min_bytes,
            level: u32::try_from(compression.level).unwrap_or(1),
        },
        // The listener has both, and its sockets inherit them.
        tcp: TcpConfig { send_buffer_bytes: 0, nodelay: false },
        ..HubConfig::default()
    };
    hub.validate()?;
    Ok(hub)
}

fn classes(rooms: &Rooms) -> RoomClasses {
    let unmatched = class(&rooms.unmatched());
    RoomClasses {
        classes: rooms.classes.iter().map(|settings| Arc::new(class(settings))).collect(),
        direct: Arc::new(direct(&rooms.direct, unmatched.clone())),
        default: Arc::new(unmatched),
    }
}

fn class(settings: &settings::RoomClass) -> RoomClass {
    RoomClass {
        pattern: settings.pattern.as_str().into(),
        durability: durability(settings.durability),
        // The hub wants no name for its first store.
        store: (!settings.store.is_empty()).then(|| settings.store.as_str().into()),
        history: retention(settings.history_messages, settings.history_bytes, settings.history_age),
        presence: settings.presence,
        announce: settings.announce,
        announce_members_max: settings.announce_members_max,
        crowd_interval: settings.crowd_interval,
        leave_grace: settings.leave_grace,
        publishers: publishers(settings.publishers),
        amendments: settings.amendments,
        receipts: settings.receipts,
        receipts_members_max: settings.receipts_members_max,
        slow_client: slow_client(settings.slow_client),
        members_max: settings.members_max,
        message_bytes_max: settings.message_bytes_max,
    }
}

/// Private conversations: as other rooms, but for what has settings of its own, and what makes no sense between two.
fn direct(settings: &Direct, general: RoomClass) -> RoomClass {
    RoomClass {
        pattern: "direct".into(),
        durability: durability(settings.durability),
        // The hub wants no name for its first store.
        store: (!settings.store.is_empty()).then(|| settings.store.as_str().into()),
        history: retention(settings.history_messages, settings.history_bytes, settings.history_age),
        announce: false,
        publishers: Publishers::Members,
        amendments: settings.amendments,
        receipts: settings.receipts,
        // As many members as devices; who they are is known anyway.
        members_max: 0,
        message_bytes_max: settings.message_bytes_max,
        ..general
    }
}

fn retention(messages: usize, bytes: usize, age: Duration) -> Retention {
    Retention { records_max: messages as u64, bytes_max: bytes as u64, age_max: age }
}

fn durability(level: kind::Durability) -> Durability {
    match level {
        kind::Durability::None => Durability::None,
        kind::Durability::Memory => Durability::Memory,
        kind::Durability::Stored => Durability::Stored,
    }
}

fn publishers(role: kind::Publishers) -> Publishers {
    match role {
        kind::Publishers::Members => Publishers::Members,
        kind::Publishers::Server => Publishers::Server,
    }
}

/// How long a connection may be silent: both settings say so, and the shorter one counts. Without pings, silence
/// is no sign of death, and only the read time-out is left.
fn silence_max(read_timeout: Duration, heartbeat: &settings::Heartbeat) -> Duration {
    let pong_timeout =
        if heartbeat.ping_interval.is_zero() { Duration::ZERO } else { heartbeat.pong_timeout };
    match (read_timeout, pong_timeout) {
        (read, pong) if read.is_zero() => pong,
        (read, pong) if pong.is_zero() => read,
        (read, pong) => read.min(pong),
    }
}

fn slow_client(policy: kind::SlowClient) -> SlowClient {
    match policy {
        kind::SlowClient::Disconnect => SlowClient::Disconnect,
        kind::SlowClient::DropOldest => SlowClient::DropOldest,
        kind::SlowClient::DropNewest => SlowClient::DropNewest,
        kind::SlowClient::Conflate => SlowClient::Conflate,
        kind::SlowClient::Resync => SlowClient::Resync,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hub(settings: &Config) -> HubConfig {
        config(settings, DescriptorLimit { soft: 4096, hard: 4096 }).unwrap()
    }

    #[test]
    fn shipped_settings_store_the_lobby_and_conversations_and_remember_other_rooms_for_minutes() {
        let rooms = hub(&Config::default()).rooms;
        let lobby = rooms.of("lobby");
        assert_eq!((lobby.durability, lobby.history.records_max), (Durability::Stored, 1000));
        assert_eq!(lobby.history.age_max, Duration::from_secs(7 * 24 * 3600));
        let other = rooms.of("somewhere");
        assert_eq!((other.durability, other.history.records_max), (Durability::Memory, 100));
        assert_eq!((other.leave_grace, other.store.as_ref()), (Duration::from_secs(5), None));
        let direct = &rooms.direct;
        assert_eq!((direct.durability, direct.history.records_max), (Durability::Stored, 10_000));
        assert!(!direct.announce);
    }

    #[test]
    fn classes_keep_their_order_and_name_their_stores() {
        let mut settings = Config::default();
        let mut named = settings.rooms.unmatched();
        named.pattern = "chat:*".to_owned();
        named.store = "archive".to_owned();
        named.publishers = kind::Publishers::Server;
        settings.rooms.classes.insert(0, named);
        let rooms = hub(&settings).rooms;
        let patterns: Vec<_> = rooms.classes.iter().map(|class| class.pattern.as_str()).collect();
        assert_eq!(patterns, ["chat:*", "lobby"]);
        assert_eq!(rooms.of("chat:a").store.as_deref(), Some("archive"));
        assert_eq!(rooms.of("chat:a").publishers, Publishers::Server);
    }

    /// An announcement-only hub still lets its users talk to each other, if they may at all.
    #[test]
    fn conversations_do_not_inherit_what_makes_no_sense_between_two() {
        let mut settings = Config::default();
        settings.rooms.publishers = kind::Publishers::Server;
        settings.rooms.members_max = 1;
        settings.rooms.slow_client = kind::SlowClient::Resync;
        let direct = hub(&settings).rooms.direct;
        assert_eq!((direct.publishers, direct.members_max), (Publishers::Members, 0));
        assert_eq!(direct.slow_client, SlowClient::Resync);
    }
}
