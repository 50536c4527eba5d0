//! A node of a cluster that stops under load: its clients go to the other one a batch at a time, and nothing is lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outspoke_testkit::services::Redis;
use outspoke_testkit::{Received, Refused, Signal, TcpClient, exchange};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{PATIENCE, Server, Settings};

/// What operators are promised.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// Connections of this many clients, and again where they go, are within the usual limit of a process.
const CLIENTS: usize = 5000;
/// One in so many never reads after it has joined.
const STUCK_EVERY: usize = 100;
const ROOMS: usize = 250;
/// The first client of so many rooms publishes, as fast as it is answered.
const PUBLISHERS: usize = 50;
const KEY: &str = "a-key-for-tests-0123456789";

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    room: usize,
    stuck: bool,
    /// When it was told to go, since the signal.
    told: Duration,
    /// What it was told: milliseconds.
    reconnect_after: u64,
    target: String,
    code: Option<u16>,
    /// How long it was away.
    away: Duration,
    /// What it published: acknowledged, refused, and without an answer when the connection ended.
    acknowledged: Vec<u64>,
    refused: Vec<u64>,
    unanswered: Vec<u64>,
    /// Who left the room, as it was told on either node.
    left: Vec<String>,
}

async fn node(name: &str, redis: &Redis) -> Server {
    let url = redis.url();
    let settings = [
        ("server.shards", "2"),
        ("api.keys", KEY),
        ("cluster.enabled", "true"),
        ("cluster.bus", "redis"),
        ("cluster.redis.url", &url),
        ("cluster.name", name),
        ("cluster.heartbeat", "1s"),
        ("cluster.secret", "battery staple"),
        ("store.backend", "redis"),
        ("store.redis.url", &url),
        ("rooms.durability", "stored"),
        ("rooms.history_messages", "20000"),
        ("rooms.leave_grace", "60s"),
        ("rate.enabled", "false"),
    ];
    let settings = settings.into_iter().fold(Settings::default(), |all, (key, value)| all.set(key, value));
    // Where clients reach it is known when it listens; they are sent to a name that stands for it.
    settings.set("cluster.advertise", &format!("ws://{name}.example/ws")).start().await
}

async fn api(server: &Server, path: &str) -> Refused {
    let head = format!(
        "GET /api/v1{path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
    );
    exchange(server.addr, head.as_bytes()).await
}

fn target(user: &str) -> String {
    format!("/ws?userId={user}&username={user}&join=none")
}

/// Everything that one client does: it joins, publishes or listens, is sent away, and comes back on the other node.
async fn live(nodes: [SocketAddr; 2], index: usize, start: Arc<Barrier>, signal: Arc<Clock>) -> Seen {
    let mut seen =
        Seen { room: index % ROOMS, stuck: index % STUCK_EVERY == STUCK_EVERY - 1, ..Seen::default() };
    let (user, room) = (format!("user-{index}"), format!("room-{}", seen.room));
    let mut client = joined(nodes[0], &user, &room).await;
    start.wait().await;
    if seen.stuck {
        signal.ended.wait().await;
        drop(client);
        return seen;
    }
    let publishes = index < PUBLISHERS;
    let mut next = 0;
    if publishes {
        say(&mut client, &room, index, &mut next).await;
    }
    loop {
        match client.next_but_pings().await {
            Received::Json(event) => match event["type"].as_str() {
                Some("ack") => {
                    seen.acknowledged.push(event["id"].as_u64().unwrap());
                    signal.acknowledged.fetch_add(1, Ordering::Relaxed);
                    say(&mut client, &room, index, &mut next).await;
                }
                Some("error") => {
                    seen.refused.push(event["id"].as_u64().unwrap_or_else(|| panic!("{event}")));
                    say(&mut client, &room, index, &mut next).await;
                }
                Some("leave") => seen.left.push(event["userId"].as_str().unwrap().to_owned()),
                Some("going_away") => {
                    seen.told = signal.elapsed();
                    seen.reconnect_after = event["reconnectAfter"].as_u64().unwrap();
                    event["url"].as_str().unwrap().clone_into(&mut seen.target);
                }
                _ => {}
            },
            Received::Close { code, .. } => {
                seen.code = code;
                client.close(1001, "").await;
                break;
            }
            other => panic!("client {index}: the server ended with {other:?}"),
        }
    }
    let gone = Instant::now();
    let answered: BTreeSet<u64> = seen.acknowledged.iter().chain(&seen.refused).copied().collect();
    seen.unanswered = (1..=next).filter(|id| !answered.contains(id)).collect();
    drop(client);
    // Full jitter, as the client specification has it; spread over the clients, so that the test needs no chance.
    let share = (index * 7919 % CLIENTS) as f64 / CLIENTS as f64;
    tokio::time::sleep(Duration::from_millis(seen.reconnect_after).mul_f64(share)).await;
    let mut back = joined(nodes[1], &user, &room).await;
    seen.away = gone.elapsed();
    signal.back.fetch_add(1, Ordering::Relaxed);
    signal.ended.wait().await;
    let left = |received: &Received| match received {
        Received::Json(event) if event["type"] == "leave" => event["userId"].as_str().map(ToOwned::to_owned),
        _ => None,
    };
    seen.left.extend(back.received().iter().filter_map(left));
    seen
}

