//! The command line: what `outspoke bench` can be asked for.
//!
//! Every default is a case of `docs/benchmarks.md`. Nothing here opens a socket; values that cannot work are
//! refused before anything runs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::Subcommand;

use crate::capacity::{Plan, StormArgs};
use crate::peer::{EchoMode, PeerKind};
use crate::report::Report;
use crate::scenario;
use crate::stamp::SIZE_MIN;

/// Drives a running WebSocket server over real sockets and counts what a delivery costs.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Scenario(Scenario),
    /// The reference: a bare epoll loop that sends one ready-made frame to each member, and nothing else.
    BareServer(BareServer),
    /// Start each server in turn, pinned to one core, run the cases interleaved, and judge.
    Compare(Compare),
    /// Start several servers with a driver each, hold all their connections, and tell what those cost.
    Scale(Scale),
    /// How many nodes does a load need? Arithmetic on measured figures, shown.
    Plan(Box<Plan>),
    /// Everybody loses the connection: a simulation of when they are back.
    Storm(StormArgs),
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Scenario {
    /// One room, one publisher: how much does a delivery cost, how late is it?
    Fanout(Fanout),
    /// Many small rooms, one publisher and one message in flight in each.
    Rooms(Rooms),
    /// Connect, join, wait: how many connects per second, how much memory does a quiet connection take?
    Idle(Idle),
    /// Request and reply, one in flight on each connection.
    Echo(Echo),
    /// Connect, join, leave, close, again and again: does anything stay behind?
    Churn(Churn),
    /// Some members stop reading: do the others notice?
    Slow(Slow),
    /// Beside healthy members others do all that a server should not be harmed by: do the healthy ones notice?
    Hostile(Hostile),
    /// Publish to stored rooms: how many messages per second are acknowledged as durable, how late?
    Stored(Stored),
    /// Everybody loses the connection, misses messages and comes back at once: when has the last one everything?
    Recover(Recover),
}

impl Scenario {
    /// Runs it.
    pub(crate) fn measure(&self) -> Result<Report> {
        ensure!(
            self.speaks_tls() || !self.server().url.starts_with("wss://"),
            "only idle, churn and fanout speak TLS; use a ws:// address"
        );
        match self {
            Self::Fanout(args) => scenario::relay::fanout(args),
            Self::Rooms(args) => scenario::relay::rooms(args),
            Self::Idle(args) => scenario::idle::run(args),
            Self::Echo(args) => scenario::echo::run(args),
            Self::Churn(args) => scenario::churn::run(args),
            Self::Slow(args) => scenario::slow::run(args),
            Self::Hostile(args) => scenario::hostile::run(args),
            Self::Stored(args) => scenario::echo::stored(args),
            Self::Recover(args) => scenario::recover::run(args),
        }
    }

    /// The others have sockets of their own, or latencies in which the driver's cryptography would count.
    fn speaks_tls(&self) -> bool {
        matches!(self, Self::Idle(_) | Self::Churn(_) | Self::Fanout(_))
    }

    /// Which server it drives.
    pub(crate) fn server(&self) -> &ServerArgs {
        match self {
            Self::Fanout(args) => &args.server,
            Self::Rooms(args) => &args.server,
            Self::Idle(args) => &args.server,
            Self::Echo(args) => &args.server,
            Self::Churn(args) => &args.server,
            Self::Slow(args) => &args.server,
            Self::Hostile(args) => &args.server,
            Self::Stored(args) => &args.server,
            Self::Recover(args) => &args.server,
        }
    }
}

