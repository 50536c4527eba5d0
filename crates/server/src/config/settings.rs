//! Every setting of the server: type, default, meaning, range.
//!
//! The one list. The reader, `config.yaml`, `docs/operating/configuration.md` and `config show` all come from it;
//! a test fails when the two files lag behind. Rules between settings are in `rules`.

mod admin;
pub mod auth;
mod drain;
pub mod files;
mod inspect;
mod metrics;
pub mod origins;
mod otel;
pub mod rate;
mod reload;
pub mod tls;

use std::path::PathBuf;
use std::time::Duration;

pub use self::admin::Admin;
use self::auth::Auth;
pub use self::drain::Drain;
use self::files::Files;
pub use self::inspect::Inspect;
pub use self::metrics::Metrics;
use self::origins::{Networks, Origins};
pub use self::otel::Otel;
use self::rate::Rates;
pub use self::reload::Reload;
use self::tls::Tls;
use super::address::ListenAddr;
use super::kind::{
    Address, Backend, Bus, Count, Durability, Flag, Folder, FolderOrUsual, HostName, Level, LogFormat, Name,
    Pattern, Patterns, Prefix, Publishers, Room, Secrets, Size, SlowClient, StoreName, Text, Time, Url, Urls,
};
use super::resolve::Resolver;
use super::table::{Block, Key, Section, SectionInfo, block, section};

/// All settings of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Listening and connections.
    pub server: Server,
    /// TLS in the server itself.
    pub tls: Tls,
    /// Which web pages may connect.
    pub origins: Origins,
    /// Finding dead connections.
    pub heartbeat: Heartbeat,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// How much may come in, in time.
    pub rate: Rates,
    /// How rooms behave.
    pub rooms: Rooms,
    /// Where messages are kept.
    pub store: Store,
    /// Further stores, which room classes name.
    pub stores: Vec<NamedStore>,
    /// Groups of users that know nothing of each other.
    pub tenants: Tenants,
    /// Who may connect.
    pub auth: Auth,
    /// The HTTP API.
    pub api: Api,
    /// The page for operators.
    pub admin: Admin,
    /// Files that users upload.
    pub files: Files,
    /// Numbers about use.
    pub analytics: Analytics,
    /// Compressed messages.
    pub compression: Compression,
    /// What the server says about itself.
    pub log: Log,
    /// What is remembered of messages and connections.
    pub inspect: Inspect,
    /// What Prometheus is told.
    pub metrics: Metrics,
    /// Traces.
    pub otel: Otel,
    /// Reading the configuration again.
    pub reload: Reload,
    /// What the server keeps.
    pub data: Data,
    /// Several servers acting as one.
    pub cluster: Cluster,
    /// Sending clients to other servers.
    pub drain: Drain,
}

impl Section for Config {
    fn describe(out: &mut Vec<SectionInfo>) {
        Server::describe(out);
        Tls::describe(out);
        Origins::describe(out);
        Heartbeat::describe(out);
        Limits::describe(out);
        Rates::describe(out);
        Rooms::describe(out);
        Store::describe(out);
        out.push(SectionInfo { path: "", doc: STORES.doc, keys: vec![STORES] });
        Tenants::describe(out);
        Auth::describe(out);
        Api::describe(out);
        Admin::describe(out);
        Files::describe(out);
        Analytics::describe(out);
        Compression::describe(out);
        Log::describe(out);
        Inspect::describe(out);
        Metrics::describe(out);
        Otel::describe(out);
        Reload::describe(out);
        Data::describe(out);
        Cluster::describe(out);
        Drain::describe(out);
    }

    fn read(resolver: &mut Resolver) -> Self {
        Self {
            server: Server::read(resolver),
            tls: Tls::read(resolver),
            origins: Origins::read(resolver),
            heartbeat: Heartbeat::read(resolver),
            limits: Limits::read(resolver),
            rate: Rates::read(resolver),
            rooms: Rooms::read(resolver),
            store: Store::read(resolver),
            stores: resolver.blocks(&STORES),
            tenants: Tenants::read(resolver),
            auth: Auth::read(resolver),
            api: Api::read(resolver),
            admin: Admin::read(resolver),
            files: Files::read(resolver),
            analytics: Analytics::read(resolver),
            compression: Compression::read(resolver),
            log: Log::read(resolver),
            inspect: Inspect::read(resolver),
            metrics: Metrics::read(resolver),
            otel: Otel::read(resolver),
            reload: Reload::read(resolver),
            data: Data::read(resolver),
            cluster: Cluster::read(resolver),
            drain: Drain::read(resolver),
        }
    }
}

