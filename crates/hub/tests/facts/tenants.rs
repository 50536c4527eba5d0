//! Tenants: nothing of one is seen by another, whatever names are used; each has its quotas, which count at once; and they
//! come and go while the hub runs.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::bus::MemoryHub;
use outspoke_hub::{
    Attach, AttachError, Body, ClusterOptions, Durability, Frame, Hub, HubBuilder, HubConfig, Identity, Kind,
    MemoryConn, PublishError, Quotas, RoomClass, StartError, TenantData, TenantError, TenantFrom,
    TenantPolicy, UpgradeOptions, authenticator_fn,
};
use outspoke_testkit::{Connect, ScriptedClient, attach_with, settle};
use serde_json::{Value, json};

use crate::shelf::{Mood, Shelf};
use crate::support::{hub, hub_of, kinds, number_body};

fn identity(tenant: &str, user: &str) -> Identity {
    let mut identity = Identity::user(user).named(user);
    identity.tenant = tenant.into();
    identity
}

async fn welcomed(hub: &Hub, tenant: &str, user: &str) -> ScriptedClient {
    let (mut client, _) = attach_with(hub, Attach::new(identity(tenant, user)), 64 * 1024);
    client.expect("welcome").await;
    client
}

async fn member(hub: &Hub, tenant: &str, user: &str, room: &str) -> ScriptedClient {
    let mut client = welcomed(hub, tenant, user).await;
    client.join(room).await;
    client
}

fn refused(hub: &Hub, tenant: &str) -> AttachError {
    let (conn, _peer) = MemoryConn::pair(64);
    hub.attach(conn, Attach::new(identity(tenant, "u"))).unwrap_err()
}

/// A hub whose rooms named `s...` are stored, those named `m...` kept in memory.
fn keeping(shelf: &Arc<Shelf>, builder: HubBuilder, change: impl FnOnce(&mut HubConfig)) -> Hub {
    let store: Arc<Shelf> = Arc::clone(shelf);
    hub_of(builder.store("shelf", store), |config| {
        for (pattern, durability) in [("s*", Durability::Stored), ("m*", Durability::Memory)] {
            let class = RoomClass { durability, announce: false, ..RoomClass::new(pattern) };
            config.rooms.classes.push(Arc::new(class));
        }
        change(config);
    })
}

async fn usage(hub: &Hub, tenant: &str) -> (usize, usize, Option<u64>) {
    let tenants = hub.tenants().await;
    let info = tenants.iter().find(|info| info.name == tenant).unwrap();
    (info.usage.connections, info.usage.rooms, info.usage.stored_bytes)
}

async fn names(hub: &Hub) -> Vec<String> {
    hub.tenants().await.into_iter().map(|info| info.name.to_string()).collect()
}

/// Joins a room with news of others still on the way.
async fn joined(client: &mut ScriptedClient, room: &str) -> Value {
    client.send(json!({ "type": "subscribe", "room": room })).await;
    client.find("subscribed").await
}

async fn said(client: &mut ScriptedClient, room: &str, content: &str) -> Value {
    client.send(json!({ "type": "chat", "room": room, "content": content, "id": 1 })).await;
    loop {
        let outspoke_testkit::Received::Json(value) = client.next_but_pings().await else {
            panic!("no JSON")
        };
        if value["type"] == "ack" || value["type"] == "error" {
            return value;
        }
    }
}

// ---- isolation ----

