//! Credentials shown over a connection: fresh ones, ones for single rooms, and who is asked besides.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use outspoke_hub::{
    Action, Ask, Asks, Attach, AuthError, Authentication, Authenticator, Authorization, Authorizer,
    Durability, ErrorCode, Grant, Hub, HubConfig, Identity, Permissions, Refusal, UserId,
};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::authority::{ask, identified, in_ms};
use crate::support::{PATIENCE, hub_of, kinds, member, welcomed};

/// Takes a token for what it says: `user`, `user lasting SECONDS`, or `user only ROOM`. Answers when it is let.
#[derive(Debug)]
struct Tokens(Arc<Semaphore>);

impl Authenticator for Tokens {
    fn authenticate<'a>(&'a self, _request: &'a Parts) -> Authentication<'a> {
        Box::pin(std::future::ready(Err(AuthError::unauthorized("not over HTTP"))))
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        Box::pin(async move {
            self.0.acquire().await.unwrap().forget();
            match token.split(' ').collect::<Vec<_>>()[..] {
                [user, "lasting", seconds] => {
                    let milliseconds = seconds.parse::<i64>().unwrap() * 1000;
                    Ok(Identity::user(user).until(in_ms(milliseconds)))
                }
                [user, "only", room] => {
                    let permissions = Permissions::nothing().allow(Action::Join, room);
                    Ok(Identity::user(user).with_permissions(permissions))
                }
                ["panic"] => panic!("as told"),
                [user] if user.len() < 10 => Ok(Identity::user(user)),
                _ => Err(AuthError::unauthorized("no such token")),
            }
        })
    }
}

fn slow() -> (Hub, Arc<Semaphore>) {
    let turns = Arc::new(Semaphore::new(0));
    let builder = Hub::builder().authenticator(Tokens(Arc::clone(&turns)));
    let keeping = |config: &mut HubConfig| config.rooms.default_mut().durability = Durability::Memory;
    (hub_of(builder, keeping), turns)
}

fn quick() -> Hub {
    let (hub, turns) = slow();
    turns.add_permits(1000);
    hub
}

async fn show(client: &mut ScriptedClient, token: &str) -> Value {
    ask(client, json!({ "type": "auth", "token": token })).await
}

fn close_code(received: &[Received]) -> Option<u16> {
    received.iter().find_map(|received| match received {
        Received::Close { code, .. } => *code,
        _ => None,
    })
}

#[tokio::test(start_paused = true)]
async fn fresh_token_keeps_the_connection_for_as_long_as_it_says() {
    let hub = quick();
    let (mut alice, handle) = identified(&hub, Identity::user("alice").until(in_ms(10_000))).await;
    let answer = show(&mut alice, "alice lasting 60").await;
    assert_eq!(answer["type"], "authenticated");
    assert!(answer["expires"].as_str().unwrap().ends_with('Z'), "{answer}");
    assert_eq!(handle.identity().expires.map(|_| ()), handle.standing().expires.map(|_| ()));
    assert!(handle.standing().expires > handle.identity().expires);
    tokio::time::sleep(Duration::from_secs(50)).await;
    alice.send(json!({ "type": "ping" })).await;
    alice.expect("pong").await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(alice.closed().await, Some(4004));
}

/// A fresh credential can also end sooner, and one without an end ends the worry.
#[tokio::test(start_paused = true)]
async fn last_accepted_token_decides_when_the_connection_ends() {
    let hub = quick();
    let (mut alice, _) = identified(&hub, Identity::user("alice").until(in_ms(30_000))).await;
    assert_eq!(show(&mut alice, "alice").await, json!({ "type": "authenticated", "id": "asked" }));
    tokio::time::sleep(Duration::from_secs(40)).await;
    show(&mut alice, "alice lasting 5").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(alice.closed().await, Some(4004));
}

#[tokio::test(start_paused = true)]
async fn refused_token_leaves_what_held_before_in_force() {
    let hub = quick();
    let (mut alice, handle) = identified(&hub, Identity::user("alice").until(in_ms(20_000))).await;
    for (token, error) in [
        ("not accepted at all", "unauthorized"),
        ("bob", "forbidden"),
        ("alice lasting 0", "token_expired"),
        ("alice lasting -5", "token_expired"),
    ] {
        let answer = show(&mut alice, token).await;
        assert_eq!((&answer["type"], &answer["error"]), (&json!("error"), &json!(error)), "{token}");
        assert!(!answer["message"].as_str().unwrap().contains(token), "{answer}");
    }
    assert_eq!(*handle.standing(), *handle.identity());
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(alice.closed().await, Some(4004));
}

