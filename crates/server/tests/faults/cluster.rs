//! Two servers as one, while what connects them breaks: the bus is killed, stands still, forgets; a server is restarted.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use outspoke_testkit::services::{Etcd, Nats, Postgres, Redis};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::connection::{Connection, Heard, REFUSED_PAUSE, Way};
use crate::crowd::Crowd;
use crate::host::Host;
use crate::rounds;

/// Opens the servers' HTTP API.
pub(crate) const KEY: &str = "a-key-for-tests-0123456789";
/// How long the bus is away.
const AWAY: Duration = Duration::from_secs(15);
/// What is promised after its return, on a machine that does nothing else: what it took is printed.
const PROMISED: Duration = Duration::from_secs(5);
/// What is asked of one that has 20 members of every room to read for, the bus, the store and other tests.
pub(crate) const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(20);
/// Members of the crowd's room: those who let go of their connections now and then, and those who stay.
const MEMBERS: [Option<u64>; 20] = {
    let mut members = [None; 20];
    members[0] = Some(700);
    members[1] = Some(1100);
    members
};
/// Messages acknowledged in each test at least.
pub(crate) const ENOUGH: u64 = 10_000;

/// What carries messages between the servers.
pub(crate) enum Bus {
    Etcd(Etcd),
    Redis(Redis),
    Nats(Nats),
}

impl Bus {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Etcd(_) => "etcd",
            Self::Redis(_) => "redis",
            Self::Nats(_) => "nats",
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Etcd(etcd) => etcd.addr(),
            Self::Redis(redis) => redis.addr(),
            Self::Nats(nats) => nats.addr(),
        }
    }

    fn settings(&self) -> String {
        match self {
            Self::Etcd(etcd) => format!("  etcd:\n    endpoints: [\"{}\"]\n", etcd.url()),
            Self::Redis(redis) => format!("  redis:\n    url: \"{}\"\n", redis.url()),
            Self::Nats(nats) => format!("  nats:\n    url: \"{}\"\n", nats.url()),
        }
    }

    pub(crate) fn kill(&mut self) {
        match self {
            Self::Etcd(etcd) => etcd.kill(),
            Self::Redis(redis) => redis.kill(),
            Self::Nats(nats) => nats.kill(),
        }
    }

    pub(crate) async fn restart(&mut self) {
        match self {
            Self::Etcd(etcd) => etcd.restart().await,
            Self::Redis(redis) => redis.restart().await,
            Self::Nats(nats) => nats.restart().await,
        }
    }

    fn pause(&self) {
        match self {
            Self::Etcd(etcd) => etcd.pause(),
            Self::Redis(redis) => redis.pause(),
            Self::Nats(nats) => nats.pause(),
        }
    }

    fn resume(&self) {
        match self {
            Self::Etcd(etcd) => etcd.resume(),
            Self::Redis(redis) => redis.resume(),
            Self::Nats(nats) => nats.resume(),
        }
    }
}

/// The database that the servers share.
pub(crate) enum Store {
    Postgres(Postgres),
    Redis(Redis),
}

impl Store {
    pub(crate) fn addr(&self) -> SocketAddr {
        match self {
            Self::Postgres(postgres) => postgres.addr(),
            Self::Redis(redis) => redis.addr(),
        }
    }

    fn settings(&self) -> String {
        let (name, url) = match self {
            Self::Postgres(postgres) => ("postgresql", postgres.url()),
            Self::Redis(redis) => ("redis", redis.url()),
        };
        format!("store:\n  backend: {name}\n  {name}:\n    url: \"{url}\"\n")
    }
}

/// Servers that act as one.
pub(crate) struct Servers {
    pub(crate) hosts: Vec<Host>,
}

impl Servers {
    pub(crate) async fn start(count: usize, bus: &Bus, store: &Store) -> Self {
        let mut hosts = Vec::new();
        for number in 1..=count {
            let mut host = Host::new(&Self::settings(number, bus, store));
            host.start().await;
            hosts.push(host);
        }
        Self { hosts }
    }