section! {
    /// Where the server listens and how it treats connections.
    Server at "server" {
        /// Address to listen on, as host:port. Without a host (":8080") the server listens on all interfaces, IPv4
        /// and IPv6. Port 0 lets the system choose a port; the start banner shows it.
        ///
        /// The environment variable PORT replaces the port and keeps the host.
        addr: ListenAddr as Address = ":8080" {}

        /// A connection from which nothing at all arrived for this long is closed.
        read_timeout: Duration as Time = "3m" {
            range: Some(("1s", "1d")),
            zero: Some("never; only the heartbeat finds dead connections"),
            at_limit: Some("the client is closed with code 4002 and may reconnect"),
        }

        /// How long bytes may wait for a client that does not read.
        write_timeout: Duration as Time = "3m" {
            range: Some(("100ms", "1d")),
            zero: Some("for ever; only limits.outbox_bytes_max ends such a client"),
            at_limit: Some("the client is closed with code 4001 and may reconnect"),
        }

        /// How long a client may take to send its complete request header.
        header_timeout: Duration as Time = "10s" {
            range: Some(("100ms", "5m")),
            at_limit: Some("the connection is closed"),
        }

        /// How long an HTTP request may take, from its header to the last byte of its answer, and a WebSocket handshake
        /// with everybody who is asked who it is.
        request_timeout: Duration as Time = "30s" {
            range: Some(("1s", "10m")),
            at_limit: Some("status 408 if nothing was answered yet, and the connection is closed"),
        }

        /// Size of a complete request header.
        header_bytes_max: usize as Size = "16KiB" {
            range: Some(("8KiB", "1MiB")),
            at_limit: Some("the request is answered with status 431"),
        }

        /// Number of header fields in a request.
        headers_max: usize as Count = "100" {
            range: Some(("16", "1000")),
            unit: Some("fields"),
            at_limit: Some("the request is answered with status 431"),
        }

        /// How long a stop (SIGTERM or Ctrl-C) may take: every client is told, what waits for it is sent, then
        /// it is closed. A second signal ends the server at once.
        shutdown_timeout: Duration as Time = "30s" {
            range: Some(("100ms", "1h")),
            zero: Some("close everything at once"),
            at_limit: Some("the connections that remain are cut"),
        }

        /// Number of shards: threads that each own a part of the connections.
        shards: usize as Count = "0" {
            range: Some(("1", "64")),
            unit: Some("threads"),
            zero: Some("one per core"),
        }

        /// Connections open at the same time.
        connections_max: usize as Count = "0" {
            range: Some(("1", "100_000_000")),
            unit: Some("connections"),
            zero: Some("as many as the limit on file descriptors allows"),
            at_limit: Some("further clients are refused with status 503"),
        }

        /// Send buffer that the kernel keeps per connection. With the system's default, megabytes can wait for
        /// a client that does not read before the server notices.
        tcp_send_buffer: usize as Size = "64KiB" {
            range: Some(("4KiB", "64MiB")),
            zero: Some("the system's default, which grows by itself"),
            at_limit: Some("messages wait in the client's outbox"),
        }

        /// Send small messages at once (TCP_NODELAY) instead of waiting for more.
        tcp_nodelay: bool as Flag = "true" {}

        /// Connections that wait to be accepted. Linux caps this at net.core.somaxconn.
        backlog: usize as Count = "4096" {
            range: Some(("1", "65535")),
            unit: Some("connections"),
            at_limit: Some("the kernel drops further attempts and the clients try again"),
        }

        /// Proxies and load balancers that are believed when they say from where a client came (X-Forwarded-For,
        /// X-Forwarded-Proto, X-Forwarded-Host, the PROXY protocol). Name the machines, never a network in which others
        /// are, too.
        trusted_proxies: Vec<ipnet::IpNet> as Networks = "" {}

        /// Every connection begins with the PROXY protocol (version 1 or 2), in which a trusted proxy says for whom it is.
        /// Connections of others are closed.
        proxy_protocol: bool as Flag = "false" {}

        /// Serve the web chat at /.
        page: bool as Flag = "true" {}

        /// Serve the documentation of this version at /docs.
        docs: bool as Flag = "true" {}

        /// Serve /conformance/echo, which returns every message to its sender. For conformance suites such as
        /// Autobahn only; do not switch it on in production.
        conformance_echo: bool as Flag = "false" {}
    }
}

section! {
    /// Pings that find dead connections and keep proxies from closing idle ones.
    Heartbeat at "heartbeat" {
        /// How often each client is pinged.
        ping_interval: Duration as Time = "54s" {
            range: Some(("100ms", "1h")),
            zero: Some("no pings"),
        }

        /// A connection from which nothing (no pong, no message) arrived for this long is closed. Longer than
        /// ping_interval, so that an answer can arrive in time.
        pong_timeout: Duration as Time = "60s" {
            range: Some(("200ms", "1d")),
            zero: Some("never"),
            at_limit: Some("the client is closed with code 4002 and may reconnect"),
        }
    }
}

