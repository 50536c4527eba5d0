//! The conformance suite of clients (`docs/clients/conformance`) against this one: paused time, a server in memory.
//!
//! Every case runs, except those that are about what this client does not have or does otherwise; they are named below,
//! with the reason. The suite lies beside the crate in the repository, and is not part of the published package.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::Stream as _;
use outspoke_protocol::Disconnect;
use outspoke_websocket::Opcode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::core::Ending;
use crate::core::outbox::Again;
use crate::core::rooms::{Start, Subscription as Wish};
use crate::event::Changed;
use crate::peer::{Caller, FromClient, Lan, Peer};
use crate::queue::Queue;
use crate::{
    Backoff, Client, ConnectionState, Error, Event, GapReason, Message, Overflow, Publication, Recover,
    Subscription, TokenReason,
};

/// Cases that are passed over, and why.
const PASSED_OVER: &[(&str, &str)] = &[
    ("connect_after_close_begins_anew", "a closed client stays closed: another one is built"),
    ("closed_by_the_server_keeps_the_outbox_for_the_next_connect", "the same"),
    ("leaving_fails_what_waits", "dropping a stream takes no message of the outbox back"),
    ("receipts_of_others_move_it_to_delivered_and_seen", "receipts are events of the room's stream"),
    ("receipts_of_another_log_mean_nothing", "the same"),
    ("places_read_are_said_again_after_a_loss", "`seen` is a request that lasts until it is answered"),
    ("as_the_first_message", "the token is shown in the handshake"),
    ("to_a_user_it_is_direct", "conversations are followed without being opened one by one"),
    ("the_server_puts_a_private_conversation_in_place", "the same"),
];

/// Steps whose cases are passed over: a program is not told by the system that the network is away, or that it woke.
const STEPS_PASSED_OVER: [&str; 2] = ["network", "wake"];

#[tokio::test(start_paused = true)]
async fn client_keeps_to_the_conformance_suite() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/clients/conformance");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not part of the package", folder.display());
        return;
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let (mut passed, mut failures) = (0, Vec::new());
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let suite: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for case in suite["cases"].as_array().unwrap() {
            let title = case["name"].as_str().unwrap();
            let mut steps = case["steps"].as_array().unwrap().iter();
            let other = |step: &Value| STEPS_PASSED_OVER.iter().any(|kind| !step[*kind].is_null());
            if PASSED_OVER.iter().any(|(case, _)| *case == title) || steps.any(other) {
                continue;
            }
            match run(case).await {
                Ok(()) => passed += 1,
                Err(why) => failures.push(format!("{name}: {title}: {why}")),
            }
        }
    }
    assert!(failures.is_empty(), "{passed} passed, {} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(passed > 100, "only {passed} cases were found");
}

async fn run(case: &Value) -> Result<(), String> {
    let mut world = World::new(&case["options"]);
    world.settle().await;
    for (number, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        let (kind, value) = step.as_object().unwrap().iter().next().unwrap();
        let done = if kind == "expect" { world.expect(value) } else { world.act(kind, value, step).await };
        done.map_err(|why| format!("step {} {step}: {why}", number + 1))?;
        world.settle().await;
    }
    Ok(())
}

/// A connection as the server sees it.
enum Line {
    Calling(Caller),
    Open(Peer),
    Gone,
}

/// Everything around a client, and the client.
struct World {
    client: Client,
    lan: Lan,
    lines: Vec<Line>,
    sockets: usize,
    request: Option<http::Request<()>>,
    url: String,
    closed: bool,
    sent: Vec<Value>,
    random: Arc<Mutex<VecDeque<f64>>>,
    asked: Arc<Mutex<Vec<TokenReason>>>,
    streams: BTreeMap<String, Subscription<Value>>,
    events: Vec<Value>,
    publications: HashMap<String, Said>,
    requests: HashMap<String, Asked>,
    names: HashMap<String, Value>,
}

enum Said {
    UnderWay(Publication),
    Done(Value),
}

enum Asked {
    UnderWay(JoinHandle<Result<String, Error>>),
    Done(Value),
}

