//! The API over several nodes, in one process: hubs on a bus in memory, each with its own API.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use futures_util::StreamExt as _;
use outspoke_hub::bus::MemoryHub;
use outspoke_hub::protocol::Disconnect;
use outspoke_hub::{Attach, Client, ClusterOptions, Hub, HubConfig, Identity, affinity};
use outspoke_testkit::{ScriptedClient, attach_with};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Answers, Api, Kept, routes};
use crate::config::{FileChoice, FlagValue, Sources, load};

const KEY: &str = "a-key-for-tests-0123456789";

/// Nodes that share a bus, named node-1 and so on.
pub(super) struct Nodes {
    pub(super) bus: MemoryHub,
    pub(super) hubs: Vec<Hub>,
    /// What outlives a request of each.
    kept: Vec<Kept>,
}

impl Nodes {
    pub(super) async fn start(count: usize) -> Self {
        let bus = MemoryHub::new();
        let kept: Vec<Kept> = (1..=count).map(|_| Kept::default()).collect();
        let node = |number: usize| {
            let mut options = ClusterOptions::new(format!("node-{number}"));
            options.advertise = format!("wss://node-{number}.example.com/ws").into();
            let mut config = quiet();
            // The last one only.
            config.slow_down = number == count;
            let builder = Hub::builder().config(config).cluster(Arc::new(bus.connect()), options);
            let builder = builder.node_answers(Answers::new(&kept[number - 1]));
            builder.start_on_this_runtime().unwrap()
        };
        let hubs = (1..=count).map(node).collect();
        beats(1).await;
        Self { bus, hubs, kept }
    }

    pub(super) async fn get(&self, at: usize, path: &str) -> Value {
        ask(&self.hubs[at], &self.kept[at], "GET", path, None, 200).await
    }

    pub(super) async fn post(&self, at: usize, path: &str, body: Option<Value>) -> Value {
        ask(&self.hubs[at], &self.kept[at], "POST", path, body, 200).await
    }
}

fn quiet() -> HubConfig {
    let mut config = HubConfig::default();
    config.rooms.default_mut().announce = false;
    config
}

pub(super) async fn beats(count: u32) {
    tokio::time::sleep(count * Duration::from_secs(5)).await;
}

/// Asks a hub's API; the status must be that one.
pub(super) async fn expect(hub: &Hub, method: &str, path: &str, body: Option<Value>, status: u16) -> Value {
    ask(hub, &Kept::default(), method, path, body, status).await
}

async fn ask(hub: &Hub, kept: &Kept, method: &str, path: &str, body: Option<Value>, status: u16) -> Value {
    let flag = FlagValue { flag: "--set".into(), key: "api.keys".into(), value: KEY.into() };
    let sources = Sources { file: FileChoice::None, flags: vec![flag], ..Sources::default() };
    let config = load(&sources).unwrap().config;
    let api = routes(Api::new(hub, &config.api, &config.tenants, "machine:8080", kept));
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
        .unwrap();
    let answer = api.oneshot(request).await.unwrap();
    let got = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(got, status, "{method} {path}: {body}");
    body
}

pub(super) async fn connect(hub: &Hub, user: &str, device: &str) -> (ScriptedClient, Arc<Client>) {
    let mut identity = Identity::user(user).named(user);
    identity.device = device.into();
    let (mut client, known) = attach_with(hub, Attach::new(identity), 65536);
    client.expect("welcome").await;
    (client, known)
}