#[tokio::test(start_paused = true)]
async fn token_of_another_tenant_is_another_users() {
    let hub = quick();
    let identity = Identity::user("alice").of_tenant("acme");
    let (mut alice, handle) = identified(&hub, identity).await;
    // It names no tenant: the connection's.
    assert_eq!(show(&mut alice, "alice only room").await["type"], "authenticated");
    assert_eq!(handle.standing().tenant, "acme");
}

#[tokio::test(start_paused = true)]
async fn token_that_allows_less_takes_the_client_out_of_rooms_at_once() {
    let hub = quick();
    let mut bob = member(&hub, "bob", "lost").await;
    let mut alice = welcomed(&hub, "alice").await;
    alice.join("kept").await;
    alice.join("lost").await;
    assert_eq!(show(&mut alice, "alice only kept").await["type"], "authenticated");
    let told = alice.expect("unsubscribed").await;
    assert_eq!((&told["room"], &told["error"]), (&json!("lost"), &json!("forbidden")));
    bob.say("lost", "in private").await;
    bob.expect("chat").await;
    let answer = ask(&mut alice, json!({ "type": "subscribe", "room": "lost" })).await;
    assert_eq!(answer["error"], "forbidden");
}

#[tokio::test(start_paused = true)]
async fn too_long_token_is_refused_by_its_length() {
    let hub = quick();
    let mut alice = welcomed(&hub, "alice").await;
    let answer = show(&mut alice, &"x".repeat(8193)).await;
    assert_eq!(answer["error"], "bad_request");
    assert_eq!(answer["message"], "`token` has 1 to 8192 bytes, this one has 8193");
}

#[tokio::test(start_paused = true)]
async fn hub_that_takes_no_tokens_says_so() {
    let hub = crate::support::hub(|_| {});
    let mut alice = welcomed(&hub, "alice").await;
    assert_eq!(show(&mut alice, "alice").await["error"], "unauthorized");
    let answer = ask(&mut alice, json!({ "type": "subscribe", "room": "a", "token": "t" })).await;
    assert_eq!(answer["error"], "unauthorized");
}

/// Requests behind the token wait for its judgement, and the deliveries do not.
#[tokio::test(start_paused = true)]
async fn requests_after_a_token_are_judged_by_it() {
    let (hub, turns) = slow();
    let mut bob = member(&hub, "bob", "room").await;
    let mut alice = member(&hub, "alice", "room").await;
    alice.send(json!({ "type": "auth", "id": 1, "token": "alice only room" })).await;
    alice.send(json!({ "type": "chat", "id": 2, "room": "room", "content": "x" })).await;
    settle().await;
    bob.say("room", "meanwhile").await;
    assert_eq!(alice.expect("chat").await["content"], "meanwhile");
    turns.add_permits(1);
    assert_eq!(alice.expect("authenticated").await["id"], 1);
    assert_eq!(alice.expect("error").await["id"], 2);
}

/// The old credential ends while the new one is being looked at: the connection has lived on it, and ends with it.
#[tokio::test(start_paused = true)]
async fn credential_that_ends_while_a_fresh_one_is_judged_ends_the_connection() {
    let (hub, turns) = slow();
    let (mut alice, _) = identified(&hub, Identity::user("alice").until(in_ms(10_000))).await;
    alice.send(json!({ "type": "auth", "id": 1, "token": "alice lasting 60" })).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    turns.add_permits(1);
    settle().await;
    let rest = alice.to_the_end().await;
    assert_eq!((close_code(&rest), kinds(&rest).contains(&"authenticated")), (Some(4004), false));
}

#[tokio::test(start_paused = true)]
async fn authenticator_that_takes_too_long_or_panics_is_contained() {
    let (hub, turns) = slow();
    let mut alice = welcomed(&hub, "alice").await;
    let answer = show(&mut alice, "alice").await;
    assert_eq!((&answer["error"], &answer["id"]), (&json!("timed_out"), &json!("asked")));
    alice.send(json!({ "type": "ping" })).await;
    alice.expect("pong").await;
    turns.add_permits(2);
    let mut bob = welcomed(&hub, "bob").await;
    bob.send(json!({ "type": "auth", "token": "panic" })).await;
    assert_eq!(bob.closed().await, Some(1011));
    assert_eq!(show(&mut alice, "alice").await["type"], "authenticated");
}

