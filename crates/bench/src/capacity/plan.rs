//! How many nodes a load needs: each resource's arithmetic, shown line by line, and the largest answer of them.
//!
//! The figures are those of `measured.json`: another machine has others, and `--set NAME=VALUE` takes them. What is not in the
//! arithmetic is said in `docs/operating/capacity.md`.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::measured::Measured;
use super::storm::{self, Outcome, StormArgs};
use crate::args::duration;
use crate::report::grouped;

/// Seconds of a month of 30 days.
const MONTH: f64 = 30.0 * 86_400.0;
const GIB: f64 = (1_u64 << 30) as f64;
/// IP and TCP headers with time stamps, of a segment and of the acknowledgement it gets.
const PACKET_BYTES: f64 = 104.0;
/// Descriptors of a node that are no client's.
const DESCRIPTORS_KEPT: f64 = 1_000.0;

/// Arguments of `plan`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// Connections open at the same time.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    connections: u32,
    /// Whether the nodes themselves end TLS; otherwise a proxy does, or nobody.
    #[arg(long)]
    tls: bool,
    /// Messages published per second, by all together.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 5_000.0)]
    messages: f64,
    /// Members of the room that a message goes to, on average.
    #[arg(long, default_value_t = 20.0)]
    members: f64,
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 128.0)]
    size: f64,
    /// Share of the messages that stored rooms keep, 0 to 1.
    #[arg(long, default_value_t = 0.5)]
    stored: f64,
    /// How long a client stays, on average.
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    stay: Duration,
    /// Share of the clients that read too slowly, each with a full queue.
    #[arg(long, default_value_t = 0.005)]
    slow: f64,
    /// Bytes that may wait for one of them (`limits.outbox_bytes_max`).
    #[arg(long, value_name = "BYTES", default_value_t = 1_048_576.0)]
    outbox: f64,
    /// Cores of a node.
    #[arg(long, default_value_t = 8.0)]
    cores: f64,
    /// Memory of a node, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 16.0)]
    memory: f64,
    /// Network of a node, in Gbit/s.
    #[arg(long, value_name = "GBIT", default_value_t = 10.0)]
    network: f64,
    /// Descriptors that a process may have.
    #[arg(long, default_value_t = 1_048_576.0)]
    descriptors: f64,
    /// Share of each of these that is to be used at most, so that there is room for the rest of the day.
    #[arg(long, default_value_t = 0.6)]
    busy: f64,
    /// Nodes that may be gone at the same time.
    #[arg(long, default_value_t = 1)]
    spare: u32,
    /// Price of a core for a month; with the other two prices the plan tells costs, in the same currency.
    #[arg(long, value_name = "PRICE")]
    core_month: Option<f64>,
    /// Price of a GiB of memory for a month.
    #[arg(long, value_name = "PRICE", default_value_t = 0.0)]
    gib_month: f64,
    /// Price of a GB sent to clients.
    #[arg(long, value_name = "PRICE", default_value_t = 0.0)]
    gb_out: f64,
    /// A figure of another machine instead of the measured one, as `delivery_cpu_us=2.5`; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = figure)]
    figures: Vec<(String, f64)>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn figure(text: &str) -> Result<(String, f64)> {
    let (name, value) = text.split_once('=').context("write NAME=VALUE, as delivery_cpu_us=2.5")?;
    let value: f64 = value.parse().with_context(|| format!("{value:?} is no number"))?;
    ensure!(value > 0.0 && value.is_finite(), "must be above 0");
    Measured::committed()?.get(name)?;
    Ok((name.to_owned(), value))
}