    /// What makes a server one of several.
    pub(crate) fn settings(number: usize, bus: &Bus, store: &Store) -> String {
        let (name, store, settings) = (bus.name(), store.settings(), bus.settings());
        format!(
            "{store}api:\n  keys: [{KEY}]\ncluster:\n  enabled: true\n  bus: {name}\n  name: hub-{number}\n  secret: battery staple\n  \
             heartbeat: 1s\n{settings}"
        )
    }

    pub(crate) fn addresses(&self) -> Vec<watch::Receiver<Option<SocketAddr>>> {
        self.hosts.iter().map(Host::address).collect()
    }

    /// Three publishers and twenty members in one room.
    pub(crate) fn crowd(&self) -> Crowd {
        Crowd::gather_at(&self.addresses(), &["room"], &MEMBERS)
    }
}

/// Somebody on one server who says something in a room where nothing else is said, and somebody on another who waits for
/// it: a last message that no later one betrays.
pub(crate) struct Quiet {
    room: String,
    publisher: Connection,
    member: Connection,
    said: u64,
    attempts: u64,
    /// The last attempt, if nobody has answered it yet.
    unanswered: Option<String>,
}

impl Quiet {
    async fn meet(servers: &Servers) -> Self {
        Self::between(servers, 0, 1).await
    }

    /// Somebody on one server, and somebody on the other.
    pub(crate) async fn between(servers: &Servers, from: usize, to: usize) -> Self {
        let room = format!("quiet-{from}");
        let way =
            |index: usize, user: &str| Way::to(servers.hosts[index].address(), &format!("{user}-{from}"));
        let (publisher, _) = way(from, "quiet-publisher").join(&room, None).await;
        let (member, _) = way(to, "quiet-member").join(&room, None).await;
        let mut quiet = Self { room, publisher, member, said: 0, attempts: 0, unanswered: None };
        quiet.say().await;
        quiet.hear().await;
        quiet
    }

    /// Says the next number and waits until it is acknowledged.
    pub(crate) async fn say(&mut self) {
        self.said += 1;
        let id = self.send().await;
        let answer = self.answer(&id).await;
        assert_eq!(answer["type"], "ack", "{answer}");
    }

    /// Says the next number where it cannot be kept before `until`: it is refused for now, or not answered yet.
    pub(crate) async fn say_in_vain(&mut self, until: Instant) {
        self.said += 1;
        let id = self.send().await;
        match tokio::time::timeout_at(until.into(), self.answer(&id)).await {
            Ok(answer) => {
                let what = (&answer["type"], &answer["error"], &answer["temporary"]);
                assert_eq!(what, (&json!("error"), &json!("unavailable"), &json!(true)), "{answer}");
            }
            Err(_) => self.unanswered = Some(id),
        }
    }

    /// Waits until what was last said in vain is acknowledged; says it again whenever it was refused.
    pub(crate) async fn insist(&mut self) {
        loop {
            let id = match self.unanswered.take() {
                Some(id) => id,
                None => self.send().await,
            };
            let answer = self.answer(&id).await;
            if answer["type"] == "ack" {
                return;
            }
            assert_eq!(answer["temporary"], true, "{answer}");
            tokio::time::sleep(REFUSED_PAUSE).await;
        }
    }

    async fn send(&mut self) -> String {
        self.attempts += 1;
        let id = format!("q{}", self.attempts);
        let request = json!({ "type": "publish", "id": id, "room": self.room, "data": self.said });
        self.publisher.send(&request).await;
        id
    }

    async fn answer(&mut self, id: &str) -> Value {
        self.publisher.answer(id).await.expect("the server stays")
    }

    /// Waits until the member has the newest number.
    pub(crate) async fn hear(&mut self) {
        loop {
            match self.member.next().await {
                Heard::Event(event) if event["type"] == "message" && event["data"] == self.said => return,
                Heard::Event(event) => assert_ne!(event["type"], "gap", "{event}"),
                Heard::Gone => panic!("the server stays"),
            }
        }
    }
}

