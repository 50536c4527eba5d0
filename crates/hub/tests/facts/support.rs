//! What the tests share: hubs by configuration, and looks at what clients received.

use std::time::Duration;

use outspoke_hub::{Attach, Body, Hub, HubBuilder, HubConfig, Identity, Kind};
use outspoke_testkit::{Received, ScriptedClient, attach};
use serde_json::{Value, json};

/// A hub on the test's runtime, with paused time if the test has it.
pub(crate) fn hub(change: impl FnOnce(&mut HubConfig)) -> Hub {
    hub_of(Hub::builder(), change)
}

pub(crate) fn hub_of(builder: HubBuilder, change: impl FnOnce(&mut HubConfig)) -> Hub {
    builder.config(config(change)).start_on_this_runtime().unwrap()
}

/// A hub with `shards` threads of its own.
pub(crate) fn threaded_hub(shards: usize, change: impl FnOnce(&mut HubConfig)) -> Hub {
    let config = HubConfig { shards, ..config(change) };
    Hub::builder().config(config).start().unwrap()
}

/// Joins and leaves are told only in the tests that are about them.
fn config(change: impl FnOnce(&mut HubConfig)) -> HubConfig {
    let mut config = HubConfig::default();
    config.rooms.default_mut().announce = false;
    change(&mut config);
    config
}

/// A client past its welcome.
pub(crate) async fn welcomed(hub: &Hub, user: &str) -> ScriptedClient {
    let mut client = attach(hub, user).with_patience(PATIENCE);
    client.expect("welcome").await;
    client
}

/// A client past its welcome, in a room.
pub(crate) async fn member(hub: &Hub, user: &str, room: &str) -> ScriptedClient {
    let mut client = welcomed(hub, user).await;
    client.join(room).await;
    client
}

/// Real time for tests with threads; with paused time it passes at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn user(name: &str) -> Attach {
    Attach::new(Identity::user(name).named(name))
}

/// Publishes a number to a room.
pub(crate) fn publish(hub: &Hub, room: &str, number: u64) {
    hub.publish(room, Kind::Data, number_body(number)).unwrap();
}

pub(crate) fn number_body(number: u64) -> Body {
    Body::json(&json!(number)).unwrap()
}

pub(crate) fn offset(message: &Value) -> u64 {
    message["offset"].as_u64().unwrap_or_else(|| panic!("no offset: {message}"))
}

/// The offsets of the messages that a room logged, in the order received.
pub(crate) fn offsets(received: &[Received]) -> Vec<u64> {
    let logged = |received: &Received| match received {
        Received::Json(value) if value["type"] == "message" || value["type"] == "chat" => Some(offset(value)),
        _ => None,
    };
    received.iter().filter_map(logged).collect()
}

/// The gaps that were told: up to which offset, and how many messages were missed.
pub(crate) fn gaps(received: &[Received]) -> Vec<(u64, u64)> {
    let gap = |received: &Received| match received {
        Received::Json(value) if value["type"] == "gap" => {
            Some((offset(value), value["missed"].as_u64().unwrap()))
        }
        _ => None,
    };
    received.iter().filter_map(gap).collect()
}

pub(crate) fn kinds(received: &[Received]) -> Vec<&str> {
    received.iter().map(|received| received.kind().unwrap_or("no json")).collect()
}

/// Waits, in real time, until something that other threads do has come true.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let patience = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < patience, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
