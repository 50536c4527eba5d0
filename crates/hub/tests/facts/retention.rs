//! Stored rooms: what is older, or more, than their class keeps is not shown, and leaves the store.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use outspoke_hub::protocol::{PageFrom, encode_record};
use outspoke_hub::store::{Append, Batch, LogKey, LogState, Record, Retention, Store};
use outspoke_hub::{Durability, Hub, HubConfig, Kind, Message, MessageId, RoomClass, Timestamp};
use outspoke_testkit::settle;
use serde_json::json;

use crate::shelf::Shelf;
use crate::stored::storing;
use crate::support::{member, number_body, offset, offsets, welcomed};

const AGE_MAX: Duration = Duration::from_secs(60);

fn log() -> LogKey {
    LogKey { tenant: "".into(), room: "s".into() }
}

/// Puts messages into the store that were said so long ago.
async fn said_before(shelf: &Shelf, count: u64, ago: Duration) {
    let ts = Timestamp::from_system_time(SystemTime::now() - ago);
    let record = |n: u64| {
        let id = MessageId::from_u128(u128::from(n));
        let (room, position, from, details) = (None, None, None, None);
        let message =
            Message { id, room, position, kind: Kind::Data, from, ts, body: number_body(n), details };
        let mut payload = Vec::new();
        encode_record(&message, &mut payload);
        let (id, payload) = (message.id.as_u128(), Bytes::from(payload));
        Record { id, key: None, author: "".into(), ts: ts.as_millis(), counted: true, payload }
    };
    let records = (1..=count).map(record).collect();
    let append = Append { log: log(), epoch: 7, records, replaces: vec![], fence: None };
    shelf.commit(&Batch { appends: vec![append], ..Batch::default() }).await.unwrap();
}

async fn kept(shelf: &Shelf) -> LogState {
    shelf.states(&[log()]).await.unwrap()[0].unwrap()
}

fn keeping(shelf: &Arc<Shelf>, history: Retention) -> Hub {
    storing(shelf, |config: &mut HubConfig| {
        let class =
            RoomClass { durability: Durability::Stored, announce: false, history, ..RoomClass::new("s*") };
        config.rooms.classes.insert(0, Arc::new(class));
    })
}

fn by_age() -> Retention {
    Retention { age_max: AGE_MAX, ..Retention::default() }
}

async fn page(hub: &Hub, from: PageFrom, limit: usize) -> (u64, Vec<u64>) {
    let page = hub.history("s", from, limit).await.unwrap();
    (page.first, page.messages.iter().map(|message| message.position.unwrap().offset).collect())
}

/// The room is not in memory most of the time: nobody is in it and nobody writes to it.
#[tokio::test(start_paused = true)]
async fn messages_older_than_the_class_keeps_are_not_shown_and_leave_the_store_in_time() {
    let shelf = Shelf::new();
    said_before(&shelf, 5, 2 * AGE_MAX).await;
    let hub = keeping(&shelf, by_age());
    for from in [PageFrom::After(0), PageFrom::Newest, PageFrom::Before(4), PageFrom::After(2)] {
        assert_eq!(page(&hub, from, 2).await.1, Vec::<u64>::new(), "{from:?}");
    }
    assert_eq!(page(&hub, PageFrom::After(0), 2).await, (6, vec![]));
    assert_eq!(kept(&shelf).await.first, 1, "reading alone trims nothing");
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let state = kept(&shelf).await;
    assert_eq!((state.first, state.head, state.bytes), (6, 5, 0));
}

/// More of them than are read at once, before those that are shown.
#[tokio::test(start_paused = true)]
async fn young_messages_behind_old_ones_are_found() {
    let shelf = Shelf::new();
    said_before(&shelf, 5000, 2 * AGE_MAX).await;
    let hub = keeping(&shelf, by_age());
    for number in 0..3 {
        hub.publish("s", Kind::Data, number_body(number)).unwrap().await.unwrap();
    }
    assert_eq!(page(&hub, PageFrom::After(0), 2).await, (5001, vec![5001, 5002]));
    assert_eq!(page(&hub, PageFrom::Before(5002), 20).await, (5001, vec![5001]));
    assert_eq!(page(&hub, PageFrom::Newest, 20).await, (5001, vec![5001, 5002, 5003]));
}

/// As for trimmed messages: whoever missed them is told so.
#[tokio::test(start_paused = true)]
async fn recovery_of_messages_that_are_too_old_is_refused() {
    let shelf = Shelf::new();
    said_before(&shelf, 5, 2 * AGE_MAX).await;
    let hub = keeping(&shelf, by_age());
    let mut alice = welcomed(&hub, "alice").await;
    alice.send(json!({ "type": "subscribe", "room": "s", "last": 3 })).await;
    let subscribed = alice.expect("subscribed").await;
    assert_eq!(subscribed["offset"], 5);
    let epoch = subscribed["epoch"].clone();
    for (after, recovered) in [(2, false), (5, true)] {
        let mut bob = welcomed(&hub, "bob").await;
        bob.send(json!({ "type": "subscribe", "room": "s", "epoch": epoch, "offset": after })).await;
        assert_eq!(bob.expect("subscribed").await["recovered"], recovered, "{after}");
        settle().await;
        assert_eq!(offsets(&bob.received()), Vec::<u64>::new());
    }
}

/// Long before all logs are looked at.
#[tokio::test(start_paused = true)]
async fn log_in_use_is_trimmed_by_age() {
    let shelf = Shelf::new();
    said_before(&shelf, 5000, 2 * AGE_MAX).await;
    let hub = keeping(&shelf, by_age());
    let mut alice = member(&hub, "alice", "s").await;
    for number in 0..3 {
        alice.send(json!({ "type": "publish", "room": "s", "data": number })).await;
        alice.expect("message").await;
        tokio::time::sleep(AGE_MAX / 4).await;
    }
    let state = kept(&shelf).await;
    assert_eq!((state.first, state.head), (5001, 5003));
}

#[tokio::test(start_paused = true)]
async fn room_in_memory_shows_nothing_before_the_first_message_it_tells_of() {
    let shelf = Shelf::new();
    let hub = keeping(&shelf, Retention { records_max: 10, ..Retention::default() });
    let mut alice = member(&hub, "alice", "s").await;
    let mut newest = 0;
    for number in 0..200 {
        alice.send(json!({ "type": "publish", "room": "s", "data": number })).await;
        newest = offset(&alice.expect("message").await);
        let (first, offsets) = page(&hub, PageFrom::After(0), 50).await;
        assert_eq!(first, (newest + 1).saturating_sub(10).max(1));
        assert_eq!(offsets, (first..=newest).collect::<Vec<_>>());
    }
    assert_eq!(page(&hub, PageFrom::Before(195), 50).await, (191, (191..=194).collect()));
    assert_eq!(newest, 200);
}
