//! Links over a bus: what they make of whatever it carries.

use std::fmt;
use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes};
use tokio::sync::watch;

use super::{
    Stage, connected, message, number, outgoing, publish, to_number, topic, until, until_connected, within,
};
use crate::{
    Answer, BusState, Link, LinkEvent, LinkEvents, LinkOptions, MessageBus, NodeId, Outgoing, Outlet, Secret,
    Topic, feed,
};

/// A node whose link runs.
struct Node {
    link: Link,
    events: LinkEvents,
}

impl Node {
    fn over(bus: Arc<dyn MessageBus>, options: LinkOptions) -> Self {
        let (link, events) = Link::new(bus, options);
        tokio::spawn({
            let link = link.clone();
            async move { link.run().await }
        });
        Self { link, events }
    }

    async fn start(stage: &dyn Stage) -> Self {
        Self::over(connected(stage).await, LinkOptions::default())
    }

    async fn subscribe(&self, room: &Topic) {
        within("subscribed", self.link.subscribe(from_ref(room))).await.unwrap();
    }

    fn send(&self, room: &Topic, n: u64) {
        self.link.send(room, &number(n)).unwrap();
    }

    async fn until_sent(&self, frames: u64) {
        until("the frames are sent", || self.link.counts().sent == frames).await;
    }

    async fn next(&mut self) -> LinkEvent {
        within("something is heard", self.events.next()).await.expect("the link goes on")
    }

    /// The number that is heard next, and whose.
    async fn number(&mut self) -> (NodeId, u64) {
        match self.next().await {
            LinkEvent::Message { origin, payload, .. } => (origin, to_number(&payload)),
            event => panic!("{event:?}"),
        }
    }
}

/// Loops between nodes have taken whole clusters down.
pub async fn links_hear_each_other_in_order_and_never_themselves(stage: &mut dyn Stage) {
    const FRAMES: u64 = 3000;
    let room = topic("room/x");
    let nodes = [Node::start(stage).await, Node::start(stage).await, Node::start(stage).await];
    for node in &nodes {
        node.subscribe(&room).await;
    }
    let ids = nodes.each_ref().map(|node| node.link.node());
    for node in &nodes {
        (0..FRAMES).for_each(|n| node.send(&room, n));
    }
    let listening = nodes.map(|mut node| {
        tokio::spawn(async move {
            let mut next = ids.map(|id| if id == node.link.node() { u64::MAX } else { 0 });
            for _ in 0..2 * FRAMES {
                let (origin, number) = node.number().await;
                let next = &mut next[ids.iter().position(|id| *id == origin).unwrap()];
                assert_eq!(number, *next);
                *next += 1;
            }
            let counts = node.link.counts();
            assert_eq!((counts.heard, counts.missed, counts.repeated), (2 * FRAMES, 0, 0));
            node
        })
    });
    for listening in listening {
        // Its link is dropped only now: it sends what others still wait for.
        listening.await.unwrap();
    }
}

/// A batch is published again when its answer was lost; somebody who can reach the bus plays old frames again.
pub async fn links_drop_what_comes_twice(stage: &mut dyn Stage) {
    let room = topic("room/x");
    let secret = || LinkOptions { secret: Some(Secret::new("correct horse")), ..LinkOptions::default() };
    let sender = Node::over(connected(stage).await, secret());
    let mut listener = Node::over(connected(stage).await, secret());
    let tap = connected(stage).await;
    let (outlet, mut frames) = feed();
    within("subscribed", tap.subscribe(from_ref(&room), &outlet)).await.unwrap();
    listener.subscribe(&room).await;
    let mut batch = Vec::new();
    for n in 0..50 {
        sender.send(&room, n);
        assert_eq!(listener.number().await.1, n);
        batch.push(outgoing(&room, message(&mut frames).await.1));
    }
    publish(&*tap, &batch).await;
    publish(&*tap, &batch[7..20]).await;
    sender.send(&room, 50);
    assert_eq!(listener.number().await.1, 50);
    until("what came twice is counted", || listener.link.counts().repeated == 63).await;
    assert_eq!(listener.link.counts().heard, 51);
}

