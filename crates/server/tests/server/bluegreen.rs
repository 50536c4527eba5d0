//! A cluster that changes from its blue nodes to its green ones and back while everybody talks, by the shipped script and the
//! shipped configurations of real load balancers.
//!
//! Both sides are this build, unless `OUTSPOKE_BLUE` or `OUTSPOKE_GREEN` names the binary of another one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use outspoke_client::{Client, ConnectionState, Event};
use outspoke_testkit::services::{Postgres, Redis};
use outspoke_testkit::{Process, Signal, pace};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{PATIENCE, Server, Settings};

const KEY: &str = "a-key-for-tests-0123456789";
const ROOMS: usize = 20;
/// In each room; the first of them publishes.
const MEMBERS: usize = 10;
/// What users are promised: nobody waits longer of the time in which the machine runs.
const WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Number {
    number: u64,
}

/// What the nodes of both sides share: the bus, and the store of the rooms' messages.
struct Shared {
    bus: Redis,
    /// `None`: the store is Redis, too.
    postgres: Option<Postgres>,
}

impl Shared {
    async fn start(store: &str) -> Self {
        let postgres = async {
            match store {
                "postgresql" => Some(Postgres::start().await),
                _ => None,
            }
        };
        let (bus, postgres) = tokio::join!(Redis::start(), postgres);
        Self { bus, postgres }
    }

    fn store(&self) -> [(&'static str, String); 2] {
        match &self.postgres {
            Some(postgres) => {
                [("store.backend", "postgresql".to_owned()), ("store.postgresql.url", postgres.url())]
            }
            None => [("store.backend", "redis".to_owned()), ("store.redis.url", self.bus.url())],
        }
    }
}

/// The one node of a side.
fn node(side: &str, shared: &Shared) -> Settings {
    let (name, url) = (format!("{side}-1"), shared.bus.url());
    let settings = [
        ("server.shards", "1"),
        ("server.trusted_proxies", "127.0.0.1/32"),
        ("api.keys", KEY),
        ("cluster.enabled", "true"),
        ("cluster.bus", "redis"),
        ("cluster.redis.url", &url),
        ("cluster.name", &name),
        ("cluster.heartbeat", "1s"),
        ("cluster.secret", "battery staple"),
        ("rooms.durability", "stored"),
        ("rooms.history_messages", "20000"),
        // So few clients would be told at once otherwise.
        ("drain.batch", "20"),
        ("rate.enabled", "false"),
    ];
    let node = settings.into_iter().fold(Settings::default(), |all, (key, value)| all.set(key, value));
    let node = shared.store().iter().fold(node, |all, (key, value)| all.set(key, value));
    match std::env::var_os(format!("OUTSPOKE_{}", side.to_uppercase())) {
        Some(binary) => node.binary(Path::new(&binary)),
        None => node,
    }
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/bluegreen").join(name)
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the shipped file has no {from:?} any more");
    text.replace(from, to)
}

fn program(name: &str) -> String {
    [format!("/usr/sbin/{name}"), format!("/usr/bin/{name}")]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .unwrap_or_else(|| panic!("{name} is not installed: apt-get install {name}"))
}

/// A load balancer with the shipped configuration, in front of one node for each side.
struct Balancer {
    kind: &'static str,
    process: Process,
    addr: SocketAddr,
    folder: TempDir,
}

impl Balancer {
    async fn start(kind: &'static str, blue: SocketAddr, green: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = std::fs::read_to_string(shipped(&format!("{kind}.{}", extension(kind)))).unwrap();
        // One node of each side is enough here.
        let lines = config.lines().filter(|line| !line.contains("-2:8080")).map(|line| format!("{line}\n"));
        let mut config: String = lines.collect();
        for (side, node) in [("blue", blue), ("green", green)] {
            config = replaced(&config, &format!("{side}-1:8080"), &node.to_string());
        }
        let at = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new(program(kind));
        let ready = match kind {
            "haproxy" => {
                config = replaced(&config, "bind :8080\n", &format!("bind {addr}\n"));
                config = replaced(&config, "maxconn 100000", "maxconn 4000");
                config = replaced(&config, "/etc/haproxy/outspoke-side.map", &at("side"));
                config = replaced(&config, "/run/haproxy/admin.sock", &at("admin.sock"));
                std::fs::write(at("side"), "side blue\n").unwrap();
                command.args(["-W", "-f", &at("haproxy.cfg")]);
                "Loading success"
            }
            _ => {
                config = replaced(&config, "listen 8080;", &format!("listen {addr};"));
                config = replaced(&config, "worker_processes auto", "worker_processes 2");
                config = replaced(&config, "worker_rlimit_nofile 262144;", "");
                config = replaced(&config, "worker_connections 131072", "worker_connections 4096");
                config = replaced(&config, "include side.conf", &format!("include {}", at("side")));
                config = format!("daemon off; error_log stderr notice; pid {};\n{config}", at("pid"));
                std::fs::write(at("side"), "map \"\" $side { default blue; }\n").unwrap();
                command.args(["-p", &at(""), "-c", &at("nginx.cfg"), "-e", "stderr"]);
                "start worker process "
            }
        };
        std::fs::write(at(&format!("{kind}.cfg")), config).unwrap();
        let mut process = Process::spawn(command);
        process.wait_for(|line| line.contains(ready).then_some(())).await;
        Self { kind, process, addr, folder }
    }