/// What it takes.
#[derive(Debug, Clone, Serialize)]
struct Needs {
    /// What the figures were measured on, and when.
    measured: String,
    /// Each with the sum that gives it.
    lines: Vec<Line>,
    nodes: u32,
    cores_busy: f64,
    memory_gib: f64,
    network_gbit: f64,
    bus_frames_per_s: f64,
    stored_per_s: f64,
    stored_gb_a_day: f64,
    sent_gb_a_month: f64,
    /// One node is gone: its clients on the others.
    one_node: Outcome,
    /// All are gone, and start again.
    all_nodes: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_a_month: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
struct Line {
    what: &'static str,
    sum: String,
    result: String,
}

/// Runs `plan`.
pub(crate) fn run(args: &Plan) -> Result<()> {
    let text = render(args)?;
    io::stdout().lock().write_all(text.as_bytes()).context("cannot print the plan")
}

/// What is printed.
pub(super) fn render(args: &Plan) -> Result<String> {
    let needs = args.needs()?;
    let mut text = String::new();
    if args.json {
        text = serde_json::to_string_pretty(&needs)?;
        text.push('\n');
    } else {
        write!(text, "{needs}")?;
    }
    Ok(text)
}

impl Plan {
    fn check(&self) -> Result<()> {
        for (name, share) in [("--stored", self.stored), ("--slow", self.slow)] {
            ensure!((0.0..=1.0).contains(&share), "{name} must be 0 to 1");
        }
        ensure!(self.busy > 0.0 && self.busy <= 1.0, "--busy must be above 0 and at most 1");
        let positive = [
            ("--cores", self.cores),
            ("--memory", self.memory),
            ("--network", self.network),
            ("--members", self.members),
        ];
        for (name, value) in positive {
            ensure!(value > 0.0 && value.is_finite(), "{name} must be above 0");
        }
        let amounts = [
            ("--messages", self.messages),
            ("--size", self.size),
            ("--outbox", self.outbox),
            ("--core-month", self.core_month.unwrap_or_default()),
            ("--gib-month", self.gib_month),
            ("--gb-out", self.gb_out),
        ];
        for (name, value) in amounts {
            ensure!(value >= 0.0 && value.is_finite(), "{name} must not be below 0");
        }
        ensure!(self.descriptors > DESCRIPTORS_KEPT, "--descriptors must be above {DESCRIPTORS_KEPT}");
        ensure!(!self.stay.is_zero(), "--stay must be above 0");
        Ok(())
    }

    /// A figure of this machine, or the one that was given instead.
    fn figure(&self, measured: &Measured, name: &str) -> Result<f64> {
        let given = self.figures.iter().rev().find(|(given, _)| given == name);
        given.map_or_else(|| measured.get(name), |(_, value)| Ok(*value))
    }

