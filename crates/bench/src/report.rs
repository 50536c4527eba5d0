//! What a run found, as a table for people and as JSON for programs.
//!
//! Filled by the scenarios, judged by `compare`. A report with problems (losses, closed connections, a server
//! that stopped answering) makes the command fail.

use std::fmt::{self, Write};
use std::time::Duration;

use serde::Serialize;

use crate::histogram::Histogram;
use crate::peer::PeerKind;
use crate::process::Memory;
use crate::sequence::Tally;

/// Waiting for a core for a larger share of the time than this means that the machine was not quiet.
pub(crate) const QUIET: f64 = 0.05;

/// The result of one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Which scenario.
    pub scenario: &'static str,
    /// Which protocol the server spoke.
    pub peer: &'static str,
    /// What was run, in words.
    pub plan: String,
    /// Of `fanout`, `rooms`, `echo` and `stored`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,
    /// Of `idle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Of `churn`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn: Option<Churn>,
    /// Of `slow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slow>,
    /// Of `hostile`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostile: Option<Hostile>,
    /// Of `recover`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recover: Option<Recover>,
    /// What should not have happened.
    pub problems: Vec<String>,
}

/// Deliveries (or replies) under load.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// Length of the measured window.
    pub seconds: f64,
    /// Messages published (or requests sent) in it.
    pub messages: u64,
    /// Messages received by members (or replies) in it.
    pub deliveries: u64,
    /// Deliveries per second.
    pub deliveries_per_s: f64,
    /// From the intended send time to the arrival at each member.
    pub latency: Latency,
    /// Faults per member, summed, over the whole run with its warm-up.
    pub faults: Tally,
    /// Deliveries from a room that the member had not joined.
    pub foreign: u64,
    /// Bytes received per delivery, headers and other events included.
    pub bytes_per_delivery: f64,
    /// All bytes received in the window.
    pub bytes: u64,
    /// The server's CPU time per delivery, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us: Option<f64>,
    /// The server's CPU time as a share of the window; above 1 it used several cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_busy: Option<f64>,
    /// The driver's own CPU time as a share of the window; near 1 the driver was the limit.
    pub driver_busy: f64,
    /// Share of the window in which a thread of the server, or the driver (whichever had it worse), was ready to
    /// run while something else had its core. Above a few percent the machine was not quiet, or the server has
    /// more threads than cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disturbed: Option<f64>,
    /// How late the driver sent, against its schedule, p99 (fixed rate only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_lag_p99_us: Option<f64>,
}

/// A distribution of times, in microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// How many values.
    pub count: u64,
    /// Smallest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Half are at most this.
    pub p50: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl From<&Histogram> for Latency {
    fn from(histogram: &Histogram) -> Self {
        let us = |ns: u64| ns as f64 / 1e3;
        Self {
            count: histogram.count(),
            min: us(histogram.min()),
            mean: histogram.mean() / 1e3,
            p50: us(histogram.quantile(0.5)),
            p99: us(histogram.quantile(0.99)),
            p999: us(histogram.quantile(0.999)),
            max: us(histogram.max()),
        }
    }
}

/// Quiet connections.
#[derive(Debug, Clone, Serialize)]
pub struct Idle {
    /// How many were open at the end.
    pub connections: u32,
    /// Connects per second, upgrade included, joining not.
    pub connects_per_s: f64,
    /// The server's CPU time per connect, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_cpu_us: Option<f64>,
    /// Joins per second, where joining is a request of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joins_per_s: Option<f64>,
    /// Server memory before the first connection and with all of them quiet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<(Memory, Memory)>,
    /// Growth of the proportional set size per connection, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pss_per_connection: Option<f64>,
    /// Growth of the resident set size per connection, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_per_connection: Option<f64>,
    /// Growth of the kernel's own memory (slabs) per connection, in bytes: both ends of it, and whatever else runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_per_connection: Option<f64>,
    /// While they were held: the server's CPU time per connection and second, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_cpu_us: Option<f64>,
}

