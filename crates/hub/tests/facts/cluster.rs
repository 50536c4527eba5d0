//! Several hubs as one: what is said, who is there, and what happens when the bus between them fails.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::bus::{MemoryHub, MessageBus, Outgoing, Secret, Topic};
use outspoke_hub::store::{LogKey, MemoryStore, Store};
use outspoke_hub::{
    Action, Attach, Body, ClusterOptions, Disconnect, DrainOrder, Durability, Frame, Hub, HubConfig,
    Identity, Kind, Permissions, Published, PushError, Quotas, RoomClass, StartError, TenantPolicy, UserId,
};
use outspoke_testkit::{Received, ScriptedClient, attach_with};
use serde_json::{Value, json};

use crate::shelf::Shelf;
use crate::support::{eventually, gaps, hub_of, member, offset, offsets, publish, user, welcomed};

/// Nodes that share a bus and a store. Rooms whose names begin with `s` are stored.
pub(crate) struct Nodes {
    pub(crate) bus: MemoryHub,
    store: Arc<dyn Store>,
    pub(crate) hubs: Vec<Hub>,
}

impl Nodes {
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, |_| {})
    }

    fn start_with(count: usize, change: impl Fn(&mut HubConfig)) -> Self {
        Self::start_on(Arc::new(MemoryStore::shared()), count, change)
    }

    fn start_on(store: Arc<dyn Store>, count: usize, change: impl Fn(&mut HubConfig)) -> Self {
        let mut nodes = Self { bus: MemoryHub::new(), store, hubs: Vec::new() };
        for _ in 0..count {
            nodes.add(&change);
        }
        nodes
    }

    /// As when a database without a file comes back: of the room and of the epochs nothing is left.
    async fn empty_store(&self, room: &str) {
        let log = LogKey { tenant: "".into(), room: room.into() };
        self.store.drop_log(&log).await.unwrap();
        // What the epochs of new logs are made of.
        self.store.drop_log(&LogKey { tenant: "".into(), room: "\u{1}epochs".into() }).await.unwrap();
    }

    fn add(&mut self, change: impl Fn(&mut HubConfig)) -> Hub {
        let name = format!("node-{}", self.hubs.len() + 1);
        let store = Arc::clone(&self.store);
        let mut options = ClusterOptions::new(&name);
        options.advertise = format!("wss://{name}.example.com/ws").into();
        let builder = Hub::builder().store("shared", store).cluster(Arc::new(self.bus.connect()), options);
        let hub = hub_of(builder, |config| {
            let stored = RoomClass {
                pattern: "s*".into(),
                durability: Durability::Stored,
                ..config.rooms.default_mut().clone()
            };
            Arc::make_mut(&mut config.rooms.direct).durability = Durability::Stored;
            config.rooms.classes.push(Arc::new(stored));
            change(config);
        });
        self.hubs.push(hub.clone());
        hub
    }
}

/// Announces who comes and goes.
fn announcing(config: &mut HubConfig) {
    for class in &mut config.rooms.classes {
        Arc::make_mut(class).announce = true;
    }
    config.rooms.default_mut().announce = true;
}

fn device_of(user: &str, device: &str) -> Attach {
    let mut identity = Identity::user(user).named(user);
    identity.device = device.into();
    Attach::new(identity)
}

/// Lets everything happen that happens by itself within a moment.
pub(crate) async fn moment() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn beats(count: u32) {
    tokio::time::sleep(count * Duration::from_secs(5)).await;
}

fn texts(received: &[Received]) -> Vec<String> {
    let said = |received: &Received| match received {
        Received::Json(value) if value["type"] == "chat" => value["content"].as_str().map(str::to_owned),
        _ => None,
    };
    received.iter().filter_map(said).collect()
}

fn of_kind(received: &[Received], kind: &str) -> Vec<Value> {
    let of = |received: &Received| match received {
        Received::Json(value) if value["type"] == kind => Some(value.clone()),
        _ => None,
    };
    received.iter().filter_map(of).collect()
}

/// T2.
#[tokio::test(start_paused = true)]
async fn broadcast_reaches_the_clients_of_both_nodes() {
    let nodes = Nodes::start(2);
    let (mut ana, mut ben) = (welcomed(&nodes.hubs[0], "ana").await, welcomed(&nodes.hubs[1], "ben").await);
    moment().await;
    nodes.hubs[0].broadcast(&Frame::text("\"to all\"")).unwrap();
    moment().await;
    for client in [&mut ana, &mut ben] {
        assert_eq!(client.received(), [Received::Json(json!("to all"))]);
    }
}

/// T3.
#[tokio::test(start_paused = true)]
async fn frame_for_a_client_of_another_node_reaches_it_and_nobody_else() {
    let nodes = Nodes::start(3);
    let (mut other, mut third) =
        (welcomed(&nodes.hubs[1], "ben").await, welcomed(&nodes.hubs[2], "eve").await);
    let (mut target, client) = attach_with(&nodes.hubs[1], user("ana"), 65536);
    target.expect("welcome").await;
    moment().await;
    nodes.hubs[0].push(client.id(), &Frame::text("1")).unwrap();
    nodes.hubs[2].push_anywhere(client.id(), &Frame::text("2")).await.unwrap();
    moment().await;
    assert_eq!(target.received(), [Received::Json(json!(1)), Received::Json(json!(2))]);
    assert!(other.received().is_empty() && third.received().is_empty());
    drop(target);
    moment().await;
    let nobody = nodes.hubs[0].push_anywhere(client.id(), &Frame::text("3")).await;
    assert_eq!(nobody, Err(PushError::ClientNotFound));
}