/// Which server, and how it is observed.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ServerArgs {
    /// Address of the running server; `wss://` for `idle`, `churn` and `fanout` over TLS.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    pub(crate) url: String,
    /// PEM file with the certificate of the server, or of who issued it: whom to trust over `wss://`.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Trust whoever answers over `wss://`; only for a server on this machine.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Protocol it speaks.
    #[arg(long, value_enum, default_value_t = PeerKind::Outspoke)]
    pub(crate) peer: PeerKind,
    /// Its process id, on this machine: reports its CPU time and memory (Linux).
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// Run this driver on that core only (Linux).
    #[arg(long, value_name = "CORE")]
    pub(crate) pin: Option<usize>,
    /// Give up when the server does nothing for so long.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How much is sent, and for how long.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Load {
    /// Bytes of each message, without the protocol's envelope.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = size)]
    pub(crate) size: usize,
    /// How long is measured.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long is run before that, not counted.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Messages per second in all, on a fixed schedule; without it, the next is sent when the last has arrived.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub(crate) rate: Option<f64>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Fanout {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) load: Load,
    /// Members of the room, the publisher among them.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) members: u32,
    /// Messages sent in one write; the next write follows when every member has them all.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) in_flight: u32,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Rooms {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) load: Load,
    /// How many rooms.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=0xFF_FFFF))]
    pub(crate) rooms: u32,
    /// Members of each room, its publisher among them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) members: u32,
    /// Messages in flight in each room.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) in_flight: u32,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How many connections.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How many rooms they are spread over; by default each has one of its own.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rooms: Option<u32>,
    /// How many connect at the same time.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrent: u32,
    /// How long it must be quiet before memory is read.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) settle: Duration,
    /// How long they stay then and answer heartbeats, which come every 54 s by default, to see what those cost.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) hold: Duration,
}

/// Arguments of `scale`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Scale {
    /// Outspoke's program.
    #[arg(long, value_name = "FILE")]
    pub(crate) outspoke_bin: PathBuf,
    /// How many servers, a process each: a process has as many connections as it may have descriptors.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) servers: u32,
    /// Connections of each server.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// How many rooms they are spread over on each server; by default each has one of its own.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rooms: Option<u32>,
    /// How long all are held, to see what heartbeats cost.
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = duration)]
    pub(crate) hold: Duration,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Echo {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) load: Load,
    /// How many connections.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// What is asked.
    #[arg(long, value_enum, default_value_t = EchoMode::Ping)]
    pub(crate) mode: EchoMode,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Churn {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How many times a connection comes and goes.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cycles: u32,
    /// How many at the same time.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrent: u32,
    /// How many rooms they visit.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rooms: u32,
    /// How long it must be quiet before what stayed behind is read.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) settle: Duration,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Slow {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Members of the room, the publisher among them.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) members: u32,
    /// Share of the members that stops reading, 0 to 0.9.
    #[arg(long, default_value_t = 0.1, value_parser = share)]
    pub(crate) stalled: f64,
    /// Receive buffer of every member (SO_RCVBUF): without a limit, the kernel takes megabytes for who does not
    /// read, and the server's own bound is never reached.
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    pub(crate) receive_buffer: usize,
    /// Bytes of each message, without the protocol's envelope.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = size)]
    pub(crate) size: usize,
    /// Messages per second, on a fixed schedule.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// How long is measured, once with everybody reading and once without.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long is run before the first measurement, not counted.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) warm_up: Duration,
}

