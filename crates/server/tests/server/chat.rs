//! The chat of the first minute: the lines that a person types, and everything that can be wrong with them.

use outspoke_testkit::{Received, TcpClient};
use serde_json::{Value, json};

use crate::support::Server;

/// Programs read keys, people read along: both rely on these lines as they stand.
#[tokio::test]
async fn chat_line_from_wscat_reaches_everybody_with_its_keys_in_order() {
    let server = Server::start().await;
    let mut alice = server.open("/ws?userId=user123&username=Alice").await;
    alice.find("subscribed").await;
    let mut bob = server.open("/ws?userId=user456&username=Bob").await;
    bob.find("subscribed").await;
    alice.find("join").await;
    alice.send_text(r#"{"type":"chat","content":"Hello everyone!"}"#).await;
    let before =
        r#"{"type":"chat","userId":"user123","username":"Alice","content":"Hello everyone!","timestamp":""#;
    let texts = [alice.next_text().await, bob.next_text().await];
    assert_eq!(texts[0], texts[1]);
    let rest = texts[0].strip_prefix(before).unwrap_or_else(|| panic!("{}", texts[0]));
    let (time, rest) = rest.split_at("2025-12-30T10:30:00.000Z".len());
    assert!(time.ends_with('Z') && time.starts_with("20") && time.as_bytes()[10] == b'T', "{time}");
    assert!(rest.starts_with(r#"","room":"lobby","id":""#), "{rest}");
    assert!(rest.ends_with(r#","offset":1}"#), "{rest}");
}

/// The time is the server's, whatever a client says.
#[tokio::test]
async fn chat_fields_that_belong_to_the_server_are_ignored() {
    let server = Server::start().await;
    let mut alice = server.in_lobby("alice").await;
    let forged = json!({
        "type": "chat", "content": "Hello", "userId": "root", "username": "Root",
        "timestamp": "1999-01-01T00:00:00Z", "offset": 99, "messageId": "x",
    });
    alice.send(forged).await;
    let chat = alice.expect("chat").await;
    assert_eq!((&chat["userId"], &chat["username"]), (&json!("alice"), &json!("alice")));
    assert_eq!(chat["offset"], 1);
    assert_ne!(&chat["timestamp"].as_str().unwrap()[..4], "1999");
}

#[tokio::test]
async fn joining_and_leaving_are_announced_to_the_others_once() {
    let server = Server::start().await;
    let mut alice = server.in_lobby("alice").await;
    let mut bob = server.in_lobby("bob").await;
    let join = alice.expect("join").await;
    assert_eq!(
        (&join["userId"], &join["username"], &join["room"]),
        (&json!("bob"), &json!("bob"), &json!("lobby"))
    );
    bob.close(1000, "bye").await;
    assert_eq!(bob.closed().await, Some(1000));
    let leave = alice.expect("leave").await;
    assert_eq!((&leave["userId"], &leave["room"]), (&json!("bob"), &json!("lobby")));
    // Who just vanishes has left, too.
    let carl = server.in_lobby("carl").await;
    assert_eq!(alice.expect("join").await["userId"], "carl");
    drop(carl);
    assert_eq!(alice.expect("leave").await["userId"], "carl");
    quiet(&mut alice).await;
}

#[tokio::test]
async fn announcements_can_be_switched_off() {
    let server = crate::support::Settings::default().set("rooms.announce", "false").start().await;
    let mut alice = server.in_lobby("alice").await;
    let bob = server.in_lobby("bob").await;
    drop(bob);
    server.has_clients(1).await;
    quiet(&mut alice).await;
}

/// Asserts that nothing is on the way: the answer to a ping comes next.
pub(crate) async fn quiet(client: &mut TcpClient) {
    client.send(json!({ "type": "ping", "id": "quiet" })).await;
    let next = client.next_but_pings().await;
    assert_eq!(next, Received::Json(json!({ "type": "pong", "id": "quiet" })));
}

/// The same, where others may come and go meanwhile.
pub(crate) async fn quiet_but_announcements(client: &mut TcpClient) {
    client.send(json!({ "type": "ping", "id": "quiet" })).await;
    loop {
        match client.next_but_pings().await {
            Received::Json(value) if value["type"] == "join" || value["type"] == "leave" => {}
            next => return assert_eq!(next, Received::Json(json!({ "type": "pong", "id": "quiet" }))),
        }
    }
}

/// A mistake is told to whoever made it, who may go on; the others see nothing of it.
#[tokio::test]
async fn bad_chat_is_answered_with_what_is_wrong_and_the_connection_stays() {
    let server = Server::start().await;
    let mut bob = server.in_lobby("bob").await;
    let mut alice = server.in_lobby("alice").await;
    bob.expect("join").await;
    let long = "ö".repeat(1001);
    let cases = [
        (json!({ "type": "chat" }), "content_required", "content"),
        (json!({ "type": "chat", "content": "" }), "content_required", "content"),
        (json!({ "type": "chat", "content": null }), "content_required", "content"),
        (json!({ "type": "chat", "content": " \n\t " }), "content_required", "content"),
        (json!({ "type": "chat", "content": long }), "content_too_long", "1001 characters; at most 1000"),
        (json!({ "type": "chat", "content": 7 }), "bad_request", "`content` must be a string"),
        (json!({ "type": "chat", "content": "x", "room": "elsewhere" }), "not_subscribed", "elsewhere"),
        (json!({ "type": "cheer", "content": "x" }), "unknown_type", "cheer"),
        (json!({ "type": 1 }), "bad_request", "type"),
        (json!({ "content": "x" }), "bad_request", "type"),
        (json!({ "type": "system", "content": "x" }), "bad_request", "only the server"),
        (json!(["chat"]), "bad_request", "JSON object"),
    ];
    for (message, code, words) in cases {
        alice.send(message.clone()).await;
        assert_error(&alice.expect("error").await, code, words);
    }
    alice.send_text("Hello everyone!").await;
    assert_error(&alice.expect("error").await, "bad_request", "JSON object");
    alice.send_binary(b"{\"type\":\"ping\"}").await;
    assert_error(&alice.expect("error").await, "unsupported_frame", "text");
    // One character less, of several bytes each, is fine, and the first thing that Bob hears.
    let fits = "ö".repeat(1000);
    alice.say("lobby", &fits).await;
    assert_eq!(alice.expect("chat").await["content"], fits);
    assert_eq!(bob.expect("chat").await["content"], fits);
    quiet(&mut alice).await;
    assert_eq!(server.clients().await, 2);
}

fn assert_error(error: &Value, code: &str, words: &str) {
    assert_eq!(error["error"], code, "{error}");
    assert!(error["message"].as_str().unwrap().contains(words), "{error} does not say {words:?}");
    assert_eq!(error["temporary"], false, "{error}");
}
