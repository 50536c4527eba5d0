//! Private messages: to every device of both, in order, once; and found by who was away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::{
    Attach, Body, Durability, HeartbeatConfig, Hub, HubBuilder, HubConfig, Identity, JoinError, Kind,
    Publication, PublishError, RoomClass,
};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::shelf::Shelf;
use crate::support::{PATIENCE, hub, hub_of, kinds, offsets, welcomed};

/// A hub whose private messages are stored on the shelf.
fn storing(shelf: &Arc<Shelf>, change: impl FnOnce(&mut HubConfig)) -> Hub {
    hub_of(builder(shelf), |config| {
        stored_conversations(config);
        change(config);
    })
}

fn builder(shelf: &Arc<Shelf>) -> HubBuilder {
    let store = Arc::clone(shelf);
    Hub::builder().store("shelf", store)
}

fn stored_conversations(config: &mut HubConfig) {
    let class = RoomClass { durability: Durability::Stored, announce: false, ..RoomClass::default() };
    config.rooms.direct = Arc::new(class);
}

/// Devices that nobody reads for a while are no dead ones.
fn without_heartbeat(config: &mut HubConfig) {
    config.heartbeat = HeartbeatConfig { ping_interval: Duration::ZERO, pong_timeout: Duration::ZERO };
}

/// A connected device, past its welcome.
async fn device(hub: &Hub, user: &str, device: &str) -> ScriptedClient {
    let mut client = connect(hub, user, device);
    client.expect("welcome").await;
    client
}

fn connect(hub: &Hub, user: &str, device: &str) -> ScriptedClient {
    let identity = Identity::user(user).named(user).on_device(device);
    attach_with(hub, Attach::new(identity), 64 * 1024).0.with_patience(PATIENCE)
}

async fn write(client: &mut ScriptedClient, to: &str, text: &str) {
    client.send(json!({ "type": "direct", "to": to, "content": text })).await;
}

fn contents(received: &[Received]) -> Vec<&str> {
    let chat = |received: &'_ Received| matches!(received, Received::Json(value) if value["type"] == "chat");
    received
        .iter()
        .filter(|received| chat(received))
        .map(|received| match received {
            Received::Json(value) => value["content"].as_str().unwrap(),
            _ => unreachable!("it is a chat message"),
        })
        .collect()
}