impl World {
    fn new(options: &Value) -> Self {
        let (dialer, lan) = Lan::new();
        let random: Arc<Mutex<VecDeque<f64>>> = Arc::default();
        let asked: Arc<Mutex<Vec<TokenReason>>> = Arc::default();
        let millis = |value: &Value, or: u64| Duration::from_millis(value.as_u64().unwrap_or(or));
        let reconnect = &options["reconnect"];
        let mut backoff =
            Backoff::full_jitter(millis(&reconnect["baseMs"], 1000)..=millis(&reconnect["capMs"], 30_000));
        if reconnect == false {
            backoff = backoff.attempts_max(0);
        } else if let Some(attempts) = reconnect["maxAttempts"].as_u64() {
            backoff = backoff.attempts_max(attempts.try_into().unwrap());
        }
        let outbox = &options["outbox"];
        let overflow = match outbox["overflow"].as_str() {
            Some("drop-oldest") => Overflow::DropOldest,
            _ => Overflow::Reject,
        };
        let numbers = Arc::clone(&random);
        let mut builder = Client::builder(options["url"].as_str().unwrap_or("ws://h/ws"))
            .dialer(dialer)
            .reconnect(backoff)
            .random(move || {
                let number = numbers.lock().unwrap().pop_front().unwrap_or(0.5);
                (number * 2_f64.powi(64)) as u64
            })
            .outbox(outbox["max"].as_u64().unwrap_or(1024).try_into().unwrap(), overflow)
            .message_ttl(millis(&outbox["ttlMs"], 300_000));
        match &options["watchdog"] {
            Value::Bool(false) => builder = builder.watchdog(Duration::ZERO),
            watchdog => builder = builder.watchdog(millis(&watchdog["graceMs"], 10_000)),
        }
        match &options["token"] {
            Value::String(token) => builder = builder.token(token),
            Value::Array(tokens) => {
                let (tokens, asked) = (Mutex::new(VecDeque::from(tokens.clone())), Arc::clone(&asked));
                builder = builder.token_provider(move |why| {
                    asked.lock().unwrap().push(why);
                    let token = tokens.lock().unwrap().pop_front().expect("a token is left");
                    async move { token.as_str().map(str::to_owned).ok_or("no token to be had") }
                });
            }
            _ => {}
        }
        Self {
            client: builder.build().unwrap(),
            lan,
            lines: Vec::new(),
            sockets: 0,
            request: None,
            url: String::new(),
            closed: false,
            sent: Vec::new(),
            random,
            asked,
            streams: BTreeMap::new(),
            events: Vec::new(),
            publications: HashMap::new(),
            requests: HashMap::new(),
            names: HashMap::new(),
        }
    }