section! {
    /// What one client, one room and the server as a whole may use.
    Limits at "limits" {
        /// Size of one message from a client, after decompression and over all of its fragments.
        message_bytes_max: usize as Size = "8KiB" {
            range: Some(("128B", "64MiB")),
            at_limit: Some("the client is closed with code 1009"),
        }

        /// How long one message may take from its first byte to its last, over all of its fragments.
        message_timeout: Duration as Time = "30s" {
            range: Some(("100ms", "1h")),
            zero: Some("as long as the connection is open"),
            at_limit: Some("the client is closed with code 4007 and may reconnect"),
        }

        /// WebSocket connections from one address (of IPv6, from one /64). Raise it where a proxy or an office with many
        /// people is one address, or name that in rate.exempt.
        connections_per_address_max: usize as Count = "4096" {
            range: Some(("1", "100_000_000")),
            unit: Some("connections"),
            zero: Some("no limit"),
            at_limit: Some("further clients from there are refused with status 429 and Retry-After"),
        }

        /// WebSocket connections of one user.
        connections_per_user_max: usize as Count = "100" {
            range: Some(("1", "1_000_000")),
            unit: Some("connections"),
            zero: Some("no limit"),
            at_limit: Some("further connections of the user are refused with status 429 and Retry-After"),
        }

        /// Connections of all addresses that have not said yet who they are, where they may say it in their first message.
        unauthenticated_max: usize as Count = "1_000" {
            range: Some(("1", "1_000_000")),
            unit: Some("connections"),
            at_limit: Some("further clients are refused with status 503"),
        }

        /// Connections from one address that have not said yet who they are, where they may say it in their first message.
        unauthenticated_per_address_max: usize as Count = "64" {
            range: Some(("1", "1_000_000")),
            unit: Some("connections"),
            zero: Some("no limit"),
            at_limit: Some("further clients from there are refused with status 429 and Retry-After"),
        }

        /// Connections that are no WebSocket (yet): sending their request, or waiting for the answer.
        http_connections_max: usize as Count = "4096" {
            range: Some(("16", "1_000_000")),
            unit: Some("connections"),
            at_limit: Some("nobody is accepted until one of them ends; their time limits see to that"),
        }

        /// Connections from one address (of IPv6, from one /64) that are no WebSocket (yet).
        http_connections_per_address_max: usize as Count = "256" {
            range: Some(("1", "1_000_000")),
            unit: Some("connections"),
            zero: Some("no limit but limits.http_connections_max"),
            at_limit: Some("further connections from there are closed at once, with status 429 where nothing is encrypted"),
        }

        /// Length of a chat text in characters.
        content_chars_max: usize as Count = "1000" {
            range: Some(("1", "10_000_000")),
            unit: Some("characters"),
            at_limit: Some("the message is refused with an error reply; the connection stays"),
        }

        /// Length of a user name in characters.
        username_chars_max: usize as Count = "50" {
            range: Some(("1", "1000")),
            unit: Some("characters"),
            at_limit: Some("the client is refused before the upgrade"),
        }

        /// Length of a user id in bytes.
        user_id_bytes_max: usize as Count = "128" {
            range: Some(("1", "1024")),
            unit: Some("bytes"),
            at_limit: Some("the client is refused before the upgrade"),
        }

        /// Length of a room name in bytes.
        room_name_bytes_max: usize as Count = "128" {
            range: Some(("1", "1024")),
            unit: Some("bytes"),
            at_limit: Some("the request is refused with an error reply"),
        }

        /// Rooms that one client may be in.
        rooms_per_client_max: usize as Count = "128" {
            range: Some(("1", "1_000_000")),
            unit: Some("rooms"),
            at_limit: Some("joining another room is refused with an error reply"),
        }

        /// Rooms that exist at the same time. An empty room counts as long as it keeps messages in memory.
        rooms_max: usize as Count = "1_000_000" {
            range: Some(("1", "100_000_000")),
            unit: Some("rooms"),
            at_limit: Some("joining a room that does not exist yet is refused with an error reply"),
        }

        /// Bytes that may wait for one client that reads too slowly.
        outbox_bytes_max: usize as Size = "1MiB" {
            range: Some(("4KiB", "1GiB")),
            at_limit: Some("rooms.slow_client decides"),
        }

        /// Rulings about credentials (revoked tokens and users, changed roles, removals from rooms) that are remembered.
        rulings_max: usize as Count = "100_000" {
            range: Some(("1_000", "10_000_000")),
            unit: Some("rulings"),
            at_limit: Some("one more is refused; lift some, or let them end sooner"),
        }

        /// Bytes that may wait for one shard between two of its turns.
        inbox_bytes_max: usize as Size = "64MiB" {
            range: Some(("64KiB", "1GiB")),
            at_limit: Some("reading from clients that publish pauses until the shard has caught up"),
        }

        /// Bytes that one client is sent at once of what it missed.
        replay_bytes_max: usize as Size = "0" {
            range: Some(("1KiB", "512MiB")),
            zero: Some("half of limits.outbox_bytes_max"),
            at_limit: Some("the client is told that not everything was recovered, and pages through the history"),
        }

        /// Memory for the newest messages of all stored rooms together. From it most clients that come back are
        /// served without reading the store.
        history_cache_bytes_max: usize as Size = "64MiB" {
            range: Some(("1MiB", "64GiB")),
            zero: Some("every recovery reads the store"),
            at_limit: Some("further rooms are recovered from the store"),
        }

        /// Memory for the messages of all rooms that keep them in memory (durability memory).
        history_memory_bytes_max: usize as Size = "256MiB" {
            range: Some(("1MiB", "64GiB")),
            at_limit: Some("a room that gets a message lets its oldest ones go"),
        }

        /// Bytes of messages that may wait for the stores.
        store_queue_bytes_max: usize as Size = "64MiB" {
            range: Some(("64KiB", "16GiB")),
            at_limit: Some("publishing to stored rooms is refused with unavailable; nothing is acknowledged that is not kept"),
        }
    }
}

