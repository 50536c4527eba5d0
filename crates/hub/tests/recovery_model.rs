//! Random publishing, trimming, losses of connections, returns with a place, and restarts, in rooms of both sorts.
//!
//! Message `n` says `n`, so every client can check what it gets: within one claim of the hub ("after this place
//! follow ...") offsets go up by one and carry the numbers that the log has there; what was recovered joins on to what the client
//! had; what was not is said, with a reason that is true. A failure names its seed:
//! `OUTSPOKE_RECOVERY_SEED=... cargo test -p outspoke-hub --test recovery_model` repeats it, `OUTSPOKE_RECOVERY_RUNS` asks
//! for more runs.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use outspoke_hub::store::{MemoryStore, Retention, Store};
use outspoke_hub::{
    Body, Durability, HeartbeatConfig, Hub, HubConfig, Kind, Publishing, RoomClass, RoomClasses,
};
use outspoke_testkit::{Received, ScriptedClient, attach, settle};
use serde_json::{Value, json};

const ROOM: &str = "room";
const CLIENTS: usize = 5;
const STEPS: usize = 120;
const PATIENCE: Duration = Duration::from_secs(600);

struct Client {
    name: String,
    conn: Option<ScriptedClient>,
    /// The last message it has processed, and where the next one must be.
    place: Option<(String, u64)>,
    /// What it asked for, until `subscribed` answers.
    asked: Option<Asked>,
}

#[derive(Debug)]
enum Asked {
    Now,
    After(String, u64),
    Last(u64),
}

struct World {
    rng: Rng,
    hub: Hub,
    config: HubConfig,
    store: Option<Arc<MemoryStore>>,
    threads: bool,
    clients: Vec<Client>,
    /// Messages published so far.
    count: u64,
    /// For each epoch, the number before its first message.
    bases: HashMap<String, u64>,
    on_the_way: Vec<(u64, Publishing)>,
    recovered: usize,
    lost: usize,
}

impl World {
    fn new(seed: u64, threads: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let stored = rng.bool();
        let class = RoomClass {
            durability: if stored { Durability::Stored } else { Durability::Memory },
            announce: false,
            history: Retention {
                records_max: rng.u64(1..400),
                bytes_max: if rng.bool() { rng.u64(5000..100_000) } else { 0 },
                age_max: Duration::from_secs(if rng.bool() { 20 } else { 0 }),
            },
            receipts: rng.bool(),
            ..RoomClass::default()
        };
        let outbox = [8, 64, 1024][rng.usize(..3)] * 1024;
        let config = HubConfig {
            shards: if threads { 2 } else { 1 },
            rooms: RoomClasses::all(class),
            message_bytes_max: 1024,
            outbox_bytes_max: outbox,
            close_timeout: Duration::from_millis(50),
            heartbeat: HeartbeatConfig { ping_interval: Duration::ZERO, pong_timeout: Duration::ZERO },
            history_cache_bytes_max: if rng.bool() { 0 } else { 1 << 20 },
            ..HubConfig::default()
        };
        let store = stored.then(|| Arc::new(MemoryStore::new()));
        let hub = start(&config, store.as_ref(), threads);
        let client = |n| Client { name: format!("user{n}"), conn: None, place: None, asked: None };
        let clients = (0..CLIENTS).map(client).collect();
        let (bases, on_the_way) = (HashMap::new(), Vec::new());
        Self { rng, hub, config, store, threads, clients, count: 0, bases, on_the_way, recovered: 0, lost: 0 }
    }

    async fn step(&mut self) {
        let client = self.rng.usize(..CLIENTS);
        match self.rng.u32(..100) {
            0..=39 => self.publish(),
            40..=54 => self.come(client).await,
            55..=64 => self.clients[client].conn = None,
            65..=84 => self.read(client).await,
            85..=92 => settle().await,
            // Long enough that an empty room is forgotten, or messages are too old.
            93..=97 if !self.threads => tokio::time::sleep(Duration::from_secs(self.rng.u64(1..30))).await,
            98 if self.store.is_some() => self.restart().await,
            _ => {}
        }
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.u64(1..12) {
            self.count += 1;
            let text = format!("{}{}", self.count, " ".repeat(self.rng.usize(..120)));
            let body = Body::json(&json!({ "n": self.count, "pad": text })).unwrap();
            let publishing = self.hub.publish(ROOM, Kind::Data, body).unwrap();
            self.on_the_way.push((self.count, publishing));
        }
    }

    /// What became of everything published; the numbers of an epoch are next to each other.
    async fn learn(&mut self) {
        for (number, publishing) in std::mem::take(&mut self.on_the_way) {
            let published = publishing.await.unwrap();
            let position = published.position.unwrap();
            let base = number - position.offset;
            let epoch = position.epoch.to_string();
            assert_eq!(*self.bases.entry(epoch).or_insert(base), base, "message {number} is out of order");
        }
    }

    async fn come(&mut self, index: usize) {
        if self.clients[index].conn.is_some() {
            return;
        }
        let client = &mut self.clients[index];
        let mut conn = attach(&self.hub, &client.name).with_patience(PATIENCE);
        conn.expect("welcome").await;
        let asked = match (&client.place, self.rng.u32(..10)) {
            (Some((epoch, offset)), 0..=7) => Asked::After(epoch.clone(), *offset),
            (_, 8) => Asked::Last(self.rng.u64(..50)),
            _ => Asked::Now,
        };
        let request = match &asked {
            Asked::Now => json!({ "type": "subscribe", "room": ROOM }),
            Asked::After(epoch, offset) => {
                json!({ "type": "subscribe", "room": ROOM, "epoch": epoch, "offset": offset })
            }
            Asked::Last(count) => json!({ "type": "subscribe", "room": ROOM, "last": count }),
        };
        conn.send(request).await;
        client.conn = Some(conn);
        client.asked = Some(asked);
    }

