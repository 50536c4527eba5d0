//! The gohub dialect by each of the three ways to it, and both dialects in one room.

use outspoke_testkit::{Connect, Received, TcpClient};
use serde_json::{Value, json};

use crate::support::Server;

async fn next(client: &mut TcpClient) -> Value {
    match client.next_but_pings().await {
        Received::Json(value) => value,
        other => panic!("expected JSON, and there came {other:?}"),
    }
}

#[tokio::test]
async fn gohub_is_spoken_at_its_endpoint_by_subprotocol_and_by_query() {
    let server = Server::start().await;
    let ways = [
        (Connect::to(server.addr, "/gohub?userId=a"), None),
        (Connect::to(server.addr, "/ws?userId=b&join=none").protocol("gohub"), Some("gohub")),
        (Connect::to(server.addr, "/ws?userId=c&join=none").protocol("v9").protocol("gohub"), Some("gohub")),
        (Connect::to(server.addr, "/ws?userId=d&join=none&dialect=gohub"), None),
    ];
    for (connect, subprotocol) in ways {
        let (mut client, established) = connect.establish().await.unwrap();
        assert_eq!(established.protocol.as_deref(), subprotocol);
        let welcome = next(&mut client).await;
        assert_eq!((&welcome["message_id"], &welcome["message_type"]), (&json!(0), &json!("welcome")));
        client.send_text(r#"{"message_id":1,"message_type":"ping"}"#).await;
        assert_eq!(client.next_text().await, r#"{"message_id":1,"message_type":"pong"}"#);
    }
}

/// A client that asks for a subprotocol gets it, whatever the query or the endpoint says.
#[tokio::test]
async fn subprotocol_wins_over_the_query_and_the_query_over_the_endpoint() {
    let server = Server::start().await;
    let (mut native, established) =
        Connect::to(server.addr, "/gohub?dialect=gohub").protocol("outspoke.v1").establish().await.unwrap();
    assert_eq!(established.protocol.as_deref(), Some("outspoke.v1"));
    native.expect("welcome").await;
    let mut native = server.open("/gohub?dialect=native").await;
    native.expect("welcome").await;
    // A subprotocol that nobody knows is not answered; the client's library decides what that means.
    let (mut native, established) =
        Connect::to(server.addr, "/ws?join=none").protocol("soap").establish().await.unwrap();
    assert_eq!(established.protocol, None);
    native.expect("welcome").await;
}

#[tokio::test]
async fn gohub_endpoint_starts_without_a_room_and_needs_no_name() {
    let server = Server::start().await;
    let mut client = server.open("/gohub").await;
    assert_eq!(next(&mut client).await["message_type"], "welcome");
    client.send(json!({ "message_id": 1, "message_type": "ping" })).await;
    assert_eq!(next(&mut client).await["message_type"], "pong");
    let mut joined = server.open("/gohub?join=lobby&username=Greta").await;
    assert_eq!(next(&mut joined).await["message_type"], "welcome");
    let subscribed = next(&mut joined).await;
    assert_eq!(
        (&subscribed["message_type"], &subscribed["data"]["room"]),
        (&json!("subscribed"), &json!("lobby"))
    );
}

#[tokio::test]
async fn envelope_errors_carry_the_message_id_and_keep_the_connection() {
    let server = Server::start().await;
    let mut client = server.open("/gohub?userId=g&username=G&join=lobby").await;
    next(&mut client).await;
    next(&mut client).await;
    for (message, id, code) in [
        (json!({ "message_id": 1, "message_type": "no_such" }), 1, "unknown_type"),
        (json!({ "message_id": 2, "message_type": "chat", "data": "" }), 2, "content_required"),
        (json!({ "message_id": 3, "message_type": "subscribe", "data": 7 }), 3, "bad_request"),
        (
            json!({ "message_id": 4, "message_type": "publish", "data": { "room": "x", "data": 1 } }),
            4,
            "not_subscribed",
        ),
        (json!({ "message_type": "ping" }), 0, "bad_request"),
        (json!({ "message_id": "5", "message_type": "ping" }), 0, "bad_request"),
    ] {
        client.send(message.clone()).await;
        let error = next(&mut client).await;
        assert_eq!(
            (&error["message_type"], &error["message_id"]),
            (&json!("error"), &json!(id)),
            "{message}"
        );
        assert_eq!(error["data"]["error"], code, "{error}");
    }
    client.send(json!({ "message_id": 9, "message_type": "ping" })).await;
    assert_eq!(next(&mut client).await, json!({ "message_id": 9, "message_type": "pong" }));
}

/// The same log for both: ids, offsets and order agree, whoever speaks.
#[tokio::test]
async fn two_dialects_in_one_room_see_the_same_log() {
    let server = Server::start().await;
    let mut alice = server.client("alice").await;
    alice.join("hall").await;
    let mut greta = server.open("/gohub?userId=greta&username=Greta").await;
    next(&mut greta).await;
    greta.send(json!({ "message_id": 1, "message_type": "subscribe", "data": "hall" })).await;
    next(&mut greta).await;
    alice.expect("join").await;
    for round in 0..20_u64 {
        if round % 2 == 0 {
            alice.say("hall", &format!("native {round}")).await;
        } else {
            let data = json!({ "room": "hall", "content": format!("gohub {round}") });
            greta.send(json!({ "message_id": 0, "message_type": "chat", "data": data })).await;
        }
        let (native, gohub) = (alice.expect("chat").await, next(&mut greta).await);
        assert_eq!(gohub["message_type"], "chat");
        let gohub = &gohub["data"];
        for (native_key, gohub_key) in [
            ("id", "id"),
            ("epoch", "epoch"),
            ("offset", "offset"),
            ("content", "content"),
            ("userId", "user_id"),
            ("username", "username"),
            ("room", "room"),
        ] {
            assert_eq!(native[native_key], gohub[gohub_key], "{native_key}");
        }
        assert_eq!(native["offset"], round + 1);
    }
}