async fn refused(client: &mut ScriptedClient, request: Value) -> String {
    client.send(request).await;
    client.find("error").await["error"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn private_message_reaches_every_device_of_both_and_nobody_else() {
    for stored in [false, true] {
        let shelf = Shelf::new();
        let hub = if stored { storing(&shelf, |_| {}) } else { hub(|_| {}) };
        let mut devices = Vec::new();
        for (user, name) in [("alice", "a"), ("alice", "b"), ("bob", "a"), ("bob", "b")] {
            devices.push(device(&hub, user, name).await);
        }
        let mut carol = device(&hub, "carol", "a").await;
        devices[0]
            .send(json!({ "type": "direct", "to": "bob", "content": "psst", "id": 1, "idempotencyKey": "k" }))
            .await;
        settle().await;
        for (number, client) in devices.iter_mut().enumerate() {
            let received = client.messages();
            let of = |kind: &str| received.iter().filter(|value| value["type"] == kind).collect::<Vec<_>>();
            let [subscribed] = of("subscribed")[..] else { panic!("{received:?}") };
            assert_eq!((&subscribed["room"], &subscribed["offset"]), (&json!("@alice~bob"), &json!(0)));
            let [chat] = of("chat")[..] else { panic!("{received:?}") };
            assert_eq!((&chat["content"], &chat["offset"]), (&json!("psst"), &json!(1)));
            assert_eq!((&chat["userId"], &chat["to"]), (&json!("alice"), &json!("bob")), "{chat}");
            let place = |kind| received.iter().position(|value| value["type"] == kind);
            assert!(place("subscribed") < place("chat"), "{received:?}");
            assert_eq!(of("ack").len(), usize::from(number == 0));
        }
        assert_eq!(carol.received(), []);
        // The same again says nothing.
        devices[0]
            .send(json!({ "type": "direct", "to": "bob", "content": "psst", "id": 2, "idempotencyKey": "k" }))
            .await;
        let ack = devices[0].expect("ack").await;
        assert_eq!((&ack["room"], &ack["duplicate"]), (&json!("@alice~bob"), &json!(true)));
        write(&mut devices[3], "alice", "yes?").await;
        settle().await;
        for client in &mut devices {
            assert_eq!(contents(&client.received()), ["yes?"], "stored: {stored}");
        }
        assert_eq!(carol.received(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn conversation_is_closed_to_everybody_else() {
    let hub = hub(|_| {});
    let mut alice = device(&hub, "alice", "").await;
    let (mut carol, handle) = attach_with(&hub, Attach::new(Identity::user("carol").named("carol")), 4096);
    carol.expect("welcome").await;
    let mut anonymous = Identity::user("alice").named("alice");
    anonymous.anonymous = true;
    let (mut nobody, _) = attach_with(&hub, Attach::new(anonymous), 4096);
    nobody.expect("welcome").await;
    write(&mut alice, "bob", "psst").await;
    alice.find("chat").await;
    for room in ["@alice~bob", "@bob~alice", "@", "@alice", "@alice~%62ob", "@alice~carol~bob", "@~alice"] {
        for client in [&mut carol, &mut nobody] {
            assert_eq!(
                refused(client, json!({ "type": "subscribe", "room": room })).await,
                "forbidden",
                "{room}"
            );
            for request in ["publish", "history", "seen", "receipts", "unsubscribe"] {
                let request = json!({ "type": request, "room": room, "data": 1, "offset": 0 });
                if request["type"] != "unsubscribe" {
                    assert_eq!(refused(client, request).await, "not_subscribed", "{room}");
                }
            }
        }
        assert!(matches!(hub.join(handle.id(), room).await, Err(JoinError::Forbidden { .. })), "{room}");
    }
    assert_eq!(refused(&mut alice, json!({ "type": "subscribe", "room": "@bob~alice" })).await, "forbidden");
    assert_eq!(
        refused(&mut nobody, json!({ "type": "direct", "to": "bob", "content": "x" })).await,
        "unauthorized"
    );
    assert_eq!(refused(&mut nobody, json!({ "type": "conversations" })).await, "unauthorized");
    settle().await;
    assert_eq!((carol.received(), nobody.received()), (vec![], vec![]));
    let mut bob = device(&hub, "bob", "").await;
    bob.find("conversations").await;
    assert_eq!(bob.join("@alice~bob").await["unread"], 1);
    bob.say("@alice~bob", "in the room").await;
    alice.find("chat").await;
}

#[tokio::test(start_paused = true)]
async fn addressee_must_be_a_user_id_and_content_must_be_content() {
    let hub = hub(|config| config.user_id_bytes_max = 20);
    let mut alice = device(&hub, "alice", "").await;
    for to in ["", "a\u{0}b", "line\nbreak", "\u{202e}", "a name that is far too long"] {
        let request = json!({ "type": "direct", "to": to, "content": "x" });
        assert_eq!(refused(&mut alice, request).await, "user_not_found", "{to:?}");
    }
    assert_eq!(
        refused(&mut alice, json!({ "type": "direct", "to": "bob", "content": " " })).await,
        "content_required"
    );
    let long = "x".repeat(2000);
    assert_eq!(
        refused(&mut alice, json!({ "type": "direct", "to": "bob", "content": long })).await,
        "content_too_long"
    );
    for to in ["a/b", "@all", "50%", "~", "a~b", "анна", "a b"] {
        write(&mut alice, to, "hi").await;
        let chat = alice.find("chat").await;
        assert_eq!(chat["to"], to, "{chat}");
    }
    assert_eq!(alice.client_conversations().await.len(), 7);
}

trait Asks {
    async fn client_conversations(&mut self) -> Vec<Value>;
}

impl Asks for ScriptedClient {
    async fn client_conversations(&mut self) -> Vec<Value> {
        self.send(json!({ "type": "conversations", "id": "c" })).await;
        loop {
            let answer = self.find("conversations").await;
            if answer["id"] == "c" {
                return answer["conversations"].as_array().unwrap().clone();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn notes_to_oneself_reach_the_users_other_devices() {
    let hub = hub(|_| {});
    let mut phone = device(&hub, "alice", "phone").await;
    let mut laptop = device(&hub, "alice", "laptop").await;
    write(&mut phone, "alice", "milk").await;
    for client in [&mut phone, &mut laptop] {
        let chat = client.find("chat").await;
        assert_eq!((&chat["room"], &chat["to"]), (&json!("@alice~alice"), &json!("alice")));
    }
    settle().await;
    assert_eq!((phone.received(), laptop.received()), (vec![], vec![]));
    let conversations = laptop.client_conversations().await;
    assert_eq!((conversations.len(), &conversations[0]["unread"]), (1, &json!(0)));
}

/// The promise of private messages: who was away finds them at the next connect, once, also after a restart.
#[tokio::test(start_paused = true)]
async fn who_was_away_finds_messages_at_the_next_connect() {
    for stored in [false, true] {
        let shelf = Shelf::new();
        let make = || if stored { storing(&shelf, |_| {}) } else { hub(|_| {}) };
        let mut hub = make();
        let mut alice = device(&hub, "alice", "").await;
        let mut carol = device(&hub, "carol", "").await;
        for text in ["one", "two", "three"] {
            write(&mut alice, "bob", text).await;
        }
        write(&mut carol, "bob", "four").await;
        alice.find("chat").await;
        carol.find("chat").await;
        settle().await;
        if stored {
            drop((alice, carol));
            assert!(hub.shutdown(Duration::from_secs(60)).await);
            hub = make();
        }
        let mut bob = device(&hub, "bob", "").await;
        let news = bob.expect("conversations").await;
        assert!(news.get("id").is_none() && news.get("next").is_none(), "{news}");
        let news = news["conversations"].as_array().unwrap().clone();
        let told: Vec<_> =
            news.iter().map(|told| (&told["with"], &told["unread"], &told["offset"])).collect();
        assert_eq!(told, [(&json!("alice"), &json!(3), &json!(3)), (&json!("carol"), &json!(1), &json!(1))]);
        let (room, epoch) = (news[0]["room"].clone(), news[0]["epoch"].clone());
        bob.send(json!({ "type": "subscribe", "room": room, "epoch": epoch, "offset": 0 })).await;
        assert_eq!(bob.expect("subscribed").await["recovered"], true);
        for text in ["one", "two", "three"] {
            assert_eq!(bob.expect("chat").await["content"], text);
        }
        bob.send(json!({ "type": "seen", "room": room, "offset": 3, "id": 1 })).await;
        settle().await;
        let mut kinds = kinds(&bob.received()).into_iter().map(str::to_owned).collect::<Vec<_>>();
        kinds.sort();
        assert_eq!(kinds, ["receipt", "receipt_ack"]);
        drop(bob);
        settle().await;
        // Only what is still unread is told of.
        let mut bob = device(&hub, "bob", "").await;
        let news = bob.expect("conversations").await["conversations"].as_array().unwrap().clone();
        assert_eq!((news.len(), &news[0]["with"]), (1, &json!("carol")), "stored: {stored}");
        assert_eq!(bob.client_conversations().await.len(), 2);
        // Who wrote has nothing to be told.
        let mut alice = device(&hub, "alice", "again").await;
        settle().await;
        assert_eq!(alice.received(), [], "stored: {stored}");
    }
}

/// A feature that nobody uses costs nothing: one look for all who connect.
#[tokio::test(start_paused = true)]
async fn connects_cost_no_read_while_nobody_has_ever_written() {
    let shelf = Shelf::new();
    let hub = storing(&shelf, |_| {});
    for number in 0..50 {
        drop(welcomed(&hub, &format!("u{number}")).await);
        settle().await;
    }
    assert_eq!(shelf.scans_of("conversations"), 1);
    let mut alice = device(&hub, "alice", "").await;
    write(&mut alice, "bob", "first").await;
    alice.find("chat").await;
    let mut bob = device(&hub, "bob", "").await;
    assert_eq!(bob.expect("conversations").await["conversations"][0]["unread"], 1);
}

#[tokio::test(start_paused = true)]
async fn conversations_come_in_pages() {
    for stored in [false, true] {
        let shelf = Shelf::new();
        let hub = if stored { storing(&shelf, |_| {}) } else { hub(|_| {}) };
        for number in 0..130 {
            let text = Publication::new(Kind::Chat, Body::Text("hi".into()));
            hub.direct(&format!("u{number:03}"), "bob", text).unwrap().await.unwrap();
        }
        let mut bob = device(&hub, "bob", "").await;
        let mut page = bob.expect("conversations").await;
        let mut users = Vec::new();
        loop {
            let with = page["conversations"].as_array().unwrap().iter();
            users.extend(with.map(|told| told["with"].as_str().unwrap().to_owned()));
            let Some(next) = page.get("next") else { break };
            bob.send(json!({ "type": "conversations", "after": next, "limit": 40, "id": 1 })).await;
            page = bob.expect("conversations").await;
        }
        let expected: Vec<_> = (0..130).map(|number| format!("u{number:03}")).collect();
        assert_eq!(users, expected, "stored: {stored}");
        let page = hub.conversations("u000", None, 10).await.unwrap();
        assert_eq!((page.page.len(), page.page[0].unread.count), (1, 0), "own words are no news");
    }
}

#[tokio::test(start_paused = true)]
async fn tenants_have_their_own_conversations() {
    let hub = hub(|_| {});
    let of = |tenant: &str, user: &str| {
        let mut identity = Identity::user(user).named(user);
        identity.tenant = tenant.into();
        identity
    };
    let (mut alice, _) = attach_with(&hub, Attach::new(of("red", "alice")), 4096);
    let (mut bob, _) = attach_with(&hub, Attach::new(of("blue", "bob")), 4096);
    alice.expect("welcome").await;
    bob.expect("welcome").await;
    write(&mut alice, "bob", "psst").await;
    alice.find("chat").await;
    settle().await;
    assert_eq!(bob.received(), []);
    assert_eq!(bob.client_conversations().await, Vec::<Value>::new());
    let (mut bob, _) = attach_with(&hub, Attach::new(of("red", "bob")), 4096);
    bob.expect("welcome").await;
    assert_eq!(bob.expect("conversations").await["conversations"][0]["with"], "alice");
}

#[tokio::test(start_paused = true)]
async fn application_writes_in_a_users_name() {
    let hub = hub(|_| {});
    let mut bob = device(&hub, "bob", "").await;
    let text = |text: &str| Publication::new(Kind::Chat, Body::Text(text.into()));
    let published = hub.direct("alice", "bob", text("hello").once("k")).unwrap().await.unwrap();
    assert!(hub.direct("alice", "bob", text("hello").once("k")).unwrap().await.unwrap().duplicate);
    let chat = bob.find("chat").await;
    assert_eq!((&chat["userId"], &chat["to"], &chat["offset"]), (&json!("alice"), &json!("bob"), &json!(1)));
    assert_eq!(published.position.unwrap().offset, 1);
    assert_eq!(hub.conversation("bob", "alice").unwrap().as_str(), "@alice~bob");
    assert!(matches!(hub.direct("alice", "", text("x")), Err(PublishError::Refused(_))));
    assert!(matches!(hub.publish("@alice", Kind::Data, Body::Empty), Err(PublishError::Refused(_))));
    let off = hub_of(Hub::builder(), |config| {
        config.rooms.direct = Arc::new(RoomClass::default());
    });
    assert!(matches!(off.direct("alice", "bob", text("x")), Err(PublishError::Refused(_))));
}

/// A flood of writers cannot take the places of a client's rooms, and loses nothing of what it brings.
#[tokio::test(start_paused = true)]
async fn conversations_have_places_of_their_own_and_the_oldest_gives_way() {
    let hub = hub(|config| config.rooms_per_client_max = 3);
    let mut bob = device(&hub, "bob", "").await;
    let text = |text: &str| Publication::new(Kind::Chat, Body::Text(text.into()));
    for number in 0..10 {
        hub.direct(&format!("u{number}"), "bob", text("hi")).unwrap().await.unwrap();
        bob.find("chat").await;
    }
    for room in ["r1", "r2", "r3"] {
        bob.send(json!({ "type": "subscribe", "room": room })).await;
        bob.find("subscribed").await;
    }
    assert_eq!(refused(&mut bob, json!({ "type": "subscribe", "room": "r4" })).await, "too_many_rooms");
    hub.direct("u0", "bob", text("again")).unwrap().await.unwrap();
    assert_eq!(bob.expect("unsubscribed").await["room"], "@bob~u7");
    assert_eq!(bob.expect("subscribed").await["offset"], 1);
    assert_eq!(bob.expect("chat").await["content"], "again");
}

/// Receipts, history and amendments are those of any room.
#[tokio::test(start_paused = true)]
async fn conversation_is_a_room_like_any_other() {
    let hub = hub(|_| {});
    let mut alice = device(&hub, "alice", "").await;
    let mut bob = device(&hub, "bob", "").await;
    write(&mut alice, "bob", "helo").await;
    alice.find("chat").await;
    bob.find("chat").await;
    bob.send(json!({ "type": "seen", "room": "@alice~bob", "offset": 1 })).await;
    assert_eq!(alice.expect("receipt").await["userId"], "bob");
    alice.send(json!({ "type": "edit", "room": "@alice~bob", "offset": 1, "content": "hello" })).await;
    bob.find("edit").await;
    bob.send(json!({ "type": "history", "room": "@alice~bob", "id": 1 })).await;
    let history = bob.find("history").await;
    assert_eq!(history["messages"][0]["content"], "hello");
    bob.send(json!({ "type": "chat", "content": "/msg alice thanks" })).await;
    assert_eq!(alice.find("chat").await["content"], "thanks");
}

/// Messages that stay in memory outlive the moment in which nobody is there.
#[tokio::test(start_paused = true)]
async fn conversation_in_memory_waits_for_its_readers_for_days() {
    let hub = hub(|_| {});
    let mut bob = device(&hub, "bob", "").await;
    bob.join("@alice~bob").await;
    drop(bob);
    settle().await;
    let text = Publication::new(Kind::Chat, Body::Text("hi".into()));
    hub.direct("alice", "bob", text).unwrap().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
    let mut bob = device(&hub, "bob", "").await;
    assert_eq!(bob.expect("conversations").await["conversations"][0]["unread"], 1);
    drop(bob);
    tokio::time::sleep(Duration::from_secs(8 * 24 * 3600)).await;
    assert_eq!(hub.room_count(), 0, "and not for ever");
    assert!(hub.conversations("bob", None, 10).await.unwrap().page.is_empty());
}

/// A device and what it has of each conversation, over all of its connections.
struct Holder {
    user: usize,
    name: String,
    client: Option<ScriptedClient>,
    connections: usize,
    /// Conversations it is in, and the offset of the last message there.
    rooms: HashMap<String, u64>,
    /// Everything it has: by room, by offset.
    has: BTreeMap<String, BTreeMap<u64, String>>,
}

impl Holder {
    async fn connect(&mut self, hub: &Hub) {
        if self.client.is_none() {
            // Another name each time: on several shards, who came first is not who is taken in first.
            self.connections += 1;
            let name = format!("{}-{}", self.name, self.connections);
            self.client = Some(connect(hub, &user(self.user), &name));
        }
    }

    fn disconnect(&mut self) {
        self.client = None;
        self.rooms.clear();
    }

    /// Takes in what has come, and asks for what is missing, as a client does. Returns whether anything had come.
    async fn pump(&mut self) -> bool {
        let Some(client) = &mut self.client else { return false };
        let received = client.messages();
        for value in &received {
            let room = value["room"].as_str().unwrap_or_default().to_owned();
            match value["type"].as_str().unwrap() {
                "subscribed" => {
                    let at = value["offset"].as_u64().unwrap();
                    let epoch = value["epoch"].as_str().unwrap();
                    if self.rooms.contains_key(&room) {
                        continue;
                    }
                    self.rooms.insert(room.clone(), at);
                    let last = last(&self.has, &room);
                    assert!(!epoch.is_empty());
                    if last < at {
                        client
                            .send(json!({ "type": "history", "room": room, "after": last, "limit": 500 }))
                            .await;
                    }
                }
                "unsubscribed" => drop(self.rooms.remove(&room)),
                "chat" => {
                    let offset = value["offset"].as_u64().unwrap();
                    let at = self.rooms.get_mut(&room).unwrap_or_else(|| panic!("not subscribed: {value}"));
                    assert_eq!(offset, *at + 1, "{} {}: {value}", user(self.user), self.name);
                    *at = offset;
                    let content = value["content"].as_str().unwrap().to_owned();
                    let known = self.has.entry(room).or_default().insert(offset, content.clone());
                    assert!(known.is_none() || known == Some(content), "{value}");
                }
                "history" => {
                    for message in value["messages"].as_array().unwrap() {
                        let content = message["content"].as_str().unwrap().to_owned();
                        let held = self.has.entry(room.clone()).or_default();
                        held.insert(message["offset"].as_u64().unwrap(), content);
                    }
                    if value["more"] == true {
                        let after = value["messages"].as_array().unwrap().last().unwrap()["offset"].clone();
                        client.send(json!({ "type": "history", "room": room, "after": after })).await;
                    }
                }
                "conversations" => {
                    for told in value["conversations"].as_array().unwrap() {
                        let room = told["room"].as_str().unwrap();
                        if !self.rooms.contains_key(room) {
                            let last = last(&self.has, room);
                            client
                                .send(json!({ "type": "subscribe", "room": room, "epoch": told["epoch"], "offset": last }))
                                .await;
                        }
                    }
                }
                "welcome" => {}
                other => panic!("{other}: {value}"),
            }
        }
        !received.is_empty()
    }
}

/// Up to where a device has everything.
fn last(has: &BTreeMap<String, BTreeMap<u64, String>>, room: &str) -> u64 {
    has.get(room).map_or(0, |held| (1..).take_while(|offset| held.contains_key(offset)).last().unwrap_or(0))
}

fn user(number: usize) -> String {
    format!("user{number}")
}

#[derive(Clone, Debug)]
enum Act {
    Connect(usize),
    Disconnect(usize),
    Say {
        device: usize,
        to: usize,
    },
    Pump(usize),
    /// Lets the hub do what it can.
    Settle,
    /// Long enough for rooms to be forgotten.
    Wait,
}

const USERS: usize = 3;

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        2 => (0..2 * USERS).prop_map(Act::Connect),
        1 => (0..2 * USERS).prop_map(Act::Disconnect),
        6 => (0..2 * USERS, 0..USERS).prop_map(|(device, to)| Act::Say { device, to }),
        3 => (0..2 * USERS).prop_map(Act::Pump),
        2 => Just(Act::Settle),
        1 => Just(Act::Wait),
    ];
    prop::collection::vec(act, 1..60)
}

async fn every_device_gets_everything_once(hub: &Hub, acts: Vec<Act>) {
    let holder = |number: usize| Holder {
        user: number % USERS,
        name: format!("d{number}"),
        client: None,
        connections: 0,
        rooms: HashMap::new(),
        has: BTreeMap::new(),
    };
    let mut holders: Vec<_> = (0..2 * USERS).map(holder).collect();
    for (number, act) in acts.into_iter().enumerate() {
        match act {
            Act::Connect(device) => holders[device].connect(hub).await,
            Act::Disconnect(device) => holders[device].disconnect(),
            Act::Say { device, to } => {
                if let Some(client) = &mut holders[device].client {
                    write(client, &user(to), &format!("m{number}")).await;
                }
            }
            Act::Pump(device) => drop(holders[device].pump().await),
            Act::Settle => settle().await,
            Act::Wait => tokio::time::sleep(Duration::from_secs(20)).await,
        }
    }
    // Everybody comes, asks for what there is, and reads it.
    for holder in &mut holders {
        holder.connect(hub).await;
        let client = holder.client.as_mut().unwrap();
        client.send(json!({ "type": "conversations", "limit": 500 })).await;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut more = false;
        for holder in &mut holders {
            more |= holder.pump().await;
        }
        if !more {
            break;
        }
    }
    for number in 0..USERS {
        let me = user(number);
        let expected = hub.conversations(&me, None, 500).await.unwrap().page;
        for holder in holders.iter().filter(|holder| holder.user == number) {
            for told in &expected {
                let room = told.room.as_str();
                let offsets: Vec<u64> =
                    holder.has.get(room).into_iter().flat_map(BTreeMap::keys).copied().collect();
                assert_eq!(
                    offsets,
                    (1..=told.head.offset).collect::<Vec<_>>(),
                    "{me} {} {room}",
                    holder.name
                );
            }
            assert_eq!(holder.has.len(), expected.len());
        }
    }
    // Both sides have the same.
    for (room, held) in holders.iter().flat_map(|holder| &holder.has) {
        for other in holders.iter().filter_map(|holder| holder.has.get(room)) {
            assert_eq!(held, other, "{room}");
        }
    }
}

fn in_paused_time(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// Whatever comes together: every device has every conversation of its user without a hole, and was sent nothing twice.
    #[test]
    fn every_device_has_its_conversations_without_holes(acts in acts(), kind in 0..3u8) {
        in_paused_time(async {
            let shelf = Shelf::new();
            let hub = match kind {
                0 => hub(without_heartbeat),
                1 => storing(&shelf, without_heartbeat),
                // Nothing stays in memory: devices wait for reads.
                _ => storing(&shelf, |config| {
                    without_heartbeat(config);
                    config.history_cache_bytes_max = 0;
                }),
            };
            every_device_gets_everything_once(&hub, acts).await;
        });
    }
}

/// The same with real threads and real races: several shards, the keeper beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_on_several_shards_have_their_conversations_without_holes() {
    for stored in [false, true] {
        let shelf = Shelf::new();
        let mut config = HubConfig { shards: 3, ..HubConfig::default() };
        without_heartbeat(&mut config);
        if stored {
            stored_conversations(&mut config);
        }
        let hub = builder(&shelf).config(config).start().unwrap();
        let mut holders: Vec<_> = (0..6)
            .map(|number| Holder {
                user: number % USERS,
                name: format!("d{number}"),
                client: None,
                connections: 0,
                rooms: HashMap::new(),
                has: BTreeMap::new(),
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(7);
        let writer = tokio::spawn({
            let hub = hub.clone();
            async move {
                let mut random = fastrand::Rng::with_seed(11);
                for number in 0..1000 {
                    let (from, to) = (user(random.usize(..USERS)), user(random.usize(..USERS)));
                    let text = Publication::new(Kind::Chat, Body::Text(format!("w{number}").into()));
                    hub.direct(&from, &to, text).unwrap().await.unwrap();
                }
            }
        });
        let mut number = 0;
        while !writer.is_finished() || number < 2000 {
            number += 1;
            let device = random.usize(..holders.len());
            match random.u8(..10) {
                0 => holders[device].disconnect(),
                1 | 2 => holders[device].connect(&hub).await,
                // No more than a room keeps in memory.
                3..6 if number < 3000 => {
                    let to = user(random.usize(..USERS));
                    if let Some(client) = &mut holders[device].client {
                        write(client, &to, &format!("d{number}")).await;
                    }
                }
                _ => drop(holders[device].pump().await),
            }
            tokio::task::yield_now().await;
        }
        writer.await.unwrap();
        for holder in &mut holders {
            holder.connect(&hub).await;
            holder.client.as_mut().unwrap().send(json!({ "type": "conversations", "limit": 500 })).await;
        }
        let patience = tokio::time::Instant::now() + PATIENCE / 15;
        let mut missing = None;
        loop {
            assert!(
                tokio::time::Instant::now() < patience,
                "stored: {stored}: never had everything: {missing:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
            for holder in &mut holders {
                holder.pump().await;
            }
            missing = None;
            for holder in &holders {
                for told in hub.conversations(&user(holder.user), None, 500).await.unwrap().page {
                    let room = told.room.as_str();
                    let last = last(&holder.has, room);
                    if last < told.head.offset {
                        let at = holder.rooms.get(room).copied();
                        missing = Some((holder.name.clone(), told.room, told.head.offset, last, at));
                    }
                }
            }
            if missing.is_none() {
                break;
            }
        }
        assert!(holders.iter().all(|holder| holder.has.len() == USERS));
        drop(holders);
        assert!(hub.shutdown(PATIENCE).await);
    }
}

/// The offsets that a device was given live, for the readers of the tests above.
#[tokio::test(start_paused = true)]
async fn device_that_connects_between_two_messages_gets_the_second_live_and_hears_of_the_first() {
    for stored in [false, true] {
        let shelf = Shelf::new();
        let hub = if stored { storing(&shelf, |_| {}) } else { hub(|_| {}) };
        let mut alice = device(&hub, "alice", "").await;
        write(&mut alice, "bob", "one").await;
        alice.find("chat").await;
        let mut bob = connect(&hub, "bob", "");
        write(&mut alice, "bob", "two").await;
        settle().await;
        let received = bob.received();
        assert_eq!(offsets(&received), [2], "stored: {stored}");
        let told = received.iter().find(|received| received.kind() == Some("conversations"));
        assert!(told.is_some(), "{received:?}");
    }
}
