//! Who is in a room, what the others are told of it and when, who is typing, and who was seen last.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::store::MemoryStore;
use outspoke_hub::{
    Attach, Client, Disconnect, Durability, Hub, HubConfig, Identity, Publishers, RoomClass, UserId,
};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{PATIENCE, eventually, hub, hub_of, kinds, member, publish, threaded_hub, welcomed};

const SECOND: Duration = Duration::from_secs(1);

/// A hub that tells who comes and goes, and pings nobody.
fn telling(change: impl FnOnce(&mut RoomClass)) -> Hub {
    hub(|config| tell(config, change))
}

fn tell(config: &mut HubConfig, change: impl FnOnce(&mut RoomClass)) {
    config.heartbeat.ping_interval = Duration::ZERO;
    config.heartbeat.pong_timeout = Duration::ZERO;
    let class = config.rooms.default_mut();
    class.announce = true;
    change(class);
}

fn graceful(class: &mut RoomClass) {
    class.leave_grace = 10 * SECOND;
}

/// A user's device in the room `x`.
async fn device(hub: &Hub, user: &str, device: &str) -> (ScriptedClient, Arc<Client>) {
    let identity = Identity::user(user).named(user).on_device(device);
    arrive(hub, identity).await
}

async fn arrive(hub: &Hub, identity: Identity) -> (ScriptedClient, Arc<Client>) {
    let (client, handle) = attach_with(hub, Attach::new(identity), 64 * 1024);
    let mut client = client.with_patience(PATIENCE);
    client.expect("welcome").await;
    client.join("x").await;
    (client, handle)
}

/// Comes, and has heard of nobody.
async fn watcher(hub: &Hub) -> ScriptedClient {
    member(hub, "watcher", "x").await
}

async fn ask(client: &mut ScriptedClient, request: Value) -> Value {
    client.send(request).await;
    client.find("presence").await
}

async fn refused(client: &mut ScriptedClient, request: Value) -> String {
    client.send(request).await;
    client.find("error").await["error"].as_str().unwrap().to_owned()
}

/// The users of an answer, and for each how many devices it has and whether it is there.
fn users(presence: &Value) -> Vec<(String, usize, bool)> {
    let user = |user: &Value| {
        let devices = user["devices"].as_array().unwrap().len();
        (user["userId"].as_str().unwrap().to_owned(), devices, user["online"].as_bool().unwrap())
    };
    presence["users"].as_array().unwrap().iter().map(user).collect()
}

/// What a client has been told of comings and goings since it was last asked.
fn told(client: &mut ScriptedClient) -> Vec<String> {
    let word = |received: Received| match received {
        Received::Json(value) if value["type"] == "join" || value["type"] == "leave" => {
            Some(format!("{} {}", value["type"].as_str().unwrap(), value["userId"].as_str().unwrap()))
        }
        Received::Json(value) if value["type"] == "presence_change" => Some(value.to_string()),
        _ => None,
    };
    client.received().into_iter().filter_map(word).collect()
}

// ---- who is here ----

