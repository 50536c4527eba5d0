//! `outspoke cluster`: look at a running cluster and give its nodes orders, over the HTTP API of any of them.
//!
//! One HTTP/1.0 request for each question over a plain socket, as `healthcheck` does it: a server of that version's clients
//! answers in one piece and closes. Results go to standard output, progress and remarks to standard error; the key goes
//! nowhere but into the request.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use super::healthcheck::{HealthError, Target, is_timeout, remaining, status, timeout};
use super::link::Link;
use super::{SettingsArgs, print};
use crate::config::{ConfigError, load};
use crate::exit::Exit;

/// Longest answer that is read: a check of a hundred nodes has about two megabytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How often it is looked whether a node has become empty.
const LOOK: Duration = Duration::from_millis(500);

/// What to ask a cluster, or to tell it.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// List the nodes: who is there, how they are, and how the bus between them is.
    Nodes(ClusterArgs),
    /// Let every node ping every other over the bus: exits with 0 if all reach each other, with 1 if not.
    Check(ClusterArgs),
    /// Let a node take no new clients and send those it has to the others, within about ten seconds.
    ///
    /// It goes on publishing and answering the API, and is not ready (/readyz) for load balancers.
    Drain(DrainArgs),
    /// Let a node take clients again.
    Resume(NodeArgs),
}

/// Whom to ask.
#[derive(Debug, Args)]
pub struct ClusterArgs {
    /// Address of the server (of a cluster: any), for example http://127.0.0.1:8080 [default: where `serve` would listen with these settings]
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// One of the server's api.keys [env: OUTSPOKE_API__KEYS] [default: the first of api.keys in these settings]
    #[arg(long, value_name = "KEY")]
    key: Option<Key>,

    /// How long to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = timeout)]
    timeout: Duration,

    /// Print the API's JSON instead of lines
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    settings: SettingsArgs,
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

    /// Wait until the node has no connections, so long at most [default without a duration: 60s]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true,
          default_missing_value = "60s", value_parser = timeout)]
    wait: Option<Duration>,
}