#[tokio::test(start_paused = true)]
async fn message_for_a_client_or_a_user_reaches_them_on_whichever_node_they_are() {
    let nodes = Nodes::start(3);
    let (mut here, _) = attach_with(&nodes.hubs[0], device_of("ana", "a"), 65536);
    let (mut there, client) = attach_with(&nodes.hubs[1], device_of("ana", "b"), 65536);
    let mut other = welcomed(&nodes.hubs[2], "ben").await;
    for ana in [&mut here, &mut there] {
        ana.expect("welcome").await;
    }
    beats(1).await;
    let body = || Body::Text("psst".into());
    nodes.hubs[2].send_anywhere(client.id(), Kind::System, body()).await.unwrap();
    moment().await;
    assert_eq!(of_kind(&there.received(), "system").len(), 1);
    assert!(here.received().is_empty());
    let sent = nodes.hubs[2].send_to_user_anywhere(&UserId::new("ana"), Kind::System, body()).await;
    assert_eq!(sent.iter().filter(|(_, outcome)| outcome.is_ok()).count(), 2);
    moment().await;
    for ana in [&mut here, &mut there] {
        assert_eq!(of_kind(&ana.received(), "system").len(), 1);
    }
    assert!(other.received().is_empty());
    // Of another tenant there is no such client.
    let elsewhere = nodes.hubs[2].in_tenant("acme").send_anywhere(client.id(), Kind::System, body()).await;
    assert_eq!(elsewhere, Err(PushError::ClientNotFound));
}

#[tokio::test(start_paused = true)]
async fn stored_room_has_one_log_on_every_node() {
    let nodes = Nodes::start(3);
    let (mut clients, mut epochs) = (Vec::new(), Vec::new());
    for (index, hub) in nodes.hubs.iter().enumerate() {
        let mut client = welcomed(hub, &format!("user-{index}")).await;
        epochs.push(client.join("s").await["epoch"].clone());
        clients.push(client);
    }
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "before anything is said: {epochs:?}");
    moment().await;
    for round in 0..50 {
        for hub in &nodes.hubs {
            publish(hub, "s", round);
        }
        if round % 10 == 0 {
            moment().await;
        }
    }
    moment().await;
    let received: Vec<_> = clients.iter_mut().map(ScriptedClient::received).collect();
    for received in &received {
        assert_eq!(offsets(received), (1..=150).collect::<Vec<_>>());
        assert_eq!(received, &received[..]);
    }
    assert_eq!(received[0], received[1]);
    assert_eq!(received[1], received[2]);
}

/// Publishes the chat text `first`, in the application's name.
async fn say(hub: &Hub, room: &str) -> Published {
    hub.publish(room, Kind::Chat, Body::Text("first".into())).unwrap().await.unwrap()
}

/// Who publishes first need not be in the room, nor need anybody be on its node: what members elsewhere were told stays true.
#[tokio::test(start_paused = true)]
async fn place_in_an_empty_room_stays_true_when_a_node_without_members_begins_its_log() {
    let nodes = Nodes::start(2);
    // The first room finds no seed in the store, the second one does.
    for room in ["s1", "s2"] {
        let mut ana = welcomed(&nodes.hubs[0], "ana").await;
        let joined = ana.join(room).await;
        assert_eq!(joined["offset"], 0);
        let published = say(&nodes.hubs[1], room).await;
        let told = published.position.unwrap();
        assert_eq!((told.epoch.to_string(), told.offset), (joined["epoch"].as_str().unwrap().to_owned(), 1));
        let first = ana.expect("chat").await;
        assert_eq!((&first["epoch"], &first["offset"]), (&joined["epoch"], &json!(1)), "{first}");
        let mut back = welcomed(&nodes.hubs[0], "ben").await;
        let place = json!({ "type": "subscribe", "room": room, "epoch": joined["epoch"], "offset": 0 });
        back.send(place).await;
        assert_eq!(back.expect("subscribed").await["recovered"], true);
        assert_eq!(back.expect("chat").await["content"], "first");
    }
    // Also where nobody was told anything before.
    say(&nodes.hubs[0], "s3").await;
    let mut eve = welcomed(&nodes.hubs[1], "eve").await;
    assert_eq!(eve.join("s3").await["offset"], 1);
}

#[tokio::test(start_paused = true)]
async fn room_that_is_not_stored_reaches_every_node() {
    let nodes = Nodes::start(2);
    let (mut ana, mut ben) =
        (member(&nodes.hubs[0], "ana", "r").await, member(&nodes.hubs[1], "ben", "r").await);
    moment().await;
    ana.say("r", "hello").await;
    ben.say("r", "hi").await;
    moment().await;
    for client in [&mut ana, &mut ben] {
        let mut texts = texts(&client.received());
        texts.sort();
        assert_eq!(texts, ["hello", "hi"]);
    }
}

#[tokio::test(start_paused = true)]
async fn edit_in_a_room_in_memory_reaches_the_message_it_is_about_on_every_node() {
    let nodes = Nodes::start_with(2, |config| config.rooms.default_mut().durability = Durability::Memory);
    // The two count differently: one of them was there before.
    publish(&nodes.hubs[0], "r", 0);
    moment().await;
    let (mut ana, mut ben) =
        (member(&nodes.hubs[0], "ana", "r").await, member(&nodes.hubs[1], "ben", "r").await);
    moment().await;
    ana.say("r", "helo").await;
    moment().await;
    let said = ana.find("chat").await;
    ana.send(json!({ "type": "edit", "room": "r", "offset": offset(&said), "content": "hello" })).await;
    moment().await;
    let (there, edit) = (ben.find("chat").await, ben.find("edit").await);
    assert_eq!(edit["target"], there["offset"]);
    ben.send(json!({ "type": "history", "room": "r", "id": "1" })).await;
    let history = ben.find("history").await;
    assert!(
        history["messages"].as_array().unwrap().iter().any(|message| message["content"] == "hello"),
        "{history}"
    );
}

