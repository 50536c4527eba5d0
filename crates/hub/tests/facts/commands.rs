//! Slash commands: done at the edge, answered to their sender alone, and never seen by a room as they were typed.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::{
    Argument, Body, CommandSpec, Context, Durability, ErrorCode, Hub, HubBuilder, Identity, Invocation, Kind,
    Refusal, Rename, Reply, RoomClass, StartError, authenticator_fn,
};
use outspoke_testkit::{ScriptedClient, attach_with, settle};
use serde_json::{Value, json};

use crate::shelf::Shelf;
use crate::stored::storing;
use crate::support::{hub, hub_of, kinds, member, user, welcomed};

/// Types a line into a room and takes what comes of it.
async fn typed(client: &mut ScriptedClient, room: &str, line: &str, kind: &str) -> Value {
    client.send(json!({ "type": "chat", "room": room, "content": line, "id": 7 })).await;
    client.find(kind).await
}

async fn refused(client: &mut ScriptedClient, room: &str, line: &str) -> (String, String) {
    let error = typed(client, room, line, "error").await;
    assert_eq!(error["id"], 7, "{error}");
    (error["error"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn me_and_shrug_say_something_with_a_place_in_the_rooms_log() {
    let hub = hub(|_| {});
    let (mut alice, mut bob) = (member(&hub, "alice", "x").await, member(&hub, "bob", "x").await);
    for (line, kind, content) in [
        ("/me waves", "action", "waves"),
        ("/Me  waves", "action", "waves"),
        ("/shrug", "chat", r"¯\_(ツ)_/¯"),
        ("/shrug who knows", "chat", r"who knows ¯\_(ツ)_/¯"),
        ("//me waves", "chat", "/me waves"),
        (" /me waves", "chat", " /me waves"),
    ] {
        let own = typed(&mut alice, "x", line, kind).await;
        let other = bob.expect(kind).await;
        assert_eq!((&other["content"], &other["userId"]), (&json!(content), &json!("alice")), "{line}");
        assert_eq!(own, other);
    }
    settle().await;
    assert_eq!(kinds(&bob.received()), [""; 0]);
}

/// What a program publishes is data, whatever it looks like.
#[tokio::test(start_paused = true)]
async fn published_data_that_begins_with_a_slash_is_no_command() {
    let hub = hub(|_| {});
    let mut alice = member(&hub, "alice", "x").await;
    alice.send(json!({ "type": "publish", "room": "x", "data": "/me waves" })).await;
    assert_eq!(alice.expect("message").await["data"], "/me waves");
}

/// A command is judged as the chat that it is.
#[tokio::test(start_paused = true)]
async fn what_a_command_says_is_judged_as_other_chat() {
    let hub = hub(|config| config.content_chars_max = 10);
    let mut alice = member(&hub, "alice", "x").await;
    assert_eq!(refused(&mut alice, "x", "/me 12345678901").await.0, "content_too_long");
    assert_eq!(refused(&mut alice, "y", "/me waves").await.0, "not_subscribed");
    let (mut nameless, _client) = attach_with(&hub, outspoke_hub::Attach::new(Identity::user("n")), 4096);
    nameless.expect("welcome").await;
    nameless.join("x").await;
    assert_eq!(refused(&mut nameless, "x", "/me waves").await.0, "username_required");
    assert_eq!(refused(&mut nameless, "x", "/topic tea").await.0, "username_required");
    assert_eq!(refused(&mut nameless, "x", "/topic \"\"").await.0, "username_required");
}

#[tokio::test(start_paused = true)]
async fn same_chat_sent_twice_under_one_key_is_said_once_by_a_command_too() {
    let hub = hub(|config| config.rooms.default_mut().durability = Durability::Memory);
    let mut alice = member(&hub, "alice", "x").await;
    for _ in 0..2 {
        alice.send(json!({ "type": "chat", "room": "x", "content": "/me waves", "id": 1, "idempotencyKey": "k" })).await;
    }
    let mut seen = Vec::new();
    while seen.iter().filter(|kind| *kind == "ack").count() < 2 {
        let outspoke_testkit::Received::Json(value) = alice.next().await else { panic!("no JSON") };
        seen.push(value["type"].as_str().unwrap().to_owned());
    }
    settle().await;
    seen.extend(kinds(&alice.received()).into_iter().map(str::to_owned));
    assert_eq!(seen.iter().filter(|kind| *kind == "action").count(), 1, "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn unknown_command_is_an_error_to_its_sender_alone_that_names_the_nearest() {
    let hub = hub(|_| {});
    let (mut alice, mut bob) = (member(&hub, "alice", "x").await, member(&hub, "bob", "x").await);
    for (line, words) in [
        ("/hepl", "there is no command /hepl; did you mean /help?"),
        ("/dance", "there is no command /dance; /help lists those there are; // says a text"),
        ("/", "a slash alone is no command"),
    ] {
        let (code, message) = refused(&mut alice, "x", line).await;
        assert_eq!(code, "unknown_command", "{line}");
        assert!(message.starts_with(words), "{line}: {message}");
    }
    let (_, message) = refused(&mut alice, "x", &format!("/{}", "x".repeat(900))).await;
    assert!(message.len() < 200, "{message}");
    settle().await;
    assert_eq!(kinds(&bob.received()), [""; 0]);
    assert_eq!(hub.stats().requests_refused, 4);
}

#[tokio::test(start_paused = true)]
async fn command_with_wrong_arguments_is_answered_with_its_usage() {
    let hub = hub(|_| {});
    let mut alice = member(&hub, "alice", "x").await;
    for (line, usage) in [
        ("/me", "usage: /me TEXT (TEXT is missing)"),
        ("/join", "usage: /join ROOM (ROOM is missing)"),
        ("/join two words", "usage: /join ROOM (there is more than it takes"),
        ("/join \"open", "usage: /join ROOM (a quote is not closed)"),
        ("/leave a b", "usage: /leave [ROOM] (there is more than it takes"),
        ("/msg bob", "usage: /msg USER TEXT (TEXT is missing)"),
    ] {
        let (code, message) = refused(&mut alice, "x", line).await;
        assert_eq!(code, "bad_request", "{line}");
        assert!(message.starts_with(usage), "{line}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn join_and_leave_are_answered_as_the_requests_are() {
    let hub = hub(|_| {});
    let mut alice = member(&hub, "alice", "x").await;
    let joined = typed(&mut alice, "x", "/join \"my room\"", "subscribed").await;
    assert_eq!((&joined["room"], &joined["id"]), (&json!("my room"), &json!(7)));
    let left = typed(&mut alice, "x", "/leave \"my room\"", "unsubscribed").await;
    assert_eq!((&left["room"], &left["id"]), (&json!("my room"), &json!(7)));
    assert_eq!(refused(&mut alice, "x", "/leave elsewhere").await.0, "not_subscribed");
    assert_eq!(typed(&mut alice, "x", "/leave", "unsubscribed").await["room"], "x");
    assert_eq!(hub.room_count(), 0);
    // Who is nowhere can go somewhere, and ask for help.
    alice.send(json!({ "type": "chat", "content": "/leave", "id": 7 })).await;
    assert_eq!(alice.expect("error").await["error"], "room_required");
    alice.send(json!({ "type": "chat", "content": "/join x", "id": 7 })).await;
    assert_eq!(alice.expect("subscribed").await["room"], "x");
}

#[tokio::test(start_paused = true)]
async fn help_lists_every_command_and_explains_one() {
    let hub = hub(|_| {});
    let mut alice = member(&hub, "alice", "x").await;
    let all = typed(&mut alice, "x", "/help", "command_result").await;
    assert_eq!(all["id"], 7);
    let text = all["data"]["text"].as_str().unwrap();
    assert_eq!(text.lines().count(), 10, "{text}");
    assert!(text.contains("/msg USER TEXT says something to one user alone"), "{text}");
    for line in ["/help leave", "/help /leave"] {
        let one = typed(&mut alice, "x", line, "command_result").await;
        assert_eq!(one["data"]["result"][0]["usage"], "/leave [ROOM]", "{one}");
    }
    assert_eq!(refused(&mut alice, "x", "/help dance").await.0, "unknown_command");
}

#[tokio::test(start_paused = true)]
async fn commands_request_is_answered_with_what_completes_them() {
    let hub = hub(|_| {});
    let mut alice = welcomed(&hub, "alice").await;
    alice.send(json!({ "type": "commands", "id": 2 })).await;
    let answer = alice.expect("commands").await;
    assert_eq!(answer["id"], 2);
    let names: Vec<_> =
        answer["data"].as_array().unwrap().iter().map(|command| command["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["help", "join", "kick", "leave", "me", "msg", "nick", "shrug", "topic", "who"]);
    assert_eq!(
        answer["data"][5]["arguments"][0],
        json!({ "name": "user", "kind": "user", "optional": false })
    );
    assert_eq!(hub.commands().map(|spec| spec.name.as_str()).collect::<Vec<_>>(), names);
}

#[tokio::test(start_paused = true)]
async fn who_names_the_room_and_counts_where_nobody_is_to_know() {
    let hub = hub(|config| {
        let hidden = RoomClass { presence: false, announce: false, ..RoomClass::new("hidden") };
        config.rooms.classes.push(Arc::new(hidden));
    });
    let (mut alice, mut bob) = (member(&hub, "alice", "x").await, member(&hub, "bob", "x").await);
    typed(&mut alice, "x", "/nick Ann Lee", "command_result").await;
    bob.expect("rename").await;
    let who = typed(&mut alice, "x", "/who", "command_result").await["data"].clone();
    assert_eq!(who["text"], "in x: Ann Lee, bob");
    let users = json!([{ "userId": "alice", "username": "Ann Lee" }, { "userId": "bob", "username": "bob" }]);
    assert_eq!(who["result"], json!({ "room": "x", "members": 2, "userCount": 2, "users": users }));
    assert_eq!(refused(&mut alice, "x", "/who elsewhere").await.0, "not_subscribed");
    alice.join("hidden").await;
    let who = typed(&mut alice, "x", "/who hidden", "command_result").await["data"].clone();
    assert_eq!(who["result"], json!({ "room": "hidden", "members": 1 }));
    settle().await;
    assert_eq!(kinds(&bob.received()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_in_a_crowd_names_some_and_counts_the_others() {
    let hub = hub(|_| {});
    let mut clients = Vec::new();
    for number in 0..60 {
        clients.push(member(&hub, &format!("u{number:02}"), "x").await);
    }
    let who = typed(&mut clients[7], "x", "/who", "command_result").await["data"].clone();
    let text = who["text"].as_str().unwrap();
    assert!(text.starts_with("in x: u00, u01") && text.ends_with("u49 and 10 more"), "{text}");
    assert_eq!(who["result"]["users"].as_array().unwrap().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn msg_says_something_to_one_user_whose_id_may_have_blanks() {
    let hub = hub(|_| {});
    let (mut alice, mut bob) = (member(&hub, "alice", "x").await, member(&hub, "Bob B", "x").await);
    let mut carol = member(&hub, "carol", "x").await;
    let ack = typed(&mut alice, "x", "/msg \"Bob B\" \"quoted\" and all", "ack").await;
    assert_eq!(ack["id"], 7);
    let chat = bob.find("chat").await;
    assert_eq!((&chat["content"], &chat["to"]), (&json!("\"quoted\" and all"), &json!("Bob B")));
    assert_eq!(chat["room"], ack["room"]);
    settle().await;
    assert_eq!(kinds(&carol.received()), [""; 0]);
}

// ---- names ----

#[tokio::test(start_paused = true)]
async fn new_name_is_told_to_every_room_of_the_client_and_used_from_then_on() {
    let hub = hub(|config| config.rooms.default_mut().announce = true);
    let (mut alice, client) = attach_with(&hub, user("alice"), 4096);
    alice.expect("welcome").await;
    alice.join("x").await;
    alice.join("y").await;
    let (mut in_x, mut in_y) = (member(&hub, "b", "x").await, member(&hub, "c", "y").await);
    let mut outside = member(&hub, "d", "z").await;
    let result = typed(&mut alice, "x", "/nick Ann Lee", "command_result").await;
    assert_eq!(result["data"]["result"]["username"], "Ann Lee");
    for other in [&mut in_x, &mut in_y] {
        let rename = other.expect("rename").await;
        assert_eq!(
            (&rename["userId"], &rename["username"], &rename["previousUsername"]),
            (&json!("alice"), &json!("Ann Lee"), &json!("alice"))
        );
        assert!(rename.get("offset").is_none(), "{rename}");
    }
    assert_eq!(client.name(), "Ann Lee");
    alice.say("x", "hello").await;
    assert_eq!(in_x.expect("chat").await["username"], "Ann Lee");
    // The same again changes nothing, and nobody is told.
    typed(&mut alice, "x", "/nick Ann Lee", "command_result").await;
    alice.send(json!({ "type": "leave", "room": "y" })).await;
    assert_eq!(in_y.expect("leave").await["username"], "Ann Lee");
    settle().await;
    assert_eq!(kinds(&in_x.received()), [""; 0]);
    assert_eq!(kinds(&outside.received()), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn new_name_obeys_the_rules_of_those_at_connect() {
    let hub = hub(|config| config.username_chars_max = 5);
    let mut alice = member(&hub, "alice", "x").await;
    assert_eq!(refused(&mut alice, "x", "/nick 123456").await.0, "username_too_long");
    assert_eq!(refused(&mut alice, "x", "/nick a\u{202e}b").await.0, "invalid_identity");
    assert_eq!(refused(&mut alice, "x", "/nick").await.0, "bad_request");
    assert_eq!(typed(&mut alice, "x", "/nick Zoë", "rename").await["username"], "Zoë");
}

/// A name that a credential vouches for is not the client's to change.
#[tokio::test(start_paused = true)]
async fn names_change_in_open_mode_or_where_the_configuration_says_so() {
    let closed = || Hub::builder().authenticator(authenticator_fn(|_| Ok(Identity::user("a"))));
    for (builder, rename, allowed) in [
        (Hub::builder(), Rename::InOpenMode, true),
        (Hub::builder(), Rename::Never, false),
        (closed(), Rename::InOpenMode, false),
        (closed(), Rename::Always, true),
    ] {
        let hub = hub_of(builder, |config| config.rename = rename);
        let mut alice = member(&hub, "alice", "x").await;
        if allowed {
            typed(&mut alice, "x", "/nick Ann", "rename").await;
        } else {
            assert_eq!(refused(&mut alice, "x", "/nick Ann").await.0, "forbidden", "{rename:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn new_name_in_a_room_with_more_members_than_anybody_follows_is_not_told() {
    let hub = hub(|config| config.rooms.default_mut().announce_members_max = 1);
    let (mut alice, mut bob) = (member(&hub, "alice", "x").await, member(&hub, "bob", "x").await);
    typed(&mut alice, "x", "/nick Ann", "command_result").await;
    settle().await;
    assert_eq!(kinds(&bob.received()), [""; 0]);
}

// ---- topics ----

#[tokio::test(start_paused = true)]
async fn topic_is_told_to_the_room_and_to_every_newcomer() {
    let hub = hub(|_| {});
    let (mut alice, mut bob) = (member(&hub, "alice", "x").await, member(&hub, "bob", "x").await);
    let none = typed(&mut alice, "x", "/topic", "command_result").await;
    assert_eq!(none["data"]["result"], json!({ "room": "x", "topic": "" }));
    let topic = typed(&mut alice, "x", "/topic tea & cake", "topic").await;
    assert_eq!((&topic["topic"], &topic["offset"]), (&json!("tea & cake"), &json!(1)));
    assert_eq!(bob.expect("topic").await, topic);
    let shown = typed(&mut bob, "x", "/topic", "command_result").await;
    assert_eq!(shown["data"]["text"], "the topic of x: tea & cake");
    let mut carol = welcomed(&hub, "carol").await;
    assert_eq!(carol.join("x").await["topic"], "tea & cake");
    assert_eq!(carol.join("x").await["topic"], "tea & cake", "and to who asks again");
    assert_eq!(typed(&mut bob, "x", "/topic \"\"", "topic").await["topic"], "");
    let mut dave = welcomed(&hub, "dave").await;
    assert!(dave.join("x").await.get("topic").is_none());
    assert_eq!(refused(&mut bob, "x", "/topic two\nlines").await.0, "bad_request");
}

#[tokio::test(start_paused = true)]
async fn topic_of_a_room_that_only_the_server_publishes_to_is_not_the_members_to_set() {
    let hub = hub(|config| config.rooms.default_mut().publishers = outspoke_hub::Publishers::Server);
    let mut alice = member(&hub, "alice", "x").await;
    assert_eq!(refused(&mut alice, "x", "/topic mine").await.0, "forbidden");
    hub.publish("x", Kind::Topic, Body::Text("ours".into())).unwrap().await.unwrap();
    assert_eq!(alice.expect("topic").await["topic"], "ours");
    assert_eq!(welcomed(&hub, "bob").await.join("x").await["topic"], "ours");
}

/// The room is read once for all who come back, its topic with it.
#[tokio::test(start_paused = true)]
async fn topic_of_a_stored_room_is_there_after_a_restart() {
    let shelf = Shelf::new();
    for (sets, found, shows) in [
        (Some("tea"), None, "tea"),
        (None, Some("tea"), "tea"),
        (Some("\"\""), Some("tea"), ""),
        (None, None, ""),
    ] {
        let hub = storing(&shelf, |_| {});
        let before = shelf.fact_reads();
        let mut clients = Vec::new();
        for name in ["a", "b", "c"] {
            let mut client = welcomed(&hub, name).await;
            let joined = client.join("s").await;
            assert_eq!(joined.get("topic").and_then(Value::as_str), found, "{joined}");
            clients.push(client);
        }
        assert_eq!(shelf.fact_reads() - before, 1);
        if let Some(text) = sets {
            typed(&mut clients[0], "s", &format!("/topic {text}"), "topic").await;
        }
        let shown = typed(&mut clients[1], "s", "/topic", "command_result").await;
        assert_eq!(shown["data"]["result"]["topic"], shows);
        drop(clients);
        assert!(hub.shutdown(Duration::from_secs(60)).await);
    }
}

/// The server speaks first, so that the room is known before anybody has read it.
#[tokio::test(start_paused = true)]
async fn topic_of_a_stored_room_that_was_published_to_before_it_was_read_is_found() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    hub.publish("s", Kind::Topic, Body::Text("tea".into())).unwrap().await.unwrap();
    assert_eq!(welcomed(&hub, "a").await.join("s").await["topic"], "tea");
    assert!(hub.shutdown(Duration::from_secs(60)).await);
    let hub = storing(&shelf, |_| {});
    hub.publish("s", Kind::Data, Body::json(&1).unwrap()).unwrap().await.unwrap();
    assert_eq!(welcomed(&hub, "a").await.join("s").await["topic"], "tea");
    let (_client, handle) = attach_with(&hub, user("b"), 4096);
    settle().await;
    hub.join(handle.id(), "s").await.unwrap();
}

// ---- an application's own ----

fn dice() -> CommandSpec {
    CommandSpec::new("roll", "rolls dice")
        .argument(Argument::word("dice"))
        .argument(Argument::text("reason").optional())
}

fn rolling() -> HubBuilder {
    Hub::builder().command(dice(), async |context: Context, typed: Invocation| {
        let dice = typed.get("dice").unwrap().to_owned();
        if dice == "d0" {
            return Err(Refusal::new(ErrorCode::Forbidden, "no such dice"));
        }
        if let Some(room) = &typed.room {
            let said = format!(
                "{} rolls {dice} {}",
                context.client.name(),
                typed.get("reason").unwrap_or("for fun")
            );
            let published = context.hub.publish(room.as_str(), Kind::System, Body::Text(said.into()));
            published.unwrap().await.unwrap();
        }
        Ok(Some(Reply::text("rolled")))
    })
}

#[tokio::test(start_paused = true)]
async fn applications_command_gets_its_arguments_and_may_answer_publish_or_refuse() {
    let hub = hub_of(rolling(), |_| {});
    let (mut alice, mut bob) = (member(&hub, "alice", "x").await, member(&hub, "bob", "x").await);
    let answer = typed(&mut alice, "x", "/roll 2d6 for luck", "command_result").await;
    assert_eq!((&answer["id"], &answer["data"]["text"]), (&json!(7), &json!("rolled")));
    assert_eq!(bob.expect("system").await["content"], "alice rolls 2d6 for luck");
    assert_eq!(refused(&mut alice, "x", "/roll d0").await.1, "no such dice");
    assert_eq!(refused(&mut alice, "x", "/roll").await.1, "usage: /roll DICE [REASON] (DICE is missing)");
    // From a room that it is not in it is answered, too, and publishes nowhere.
    assert_eq!(typed(&mut alice, "y", "/roll 2d6", "command_result").await["data"]["text"], "rolled");
    settle().await;
    assert_eq!(kinds(&bob.received()), [""; 0]);
    assert!(hub.commands().any(|spec| spec.name == "roll"));
}

/// What follows a command that waits is done after it.
#[tokio::test(start_paused = true)]
async fn command_that_waits_holds_up_its_own_connection_only() {
    let builder = Hub::builder().command(CommandSpec::new("wait", "waits"), async |_, _| {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(Some(Reply::text("waited")))
    });
    let hub = hub_of(builder, |_| {});
    let (mut alice, mut bob) = (member(&hub, "alice", "x").await, member(&hub, "bob", "x").await);
    alice.say("x", "/wait").await;
    alice.say("x", "after").await;
    bob.say("x", "meanwhile").await;
    assert_eq!(bob.expect("chat").await["content"], "meanwhile");
    assert_eq!(alice.expect("chat").await["content"], "meanwhile");
    alice.expect("command_result").await;
    assert_eq!(bob.expect("chat").await["content"], "after");
}

#[tokio::test(start_paused = true)]
async fn built_in_command_can_be_replaced_or_taken_away() {
    let builder = Hub::builder()
        .command(CommandSpec::new("me", "is another one"), async |_, _| Ok(Some(Reply::text("mine"))))
        .without_command("nick")
        .without_command("help");
    let hub = hub_of(builder, |_| {});
    let mut alice = member(&hub, "alice", "x").await;
    assert_eq!(typed(&mut alice, "x", "/me", "command_result").await["data"]["text"], "mine");
    let (code, message) = refused(&mut alice, "x", "/nick Ann").await;
    assert_eq!(code, "unknown_command");
    assert!(!message.contains("/help"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn hub_without_commands_says_what_begins_with_a_slash() {
    let names = ["help", "join", "kick", "leave", "me", "msg", "nick", "shrug", "topic", "who"];
    let builder = names.into_iter().fold(Hub::builder(), HubBuilder::without_command);
    let hub = hub_of(builder, |_| {});
    let mut alice = member(&hub, "alice", "x").await;
    alice.say("x", "/me waves").await;
    assert_eq!(alice.expect("chat").await["content"], "/me waves");
}

#[tokio::test(start_paused = true)]
async fn command_that_cannot_be_typed_keeps_the_hub_from_starting() {
    let builder = Hub::builder().command(CommandSpec::new("Not This", ""), async |_, _| Ok(None));
    let error = builder.start_on_this_runtime().unwrap_err();
    assert!(matches!(&error, StartError::InvalidCommand { name, .. } if name == "Not This"), "{error}");
}
