//! Edits, deletions and reactions: seen as they happen, and in what is kept.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::{Durability, Hub};
use outspoke_testkit::ScriptedClient;
use serde_json::{Value, json};

use crate::shelf::{Mood, Shelf};
use crate::stored::storing;
use crate::support::{hub, member, welcomed};

fn both() -> Vec<(Hub, &'static str)> {
    let memory = hub(|config| config.rooms.default_mut().durability = Durability::Memory);
    vec![(memory, "room"), (storing(&Shelf::new(), |_| {}), "s")]
}

async fn history(client: &mut ScriptedClient, room: &str) -> Vec<Value> {
    client.send(json!({ "type": "history", "room": room })).await;
    client.find("history").await["messages"].as_array().unwrap().clone()
}

async fn request(client: &mut ScriptedClient, request: Value) -> Value {
    client.send(request).await;
    client.find("ack").await
}

#[tokio::test(start_paused = true)]
async fn edit_is_told_logged_and_shown_in_the_message_itself() {
    for (hub, room) in both() {
        let mut alice = member(&hub, "alice", room).await;
        let mut bob = member(&hub, "bob", room).await;
        alice.say(room, "helo").await;
        let said = bob.expect("chat").await;
        let edit = json!({ "type": "edit", "room": room, "offset": 1, "content": "hello", "id": 1 });
        assert_eq!(request(&mut alice, edit).await["offset"], 2);
        let told = bob.expect("edit").await;
        assert_eq!(
            (&told["target"], &told["content"], &told["offset"], &told["userId"]),
            (&json!(1), &json!("hello"), &json!(2), &json!("alice"))
        );
        let kept = history(&mut bob, room).await;
        assert_eq!(kept.len(), 2);
        assert_eq!((&kept[0]["content"], &kept[0]["id"]), (&json!("hello"), &said["id"]));
        assert!(kept[0]["edited"].is_string(), "{}", kept[0]);
        // Who comes later with a place before it gets the message as it is now.
        let mut carol = welcomed(&hub, "carol").await;
        carol.send(json!({ "type": "subscribe", "room": room, "last": 2 })).await;
        carol.expect("subscribed").await;
        assert_eq!(carol.expect("chat").await["content"], "hello");
        assert_eq!(carol.expect("edit").await["content"], "hello");
    }
}