    /// Runs the shipped script. Panics with its words if it fails.
    async fn switch(&self, to: &str, blue: SocketAddr, green: SocketAddr) -> String {
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let id = self.process.id();
        let (check, reload) = match self.kind {
            "haproxy" => {
                (format!("{} -c -q -f {}", program("haproxy"), at("haproxy.cfg")), format!("kill -USR2 {id}"))
            }
            _ => (
                format!("{} -t -q -e stderr -c {}", program("nginx"), at("nginx.cfg")),
                format!("kill -HUP {id}"),
            ),
        };
        let mut command = Command::new("/bin/sh");
        command.arg(shipped("switch.sh")).arg(to).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let environment = [
            ("BALANCER", self.kind.to_owned()),
            ("BLUE", format!("blue-1=http://{blue}")),
            ("GREEN", format!("green-1=http://{green}")),
            ("SIDE_FILE", at("side")),
            ("CHECK", check),
            ("RELOAD", reload),
            ("PUBLIC", format!("http://{}", self.addr)),
            ("OUTSPOKE", env!("CARGO_BIN_EXE_outspoke").to_owned()),
            ("OUTSPOKE_API__KEYS", KEY.to_owned()),
        ];
        command.envs(environment).current_dir(self.folder.path()).kill_on_drop(true);
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        let output = tokio::time::timeout(2 * PATIENCE, command.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said}", self.kind);
        said
    }
}

fn extension(kind: &str) -> &'static str {
    if kind == "haproxy" { "cfg" } else { "conf" }
}

/// What all members look at.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    published: AtomicU64,
}

/// What one member saw.
#[derive(Debug, Default)]
struct Seen {
    room: usize,
    heard: Vec<u64>,
    /// Of the publisher.
    acknowledged: Vec<u64>,
    longest_publish: Duration,
    moves: usize,
    longest_away: Duration,
    gaps: usize,
}

async fn connected(addr: SocketAddr, user: &str) -> Client {
    Client::builder(&format!("ws://{addr}/ws")).user(user, user).connect().await.unwrap()
}

/// Counts how often, and for how long at most, a client was without a connection.
async fn watched(client: &Client, over: impl Future<Output = ()>) -> (usize, Duration) {
    let mut state = client.state();
    let (mut moves, mut longest, mut since) = (0, Duration::ZERO, None);
    tokio::pin!(over);
    loop {
        match &*state.borrow_and_update() {
            ConnectionState::Online(_) => {
                if let Some(since) = since.take().map(|since: Duration| pace().saturating_sub(since)) {
                    longest = longest.max(since);
                    moves += 1;
                }
            }
            _ => drop(since.get_or_insert_with(pace)),
        }
        tokio::select! {
            () = &mut over => return (moves, longest),
            changed = state.changed() => changed.unwrap(),
        }
    }
}

/// Listens from the beginning until everything that was acknowledged in the room is heard.
async fn listen(client: Client, room: usize, heard_to: tokio::sync::watch::Receiver<Option<u64>>) -> Seen {
    let mut stream = client.room::<Number>(&format!("room-{room}")).subscribe().await.unwrap();
    let mut seen = Seen { room, ..Seen::default() };
    let mut to = heard_to.clone();
    let listening = async {
        loop {
            let last = *to.borrow_and_update();
            if last.is_some_and(|last| seen.heard.last().is_some_and(|heard| *heard >= last)) {
                return;
            }
            tokio::select! {
                event = stream.next() => match event.unwrap().unwrap() {
                    Event::Message(message) => seen.heard.push(message.body.number),
                    Event::Gap(_) => seen.gaps += 1,
                    _ => {}
                },
                // The publisher is at its end: what it has said last is known.
                Ok(()) = to.changed() => {}
            }
        }
    };
    let in_time = async { tokio::time::timeout(4 * PATIENCE, listening).await.expect("everything arrives") };
    (seen.moves, seen.longest_away) = watched(&client, in_time).await;
    seen
}

