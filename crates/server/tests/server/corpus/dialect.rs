//! Frames that are valid and make no sense: each gets its error, and the connection stays for the next.

use outspoke_testkit::{Received, TcpClient};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Bystanders;
use crate::support::Server;

/// One case, as `crates/protocol/tests/corpus/README.md` describes it.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    frame: Option<String>,
    binary: Option<String>,
    error: String,
    words: Option<String>,
    id: Option<Value>,
    #[serde(rename = "judge")]
    _judge: Option<String>,
}

const NATIVE: &str = include_str!("../../../../protocol/tests/corpus/native.json");
const GOHUB: &str = include_str!("../../../../protocol/tests/corpus/gohub.json");

pub(super) async fn play(server: &Server, bystanders: &mut Bystanders<'_>) -> usize {
    let native: Vec<Case> = serde_json::from_str(NATIVE).unwrap();
    let mut client = server.in_lobby("muddled").await;
    for case in &native {
        send(&mut client, case).await;
        let error = client.expect("error").await;
        check(case, &error, error.get("id"));
        client.send(json!({ "type": "ping", "id": "on" })).await;
        assert_eq!(client.expect("pong").await["id"], "on", "{}", case.name);
        bystanders.are_well(&case.name).await;
    }
    let gohub: Vec<Case> = serde_json::from_str(GOHUB).unwrap();
    let mut client = server.open("/gohub?userId=muddled&username=Muddled&join=lobby").await;
    assert_eq!(envelope(&mut client).await["message_type"], "welcome");
    assert_eq!(envelope(&mut client).await["message_type"], "subscribed");
    for case in &gohub {
        send(&mut client, case).await;
        let error = envelope(&mut client).await;
        assert_eq!(error["message_type"], "error", "{}: {error}", case.name);
        let id = error.get("message_id").filter(|id| **id != json!(0));
        check(case, &error["data"], id);
        client.send(json!({ "message_id": 77, "message_type": "ping" })).await;
        assert_eq!(envelope(&mut client).await, json!({ "message_id": 77, "message_type": "pong" }));
        bystanders.are_well(&case.name).await;
    }
    native.len() + gohub.len()
}

async fn send(client: &mut TcpClient, case: &Case) {
    match (&case.frame, &case.binary) {
        (Some(text), None) => client.send_text(text).await,
        (None, Some(digits)) => client.send_binary(&bytes(digits)).await,
        _ => panic!("{} has a frame or a binary one", case.name),
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

async fn envelope(client: &mut TcpClient) -> Value {
    match client.next_but_pings().await {
        Received::Json(value) => value,
        other => panic!("expected an envelope, and there came {other:?}"),
    }
}

fn check(case: &Case, error: &Value, id: Option<&Value>) {
    assert_eq!(error["error"], case.error, "{}: {error}", case.name);
    let message = error["message"].as_str().unwrap();
    let words = case.words.as_deref().unwrap_or_default();
    assert!(message.contains(words), "{}: {message:?} does not say {words:?}", case.name);
    assert_eq!(id, case.id.as_ref(), "{}: {error}", case.name);
}
