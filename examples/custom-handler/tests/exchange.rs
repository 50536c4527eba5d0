//! The example as its reader runs it: keys, orders, trades, and who is there.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use outspoke_testkit::{Process, TcpClient};
use serde_json::{Value, json};
use tokio::process::Command;

async fn start() -> (Process, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_example-custom-handler"));
    command.arg("127.0.0.1:0");
    let mut process = Process::spawn(command);
    let address = |line: &str| line.strip_prefix("ws://")?.strip_suffix("/ws")?.parse().ok();
    let address = process.wait_for(address).await;
    (process, address)
}

async fn connect(address: SocketAddr, user: &str) -> TcpClient {
    let key = format!("Bearer key-of-{user}");
    let mut client = TcpClient::connect(address, "/ws", &[("Authorization", &key)]).await.unwrap();
    let welcome = client.expect("welcome").await;
    assert_eq!((&welcome["userId"], &welcome["openMode"]), (&json!(user), &json!(false)));
    assert_eq!(client.expect("subscribed").await["room"], "trades");
    client
}

#[tokio::test]
async fn traders_trade_and_everybody_sees_it() {
    let (mut process, address) = start().await;
    let mut walt = connect(address, "walt").await;
    process.wait_for(|line| (line == "walt came").then_some(())).await;
    let mut tess = connect(address, "tess").await;
    tess.send(json!({ "type": "order", "id": 1, "data": { "symbol": "ACME", "amount": 3 } })).await;
    assert_eq!(
        tess.find("accepted").await,
        json!({ "type": "accepted", "id": 1, "data": { "price": 4200 } })
    );
    for client in [&mut tess, &mut walt] {
        let trade = client.find("trade").await;
        assert_eq!(trade["data"], json!({ "symbol": "ACME", "amount": 3, "price": 4200 }));
    }
    walt.send(json!({ "type": "order", "id": 2, "data": { "symbol": "ACME", "amount": 1 } })).await;
    refused(&walt.find("error").await, 2, "forbidden");
    tess.send(json!({ "type": "order", "id": 3, "data": { "symbol": "NONE", "amount": 1 } })).await;
    refused(&tess.find("error").await, 3, "bad_request");
    tess.send(json!({ "type": "order", "id": 4, "data": { "symbol": "ACME" } })).await;
    let error = tess.find("error").await;
    refused(&error, 4, "bad_request");
    assert!(error["message"].as_str().unwrap().contains("amount"), "{error}");
    tess.send(json!({ "type": "online", "id": 5 })).await;
    assert_eq!(tess.find("online").await["data"], json!(["tess", "walt"]));
    walt.close(1000, "").await;
    process.wait_for(|line| line.starts_with("walt went: ByPeer(Some(1000))").then_some(())).await;
}

fn refused(error: &Value, id: u64, code: &str) {
    assert_eq!((&error["id"], &error["error"]), (&json!(id), &json!(code)), "{error}");
}

#[tokio::test]
async fn without_a_key_nobody_gets_in() {
    let (_process, address) = start().await;
    for headers in
        [&[][..], &[("Authorization", "Bearer key-of-nobody")], &[("Authorization", "key-of-tess")]]
    {
        let refused = TcpClient::connect(address, "/ws?userId=tess", headers).await.unwrap_err();
        assert_eq!(refused.status, 401, "{}", refused.body);
        let error: Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!(error["error"], "unauthorized");
    }
}