#[tokio::test(start_paused = true)]
async fn hub_that_stops_does_not_wait_for_an_authenticator() {
    let (hub, _turns) = slow();
    let mut alice = welcomed(&hub, "alice").await;
    alice.send(json!({ "type": "auth", "token": "alice" })).await;
    settle().await;
    let (stopped, code) = tokio::join!(hub.shutdown(Duration::from_secs(20)), async {
        let code = alice.closed().await;
        alice.close(1001, "").await;
        code
    });
    assert_eq!((stopped, code), (true, Some(1001)));
}

/// Both dialects name the end in their own words.
#[tokio::test(start_paused = true)]
async fn expiry_is_told_at_connect_and_at_refresh_in_both_dialects() {
    let hub = quick();
    let until = in_ms(3_600_000);
    let attach = Attach::new(Identity::user("alice").until(until)).speaking("gohub");
    let (mut alice, _) = attach_with(&hub, attach, 64 * 1024);
    let welcome: Value = serde_json::from_str(&alice.next_text().await).unwrap();
    assert_eq!(welcome["data"]["expires"], until.as_millis());
    alice.send(json!({ "message_id": 7, "message_type": "auth", "data": { "token": "alice" } })).await;
    let answer: Value = serde_json::from_str(&alice.next_text().await).unwrap();
    assert_eq!(answer, json!({ "message_id": 7, "message_type": "authenticated", "data": {} }));
    alice.send(json!({ "message_id": 8, "message_type": "subscribe", "data": "room" })).await;
    alice.next_text().await;
    alice.send(json!({ "message_id": 9, "message_type": "auth", "data": { "token": "alice only a" } })).await;
    alice.next_text().await;
    let told: Value = serde_json::from_str(&alice.next_text().await).unwrap();
    assert_eq!(
        told["data"],
        json!({
            "room": "room", "code": 131, "error": "forbidden",
            "message": "this needs the permission `join` for the room \"room\"",
        })
    );
    let (mut bob, _) = attach_with(&hub, Attach::new(Identity::user("bob").until(until)), 64 * 1024);
    assert!(bob.expect("welcome").await["expires"].is_string());
}

// ---- an authorizer ----

/// Room tokens are `ok ACTION... [for SECONDS]`; what is said is refused if it is "no", and judged when it is let.
#[derive(Debug)]
struct Clerk {
    asks: Asks,
    turns: Arc<Semaphore>,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Authorizer for Clerk {
    fn asks(&self) -> Asks {
        self.asks
    }

    fn authorize(&self, ask: Ask) -> Authorization<'_> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(format!("{} {}", ask.action.name(), ask.room));
            self.turns.acquire().await.unwrap().forget();
            let refused = |detail: &str| Err(Refusal::new(ErrorCode::Forbidden, detail));
            if ask.body.as_ref().is_some_and(|body| format!("{body:?}").contains("no")) {
                return refused("not that");
            }
            let Some(token) = &ask.token else { return Ok(Grant::default()) };
            assert!(!format!("{ask:?}").contains(token.as_str()), "a token does not show itself: {ask:?}");
            let mut words = token.strip_prefix("token:").unwrap_or("").split(' ');
            if words.next() != Some("ok") {
                return refused("no such token");
            }
            let mut grant = Grant::default();
            while let Some(word) = words.next() {
                match Action::ALL.into_iter().find(|action| action.name() == word) {
                    Some(action) => grant.actions.push(action),
                    None => grant.expires = Some(in_ms(words.next().unwrap().parse::<i64>().unwrap() * 1000)),
                }
            }
            Ok(grant)
        })
    }
}

struct Office {
    hub: Hub,
    turns: Arc<Semaphore>,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
}

fn office(join: bool, publish: bool) -> Office {
    let mut asks = Asks::default();
    (asks.join, asks.publish) = (join, publish);
    let (turns, asked) = (Arc::new(Semaphore::new(0)), Arc::default());
    let clerk = Clerk { asks, turns: Arc::clone(&turns), asked: Arc::clone(&asked) };
    let keeping = |config: &mut HubConfig| config.rooms.default_mut().durability = Durability::Memory;
    Office { hub: hub_of(Hub::builder().authorizer(clerk), keeping), turns, asked }
}

