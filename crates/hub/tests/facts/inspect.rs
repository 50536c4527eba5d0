//! What operators see of connections as it happens, and what they may do to one.

use std::time::Duration;

use outspoke_hub::{
    Attach, Body, Disconnect, Durability, Following, Hub, Identity, Kind, RoomName, Sight, Sighting,
    SlowClient, UserId,
};
use outspoke_testkit::{attach_with, settle};
use serde_json::json;

use crate::support::{hub, member, publish, welcomed};

fn room(name: &str) -> Following {
    Following::Room(RoomName::new(name, 128).unwrap())
}

fn of(user: &str) -> Following {
    Following::User(UserId::new(user))
}

/// What is waiting for a follower.
async fn seen(follower: &mut outspoke_hub::Follower) -> Vec<Sighting> {
    let mut seen = Vec::new();
    while let Ok(Some(sighting)) = tokio::time::timeout(Duration::from_millis(1), follower.next()).await {
        seen.push(sighting);
    }
    seen
}

fn sights(seen: &[Sighting]) -> Vec<Sight> {
    seen.iter().map(|sighting| sighting.sight).collect()
}

#[tokio::test(start_paused = true)]
async fn follower_of_a_room_sees_who_comes_what_is_said_and_who_goes_and_nothing_of_other_rooms() {
    let hub = hub(|_| {});
    let mut follower = hub.follow(room("x"), false).unwrap();
    let mut with_payload = hub.follow(room("x"), true).unwrap();
    let mut ana = member(&hub, "ana", "x").await;
    let _other = member(&hub, "ben", "y").await;
    publish(&hub, "y", 1);
    ana.say("x", "a secret").await;
    ana.expect("chat").await;
    ana.close(1000, "bye").await;
    settle().await;
    let told = seen(&mut follower).await;
    assert_eq!(sights(&told), [Sight::Joined, Sight::Published, Sight::Closed, Sight::Left], "{told:?}");
    assert!(told.iter().all(|sighting| sighting.user == Some(UserId::new("ana"))));
    let said = &told[1];
    assert_eq!((said.offset, said.count), (Some(1), Some(8)));
    assert!(said.message.is_none(), "what was said was not asked for");
    assert_eq!(told[2].code, Some(1000));
    let told = seen(&mut with_payload).await;
    assert_eq!(told[1].message.as_ref().unwrap().body, Body::Text("a secret".into()));
}

#[tokio::test(start_paused = true)]
async fn follower_of_a_user_sees_refusals_and_what_ends_a_connection() {
    let hub = hub(|config| config.rooms.default_mut().members_max = 1);
    let _full = member(&hub, "first", "x").await;
    let mut follower = hub.follow(of("ana"), false).unwrap();
    let mut ana = welcomed(&hub, "ana").await;
    ana.send(json!({ "type": "subscribe", "room": "x" })).await;
    ana.expect("error").await;
    hub.disconnect_everywhere(&UserId::new("ana"), Disconnect::Kicked, "enough").await;
    settle().await;
    let told = seen(&mut follower).await;
    assert_eq!(sights(&told), [Sight::Connected, Sight::Refused, Sight::Closed], "{told:?}");
    assert_eq!(told[2].code, Some(4501), "{:?}", told[2]);
    drop(follower);
    welcomed(&hub, "ana").await;
}

/// Nobody waits for a follower.
#[tokio::test(start_paused = true)]
async fn follower_that_reads_slowly_is_told_how_much_it_has_lost() {
    // Nobody is in it: a member that does not read would be seen, too.
    let hub = hub(|config| config.rooms.default_mut().durability = Durability::Memory);
    let mut follower = hub.follow(room("x"), false).unwrap();
    for number in 0..1500 {
        publish(&hub, "x", number);
    }
    settle().await;
    let told = seen(&mut follower).await;
    assert_eq!(told.len(), 1025);
    let last = told.last().unwrap();
    assert_eq!((last.sight, last.count), (Sight::Lost, Some(1500 - 1024)));
    publish(&hub, "x", 1);
    let told = seen(&mut follower).await;
    assert_eq!((told[0].sight, told[0].offset), (Sight::Published, Some(1501)));
}

