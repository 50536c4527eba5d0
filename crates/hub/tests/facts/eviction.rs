//! One connection per identity: the older one goes first (C6).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use outspoke_hub::{Attach, Departure, Disconnect, Hub, Identity};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};

use crate::support::{PATIENCE, eventually, hub, hub_of, threaded_hub};

fn connect(hub: &Hub, identity: Identity) -> ScriptedClient {
    attach_with(hub, Attach::new(identity), 64 * 1024).0.with_patience(PATIENCE)
}

fn alice() -> Identity {
    Identity::user("alice").named("Alice").on_device("tab")
}

/// Without it a reconnecting phone would get everything twice, once on a dead socket.
#[tokio::test(start_paused = true)]
async fn newer_connection_of_the_same_device_replaces_the_older() {
    let hub = hub(|_| {});
    let mut old = connect(&hub, alice());
    old.expect("welcome").await;
    let mut new = connect(&hub, alice());
    new.expect("welcome").await;
    assert!(matches!(old.next().await, Received::Close { code: Some(4500), .. }));
    old.close(4500, "").await;
    assert_eq!(old.next().await, Received::End);
    drop(old);
    settle().await;
    assert_eq!((hub.client_count(), hub.stats().clients_replaced), (1, 1));
    new.send(serde_json::json!({ "type": "ping" })).await;
    new.expect("pong").await;
}

/// "First" is a promise: in no moment are both there, and the room, for which it is the same user, hears nothing.
#[tokio::test(start_paused = true)]
async fn older_connection_has_left_before_the_newer_is_welcomed() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let (came, went) = (Arc::clone(&events), Arc::clone(&events));
    let builder = Hub::builder()
        .on_connect(move |client| came.lock().unwrap().push((client.id(), None)))
        .on_disconnect(move |client, departure| went.lock().unwrap().push((client.id(), Some(departure))));
    let hub = hub_of(builder, |config| config.rooms.default_mut().announce = true);
    let mut watcher = connect(&hub, Identity::user("watcher"));
    watcher.expect("welcome").await;
    watcher.join("x").await;
    let attach = || Attach::new(alice()).into_room(outspoke_hub::RoomName::new("x", 9).unwrap());
    let (mut old, old_handle) = attach_with(&hub, attach(), 4096);
    old.find("subscribed").await;
    assert_eq!(watcher.expect("join").await["clientId"], old_handle.id().to_string());
    let (mut new, new_handle) = attach_with(&hub, attach(), 4096);
    new.find("subscribed").await;
    settle().await;
    assert_eq!((watcher.received(), hub.member_count("x")), (vec![], 2));
    let events = events.lock().unwrap().clone();
    assert_eq!(
        events[1..],
        [
            (old_handle.id(), None),
            (old_handle.id(), Some(Departure::ByServer(Disconnect::Replaced))),
            (new_handle.id(), None),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn other_devices_users_and_tenants_are_left_alone() {
    let hub = hub(|_| {});
    let mut tenant = alice();
    tenant.tenant = "other".into();
    let identities = [
        alice(),
        Identity::user("alice").on_device("phone"),
        Identity::user("alice"),
        Identity::user("bob").on_device("tab"),
        tenant,
        Identity::anonymous(),
        Identity::anonymous(),
    ];
    let mut clients: Vec<_> = identities.into_iter().map(|identity| connect(&hub, identity)).collect();
    for client in &mut clients {
        client.expect("welcome").await;
    }
    settle().await;
    assert!(clients.iter_mut().all(|client| client.received().is_empty()));
    assert_eq!((hub.client_count(), hub.stats().clients_replaced), (7, 0));
}

/// Nobody is not somebody: even the same made-up id evicts nobody.
#[tokio::test(start_paused = true)]
async fn anonymous_connections_never_evict() {
    let hub = hub(|_| {});
    let nobody = Identity::anonymous();
    let mut clients = [connect(&hub, nobody.clone()), connect(&hub, nobody)];
    for client in &mut clients {
        client.expect("welcome").await;
    }
    settle().await;
    assert!(clients.iter_mut().all(|client| client.received().is_empty()));
}

/// Three at once: the last one stays, and who was overtaken on the way is told so without being welcomed.
#[tokio::test(start_paused = true)]
async fn of_connections_that_come_at_once_the_last_stays() {
    let hub = hub(|_| {});
    let mut clients: Vec<_> = (0..3).map(|_| connect(&hub, alice())).collect();
    settle().await;
    let last = clients.pop().unwrap();
    for mut client in clients {
        assert_eq!(client.closed().await, Some(4500));
    }
    settle().await;
    assert_eq!(hub.clients().len(), 1);
    drop(last);
}

/// The road of an arrival leads over the other shard and back: whatever the order, exactly one is left, everybody
/// else got 4500, and every client that was announced as come is announced as gone.
#[tokio::test]
async fn chains_of_evictions_across_shards_leave_exactly_one() {
    let (come, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count_come, count_gone) = (Arc::clone(&come), Arc::clone(&gone));
    let config = outspoke_hub::HubConfig { shards: 4, ..outspoke_hub::HubConfig::default() };
    let builder = Hub::builder()
        .config(config)
        .on_connect(move |_| _ = count_come.fetch_add(1, Ordering::SeqCst))
        .on_disconnect(move |_, _| _ = count_gone.fetch_add(1, Ordering::SeqCst));
    let hub = builder.start().unwrap();
    for round in 0..100 {
        let clients: Vec<_> = (0..2 + round % 4).map(|_| connect(&hub, alice())).collect();
        let mut replaced = Vec::new();
        let mut kept = Vec::new();
        for mut client in clients {
            // Whoever answers a ping is there to stay.
            client.send(serde_json::json!({ "type": "ping" })).await;
            loop {
                match client.next().await {
                    Received::Close { code, .. } => break replaced.push((client, code)),
                    Received::Json(value) if value["type"] == "pong" => break kept.push(client),
                    Received::Json(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(replaced.iter().all(|(_, code)| *code == Some(4500)));
        eventually("one is left", || hub.clients().len() == 1).await;
        drop((kept, replaced));
        eventually("nobody is left", || hub.client_count() == 0).await;
        assert_eq!(hub.clients().len(), 0);
    }
    assert_eq!(come.load(Ordering::SeqCst), gone.load(Ordering::SeqCst));
}

/// The older connection may be the one that does not read any more, which is the usual case.
#[tokio::test]
async fn eviction_does_not_wait_for_the_older_connection() {
    let hub = threaded_hub(2, |_| {});
    let (old, _) = attach_with(&hub, Attach::new(alice()), 1);
    eventually("the older one is there", || hub.clients().len() == 1).await;
    let mut new = connect(&hub, alice());
    new.expect("welcome").await;
    assert_eq!(hub.clients().len(), 1);
    assert_eq!(old.with_patience(PATIENCE).closed().await, Some(4500));
}