section! {
    /// What rooms keep, tell and allow. Everything but default and typing_timeout holds for the rooms that no entry of
    /// rooms.classes matches; docs/operating/rooms.md has recipes.
    Rooms at "rooms" {
        /// Room that a client is in from the start. "" for none; a client can also ask for none with ?join=none.
        default: String as Room = "lobby" {}

        /// How long a user counts as typing without another word of it.
        typing_timeout: Duration as Time = "6s" {
            range: Some(("1s", "5m")),
            at_limit: Some("the room is told that the user has stopped"),
        }

        /// What the acknowledgement of a message means. none: it is on its way, and nothing is kept. memory: it is kept
        /// as long as this server runs, so that clients recover from short losses of connection. stored: the store has
        /// it, and it survives a restart; nobody sees it before.
        durability: Durability as Durability = "memory" {}

        /// Which store keeps the rooms, if durability is stored. "" and "default" are the one that the section store
        /// describes.
        store: String as StoreName = "" {}

        /// Messages of a room that are kept.
        history_messages: usize as Count = "100" {
            range: Some(("1", "100_000_000")),
            unit: Some("messages"),
            zero: Some("no limit; history_bytes and history_age decide"),
            at_limit: Some("the oldest are forgotten"),
        }

        /// Bytes of a room's messages that are kept.
        history_bytes: usize as Size = "1MiB" {
            range: Some(("1KiB", "1024GiB")),
            zero: Some("no limit; history_messages and history_age decide"),
            at_limit: Some("the oldest messages are forgotten"),
        }

        /// How long messages are kept.
        history_age: Duration as Time = "10m" {
            range: Some(("1s", "36500d")),
            zero: Some("for ever; history_messages and history_bytes decide"),
            at_limit: Some("they are forgotten"),
        }

        /// Let members ask who is in the room.
        presence: bool as Flag = "true" {}

        /// Tell the members of a room who comes and who goes.
        announce: bool as Flag = "true" {}

        /// In a room with more members than this, comings and goings are told together, once per crowd_interval.
        announce_members_max: usize as Count = "1000" {
            range: Some(("1", "100_000_000")),
            unit: Some("clients"),
            zero: Some("always together"),
            at_limit: Some("they are told together"),
        }

        /// How often large rooms tell their comings, goings and receipts together.
        crowd_interval: Duration as Time = "2s" { range: Some(("100ms", "1h")) }

        /// A user who comes back within this time after losing the connection has neither left nor come.
        leave_grace: Duration as Time = "5s" {
            range: Some(("100ms", "5m")),
            zero: Some("everybody is told at once"),
        }

        /// Who may publish: members, every client in the room; or server, only the application through the HTTP API.
        publishers: Publishers as Publishers = "members" {}

        /// Let authors edit and delete what they said, and members react to it, in rooms that keep messages.
        amendments: bool as Flag = "true" {}

        /// Keep who has received and read how much, in rooms that keep messages.
        receipts: bool as Flag = "true" {}

        /// In a room with more members than this, receipts are told as numbers, once per crowd_interval.
        receipts_members_max: usize as Count = "100" {
            range: Some(("1", "100_000_000")),
            unit: Some("clients"),
            zero: Some("always as numbers"),
            at_limit: Some("they are told as numbers"),
        }

        /// What happens to the messages for a client whose outbox is full: disconnect closes the client with code
        /// 4000, it may reconnect, and nothing is lost in silence; drop_oldest makes space by dropping the oldest
        /// messages of the room; drop_newest drops what does not fit; conflate keeps the newest message of each sort
        /// and sender; resync drops what waits and tells the client how much it missed.
        slow_client: SlowClient as SlowClient = "disconnect" {}

        /// Clients in one room.
        members_max: usize as Count = "0" {
            range: Some(("1", "100_000_000")),
            unit: Some("clients"),
            zero: Some("no limit"),
            at_limit: Some("joining the room is refused with an error reply"),
            formerly: Some("limits.room_members_max"),
        }

        /// Size of a message published to the room.
        message_bytes_max: usize as Size = "0" {
            range: Some(("1B", "64MiB")),
            zero: Some("limits.message_bytes_max alone decides"),
            at_limit: Some("the message is refused with an error reply; the connection stays"),
        }
    }
    lists {
        /// Rooms that differ, by their names. The first entry whose pattern matches a room is its class; what the entry
        /// does not say is as above. A list given here replaces the built-in one.
        classes: RoomClass = "[{pattern: lobby, durability: stored, history_messages: 1_000, history_bytes: 0, history_age: 7d}]" {}
    }
    with {
        /// Private conversations.
        direct: Direct,
    }
}

