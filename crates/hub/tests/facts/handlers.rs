//! The application's handlers: they may wait, fail and panic, and only their own connection notices (A9).

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outspoke_hub::{Attach, Disconnect, ErrorCode, Hub, Identity, Refusal, Reply};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::support::{hub_of, publish, user, welcomed};

#[tokio::test(start_paused = true)]
async fn handler_answers_with_the_requests_id_and_its_data_comes_as_sent() {
    let builder =
        Hub::builder().on("echo", async |context: outspoke_hub::Context, data: outspoke_hub::Data| {
            assert_eq!(context.client.user().as_str(), "a");
            Ok(Some(Reply::json("echoed", &data.unwrap()).unwrap()))
        });
    let hub = hub_of(builder, |_| {});
    let mut client = welcomed(&hub, "a").await;
    client.send(json!({ "type": "echo", "id": 3, "data": { "x": [1, 2] } })).await;
    let answer = client.expect("echoed").await;
    assert_eq!((&answer["id"], &answer["data"]), (&json!(3), &json!({ "x": [1, 2] })));
}

#[tokio::test(start_paused = true)]
async fn message_without_a_handler_is_an_unknown_type() {
    let hub = hub_of(Hub::builder(), |_| {});
    let mut client = welcomed(&hub, "a").await;
    client.send(json!({ "type": "nothing", "id": "q" })).await;
    let error = client.expect("error").await;
    assert_eq!((&error["error"], &error["id"]), (&json!("unknown_type"), &json!("q")));
    assert_eq!(hub.stats().requests_refused, 1);
}

#[tokio::test(start_paused = true)]
async fn handler_that_refuses_is_answered_with_its_code() {
    let builder = Hub::builder()
        .on("no", async |_context, _data| Err(Refusal::new(ErrorCode::Forbidden, "not for you")));
    let hub = hub_of(builder, |_| {});
    let mut client = welcomed(&hub, "a").await;
    client.send(json!({ "type": "no", "id": 1 })).await;
    let error = client.expect("error").await;
    assert_eq!((&error["error"], &error["message"]), (&json!("forbidden"), &json!("not for you")));
}

/// Requests of one connection are answered in their order, also when the first has to wait; others do not wait.
#[tokio::test(start_paused = true)]
async fn waiting_handler_holds_up_its_own_connection_and_no_other() {
    let gate = Arc::new(Notify::new());
    let open = Arc::clone(&gate);
    let builder = Hub::builder().on("wait", move |_context, _data| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(Some(Reply::new("waited")))
        }
    });
    let hub = hub_of(builder, |_| {});
    let (mut first, mut other) = (welcomed(&hub, "a").await, welcomed(&hub, "b").await);
    first.send(json!({ "type": "wait", "id": 1 })).await;
    first.send(json!({ "type": "ping", "id": 2 })).await;
    settle().await;
    first.send(json!({ "type": "wait", "id": 3 })).await;
    first.send(json!({ "type": "ping", "id": 4 })).await;
    settle().await;
    assert_eq!(first.received(), []);
    other.send(json!({ "type": "ping", "id": 9 })).await;
    assert_eq!(other.expect("pong").await["id"], 9);
    open.notify_one();
    assert_eq!(first.expect("waited").await["id"], 1);
    assert_eq!(first.expect("pong").await["id"], 2);
    settle().await;
    assert_eq!(first.received(), []);
    open.notify_one();
    assert_eq!(first.expect("waited").await["id"], 3);
    assert_eq!(first.expect("pong").await["id"], 4);
}

/// Rooms go on being delivered to a client whose handler is at work.
#[tokio::test(start_paused = true)]
async fn client_whose_handler_waits_still_gets_its_rooms() {
    let builder = Hub::builder().on("wait", |_context, _data| pending::<Result<Option<Reply>, Refusal>>());
    let hub = hub_of(builder, |_| {});
    let mut client = welcomed(&hub, "a").await;
    client.join("x").await;
    client.send(json!({ "type": "wait" })).await;
    settle().await;
    publish(&hub, "x", 1);
    client.expect("message").await;
}

