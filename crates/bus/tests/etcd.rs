//! The bus over etcd does what a bus must, on a real etcd.
#![cfg(feature = "etcd")]
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::slice::from_ref;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use outspoke_bus::etcd::{EtcdBus, EtcdLogin, EtcdOptions, EtcdTls};
use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{Arrival, BusError, Feed, MessageBus, NodeId, Outgoing, Topic, bus_suite, feed};
use outspoke_testkit::services::{Etcd, Shared, Slot};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

static SERVER: Slot<Etcd> = Slot::const_new(Weak::new());

fn connect(server: &Etcd, prefix: &str) -> Arc<dyn MessageBus> {
    let options = EtcdOptions { prefix: prefix.to_owned(), ..EtcdOptions::new([server.url()]) };
    Arc::new(EtcdBus::new(options).unwrap())
}

/// A prefix of the etcd that all tests use.
struct Part {
    server: Arc<Shared<Etcd>>,
    prefix: String,
}

impl Part {
    async fn new() -> Self {
        Self { server: Shared::get(&SERVER, Etcd::start).await, prefix: format!("/{}", NodeId::new()) }
    }
}

impl Stage for Part {
    fn connect(&self) -> Arc<dyn MessageBus> {
        connect(&self.server, &self.prefix)
    }

    fn kill(&mut self) -> Doing<'_> {
        unreachable!("it is not ours alone")
    }

    fn restart(&mut self) -> Doing<'_> {
        unreachable!("it is not ours alone")
    }
}

/// An etcd for one test.
struct Own(Etcd);

impl Own {
    async fn new() -> Self {
        Self(Etcd::start().await)
    }
}

impl Stage for Own {
    fn connect(&self) -> Arc<dyn MessageBus> {
        connect(&self.0, "/gohub")
    }

    fn kill(&mut self) -> Doing<'_> {
        self.0.kill();
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(self.0.restart())
    }
}

bus_suite!(Part::new().await, Own::new().await);

/// How long anything may take before it counts as not done.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

fn outgoing(name: &str, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { topic: topic(name), payload: payload.into() }
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<Outgoing> {
    numbers.map(|n| outgoing("room/x", n.to_string())).collect()
}

async fn until(bus: &dyn MessageBus, connected: bool) {
    let mut state = bus.state();
    let what = if connected { "it is connected" } else { "it is away" };
    within(what, state.wait_for(|state| state.connected == connected)).await.unwrap();
}

/// A service that is away is said again and again while subscriptions look at what was said, and the bus is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribing_and_closing_at_once_never_wait_for_each_other() {
    let (outlet, _feed) = feed();
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    for _ in 0..5_000 {
        let options = EtcdOptions::new([format!("http://{nobody}")]);
        let bus = Arc::new(EtcdBus::new(options).unwrap());
        let waiting: Vec<_> = (0..4)
            .map(|n| {
                let (bus, outlet) = (Arc::clone(&bus), outlet.clone());
                let room = topic(&format!("room/{n}"));
                tokio::spawn(async move { bus.subscribe(from_ref(&room), &outlet).await })
            })
            .collect();
        // In the middle of it.
        while !bus.is_subscribed(&topic("room/1"), &outlet) {
            std::hint::spin_loop();
        }
        within("closed", bus.close()).await.unwrap();
        for waits in waiting {
            assert_eq!(within("it ends", waits).await.unwrap(), Err(BusError::Closed));
        }
    }
}

/// Waits until the state says these words.
async fn until_said(bus: &dyn MessageBus, words: &str) {
    let mut state = bus.state();
    within(words, state.wait_for(|state| state.detail.contains(words))).await.unwrap();
}

