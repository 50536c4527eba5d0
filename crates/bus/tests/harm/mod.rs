//! What is asked of a bus beyond the contract when its server is harmed, whichever server it is.

#![allow(dead_code, reason = "not every program has a use for everything")]

use std::slice::from_ref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use outspoke_bus::{Arrival, BusError, Feed, MessageBus, Outgoing, Outlet, Topic, feed};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long anything may take before it counts as not done.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

pub(crate) fn outgoing(topic: &Topic, number: u64, len: usize) -> Outgoing {
    let mut payload = vec![0; len.max(8)];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    Outgoing { topic: topic.clone(), payload: payload.into() }
}

pub(crate) fn number(payload: &Bytes) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

/// Waits until the bus says so, and returns what it says.
pub(crate) async fn until_connected(bus: &dyn MessageBus, connected: bool) -> String {
    let mut state = bus.state();
    let what = if connected { "connected" } else { "disconnected" };
    match timeout(PATIENCE, state.wait_for(|state| state.connected == connected)).await {
        Ok(state) => state.unwrap().detail.clone(),
        Err(_) => panic!("{what}: not within {PATIENCE:?}; it says {:?}", bus.state().borrow().detail),
    }
}

/// Waits until the bus says what is wrong, in words among which these are.
pub(crate) async fn until_it_says(bus: &dyn MessageBus, words: &[&str]) -> String {
    let mut state = bus.state();
    let said = state.wait_for(|state| words.iter().all(|word| state.detail.contains(word)));
    match timeout(PATIENCE, said).await {
        Ok(state) => state.unwrap().detail.clone(),
        Err(_) => panic!("{words:?} are not all in {:?}", bus.state().borrow().detail),
    }
}

/// Publishes, and again until the service takes it.
pub(crate) async fn publish(bus: &dyn MessageBus, batch: &[Outgoing]) {
    let trying = async {
        while let Err(error) = bus.publish(batch).await {
            assert!(matches!(error, BusError::Unavailable(_)), "{error}");
            sleep(Duration::from_millis(10)).await;
        }
    };
    within("the service takes a batch", trying).await;
}

/// A subscription that is followed.
pub(crate) struct Reader {
    pub(crate) topic: Topic,
    _outlet: Outlet,
    pub(crate) feed: Feed,
    /// The number that comes next.
    pub(crate) next: u64,
    interrupted: bool,
    /// How often it was told that something may be missing.
    pub(crate) interruptions: u64,
}

impl Reader {
    pub(crate) async fn of(bus: &dyn MessageBus, name: &str) -> Self {
        let ((outlet, feed), topic) = (feed(), topic(name));
        within("subscribed", bus.subscribe(from_ref(&topic), &outlet)).await.unwrap();
        Self { topic, _outlet: outlet, feed, next: 0, interrupted: false, interruptions: 0 }
    }

    /// Reads until that number or a later one has come. Holes must be told before, repetitions may be.
    pub(crate) async fn read(&mut self, until: u64) {
        while self.next <= until {
            match within(&format!("{until} comes"), self.feed.next()).await.expect("the feed goes on") {
                Arrival::Interrupted => {
                    self.interrupted = true;
                    self.interruptions += 1;
                }
                Arrival::Message { topic, payload } => {
                    assert_eq!(topic, self.topic);
                    let number = number(&payload);
                    let hole = number > self.next;
                    assert!(!hole || self.interrupted, "{} to {number} are missing, unsaid", self.next);
                    if number >= self.next {
                        self.next = number + 1;
                        self.interrupted = false;
                    }
                }
            }
        }
    }
}