/// Arguments of `hostile`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Hostile {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Rooms of healthy members.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rooms: u32,
    /// Healthy members of each room, the publisher among them.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..))]
    pub(crate) members: u32,
    /// Hostile connections, a thread each.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) hostile: u32,
    /// How long each of them waits between two attacks.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) pause: Duration,
    /// Bytes of each message, without the protocol's envelope.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = size)]
    pub(crate) size: usize,
    /// Messages per second in all, on a fixed schedule.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 500.0, value_parser = rate)]
    pub(crate) rate: f64,
    /// How often is measured, with the healthy ones alone and with all.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How long is measured each time.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long is run before the first measurement, not counted.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) warm_up: Duration,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Stored {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) load: Load,
    /// How many publishers, one message in flight each.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections: u32,
    /// Rooms they are spread over; all publishers of a room receive its messages.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=0xFF_FFFF))]
    pub(crate) rooms: u32,
    /// Send an idempotency key with each message.
    #[arg(long)]
    pub(crate) keys: bool,
    /// What an acknowledgement must mean in these rooms, so that nothing else is measured by mistake.
    #[arg(long, default_value = "stored")]
    pub(crate) durability: String,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Recover {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How many members, spread over the rooms.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) members: u32,
    /// How many rooms.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=0xFF_FFFF))]
    pub(crate) rooms: u32,
    /// Messages that each member misses.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) messages: u32,
    /// Bytes of each message, without the protocol's envelope.
    #[arg(long, value_name = "BYTES", default_value_t = 128, value_parser = size)]
    pub(crate) size: usize,
    /// How many may be connecting at the same time when all come back; more than the server's backlog make the kernel
    /// drop attempts and try again a second later.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrent: u32,
    /// A shell command to run while everybody is away, such as one that starts the server again.
    #[arg(long, value_name = "COMMAND")]
    pub(crate) meanwhile: Option<String>,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct BareServer {
    /// Where to listen; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) addr: SocketAddr,
    /// Size of every delivery on the wire, header included: pad to what the server it is compared with sends.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub(crate) frame_bytes: usize,
    /// Send all that one read brought with one write per member.
    #[arg(long)]
    pub(crate) batch: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Compare {
    /// The `outspoke` binary to judge; a release build.
    #[arg(long, value_name = "PATH")]
    pub(crate) outspoke_bin: Option<PathBuf>,
    /// The `bun` binary, to compare with uWebSockets.
    #[arg(long, value_name = "PATH")]
    pub(crate) bun: Option<PathBuf>,
    /// The publish/subscribe server that Bun runs.
    #[arg(long, value_name = "PATH", default_value = "e2e/bench/bun-server.js")]
    pub(crate) bun_script: PathBuf,
    /// A PostgreSQL database, to measure `stored` with it, too: postgresql://USER:PASSWORD@HOST/DATABASE.
    #[arg(long, value_name = "URL")]
    pub(crate) postgresql: Option<String>,
    /// A Redis server, to measure `stored` with it, too: redis://:PASSWORD@HOST/0.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// How often each case is measured on each server.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// Only these cases.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) cases: Vec<crate::compare::Case>,
    /// How long each measurement takes.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How long is run before each measurement, not counted.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) warm_up: Duration,
    /// Core of the servers.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// Core of this driver.
    #[arg(long, default_value_t = 1)]
    pub(crate) driver_core: usize,
    /// Divide every number of members and connections by this; for trying things out, not for figures.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) shrink: u32,
    /// Write all figures there, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// `500ms`, `5s`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => bail!("write a number and a unit: 500ms, 5s or 2m"),
    };
    match number.parse::<f64>() {
        Ok(value) if (0.0..1e6).contains(&value) => Ok(Duration::from_secs_f64(value * scale)),
        _ => bail!("write a number and a unit: 500ms, 5s or 2m"),
    }
}

fn size(text: &str) -> Result<usize> {
    let size = text.parse()?;
    ensure!(
        (SIZE_MIN..=1 << 20).contains(&size),
        "must be {SIZE_MIN} (sequence number and time must fit) to 1048576"
    );
    Ok(size)
}

fn rate(text: &str) -> Result<f64> {
    let rate: f64 = text.parse()?;
    ensure!(rate > 0.0 && rate <= 10_000_000.0, "must be above 0 and at most 10000000");
    Ok(rate)
}

fn share(text: &str) -> Result<f64> {
    let share: f64 = text.parse()?;
    ensure!((0.0..=0.9).contains(&share), "must be 0 to 0.9");
    Ok(share)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn args_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn args_defaults_are_the_documented_cases() {
        let Command::Scenario(Scenario::Fanout(fanout)) = Cli::parse_from(["bench", "fanout"]).args.command
        else {
            panic!()
        };
        assert_eq!((fanout.members, fanout.in_flight, fanout.load.size), (1000, 1, 128));
        let Command::Scenario(Scenario::Rooms(rooms)) = Cli::parse_from(["bench", "rooms"]).args.command
        else {
            panic!()
        };
        assert_eq!((rooms.rooms, rooms.members), (1000, 10));
        let Command::Scenario(Scenario::Stored(stored)) = Cli::parse_from(["bench", "stored"]).args.command
        else {
            panic!()
        };
        assert_eq!((stored.connections, stored.rooms, stored.load.size), (200, 200, 128));
        let Command::Scenario(Scenario::Recover(recover)) =
            Cli::parse_from(["bench", "recover"]).args.command
        else {
            panic!()
        };
        assert_eq!((recover.members, recover.rooms, recover.messages), (10_000, 100, 100));
    }

    #[test]
    fn args_that_cannot_work_are_refused() {
        for bad in [
            &["bench", "fanout", "--size", "8"][..],
            &["bench", "fanout", "--members", "0"],
            &["bench", "fanout", "--rate", "0"],
            &["bench", "fanout", "--duration", "5"],
            &["bench", "slow", "--stalled", "1"],
        ] {
            assert!(Cli::try_parse_from(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn duration_has_a_number_and_a_unit() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        assert_eq!(duration("2m").unwrap(), Duration::from_secs(120));
        for bad in ["", "5", "s", "-1s", "5h", "nans"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
