//! The cases of a comparison: which scenario with which numbers, and which figures of its report count.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::servers::Running;
use crate::args::{Echo, Fanout, Idle, Load, Rooms, ServerArgs, Slow, Stored};
use crate::peer::EchoMode;
use crate::report::{self, Report};
use crate::scenario;

/// What is measured on each server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Case {
    /// One room of 1,000, one message per write.
    Fanout,
    /// One room of 1,000, 16 messages in flight.
    Fanout16,
    /// 1,000 rooms of 10.
    Rooms,
    /// Request and reply on 1,000 connections.
    Echo,
    /// 10,000 quiet connections, a room each.
    Idle,
    /// The same over TLS (Outspoke only; `openssl` makes its certificate).
    IdleTls,
    /// One room of 1,000 at a fixed rate, a tenth of it stops reading (Outspoke only).
    Slow,
    /// 200 publishers to 200 stored rooms (Outspoke only, with each store).
    Stored,
}

/// A number that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Figure {
    /// Server CPU per delivery or reply, microseconds.
    Cpu,
    /// Deliveries or replies per second.
    PerSecond,
    /// Latency, 99th percentile, microseconds.
    P99,
    /// Bytes of server memory per quiet connection.
    Memory,
    /// Connects per second.
    Connects,
    /// Server CPU per connect, microseconds.
    ConnectCpu,
    /// p99 of those who read, with others stuck over without.
    P99Ratio,
    /// Share of the stuck members that were closed with a close frame.
    ClosedWithCode,
    /// The server's highest memory while members were stuck, MiB.
    PeakMemory,
    /// The driver's own CPU time as a share of the window.
    DriverBusy,
    /// Share of the window lost to other programs on the same cores.
    Disturbed,
}

/// Sizes and times that the command line may change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    pub(super) shrink: u32,
    pub(super) duration: Duration,
    pub(super) warm_up: Duration,
}

/// Publishers of [`Case::Stored`].
const PUBLISHERS: u32 = 200;

impl Scale {
    fn count(self, full: u32) -> u32 {
        (full / self.shrink).max(2)
    }

    fn load(self) -> Load {
        Load { size: 128, duration: self.duration, warm_up: self.warm_up, rate: None }
    }
}

impl Case {
    /// In the order in which they are run.
    pub(super) const ALL: [Self; 8] = [
        Self::Fanout,
        Self::Fanout16,
        Self::Rooms,
        Self::Echo,
        Self::Idle,
        Self::IdleTls,
        Self::Slow,
        Self::Stored,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Fanout16 => "fanout16",
            Self::Rooms => "rooms",
            Self::Echo => "echo",
            Self::Idle => "idle",
            Self::IdleTls => "idle-tls",
            Self::Slow => "slow",
            Self::Stored => "stored",
        }
    }

    /// Measures one running server.
    pub(super) fn run(self, running: &Running, scale: Scale) -> Result<Report> {
        let server = running.args();
        let load = scale.load();
        match self {
            Self::Fanout => fanout(server, load, scale, 1),
            Self::Fanout16 => fanout(server, load, scale, 16),
            Self::Rooms => {
                let rooms = scale.count(1000);
                scenario::relay::rooms(&Rooms { server, load, rooms, members: 10, in_flight: 1 })
            }
            Self::Echo => {
                let connections = scale.count(1000);
                scenario::echo::run(&Echo { server, load, connections, mode: EchoMode::Ping })
            }
            Self::Idle | Self::IdleTls => {
                let connections = scale.count(10_000);
                let settle = Duration::from_secs(1);
                scenario::idle::run(&Idle {
                    server,
                    connections,
                    rooms: None,
                    concurrent: 128,
                    settle,
                    hold: Duration::ZERO,
                })
            }
            Self::Slow => scenario::slow::run(&Slow {
                server,
                members: scale.count(1000),
                stalled: 0.1,
                receive_buffer: 65_536,
                size: 1024,
                rate: 100.0,
                // Long enough for socket buffers and the server's own bound to fill up.
                duration: scale.duration * 5,
                warm_up: scale.warm_up,
            }),
            Self::Stored => {
                let (connections, durability) = (scale.count(PUBLISHERS), "stored".to_owned());
                scenario::echo::stored(&Stored {
                    server,
                    load,
                    connections,
                    rooms: connections,
                    keys: false,
                    durability,
                })
            }
        }
    }

    /// The figures that a clean report always has.
    pub(super) fn main_figures(self) -> &'static [Figure] {
        match self {
            Self::Fanout | Self::Fanout16 | Self::Rooms | Self::Echo | Self::Stored => {
                &[Figure::Cpu, Figure::PerSecond, Figure::P99, Figure::DriverBusy, Figure::Disturbed]
            }
            Self::Idle | Self::IdleTls => &[Figure::Memory, Figure::Connects, Figure::ConnectCpu],
            Self::Slow => &[Figure::P99Ratio, Figure::ClosedWithCode, Figure::PeakMemory],
        }
    }

    /// What counts of a clean report.
    pub(super) fn figures(self, report: &Report) -> Vec<(Figure, f64)> {
        self.main_figures().iter().map(|&figure| (figure, figure.of(report).unwrap_or(f64::NAN))).collect()
    }
}

