//! `outspoke cluster`: look at a running cluster and give its nodes orders, over the HTTP API of any of them.
//!
//! Results go to standard output, progress and remarks to standard error. Whom to ask, and how, is [`super::reach`]'s and
//! [`super::api`]'s.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::api::{Api, ApiError, encoded, read};
use super::healthcheck::timeout;
use super::output::{columns, print, say, span};
use super::reach::ReachArgs;
use crate::exit::Exit;

/// How often it is looked whether a node has become empty.
const LOOK: Duration = Duration::from_millis(500);

/// What to ask a cluster, or to tell it.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// List the nodes: who is there, how they are, and how the bus between them is.
    Nodes(ClusterArgs),
    /// Let every node ping every other over the bus: exits with 0 if all reach each other, with 1 if not.
    Check(ClusterArgs),
    /// Let a node take no new clients and send those it has to the others, a batch at a time.
    ///
    /// It goes on publishing and answering the API, and is not ready (/readyz) for load balancers. Without --batch and --interval
    /// its settings drain.* say how fast it goes.
    Drain(DrainArgs),
    /// Let a node take clients again.
    Resume(NodeArgs),
}

/// Whom to ask.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    #[command(flatten)]
    pub(super) reach: ReachArgs,

    /// Print the API's JSON instead of lines
    #[arg(long)]
    pub(super) json: bool,
}

/// Which node.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The node's name or id, as `outspoke cluster nodes` prints them
    #[arg(value_name = "NODE")]
    node: String,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Which node, and whether to wait for it.
#[derive(Debug, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    node: NodeArgs,

    /// Where its clients are sent: a node that has set cluster.advertise, or an address such as wss://hub-2.example.com/ws
    /// [default: the node that each user prefers]
    #[arg(long, value_name = "NODE|URL")]
    to: Option<String>,

    /// Clients told at once; with it the pace is kept however long the whole takes
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: Option<u32>,

    /// Time between two batches, as 250ms or 2s; with it the pace is kept however long the whole takes
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    interval: Option<Duration>,

    /// Wait until the node has no connections, so long at most [default without a duration: 60s]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true,
          default_missing_value = "60s", value_parser = timeout)]
    wait: Option<Duration>,
}

/// Why a cluster was not looked at, or did not do as it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The server was not asked, or refuses.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Nobody hears of that node.
    #[error("the server hears of no node {0:?}")]
    UnknownNode(String),
    /// The server is on its own.
    #[error("the server is in no cluster")]
    Alone,
    /// The node still has clients.
    #[error("node {node} still has {connections} connections after {} seconds", .waited.as_secs())]
    NotEmpty {
        /// Its name.
        node: String,
        /// How many.
        connections: u64,
        /// How long it was waited.
        waited: Duration,
    },
}

impl ClusterError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Api(error) => return error.hint(),
            Self::UnknownNode(_) => "`outspoke cluster nodes` lists those that it hears of",
            Self::Alone => "set cluster.enabled to true on every server; see docs/operating/cluster.md",
            Self::NotEmpty { .. } => {
                "it goes on draining; clients that do not go are cut when the node is stopped (SIGTERM)"
            }
        };
        hint.to_owned()
    }

    /// How the process ends for it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Api(error) => error.exit(),
            _ => Exit::Failure,
        }
    }
}

/// What is read of a node.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: String,
    name: String,
    version: String,
    #[serde(default)]
    url: String,
    here: bool,
    draining: bool,
    silent: bool,
    hears_us: bool,
    connections: u64,
    rooms: u64,
    uptime_seconds: u64,
    silent_seconds: f64,
    lag_ms: i64,
}

#[derive(Debug, Deserialize)]
struct Nodes {
    nodes: Vec<Node>,
    bus: Option<Bus>,
}

#[derive(Debug, Deserialize)]
struct Bus {
    kind: String,
    connected: bool,
    #[serde(default)]
    detail: String,
    sent: u64,
    heard: u64,
    unsent: u64,
    missed: u64,
}

