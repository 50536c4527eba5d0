//! Random operations on a hub, and on a naive one that a page of code can be trusted with.
//!
//! After every step each client must have received exactly what the naive hub says: per room the same events in the
//! same order, nothing twice, nothing else. The order between rooms is free. A failure names its seed:
//! `OUTSPOKE_MODEL_SEED=... cargo test -p outspoke-hub --test model` repeats it, `OUTSPOKE_MODEL_RUNS` asks for more runs.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use outspoke_hub::protocol::Present;
use outspoke_hub::{Attach, Body, ClientId, Disconnect, Frame, Hub, HubConfig, Identity, Kind};
use outspoke_testkit::{Received, ScriptedClient, attach_with, settle};
use serde_json::{Value, json};
use tokio::time::Instant;

const ROOMS: [&str; 4] = ["attic", "cellar", "kitchen", "porch"];
const USERS: [&str; 3] = ["ada", "bob", "cyd"];
const DEVICES: [&str; 2] = ["phone", "laptop"];
const STEPS: usize = 80;
/// How long a replaced client has to come back to its rooms.
const REPLACED: Duration = Duration::from_secs(5);
/// Long enough for everything that is told later, and for rooms that are kept for somebody.
const LATER: Duration = Duration::from_secs(15);

/// What a client is told of one room, or of none (`""`).
type Told = BTreeMap<String, Vec<String>>;

/// The members of a room, and its users: how many connections each has, and whether it is there.
type Who = (usize, Vec<(String, usize, bool)>);

/// The naive hub: rooms are sets, everything happens at once.
#[derive(Default)]
struct Naive {
    /// How long who was lost has to come back.
    grace: Duration,
    clients: BTreeMap<usize, NaiveClient>,
    rooms: BTreeMap<&'static str, NaiveRoom>,
}

struct NaiveClient {
    user: &'static str,
    device: &'static str,
    rooms: BTreeSet<&'static str>,
    told: Told,
    /// The close code it must have seen.
    closed: Option<u16>,
}

#[derive(Default)]
struct NaiveRoom {
    head: u64,
    members: BTreeSet<usize>,
    /// Users as the members know them, and until when they are expected back.
    users: BTreeMap<&'static str, Option<Instant>>,
}

/// Why a client leaves a room.
#[derive(Clone, Copy, PartialEq)]
enum Exit {
    Goodbye,
    Lost,
    Replaced,
}

impl Naive {
    fn tell(&mut self, client: usize, room: &str, what: String) {
        self.clients.get_mut(&client).unwrap().told.entry(room.to_owned()).or_default().push(what);
    }

    fn tell_room(&mut self, room: &'static str, what: &str) {
        for member in self.rooms.get(room).map(|room| room.members.clone()).unwrap_or_default() {
            self.tell(member, room, what.to_owned());
        }
    }

    fn attach(&mut self, id: usize, user: &'static str, device: &'static str) {
        let same = |(_, held): &(&usize, &NaiveClient)| {
            held.user == user && held.device == device && held.closed.is_none()
        };
        if let Some(former) = self.clients.iter().find(same).map(|(id, _)| *id) {
            self.depart(former, Exit::Replaced, Some(Disconnect::Replaced));
        }
        let client = NaiveClient { user, device, rooms: BTreeSet::new(), told: Told::new(), closed: None };
        self.clients.insert(id, client);
        self.tell(id, "", "welcome".to_owned());
    }

    fn depart(&mut self, id: usize, exit: Exit, closed: Option<Disconnect>) {
        for room in self.clients[&id].rooms.clone() {
            self.leave(id, room, exit);
        }
        match closed {
            Some(code) => self.clients.get_mut(&id).unwrap().closed = Some(code.code()),
            None => drop(self.clients.remove(&id)),
        }
    }