async fn outsider(hub: &Hub) -> ScriptedClient {
    let identity = Identity::user("alice").named("alice").with_permissions(Permissions::nothing());
    identified(hub, identity).await.0.with_patience(PATIENCE)
}

async fn enter(client: &mut ScriptedClient, token: &str) -> Value {
    ask(client, json!({ "type": "subscribe", "room": "room", "token": format!("token:{token}") })).await
}

#[tokio::test(start_paused = true)]
async fn room_token_lets_in_and_allows_what_it_says_there_and_nowhere_else() {
    let Office { hub, turns, .. } = office(false, false);
    turns.add_permits(10);
    let mut alice = outsider(&hub).await;
    let plain = json!({ "type": "subscribe", "room": "room" });
    assert_eq!(ask(&mut alice, plain.clone()).await["error"], "forbidden");
    assert_eq!(enter(&mut alice, "forged").await["message"], "no such token");
    assert_eq!(enter(&mut alice, "ok").await["type"], "subscribed");
    let chat = json!({ "type": "chat", "room": "room", "content": "x" });
    assert_eq!(ask(&mut alice, chat.clone()).await["error"], "forbidden");
    // Another one allows more, without leaving.
    assert_eq!(enter(&mut alice, "ok publish").await["type"], "subscribed");
    assert_eq!(ask(&mut alice, chat).await["type"], "ack");
    let history = json!({ "type": "history", "room": "room" });
    assert_eq!(ask(&mut alice, history).await["error"], "forbidden");
    let other = json!({ "type": "subscribe", "room": "other" });
    assert_eq!(ask(&mut alice, other).await["error"], "forbidden");
    // It is for one stay.
    ask(&mut alice, json!({ "type": "unsubscribe", "room": "room" })).await;
    assert_eq!(ask(&mut alice, plain).await["error"], "forbidden");
}

#[tokio::test(start_paused = true)]
async fn room_token_that_ends_takes_the_client_out_and_says_so() {
    let Office { hub, turns, .. } = office(false, false);
    turns.add_permits(10);
    let mut bob = member(&hub, "bob", "room").await;
    let mut alice = outsider(&hub).await;
    assert_eq!(enter(&mut alice, "ok for -1").await["error"], "token_expired");
    enter(&mut alice, "ok publish for 10").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    // A fresh one in time, and nothing is missed.
    enter(&mut alice, "ok for 10").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    bob.say("room", "in time").await;
    assert_eq!(alice.expect("chat").await["content"], "in time");
    tokio::time::sleep(Duration::from_secs(3)).await;
    bob.say("room", "too late").await;
    let told = alice.expect("unsubscribed").await;
    assert_eq!((&told["room"], &told["error"]), (&json!("room"), &json!("forbidden")));
    alice.send(json!({ "type": "ping" })).await;
    alice.expect("pong").await;
}

/// A token stands for the permission; it opens no conversation of others, and nobody is even asked.
#[tokio::test(start_paused = true)]
async fn room_token_opens_no_conversation() {
    let Office { hub, turns, asked } = office(true, true);
    turns.add_permits(10);
    let mut alice = outsider(&hub).await;
    let subscribe = json!({ "type": "subscribe", "room": "@bob~carol", "token": "ok" });
    assert_eq!(ask(&mut alice, subscribe).await["error"], "forbidden");
    assert!(asked.lock().unwrap().is_empty());
}

/// Policy first: what it refuses nobody is asked about.
#[tokio::test(start_paused = true)]
async fn authorizer_is_asked_about_what_the_permissions_allow() {
    let Office { hub, turns, asked } = office(true, true);
    turns.add_permits(100);
    let mut alice = outsider(&hub).await;
    assert_eq!(ask(&mut alice, json!({ "type": "subscribe", "room": "room" })).await["error"], "forbidden");
    assert!(asked.lock().unwrap().is_empty());
    let mut bob = welcomed(&hub, "bob").await;
    bob.join("room").await;
    for (request, wanted) in [
        (json!({ "type": "chat", "room": "room", "content": "yes" }), "ack"),
        (json!({ "type": "chat", "room": "room", "content": "no" }), "error"),
        (json!({ "type": "edit", "room": "room", "offset": 1, "content": "no" }), "error"),
        (json!({ "type": "edit", "room": "room", "offset": 1, "content": "sure" }), "ack"),
        (json!({ "type": "direct", "to": "carol", "content": "no" }), "error"),
        (json!({ "type": "direct", "to": "carol", "content": "hello" }), "ack"),
        (json!({ "type": "chat", "room": "room", "content": "/topic no" }), "error"),
        (json!({ "type": "history", "room": "room" }), "history"),
    ] {
        let answer = ask(&mut bob, request.clone()).await;
        assert_eq!(answer["type"], wanted, "{request}: {answer}");
    }
    let asked = asked.lock().unwrap().join(", ");
    let room = ["join room"].into_iter().chain(std::iter::repeat_n("publish room", 4));
    let talk = std::iter::repeat_n("publish @bob~carol", 2).chain(["publish room"]);
    assert_eq!(asked, room.chain(talk).collect::<Vec<_>>().join(", "));
}