/// Why a cluster was not looked at, or did not do as it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The settings that say where the server is, or its key, are wrong.
    #[error(transparent)]
    Settings(ConfigError),
    /// The server cannot be asked at all.
    #[error(transparent)]
    Server(HealthError),
    /// What answers is no Outspoke, or has its API switched off.
    #[error("{0} has no API")]
    NoApi(String),
    /// The key is wrong, or missing.
    #[error("the server refuses {}", if *.given { "this key" } else { "requests without a key" })]
    Key {
        /// Whether there was one.
        given: bool,
    },
    /// Nobody hears of that node.
    #[error("the server hears of no node {0:?}")]
    UnknownNode(String),
    /// Anything else that the server refuses, in its words.
    #[error("the server refuses: {0}")]
    Refused(String),
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
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Settings(_) => "correct the settings, or name the server with --server and --key",
            Self::Server(HealthError::BadUrl(_)) => "write for example --server http://127.0.0.1:8080",
            Self::Server(HealthError::TimedOut { .. }) => {
                "look at the server's log and load, or wait longer with --timeout"
            }
            Self::Server(HealthError::NotHttp { .. }) => {
                "another program has this port; name the server's address with --server"
            }
            Self::Server(_) => "start the server, or name its address with --server",
            Self::NoApi(_) => "set api.enabled to true on the server, or name another address with --server",
            Self::Key { .. } => {
                "give one of the server's api.keys with --key, in OUTSPOKE_API__KEYS, or in the configuration file"
            }
            Self::UnknownNode(_) => "`outspoke cluster nodes` lists those that it hears of",
            Self::Refused(_) => "the server's log says more",
            Self::Alone => "set cluster.enabled to true on every server; see docs/operating/cluster.md",
            Self::NotEmpty { .. } => {
                "it goes on draining; clients that do not go are cut when the node is stopped (SIGTERM)"
            }
        }
    }

    /// Whether there was nobody to talk to.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Server(HealthError::Unreachable { .. } | HealthError::TimedOut { .. }))
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
            let (node, json) = order(&Server::of(&args.cluster)?, &args.node, "resume")?;
            report(&args.cluster, &json, &format!("ok: node {} takes clients again\n", node.name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn nodes(args: &ClusterArgs) -> anyhow::Result<()> {
    let json = Server::of(args)?.ask("GET", "/nodes")?;
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
    let server = Server::of(args)?;
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
    let server = Server::of(cluster)?;
    let (told, mut json) = order(&server, node, "drain")?;
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
            Err(ClusterError::UnknownNode(_)) => break,
            Err(error) => return Err(error.into()),
        };
        // Before it says that it drains, what it says of its connections may be old.
        if node.draining && node.connections == 0 {
            break;
        }
        if last != Some(node.connections) {
            last = Some(node.connections);
            // Whoever closed standard error does not want it.
            let _ = writeln!(io::stderr(), "node {}: {} connections", node.name, node.connections);
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
fn order(server: &Server, node: &str, what: &str) -> anyhow::Result<(Node, String)> {
    let answer = server.ask("POST", &format!("/nodes/{}/{what}", encoded(node)));
    let json = answer.map_err(|error| match error {
        ClusterError::UnknownNode(_) => ClusterError::UnknownNode(node.to_owned()),
        error => error,
    })?;
    Ok((read(&json)?, json))
}

fn report(args: &ClusterArgs, json: &str, text: &str) -> anyhow::Result<()> {
    if args.json { print(&format!("{}\n", json.trim_end())) } else { print(text) }
}

pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, ClusterError> {
    let other = |error| ClusterError::Refused(format!("its answer is of another version ({error})"));
    serde_json::from_str(json).map_err(other)
}

/// Whom to ask, and with which key.
#[derive(Debug)]
pub(super) struct Server {
    target: Target,
    key: Option<Key>,
    timeout: Duration,
}

/// Printed nowhere.
#[derive(Clone)]
pub(super) struct Key(String);

impl std::str::FromStr for Key {
    type Err = std::convert::Infallible;

    fn from_str(key: &str) -> Result<Self, Self::Err> {
        Ok(Self(key.to_owned()))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a key)")
    }
}

impl Server {
    pub(super) fn of(args: &ClusterArgs) -> Result<Self, ClusterError> {
        let named = args.server.as_deref().map(|url| Target::from_url(url, "")).transpose();
        let named = named.map_err(ClusterError::Server)?;
        let (target, key) = match (named, args.key.clone()) {
            (Some(target), Some(key)) => (target, Some(key)),
            (named, key) => {
                let loaded = load(&args.settings.sources()).map_err(ClusterError::Settings)?;
                let own = || Target::own(&loaded.config, "");
                (named.unwrap_or_else(own), key.or_else(|| loaded.config.api.keys.first().cloned().map(Key)))
            }
        };
        // What ends a line would end the header.
        if key.as_ref().is_some_and(|Key(key)| key.contains(char::is_control)) {
            return Err(ClusterError::Key { given: true });
        }
        Ok(Self { target, key, timeout: args.timeout })
    }

    /// One question to the API; the answer's JSON.
    pub(super) fn ask(&self, method: &str, path: &str) -> Result<String, ClusterError> {
        let Target { host, path: prefix, .. } = &self.target;
        let deadline = Instant::now() + self.timeout;
        let mut stream = self.target.connect(deadline).map_err(ClusterError::Server)?;
        let prefix = prefix.trim_end_matches('/');
        let mut request = format!(
            "{method} {prefix}/api/v1{path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: outspoke-cluster\r\n\
             Accept: application/json\r\n"
        );
        if let Some(Key(key)) = &self.key {
            let _ = write!(request, "Authorization: Bearer {key}\r\n");
        }
        if method == "POST" {
            request.push_str("Content-Length: 0\r\n");
        }
        request.push_str("\r\n");
        let answer = exchange(&mut stream, &request, deadline).map_err(|source| {
            let host = host.clone();
            ClusterError::Server(match source {
                source if is_timeout(&source) => HealthError::TimedOut { host },
                source => HealthError::Unreachable { host, source },
            })
        })?;
        self.judge(&answer)
    }

    fn judge(&self, answer: &[u8]) -> Result<String, ClusterError> {
        let not_http = || ClusterError::Server(HealthError::NotHttp { host: self.target.host.clone() });
        let status = status(answer).ok_or_else(not_http)?;
        let head = answer.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(not_http)?;
        let body = String::from_utf8_lossy(&answer[head + 4..]).into_owned();
        if status == 200 {
            return Ok(body);
        }
        let refusal: Value = serde_json::from_str(&body).unwrap_or_default();
        let message = refusal["message"].as_str().unwrap_or_default().to_owned();
        Err(match status {
            _ if refusal["type"] != "error" => ClusterError::NoApi(self.target.origin()),
            401 => ClusterError::Key { given: self.key.is_some() },
            404 => ClusterError::UnknownNode(String::new()),
            _ => ClusterError::Refused(message),
        })
    }
}

/// Sends the request and reads until the server closes.
fn exchange(stream: &mut Link, request: &str, deadline: Instant) -> io::Result<Vec<u8>> {
    stream.socket().set_write_timeout(Some(remaining(deadline)?))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        stream.socket().set_read_timeout(Some(remaining(deadline)?))?;
        match stream.read(&mut chunk)? {
            0 => return Ok(answer),
            read => answer.extend_from_slice(&chunk[..read]),
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer is too long"));
        }
    }
}

/// A name as a part of a path (RFC 3986 section 2.3).
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// About how long, in at most two units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Rows under headings, each column as wide as its widest cell. What would move the terminal's cursor is escaped: names come
/// from other machines.
fn columns(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut lines = vec![headings.iter().map(|heading| (*heading).to_owned()).collect::<Vec<_>>()];
    let clean = |cell: String| match cell.contains(char::is_control) {
        true => cell.escape_debug().to_string(),
        false => cell,
    };
    lines.extend(rows.into_iter().map(|row| row.into_iter().map(clean).collect()));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
