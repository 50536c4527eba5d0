//! Who comes back and says where it was gets exactly what it missed, or is told that it cannot.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::store::Retention;
use outspoke_hub::{Durability, Hub, HubConfig, Position, RoomClass, RoomName, StartFrom};
use outspoke_testkit::{ScriptedClient, attach_with, settle};
use serde_json::{Value, json};

use crate::shelf::Shelf;
use crate::stored::storing;
use crate::support::{hub, member, offset, offsets, publish, user, welcomed};

/// A hub that keeps messages in memory.
fn remembering(change: impl FnOnce(&mut RoomClass)) -> Hub {
    hub(|config| {
        let class = config.rooms.default_mut();
        class.durability = Durability::Memory;
        change(class);
    })
}

/// Both sorts of rooms that keep messages.
fn both(change: impl Fn(&mut RoomClass)) -> Vec<(Hub, &'static str)> {
    let shelf = Shelf::new();
    let stored = storing(&shelf, |config: &mut HubConfig| {
        change(Arc::make_mut(config.rooms.classes.last_mut().unwrap()));
    });
    vec![(remembering(&change), "room"), (stored, "s")]
}

async fn subscribe(client: &mut ScriptedClient, request: Value) -> Value {
    client.send(request).await;
    client.expect("subscribed").await
}

