//! Another configuration while the hub runs: what changes for whom, what cannot, and that nobody notices otherwise.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use outspoke_hub::{
    Attach, AttachError, Disconnect, Durability, ErrorCode, Hub, HubConfig, Identity, InvalidConfig, Kind,
    MemoryConn, Publishers, Quotas, ReconfigureError, RoomClass, RoomName, SlowClient, Takes, TenantPolicy,
};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::shelf::Shelf;
use crate::support::{eventually, hub, hub_of, member, number_body, publish, threaded_hub, welcomed};

const SECOND: Duration = Duration::from_secs(1);

/// Changes the hub's configuration. Returns the fields that changed.
fn change(hub: &Hub, change: impl FnOnce(&mut HubConfig)) -> Vec<&'static str> {
    try_change(hub, change).unwrap()
}

fn try_change(hub: &Hub, change: impl FnOnce(&mut HubConfig)) -> Result<Vec<&'static str>, ReconfigureError> {
    let mut config = HubConfig::clone(&hub.config());
    change(&mut config);
    Ok(hub.reconfigure(config)?.into_iter().map(|changed| changed.field).collect())
}

async fn said(client: &mut ScriptedClient, room: &str, content: &str) -> Value {
    client.send(json!({ "type": "chat", "room": room, "content": content, "id": 1 })).await;
    loop {
        match client.next_but_pings().await {
            Received::Json(value) if value["type"] == "ack" || value["type"] == "error" => return value,
            Received::Json(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn history(client: &mut ScriptedClient, room: &str) -> usize {
    client.send(json!({ "type": "history", "room": room })).await;
    client.find("history").await["messages"].as_array().unwrap().len()
}

// ---- all or nothing ----

#[tokio::test(start_paused = true)]
async fn fields_that_are_decided_at_the_start_are_refused_by_name_and_nothing_changes() {
    let hub = hub(|_| {});
    let before = hub.config();
    let refused = try_change(&hub, |config| {
        config.content_chars_max = 7;
        config.inbox_bytes_max *= 2;
        config.analytics = false;
    });
    assert_eq!(refused, Err(ReconfigureError::Fixed { fields: vec!["inbox_bytes_max", "analytics"] }));
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("inbox_bytes_max, analytics cannot change while the hub runs"), "{text}");
    let refused = try_change(&hub, |config| config.shards = 3).unwrap_err();
    assert_eq!(refused, ReconfigureError::Fixed { fields: vec!["shards"] });
    let refused = try_change(&hub, |config| config.compression.level = 10).unwrap_err();
    assert!(
        matches!(&refused, ReconfigureError::Invalid(InvalidConfig { key: "compression.level", .. })),
        "{refused}"
    );
    assert!(Arc::ptr_eq(&before, &hub.config()), "not even an equal one is in its place");
}

#[tokio::test(start_paused = true)]
async fn class_whose_store_the_hub_has_not_is_refused() {
    let shelf = Shelf::new();
    let hub = hub_of(Hub::builder().store("shelf", shelf), |_| {});
    let class = |store: Option<&str>| {
        let store = store.map(Into::into);
        Arc::new(RoomClass { durability: Durability::Stored, store, ..RoomClass::new("s*") })
    };
    let refused = try_change(&hub, |config| config.rooms.classes = vec![class(Some("attic"))]).unwrap_err();
    assert!(matches!(&refused, ReconfigureError::NoSuchStore { store, .. } if store == "attic"), "{refused}");
    assert_eq!(hub.config().rooms.classes.len(), 0);
    assert_eq!(change(&hub, |config| config.rooms.classes = vec![class(Some("shelf"))]), ["rooms"]);
    let without = crate::support::hub(|_| {});
    assert!(try_change(&without, |config| config.rooms.classes = vec![class(None)]).is_err());
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_with_whom_they_count_for_and_a_check_makes_none() {
    let hub = hub(|_| {});
    let mut config = HubConfig::clone(&hub.config());
    assert_eq!(hub.reconfigure(config.clone()).unwrap(), []);
    config.default_room = Some(RoomName::new("hall", 64).unwrap());
    config.typing_timeout = SECOND;
    let told = |changes: Vec<outspoke_hub::Changed>| {
        changes.into_iter().map(|change| (change.field, change.takes)).collect::<Vec<_>>()
    };
    let expected = [("default_room", Takes::NewClients), ("typing_timeout", Takes::AtOnce)];
    assert_eq!(told(hub.check_reconfigure(&config).unwrap()), expected);
    assert_eq!(hub.config().default_room, None);
    assert_eq!(told(hub.reconfigure(config).unwrap()), expected);
    assert_eq!(hub.config().typing_timeout, SECOND);
}

// ---- limits ----

#[tokio::test(start_paused = true)]
async fn message_size_counts_for_connections_that_are_open() {
    let hub = hub(|config| config.message_bytes_max = 300);
    let mut client = member(&hub, "a", "x").await;
    change(&hub, |config| config.message_bytes_max = 2000);
    assert_eq!(said(&mut client, "x", &"x".repeat(900)).await["type"], "ack");
    change(&hub, |config| config.message_bytes_max = 200);
    client.send(json!({ "type": "chat", "room": "x", "content": "x".repeat(900) })).await;
    assert_eq!(client.closed().await, Some(1009));
}

#[tokio::test(start_paused = true)]
async fn lengths_and_numbers_count_from_the_next_request_on() {
    let hub = hub(|_| {});
    let mut client = member(&hub, "a", "x").await;
    change(&hub, |config| {
        config.content_chars_max = 3;
        config.rooms_per_client_max = 2;
        config.room_name_bytes_max = 4;
    });
    assert_eq!(said(&mut client, "x", "long").await["error"], "content_too_long");
    let mut asked = async |room: &str| {
        client.send(json!({ "type": "subscribe", "room": room, "id": 1 })).await;
        loop {
            let Received::Json(value) = client.next_but_pings().await else { panic!("no JSON") };
            if value["type"] == "subscribed" || value["type"] == "error" {
                return value;
            }
        }
    };
    assert_eq!(asked("hallway").await["error"], "invalid_room");
    assert_eq!(asked("y").await["type"], "subscribed");
    assert_eq!(asked("z").await["error"], "too_many_rooms");
    change(&hub, |config| (config.rooms_per_client_max, config.rooms_max) = (3, 2));
    assert_eq!(asked("z").await["error"], "room_limit");
    change(&hub, |config| config.rooms_max = 3);
    assert_eq!(asked("z").await["type"], "subscribed");
}

#[tokio::test(start_paused = true)]
async fn fewer_places_refuse_newcomers_and_send_nobody_away() {
    let hub = hub(|_| {});
    let mut clients = [welcomed(&hub, "a").await, welcomed(&hub, "b").await];
    let come = || hub.attach(MemoryConn::pair(64).0, Attach::new(Identity::user("c")));
    change(&hub, |config| config.connections_max = 1);
    assert_eq!(come().unwrap_err(), AttachError::TooManyConnections { max: 1 });
    for client in &mut clients {
        client.send(json!({ "type": "ping" })).await;
        client.expect("pong").await;
    }
    change(&hub, |config| config.connections_max = 3);
    assert!(come().is_ok());
    assert!(come().is_err());
    change(&hub, |config| config.connections_max = 0);
    assert!(come().is_ok());
}

/// Open mode has copies of two limits.
#[tokio::test(start_paused = true)]
async fn names_in_open_mode_may_be_as_long_as_the_configuration_says_now() {
    let hub = hub(|config| (config.username_chars_max, config.user_id_bytes_max) = (3, 3));
    let asked = async |query: &str| {
        let (parts, ()) = Request::builder().uri(format!("/ws?{query}")).body(()).unwrap().into_parts();
        hub.authenticator().authenticate(&parts).await.map_err(|error| error.code)
    };
    assert_eq!(asked("username=anna").await, Err(ErrorCode::UsernameTooLong));
    assert_eq!(asked("userId=anna").await, Err(ErrorCode::InvalidIdentity));
    change(&hub, |config| (config.username_chars_max, config.user_id_bytes_max) = (4, 4));
    assert_eq!(asked("username=anna&userId=anna").await.unwrap().name, "anna");
    assert_eq!(asked("username=annas").await, Err(ErrorCode::UsernameTooLong));
}

#[tokio::test(start_paused = true)]
async fn outbox_and_replay_follow() {
    let hub = hub(|_| {});
    let (client, known) = attach_with(&hub, Attach::new(Identity::user("a")), 64);
    settle().await;
    let frame = outspoke_hub::Frame::text("x".repeat(70_000));
    change(&hub, |config| config.outbox_bytes_max = 65_536);
    assert!(hub.push(known.id(), &frame).is_err());
    change(&hub, |config| config.outbox_bytes_max = 1024 * 1024);
    hub.push(known.id(), &frame).unwrap();
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn queue_of_a_store_follows() {
    let shelf = Shelf::new();
    let hub = hub_of(Hub::builder().store("shelf", Arc::clone(&shelf) as _), |config| {
        let class = RoomClass { durability: Durability::Stored, ..RoomClass::new("s*") };
        config.rooms.classes.push(Arc::new(class));
    });
    let mut client = member(&hub, "a", "s").await;
    shelf.set(crate::shelf::Mood::Holds);
    change(&hub, |config| config.store_queue_bytes_max = 1);
    // One is being written, or waits to be.
    let mut refused = false;
    for _ in 0..3 {
        client.send(json!({ "type": "chat", "room": "s", "content": "x", "id": 1 })).await;
    }
    settle().await;
    for message in client.messages() {
        refused |= message["error"] == "unavailable";
    }
    assert!(refused, "nothing may wait");
    shelf.set(crate::shelf::Mood::Works);
    change(&hub, |config| config.store_queue_bytes_max = 1024 * 1024);
    assert_eq!(said(&mut client, "s", "again").await["type"], "ack");
}

// ---- clocks ----

/// The deadlines of connections are counted in ticks, whose length comes from the time-outs.
#[tokio::test(start_paused = true)]
async fn heartbeat_can_begin_become_faster_and_end() {
    let hub = hub(|config| {
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
    });
    let mut client = welcomed(&hub, "a").await;
    sleep(3600 * SECOND).await;
    assert_eq!(client.received(), []);
    change(&hub, |config| {
        config.heartbeat.ping_interval = 10 * SECOND;
        config.heartbeat.pong_timeout = 60 * SECOND;
    });
    // It was silent for long: it is pinged soon, and not taken for dead before it could answer.
    sleep(5 * SECOND).await;
    assert_eq!(client.received(), [Received::Ping("".into())]);
    client.pong(b"").await;
    sleep(55 * SECOND).await;
    assert_eq!(hub.client_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn shorter_silence_counts_for_connections_that_are_open() {
    for (interval, timeout) in [(30, 60), (3600, 7200)] {
        let hub = hub(|config| {
            config.heartbeat.ping_interval = interval * SECOND;
            config.heartbeat.pong_timeout = timeout * SECOND;
        });
        let mut talks = welcomed(&hub, "talks").await;
        let mut silent = welcomed(&hub, "silent").await;
        sleep(20 * SECOND).await;
        talks.send(json!({ "type": "ping" })).await;
        talks.expect("pong").await;
        change(&hub, |config| {
            config.heartbeat.ping_interval = SECOND;
            config.heartbeat.pong_timeout = 2 * SECOND;
        });
        let begun = tokio::time::Instant::now();
        assert_eq!(silent.closed().await, Some(Disconnect::HeartbeatTimeout.code()));
        assert!(begun.elapsed() <= 3 * SECOND, "{:?}", begun.elapsed());
        // What was heard before the change was heard.
        assert!(matches!(talks.next().await, Received::Ping(_)));
    }
}

/// The other way round: what was nearly over lasts for as long as it now may.
#[tokio::test(start_paused = true)]
async fn longer_silence_spares_who_was_about_to_be_let_go() {
    let hub = hub(|config| {
        config.heartbeat.ping_interval = SECOND;
        config.heartbeat.pong_timeout = 4 * SECOND;
    });
    let mut client = welcomed(&hub, "a").await;
    sleep(3 * SECOND).await;
    change(&hub, |config| config.heartbeat.pong_timeout = 600 * SECOND);
    sleep(300 * SECOND).await;
    assert_eq!(hub.client_count(), 1);
    client.pong(b"").await;
    sleep(500 * SECOND).await;
    assert_eq!(hub.client_count(), 1);
    sleep(110 * SECOND).await;
    assert_eq!(hub.client_count(), 0, "since its pong");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn write_timeout_counts_for_what_is_waiting_already() {
    let hub = hub(|config| {
        config.write_timeout = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
    });
    let (slow, known) = attach_with(&hub, Attach::new(Identity::user("slow")), 64);
    settle().await;
    hub.push(known.id(), &outspoke_hub::Frame::text("x".repeat(10_000))).unwrap();
    sleep(100 * SECOND).await;
    assert_eq!(hub.client_count(), 1);
    change(&hub, |config| config.write_timeout = 5 * SECOND);
    sleep(20 * SECOND).await;
    assert_eq!(hub.client_count(), 0, "it is gone without having read");
    drop(slow);
}

// ---- room classes ----

fn memory(pattern: &str) -> RoomClass {
    RoomClass { durability: Durability::Memory, announce: false, ..RoomClass::new(pattern) }
}

fn classed(hub: &Hub, class: RoomClass) {
    change(hub, |config| config.rooms.classes = vec![Arc::new(class)]);
}

#[tokio::test(start_paused = true)]
async fn rooms_that_exist_take_the_other_class() {
    let hub = hub(|config| config.rooms.classes.push(Arc::new(memory("m*"))));
    let mut client = member(&hub, "a", "m").await;
    for content in ["1", "2", "3", "4"] {
        assert_eq!(said(&mut client, "m", content).await["type"], "ack");
    }
    let mut limited = memory("m*");
    limited.history.records_max = 2;
    limited.members_max = 1;
    limited.message_bytes_max = 5;
    classed(&hub, limited.clone());
    assert_eq!(history(&mut client, "m").await, 2, "at once, not with the next message");
    assert_eq!(said(&mut client, "m", "too long").await["error"], "content_too_long");
    let mut second = welcomed(&hub, "b").await;
    second.send(json!({ "type": "subscribe", "room": "m", "id": 1 })).await;
    assert_eq!(second.find("error").await["error"], "room_full");
    classed(&hub, RoomClass { publishers: Publishers::Server, ..limited });
    assert_eq!(said(&mut client, "m", "1").await["error"], "forbidden");
    classed(&hub, RoomClass { amendments: false, ..memory("m*") });
    assert_eq!(said(&mut client, "m", "much longer").await["type"], "ack");
    let edit = json!({ "type": "edit", "room": "m", "offset": 5, "content": "x", "id": 1 });
    client.send(edit).await;
    assert_eq!(client.find("error").await["error"], "forbidden");
    second.join("m").await;
}

/// What is decided when a room begins stays with it, and others begin as the class says now.
#[tokio::test(start_paused = true)]
async fn rooms_keep_where_their_messages_are_and_later_ones_do_not() {
    let shelf = Shelf::new();
    let hub = hub_of(Hub::builder().store("shelf", shelf), |config| {
        config.rooms.classes.push(Arc::new(memory("m*")));
    });
    let mut client = member(&hub, "a", "m1").await;
    said(&mut client, "m1", "kept").await;
    classed(&hub, RoomClass { durability: Durability::None, ..memory("m*") });
    assert_eq!(history(&mut client, "m1").await, 1);
    client.join("m2").await;
    client.send(json!({ "type": "history", "room": "m2", "id": 1 })).await;
    assert_eq!(client.find("error").await["type"], "error");
    classed(&hub, RoomClass { durability: Durability::Stored, ..memory("m*") });
    client.join("m3").await;
    said(&mut client, "m3", "stored").await;
    for (room, durability) in
        [("m1", Durability::Memory), ("m2", Durability::None), ("m3", Durability::Stored)]
    {
        assert_eq!(hub.room(room).await.unwrap().unwrap().durability, durability, "{room}");
    }
    assert_eq!(said(&mut client, "m1", "still").await["offset"], 2);
}

#[tokio::test(start_paused = true)]
async fn comings_and_goings_are_told_from_the_change_on() {
    let quiet = RoomClass { announce: false, ..RoomClass::new("*") };
    let hub = hub(|config| config.rooms.classes.push(Arc::new(quiet.clone())));
    let mut watcher = member(&hub, "watcher", "x").await;
    let second = member(&hub, "second", "x").await;
    classed(&hub, RoomClass { announce: true, ..quiet.clone() });
    let third = member(&hub, "third", "x").await;
    assert_eq!(watcher.find("join").await["userId"], "third");
    drop(second);
    assert_eq!(watcher.find("leave").await["userId"], "second", "it was known before");
    classed(&hub, quiet);
    drop(third);
    settle().await;
    assert!(watcher.messages().is_empty());
}

/// A room that has not counted its members from the beginning would give wrong answers.
#[tokio::test(start_paused = true)]
async fn room_that_never_knew_its_members_does_not_begin_to() {
    let blind = RoomClass { announce: false, presence: false, ..RoomClass::new("*") };
    let hub = hub(|config| config.rooms.classes.push(Arc::new(blind)));
    let mut client = member(&hub, "a", "x").await;
    classed(&hub, RoomClass::new("*"));
    client.send(json!({ "type": "presence", "room": "x", "id": 1 })).await;
    assert_eq!(client.find("error").await["type"], "error");
    client.join("y").await;
    client.send(json!({ "type": "presence", "room": "y", "id": 1 })).await;
    assert_eq!(client.find("presence").await["room"], "y");
}

#[tokio::test(start_paused = true)]
async fn slow_members_are_treated_as_the_class_says_now() {
    let hub = hub(|config| config.outbox_bytes_max = 65_536);
    let (mut slow, _) = attach_with(&hub, Attach::new(Identity::user("slow").named("slow")), 512);
    slow.expect("welcome").await;
    slow.join("x").await;
    change(&hub, |config| config.rooms.default_mut().slow_client = SlowClient::DropNewest);
    for number in 0..3000 {
        publish(&hub, "x", number);
        if number % 100 == 0 {
            settle().await;
        }
    }
    settle().await;
    assert_eq!(hub.client_count(), 1);
    change(&hub, |config| config.rooms.default_mut().slow_client = SlowClient::Disconnect);
    for number in 0..100 {
        publish(&hub, "x", number);
    }
    assert_eq!(slow.closed().await, Some(Disconnect::SlowConsumer.code()));
}

/// Rooms that nobody is in, and that were to stay for a week, go when the class says so.
#[tokio::test(start_paused = true)]
async fn empty_rooms_end_as_soon_as_the_class_says_now() {
    let hub = hub(|config| config.rooms.classes.push(Arc::new(memory("m*"))));
    let mut client = member(&hub, "a", "m").await;
    said(&mut client, "m", "x").await;
    hub.leave(client_id(&hub, "a"), "m").await.unwrap();
    sleep(100 * SECOND).await;
    assert_eq!(hub.room_count(), 1);
    let mut short = memory("m*");
    short.history.age_max = 30 * SECOND;
    classed(&hub, short);
    sleep(40 * SECOND).await;
    assert_eq!(hub.room_count(), 0);
}

fn client_id(hub: &Hub, user: &str) -> outspoke_hub::ClientId {
    hub.clients().iter().find(|client| client.user().as_str() == user).unwrap().id()
}

/// Rooms that begin while classes change must not be left with a class that nobody follows up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_that_begin_during_a_change_have_the_last_class() {
    let hub = threaded_hub(1, |config| config.rooms.classes.push(Arc::new(memory("m*"))));
    let opener = hub.clone();
    let opening = std::thread::spawn(move || {
        for number in 0..2000 {
            drop(opener.publish(&format!("m{number}"), Kind::Data, number_body(1)).unwrap());
        }
    });
    let mut members_max = 1;
    while !opening.is_finished() {
        members_max += 1;
        classed(
            &hub,
            RoomClass { pattern: format!("m*{}", "*".repeat(members_max % 7)).into(), ..memory("") },
        );
    }
    opening.join().unwrap();
    let last = hub.config().rooms.classes[0].pattern.clone();
    for (name, _) in hub.rooms() {
        assert_eq!(hub.room(name.as_str()).await.unwrap().unwrap().class, last, "{name}");
    }
    assert_eq!(hub.room_count(), 2000);
}

// ---- tenants ----

fn of_tenant(tenant: &str, user: &str) -> Attach {
    Attach::new(Identity::user(user).of_tenant(tenant))
}

fn connections(max: usize) -> Quotas {
    Quotas { connections_max: max, ..Quotas::default() }
}

#[tokio::test(start_paused = true)]
async fn quotas_of_all_tenants_follow_and_those_of_one_stay() {
    let builder = Hub::builder().tenant("own", connections(2));
    let hub = hub_of(builder, |config| config.tenant_quotas = connections(1));
    let come = |tenant: &str| hub.attach(MemoryConn::pair(64).0, of_tenant(tenant, "u")).map(|_| ());
    assert!(come("any").is_ok() && come("own").is_ok());
    assert!(come("any").is_err());
    hub.put_tenant("put", connections(1)).await.unwrap();
    change(&hub, |config| config.tenant_quotas = connections(2));
    assert!(come("any").is_ok() && come("any").is_err());
    assert!(come("own").is_ok() && come("own").is_err());
    assert!(come("put").is_ok() && come("put").is_err());
    assert!(come("").is_ok(), "the nameless one has no quotas unless it is given some");
    assert_eq!(change(&hub, |config| config.tenants = TenantPolicy::Known), ["tenants"]);
    assert!(matches!(come("stranger"), Err(AttachError::UnknownTenant { .. })));
}

#[tokio::test(start_paused = true)]
async fn tenants_of_the_list_come_change_and_go() {
    let shelf = Shelf::new();
    for store in [None, Some(shelf)] {
        let mut builder = Hub::builder().tenant("old", connections(0)).tenant("stays", connections(1));
        let is_stored = store.is_some();
        if let Some(store) = store {
            builder = builder.store("shelf", store);
        }
        let hub = hub_of(builder, |config| config.tenants = TenantPolicy::Known);
        hub.tenants_known(SECOND).await;
        let come = |tenant: &str| hub.attach(MemoryConn::pair(64).0, of_tenant(tenant, "v")).map(|_| ());
        let (mut old, _) = attach_with(&hub, of_tenant("old", "u"), 4096);
        old.expect("welcome").await;
        assert!(come("new").is_err());
        assert!(hub.declare_tenants(&[("no name".into(), connections(0))]).is_err());
        assert!(come("old").is_ok(), "nothing changed");
        hub.declare_tenants(&[("new".into(), connections(1)), ("stays".into(), connections(2))]).unwrap();
        assert_eq!(old.closed().await, Some(Disconnect::TenantRemoved.code()), "stored: {is_stored}");
        assert!(come("old").is_err());
        assert!(come("new").is_ok() && come("new").is_err());
        assert!(come("stays").is_ok() && come("stays").is_ok() && come("stays").is_err());
    }
}

// ---- under load ----

/// Messages go on in their order while everything that can change changes, on every shard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_under_load_lose_nothing_and_disconnect_nobody() {
    let hub = threaded_hub(2, |_| {});
    let mut members = Vec::new();
    for index in 0..8 {
        members.push(member(&hub, &format!("member-{index}"), "x").await);
    }
    for number in 0..500_u64 {
        publish(&hub, "x", number);
        if number % 5 == 0 {
            change(&hub, |config| {
                config.heartbeat.ping_interval = Duration::from_secs(20 + number % 9);
                config.write_timeout = Duration::from_millis(10_000 + 1000 * (number % 3));
                config.compression.level = 1 + (number % 9) as u32;
                config.compression.bytes_min = if number % 2 == 0 { 1 } else { 512 };
                config.rooms.default_mut().members_max = 8 + number as usize;
                config.message_bytes_max = 60_000 + number as usize;
            });
        }
    }
    for member in &mut members {
        for number in 0..500_u64 {
            assert_eq!(member.find("message").await["data"], number);
        }
    }
    assert_eq!(hub.client_count(), 8);
    drop(members);
    eventually("everybody has gone", || hub.client_count() == 0).await;
}