block! {
    /// What the rooms whose names match keep, tell and allow.
    RoomClass {
        /// Which rooms: a name in which each `*` stands for any text, also none: `lobby`, `chat:*`, `*`.
        pattern: String as Pattern = required { unique: true }
        durability: Durability as Durability = inherited from Rooms {}
        store: String as StoreName = inherited from Rooms {}
        history_messages: usize as Count = inherited from Rooms {}
        history_bytes: usize as Size = inherited from Rooms {}
        history_age: Duration as Time = inherited from Rooms {}
        presence: bool as Flag = inherited from Rooms {}
        announce: bool as Flag = inherited from Rooms {}
        announce_members_max: usize as Count = inherited from Rooms {}
        crowd_interval: Duration as Time = inherited from Rooms {}
        leave_grace: Duration as Time = inherited from Rooms {}
        publishers: Publishers as Publishers = inherited from Rooms {}
        amendments: bool as Flag = inherited from Rooms {}
        receipts: bool as Flag = inherited from Rooms {}
        receipts_members_max: usize as Count = inherited from Rooms {}
        slow_client: SlowClient as SlowClient = inherited from Rooms {}
        members_max: usize as Count = inherited from Rooms {}
        message_bytes_max: usize as Size = inherited from Rooms {}
    }
}

impl Rooms {
    /// The class of rooms that no entry of `classes` matches.
    pub fn unmatched(&self) -> RoomClass {
        RoomClass {
            pattern: "*".to_owned(),
            durability: self.durability,
            store: self.store.clone(),
            history_messages: self.history_messages,
            history_bytes: self.history_bytes,
            history_age: self.history_age,
            presence: self.presence,
            announce: self.announce,
            announce_members_max: self.announce_members_max,
            crowd_interval: self.crowd_interval,
            leave_grace: self.leave_grace,
            publishers: self.publishers,
            amendments: self.amendments,
            receipts: self.receipts,
            receipts_members_max: self.receipts_members_max,
            slow_client: self.slow_client,
            members_max: self.members_max,
            message_bytes_max: self.message_bytes_max,
        }
    }
}

section! {
    /// Private conversations between two users. What is not here is as in rooms.
    Direct at "rooms.direct" {
        /// What the acknowledgement of a message means. With none or memory, whoever is not connected may never see it.
        durability: Durability as Durability = "stored" {}

        /// Which store keeps the conversations.
        store: String as StoreName = "" {}

        /// Messages of a conversation that are kept.
        history_messages: usize as Count = "10_000" {
            range: Some(("1", "100_000_000")),
            unit: Some("messages"),
            zero: Some("no limit; history_bytes and history_age decide"),
            at_limit: Some("the oldest are forgotten"),
        }

        /// Bytes of a conversation that are kept.
        history_bytes: usize as Size = "0" {
            range: Some(("1KiB", "1024GiB")),
            zero: Some("no limit; history_messages and history_age decide"),
            at_limit: Some("the oldest messages are forgotten"),
        }

        /// How long messages are kept.
        history_age: Duration as Time = "365d" {
            range: Some(("1s", "36500d")),
            zero: Some("for ever; history_messages and history_bytes decide"),
            at_limit: Some("they are forgotten"),
        }

        /// Let authors edit and delete what they said, and both react to it.
        amendments: bool as Flag = "true" {}

        /// Keep who has received and read how much.
        receipts: bool as Flag = "true" {}

        /// Size of a message.
        message_bytes_max: usize as Size = "0" {
            range: Some(("1B", "64MiB")),
            zero: Some("limits.message_bytes_max alone decides"),
            at_limit: Some("the message is refused with an error reply; the connection stays"),
        }
    }
}

section! {
    /// Where messages of stored rooms are kept, and what else outlives a restart.
    Store at "store" {
        /// embedded keeps everything in a folder of this machine; memory keeps it as long as the server runs;
        /// postgresql, redis and dynamodb keep it there. What "kept" survives is said at the start.
        backend: Backend as Backend = "embedded" {}

        /// How long a message may wait for the store.
        timeout: Duration as Time = "5s" {
            range: Some(("100ms", "5m")),
            at_limit: Some("publishing it is refused with unavailable"),
        }
    }
    with {
        /// The store in a folder.
        embedded: EmbeddedStore,
        /// The store in PostgreSQL.
        postgresql: PostgresqlStore,
        /// The store in Redis.
        redis: RedisStore,
        /// The store in DynamoDB.
        dynamodb: DynamodbStore,
    }
}

impl Store {
    /// Where the store is, if it is embedded.
    pub fn folder(&self, data: &Data) -> PathBuf {
        self.embedded.path.clone().unwrap_or_else(|| data.dir.join("store"))
    }
}