/// A frame as it is written down, of somebody without a secret.
fn frame(origin: u128, sent: i64, run: u64, number: u64, payload: &[u8]) -> Bytes {
    let mut frame = vec![b'O', 2, 0];
    frame.put_u128(origin);
    frame.put_i64(sent);
    frame.put_u64(run);
    frame.put_u64(number);
    frame.put_u32(payload.len() as u32);
    frame.put_slice(payload);
    frame.into()
}

fn now_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Other programs use the service, too; some mean harm.
pub async fn links_hear_nothing_that_is_no_frame_of_theirs(stage: &mut dyn Stage) {
    const HOUR: i64 = 3_600_000;
    let room = topic("room/x");
    let options = || LinkOptions { secret: Some(Secret::new("correct horse")), ..LinkOptions::default() };
    let other = LinkOptions { secret: Some(Secret::new("battery staple")), ..LinkOptions::default() };
    let mut signed = Node::over(connected(stage).await, options());
    let mut open = Node::start(stage).await;
    signed.subscribe(&room).await;
    open.subscribe(&room).await;
    let (sender, forger) =
        (Node::over(connected(stage).await, options()), Node::over(connected(stage).await, other));
    let stranger = connected(stage).await;
    let now = now_millis();
    let mut unknown_version = frame(3, now, 1, 1, b"another").to_vec();
    unknown_version[1] = 1;
    let garbage =
        [Bytes::new(), Bytes::from("{\"text\":\"hello\"}"), Bytes::from("O"), Bytes::from(vec![0xff; 9000])];
    let foreign = [Bytes::from(unknown_version)];
    let stale = [frame(1, now - HOUR, 1, 1, b"old"), frame(2, now + HOUR, 1, 1, b"early")];
    let all = garbage.iter().chain(&foreign).chain(&stale);
    publish(&*stranger, &all.map(|bytes| outgoing(&room, bytes.clone())).collect::<Vec<_>>()).await;
    forger.send(&room, 666);
    forger.until_sent(1).await;
    publish(&*stranger, &[outgoing(&room, frame(9, now, 1, 1, &number(9)))]).await;
    sender.send(&room, 1);
    assert_eq!(open.number().await, (NodeId::from_u128(9), 9));
    assert_eq!(signed.number().await, (sender.link.node(), 1));
    let counts = open.link.counts();
    assert_eq!((counts.garbage, counts.stale, counts.forged, counts.heard), (4, 2, 0, 1));
    let counts = signed.link.counts();
    assert_eq!((counts.garbage, counts.stale, counts.foreign), (4, 0, 4));
    until("the forged frame is counted", || signed.link.counts().forged == 1).await;
    // Signed frames, the forged one and the sender's, are foreign to who has no secret.
    until("the signed frames are counted", || {
        let _ = open.events.try_next();
        open.link.counts().foreign == 3
    })
    .await;
}

/// A bus that loses what it is told to lose, and says that all is well.
struct Lossy {
    bus: Arc<dyn MessageBus>,
    loses: AtomicBool,
}

impl Lossy {
    async fn over(stage: &dyn Stage) -> Arc<Self> {
        Arc::new(Self { bus: connected(stage).await, loses: AtomicBool::new(false) })
    }
}

impl fmt::Debug for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bus.fmt(f)
    }
}

impl MessageBus for Lossy {
    fn name(&self) -> &'static str {
        self.bus.name()
    }

    fn payload_bytes_max(&self) -> usize {
        self.bus.payload_bytes_max()
    }

    fn publish<'a>(&'a self, batch: &'a [Outgoing]) -> Answer<'a, ()> {
        if self.loses.load(Ordering::Acquire) {
            return Box::pin(std::future::ready(Ok(())));
        }
        self.bus.publish(batch)
    }

    fn subscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()> {
        self.bus.subscribe(topics, outlet)
    }

    fn unsubscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()> {
        self.bus.unsubscribe(topics, outlet)
    }

    fn is_subscribed(&self, topic: &Topic, outlet: &Outlet) -> bool {
        self.bus.is_subscribed(topic, outlet)
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.bus.state()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.bus.close()
    }
}

