//! Members that do not read: each policy, its counts, and the neighbours who must not notice (C3).

use std::time::Duration;

use outspoke_hub::{Attach, Client, Disconnect, Frame, Hub, Identity, Kind, SlowClient};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::{gaps, hub, kinds, member, number_body, offsets, publish};

const PIPE_BYTES: usize = 1500;

struct Scene {
    hub: Hub,
    fast: ScriptedClient,
    slow: ScriptedClient,
    handle: Arc<Client>,
}

/// Two members of a room of which one stops reading.
async fn scene(policy: SlowClient) -> Scene {
    let hub = hub(|config| {
        config.rooms.default_mut().slow_client = policy;
        config.message_bytes_max = 1000;
        config.outbox_bytes_max = 4000;
        config.write_timeout = Duration::ZERO;
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
    });
    let fast = member(&hub, "fast", "x").await;
    let (mut slow, handle) = attach_with(&hub, Attach::new(Identity::user("slow")), PIPE_BYTES);
    slow.expect("welcome").await;
    slow.join("x").await;
    Scene { hub, fast, slow, handle }
}

impl Scene {
    /// Publishes the next `count` messages, each in a turn of its own, and lets the fast member read them.
    async fn publish(&mut self, count: u64) {
        for _ in 0..count {
            let body = outspoke_hub::Body::json(&"x".repeat(100)).unwrap();
            let offset =
                self.hub.publish("x", Kind::Data, body).unwrap().now().unwrap().position.unwrap().offset;
            assert_eq!(self.fast.expect("message").await["offset"], offset, "the fast member has all");
        }
        settle().await;
    }

    /// Everything that the slow member gets once it reads again.
    async fn read_all(&mut self) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            settle().await;
            match self.slow.received() {
                more if more.is_empty() => return all,
                more => all.extend(more),
            }
        }
    }
}

fn is_increasing(offsets: &[u64]) -> bool {
    offsets.windows(2).all(|pair| pair[0] < pair[1])
}

/// The default: who cannot follow is let go with a code that says why, and nobody waits for it.
#[tokio::test(start_paused = true)]
async fn slow_member_is_disconnected_with_4000_and_the_others_get_everything() {
    let mut scene = scene(SlowClient::Disconnect).await;
    scene.publish(100).await;
    assert_eq!(scene.hub.stats().slow_clients_closed, 1);
    assert_eq!((scene.hub.client(scene.handle.id()).is_none(), scene.hub.member_count("x")), (true, 1));
    let received = scene.read_all().await;
    let (last, messages) = received.split_last().unwrap();
    let offsets = offsets(messages);
    assert_eq!(offsets, (1..=messages.len() as u64).collect::<Vec<_>>(), "a prefix, without a hole");
    assert!(matches!(last, Received::Close { code: Some(4000), .. }), "{last:?}");
    scene.slow.close(4000, "").await;
    assert_eq!(scene.slow.next().await, Received::End);
    drop(scene.slow);
    settle().await;
    assert_eq!((scene.hub.client_count(), scene.handle.queued_bytes()), (1, 0));
}

/// A slow client's memory is freed when it is given up, not when its socket ends.
#[tokio::test(start_paused = true)]
async fn slow_member_that_is_let_go_keeps_no_queue() {
    let mut scene = scene(SlowClient::Disconnect).await;
    scene.publish(100).await;
    assert!(scene.handle.queued_bytes() < 500, "{} bytes", scene.handle.queued_bytes());
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_keeps_the_newest_messages_and_says_how_many_are_missing() {
    let mut scene = scene(SlowClient::DropOldest).await;
    scene.publish(100).await;
    assert!(scene.handle.queued_bytes() <= 4000);
    let received = scene.read_all().await;
    let offsets = offsets(&received);
    assert!(is_increasing(&offsets), "{offsets:?}");
    assert_eq!(*offsets.last().unwrap(), 100);
    assert_eq!(gaps(&received), [(100, 100 - offsets.len() as u64)]);
    assert_eq!(scene.hub.stats().deliveries_skipped, 100 - offsets.len() as u64);
    goes_on_after(&mut scene).await;
}

#[tokio::test(start_paused = true)]
async fn drop_newest_keeps_the_oldest_messages_and_says_how_many_are_missing() {
    let mut scene = scene(SlowClient::DropNewest).await;
    scene.publish(100).await;
    let received = scene.read_all().await;
    let offsets = offsets(&received);
    assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>());
    assert_eq!(gaps(&received), [(100, 100 - offsets.len() as u64)]);
    goes_on_after(&mut scene).await;
}

