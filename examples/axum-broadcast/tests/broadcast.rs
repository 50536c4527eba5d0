//! The example as its reader runs it: the program, a WebSocket client, and a POST.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use outspoke_testkit::{Process, Signal, TcpClient, exchange};
use serde_json::{Value, json};
use tokio::process::Command;

async fn start() -> (Process, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_example-axum-broadcast"));
    command.arg("127.0.0.1:0");
    let mut process = Process::spawn(command);
    let address = process.wait_for(|line| line.strip_prefix("http://")?.parse().ok()).await;
    (process, address)
}

async fn post(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    let answer = exchange(address, request.as_bytes()).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn posted_news_reach_every_client_and_the_answer_counts_them() {
    let (_process, address) = start().await;
    let mut ann = TcpClient::connect(address, "/ws?userId=ann", &[]).await.unwrap();
    let mut ben = TcpClient::connect(address, "/ws?userId=ben", &[]).await.unwrap();
    for client in [&mut ann, &mut ben] {
        client.expect("welcome").await;
        assert_eq!(client.expect("subscribed").await["room"], "news");
    }
    let (status, body) = post(address, "/news", r#"{"headline":"Spring is here"}"#).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({ "members": 2, "offset": 1 }));
    for client in [&mut ann, &mut ben] {
        let news = client.expect("message").await;
        assert_eq!(news["data"], json!({ "headline": "Spring is here" }));
        assert_eq!((&news["room"], &news["offset"]), (&json!("news"), &json!(1)));
    }
    let (status, _) = post(address, "/news", "no JSON").await;
    assert_eq!(status, 400);
    let request = format!("GET /clients HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let clients: Value = serde_json::from_str(&exchange(address, request.as_bytes()).await.body).unwrap();
    assert_eq!(clients["clients"], 2);
}

#[tokio::test]
async fn interrupt_tells_every_client_and_ends_in_good_order() {
    let (mut process, address) = start().await;
    let mut client = TcpClient::connect(address, "/ws?userId=ann", &[]).await.unwrap();
    client.expect("welcome").await;
    process.signal(Signal::INT).unwrap();
    assert_eq!(client.closed().await, Some(1001));
    client.close(1001, "").await;
    drop(client);
    assert!(process.ended(Duration::from_secs(30)).await.success());
}