/// A handler that never ends must not hold its connection for ever; the heartbeat must not mistake it for dead.
#[tokio::test(start_paused = true)]
async fn handler_that_takes_too_long_is_answered_with_timed_out_and_dropped() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let builder = Hub::builder().on("wait", move |_context, _data| {
        let guard = CountOnDrop(Arc::clone(&count));
        async move {
            let _guard = guard;
            pending().await
        }
    });
    let hub = hub_of(builder, |config| config.handler_timeout = Duration::from_secs(120));
    let mut client = welcomed(&hub, "a").await;
    client.send(json!({ "type": "wait", "id": 1 })).await;
    client.send(json!({ "type": "ping", "id": 2 })).await;
    sleep(Duration::from_secs(110)).await;
    assert_eq!(dropped.load(Ordering::SeqCst), 0);
    let error = client.expect("error").await;
    assert_eq!((&error["error"], &error["id"]), (&json!("timed_out"), &json!(1)));
    assert_eq!(client.expect("pong").await["id"], 2);
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

struct CountOnDrop(Arc<AtomicUsize>);

impl Drop for CountOnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A client that goes takes its handler with it: nothing is left behind.
#[tokio::test(start_paused = true)]
async fn handler_is_dropped_when_its_client_goes() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let builder = Hub::builder().on("wait", move |_context, _data| {
        let guard = CountOnDrop(Arc::clone(&count));
        async move {
            let _guard = guard;
            pending().await
        }
    });
    let hub = hub_of(builder, |_| {});
    let (mut client, handle) = attach_with(&hub, user("a"), 4096);
    client.expect("welcome").await;
    client.send(json!({ "type": "wait" })).await;
    settle().await;
    assert!(hub.disconnect(handle.id(), Disconnect::Kicked));
    assert_eq!(client.closed().await, Some(4501));
    assert_eq!(dropped.load(Ordering::SeqCst), 1);
}

/// What the peer sent while its handler was at work is still read: its answer to our close frame is in there.
#[tokio::test(start_paused = true)]
async fn close_sent_while_a_handler_waits_is_found_when_the_connection_is_closed() {
    let builder = Hub::builder().on("wait", |_context, _data| pending::<Result<Option<Reply>, Refusal>>());
    let hub = hub_of(builder, |_| {});
    let (mut client, handle) = attach_with(&hub, user("a"), 4096);
    client.expect("welcome").await;
    client.send(json!({ "type": "wait" })).await;
    client.close(1000, "enough").await;
    settle().await;
    assert!(hub.disconnect(handle.id(), Disconnect::Kicked));
    let asked = tokio::time::Instant::now();
    assert_eq!(client.closed().await, Some(4501));
    assert_eq!(client.next().await, Received::End);
    assert!(asked.elapsed() < Duration::from_secs(1), "no waiting for an answer that is here");
}

fn panicking() -> outspoke_hub::HubBuilder {
    Hub::builder()
        .on("at once", |_context, _data| -> outspoke_hub::Handling { panic!("a handler's bug") })
        .on("first poll", async |_context, _data| -> Result<Option<Reply>, Refusal> {
            panic!("a handler's bug")
        })
        .on("later", async |_context, _data| -> Result<Option<Reply>, Refusal> {
            sleep(Duration::from_secs(1)).await;
            panic!("a handler's bug")
        })
        .on("when dropped", |_context, _data| {
            let guard = PanicOnDrop;
            async move {
                let _guard = guard;
                pending().await
            }
        })
}

struct PanicOnDrop;

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a handler's bug");
        }
    }
}