/// Connections that come and go.
#[derive(Debug, Clone, Serialize)]
pub struct Churn {
    /// Complete cycles.
    pub cycles: u64,
    /// Length of the run.
    pub seconds: f64,
    /// Cycles per second.
    pub cycles_per_s: f64,
    /// From connect to upgraded.
    pub connect: Latency,
    /// From connect to closed.
    pub cycle: Latency,
    /// How the connections ended, and how often.
    pub endings: Vec<(String, u64)>,
    /// Server before and after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<(Footprint, Footprint)>,
}

/// What a server process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Footprint {
    /// Memory.
    pub memory: Memory,
    /// Threads.
    pub threads: usize,
    /// File descriptors.
    pub descriptors: usize,
}

/// Members that stop reading.
#[derive(Debug, Clone, Serialize)]
pub struct Slow {
    /// How many stopped.
    pub stalled: u32,
    /// With everybody reading.
    pub before: Load,
    /// With some stopped: the others.
    pub during: Load,
    /// p99 of the others, during over before.
    pub p99_ratio: f64,
    /// How the stalled connections had ended when they read again; "still open" if not.
    pub endings: Vec<(String, u64)>,
    /// Bytes that were published for each stalled member.
    pub offered_bytes_each: u64,
    /// Server memory before, and at its highest while some were stalled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<(Memory, Memory)>,
}

/// Healthy members beside hostile ones.
#[derive(Debug, Clone, Serialize)]
pub struct Hostile {
    /// How many hostile connections.
    pub connections: u32,
    /// In the order in which they were run.
    pub rounds: Vec<Round>,
    /// Kind of attack, how it ended, how often.
    pub attacks: Vec<(String, String, u64)>,
    /// Server memory before, and at its highest with the hostile ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<(Memory, Memory)>,
}

/// The same load twice, without and with those who disturb it.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// The healthy ones alone.
    pub before: Load,
    /// The healthy ones, with the others.
    pub during: Load,
    /// p99 of the healthy ones, during over before.
    pub p99_ratio: f64,
}

impl Hostile {
    /// The round in the middle, ordered by what the healthy ones felt: a machine that is busy elsewhere disturbs single rounds.
    fn median(&self) -> Option<&Round> {
        let mut rounds: Vec<&Round> = self.rounds.iter().collect();
        rounds.sort_by(|a, b| a.p99_ratio.total_cmp(&b.p99_ratio));
        rounds.get(rounds.len() / 2).copied()
    }
}

/// Members that come back all at once.
#[derive(Debug, Clone, Serialize)]
pub struct Recover {
    /// How many came back.
    pub members: u32,
    /// How many of them were told that they recovered.
    pub recovered: u32,
    /// From the first connect to the last missed message at the last member.
    pub seconds: f64,
    /// From each member's connect to its last missed message.
    pub each: Latency,
    /// Missed messages that arrived.
    pub deliveries: u64,
    /// Those per second.
    pub deliveries_per_s: f64,
    /// Of what was missed: what never came, came twice, or out of order.
    pub faults: Tally,
    /// What an acknowledgement meant to those who published meanwhile.
    pub durability: String,
    /// The server's CPU time from the first connect to the last message, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_s: Option<f64>,
    /// The driver's own CPU time as a share of the time.
    pub driver_busy: f64,
}

impl Report {
    /// A report with nothing in it yet.
    pub(crate) fn new(scenario: &'static str, peer: PeerKind, plan: String) -> Self {
        let peer = peer.name();
        Self {
            scenario,
            peer,
            plan,
            load: None,
            idle: None,
            churn: None,
            slow: None,
            hostile: None,
            recover: None,
            problems: Vec::new(),
        }
    }

    /// A report of `disk`, which speaks to nobody.
    pub(crate) fn of_disk(plan: String) -> Self {
        Self { peer: "disk", ..Self::new("disk", PeerKind::Raw, plan) }
    }

    /// Whether nothing happened that should not.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl Load {
    /// What is wrong with it, in words.
    pub(crate) fn problems(&self) -> Vec<String> {
        let Tally { lost, duplicated, reordered } = self.faults;
        let named = [
            (lost, "lost"),
            (duplicated, "duplicated"),
            (reordered, "out of order"),
            (self.foreign, "from a foreign room"),
        ];
        let mut problems: Vec<String> = named
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(n, what)| format!("{n} deliveries {what}"))
            .collect();
        if self.deliveries == 0 {
            problems.push("nothing was delivered in the measured window".to_owned());
        }
        problems
    }
}