fn names(nodes: &Value) -> Vec<&str> {
    nodes["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn server_on_its_own_is_a_list_of_one_that_drains_and_resumes() {
    let hub = Hub::builder().config(quiet()).start_on_this_runtime().unwrap();
    let (mut ana, _) = connect(&hub, "ana", "").await;
    let list = expect(&hub, "GET", "/nodes", None, 200).await;
    let node = &list["nodes"][0];
    assert_eq!((names(&list), list.get("bus")), (vec!["machine:8080"], None), "{list}");
    assert_eq!(
        (&node["here"], &node["connections"], &node["draining"]),
        (&json!(true), &json!(1), &json!(false))
    );
    assert_eq!((&node["hearsUs"], &node["silent"], &node["lagMs"]), (&json!(true), &json!(false), &json!(0)));
    let by_id = expect(&hub, "GET", &format!("/nodes/{}", node["id"].as_str().unwrap()), None, 200).await;
    assert_eq!(by_id["name"], "machine:8080");
    let check = expect(&hub, "POST", "/cluster/check", None, 200).await;
    assert_eq!((&check["ok"], &check["checks"][0]["routes"]), (&json!(true), &json!([])), "{check}");
    let affinity = expect(&hub, "GET", "/affinity?user=ana&room=lobby", None, 200).await;
    assert_eq!(
        (&affinity["user"]["node"], &affinity["room"]["here"]),
        (&json!("machine:8080"), &json!(true))
    );
    assert_eq!(expect(&hub, "POST", "/nodes/machine:8080/drain", None, 200).await["draining"], true);
    assert_eq!(ana.closed().await, Some(Disconnect::GoingAway.code()));
    assert!(hub.is_draining());
    let refused = expect(&hub, "GET", "/affinity?user=ana", None, 503).await;
    assert_eq!(refused["error"], "unavailable");
    assert_eq!(expect(&hub, "POST", "/nodes/machine:8080/resume", None, 200).await["draining"], false);
    assert!(!hub.is_draining());
}

#[tokio::test(start_paused = true)]
async fn every_node_tells_of_all_of_them_itself_first() {
    let nodes = Nodes::start(3).await;
    let _ana = connect(&nodes.hubs[2], "ana", "").await;
    beats(1).await;
    let list = nodes.get(1, "/nodes").await;
    let mut all = names(&list);
    assert_eq!(all.remove(0), "node-2");
    all.sort_unstable();
    assert_eq!(all, ["node-1", "node-3"]);
    assert_eq!((&list["bus"]["kind"], &list["bus"]["connected"]), (&json!("memory"), &json!(true)), "{list}");
    let third = nodes.get(1, "/nodes/node-3").await;
    assert_eq!(
        (&third["connections"], &third["here"], &third["hearsUs"]),
        (&json!(1), &json!(false), &json!(true))
    );
    assert_eq!(third["url"], "wss://node-3.example.com/ws");
    let unknown = expect(&nodes.hubs[0], "GET", "/nodes/node-4", None, 404).await;
    assert_eq!(unknown["error"], "not_found");
}

#[tokio::test(start_paused = true)]
async fn node_is_drained_and_resumed_from_another_and_says_so_at_once() {
    let nodes = Nodes::start(2).await;
    let (mut ben, _) = connect(&nodes.hubs[1], "ben", "").await;
    assert_eq!(nodes.post(0, "/nodes/node-2/drain", None).await["draining"], true);
    assert_eq!(ben.closed().await, Some(Disconnect::GoingAway.code()));
    // Before its next beat is due.
    assert_eq!(nodes.get(0, "/nodes/node-2").await["draining"], true);
    assert_eq!(nodes.get(0, "/affinity").await["nodes"], json!(["node-1"]));
    assert_eq!(nodes.post(0, "/nodes/node-2/resume", None).await["draining"], false);
    assert!(nodes.hubs[1].is_accepting());
    let order = expect(&nodes.hubs[0], "POST", "/nodes/node-9/drain", None, 404).await;
    assert_eq!(order["error"], "not_found");
}

#[tokio::test(start_paused = true)]
async fn node_that_does_not_answer_is_unavailable_and_then_silent_and_then_gone() {
    let nodes = Nodes::start(2).await;
    nodes.bus.go_away();
    let refused = expect(&nodes.hubs[0], "POST", "/nodes/node-2/drain", None, 503).await;
    assert_eq!(
        (&refused["error"], &refused["temporary"]),
        (&json!("unavailable"), &json!(true)),
        "{refused}"
    );
    assert_eq!(nodes.get(0, "/nodes").await["bus"]["connected"], false);
    while nodes.get(0, "/nodes/node-2").await["silent"] == false {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let check = nodes.post(0, "/cluster/check", None).await;
    assert_eq!(check["ok"], false, "{check}");
    beats(2).await;
    assert_eq!(names(&nodes.get(0, "/nodes").await), ["node-1"]);
    nodes.bus.come_back().await;
    beats(1).await;
    assert_eq!(nodes.get(0, "/nodes/node-2").await["silent"], false);
}

#[tokio::test(start_paused = true)]
async fn check_has_a_route_from_every_node_to_every_other() {
    let nodes = Nodes::start(3).await;
    let check = nodes.post(2, "/cluster/check", None).await;
    assert_eq!(check["ok"], true, "{check}");
    let checks = check["checks"].as_array().unwrap();
    assert_eq!((checks.len(), &checks[0]["from"]["name"]), (3, &json!("node-3")));
    for found in checks {
        let routes = found["routes"].as_array().unwrap();
        assert_eq!(routes.len(), 2);
        for route in routes {
            assert_ne!(route["to"]["name"], found["from"]["name"]);
            assert!(route["roundTripMs"].is_number() && route["clockAheadMs"].is_i64(), "{route}");
        }
    }
}

/// What the API, the welcome and the documented algorithm say is one.
#[tokio::test(start_paused = true)]
async fn every_node_prefers_the_same_node_for_a_user_and_says_so_in_the_welcome() {
    let nodes = Nodes::start(3).await;
    let all = ["node-1", "node-2", "node-3"];
    for user in ["alice", "bob", "carol", "dave", "Zoë"] {
        let documented = all[affinity::prefer(&all, &affinity::user_key("", user)).unwrap()];
        let encoded: String = form_urlencoded::byte_serialize(user.as_bytes()).collect();
        for (at, own) in all.iter().enumerate() {
            let told = nodes.get(at, &format!("/affinity?user={encoded}")).await;
            assert_eq!(told["user"]["node"], documented, "{told}");
            assert_eq!(told["user"]["here"], documented == *own);
            let attach = Attach::new(Identity::user(user).named(user));
            let (mut client, _) = attach_with(&nodes.hubs[at], attach, 65536);
            let welcome = client.expect("welcome").await;
            let url = format!("wss://{documented}.example.com/ws");
            assert_eq!(
                welcome["node"],
                json!({ "name": own, "prefer": documented, "url": url }),
                "{welcome}"
            );
        }
    }
    let told = nodes.get(0, "/affinity?room=lobby").await;
    assert_eq!(told["room"]["key"], "room:/lobby");
    let refused = expect(&nodes.hubs[0], "GET", "/affinity?room=%20", None, 400).await;
    assert_eq!(refused["error"], "invalid_room");
}

#[tokio::test(start_paused = true)]
async fn connections_are_ended_on_whichever_node_they_are() {
    let nodes = Nodes::start(2).await;
    let (mut phone, _) = connect(&nodes.hubs[1], "ben", "phone").await;
    let (mut laptop, _) = connect(&nodes.hubs[1], "ben", "laptop").await;
    let (mut tablet, _) = connect(&nodes.hubs[0], "ben", "tablet").await;
    let (mut eve, known) = connect(&nodes.hubs[1], "eve", "").await;
    let only = json!({ "user": "ben", "device": "phone", "reconnect": true });
    assert_eq!(nodes.post(0, "/disconnect", Some(only)).await["disconnected"], 1);
    assert_eq!(phone.closed().await, Some(Disconnect::ReconnectRequested.code()));
    assert_eq!(nodes.post(0, "/disconnect", Some(json!({ "user": "ben" }))).await["disconnected"], 2);
    for client in [&mut laptop, &mut tablet] {
        assert_eq!(client.closed().await, Some(Disconnect::Kicked.code()));
    }
    let client = json!({ "client": known.id().to_string() });
    assert_eq!(nodes.post(0, "/disconnect", Some(client.clone())).await["disconnected"], 1);
    assert_eq!(eve.closed().await, Some(Disconnect::Kicked.code()));
    assert_eq!(nodes.post(0, "/disconnect", Some(client)).await["disconnected"], 0);
}

/// Whichever node a load balancer asks knows who is in a room.
#[tokio::test(start_paused = true)]
async fn room_that_only_another_node_has_is_told_of_with_its_members() {
    let nodes = Nodes::start(2).await;
    let (mut ana, _) = connect(&nodes.hubs[1], "ana", "").await;
    ana.join("far").await;
    let (mut ben, _) = connect(&nodes.hubs[1], "ben", "").await;
    ben.join("far").await;
    let presence = nodes.get(0, "/rooms/far/presence").await;
    assert_eq!((&presence["members"], &presence["userCount"]), (&json!(2), &json!(2)), "{presence}");
    assert_eq!(nodes.get(0, "/rooms/far").await["members"], 2);
    let unknown = expect(&nodes.hubs[0], "GET", "/rooms/nowhere/presence", None, 404).await;
    assert_eq!(unknown["error"], "not_found");
    drop((ana, ben));
    tokio::time::sleep(Duration::from_secs(20)).await;
    expect(&nodes.hubs[0], "GET", "/rooms/far", None, 404).await;
}

/// Any node tells of all: the user's connections, wherever they are, and who did not answer.
#[tokio::test(start_paused = true)]
async fn any_node_explains_what_became_of_a_message_on_all_of_them() {
    let nodes = Nodes::start(2).await;
    let (mut phone, _) = connect(&nodes.hubs[0], "ana", "phone").await;
    let (mut tablet, _) = connect(&nodes.hubs[1], "ana", "tablet").await;
    let (_idle, _) = connect(&nodes.hubs[1], "ana", "idle").await;
    phone.join("x").await;
    tablet.join("x").await;
    let said = json!({ "room": "x", "type": "chat", "content": "a secret" });
    let published = nodes.post(0, "/publish", Some(said)).await;
    tablet.expect("chat").await;
    let id = published["id"].as_str().unwrap();
    for at in [0, 1] {
        let told = nodes.get(at, &format!("/explain?message={id}&user=ana")).await;
        assert_eq!(
            (&told["room"], &told["messageId"], &told["type"]),
            (&json!("x"), &json!(id), &json!("chat"))
        );
        assert_eq!(
            (&told["published"]["node"], &told["published"]["via"]),
            (&json!("node-1"), &json!("api"))
        );
        assert_eq!((&told["bus"]["told"], told.get("stored")), (&json!(true), None));
        let mut got: Vec<_> = told["user"]["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| ["node", "device", "outcome"].map(|field| one[field].as_str().unwrap()))
            .collect();
        got.sort_unstable();
        assert_eq!(
            got,
            [
                ["node-1", "phone", "written"],
                ["node-2", "idle", "not_member"],
                ["node-2", "tablet", "written"]
            ]
        );
        assert_eq!(told["unknown"], json!([]), "{told}");
        assert_eq!(told["summary"], "ana was sent it: on 2 of 3 connections");
        assert!(!told.to_string().contains("secret"), "what was said is nobody's business here: {told}");
    }
    nodes.bus.go_away();
    let told = nodes.get(0, &format!("/explain?message={id}&user=ana")).await;
    let silent = &told["nodes"][1];
    assert_eq!((&silent["node"], &silent["answered"]), (&json!("node-2"), &json!(false)));
    assert!(told["unknown"][0].as_str().unwrap().contains("node-2 did not answer"), "{told}");
}

/// Whichever node is asked; and where none has it, who did not answer is named.
#[tokio::test(start_paused = true)]
async fn connection_is_slowed_down_on_whichever_node_it_is_if_that_node_permits_it() {
    let nodes = Nodes::start(2).await;
    let (_ana, near) = connect(&nodes.hubs[0], "ana", "").await;
    let (_ben, far) = connect(&nodes.hubs[1], "ben", "").await;
    let (near, far) = (format!("/clients/{}", near.id()), format!("/clients/{}", far.id()));
    let seconds = || Some(json!({ "seconds": 60 }));
    let slowed = nodes.post(0, &format!("{far}/slow"), seconds()).await;
    assert_eq!((&slowed["seconds"], &slowed["node"]), (&json!(60), &json!("node-2")), "{slowed}");
    assert_eq!(nodes.get(1, &far).await["slowed"], true);
    for at in [0, 1] {
        let refused = expect(&nodes.hubs[at], "POST", &format!("{near}/slow"), seconds(), 403).await;
        let message = refused["message"].as_str().unwrap();
        assert_eq!(message, "node node-1 slows no clients down: set inspect.slow to true there");
    }
    let nobody = "/clients/00000000-0000-0000-0000-000000000000/slow";
    let refused = expect(&nodes.hubs[0], "POST", nobody, seconds(), 404).await;
    assert_eq!(refused["message"], "no node has such a connection");
    nodes.bus.go_away();
    let refused = expect(&nodes.hubs[0], "POST", &format!("{far}/slow"), seconds(), 503).await;
    assert_eq!((&refused["error"], &refused["temporary"]), (&json!("unavailable"), &json!(true)));
    assert!(refused["message"].as_str().unwrap().ends_with("two seconds: node-2"), "{refused}");
}

/// A stream of events, read one by one.
struct Events(axum::body::BodyDataStream, String);

impl Events {
    async fn of(hub: &Hub, path: &str) -> Self {
        let flag = FlagValue { flag: "--set".into(), key: "api.keys".into(), value: KEY.into() };
        let sources = Sources { file: FileChoice::None, flags: vec![flag], ..Sources::default() };
        let config = load(&sources).unwrap().config;
        let api = routes(Api::new(hub, &config.api, &config.tenants, "machine:8080", &Kept::default()));
        let request = Request::builder().uri(path).header("authorization", format!("Bearer {KEY}"));
        let answer = api.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        Self(answer.into_body().into_data_stream(), String::new())
    }

    /// The next event of that name: what is between is dropped.
    async fn find(&mut self, name: &str) -> Value {
        loop {
            while let Some((event, rest)) = self.1.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.1 = rest;
                if let Some(data) = event.strip_prefix(&format!("event: {name}\ndata: ")) {
                    return serde_json::from_str(data).unwrap();
                }
            }
            let piece = self.0.next().await.expect("the stream goes on").unwrap();
            self.1.push_str(std::str::from_utf8(&piece).unwrap());
        }
    }
}

/// A follower need not know where somebody is, and is told who cannot tell.
#[tokio::test(start_paused = true)]
async fn room_is_followed_on_all_nodes_and_each_message_is_told_once() {
    let nodes = Nodes::start(2).await;
    let (mut ben, _) = connect(&nodes.hubs[1], "ben", "").await;
    let mut events = Events::of(&nodes.hubs[0], "/follow?room=x&payload=true").await;
    let begun = events.find("following").await;
    assert_eq!((&begun["nodes"], &begun["silent"]), (&json!(["node-1", "node-2"]), &json!([])), "{begun}");
    ben.join("x").await;
    let joined = events.find("joined").await;
    assert_eq!((&joined["node"], &joined["userId"]), (&json!("node-2"), &json!("ben")));
    // Now both nodes have the room, and hear of what is said in it.
    let (mut ana, _) = connect(&nodes.hubs[0], "ana", "").await;
    ana.join("x").await;
    assert_eq!(events.find("joined").await["node"], "node-1");
    for (at, text) in [(1, "one"), (0, "two"), (1, "three")] {
        let said = json!({ "room": "x", "type": "chat", "content": text });
        let published = nodes.post(at, "/publish", Some(said)).await;
        let told = events.find("published").await;
        assert_eq!((&told["messageId"], &told["type"]), (&published["id"], &json!("chat")), "{told}");
        assert_eq!(told["message"]["content"], text);
    }
    nodes.bus.go_away();
    let changed = events.find("nodes").await;
    assert_eq!(changed["nodes"], json!(["node-1"]), "{changed}");
    let why = json!([{ "node": "node-2", "why": "it did not answer within two seconds" }]);
    assert_eq!(changed["silent"], why);
    nodes.bus.come_back().await;
    while events.find("nodes").await["silent"] != json!([]) {}
    drop(events);
    // Nobody tells an asker that has gone, and its place is free for others.
    for _ in 0..40 {
        Events::of(&nodes.hubs[0], "/follow?user=ben").await.find("following").await;
    }
}
