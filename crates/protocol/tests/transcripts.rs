//! Replays every transcript through the dialects.
//!
//! Between decode and encode sits a small model of a hub: rooms, offsets, announcements, with a counter for
//! ids and a clock that stands still. A line that a dialect reads or writes otherwise than the transcript
//! says fails here, before any server is built.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::transcript::{self, Captures, Step};
use outspoke_protocol::{
    Acknowledgement, Body, BodyRef, ClientId, Command, Dialect, Epoch, ErrorCode, Event, Kind, Message,
    MessageId, Payload, Position, Publisher, Refusal, RequestId, RoomName, Timestamp, UserId, Welcome,
    dialects,
};

const NOW: Timestamp = Timestamp::from_millis(1_767_090_600_000);
const EPOCH: Epoch = Epoch::from_u64(0x5ac1_d54f_0b7c_9e21);

struct ModelClient {
    dialect: Arc<dyn Dialect>,
    publisher: Publisher,
    default_room: Option<RoomName>,
    received: VecDeque<String>,
}

#[derive(Default)]
struct ModelRoom {
    members: Vec<String>,
    offset: u64,
}

#[derive(Default)]
struct ModelHub {
    clients: BTreeMap<String, ModelClient>,
    rooms: HashMap<RoomName, ModelRoom>,
    ids: u128,
}

impl ModelHub {
    fn next_id(&mut self) -> u128 {
        self.ids += 1;
        (0x7 << 76) | (0x2 << 62) | self.ids
    }

    fn connect(&mut self, name: &str, dialect: &str, query: &str) {
        let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let default_room = match query.get("join") {
            Some(&"none") => None,
            Some(room) => Some(room_name(room).unwrap()),
            None => Some(room_name("lobby").unwrap()),
        };
        let publisher = Publisher {
            user: UserId::new(query["userId"]),
            name: query["username"].into(),
            client: ClientId::from_u128(self.next_id()),
        };
        let welcome = Welcome {
            client: publisher.client,
            user: publisher.user.clone(),
            name: publisher.name.clone(),
            ts: NOW,
            ping_interval: Duration::from_secs(54),
            message_bytes_max: 8192,
            open_mode: true,
        };
        let dialect = dialects::standard().into_iter().find(|known| known.name() == dialect).unwrap();
        let client =
            ModelClient { dialect, publisher, default_room: default_room.clone(), received: VecDeque::new() };
        self.clients.insert(name.to_owned(), client);
        self.tell(name, &Event::Welcome(Box::new(welcome)));
        if let Some(room) = default_room {
            self.subscribe(name, None, room);
        }
    }

    fn close(&mut self, name: &str) {
        for room in self.rooms_of(name) {
            self.remove(name, &room);
        }
        self.clients.remove(name);
    }