async fn publish(bus: &dyn MessageBus, batch: &[Outgoing]) {
    within("a batch is published", async {
        while let Err(error) = bus.publish(batch).await {
            assert!(matches!(error, BusError::Unavailable(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A feed of `room/x`.
async fn subscribed(bus: &dyn MessageBus) -> Feed {
    let (outlet, feed) = feed();
    within("subscribed", bus.subscribe(from_ref(&topic("room/x")), &outlet)).await.unwrap();
    feed
}

/// The next number, or `None` for an interruption.
async fn next(feed: &mut Feed) -> Option<u64> {
    match within("something comes", feed.next()).await.unwrap() {
        Arrival::Message { payload, .. } => Some(std::str::from_utf8(&payload).unwrap().parse().unwrap()),
        Arrival::Interrupted => None,
    }
}

/// Reads these numbers, without an interruption. Those before may come again.
async fn expect_all(feed: &mut Feed, numbers: std::ops::Range<u64>) {
    for expected in numbers {
        loop {
            let got = next(feed).await.expect("nothing is lost");
            assert!(got <= expected, "{expected} is missing");
            if got == expected {
                break;
            }
        }
    }
}

/// Asks etcd for all keys below a prefix that ends with a slash.
async fn stored(server: &Etcd, prefix: &str) -> Vec<Value> {
    let end = format!("{}0", prefix.strip_suffix('/').unwrap());
    let question = json!({ "key": STANDARD.encode(prefix), "range_end": STANDARD.encode(end) });
    let answer = server.ask("/v3/kv/range", &question.to_string()).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["kvs"].as_array().cloned().unwrap_or_default()
}

fn text(value: &Value, field: &str) -> String {
    String::from_utf8(STANDARD.decode(value[field].as_str().unwrap_or_default()).unwrap()).unwrap()
}

/// What stands between a node and its etcd, and can be cut.
struct Wire {
    addr: SocketAddr,
    whole: watch::Sender<bool>,
}

impl Wire {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, whole) = (listener.local_addr().unwrap(), watch::Sender::new(true));
        let cut = whole.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cut = cut.clone();
                tokio::spawn(async move {
                    if !*cut.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { addr, whole }
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

fn bus(options: EtcdOptions) -> EtcdBus {
    EtcdBus::new(options).unwrap()
}

/// Programs of the design's first version read and write the same keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_values_are_those_of_gohub() {
    let server = Etcd::start().await;
    let bus = connect(&server, "/gohub");
    let (outlet, mut feed) = feed();
    within("subscribed", bus.subscribe(from_ref(&topic("unicast/7")), &outlet)).await.unwrap();
    publish(&*bus, &[outgoing("broadcast", "to all"), outgoing("unicast/7", "to one")]).await;
    let keys: Vec<_> =
        stored(&server, "/gohub/").await.iter().map(|kv| (text(kv, "key"), text(kv, "value"))).collect();
    let expected = [("/gohub/broadcast", "to all"), ("/gohub/unicast/7", "to one")];
    assert_eq!(keys, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let one = |payload: &'static str| Arrival::Message { topic: topic("unicast/7"), payload: payload.into() };
    assert_eq!(within("it comes", feed.next()).await, Some(one("to one")));
    let put = json!({ "key": STANDARD.encode("/gohub/unicast/7"), "value": STANDARD.encode("from another") });
    server.ask("/v3/kv/put", &put.to_string()).await;
    assert_eq!(within("it comes", feed.next()).await, Some(one("from another")));
}

/// etcd carries; it does not keep. And it is not asked for a lease per message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_vanish_by_themselves_under_a_lease_that_they_share() {
    let server = Etcd::start().await;
    let bus = connect(&server, "/gohub");
    until(&*bus, true).await;
    for n in 0..100 {
        publish(&*bus, &[outgoing(&format!("room/{n}"), "x"), outgoing("room/0", "y")]).await;
    }
    let keys = stored(&server, "/gohub/").await;
    assert!(keys.len() >= 100, "{}", keys.len());
    assert!(keys.iter().all(|kv| kv["lease"].is_string()), "a key without a lease stays");
    let leases: Value = serde_json::from_str(&server.ask("/v3/kv/lease/leases", "{}").await).unwrap();
    let leases = leases["leases"].as_array().unwrap();
    assert!(leases.len() <= 2, "{leases:?}");
    for lease in leases {
        let answer = server.ask("/v3/kv/lease/timetolive", &lease.to_string()).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["grantedTTL"], "30");
    }
    within("the keys are gone", async {
        while !stored(&server, "/gohub/").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    })
    .await;
}

/// etcd forgets what a node has not heard yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_while_a_node_is_cut_off_interrupts_it_and_it_goes_on() {
    let server = Etcd::start().await;
    let wire = Wire::to(server.addr()).await;
    let (here, there) = (connect(&server, "/gohub"), bus(EtcdOptions::new([wire.url()])));
    let mut feed = subscribed(&there).await;
    publish(&*here, &numbered(0..3)).await;
    expect_all(&mut feed, 0..3).await;
    wire.whole.send_replace(false);
    until(&there, false).await;
    publish(&*here, &numbered(3..300)).await;
    server.compact().await;
    wire.whole.send_replace(true);
    until(&there, true).await;
    assert_eq!(next(&mut feed).await, None, "it is told that something is missing");
    publish(&*here, &numbered(300..303)).await;
    expect_all(&mut feed, 300..303).await;
}

/// A network that fails costs time, and no message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_cut_off_hears_what_was_said_meanwhile() {
    let server = Etcd::start().await;
    let wire = Wire::to(server.addr()).await;
    let (here, there) = (connect(&server, "/gohub"), bus(EtcdOptions::new([wire.url()])));
    let mut feed = subscribed(&there).await;
    for round in 0..3 {
        let first = round * 1000;
        wire.whole.send_replace(false);
        until(&there, false).await;
        publish(&*here, &numbered(first..first + 1000)).await;
        wire.whole.send_replace(true);
        expect_all(&mut feed, first..first + 1000).await;
    }
}

/// What was acknowledged is on disk, and comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_when_etcd_is_killed() {
    let mut server = Etcd::start().await;
    let (here, there) = (connect(&server, "/gohub"), connect(&server, "/gohub"));
    let mut feed = subscribed(&*there).await;
    for life in 0..3 {
        let first = life * 200;
        // Killed at once after the answer: some of it was not delivered yet.
        publish(&*here, &numbered(first..first + 100)).await;
        server.kill();
        until(&*here, false).await;
        server.restart().await;
        publish(&*here, &numbered(first + 100..first + 200)).await;
        expect_all(&mut feed, first..first + 200).await;
    }
}

/// A process that does nothing keeps its connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_paused_is_noticed_and_nothing_is_lost() {
    let server = Etcd::start().await;
    let (here, there) = (connect(&server, "/gohub"), connect(&server, "/gohub"));
    let mut feed = subscribed(&*there).await;
    publish(&*here, &numbered(0..10)).await;
    server.pause();
    until(&*here, false).await;
    until(&*there, false).await;
    let refused = within("publishing fails", here.publish(&numbered(10..11))).await.unwrap_err();
    assert!(refused.to_string().contains("does not answer"), "{refused}");
    server.resume();
    publish(&*here, &numbered(10..20)).await;
    expect_all(&mut feed, 0..20).await;
}

/// An operator restores a snapshot, or begins anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_lost_its_data_interrupts_and_goes_on() {
    let mut server = Etcd::start().await;
    let (here, there) = (connect(&server, "/gohub"), connect(&server, "/gohub"));
    let mut feed = subscribed(&*there).await;
    for n in 0..20 {
        publish(&*here, &numbered(n..n + 1)).await;
    }
    expect_all(&mut feed, 0..20).await;
    server.wipe();
    until(&*there, false).await;
    server.restart().await;
    until(&*there, true).await;
    assert_eq!(next(&mut feed).await, None, "it is told that something may be missing");
    // The lease that was known is gone, too.
    publish(&*here, &numbered(20..30)).await;
    expect_all(&mut feed, 20..30).await;
}

/// A member fails, and there are others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_endpoint_is_used_when_one_fails() {
    let server = Etcd::start().await;
    let (first, second) = (Wire::to(server.addr()).await, Wire::to(server.addr()).await);
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let there = bus(EtcdOptions::new([format!("http://{nobody}"), first.url(), second.url()]));
    let here = connect(&server, "/gohub");
    let mut feed = subscribed(&there).await;
    for (n, (cut, whole)) in [(&first, &second), (&second, &first), (&first, &second)].into_iter().enumerate()
    {
        let n = 2 * n as u64;
        publish(&*here, &numbered(n..n + 1)).await;
        whole.whole.send_replace(true);
        cut.whole.send_replace(false);
        publish(&*here, &numbered(n + 1..n + 2)).await;
        expect_all(&mut feed, n..n + 2).await;
    }
}

/// The machine of a member dies, also that of the leader; what a majority has acknowledged is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_cluster_loses_its_leader() {
    let mut members = Etcd::start_three().await;
    let urls = members.each_ref().map(Etcd::url);
    let here = bus(EtcdOptions::new(urls.clone()));
    let there = bus(EtcdOptions::new(urls.into_iter().rev()));
    let mut feed = subscribed(&there).await;
    for n in 0..3 {
        let first = n * 300;
        publish(&here, &numbered(first..first + 100)).await;
        let leader = within("there is a leader", async {
            loop {
                for (member, etcd) in members.iter().enumerate() {
                    if etcd.is_leader().await {
                        return member;
                    }
                }
            }
        })
        .await;
        members[leader].kill();
        publish(&here, &numbered(first + 100..first + 200)).await;
        members[leader].restart().await;
        publish(&here, &numbered(first + 200..first + 300)).await;
        expect_all(&mut feed, first..first + 300).await;
    }
}

