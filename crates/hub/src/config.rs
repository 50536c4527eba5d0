//! Every limit and time-out of the hub: its unit, its default, and what happens when it is reached.
//!
//! Plain data, checked once at start ([`HubConfig::validate`]). Reading files and environment is the server's business.

use std::time::Duration;

use outspoke_protocol::RoomName;

use crate::class::RoomClasses;
use crate::drain::DrainConfig;
use crate::origin::OriginPolicy;
use crate::quota::Quotas;
use crate::rate::RateConfig;
use crate::tenant::TenantPolicy;

/// What the hub does with a room's messages for a member that reads too slowly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowClient {
    /// End the connection with 4000 `slow_consumer`; the client reconnects and catches up.
    #[default]
    Disconnect,
    /// Make space by dropping the oldest messages of the same room that are still queued.
    DropOldest,
    /// Drop what does not fit.
    DropNewest,
    /// Keep only the newest queued message of each sort and publisher; then as [`DropOldest`](Self::DropOldest).
    Conflate,
    /// Drop everything queued of the room and send nothing of it until the queue is empty, then say how much
    /// was missed.
    Resync,
}

/// Whether clients may take another name while they are connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rename {
    /// Where identities are taken on trust anyway ([`Authenticator::is_open`](crate::Authenticator::is_open)).
    #[default]
    InOpenMode,
    /// Everywhere: names are only for people to read.
    Always,
    /// Nowhere.
    Never,
}

/// How silent and stuck connections are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// A connection from which nothing came for this long is pinged. Default 30 s; zero: never.
    pub ping_interval: Duration,
    /// A connection from which nothing came for this long, not even a pong, is closed with 4002. Default 60 s,
    /// more than `ping_interval`; zero: never.
    pub pong_timeout: Duration,
}

/// When and how messages are compressed for clients that negotiated it (RFC 7692).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressionConfig {
    /// Whether the extension is accepted at all. Default: yes.
    pub enabled: bool,
    /// Smaller messages are sent as they are. In bytes, default 512.
    pub bytes_min: usize,
    /// 1 (fast) to 9 (small). Default 1: measured at 2-3 us per message, whatever the audience.
    pub level: u32,
}

/// Options of the sockets the hub is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpConfig {
    /// Bytes the kernel holds for a peer that does not read (`SO_SNDBUF`; Linux doubles it). Default 64 KiB;
    /// zero: leave it as it is, which by default is megabytes.
    pub send_buffer_bytes: usize,
    /// Send small writes at once (`TCP_NODELAY`). Default: yes, the hub coalesces by itself; no: leave it as it is.
    pub nodelay: bool,
}

