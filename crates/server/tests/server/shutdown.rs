//! The end: everybody is told, what was acknowledged is delivered, and nothing takes longer than it may.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outspoke_testkit::{Received, Signal};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Server, Settings, raw};

/// What operators are promised.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const CLIENTS: usize = 2000;
const ROOMS: usize = 100;

/// What one client saw of its life.
#[derive(Debug, Default)]
struct Seen {
    room: usize,
    code: Option<u16>,
    /// Ids of messages that it received.
    received: BTreeSet<String>,
    /// Ids of its own messages that were acknowledged.
    acknowledged: Vec<String>,
    /// Of its own messages, refused.
    refused: usize,
}

/// One client in a room of twenty, until the server closes it. The first of each room publishes as fast as it is
/// acknowledged, over as many shards as there are.
async fn live(server: Arc<Server>, index: usize, all_joined: Arc<Barrier>, busy: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen { room: index % ROOMS, ..Seen::default() };
    let room = format!("room-{}", seen.room);
    let mut client = server.client(&format!("user-{index}")).await;
    client.join(&room).await;
    all_joined.wait().await;
    let publishes = index < ROOMS;
    let message = |id: u64| json!({ "type": "publish", "id": id, "room": room, "data": id });
    let mut next = 1;
    if publishes {
        client.send(message(next)).await;
    }
    loop {
        match client.next_but_pings().await {
            Received::Json(event) => match event["type"].as_str() {
                Some("message") => drop(seen.received.insert(text(&event["id"]))),
                Some("ack") => {
                    seen.acknowledged.push(text(&event["messageId"]));
                    if seen.acknowledged.len() == 20 {
                        busy.fetch_add(1, Ordering::Relaxed);
                    }
                    next += 1;
                    client.send(message(next)).await;
                }
                Some("error") => {
                    assert_eq!(event["error"], "unavailable", "{event}");
                    seen.refused += 1;
                }
                _ => {}
            },
            Received::Close { code, .. } => {
                seen.code = code;
                client.close(1001, "").await;
                return seen;
            }
            other => panic!("client {index}: the server ended with {other:?}"),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn stops_under_load(signal: Signal) {
    // Nobody is told before the others: all get everything that was acknowledged. `drain.rs` is about those that are.
    let settings = Settings::default().set("server.shards", "2").set("drain.spread", "0");
    let server = Arc::new(settings.start().await);
    let (all_joined, busy) = (Arc::new(Barrier::new(CLIENTS)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for index in 0..CLIENTS {
        clients.spawn(live(Arc::clone(&server), index, Arc::clone(&all_joined), Arc::clone(&busy)));
    }
    // The signal comes in the middle of it.
    let under_load = async {
        while busy.load(Ordering::Relaxed) < ROOMS {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, under_load).await.expect("every publisher is acknowledged");
    server.signal(signal);
    let seen = clients.join_all().await;
    let mut server = Arc::into_inner(server).expect("every client has let go of it");
    let status = server.process().ended(STOPPED_WITHIN).await;
    assert_eq!(status.code(), Some(0));

    assert_eq!(seen.len(), CLIENTS);
    assert!(seen.iter().all(|client| client.code == Some(1001)));
    let mut acknowledged = vec![BTreeSet::new(); ROOMS];
    for client in &seen {
        acknowledged[client.room].extend(client.acknowledged.iter().cloned());
    }
    for (index, client) in seen.iter().enumerate() {
        let missed = acknowledged[client.room].difference(&client.received).count();
        assert_eq!(missed, 0, "client {index} of room {} missed what was acknowledged", client.room);
    }
    let total: usize = acknowledged.iter().map(BTreeSet::len).sum();
    let refused: usize = seen.iter().map(|client| client.refused).sum();
    println!(
        "{CLIENTS} clients, {total} messages acknowledged and delivered to 20 each, {refused} refused at the end"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_tells_every_client_and_loses_nothing_acknowledged() {
    stops_under_load(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_under_load_tells_every_client_and_loses_nothing_acknowledged() {
    stops_under_load(Signal::INT).await;
}

/// A client between its request and its first frame is a client: it is told, or was never upgraded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_arrive_while_the_server_stops_are_told_or_refused() {
    let server = Arc::new(Settings::default().set("server.shards", "2").start().await);
    let mut storm = JoinSet::new();
    let connected = Arc::new(AtomicUsize::new(0));
    for worker in 0..50 {
        let (addr, connected) = (server.addr, Arc::clone(&connected));
        storm.spawn(async move {
            for round in 0.. {
                let target = format!("/ws?userId=u{worker}-{round}&join=none");
                let Some(mut client) = raw::upgrade(addr, &target).await else { return };
                connected.fetch_add(1, Ordering::Relaxed);
                // Told goodbye, or answered: never cut.
                client.send(json!({ "type": "ping" })).await;
                loop {
                    match client.next_but_pings().await {
                        Received::Json(event) if event["type"] == "pong" => break,
                        Received::Json(_) => {}
                        Received::Close { code, .. } => {
                            assert_eq!(code, Some(1001));
                            return;
                        }
                        other => panic!("an upgraded client was cut: {other:?}"),
                    }
                }
            }
        });
    }
    while connected.load(Ordering::Relaxed) < 500 {
        tokio::task::yield_now().await;
    }
    server.signal(Signal::TERM);
    while let Some(ended) = storm.join_next().await {
        ended.unwrap();
    }
    let mut server = Arc::into_inner(server).expect("nobody else holds it");
    assert_eq!(server.process().ended(STOPPED_WITHIN).await.code(), Some(0));
}

/// An operator who insists need not wait for clients that do not answer.
#[tokio::test]
async fn second_signal_ends_at_once_though_clients_do_not_answer() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)]
    {
        let mut server = Server::start().await;
        let mut silent = Vec::new();
        for index in 0..10 {
            silent.push(server.client(&format!("silent-{index}")).await);
        }
        server.signal(first);
        // They are told, and say nothing: the first signal alone would wait for them.
        for client in &mut silent {
            assert_eq!(client.closed().await, Some(1001));
        }
        server.signal(second);
        // A stop in good order would end with 0.
        assert_eq!(server.process().ended(PATIENCE).await.code(), Some(130));
    }
}

/// Clients that never answer delay the end, and do not prevent it.
#[tokio::test]
async fn silent_clients_are_cut_in_time_and_the_end_is_in_good_order() {
    let mut server = Server::start().await;
    let mut silent = Vec::new();
    for index in 0..20 {
        let mut client = server.client(&format!("silent-{index}")).await;
        client.join("hall").await;
        silent.push(client);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.process().ended(STOPPED_WITHIN).await.code(), Some(0));
    let stopped = |line: &String| line.contains("\"stopped; every client was told\"");
    assert!(server.process().log().iter().any(stopped), "{:#?}", server.process().log());
    for client in &mut silent {
        assert_eq!(client.closed().await, Some(1001));
    }
}

/// Less patience than the clients' closing time: the end is as punctual as configured, and says what it cut.
#[tokio::test]
async fn shutdown_timeout_bounds_the_end() {
    let mut server = Settings::default().set("server.shutdown_timeout", "200ms").start().await;
    let silent = server.client("silent").await;
    server.signal(Signal::TERM);
    server.process().wait_for(|line| line.contains("connections that remained were cut").then_some(())).await;
    assert_eq!(server.process().ended(PATIENCE).await.code(), Some(0));
    drop(silent);
}
