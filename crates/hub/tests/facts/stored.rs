//! Rooms whose messages are stored: nothing is acknowledged or seen before it is durable, nothing twice.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::protocol::PageFrom;
use outspoke_hub::store::StoreError;
use outspoke_hub::{Durability, Hub, HubConfig, Kind, PublishError, RoomClass};
use outspoke_testkit::settle;
use serde_json::json;

use crate::shelf::{Mood, Shelf};
use crate::support::{hub_of, member, number_body, offset, offsets, publish};

/// A hub whose rooms named `s...` are stored on the shelf.
pub(crate) fn storing(shelf: &Arc<Shelf>, change: impl FnOnce(&mut HubConfig)) -> Hub {
    let store = Arc::clone(shelf);
    hub_of(Hub::builder().store("shelf", store), |config| {
        let class = RoomClass { durability: Durability::Stored, announce: false, ..RoomClass::new("s*") };
        config.rooms.classes.push(Arc::new(class));
        change(config);
    })
}

fn full() -> StoreError {
    StoreError::Full("0 bytes are left".to_owned())
}

#[tokio::test(start_paused = true)]
async fn stored_message_is_neither_acknowledged_nor_delivered_before_it_is_durable() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    let mut bob = member(&hub, "bob", "s").await;
    shelf.set(Mood::Holds);
    alice.send(json!({ "type": "chat", "room": "s", "content": "hello", "id": 1 })).await;
    settle().await;
    assert_eq!((alice.received(), bob.received()), (vec![], vec![]));
    shelf.set(Mood::Works);
    assert_eq!(bob.expect("chat").await["offset"], 1);
    let ack = alice.expect("ack").await;
    assert_eq!((&ack["id"], &ack["offset"]), (&json!(1), &json!(1)));
    assert_eq!(alice.expect("chat").await["offset"], 1);
}

#[tokio::test(start_paused = true)]
async fn store_that_is_full_refuses_its_rooms_and_no_others_and_goes_on_by_itself() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    alice.join("other").await;
    shelf.set(Mood::Refuses(full()));
    alice.send(json!({ "type": "chat", "room": "s", "content": "lost", "id": 1 })).await;
    let refused = alice.expect("error").await;
    assert_eq!((&refused["error"], &refused["id"]), (&json!("storage_full"), &json!(1)));
    assert_eq!(hub.publish("s", Kind::Data, number_body(1)).unwrap().await, Err(PublishError::StorageFull));
    alice.send(json!({ "type": "chat", "room": "other", "content": "goes on" })).await;
    alice.expect("chat").await;
    shelf.set(Mood::Works);
    alice.send(json!({ "type": "chat", "room": "s", "content": "kept", "id": 2 })).await;
    alice.expect("ack").await;
    let kept = alice.expect("chat").await;
    assert_eq!((&kept["content"], &kept["offset"]), (&json!("kept"), &json!(1)));
}

/// The store wrote and its answer was lost: to write again would double, to refuse would lie.
#[tokio::test(start_paused = true)]
async fn batch_in_doubt_is_settled_before_anybody_is_told() {
    for (times, written) in [(1, true), (1, false), (5, true), (5, false)] {
        let shelf = Shelf::new();
        let hub = storing(&shelf, |_| {});
        let mut alice = member(&hub, "alice", "s").await;
        shelf.set(Mood::Doubts { times, written });
        for id in 1..=3 {
            alice.send(json!({ "type": "publish", "room": "s", "data": id, "id": id })).await;
        }
        let mut acknowledged = Vec::new();
        let mut delivered = Vec::new();
        while acknowledged.len() < 3 || delivered.len() < 3 {
            let outspoke_testkit::Received::Json(value) = alice.next().await else { panic!("no JSON") };
            assert!(value.get("duplicate").is_none(), "{value}");
            match value["type"].as_str() {
                Some("ack") => acknowledged.push(offset(&value)),
                Some("message") => delivered.push((offset(&value), value["data"].as_u64().unwrap())),
                other => panic!("{other:?}: {value}"),
            }
        }
        assert_eq!((acknowledged, delivered), (vec![1, 2, 3], vec![(1, 1), (2, 2), (3, 3)]));
        assert!(shelf.commits() > times, "{times} {written}");
    }
}

#[tokio::test(start_paused = true)]
async fn message_that_waits_too_long_for_its_store_is_refused_and_never_appears() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    shelf.set(Mood::Holds);
    alice.send(json!({ "type": "publish", "room": "s", "data": "held", "id": 1 })).await;
    settle().await;
    alice.send(json!({ "type": "publish", "room": "s", "data": "late", "id": 2 })).await;
    let refused = alice.expect("error").await;
    assert_eq!((&refused["error"], &refused["id"]), (&json!("unavailable"), &json!(2)));
    shelf.set(Mood::Works);
    assert_eq!(alice.expect("ack").await["id"], 1);
    assert_eq!(alice.expect("message").await["data"], "held");
    settle().await;
    assert_eq!(alice.received(), []);
}

