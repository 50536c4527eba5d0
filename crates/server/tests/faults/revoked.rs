//! What is decided about a user on one server reaches the user's connection to the other one: in time, also while what connects the
//! two is dead, and from then on nothing is delivered to it.

use std::time::{Duration, Instant};

use outspoke_testkit::services::{Nats, Postgres, Redis};
use outspoke_testkit::{Received, TcpClient, exchange};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::cluster::{Bus, Servers, Store};

const KEY: &str = "a-key-for-tests-0123456789";
/// What is promised.
const WITHIN: Duration = Duration::from_secs(5);
/// How long it is listened for what should not come.
const AFTERWARDS: Duration = Duration::from_secs(2);

async fn ask(servers: &Servers, node: usize, method: &str, path: &str, body: &Value) -> Value {
    let addr = servers.hosts[node].address().borrow().expect("it runs");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(addr, request.as_bytes()).await;
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

async fn member(servers: &Servers, node: usize, user: &str) -> TcpClient {
    let addr = servers.hosts[node].address().borrow().expect("it runs");
    let target = format!("/ws?userId={user}&username={user}&device=phone&join=room");
    let mut client = TcpClient::connect(addr, &target, &[]).await.unwrap();
    client.find("subscribed").await;
    client
}

/// Somebody who says numbers in the room, a hundred times a second, until told to stop; then says which was the last.
fn publisher(mut client: TcpClient) -> (oneshot::Sender<()>, tokio::task::JoinHandle<u64>) {
    let (stop, mut stopped) = oneshot::channel();
    let saying = tokio::spawn(async move {
        let mut number = 0;
        while stopped.try_recv().is_err() {
            number += 1;
            client.send(json!({ "type": "publish", "room": "room", "data": number })).await;
            client.received();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        number
    });
    (stop, saying)
}

/// How a connection ends, or how it is taken out of the room; and how long after `decided`.
async fn end_of(client: &mut TcpClient, decided: Instant) -> (String, Duration) {
    loop {
        match client.next().await {
            Received::Close { code, .. } => return (format!("closed {code:?}"), decided.elapsed()),
            Received::Json(event) if event["type"] == "unsubscribed" => {
                assert_eq!(event["error"], "forbidden", "{event}");
                return ("taken out".to_owned(), decided.elapsed());
            }
            Received::End => panic!("the connection ended without a word"),
            _ => {}
        }
    }
}

/// Everything that still comes.
async fn afterwards(client: &mut TcpClient) -> usize {
    let mut messages = 0;
    let until = tokio::time::Instant::now() + AFTERWARDS;
    while let Ok(received) = tokio::time::timeout_at(until, client.next()).await {
        match received {
            Received::Json(event) if event["type"] == "message" => messages += 1,
            Received::End => break,
            _ => {}
        }
    }
    messages
}

async fn decisions_reach_the_other_server(mut bus: Bus, store: Store, dead: bool) {
    let servers = Servers::start(2, &bus, &store).await;
    let cases = [
        ("POST", "/users/ana/revoke", json!({}), "closed Some(4503)"),
        ("POST", "/users/bea/revoke", json!({ "device": "phone", "reconnect": true }), "closed Some(4003)"),
        ("POST", "/rooms/room/members/cleo/remove", json!({ "seconds": 3600 }), "taken out"),
        ("PUT", "/users/dora/permissions", json!({ "permissions": { "join": ["else*"] } }), "taken out"),
    ];
    let users = ["ana", "bea", "cleo", "dora"];
    for node in [1, 0] {
        let mut clients = Vec::new();
        for user in users {
            // Whoever was decided about before may come again.
            for ruling in
                ask(&servers, 0, "GET", "/rulings", &Value::Null).await["rulings"].as_array().unwrap()
            {
                let id = ruling["ruling"].as_str().unwrap();
                ask(&servers, node, "DELETE", &format!("/rulings/{id}"), &Value::Null).await;
            }
            clients.push(member(&servers, node, user).await);
        }
        let mut witness = member(&servers, node, "witness").await;
        let (stop, saying) = publisher(member(&servers, node, "publisher").await);
        for client in clients.iter_mut().chain([&mut witness]) {
            client.find("message").await;
        }
        if dead {
            bus.kill();
        }
        for ((method, path, body, end), client) in cases.iter().zip(&mut clients) {
            let decided = Instant::now();
            let ruled = ask(&servers, 0, method, path, body).await;
            assert_eq!(ruled["durable"], true, "{ruled}");
            let ending = outspoke_testkit::within(WITHIN, end_of(client, decided));
            let (how, took) = ending.await.unwrap_or_else(|| panic!("{path}: not in {WITHIN:?}"));
            println!("{}, dead: {dead}, node {node}: {path}: {how} after {took:.2?}", bus.name());
            assert!(how == *end, "{path}: {how} after {took:?}");
            assert_eq!(afterwards(client).await, 0, "{path}: delivered afterwards");
        }
        stop.send(()).unwrap();
        let last = saying.await.unwrap();
        let heard = async { while witness.find("message").await["data"] != last {} };
        outspoke_testkit::within(2 * WITHIN, heard).await.expect("the others hear everything");
        if dead {
            bus.restart().await;
            tokio::time::sleep(WITHIN).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_reach_the_other_server_over_redis() {
    let (bus, store) = tokio::join!(Redis::start_with(&[]), Postgres::start());
    decisions_reach_the_other_server(Bus::Redis(bus), Store::Postgres(store), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_reach_the_other_server_while_the_bus_is_dead() {
    let (bus, store) = tokio::join!(Nats::start(), Redis::start());
    decisions_reach_the_other_server(Bus::Nats(bus), Store::Redis(store), true).await;
}