async fn come_back(client: &mut ScriptedClient, room: &str, epoch: &Value, offset: u64) -> Value {
    subscribe(client, json!({ "type": "subscribe", "room": room, "epoch": epoch, "offset": offset })).await
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_gets_what_it_missed_in_order_and_then_what_follows() {
    for (hub, room) in both(|_| {}) {
        let mut alice = welcomed(&hub, "alice").await;
        let epoch = alice.join(room).await["epoch"].clone();
        publish(&hub, room, 1);
        assert_eq!(offset(&alice.expect("message").await), 1);
        drop(alice);
        settle().await;
        for number in 2..=5 {
            publish(&hub, room, number);
        }
        settle().await;
        let mut alice = welcomed(&hub, "alice").await;
        let subscribed = come_back(&mut alice, room, &epoch, 1).await;
        assert_eq!(
            (&subscribed["recovered"], &subscribed["offset"], &subscribed["head"]),
            (&json!(true), &json!(1), &json!(5))
        );
        publish(&hub, room, 6);
        settle().await;
        assert_eq!(offsets(&alice.received()), [2, 3, 4, 5, 6]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_no_longer_is_said_with_what_there_still_is() {
    for (hub, room) in both(|class| class.history.records_max = 3) {
        let mut alice = welcomed(&hub, "alice").await;
        let epoch = alice.join(room).await["epoch"].clone();
        drop(alice);
        // A store trims when it is worth it.
        for number in 1..=200 {
            publish(&hub, room, number);
        }
        settle().await;
        let mut alice = welcomed(&hub, "alice").await;
        let subscribed = come_back(&mut alice, room, &epoch, 1).await;
        assert_eq!(
            (&subscribed["recovered"], &subscribed["offset"], &subscribed["first"], &subscribed["head"]),
            (&json!(false), &json!(200), &json!(198), &json!(200))
        );
        publish(&hub, room, 201);
        settle().await;
        assert_eq!(offsets(&alice.received()), [201]);
    }
}

#[tokio::test(start_paused = true)]
async fn place_in_another_history_or_in_the_future_is_not_recovered() {
    for (hub, room) in both(|_| {}) {
        let mut alice = member(&hub, "alice", room).await;
        publish(&hub, room, 1);
        let epoch = alice.expect("message").await["epoch"].clone();
        for (epoch, offset) in [(json!("00000000000000aa"), 0), (json!("00000000000000aa"), 1), (epoch, 2)] {
            let mut bob = welcomed(&hub, "bob").await;
            let subscribed = come_back(&mut bob, room, &epoch, offset).await;
            assert_eq!(subscribed["recovered"], false, "{epoch} {offset}");
            settle().await;
            assert_eq!(bob.received(), []);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_missed_nothing_has_recovered() {
    for (hub, room) in both(|_| {}) {
        let mut alice = member(&hub, "alice", room).await;
        publish(&hub, room, 1);
        let epoch = alice.expect("message").await["epoch"].clone();
        let mut bob = welcomed(&hub, "bob").await;
        assert_eq!(come_back(&mut bob, room, &epoch, 1).await["recovered"], true);
        settle().await;
        assert_eq!(bob.received(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn room_that_keeps_nothing_says_so() {
    let hub = hub(|_| {});
    let mut alice = member(&hub, "alice", "room").await;
    publish(&hub, "room", 1);
    let epoch = alice.expect("message").await["epoch"].clone();
    let mut bob = welcomed(&hub, "bob").await;
    let subscribed = come_back(&mut bob, "room", &epoch, 0).await;
    assert_eq!((&subscribed["recovered"], &subscribed["durability"]), (&json!(false), &json!("none")));
    let mut carol = welcomed(&hub, "carol").await;
    assert_eq!(come_back(&mut carol, "room", &epoch, 1).await["recovered"], true);
}

#[tokio::test(start_paused = true)]
async fn stored_room_is_recovered_after_a_restart() {
    let shelf = Shelf::new();
    let epoch = {
        let hub = storing(&shelf, |_| {});
        let mut alice = member(&hub, "alice", "s").await;
        for number in 1..=10 {
            publish(&hub, "s", number);
        }
        let epoch = alice.expect("message").await["epoch"].clone();
        alice.find("message").await;
        drop(alice);
        assert!(hub.shutdown(Duration::from_secs(10)).await);
        epoch
    };
    let hub = storing(&shelf, |_| {});
    let mut alice = welcomed(&hub, "alice").await;
    assert_eq!(come_back(&mut alice, "s", &epoch, 4).await["recovered"], true);
    settle().await;
    assert_eq!(offsets(&alice.received()), [5, 6, 7, 8, 9, 10]);
}

/// After a restart everybody comes back at once, each with another place.
#[tokio::test(start_paused = true)]
async fn storm_of_reconnects_costs_two_reads_of_a_log() {
    let shelf = Shelf::new();
    let epoch = {
        let hub = storing(&shelf, |_| {});
        let mut alice = member(&hub, "alice", "s").await;
        for number in 1..=100 {
            publish(&hub, "s", number);
        }
        let epoch = alice.expect("message").await["epoch"].clone();
        drop(alice);
        assert!(hub.shutdown(Duration::from_secs(10)).await);
        epoch
    };
    let before = shelf.reads_of("s");
    let hub = storing(&shelf, |_| {});
    let mut clients = Vec::new();
    for number in 0..300 {
        let mut client = welcomed(&hub, &format!("user{number}")).await;
        let at = 99 - number % 100;
        client.send(json!({ "type": "subscribe", "room": "s", "epoch": epoch, "offset": at })).await;
        clients.push((client, at));
    }
    for (client, at) in &mut clients {
        assert_eq!(client.expect("subscribed").await["recovered"], true);
        for expected in *at + 1..=100 {
            assert_eq!(offset(&client.expect("message").await), expected);
        }
    }
    let reads = shelf.reads_of("s") - before;
    assert!((1..=2).contains(&reads), "{reads} reads");
}

/// The room of the connection itself, without another request.
#[tokio::test(start_paused = true)]
async fn client_says_in_its_request_where_it_was_in_its_first_room() {
    for (hub, room) in both(|_| {}) {
        let mut alice = member(&hub, "alice", room).await;
        for number in 1..=5 {
            publish(&hub, room, number);
        }
        let epoch: outspoke_hub::Epoch =
            serde_json::from_value(alice.expect("message").await["epoch"].clone()).unwrap();
        for (from, recovered, expected) in [
            (StartFrom::After(Position { epoch, offset: 3 }), json!(true), vec![4, 5]),
            (StartFrom::Last(1), Value::Null, vec![5]),
            (StartFrom::Now, Value::Null, vec![]),
        ] {
            let attach = user("bob").into_room(RoomName::new(room, 64).unwrap()).starting(from);
            let (mut bob, _) = attach_with(&hub, attach, 64 * 1024);
            bob.expect("welcome").await;
            assert_eq!(bob.expect("subscribed").await["recovered"], recovered);
            settle().await;
            assert_eq!(offsets(&bob.received()), expected);
        }
    }
}

/// Much to catch up in many rooms is sent as fast as the client reads, and does not count against it.
#[tokio::test(start_paused = true)]
async fn client_that_catches_up_in_many_rooms_is_not_closed_as_slow() {
    let hub = hub(|config| {
        config.outbox_bytes_max = 64 * 1024;
        config.inbox_bytes_max = 1024 * 1024 * 1024;
        config.message_bytes_max = 16 * 1024;
        config.rooms.default_mut().durability = Durability::Memory;
    });
    let mut epochs = Vec::new();
    let mut alice = welcomed(&hub, "alice").await;
    for room in 0..50 {
        let room = format!("room{room}");
        let epoch = alice.join(&room).await["epoch"].clone();
        epochs.push((room, epoch));
    }
    drop(alice);
    for (room, _) in &epochs {
        for number in 1..=50 {
            publish(&hub, room, number);
        }
    }
    settle().await;
    let mut alice = welcomed(&hub, "alice").await;
    for (room, epoch) in &epochs {
        alice.send(json!({ "type": "subscribe", "room": room, "epoch": epoch, "offset": 0 })).await;
    }
    for (room, _) in &epochs {
        let subscribed = alice.expect("subscribed").await;
        assert_eq!((&subscribed["room"], &subscribed["recovered"]), (&json!(room), &json!(true)));
        for expected in 1..=50 {
            assert_eq!(offset(&alice.expect("message").await), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_may_be_sent_at_once_is_not_recovered_but_can_be_paged() {
    for (hub, room) in both(|class| class.history = Retention { records_max: 5000, ..Retention::default() }) {
        let mut alice = welcomed(&hub, "alice").await;
        let epoch = alice.join(room).await["epoch"].clone();
        drop(alice);
        for number in 1..=3000 {
            publish(&hub, room, number);
        }
        settle().await;
        let mut alice = welcomed(&hub, "alice").await;
        let subscribed = come_back(&mut alice, room, &epoch, 0).await;
        assert_eq!((&subscribed["recovered"], &subscribed["first"]), (&json!(false), &json!(1)));
        let mut got = Vec::new();
        loop {
            let after = got.last().copied().unwrap_or(0);
            alice.send(json!({ "type": "history", "room": room, "after": after, "limit": 400 })).await;
            let page = alice.expect("history").await;
            got.extend(page["messages"].as_array().unwrap().iter().map(offset));
            if page["more"] != json!(true) {
                break;
            }
        }
        assert_eq!(got, (1..=3000).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn history_is_paged_backwards_from_the_newest() {
    for (hub, room) in both(|_| {}) {
        let mut alice = member(&hub, "alice", room).await;
        for number in 1..=120 {
            publish(&hub, room, number);
        }
        for _ in 0..120 {
            alice.expect("message").await;
        }
        let mut before = None;
        let mut got = Vec::new();
        for expected in [50, 50, 20] {
            alice.send(json!({ "type": "history", "room": room, "before": before, "id": "h" })).await;
            let page = alice.expect("history").await;
            assert_eq!((&page["id"], &page["first"], &page["head"]), (&json!("h"), &json!(1), &json!(120)));
            let offsets: Vec<u64> = page["messages"].as_array().unwrap().iter().map(offset).collect();
            assert_eq!(offsets.len(), expected);
            assert_eq!(page["more"] == json!(true), expected == 50, "{page}");
            before = Some(offsets[0]);
            got = [offsets, got].concat();
        }
        assert_eq!(got, (1..=120).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn history_is_for_members_of_rooms_that_keep_it() {
    let hub = remembering(|_| {});
    let mut alice = welcomed(&hub, "alice").await;
    alice.send(json!({ "type": "history", "room": "room" })).await;
    assert_eq!(alice.expect("error").await["error"], "not_subscribed");
    let hub = crate::support::hub(|_| {});
    let mut alice = member(&hub, "alice", "room").await;
    alice.send(json!({ "type": "history", "room": "room" })).await;
    assert_eq!(alice.expect("error").await["error"], "forbidden");
}

/// However many rooms there are, and whatever their classes allow each of them.
#[tokio::test(start_paused = true)]
async fn rooms_in_memory_share_what_they_may_take() {
    let hub = hub(|config| {
        config.history_memory_bytes_max = 64 * 1024;
        config.rooms.default_mut().durability = Durability::Memory;
    });
    let mut kept = 0;
    for room in 0..50 {
        let room = format!("room{room}");
        for number in 1..=100 {
            publish(&hub, &room, number);
        }
        let page = hub.history(&room, outspoke_hub::protocol::PageFrom::Newest, 500).await.unwrap();
        assert!(page.head == 100 && page.messages.last().is_some(), "the newest stays");
        assert_eq!(page.first, 101 - page.messages.len() as u64, "what is gone is said");
        kept += page.messages.len();
    }
    assert!((100..=64 * 1024 / 256 + 50).contains(&kept), "{kept} messages of 5,000");
}

#[tokio::test(start_paused = true)]
async fn messages_in_memory_outlive_the_last_member_until_they_are_too_old() {
    let hub = remembering(|class| class.history.age_max = Duration::from_secs(60));
    let mut alice = welcomed(&hub, "alice").await;
    let epoch = alice.join("room").await["epoch"].clone();
    publish(&hub, "room", 1);
    drop(alice);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let mut alice = welcomed(&hub, "alice").await;
    assert_eq!(come_back(&mut alice, "room", &epoch, 0).await["recovered"], true);
    assert_eq!(offset(&alice.expect("message").await), 1);
    drop(alice);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(hub.room_count(), 0, "nothing is left of it");
}