section! {
    /// The store in a folder of this machine. One running server holds the folder at a time.
    EmbeddedStore at "store.embedded" {
        /// Its folder. "" is the folder store in data.dir.
        path: Option<PathBuf> as FolderOrUsual = "" {}

        /// Space on the disk that is left to others.
        reserve_bytes: usize as Size = "64MiB" {
            range: Some(("1MiB", "1024GiB")),
            zero: Some("the disk may be filled"),
            at_limit: Some("publishing to stored rooms is refused with storage_full until there is space again"),
        }

        /// Memory for what is read from the disk.
        cache_bytes: usize as Size = "16MiB" { range: Some(("1MiB", "64GiB")) }
    }
}

section! {
    /// The store in a PostgreSQL database, version 12 or later. Several servers may share it; see
    /// docs/operating/storage-postgresql.md.
    PostgresqlStore at "store.postgresql" {
        /// Address of the database: postgresql://user:password@host:5432/database, with ?sslmode=require or verify-full
        /// for TLS.
        url: String as Url = "" { secret: true }

        /// Schema of the tables. It is made if it does not exist.
        schema: String as Name = "outspoke" {}

        /// How long the database may take for one step.
        timeout: Duration as Time = "5s" {
            range: Some(("100ms", "5m")),
            at_limit: Some("the step counts as failed, and is tried again where that is safe"),
        }

        /// Connections for reading; one more writes.
        readers_max: usize as Count = "4" {
            range: Some(("1", "1000")),
            unit: Some("connections"),
            at_limit: Some("further reads wait"),
        }
    }
}

section! {
    /// The store in Redis, version 6.2 or later, or Valkey. What survives a crash there is what its own appendfsync
    /// says, and by default that is little; see docs/operating/storage-redis.md.
    RedisStore at "store.redis" {
        /// Address of the server: redis://user:password@host:6379/0, rediss:// with TLS. Of a cluster several nodes may
        /// be named, with commas between.
        url: String as Url = "" { secret: true }

        /// Whether the address is that of a cluster.
        cluster: bool as Flag = "false" {}

        /// What the names of all keys begin with.
        prefix: String as Prefix = "outspoke" {}

        /// Replicas that must have a message before it counts as kept. Not in a cluster.
        replicas_min: usize as Count = "0" {
            range: Some(("1", "100")),
            unit: Some("replicas"),
            zero: Some("the server itself is enough"),
        }

        /// How long the server may take for one step.
        timeout: Duration as Time = "5s" {
            range: Some(("100ms", "5m")),
            at_limit: Some("the step counts as failed, and is tried again where that is safe"),
        }
    }
}

section! {
    /// The store in Amazon DynamoDB. Credentials come from the AWS environment, never from here; see
    /// docs/operating/storage-dynamodb.md.
    DynamodbStore at "store.dynamodb" {
        /// Name of the table.
        table: String as Text = "outspoke" {}

        /// AWS region. "" takes the one of the AWS environment.
        region: String as Text = "" {}

        /// Another address than AWS's own: a private endpoint, or a server that speaks the same API.
        endpoint: String as Url = "" {}

        /// Make the table if it does not exist, billed by request.
        create_table: bool as Flag = "true" {}

        /// How long DynamoDB may take for one step.
        timeout: Duration as Time = "5s" {
            range: Some(("100ms", "5m")),
            at_limit: Some("the step counts as failed, and is tried again where that is safe"),
        }
    }
}

/// The one setting outside of sections.
const STORES: Key = Key {
    path: "stores",
    default: "[]",
    doc: "Further stores, for room classes that name one in store.\n",
    entry: NamedStore::KEYS,
    example: Some(
        "[{name: archive, backend: postgresql, url: \"postgresql://chat:secret@db.internal/chat\"}]",
    ),
    ..Key::LIST
};

block! {
    /// A store beside the one that `store` describes.
    NamedStore {
        /// What room classes call it; anything but default.
        name: String as Name = required { unique: true }

        /// embedded, memory, postgresql, redis or dynamodb.
        backend: Backend as Backend = required {}

        /// Folder of an embedded store. "" is the folder stores/NAME in data.dir.
        path: Option<PathBuf> as FolderOrUsual = "" {}

        reserve_bytes: usize as Size = inherited from EmbeddedStore {}
        cache_bytes: usize as Size = inherited from EmbeddedStore {}

        /// Address of the database or the server, for postgresql and redis.
        url: String as Url = "" { secret: true }

        schema: String as Name = inherited from PostgresqlStore {}
        readers_max: usize as Count = inherited from PostgresqlStore {}
        cluster: bool as Flag = inherited from RedisStore {}
        prefix: String as Prefix = inherited from RedisStore {}
        replicas_min: usize as Count = inherited from RedisStore {}

        /// How long postgresql, redis or dynamodb may take for one step.
        timeout: Duration as Time = "5s" { range: Some(("100ms", "5m")) }

        table: String as Text = inherited from DynamodbStore {}
        region: String as Text = inherited from DynamodbStore {}
        endpoint: String as Url = inherited from DynamodbStore {}
        create_table: bool as Flag = inherited from DynamodbStore {}
    }
}

impl NamedStore {
    /// Where the store is, if it is embedded.
    pub fn folder(&self, data: &Data) -> PathBuf {
        self.path.clone().unwrap_or_else(|| data.dir.join("stores").join(&self.name))
    }
}

