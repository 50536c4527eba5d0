//! Shards that are behind: publishers wait, nobody else does, and nothing is lost (C3).

use std::sync::mpsc;

use outspoke_hub::{Body, Frame, Hub, HubConfig, Kind, PublishError, PushError, Refusal, Reply};
use outspoke_testkit::{ScriptedClient, attach, attach_with, settle};
use outspoke_websocket::Opcode;
use serde_json::json;

use crate::support::{PATIENCE, eventually, hub, member, offset, user};

/// A hub of two shards; a client of the second that says `block` stops that shard until told to go on.
struct Scene {
    hub: Hub,
    /// In the first shard.
    publisher: ScriptedClient,
    /// In the second.
    listener: ScriptedClient,
    go_on: mpsc::SyncSender<()>,
}

async fn scene() -> Scene {
    let (go_on, wait) = mpsc::sync_channel(1);
    let wait = std::sync::Mutex::new(wait);
    let builder = Hub::builder().on("block", move |_context, _data| {
        // What a handler must never do; here it stands for a shard with too much to do.
        wait.lock().unwrap().recv().unwrap();
        std::future::ready(Ok::<_, Refusal>(Some(Reply::new("unblocked"))))
    });
    let config = HubConfig {
        shards: 2,
        rooms: outspoke_hub::RoomClasses::all(outspoke_hub::RoomClass {
            announce: false,
            ..Default::default()
        }),
        message_bytes_max: 1000,
        inbox_bytes_max: 20_000,
        ..HubConfig::default()
    };
    let hub = builder.config(config).start().unwrap();
    let mut clients = Vec::new();
    // Round robin: one for each shard.
    for user in ["publisher", "listener"] {
        let mut client = attach(&hub, user).with_patience(PATIENCE);
        client.expect("welcome").await;
        client.join("x").await;
        clients.push(client);
    }
    let mut listener = clients.pop().unwrap();
    listener.send(json!({ "type": "block" })).await;
    let publisher = clients.pop().unwrap();
    Scene { hub, publisher, listener, go_on }
}

/// Fills the blocked shard's inbox until the hub says that it is overloaded. Returns how many were accepted.
fn fill(hub: &Hub) -> u64 {
    let body = || Body::json(&"x".repeat(500)).unwrap();
    let mut accepted = 0;
    loop {
        match hub.publish("x", Kind::Data, body()) {
            Ok(_) => accepted += 1,
            Err(PublishError::Overloaded) => return accepted,
            Err(other) => panic!("{other}"),
        }
        assert!(accepted < 1000, "memory without a bound");
    }
}

/// The application learns that nobody got the message; what was accepted before is delivered.
#[tokio::test]
async fn publish_is_refused_while_a_shard_is_behind_and_nothing_accepted_is_lost() {
    let Scene { hub, mut publisher, mut listener, go_on } = scene().await;
    // The block may not have been read yet.
    let mut accepted = 0;
    while hub.publish("x", Kind::Data, Body::Empty).is_ok() {
        accepted += 1;
        tokio::task::yield_now().await;
        publisher.expect("message").await;
    }
    accepted += fill(&hub);
    assert_eq!(hub.broadcast(&Frame::text("x")), Err(PublishError::Overloaded));
    go_on.send(()).unwrap();
    for number in 1..=accepted {
        while let outspoke_testkit::Received::Json(message) = listener.next_but_pings().await {
            if message["type"] == "message" {
                assert_eq!(offset(&message), number);
                break;
            }
        }
    }
    eventually("the hub accepts again", || hub.publish("x", Kind::Data, Body::Empty).is_ok()).await;
}

/// Clients that publish are not read from; those that do not are served as ever; both go on by themselves.
#[tokio::test]
async fn publishers_wait_while_a_shard_is_behind_and_go_on_when_it_is_not() {
    let Scene { hub, mut publisher, mut listener, go_on } = scene().await;
    let bystander = loop {
        // One in the publisher's shard: the other one welcomes nobody now.
        let mut client = attach(&hub, "bystander").with_patience(std::time::Duration::from_millis(100));
        if hub.stats().connections_opened > 2 || answers(&mut client).await {
            break client;
        }
    };
    let mut bystander = bystander.with_patience(PATIENCE);
    let mut id = until_throttled(&hub, &mut publisher).await;
    // More that it must not lose, and something that is no publish and waits behind it all the same.
    for _ in 0..20 {
        publisher.send(json!({ "type": "publish", "room": "x", "id": id, "data": "x".repeat(500) })).await;
        id += 1;
    }
    publisher.send(json!({ "type": "ping", "id": "last" })).await;
    bystander.send(json!({ "type": "ping" })).await;
    bystander.find("pong").await;
    go_on.send(()).unwrap();
    let mut acknowledged = 0;
    loop {
        let outspoke_testkit::Received::Json(message) = publisher.next_but_pings().await else {
            panic!("no JSON")
        };
        match message["type"].as_str().unwrap() {
            "ack" => {
                assert_eq!(message["id"], acknowledged);
                acknowledged += 1;
            }
            "pong" => break assert_eq!(message["id"], "last"),
            _ => {}
        }
    }
    assert_eq!(acknowledged, id);
    for number in 1..=id {
        assert_eq!(offset(&listener.find("message").await), number);
    }
}

