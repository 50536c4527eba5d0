//! A store whose log goes back under the epoch that it had, and words of other nodes that no store bears out.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::bus::MemoryHub;
use outspoke_hub::{ClusterOptions, Durability, Hub, Kind, RoomClass};
use outspoke_testkit::{Received, ScriptedClient, settle};
use serde_json::{Value, json};

use crate::shelf::Shelf;
use crate::stored::storing;
use crate::support::{gaps, hub_of, member, number_body, offset, offsets, welcomed};

async fn say(hub: &Hub, number: u64) -> u64 {
    hub.publish("s", Kind::Data, number_body(number)).unwrap().await.unwrap().position.unwrap().offset
}

/// A hub of a cluster with a store of its own, which it takes for the one that all have.
fn node(bus: &MemoryHub, shelf: &Arc<Shelf>, name: &str) -> Hub {
    let store = Arc::clone(shelf);
    let options = ClusterOptions::new(name);
    let builder = Hub::builder().store("shelf", store).cluster(Arc::new(bus.connect()), options);
    hub_of(builder, |config| {
        let class = RoomClass { durability: Durability::Stored, announce: false, ..RoomClass::new("s*") };
        config.rooms.classes.push(Arc::new(class));
    })
}

async fn beats(count: u32) {
    tokio::time::sleep(count * Duration::from_secs(5)).await;
}

/// What is said in the messages received.
fn said(received: &[Received]) -> Vec<u64> {
    let said = |received: &Received| match received {
        Received::Json(value) if value["type"] == "message" => value["data"].as_u64(),
        _ => None,
    };
    received.iter().filter_map(said).collect()
}

async fn comes_back(hub: &Hub, user: &str, epoch: &Value, at: u64) -> (Value, ScriptedClient) {
    let mut client = welcomed(hub, user).await;
    client.send(json!({ "type": "subscribe", "room": "s", "epoch": epoch, "offset": at })).await;
    let subscribed = client.find("subscribed").await;
    (subscribed["recovered"].clone(), client)
}

#[tokio::test(start_paused = true)]
async fn members_are_told_when_their_log_has_lost_its_end_and_get_what_is_said_then() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    for number in 1..=10 {
        assert_eq!(say(&hub, number).await, number);
    }
    let last = alice.find("message").await;
    settle().await;
    alice.received();
    shelf.forget_last("s", 3).await;
    for number in 11..=14 {
        assert_eq!(say(&hub, number).await, number - 3);
    }
    settle().await;
    let received = alice.received();
    assert_eq!(gaps(&received), [(7, 0)], "{received:?}");
    assert_eq!((said(&received), offsets(&received)), (vec![11, 12, 13, 14], vec![8, 9, 10, 11]));
    assert_eq!(hub.metrics().stores[0].gaps, 1);
    // Ten is another message now; behind it there is one log only.
    let (recovered, _bob) = comes_back(&hub, "bob", &last["epoch"], 10).await;
    assert_eq!(recovered, false);
    let (recovered, _carol) = comes_back(&hub, "carol", &last["epoch"], 11).await;
    assert_eq!(recovered, true);
    // What was before is still there.
    alice.send(json!({ "type": "history", "room": "s" })).await;
    let history = alice.find("history").await;
    let numbers: Vec<u64> = history["messages"].as_array().unwrap().iter().map(offset).collect();
    assert_eq!((numbers, &history["first"]), ((1..=11).collect(), &json!(1)));
    say(&hub, 15).await;
    settle().await;
    assert_eq!(offsets(&alice.received()), [12]);
}

/// In one batch with others, and after the cache was dropped.
#[tokio::test(start_paused = true)]
async fn log_that_has_lost_its_end_is_noticed_without_messages_in_memory() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |config| config.history_cache_bytes_max = 0);
    let mut alice = member(&hub, "alice", "s").await;
    for number in 1..=10 {
        say(&hub, number).await;
        // Longer than what was read stays in any case.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    alice.received();
    shelf.forget_last("s", 2).await;
    let together: Vec<_> =
        (11..=14).map(|number| hub.publish("s", Kind::Data, number_body(number)).unwrap()).collect();
    for publishing in together {
        publishing.await.unwrap();
    }
    settle().await;
    let received = alice.received();
    assert_eq!((gaps(&received), said(&received)), (vec![(8, 0)], vec![11, 12, 13, 14]));
}

/// The node that says nothing hears that the places it knows are given again, and asks the store.
#[tokio::test(start_paused = true)]
async fn members_on_another_node_are_told_when_the_log_has_lost_its_end() {
    let (bus, shelf) = (MemoryHub::new(), Shelf::shared(0));
    let (hub, other) = (node(&bus, &shelf, "node-1"), node(&bus, &shelf, "node-2"));
    let mut ben = member(&other, "ben", "s").await;
    for number in 1..=10 {
        say(&hub, number).await;
    }
    beats(1).await;
    let last = ben.find("message").await;
    ben.received();
    shelf.forget_last("s", 3).await;
    for number in 11..=14 {
        assert_eq!(say(&hub, number).await, number - 3);
    }
    beats(1).await;
    let received = ben.received();
    assert_eq!(gaps(&received).len(), 1, "{received:?}");
    assert_eq!(said(&received), [11, 12, 13, 14]);
    let (recovered, _eve) = comes_back(&other, "eve", &last["epoch"], 10).await;
    assert_eq!(recovered, false);
}

/// The other node is not to be trusted, or its store is another one: what it says does not follow what is stored.
#[tokio::test(start_paused = true)]
async fn message_far_ahead_that_no_store_has_does_not_keep_a_node_reading() {
    let (bus, shelf, far) = (MemoryHub::new(), Shelf::shared(0), Shelf::shared(0));
    let hub = node(&bus, &shelf, "node-1");
    let mut ana = member(&hub, "ana", "s").await;
    say(&hub, 1).await;
    far.be_ahead_of(&shelf, "s", 1 << 40).await;
    let liar = node(&bus, &far, "node-2");
    let _ben = member(&liar, "ben", "s").await;
    beats(3).await;
    ana.received();
    let before = shelf.reads_of("s");
    assert_eq!(say(&liar, 2).await, (1 << 40) + 1);
    beats(6).await;
    // Once per heartbeat of the other node, and the patience for one message.
    let reads = shelf.reads_of("s") - before;
    assert!((2..40).contains(&reads), "{reads} reads in half a minute");
    assert_eq!(say(&hub, 3).await, 2);
    settle().await;
    let received = ana.received();
    assert_eq!((said(&received), gaps(&received)), (vec![3], vec![]));
}