/// What a dashboard wants: the newest state of each sort, however far behind it was.
#[tokio::test(start_paused = true)]
async fn conflate_keeps_the_newest_of_each_sort_and_says_how_many_are_missing() {
    let mut scene = scene(SlowClient::Conflate).await;
    for _ in 0..40 {
        scene.publish(1).await;
        scene.hub.publish("x", Kind::Custom("price".into()), number_body(3)).unwrap();
        scene.fast.expect("price").await;
    }
    settle().await;
    assert!(scene.handle.queued_bytes() <= 1000, "{} bytes", scene.handle.queued_bytes());
    let received = scene.read_all().await;
    let last: Vec<&Value> = received
        .iter()
        .filter_map(|received| match received {
            Received::Json(value) if value["type"] != "gap" => Some(value),
            _ => None,
        })
        .collect();
    assert_eq!(last[last.len() - 2]["offset"], 79);
    assert_eq!(last[last.len() - 1]["offset"], 80);
    assert_eq!(gaps(&received), [(80, 80 - last.len() as u64)]);
}

/// Conflation is for those who are behind: a member that takes everything gets everything.
#[tokio::test(start_paused = true)]
async fn conflate_leaves_members_alone_that_read() {
    let mut scene = scene(SlowClient::Conflate).await;
    for number in 0..10 {
        publish(&scene.hub, "x", number);
    }
    for offset in 1..=10 {
        assert_eq!(scene.fast.expect("message").await["offset"], offset);
    }
    assert_eq!(scene.hub.stats().deliveries_skipped, 0);
}

#[tokio::test(start_paused = true)]
async fn resync_drops_everything_until_the_client_reads_and_then_says_what_it_missed() {
    let mut scene = scene(SlowClient::Resync).await;
    scene.publish(100).await;
    let received = scene.read_all().await;
    let offsets = offsets(&received);
    assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>(), "a prefix");
    assert_eq!(gaps(&received), [(100, 100 - offsets.len() as u64)]);
    assert_eq!(kinds(&received).last(), Some(&"gap"));
    goes_on_after(&mut scene).await;
}

/// After a gap the stream is whole again, and a second time of slowness is counted anew.
async fn goes_on_after(scene: &mut Scene) {
    assert_eq!(scene.handle.queued_bytes(), 0);
    scene.publish(3).await;
    let received = scene.read_all().await;
    assert_eq!(offsets(&received), [101, 102, 103]);
    assert_eq!(gaps(&received), []);
    scene.publish(50).await;
    let received = scene.read_all().await;
    assert_eq!(gaps(&received), [(153, 50 - offsets(&received).len() as u64)]);
}

/// Rooms pay for their own floods: what another room has queued is not dropped for them.
#[tokio::test(start_paused = true)]
async fn dropping_makes_space_among_the_rooms_own_messages_only() {
    for policy in [SlowClient::DropOldest, SlowClient::DropNewest, SlowClient::Resync, SlowClient::Conflate] {
        let mut scene = scene(policy).await;
        scene.slow.join("quiet").await;
        scene.publish(20).await;
        publish(&scene.hub, "quiet", 1);
        settle().await;
        scene.publish(50).await;
        let received = scene.read_all().await;
        let quiet = received
            .iter()
            .filter(|received| matches!(received, Received::Json(value) if value["room"] == "quiet"))
            .count();
        // Which room's message is refused when the queue is full with the other's, is the order's to say.
        assert_eq!(quiet, 1, "{policy:?}");
    }
}