/// Lines of a label and a value, one below the other.
#[derive(Default)]
struct Table(String);

impl Table {
    fn line(&mut self, label: &str, value: impl fmt::Display) {
        writeln!(self.0, "  {label:<22} {value}").expect("writing to a string does not fail");
    }

    fn load(&mut self, load: &Load, unit: &str) {
        let rate = grouped(load.deliveries_per_s);
        self.line(unit, format!("{} in {:.2} s: {rate}/s", grouped(load.deliveries as f64), load.seconds));
        self.line("latency", load.latency);
        if let (Some(cpu), Some(busy)) = (load.server_cpu_us, load.server_busy) {
            self.line("server CPU", format!("{cpu:.3} us each, {:.0} % busy", busy * 100.0));
        }
        let lag =
            load.send_lag_p99_us.map_or(String::new(), |lag| format!(", sends {lag:.0} us late at p99"));
        let hint =
            if load.driver_busy > 0.95 && load.send_lag_p99_us.is_none() { " (the limit!)" } else { "" };
        self.line("driver", format!("{:.0} % busy{hint}{lag}", load.driver_busy * 100.0));
        if let Some(share) = load.disturbed.filter(|share| *share > QUIET) {
            let text =
                format!("{:.0} % of the time waiting for a core in use by another thread", share * 100.0);
            self.line("disturbed", text);
        }
        let Tally { lost, duplicated, reordered } = load.faults;
        let foreign = load.foreign;
        self.line(
            "faults",
            format!("{lost} lost, {duplicated} duplicated, {reordered} reordered, {foreign} foreign"),
        );
        self.line(
            "bytes",
            format!("{:.1} each, {} in all", load.bytes_per_delivery, grouped(load.bytes as f64)),
        );
    }

