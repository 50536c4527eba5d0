//! Stores that several hubs share: the fence in time, and changes to one message from two hubs.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::bus::MemoryHub;
use outspoke_hub::protocol::PageFrom;
use outspoke_hub::store::{MemoryStore, Store};
use outspoke_hub::{
    Body, ClusterOptions, Durability, Hub, Kind, Message, PublishError, Published, RoomClass,
};
use serde_json::json;

use crate::shelf::{Mood, Shelf};
use crate::stored::storing;
use crate::support::{hub_of, member};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A hub on a shared store, which it has written to before.
async fn settled(ahead_ms: i64) -> (Arc<Shelf>, Hub) {
    let shelf = Shelf::shared(ahead_ms);
    let hub = storing(&shelf, |_| {});
    say(&hub, "s", "first").await.unwrap();
    (shelf, hub)
}

async fn say(hub: &Hub, room: &str, text: &str) -> Result<Published, PublishError> {
    hub.publish(room, Kind::Chat, Body::Text(text.into())).unwrap().await
}

/// What another hub finds in the store.
async fn stored(shelf: &Arc<Shelf>, room: &str) -> Vec<String> {
    let reader = storing(shelf, |_| {});
    let history = reader.history(room, PageFrom::Newest, 100).await.unwrap();
    let text = |message: &Message| match &message.body {
        Body::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    history.messages.iter().map(text).collect()
}

/// A store whose clock is hours off: batches get the right time by it from the first on.
#[tokio::test(start_paused = true)]
async fn batches_get_their_time_by_the_clock_of_the_store() {
    for ahead in [0, HOUR, -HOUR] {
        let (shelf, _hub) = settled(ahead).await;
        let allowed = shelf.allowed_ms();
        assert!((MINUTE / 12..MINUTE / 3).contains(&allowed), "{ahead}: {allowed} ms");
    }
}

/// The store's clock was not told when it was asked for: the first batch that is too late tells it.
#[tokio::test(start_paused = true)]
async fn first_batch_is_corrected_when_the_clock_of_the_store_is_unknown() {
    let shelf = Shelf::shared(HOUR);
    let hub = storing(&shelf, |_| {});
    shelf.set(Mood::Doubts { times: 1, written: false });
    say(&hub, "s", "first").await.unwrap();
    assert_eq!(stored(&shelf, "s").await, ["first"]);
}

/// The hub was stopped with a batch in its hands: others have written meanwhile, so it must not.
#[tokio::test(start_paused = true)]
async fn batch_of_a_hub_that_was_stopped_is_refused_and_the_next_ones_are_not() {
    let (shelf, hub) = settled(0).await;
    shelf.set(Mood::Holds);
    let held = hub.publish("s", Kind::Chat, Body::Text("held".into())).unwrap();
    let queued = hub.publish("s2", Kind::Chat, Body::Text("queued".into())).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    shelf.pass(MINUTE);
    shelf.set(Mood::Works);
    assert!(matches!(held.await, Err(PublishError::Unavailable(_))));
    assert!(matches!(queued.await, Err(PublishError::Unavailable(_))));
    tokio::time::sleep(Duration::from_secs(1)).await;
    say(&hub, "s", "second").await.unwrap();
    assert_eq!(stored(&shelf, "s").await, ["first", "second"]);
    assert_eq!(stored(&shelf, "s2").await, Vec::<String>::new());
}

/// In doubt, and too late when the store is back: what it has is answered, what it has not is refused.
#[tokio::test(start_paused = true)]
async fn batch_in_doubt_that_is_too_late_is_refused_while_the_store_remembers() {
    let (shelf, hub) = settled(0).await;
    shelf.set(Mood::Away { facts_written: false, appends_written: 0, ms: MINUTE });
    assert!(matches!(say(&hub, "s", "lost").await, Err(PublishError::Unavailable(_))));
    assert_eq!(stored(&shelf, "s").await, ["first"]);

    let (shelf, hub) = settled(0).await;
    shelf.set(Mood::Away { facts_written: false, appends_written: 1, ms: MINUTE });
    let published = say(&hub, "s", "written").await.unwrap();
    assert_eq!((published.position.unwrap().offset, published.duplicate), (2, false));
    assert_eq!(stored(&shelf, "s").await, ["first", "written"]);
}

/// In doubt for longer than ids are remembered: a refusal might be a lie, so a client gets no answer, and the application is told
/// that nobody knows.
#[tokio::test(start_paused = true)]
async fn batch_in_doubt_for_longer_than_the_store_remembers_is_neither_accepted_nor_refused() {
    let (shelf, hub) = settled(0).await;
    shelf.set(Mood::Away { facts_written: false, appends_written: 0, ms: 5 * MINUTE });
    assert_eq!(say(&hub, "s", "who knows").await, Err(PublishError::Unknown));

    let (shelf, hub) = settled(0).await;
    shelf.set(Mood::Away { facts_written: false, appends_written: 0, ms: 5 * MINUTE });
    assert_eq!(hub.edit("s", 1, Body::Text("who knows".into())).await, Err(PublishError::Unknown));

    let (shelf, hub) = settled(0).await;
    let mut alice = member(&hub, "alice", "s").await;
    shelf.set(Mood::Away { facts_written: false, appends_written: 0, ms: 5 * MINUTE });
    alice.send(json!({ "type": "chat", "room": "s", "content": "who knows", "id": 1 })).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    alice.send(json!({ "type": "chat", "room": "s", "content": "next", "id": 2 })).await;
    let answer = alice.find("ack").await;
    assert_eq!(answer["id"], 2, "{answer}");
    assert_eq!(stored(&shelf, "s").await, ["first", "next"]);
}

/// A store that needs several steps was away after the first: each message is answered with what became of it.
#[tokio::test(start_paused = true)]
async fn batch_done_in_part_and_then_too_late_is_answered_message_by_message() {
    let (shelf, hub) = settled(0).await;
    shelf.set(Mood::Holds);
    let held = hub.publish("s", Kind::Chat, Body::Text("held".into())).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let publish = |room: &str| hub.publish(room, Kind::Chat, Body::Text(room.into())).unwrap();
    let (one, two) = (publish("s1"), publish("s2"));
    shelf.set(Mood::Each(vec![
        Mood::Works,
        Mood::Away { facts_written: false, appends_written: 1, ms: MINUTE },
    ]));
    held.await.unwrap();
    assert_eq!(one.await.unwrap().position.unwrap().offset, 1);
    assert!(matches!(two.await, Err(PublishError::Unavailable(_))));
    assert_eq!(stored(&shelf, "s1").await, ["s1"]);
    assert_eq!(stored(&shelf, "s2").await, Vec::<String>::new());
}

/// Ten users with five reactions each on each of two hubs, all at once: every reaction stands in the message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reactions_from_two_hubs_at_once_are_all_kept() {
    const USERS: usize = 10;
    const REACTIONS: usize = 5;
    let (bus, store) = (MemoryHub::new(), Arc::new(MemoryStore::shared()));
    let hub = |name: &str| {
        let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
        let builder =
            Hub::builder().store("shared", store).cluster(Arc::new(bus.connect()), ClusterOptions::new(name));
        hub_of(builder, |config| {
            let class = RoomClass { durability: Durability::Stored, announce: false, ..RoomClass::new("s*") };
            config.rooms.classes.push(Arc::new(class));
        })
    };
    let hubs = [hub("one"), hub("two")];
    say(&hubs[0], "s", "react to this").await.unwrap();
    let mut reacting = Vec::new();
    for (index, hub) in hubs.iter().enumerate() {
        for user in 0..USERS {
            let mut client = member(hub, &format!("user-{index}-{user}"), "s").await;
            reacting.push(tokio::spawn(async move {
                for reaction in 0..REACTIONS {
                    let reaction = format!("r{reaction}");
                    let react =
                        json!({ "type": "react", "room": "s", "offset": 1, "reaction": reaction, "id": 1 });
                    client.send(react).await;
                    client.find("ack").await;
                }
            }));
        }
    }
    for reacting in reacting {
        reacting.await.unwrap();
    }
    let late = hub("three");
    let history = late.history("s", PageFrom::Newest, 1000).await.unwrap();
    let first = history.messages.iter().find(|message| message.position.unwrap().offset == 1).unwrap();
    let reactions = &first.details.as_ref().unwrap().reactions;
    assert_eq!(reactions.len(), REACTIONS);
    for held in reactions {
        assert_eq!(held.users.len(), 2 * USERS, "{}", held.reaction);
    }
    let newest = history.messages.iter().map(|message| message.position.unwrap().offset).max();
    assert_eq!(newest, Some(1 + (2 * USERS * REACTIONS) as u64));
}
