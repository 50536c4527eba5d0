//! Limits on messages and connections, and what happens where they are reached.

use outspoke_testkit::{Connect, Received};
use serde_json::{Value, json};

use crate::chat::quiet;
use crate::support::{Server, Settings};

/// A publish of exactly so many bytes.
fn of_length(bytes: usize) -> String {
    let frame = |fill: &str| format!(r#"{{"type":"publish","room":"r","data":"{fill}"}}"#);
    frame(&"x".repeat(bytes - frame("").len()))
}

#[tokio::test]
async fn message_of_8_kib_passes_and_one_byte_more_ends_the_connection_with_1009() {
    let server = Server::start().await;
    let mut witness = server.client("witness").await;
    witness.join("r").await;
    let mut client = server.client("client").await;
    client.join("r").await;
    client.send_text(&of_length(8192)).await;
    assert_eq!(client.find("message").await["offset"], 1);
    client.send_text(&of_length(8193)).await;
    assert_eq!(client.closed().await, Some(1009));
    drop(client);
    assert_eq!(witness.find("message").await["offset"], 1);
    assert_eq!(witness.find("leave").await["userId"], "client");
    quiet(&mut witness).await;
}

/// Fragments count together, and compressed bytes count as what they inflate to.
#[tokio::test]
async fn fragments_and_compression_do_not_stretch_the_limit() {
    let server = Server::start().await;
    let mut client = server.client("fragments").await;
    let text = of_length(8193);
    let (first, second) = text.as_bytes().split_at(8000);
    client.send_raw(&masked(0x01, first)).await;
    client.send_raw(&masked(0x80, second)).await;
    assert_eq!(client.closed().await, Some(1009));

    let compressed = async |bytes: usize| {
        let connect = Connect::to(server.addr, "/ws?username=Z&join=r").compression();
        let (mut client, established) = connect.establish().await.unwrap();
        assert!(established.deflate.is_some());
        client.expect("welcome").await;
        client.expect("subscribed").await;
        client.send_compressed(&of_length(bytes)).await;
        client
    };
    let mut fits = compressed(8192).await;
    let overhead = of_length(100).len() - of_length(100).matches('x').count();
    assert_eq!(fits.expect("message").await["data"].as_str().unwrap().len(), 8192 - overhead);
    let mut bomb = compressed(1_000_000).await;
    assert_eq!(bomb.closed().await, Some(1009));
}

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0x80 | 126];
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn message_limit_is_told_and_can_be_set() {
    let server = Settings::default().set("limits.message_bytes_max", "128KiB").start().await;
    let mut client = server.open("/ws?username=Ann&join=r").await;
    assert_eq!(client.expect("welcome").await["maxMessageBytes"], 128 * 1024);
    client.expect("subscribed").await;
    client.send_text(&of_length(128 * 1024)).await;
    client.expect("message").await;
}

#[tokio::test]
async fn client_too_many_is_refused_before_the_upgrade_until_a_place_is_free() {
    let server = Settings::default().set("server.connections_max", "3").start().await;
    let mut clients = Vec::new();
    for user in ["a", "b", "c"] {
        clients.push(server.client(user).await);
    }
    let refused = server.try_open("/ws?userId=d&join=none").await.expect_err("no place is left");
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    let error: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((&error["error"], &error["temporary"]), (&json!("too_many_connections"), &json!(true)));
    assert_eq!(server.clients().await, 3);
    clients.pop();
    server.has_clients(2).await;
    server.client("d").await;
}

/// A full queue is the slow client's affair: it is closed with its code, and nobody else notices.
#[tokio::test]
async fn client_that_does_not_read_is_closed_and_the_others_get_everything() {
    let settings = Settings::default()
        .set("limits.outbox_bytes_max", "64KiB")
        .set("server.tcp_send_buffer", "16KiB")
        .set("rooms.leave_grace", "0s");
    let server = settings.start().await;
    let slow = Connect::to(server.addr, "/ws?userId=slow&username=slow&join=r").receive_buffer_bytes(4096);
    let mut slow = slow.open().await.unwrap();
    let (mut reader, mut writer) = (server.client("reader").await, server.client("writer").await);
    reader.join("r").await;
    writer.join("r").await;
    let filling = "x".repeat(4000);
    let mut sent = 0_u64;
    // Until the room hears that the slow one has gone.
    'sending: loop {
        sent += 1;
        writer.send(json!({ "type": "publish", "id": sent, "room": "r", "data": filling })).await;
        writer.find("ack").await;
        loop {
            match reader.next_but_pings().await {
                Received::Json(value) if value["type"] == "message" => {
                    assert_eq!(value["offset"], sent, "the others miss nothing");
                    break;
                }
                Received::Json(value) if value["type"] == "leave" => {
                    assert_eq!(value["userId"], "slow");
                    break 'sending;
                }
                _ => {}
            }
        }
        assert!(sent < 5000, "20 MB wait for a client that does not read");
    }
    // It reads at last: what was begun, then why.
    assert_eq!(slow.closed().await, Some(4000));
    drop(slow);
    server.has_clients(2).await;
}