/// What the bus has lost is in the store.
/// The other node does not know who moderates: it takes the deletion as judged.
#[tokio::test(start_paused = true)]
async fn deletion_by_a_moderator_reaches_the_message_it_is_about_on_every_node() {
    for room in ["r", "s"] {
        let nodes = Nodes::start_with(2, |config| {
            config.rooms.default_mut().durability = Durability::Memory;
        });
        let mut ana = member(&nodes.hubs[0], "ana", room).await;
        let permissions = Permissions::default().allow(Action::Moderate, "*");
        let guard = Attach::new(Identity::user("guard").named("guard").with_permissions(permissions));
        let (mut guard, _) = attach_with(&nodes.hubs[1], guard, 64 * 1024);
        guard.expect("welcome").await;
        guard.join(room).await;
        moment().await;
        ana.say(room, "rude").await;
        let said = guard.find("chat").await;
        guard.send(json!({ "type": "delete", "id": 1, "room": room, "offset": offset(&said) })).await;
        assert_eq!(guard.find("ack").await["room"], room);
        ana.find("delete").await;
        ana.send(json!({ "type": "history", "room": room })).await;
        let kept = ana.find("history").await["messages"][0].clone();
        assert!(kept["deleted"].is_string() && kept["content"] == "", "{kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_published_while_the_bus_was_away_arrives_once_and_in_order() {
    let nodes = Nodes::start(2);
    let (mut ana, mut ben) =
        (member(&nodes.hubs[0], "ana", "s").await, member(&nodes.hubs[1], "ben", "s").await);
    moment().await;
    publish(&nodes.hubs[0], "s", 1);
    moment().await;
    nodes.bus.go_away();
    for number in 2..=20 {
        publish(&nodes.hubs[0], "s", number);
        publish(&nodes.hubs[1], "s", number);
    }
    beats(4).await;
    nodes.bus.come_back().await;
    moment().await;
    publish(&nodes.hubs[1], "s", 99);
    moment().await;
    let (of_ana, of_ben) = (ana.received(), ben.received());
    assert_eq!(offsets(&of_ana), (1..=40).collect::<Vec<_>>());
    assert_eq!(offsets(&of_ben), (1..=40).collect::<Vec<_>>());
    assert!(gaps(&of_ana).is_empty() && gaps(&of_ben).is_empty());
}

/// Nobody says anything after it, so that no later message shows the hole.
#[tokio::test(start_paused = true)]
async fn last_message_that_the_bus_has_lost_arrives_with_the_beats() {
    let nodes = Nodes::start(2);
    let mut ben = member(&nodes.hubs[1], "ben", "s").await;
    publish(&nodes.hubs[0], "s", 1);
    moment().await;
    let repairs = |nodes: &Nodes| nodes.hubs[1].metrics().stores[0].repairs;
    let before = repairs(&nodes);
    // It takes what it is given, and gives it to nobody.
    nodes.bus.lose(true);
    publish(&nodes.hubs[0], "s", 2);
    moment().await;
    nodes.bus.lose(false);
    assert_eq!(offsets(&ben.received()), [1]);
    beats(3).await;
    assert_eq!(offsets(&ben.received()), [2]);
    assert_eq!(repairs(&nodes) - before, 1);
    assert_eq!(nodes.hubs[0].metrics().stores[0].repairs, 0, "it has stored them itself");
}

/// Rooms that nobody is told of who is in them: a list of members that is asked for again repairs nothing there.
fn without_presence(config: &mut HubConfig) {
    for class in &mut config.rooms.classes {
        let class = Arc::make_mut(class);
        (class.presence, class.announce) = (false, false);
    }
}

/// It is back only after its beats have ceased to tell of the room.
#[tokio::test(start_paused = true)]
async fn what_a_node_said_before_and_after_it_was_cut_off_arrives_without_another_word() {
    let nodes = Nodes::start_with(2, without_presence);
    let mut ben = member(&nodes.hubs[1], "ben", "s").await;
    publish(&nodes.hubs[0], "s", 1);
    moment().await;
    assert_eq!(offsets(&ben.received()), [1]);
    nodes.bus.lose(true);
    publish(&nodes.hubs[0], "s", 2);
    beats(4).await;
    assert_eq!(offsets(&ben.received()), [2], "the node was missed");
    publish(&nodes.hubs[0], "s", 3);
    beats(4).await;
    assert!(offsets(&ben.received()).is_empty());
    nodes.bus.lose(false);
    beats(3).await;
    assert_eq!(offsets(&ben.received()), [3], "the node is heard again");
}

/// As when it is killed, and when it ends and the bus does not take its last words in time.
#[tokio::test(start_paused = true)]
async fn last_message_of_a_node_that_is_gone_arrives_without_another_word() {
    for farewell_is_heard in [false, true] {
        let nodes = Nodes::start_with(2, without_presence);
        let mut ben = member(&nodes.hubs[1], "ben", "s").await;
        publish(&nodes.hubs[0], "s", 1);
        beats(1).await;
        assert_eq!(offsets(&ben.received()), [1]);
        nodes.bus.lose(true);
        publish(&nodes.hubs[0], "s", 2);
        moment().await;
        nodes.bus.lose(!farewell_is_heard);
        assert!(nodes.hubs[0].shutdown(Duration::from_secs(1)).await);
        moment().await;
        nodes.bus.lose(false);
        assert!(offsets(&ben.received()).is_empty());
        beats(if farewell_is_heard { 1 } else { 3 }).await;
        assert_eq!(offsets(&ben.received()), [2], "{farewell_is_heard}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_to_another_node_gets_exactly_what_it_missed() {
    let nodes = Nodes::start(2);
    let mut ana = member(&nodes.hubs[0], "ana", "s").await;
    let _ben = member(&nodes.hubs[1], "ben", "s").await;
    publish(&nodes.hubs[0], "s", 1);
    moment().await;
    let seen = ana.find("message").await;
    drop(ana);
    // The other node hears nothing of this.
    nodes.bus.go_away();
    publish(&nodes.hubs[0], "s", 2);
    publish(&nodes.hubs[0], "s", 3);
    moment().await;
    let mut ana = welcomed(&nodes.hubs[1], "ana").await;
    let epoch = &seen["epoch"];
    ana.send(json!({ "type": "subscribe", "room": "s", "epoch": epoch, "offset": 3 })).await;
    let subscribed = ana.find("subscribed").await;
    assert_eq!((&subscribed["recovered"], &subscribed["offset"]), (&json!(true), &json!(3)), "{subscribed}");
    ana.send(json!({ "type": "unsubscribe", "room": "s" })).await;
    ana.find("unsubscribed").await;
    ana.send(json!({ "type": "subscribe", "room": "s", "epoch": epoch, "offset": 1 })).await;
    let subscribed = ana.find("subscribed").await;
    assert_eq!(subscribed["recovered"], json!(true));
    moment().await;
    assert_eq!(offsets(&ana.received()), [2, 3]);
}

/// As when a Redis without a file comes back empty.
#[tokio::test(start_paused = true)]
async fn when_the_store_has_lost_the_log_everybody_is_told_and_a_new_history_begins() {
    let nodes = Nodes::start(2);
    let (mut ana, mut ben) =
        (member(&nodes.hubs[0], "ana", "s").await, member(&nodes.hubs[1], "ben", "s").await);
    for number in 1..=3 {
        publish(&nodes.hubs[0], "s", number);
    }
    moment().await;
    let last = &of_kind(&ana.received(), "message")[2];
    assert_eq!(offsets(&ben.received()), [1, 2, 3]);
    nodes.bus.go_away();
    nodes.empty_store("s").await;
    nodes.bus.come_back().await;
    moment().await;
    let mut eve = welcomed(&nodes.hubs[1], "eve").await;
    eve.send(json!({ "type": "subscribe", "room": "s", "epoch": last["epoch"], "offset": 3 })).await;
    assert_eq!(eve.find("subscribed").await["recovered"], json!(false));
    publish(&nodes.hubs[0], "s", 4);
    publish(&nodes.hubs[1], "s", 5);
    moment().await;
    for client in [&mut ana, &mut ben, &mut eve] {
        let received = client.received();
        assert!(!of_kind(&received, "gap").is_empty() || client_is_new(&received), "{received:?}");
        let messages = of_kind(&received, "message");
        assert_eq!(offsets(&received), [1, 2], "{received:?}");
        assert_ne!(messages[0]["epoch"], last["epoch"]);
        assert_eq!(messages[0]["epoch"], messages[1]["epoch"]);
    }
}

/// Nothing was said, and the bus was there all the time.
#[tokio::test(start_paused = true)]
async fn store_that_was_emptied_is_noticed_with_the_beats() {
    let nodes = Nodes::start(2);
    let mut ana = member(&nodes.hubs[0], "ana", "s").await;
    publish(&nodes.hubs[0], "s", 1);
    beats(2).await;
    let seen = ana.find("message").await;
    nodes.empty_store("s").await;
    beats(2).await;
    let gap = ana.find("gap").await;
    assert_ne!(gap["epoch"], seen["epoch"]);
    assert_eq!(nodes.hubs[0].metrics().stores[0].gaps, 1);
    for hub in &nodes.hubs {
        let mut eve = welcomed(hub, "eve").await;
        eve.send(json!({ "type": "subscribe", "room": "s", "epoch": seen["epoch"], "offset": 1 })).await;
        assert_eq!(eve.find("subscribed").await["recovered"], json!(false));
        drop(eve);
        moment().await;
    }
}

/// Whoever came after the loss has nothing to miss, unless the other node's history replaced the one begun here.
fn client_is_new(received: &[Received]) -> bool {
    offsets(received) == [1, 2]
}

#[tokio::test(start_paused = true)]
async fn newer_connection_on_another_node_replaces_the_older_one() {
    let nodes = Nodes::start(2);
    let mut older = welcomed(&nodes.hubs[0], "ana").await;
    moment().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut newer = welcomed(&nodes.hubs[1], "ana").await;
    assert_eq!(older.closed().await, Some(Disconnect::Replaced.code()));
    moment().await;
    assert!(newer.received().is_empty());
    assert_eq!(nodes.hubs[1].client_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_connect_at_once_on_two_nodes_one_stays() {
    let nodes = Nodes::start(2);
    let (_one, _) = attach_with(&nodes.hubs[0], user("ana"), 65536);
    let (_other, _) = attach_with(&nodes.hubs[1], user("ana"), 65536);
    moment().await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(nodes.hubs[0].client_count() + nodes.hubs[1].client_count(), 1);
}

/// Each is told of the other one late, when both are old.
#[tokio::test(start_paused = true)]
async fn of_two_that_connect_while_the_bus_is_away_the_newer_one_stays() {
    let nodes = Nodes::start(2);
    moment().await;
    nodes.bus.go_away();
    let mut older = welcomed(&nodes.hubs[0], "ana").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut newer = welcomed(&nodes.hubs[1], "ana").await;
    // How old connections are is told by a clock that does not stand still for tests.
    std::thread::sleep(Duration::from_millis(1100));
    tokio::time::sleep(Duration::from_secs(3)).await;
    nodes.bus.come_back().await;
    assert_eq!(older.closed().await, Some(Disconnect::Replaced.code()));
    beats(1).await;
    assert!(newer.received().is_empty());
    assert_eq!((nodes.hubs[0].client_count(), nodes.hubs[1].client_count()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn presence_is_of_all_nodes_and_a_user_comes_and_goes_once() {
    let nodes = Nodes::start_with(2, announcing);
    let mut ana = member(&nodes.hubs[0], "ana", "s").await;
    moment().await;
    ana.received();
    let device = |name: &str| device_of("ben", name);
    let (mut here, _) = attach_with(&nodes.hubs[0], device("here"), 65536);
    here.expect("welcome").await;
    here.join("s").await;
    let (mut there, _) = attach_with(&nodes.hubs[1], device("there"), 65536);
    there.expect("welcome").await;
    there.join("s").await;
    moment().await;
    let names: Vec<String> = nodes.hubs.iter().map(|hub| hub.nodes()[0].name.clone()).collect();
    let joins = of_kind(&ana.received(), "join");
    assert_eq!(joins.len(), 1);
    assert_eq!(joins[0]["node"], names[0], "the device that came first is told of");
    for hub in &nodes.hubs {
        let presence = hub.presence("s", None, 10).unwrap();
        let with = |name: &str| {
            let mut devices = presence.page.iter().flat_map(|present| &present.devices);
            devices.find(|device| device.device == name).map(|device| device.node.to_string())
        };
        assert_eq!((with("here"), with("there")), (Some(names[0].clone()), Some(names[1].clone())));
        assert_eq!((presence.users, presence.members), (2, 3));
        let ben = presence.page.iter().find(|present| present.user.as_str() == "ben").unwrap();
        assert_eq!(ben.devices.len(), 2);
    }
    here.close(1000, "").await;
    moment().await;
    assert!(of_kind(&ana.received(), "leave").is_empty(), "a device is left");
    there.close(1000, "").await;
    moment().await;
    assert_eq!(of_kind(&ana.received(), "leave").len(), 1);
    assert_eq!(nodes.hubs[1].presence("s", None, 10).map(|presence| presence.users), Some(1));
}

/// The list is made on one thread while somebody goes, or comes, on another. It is long, so that making it takes time.
#[tokio::test]
async fn list_of_members_says_nothing_that_was_said_to_have_changed() {
    let (bus, store) = (MemoryHub::new(), Arc::new(MemoryStore::shared()));
    let start = |name: &str| {
        let mut config = HubConfig { shards: 1, ..HubConfig::default() };
        config.rooms.default_mut().announce = false;
        let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
        let builder = Hub::builder().store("shared", store).config(config);
        builder.cluster(Arc::new(bus.connect()), ClusterOptions::new(name)).start().unwrap()
    };
    let (one, other) = (start("one"), start("other"));
    let mut crowd = Vec::new();
    for number in 0..600 {
        crowd.push(member(&one, &format!("user-{number:03}"), "r").await);
    }
    let mut ben = member(&other, "ben", "r").await;
    let users = |hub: &Hub| hub.presence("r", None, 10).map_or(0, |presence| presence.users);
    let alike = |wanted: usize| users(&one) == wanted && users(&other) == wanted;
    eventually("everybody is seen", || alike(601)).await;
    let leaver = crowd.last_mut().unwrap();
    for round in 0..60 {
        // Both nodes list their members, and ask for the other's.
        bus.come_back().await;
        tokio::time::sleep(Duration::from_micros(500 * (round % 20))).await;
        leaver.send(json!({ "type": "unsubscribe", "room": "r" })).await;
        leaver.find("unsubscribed").await;
        soon("who has left is seen nowhere", || alike(600)).await;
        bus.come_back().await;
        tokio::time::sleep(Duration::from_micros(500 * (round % 20))).await;
        leaver.join("r").await;
        soon("who has come is seen everywhere", || alike(601)).await;
        ben.received();
    }
}

/// Waits for some seconds of real time.
async fn soon(what: &str, holds: impl Fn() -> bool) {
    // Until what is on its way has arrived.
    tokio::time::sleep(Duration::from_millis(30)).await;
    for _ in 0..300 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come true: {what}");
}

#[tokio::test(start_paused = true)]
async fn clients_of_a_node_that_is_not_heard_vanish_within_two_beats_and_come_back_with_it() {
    let nodes = Nodes::start_with(2, announcing);
    let mut ana = member(&nodes.hubs[0], "ana", "s").await;
    let _ben = member(&nodes.hubs[1], "ben", "s").await;
    moment().await;
    assert_eq!(nodes.hubs[0].presence("s", None, 10).unwrap().users, 2);
    assert_eq!(nodes.hubs[0].nodes().len(), 2);
    ana.received();
    nodes.bus.go_away();
    beats(2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(nodes.hubs[0].presence("s", None, 10).unwrap().users, 1);
    assert_eq!(nodes.hubs[0].nodes().len(), 1);
    assert_eq!(of_kind(&ana.received(), "leave").len(), 1);
    nodes.bus.come_back().await;
    beats(1).await;
    assert_eq!(nodes.hubs[0].presence("s", None, 10).unwrap().users, 2);
    assert_eq!(of_kind(&ana.received(), "join").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn clients_of_a_node_that_leaves_are_expected_on_another_for_the_grace() {
    let nodes = Nodes::start_with(2, |config| {
        announcing(config);
        for class in &mut config.rooms.classes {
            Arc::make_mut(class).leave_grace = Duration::from_secs(5);
        }
    });
    let mut ana = member(&nodes.hubs[0], "ana", "s").await;
    let (ben, eve) = (member(&nodes.hubs[1], "ben", "s").await, member(&nodes.hubs[1], "eve", "s").await);
    moment().await;
    ana.received();
    drop((ben, eve));
    assert!(nodes.hubs[1].shutdown(Duration::from_secs(20)).await);
    moment().await;
    assert_eq!(nodes.hubs[0].nodes().len(), 1);
    let _ben = member(&nodes.hubs[0], "ben", "s").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let received = ana.received();
    assert_eq!(of_kind(&received, "leave").len(), 1, "eve: {received:?}");
    assert!(of_kind(&received, "join").is_empty(), "ben was never gone: {received:?}");
}

#[tokio::test(start_paused = true)]
async fn private_message_reaches_every_device_on_every_node() {
    let nodes = Nodes::start(3);
    let device = |user: &str, name: &str| device_of(user, name);
    let mut ana = welcomed(&nodes.hubs[0], "ana").await;
    let mut bens = Vec::new();
    for (index, hub) in nodes.hubs.iter().enumerate() {
        let (mut ben, _) = attach_with(hub, device("ben", &index.to_string()), 65536);
        ben.expect("welcome").await;
        bens.push(ben);
    }
    let mut eve = welcomed(&nodes.hubs[2], "eve").await;
    moment().await;
    for text in ["one", "two", "three"] {
        ana.send(json!({ "type": "direct", "to": "ben", "content": text })).await;
        moment().await;
    }
    for ben in &mut bens {
        assert_eq!(texts(&ben.received()), ["one", "two", "three"]);
    }
    assert!(texts(&eve.received()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn private_message_that_the_bus_has_lost_arrives_when_it_is_back() {
    let nodes = Nodes::start(2);
    let (mut ana, mut ben) = (welcomed(&nodes.hubs[0], "ana").await, welcomed(&nodes.hubs[1], "ben").await);
    moment().await;
    nodes.bus.go_away();
    // The nodes have missed each other, and have looked for each other's last words.
    beats(4).await;
    ana.send(json!({ "type": "direct", "to": "ben", "content": "psst" })).await;
    beats(2).await;
    assert!(texts(&ben.received()).is_empty());
    nodes.bus.come_back().await;
    moment().await;
    assert_eq!(texts(&ben.received()), ["psst"]);
}

/// The bus heals first: what then cannot be read is read when the store heals, without another word.
#[tokio::test(start_paused = true)]
async fn private_message_that_the_bus_has_lost_arrives_when_the_store_can_be_read() {
    let shelf = Shelf::shared(0);
    let nodes = Nodes::start_on(Arc::<Shelf>::clone(&shelf), 2, |_| {});
    let (mut ana, mut ben) = (welcomed(&nodes.hubs[0], "ana").await, welcomed(&nodes.hubs[1], "ben").await);
    moment().await;
    nodes.bus.go_away();
    // The nodes have missed each other, and have looked for each other's last words.
    beats(4).await;
    ana.send(json!({ "type": "direct", "to": "ben", "content": "psst" })).await;
    beats(2).await;
    shelf.fail_reads(true);
    nodes.bus.come_back().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(texts(&ben.received()).is_empty());
    shelf.fail_reads(false);
    beats(1).await;
    assert_eq!(texts(&ben.received()), ["psst"]);
}

#[tokio::test(start_paused = true)]
async fn private_messages_that_are_told_while_the_store_cannot_be_read_arrive_once_and_in_order() {
    let shelf = Shelf::shared(0);
    let nodes = Nodes::start_on(Arc::<Shelf>::clone(&shelf), 2, |_| {});
    let (mut ana, mut ben) = (welcomed(&nodes.hubs[0], "ana").await, welcomed(&nodes.hubs[1], "ben").await);
    moment().await;
    // The conversation is open where it is written, and not yet where it is read.
    ana.send(json!({ "type": "subscribe", "room": "@ana~ben" })).await;
    ana.find("subscribed").await;
    shelf.fail_reads(true);
    for text in ["one", "two", "three"] {
        ana.send(json!({ "type": "direct", "to": "ben", "content": text })).await;
        moment().await;
    }
    assert!(texts(&ben.received()).is_empty());
    shelf.fail_reads(false);
    beats(1).await;
    assert_eq!(texts(&ben.received()), ["one", "two", "three"]);
}

/// More conversations than are on one page of them.
#[tokio::test(start_paused = true)]
async fn every_conversation_that_the_bus_has_lost_a_message_of_is_found() {
    let nodes = Nodes::start(2);
    let mut ben = welcomed(&nodes.hubs[1], "ben").await;
    moment().await;
    nodes.bus.go_away();
    beats(4).await;
    for number in 0..60 {
        let mut other = welcomed(&nodes.hubs[0], &format!("user-{number}")).await;
        other.send(json!({ "type": "direct", "to": "ben", "content": "psst" })).await;
        other.find("chat").await;
    }
    assert!(texts(&ben.received()).is_empty());
    nodes.bus.come_back().await;
    beats(1).await;
    assert_eq!(texts(&ben.received()).len(), 60);
}

#[tokio::test(start_paused = true)]
async fn receipts_typing_and_amendments_cross_nodes() {
    let nodes = Nodes::start(2);
    let (mut ana, mut ben) =
        (member(&nodes.hubs[0], "ana", "s").await, member(&nodes.hubs[1], "ben", "s").await);
    moment().await;
    ana.say("s", "helo").await;
    moment().await;
    let said = ben.find("chat").await;
    ben.send(json!({ "type": "seen", "room": "s", "offset": offset(&said) })).await;
    ben.send(json!({ "type": "typing", "room": "s" })).await;
    moment().await;
    let received = ana.received();
    assert!(received.iter().any(|one| matches!(one, Received::Json(value) if value["type"] == "receipt" && value["userId"] == "ben")), "{received:?}");
    assert_eq!(of_kind(&received, "typing").len(), 1, "{received:?}");
    ana.send(json!({ "type": "edit", "room": "s", "offset": offset(&said), "content": "hello" })).await;
    moment().await;
    assert_eq!(ben.find("edit").await["target"], said["offset"]);
    ben.send(json!({ "type": "history", "room": "s", "id": "1" })).await;
    assert_eq!(ben.find("history").await["messages"][0]["content"], "hello");
    ben.send(json!({ "type": "react", "room": "s", "offset": offset(&said), "reaction": "+1" })).await;
    moment().await;
    ana.send(json!({ "type": "history", "room": "s", "id": "1" })).await;
    let history = ana.find("history").await;
    assert_eq!(history["messages"][0]["reactions"][0]["reaction"], "+1", "{history}");
}

#[tokio::test(start_paused = true)]
async fn garbage_foreign_and_forged_bytes_are_counted_and_do_nothing() {
    let mut nodes = Nodes::start(0);
    let store = Arc::clone(&nodes.store);
    let mut options = ClusterOptions::new("guarded");
    options.secret = Some(Secret::new("correct horse"));
    let hub =
        hub_of(Hub::builder().store("shared", store).cluster(Arc::new(nodes.bus.connect()), options), |_| {});
    nodes.hubs.push(hub.clone());
    let mut ana = member(&hub, "ana", "r").await;
    moment().await;
    // A node without the secret, and somebody who knows no format at all.
    let stranger = nodes.add(|_| {});
    let mut ben = member(&stranger, "ben", "r").await;
    ben.say("r", "let me in").await;
    stranger.broadcast(&Frame::text("1")).unwrap();
    let raw = nodes.bus.connect();
    let topic = |name: &str| Topic::new(name).unwrap();
    let junk = |name: &str| Outgoing { topic: topic(name), payload: vec![0xff; 100].into() };
    raw.publish(&[junk("broadcast"), junk("room//r"), junk("nodes"), junk("direct")]).await.unwrap();
    beats(1).await;
    assert!(ana.received().is_empty());
    assert_eq!(hub.nodes().len(), 1);
    let counts = hub.cluster_counts().unwrap().link;
    assert_eq!(counts.garbage, 4);
    assert!(counts.foreign >= 3, "{counts:?}");
    assert_eq!(counts.heard, 0);
}

#[tokio::test(start_paused = true)]
async fn user_is_disconnected_on_every_node() {
    let nodes = Nodes::start(2);
    let device = |name: &str| device_of("ben", name);
    let (mut here, _) = attach_with(&nodes.hubs[0], device("a"), 65536);
    let (mut there, _) = attach_with(&nodes.hubs[1], device("b"), 65536);
    beats(1).await;
    let ben = UserId::new("ben");
    assert_eq!(nodes.hubs[0].devices_everywhere(&ben).await, 2);
    assert_eq!(nodes.hubs[0].disconnect_everywhere(&ben, Disconnect::Kicked, "enough").await, 2);
    assert_eq!(here.closed().await, Some(Disconnect::Kicked.code()));
    assert_eq!(there.closed().await, Some(Disconnect::Kicked.code()));
}

fn of_acme() -> Attach {
    let mut identity = Identity::user("ana");
    identity.tenant = "acme".into();
    Attach::new(identity)
}

#[tokio::test(start_paused = true)]
async fn tenant_put_and_removed_on_one_node_is_so_on_the_other() {
    let nodes = Nodes::start_with(2, |config| config.tenants = TenantPolicy::Known);
    moment().await;
    let (conn, _peer) = outspoke_hub::MemoryConn::pair(65536);
    assert!(nodes.hubs[1].attach(conn, of_acme()).is_err());
    nodes.hubs[0].put_tenant("acme", Quotas::default()).await.unwrap();
    moment().await;
    let (mut ana, _) = attach_with(&nodes.hubs[1], of_acme(), 65536);
    ana.expect("welcome").await;
    nodes.hubs[0].remove_tenant("acme", outspoke_hub::TenantData::Keep).await.unwrap();
    assert_eq!(ana.closed().await, Some(Disconnect::TenantRemoved.code()));
}

/// Two nodes that know a tenant, and a client of it on the second.
async fn with_acme() -> (Nodes, ScriptedClient) {
    let nodes = Nodes::start_with(2, |config| config.tenants = TenantPolicy::Known);
    moment().await;
    nodes.hubs[0].put_tenant("acme", Quotas::default()).await.unwrap();
    // Until nothing is read any more because the nodes have just heard of each other.
    beats(1).await;
    let (mut ana, _) = attach_with(&nodes.hubs[1], of_acme(), 65536);
    ana.expect("welcome").await;
    (nodes, ana)
}

#[tokio::test(start_paused = true)]
async fn tenants_that_the_bus_did_not_tell_of_are_read_when_it_carries_again() {
    // Longer than what is said waits for the bus, and shorter than a node may be silent.
    for (away, seconds) in [(true, 12), (false, 12), (false, 1)] {
        let (nodes, mut ana) = with_acme().await;
        if away {
            nodes.bus.go_away()
        } else {
            nodes.bus.lose(true)
        }
        nodes.hubs[0].put_tenant("other", Quotas::default()).await.unwrap();
        nodes.hubs[0].remove_tenant("acme", outspoke_hub::TenantData::Keep).await.unwrap();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        assert!(ana.received().is_empty());
        if away {
            nodes.bus.come_back().await
        } else {
            nodes.bus.lose(false)
        }
        assert_eq!(ana.closed().await, Some(Disconnect::TenantRemoved.code()), "{away}, {seconds}");
        let infos = nodes.hubs[1].tenants().await;
        let known = |name| infos.iter().any(|info| info.name == name && info.known);
        assert!(known("other") && !known("acme"), "{away}, {seconds}");
    }
}

/// Whoever removed it may say so again.
#[tokio::test(start_paused = true)]
async fn removal_that_is_repeated_is_told_again() {
    let (nodes, mut ana) = with_acme().await;
    nodes.bus.lose(true);
    nodes.hubs[0].remove_tenant("acme", outspoke_hub::TenantData::Keep).await.unwrap();
    moment().await;
    nodes.bus.lose(false);
    let again = nodes.hubs[0].remove_tenant("acme", outspoke_hub::TenantData::Keep).await;
    assert_eq!(again, Err(outspoke_hub::TenantError::Unknown("acme".to_owned())));
    moment().await;
    let closed = ana.received().into_iter().find_map(|received| match received {
        Received::Close { code, .. } => code,
        _ => None,
    });
    assert_eq!(closed, Some(Disconnect::TenantRemoved.code()));
}

#[tokio::test(start_paused = true)]
async fn drained_node_sends_its_clients_away_and_takes_none() {
    let nodes = Nodes::start(2);
    let mut ana = welcomed(&nodes.hubs[1], "ana").await;
    beats(1).await;
    let other = nodes.hubs[0].node("node-2").unwrap();
    assert!(nodes.hubs[0].drain_node(other.id, true).await);
    assert_eq!(ana.closed().await, Some(Disconnect::GoingAway.code()));
    assert!(!nodes.hubs[1].is_accepting());
    beats(1).await;
    assert!(nodes.hubs[0].node("node-2").unwrap().draining);
    assert!(nodes.hubs[0].drain_node(other.id, false).await);
    assert!(nodes.hubs[1].is_accepting());
}

/// A client that is told nothing comes back through a load balancer, which may not know yet that the node drains.
#[tokio::test(start_paused = true)]
async fn clients_of_a_drained_node_are_sent_to_the_nodes_that_they_prefer() {
    let nodes = Nodes::start(3);
    beats(1).await;
    let (mut users, mut places) = (Vec::new(), std::collections::BTreeSet::new());
    for number in 0..20 {
        let name = format!("user-{number}");
        users.push((name.clone(), welcomed(&nodes.hubs[2], &name).await));
    }
    nodes.hubs[2].drain(true);
    for (name, client) in &mut users {
        let url = client.expect("going_away").await["url"].as_str().unwrap().to_owned();
        let wanted = nodes.hubs[0].preferred_node(&outspoke_hub::affinity::user_key("", name)).unwrap();
        assert_eq!(url, wanted.advertise, "{name}");
        assert_eq!(client.closed().await, Some(Disconnect::GoingAway.code()));
        places.insert(url);
    }
    assert_eq!(places.len(), 2, "{places:?}");
}

/// Who moves within the grace was never away for anybody; who does not come back has gone once, also while the node lives on.
#[tokio::test(start_paused = true)]
async fn users_of_a_drained_node_are_gone_only_if_they_do_not_come_to_another() {
    let nodes = Nodes::start_with(2, |config| {
        announcing(config);
        for class in &mut config.rooms.classes {
            Arc::make_mut(class).leave_grace = Duration::from_secs(5);
        }
    });
    let mut ana = member(&nodes.hubs[0], "ana", "s").await;
    let mut movers = Vec::new();
    for name in ["ben", "eve", "ida"] {
        movers.push((name, member(&nodes.hubs[1], name, "s").await));
    }
    moment().await;
    ana.received();
    let other = nodes.hubs[1].nodes()[0].id;
    let mut order = DrainOrder::default();
    (order.batch, order.interval) = (Some(1), Some(Duration::from_secs(1)));
    assert!(nodes.hubs[0].drain_node_as(other, &order).await);
    let mut back = Vec::new();
    for _ in 0..3 {
        let next = next_closed(&mut movers).await;
        let (name, _) = movers.remove(next);
        if name != "eve" {
            tokio::time::sleep(Duration::from_millis(500)).await;
            back.push(member(&nodes.hubs[0], name, "s").await);
        }
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let received = ana.received();
    let left: Vec<_> = of_kind(&received, "leave").iter().map(|left| left["userId"].clone()).collect();
    assert_eq!(left, ["eve"], "{received:?}");
    assert!(of_kind(&received, "join").is_empty(), "nobody else was gone: {received:?}");
    assert_eq!(nodes.hubs[0].presence("s", None, 10).unwrap().users, 3);
}

/// Which of them is closed next.
async fn next_closed(clients: &mut [(&str, ScriptedClient)]) -> usize {
    loop {
        for (place, (_, client)) in clients.iter_mut().enumerate() {
            if client.received().iter().any(|received| matches!(received, Received::Close { .. })) {
                return place;
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_node_pings_every_other() {
    let nodes = Nodes::start(3);
    beats(1).await;
    let checks = nodes.hubs[1].check_cluster().await;
    assert_eq!(checks.len(), 3);
    for check in checks {
        let routes = check.routes.unwrap();
        assert_eq!(routes.len(), 2);
        assert!(routes.iter().all(|route| route.round_trip.is_some() && route.clock_ahead.abs() < 1000));
    }
}

#[tokio::test(start_paused = true)]
async fn store_that_belongs_to_one_hub_is_refused_with_words() {
    let bus = MemoryHub::new();
    let refused = Hub::builder()
        .store("own", Arc::new(MemoryStore::new()))
        .cluster(Arc::new(bus.connect()), ClusterOptions::new("a"))
        .start_on_this_runtime();
    let error = refused.unwrap_err();
    assert!(matches!(error, StartError::StoreNotShared { .. }));
    assert!(error.to_string().contains("PostgreSQL or Redis"), "{error}");
}
