//! A client that believes nothing: it checks each thing it is told against everything it was told before.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::Duration;

use outspoke_hub::{Body, ClientId, Position};
use outspoke_testkit::{Received, WsClient};
use outspoke_websocket::{CloseCode, Opcode, encode_masked_close};
use serde_json::{Value, json};

use crate::wire::Wire;

/// A message of that number, made longer.
pub(crate) fn body(number: u64, filler: usize) -> Body {
    Body::json(&json!([number, "x".repeat(filler)])).unwrap()
}

pub(crate) fn number_in(data: &Value) -> u64 {
    data[0].as_u64().unwrap()
}

/// What all witnesses know together: which message is where.
#[derive(Default)]
pub(crate) struct Log(Mutex<HashMap<(String, u64), u64>>);

impl Log {
    /// The application was told this place for its message.
    pub(crate) fn published(&self, position: Option<Position>, number: u64) {
        if let Some(Position { epoch, offset }) = position {
            self.agree(format!("{:016x}", epoch.as_u64()), offset, number);
        }
    }

    /// One place holds one message, whoever is asked.
    fn agree(&self, epoch: String, offset: u64, number: u64) {
        let mut log = self.0.lock().unwrap();
        let held = *log.entry((epoch.clone(), offset)).or_insert(number);
        assert_eq!(held, number, "two messages at {offset} of {epoch}");
    }
}

/// How a connection ended, as its client sees it.
#[derive(Clone, Copy)]
pub(crate) enum Ended {
    Closed(Option<u16>),
    Cut,
}

pub(crate) struct Witness {
    script: WsClient<Wire>,
    id: ClientId,
    slow: bool,
    welcomed: bool,
    ended: Option<Ended>,
    leaving: bool,
    rooms: HashMap<String, Place>,
    /// Numbers of what it published and has no answer to, by request.
    unanswered: HashMap<u64, u64>,
    requests: u64,
    answered: u64,
    pushes: u64,
    broadcasts: u64,
    /// What it had no space to send: a hub that does not read (a slow client's own doing) misses nothing else.
    unsent: Vec<u8>,
}

/// How far a client has got in a room.
struct Place {
    epoch: String,
    at: u64,
    /// Messages that it did not get, and was not told of.
    missing: u64,
    /// Who is there, when it was told so: nobody leaves who has not come.
    numbers: HashSet<u64>,
}

impl Witness {
    pub(crate) fn new(wire: Wire, id: ClientId, slow: bool) -> Self {
        let script = WsClient::new(wire, None, Vec::new(), Duration::ZERO);
        Self {
            script,
            id,
            slow,
            welcomed: false,
            ended: None,
            leaving: false,
            rooms: HashMap::new(),
            unanswered: HashMap::new(),
            requests: 0,
            answered: 0,
            pushes: 0,
            broadcasts: 0,
            unsent: Vec::new(),
        }
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.filter(|_| !self.leaving)
    }

    // ---- to the hub ----

    pub(crate) fn subscribe(&mut self, room: &str) {
        self.send(&json!({ "type": "subscribe", "room": room }));
    }

    pub(crate) fn unsubscribe(&mut self, room: &str) {
        self.send(&json!({ "type": "unsubscribe", "room": room }));
    }

    pub(crate) fn ping(&mut self) {
        self.send(&json!({ "type": "ping" }));
    }

    pub(crate) fn publish(&mut self, room: &str, number: u64, filler: usize) {
        self.requests += 1;
        let id = self.requests;
        self.unanswered.insert(id, number);
        let data = json!([number, "x".repeat(filler)]);
        self.send(&json!({ "type": "publish", "room": room, "id": id, "data": data }));
    }

    pub(crate) fn leave_politely(&mut self) {
        self.leaving = true;
        let mut frame = Vec::new();
        encode_masked_close(CloseCode::new(1000), "", [1; 4], &mut frame);
        self.give(&frame);
    }

    fn send(&mut self, message: &Value) {
        if !self.leaving {
            let frame = self.script.frame(Opcode::Text, message.to_string().as_bytes());
            self.give(&frame);
        }
    }

    fn give(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
        let sent = self.script.stream().send(&self.unsent);
        self.unsent.drain(..sent);
    }

    // ---- from the hub ----

    /// Reads what is there.
    pub(crate) fn read(&mut self, log: &Log) {
        if self.ended.is_some() {
            return;
        }
        for received in self.script.received() {
            match received {
                Received::Json(message) => self.hear(&message, log),
                Received::Text(text) => self.hear_text(&text),
                Received::Ping(payload) => {
                    let pong = self.script.frame(Opcode::Pong, &payload);
                    self.give(&pong);
                }
                Received::Close { code, .. } => self.ended = Some(Ended::Closed(code)),
                Received::End => self.ended = self.ended.or(Some(Ended::Cut)),
                other => panic!("nobody sent {other:?}"),
            }
        }
        self.give(&[]);
    }

    fn hear_text(&mut self, text: &str) {
        let (what, number) = text.split_once(' ').unwrap();
        let number: u64 = number.parse().unwrap();
        match what {
            // Every accepted push comes, in order.
            "push" => {
                assert_eq!(number, self.pushes + 1, "pushes to {}", self.id);
                self.pushes = number;
            }
            // Broadcasts may be dropped for a slow client, but not swapped.
            "broadcast" => {
                assert!(number > self.broadcasts, "broadcast {number} after {}", self.broadcasts);
                self.broadcasts = number;
            }
            other => panic!("nobody sent {other}"),
        }
    }

