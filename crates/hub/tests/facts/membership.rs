//! Coming, going, and what a newcomer gets.

use outspoke_hub::{Attach, Disconnect, Frame, Identity, JoinError, RoomName};
use outspoke_testkit::{Received, attach_with, settle};
use serde_json::json;

use crate::support::{
    eventually, hub, kinds, member, offset, offsets, publish, threaded_hub, user, welcomed,
};

#[tokio::test(start_paused = true)]
async fn joining_and_leaving_are_announced_to_the_room() {
    let hub = hub(|config| config.rooms.default_mut().announce = true);
    let mut alice = member(&hub, "alice", "x").await;
    let mut bob = member(&hub, "bob", "x").await;
    let join = alice.expect("join").await;
    assert_eq!((&join["userId"], &join["room"]), (&json!("bob"), &json!("x")));
    bob.send(json!({ "type": "unsubscribe", "room": "x" })).await;
    bob.expect("unsubscribed").await;
    let leave = alice.expect("leave").await;
    assert_eq!((&leave["userId"], &leave["room"]), (&json!("bob"), &json!("x")));
    assert!(leave.get("offset").is_none(), "announcements have no place in the log: {leave}");
    settle().await;
    assert_eq!((alice.received(), bob.received()), (vec![], vec![]));
}

/// However a client goes, the room hears of it exactly once.
#[tokio::test(start_paused = true)]
async fn every_way_to_go_is_announced_exactly_once() {
    let hub = hub(|config| config.rooms.default_mut().announce = true);
    let mut watcher = member(&hub, "watcher", "x").await;
    for way in 0..5 {
        let (mut client, handle) = attach_with(&hub, user("guest"), 4096);
        client.expect("welcome").await;
        client.join("x").await;
        watcher.expect("join").await;
        match way {
            0 => client.close(1000, "bye").await,
            1 => drop(hub.disconnect(handle.id(), Disconnect::Kicked)),
            2 => client.stream().close(),
            3 => drop(client.send_raw(&[0xff; 16]).await),
            _ => hub.leave(handle.id(), "x").await.unwrap(),
        }
        assert_eq!(watcher.expect("leave").await["userId"], "guest", "way {way}");
        drop(client);
        settle().await;
        assert_eq!(watcher.received(), [], "way {way}");
    }
}

/// In a room of thousands every join would cost thousands of writes, and nobody could follow them.
#[tokio::test(start_paused = true)]
async fn announcements_stop_above_the_configured_number_of_members() {
    let hub = hub(|config| {
        config.rooms.default_mut().announce = true;
        config.rooms.default_mut().announce_members_max = 2;
    });
    let mut first = member(&hub, "first", "x").await;
    let second = member(&hub, "second", "x").await;
    let third = member(&hub, "third", "x").await;
    let fourth = member(&hub, "fourth", "x").await;
    settle().await;
    assert_eq!(kinds(&first.received()), ["join", "join"]);
    drop(fourth);
    settle().await;
    assert_eq!(first.received(), [], "whose coming was not told, their going is not either");
    drop(third);
    drop(second);
    settle().await;
    assert_eq!(kinds(&first.received()), ["leave", "leave"]);
}

/// Nobody knows somebody without a name.
#[tokio::test(start_paused = true)]
async fn nameless_clients_are_not_announced() {
    let hub = hub(|config| config.rooms.default_mut().announce = true);
    let mut watcher = member(&hub, "watcher", "x").await;
    let (mut nameless, _) = attach_with(&hub, Attach::new(Identity::user("nameless")), 4096);
    nameless.expect("welcome").await;
    assert_eq!(nameless.join("x").await["members"], 2);
    drop(nameless);
    settle().await;
    assert_eq!(watcher.received(), []);
}

#[tokio::test(start_paused = true)]
async fn repeated_subscribe_and_unsubscribe_are_harmless() {
    let hub = hub(|config| config.rooms.default_mut().announce = true);
    let mut client = member(&hub, "a", "x").await;
    for _ in 0..3 {
        assert_eq!(client.join("x").await["members"], 1);
    }
    for _ in 0..3 {
        client.send(json!({ "type": "unsubscribe", "room": "x" })).await;
        client.expect("unsubscribed").await;
    }
    settle().await;
    assert_eq!((client.received(), hub.room_count()), (vec![], 0));
}