/// Users, their rights, and tokens that have had their time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_are_let_in_by_their_rights() {
    let server = Etcd::start().await;
    let all =
        json!({ "key": STANDARD.encode("/gohub/"), "range_end": STANDARD.encode("/gohub0"), "permType": 2 });
    for (path, question) in [
        ("user/add", json!({ "name": "root", "password": "rootpass" })),
        ("role/add", json!({ "name": "root" })),
        ("user/grant", json!({ "user": "root", "role": "root" })),
        ("user/add", json!({ "name": "hub", "password": "correct-horse" })),
        ("role/add", json!({ "name": "bus" })),
        ("role/grant", json!({ "name": "bus", "perm": all })),
        ("user/grant", json!({ "user": "hub", "role": "bus" })),
        ("user/add", json!({ "name": "nobody", "password": "correct-horse" })),
        ("enable", json!({})),
    ] {
        let answer = server.ask(&format!("/v3/auth/{path}"), &question.to_string()).await;
        assert!(answer.contains("header"), "{path}: {answer}");
    }
    let login = |username: &str, password: &str| EtcdOptions {
        login: Some(EtcdLogin { username: username.to_owned(), password: password.to_owned() }),
        ..EtcdOptions::new([server.url()])
    };
    for (options, words) in [
        (login("hub", "wrong"), "refuses the user or the password"),
        (login("nobody", "correct-horse"), "readwrite"),
        (EtcdOptions::new([server.url()]), "wants to know"),
        (EtcdOptions { prefix: "/other".to_owned(), ..login("hub", "correct-horse") }, "readwrite"),
    ] {
        let refused = bus(options);
        until_said(&refused, words).await;
        assert!(!refused.state().borrow().detail.contains("horse"));
    }
    let (here, there) = (bus(login("hub", "correct-horse")), bus(login("hub", "correct-horse")));
    let mut feed = subscribed(&there).await;
    publish(&here, &numbered(0..5)).await;
    expect_all(&mut feed, 0..5).await;
    // Every token ends with a change of the rules; the bus asks for another by itself.
    let root = json!({ "name": "root", "password": "rootpass" });
    let change = json!({ "name": "hub", "password": "correct-horse" });
    let token: Value =
        serde_json::from_str(&server.ask("/v3/auth/authenticate", &root.to_string()).await).unwrap();
    let token = token["token"].as_str().unwrap();
    server.ask_as(token, "/v3/auth/user/changepw", &change.to_string()).await;
    publish(&here, &numbered(5..10)).await;
    expect_all(&mut feed, 5..10).await;
}