    fn leave(&mut self, id: usize, room: &'static str, exit: Exit) {
        if !self.clients.get_mut(&id).unwrap().rooms.remove(room) {
            return;
        }
        let user = self.clients[&id].user;
        let kept = self.rooms.get_mut(room).unwrap();
        kept.members.remove(&id);
        if !kept.members.iter().any(|member| self.clients[member].user == user) {
            let grace = match exit {
                Exit::Lost => self.grace,
                Exit::Replaced => self.grace.max(REPLACED),
                Exit::Goodbye => Duration::ZERO,
            };
            if grace.is_zero() {
                kept.users.remove(user);
                self.tell_room(room, &format!("leave {user}"));
            } else {
                kept.users.insert(user, Some(Instant::now() + grace));
            }
        }
        self.end_if_empty(room);
    }

    /// A room without members stays only for those who were lost and have a time to come back.
    fn end_if_empty(&mut self, room: &'static str) {
        let NaiveRoom { members, users, .. } = &self.rooms[room];
        if members.is_empty() && (self.grace.is_zero() || users.is_empty()) {
            self.rooms.remove(room);
        }
    }

    /// So much time goes by that nobody is expected any more.
    fn later(&mut self) {
        for room in ROOMS {
            let Some(kept) = self.rooms.get_mut(room) else { continue };
            let mut away: Vec<_> =
                kept.users.iter().filter_map(|(user, away)| Some(((*away)?, *user))).collect();
            away.sort();
            for (_, user) in away {
                kept.users.remove(user);
                for member in kept.members.clone() {
                    let told = &mut self.clients.get_mut(&member).unwrap().told;
                    told.entry(room.to_owned()).or_default().push(format!("leave {user}"));
                }
            }
            self.end_if_empty(room);
        }
    }

    fn subscribe(&mut self, id: usize, room: &'static str) {
        let user = self.clients[&id].user;
        if self.clients.get_mut(&id).unwrap().rooms.insert(room) {
            let kept = self.rooms.entry(room).or_default();
            if kept.users.insert(user, None).is_none() {
                self.tell_room(room, &format!("join {user}"));
            }
            self.rooms.get_mut(room).unwrap().members.insert(id);
        }
        let NaiveRoom { head, members, .. } = &self.rooms[room];
        let answer = format!("subscribed at {head} with {}", members.len());
        self.tell(id, room, answer);
    }

    /// Who is in a room.
    fn presence(&self, room: &str) -> Option<Who> {
        let NaiveRoom { members, users, .. } = self.rooms.get(room)?;
        let user = |(user, away): (&&'static str, &Option<Instant>)| {
            let devices = members.iter().filter(|member| self.clients[member].user == *user).count();
            ((*user).to_owned(), devices, away.is_none())
        };
        Some((members.len(), users.iter().map(user).collect()))
    }

    fn publish(&mut self, room: &'static str, from: Option<usize>, number: u64) {
        if let Some(id) = from
            && !self.clients[&id].rooms.contains(room)
        {
            self.tell(id, "", "error not_subscribed".to_owned());
            return;
        }
        let Some(kept) = self.rooms.get_mut(room) else { return };
        kept.head += 1;
        let head = kept.head;
        if let Some(id) = from {
            // Answers leave before the turn's messages: a sequence of their own.
            self.tell(id, &format!("acks of {room}"), format!("ack {head}"));
        }
        self.tell_room(room, &format!("message {number} at {head}"));
    }
}

/// What a client received, in the naive hub's words.
fn told(received: Vec<Received>) -> (Told, Option<u16>) {
    let mut told = Told::new();
    let mut closed = None;
    for received in received {
        let (room, what) = match received {
            Received::Json(value) => in_words(&value),
            Received::Text(text) => (String::new(), format!("raw {text}")),
            Received::Close { code, .. } => {
                closed = code;
                continue;
            }
            Received::End | Received::Ping(_) => continue,
            other => panic!("nobody sent {other:?}"),
        };
        told.entry(room).or_default().push(what);
    }
    (told, closed)
}

fn in_words(value: &Value) -> (String, String) {
    let room = value["room"].as_str().unwrap_or_default().to_owned();
    let (offset, kind) = (&value["offset"], value["type"].as_str().unwrap());
    let what = match kind {
        "welcome" => "welcome".to_owned(),
        "subscribed" => format!("subscribed at {offset} with {}", value["members"]),
        "unsubscribed" => "unsubscribed".to_owned(),
        "join" | "leave" => format!("{kind} {}", value["userId"].as_str().unwrap()),
        "message" => format!("message {} at {offset}", value["data"]),
        "ack" => format!("ack {offset}"),
        "error" => format!("error {}", value["error"].as_str().unwrap()),
        other => panic!("nobody asked for {other}: {value}"),
    };
    if kind == "ack" { (format!("acks of {room}"), what) } else { (room, what) }
}