/// The answer to a repeated subscribe says where this client is, not where the room's head has run to: else a client
/// that counts would take what follows for old.
#[tokio::test(start_paused = true)]
async fn subscribed_is_followed_by_exactly_the_next_offset() {
    let hub = hub(|_| {});
    let mut client = member(&hub, "a", "x").await;
    let mut publisher = member(&hub, "b", "x").await;
    for number in 0..20 {
        publisher.say("x", &number.to_string()).await;
        publish(&hub, "x", number);
        client.send(json!({ "type": "subscribe", "room": "x" })).await;
        settle().await;
        publish(&hub, "x", number);
    }
    settle().await;
    follows(&client.received(), 0);
}

/// Checks that each `subscribed` is followed by the offset after it, and messages by their successors.
fn follows(received: &[Received], mut at: u64) {
    for received in received {
        let Received::Json(value) = received else { panic!("{received:?}") };
        match value["type"].as_str().unwrap() {
            "subscribed" => assert!(offset(value) >= at, "{value} after {at}"),
            "chat" | "message" => assert_eq!(offset(value), at + 1, "{value}"),
            _ => continue,
        }
        at = offset(value);
    }
}

/// Joins and publishes of one turn meet in the room's order: a newcomer gets exactly what follows its `subscribed`.
#[tokio::test(start_paused = true)]
async fn newcomers_get_exactly_what_follows_their_subscribed() {
    let hub = hub(|config| config.rooms_per_client_max = 10);
    let mut publisher = member(&hub, "publisher", "x").await;
    let mut clients = Vec::new();
    for number in 0..30 {
        clients.push(welcomed(&hub, &format!("user{number}")).await);
    }
    // One turn: each client's join is read between others' publishes.
    for (number, client) in clients.iter_mut().enumerate() {
        publish(&hub, "x", number as u64);
        client.send(json!({ "type": "subscribe", "room": "x" })).await;
        publisher.say("x", "between").await;
        if number % 4 == 0 {
            tokio::task::yield_now().await;
        }
    }
    publish(&hub, "x", 99);
    settle().await;
    for client in &mut clients {
        let received = client.received();
        let Received::Json(subscribed) = &received[0] else { panic!("{received:?}") };
        assert_eq!(subscribed["type"], "subscribed");
        let offsets = offsets(&received);
        assert_eq!(offsets, (offset(subscribed) + 1..=61).collect::<Vec<_>>());
    }
    let all = offsets(&publisher.received());
    assert_eq!(all, (1..=61).collect::<Vec<_>>());
}

/// The same with real threads and real races.
#[tokio::test]
async fn newcomers_on_every_shard_get_exactly_what_follows_their_subscribed() {
    let hub = threaded_hub(4, |_| {});
    let _keeper = member(&hub, "keeper", "x").await;
    let mut clients = Vec::new();
    for number in 0..12 {
        clients.push(welcomed(&hub, &format!("user{number}")).await);
    }
    let publisher = {
        let hub = hub.clone();
        std::thread::spawn(move || (0..3000).for_each(|number| publish(&hub, "x", number)))
    };
    for client in &mut clients {
        client.send(json!({ "type": "subscribe", "room": "x" })).await;
    }
    let reading = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let mut at = offset(&client.expect("subscribed").await);
            while at < 3000 {
                let message = client.expect("message").await;
                assert_eq!(offset(&message), at + 1);
                at += 1;
            }
        })
    });
    for reading in reading.collect::<Vec<_>>() {
        reading.await.unwrap();
    }
    publisher.join().unwrap();
}

/// A member that goes while deliveries of the same turn are pending must take nobody's place with it.
#[tokio::test(start_paused = true)]
async fn leaving_in_the_turn_of_a_join_keeps_the_members_right() {
    let hub = hub(|_| {});
    let mut keeper = member(&hub, "keeper", "x").await;
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(welcomed(&hub, &format!("user{number}")).await);
    }
    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            publish(&hub, "x", round);
            client.send(json!({ "type": "subscribe", "room": "x" })).await;
            publish(&hub, "x", round);
            if number % 2 == 0 {
                client.send(json!({ "type": "unsubscribe", "room": "x" })).await;
            }
        }
        settle().await;
        assert_eq!(hub.member_count("x"), 6);
        clients.iter_mut().for_each(|client| drop(client.received()));
        publish(&hub, "x", 1000);
        settle().await;
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.messages().len(), number % 2, "client {number}");
        }
        for client in &mut clients {
            client.send(json!({ "type": "unsubscribe", "room": "x" })).await;
        }
        settle().await;
        clients.iter_mut().for_each(|client| drop(client.received()));
    }
    let offsets = offsets(&keeper.received());
    assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn application_puts_clients_into_rooms_and_takes_them_out() {
    let hub = hub(|_| {});
    let (mut client, handle) = attach_with(&hub, user("a"), 4096);
    assert_eq!(hub.join(handle.id(), "x").await, Err(JoinError::ClientNotFound), "not settled yet");
    client.expect("welcome").await;
    hub.join(handle.id(), "x").await.unwrap();
    hub.join(handle.id(), "x").await.unwrap();
    client.expect("subscribed").await;
    publish(&hub, "x", 1);
    client.expect("message").await;
    hub.leave(handle.id(), "x").await.unwrap();
    client.expect("unsubscribed").await;
    assert!(matches!(hub.leave(handle.id(), "x").await, Err(JoinError::NotSubscribed { .. })));
    assert!(matches!(hub.join(handle.id(), "").await, Err(JoinError::InvalidRoom(_))));
    drop(client);
    settle().await;
    assert_eq!(hub.join(handle.id(), "x").await, Err(JoinError::ClientNotFound));
}