#[derive(Debug, Deserialize)]
struct Label {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    to: Label,
    round_trip_ms: Option<f64>,
    clock_ahead_ms: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Found {
    from: Label,
    answered: bool,
    routes: Vec<Route>,
}

#[derive(Debug, Deserialize)]
struct Checked {
    ok: bool,
    checks: Vec<Found>,
}

pub(super) fn run(command: ClusterCommand) -> anyhow::Result<ExitCode> {
    match command {
        ClusterCommand::Nodes(args) => nodes(&args)?,
        ClusterCommand::Check(args) => return check(&args),
        ClusterCommand::Drain(args) => drain(&args)?,
        ClusterCommand::Resume(args) => {
            let (node, json) = order(&Api::of(&args.cluster.reach)?, &args.node, "resume")?;
            report(&args.cluster, &json, &format!("ok: node {} takes clients again\n", node.name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn nodes(args: &ClusterArgs) -> anyhow::Result<()> {
    let json = Api::of(&args.reach)?.ask("GET", "/nodes")?;
    let Nodes { nodes, bus } = read(&json)?;
    let mut text = columns(
        &["NODE", "STATE", "CONNECTIONS", "ROOMS", "UP", "HEARD", "LAG", "VERSION", "ADDRESS"],
        nodes.iter().map(Node::row).collect(),
    );
    match &bus {
        Some(bus) => text.push_str(&bus.line()),
        None => text.push_str("no bus: this server is on its own\n"),
    }
    report(args, &json, &text)
}

impl Node {
    fn state(&self) -> String {
        let words = [
            (self.draining, "draining"),
            (self.silent, "silent"),
            (!self.hears_us, "does not hear this one"),
        ];
        let words: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        if words.is_empty() { "serving".to_owned() } else { words.join(", ") }
    }

    fn row(&self) -> Vec<String> {
        let of_others = |text: String| if self.here { "-".to_owned() } else { text };
        vec![
            format!("{}{}", self.name, if self.here { " (this one)" } else { "" }),
            self.state(),
            self.connections.to_string(),
            self.rooms.to_string(),
            span(self.uptime_seconds),
            of_others(format!("{:.1} s ago", self.silent_seconds)),
            of_others(format!("{} ms", self.lag_ms)),
            self.version.clone(),
            if self.url.is_empty() { "-".to_owned() } else { self.url.clone() },
        ]
    }
}

impl Bus {
    fn line(&self) -> String {
        let state = if self.connected { "connected" } else { "away" };
        let detail = if self.detail.is_empty() { String::new() } else { format!(" ({})", self.detail) };
        let Self { kind, sent, heard, unsent, missed, .. } = self;
        format!(
            "bus: {kind}, {state}{detail}; {sent} sent, {heard} heard, {unsent} not sent, {missed} missed\n"
        )
    }
}

fn check(args: &ClusterArgs) -> anyhow::Result<ExitCode> {
    let server = Api::of(&args.reach)?;
    let json = server.ask("POST", "/cluster/check")?;
    let Checked { ok, checks } = read(&json)?;
    if checks.len() == 1 && read::<Nodes>(&server.ask("GET", "/nodes")?)?.bus.is_none() {
        return Err(ClusterError::Alone.into());
    }
    let rows = checks.iter().flat_map(|found| found.routes.iter().map(|route| found.row(route))).collect();
    let mut text = columns(&["FROM", "TO", "ROUND TRIP", "CLOCK"], rows);
    let count = checks.len();
    let _ = match (ok, count) {
        (true, 1) => writeln!(text, "ok: no other node is heard of"),
        (true, _) => writeln!(text, "ok: {count} nodes reach each other"),
        (false, _) => writeln!(text, "FAILED: not every node reaches every other"),
    };
    report(args, &json, &text)?;
    Ok(if ok { Exit::Success } else { Exit::Failure }.into())
}

impl Found {
    fn row(&self, route: &Route) -> Vec<String> {
        let (round_trip, clock) = match (route.round_trip_ms, route.clock_ahead_ms) {
            _ if !self.answered => ("not known: no answer".to_owned(), String::new()),
            (Some(took), clock) => (format!("{took:.1} ms"), format!("{:+} ms", clock.unwrap_or(0))),
            (None, _) => ("no answer".to_owned(), String::new()),
        };
        vec![self.from.name.clone(), route.to.name.clone(), round_trip, clock]
    }
}

fn drain(args: &DrainArgs) -> anyhow::Result<()> {
    let NodeArgs { node, cluster } = &args.node;
    let server = Api::of(&cluster.reach)?;
    let mut how = Vec::new();
    how.extend(args.batch.map(|batch| format!("batch={batch}")));
    how.extend(args.interval.map(|interval| format!("intervalMs={}", interval.as_millis())));
    how.extend(args.to.as_ref().map(|to| format!("to={}", encoded(to))));
    let how = if how.is_empty() { "drain".to_owned() } else { format!("drain?{}", how.join("&")) };
    let (told, mut json) = order(&server, node, &how)?;
    let Some(patience) = args.wait else {
        return report(cluster, &json, &format!("ok: node {} drains\n", told.name));
    };
    let (begun, mut last) = (Instant::now(), None);
    // By its id: another life of the node is not what was drained.
    let path = format!("/nodes/{}", encoded(&told.id));
    loop {
        let node = match server.ask("GET", &path) {
            Ok(answer) => {
                json = answer;
                read::<Node>(&json)?
            }
            // It has left, and its clients with it.
            Err(error) if error.is_not_found() => break,
            Err(error) => return Err(error.into()),
        };
        // Before it says that it drains, what it says of its connections may be old.
        if node.draining && node.connections == 0 {
            break;
        }
        if last != Some(node.connections) {
            last = Some(node.connections);
            say(&format!("node {}: {} connections", node.name, node.connections));
        }
        let waited = begun.elapsed();
        if waited >= patience {
            let connections = node.connections;
            return Err(ClusterError::NotEmpty { node: node.name, connections, waited }.into());
        }
        std::thread::sleep(LOOK.min(patience - waited));
    }
    report(cluster, &json, &format!("ok: node {} has no connections\n", told.name))
}

/// Gives a node an order; returns the node as it answered, read and as it came.
fn order(server: &Api, node: &str, what: &str) -> anyhow::Result<(Node, String)> {
    let answer = server.ask("POST", &format!("/nodes/{}/{what}", encoded(node)));
    let json = answer.map_err(|error| match error.is_not_found() {
        true => ClusterError::UnknownNode(node.to_owned()),
        false => ClusterError::Api(error),
    })?;
    Ok((read(&json)?, json))
}

fn report(args: &ClusterArgs, json: &str, text: &str) -> anyhow::Result<()> {
    if args.json { print(&format!("{}\n", json.trim_end())) } else { print(text) }
}
