//! Rooms: subscribe, publish, unsubscribe, in every form that clients use.

use serde_json::json;

use crate::chat::quiet;
use crate::support::{Server, Settings};

#[tokio::test]
async fn subscribe_takes_the_room_under_each_of_its_names_and_is_harmless_to_repeat() {
    let server = Server::start().await;
    let mut client = server.client("ci").await;
    for (message, id) in [
        (json!({ "type": "subscribe", "data": "builds" }), None),
        (json!({ "type": "subscribe", "room": "builds", "id": 1 }), Some(json!(1))),
        (json!({ "type": "subscribe", "channel": "builds", "id": "two" }), Some(json!("two"))),
        (json!({ "type": "join", "room": "builds", "channel": "builds", "id": 3 }), Some(json!(3))),
    ] {
        client.send(message).await;
        let subscribed = client.expect("subscribed").await;
        assert_eq!((&subscribed["room"], &subscribed["members"]), (&json!("builds"), &json!(1)));
        assert_eq!(subscribed.get("id"), id.as_ref());
        if id.is_none() {
            // Not for oneself: who comes gets `subscribed` instead.
            quiet(&mut client).await;
        }
    }
    for (message, id) in [
        (json!({ "type": "unsubscribe", "data": "builds" }), None),
        (json!({ "type": "unsubscribe", "channel": "builds", "id": 4 }), Some(json!(4))),
        (json!({ "type": "leave", "room": "builds", "id": 5 }), Some(json!(5))),
    ] {
        client.send(message).await;
        let unsubscribed = client.expect("unsubscribed").await;
        assert_eq!((unsubscribed["room"].as_str(), unsubscribed.get("id")), (Some("builds"), id.as_ref()));
    }
    client.send(json!({ "type": "publish", "id": 6, "room": "builds", "data": 1 })).await;
    assert_eq!(client.expect("error").await["error"], "not_subscribed");
}

#[tokio::test]
async fn room_names_that_are_no_text_or_no_name_are_errors_and_the_connection_stays() {
    let server = Server::start().await;
    let mut client = server.client("ci").await;
    let long = "r".repeat(129);
    for (message, code) in [
        (json!({ "type": "subscribe" }), "room_required"),
        (json!({ "type": "subscribe", "data": 7 }), "bad_request"),
        (json!({ "type": "subscribe", "data": ["builds"] }), "bad_request"),
        (json!({ "type": "subscribe", "data": { "room": "builds" } }), "bad_request"),
        (json!({ "type": "unsubscribe", "data": true }), "bad_request"),
        (json!({ "type": "subscribe", "room": "a", "channel": "b" }), "bad_request"),
        (json!({ "type": "subscribe", "room": "" }), "invalid_room"),
        (json!({ "type": "subscribe", "room": long }), "invalid_room"),
        (json!({ "type": "publish", "data": 1 }), "room_required"),
    ] {
        client.send(message.clone()).await;
        let error = client.expect("error").await;
        assert_eq!(error["error"], code, "{message}: {error}");
    }
    client.join(&long[..128]).await;
    quiet(&mut client).await;
}