    /// Lets everybody do what they can do without time passing.
    async fn settle(&mut self) {
        for _ in 0..20 {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            while self.lan.rings() {
                let caller = self.lan.pick_up().await;
                self.sockets += 1;
                self.closed = false;
                self.url = self.lan.url.take().unwrap().to_string();
                let mut request = http::Request::new(());
                *request.headers_mut() = caller.request.headers().clone();
                self.request = Some(request);
                self.lines.push(Line::Calling(caller));
            }
            self.listen();
        }
        for (room, stream) in &mut self.streams {
            let mut context = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(event)) = Pin::new(&mut *stream).poll_next(&mut context) {
                self.events.extend(event.ok().and_then(|event| described(room, event)));
            }
        }
    }

    /// Takes in what the client has sent.
    fn listen(&mut self) {
        let newest = self.lines.len();
        for (number, line) in self.lines.iter_mut().enumerate() {
            let Line::Open(peer) = line else { continue };
            while let Some(received) = peer.now() {
                match received {
                    FromClient::Text(text) => self.sent.push(serde_json::from_str(&text).unwrap()),
                    FromClient::Binary(bytes) => {
                        let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                        let header: Value = serde_json::from_slice(&bytes[2..2 + length]).unwrap();
                        let payload = STANDARD.encode(&bytes[2 + length..]);
                        self.sent.push(json!({ "$binary": header, "payload": payload }));
                    }
                    FromClient::Ping | FromClient::Pong => {}
                    FromClient::Close(_) | FromClient::End => {
                        self.closed |= number + 1 == newest;
                        *line = Line::Gone;
                        break;
                    }
                }
            }
        }
    }

    fn peer(&mut self) -> Result<&mut Peer, String> {
        match self.lines.last_mut() {
            Some(Line::Open(peer)) => Ok(peer),
            _ => Err("there is no open socket".to_owned()),
        }
    }

    async fn act(&mut self, kind: &str, value: &Value, step: &Value) -> Result<(), String> {
        let shared = Arc::clone(&self.client.handle().shared);
        match kind {
            "connect" => shared.order(|core| core.wanted = true),
            "close" => shared.order(|core| core.ending = Some(Ending::Now)),
            "retryNow" => self.client.retry_now(),
            "random" => {
                let numbers = value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
                self.random.lock().unwrap().extend(numbers);
            }
            "advance" => tokio::time::sleep(Duration::from_millis(value.as_u64().unwrap())).await,
            "open" => {
                let Some(Line::Calling(caller)) = self.lines.pop() else {
                    return Err("nobody calls".to_owned());
                };
                let protocol = value["protocol"].as_str().unwrap_or("outspoke.v1.binary");
                self.lines.push(Line::Open(caller.upgrade(protocol).await));
            }
            "refuse" => {
                let Some(Line::Calling(caller)) = self.lines.pop() else {
                    return Err("nobody calls".to_owned());
                };
                if let Some(status) = value["status"].as_u64() {
                    caller.reject(status.try_into().unwrap()).await;
                }
                self.lines.push(Line::Gone);
            }
            "frame" => {
                let frame = self.resolved(value).to_string();
                self.peer()?.send_text(&frame).await;
            }
            "raw" => self.peer()?.send_text(value.as_str().unwrap()).await,
            "binary" => {
                let header = self.resolved(&value["header"]).to_string();
                let mut frame = u16::try_from(header.len()).unwrap().to_be_bytes().to_vec();
                frame.extend_from_slice(header.as_bytes());
                frame.extend(STANDARD.decode(value["payload"].as_str().unwrap()).unwrap());
                self.peer()?.send(Opcode::Binary, &frame).await;
            }
            "drop" => self.hang_up(value).await,
            "join" => self.join(value.as_str().unwrap(), &step["options"]),
            "leave" => drop(self.streams.remove(value.as_str().unwrap())),
            "publish" => self.publish(value),
            "cancel" => {
                let id = value.as_str().unwrap();
                if let Some(Said::UnderWay(publication)) = self.publications.remove(id)
                    && publication.cancel()
                {
                    let failed = json!({ "state": "failed", "error": "cancelled" });
                    self.publications.insert(id.to_owned(), Said::Done(failed));
                }
            }
            "request" => {
                let mut request = value["fields"].as_object().cloned().unwrap_or_default();
                request.insert("type".to_owned(), value["type"].clone());
                let client = self.client.clone();
                let asked = async move { client.ask(None, Again::Never, Value::Object(request)).await };
                let name = value["as"].as_str().unwrap().to_owned();
                self.requests.insert(name, Asked::UnderWay(tokio::spawn(asked)));
            }
            other => return Err(format!("{other} is no step that is known")),
        }
        Ok(())
    }

    async fn hang_up(&mut self, value: &Value) {
        let number = value["socket"].as_u64().map_or(self.lines.len(), |number| number.try_into().unwrap());
        let line = std::mem::replace(&mut self.lines[number - 1], Line::Gone);
        if let Line::Open(mut peer) = line {
            let code = value["code"].as_u64().unwrap();
            // 1005 and 1006 are never sent: they stand for a connection that ends without a code.
            if !matches!(code, 1005 | 1006) {
                peer.close(code.try_into().unwrap(), value["reason"].as_str().unwrap_or_default()).await;
            }
        }
    }

    fn join(&mut self, room: &str, options: &Value) {
        let shared = &self.client.handle().shared;
        if let Some(token) = options["token"].as_str() {
            drop(self.client.room::<Value>(room).token(token));
        }
        let start = match (&options["since"], options["last"].as_u64()) {
            (since @ Value::Object(_), _) => Start::Since(serde_json::from_value(since.clone()).unwrap()),
            (_, Some(count)) => Start::Last(count.try_into().unwrap()),
            _ => Start::Live,
        };
        let recover = match options["recover"].as_str() {
            Some("latest") => Recover::Latest,
            Some("none") => Recover::None,
            _ => Recover::Replay,
        };
        let queue = Arc::new(Queue::new(1024));
        let wish = Wish { queue: Arc::clone(&queue), start, recover, ready: None, shared: false };
        shared.order(|core| {
            let wanted = core.wanted;
            core.subscribe(&room.into(), wish).unwrap();
            // In the suite, only `connect` connects.
            core.wanted = wanted;
        });
        self.streams.insert(room.to_owned(), Subscription::new(self.client.clone(), queue));
    }

    fn publish(&mut self, value: &Value) {
        let id = value["id"].as_str().unwrap();
        let (room, data) = (self.client.room::<Value>(value["room"].as_str().unwrap()), &value["data"]);
        let event = value["type"].as_str().unwrap();
        let publish = match (event, value["bytes"].as_str()) {
            (event, Some(bytes)) => room.publish_bytes(STANDARD.decode(bytes).unwrap()).event(event),
            ("chat", None) => room.chat(data["content"].as_str().unwrap()),
            ("message", None) => room.publish(data),
            (event, None) => room.publish_as(event, data),
        };
        let publish = if value["volatile"] == true { publish.volatile() } else { publish };
        let shared = Arc::clone(&self.client.handle().shared);
        let wanted = shared.with(|core| core.wanted);
        let said = match publish.id(id).submit() {
            Ok(publication) => Said::UnderWay(publication),
            Err(error) => Said::Done(json!({ "state": "failed", "error": reason(&error) })),
        };
        shared.with(|core| core.wanted = wanted);
        self.publications.insert(id.to_owned(), said);
    }

    /// A value of the script, with the names in it replaced by what they are bound to.
    fn resolved(&self, value: &Value) -> Value {
        match value {
            Value::String(text) if text.starts_with('$') => self.names.get(text).unwrap_or(value).clone(),
            Value::Array(items) => items.iter().map(|item| self.resolved(item)).collect(),
            Value::Object(fields) => {
                fields.iter().map(|(name, field)| (name.clone(), self.resolved(field))).collect()
            }
            other => other.clone(),
        }
    }

    fn expect(&mut self, expected: &Value) -> Result<(), String> {
        for (field, wanted) in expected.as_object().unwrap() {
            let found = self.found(field, wanted);
            if !self.matches(wanted, &found) {
                return Err(format!("expected {field} {wanted}, found {found}"));
            }
        }
        Ok(())
    }

    fn found(&mut self, field: &str, wanted: &Value) -> Value {
        let names =
            || wanted.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        match field {
            "state" => state(&self.client.state().borrow()),
            "sockets" => json!(self.sockets),
            "url" => {
                let query = self.url.split_once('?').map_or("", |(_, query)| query);
                query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k, json!(v))).collect()
            }
            "at" => {
                let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
                json!(rest.split('?').next())
            }
            "protocols" => self.protocols(),
            "closed" => json!(self.closed),
            "frames" => Value::Array(std::mem::take(&mut self.sent)),
            "events" => Value::Array(std::mem::take(&mut self.events)),
            "rooms" => {
                let shared = &self.client.handle().shared;
                names()
                    .into_iter()
                    .map(|room| (room.clone(), json!(shared.with(|core| core.room(&room)))))
                    .collect()
            }
            "position" => {
                let position = |room: &String| json!(self.streams.get(room).and_then(Subscription::position));
                names().into_iter().map(|room| (room.clone(), position(&room))).collect()
            }
            "publications" => {
                names().into_iter().map(|id| (id.clone(), self.publication(&id, &wanted[&id]))).collect()
            }
            "requests" => names().into_iter().map(|name| (name.clone(), self.request(&name))).collect(),
            "tokens" => {
                let asked = std::mem::take(&mut *self.asked.lock().unwrap());
                asked.iter().map(|why| format!("{why:?}").to_lowercase()).collect()
            }
            "error" => match &*self.client.state().borrow() {
                ConnectionState::Closed { error } => json!(error.as_ref().map(reason)),
                _ => Value::Null,
            },
            other => panic!("{other} is no expectation that is known"),
        }
    }

    /// The subprotocols; the token, which this client shows in a header, as what the suite has for it.
    fn protocols(&self) -> Value {
        let headers = self.request.as_ref().unwrap().headers();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let mut all: Vec<String> =
            text("sec-websocket-protocol").unwrap_or_default().split(", ").map(str::to_owned).collect();
        if let Some(token) = text("authorization") {
            all.push(format!("outspoke.bearer.{}", token.strip_prefix("Bearer ").unwrap()));
        }
        json!(all)
    }

    fn publication(&mut self, id: &str, wanted: &Value) -> Value {
        let Some(said) = self.publications.get_mut(id) else { return Value::Null };
        if let Said::UnderWay(publication) = said {
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(publication).poll(&mut context) {
                Poll::Pending => {
                    let sent = self.client.handle().shared.with(|core| core.outbox.is_sent(id));
                    return if sent { "sent".into() } else { "queued".into() };
                }
                Poll::Ready(Ok(ack)) => {
                    let answer: Value = serde_json::from_str(&ack.json).unwrap();
                    let position = ack.position;
                    *said = Said::Done(json!({ "state": "acked", "ack": {
                        "id": &*ack.message, "room": &*ack.room, "duplicate": ack.duplicate, "answer": answer,
                        "epoch": position.map(|position| position.epoch),
                        "offset": position.map(|position| position.offset),
                    }}));
                }
                Poll::Ready(Err(error)) => {
                    *said = Said::Done(json!({ "state": "failed", "error": reason(&error) }));
                }
            }
        }
        match said {
            Said::Done(done) if wanted.is_string() => done["state"].clone(),
            Said::Done(done) => done.clone(),
            Said::UnderWay(_) => Value::Null,
        }
    }

    fn request(&mut self, name: &str) -> Value {
        let Some(asked) = self.requests.get_mut(name) else { return Value::Null };
        if let Asked::UnderWay(task) = asked {
            let mut context = Context::from_waker(Waker::noop());
            *asked = match Pin::new(task).poll(&mut context) {
                Poll::Pending => return "waiting".into(),
                Poll::Ready(Ok(Ok(answer))) => {
                    Asked::Done(json!({ "answer": serde_json::from_str::<Value>(&answer).unwrap() }))
                }
                Poll::Ready(Ok(Err(error))) => Asked::Done(json!({ "error": reason(&error) })),
                Poll::Ready(Err(panic)) => panic!("{panic}"),
            };
        }
        match asked {
            Asked::Done(done) => done.clone(),
            Asked::UnderWay(_) => Value::Null,
        }
    }

    fn matches(&mut self, wanted: &Value, found: &Value) -> bool {
        match wanted {
            Value::String(name) if name.starts_with('$') && name != "$gap" => match self.names.get(name) {
                Some(bound) => bound == found,
                None => {
                    self.names.insert(name.clone(), found.clone());
                    true
                }
            },
            Value::Array(items) => {
                let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
                items.len() == found.len()
                    && items.iter().zip(found).all(|(wanted, found)| self.matches(wanted, found))
            }
            Value::Object(fields) => fields.iter().all(|(name, wanted)| match found.get(name) {
                None => wanted["$absent"] == true || wanted.is_null(),
                Some(found) => wanted["$absent"] != true && self.matches(wanted, found),
            }),
            plain => plain == found,
        }
    }
}

