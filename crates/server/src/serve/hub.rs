//! The server's settings as the hub's configuration.

use std::time::Duration;

use anyhow::Context as _;
use outspoke_hub::{CompressionConfig, HeartbeatConfig, HubConfig, RoomClass, RoomClasses, RoomName, SlowClient, TcpConfig};

use crate::config::Config;
use crate::config::kind;
use crate::limits::DescriptorLimit;

/// What the hub is told. Settings were checked one by one and against each other when they were loaded.
pub(super) fn config(settings: &Config, descriptors: DescriptorLimit) -> anyhow::Result<HubConfig> {
    let Config { server, limits, rooms, compression, heartbeat, .. } = settings;
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
        message_bytes_max: limits.message_bytes_max,
        content_chars_max: limits.content_chars_max,
        username_chars_max: limits.username_chars_max,
        user_id_bytes_max: limits.user_id_bytes_max,
        room_name_bytes_max: limits.room_name_bytes_max,
        rooms_per_client_max: limits.rooms_per_client_max,
        rooms_max: limits.rooms_max,
        connections_max: descriptors.connections(server.connections_max),
        outbox_bytes_max: limits.outbox_bytes_max,
        inbox_bytes_max: limits.inbox_bytes_max,
        rooms: RoomClasses::all(RoomClass {
            members_max: limits.room_members_max,
            slow_client: slow_client(rooms.slow_client),
            announce: rooms.announce,
            announce_members_max: rooms.announce_members_max,
            ..RoomClass::default()
        }),
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

/// How long a connection may be silent: both settings say so, and the shorter one counts. Without pings, silence
/// is no sign of death, and only the read time-out is left.
fn silence_max(read_timeout: Duration, heartbeat: &crate::config::settings::Heartbeat) -> Duration {
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
