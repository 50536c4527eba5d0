//! Who has received and read how much: told, kept, counted, and never stepping back.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::protocol::Receipt;
use outspoke_hub::store::StoreError;
use outspoke_hub::{Attach, Durability, Hub, HubConfig, Identity, Kind, PublishError, RoomClass};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use serde_json::{Value, json};

use crate::shelf::{Mood, Shelf};
use crate::stored::storing;
use crate::support::{hub, kinds, member, number_body, publish, welcomed};

/// A hub whose rooms keep their messages in memory.
fn remembering(change: impl FnOnce(&mut HubConfig)) -> Hub {
    hub(|config| {
        config.rooms.default_mut().durability = Durability::Memory;
        change(config);
    })
}

async fn mark(client: &mut ScriptedClient, receipt: &str, room: &str, offset: u64) -> Value {
    client.send(json!({ "type": receipt, "room": room, "offset": offset, "id": "r" })).await;
    client.find("receipt_ack").await["data"].clone()
}

fn receipts(received: &[Received]) -> Vec<(String, String, u64)> {
    let receipt = |received: &Received| match received {
        Received::Json(value) if value["type"] == "receipt" => Some((
            value["userId"].as_str().unwrap().to_owned(),
            value["receipt"].as_str().unwrap().to_owned(),
            value["offset"].as_u64().unwrap(),
        )),
        _ => None,
    };
    received.iter().filter_map(receipt).collect()
}

fn told(user: &str, receipt: &str, offset: u64) -> (String, String, u64) {
    (user.to_owned(), receipt.to_owned(), offset)
}

/// What a user has not read: the count, the place read, the place received.
async fn unread(hub: &Hub, user: &str, room: &str) -> (u64, u64, u64) {
    let mut client = welcomed(hub, user).await;
    numbers(&client.join(room).await)
}

fn numbers(value: &Value) -> (u64, u64, u64) {
    let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("no {name}: {value}"));
    (number("unread"), number("seen"), number("delivered"))
}

#[tokio::test(start_paused = true)]
async fn receipts_are_told_to_every_member_and_the_newest_wins() {
    let hub = remembering(|_| {});
    let mut alice = member(&hub, "alice", "x").await;
    let mut bob = member(&hub, "bob", "x").await;
    (1..=5).for_each(|number| publish(&hub, "x", number));
    settle().await;
    alice.received();
    bob.received();
    assert_eq!(mark(&mut bob, "delivered", "x", 2).await["offset"], 2);
    for offset in [3, 4, 1] {
        bob.send(json!({ "type": "delivered", "room": "x", "offset": offset })).await;
    }
    bob.send(json!({ "type": "seen", "room": "x", "offset": 3 })).await;
    settle().await;
    assert_eq!(receipts(&alice.received()), [told("bob", "delivered", 2)], "what follows waits for more");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let both = [told("bob", "delivered", 4), told("bob", "seen", 3)];
    assert_eq!(receipts(&alice.received()), both);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bob.send(json!({ "type": "seen", "room": "x", "offset": 5 })).await;
    settle().await;
    assert_eq!(receipts(&alice.received()), [told("bob", "seen", 5)], "who has read it has it");
    assert_eq!(unread(&hub, "bob", "x").await, (0, 5, 5));
}

/// A client that confirms the same over and over costs nothing and tells nobody.
#[tokio::test(start_paused = true)]
async fn repeated_and_older_receipts_change_nothing() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    let mut bob = member(&hub, "bob", "s").await;
    for number in 1..=3 {
        publish(&hub, "s", number);
        bob.expect("message").await;
    }
    mark(&mut bob, "seen", "s", 2).await;
    settle().await;
    alice.received();
    let commits = shelf.commits();
    for offset in [2, 1, 0, 2, 1] {
        assert_eq!(mark(&mut bob, "seen", "s", offset).await["offset"], 2);
        assert_eq!(mark(&mut bob, "delivered", "s", offset).await["offset"], 2);
    }
    for _ in 0..1000 {
        bob.send(json!({ "type": "seen", "room": "s", "offset": 2 })).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((shelf.commits(), alice.received()), (commits, vec![]));
}

