//! What clients may do: permissions in every request, and what follows when they change.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::{Action, Attach, Client, Durability, Hub, Identity, Permissions, Publishers, Timestamp};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use serde_json::{Value, json};

use crate::support::{PATIENCE, hub, kinds, member, welcomed};

pub(crate) fn keeping() -> Hub {
    hub(|config| config.rooms.default_mut().durability = Durability::Memory)
}

pub(crate) async fn identified(hub: &Hub, identity: Identity) -> (ScriptedClient, Arc<Client>) {
    let (client, handle) = attach_with(hub, Attach::new(identity), 64 * 1024);
    let mut client = client.with_patience(PATIENCE);
    client.expect("welcome").await;
    (client, handle)
}

/// A client past its welcome, with those permissions.
async fn permitted(hub: &Hub, user: &str, permissions: Permissions) -> (ScriptedClient, Arc<Client>) {
    identified(hub, Identity::user(user).named(user).with_permissions(permissions)).await
}

fn everything_but(missing: Action) -> Permissions {
    let rest = Action::ALL.into_iter().filter(|action| *action != missing);
    rest.fold(Permissions::nothing(), |permissions, action| permissions.allow(action, "*"))
}

/// The answer to a request.
pub(crate) async fn ask(client: &mut ScriptedClient, mut request: Value) -> Value {
    request["id"] = json!("asked");
    client.send(request).await;
    loop {
        match client.next_but_pings().await {
            Received::Json(value) if value["id"] == "asked" => return value,
            Received::Json(_) => {}
            other => panic!("waited for an answer, and there came {other:?}"),
        }
    }
}

pub(crate) fn in_ms(milliseconds: i64) -> Timestamp {
    let now = Timestamp::from_system_time(std::time::SystemTime::now()).as_millis();
    Timestamp::from_millis(now + milliseconds)
}

/// Every operation over a connection, with the action that it needs.
fn operations() -> Vec<(Value, Action)> {
    vec![
        (json!({ "type": "subscribe", "room": "other" }), Action::Join),
        (json!({ "type": "chat", "room": "room", "content": "/join other" }), Action::Join),
        (json!({ "type": "seen", "room": "room", "offset": 1 }), Action::Join),
        (json!({ "type": "delivered", "room": "room", "offset": 1 }), Action::Join),
        (json!({ "type": "chat", "room": "room", "content": "x" }), Action::Publish),
        (json!({ "type": "publish", "room": "room", "data": 1 }), Action::Publish),
        (json!({ "type": "chat", "room": "room", "content": "/me waves" }), Action::Publish),
        (json!({ "type": "chat", "room": "room", "content": "/shrug" }), Action::Publish),
        (json!({ "type": "chat", "room": "room", "content": "/topic tea" }), Action::Publish),
        (json!({ "type": "edit", "room": "room", "offset": 1, "content": "y" }), Action::Publish),
        (json!({ "type": "react", "room": "room", "offset": 1, "reaction": "x" }), Action::Publish),
        (json!({ "type": "history", "room": "room" }), Action::History),
        (json!({ "type": "presence", "room": "room" }), Action::Presence),
        (json!({ "type": "chat", "room": "room", "content": "/who" }), Action::Presence),
        (json!({ "type": "receipts", "room": "room" }), Action::Presence),
        (json!({ "type": "delete", "room": "room", "offset": 2 }), Action::Moderate),
        (json!({ "type": "direct", "to": "bob", "content": "psst" }), Action::Direct),
        (json!({ "type": "chat", "room": "room", "content": "/msg bob psst" }), Action::Direct),
    ]
}