/// The hub's configuration. `HubConfig::default()` is what a library user gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// Shards, one thread each. Default 0: one per core. At most 64.
    pub shards: usize,
    /// Room every client is put into at connect, unless it asks for none. Default: none.
    pub default_room: Option<RoomName>,
    /// Heartbeats.
    pub heartbeat: HeartbeatConfig,
    /// Bytes for a client may wait this long without the client reading any; then it is closed with 4001.
    /// Default 10 s; zero: as long as it takes.
    pub write_timeout: Duration,
    /// How long the closing handshake may take before the socket is closed anyway. Default 5 s.
    pub close_timeout: Duration,
    /// How clients are sent away when the node drains. Default: see there.
    pub drain: DrainConfig,
    /// How long an application's handler may take before its request is answered with `timed_out`. Default 30 s;
    /// zero: as long as it takes. The connection reads nothing meanwhile.
    pub handler_timeout: Duration,
    /// How long one message may take from its first byte to its last, over all of its fragments. Default 30 s; more closes
    /// with 4007. Zero: as long as it takes.
    pub message_timeout: Duration,
    /// Largest message from a client, also after inflating, in bytes. Default 64 KiB; more closes with 1009.
    pub message_bytes_max: usize,
    /// Largest chat text, in characters. Default 1000; more is answered with `content_too_long`.
    pub content_chars_max: usize,
    /// Longest user name, in characters. Default 50; more is refused before the upgrade.
    pub username_chars_max: usize,
    /// Longest user id and device, in bytes. Default 128; more is refused before the upgrade.
    pub user_id_bytes_max: usize,
    /// Longest room name, in bytes. Default 128; more is answered with `invalid_room`.
    pub room_name_bytes_max: usize,
    /// Rooms one client may be in. Default 128; more is answered with `too_many_rooms`.
    pub rooms_per_client_max: usize,
    /// Rooms with members on this hub. Default 1,000,000; more is answered with `room_limit`.
    pub rooms_max: usize,
    /// Connections. Default 0, unlimited; more is refused with 503 before the upgrade.
    pub connections_max: usize,
    /// Connections that have shown no credential yet, where endpoints let such in. Default 1,000; more is refused with 503
    /// before the upgrade.
    pub unauthenticated_max: usize,
    /// Connections from one address (of IPv6, from one /64). Default 0, unlimited; more is refused with 429 before the
    /// upgrade. What [`RateConfig::exempt`] names is not limited.
    pub connections_per_address_max: usize,
    /// Connections of one user who is somebody. Default 0, unlimited; more is refused with 429 before the upgrade.
    pub connections_per_user_max: usize,
    /// Connections from one address that have shown no credential yet, where endpoints let such in. Default 0, unlimited; more
    /// is refused with 429 before the upgrade.
    pub unauthenticated_per_address_max: usize,
    /// How much may come in, in time. Default: no limits.
    pub rate: RateConfig,
    /// Bytes that may wait for one client. Default 1 MiB. More: [`SlowClient`] decides for a room's messages,
    /// `SendBufferFull` answers a push, and a client that does not read its own answers is closed with 4000.
    pub outbox_bytes_max: usize,
    /// Bytes that may wait for one shard. Default 64 MiB; above it publishing clients are not read from, at
    /// twice as much `publish` and `push` refuse.
    pub inbox_bytes_max: usize,
    /// What rooms keep, tell and allow, by their names. Default: one class, which keeps nothing.
    pub rooms: RoomClasses,
    /// Most a client is sent at once of what it has missed, in bytes. Default 0: half of `outbox_bytes_max`; who has
    /// missed more is told `recovered: false`, and pages through the history.
    pub replay_bytes_max: usize,
    /// Messages on a page of history at most. Default 500; who asks for more gets so many.
    pub history_page_max: usize,
    /// Memory for the newest messages of rooms whose history is stored, so that most recoveries read no store. Default
    /// 64 MiB for all rooms together; above it rooms keep none.
    pub history_cache_bytes_max: usize,
    /// Memory for the messages of all rooms that keep them in memory. Default 256 MiB; above it a room that gets a
    /// message lets its oldest ones go, down to the newest.
    pub history_memory_bytes_max: usize,
    /// Messages that may wait for the store. Default 64 MiB; more is refused with `unavailable`.
    pub store_queue_bytes_max: usize,
    /// How long a publish, or another order to write, may wait for the store before it is refused with `unavailable`.
    /// Default 5 s.
    pub store_timeout: Duration,
    /// How long a user counts as typing without another word of it. Default 6 s.
    pub typing_timeout: Duration,
    /// Who may take another name while connected (`/nick`). Default: everybody in open mode, nobody else.
    pub rename: Rename,
    /// Whether messages and users are counted by room and hour, for [`Hub::figures`](crate::Hub::figures). Default: yes.
    pub analytics: bool,
    /// Messages that a node, and hand-outs that each shard remembers for [`Hub::explain`](crate::Hub::explain), of all rooms
    /// together. Default 32,768, which take up to 6 MB and 2 MB per shard; zero: none.
    pub remembered_messages_max: usize,
    /// Comings and goings, and slow times, of connections that each shard remembers for the same. Default 4096 each, which take up to
    /// 1.5 MB per shard; zero: none.
    pub remembered_events_max: usize,
    /// Whether operators may slow this node's connections down ([`Hub::slow_down_anywhere`](crate::Hub::slow_down_anywhere)).
    /// Default: no.
    pub slow_down: bool,
    /// Which tenants there may be. Default: any.
    pub tenants: TenantPolicy,
    /// Rulings about credentials that the hub remembers, those included that were lifted and have not ended. Default 100,000; one
    /// more is refused. What other nodes decide is remembered up to twice as many.
    pub rulings_max: usize,
    /// What tenants may use that have no quotas of their own, but the nameless one. Default: no limits.
    pub tenant_quotas: Quotas,
    /// Which web pages may connect; others are refused with 403 before anybody asks who it is. Default: those of the host
    /// that they connect to, and programs that are no browsers.
    pub origins: OriginPolicy,
    /// Compression.
    pub compression: CompressionConfig,
    /// Socket options.
    pub tcp: TcpConfig,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            shards: 0,
            default_room: None,
            heartbeat: HeartbeatConfig {
                ping_interval: Duration::from_secs(30),
                pong_timeout: Duration::from_secs(60),
            },
            write_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(5),
            drain: DrainConfig::default(),
            handler_timeout: Duration::from_secs(30),
            message_timeout: Duration::from_secs(30),
            message_bytes_max: 64 * 1024,
            content_chars_max: 1000,
            username_chars_max: 50,
            user_id_bytes_max: 128,
            room_name_bytes_max: 128,
            rooms_per_client_max: 128,
            rooms_max: 1_000_000,
            connections_max: 0,
            unauthenticated_max: 1000,
            connections_per_address_max: 0,
            connections_per_user_max: 0,
            unauthenticated_per_address_max: 0,
            rate: RateConfig::default(),
            outbox_bytes_max: 1024 * 1024,
            inbox_bytes_max: 64 * 1024 * 1024,
            rooms: RoomClasses::default(),
            replay_bytes_max: 0,
            history_page_max: 500,
            history_cache_bytes_max: 64 * 1024 * 1024,
            history_memory_bytes_max: 256 * 1024 * 1024,
            store_queue_bytes_max: 64 * 1024 * 1024,
            store_timeout: Duration::from_secs(5),
            typing_timeout: Duration::from_secs(6),
            rename: Rename::InOpenMode,
            remembered_messages_max: 32_768,
            remembered_events_max: 4096,
            slow_down: false,
            tenants: TenantPolicy::Any,
            rulings_max: 100_000,
            tenant_quotas: Quotas::default(),
            analytics: true,
            origins: OriginPolicy::default(),
            compression: CompressionConfig { enabled: true, bytes_min: 512, level: 1 },
            tcp: TcpConfig { send_buffer_bytes: 64 * 1024, nodelay: true },
        }
    }
}

