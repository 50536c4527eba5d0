//! What is decided about credentials that are out: who is connected gets nothing more, on every node, also without the bus.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::bus::{MemoryHub, MessageBus as _, Outgoing, Topic};
use outspoke_hub::store::{MemoryStore, Store};
use outspoke_hub::{
    Action, Attach, AuthError, Authentication, Authenticator, ClusterOptions, Disconnect, Durability, Hub,
    Identity, Permissions, RoomClass, Ruling, RulingError, Subject, Timestamp, UserId, Verdict,
};
use outspoke_testkit::{Received, ScriptedClient, attach_with};
use serde_json::json;

use crate::shelf::{Mood, Shelf};
use crate::support::{PATIENCE, hub, hub_of, publish, welcomed};

/// What everybody is promised.
const WITHIN: Duration = Duration::from_secs(5);

fn now() -> Timestamp {
    Timestamp::from_system_time(std::time::SystemTime::now())
}

fn ana() -> UserId {
    UserId::new("ana")
}

/// Ana's phone, with a token called `t-1` from a minute ago.
fn credential() -> Identity {
    let mut identity = Identity::user("ana").named("ana").on_device("phone");
    identity.credential = "t-1".into();
    identity.issued = Some(Timestamp::from_millis(now().as_millis() - 60_000));
    identity
}

/// The same with a token from a minute ahead.
fn fresh() -> Identity {
    let mut identity = credential();
    identity.credential = "t-2".into();
    identity.issued = Some(Timestamp::from_millis(now().as_millis() + 60_000));
    identity
}

/// A client past its welcome, which need not read before the end of the test.
async fn connected(hub: &Hub, identity: Identity) -> ScriptedClient {
    let (client, _) = attach_with(hub, Attach::new(identity), 16 * 1024 * 1024);
    let mut client = client.with_patience(PATIENCE);
    client.expect("welcome").await;
    client
}

/// How the hub takes somebody who connects with that credential.
async fn outcome(hub: &Hub, identity: Identity) -> Result<(), u16> {
    let checked = hub.check_credential(&identity).await.is_ok();
    let attached = attached(hub, identity).await;
    assert_eq!(checked, attached.is_ok(), "before the upgrade and in the shard");
    attached
}

async fn attached(hub: &Hub, identity: Identity) -> Result<(), u16> {
    let (client, _) = attach_with(hub, Attach::new(identity), 1024 * 1024);
    let mut client = client.with_patience(PATIENCE);
    match client.next().await {
        Received::Close { code, .. } => Err(code.unwrap_or_default()),
        _ => Ok(()),
    }
}

/// Several hubs with one bus, and a store if they share one. Rooms whose names begin with `s` are stored then.
struct Nodes {
    bus: MemoryHub,
    store: Option<Arc<MemoryStore>>,
    hubs: Vec<Hub>,
}

impl Nodes {
    fn start(count: usize, stored: bool) -> Self {
        let store = stored.then(|| Arc::new(MemoryStore::shared()));
        let mut nodes = Self { bus: MemoryHub::new(), store, hubs: Vec::new() };
        (0..count).for_each(|_| drop(nodes.add()));
        nodes
    }

    fn add(&mut self) -> Hub {
        let name = format!("node-{}", self.hubs.len() + 1);
        let mut builder = Hub::builder().cluster(Arc::new(self.bus.connect()), ClusterOptions::new(name));
        if let Some(store) = &self.store {
            let store: Arc<dyn Store> = Arc::<MemoryStore>::clone(store);
            builder = builder.store("shared", store);
        }
        let durability = if self.store.is_some() { Durability::Stored } else { Durability::Memory };
        let hub = hub_of(builder, |config| {
            let stored = RoomClass { pattern: "s*".into(), durability, ..config.rooms.default_mut().clone() };
            config.rooms.classes.push(Arc::new(stored));
        });
        self.hubs.push(hub.clone());
        hub
    }
}