    fn needs(&self) -> Result<Needs> {
        self.check()?;
        let measured = Measured::committed()?;
        let figure = |name: &str| self.figure(&measured, name);
        let mut lines = Vec::new();
        let mut line = |what, sum: String, result: String| lines.push(Line { what, sum, result });
        let connections = f64::from(self.connections);
        let n = |value: f64| grouped(value);

        let process = figure(if self.tls { "idle_tls_bytes" } else { "idle_bytes" })?;
        let kernel = figure("kernel_bytes")?;
        let quiet = connections * (process + kernel) / GIB;
        line(
            "quiet connections",
            format!("{} x ({} B process + {} B kernel)", n(connections), n(process), n(kernel)),
            format!("{quiet:.1} GiB"),
        );
        let queues = connections * self.slow * self.outbox / GIB;
        line(
            "slow clients' queues",
            format!("{} x {} x {} B", n(connections), self.slow, n(self.outbox)),
            format!("{queues:.1} GiB"),
        );
        let memory = quiet + queues;

        let deliveries = self.messages * self.members;
        let delivery = figure("delivery_cpu_us")?;
        let delivering = deliveries * delivery / 1e6;
        line(
            "deliveries",
            format!("{} messages/s x {} members x {delivery} us", n(self.messages), n(self.members)),
            format!("{delivering:.2} cores"),
        );
        let heartbeat = figure("heartbeat_cpu_us")?;
        let beating = connections * heartbeat / 1e6;
        line("heartbeats", format!("{} x {heartbeat} us", n(connections)), format!("{beating:.2} cores"));
        let connect = figure("connect_cpu_us")?;
        let coming = connections / self.stay.as_secs_f64();
        let connecting = coming * connect / 1e6;
        line(
            "coming and going",
            format!("{} / {:?} x {connect} us", n(connections), self.stay),
            format!("{connecting:.2} cores"),
        );
        let stored = self.messages * self.stored;
        let storing = stored * figure("stored_cpu_us")? / 1e6;
        line(
            "stored messages",
            format!("{} /s x {} us", n(stored), figure("stored_cpu_us")?),
            format!("{storing:.2} cores"),
        );
        let cores = delivering + beating + connecting + storing;

        let bytes = self.size + figure("envelope_bytes")? + PACKET_BYTES;
        let out = deliveries * bytes * 8.0 / 1e9;
        line("sent to clients", format!("{} /s x {} B", n(deliveries), n(bytes)), format!("{out:.2} Gbit/s"));

        let limits = [
            ("memory", memory / (self.memory * self.busy)),
            ("cores", cores / (self.cores * self.busy)),
            ("network", out / (self.network * self.busy)),
            ("descriptors", connections / (self.descriptors - DESCRIPTORS_KEPT)),
        ];
        let (bound, most) =
            limits.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).context("there is at least one limit")?;
        let working = most.ceil().max(1.0);
        let nodes = working as u32 + self.spare;
        line(
            "nodes",
            format!(
                "{} for the {bound} of which {:.0} % are used, and {} to spare",
                n(working),
                self.busy * 100.0,
                self.spare
            ),
            nodes.to_string(),
        );

        // A node publishes once what the others hear; each of them that has a member hears it.
        let hearing = self.members.min(f64::from(nodes - 1));
        let frames = if nodes > 1 { self.messages * (1.0 + hearing) } else { 0.0 };
        let bus = frames * figure("bus_frame_cpu_us")? / 1e6;
        line(
            "bus, at most",
            format!("{} messages/s x (1 + {} nodes that hear)", n(self.messages), n(hearing)),
            format!("{} frames/s, {bus:.2} cores of nodes and bus", n(frames)),
        );
        let stored_gb = stored * (self.size + figure("envelope_bytes")?) * 86_400.0 / 1e9;
        line(
            "store",
            format!("{} messages/s, {stored_gb:.1} GB a day before its own overhead", n(stored)),
            format!("{} /s", n(stored)),
        );

        let free_cores = |nodes: f64| (nodes * self.cores - cores).max(0.1 * nodes * self.cores);
        let storm = |clients: f64, nodes: f64, busy: bool| {
            let free = if busy { free_cores(nodes) } else { nodes * self.cores };
            let rate = (free * 1e6 / connect).clamp(1.0, 1e8) as u32;
            storm::simulate(&StormArgs {
                clients: (clients as u32).max(1),
                rate,
                places: (nodes * 4096.0).min(1e8) as u32,
                patience: Duration::from_secs(10),
                base: Duration::from_secs(1),
                cap: Duration::from_secs(30),
                without_jitter: false,
                spread: Duration::ZERO,
                seed: 1,
                json: false,
            })
        };
        let all = f64::from(nodes);
        let one_node = storm(connections / all, (all - 1.0).max(1.0), true)?;
        let all_nodes = storm(connections, all, false)?;