fn state(state: &ConnectionState) -> Value {
    match state {
        ConnectionState::Idle => json!({ "status": "idle" }),
        ConnectionState::Connecting { attempt } => json!({ "status": "connecting", "attempt": attempt }),
        ConnectionState::Online(session) => json!({
            "status": "online",
            "session": &*session.client,
            "resumed": session.resumed,
            "node": session.node.as_deref(),
            "rttMs": session.rtt.map(|rtt| rtt.as_millis()),
        }),
        ConnectionState::Offline { cause, attempt, retry_at, queued, .. } => {
            let wait = retry_at.saturating_duration_since(Instant::now()).as_secs_f64();
            json!({
                "status": "offline",
                "cause": format!("{cause:?}").to_lowercase(),
                "attempt": attempt,
                "retryIn": (wait * 1000.0).round() as u64,
                "queued": queued,
            })
        }
        ConnectionState::Closed { .. } => json!({ "status": "closed" }),
    }
}

/// The suite's name for an error.
fn reason(error: &Error) -> String {
    let name = match error {
        Error::Disconnected { code, .. } => {
            return Disconnect::from_code(*code)
                .map_or_else(|| format!("close_{code}"), |code| code.name().to_owned());
        }
        Error::Refused(refusal) => return refusal.name.clone(),
        Error::Removed { refusal, .. } => {
            return refusal.as_ref().map_or("left".to_owned(), |r| r.name.clone());
        }
        Error::Rejected { status: 401, .. } => "unauthorized",
        Error::Rejected { .. } => "forbidden",
        Error::GaveUp(_) => "gave_up",
        Error::OutboxFull { .. } | Error::Dropped => "outbox_full",
        Error::TimedOut { sent: false } => "expired",
        Error::TimedOut { sent: true } => "unconfirmed",
        Error::NotConnected => "offline",
        Error::Interrupted => "connection_lost",
        Error::TooLarge { .. } => "too_large",
        Error::Unsupported(_) => "unsupported_frame",
        Error::Closed => "closed",
        other => return format!("{other:?}"),
    };
    name.to_owned()
}

