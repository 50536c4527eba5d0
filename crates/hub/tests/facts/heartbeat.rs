//! Silence: who is pinged, who is let go, and what the others learn (T4).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use outspoke_hub::{Departure, Disconnect, Hub};
use outspoke_testkit::{Received, settle};
use tokio::time::{advance, sleep};

use crate::support::{hub, hub_of, member, welcomed};

const SECOND: Duration = Duration::from_secs(1);

/// Half-open sockets are found, the room learns it once, and the hub forgets the client (T4).
#[tokio::test(start_paused = true)]
async fn heartbeat_timeout_closes_removes_and_announces_once() {
    let departures = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&departures);
    let builder = Hub::builder().on_disconnect(move |client, departure| {
        seen.lock().unwrap().push((client.user().clone(), departure))
    });
    let hub = hub_of(builder, |config| config.rooms.default_mut().announce = true);
    let mut watcher = member(&hub, "watcher", "x").await;
    let mut silent = member(&hub, "silent", "x").await;
    assert_eq!(watcher.find("join").await["userId"], "silent");
    // The watcher answers its pings while it waits.
    let leave = watcher.find("leave").await;
    assert_eq!(leave["userId"], "silent");
    assert_eq!(silent.closed().await, Some(Disconnect::HeartbeatTimeout.code()));
    assert_eq!(silent.next().await, Received::End);
    sleep(10 * SECOND).await;
    assert_eq!((hub.client_count(), hub.member_count("x")), (1, 1));
    assert_eq!(hub.stats().heartbeats_missed, 1);
    let departures = departures.lock().unwrap().clone();
    assert_eq!(departures.len(), 1);
    assert_eq!(departures[0].0.as_str(), "silent");
    assert_eq!(departures[0].1, Departure::ByServer(Disconnect::HeartbeatTimeout));
    assert!(watcher.received().iter().all(|received| matches!(received, Received::Ping(_))));
}

/// Pings are for the silent: traffic both ways proves more, and costs nothing.
#[tokio::test(start_paused = true)]
async fn ping_goes_only_to_connections_that_were_silent_for_the_interval() {
    let hub = hub(|_| {});
    let mut silent = welcomed(&hub, "silent").await;
    let mut talker = welcomed(&hub, "talker").await;
    for _ in 0..5 {
        sleep(5 * SECOND).await;
        talker.send(serde_json::json!({ "type": "ping" })).await;
        talker.expect("pong").await;
        assert_eq!(silent.received(), []);
    }
    sleep(6 * SECOND).await;
    assert_eq!(silent.received(), [Received::Ping("".into())]);
    assert_eq!(talker.received(), []);
}

/// The interval is not a metronome: one ping per silent interval, not one per tick of the wheel.
#[tokio::test(start_paused = true)]
async fn ping_is_sent_once_per_silent_interval() {
    let hub = hub(|config| config.heartbeat.pong_timeout = 100 * SECOND);
    let mut client = welcomed(&hub, "a").await;
    sleep(92 * SECOND).await;
    assert_eq!(client.received().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn client_that_answers_pings_stays() {
    let hub = hub(|_| {});
    let mut client = welcomed(&hub, "a").await;
    for _ in 0..20 {
        let Received::Ping(payload) = client.next().await else { panic!("expected a ping") };
        client.pong(&payload).await;
    }
    assert_eq!(hub.client_count(), 1);
}

/// The hub's close frame is not answered by a dead peer: the socket goes after the closing time-out, not never.
#[tokio::test(start_paused = true)]
async fn peer_that_never_answers_the_close_is_cut_off() {
    let hub = hub(|_| {});
    let mut silent = welcomed(&hub, "silent").await;
    assert_eq!(silent.closed().await, Some(4002));
    assert_eq!(hub.client_count(), 1, "its socket is waiting for the answer");
    let closed = tokio::time::Instant::now();
    assert_eq!(silent.next().await, Received::End);
    let waited = closed.elapsed();
    assert!(waited > 4 * SECOND && waited < 7 * SECOND, "{waited:?}");
    settle().await;
    assert_eq!(hub.client_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn peer_that_answers_the_close_is_let_go_at_once() {
    let hub = hub(|_| {});
    let mut silent = welcomed(&hub, "silent").await;
    assert_eq!(silent.closed().await, Some(4002));
    silent.close(4002, "").await;
    assert_eq!(silent.next().await, Received::End);
    drop(silent);
    settle().await;
    assert_eq!(hub.client_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn heartbeat_of_zero_never_pings_and_never_closes() {
    let hub = hub(|config| {
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
    });
    let mut client = welcomed(&hub, "a").await;
    for _ in 0..48 {
        advance(1800 * SECOND).await;
        settle().await;
    }
    assert_eq!(client.received(), []);
    assert_eq!(hub.client_count(), 1);
}

/// Clients tell their pings apart by payload (RFC 6455 section 5.5.3).
#[tokio::test(start_paused = true)]
async fn pong_payload_is_the_pings() {
    let hub = hub(|_| {});
    let mut client = welcomed(&hub, "a").await;
    client.ping(b"seventeen").await;
    assert_eq!(client.next().await, Received::Pong("seventeen".into()));
}
