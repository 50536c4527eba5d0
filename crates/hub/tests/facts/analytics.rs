//! Figures: every message and user once, whatever ends, restarts or fails in between.

use std::time::{Duration, SystemTime};

use outspoke_hub::store::StoreError;
use outspoke_hub::{
    AnalyticsError, Attach, Body, Figures, Grain, Hub, Identity, Kind, RoomFigures, Timestamp,
};
use outspoke_testkit::attach_with;
use serde_json::json;

use crate::cluster::{Nodes, moment};
use crate::shelf::{Mood, Shelf};
use crate::stored::storing;
use crate::support::{eventually, hub, member, number_body, publish, threaded_hub, welcomed};

/// From yesterday to tomorrow, so that a test may run over midnight.
fn now() -> std::ops::Range<Timestamp> {
    let now = Timestamp::from_system_time(SystemTime::now()).as_millis();
    let day = Grain::Day.millis();
    Timestamp::from_millis(now - day)..Timestamp::from_millis(now + day)
}

/// Everything there is, in one; the tests are shorter than an hour.
async fn figures(hub: &Hub, grain: Grain) -> Figures {
    let all = hub.figures(grain, now()).await.unwrap();
    let mut sum = all[0].clone();
    for next in &all[1..] {
        sum.messages += next.messages;
        sum.users = sum.users.max(next.users);
        sum.users_exact &= next.users_exact;
        sum.rooms = sum.rooms.max(next.rooms);
        sum.minute_max = sum.minute_max.max(next.minute_max);
        sum.connections_max = sum.connections_max.max(next.connections_max);
    }
    sum
}

async fn of_room(hub: &Hub, room: &str, grain: Grain) -> (u64, Option<u64>) {
    let all: Vec<RoomFigures> = hub.room_figures(room, grain, now()).await.unwrap();
    (all.iter().map(|span| span.messages).sum(), all.iter().map(|span| span.users).max().flatten())
}

async fn top(hub: &Hub) -> Vec<(String, u64)> {
    let mut top = Vec::new();
    for day in [now().start, Timestamp::from_system_time(SystemTime::now())] {
        let rooms = hub.top_rooms(day).await.unwrap();
        top.extend(rooms.into_iter().map(|(room, messages)| (room.to_string(), messages)));
    }
    top
}

#[tokio::test]
async fn figures_count_what_is_said_and_who_says_it() {
    let hub = hub(|_| {});
    let mut alice = member(&hub, "alice", "x").await;
    let mut bob = member(&hub, "bob", "x").await;
    bob.join("y").await;
    for number in 0..3 {
        alice.send(json!({ "type": "chat", "room": "x", "content": format!("{number}") })).await;
        alice.expect("chat").await;
    }
    bob.send(json!({ "type": "chat", "room": "y", "content": "hello", "id": 1 })).await;
    bob.find("ack").await;
    // An application's message has no user, and what is refused is not said.
    publish(&hub, "x", 1);
    bob.send(json!({ "type": "chat", "room": "x", "content": "" })).await;
    bob.find("error").await;
    for grain in [Grain::Hour, Grain::Day] {
        let Figures { messages, users, users_exact, rooms, minute_max, connections_max, .. } =
            figures(&hub, grain).await;
        assert_eq!((messages, users, users_exact, rooms, connections_max), (5, 2, true, 2, 2), "{grain:?}");
        assert!((3..=5).contains(&minute_max), "{minute_max}");
    }
    assert_eq!(of_room(&hub, "x", Grain::Day).await, (4, Some(1)));
    assert_eq!(of_room(&hub, "x", Grain::Hour).await, (4, None));
    assert_eq!(of_room(&hub, "y", Grain::Day).await, (1, Some(1)));
    assert_eq!(of_room(&hub, "z", Grain::Day).await, (0, Some(0)));
    assert_eq!(top(&hub).await, [("x".to_owned(), 4), ("y".to_owned(), 1)]);
}

/// A room that keeps nothing is gone with its last member; what was said there was said.
#[tokio::test]
async fn figures_of_rooms_that_ended_are_not_lost() {
    let hub = hub(|_| {});
    for room in 0..50 {
        let room = format!("room{room}");
        let mut alice = member(&hub, "alice", &room).await;
        alice.send(json!({ "type": "chat", "room": room, "content": "hello" })).await;
        alice.expect("chat").await;
        drop(alice);
    }
    eventually("every room has ended", || hub.room_count() == 0).await;
    let day = figures(&hub, Grain::Day).await;
    assert_eq!((day.messages, day.users, day.rooms), (50, 1, 50));
}

