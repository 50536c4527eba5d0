//! Storms: random operations that meet in one turn or on several threads, with clients that do not read.
//!
//! Where `tests/model.rs` knows what everybody must be told after each step, here only what must hold whatever meets:
//! every client checks its own stream as it comes ([`witness`]), and when the storm is over everybody who stayed has
//! got to the end of every room, or has been told how much is missing. A failure names its seed:
//! `OUTSPOKE_STORM_SEED=... cargo test -p outspoke-hub --test storm` repeats it (exactly, on one shard and paused
//! time); `OUTSPOKE_STORM_RUNS` asks for more.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

mod wire;
mod witness;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use outspoke_hub::{
    Attach, Body, Client, Disconnect, Frame, Hub, HubConfig, Identity, Kind, PublishError, PushError,
    RoomClass, RoomClasses, SlowClient,
};
use outspoke_testkit::settle;

use wire::Wire;
use witness::{Ended, Log, Witness};

const ROOMS: [&str; 4] = ["attic", "cellar", "kitchen", "porch"];
const STEPS: usize = 400;
/// A slow client's pipe: a few messages fill it.
const SLOW_PIPE_BYTES: usize = 1500;
/// A fast client's pipe: never full, however long the storm does not let it read.
const FAST_PIPE_BYTES: usize = 64 * 1024 * 1024;

struct Storm {
    rng: Rng,
    hub: Hub,
    paused: bool,
    people: Vec<Person>,
    log: Arc<Log>,
    numbers: u64,
    /// Callbacks: clients come less clients gone.
    present: Arc<AtomicIsize>,
}

struct Person {
    witness: Witness,
    client: Arc<Client>,
    identity: Option<(usize, usize)>,
    slow: bool,
    kicked: bool,
    /// Texts pushed to it and accepted.
    pushed: u64,
}

impl Storm {
    fn new(seed: u64, shards: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let policies = [
            SlowClient::Disconnect,
            SlowClient::DropOldest,
            SlowClient::DropNewest,
            SlowClient::Conflate,
            SlowClient::Resync,
        ];
        let config = HubConfig {
            shards,
            rooms: RoomClasses::all(RoomClass {
                slow_client: policies[rng.usize(..policies.len())],
                announce: rng.bool(),
                announce_members_max: 5,
                ..RoomClass::default()
            }),
            message_bytes_max: 2000,
            outbox_bytes_max: 4000,
            ..HubConfig::default()
        };
        let present = Arc::new(AtomicIsize::new(0));
        let (come, gone) = (Arc::clone(&present), Arc::clone(&present));
        let builder = Hub::builder()
            .config(config)
            .on_connect(move |_| _ = come.fetch_add(1, Ordering::SeqCst))
            .on_disconnect(move |_, _| _ = gone.fetch_sub(1, Ordering::SeqCst));
        let paused = shards == 0;
        let hub = if paused { builder.start_on_this_runtime() } else { builder.start() }.unwrap();
        let log = Arc::new(Log::default());
        Self { rng, hub, paused, people: Vec::new(), log, numbers: 0, present }
    }

    async fn run(&mut self) {
        for _ in 0..STEPS {
            self.step().await;
            // Mostly several operations meet in one turn.
            match self.rng.u8(..8) {
                0 => self.breathe().await,
                1 | 2 => tokio::task::yield_now().await,
                _ => {}
            }
        }
        self.end().await;
    }

    /// Lets the hub do what it has, and fast clients read.
    async fn breathe(&mut self) {
        if self.paused {
            settle().await;
        } else {
            tokio::task::yield_now().await;
        }
        for person in self.people.iter_mut().filter(|person| !person.slow) {
            person.witness.read(&self.log);
        }
        self.bury();
    }