#[tokio::test(start_paused = true)]
async fn messages_keep_their_order_while_the_authorizer_thinks() {
    let Office { hub, turns, .. } = office(false, true);
    let mut alice = member(&hub, "alice", "room").await;
    for number in 0..20 {
        alice.send(json!({ "type": "publish", "id": number, "room": "room", "data": number })).await;
    }
    for number in 0..20 {
        turns.add_permits(1);
        assert_eq!(alice.find("ack").await["id"], number);
    }
    let history = ask(&mut alice, json!({ "type": "history", "room": "room" })).await;
    let said: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|said| said["data"].clone()).collect();
    assert_eq!(said, (0..20).map(|number| json!(number)).collect::<Vec<_>>());
}

/// Whoever is taken out of a room says nothing there, whatever was asked before.
#[tokio::test(start_paused = true)]
async fn message_is_not_said_by_who_was_removed_while_the_authorizer_thought() {
    let Office { hub, turns, .. } = office(false, true);
    let mut alice = member(&hub, "alice", "room").await;
    alice.send(json!({ "type": "chat", "id": 1, "room": "room", "content": "x" })).await;
    settle().await;
    assert_eq!(hub.put_out_of_room("room", &UserId::new("alice")).await.unwrap(), 1);
    turns.add_permits(1);
    alice.expect("unsubscribed").await;
    let answer = alice.expect("error").await;
    assert_eq!((&answer["id"], &answer["error"]), (&json!(1), &json!("not_subscribed")));
}

#[tokio::test(start_paused = true)]
async fn authorizer_that_takes_too_long_refuses_and_the_connection_goes_on() {
    let Office { hub, turns, .. } = office(true, false);
    let mut alice = welcomed(&hub, "alice").await;
    assert_eq!(ask(&mut alice, json!({ "type": "subscribe", "room": "room" })).await["error"], "timed_out");
    assert_eq!(hub.member_count("room"), 0);
    turns.add_permits(1);
    alice.join("room").await;
}

// ---- kicking ----

#[tokio::test(start_paused = true)]
async fn moderators_kick_and_others_do_not() {
    let hub = quick();
    let mut bob = member(&hub, "bob", "room").await;
    let mut eve = member(&hub, "eve", "room").await;
    let kick = json!({ "type": "kick", "room": "room", "user": "bob" });
    let answer = ask(&mut eve, kick.clone()).await;
    assert_eq!(answer["message"], "this needs the permission `moderate` for the room \"room\"");
    let permissions = Permissions::nothing().allow(Action::Moderate, "room");
    let (mut guard, _) = identified(&hub, Identity::user("guard").with_permissions(permissions)).await;
    let kicked = json!({ "type": "kicked", "id": "asked", "room": "room", "userId": "bob" });
    assert_eq!(ask(&mut guard, kick).await, kicked);
    let told = bob.expect("unsubscribed").await;
    assert_eq!((&told["room"], &told["error"]), (&json!("room"), &json!("forbidden")));
    let elsewhere = json!({ "type": "kick", "room": "lobby", "user": "bob" });
    assert_eq!(ask(&mut guard, elsewhere).await["error"], "forbidden");
    bob.join("room").await;
    let typed = json!({ "type": "chat", "room": "room", "content": "/kick bob" });
    assert_eq!(ask(&mut guard, typed).await["type"], "kicked");
    bob.expect("unsubscribed").await;
    let misused = json!({ "type": "chat", "room": "room", "content": "/kick bob soon" });
    assert_eq!(ask(&mut guard, misused).await["error"], "bad_request");
}