/// An event as the suite has it; `None` for what it does not know.
fn described(room: &str, event: Event<Value>) -> Option<Value> {
    fn message<T>(message: &Message<T>, data: Value) -> Value {
        let from =
            message.from.as_ref().map(|from| json!({ "userId": &*from.user, "username": &*from.name }));
        let position = message.position;
        json!({
            "room": message.room.as_deref(), "type": &*message.kind, "id": &*message.id, "from": from,
            "to": message.to.as_deref(), "replayed": message.replayed, "data": data,
            "epoch": position.map(|position| position.epoch),
            "offset": position.map(|position| position.offset),
        })
    }
    Some(match event {
        Event::Message(said) => message(&said, said.body.clone()),
        Event::Chat(said) | Event::System(said) => message(&said, json!({ "content": said.body })),
        Event::Bytes(said) => message(&said, json!({ "$bytes": STANDARD.encode(&said.body) })),
        Event::Changed(said) => {
            let mut data = match &said.body.what {
                Changed::Text(text) => json!({ "content": text }),
                Changed::Data(data) => json!({ "data": data }),
                Changed::Reaction { reaction, removed } => {
                    json!({ "reaction": reaction, "removed": removed })
                }
                Changed::Deleted => json!({}),
            };
            data["target"] = json!(said.body.target);
            message(&said, data)
        }
        Event::Gap(gap) => json!({
            "room": room, "type": "$gap", "from": gap.from, "to": gap.to, "missed": gap.missed,
            "reason": match gap.reason {
                GapReason::Expired => "expired",
                GapReason::Epoch => "epoch",
                GapReason::Overflow => "overflow",
                GapReason::Lost => "lost",
                GapReason::Skipped => "skipped",
            },
        }),
        Event::Join(member) => {
            json!({ "room": room, "type": "join", "data": { "clientId": &*member.client } })
        }
        Event::Typing(typing) => json!({
            "room": room, "type": "typing",
            "data": { "active": typing.active, "expiresAfter": typing.expires_after.as_millis() },
        }),
        Event::Receipt(receipt) => json!({
            "room": room, "type": "receipt", "offset": null,
            "data": {
                "userId": &*receipt.user, "receipt": format!("{:?}", receipt.kind).to_lowercase(),
                "offset": receipt.position.offset,
            },
        }),
        _ => return None,
    })
}
