//! Logs that are changed while they are read: what is answered and what stays in memory is what they are afterwards.

use std::sync::Arc;

use outspoke_hub::protocol::PageFrom;
use outspoke_hub::{Body, Hub, HubConfig, Kind};
use outspoke_testkit::{ScriptedClient, settle};
use serde_json::{Value, json};

use crate::shelf::Shelf;
use crate::stored::storing;
use crate::support::{member, welcomed};

/// Messages in the log: of these the newest 64 are read for who comes first.
const SAID: u64 = 100;

/// What is done to a log.
#[derive(Clone, Copy, Debug)]
enum Change {
    Delete,
    Erase,
    Clear,
}

const CHANGES: [Change; 3] = [Change::Delete, Change::Erase, Change::Clear];

impl Change {
    async fn make(self, hub: &Hub) {
        match self {
            Self::Delete => drop(hub.delete("s", 20).await.unwrap()),
            Self::Erase => drop(hub.erase_user("alice").await.unwrap()),
            Self::Clear => assert!(hub.clear_history("s").await.unwrap()),
        }
    }
}

/// A hub with a member in a room in which the twentieth message is the secret, and the end of its log in memory.
async fn with_log(change: impl Fn(&mut HubConfig)) -> (Arc<Shelf>, Hub, ScriptedClient) {
    let shelf = Shelf::new();
    {
        let hub = storing(&shelf, &change);
        let mut alice = member(&hub, "alice", "s").await;
        for number in 1..=SAID {
            if number == 20 {
                alice.send(json!({ "type": "chat", "room": "s", "content": "secret", "id": 1 })).await;
                assert_eq!(alice.find("ack").await["offset"], 20);
            } else {
                hub.publish("s", Kind::Chat, Body::Text("said".into())).unwrap().await.unwrap();
            }
        }
        assert!(hub.shutdown(std::time::Duration::from_secs(10)).await);
    }
    let hub = storing(&shelf, &change);
    let bob = member(&hub, "bob", "s").await;
    (shelf, hub, bob)
}

async fn epoch(hub: &Hub) -> String {
    hub.history("s", PageFrom::Newest, 1).await.unwrap().epoch.to_string()
}

fn says(values: &[Value], words: &str) -> bool {
    serde_json::to_string(values).unwrap().contains(words)
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_out_of_a_log_while_it_is_read_does_not_come_back() {
    for change in CHANGES {
        let (shelf, hub, mut bob) = with_log(|_| {}).await;
        let mut carol = welcomed(&hub, "carol").await;
        let epoch = epoch(&hub).await;
        shelf.hold_answers(1);
        carol.send(json!({ "type": "subscribe", "room": "s", "epoch": epoch, "offset": 5 })).await;
        settle().await;
        change.make(&hub).await;
        shelf.let_go();
        let subscribed = carol.expect("subscribed").await;
        assert_eq!(subscribed["recovered"], !matches!(change, Change::Clear), "{change:?}: {subscribed}");
        settle().await;
        let received = format!("{:?}", carol.received());
        assert!(!received.contains("secret"), "{change:?}: it is answered as it was");
        bob.send(json!({ "type": "history", "room": "s", "before": 60 })).await;
        let history = bob.find("history").await["messages"].as_array().unwrap().clone();
        assert!(!says(&history, "secret"), "{change:?}: it is in memory again");
        assert_eq!(history.is_empty(), matches!(change, Change::Clear), "{change:?}: {history:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn page_that_is_changed_while_it_is_read_is_answered_as_it_is_afterwards() {
    for change in CHANGES {
        let (shelf, hub, mut bob) = with_log(|_| {}).await;
        shelf.hold_answers(1);
        bob.send(json!({ "type": "history", "room": "s", "before": 30 })).await;
        settle().await;
        change.make(&hub).await;
        shelf.let_go();
        let history = bob.find("history").await["messages"].as_array().unwrap().clone();
        assert!(!says(&history, "secret"), "{change:?}");
        assert_eq!(history.is_empty(), matches!(change, Change::Clear), "{change:?}: {history:?}");
    }
}

/// What is changed outside of the page does not concern it.
#[tokio::test(start_paused = true)]
async fn page_is_read_once_when_other_messages_are_changed_meanwhile() {
    let (shelf, hub, mut bob) = with_log(|_| {}).await;
    let before = shelf.reads_of("s");
    shelf.hold_answers(1);
    bob.send(json!({ "type": "history", "room": "s", "before": 10 })).await;
    settle().await;
    hub.delete("s", 90).await.unwrap();
    shelf.let_go();
    bob.find("history").await;
    assert_eq!(shelf.reads_of("s"), before + 1, "the ninetieth is in memory");
}

/// A log that is changed during each read is not read for ever: who asked is refused, and may ask again.
#[tokio::test(start_paused = true)]
async fn page_that_is_changed_during_each_read_is_refused() {
    let (shelf, hub, mut bob) = with_log(|_| {}).await;
    shelf.hold_answers(1);
    bob.send(json!({ "type": "history", "room": "s", "before": 30, "id": 2 })).await;
    settle().await;
    for _ in 0..8 {
        hub.clear_history("s").await.unwrap();
        shelf.let_go();
        shelf.hold_answers(1);
        settle().await;
    }
    let refused = bob.find("error").await;
    assert_eq!((&refused["error"], &refused["id"]), (&json!("unavailable"), &json!(2)));
}