/// Lets everything happen that happens by itself within a moment.
async fn moment() {
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// The numbers that were published, as far as they were received.
fn numbers(received: &[Received]) -> Vec<u64> {
    let number = |received: &Received| match received {
        Received::Json(value) if value["type"] == "message" => value["data"].as_u64(),
        _ => None,
    };
    received.iter().filter_map(number).collect()
}

fn closed_with(received: &[Received]) -> Option<u16> {
    received.iter().find_map(|received| match received {
        Received::Close { code, .. } => *code,
        _ => None,
    })
}

/// Publishes to two rooms on each node, a hundred times a second.
async fn flow(nodes: &Nodes, next: &mut u64, time: Duration) {
    for _ in 0..time.as_millis() / 10 {
        for hub in &nodes.hubs {
            publish(hub, "s", *next);
            publish(hub, "m", *next + 1);
            *next += 2;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Everything that can be decided about somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Token,
    User,
    Device,
    Role,
    Removal,
}

impl Decision {
    const ALL: [Self; 5] = [Self::Token, Self::User, Self::Device, Self::Role, Self::Removal];

    async fn decide(self, hub: &Hub) {
        let made = match self {
            Self::Token => hub.revoke_token("t-1", None).await,
            Self::User => hub.revoke_user(&ana(), false).await,
            Self::Device => hub.revoke_device(&ana(), "phone", true).await,
            Self::Role => {
                let role = Permissions::nothing().allow(Action::Join, "other");
                hub.set_permissions(&ana(), role).await
            }
            Self::Removal => {
                hub.remove_from_room("m", &ana(), Duration::from_secs(3600)).await.unwrap();
                hub.remove_from_room("s", &ana(), Duration::from_secs(3600)).await
            }
        };
        made.unwrap();
    }

    /// With which code the connection is closed, if it is.
    fn closes(self) -> Option<u16> {
        match self {
            Self::Token | Self::User => Some(Disconnect::Revoked.code()),
            Self::Device => Some(Disconnect::ReconnectRequested.code()),
            Self::Role | Self::Removal => None,
        }
    }
}

/// What is the matter with the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bus {
    Well,
    /// It is gone just before, and stays so.
    Away,
    /// It loses what is said, and does not say so.
    Loses,
}

/// Ana listens on one node while everything is said on both; the first one decides.
async fn nothing_follows(decision: Decision, bus: Bus, stored: bool, node: usize) {
    let nodes = Nodes::start(2, stored);
    let mut ana = connected(&nodes.hubs[node], credential()).await;
    let mut witness = connected(&nodes.hubs[node], Identity::user("ben")).await;
    witness.join("s").await;
    witness.join("m").await;
    ana.join("s").await;
    ana.join("m").await;
    moment().await;
    let mut next = 0;
    flow(&nodes, &mut next, Duration::from_secs(1)).await;
    match bus {
        Bus::Well => {}
        Bus::Away => nodes.bus.go_away(),
        Bus::Loses => nodes.bus.lose(true),
    }
    flow(&nodes, &mut next, Duration::from_millis(100)).await;
    decision.decide(&nodes.hubs[0]).await;
    let decided = next;
    flow(&nodes, &mut next, Duration::from_millis(200)).await;
    let soon = next;
    flow(&nodes, &mut next, WITHIN - Duration::from_millis(200)).await;
    let in_time = next;
    flow(&nodes, &mut next, Duration::from_secs(3)).await;
    let said = numbers(&witness.received());
    assert!(said.iter().any(|number| *number >= in_time), "the witness hears nothing any more");
    let received = ana.received();
    let heard = numbers(&received);
    let case = format!("{decision:?}, {bus:?}, stored: {stored}, node {node}");
    assert!(heard.iter().any(|number| *number < decided), "{case}: nothing was heard before");
    // On the same node from the answer on; on another one from when that knows.
    let silent_from = match (node, bus) {
        (0, _) => decided,
        (_, Bus::Well) => soon,
        _ => in_time,
    };
    let last = heard.iter().max().copied().unwrap_or_default();
    assert!(last < silent_from, "{case}: {last} was heard, silence is from {silent_from}");
    assert_eq!(closed_with(&received), decision.closes(), "{case}");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_decided_about_hears_nothing_more_on_any_node() {
    for decision in Decision::ALL {
        for stored in [true, false] {
            for node in 0..2 {
                nothing_follows(decision, Bus::Well, stored, node).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_bus_the_shared_store_tells_within_five_seconds() {
    for decision in Decision::ALL {
        for node in 0..2 {
            nothing_follows(decision, Bus::Away, true, node).await;
            nothing_follows(decision, Bus::Loses, true, node).await;
        }
    }
}

/// Where nothing is shared but the bus, a message of it that is lost is repeated.
#[tokio::test(start_paused = true)]
async fn without_a_store_nodes_repeat_what_the_bus_has_lost() {
    let nodes = Nodes::start(3, false);
    let mut there = connected(&nodes.hubs[2], credential()).await;
    moment().await;
    nodes.bus.lose(true);
    let ruled = nodes.hubs[0].revoke_user(&ana(), false).await.unwrap();
    assert!(!ruled.durable && ruled.clients == 0);
    moment().await;
    nodes.bus.lose(false);
    tokio::time::sleep(WITHIN).await;
    assert_eq!(there.closed().await, Some(Disconnect::Revoked.code()));
    for hub in &nodes.hubs {
        assert_eq!(outcome(hub, credential()).await, Err(Disconnect::Revoked.code()));
        assert_eq!(hub.rulings(None, 10).items.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn node_that_starts_later_knows_what_was_decided() {
    for stored in [true, false] {
        let mut nodes = Nodes::start(2, stored);
        moment().await;
        for index in 0..300 {
            nodes.hubs[index % 2].revoke_token(&format!("token-{index}"), None).await.unwrap();
        }
        nodes.hubs[1].revoke_user(&ana(), false).await.unwrap();
        let third = nodes.add();
        tokio::time::sleep(WITHIN).await;
        assert_eq!(outcome(&third, credential()).await, Err(Disconnect::Revoked.code()), "{stored}");
        assert_eq!(third.rulings(None, 1000).items.len(), 301);
    }
}

#[tokio::test(start_paused = true)]
async fn credential_that_has_ended_is_closed_in_time() {
    let nodes = Nodes::start(1, false);
    let ends = Timestamp::from_millis(now().as_millis() + 2000);
    let mut client = connected(&nodes.hubs[0], credential().until(ends)).await;
    client.join("s").await;
    client.join("m").await;
    let mut next = 0;
    flow(&nodes, &mut next, Duration::from_secs(1)).await;
    let before = next;
    flow(&nodes, &mut next, Duration::from_secs(4)).await;
    let in_time = next;
    flow(&nodes, &mut next, Duration::from_secs(2)).await;
    let received = client.received();
    let last = numbers(&received).last().copied().unwrap_or_default();
    assert!((before..in_time).contains(&last), "{last}");
    assert_eq!(closed_with(&received), Some(Disconnect::CredentialExpired.code()));
}

#[tokio::test(start_paused = true)]
async fn revoked_credentials_do_not_come_back_and_fresh_ones_do() {
    let hub = hub(|_| ());
    let mut client = connected(&hub, credential()).await;
    let ruled = hub.revoke_user(&ana(), true).await.unwrap();
    assert_eq!((ruled.clients, ruled.durable), (1, false));
    assert_eq!(client.closed().await, Some(Disconnect::ReconnectRequested.code()));
    assert_eq!(outcome(&hub, credential()).await, Err(Disconnect::ReconnectRequested.code()));
    assert_eq!(outcome(&hub, fresh()).await, Ok(()));
    assert_eq!(outcome(&hub, credential().of_tenant("acme")).await, Ok(()));
    // A token that is revoked by its id is, whenever it was issued.
    hub.revoke_token("t-2", None).await.unwrap();
    assert_eq!(outcome(&hub, fresh()).await, Err(Disconnect::Revoked.code()));
    let listed = hub.rulings(None, 10);
    assert_eq!((listed.items.len(), listed.more), (2, false));
    for ruling in listed.items {
        assert!(hub.lift(&ruling.id).await.unwrap());
        assert!(!hub.lift(&ruling.id).await.unwrap(), "it is lifted already");
    }
    assert_eq!(outcome(&hub, credential()).await, Ok(()));
    assert!(!hub.lift("").await.unwrap() && !hub.lift("no id").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn changed_role_counts_at_once_and_until_it_is_restored() {
    let hub = hub(|_| ());
    let mut client = connected(&hub, credential()).await;
    client.join("a").await;
    client.join("b").await;
    let reader = Permissions::nothing().allow(Action::Join, "a").allow(Action::History, "a");
    hub.set_permissions(&ana(), reader).await.unwrap();
    let left = client.expect("unsubscribed").await;
    assert_eq!((&left["room"], &left["code"]), (&json!("b"), &json!(131)), "{left}");
    client.say("a", "may I?").await;
    assert_eq!(client.expect("error").await["code"], 131);
    // A credential that says otherwise, and is as old, says nothing.
    let mut again = connected(&hub, credential().on_device("other")).await;
    again.send(json!({ "type": "subscribe", "room": "b" })).await;
    assert_eq!(again.expect("error").await["code"], 131);
    // A later one speaks for itself.
    let mut later = connected(&hub, fresh().on_device("third")).await;
    later.join("b").await;
    assert!(hub.restore_permissions(&ana()).await.unwrap());
    assert!(!hub.restore_permissions(&ana()).await.unwrap());
    client.join("b").await;
    client.say("a", "I may").await;
    assert_eq!(client.expect("chat").await["content"], "I may");
}

#[tokio::test(start_paused = true)]
async fn removed_users_stay_out_of_the_room_and_keep_their_others() {
    let hub = hub(|_| ());
    let mut client = connected(&hub, credential()).await;
    client.join("a").await;
    client.join("b").await;
    let hour = Duration::from_secs(3600);
    hub.remove_from_room("a", &ana(), hour).await.unwrap();
    let left = client.expect("unsubscribed").await;
    assert_eq!((&left["room"], &left["code"]), (&json!("a"), &json!(131)), "{left}");
    assert!(left["message"].as_str().unwrap().contains("kept out"), "{left}");
    client.send(json!({ "type": "subscribe", "room": "a" })).await;
    assert_eq!(client.expect("error").await["code"], 131);
    client.say("b", "still here").await;
    assert_eq!(client.expect("chat").await["content"], "still here");
    // Nor with a token from afterwards, nor as somebody who may do everything.
    let mut later = connected(&hub, fresh().on_device("x").with_permissions(Permissions::everything())).await;
    later.send(json!({ "type": "subscribe", "room": "a" })).await;
    assert_eq!(later.expect("error").await["code"], 131);
    assert!(hub.readmit("a", &ana()).await.unwrap() && !hub.readmit("a", &ana()).await.unwrap());
    client.join("a").await;
    for (room, time) in [("", hour), ("@a~b", hour), ("a", Duration::from_secs(1))] {
        let refused = hub.remove_from_room(room, &ana(), time).await;
        assert!(matches!(refused, Err(RulingError::Invalid(_))), "{room}");
    }
}

/// Anonymous connections are found by looking at everybody.
#[tokio::test(start_paused = true)]
async fn anonymous_users_are_found_too() {
    let hub = hub(|_| ());
    let mut somebody = welcomed(&hub, "ben").await;
    let identity = Identity::anonymous();
    let user = identity.user.clone();
    let mut client = connected(&hub, identity).await;
    assert_eq!(hub.revoke_user(&user, false).await.unwrap().clients, 1);
    assert_eq!(client.closed().await, Some(Disconnect::Revoked.code()));
    assert!(somebody.received().is_empty());
}

/// What waits in a queue for a client that reads slowly was said before, and is not delivered after.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_client_is_not_delivered_after() {
    let hub = hub(|_| ());
    let (client, _) = attach_with(&hub, Attach::new(credential()), 4096);
    let mut client = client.with_patience(PATIENCE);
    client.expect("welcome").await;
    client.join("a").await;
    client.join("b").await;
    (0..2000).for_each(|number| publish(&hub, "a", number));
    moment().await;
    hub.remove_from_room("a", &ana(), Duration::from_secs(3600)).await.unwrap();
    moment().await;
    let received = client.received();
    let heard = numbers(&received).len();
    assert!((1..500).contains(&heard), "{heard} of 2000: what the pipe holds, and no more");
}

#[tokio::test(start_paused = true)]
async fn hub_remembers_so_many_rulings_and_says_what_to_do() {
    let hub = hub(|config| config.rulings_max = 3);
    for index in 0..3 {
        hub.revoke_token(&format!("t-{index}"), None).await.unwrap();
    }
    let refused = hub.revoke_token("t-3", None).await.unwrap_err();
    assert_eq!(refused, RulingError::TooMany { max: 3 });
    assert!(refused.to_string().contains("lift some"), "{refused}");
    // Deciding anew about the same takes no more place.
    hub.revoke_token("t-2", None).await.unwrap();
    let page = hub.rulings(None, 2);
    assert!(page.more);
    assert_eq!(hub.rulings(Some(&page.items[1].id), 2).items.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn rulings_outlive_a_restart_and_nobody_comes_in_before_they_are_read() {
    let store = Arc::new(MemoryStore::shared());
    let start = || {
        let shared: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
        hub_of(Hub::builder().store("s", shared), |_| ())
    };
    let first = start();
    assert!(first.revoke_user(&ana(), false).await.unwrap().durable);
    let ruling = Ruling::new(Subject::User(UserId::new("ben")), Verdict::Revoked { reconnect: false });
    let lifted = first.rule(ruling).await.unwrap().id;
    first.lift(&lifted).await.unwrap();
    let second = start();
    // Asked before anything can have been read.
    assert!(second.check_credential(&credential()).await.is_err());
    assert_eq!(attached(&second, credential()).await, Err(Disconnect::Revoked.code()));
    assert_eq!(outcome(&second, Identity::user("ben")).await, Ok(()));
    assert_eq!(second.rulings(None, 10).items.len(), 1);
}

/// What others put on the bus is checked.
#[tokio::test(start_paused = true)]
async fn garbage_on_the_bus_is_no_ruling() {
    let nodes = Nodes::start(2, true);
    let mut client = connected(&nodes.hubs[0], credential()).await;
    moment().await;
    let stranger = nodes.bus.connect();
    for bytes in [&b""[..], b"\x16\x01\x04abcd", &[0xff; 64]] {
        let topic = Topic::new("broadcast").unwrap();
        let outgoing = Outgoing { topic, payload: bytes::Bytes::copy_from_slice(bytes) };
        stranger.publish(&[outgoing]).await.unwrap();
    }
    tokio::time::sleep(WITHIN).await;
    assert!(client.received().is_empty());
    assert!(nodes.hubs[0].rulings(None, 10).items.is_empty());
}

/// Both at the same moment: the shards have threads of their own.
#[tokio::test]
async fn connections_that_come_while_it_is_decided_are_found() {
    let hub = crate::support::threaded_hub(2, |_| ());
    for round in 0..200_u32 {
        let name = format!("user-{round}");
        let user = UserId::new(name.as_str());
        let (attaching, deciding) = (hub.clone(), hub.clone());
        let attach = Attach::new(Identity::user(name.as_str()));
        let attach = tokio::task::spawn_blocking(move || attach_with(&attaching, attach, 64 * 1024).0);
        let decide = tokio::spawn(async move { deciding.revoke_user(&user, false).await });
        let mut client = attach.await.unwrap().with_patience(PATIENCE);
        decide.await.unwrap().unwrap();
        assert_eq!(client.closed().await, Some(Disconnect::Revoked.code()));
    }
    hub.shutdown(PATIENCE).await;
}

/// Accepts `old` and `new`, which are tokens of ana's from before and after.
#[derive(Debug)]
struct Tokens;

impl Authenticator for Tokens {
    fn authenticate<'a>(&'a self, _: &'a http::request::Parts) -> Authentication<'a> {
        Box::pin(async { Err(AuthError::unauthorized("not here")) })
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        let identity = match token {
            "old" => Ok(credential()),
            "new" => Ok(fresh()),
            _ => Err(AuthError::unauthorized("no token")),
        };
        Box::pin(std::future::ready(identity))
    }
}

/// A connection goes on with a fresh token, and with no other.
#[tokio::test(start_paused = true)]
async fn refreshing_asks_what_was_decided_about_the_fresh_token() {
    let hub = hub_of(Hub::builder().authenticator(Tokens), |_| ());
    let mut client = connected(&hub, credential()).await;
    let reader = Permissions::nothing().allow(Action::Join, "a");
    hub.set_permissions(&ana(), reader).await.unwrap();
    client.join("a").await;
    client.send(json!({ "type": "auth", "token": "old" })).await;
    client.expect("authenticated").await;
    client.say("a", "may I?").await;
    assert_eq!(client.expect("error").await["code"], 131);
    client.send(json!({ "type": "auth", "token": "new" })).await;
    client.expect("authenticated").await;
    client.say("a", "I may").await;
    assert_eq!(client.expect("chat").await["content"], "I may");
    // What is revoked is no way back, and what is not goes on.
    hub.revoke_token("t-1", None).await.unwrap();
    client.send(json!({ "type": "auth", "token": "old" })).await;
    assert_eq!(client.expect("error").await["error"], "unauthorized");
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
    hub.revoke_token("t-2", None).await.unwrap();
    assert_eq!(client.closed().await, Some(Disconnect::Revoked.code()));
}

#[tokio::test(start_paused = true)]
async fn moderator_kicks_a_user_on_another_node_who_stays_out() {
    let nodes = Nodes::start(2, true);
    let moderator = Identity::user("mod").named("mod").with_permissions(Permissions::everything());
    let mut moderator = connected(&nodes.hubs[0], moderator).await;
    moderator.join("s").await;
    let mut client = connected(&nodes.hubs[1], credential()).await;
    client.join("s").await;
    moment().await;
    let mut member = connected(&nodes.hubs[0], Identity::user("ben")).await;
    member.join("s").await;
    let kick = json!({ "type": "kick", "room": "s", "user": "ana", "seconds": 60 });
    member.send(kick.clone()).await;
    assert_eq!(member.find("error").await["code"], 131);
    moderator.send(kick).await;
    moderator.find("kicked").await;
    assert_eq!(client.find("unsubscribed").await["code"], 131);
    client.send(json!({ "type": "subscribe", "room": "s" })).await;
    assert_eq!(client.find("error").await["code"], 131);
    // Without a time: put out, and free to come in again.
    moderator.send(json!({ "type": "kick", "room": "s", "user": "ben" })).await;
    moderator.find("kicked").await;
    assert_eq!(member.find("unsubscribed").await["code"], 131);
    let mut there = connected(&nodes.hubs[1], Identity::user("eve")).await;
    there.join("s").await;
    moderator.send(json!({ "type": "kick", "room": "s", "user": "eve" })).await;
    assert_eq!(there.find("unsubscribed").await["code"], 131);
    there.join("s").await;
}

/// Whoever asked may go away.
#[tokio::test(start_paused = true)]
async fn what_is_begun_is_decided_although_nobody_waits_for_it() {
    let nodes = Nodes::start(2, true);
    let mut client = connected(&nodes.hubs[0], credential()).await;
    moment().await;
    {
        let user = ana();
        let deciding = nodes.hubs[0].revoke_user(&user, false);
        // Polled once.
        assert!(tokio::time::timeout(Duration::ZERO, deciding).await.is_err());
    }
    assert_eq!(client.closed().await, Some(Disconnect::Revoked.code()));
    tokio::time::sleep(WITHIN).await;
    assert_eq!(nodes.hubs[1].rulings(None, 10).items.len(), 1);
}

fn keeping(shelf: &Arc<Shelf>) -> Hub {
    let store: Arc<Shelf> = Arc::clone(shelf);
    hub_of(Hub::builder().store("shelf", store), |_| ())
}

/// The store takes longer than whoever asked waits, and has it all the same.
#[tokio::test(start_paused = true)]
async fn ruling_that_the_store_took_late_counts_where_it_was_made() {
    for shelf in [Shelf::new(), Shelf::shared(0)] {
        let hub = keeping(&shelf);
        let mut client = connected(&hub, credential()).await;
        moment().await;
        shelf.set(Mood::Holds);
        let told = hub.revoke_user(&ana(), false).await;
        assert!(matches!(told, Err(RulingError::Unavailable(_))), "{told:?}");
        // What waits behind it is not begun, and is not decided later either.
        let behind = hub.revoke_token("t-9", None).await;
        assert!(matches!(behind, Err(RulingError::Unavailable(_))), "{behind:?}");
        assert!(client.received().is_empty(), "it is not known yet");
        shelf.set(Mood::Works);
        tokio::time::sleep(WITHIN).await;
        assert_eq!(closed_with(&client.received()), Some(Disconnect::Revoked.code()));
        assert_eq!(outcome(&hub, credential()).await, Err(Disconnect::Revoked.code()));
        assert_eq!(hub.rulings(None, 10).items.len(), 1);
    }
}

/// The store went away in the middle, and when it was back it was too late to ask it whether it has the ruling.
#[tokio::test(start_paused = true)]
async fn ruling_in_doubt_is_made_sure_of() {
    for facts_written in [true, false] {
        let shelf = Shelf::new();
        let hub = keeping(&shelf);
        let mut client = connected(&hub, credential()).await;
        moment().await;
        shelf.set(Mood::Away { appends_written: 0, facts_written, ms: 60_000 });
        let ruled = hub.revoke_user(&ana(), false).await;
        assert_eq!(ruled.map(|ruled| (ruled.durable, ruled.clients)), Ok((true, 1)), "{facts_written}");
        assert_eq!(client.closed().await, Some(Disconnect::Revoked.code()));
        let next = keeping(&shelf);
        assert_eq!(outcome(&next, credential()).await, Err(Disconnect::Revoked.code()));
    }
}