    /// Takes leave of those that have ended, for a reason that they must have.
    fn bury(&mut self) {
        let mut kept = Vec::new();
        for person in std::mem::take(&mut self.people) {
            let Some(ended) = person.witness.ended() else {
                kept.push(person);
                continue;
            };
            let code = match ended {
                Ended::Closed(code) => code,
                // It did not even read the close frame in time.
                Ended::Cut if person.slow => continue,
                Ended::Cut => panic!("the hub cut a connection without a word"),
            };
            let allowed = match code {
                Some(4500) => person.identity.is_some(),
                Some(4501) => person.kicked,
                Some(4000..=4002) => person.slow,
                _ => false,
            };
            assert!(allowed, "{code:?} closed a client: slow {}, kicked {}", person.slow, person.kicked);
        }
        self.people = kept;
    }

    async fn step(&mut self) {
        if self.people.is_empty() || self.rng.u8(..10) == 0 && self.people.len() < 30 {
            return self.attach();
        }
        let who = self.rng.usize(..self.people.len());
        let room = ROOMS[self.rng.usize(..ROOMS.len())];
        let number = self.number();
        let person = &mut self.people[who];
        match self.rng.u8(..24) {
            0..=4 => person.witness.subscribe(room),
            5 => person.witness.unsubscribe(room),
            6..=10 => person.witness.publish(room, number, self.rng.usize(..300)),
            11..=14 => self.application_publishes(room),
            15 => self.broadcast(),
            16 => {
                match self.hub.push(person.client.id(), &Frame::text(format!("push {}", person.pushed + 1))) {
                    Ok(()) => person.pushed += 1,
                    // Not settled yet, or gone, or slow: nothing was queued.
                    Err(PushError::ClientNotFound | PushError::SendBufferFull { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            17 => person.witness.ping(),
            18 => {
                let (hub, id) = (self.hub.clone(), person.client.id());
                let coming = self.rng.bool();
                // The answer may come after the client has gone.
                tokio::spawn(async move {
                    if coming { hub.join(id, room).await } else { hub.leave(id, room).await }
                });
                tokio::task::yield_now().await;
            }
            19 => {
                person.kicked |= self.hub.disconnect(person.client.id(), Disconnect::Kicked);
            }
            20 => drop(self.people.swap_remove(who)),
            21 => person.witness.leave_politely(),
            22 => person.witness.read(&self.log),
            _ if self.paused => {
                tokio::time::sleep(Duration::from_secs(self.rng.u64(..20))).await;
                self.breathe().await;
            }
            _ => {}
        }
        self.bury();
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn attach(&mut self) {
        let slow = self.rng.u8(..3) == 0;
        let who = (self.rng.usize(..6), self.rng.usize(..2));
        let (identity, known) = match self.rng.bool() {
            true => {
                (Identity::user(format!("user{}", who.0)).on_device(format!("device{}", who.1)), Some(who))
            }
            false => (Identity::anonymous(), None),
        };
        let identity = if self.rng.bool() { identity.named("somebody") } else { identity };
        let attach = Attach::new(identity);
        // A socket's bytes arrive in their own time, which cannot be paused.
        let (client, wire) = if self.paused || self.rng.bool() {
            let (conn, wire) = Wire::memory(if slow { SLOW_PIPE_BYTES } else { FAST_PIPE_BYTES });
            (self.hub.attach(conn, attach).unwrap(), wire)
        } else {
            let (conn, wire) = Wire::socket(slow);
            (self.hub.attach(conn, attach).unwrap(), wire)
        };
        let witness = Witness::new(wire, client.id(), slow);
        self.people.push(Person { witness, client, identity: known, slow, kicked: false, pushed: 0 });
    }

    fn application_publishes(&mut self, room: &str) {
        for _ in 0..self.rng.u8(1..6) {
            let number = self.number();
            let kind = if self.rng.bool() { Kind::Data } else { Kind::Custom("price".into()) };
            match self.hub.publish(room, kind, witness::body(number, self.rng.usize(..300))) {
                Ok(published) => self.log.published(published.now().unwrap().position, number),
                Err(PublishError::Overloaded) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }

    fn broadcast(&mut self) {
        let number = self.number();
        // Overloaded: nobody gets it.
        let _ = self.hub.broadcast(&Frame::text(format!("broadcast {number}")));
    }

    /// The storm is over: everybody reads, and has everything or knows what is missing.
    async fn end(&mut self) {
        let mut heads = HashMap::new();
        for room in ROOMS {
            let number = self.number();
            loop {
                match self.hub.publish(room, Kind::Data, witness::body(number, 0)) {
                    Ok(published) => {
                        self.log.published(published.now().unwrap().position, number);
                        heads.insert(room, published.now().unwrap().position);
                        break;
                    }
                    Err(PublishError::Overloaded) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.people.iter_mut().for_each(|person| person.witness.read(&self.log));
            self.bury();
            let behind = |person: &Person| {
                let queued = person.client.queued_bytes();
                let waiting =
                    || (queued > 0).then(|| format!("{queued} bytes wait for {}", person.client.id()));
                person.witness.behind(&heads, person.pushed).or_else(waiting)
            };
            let Some(problem) = self.people.iter().find_map(behind) else { break };
            assert!(tokio::time::Instant::now() < deadline, "{problem}");
        }
        self.people.clear();
        while self.hub.client_count() > 0 {
            assert!(tokio::time::Instant::now() < deadline, "{} clients stay", self.hub.client_count());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!((self.hub.room_count(), self.hub.clients().len(), self.hub.stats().panics), (0, 0, 0));
        assert_eq!(self.present.load(Ordering::SeqCst), 0, "each client that came has gone once");
        assert!(self.hub.shutdown(Duration::from_secs(60)).await);
    }
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The seeds to run, each told before it is used: a test's output is shown when it fails.
fn seeds(runs: u64) -> impl Iterator<Item = u64> {
    let runs = from_env("OUTSPOKE_STORM_RUNS").unwrap_or(runs);
    let (first, runs) = match from_env("OUTSPOKE_STORM_SEED") {
        Some(seed) => (seed, 1),
        None => (fastrand::u64(..u64::MAX - runs), runs),
    };
    #[allow(clippy::print_stdout)] // shown when the test fails
    (first..first + runs).inspect(|seed| println!("OUTSPOKE_STORM_SEED={seed}"))
}

#[tokio::test(start_paused = true)]
async fn storm_on_one_shard_with_paused_time() {
    for seed in seeds(150) {
        Storm::new(seed, 0).run().await;
    }
}

/// Threads of the application publish while the storm goes on.
#[tokio::test]
async fn storm_on_several_shards() {
    for seed in seeds(20) {
        let mut storm = Storm::new(seed, 3);
        let over = Arc::new(AtomicBool::new(false));
        let failed = Arc::new(Mutex::new(None));
        let threads: Vec<_> = (0..2)
            .map(|thread| {
                let (hub, log, over) = (storm.hub.clone(), Arc::clone(&storm.log), Arc::clone(&over));
                let failed = Arc::clone(&failed);
                std::thread::spawn(move || {
                    let mut number = (thread + 1) << 40;
                    while !over.load(Ordering::SeqCst) {
                        number += 1;
                        match hub.publish(ROOMS[number as usize % 4], Kind::Data, witness::body(number, 0)) {
                            Ok(published) => log.published(published.now().unwrap().position, number),
                            Err(PublishError::Overloaded) => {}
                            Err(other) => *failed.lock().unwrap() = Some(other),
                        }
                        std::thread::sleep(Duration::from_micros(200));
                    }
                })
            })
            .collect();
        for _ in 0..STEPS {
            storm.step().await;
            if storm.rng.u8(..3) == 0 {
                storm.breathe().await;
            }
        }
        over.store(true, Ordering::SeqCst);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(*failed.lock().unwrap(), None);
        storm.end().await;
    }
}

/// The bodies must be what the witnesses read.
#[test]
fn body_of_a_number_is_read_back() {
    let Body::Json(json) = witness::body(7, 3) else { panic!("no JSON") };
    assert_eq!(witness::number_in(&serde_json::from_slice(&json).unwrap()), 7);
}
