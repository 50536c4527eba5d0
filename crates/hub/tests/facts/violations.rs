//! Peers that break the protocol: the right code, and nobody else notices.

use outspoke_hub::Hub;
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use outspoke_websocket::Opcode;
use serde_json::json;

use crate::support::{hub, member, publish, user, welcomed};

/// A masked frame with whatever first byte and payload.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(0x80 | len as u8),
        len => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

async fn healthy(hub: &Hub, other: &mut ScriptedClient) {
    publish(hub, "x", 1);
    other.expect("message").await;
    other.send(json!({ "type": "ping" })).await;
    other.expect("pong").await;
}

/// Each violation has its code (RFC 6455 section 7.4.1); the stream ends after it, and a neighbour lives on.
#[tokio::test(start_paused = true)]
async fn violations_close_with_their_code_and_harm_nobody_else() {
    let hub = hub(|config| config.message_bytes_max = 1000);
    let mut other = member(&hub, "other", "x").await;
    let unmasked = vec![0x81, 0x01, b'x'];
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("unmasked frame", unmasked, 1002),
        ("reserved bit", frame(0xc1, b"x"), 1002),
        ("unknown opcode", frame(0x83, b"x"), 1002),
        ("continuation of nothing", frame(0x80, b"x"), 1002),
        ("message inside a message", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002),
        ("fragmented ping", frame(0x09, b"x"), 1002),
        ("ping of 126 bytes", frame(0x89, &[0; 126]), 1002),
        ("close of one byte", frame(0x88, &[3]), 1002),
        ("close with a reserved code", frame(0x88, &1005_u16.to_be_bytes()), 1002),
        ("text that is no UTF-8", frame(0x81, &[0xff]), 1007),
        ("character cut by the end", frame(0x81, &[0xe2, 0x82]), 1007),
        ("message too big", frame(0x82, &[0; 1001]), 1009),
        ("fragments too big together", [frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat(), 1009),
        ("a declared terabyte", vec![0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1009),
    ];
    let count = cases.len() as u64;
    for (name, bytes, code) in cases {
        let mut client = welcomed(&hub, "villain").await;
        client.join("x").await;
        client.send_raw(&bytes).await;
        // What follows has no meaning any more.
        client.send(json!({ "type": "chat", "room": "x", "content": "after" })).await;
        let Received::Close { code: found, reason } = client.next().await else { panic!("{name}") };
        assert_eq!(found, Some(code), "{name}");
        assert!(!reason.is_empty() && reason.len() <= 123, "{name}: {reason}");
        assert_eq!(client.next().await, Received::End, "{name}");
        assert_eq!(hub.member_count("x"), 1, "{name}");
        healthy(&hub, &mut other).await;
        drop(client);
        settle().await;
        assert_eq!(hub.client_count(), 1, "{name}");
    }
    assert_eq!(hub.stats().protocol_errors, count);
}

/// What came before the violation was said in good order, and is done and answered.
#[tokio::test(start_paused = true)]
async fn requests_before_a_violation_are_answered() {
    let hub = hub(|_| {});
    let mut other = member(&hub, "other", "x").await;
    let mut client = member(&hub, "villain", "x").await;
    let mut bytes = client.frame(Opcode::Text, br#"{"type":"ping","id":1}"#);
    bytes.extend(client.frame(Opcode::Text, br#"{"type":"chat","room":"x","content":"last words"}"#));
    bytes.extend(frame(0xc1, b"x"));
    client.send_raw(&bytes).await;
    assert_eq!(client.expect("pong").await["id"], 1);
    assert_eq!(client.closed().await, Some(1002));
    assert_eq!(other.expect("chat").await["content"], "last words");
}

/// A request that the dialect cannot read is no violation: it is answered, and the connection stays (B4).
#[tokio::test(start_paused = true)]
async fn bad_requests_are_answered_and_the_connection_stays() {
    let hub = hub(|_| {});
    let mut client = member(&hub, "a", "x").await;
    for text in ["", "hello", "[]", "{}", r#"{"type":5}"#, r#"{"type":"chat","content":5}"#] {
        client.send_text(text).await;
        assert_eq!(client.expect("error").await["error"], "bad_request", "{text}");
    }
    client.send_binary(b"{}").await;
    assert_eq!(client.expect("error").await["error"], "unsupported_frame");
    client.say("x", "still here").await;
    client.expect("chat").await;
    assert_eq!(hub.stats().protocol_errors, 0);
}

/// A network may cut anywhere, also inside a header, and control frames may come between fragments.
#[tokio::test(start_paused = true)]
async fn input_may_be_cut_at_every_byte() {
    let hub = hub(|_| {});
    let mut client = member(&hub, "a", "x").await;
    let mut bytes = frame(0x01, br#"{"type":"chat","room":"x","#);
    bytes.extend(frame(0x89, b"between"));
    bytes.extend(frame(0x00, "\"content\":\"é".as_bytes().split_last().unwrap().1));
    bytes.extend(frame(0x80, &[&[0xa9][..], br#""}"#].concat()));
    let filler = "x".repeat(200);
    let text = json!({ "type": "chat", "room": "x", "content": filler }).to_string();
    bytes.extend(client.frame(Opcode::Text, text.as_bytes()));
    for cut in 1..bytes.len() {
        client.send_raw(&bytes[..cut]).await;
        settle().await;
        client.send_raw(&bytes[cut..]).await;
        assert_eq!(client.next().await, Received::Pong("between".into()), "cut at {cut}");
        assert_eq!(client.expect("chat").await["content"], "é", "cut at {cut}");
        assert_eq!(client.expect("chat").await["content"], filler, "cut at {cut}");
    }
    for byte in &bytes {
        client.send_raw(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.next().await, Received::Pong("between".into()));
    assert_eq!(client.expect("chat").await["content"], "é");
    assert_eq!(client.expect("chat").await["content"], filler);
}

/// A peer that pings and never reads must cost no more than one pong's memory, and no other client anything.
#[tokio::test(start_paused = true)]
async fn ping_flood_without_reading_is_bounded() {
    let hub = hub(|_| {});
    let mut other = member(&hub, "other", "x").await;
    let (mut client, handle) = attach_with(&hub, user("flood"), 200);
    client.expect("welcome").await;
    for number in 0..5000_u32 {
        let ping = client.frame(Opcode::Ping, format!("{number:0100}").as_bytes());
        assert!(client.stream().send_all(&ping).await);
        if number % 500 == 0 {
            settle().await;
            assert!(handle.queued_bytes() < 300, "{} bytes", handle.queued_bytes());
        }
    }
    healthy(&hub, &mut other).await;
    // Whoever waits for the answer to its last ping gets it (RFC 6455 section 5.5.3).
    let last = Received::Pong(format!("{:0100}", 4999).into());
    while client.next().await != last {}
    settle().await;
    assert_eq!((client.received(), handle.queued_bytes()), (vec![], 0));
}

/// A peer may go on sending after its close frame: nothing of it counts.
#[tokio::test(start_paused = true)]
async fn what_follows_a_close_frame_is_ignored() {
    let hub = hub(|_| {});
    let mut other = member(&hub, "other", "x").await;
    let mut client = member(&hub, "a", "x").await;
    client.send(json!({ "type": "ping", "id": 1 })).await;
    client.close(1000, "bye").await;
    client.say("x", "from beyond").await;
    assert_eq!(client.expect("pong").await["id"], 1);
    assert_eq!(client.closed().await, Some(1000));
    assert_eq!(client.next().await, Received::End);
    settle().await;
    assert_eq!(other.received(), []);
}

#[tokio::test(start_paused = true)]
async fn close_without_a_code_is_answered_without_one() {
    let hub = hub(|_| {});
    let mut client = welcomed(&hub, "a").await;
    client.send_raw(&frame(0x88, b"")).await;
    assert_eq!(client.closed().await, None);
    assert_eq!(client.next().await, Received::End);
}