/// One client's bug is that client's loss: closed with 1011, counted, and everybody else goes on.
#[tokio::test(start_paused = true)]
async fn panic_in_a_handler_closes_its_connection_with_1011_and_counts() {
    let hub = hub_of(panicking(), |_| {});
    let mut other = welcomed(&hub, "other").await;
    for (number, kind) in ["at once", "first poll", "later"].into_iter().enumerate() {
        let mut client = welcomed(&hub, "a").await;
        client.join("x").await;
        client.send(json!({ "type": "ping" })).await;
        client.send(json!({ "type": kind })).await;
        client.send(json!({ "type": "ping" })).await;
        client.expect("pong").await;
        assert_eq!(client.closed().await, Some(1011), "{kind}");
        assert_eq!(hub.stats().panics, number as u64 + 1, "{kind}");
        assert_eq!(hub.member_count("x"), 0);
        other.send(json!({ "type": "ping" })).await;
        other.expect("pong").await;
    }
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_handlers_drop_is_contained_too() {
    let hub = hub_of(panicking(), |_| {});
    let mut other = welcomed(&hub, "other").await;
    let mut client = welcomed(&hub, "a").await;
    client.send(json!({ "type": "when dropped" })).await;
    assert_eq!(client.closed().await, Some(1011), "when its time was over");
    drop(client);
    let (mut client, handle) = attach_with(&hub, user("b"), 4096);
    client.expect("welcome").await;
    client.send(json!({ "type": "when dropped" })).await;
    settle().await;
    assert!(hub.disconnect(handle.id(), Disconnect::Kicked));
    assert_eq!(client.closed().await, Some(4501));
    drop(client);
    settle().await;
    assert_eq!((hub.client_count(), hub.stats().panics), (1, 2));
    other.send(json!({ "type": "ping" })).await;
    other.expect("pong").await;
}

#[tokio::test(start_paused = true)]
async fn panic_in_a_callback_is_contained() {
    let builder = Hub::builder()
        .on_connect(|_| panic!("an application's bug"))
        .on_disconnect(|_, _| panic!("an application's bug"));
    let hub = hub_of(builder, |_| {});
    for _ in 0..3 {
        let mut client = welcomed(&hub, "a").await;
        client.send(json!({ "type": "ping" })).await;
        client.expect("pong").await;
    }
    settle().await;
    assert_eq!(hub.client_count(), 0);
}

/// Handlers may use everything the runtime offers, also in a shard's own thread that is busy.
#[tokio::test]
async fn handlers_timers_fire_in_a_shard_that_is_never_idle() {
    let builder = Hub::builder().on("sleep", async |_context, _data| {
        sleep(Duration::from_millis(20)).await;
        Ok(Some(Reply::new("slept")))
    });
    let config = outspoke_hub::HubConfig { shards: 1, ..Default::default() };
    let hub = builder.config(config).start().unwrap();
    let mut client = welcomed(&hub, "a").await;
    let (_reader, _handle) = attach_with(&hub, Attach::new(Identity::user("b")), 64 * 1024);
    let stop = Arc::new(AtomicUsize::new(0));
    let flood = {
        let (hub, stop) = (hub.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            while stop.load(Ordering::SeqCst) == 0 {
                let _ = hub.publish("nobody", outspoke_hub::Kind::Data, outspoke_hub::Body::Empty);
                hub.disconnect(outspoke_hub::ClientId::random(), Disconnect::Kicked);
                let frame = outspoke_hub::Frame::text("x");
                let _ = hub.broadcast(&frame);
            }
        })
    };
    client.send(json!({ "type": "sleep" })).await;
    slept(&mut client).await;
    stop.store(1, Ordering::SeqCst);
    flood.join().unwrap();
}

async fn slept(client: &mut ScriptedClient) {
    while client.next_but_pings().await.kind() != Some("slept") {}
}

/// What a handler makes of its type, members take for the application's word.
#[tokio::test(start_paused = true)]
async fn type_that_has_a_handler_cannot_be_published_past_it() {
    let builder = Hub::builder().on("vote", async |_context, _data| Ok(None));
    let hub = hub_of(builder, |_| {});
    let mut client = welcomed(&hub, "a").await;
    client.join("x").await;
    for (kind, to) in [("publish", json!(null)), ("direct", json!("b"))] {
        client
            .send(json!({ "type": kind, "id": 1, "room": "x", "to": to, "event": "vote", "data": 1 }))
            .await;
        let error = client.expect("error").await;
        assert_eq!((&error["error"], &error["id"]), (&json!("bad_request"), &json!(1)));
        assert!(error["message"].as_str().unwrap().contains("handler of its own"), "{error}");
    }
    client.send(json!({ "type": "publish", "room": "x", "event": "poll", "data": 1 })).await;
    assert_eq!(client.expect("poll").await["data"], 1);
}