    fn receive(&mut self, name: &str, text: &str) {
        let dialect = Arc::clone(&self.clients[name].dialect);
        let refused = match dialect.decode(Payload::Text(text)) {
            Ok(request) => {
                let id = request.id.clone();
                self.obey(name, request.id, request.command).err().map(|refusal| refusal.answering(id))
            }
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = refused {
            self.tell(name, &Event::Refused(refusal));
        }
    }

    fn obey(&mut self, name: &str, id: Option<RequestId>, command: Command<'_>) -> Result<(), Refusal> {
        match command {
            Command::Ping => self.tell(name, &Event::Pong { request: id }),
            Command::Subscribe { room, .. } => self.subscribe(name, id, room_name(&room)?),
            Command::Unsubscribe { room } => self.unsubscribe(name, id, &room_name(&room)?),
            Command::Publish { room, kind, body } => {
                let room = match room {
                    Some(room) => room_name(&room)?,
                    None => self.clients[name]
                        .default_room
                        .clone()
                        .ok_or_else(|| Refusal::new(ErrorCode::RoomRequired, "which room?"))?,
                };
                if !self.rooms_of(name).contains(&room) {
                    return Err(Refusal::new(ErrorCode::NotSubscribed, "subscribe first"));
                }
                self.publish(name, id, room, kind, &body);
            }
            Command::Custom { name: unknown, .. } => {
                return Err(Refusal::new(ErrorCode::UnknownType, format!("no handler for type {unknown:?}")));
            }
            other => panic!("the model does not know {other:?}"),
        }
        Ok(())
    }

    fn subscribe(&mut self, name: &str, request: Option<RequestId>, room: RoomName) {
        let entry = self.rooms.entry(room.clone()).or_default();
        let known = entry.members.iter().any(|member| member == name);
        if !known {
            entry.members.push(name.to_owned());
        }
        let (position, members) = (Position { epoch: EPOCH, offset: entry.offset }, entry.members.len());
        self.tell(name, &Event::Subscribed { request, room: room.clone(), position, members });
        if !known {
            self.announce(name, &room, Kind::Join);
        }
    }

    fn unsubscribe(&mut self, name: &str, request: Option<RequestId>, room: &RoomName) {
        self.remove(name, room);
        self.tell(name, &Event::Unsubscribed { request, room: room.clone() });
    }

    fn remove(&mut self, name: &str, room: &RoomName) {
        self.rooms.get_mut(room).unwrap().members.retain(|member| member != name);
        self.announce(name, room, Kind::Leave);
    }

    fn announce(&mut self, name: &str, room: &RoomName, kind: Kind) {
        let message = self.message(name, room, None, kind, Body::Empty);
        for member in self.rooms[room].members.clone() {
            if member != name {
                self.tell(&member, &Event::Message(message.clone()));
            }
        }
    }

    fn publish(&mut self, name: &str, id: Option<RequestId>, room: RoomName, kind: Kind, body: &BodyRef<'_>) {
        let entry = self.rooms.get_mut(&room).unwrap();
        entry.offset += 1;
        let position = Position { epoch: EPOCH, offset: entry.offset };
        let body = match body {
            BodyRef::Text(text) => Body::Text(text.as_ref().into()),
            BodyRef::Json(data) => Body::Json(Bytes::copy_from_slice(data.get().as_bytes())),
            BodyRef::Binary(bytes) => Body::Binary(Bytes::copy_from_slice(bytes)),
        };
        let message = self.message(name, &room, Some(position), kind, body);
        if let Some(request) = id {
            let (id, ts) = (message.id, message.ts);
            let acknowledgement =
                Acknowledgement { request, room: room.clone(), id, position, ts, duplicate: false };
            self.tell(name, &Event::Acknowledged(acknowledgement));
        }
        for member in self.rooms[&room].members.clone() {
            self.tell(&member, &Event::Message(message.clone()));
        }
    }

    fn message(
        &mut self,
        name: &str,
        room: &RoomName,
        position: Option<Position>,
        kind: Kind,
        body: Body,
    ) -> Message {
        Message {
            id: MessageId::from_u128(self.next_id()),
            room: Some(room.clone()),
            position,
            kind,
            from: Some(self.clients[name].publisher.clone()),
            ts: NOW,
            body,
        }
    }

    fn rooms_of(&self, name: &str) -> Vec<RoomName> {
        let is_in = |room: &ModelRoom| room.members.iter().any(|member| member == name);
        self.rooms.iter().filter(|(_, room)| is_in(room)).map(|(room, _)| room.clone()).collect()
    }

    fn tell(&mut self, name: &str, event: &Event) {
        let client = self.clients.get_mut(name).unwrap();
        let mut out = Vec::new();
        client.dialect.encode(event, &mut out).unwrap();
        client.received.push_back(String::from_utf8(out).unwrap());
    }
}

fn room_name(text: &str) -> Result<RoomName, Refusal> {
    RoomName::new(text, 128).map_err(|wrong| Refusal::new(ErrorCode::InvalidRoom, wrong.to_string()))
}

fn replay(name: &str, text: &str) {
    let mut hub = ModelHub::default();
    let mut captures = Captures::default();
    for step in transcript::parse(text).unwrap_or_else(|error| panic!("{name}: {error}")) {
        match step {
            Step::Connect { client, dialect, query } => hub.connect(&client, &dialect, &query),
            Step::Close { client } => hub.close(&client),
            Step::Send { client, text } => hub.receive(&client, &captures.fill(&text).unwrap()),
            Step::Expect { client, group } => {
                let received: Vec<String> =
                    hub.clients.get_mut(&client).unwrap().received.drain(..).collect();
                if let Err(mismatch) = group.verify(&received, &mut captures) {
                    panic!("{name}, {client}: {mismatch}");
                }
            }
        }
    }
    for (client, state) in hub.clients {
        assert!(
            state.received.is_empty(),
            "{name}: {client} received more than written: {:?}",
            state.received
        );
    }
}

/// The documentation shows these lines: a reader who types them must get these answers.
#[test]
fn transcripts_are_what_the_dialects_read_and_write() {
    for (name, text) in transcript::SHIPPED {
        replay(name, text);
    }
}

#[test]
fn transcripts_all_ship() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut shipped: Vec<&str> = transcript::SHIPPED.iter().map(|(name, _)| *name).collect();
    files.sort();
    shipped.sort_unstable();
    assert_eq!(
        files, shipped,
        "a file in transcripts/ is missing in transcript::SHIPPED, or the other way round"
    );
}

/// Placeholders stand in for JSON values, so every line is JSON by itself.
#[test]
fn transcripts_server_lines_are_valid_json() {
    for (name, text) in transcript::SHIPPED {
        for line in text.lines() {
            if let Some((_, json)) = line.split_once("< ").or_else(|| line.split_once("<~ ")) {
                serde_json::from_str::<serde_json::Value>(json)
                    .unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
            }
        }
    }
}