async fn joined(node: SocketAddr, user: &str, room: &str) -> TcpClient {
    let client = TcpClient::connect(node, &target(user), &[]).await.expect("the node takes it");
    // In most rooms nothing is said until all are there.
    let mut client = client.with_patience(10 * PATIENCE);
    client.expect("welcome").await;
    loop {
        client.send(json!({ "type": "subscribe", "room": room })).await;
        match client.next_but_pings().await {
            Received::Json(event) if event["type"] == "subscribed" => return client,
            // A store that is too slow for once: every client library tries again, too.
            Received::Json(event) if event["type"] == "error" && event["temporary"] == true => {}
            other => panic!("{user} is not let into {room}: {other:?}"),
        }
    }
}

async fn say(client: &mut TcpClient, room: &str, index: usize, next: &mut u64) {
    *next += 1;
    let data = json!({ "from": index, "number": *next });
    client.send(json!({ "type": "publish", "id": *next, "room": room, "data": data })).await;
}

/// What all clients look at.
struct Clock {
    signalled: std::sync::OnceLock<Instant>,
    acknowledged: AtomicUsize,
    back: AtomicUsize,
    ended: Barrier,
}

impl Clock {
    fn elapsed(&self) -> Duration {
        self.signalled.get().map(Instant::elapsed).unwrap_or_default()
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(2 * PATIENCE, waited).await.is_ok(), "{what} never came true");
}

/// What a room's history holds, as (publisher, number), in its order.
async fn history(server: &Server, room: usize) -> Vec<(usize, u64)> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let answer = api(server, &format!("/rooms/room-{room}/history?after={after}&limit=1000")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let page: Value = serde_json::from_str(&answer.body).unwrap();
        for message in page["messages"].as_array().unwrap() {
            after = message["offset"].as_u64().unwrap();
            let (from, number) = (&message["data"]["from"], &message["data"]["number"]);
            all.push((from.as_u64().unwrap() as usize, number.as_u64().unwrap()));
        }
        if page["more"] != true {
            return all;
        }
    }
}

