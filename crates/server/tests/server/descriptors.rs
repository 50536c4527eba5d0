//! More connections than file descriptors: the server stays well, says no, and recovers.

use serde_json::{Value, json};

use crate::support::raw::Raw;
use crate::support::{PATIENCE, Server, Settings};

/// With 256 descriptors, 64 are kept for the server's own use.
const FIT: usize = 192;

async fn small_server() -> Server {
    Settings::default().descriptors(256).set("server.header_timeout", "2s").start().await
}

/// Health checks must get through when the hub is full, or the orchestrator restarts a server that is only busy.
#[tokio::test]
async fn clients_beyond_the_descriptors_get_503_while_health_answers_and_come_in_when_others_leave() {
    let server = small_server().await;
    let mut clients = Vec::new();
    for index in 0..FIT {
        clients.push(server.client(&format!("user-{index}")).await);
    }
    for index in 0..200 {
        let refused =
            server.try_open(&format!("/ws?userId=late-{index}&join=none")).await.expect_err("it is full");
        assert_eq!(refused.status, 503);
        let error: Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!(error["error"], "too_many_connections");
        assert_eq!(server.clients().await, FIT);
    }
    // Those who are in feel nothing.
    let (first, rest) = clients.split_first_mut().unwrap();
    first.join("hall").await;
    for client in rest.iter_mut().take(10) {
        client.join("hall").await;
        first.expect("join").await;
    }
    rest[3].say("hall", "Rather full here").await;
    assert_eq!(first.expect("chat").await["content"], "Rather full here");
    clients.truncate(FIT - 50);
    server.has_clients(FIT - 50).await;
    for index in 0..50 {
        clients.push(server.client(&format!("late-{index}")).await);
    }
    assert_eq!(server.clients().await, FIT);
}

/// Connections that never say anything can fill every descriptor, and for no longer than the header's time-out.
#[tokio::test]
async fn silent_connections_beyond_the_descriptors_wait_outside_and_are_cut_in_time() {
    let server = small_server().await;
    let mut talking = server.client("talking").await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(Raw::connect(server.addr).await);
    }
    // Who is in, is served all the while.
    for round in 0..50 {
        talking.send(json!({ "type": "ping", "id": round })).await;
        assert_eq!(talking.expect("pong").await["id"], round);
    }
    // Who waits behind them is served in the end, and nobody had to be restarted for it.
    let health =
        tokio::time::timeout(PATIENCE, server.get("/health")).await.expect("an answer after the others");
    assert_eq!(health.status, 200);
    for raw in &mut silent {
        assert!(raw.ends().await);
    }
    server.serves().await;
    assert!(server.usage().descriptors < 64, "{:?}", server.usage());
}