/// With the permission alone that an operation needs (and being there) it is done; with every other one it is refused, in words
/// that name what is missing.
#[tokio::test(start_paused = true)]
async fn every_operation_needs_its_permission_and_no_other() {
    for (operation, action) in operations() {
        for allowed in [true, false] {
            let hub = keeping();
            let mut bob = member(&hub, "bob", "room").await;
            let (mut alice, handle) = permitted(&hub, "alice", Permissions::everything()).await;
            alice.join("room").await;
            alice.say("room", "mine").await;
            alice.expect("chat").await;
            bob.say("room", "bob's").await;
            bob.find("chat").await;
            alice.expect("chat").await;
            let permissions = match allowed {
                true => Permissions::nothing().allow(action, "*").allow(Action::Join, "room"),
                // Without the right to be there it would be taken out, which is another fact.
                false => everything_but(action).allow(Action::Join, "room"),
            };
            if action == Action::Join && operation["offset"].is_u64() {
                continue;
            }
            assert!(hub.permit(handle.id(), permissions));
            let answer = ask(&mut alice, operation.clone()).await;
            if allowed {
                assert_ne!(answer["type"], "error", "{operation} with {action:?}: {answer}");
                continue;
            }
            assert_eq!(answer["error"], "forbidden", "{operation} without {action:?}: {answer}");
            let message = answer["message"].as_str().unwrap();
            let names_it = message.contains(&format!("`{}`", action.name()));
            // Its own messages a client deletes without moderating, others' it is told that they are others'.
            assert!(names_it || action == Action::Moderate, "{operation}: {message}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn moderators_delete_what_others_said_and_edit_nothing_of_it() {
    let hub = keeping();
    let mut bob = member(&hub, "bob", "room").await;
    let permissions = Permissions::default().allow(Action::Moderate, "ro*");
    let (mut alice, _) = permitted(&hub, "alice", permissions).await;
    alice.join("room").await;
    bob.say("room", "rude").await;
    bob.expect("chat").await;
    let edit = json!({ "type": "edit", "room": "room", "offset": 1, "content": "kind" });
    assert_eq!(ask(&mut alice, edit).await["error"], "forbidden");
    let delete = json!({ "type": "delete", "room": "room", "offset": 1 });
    assert_eq!(ask(&mut alice, delete).await["type"], "ack");
    assert_eq!(bob.find("delete").await["target"], 1);
}

#[tokio::test(start_paused = true)]
async fn members_react_where_only_the_server_publishes_unless_they_may_say_nothing_anywhere() {
    let hub = hub(|config| {
        let class = config.rooms.default_mut();
        (class.durability, class.publishers) = (Durability::Memory, Publishers::Server);
    });
    let (mut bob, handle) = permitted(&hub, "bob", Permissions::default()).await;
    bob.join("news").await;
    crate::support::publish(&hub, "news", 1);
    bob.find("message").await;
    let react = json!({ "type": "react", "room": "news", "offset": 1, "reaction": "x" });
    assert_eq!(ask(&mut bob, react.clone()).await["type"], "ack");
    let chat = json!({ "type": "chat", "room": "news", "content": "x" });
    assert_eq!(ask(&mut bob, chat).await["message"], "only the server publishes to this room");
    hub.permit(handle.id(), everything_but(Action::Publish));
    assert_eq!(ask(&mut bob, react).await["error"], "forbidden");
}

/// Recovery is reading history: who may not gets what is said from now on, and is told that there may be more.
#[tokio::test(start_paused = true)]
async fn joining_without_the_right_to_history_begins_now_and_says_so() {
    let hub = keeping();
    let mut bob = member(&hub, "bob", "room").await;
    bob.say("room", "before").await;
    let said = bob.expect("chat").await;
    for from in [json!({ "epoch": said["epoch"], "offset": 0 }), json!({ "last": 5 })] {
        let (mut alice, _) = permitted(&hub, "alice", everything_but(Action::History)).await;
        let mut subscribe = from;
        subscribe["type"] = json!("subscribe");
        subscribe["room"] = json!("room");
        alice.send(subscribe).await;
        let subscribed = alice.expect("subscribed").await;
        assert_eq!((&subscribed["recovered"], &subscribed["offset"]), (&json!(false), &json!(1)));
        settle().await;
        alice.send(json!({ "type": "ping" })).await;
        alice.expect("pong").await;
    }
}

#[tokio::test(start_paused = true)]
async fn conversations_are_read_by_both_and_written_by_who_may_write_to_the_other() {
    let hub = keeping();
    let mut bob = welcomed(&hub, "bob").await;
    // No room at all, and nobody but support.
    let permissions = Permissions::nothing().allow(Action::Direct, "support");
    let (mut alice, _) = permitted(&hub, "alice", permissions).await;
    bob.send(json!({ "type": "direct", "to": "alice", "content": "hello" })).await;
    let room = alice.expect("subscribed").await["room"].clone();
    alice.expect("chat").await;
    assert_eq!(ask(&mut alice, json!({ "type": "history", "room": room })).await["type"], "history");
    for request in [
        json!({ "type": "chat", "room": room, "content": "x" }),
        json!({ "type": "direct", "to": "bob", "content": "x" }),
        json!({ "type": "typing", "room": room }),
    ] {
        let answer = ask(&mut alice, request).await;
        assert_eq!(answer["message"], "this needs the permission `direct` for the user \"bob\"");
    }
    let support = json!({ "type": "direct", "to": "support", "content": "help" });
    assert_eq!(ask(&mut alice, support).await["type"], "ack");
    // Nobody else comes in, whatever they may do elsewhere.
    let (mut eve, _) = permitted(&hub, "eve", Permissions::everything()).await;
    let answer = ask(&mut eve, json!({ "type": "subscribe", "room": room })).await;
    assert_eq!(answer["error"], "forbidden");
}

#[tokio::test(start_paused = true)]
async fn clients_are_taken_out_of_rooms_in_which_they_may_not_be_any_more() {
    let hub = keeping();
    let mut bob = member(&hub, "bob", "kept").await;
    let (mut alice, handle) = permitted(&hub, "alice", Permissions::everything()).await;
    alice.join("kept").await;
    alice.join("lost").await;
    hub.permit(handle.id(), Permissions::default());
    hub.permit(handle.id(), Permissions::nothing().allow(Action::Join, "kept"));
    let told = alice.expect("unsubscribed").await;
    assert_eq!(
        told,
        json!({
            "type": "unsubscribed", "room": "lost", "code": 131, "error": "forbidden",
            "message": "this needs the permission `join` for the room \"lost\"",
        })
    );
    assert_eq!(hub.member_count("lost"), 0);
    crate::support::publish(&hub, "lost", 1);
    bob.say("kept", "still here?").await;
    assert_eq!(alice.expect("chat").await["content"], "still here?");
}

/// What the application decides counts more than a credential, for as long as the client is there.
#[tokio::test(start_paused = true)]
async fn whom_the_application_puts_into_a_room_may_be_there_and_no_more() {
    let hub = keeping();
    let (mut alice, handle) = permitted(&hub, "alice", Permissions::nothing()).await;
    hub.join(handle.id(), "room").await.unwrap();
    alice.expect("subscribed").await;
    hub.permit(handle.id(), Permissions::nothing());
    let chat = json!({ "type": "chat", "room": "room", "content": "x" });
    assert_eq!(ask(&mut alice, chat).await["error"], "forbidden");
    assert_eq!(hub.member_count("room"), 1);
    alice.send(json!({ "type": "unsubscribe", "room": "room" })).await;
    alice.expect("unsubscribed").await;
    let subscribe = json!({ "type": "subscribe", "room": "room" });
    assert_eq!(ask(&mut alice, subscribe).await["error"], "forbidden");
}

#[tokio::test(start_paused = true)]
async fn removed_user_is_out_on_every_device_and_nobody_else_is() {
    let hub = keeping();
    let mut bob = member(&hub, "bob", "room").await;
    let mut devices = Vec::new();
    for device in ["phone", "laptop"] {
        let identity = Identity::user("alice").named("alice").on_device(device);
        let (mut client, _) = identified(&hub, identity).await;
        client.join("room").await;
        devices.push(client);
    }
    let alice = outspoke_hub::UserId::new("alice");
    assert_eq!(hub.put_out_of_room("room", &alice).await.unwrap(), 2);
    assert_eq!(hub.put_out_of_room("room", &alice).await.unwrap(), 0);
    bob.say("room", "gone").await;
    bob.expect("chat").await;
    for client in &mut devices {
        assert_eq!(client.expect("unsubscribed").await["error"], "forbidden");
        client.send(json!({ "type": "ping" })).await;
        client.expect("pong").await;
    }
}

/// The clock is the shard's: with the test's paused one, the time passes that the credential has.
#[tokio::test(start_paused = true)]
async fn connection_ends_when_its_credential_does_and_nothing_follows() {
    let hub = keeping();
    let mut bob = member(&hub, "bob", "room").await;
    let identity = Identity::user("alice").named("alice").until(in_ms(60_000));
    let (mut alice, _) = identified(&hub, identity).await;
    alice.join("room").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    bob.say("room", "in time").await;
    assert_eq!(alice.find("chat").await["content"], "in time");
    tokio::time::sleep(Duration::from_millis(30_500)).await;
    bob.say("room", "too late").await;
    bob.find("chat").await;
    bob.find("chat").await;
    let rest = alice.to_the_end().await;
    assert!(!kinds(&rest).contains(&"chat"), "{rest:?}");
    let closed = rest.iter().find_map(|received| match received {
        Received::Close { code, .. } => *code,
        _ => None,
    });
    assert_eq!(closed, Some(4004));
    assert_eq!(hub.member_count("room"), 1);
}

/// Another configuration sets the shard's clock anew; a credential ends when it would have, and one that comes later too.
#[tokio::test(start_paused = true)]
async fn credentials_end_when_they_should_also_after_another_configuration() {
    let hub = keeping();
    let (mut alice, _) = identified(&hub, Identity::user("alice").until(in_ms(60_000))).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut config = outspoke_hub::HubConfig::clone(&hub.config());
    config.write_timeout = Duration::from_secs(7);
    config.heartbeat.ping_interval = Duration::from_secs(5);
    hub.reconfigure(config).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The system's clock has not gone on with the paused one.
    let (mut bob, _) = identified(&hub, Identity::user("bob").until(in_ms(55_000))).await;
    let began = tokio::time::Instant::now();
    let end = async |client: &mut ScriptedClient| (client.closed().await, began.elapsed().as_secs());
    let ends = tokio::join!(end(&mut alice), end(&mut bob));
    assert_eq!(ends, ((Some(4004), 49), (Some(4004), 55)));
}

/// What waits for a client that reads slowly is not handed over after its time.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_client_is_dropped_when_its_credential_ends() {
    let hub = hub(|config| config.write_timeout = Duration::from_secs(100));
    let identity = Identity::user("alice").named("alice").until(in_ms(20_000));
    let (client, _) = attach_with(&hub, Attach::new(identity), 2048);
    let mut alice = client.with_patience(PATIENCE);
    alice.expect("welcome").await;
    alice.join("room").await;
    for number in 0..100 {
        crate::support::publish(&hub, "room", number);
        // A turn each: what was begun is finished, and a turn is written as one.
        settle().await;
    }
    tokio::time::sleep(Duration::from_secs(21)).await;
    let rest = alice.to_the_end().await;
    let messages = kinds(&rest).into_iter().filter(|kind| *kind == "message").count();
    // What the pipe held already, and the one that was begun.
    assert!((1..30).contains(&messages), "{messages}");
    assert!(rest.iter().any(|received| matches!(received, Received::Close { code: Some(4004), .. })));
}

#[tokio::test(start_paused = true)]
async fn credential_that_has_ended_already_gets_no_welcome() {
    let hub = keeping();
    let identity = Identity::user("alice").until(in_ms(-1));
    let (mut alice, _) = attach_with(&hub, Attach::new(identity), 1024);
    assert_eq!(alice.closed().await, Some(4004));
}