#[tokio::test(start_paused = true)]
async fn limits_on_rooms_are_answered_with_their_codes() {
    let hub = hub(|config| {
        config.rooms_per_client_max = 3;
        config.rooms.default_mut().members_max = 2;
        config.rooms_max = 4;
        config.room_name_bytes_max = 5;
    });
    let mut client = welcomed(&hub, "a").await;
    for room in ["r1", "r2", "r3"] {
        client.join(room).await;
    }
    assert_eq!(refused(&mut client, "r4").await, "too_many_rooms");
    client.send(json!({ "type": "unsubscribe", "room": "r3" })).await;
    client.expect("unsubscribed").await;
    assert_eq!(refused(&mut client, "longer").await, "invalid_room");
    assert_eq!(refused(&mut client, " x").await, "invalid_room");
    let mut second = member(&hub, "b", "r1").await;
    let mut third = welcomed(&hub, "c").await;
    assert_eq!(refused(&mut third, "r1").await, "room_full");
    second.join("r4").await;
    second.join("r5").await;
    assert_eq!(refused(&mut third, "r6").await, "room_limit");
    third.join("r5").await;
    // A refused join leaves nothing behind.
    assert_eq!((hub.room_count(), hub.member_count("r1"), hub.member_count("r6")), (4, 2, 0));
    drop(second);
    eventually("the places are free again", || hub.member_count("r1") == 1).await;
    third.join("r1").await;
}

async fn refused(client: &mut outspoke_testkit::ScriptedClient, room: &str) -> String {
    client.send(json!({ "type": "subscribe", "room": room, "id": 7 })).await;
    let error = client.expect("error").await;
    assert_eq!(error["id"], 7, "{error}");
    error["error"].as_str().unwrap().to_owned()
}

/// Many clients on many shards at once may not create more rooms than allowed, or leave one without members.
#[tokio::test]
async fn room_limit_holds_when_rooms_are_made_on_several_shards_at_once() {
    let hub = threaded_hub(4, |config| config.rooms_max = 10);
    let clients = (0..40).map(|number| {
        let hub = hub.clone();
        tokio::spawn(async move {
            let mut client = welcomed(&hub, &format!("user{number}")).await;
            client.send(json!({ "type": "subscribe", "room": format!("r{number}") })).await;
            let answer = client.next().await;
            (client, answer.kind() == Some("subscribed"))
        })
    });
    let mut joined = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        joined.push(client.await.unwrap());
    }
    assert_eq!(joined.iter().filter(|(_, joined)| *joined).count(), 10);
    assert_eq!(hub.room_count(), 10);
    drop(joined);
    eventually("every room has ended", || hub.room_count() == 0).await;
}

/// A client put into a room at connect gets its welcome first, then the room.
#[tokio::test(start_paused = true)]
async fn default_room_comes_right_after_the_welcome() {
    let hub = hub(|config| config.rooms.default_mut().announce = true);
    let attach = user("a").into_room(RoomName::new("lobby", 9).unwrap());
    let (mut client, _) = attach_with(&hub, attach, 4096);
    for kind in ["welcome", "subscribed"] {
        client.expect(kind).await;
    }
}

/// A frame pushed from `on_connect` is behind the welcome.
#[tokio::test(start_paused = true)]
async fn what_on_connect_pushes_comes_after_the_welcome() {
    let cell = std::sync::Arc::new(std::sync::OnceLock::<outspoke_hub::Hub>::new());
    let shared = std::sync::Arc::clone(&cell);
    let builder = outspoke_hub::Hub::builder().on_connect(move |client| {
        shared.get().unwrap().push(client.id(), &Frame::text("hello")).unwrap();
    });
    let hub = crate::support::hub_of(builder, |_| {});
    cell.set(hub.clone()).unwrap();
    let (mut client, _) = attach_with(&hub, user("a"), 4096);
    client.expect("welcome").await;
    assert_eq!(client.next().await, Received::Text("hello".into()));
}