#[tokio::test]
async fn figures_of_tenants_are_their_own() {
    let hub = hub(|_| {});
    for (tenant, messages) in [("acme", 3), ("umbrella", 5)] {
        let mut identity = Identity::user("alice").named("alice");
        identity.tenant = tenant.into();
        let (mut alice, _) = attach_with(&hub, Attach::new(identity), 65536);
        alice.expect("welcome").await;
        alice.join("x").await;
        for number in 0..messages {
            alice.send(json!({ "type": "chat", "room": "x", "content": format!("{number}") })).await;
            alice.expect("chat").await;
        }
        let day = figures(&hub.in_tenant(tenant), Grain::Day).await;
        assert_eq!((day.messages, day.users, day.connections_max), (messages, 1, 1));
    }
    assert_eq!(figures(&hub, Grain::Day).await.messages, 0);
}

/// The second hub adds to what the first one counted, in the same hour, with some of the same users.
#[tokio::test]
async fn figures_survive_a_restart_and_go_on_where_they_were() {
    let shelf = Shelf::new();
    for (round, names) in [["alice", "bob"], ["bob", "carol"]].into_iter().enumerate() {
        let hub = storing(&shelf, |_| {});
        let mut clients = Vec::new();
        for name in names {
            let mut client = member(&hub, name, "s1").await;
            client.send(json!({ "type": "chat", "room": "s1", "content": "hello", "id": 1 })).await;
            client.find("ack").await;
            clients.push(client);
        }
        if round == 1 {
            let day = figures(&hub, Grain::Day).await;
            assert_eq!((day.messages, day.users, day.rooms, day.connections_max), (4, 3, 1, 2));
            assert_eq!(of_room(&hub, "s1", Grain::Day).await, (4, Some(3)));
        }
        // Nobody asked for figures: the end itself must write them.
        assert!(hub.shutdown(Duration::from_secs(60)).await);
    }
}

#[tokio::test]
async fn figures_wait_for_a_store_that_is_away_and_come_once() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    let _member = member(&hub, "alice", "x").await;
    for number in 0..10 {
        shelf.set(Mood::Refuses(StoreError::Unavailable("gone".to_owned())));
        publish(&hub, "x", number);
        let refused = hub.figures(Grain::Day, now()).await;
        assert!(matches!(refused, Err(AnalyticsError::Store(StoreError::Unavailable(_)))), "{refused:?}");
        shelf.set(Mood::Doubts { times: 1, written: number % 2 == 0 });
        assert_eq!(figures(&hub, Grain::Day).await.messages, number + 1);
        assert_eq!(of_room(&hub, "x", Grain::Hour).await.0, number + 1);
    }
}