/// The same room, the same user, the same words: and names made of each other's.
#[tokio::test(start_paused = true)]
async fn rooms_of_the_same_name_in_different_tenants_are_different_rooms() {
    let shelf = Shelf::new();
    let hub = keeping(&shelf, Hub::builder(), |_| {});
    let tenants = ["", "a", "b", "a.b", "s"];
    for room in ["x", "s", "m", "s.b", "sa"] {
        let mut clients = Vec::new();
        for tenant in tenants {
            let mut client = welcomed(&hub, tenant, "u").await;
            let joined = client.join(room).await;
            assert_eq!((&joined["members"], &joined["head"]), (&json!(1), &json!(0)), "{tenant:?} {room}");
            clients.push((tenant, client));
        }
        for (tenant, client) in &mut clients {
            let ack = said(client, room, &format!("only for {tenant}")).await;
            assert_eq!(ack["offset"], 1, "{tenant:?} {room}: {ack}");
            said(client, room, &format!("/topic of:{tenant}")).await;
        }
        settle().await;
        for (tenant, client) in &mut clients {
            let seen: Vec<String> = client.messages().iter().map(ToString::to_string).collect();
            for other in tenants.into_iter().filter(|other| other != tenant) {
                assert!(
                    seen.iter().all(|seen| !seen.contains(&format!("for {other}\""))),
                    "{tenant:?}: {seen:?}"
                );
            }
            if room != "x" {
                client.send(json!({ "type": "history", "room": room })).await;
                let page = client.expect("history").await["messages"].clone();
                assert_eq!(page.as_array().unwrap().len(), 2, "{page}");
                assert_eq!(page[0]["content"], format!("only for {tenant}"));
            }
            let (mut late, _) = attach_with(&hub, Attach::new(identity(tenant, "late")), 64 * 1024);
            late.expect("welcome").await;
            let joined = late.join(room).await;
            assert_eq!((&joined["topic"], &joined["members"]), (&json!(format!("of:{tenant}")), &json!(2)));
            let in_tenant = hub.in_tenant(tenant);
            assert_eq!(in_tenant.member_count(room), 2);
        }
    }
    for tenant in tenants {
        let stored = hub.in_tenant(tenant);
        assert_eq!(stored.room_count(), stored.rooms().len());
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_application_tells_one_tenant_reaches_no_other() {
    let hub = hub(|_| {});
    let mut a = member(&hub, "a", "u", "x").await;
    let (mut b, mut nameless) = (member(&hub, "b", "u", "x").await, member(&hub, "", "u", "x").await);
    let of_a = hub.in_tenant("a");
    of_a.broadcast(&Frame::text(r#"{"type":"all"}"#)).unwrap();
    of_a.announce(Kind::System, Body::Text("hear".into())).unwrap();
    let published = of_a.publish("x", Kind::Data, number_body(1)).unwrap().await.unwrap();
    assert_eq!(published.members, 1);
    a.expect("all").await;
    a.expect("system").await;
    a.expect("message").await;
    hub.broadcast(&Frame::text(r#"{"type":"all"}"#)).unwrap();
    nameless.expect("all").await;
    settle().await;
    for other in [&mut a, &mut b, &mut nameless] {
        assert_eq!(kinds(&other.received()), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_commands_and_names_stay_within_the_tenant() {
    let hub = hub(|_| {});
    let (mut a, mut b) = (member(&hub, "a", "u", "x").await, member(&hub, "b", "u", "x").await);
    a.say("x", "/who").await;
    let who = a.expect("command_result").await["data"]["result"].clone();
    assert_eq!(
        (&who["members"], &who["users"][0]["userId"], &who["users"][1]),
        (&json!(1), &json!("u"), &Value::Null)
    );
    a.say("x", "/nick Other").await;
    a.find("command_result").await;
    settle().await;
    assert_eq!(kinds(&b.received()), [""; 0]);
}

/// A private message's conversation has the same name in every tenant that has users of those names.
#[tokio::test(start_paused = true)]
async fn private_messages_and_receipts_stay_within_the_tenant() {
    let shelf = Shelf::new();
    let hub = keeping(&shelf, Hub::builder(), |config| {
        let direct = RoomClass { durability: Durability::Stored, ..(*config.rooms.direct).clone() };
        config.rooms.direct = Arc::new(direct);
    });
    let mut pairs = Vec::new();
    for tenant in ["", "a", "b"] {
        pairs.push((welcomed(&hub, tenant, "ann").await, welcomed(&hub, tenant, "bob").await));
    }
    let (mut ann, mut bob) = pairs.remove(1);
    ann.send(json!({ "type": "direct", "to": "bob", "content": "psst", "id": 1 })).await;
    let chat = bob.find("chat").await;
    assert_eq!((&chat["content"], &chat["to"]), (&json!("psst"), &json!("bob")));
    ann.find("ack").await;
    ann.send(json!({ "type": "chat", "content": "/msg bob again", "id": 2 })).await;
    assert_eq!(bob.find("chat").await["content"], "again");
    bob.send(json!({ "type": "seen", "room": chat["room"], "offset": 2, "id": 3 })).await;
    ann.find("receipt").await;
    settle().await;
    for (other_ann, other_bob) in &mut pairs {
        assert_eq!((kinds(&other_ann.received()), kinds(&other_bob.received())), (vec![], vec![]));
        other_bob.send(json!({ "type": "conversations" })).await;
        assert_eq!(other_bob.expect("conversations").await["conversations"], json!([]));
        other_ann.send(json!({ "type": "direct", "to": "bob", "content": "first here", "id": 1 })).await;
        let first = other_bob.find("chat").await;
        assert_eq!((&first["room"], &first["offset"]), (&chat["room"], &json!(1)));
        other_bob.send(json!({ "type": "receipts", "room": chat["room"] })).await;
        let receipts = other_bob.find("receipts").await.to_string();
        assert!(!receipts.contains(r#""seen":2"#), "{receipts}");
    }
}

/// What users said before they came back to another tenant is not theirs there.
#[tokio::test(start_paused = true)]
async fn position_in_another_tenants_room_recovers_nothing() {
    let shelf = Shelf::new();
    let hub = keeping(&shelf, Hub::builder(), |_| {});
    for room in ["s", "m"] {
        let mut a = member(&hub, "a", "u", room).await;
        let ack = said(&mut a, room, "secret").await;
        said(&mut a, room, "another").await;
        let mut b = member(&hub, "b", "u", "x").await;
        let from = json!({ "type": "subscribe", "room": room, "epoch": ack["epoch"], "offset": 1 });
        b.send(from).await;
        assert_eq!(b.expect("subscribed").await["recovered"], false);
        b.send(json!({ "type": "history", "room": room })).await;
        assert_eq!(b.expect("history").await["messages"], json!([]));
    }
}

// ---- who is let in ----

#[tokio::test(start_paused = true)]
async fn known_tenants_only_lets_nobody_into_another_and_remembers_nothing_of_it() {
    let builder = Hub::builder().tenant("acme", Quotas::default());
    let hub = hub_of(builder, |config| config.tenants = TenantPolicy::Known);
    welcomed(&hub, "acme", "u").await;
    welcomed(&hub, "", "u").await;
    for name in ["other", "ACME", "acme.", "../acme"] {
        assert_eq!(refused(&hub, name), AttachError::UnknownTenant { name: name.to_owned() });
    }
    assert_eq!(names(&hub).await, ["", "acme"]);
    hub.put_tenant("other", Quotas::default()).await.unwrap();
    welcomed(&hub, "other", "u").await;
}

#[tokio::test(start_paused = true)]
async fn tenant_whose_name_cannot_be_is_refused() {
    for name in ["", "a b", "a/b", "..", &"x".repeat(65)] {
        let builder = Hub::builder().tenant(format!("{name}é"), Quotas::default());
        assert!(matches!(builder.start_on_this_runtime(), Err(StartError::InvalidTenant { .. })), "{name}");
    }
    let hub = hub(|_| {});
    assert!(matches!(hub.put_tenant("a/b", Quotas::default()).await, Err(TenantError::InvalidName(_))));
}

async fn serve(builder: HubBuilder, change: impl FnOnce(&mut HubConfig)) -> (Hub, SocketAddr) {
    let mut config = HubConfig { shards: 1, ..HubConfig::default() };
    change(&mut config);
    let hub = builder.config(config).start().unwrap();
    let hosts = |host: &str| TenantFrom::Host(HashMap::from([(host.to_owned(), "acme".into())]));
    let by = |tenant| hub.service_with(UpgradeOptions::default().of_tenant(tenant));
    let app = axum::Router::<()>::new()
        .route_service("/here", by(hosts("127.0.0.1")))
        .route_service("/elsewhere", by(hosts("chat.acme.example")))
        .route_service("/plain", by(TenantFrom::Identity))
        .route_service("/t/{tenant}/ws", by(TenantFrom::Path));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (hub, addr)
}

/// A credential that names a tenant, or none.
fn by_credential() -> HubBuilder {
    Hub::builder().authenticator(authenticator_fn(|request| {
        let tenant = request.headers.get("x-tenant").map_or("", |tenant| tenant.to_str().unwrap());
        Ok(identity(tenant, "u"))
    }))
}

#[tokio::test]
async fn endpoint_gives_the_tenant_that_the_credential_does_not_name_and_none_other() {
    let (hub, addr) = serve(by_credential(), |config| config.tenants = TenantPolicy::Known).await;
    hub.put_tenant("acme", Quotas::default()).await.unwrap();
    let long = "x".repeat(65);
    for (target, credential, expected) in [
        ("/t/acme/ws", "", Ok("acme")),
        ("/t/%61cme/ws", "", Ok("acme")),
        ("/t/acme/ws", "acme", Ok("acme")),
        ("/t/acme/ws", "other", Err((403, "forbidden"))),
        ("/t/other/ws", "", Err((404, "tenant_not_found"))),
        ("/t/a%2fb/ws", "", Err((404, "tenant_not_found"))),
        ("/here", "", Ok("acme")),
        ("/here", "acme", Ok("acme")),
        ("/here", "other", Err((403, "forbidden"))),
        ("/elsewhere", "", Ok("")),
        ("/elsewhere", "acme", Ok("acme")),
        ("/plain", "", Ok("")),
        ("/plain", "acme", Ok("acme")),
        ("/plain", "other", Err((403, "tenant_not_found"))),
        ("/plain", "a b", Err((403, "forbidden"))),
        ("/plain", &long, Err((403, "forbidden"))),
    ] {
        let connect = Connect::to(addr, target).header("x-tenant", credential);
        match (connect.open().await, expected) {
            (Ok(mut client), Ok(tenant)) => {
                let id = client.expect("welcome").await["clientId"].as_str().unwrap().parse().unwrap();
                let client = hub.client(id).unwrap();
                assert_eq!(client.identity().tenant, tenant, "{target} {credential}");
            }
            (Err(refused), Err((status, code))) => {
                let body: Value = serde_json::from_str(&refused.body).unwrap();
                let got = (refused.status, body["error"].as_str().unwrap());
                assert_eq!(got, (status, code), "{target} {credential}");
            }
            (got, _) => panic!("{target} {credential}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn connections_above_the_quota_are_refused_with_503_before_the_upgrade() {
    let (hub, addr) = serve(by_credential(), |_| {}).await;
    hub.put_tenant("acme", Quotas { connections_max: 1, ..Quotas::default() }).await.unwrap();
    let connect = || Connect::to(addr, "/t/acme/ws").open();
    let first = connect().await.unwrap();
    let refused = connect().await.unwrap_err();
    let body: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((refused.status, &body["error"]), (503, &json!("quota_exceeded")));
    let mut other = Connect::to(addr, "/t/other/ws").open().await.unwrap();
    other.expect("welcome").await;
    drop(first);
    crate::support::eventually("the place is free", || hub.client_count() == 1).await;
    connect().await.unwrap();
}

// ---- quotas ----

#[tokio::test(start_paused = true)]
async fn quota_of_connections_counts_for_its_tenant_alone_and_changes_at_once() {
    let hub = hub(|config| config.tenant_quotas = Quotas { connections_max: 2, ..Quotas::default() });
    let first = welcomed(&hub, "a", "1").await;
    let _second = welcomed(&hub, "a", "2").await;
    assert_eq!(refused(&hub, "a"), AttachError::Quota { max: 2 });
    let _others =
        (welcomed(&hub, "b", "1").await, welcomed(&hub, "", "1").await, welcomed(&hub, "", "2").await);
    let _nameless = welcomed(&hub, "", "3").await;
    assert_eq!(usage(&hub, "a").await.0, 2);
    hub.put_tenant("a", Quotas { connections_max: 3, ..Quotas::default() }).await.unwrap();
    let _third = welcomed(&hub, "a", "3").await;
    hub.put_tenant("a", Quotas { connections_max: 1, ..Quotas::default() }).await.unwrap();
    drop(first);
    settle().await;
    assert_eq!(usage(&hub, "a").await.0, 2, "who is there stays");
    assert_eq!(refused(&hub, "a"), AttachError::Quota { max: 1 });
}

#[tokio::test(start_paused = true)]
async fn quota_of_rooms_refuses_further_ones_and_no_joins_of_those_there_are() {
    let hub = hub_of(Hub::builder().tenant("a", Quotas { rooms_max: 2, ..Quotas::default() }), |config| {
        config.rooms.default_mut().durability = Durability::Memory;
    });
    let mut alice = member(&hub, "a", "alice", "1").await;
    alice.join("2").await;
    alice.send(json!({ "type": "subscribe", "room": "3", "id": 1 })).await;
    let error = alice.expect("error").await;
    assert_eq!((&error["error"], &error["temporary"]), (&json!("quota_exceeded"), &json!(true)));
    let published = hub.in_tenant("a").publish("3", Kind::Data, number_body(1)).map(|_| ());
    assert!(
        matches!(published, Err(PublishError::Refused(refusal)) if refusal.code.name() == "quota_exceeded")
    );
    member(&hub, "a", "bob", "2").await;
    member(&hub, "b", "bob", "3").await;
    assert_eq!((usage(&hub, "a").await.1, hub.in_tenant("a").room_count()), (2, 2));
}

/// Clients and the application share the rate; who waits as told gets through.
#[tokio::test(start_paused = true)]
async fn rate_of_messages_is_the_tenants_whoever_publishes() {
    let quotas = Quotas { messages_per_second: 4, ..Quotas::default() };
    let hub = hub_of(Hub::builder().tenant("a", quotas), |_| {});
    let (mut alice, mut bob) = (member(&hub, "a", "alice", "x").await, member(&hub, "a", "bob", "y").await);
    let mut other = member(&hub, "b", "alice", "x").await;
    assert_eq!(said(&mut alice, "x", "1").await["type"], "ack");
    assert_eq!(said(&mut bob, "y", "2").await["type"], "ack");
    assert_eq!(said(&mut bob, "y", "/me 3").await["type"], "ack");
    let of_a = hub.in_tenant("a");
    of_a.publish("x", Kind::Data, number_body(4)).unwrap();
    let error = said(&mut alice, "x", "5").await;
    assert_eq!(error["error"], "quota_exceeded");
    let wait = Duration::from_millis(error["retryAfter"].as_u64().unwrap());
    assert!(wait > Duration::from_millis(200) && wait <= Duration::from_millis(251), "{wait:?}");
    let published = of_a.publish("x", Kind::Data, number_body(5)).map(|_| ());
    assert!(matches!(published, Err(PublishError::Refused(_))));
    assert_eq!(said(&mut bob, "y", "/topic 5").await["error"], "quota_exceeded");
    for number in 0..20 {
        assert_eq!(said(&mut other, "x", &number.to_string()).await["type"], "ack");
    }
    tokio::time::advance(wait).await;
    assert_eq!(said(&mut alice, "x", "5").await["type"], "ack");
    assert_eq!(said(&mut alice, "x", "6").await["type"], "error");
    hub.put_tenant("a", Quotas::default()).await.unwrap();
    for number in 0..20 {
        assert_eq!(said(&mut alice, "x", &number.to_string()).await["type"], "ack");
    }
}

/// The quota is a promise to everybody else on the disk.
#[tokio::test(start_paused = true)]
async fn stored_bytes_above_the_quota_are_refused_and_count_across_rooms_and_restarts() {
    let shelf = Shelf::new();
    let quotas = Quotas { stored_bytes_max: 10_000, ..Quotas::default() };
    let text = "x".repeat(900);
    let mut rooms = 0;
    for _ in 0..2 {
        let hub = keeping(&shelf, Hub::builder().tenant("a", quotas), |_| {});
        assert_eq!(usage(&hub, "a").await.2, Some(stored(&shelf, "a").await), "found at start");
        let mut alice = welcomed(&hub, "a", "alice").await;
        for _ in 0..5 {
            rooms += 1;
            let room = format!("s{rooms}");
            joined(&mut alice, &room).await;
            if said(&mut alice, &room, &text).await["type"] == "error" {
                break;
            }
        }
        assert_eq!(usage(&hub, "a").await.2, Some(stored(&shelf, "a").await));
        drop(alice);
        assert!(hub.shutdown(Duration::from_secs(60)).await);
    }
    let hub = keeping(&shelf, Hub::builder().tenant("a", quotas), |_| {});
    assert!(usage(&hub, "a").await.2.unwrap() <= 10_000);
    let mut alice = member(&hub, "a", "alice", "s").await;
    let mut kept = 0;
    let error = loop {
        let answer = said(&mut alice, "s", &text).await;
        if answer["type"] == "error" {
            break answer;
        }
        kept += 1;
    };
    assert_eq!(error["error"], "quota_exceeded");
    assert!(kept < 2 && stored(&shelf, "a").await > 9_000, "{kept}");
    let of_a = hub.in_tenant("a");
    let published = of_a.publish("s", Kind::Chat, Body::Text(text.as_str().into())).map(|_| ());
    assert!(matches!(published, Err(PublishError::Refused(_))));
    // What is not stored, and whoever else stores, goes on.
    joined(&mut alice, "x").await;
    assert_eq!(said(&mut alice, "x", &text).await["type"], "ack");
    assert_eq!(said(&mut member(&hub, "b", "bob", "s").await, "s", &text).await["type"], "ack");
    // A deletion is no addition; what it frees can be used.
    hub.put_tenant("a", Quotas { stored_bytes_max: 11_000, ..quotas }).await.unwrap();
    assert_eq!(said(&mut alice, "s", &text).await["type"], "ack");
    let before = stored(&shelf, "a").await;
    hub.put_tenant("a", quotas).await.unwrap();
    of_a.delete("s", 1).await.unwrap();
    assert!(stored(&shelf, "a").await < before);
    assert_eq!(usage(&hub, "a").await.2, Some(stored(&shelf, "a").await));
}

async fn stored(shelf: &Shelf, tenant: &str) -> u64 {
    use outspoke_hub::store::Store;
    let page = shelf.logs(tenant, None, 1000).await.unwrap();
    page.logs.iter().map(|log| log.state.bytes).sum()
}

/// Messages that never got there, and those sent twice, take nothing.
#[tokio::test(start_paused = true)]
async fn bytes_that_were_not_stored_after_all_do_not_count() {
    let shelf = Shelf::new();
    let quotas = Quotas { stored_bytes_max: 2_000, ..Quotas::default() };
    let hub = keeping(&shelf, Hub::builder().tenant("a", quotas), |_| {});
    let mut alice = member(&hub, "a", "alice", "s").await;
    shelf.set(Mood::Refuses(outspoke_hub::store::StoreError::Full("0 bytes are left".to_owned())));
    let text = "x".repeat(900);
    for _ in 0..10 {
        assert_eq!(said(&mut alice, "s", &text).await["error"], "storage_full");
    }
    shelf.set(Mood::Works);
    for _ in 0..10 {
        let chat = json!({ "type": "chat", "room": "s", "content": text, "id": 1, "idempotencyKey": "k" });
        alice.send(chat).await;
        alice.find("ack").await;
    }
    assert_eq!(usage(&hub, "a").await.2, Some(stored(&shelf, "a").await));
    // As the log is trimmed, there is room again.
    drop(alice);
    assert!(hub.shutdown(Duration::from_secs(60)).await);
}

/// A log that gives up its oldest messages never fills the quota for good.
#[tokio::test(start_paused = true)]
async fn trimming_makes_room_under_the_quota() {
    let shelf = Shelf::new();
    let quotas = Quotas { stored_bytes_max: 40_000, ..Quotas::default() };
    let hub = keeping(&shelf, Hub::builder().tenant("a", quotas), |config| {
        let mut class = RoomClass { durability: Durability::Stored, ..RoomClass::new("t") };
        class.history.bytes_max = 10_000;
        config.rooms.classes.push(Arc::new(class));
    });
    let mut alice = member(&hub, "a", "alice", "t").await;
    for number in 0..200 {
        let answer = said(&mut alice, "t", &"x".repeat(900)).await;
        assert_eq!(answer["type"], "ack", "{number}: {answer}");
    }
    assert_eq!(usage(&hub, "a").await.2, Some(stored(&shelf, "a").await));
}

// ---- coming and going ----

#[tokio::test(start_paused = true)]
async fn tenant_that_was_put_is_there_after_a_restart_and_what_was_declared_counts_before_it() {
    let shelf = Shelf::new();
    let max = |connections_max| Quotas { connections_max, ..Quotas::default() };
    let known = |builder: HubBuilder| keeping(&shelf, builder, |config| config.tenants = TenantPolicy::Known);
    let hub = known(Hub::builder());
    for (name, connections) in [("put", 1), ("declared", 2), ("gone", 3), ("", 7)] {
        hub.put_tenant(name, max(connections)).await.unwrap();
    }
    hub.remove_tenant("gone", TenantData::Keep).await.unwrap();
    assert!(hub.shutdown(Duration::from_secs(60)).await);
    let hub = known(Hub::builder().tenant("declared", max(5)));
    // Nobody is told that a tenant is unknown before it is known which there are.
    assert_eq!(refused(&hub, "put"), AttachError::TenantsUnread);
    settle().await;
    let tenants = hub.tenants().await;
    let found: Vec<_> = tenants.iter().map(|info| (&*info.name, info.quotas.connections_max)).collect();
    assert_eq!(found, [("", 7), ("declared", 5), ("put", 1)]);
    welcomed(&hub, "put", "u").await;
    assert!(matches!(refused(&hub, "gone"), AttachError::UnknownTenant { .. }));
}

#[tokio::test(start_paused = true)]
async fn removed_tenants_clients_are_disconnected_for_good_and_its_data_kept_or_erased() {
    for data in [TenantData::Keep, TenantData::Erase] {
        let shelf = Shelf::new();
        let hub = keeping(&shelf, Hub::builder(), |config| config.tenants = TenantPolicy::Known);
        hub.put_tenant("a", Quotas::default()).await.unwrap();
        hub.put_tenant("b", Quotas::default()).await.unwrap();
        let mut clients = Vec::new();
        for tenant in ["a", "b"] {
            let mut client = welcomed(&hub, tenant, "u").await;
            for room in ["s", "m"] {
                joined(&mut client, room).await;
                said(&mut client, room, "hello").await;
                said(&mut client, room, "/topic tea").await;
            }
            clients.push(client);
        }
        let mut b = clients.pop().unwrap();
        let mut a = clients.pop().unwrap();
        let removing = hub.remove_tenant("a", data);
        let (removed, code) = tokio::join!(removing, async {
            let code = a.closed().await;
            a.close(1000, "").await;
            code
        });
        removed.unwrap();
        assert_eq!(code, Some(4502));
        assert!(matches!(refused(&hub, "a"), AttachError::UnknownTenant { .. }));
        assert_eq!(
            names(&hub).await.contains(&"a".to_owned()),
            data == TenantData::Keep,
            "for its rooms in memory"
        );
        let erased = hub.remove_tenant("a", TenantData::Keep).await;
        assert_eq!(erased, Err(TenantError::Unknown("a".to_owned())));
        assert_eq!(said(&mut b, "s", "still here").await["type"], "ack");
        hub.put_tenant("a", Quotas::default()).await.unwrap();
        let mut again = welcomed(&hub, "a", "u").await;
        for room in ["s", "m"] {
            let joined = again.join(room).await;
            let (head, topic) = match data {
                TenantData::Keep => (json!(2), json!("tea")),
                TenantData::Erase => (json!(0), Value::Null),
            };
            assert_eq!(
                (&joined["head"], joined.get("topic").unwrap_or(&Value::Null)),
                (&head, &topic),
                "{room}"
            );
        }
        assert_eq!(stored(&shelf, "a").await == 0, data == TenantData::Erase);
        assert!(stored(&shelf, "b").await > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn removing_what_is_not_there_or_cannot_go_says_so() {
    let hub = hub(|_| {});
    assert_eq!(hub.remove_tenant("", TenantData::Erase).await, Err(TenantError::Nameless));
    let unknown = hub.remove_tenant("a", TenantData::Keep).await;
    assert_eq!(unknown, Err(TenantError::Unknown("a".to_owned())));
    hub.remove_tenant("a", TenantData::Erase).await.unwrap();
}

/// A tenant that cannot be stored is not there until the next restart only: it is not there at all.
#[tokio::test(start_paused = true)]
async fn tenant_that_could_not_be_stored_is_not_put() {
    let shelf = Shelf::new();
    let hub = keeping(&shelf, Hub::builder(), |config| config.tenants = TenantPolicy::Known);
    settle().await;
    shelf.set(Mood::Refuses(outspoke_hub::store::StoreError::Unavailable("away".to_owned())));
    let put = hub.put_tenant("a", Quotas::default()).await;
    assert!(matches!(put, Err(TenantError::Unavailable(_))), "{put:?}");
    assert!(matches!(refused(&hub, "a"), AttachError::UnknownTenant { .. }));
}

/// Another node has removed it, and this one could not read that at once.
#[tokio::test(start_paused = true)]
async fn tenant_that_could_not_be_read_again_is_read_when_the_store_answers() {
    let (shelf, bus) = (Shelf::shared(0), MemoryHub::new());
    let start = |name: &str| {
        let builder = Hub::builder().cluster(Arc::new(bus.connect()), ClusterOptions::new(name));
        keeping(&shelf, builder, |config| config.tenants = TenantPolicy::Known)
    };
    let hubs = [start("node-1"), start("node-2")];
    settle().await;
    hubs[0].put_tenant("a", Quotas::default()).await.unwrap();
    // Until nothing is read any more because the nodes have just heard of each other.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut client = welcomed(&hubs[1], "a", "u").await;
    shelf.refuse_fact_reads(true);
    hubs[0].remove_tenant("a", TenantData::Keep).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(client.received().is_empty());
    shelf.refuse_fact_reads(false);
    assert_eq!(client.closed().await, Some(4502));
}