section! {
    /// Groups of users and rooms that know nothing of each other, as if each had a server of its own.
    Tenants at "tenants" {
        /// Separate tenants. Off, there is one, and it has no name.
        enabled: bool as Flag = "false" {}

        /// Take the tenant from the path too: /t/TENANT/ws.
        path: bool as Flag = "true" {}

        /// Connections of one tenant.
        connections_max: usize as Count = "0" {
            range: Some(("1", "100_000_000")),
            unit: Some("connections"),
            zero: Some("no limit but the server's"),
            at_limit: Some("further clients of the tenant are refused with status 503"),
        }

        /// Rooms of one tenant that exist at the same time.
        rooms_max: usize as Count = "0" {
            range: Some(("1", "100_000_000")),
            unit: Some("rooms"),
            zero: Some("no limit but the server's"),
            at_limit: Some("joining a room of the tenant that does not exist yet is refused with an error reply"),
        }

        /// Messages that one tenant may publish per second.
        messages_per_second: usize as Count = "0" {
            range: Some(("1", "100_000_000")),
            unit: Some("messages"),
            zero: Some("no limit"),
            at_limit: Some("publishing is refused with an error reply that says when to try again"),
        }

        /// Bytes of messages that one tenant may have in the stores.
        stored_bytes_max: usize as Size = "0" {
            range: Some(("1KiB", "1024GiB")),
            zero: Some("no limit"),
            at_limit: Some("publishing to stored rooms of the tenant is refused with storage_full"),
        }
    }
    lists {
        /// Which tenant the clients of a host name belong to.
        hosts: TenantHost = "[]" {
            example: Some("[{host: chat.acme.example, tenant: acme}]"),
        }

        /// Tenants from the start, each with the quotas above or its own. More are made through the HTTP API while the
        /// server runs.
        list: Tenant = "[]" {
            example: Some("[{name: acme, connections_max: 5_000, stored_bytes_max: 10GiB}]"),
        }
    }
}

block! {
    /// A host name and its tenant.
    TenantHost {
        /// The host name by which clients reach the server.
        host: String as HostName = required { unique: true }

        /// The tenant's name.
        tenant: String as Name = required {}
    }
}

block! {
    /// A tenant and its quotas.
    Tenant {
        /// Its name, which is part of its address.
        name: String as Name = required { unique: true }
        connections_max: usize as Count = inherited from Tenants {}
        rooms_max: usize as Count = inherited from Tenants {}
        messages_per_second: usize as Count = inherited from Tenants {}
        stored_bytes_max: usize as Size = inherited from Tenants {}
    }
}

section! {
    /// The HTTP API, by which the application publishes, reads and manages.
    Api at "api" {
        /// Serve the API.
        enabled: bool as Flag = "true" {}

        /// Keys that open all of the API: each as it is, or as sha256: and its hash in hexadecimal digits, so that the
        /// configuration does not tell it (`printf %s KEY | sha256sum`). Without any, and without open_on_loopback, the API
        /// is for users with their tokens only, as far as there is an authenticator.
        keys: Vec<String> as Secrets = "" { secret: true }

        /// Serve the API without a key. Only accepted if the server listens on a loopback address.
        open_on_loopback: bool as Flag = "false" {}

        /// Size of a request's body.
        body_bytes_max: usize as Size = "1MiB" {
            range: Some(("1KiB", "1GiB")),
            at_limit: Some("the request is answered with status 413"),
        }
    }
    lists {
        /// Keys for programs that need not do everything: each opens one tenant, and there what its patterns say.
        scoped_keys: ScopedKey = "[]" {
            example: Some(
                "[{name: builds, key: \"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\", \
                 publish: \"builds:*\"}]",
            ),
        }
    }
}

block! {
    /// A key of the HTTP API that is limited.
    ScopedKey {
        /// The key's name, for the log and for revoking it.
        name: String as Name = required { unique: true }

        /// The key, or sha256: and its hash.
        key: String as Text = required { secret: true }

        /// The tenant whose rooms and users it is for. Empty: those without a tenant.
        tenant: String as Text = "" {}

        /// Rooms of which it may be told how many are there and what they keep.
        join: Vec<String> as Patterns = "" {}

        /// Rooms that it may publish to, in its own name or in any user's.
        publish: Vec<String> as Patterns = "" {}

        /// Rooms whose earlier messages it may read.
        history: Vec<String> as Patterns = "" {}

        /// Rooms of which it may be told who is there, and how far they have read.
        presence: Vec<String> as Patterns = "" {}

        /// Rooms in which it may delete messages, and from which it may remove users.
        moderate: Vec<String> as Patterns = "" {}

        /// Users to whom it may send messages.
        direct: Vec<String> as Patterns = "" {}

        /// It may look at what operators look at, and change nothing: lists of rooms, connections and users, one connection closely,
        /// rulings, figures; without `tenant` those of every tenant, and nodes, tenants, metrics, the configuration and the log's level,
        /// too.
        look: bool as Flag = "false" {}

        /// It may see what operators did, by name: with a `tenant` what was about that one, without one everything.
        audit: bool as Flag = "false" {}
    }
}