    async fn read(&mut self, index: usize) {
        let Some(conn) = &mut self.clients[index].conn else { return };
        let received = conn.received();
        if !received.is_empty() {
            self.learn().await;
        }
        for received in received {
            self.check(index, received);
        }
    }

    fn check(&mut self, index: usize, received: Received) {
        let Received::Json(value) = received else {
            // Who reads too slowly is closed, and comes back.
            assert!(matches!(received, Received::Close { .. } | Received::End), "{received:?}");
            self.clients[index].conn = None;
            return;
        };
        match value["type"].as_str().unwrap() {
            "subscribed" => self.check_claim(index, &value),
            "message" => self.check_message(index, &value),
            other => panic!("{other}: {value}"),
        }
    }

    fn check_claim(&mut self, index: usize, claim: &Value) {
        let client = &mut self.clients[index];
        let epoch = claim["epoch"].as_str().unwrap().to_owned();
        let number = |name: &str| claim[name].as_u64().unwrap();
        let (offset, head, first) = (number("offset"), number("head"), number("first"));
        assert!(offset <= head && first <= head + 1, "{claim}");
        match client.asked.take().unwrap() {
            Asked::After(had, at) => match claim["recovered"].as_bool().unwrap() {
                true => {
                    self.recovered += 1;
                    assert_eq!((&epoch, offset), (&had, at), "recovered from another place: {claim}");
                }
                false => {
                    self.lost += 1;
                    let limit = self.config.outbox_bytes_max as u64 / 2;
                    let too_much = head.saturating_sub(at) * 256 > limit / 4;
                    assert!(epoch != had || first > at + 1 || too_much, "why not? {had} {at} {claim}");
                    assert_eq!(offset, head, "{claim}");
                }
            },
            Asked::Last(count) => assert!(head - offset <= count, "{claim}"),
            Asked::Now => assert_eq!(offset, head, "{claim}"),
        }
        client.place = Some((epoch, offset));
    }

    fn check_message(&mut self, index: usize, message: &Value) {
        let client = &mut self.clients[index];
        let (epoch, offset) = client.place.as_mut().expect("nothing comes before `subscribed`");
        assert_eq!(message["epoch"].as_str().unwrap(), epoch, "{message}");
        assert_eq!(message["offset"], *offset + 1, "{} had {offset}: {message}", client.name);
        *offset += 1;
        let base = self.bases[epoch.as_str()];
        assert_eq!(message["data"]["n"], base + *offset, "another message at this offset: {message}");
    }

    async fn restart(&mut self) {
        self.learn().await;
        for client in &mut self.clients {
            client.conn = None;
        }
        assert!(self.hub.shutdown(PATIENCE).await);
        self.hub = start(&self.config, self.store.as_ref(), self.threads);
    }

    /// Everybody who is there has everything, once all is quiet.
    async fn finish(&mut self) {
        for index in 0..CLIENTS {
            self.come(index).await;
        }
        self.learn().await;
        for _ in 0..200 {
            settle().await;
            for index in 0..CLIENTS {
                self.read(index).await;
                // Closed as slow on the way here.
                self.come(index).await;
            }
            if self.threads {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if self.all_there() {
                return;
            }
        }
        let places: Vec<_> = self.clients.iter().map(|client| (&client.place, &client.asked)).collect();
        panic!("not everybody has come to {}: {places:?} {:?}", self.count, self.bases);
    }

    fn all_there(&self) -> bool {
        self.clients.iter().all(|client| {
            let Some((epoch, offset)) = &client.place else { return false };
            let at = self.bases.get(epoch).map(|base| base + offset);
            client.asked.is_none() && (at == Some(self.count) || self.bases.is_empty() || at.is_none())
        })
    }
}

fn start(config: &HubConfig, store: Option<&Arc<MemoryStore>>, threads: bool) -> Hub {
    let mut builder = Hub::builder().config(config.clone());
    if let Some(store) = store {
        let store: Arc<dyn Store> = Arc::clone(store) as _;
        builder = builder.store("memory", store);
    }
    if threads { builder.start().unwrap() } else { builder.start_on_this_runtime().unwrap() }
}

async fn run(seed: u64, threads: bool) -> (usize, usize) {
    let mut world = World::new(seed, threads);
    for _ in 0..STEPS {
        world.step().await;
    }
    world.finish().await;
    assert!(world.hub.shutdown(PATIENCE).await);
    (world.recovered, world.lost)
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    match number("OUTSPOKE_RECOVERY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OUTSPOKE_RECOVERY_RUNS").unwrap_or(default),
    }
}

fn explore(runs: u64, threads: bool, runtime: impl Fn() -> tokio::runtime::Runtime) {
    let (mut recovered, mut lost) = (0, 0);
    for seed in seeds(runs) {
        eprintln!("seed {seed}");
        let runtime = runtime();
        let (ours, not) = runtime.block_on(run(seed, threads));
        recovered += ours;
        lost += not;
    }
    eprintln!("{recovered} recoveries, {lost} honest refusals");
    assert!(recovered > 0 || seeds(runs).count() < 10, "nothing was recovered: the test tests nothing");
}

#[test]
fn every_recovery_is_exact_or_refused_with_a_true_reason() {
    let paused =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    explore(200, false, paused);
}

#[test]
fn every_recovery_is_exact_with_shards_and_keeper_on_threads_of_their_own() {
    let real = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    explore(40, true, real);
}