/// What a disk does with nothing but the bytes of [`Case::Stored`].
pub(super) fn disk(folder: &std::path::Path, scale: Scale) -> Result<Report> {
    let load = scale.load();
    crate::disk::measure(folder, scale.count(PUBLISHERS), load.size, load.warm_up, load.duration)
}

fn fanout(server: ServerArgs, load: Load, scale: Scale, in_flight: u32) -> Result<Report> {
    scenario::relay::fanout(&Fanout { server, load, members: scale.count(1000), in_flight })
}

impl Figure {
    fn of(self, report: &Report) -> Option<f64> {
        let load = report.load.as_ref();
        match self {
            Self::Cpu => load?.server_cpu_us,
            Self::PerSecond => Some(load?.deliveries_per_s),
            Self::P99 => Some(load?.latency.p99),
            Self::DriverBusy => Some(load?.driver_busy),
            Self::Disturbed => load?.disturbed,
            Self::ConnectCpu => report.idle.as_ref()?.connect_cpu_us,
            Self::Memory => report.idle.as_ref()?.pss_per_connection,
            Self::Connects => Some(report.idle.as_ref()?.connects_per_s),
            Self::P99Ratio => Some(report.slow.as_ref()?.p99_ratio),
            Self::PeakMemory => {
                let (_, peak) = report.slow.as_ref()?.memory?;
                Some(peak.pss as f64 / f64::from(1 << 20))
            }
            Self::ClosedWithCode => {
                let slow = report.slow.as_ref()?;
                let with_code = slow.endings.iter().filter(|(how, _)| how.starts_with("close code"));
                let closed: u64 = with_code.map(|(_, count)| count).sum();
                Some(report::ratio(closed as f64, f64::from(slow.stalled)))
            }
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU us each",
            Self::PerSecond => "per second",
            Self::P99 => "p99 us",
            Self::Memory => "B/connection",
            Self::Connects => "connects/s",
            Self::ConnectCpu => "CPU us/connect",
            Self::Disturbed => "disturbed",
            Self::P99Ratio => "p99 ratio",
            Self::ClosedWithCode => "closed by code",
            Self::PeakMemory => "peak MiB",
            Self::DriverBusy => "driver busy",
        }
    }

    /// The number with the digits that mean something.
    pub(super) fn number(self, value: f64) -> String {
        match self {
            _ if value.is_nan() => "-".to_owned(),
            Self::Cpu => format!("{value:.3}"),
            Self::P99Ratio | Self::ClosedWithCode | Self::DriverBusy | Self::Disturbed => {
                format!("{value:.2}")
            }
            Self::PeakMemory | Self::ConnectCpu => format!("{value:.1}"),
            Self::PerSecond | Self::P99 | Self::Memory | Self::Connects => report::grouped(value),
        }
    }

    pub(super) fn show(self, value: f64) -> String {
        format!("{} {},", self.number(value), self.label())
    }
}