    fn hear(&mut self, message: &Value, log: &Log) {
        let kind = message["type"].as_str().unwrap();
        assert_eq!(self.welcomed, kind != "welcome", "the welcome comes first, and once: {message}");
        match kind {
            "welcome" => self.welcomed = true,
            "pong" => {}
            "subscribed" => self.come(message),
            "unsubscribed" => drop(self.rooms.remove(room_of(message))),
            "message" | "price" => self.hear_message(message, log),
            "gap" => self.hear_gap(message),
            "join" | "leave" => {
                let room = room_of(message);
                assert!(self.rooms.contains_key(room), "not in {room}: {message}");
                let who = message["clientId"].as_str().unwrap();
                assert_ne!(who, self.id.to_string(), "nobody is told of their own coming and going");
            }
            "presence_change" => {
                assert!(self.rooms.contains_key(room_of(message)), "not in that room: {message}");
                let changes = |side: &str| message[side].as_u64().unwrap();
                assert!(changes("joinedCount") + changes("leftCount") > 0, "nothing to tell: {message}");
            }
            "ack" | "error" => self.hear_answer(message, log),
            other => panic!("nobody asked for {other}: {message}"),
        }
    }

    fn come(&mut self, message: &Value) {
        let (epoch, offset) = place_of(message);
        let room = room_of(message).to_owned();
        match self.rooms.get_mut(&room) {
            // Asked again: the same place, but for what was dropped.
            Some(place) if place.epoch == epoch => {
                assert!(offset >= place.at, "back from {} to {offset}", place.at);
                place.missing += offset - place.at;
                place.at = offset;
                assert!(place.missing == 0 || self.slow, "a fast client misses {}: {message}", place.missing);
            }
            Some(place) => panic!("{room} changed its epoch from {} to {epoch} under a member", place.epoch),
            None => {
                let place = Place { epoch, at: offset, missing: 0, numbers: HashSet::new() };
                self.rooms.insert(room, place);
            }
        }
    }

    fn hear_message(&mut self, message: &Value, log: &Log) {
        let (epoch, offset) = place_of(message);
        let number = number_in(&message["data"]);
        let Some(place) = self.rooms.get_mut(room_of(message)) else { panic!("not in that room: {message}") };
        assert_eq!(place.epoch, epoch, "{message}");
        assert!(offset > place.at, "{offset} after {}", place.at);
        place.missing += offset - place.at - 1;
        place.at = offset;
        assert!(place.missing == 0 || self.slow, "a fast client misses {}: {message}", place.missing);
        assert!(place.numbers.insert(number), "{number} came twice");
        log.agree(epoch, offset, number);
    }

    fn hear_gap(&mut self, message: &Value) {
        assert!(self.slow, "a fast client has no gap: {message}");
        let (epoch, offset) = place_of(message);
        let Some(place) = self.rooms.get_mut(room_of(message)) else { panic!("not in that room: {message}") };
        assert_eq!(place.epoch, epoch, "{message}");
        assert!(offset >= place.at, "a gap that ends at {offset}, before {}", place.at);
        place.missing += offset - place.at;
        place.at = offset;
        assert_eq!(message["missed"], place.missing, "the gap says what is missing: {message}");
        place.missing = 0;
    }

    /// Publishes are answered in their order, each once.
    fn hear_answer(&mut self, message: &Value, log: &Log) {
        let id = message["id"].as_u64().unwrap();
        assert_eq!(id, self.answered + 1, "{message}");
        self.answered = id;
        let number = self.unanswered.remove(&id).unwrap();
        if message["type"] == "ack" {
            let (epoch, offset) = place_of(message);
            log.agree(epoch, offset, number);
        } else {
            assert_eq!(message["error"], "not_subscribed", "{message}");
        }
    }

    /// What this client lacks when the storm is over and it has read everything; `None` when nothing.
    pub(crate) fn behind(&self, heads: &HashMap<&str, Option<Position>>, pushed: u64) -> Option<String> {
        if self.leaving {
            return self.ended.is_none().then(|| "whoever has said goodbye is not let go".to_owned());
        }
        if !self.unsent.is_empty() || !self.unanswered.is_empty() {
            return Some(format!("{} publishes are unanswered", self.unanswered.len()));
        }
        if self.pushes != pushed {
            return Some(format!("{} of {pushed} pushes came", self.pushes));
        }
        let lacking = |(room, place): (&String, &Place)| {
            let head =
                heads[room.as_str()].filter(|head| format!("{:016x}", head.epoch.as_u64()) == place.epoch);
            let head = head.map_or(0, |head| head.offset);
            (place.at < head || place.missing > 0)
                .then(|| format!("{room}: at {} of {head}, {} missing", place.at, place.missing))
        };
        self.rooms.iter().find_map(lacking)
    }
}

fn room_of(message: &Value) -> &str {
    message["room"].as_str().unwrap()
}

fn place_of(message: &Value) -> (String, u64) {
    (message["epoch"].as_str().unwrap().to_owned(), message["offset"].as_u64().unwrap())
}