/// Publishes as fast as it is acknowledged, until the load is over.
async fn publish(
    client: Client,
    room: usize,
    load: Arc<Load>,
    told: tokio::sync::watch::Sender<Option<u64>>,
) -> Seen {
    let named = client.room::<Number>(&format!("room-{room}"));
    let mut seen = Seen { room, ..Seen::default() };
    let publishing = async {
        while !load.over.load(Ordering::Relaxed) {
            let number = seen.acknowledged.len() as u64 + 1;
            let began = pace();
            named.publish(&Number { number }).await.unwrap();
            seen.longest_publish = seen.longest_publish.max(pace().saturating_sub(began));
            seen.acknowledged.push(number);
            load.published.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    (seen.moves, seen.longest_away) = watched(&client, publishing).await;
    told.send_replace(seen.acknowledged.last().copied());
    seen
}

async fn more(load: &Load, count: u64) {
    let until = load.published.load(Ordering::Relaxed) + count;
    let published = async {
        while load.published.load(Ordering::Relaxed) < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, published).await.expect("publishing goes on");
}

/// The figures are printed.
async fn there_and_back(kind: &'static str, store: &str) {
    let shared = Shared::start(store).await;
    let (blue, green): (Server, Server) =
        tokio::join!(node("blue", &shared).start(), node("green", &shared).start());
    let balancer = Balancer::start(kind, blue.addr, green.addr).await;
    let load = Arc::new(Load::default());
    let mut members = JoinSet::new();
    for room in 0..ROOMS {
        let (told, heard_to) = tokio::sync::watch::channel(None);
        for member in 1..MEMBERS {
            let client = connected(balancer.addr, &format!("user-{room}-{member}")).await;
            members.spawn(listen(client, room, heard_to.clone()));
        }
        let client = connected(balancer.addr, &format!("user-{room}-0")).await;
        members.spawn(publish(client, room, Arc::clone(&load), told));
    }
    assert_eq!((blue.clients().await, green.clients().await), (ROOMS * MEMBERS, 0));
    more(&load, 500).await;

    let began = Instant::now();
    let said = balancer.switch("green", blue.addr, green.addr).await;
    let there = began.elapsed();
    assert_eq!(
        said.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).count(),
        5,
        "{said}"
    );
    green.has_clients(ROOMS * MEMBERS).await;
    more(&load, 500).await;

    let began = Instant::now();
    balancer.switch("blue", blue.addr, green.addr).await;
    let back = began.elapsed();
    blue.has_clients(ROOMS * MEMBERS).await;
    assert_eq!(green.clients().await, 0);
    more(&load, 500).await;
    load.over.store(true, Ordering::Relaxed);
    let seen = tokio::time::timeout(4 * PATIENCE, members.join_all()).await.expect("everybody ends");

    let publishers = seen.iter().filter(|member| !member.acknowledged.is_empty());
    let acknowledged: BTreeMap<usize, &Vec<u64>> =
        publishers.clone().map(|publisher| (publisher.room, &publisher.acknowledged)).collect();
    assert_eq!(acknowledged.len(), ROOMS);
    for member in seen.iter().filter(|member| member.acknowledged.is_empty()) {
        let said = acknowledged[&member.room];
        // Who came a moment after the first message hears what follows.
        let from = said.len() - said.len().min(member.heard.len());
        assert_eq!(member.heard, said[from..], "lost, doubled or reordered in room {}", member.room);
        assert!(from < 200, "room {}: {from} messages before the first that was heard", member.room);
        assert_eq!(member.gaps, 0);
    }
    let moves: usize = seen.iter().map(|member| member.moves).sum();
    let away = seen.iter().map(|member| member.longest_away).max().unwrap();
    let publish = publishers.map(|publisher| publisher.longest_publish).max().unwrap();
    let total: usize = acknowledged.values().map(|said| said.len()).sum();
    println!(
        "{kind}, {store}: {} clients to green in {there:.1?} and back in {back:.1?}, {moves} moves; {total} messages acknowledged, none \
         lost, doubled or reordered for any of {} listeners each; longest without a connection {away:.2?}, longest publish {publish:.2?}",
        ROOMS * MEMBERS,
        MEMBERS - 1,
    );
    assert_eq!(moves, 2 * ROOMS * MEMBERS, "each client moves once each way");
    assert!(away < WAIT_MAX && publish < WAIT_MAX, "somebody waited {away:?}, a publish took {publish:?}");
    balancer.process.signal(Signal::TERM).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bluegreen_switch_with_haproxy_under_load_and_back_loses_nothing() {
    there_and_back("haproxy", "redis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bluegreen_switch_with_nginx_under_load_and_back_loses_nothing() {
    there_and_back("nginx", "redis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bluegreen_switch_on_postgresql_under_load_and_back_loses_nothing() {
    there_and_back("haproxy", "postgresql").await;
}

/// A step that fails says what to do, and leaves everybody where they were.
#[tokio::test]
async fn bluegreen_switch_to_a_side_that_is_not_there_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let side = folder.path().join("side");
    std::fs::write(&side, "side blue\n").unwrap();
    let output = Command::new("/bin/sh")
        .arg(shipped("switch.sh"))
        .arg("green")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs([("BALANCER", "haproxy"), ("BLUE", "blue-1=http://127.0.0.1:1"), ("RELOAD", "false")])
        .envs([("GREEN", "green-1=http://127.0.0.1:1"), ("OUTSPOKE", env!("CARGO_BIN_EXE_outspoke"))])
        .env("SIDE_FILE", &side)
        .current_dir(folder.path())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED: node green-1 does not take the order\n  to do: start it"), "{said}");
    assert!(said.contains("all clients are still on blue"), "{said}");
    assert_eq!(std::fs::read_to_string(&side).unwrap(), "side blue\n");
}