#[tokio::test(start_paused = true)]
async fn presence_pages_through_users_in_the_order_of_their_ids() {
    let hub = telling(|class| class.announce = false);
    let mut clients = Vec::new();
    // Not in their order, and more than a short list holds.
    for number in (0..25).map(|number| number * 7 % 25) {
        clients.push(member(&hub, &format!("user{number:02}"), "x").await);
    }
    let (_nameless, _) = arrive(&hub, Identity::user("nameless")).await;
    let client = &mut clients[3];
    let mut seen = Vec::new();
    let mut request = json!({ "type": "presence", "room": "x", "limit": 10, "id": 1 });
    let mut pages = 0;
    loop {
        let page = ask(client, request.clone()).await;
        pages += 1;
        assert_eq!((&page["id"], &page["room"]), (&json!(1), &json!("x")));
        assert_eq!((&page["userCount"], &page["members"]), (&json!(25), &json!(26)), "{page}");
        seen.extend(users(&page));
        let Some(next) = page.get("next") else { break };
        request["after"] = next.clone();
    }
    let expected: Vec<_> = (0..25).map(|number| (format!("user{number:02}"), 1, true)).collect();
    assert_eq!((seen, pages), (expected, 3));
    let counts = ask(client, json!({ "type": "presence", "room": "x", "limit": 0 })).await;
    assert_eq!((users(&counts), &counts["userCount"], counts.get("next")), (vec![], &json!(25), None));
    let page = ask(client, json!({ "type": "presence", "room": "x" })).await;
    assert_eq!((users(&page).len(), page.get("next")), (25, None), "the default is a hundred");
    let of_api = hub.presence("x", Some(&UserId::new("user22")), 1).unwrap();
    assert_eq!((of_api.users, of_api.members, of_api.page[0].user.as_str()), (25, 26, "user23"));
    assert_eq!(of_api.next, Some(UserId::new("user23")));
    assert_eq!(hub.presence("y", None, 10), None, "there is no such room");
    clients.truncate(2);
    settle().await;
    let left = hub.presence("x", None, 10).unwrap();
    assert_eq!((left.users, left.members), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn presence_is_for_members_of_rooms_that_have_it() {
    let hub = telling(|class| class.presence = false);
    let mut client = watcher(&hub).await;
    let request = json!({ "type": "presence", "room": "x" });
    assert_eq!(refused(&mut client, request).await, "forbidden");
    assert_eq!(refused(&mut client, json!({ "type": "typing", "room": "x" })).await, "forbidden");
    assert_eq!(refused(&mut client, json!({ "type": "presence", "room": "y" })).await, "not_subscribed");
    assert_eq!(hub.presence("x", None, 10), None);
    let _guest = member(&hub, "guest", "x").await;
    assert_eq!(client.expect("join").await["userId"], "guest", "that is another matter");
}

#[tokio::test(start_paused = true)]
async fn presence_shows_what_the_credential_says_of_a_user() {
    let hub = telling(|_| {});
    let claims = json!({ "info": { "avatar": "/a.png" }, "secret": "s3cret" });
    let identity = Identity::user("ada").named("Ada").on_device("phone").with_claims(claims);
    let (mut client, handle) = arrive(&hub, identity).await;
    let page = ask(&mut client, json!({ "type": "presence", "room": "x" })).await;
    let user = &page["users"][0];
    assert_eq!(user["username"], "Ada");
    assert_eq!(user["info"], json!({ "avatar": "/a.png" }));
    assert_eq!(user["devices"][0]["clientId"], handle.id().to_string());
    assert_eq!(user["devices"][0]["device"], "phone");
    assert!(!page.to_string().contains("s3cret"), "claims are not for everybody");
}

/// Whoever asks would be closed as a slow client by an answer that is too large.
#[tokio::test(start_paused = true)]
async fn presence_page_ends_early_where_users_have_much_to_show() {
    let hub = telling(|class| class.announce = false);
    let info = "x".repeat(20_000);
    let mut clients = Vec::new();
    for number in 0..60 {
        let claims = json!({ "info": info });
        let identity = Identity::user(format!("u{number:02}")).named("u").with_claims(claims);
        clients.push(arrive(&hub, identity).await);
    }
    let client = &mut clients[0].0;
    let (mut seen, mut pages) = (0, 0);
    let mut request = json!({ "type": "presence", "room": "x", "limit": 1000 });
    loop {
        let page = ask(client, request.clone()).await;
        assert!(page.to_string().len() <= 512 * 1024);
        pages += 1;
        seen += users(&page).len();
        let Some(next) = page.get("next") else { break };
        request["after"] = next.clone();
    }
    assert_eq!(seen, 60);
    assert!(pages > 1);
}

// ---- comings and goings ----

/// People come and go; that one of them opens a second tab is nobody's business.
#[tokio::test(start_paused = true)]
async fn user_with_several_devices_comes_with_the_first_and_goes_with_the_last() {
    let hub = telling(|_| {});
    let mut watcher = watcher(&hub).await;
    let (phone, phone_handle) = device(&hub, "ada", "phone").await;
    let join = watcher.expect("join").await;
    assert_eq!(join["clientId"], phone_handle.id().to_string());
    let (mut laptop, _) = device(&hub, "ada", "laptop").await;
    let page = ask(&mut watcher, json!({ "type": "presence", "room": "x" })).await;
    assert_eq!(users(&page), [("ada".to_owned(), 2, true), ("watcher".to_owned(), 1, true)]);
    assert_eq!((&page["userCount"], &page["members"]), (&json!(2), &json!(3)));
    drop(phone);
    settle().await;
    assert_eq!(told(&mut watcher), [""; 0]);
    laptop.close(1000, "").await;
    let leave = watcher.expect("leave").await;
    assert_eq!(leave["clientId"], join["clientId"], "both name the same connection");
    settle().await;
    assert_eq!(told(&mut watcher), [""; 0]);
}

/// A train in a tunnel must not fill the room with noise.
#[tokio::test(start_paused = true)]
async fn lost_connection_that_is_back_within_the_grace_is_neither_leave_nor_join() {
    let hub = telling(graceful);
    let mut watcher = watcher(&hub).await;
    let (ada, _) = device(&hub, "ada", "phone").await;
    assert_eq!(watcher.expect("join").await["userId"], "ada");
    drop(ada);
    sleep(5 * SECOND).await;
    let page = ask(&mut watcher, json!({ "type": "presence", "room": "x" })).await;
    assert_eq!(users(&page)[0], ("ada".to_owned(), 0, false), "who has not left is still shown");
    assert_eq!((&page["userCount"], &page["members"]), (&json!(2), &json!(1)));
    // Another device is the same user.
    let (ada, _) = device(&hub, "ada", "laptop").await;
    sleep(60 * SECOND).await;
    assert_eq!(told(&mut watcher), [""; 0]);
    drop(ada);
    sleep(9 * SECOND).await;
    assert_eq!(told(&mut watcher), [""; 0]);
    sleep(3 * SECOND).await;
    assert_eq!(told(&mut watcher), ["leave ada"]);
    let page = ask(&mut watcher, json!({ "type": "presence", "room": "x" })).await;
    assert_eq!(users(&page), [("watcher".to_owned(), 1, true)]);
    sleep(60 * SECOND).await;
    assert_eq!(told(&mut watcher), [""; 0], "once");
    let (_ada, _) = device(&hub, "ada", "phone").await;
    settle().await;
    assert_eq!(told(&mut watcher), ["join ada"]);
}

/// Who wants to go has gone; only for who was lost it is worth waiting.
#[tokio::test(start_paused = true)]
async fn grace_is_for_those_whose_connection_was_lost() {
    let hub = telling(graceful);
    let mut watcher = watcher(&hub).await;
    for way in 0..8 {
        let (mut client, handle) = match way {
            4 => arrive(&hub, anonymous()).await,
            _ => device(&hub, "ada", "phone").await,
        };
        let user = handle.user().to_string();
        assert_eq!(watcher.expect("join").await["userId"], user.as_str());
        match way {
            0 => client.send(json!({ "type": "unsubscribe", "room": "x" })).await,
            1 => client.close(1000, "").await,
            2 => assert!(hub.disconnect(handle.id(), Disconnect::Kicked)),
            3 => hub.leave(handle.id(), "x").await.unwrap(),
            4 => client.stream().close(),
            // From here on it may come back: a reloaded page, a broken stream, a peer that did not read.
            5 => client.close(1001, "").await,
            6 => client.stream().close(),
            _ => assert!(hub.disconnect(handle.id(), Disconnect::HeartbeatTimeout)),
        }
        settle().await;
        if way < 5 {
            assert_eq!(told(&mut watcher), [format!("leave {user}")], "way {way}");
        } else {
            assert_eq!(told(&mut watcher), [""; 0], "way {way}");
            sleep(12 * SECOND).await;
            assert_eq!(told(&mut watcher), [format!("leave {user}")], "way {way}");
        }
        drop(client);
        settle().await;
    }
}

fn anonymous() -> Identity {
    Identity::anonymous().named("somebody")
}

/// A page that is opened anew evicts the old one: that is no coming and going, whatever the class's grace.
#[tokio::test(start_paused = true)]
async fn replaced_connection_is_neither_leave_nor_join() {
    for grace in [Duration::ZERO, 2 * SECOND] {
        let hub = telling(|class| class.leave_grace = grace);
        let mut watcher = watcher(&hub).await;
        let (mut old, old_handle) = device(&hub, "ada", "phone").await;
        watcher.expect("join").await;
        let (mut new, new_handle) = device(&hub, "ada", "phone").await;
        assert_eq!(old.closed().await, Some(Disconnect::Replaced.code()));
        sleep(60 * SECOND).await;
        assert_eq!(told(&mut watcher), [""; 0]);
        let page = hub.presence("x", None, 10).unwrap();
        assert_eq!((page.users, page.members, page.page[0].devices.len()), (2, 2, 1));
        assert_eq!(page.page[0].devices[0].client, new_handle.id());
        new.close(1000, "").await;
        assert_eq!(watcher.expect("leave").await["clientId"], old_handle.id().to_string());
    }
}

/// ... but the newer connection may have no use for the room.
#[tokio::test(start_paused = true)]
async fn replaced_connection_that_does_not_come_back_to_the_room_has_left() {
    let hub = telling(|_| {});
    let mut watcher = watcher(&hub).await;
    let (_old, _) = device(&hub, "ada", "phone").await;
    watcher.expect("join").await;
    let attach = Attach::new(Identity::user("ada").named("ada").on_device("phone"));
    let (mut new, _) = attach_with(&hub, attach, 4096);
    new.expect("welcome").await;
    sleep(4 * SECOND).await;
    assert_eq!(told(&mut watcher), [""; 0]);
    sleep(2 * SECOND).await;
    assert_eq!(told(&mut watcher), ["leave ada"]);
    new.join("x").await;
    settle().await;
    assert_eq!(told(&mut watcher), ["join ada"]);
}

/// When the network blinks everybody is lost at once, and back at once: the room is the same, and quiet.
#[tokio::test(start_paused = true)]
async fn room_that_empties_waits_for_those_who_were_lost() {
    let hub = telling(graceful);
    let mut ada = member(&hub, "ada", "x").await;
    let bob = member(&hub, "bob", "x").await;
    assert_eq!(told(&mut ada), ["join bob"]);
    publish(&hub, "x", 1);
    drop((ada, bob));
    sleep(3 * SECOND).await;
    assert_eq!((hub.room_count(), hub.member_count("x")), (1, 0));
    let mut ada = welcomed(&hub, "ada").await;
    assert_eq!(ada.join("x").await["offset"], 1, "the room that was left");
    let bob = member(&hub, "bob", "x").await;
    sleep(60 * SECOND).await;
    assert_eq!(told(&mut ada), [""; 0]);
    drop((ada, bob));
    sleep(60 * SECOND).await;
    assert_eq!(hub.room_count(), 0, "nobody is expected any more");
}

/// Without a grace a room ends with its last member, whatever is expected of a replaced one.
#[tokio::test(start_paused = true)]
async fn empty_room_without_a_grace_waits_for_nobody() {
    let hub = telling(|_| {});
    let (_old, _) = device(&hub, "ada", "phone").await;
    let attach = Attach::new(Identity::user("ada").named("ada").on_device("phone"));
    let (mut new, _) = attach_with(&hub, attach, 4096);
    new.expect("welcome").await;
    assert_eq!(hub.room_count(), 0);
}

/// At the end of the hub everybody goes; nobody needs a list of them.
#[tokio::test(start_paused = true)]
async fn shutdown_tells_no_leaves_neither_new_ones_nor_those_held_back() {
    let hub = telling(graceful);
    let mut watcher = watcher(&hub).await;
    let lost = member(&hub, "lost", "x").await;
    let _there = member(&hub, "there", "x").await;
    assert_eq!(told(&mut watcher), ["join lost", "join there"]);
    drop(lost);
    sleep(9 * SECOND).await;
    assert!(hub.shutdown(60 * SECOND).await);
    assert_eq!(kinds(&watcher.received()), ["no json", "no json"], "a close frame and the end");
}

// ---- crowds ----

fn crowded(class: &mut RoomClass) {
    class.announce_members_max = 2;
    class.crowd_interval = 4 * SECOND;
}

fn names(crowd: &Value, side: &str) -> Vec<String> {
    crowd[side].as_array().unwrap().iter().map(|user| user["userId"].as_str().unwrap().to_owned()).collect()
}

/// In a room of thousands each coming would cost thousands of writes, and nobody could follow.
#[tokio::test(start_paused = true)]
async fn comings_and_goings_in_a_crowd_are_told_together() {
    let hub = telling(crowded);
    let mut watcher = watcher(&hub).await;
    let mut guests = Vec::new();
    for number in 0..30 {
        guests.push(member(&hub, &format!("guest{number:02}"), "x").await);
    }
    settle().await;
    assert_eq!(told(&mut watcher), ["join guest00", "join guest01"]);
    sleep(5 * SECOND).await;
    let crowd = watcher.expect("presence_change").await;
    assert_eq!(
        (&crowd["room"], &crowd["userCount"], &crowd["members"]),
        (&json!("x"), &json!(31), &json!(31))
    );
    assert_eq!((&crowd["joinedCount"], &crowd["leftCount"]), (&json!(28), &json!(0)));
    let expected: Vec<_> = (2..22).map(|number| format!("guest{number:02}")).collect();
    assert_eq!((names(&crowd, "joined"), names(&crowd, "left")), (expected, vec![]));
    sleep(20 * SECOND).await;
    assert_eq!(told(&mut watcher), [""; 0], "nothing happened");
    // Gone, come and gone, gone and come: only the first is news.
    drop(guests.pop());
    settle().await;
    drop(member(&hub, "passer-by", "x").await);
    drop(guests.remove(0));
    settle().await;
    guests.push(member(&hub, "guest00", "x").await);
    sleep(5 * SECOND).await;
    let crowd = watcher.expect("presence_change").await;
    assert_eq!((&crowd["joinedCount"], &crowd["leftCount"]), (&json!(0), &json!(1)), "{crowd}");
    assert_eq!(names(&crowd, "left"), ["guest29"]);
}

/// What was not told yet is not told at all, when the room has become small enough to tell it one by one.
#[tokio::test(start_paused = true)]
async fn crowd_that_shrinks_takes_back_what_was_not_told() {
    let hub = telling(crowded);
    let mut watcher = watcher(&hub).await;
    let first = member(&hub, "first", "x").await;
    let second = member(&hub, "second", "x").await;
    let third = member(&hub, "third", "x").await;
    let fourth = member(&hub, "fourth", "x").await;
    assert_eq!(told(&mut watcher), ["join first", "join second"]);
    drop(first);
    drop(second);
    settle().await;
    drop(third);
    settle().await;
    sleep(5 * SECOND).await;
    let crowd = watcher.expect("presence_change").await;
    assert_eq!(names(&crowd, "joined"), ["fourth"], "the third came and went");
    assert_eq!(names(&crowd, "left"), ["first", "second"]);
    assert_eq!((&crowd["userCount"], &crowd["members"]), (&json!(2), &json!(2)));
    drop(fourth);
    settle().await;
    assert_eq!(told(&mut watcher), ["leave fourth"]);
}

// ---- typing ----

#[tokio::test(start_paused = true)]
async fn typing_is_told_to_the_room_at_most_once_a_second() {
    let hub = telling(|_| {});
    let mut watcher = watcher(&hub).await;
    let (mut ada, handle) = device(&hub, "ada", "phone").await;
    watcher.expect("join").await;
    // Shards count time from their first tick.
    sleep(5 * SECOND).await;
    for _ in 0..10 {
        ada.send(json!({ "type": "typing", "room": "x" })).await;
    }
    let typing = watcher.expect("typing").await;
    for (key, value) in [("room", json!("x")), ("userId", json!("ada")), ("active", json!(true))] {
        assert_eq!(typing[key], value, "{typing}");
    }
    assert_eq!(typing["clientId"], handle.id().to_string());
    assert_eq!(typing["expiresAfter"], 6000);
    assert!(typing.get("offset").is_none(), "it is no part of the log");
    assert_eq!(ada.expect("typing").await["userId"], "ada", "everybody is told");
    settle().await;
    assert_eq!(watcher.received(), []);
    // Its end is told at once, and only once.
    for _ in 0..3 {
        ada.send(json!({ "type": "typing", "room": "x", "active": false })).await;
        ada.send(json!({ "type": "typing", "room": "x" })).await;
    }
    assert_eq!(watcher.expect("typing").await["active"], false);
    settle().await;
    assert_eq!(watcher.received(), []);
    let mut told = 0;
    for _ in 0..200 {
        ada.send(json!({ "type": "typing", "room": "x" })).await;
        sleep(SECOND / 10).await;
        told += watcher.received().len();
    }
    assert!((10..=20).contains(&told), "{told} in 20 seconds");
    assert_eq!(watcher.join("x").await["head"], 0);
}

#[tokio::test(start_paused = true)]
async fn typing_is_for_named_members_of_rooms_that_they_can_publish_to() {
    let hub = telling(|_| {});
    let mut client = watcher(&hub).await;
    assert_eq!(refused(&mut client, json!({ "type": "typing", "room": "y" })).await, "not_subscribed");
    let (mut nameless, _) = arrive(&hub, Identity::user("nameless")).await;
    let request = json!({ "type": "typing", "room": "x" });
    assert_eq!(refused(&mut nameless, request.clone()).await, "username_required");
    let hub = telling(|class| class.publishers = Publishers::Server);
    let mut client = watcher(&hub).await;
    assert_eq!(refused(&mut client, request).await, "forbidden");
}

#[tokio::test(start_paused = true)]
async fn typing_is_not_told_in_a_crowd() {
    let hub = telling(crowded);
    let mut watcher = watcher(&hub).await;
    let mut ada = member(&hub, "ada", "x").await;
    let third = member(&hub, "third", "x").await;
    drop(watcher.received());
    sleep(5 * SECOND).await;
    ada.send(json!({ "type": "typing", "room": "x" })).await;
    settle().await;
    assert!(!kinds(&watcher.received()).contains(&"typing"));
    drop(third);
    sleep(5 * SECOND).await;
    ada.send(json!({ "type": "typing", "room": "x" })).await;
    assert_eq!(watcher.find("typing").await["userId"], "ada");
}

// ---- last seen ----

fn stored(class: &mut RoomClass) {
    class.durability = Durability::Stored;
}

/// "Last seen yesterday" must be true tomorrow, too, when the hub has been started anew.
#[tokio::test(start_paused = true)]
async fn last_seen_of_a_stored_room_is_kept_when_the_hub_ends() {
    let store = Arc::new(MemoryStore::new());
    let start = |store: &Arc<MemoryStore>| {
        let builder = Hub::builder().store("memory", Arc::<MemoryStore>::clone(store));
        hub_of(builder, |config| tell(config, stored))
    };
    let hub = start(&store);
    let (ada, bob, somebody) = (UserId::new("ada"), UserId::new("bob"), anonymous());
    assert_eq!(hub.last_seen("x", &ada).await.unwrap(), None, "never");
    let before = now();
    let (phone, _) = device(&hub, "ada", "phone").await;
    let (laptop, _) = device(&hub, "ada", "laptop").await;
    let (_bob, _) = device(&hub, "bob", "phone").await;
    let (_somebody, _) = arrive(&hub, somebody.clone()).await;
    drop(phone);
    settle().await;
    assert!(hub.last_seen("x", &ada).await.unwrap().unwrap().as_millis() >= before, "she is there");
    drop(laptop);
    settle().await;
    let seen = hub.last_seen("x", &ada).await.unwrap().unwrap();
    assert!((before..=now()).contains(&seen.as_millis()));
    assert_eq!(hub.last_seen("x", &ada).await.unwrap(), Some(seen), "it does not go on");
    assert_eq!(hub.last_seen("y", &ada).await.unwrap(), None, "another room");
    assert_eq!(hub.in_tenant("other").last_seen("x", &ada).await.unwrap(), None, "another tenant");
    assert!(hub.shutdown(60 * SECOND).await);
    let hub = start(&store);
    assert_eq!(hub.last_seen("x", &ada).await.unwrap(), Some(seen));
    assert!(hub.last_seen("x", &bob).await.unwrap().unwrap() >= seen, "who was there to the end");
    assert_eq!(hub.last_seen("x", &somebody.user).await.unwrap(), None, "nobody asks for a made-up id");
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn last_seen_is_unknown_in_rooms_that_store_nothing() {
    let hub = telling(|_| {});
    let ada = UserId::new("ada");
    let (client, _) = device(&hub, "ada", "phone").await;
    assert!(hub.last_seen("x", &ada).await.unwrap().is_some(), "she is there");
    drop(client);
    settle().await;
    assert_eq!(hub.last_seen("x", &ada).await.unwrap(), None);
}

// ---- all of it at once ----

/// Whatever meets whatever on several threads: each user's comings and goings alternate, and in the end the roster
/// is who is connected, no ghosts, nobody missing.
#[tokio::test]
async fn presence_converges_to_the_connections_on_several_shards() {
    let hub = threaded_hub(4, |config| {
        tell(config, |class| {
            class.leave_grace = SECOND / 50;
            class.announce_members_max = 100_000;
        });
        // The tick is an eighth of the shortest time-out.
        config.handler_timeout = SECOND / 10;
    });
    let mut watcher = watcher(&hub).await;
    let visitors = (0..8).map(|visitor| {
        let hub = hub.clone();
        tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(visitor);
            let mut kept: Option<ScriptedClient> = None;
            for _ in 0..60 {
                // Two tasks share each user, so that they evict each other.
                let (user, tab) = (format!("user{}", visitor / 2), rng.u8(..2).to_string());
                let identity = Identity::user(user.as_str()).named(user.as_str()).on_device(tab);
                let (client, handle) = attach_with(&hub, Attach::new(identity), 64 * 1024);
                let mut client = client.with_patience(PATIENCE);
                client.send(json!({ "type": "subscribe", "room": "x" })).await;
                if rng.bool() {
                    tokio::task::yield_now().await;
                }
                match rng.u8(..6) {
                    0 => client.close(1000, "").await,
                    1 => drop(hub.disconnect(handle.id(), Disconnect::Kicked)),
                    2 => client.send(json!({ "type": "unsubscribe", "room": "x" })).await,
                    3 => kept = Some(client),
                    4 => sleep(Duration::from_millis(rng.u64(..40))).await,
                    _ => client.stream().close(),
                }
            }
            kept
        })
    });
    let mut kept = Vec::new();
    for visitor in visitors.collect::<Vec<_>>() {
        kept.extend(visitor.await.unwrap());
    }
    let matches = || {
        let page = hub.presence("x", None, 1000).unwrap();
        let connected = hub.member_count("x");
        let devices: usize = page.page.iter().map(|user| user.devices.len()).sum();
        devices == connected && page.members == connected && page.page.iter().all(|user| user.online)
    };
    eventually("nobody is held back", matches).await;
    let there = |hub: &Hub| -> Vec<String> {
        let page = hub.presence("x", None, 1000).unwrap().page;
        page.iter().map(|user| user.user.to_string()).filter(|user| user != "watcher").collect()
    };
    let mut believed = std::collections::BTreeSet::new();
    for round in 0.. {
        let ended = there(&hub);
        // What was told before is before it in the room's order.
        publish(&hub, "x", round);
        loop {
            let Received::Json(event) = watcher.next().await else { continue };
            let user = event["userId"].as_str().unwrap_or_default().to_owned();
            match event["type"].as_str().unwrap() {
                "join" => assert!(believed.insert(user), "came twice: {event}"),
                "leave" => assert!(believed.remove(&user), "went twice: {event}"),
                "message" if event["data"] == round => break,
                other => panic!("{other}"),
            }
        }
        if believed.iter().eq(&ended) {
            break;
        }
        // Somebody's last word was still on the way.
        assert!(round < 10_000, "told of {believed:?}, there are {ended:?}");
        sleep(SECOND / 1000).await;
    }
    drop(kept);
    eventually("everybody has gone", || there(&hub).is_empty()).await;
}