#[tokio::test(start_paused = true)]
async fn deleted_message_keeps_its_place_and_loses_its_words() {
    for (hub, room) in both() {
        let mut alice = member(&hub, "alice", room).await;
        let mut bob = member(&hub, "bob", room).await;
        alice.say(room, "my secret").await;
        bob.expect("chat").await;
        request(&mut bob, json!({ "type": "react", "room": room, "offset": 1, "reaction": "👀", "id": 1 }))
            .await;
        bob.expect("reaction").await;
        request(&mut alice, json!({ "type": "delete", "room": room, "offset": 1, "id": 2 })).await;
        assert_eq!(bob.expect("delete").await["target"], 1);
        let kept = history(&mut bob, room).await;
        assert!(kept[0]["deleted"].is_string(), "{}", kept[0]);
        assert!(!serde_json::to_string(&kept).unwrap().contains("secret"));
        assert!(kept[0].get("reactions").is_none(), "{}", kept[0]);
        // Nothing more can be done to it; deleting it again changes nothing.
        bob.send(json!({ "type": "react", "room": room, "offset": 1, "reaction": "👀" })).await;
        assert_eq!(bob.find("error").await["error"], "message_not_found");
        let again =
            request(&mut alice, json!({ "type": "delete", "room": room, "offset": 1, "id": 3 })).await;
        assert_eq!(again["duplicate"], true);
        assert_eq!(history(&mut bob, room).await.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn reactions_gather_by_user_and_can_be_taken_back() {
    for (hub, room) in both() {
        let mut alice = member(&hub, "alice", room).await;
        let mut bob = member(&hub, "bob", room).await;
        alice.say(room, "cake?").await;
        let react = |remove: bool| json!({ "type": "react", "room": room, "offset": 1, "reaction": "🎂", "remove": remove, "id": 1 });
        request(&mut alice, react(false)).await;
        request(&mut bob, react(false)).await;
        assert_eq!(request(&mut bob, react(false)).await["duplicate"], true);
        let kept = history(&mut bob, room).await;
        assert_eq!(kept[0]["reactions"], json!([{ "reaction": "🎂", "users": ["alice", "bob"] }]));
        assert_eq!(kept.len(), 3);
        request(&mut alice, react(true)).await;
        let kept = history(&mut bob, room).await;
        assert_eq!(kept[0]["reactions"], json!([{ "reaction": "🎂", "users": ["bob"] }]));
        assert_eq!(kept[3]["removed"], true, "{}", kept[3]);
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_author_and_the_application_change_what_was_said() {
    for (hub, room) in both() {
        let mut alice = member(&hub, "alice", room).await;
        let mut bob = member(&hub, "bob", room).await;
        alice.say(room, "mine").await;
        bob.expect("chat").await;
        for wanted in [
            json!({ "type": "edit", "room": room, "offset": 1, "content": "yours" }),
            json!({ "type": "delete", "room": room, "offset": 1 }),
        ] {
            bob.send(wanted).await;
            assert_eq!(bob.expect("error").await["error"], "forbidden");
        }
        for (wanted, error) in [
            (json!({ "type": "edit", "room": room, "offset": 9, "content": "x" }), "message_not_found"),
            (json!({ "type": "edit", "room": room, "offset": 1, "data": 1 }), "bad_request"),
            (json!({ "type": "edit", "room": room, "offset": 1, "content": "  " }), "content_required"),
            (json!({ "type": "edit", "room": "elsewhere", "offset": 1, "content": "x" }), "not_subscribed"),
        ] {
            alice.send(wanted).await;
            assert_eq!(alice.find("error").await["error"], error);
        }
        hub.edit(room, 1, outspoke_hub::Body::Text("ours".into())).await.unwrap();
        assert_eq!(bob.expect("edit").await["content"], "ours");
        hub.delete(room, 1).await.unwrap();
        bob.expect("delete").await;
    }
}

/// The change is in the store: also when the message was trimmed from memory, and after a restart.
#[tokio::test(start_paused = true)]
async fn amendments_survive_a_restart_and_a_store_in_doubt() {
    for written in [true, false] {
        let shelf = Shelf::new();
        {
            let hub = storing(&shelf, |config| config.history_cache_bytes_max = 0);
            let mut alice = member(&hub, "alice", "s").await;
            alice.say("s", "helo").await;
            alice.expect("chat").await;
            shelf.set(Mood::Doubts { times: 2, written });
            let edit = json!({ "type": "edit", "room": "s", "offset": 1, "content": "hello", "id": 1 });
            let ack = request(&mut alice, edit).await;
            assert_eq!((&ack["offset"], ack.get("duplicate")), (&json!(2), None));
            drop(alice);
            assert!(hub.shutdown(Duration::from_secs(10)).await);
        }
        let hub = storing(&Arc::clone(&shelf), |_| {});
        let mut alice = member(&hub, "alice", "s").await;
        let kept = history(&mut alice, "s").await;
        assert_eq!((kept.len(), &kept[0]["content"]), (2, &json!("hello")));
    }
}

#[tokio::test(start_paused = true)]
async fn rooms_that_keep_nothing_change_nothing() {
    let hub = hub(|_| {});
    let mut alice = member(&hub, "alice", "room").await;
    alice.say("room", "gone with the wind").await;
    alice.expect("chat").await;
    alice.send(json!({ "type": "delete", "room": "room", "offset": 1 })).await;
    assert_eq!(alice.expect("error").await["error"], "forbidden");
}