/// Publishes one message after the other until the hub stops reading them. Returns how many.
async fn until_throttled(hub: &Hub, publisher: &mut ScriptedClient) -> u64 {
    let mut sent = 0;
    while hub.stats().publishers_throttled == 0 {
        let read = hub.stats().frames_read;
        publisher.send(json!({ "type": "publish", "room": "x", "id": sent, "data": "x".repeat(500) })).await;
        sent += 1;
        eventually("it is read", || hub.stats().frames_read > read).await;
    }
    sent
}

async fn answers(client: &mut ScriptedClient) -> bool {
    // Its shard is one of two; a client of the blocked one is not even welcomed.
    for _ in 0..20 {
        if !client.received().is_empty() {
            return true;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    false
}

/// A push into a shard that is far behind is refused, and leaves no bytes charged.
#[tokio::test]
async fn push_to_a_shard_far_behind_is_refused_as_overloaded() {
    let Scene { hub, publisher: _publisher, mut listener, go_on } = scene().await;
    let handle = hub.clients().into_iter().find(|client| client.user().as_str() == "listener").unwrap();
    let frame = Frame::binary(vec![0; 1000]);
    let mut accepted = 0;
    let queued = loop {
        match hub.push(handle.id(), &frame) {
            Ok(()) => accepted += 1,
            Err(PushError::Overloaded) => break handle.queued_bytes(),
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    };
    assert!(queued <= 40_000, "{queued}");
    assert!(hub.push(handle.id(), &frame).is_err());
    assert_eq!(handle.queued_bytes(), queued);
    go_on.send(()).unwrap();
    let mut received = 0;
    while received < accepted {
        if let outspoke_testkit::Received::Binary(_) = listener.next_but_pings().await {
            received += 1;
        }
    }
    eventually("the bytes are back", || handle.queued_bytes() == 0).await;
}

/// The hub stops also while publishers are held back.
#[tokio::test]
async fn shutdown_while_publishers_wait_loses_nothing_that_was_acknowledged() {
    let Scene { hub, mut publisher, mut listener, go_on } = scene().await;
    until_throttled(&hub, &mut publisher).await;
    let stopping = tokio::spawn({
        let hub = hub.clone();
        async move { hub.shutdown(PATIENCE).await }
    });
    tokio::task::yield_now().await;
    go_on.send(()).unwrap();
    let ended = |received: Vec<outspoke_testkit::Received>, kind: &'static str| {
        received.iter().filter(|received| received.kind() == Some(kind)).count()
    };
    let publishing = tokio::spawn(async move { until_closed(&mut publisher).await });
    let heard = ended(until_closed(&mut listener).await, "message");
    let acknowledged = ended(publishing.await.unwrap(), "ack");
    assert!(heard >= acknowledged, "{heard} heard, {acknowledged} acknowledged");
    assert!(acknowledged > 0);
    assert!(stopping.await.unwrap());
}

async fn until_closed(client: &mut ScriptedClient) -> Vec<outspoke_testkit::Received> {
    let mut all = Vec::new();
    loop {
        match client.next().await {
            outspoke_testkit::Received::Close { code, .. } => {
                assert_eq!(code, Some(1001));
                client.close(1001, "").await;
                client.stream().close();
                return all;
            }
            other => all.push(other),
        }
    }
}

/// Who has sent a megabyte at once is read little by little: others' messages do not wait for its end.
#[tokio::test(start_paused = true)]
async fn flood_of_one_is_read_beside_the_messages_of_others() {
    let hub = hub(|_| {});
    let (mut loud, _) = attach_with(&hub, user("loud"), 2 * 1024 * 1024);
    loud.expect("welcome").await;
    let mut quiet = member(&hub, "quiet", "x").await;
    let before = hub.stats().bytes_read;
    let ping = loud.frame(Opcode::Ping, b"");
    assert!(loud.send_raw(&ping.repeat(1024 * 1024 / ping.len())).await);
    quiet.say("x", "am I heard?").await;
    quiet.expect("chat").await;
    let read = hub.stats().bytes_read - before;
    assert!(read < 256 * 1024, "{read} bytes were read first");
    settle().await;
    assert!(hub.stats().bytes_read - before > 1024 * 1000, "the rest is read as well");
}