#[tokio::test(start_paused = true)]
async fn followers_are_so_many_at_most_and_end_with_the_hub() {
    let hub = hub(|_| {});
    let mut followers: Vec<_> = (0..32).map(|_| hub.follow(room("x"), false).unwrap()).collect();
    assert!(hub.follow(room("x"), false).is_err());
    followers.pop();
    let mut last = hub.follow(of("ana"), false).unwrap();
    assert!(hub.shutdown(Duration::from_secs(5)).await);
    assert!(last.next().await.is_none());
    assert!(hub.follow(room("x"), false).is_err());
}

fn slow_hub(policy: SlowClient) -> Hub {
    hub(|config| {
        config.rooms.default_mut().slow_client = policy;
        config.rooms.default_mut().durability = Durability::Memory;
        config.message_bytes_max = 1000;
        config.outbox_bytes_max = 4000;
        config.write_timeout = Duration::ZERO;
    })
}

/// A real peer that does not read would do the same.
#[tokio::test(start_paused = true)]
async fn client_that_is_slowed_down_meets_its_rooms_policy_and_reads_on_afterwards() {
    let hub = slow_hub(SlowClient::DropOldest);
    let (mut ana, handle) = attach_with(&hub, Attach::new(Identity::user("ana")), 65536);
    ana.expect("welcome").await;
    ana.join("x").await;
    let mut follower = hub.follow(room("x"), false).unwrap();
    assert!(hub.slow_down(handle.id(), Duration::from_secs(10)).await);
    for _ in 0..100 {
        hub.publish("x", Kind::Data, Body::json(&"x".repeat(100)).unwrap()).unwrap();
        settle().await;
    }
    assert!(ana.received().is_empty() && handle.queued_bytes() > 3000);
    let state = hub.connection_states(std::slice::from_ref(&handle), true).await.pop().flatten().unwrap();
    let place = &state.rooms[0];
    assert!(state.slowed && state.stuck.is_some());
    assert_eq!((place.joined, place.head), (0, 100));
    assert!((50..100).contains(&place.offset), "{place:?}");
    tokio::time::sleep(Duration::from_secs(11)).await;
    settle().await;
    let offsets = crate::support::offsets(&ana.received());
    assert_eq!(offsets.last(), Some(&100));
    let told = seen(&mut follower).await;
    let count = |sight| told.iter().filter(|sighting| sighting.sight == sight).count();
    assert_eq!((count(Sight::Slow), count(Sight::CaughtUp)), (1, 1), "{:?}", sights(&told));
    let skipped = told.iter().filter(|sighting| sighting.sight == Sight::Skipped);
    assert_eq!(skipped.filter_map(|skipped| skipped.count).sum::<u64>(), 100 - offsets.len() as u64);
    publish(&hub, "x", 1);
    ana.find("message").await;
    let state = hub.connection_states(&[handle], true).await.pop().flatten().unwrap();
    assert!(!state.slowed && state.stuck.is_none());
    assert_eq!((state.rooms[0].offset, state.rooms[0].head), (101, 101));
}

#[tokio::test(start_paused = true)]
async fn client_that_is_slowed_down_can_be_disconnected_and_others_are_not_touched() {
    let hub = slow_hub(SlowClient::Disconnect);
    let (mut ana, handle) = attach_with(&hub, Attach::new(Identity::user("ana")), 65536);
    ana.expect("welcome").await;
    ana.join("x").await;
    let mut ben = member(&hub, "ben", "x").await;
    assert!(hub.slow_down(handle.id(), Duration::from_secs(60)).await);
    publish(&hub, "x", 1);
    ben.expect("message").await;
    assert!(hub.disconnect(handle.id(), Disconnect::Kicked));
    assert_eq!(ana.closed().await, Some(4501));
    assert!(!hub.slow_down(handle.id(), Duration::from_secs(60)).await);
    assert!(hub.connection_states(&[handle], false).await[0].is_none());
}

#[tokio::test(start_paused = true)]
async fn round_trip_is_known_once_a_ping_is_answered() {
    let hub = hub(|config| config.heartbeat.ping_interval = Duration::from_secs(10));
    let (mut ana, handle) = attach_with(&hub, Attach::new(Identity::user("ana")), 4096);
    ana.expect("welcome").await;
    let state =
        async || hub.connection_states(std::slice::from_ref(&handle), false).await.pop().flatten().unwrap();
    assert!(state().await.round_trip.is_none());
    tokio::time::sleep(Duration::from_secs(11)).await;
    settle().await;
    ana.next().await;
    ana.pong(b"").await;
    settle().await;
    assert!(state().await.round_trip.is_some());
}