/// A configuration that cannot work, and what would.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct InvalidConfig {
    /// The field.
    pub key: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl HubConfig {
    /// Checks the fields against each other.
    ///
    /// # Errors
    /// The first field that cannot work.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let rules: [(bool, &'static str, &str); 11] = [
            (self.shards <= MAX_SHARDS, "shards", "at most 64; 0 takes one per core"),
            (
                self.heartbeat.pong_timeout.is_zero()
                    || self.heartbeat.pong_timeout > self.heartbeat.ping_interval,
                "heartbeat.pong_timeout",
                "must be longer than heartbeat.ping_interval, or the first silent interval closes the connection",
            ),
            (self.message_bytes_max >= 125, "message_bytes_max", "at least 125, the size of a control frame"),
            (
                self.outbox_bytes_max >= self.message_bytes_max,
                "outbox_bytes_max",
                "at least message_bytes_max, or one message could never be sent",
            ),
            (
                self.inbox_bytes_max >= self.message_bytes_max,
                "inbox_bytes_max",
                "at least message_bytes_max, or one message could never be published",
            ),
            (
                self.replay_bytes_max < self.outbox_bytes_max,
                "replay_bytes_max",
                "less than outbox_bytes_max, or a client that catches up would be closed as slow",
            ),
            (self.history_page_max > 0, "history_page_max", "at least 1"),
            (!self.store_timeout.is_zero(), "store_timeout", "more than zero"),
            ((1..=9).contains(&self.compression.level), "compression.level", "1 (fast) to 9 (small)"),
            (self.room_name_bytes_max > 0, "room_name_bytes_max", "at least 1"),
            (!self.close_timeout.is_zero(), "close_timeout", "more than zero"),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, problem)) => Err(InvalidConfig { key, problem: problem.to_owned() }),
            None => self.rooms.validate(),
        }
    }

    /// Most a client is sent at once of what it has missed.
    pub(crate) fn replay_bytes(&self) -> usize {
        if self.replay_bytes_max == 0 { self.outbox_bytes_max / 2 } else { self.replay_bytes_max }
    }

    /// How many shards to start.
    pub(crate) fn shard_count(&self) -> usize {
        match self.shards {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MAX_SHARDS),
            count => count,
        }
    }
}

/// A room remembers the shards it has members on in one 64-bit mask.
pub(crate) const MAX_SHARDS: usize = 64;