/// What is wrong, and what to do about it, is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_says_what_to_do() {
    let server = Etcd::start_with(&["--quota-backend-bytes", "8388608"]).await;
    let bus = connect(&server, "/gohub");
    until(&*bus, true).await;
    let large = [outgoing("room/x", vec![0; 1024 * 1024])];
    let refused = within("it is full", async {
        loop {
            if let Err(refused) = bus.publish(&large).await {
                return refused.to_string();
            }
        }
    })
    .await;
    assert!(refused.contains("compact and defragment"), "{refused}");
}

/// Operators set limits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smaller_limit_of_operations_is_found_out() {
    let server = Etcd::start_with(&["--max-txn-ops", "10"]).await;
    let (here, there) = (connect(&server, "/gohub"), connect(&server, "/gohub"));
    let mut feed = subscribed(&*there).await;
    until(&*here, true).await;
    within("published", here.publish(&numbered(0..500))).await.unwrap();
    expect_all(&mut feed, 0..500).await;
}

/// Nobody listens in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_is_spoken_to_over_tls() {
    let certificates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/tests/tls");
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let server =
        Etcd::start_with(&["--cert-file", &file("server.pem"), "--key-file", &file("server.key")]).await;
    let trusting =
        EtcdTls { authorities: Some(std::fs::read_to_string(file("ca.pem")).unwrap()), identity: None };
    let options = || EtcdOptions { tls: trusting.clone(), ..EtcdOptions::new([server.url()]) };
    let (here, there) = (bus(options()), bus(options()));
    let mut feed = subscribed(&there).await;
    publish(&here, &numbered(0..5)).await;
    expect_all(&mut feed, 0..5).await;
    let strange = bus(EtcdOptions::new([server.url()]));
    until_said(&strange, "certificate").await;
    assert!(!strange.state().borrow().connected);
}