async fn bus_is_away(mut bus: Bus, store: Store, how: &str) {
    let what = format!("{} {how} for {AWAY:?}", bus.name());
    let mut servers = Servers::start(2, &bus, &store).await;
    let mut quiet = Quiet::meet(&servers).await;
    let mut crowd = servers.crowd();
    crowd.acknowledge(ENOUGH / 3).await;
    for _ in 0..rounds(1) {
        let before = crowd.acknowledged();
        match how {
            "killed" => bus.kill(),
            _ => bus.pause(),
        }
        tokio::time::sleep(AWAY / 2).await;
        quiet.say().await;
        tokio::time::sleep(AWAY / 2).await;
        let meanwhile = crowd.acknowledged() - before;
        assert!(meanwhile > 0, "stored rooms need no bus to be acknowledged");
        match how {
            "killed" => bus.restart().await,
            _ => bus.resume(),
        }
        let begin = Instant::now();
        let caught_up = outspoke_testkit::within(CAUGHT_UP_WITHIN, quiet.hear()).await;
        println!(
            "{what}: {meanwhile} acknowledged meanwhile; caught up {:.1?} after its return",
            begin.elapsed()
        );
        assert!(
            caught_up.is_some(),
            "{what}: a message said meanwhile was not there {CAUGHT_UP_WITHIN:?} after its return"
        );
    }
    let left = ENOUGH.saturating_sub(crowd.acknowledged()).max(500);
    crowd.acknowledge(left).await;
    for host in &mut servers.hosts {
        assert!(host.process().is_running(), "the servers go on");
    }
    let refused = crowd.progress.refused.load(Ordering::Relaxed);
    assert_eq!(refused, 0, "the store was there all the time");
    crowd.account().await.judge(&what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_killed_between_two_servers_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Etcd::start(), Postgres::start());
    bus_is_away(Bus::Etcd(bus), Store::Postgres(store), "killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_paused_between_two_servers_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Etcd::start(), Redis::start());
    bus_is_away(Bus::Etcd(bus), Store::Redis(store), "paused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_between_two_servers_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Redis::start_with(&[]), Redis::start());
    bus_is_away(Bus::Redis(bus), Store::Redis(store), "killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_paused_between_two_servers_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Redis::start_with(&[]), Postgres::start());
    bus_is_away(Bus::Redis(bus), Store::Postgres(store), "paused").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_killed_between_two_servers_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Nats::start(), Redis::start());
    bus_is_away(Bus::Nats(bus), Store::Redis(store), "killed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_paused_between_two_servers_loses_repeats_and_reorders_nothing() {
    let (bus, store) = tokio::join!(Nats::start(), Postgres::start());
    bus_is_away(Bus::Nats(bus), Store::Postgres(store), "paused").await;
}

/// T2 and T3: what is for all reaches the clients of both servers, what is for one reaches that one and nobody else.
async fn broadcast_and_unicast_cross(bus: Bus) {
    let store = Store::Redis(Redis::start().await);
    let servers = Servers::start(2, &bus, &store).await;
    let first = servers.hosts[0].address().borrow().expect("it runs");
    let mut clients = Vec::new();
    for (index, user) in [(0, "ana"), (1, "ben"), (1, "eve")] {
        clients.push(Way::to(servers.hosts[index].address(), user).connect_as().await);
    }
    // Its subscriptions are made when a node is heard of by the other, and a moment later.
    let ready = async {
        loop {
            let (status, answer) =
                post(first, "/api/v1/clients/{id}/messages", &clients[1].1, "are you there?").await;
            match status {
                200 => return,
                404 | 503 => tokio::time::sleep(Duration::from_millis(50)).await,
                _ => panic!("{status}: {answer}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ready)
        .await
        .expect("the client is found on the other server");
    let (status, answer) = post(first, "/api/v1/clients/{id}/messages", &clients[1].1, "for ben").await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = post(first, "/api/v1/broadcast", "", "for all").await;
    assert_eq!(status, 200, "{answer}");
    for ((mut client, _), expected) in clients.into_iter().zip([
        vec!["for all"],
        vec!["are you there?", "for ben", "for all"],
        vec!["for all"],
    ]) {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last| last != "for all") {
            match client.next().await {
                Heard::Event(event) if event["type"] == "system" => {
                    heard.push(event["content"].as_str().unwrap().to_owned())
                }
                Heard::Event(_) => {}
                Heard::Gone => panic!("the server stays"),
            }
        }
        assert_eq!(heard, expected, "over {}", bus.name());
    }
}

/// A message through the HTTP API of a server; `{id}` in the path is replaced.
async fn post(server: SocketAddr, path: &str, id: &str, content: &str) -> (u16, String) {
    let body = json!({ "type": "system", "content": content }).to_string();
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {server}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        path.replace("{id}", id),
        body.len()
    );
    let answer = outspoke_testkit::exchange(server, request.as_bytes()).await;
    (answer.status, answer.body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcast_and_unicast_cross_etcd() {
    broadcast_and_unicast_cross(Bus::Etcd(Etcd::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcast_and_unicast_cross_redis() {
    broadcast_and_unicast_cross(Bus::Redis(Redis::start_with(&[]).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcast_and_unicast_cross_nats() {
    broadcast_and_unicast_cross(Bus::Nats(Nats::start().await)).await;
}

/// The server that stands still comes back to an etcd that has forgotten what happened meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_compacted_while_a_server_stands_still_loses_nothing() {
    let (etcd, store) = tokio::join!(Etcd::start(), Redis::start());
    let (bus, store) = (Bus::Etcd(etcd), Store::Redis(store));
    let mut servers = Servers::start(2, &bus, &store).await;
    let mut quiet = Quiet::meet(&servers).await;
    let first = servers.hosts[0].address();
    let mut crowd = Crowd::gather_at(&[first], &["room"], &[None, None, None]);
    crowd.acknowledge(ENOUGH / 2).await;
    servers.hosts[1].process().signal(outspoke_testkit::Signal::STOP).unwrap();
    crowd.acknowledge(ENOUGH / 4).await;
    quiet.say().await;
    // Longer than etcd's side takes to notice that nobody reads.
    tokio::time::sleep(Duration::from_secs(8)).await;
    if let Bus::Etcd(etcd) = &bus {
        etcd.compact().await;
    }
    crowd.acknowledge(ENOUGH / 4).await;
    servers.hosts[1].process().signal(outspoke_testkit::Signal::CONT).unwrap();
    let caught_up = outspoke_testkit::within(CAUGHT_UP_WITHIN, quiet.hear()).await;
    assert!(caught_up.is_some(), "what was said while it stood still is there in {CAUGHT_UP_WITHIN:?}");
    crowd.acknowledge(100).await;
    crowd.account().await.judge("etcd compacted behind a server that stood still");
}

/// A Redis that keeps nothing on disk comes back empty: nobody is told that nothing was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_that_comes_back_empty_lets_nobody_believe_in_a_recovery() {
    let (nats, redis) = tokio::join!(Nats::start(), Redis::start_with(&["--appendonly", "no"]));
    let (bus, mut store) = (Bus::Nats(nats), Store::Redis(redis));
    let servers = Servers::start(2, &bus, &store).await;
    let mut quiet = Quiet::meet(&servers).await;
    for _ in 0..20 {
        quiet.say().await;
        quiet.hear().await;
    }
    let mut places = Vec::new();
    for index in 0..2 {
        let mut way = Way::to(servers.hosts[index].address(), "witness");
        let (_, subscribed) = way.join("quiet-0", None).await;
        places.push((
            subscribed["epoch"].as_str().unwrap().to_owned(),
            subscribed["offset"].as_u64().unwrap() - 5,
        ));
    }
    if let Store::Redis(redis) = &mut store {
        redis.kill();
        redis.restart().await;
    }
    // It is found out without anybody saying anything.
    tokio::time::sleep(PROMISED).await;
    for (index, place) in places.iter().enumerate() {
        for user in ["one", "two", "three"] {
            let mut way = Way::to(servers.hosts[index].address(), user);
            let (_, subscribed) = way.join("quiet-0", Some(place)).await;
            assert_eq!(subscribed["recovered"], json!(false), "{subscribed}");
            assert_ne!(subscribed["epoch"].as_str().unwrap(), place.0);
        }
    }
    quiet.say().await;
    let (_, subscribed) = Way::to(servers.hosts[1].address(), "one").join("quiet-0", Some(&places[1])).await;
    assert_eq!(subscribed["recovered"], json!(false), "{subscribed}");
}

/// Each server stands still under load, for longer than its batches may take, and goes on. What it had in its hands is refused
/// or acknowledged; nothing is lost, repeated or out of order for the patient publishers of both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_stands_still_for_longer_than_its_batches_may_take_is_exact() {
    let (bus, store) = tokio::join!(Nats::start(), Postgres::start());
    let (bus, store) = (Bus::Nats(bus), Store::Postgres(store));
    let mut servers = Servers::start(2, &bus, &store).await;
    let mut crowd = servers.crowd();
    crowd.acknowledge(ENOUGH / 4).await;
    for _ in 0..rounds(1) {
        for index in 0..2 {
            servers.hosts[index].process().signal(outspoke_testkit::Signal::STOP).unwrap();
            // More than `store.timeout` and what a batch gets beyond it.
            tokio::time::sleep(Duration::from_secs(17)).await;
            servers.hosts[index].process().signal(outspoke_testkit::Signal::CONT).unwrap();
            crowd.acknowledge(ENOUGH / 8).await;
        }
    }
    let left = ENOUGH.saturating_sub(crowd.acknowledged()).max(500);
    crowd.acknowledge(left).await;
    crowd.account().await.judge("servers that stood still");
}

/// Both servers are restarted one after the other, twice, and nobody is without one for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_under_load_loses_nothing_and_nobody_waits_long() {
    let (bus, store) = tokio::join!(Nats::start(), Postgres::start());
    let (bus, store) = (Bus::Nats(bus), Store::Postgres(store));
    let mut servers = Servers::start(2, &bus, &store).await;
    let mut crowd = servers.crowd();
    crowd.acknowledge(1_000).await;
    let mut stops = Vec::new();
    for _ in 0..rounds(2) {
        for index in 0..2 {
            stops.push(servers.hosts[index].stop().await);
            servers.hosts[index].start().await;
            crowd.acknowledge(500).await;
        }
    }
    let left = ENOUGH.saturating_sub(crowd.acknowledged()).max(500);
    crowd.acknowledge(left).await;
    let waited = crowd.progress.waited();
    println!(
        "rolling restart: stopped in {stops:.1?}; the longest wait for an acknowledgement {:.2?}, for a connection {:.2?}",
        waited.0, waited.1
    );
    assert!(waited.0 <= PROMISED, "{:?} without an acknowledgement", waited.0);
    assert!(waited.1 <= PROMISED, "{:?} without a connection", waited.1);
    crowd.account().await.judge("rolling restart");
}

/// What another node adds to a message's way: `cargo test --release -p outspoke --test faults -- --ignored across --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: it prints, and cannot fail"]
async fn message_across_nodes_takes_longer_by_so_much() {
    let (etcd, redis, nats) = tokio::join!(Etcd::start(), Redis::start_with(&[]), Nats::start());
    for bus in [Bus::Etcd(etcd), Bus::Redis(redis), Bus::Nats(nats)] {
        let store = Store::Redis(Redis::start().await);
        let servers = Servers::start(2, &bus, &store).await;
        let way = |index: usize, user: &str| Way::to(servers.hosts[index].address(), user);
        let (mut publisher, _) = way(0, "publisher").join("room", None).await;
        let (mut here, _) = way(0, "here").join("room", None).await;
        let (mut there, _) = way(1, "there").join("room", None).await;
        let mut took: [Vec<Duration>; 2] = Default::default();
        for number in 0..2_000 {
            let begin = Instant::now();
            publisher.send(&json!({ "type": "publish", "room": "room", "data": number })).await;
            let hear = async |member: &mut Connection| loop {
                match member.next().await {
                    Heard::Event(event) if event["type"] == "message" && event["data"] == number => {
                        return begin.elapsed();
                    }
                    Heard::Event(_) => {}
                    Heard::Gone => panic!("the server stays"),
                }
            };
            let (one, other) = tokio::join!(hear(&mut here), hear(&mut there));
            took[0].push(one);
            took[1].push(other);
            // The publisher is a member, too.
            hear(&mut publisher).await;
        }
        let [here, there] = took.map(|mut took| {
            took.sort_unstable();
            [took[took.len() / 2], took[took.len() * 99 / 100]]
        });
        println!(
            "{}: p50 {:.2?} on the same node, {:.2?} on the other; p99 {:.2?}, {:.2?}",
            bus.name(),
            here[0],
            there[0],
            here[1],
            there[1]
        );
    }
}