#[tokio::test]
async fn ping_is_answered_with_its_id_or_without() {
    let server = Server::start().await;
    let mut client = server.client("ci").await;
    client.send_text(r#"{"type":"ping"}"#).await;
    assert_eq!(client.next_text().await, r#"{"type":"pong"}"#);
    client.send_text(r#"{"id":"a b","type":"ping","more":{}}"#).await;
    assert_eq!(client.next_text().await, r#"{"type":"pong","id":"a b"}"#);
}

/// What is published arrives as it was sent: numbers keep their digits, objects their order and blanks.
#[tokio::test]
async fn published_data_passes_through_byte_for_byte() {
    let server = Server::start().await;
    let (mut ci, mut dev) = (server.client("ci").await, server.client("dev").await);
    ci.join("builds").await;
    dev.join("builds").await;
    ci.expect("join").await;
    let data = r#"{"z":1.50,"a":[ 1e2,"\u00e9" ],"big":12345678901234567890}"#;
    ci.send_text(&format!(r#"{{"type":"publish","room":"builds","data":{data}}}"#)).await;
    let start = format!(
        r#"{{"type":"message","room":"builds","data":{data},"userId":"ci","username":"ci","timestamp":""#
    );
    for client in [&mut ci, &mut dev] {
        let text = client.next_text().await;
        assert!(text.starts_with(&start), "{text}");
    }
}

/// Without a room a message goes where the connection began, also if that was not the default room.
#[tokio::test]
async fn message_without_a_room_goes_to_the_one_the_connection_started_in() {
    let server = Server::start().await;
    let mut lobby = server.in_lobby("lou").await;
    let mut ann = server.open("/ws?userId=ann&username=Ann&join=kitchen").await;
    ann.expect("welcome").await;
    assert_eq!(ann.expect("subscribed").await["room"], "kitchen");
    ann.send(json!({ "type": "chat", "id": 1, "content": "Tea?" })).await;
    assert_eq!(ann.find("ack").await["room"], "kitchen");
    ann.send(json!({ "type": "publish", "id": 2, "data": 1 })).await;
    assert_eq!(ann.find("ack").await["room"], "kitchen");
    quiet(&mut lobby).await;
    // Who started in no room has none to talk to, even after joining the default one.
    let mut ben = server.client("ben").await;
    ben.join("lobby").await;
    ben.send(json!({ "type": "chat", "id": 1, "content": "Hello?" })).await;
    let error = ben.expect("error").await;
    assert_eq!((&error["id"], &error["error"]), (&json!(1), &json!("room_required")), "{error}");
}

/// Ten rooms, ten offsets: each room counts for itself, and says it to newcomers.
#[tokio::test]
async fn rooms_count_for_themselves() {
    let server = Server::start().await;
    let mut client = server.client("ci").await;
    for room in 0..10 {
        let room = format!("room-{room}");
        let subscribed = client.join(&room).await;
        assert_eq!(subscribed["offset"], 0);
    }
    for round in 1..=3 {
        for room in 0..10 {
            let room = format!("room-{room}");
            client.send(json!({ "type": "publish", "room": room, "data": round })).await;
            let message = client.expect("message").await;
            assert_eq!((&message["room"], &message["offset"]), (&json!(room), &json!(round)));
        }
    }
    let mut other = server.client("dev").await;
    assert_eq!(other.join("room-3").await["offset"], 3);
}

#[tokio::test]
async fn limits_on_rooms_are_errors_that_say_the_limit() {
    let settings =
        Settings::default().set("limits.rooms_per_client_max", "3").set("limits.room_members_max", "2");
    let server = settings.set("limits.rooms_max", "4").start().await;
    let mut first = server.client("first").await;
    for room in ["a", "b", "c"] {
        first.join(room).await;
    }
    let refused = async |client: &mut outspoke_testkit::TcpClient, room: &str, code: &str, words: &str| {
        client.send(json!({ "type": "subscribe", "id": 1, "room": room })).await;
        let error = client.find("error").await;
        assert_eq!(error["error"], code, "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    };
    refused(&mut first, "d", "too_many_rooms", "3 rooms").await;
    let mut second = server.client("second").await;
    second.join("a").await;
    let mut third = server.client("third").await;
    refused(&mut third, "a", "room_full", "2 members").await;
    third.join("d").await;
    refused(&mut third, "e", "room_limit", "4 rooms").await;
    // A place that is given back is a place.
    second.send(json!({ "type": "unsubscribe", "room": "a" })).await;
    second.find("unsubscribed").await;
    third.join("a").await;
}

/// A connection whose first room has no place is told why, and may go elsewhere.
#[tokio::test]
async fn connection_whose_first_room_cannot_be_joined_stays_and_is_told_why() {
    let server =
        Settings::default().set("limits.rooms_max", "1").set("limits.room_members_max", "1").start().await;
    let _first = server.in_lobby("first").await;
    for (room, code) in [("lobby", "room_full"), ("kitchen", "room_limit")] {
        let mut client = server.open(&format!("/ws?username=Late&join={room}")).await;
        client.expect("welcome").await;
        let error = client.expect("error").await;
        assert_eq!((&error["error"], &error["temporary"]), (&json!(code), &json!(true)), "{error}");
        quiet(&mut client).await;
    }
}
