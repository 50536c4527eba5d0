//! Where the real binary tells what it counts, and to whom.

use std::net::SocketAddr;

use outspoke_testkit::exchange;
use serde_json::{Value, json};

use crate::support::{Server, Settings};

const KEY: &str = "a-key-for-tests-0123456789";

async fn metrics_address(server: &mut Server) -> SocketAddr {
    let address = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["message"] == "metrics are at /metrics")
            .then(|| event["address"].as_str()?.parse().ok())
            .flatten()
    };
    server.process().wait_for(address).await
}

fn request(path: &str, more: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}Connection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn metrics_have_a_listener_of_their_own_that_answers_nothing_else() {
    let mut server = Settings::default().set("metrics.addr", "127.0.0.1:0").start().await;
    let metrics = metrics_address(&mut server).await;
    let mut client = server.open("/ws?userId=a&username=A").await;
    client.expect("welcome").await;
    client.expect("subscribed").await;
    client.send(json!({ "type": "chat", "id": 1, "content": "hello" })).await;
    client.find("ack").await;

    let answer = exchange(metrics, &request("/metrics", "")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in ["outspoke_clients 1.0\n", "outspoke_messages_total{from=\"client\"} 1\n", "# EOF\n"] {
        assert!(answer.body.contains(line), "{line}{}", answer.body);
    }
    assert_eq!(exchange(metrics, &request("/healthz", "")).await.status, 200);
    for path in ["/", "/ws", "/api/v1/rooms", "/api/v1/metrics", "/nodes"] {
        assert_eq!(exchange(metrics, &request(path, "")).await.status, 404, "{path}");
    }
    assert_eq!(server.get("/metrics").await.status, 404, "the public listener does not tell");
}

#[tokio::test]
async fn metrics_of_the_public_listener_need_a_key() {
    let server = Settings::default().set("api.keys", KEY).start().await;
    assert_eq!(server.get("/api/v1/metrics").await.status, 401);
    let key = format!("Authorization: Bearer {KEY}\r\n");
    let answer = exchange(server.addr, &request("/api/v1/metrics", &key)).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("outspoke_rooms 0"), "{}", answer.body);
    assert_eq!(answer.headers["cache-control"], "no-store");
}