/// What is missing in the middle shows with the next frame.
pub async fn links_tell_of_holes_at_once(stage: &mut dyn Stage) {
    let room = topic("room/x");
    let lossy = Lossy::over(stage).await;
    let sender = Node::over(lossy.clone(), LinkOptions::default());
    let mut listener = Node::start(stage).await;
    listener.subscribe(&room).await;
    sender.send(&room, 1);
    assert_eq!(listener.number().await.1, 1);
    lossy.loses.store(true, Ordering::Release);
    sender.send(&room, 2);
    sender.send(&room, 3);
    sender.until_sent(3).await;
    lossy.loses.store(false, Ordering::Release);
    sender.send(&room, 4);
    let missed = LinkEvent::Missed { topic: room.clone(), origin: sender.link.node() };
    assert_eq!(listener.next().await, missed);
    assert_eq!(listener.number().await.1, 4);
    assert_eq!(listener.link.counts().missed, 2);
}

/// What is missing at the end shows when the sender says how far it has come.
pub async fn links_tell_of_a_lost_last_frame_with_the_second_beat(stage: &mut dyn Stage) {
    const RECENT: Duration = Duration::from_secs(60);
    let room = topic("room/x");
    let lossy = Lossy::over(stage).await;
    let sender = Node::over(lossy.clone(), LinkOptions::default());
    let mut listener = Node::start(stage).await;
    listener.subscribe(&room).await;
    listener.subscribe(&LinkOptions::default().beats).await;
    sender.send(&room, 1);
    assert_eq!(listener.number().await.1, 1);
    lossy.loses.store(true, Ordering::Release);
    sender.send(&room, 2);
    sender.until_sent(2).await;
    lossy.loses.store(false, Ordering::Release);
    for beat in [&b"one"[..], b"two", b"three"] {
        sender.link.beat(beat, RECENT).unwrap();
        let heard = listener.next().await;
        assert!(matches!(&heard, LinkEvent::Beat { payload, .. } if *payload == beat), "{heard:?}");
        if beat == b"two" {
            let missed = LinkEvent::Missed { topic: room.clone(), origin: sender.link.node() };
            assert_eq!(listener.next().await, missed);
        }
    }
    sender.send(&room, 3);
    assert_eq!(listener.number().await.1, 3);
    assert_eq!(listener.link.counts().missed, 1);
}

/// Rooms go on by themselves, and what may be missing in them is looked up.
pub async fn links_over_a_killed_service_go_on_and_tell_every_hole(stage: &mut dyn Stage) {
    let room = topic("room/x");
    let sender = Node::start(stage).await;
    let mut listener = Node::start(stage).await;
    listener.subscribe(&room).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let sending = tokio::spawn({
        let (stop, sent, room) = (stop.clone(), sent.clone(), room.clone());
        async move {
            while !stop.load(Ordering::Acquire) {
                sender.send(&room, sent.fetch_add(1, Ordering::AcqRel));
                until("it is sent", || sender.link.queued_bytes() < 4096).await;
            }
            sender
        }
    });
    let (mut next, mut excused) = (0, false);
    let mut hear = async |listener: &mut Node, last: u64| {
        while next <= last {
            match listener.next().await {
                LinkEvent::Message { payload, .. } => {
                    let got = to_number(&payload);
                    assert!(got == next || (got > next && excused), "{got} came where {next} should");
                    (next, excused) = (got + 1, false);
                }
                LinkEvent::Missed { .. } | LinkEvent::Interrupted => excused = true,
                LinkEvent::Beat { .. } => {}
            }
        }
    };
    for _ in 0..2 {
        let last = sent.load(Ordering::Acquire) + 50;
        hear(&mut listener, last).await;
        stage.kill().await;
        until_connected(&**listener.link.bus(), false).await;
        stage.restart().await;
        until_connected(&**listener.link.bus(), true).await;
    }
    let last = sent.load(Ordering::Acquire) + 50;
    hear(&mut listener, last).await;
    stop.store(true, Ordering::Release);
    let sender = within("the sender ends", sending).await.unwrap();
    let last = sent.load(Ordering::Acquire);
    sender.send(&room, last);
    hear(&mut listener, last).await;
}