/// Pushes and answers are never dropped for a room's sake.
#[tokio::test(start_paused = true)]
async fn dropping_leaves_pushes_and_answers_alone() {
    for policy in [SlowClient::DropOldest, SlowClient::Resync, SlowClient::Conflate] {
        let mut scene = scene(policy).await;
        scene.publish(12).await;
        scene.hub.push(scene.handle.id(), &Frame::text("pushed")).unwrap();
        scene.slow.send(json!({ "type": "ping", "id": 1 })).await;
        scene.publish(50).await;
        let received = scene.read_all().await;
        assert!(received.contains(&Received::Text("pushed".into())), "{policy:?}");
        assert!(kinds(&received).contains(&"pong"), "{policy:?}");
        assert_eq!(gaps(&received).len(), 1, "{policy:?}");
    }
}

/// A client that asks and asks and never reads is slow too, whatever its rooms' policy.
#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_its_answers_is_closed_with_4000() {
    let mut scene = scene(SlowClient::DropNewest).await;
    for id in 0..400 {
        if !scene.slow.stream().send_all(&ping(id)).await {
            break;
        }
    }
    settle().await;
    assert!(scene.hub.client(scene.handle.id()).is_none());
    assert_eq!(scene.slow.closed().await, Some(Disconnect::SlowConsumer.code()));
}

fn ping(id: u32) -> Vec<u8> {
    let mut frame = Vec::new();
    let text = json!({ "type": "ping", "id": id }).to_string();
    outspoke_websocket::encode_masked_frame(
        outspoke_websocket::Opcode::Text,
        text.as_bytes(),
        [0; 4],
        &mut frame,
    );
    frame
}

/// A turn may bring more than the bound at once; a client with nothing waiting has not had its chance yet.
#[tokio::test(start_paused = true)]
async fn burst_larger_than_the_queue_is_no_reason_to_drop_a_client_that_reads() {
    for policy in [SlowClient::Disconnect, SlowClient::DropNewest, SlowClient::DropOldest, SlowClient::Resync]
    {
        let mut scene = scene(policy).await;
        for number in 0..200 {
            publish(&scene.hub, "x", number);
        }
        for offset in 1..=200 {
            assert_eq!(scene.fast.expect("message").await["offset"], offset, "{policy:?}");
        }
    }
}

/// Broadcasts follow the same policy, and tell no gap: they have no place in a log.
#[tokio::test(start_paused = true)]
async fn broadcast_to_a_slow_client_follows_the_policy() {
    let scene = scene(SlowClient::DropNewest).await;
    let Scene { hub, mut fast, mut slow, handle } = scene;
    for _ in 0..100 {
        hub.broadcast(&Frame::binary(vec![0; 100])).unwrap();
        fast.next().await;
    }
    assert!(handle.queued_bytes() <= 4000);
    settle().await;
    let first = slow.received();
    assert!(first.iter().all(|received| matches!(received, Received::Binary(_))));
    settle().await;
    hub.broadcast(&Frame::text("after")).unwrap();
    loop {
        match slow.next().await {
            Received::Binary(_) => {}
            Received::Text(text) => break assert_eq!(text, "after"),
            other => panic!("{other:?}"),
        }
    }
}

/// A slow member that leaves owes nothing: no gap for a room it is not in.
#[tokio::test(start_paused = true)]
async fn gap_is_not_told_of_a_room_that_the_client_has_left() {
    let mut scene = scene(SlowClient::Resync).await;
    scene.publish(60).await;
    scene.slow.send(json!({ "type": "unsubscribe", "room": "x" })).await;
    settle().await;
    let received = scene.read_all().await;
    assert_eq!(gaps(&received), []);
    assert_eq!(kinds(&received).last(), Some(&"unsubscribed"));
}