/// A client of the hub under test.
struct Real {
    script: ScriptedClient,
    id: ClientId,
}

struct Run {
    rng: Rng,
    hub: Hub,
    naive: Naive,
    real: BTreeMap<usize, Real>,
    next: usize,
    numbers: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let grace = if rng.bool() { Duration::ZERO } else { Duration::from_secs(3) };
        let mut config = HubConfig::default();
        // Nobody here answers pings.
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
        config.rooms.default_mut().leave_grace = grace;
        let hub = Hub::builder().config(config).start_on_this_runtime().unwrap();
        Self {
            rng,
            hub,
            naive: Naive { grace, ..Naive::default() },
            real: BTreeMap::new(),
            next: 0,
            numbers: 0,
        }
    }

    fn room(&mut self) -> &'static str {
        ROOMS[self.rng.usize(..ROOMS.len())]
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// One of the clients that are open, if there is one.
    fn somebody(&mut self) -> Option<usize> {
        let open: Vec<usize> = self.real.keys().copied().collect();
        self.rng.choice(open)
    }

    async fn step(&mut self) -> String {
        let operation = self.rng.u8(..13);
        if operation < 2 || self.real.is_empty() {
            return self.attach();
        }
        let Some(id) = self.somebody() else { return "nobody".to_owned() };
        match operation {
            2 | 3 => self.subscribe(id).await,
            4 => self.unsubscribe(id).await,
            5 | 6 => self.client_publishes(id).await,
            7 | 8 => self.application_publishes(),
            9 => self.broadcast_and_push(id),
            10 => self.kick(id),
            11 => self.time_goes_by().await,
            _ => self.vanish(id),
        }
    }

    fn attach(&mut self) -> String {
        let (user, device) = (USERS[self.rng.usize(..USERS.len())], DEVICES[self.rng.usize(..DEVICES.len())]);
        let (id, identity) = (self.next, Identity::user(user).named(user).on_device(device));
        self.next += 1;
        let (script, client) = attach_with(&self.hub, Attach::new(identity), 256 * 1024);
        self.real.insert(id, Real { script, id: client.id() });
        self.naive.attach(id, user, device);
        format!("{user} on {device} connects as {id}")
    }

    async fn subscribe(&mut self, id: usize) -> String {
        let room = self.room();
        self.send(id, json!({ "type": "subscribe", "room": room })).await;
        self.naive.subscribe(id, room);
        format!("{id} subscribes to {room}")
    }

    async fn unsubscribe(&mut self, id: usize) -> String {
        let room = self.room();
        self.send(id, json!({ "type": "unsubscribe", "room": room })).await;
        self.naive.leave(id, room, Exit::Goodbye);
        self.naive.tell(id, room, "unsubscribed".to_owned());
        format!("{id} unsubscribes from {room}")
    }

    /// Several in one write, so that they meet in one turn.
    async fn client_publishes(&mut self, id: usize) -> String {
        let count = self.rng.usize(1..5);
        let mut bytes = Vec::new();
        for _ in 0..count {
            let (room, number) = (self.room(), self.number());
            let request = json!({ "type": "publish", "room": room, "data": number, "id": number });
            let script = &mut self.real.get_mut(&id).unwrap().script;
            bytes.extend(script.frame(outspoke_websocket::Opcode::Text, request.to_string().as_bytes()));
            self.naive.publish(room, Some(id), number);
        }
        self.real.get_mut(&id).unwrap().script.send_raw(&bytes).await;
        format!("{id} publishes {count}")
    }

    fn application_publishes(&mut self) -> String {
        let count = self.rng.usize(1..5);
        for _ in 0..count {
            let (room, number) = (self.room(), self.number());
            self.hub.publish(room, Kind::Data, Body::json(&number).unwrap()).unwrap();
            self.naive.publish(room, None, number);
        }
        format!("the application publishes {count}")
    }

    fn broadcast_and_push(&mut self, id: usize) -> String {
        self.hub.broadcast(&Frame::text("to all!")).unwrap();
        let open: Vec<usize> = self.real.keys().copied().collect();
        for client in open {
            self.naive.tell(client, "", "raw to all!".to_owned());
        }
        self.hub.push(self.real[&id].id, &Frame::text("to you!")).unwrap();
        self.naive.tell(id, "", "raw to you!".to_owned());
        format!("a broadcast, and a push to {id}")
    }

    fn kick(&mut self, id: usize) -> String {
        assert!(self.hub.disconnect(self.real[&id].id, Disconnect::Kicked));
        self.naive.depart(id, Exit::Goodbye, Some(Disconnect::Kicked));
        format!("{id} is kicked")
    }

    async fn time_goes_by(&mut self) -> String {
        tokio::time::sleep(LATER).await;
        self.naive.later();
        "time goes by".to_owned()
    }

    fn vanish(&mut self, id: usize) -> String {
        self.real.remove(&id);
        self.naive.depart(id, Exit::Lost, None);
        format!("{id} vanishes")
    }

    async fn send(&mut self, id: usize, message: Value) {
        self.real.get_mut(&id).unwrap().script.send(message).await;
    }

    /// Both hubs must have told everybody the same; `story` says how it came to this.
    async fn compare(&mut self, story: &str) {
        settle().await;
        let ids: Vec<usize> = self.real.keys().copied().collect();
        for id in ids {
            let (told, closed) = told(self.real.get_mut(&id).unwrap().script.received());
            let naive = self.naive.clients.get_mut(&id).unwrap();
            let expected = std::mem::take(&mut naive.told);
            // Broadcast and push share a turn: whichever goes first, each comes once.
            assert_eq!(sorted_raw(told), sorted_raw(expected), "what client {id} was told: {story}");
            assert_eq!(closed, naive.closed, "how client {id} was closed: {story}");
            if closed.is_some() {
                self.real.remove(&id);
                self.naive.clients.remove(&id);
            }
        }
        settle().await;
        assert_eq!(self.hub.client_count(), self.real.len(), "{story}");
        let mut rooms: Vec<_> =
            self.hub.rooms().into_iter().map(|(name, members)| (name.as_str().to_owned(), members)).collect();
        rooms.sort();
        let expected = self.naive.rooms.iter().map(|(name, room)| ((*name).to_owned(), room.members.len()));
        assert_eq!(rooms, expected.collect::<Vec<_>>(), "{story}");
        for room in ROOMS {
            let presence = self.hub.presence(room, None, 100).map(|presence| {
                let user = |user: &Present| (user.user.to_string(), user.devices.len(), user.online);
                assert_eq!(presence.users, presence.page.len());
                (presence.members, presence.page.iter().map(user).collect::<Vec<_>>())
            });
            assert_eq!(presence, self.naive.presence(room), "who is in {room}: {story}");
        }
    }
}

fn sorted_raw(mut told: Told) -> Told {
    if let Some(raw) = told.get_mut("") {
        raw.sort();
    }
    told
}

async fn run(seed: u64) {
    let mut run = Run::new(seed);
    let mut story = format!("OUTSPOKE_MODEL_SEED={seed}");
    for _ in 0..STEPS {
        story.push('\n');
        story.push_str(&run.step().await);
        run.compare(&story).await;
    }
    let everybody: Vec<usize> = run.real.keys().copied().collect();
    for id in everybody {
        run.vanish(id);
    }
    run.time_goes_by().await;
    run.compare(&story).await;
    assert!(run.hub.room_count() == 0, "{story}");
    assert!(run.hub.shutdown(Duration::from_secs(60)).await, "{story}");
}

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[tokio::test(start_paused = true)]
async fn hub_tells_everybody_what_a_naive_hub_would() {
    let runs = from_env("OUTSPOKE_MODEL_RUNS").unwrap_or(150);
    match from_env("OUTSPOKE_MODEL_SEED") {
        Some(seed) => run(seed).await,
        None => {
            let first = fastrand::u64(..u64::MAX - runs);
            for seed in first..first + runs {
                run(seed).await;
            }
        }
    }
}