/// What stands before a message in the queue keeps nobody from refusing it: a receipt (Alice has read what she said, which is
/// written a second later) or an edit.
#[tokio::test(start_paused = true)]
async fn message_behind_other_work_for_the_store_is_refused_in_its_time() {
    for edits in [false, true] {
        let shelf = Shelf::new();
        let hub = storing(&shelf, |_| {});
        let mut alice = member(&hub, "alice", "s").await;
        let say = |text: &str, id: u64| json!({ "type": "chat", "room": "s", "content": text, "id": id });
        alice.send(say("first", 1)).await;
        alice.expect("ack").await;
        alice.expect("chat").await;
        shelf.set(Mood::Holds);
        alice.send(say("held", 2)).await;
        settle().await;
        if edits {
            alice.send(json!({ "type": "edit", "room": "s", "offset": 1, "content": "x", "id": 3 })).await;
        } else {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        alice.send(say("late", 4)).await;
        let refused: &[u64] = if edits { &[3, 4] } else { &[4] };
        for id in refused {
            let refusal = alice.expect("error").await;
            assert_eq!((&refusal["error"], &refusal["id"]), (&json!("unavailable"), &json!(id)));
        }
        shelf.set(Mood::Works);
        assert_eq!(alice.expect("ack").await["id"], 2);
        assert_eq!(alice.expect("chat").await["content"], "held");
        settle().await;
        assert_eq!(alice.received(), []);
    }
}

/// Both are taken from the queue in one turn; the edit is begun and in doubt for hours, the message behind it is not begun.
#[tokio::test(start_paused = true)]
async fn message_behind_an_edit_in_doubt_is_refused_in_its_time() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    alice.send(json!({ "type": "publish", "room": "s", "data": "first" })).await;
    alice.expect("message").await;
    shelf.set(Mood::Holds);
    alice.send(json!({ "type": "publish", "room": "s", "data": "held", "id": 2 })).await;
    settle().await;
    alice.send(json!({ "type": "edit", "room": "s", "offset": 1, "data": "x", "id": 3 })).await;
    alice.send(json!({ "type": "publish", "room": "s", "data": "late", "id": 4 })).await;
    settle().await;
    shelf.set(Mood::Each(vec![Mood::Works, Mood::Doubts { times: 10_000, written: false }]));
    assert_eq!(alice.find("ack").await["id"], 2);
    assert_eq!(alice.find("error").await["id"], 4);
}

/// Who asks for something else than a message is answered in the same time, and what was refused is not done later.
#[tokio::test(start_paused = true)]
async fn order_that_waits_too_long_for_its_store_is_refused_and_never_carried_out() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    hub.publish("s", Kind::Data, number_body(1)).unwrap().await.unwrap();
    shelf.set(Mood::Holds);
    let held = hub.publish("s", Kind::Data, number_body(2)).unwrap();
    settle().await;
    let cleared = tokio::time::timeout(Duration::from_secs(6), hub.clear_history("s")).await.unwrap();
    let Err(PublishError::Unavailable(why)) = cleared else { panic!("{cleared:?}") };
    assert!(why.contains("nothing was written"), "{why}");
    shelf.set(Mood::Works);
    held.await.unwrap();
    settle().await;
    assert_eq!(hub.history("s", PageFrom::Newest, 10).await.unwrap().messages.len(), 2);
}

/// Thousands of messages of one client wait for a slow store; the client is held back, and its order is kept.
#[tokio::test(start_paused = true)]
async fn publisher_of_many_messages_is_held_back_and_keeps_its_order() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |config| config.store_timeout = Duration::from_secs(3600));
    let mut alice = member(&hub, "alice", "s").await;
    shelf.set(Mood::Holds);
    let sending = async {
        for number in 0..2000 {
            alice.send(json!({ "type": "publish", "room": "s", "data": number })).await;
        }
        alice
    };
    let (mut alice, ()) = tokio::join!(sending, async {
        settle().await;
        shelf.set(Mood::Works);
    });
    for number in 0..2000 {
        let message = alice.expect("message").await;
        assert_eq!((offset(&message), &message["data"]), (number + 1, &json!(number)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_published_under_a_key_is_published_once_across_restarts_and_per_user() {
    let shelf = Shelf::new();
    let say = |text: &str, id: u64| json!({ "type": "chat", "room": "s", "content": text, "idempotencyKey": "k", "id": id });
    {
        let hub = storing(&shelf, |_| {});
        let mut alice = member(&hub, "alice", "s").await;
        let mut bob = member(&hub, "bob", "s").await;
        alice.send(say("once", 1)).await;
        let first = alice.expect("ack").await;
        alice.expect("chat").await;
        alice.send(say("again", 2)).await;
        let second = alice.expect("ack").await;
        assert_eq!(
            (&second["offset"], &second["messageId"], &second["duplicate"]),
            (&first["offset"], &first["messageId"], &json!(true))
        );
        bob.expect("chat").await;
        bob.send(say("mine", 3)).await;
        bob.expect("ack").await;
        assert_eq!(bob.expect("chat").await["offset"], 2);
        assert!(hub.shutdown(Duration::from_secs(10)).await);
    }
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    alice.send(say("after the restart", 4)).await;
    let third = alice.expect("ack").await;
    assert_eq!((&third["offset"], &third["duplicate"]), (&json!(1), &json!(true)));
    settle().await;
    assert_eq!(alice.received(), []);
}

/// What was accepted before the stop is in the store or on its way there: its publisher learns it before the goodbye.
#[tokio::test(start_paused = true)]
async fn shutdown_delivers_and_acknowledges_what_is_on_its_way_into_the_store() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    shelf.set(Mood::Holds);
    alice.send(json!({ "type": "chat", "room": "s", "content": "last words", "id": 1 })).await;
    settle().await;
    let stopping = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(Duration::from_secs(10)).await }
    });
    settle().await;
    assert_eq!(alice.received(), []);
    shelf.set(Mood::Works);
    alice.expect("ack").await;
    assert_eq!(alice.expect("chat").await["content"], "last words");
    assert_eq!(alice.closed().await, Some(1001));
    drop(alice);
    assert!(stopping.await.unwrap());
}