        let sent_gb = deliveries * bytes * MONTH / 1e9;
        let cost = self
            .core_month
            .map(|price| all * (self.cores * price + self.memory * self.gib_month) + sent_gb * self.gb_out);
        if let Some(cost) = cost {
            line(
                "a month",
                format!(
                    "{nodes} nodes x ({} cores x {} + {} GiB x {}) + {} GB x {}",
                    self.cores,
                    self.core_month.unwrap_or_default(),
                    self.memory,
                    self.gib_month,
                    n(sent_gb),
                    self.gb_out
                ),
                n(cost),
            );
        }
        Ok(Needs {
            measured: format!("{}, {}", measured.machine, measured.date),
            lines,
            nodes,
            cores_busy: cores,
            memory_gib: memory,
            network_gbit: out,
            bus_frames_per_s: frames,
            stored_per_s: stored,
            stored_gb_a_day: stored_gb,
            sent_gb_a_month: sent_gb,
            one_node,
            all_nodes,
            cost_a_month: cost,
        })
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.lines.iter().map(|line| line.sum.len()).max().unwrap_or_default();
        for Line { what, sum, result } in &self.lines {
            writeln!(f, "{what:<22} {sum:<width$} = {result}")?;
        }
        writeln!(f, "\nmeasured on {}", self.measured)?;
        writeln!(f, "\none node is gone, its clients go to the others:\n{}", self.one_node)?;
        write!(f, "all nodes are gone and start again:\n{}", self.all_nodes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        plan: Plan,
    }

    fn needs(words: &str) -> Result<Needs> {
        Cli::try_parse_from(["plan"].into_iter().chain(words.split_whitespace()))?.plan.needs()
    }

    #[test]
    fn plan_of_few_clients_is_one_node_and_a_spare() {
        let needs = needs("--connections 1000 --messages 10").unwrap();
        assert_eq!(needs.nodes, 2);
        assert!(needs.memory_gib < 1.0 && needs.cores_busy < 1.0);
    }

    #[test]
    fn the_scarcest_resource_decides_how_many_nodes() {
        let by_memory = needs("--connections 10000000 --messages 1 --memory 4 --cores 64").unwrap();
        assert!(by_memory.to_string().contains("for the memory"), "{by_memory}");
        let by_cores = needs("--connections 1000 --messages 1000000 --network 1000").unwrap();
        assert!(by_cores.to_string().contains("for the cores"), "{by_cores}");
        let by_descriptors = needs("--connections 1000000 --messages 1 --descriptors 21000").unwrap();
        assert_eq!(by_descriptors.nodes, 51);
    }

    #[test]
    fn sums_are_those_of_the_figures_given() {
        let needs = needs(
            "--connections 1000000 --slow 0 --set idle_bytes=1073.741824 --set kernel_bytes=1073.741824 --messages 1000 --members 10 \
             --set delivery_cpu_us=100",
        )
        .unwrap();
        assert!((needs.memory_gib - 2.0).abs() < 1e-9, "{}", needs.memory_gib);
        assert!(needs.to_string().contains("1,000 messages/s x 10 members x 100 us"), "{needs}");
        assert!(needs.to_string().contains("= 1.00 cores"), "{needs}");
    }

    #[test]
    fn cost_is_told_where_prices_are() {
        assert!(needs("").unwrap().cost_a_month.is_none());
        let cost =
            needs("--connections 1000 --messages 0 --core-month 10 --gib-month 1 --cores 2 --memory 4")
                .unwrap();
        assert_eq!(cost.cost_a_month, Some(2.0 * (2.0 * 10.0 + 4.0)));
    }

    #[test]
    fn values_that_cannot_be_are_refused_with_their_name() {
        for (words, name) in [
            ("--stored 2", "--stored"),
            ("--busy 0", "--busy"),
            ("--cores 0", "--cores"),
            ("--messages=-1", "--messages"),
            ("--set no_such_figure=1", "no_such_figure"),
            ("--set delivery_cpu_us=0", "above 0"),
            ("--descriptors 10", "--descriptors"),
        ] {
            let error = format!("{:#}", needs(words).unwrap_err());
            assert!(error.contains(name), "{words}: {error}");
        }
    }

    #[test]
    fn json_has_the_same_answers() {
        let plan = Cli::try_parse_from(["plan", "--connections", "1000", "--json"]).unwrap().plan;
        let json: serde_json::Value = serde_json::from_str(&render(&plan).unwrap()).unwrap();
        assert_eq!(json["nodes"], 2);
        assert!(json["one_node"]["attempts"].as_u64().unwrap() >= 500);
    }
}