/// The figures are printed: how clients were told, and how long they were away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_of_five_thousand_clients_under_load_loses_no_message_and_no_client() {
    let redis = Redis::start().await;
    let (leaving, staying) = tokio::join!(node("hub-1", &redis), node("hub-2", &redis));
    let heard = async { while !api(&leaving, "/nodes").await.body.contains("hub-2.example") {} };
    tokio::time::timeout(PATIENCE, heard).await.expect("the nodes hear each other");
    let mut nodes = [leaving, staying];
    let (start, signal) = (
        Arc::new(Barrier::new(CLIENTS + 1)),
        Arc::new(Clock {
            signalled: std::sync::OnceLock::new(),
            acknowledged: AtomicUsize::new(0),
            back: AtomicUsize::new(0),
            ended: Barrier::new(CLIENTS + 1),
        }),
    );
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        clients.spawn(live(
            nodes.each_ref().map(|node| node.addr),
            index,
            Arc::clone(&start),
            Arc::clone(&signal),
        ));
    }
    start.wait().await;
    until("load", || signal.acknowledged.load(Ordering::Relaxed) > 20 * PUBLISHERS).await;

    signal.signalled.set(Instant::now()).unwrap();
    nodes[0].signal(Signal::TERM);
    // While it drains, it answers whoever asks, and lets nobody in.
    let unready = async {
        loop {
            let ready = nodes[0].get("/readyz").await;
            if ready.status != 200 {
                return ready;
            }
        }
    };
    let ready = tokio::time::timeout(PATIENCE, unready).await.unwrap();
    assert_eq!((ready.status, ready.body.as_str()), (503, r#"{"status":"draining"}"#));
    assert_eq!(nodes[0].get("/healthz").await.status, 200);
    assert_eq!(api(&nodes[0], "/nodes").await.status, 200);
    let refused = nodes[0].try_open(&target("late")).await.expect_err("it takes nobody any more");
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(refused.headers["retry-after"], "1");

    let movers = CLIENTS - CLIENTS / STUCK_EVERY;
    until("return of everybody", || signal.back.load(Ordering::Relaxed) == movers).await;
    // The stuck ones still hold their sockets.
    let status = nodes[0].process().ended(STOPPED_WITHIN).await;
    let (took, log) = (signal.elapsed(), nodes[0].process().log());
    assert_eq!(status.code(), Some(0), "{log:#?}");
    assert!(took < STOPPED_WITHIN, "{took:?}");
    signal.ended.wait().await;
    let seen = clients.join_all().await;

    let drained: Value = log
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|event| event["message"] == "drained")
        .expect("it says what came of it");
    assert_eq!(drained["told"], CLIENTS);
    // Those that never read, as far as the closing time-out had not cut them by then.
    assert!(drained["left"].as_u64().unwrap() as usize <= CLIENTS / STUCK_EVERY, "{drained}");

    let (mut acknowledged, mut unanswered, mut refused) = (0, 0, 0);
    for index in 0..PUBLISHERS {
        let client = &seen.iter().find(|client| client.room == index && !client.acknowledged.is_empty());
        let client = client.unwrap_or_else(|| panic!("publisher {index} was never acknowledged"));
        let stored = history(&nodes[1], client.room).await;
        let numbers: Vec<u64> = stored.iter().map(|(_, number)| *number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "room {index}: out of order or twice: {numbers:?}");
        // Each is acknowledged or not stored: neither more nor less.
        assert_eq!(numbers, client.acknowledged, "room {index}");
        acknowledged += client.acknowledged.len();
        unanswered += client.unanswered.len();
        refused += client.refused.len();
    }

    let movers: Vec<&Seen> = seen.iter().filter(|client| !client.stuck).collect();
    assert!(movers.iter().all(|client| client.code == Some(1001)));
    assert!(movers.iter().all(|client| client.target == "ws://hub-2.example/ws"));
    assert!(movers.iter().all(|client| (1000..=2000).contains(&client.reconnect_after)));
    let flaps: Vec<&String> = movers.iter().flat_map(|client| &client.left).collect();
    assert!(flaps.is_empty(), "users who moved were told to have left: {flaps:?}");

    let mut told: BTreeMap<u64, usize> = BTreeMap::new();
    movers.iter().for_each(|client| *told.entry(client.told.as_secs()).or_default() += 1);
    let mut away: Vec<Duration> = movers.iter().map(|client| client.away).collect();
    away.sort();
    let part = |per_cent: usize| away[(away.len() - 1) * per_cent / 100];
    println!(
        "{CLIENTS} clients, {} of them stuck: ended with 0 after {took:.1?}; {acknowledged} publishes acknowledged and stored, \
         {unanswered} neither, {refused} refused; told in {} batches, by second: {told:?}; away: median {:.2?}, 99 % {:.2?}, \
         longest {:.2?}",
        CLIENTS / STUCK_EVERY,
        drained["batches"],
        part(50),
        part(99),
        part(100),
    );
}