#[tokio::test(start_paused = true)]
async fn receipt_for_a_message_that_is_not_there_yet_is_refused_with_the_newest_offset() {
    let hub = remembering(|_| {});
    let mut alice = member(&hub, "alice", "x").await;
    publish(&hub, "x", 1);
    alice.expect("message").await;
    alice.send(json!({ "type": "seen", "room": "x", "offset": 2, "id": 1 })).await;
    let refused = alice.expect("error").await;
    assert_eq!((&refused["error"], &refused["id"]), (&json!("message_not_found"), &json!(1)));
    assert!(refused["message"].as_str().unwrap().contains("newest has the offset 1"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn receipts_need_a_room_that_keeps_them_and_a_user_that_is_known() {
    let hub = hub(|config| {
        let memory = |pattern: &str| RoomClass { durability: Durability::Memory, ..RoomClass::new(pattern) };
        config.rooms.classes.push(Arc::new(RoomClass { receipts: false, ..memory("mute*") }));
        config.rooms.classes.push(Arc::new(memory("m*")));
    });
    let (mut nobody, _) = attach_with(&hub, Attach::new(Identity::anonymous()), 4096);
    nobody.expect("welcome").await;
    let mut alice = welcomed(&hub, "alice").await;
    for room in ["forgetful", "mute", "m"] {
        assert_eq!(alice.join(room).await.get("unread").is_some(), room == "m");
        assert!(nobody.join(room).await.get("unread").is_none(), "{room}");
        alice.send(json!({ "type": "seen", "room": room, "offset": 0 })).await;
        nobody.send(json!({ "type": "seen", "room": room, "offset": 0 })).await;
        settle().await;
        let errors = |client: &mut ScriptedClient| -> Vec<String> {
            let errors = client.messages().into_iter().filter(|value| value["type"] == "error");
            errors.map(|value| value["error"].as_str().unwrap().to_owned()).collect()
        };
        let (expected, nobodys) = match room {
            "m" => (vec![], vec!["unauthorized"]),
            _ => (vec!["forbidden"], vec!["forbidden"]),
        };
        assert_eq!(
            (errors(&mut alice), errors(&mut nobody)),
            (
                expected.into_iter().map(str::to_owned).collect(),
                nobodys.into_iter().map(str::to_owned).collect(),
            )
        );
    }
    alice.send(json!({ "type": "seen", "room": "elsewhere", "offset": 0 })).await;
    assert_eq!(alice.expect("error").await["error"], "not_subscribed");
    alice.send(json!({ "type": "receipts", "room": "elsewhere" })).await;
    assert_eq!(alice.expect("error").await["error"], "not_subscribed");
}

/// A receipt that was answered, or told to anybody, must not be lost by a crash.
#[tokio::test(start_paused = true)]
async fn stored_receipt_is_neither_answered_nor_told_before_it_is_durable() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    let mut bob = member(&hub, "bob", "s").await;
    publish(&hub, "s", 1);
    alice.expect("message").await;
    bob.expect("message").await;
    shelf.set(Mood::Holds);
    bob.send(json!({ "type": "seen", "room": "s", "offset": 1, "id": 1 })).await;
    settle().await;
    assert_eq!((alice.received(), bob.received()), (vec![], vec![]));
    shelf.set(Mood::Works);
    assert_eq!(bob.find("receipt_ack").await["data"]["offset"], 1);
    assert_eq!(alice.expect("receipt").await["userId"], "bob");
    shelf.set(Mood::Refuses(StoreError::Full("no space".to_owned())));
    publish(&hub, "s", 2);
    settle().await;
    alice.received();
    bob.received();
    shelf.set(Mood::Works);
    publish(&hub, "s", 3);
    alice.expect("message").await;
    bob.expect("message").await;
    shelf.set(Mood::Refuses(StoreError::Full("no space".to_owned())));
    bob.send(json!({ "type": "seen", "room": "s", "offset": 2, "id": 2 })).await;
    let refused = bob.expect("error").await;
    assert_eq!((&refused["error"], &refused["id"]), (&json!("storage_full"), &json!(2)));
    settle().await;
    assert_eq!(alice.received(), []);
    shelf.set(Mood::Works);
    assert_eq!(mark(&mut bob, "seen", "s", 2).await["offset"], 2);
}

/// What many say while one write is under way becomes durable with the next one.
#[tokio::test(start_paused = true)]
async fn receipts_of_many_users_share_a_write() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut clients = Vec::new();
    for number in 0..50 {
        clients.push(member(&hub, &format!("u{number}"), "s").await);
    }
    publish(&hub, "s", 1);
    settle().await;
    let commits = shelf.commits();
    shelf.set(Mood::Holds);
    for client in &mut clients {
        client.send(json!({ "type": "delivered", "room": "s", "offset": 1 })).await;
        client.send(json!({ "type": "seen", "room": "s", "offset": 1, "id": 1 })).await;
    }
    settle().await;
    shelf.set(Mood::Works);
    for client in &mut clients {
        client.find("receipt_ack").await;
    }
    assert!(shelf.commits() - commits <= 3, "{} commits", shelf.commits() - commits);
}

#[tokio::test(start_paused = true)]
async fn receipts_and_unread_counts_survive_a_restart() {
    let shelf = Shelf::new();
    {
        let hub = storing(&shelf, |_| {});
        let mut alice = member(&hub, "alice", "s").await;
        let mut bob = member(&hub, "bob", "s").await;
        for number in 1..=10 {
            publish(&hub, "s", number);
        }
        settle().await;
        alice.received();
        bob.received();
        mark(&mut alice, "seen", "s", 4).await;
        mark(&mut alice, "delivered", "s", 9).await;
        mark(&mut bob, "seen", "s", 10).await;
        assert!(hub.shutdown(Duration::from_secs(30)).await);
    }
    let hub = storing(&shelf, |_| {});
    assert_eq!(unread(&hub, "alice", "s").await, (6, 4, 9));
    assert_eq!(unread(&hub, "bob", "s").await, (0, 10, 10));
    assert_eq!(unread(&hub, "carol", "s").await, (10, 0, 0));
    let page = hub.receipts("s", None, 10).await.unwrap();
    let cursors: Vec<_> =
        page.page.iter().map(|held| (held.user.as_str(), held.delivered, held.seen)).collect();
    assert_eq!(cursors, [("alice", 9, 4), ("bob", 10, 10)]);
    // Older ones do not count after the restart either.
    let cursor = hub.mark("s", "alice", Receipt::Delivered, 5).await.unwrap();
    assert_eq!((cursor.delivered, cursor.seen), (9, 4));
}

/// The cursors of a room cost one read for all who come, and a room that is known costs none of its log.
#[tokio::test(start_paused = true)]
async fn cursors_of_a_room_are_read_once_for_everybody() {
    let shelf = Shelf::new();
    {
        let hub = storing(&shelf, |_| {});
        for number in 1..=3 {
            hub.publish("s", Kind::Data, number_body(number)).unwrap().await.unwrap();
        }
        for number in 0..20 {
            hub.mark("s", &format!("u{number}"), Receipt::Seen, 2).await.unwrap();
        }
        assert!(hub.shutdown(Duration::from_secs(30)).await);
    }
    let hub = storing(&shelf, |_| {});
    // What every hub reads at start is no room's.
    settle().await;
    let (reads, scans) = (shelf.reads_of("s"), shelf.scans_of("cursors"));
    let mut clients = Vec::new();
    for number in 0..20 {
        clients.push(welcomed(&hub, &format!("u{number}")).await);
    }
    for client in &mut clients {
        client.send(json!({ "type": "subscribe", "room": "s" })).await;
    }
    for client in &mut clients {
        assert_eq!(numbers(&client.expect("subscribed").await), (1, 2, 2));
    }
    assert_eq!((shelf.reads_of("s") - reads, shelf.scans_of("cursors") - scans), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn own_words_are_no_news_for_who_had_read_everything() {
    for stored in [false, true] {
        let shelf = Shelf::new();
        let make = || match stored {
            true => storing(&shelf, |_| {}),
            false => remembering(|_| {}),
        };
        let mut hub = make();
        let mut alice = member(&hub, "alice", "s").await;
        let mut bob = member(&hub, "bob", "s").await;
        for text in ["one", "two"] {
            alice.say("s", text).await;
            alice.expect("chat").await;
            bob.expect("chat").await;
        }
        bob.say("s", "three").await;
        alice.expect("chat").await;
        bob.expect("chat").await;
        mark(&mut bob, "seen", "s", 3).await;
        // A reaction is nothing said, and does not come between.
        alice.send(json!({ "type": "react", "room": "s", "offset": 3, "reaction": "+1" })).await;
        bob.find("reaction").await;
        bob.say("s", "four").await;
        bob.find("chat").await;
        settle().await;
        drop((alice, bob));
        settle().await;
        if stored {
            assert!(hub.shutdown(Duration::from_secs(30)).await);
            hub = make();
        }
        assert_eq!(unread(&hub, "alice", "s").await, (2, 2, 2), "stored: {stored}");
        assert_eq!(unread(&hub, "bob", "s").await, (0, 5, 5), "stored: {stored}");
    }
}

/// A crash between a message and the note that its author has read it.
#[tokio::test(start_paused = true)]
async fn own_words_are_found_again_at_the_end_of_the_log() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let mut alice = member(&hub, "alice", "s").await;
    alice.say("s", "one").await;
    alice.expect("chat").await;
    mark(&mut alice, "seen", "s", 1).await;
    shelf.drop_fact_writes(true);
    alice.say("s", "two").await;
    alice.find("chat").await;
    settle().await;
    drop((alice, hub));
    shelf.drop_fact_writes(false);
    let hub = storing(&shelf, |_| {});
    let (count, ..) = unread(&hub, "alice", "s").await;
    assert_eq!(count, 0);
    settle().await;
    let page = hub.receipts("s", None, 10).await.unwrap();
    assert_eq!(page.page[0].seen, 2, "and noted this time");
}

#[tokio::test(start_paused = true)]
async fn unread_counts_what_was_said_whether_or_not_its_offset_is_in_memory() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |config| config.history_cache_bytes_max = 0);
    let mut alice = member(&hub, "alice", "s").await;
    for number in 1..=200u64 {
        publish(&hub, "s", number);
        if number % 10 == 0 {
            alice
                .send(json!({ "type": "react", "room": "s", "offset": 1, "reaction": format!("r{number}") }))
                .await;
        }
        settle().await;
        alice.received();
    }
    // 200 messages and 20 reactions; after the first 11 records 190 messages.
    mark(&mut alice, "seen", "s", 11).await;
    drop(alice);
    let (count, seen, _) = unread(&hub, "alice", "s").await;
    assert_eq!((count, seen), (190, 11));
    let mut bob = member(&hub, "bob", "s").await;
    mark(&mut bob, "seen", "s", 110).await;
    drop(bob);
    let (count, ..) = unread(&hub, "bob", "s").await;
    assert_eq!(count, 100);
}