    fn endings(&mut self, endings: &[(String, u64)]) {
        for (how, count) in endings {
            self.line("ended", format!("{count} x {how}"));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::default();
        if let Some(load) = &self.load {
            let unit = match self.scenario {
                "echo" => "replies",
                "stored" => "acknowledged",
                "disk" => "written",
                _ => "deliveries",
            };
            table.load(load, unit);
        }
        if let Some(idle) = &self.idle {
            let cpu =
                idle.connect_cpu_us.map_or(String::new(), |cpu| format!(", server CPU {cpu:.1} us each"));
            table.line("connects", format!("{}, {}/s{cpu}", idle.connections, grouped(idle.connects_per_s)));
            if let Some(joins) = idle.joins_per_s {
                table.line("joins", format!("{}/s", grouped(joins)));
            }
            if let (Some(pss), Some(rss)) = (idle.pss_per_connection, idle.rss_per_connection) {
                table.line("memory per connection", format!("{pss:.0} B (PSS), {rss:.0} B (RSS)"));
            }
            if let Some(kernel) = idle.kernel_per_connection {
                table.line("the kernel's", format!("{} B per connection, both ends", grouped(kernel)));
            }
            if let Some(cpu) = idle.heartbeat_cpu_us {
                table.line("held", format!("server CPU {cpu:.2} us per connection and second"));
            }
            if let Some((before, after)) = idle.memory {
                table.line(
                    "server memory",
                    format!("{} before, {} with all", mib(before.pss), mib(after.pss)),
                );
            }
        }
        if let Some(churn) = &self.churn {
            let rate = grouped(churn.cycles_per_s);
            table.line("cycles", format!("{} in {:.2} s: {rate}/s", churn.cycles, churn.seconds));
            table.line("connect", churn.connect);
            table.line("whole cycle", churn.cycle);
            table.endings(&churn.endings);
            if let Some((before, after)) = churn.server {
                table.line("server before", before);
                table.line("server after", after);
            }
        }
        if let Some(slow) = &self.slow {
            table.0.push_str("  everybody reads\n");
            table.load(&slow.before, "deliveries");
            writeln!(table.0, "  {} members do not read; the others", slow.stalled)?;
            table.load(&slow.during, "deliveries");
            table.line("p99 during / before", format!("{:.2}", slow.p99_ratio));
            table.line("offered to each", format!("{} B", grouped(slow.offered_bytes_each as f64)));
            table.endings(&slow.endings);
            if let Some((before, peak)) = slow.memory {
                table.line("server memory", format!("{} before, {} at most", mib(before.pss), mib(peak.pss)));
            }
        }
        if let Some(hostile) = &self.hostile {
            if let Some(round) = hostile.median() {
                writeln!(table.0, "  the median of {} rounds: the healthy ones alone", hostile.rounds.len())?;
                table.load(&round.before, "deliveries");
                writeln!(table.0, "  with {} hostile connections", hostile.connections)?;
                table.load(&round.during, "deliveries");
            }
            let ratios: Vec<_> =
                hostile.rounds.iter().map(|round| format!("{:.2}", round.p99_ratio)).collect();
            table.line("p99 during / before", format!("{} in the rounds", ratios.join(", ")));
            for (attack, how, count) in &hostile.attacks {
                table.line("attack", format!("{count} x {attack}: {how}"));
            }
            if let Some((before, peak)) = hostile.memory {
                table.line("server memory", format!("{} before, {} at most", mib(before.pss), mib(peak.pss)));
            }
        }
        if let Some(recover) = &self.recover {
            let Recover { members, recovered, seconds, .. } = recover;
            table.line("came back", format!("{members} members, {recovered} recovered, in {seconds:.2} s"));
            table.line("each", recover.each);
            let (count, rate) = (grouped(recover.deliveries as f64), grouped(recover.deliveries_per_s));
            table.line("missed and delivered", format!("{count}: {rate}/s, {} rooms", recover.durability));
            if let Some(cpu) = recover.server_cpu_s {
                table.line("server CPU", format!("{cpu:.2} s"));
            }
            table.line("driver", format!("{:.0} % busy", recover.driver_busy * 100.0));
            let Tally { lost, duplicated, reordered } = recover.faults;
            table.line("faults", format!("{lost} lost, {duplicated} duplicated, {reordered} reordered"));
        }
        writeln!(f, "{} on {}: {}", self.scenario, self.peer, self.plan)?;
        f.write_str(&table.0)?;
        for problem in &self.problems {
            writeln!(f, "  PROBLEM                {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, p999, max] = [self.p50, self.p99, self.p999, self.max].map(micros);
        write!(f, "p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, threads, descriptors } = self;
        write!(f, "{} PSS, {threads} threads, {descriptors} descriptors", mib(memory.pss))
    }
}

fn micros(us: f64) -> String {
    if us >= 10_000.0 { format!("{:.1} ms", us / 1e3) } else { format!("{us:.0} us") }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Whole numbers with a comma every three digits.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part` over `whole`, 0 when there is no whole.
pub(crate) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Microseconds of `time` for each of `count`.
pub(crate) fn us_each(time: Duration, count: u64) -> f64 {
    ratio(time.as_secs_f64() * 1e6, count as f64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn grouped_has_a_comma_every_three_digits() {
        for (value, text) in
            [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1_234_567.0, "1,234,567"), (-4000.0, "-4,000")]
        {
            assert_eq!(grouped(value), text);
        }
    }

    #[test]
    fn load_with_faults_names_each_of_them() {
        let mut load = Load {
            seconds: 1.0,
            messages: 1,
            deliveries: 10,
            deliveries_per_s: 10.0,
            latency: Latency::default(),
            faults: Tally { lost: 1, duplicated: 2, reordered: 3 },
            foreign: 4,
            bytes_per_delivery: 0.0,
            bytes: 0,
            server_cpu_us: None,
            server_busy: None,
            driver_busy: 0.0,
            disturbed: None,
            send_lag_p99_us: None,
        };
        assert_eq!(load.problems().len(), 4);
        load.faults = Tally::default();
        load.foreign = 0;
        assert_eq!(load.problems(), Vec::<String>::new());
        load.deliveries = 0;
        assert_eq!(load.problems().len(), 1);
    }
}
