//! Every setting of the server: type, default, meaning, range.
//!
//! The one list. The reader, `config.yaml`, `docs/operating/configuration.md` and `config show` all come from it;
//! a test fails when the two files lag behind. Rules between settings are in `rules`.

use std::path::PathBuf;
use std::time::Duration;

use super::address::ListenAddr;
use super::kind::{Address, Count, Flag, Folder, Level, LogFormat, Room, Size, SlowClient, Text, Time, Urls};
use super::resolve::Resolver;
use super::table::{Section, SectionInfo, section};

/// All settings of one server.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Listening and connections.
    pub server: Server,
    /// Finding dead connections.
    pub heartbeat: Heartbeat,
    /// Bounds on what clients may use.
    pub limits: Limits,
    /// How rooms behave.
    pub rooms: Rooms,
    /// Compressed messages.
    pub compression: Compression,
    /// What the server says about itself.
    pub log: Log,
    /// What the server keeps.
    pub data: Data,
    /// Several servers acting as one.
    pub cluster: Cluster,
}

impl Section for Config {
    fn describe(out: &mut Vec<SectionInfo>) {
        Server::describe(out);
        Heartbeat::describe(out);
        Limits::describe(out);
        Rooms::describe(out);
        Compression::describe(out);
        Log::describe(out);
        Data::describe(out);
        Cluster::describe(out);
    }

    fn read(resolver: &mut Resolver) -> Self {
        Self {
            server: Server::read(resolver),
            heartbeat: Heartbeat::read(resolver),
            limits: Limits::read(resolver),
            rooms: Rooms::read(resolver),
            compression: Compression::read(resolver),
            log: Log::read(resolver),
            data: Data::read(resolver),
            cluster: Cluster::read(resolver),
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

        /// Serve the web chat at /.
        page: bool as Flag = "true" {}

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

        /// Rooms that exist at the same time. An empty room is freed and does not count.
        rooms_max: usize as Count = "1_000_000" {
            range: Some(("1", "100_000_000")),
            unit: Some("rooms"),
            at_limit: Some("joining a room that does not exist yet is refused with an error reply"),
        }

        /// Clients in one room.
        room_members_max: usize as Count = "0" {
            range: Some(("1", "100_000_000")),
            unit: Some("clients"),
            zero: Some("no limit"),
            at_limit: Some("joining the room is refused with an error reply"),
        }

        /// Bytes that may wait for one client that reads too slowly.
        outbox_bytes_max: usize as Size = "1MiB" {
            range: Some(("4KiB", "1GiB")),
            at_limit: Some("rooms.slow_client decides"),
        }

        /// Bytes that may wait for one shard between two of its turns.
        inbox_bytes_max: usize as Size = "64MiB" {
            range: Some(("64KiB", "1GiB")),
            at_limit: Some("reading from clients that publish pauses until the shard has caught up"),
        }
    }
}

section! {
    /// How rooms behave.
    Rooms at "rooms" {
        /// Room that a client is in from the start. "" for none; a client can also ask for none with ?join=none.
        default: String as Room = "lobby" {}

        /// Tell the members of a room who joins and who leaves.
        announce: bool as Flag = "true" {}

        /// In a room with more members than this, joins and leaves are not announced.
        announce_members_max: usize as Count = "1000" {
            range: Some(("1", "100_000_000")),
            unit: Some("clients"),
            zero: Some("never announced, as with rooms.announce: false"),
        }

        /// What happens to the messages for a client whose outbox is full: disconnect closes the client with code
        /// 4000, it may reconnect, and nothing is lost in silence; drop_oldest makes space by dropping the oldest
        /// messages of the room; drop_newest drops what does not fit; conflate keeps the newest message of each sort
        /// and sender; resync drops what waits and tells the client how much it missed.
        slow_client: SlowClient as SlowClient = "disconnect" {}
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
    /// Several servers acting as one.
    Cluster at "cluster" {
        /// Join the other servers. This build has no cluster back end yet and refuses to start with true.
        enabled: bool as Flag = "false" {}
    }
    with {
        /// The etcd cluster that connects the servers.
        etcd: Etcd,
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
    }
}