/// Many users, many rooms, many threads, looks in between: the sums are exact.
#[tokio::test]
async fn figures_are_exact_under_load_from_every_shard() {
    let hub = threaded_hub(4, |_| {});
    let mut clients = Vec::new();
    for number in 0..40 {
        let mut client = welcomed(&hub, &format!("user{number}")).await;
        client.join(&format!("room{}", number % 7)).await;
        clients.push((client, number % 7));
    }
    for round in 0..25 {
        for (client, room) in &mut clients {
            let message =
                json!({ "type": "chat", "room": format!("room{room}"), "content": "x", "id": round });
            client.send(message).await;
        }
        if round % 5 == 0 {
            hub.figures(Grain::Hour, now()).await.unwrap();
        }
    }
    for (client, _) in &mut clients {
        for _ in 0..25 {
            client.find("ack").await;
        }
    }
    let day = figures(&hub, Grain::Day).await;
    assert_eq!((day.messages, day.users, day.rooms, day.connections_max), (1000, 40, 7, 40));
    assert_eq!(top(&hub).await.iter().map(|(_, messages)| messages).sum::<u64>(), 1000);
    hub.shutdown(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn users_beyond_the_exact_bound_are_estimated_and_said_to_be() {
    let hub = hub(|_| {});
    for number in 0..400 {
        let mut client = member(&hub, &format!("user{number}"), "x").await;
        client.send(json!({ "type": "chat", "room": "x", "content": "hello" })).await;
        client.expect("chat").await;
    }
    let day = figures(&hub, Grain::Day).await;
    assert_eq!((day.messages, day.users_exact), (400, false));
    assert!((370..=430).contains(&day.users), "{}", day.users);
}

#[tokio::test(start_paused = true)]
async fn analytics_that_are_off_answer_so() {
    let hub = hub(|config| config.analytics = false);
    let _member = member(&hub, "alice", "x").await;
    hub.publish("x", Kind::Chat, Body::Text("hello".into())).unwrap();
    assert_eq!(hub.figures(Grain::Day, now()).await, Err(AnalyticsError::Off));
    assert_eq!(hub.top_rooms(now().start).await, Err(AnalyticsError::Off));
}

/// Two hubs on one store, with some of the same users in some of the same rooms; then one of them again.
#[tokio::test]
async fn figures_of_hubs_that_share_a_store_are_added_up() {
    let shelf = Shelf::shared(0);
    let say = async |hub: &Hub, user: &str, room: &str, count: usize| {
        let mut client = member(hub, user, room).await;
        for number in 0..count {
            client.send(json!({ "type": "chat", "room": room, "content": "hello", "id": number })).await;
            client.find("ack").await;
        }
        client
    };
    let (one, two) = (storing(&shelf, |_| {}), storing(&shelf, |_| {}));
    let clients = [
        say(&one, "alice", "m1", 3).await,
        say(&one, "bob", "m2", 1).await,
        say(&two, "alice", "m1", 4).await,
        say(&two, "carol", "m3", 2).await,
        say(&two, "dave", "m3", 1).await,
    ];
    for _ in 0..3 {
        for hub in [&one, &two] {
            hub.figures(Grain::Hour, now()).await.unwrap();
        }
    }
    for (hub, grain) in [(&one, Grain::Hour), (&two, Grain::Hour), (&one, Grain::Day), (&two, Grain::Day)] {
        let all = figures(hub, grain).await;
        assert_eq!((all.messages, all.users, all.users_exact, all.rooms), (11, 4, true, 3), "{grain:?}");
        assert_eq!(all.connections_max, 5, "{grain:?}");
        assert!((6..=11).contains(&all.minute_max), "{}", all.minute_max);
        assert_eq!(of_room(hub, "m1", grain).await, (7, (grain == Grain::Day).then_some(1)));
        assert_eq!(of_room(hub, "m3", grain).await.0, 3);
    }
    let busiest = [("m1".to_owned(), 7), ("m3".to_owned(), 3), ("m2".to_owned(), 1)];
    assert_eq!(top(&one).await, busiest);
    assert_eq!(top(&two).await, busiest);

    // The next life of the first hub comes after it, not beside it.
    drop(clients);
    assert!(one.shutdown(Duration::from_secs(60)).await);
    let again = storing(&shelf, |_| {});
    let _erin = say(&again, "erin", "m1", 1).await;
    let day = figures(&again, Grain::Day).await;
    assert_eq!((day.messages, day.users, day.rooms, day.connections_max), (12, 5, 3, 5));
    assert_eq!(of_room(&again, "m1", Grain::Day).await, (8, Some(2)));
}

/// Its message is behind one that it has not heard of: both are read from the store, and one of them is its own.
#[tokio::test]
async fn message_that_waited_for_one_of_another_node_is_counted_once() {
    let nodes = Nodes::start(2);
    let (one, two) = (&nodes.hubs[0], &nodes.hubs[1]);
    let (_ana, _ben) = (member(one, "ana", "s").await, member(two, "ben", "s").await);
    moment().await;
    nodes.bus.lose(true);
    two.publish("s", Kind::Data, number_body(1)).unwrap().await.unwrap();
    one.publish("s", Kind::Data, number_body(2)).unwrap().await.unwrap();
    nodes.bus.lose(false);
    moment().await;
    for _ in 0..3 {
        for hub in [one, two] {
            hub.figures(Grain::Hour, now()).await.unwrap();
        }
    }
    for hub in [one, two] {
        assert_eq!(of_room(hub, "s", Grain::Day).await.0, 2);
    }
}

/// What the only hub of a store counted is there for several that share it later.
#[tokio::test]
async fn figures_from_before_a_store_was_shared_stay_readable() {
    let shelf = Shelf::new();
    for shared in [false, true] {
        let hub = storing(&shelf, |_| {});
        let mut client = member(&hub, "alice", "s1").await;
        client.send(json!({ "type": "chat", "room": "s1", "content": "hello", "id": 1 })).await;
        client.find("ack").await;
        let day = figures(&hub, Grain::Day).await;
        assert_eq!((day.messages, day.users), (1 + u64::from(shared), 1));
        assert_eq!(of_room(&hub, "s1", Grain::Day).await, (1 + u64::from(shared), Some(1)));
        assert_eq!(top(&hub).await, [("s1".to_owned(), 1 + u64::from(shared))]);
        drop(client);
        assert!(hub.shutdown(Duration::from_secs(60)).await);
        shelf.share();
    }
}

/// In doubt for longer than it could be found out by trying again: it is looked up, and counted once.
#[tokio::test]
async fn figures_that_were_in_doubt_for_long_are_counted_once() {
    for written in [false, true] {
        let shelf = Shelf::shared(0);
        let hub = storing(&shelf, |_| {});
        let _member = member(&hub, "alice", "x").await;
        publish(&hub, "x", 1);
        hub.figures(Grain::Day, now()).await.unwrap();
        publish(&hub, "x", 2);
        shelf.set(Mood::Away { facts_written: written, appends_written: 0, ms: 60_000 });
        let outcome = hub.figures(Grain::Day, now()).await;
        assert_eq!(outcome.is_ok(), written, "{outcome:?}");
        // The store's clock is taken for right from then on.
        let _ = hub.figures(Grain::Day, now()).await;
        assert_eq!(figures(&hub, Grain::Day).await.messages, 2, "written: {written}");
    }
}