/// Nobody writes any more when the hub has stopped: who asks is told, and waits for nothing.
#[tokio::test(start_paused = true)]
async fn orders_for_the_store_of_a_hub_that_has_stopped_are_refused() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    hub.publish("s", Kind::Data, number_body(1)).unwrap().await.unwrap();
    assert!(hub.shutdown(Duration::from_secs(10)).await);
    let cleared = tokio::time::timeout(Duration::from_secs(60), hub.clear_history("s")).await;
    assert!(matches!(cleared, Ok(Err(PublishError::Unavailable(_)))), "{cleared:?}");
}

/// A store that breaks its contract ends its keeper: what waits is answered, what comes is refused, and the hub can be stopped.
#[tokio::test(start_paused = true)]
async fn store_that_panics_leaves_nobody_without_an_answer() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    shelf.set(Mood::Holds);
    let held = hub.publish("s", Kind::Data, number_body(1)).unwrap();
    settle().await;
    let queued = hub.publish("s", Kind::Data, number_body(2)).unwrap();
    alice.send(json!({ "type": "publish", "room": "s", "data": "queued", "id": 1 })).await;
    settle().await;
    shelf.set(Mood::Panics);
    assert_eq!(held.await, Err(PublishError::Unknown));
    assert!(matches!(queued.await, Err(PublishError::Unavailable(_))));
    assert_eq!(alice.expect("error").await["id"], 1);
    alice.send(json!({ "type": "publish", "room": "s", "data": "late", "id": 2 })).await;
    assert_eq!(alice.expect("error").await["id"], 2);
    assert_eq!(hub.publish("s", Kind::Data, number_body(3)).unwrap_err(), PublishError::Stopping);
    drop(alice);
    assert!(hub.shutdown(Duration::from_secs(10)).await);
}

#[tokio::test(start_paused = true)]
async fn stored_room_without_members_takes_messages_and_gives_them_to_who_comes() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    for number in 1..=3 {
        let published = hub.publish("s", Kind::Data, number_body(number)).unwrap().await.unwrap();
        assert_eq!(published.position.unwrap().offset, number);
    }
    let mut alice = crate::support::welcomed(&hub, "alice").await;
    alice.send(json!({ "type": "subscribe", "room": "s", "last": 2 })).await;
    let subscribed = alice.expect("subscribed").await;
    assert_eq!(
        (&subscribed["offset"], &subscribed["head"], &subscribed["durability"]),
        (&json!(1), &json!(3), &json!("stored"))
    );
    publish(&hub, "s", 4);
    settle().await;
    assert_eq!(offsets(&alice.received()), [2, 3, 4]);
}

#[test]
fn class_that_is_stored_without_a_store_is_refused_at_start_with_a_cure() {
    let mut config = HubConfig::default();
    config.rooms.default_mut().durability = Durability::Stored;
    let refused = Hub::builder().config(config).start().unwrap_err().to_string();
    assert!(refused.contains("HubBuilder::store"), "{refused}");
}

/// What a client has said when it is told to go is answered before the close frame, however long the store takes; what it says
/// afterwards is not taken.
#[tokio::test(start_paused = true)]
async fn client_that_is_sent_away_gets_the_answers_to_what_it_has_published_first() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    shelf.set(Mood::Holds);
    for id in 1..=3 {
        alice.send(json!({ "type": "publish", "room": "s", "data": id, "id": id })).await;
    }
    settle().await;
    hub.drain(true);
    alice.expect("going_away").await;
    alice.send(json!({ "type": "publish", "room": "s", "data": 4, "id": 4 })).await;
    settle().await;
    assert_eq!(alice.received(), [], "its messages are under way");
    shelf.set(Mood::Works);
    for id in 1..=3 {
        assert_eq!(alice.expect("ack").await["id"], id);
    }
    assert_eq!(alice.closed().await, Some(1001));
    hub.drain(false);
    let next = hub.publish("s", Kind::Data, number_body(5)).unwrap().await.unwrap();
    assert_eq!(next.position.unwrap().offset, 4, "the fourth was never taken");
}