/// Who was away for long is told what there is to read, not what there once was.
#[tokio::test(start_paused = true)]
async fn unread_counts_only_what_is_still_there() {
    let hub = remembering(|config| config.rooms.default_mut().history.records_max = 10);
    let mut alice = member(&hub, "alice", "x").await;
    publish(&hub, "x", 1);
    alice.expect("message").await;
    mark(&mut alice, "seen", "x", 1).await;
    drop(alice);
    (2..=100).for_each(|number| publish(&hub, "x", number));
    assert_eq!(unread(&hub, "alice", "x").await, (10, 1, 1));
    let _ = hub.mark("x", "alice", Receipt::Seen, 50).await.unwrap();
    assert_eq!(unread(&hub, "alice", "x").await, (10, 50, 50));
    let _ = hub.mark("x", "alice", Receipt::Seen, 95).await.unwrap();
    assert_eq!(unread(&hub, "alice", "x").await, (5, 95, 95));
}

/// In a crowd each receipt would cost as many deliveries as there are members.
#[tokio::test(start_paused = true)]
async fn crowds_are_told_numbers_at_intervals() {
    let hub = remembering(|config| config.rooms.default_mut().receipts_members_max = 3);
    let mut clients = Vec::new();
    for number in 0..5 {
        clients.push(member(&hub, &format!("u{number}"), "x").await);
    }
    publish(&hub, "x", 1);
    settle().await;
    clients.iter_mut().for_each(|client| drop(client.received()));
    for (number, client) in clients.iter_mut().enumerate() {
        let receipt = if number < 2 { "seen" } else { "delivered" };
        client.send(json!({ "type": receipt, "room": "x", "offset": 1 })).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    for client in &mut clients {
        let received = client.received();
        assert!(kinds(&received).iter().all(|kind| *kind == "receipt_counts"), "{received:?}");
        assert!(received.len() <= 2, "{received:?}");
        let Some(Received::Json(last)) = received.last() else { panic!("{received:?}") };
        assert_eq!((&last["offset"], &last["delivered"], &last["seen"]), (&json!(1), &json!(5), &json!(2)));
    }
    publish(&hub, "x", 2);
    settle().await;
    clients[0].received();
    clients[1].send(json!({ "type": "seen", "room": "x", "offset": 2 })).await;
    settle().await;
    let counts = clients[0].expect("receipt_counts").await;
    assert_eq!((&counts["offset"], &counts["delivered"], &counts["seen"]), (&json!(2), &json!(1), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn receipts_come_in_pages_by_user_to_members_alone() {
    for stored in [false, true] {
        let shelf = Shelf::new();
        let hub = if stored { storing(&shelf, |_| {}) } else { remembering(|_| {}) };
        publish(&hub, "s", 1);
        settle().await;
        for number in 0..7 {
            hub.mark("s", &format!("u{number}"), Receipt::Delivered, 1).await.unwrap();
        }
        let mut reader = member(&hub, "reader", "s").await;
        let (mut users, mut after) = (Vec::new(), Value::Null);
        loop {
            reader
                .send(json!({ "type": "receipts", "room": "s", "limit": 3, "after": after, "id": 1 }))
                .await;
            let page = reader.expect("receipts").await;
            users.extend(
                page["users"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|held| held["userId"].as_str().unwrap().to_owned()),
            );
            match &page["next"] {
                Value::Null => break,
                next => after = next.clone(),
            }
        }
        assert_eq!(users, ["u0", "u1", "u2", "u3", "u4", "u5", "u6"], "stored: {stored}");
    }
}

/// The places of more users than fit in memory are in the store, and nobody's steps back for it.
#[tokio::test(start_paused = true)]
async fn room_with_more_users_than_memory_keeps_reads_the_others_when_needed() {
    let shelf = Shelf::new();
    {
        let hub = storing(&shelf, |_| {});
        (1..=3).for_each(|number| publish(&hub, "s", number));
        settle().await;
        let marks = (0..10_050).map(|number| {
            let hub = hub.clone();
            async move { hub.mark("s", &format!("u{number:05}"), Receipt::Seen, 2).await.unwrap() }
        });
        futures_util::future::join_all(marks).await;
        assert!(hub.shutdown(Duration::from_secs(30)).await);
    }
    let hub = storing(&shelf, |_| {});
    assert_eq!(unread(&hub, "u00000", "s").await, (1, 2, 2));
    assert_eq!(unread(&hub, "u10049", "s").await, (1, 2, 2));
    let cursor = hub.mark("s", "u10048", Receipt::Seen, 1).await.unwrap();
    assert_eq!(cursor.seen, 2);
    let page = hub.receipts("s", Some("u10046"), 2).await.unwrap();
    let users: Vec<_> = page.page.iter().map(|held| held.user.as_str()).collect();
    assert_eq!((users, page.next.is_some()), (vec!["u10047", "u10048"], true));
}

#[tokio::test(start_paused = true)]
async fn application_marks_and_reads_receipts() {
    let hub = remembering(|_| {});
    let mut alice = member(&hub, "alice", "x").await;
    publish(&hub, "x", 1);
    alice.expect("message").await;
    let cursor = hub.mark("x", "bob", Receipt::Seen, 1).await.unwrap();
    assert_eq!((cursor.user.as_str(), cursor.delivered, cursor.seen), ("bob", 1, 1));
    assert_eq!(alice.expect("receipt").await["userId"], "bob");
    let refused = hub.mark("x", "bob", Receipt::Seen, 2).await;
    assert!(matches!(refused, Err(PublishError::Refused(_))), "{refused:?}");
    let page = hub.receipts("x", None, 10).await.unwrap();
    assert_eq!(page.page, [cursor]);
    assert!(hub.receipts("x", Some("bob"), 10).await.unwrap().page.is_empty());
}