/// The server stands still, with every connection open, for much longer than a bus has patience for.
pub(crate) async fn a_server_that_stands_still_is_noticed_and_found_again(
    [here, there]: [Arc<dyn MessageBus>; 2],
    pause: impl Fn(),
    resume: impl Fn(),
) {
    let mut reader = Reader::of(&*there, "room/x").await;
    publish(&*here, &[outgoing(&reader.topic, 0, 0)]).await;
    reader.read(0).await;
    pause();
    let refused =
        within("publishing is given up", here.publish(&[outgoing(&reader.topic, 1, 0)])).await.unwrap_err();
    assert!(matches!(&refused, BusError::Unavailable(_)), "{refused}");
    let detail = until_connected(&*there, false).await;
    assert!(detail.contains("did not answer within"), "{detail}");
    until_connected(&*here, false).await;
    // Attempts to connect meet the same silence.
    for number in 1..4 {
        within("publishing is given up", here.publish(&[outgoing(&reader.topic, number, 0)]))
            .await
            .unwrap_err();
    }
    resume();
    until_connected(&*here, true).await;
    until_connected(&*there, true).await;
    publish(&*here, &[outgoing(&reader.topic, 5, 0)]).await;
    reader.read(5).await;
    assert!(reader.interruptions > 0);
}

/// Numbers are published, on and on.
pub(crate) struct Publishing {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Publishing {
    /// Of payloads of that length.
    pub(crate) fn start(bus: Arc<dyn MessageBus>, topic: &Topic, len: usize) -> Self {
        let (stop, taken, topic) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), topic.clone());
        let task = tokio::spawn({
            let (stop, taken) = (Arc::clone(&stop), Arc::clone(&taken));
            async move {
                for first in (0..).step_by(50) {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let batch: Vec<_> = (first..first + 50).map(|n| outgoing(&topic, n, len)).collect();
                    publish(&*bus, &batch).await;
                    taken.store(first + 49, Ordering::Release);
                }
            }
        });
        Self { stop, taken, task }
    }

    /// The last number that the service has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    pub(crate) async fn end(self) {
        self.stop.store(true, Ordering::Release);
        within("publishing ends", self.task).await.unwrap();
    }
}

/// A reader takes nothing while more is published than anybody holds for it; the server must have a limit for that, of a megabyte or so.
pub(crate) async fn a_reader_that_takes_nothing_is_cut_off_and_told([here, there]: [Arc<dyn MessageBus>; 2]) {
    let mut reader = Reader::of(&*there, "room/x").await;
    let publishing = Publishing::start(here, &reader.topic, 16 * 1024);
    // More than a feed takes, and the buffers of both ends of a socket, and the server.
    within("much is published", async {
        while publishing.taken() < 8000 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    reader.read(publishing.taken()).await;
    assert!(reader.interruptions > 0, "nothing was lost: this test shows nothing");
    until_connected(&*there, true).await;
    publishing.end().await;
}

/// The reason must be seen, and the password must not.
pub(crate) async fn a_login_that_is_refused_is_said_without_the_password(
    bus: Arc<dyn MessageBus>,
    words: &[&str],
) {
    let detail = until_it_says(&*bus, words).await;
    let error = bus.publish(&[outgoing(&topic("room/x"), 0, 0)]).await.unwrap_err().to_string();
    for said in [detail, error, format!("{bus:?}")] {
        assert!(!said.contains("hunter2"), "{said}");
    }
    within("closed", bus.close()).await.unwrap();
    assert_eq!(bus.publish(&[]).await, Err(BusError::Closed));
}

/// A message goes from one to the other.
pub(crate) async fn a_message_comes([here, there]: [Arc<dyn MessageBus>; 2]) {
    let mut reader = Reader::of(&*there, "room/x").await;
    publish(&*here, &[outgoing(&reader.topic, 0, 0)]).await;
    reader.read(0).await;
}

/// Topics that would be something else if a back end pasted them as they are.
pub(crate) const ODD_NAMES: [&str; 13] = [
    "*",
    ">",
    "a.b",
    "a.*",
    "a.>",
    "a b",
    "room/x 1\u{a0}",
    "\\r\\nPUB other 1",
    "[abc]?",
    "$SYS.x",
    "{a}b",
    "=2A",
    "ü/漢",
];