section! {
    /// Counts of messages and users, by room and hour, in the HTTP API.
    Analytics at "analytics" {
        /// Count.
        enabled: bool as Flag = "true" {}
    }
}

section! {
    /// Compressed messages (permessage-deflate), for clients that offer it. A message is compressed once, whatever
    /// the number of its readers.
    Compression at "compression" {
        /// Agree to compression when a client offers it.
        enabled: bool as Flag = "true" {}

        /// Messages smaller than this are sent uncompressed.
        min_bytes: usize as Size = "512" {
            range: Some(("1B", "64MiB")),
            zero: Some("every message is compressed"),
        }

        /// Effort: 1 is the fastest, 9 makes the smallest messages.
        level: usize as Count = "1" { range: Some(("1", "9")) }
    }
}

section! {
    /// What the server says about itself, on standard error.
    Log at "log" {
        /// What is logged: off, error, warn, info, debug or trace; single modules differ after commas, as in
        /// info,outspoke_hub=debug. Release builds contain no trace lines.
        level: String as Level = "info" {}

        /// auto writes lines for people on a terminal and JSON otherwise; human and json force one of them.
        format: LogFormat as LogFormat = "auto" {}
    }
}

section! {
    /// What the server keeps.
    Data at "data" {
        /// Folder for what outlives a restart. A relative path starts in the working directory.
        dir: PathBuf as Folder = "./data" {}
    }
}

section! {
    /// Several servers acting as one: what is said on one reaches the clients of all. Their stores must be shared
    /// (PostgreSQL or Redis); see docs/operating/cluster.md.
    Cluster at "cluster" {
        /// Join the other servers.
        enabled: bool as Flag = "false" {}

        /// What carries messages between the servers: etcd, redis or nats. Its own settings are in the section of that
        /// name.
        bus: Bus as Bus = "etcd" {}

        /// This server's name: of its own, and the same after a restart. Empty: the machine's host name and the port.
        name: String as Text = "" {}

        /// Address at which clients reach this very server, as wss://hub-1.example.com/ws, for those that ask which one
        /// to prefer. Empty: clients come through a load balancer only.
        advertise: String as Text = "" {}

        /// What the servers of a cluster know and nobody else. With it, what others put on the bus is not heard; without
        /// it, whoever can write to the bus can speak for any server.
        secret: String as Text = "" { secret: true }

        /// How often a server says that it is there.
        heartbeat: Duration as Time = "5s" {
            range: Some(("100ms", "60s")),
            at_limit: Some("after two without a word the server counts as gone, and its clients with it"),
        }

        /// Bytes that may wait for the bus.
        queue_bytes_max: usize as Size = "16MiB" {
            range: Some(("64KiB", "16GiB")),
            at_limit: Some("more is not sent; what was for stored rooms the other servers read from the store"),
        }
    }
    with {
        /// The etcd cluster that connects the servers.
        etcd: Etcd,
        /// The Redis that connects the servers.
        redis: RedisBus,
        /// The NATS that connects the servers.
        nats: Nats,
    }
}

section! {
    /// The etcd cluster that connects the servers. Not contacted while cluster.enabled is false.
    Etcd at "cluster.etcd" {
        /// Addresses of the etcd members.
        endpoints: Vec<String> as Urls = "http://etcd:2379" {}

        /// How long one attempt to connect may take.
        dial_timeout: Duration as Time = "5s" {
            range: Some(("100ms", "5m")),
            at_limit: Some("the next member is tried"),
        }

        /// What the names of all keys in etcd begin with. Servers with different prefixes do not see each other.
        key_prefix: String as Text = "/gohub" {}

        /// User, where etcd asks for one. Empty: nobody.
        username: String as Text = "" {}

        /// The user's password.
        password: String as Text = "" { secret: true }
    }
}

section! {
    /// The Redis that connects the servers, version 6.2 or later, or Valkey. Not contacted unless cluster.bus is redis.
    RedisBus at "cluster.redis" {
        /// Address: redis://user:password@host:6379, rediss:// with TLS. Of a cluster, or of sentinels, several with commas
        /// between.
        url: String as Url = "" { secret: true }

        /// Whether the address is that of a cluster: then channels are sharded (Redis 7).
        cluster: bool as Flag = "false" {}

        /// Name of the master that sentinels watch; the address is then the sentinels'. Empty: there are none.
        sentinel_master: String as Text = "" {}

        /// What the names of all channels begin with. Servers with different prefixes do not see each other.
        prefix: String as Prefix = "outspoke" {}
    }
}

section! {
    /// The NATS that connects the servers. Not contacted unless cluster.bus is nats.
    Nats at "cluster.nats" {
        /// Address: nats://user:password@host:4222, tls:// for TLS. Several with commas between.
        url: String as Url = "" { secret: true }

        /// What the subjects begin with. Servers with different prefixes do not see each other.
        prefix: String as Prefix = "outspoke" {}
    }
}
