//! A small model of a hub, between decode and encode: rooms, offsets, announcements, with a counter for ids and a clock
//! that stands still.

mod memory;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memory::Cursors;
use outspoke_protocol::{
    Acknowledgement, Body, BodyRef, ClientId, Command, Details, Dialect, Durability, Epoch, ErrorCode, Event,
    Kind, Message, MessageId, Payload, Position, Publisher, Refusal, RequestId, RoomName, StartFrom,
    Subscribed, Timestamp, UserId, Welcome, dialects,
};

const NOW: Timestamp = Timestamp::from_millis(1_767_090_600_000);
const EPOCH: Epoch = Epoch::from_u64(0x5ac1_d54f_0b7c_9e21);

struct ModelClient {
    dialect: Arc<dyn Dialect>,
    publisher: Publisher,
    device: String,
    default_room: Option<RoomName>,
    received: VecDeque<String>,
}

#[derive(Default)]
struct ModelRoom {
    members: Vec<String>,
    log: Vec<Message>,
    /// What was published under which key.
    keys: HashMap<(UserId, String), usize>,
    cursors: BTreeMap<UserId, Cursors>,
}

impl ModelRoom {
    fn head(&self) -> u64 {
        self.log.len() as u64
    }
}

/// What somebody says, before it has a place.
struct Draft<'a> {
    kind: Kind,
    body: Body,
    details: Details,
    key: Option<&'a str>,
}

impl<'a> Draft<'a> {
    fn new(kind: Kind, body: Body, key: Option<&'a str>) -> Self {
        Self { kind, body, details: Details::default(), key }
    }
}

#[derive(Default)]
pub(crate) struct ModelHub {
    clients: BTreeMap<String, ModelClient>,
    rooms: HashMap<RoomName, ModelRoom>,
    ids: u128,
    keeps_receipts: bool,
}

impl ModelHub {
    /// A hub that does what a transcript needs.
    pub(crate) fn new(needs: &[&str]) -> Self {
        Self { keeps_receipts: needs.contains(&"receipts"), ..Self::default() }
    }

    fn next_id(&mut self) -> u128 {
        self.ids += 1;
        (0x7 << 76) | (0x2 << 62) | self.ids
    }

    pub(crate) fn connect(&mut self, name: &str, dialect: &str, query: &str) {
        let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let text = |key: &str| query.get(key).copied().unwrap_or_default();
        let default_room = match query.get("join") {
            Some(&"none") => None,
            Some(room) => Some(room_name(room).unwrap()),
            None => Some(room_name("lobby").unwrap()),
        };
        let publisher = Publisher {
            user: UserId::new(query["userId"]),
            name: text("username").into(),
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
            expires: None,
            node: None,
        };
        let client = ModelClient {
            dialect: dialects::standard().into_iter().find(|known| known.name() == dialect).unwrap(),
            publisher,
            device: text("device").to_owned(),
            default_room: default_room.clone(),
            received: VecDeque::new(),
        };
        self.clients.insert(name.to_owned(), client);
        self.tell(name, &Event::Welcome(Box::new(welcome)));
        self.tell_of_unread(name);
        if let Some(room) = default_room {
            self.subscribe(name, None, room, StartFrom::Now);
        }
    }

    pub(crate) fn close(&mut self, name: &str) {
        for room in self.rooms_of(name) {
            self.remove(name, &room);
        }
        self.clients.remove(name);
    }

    /// What the client has received since it was last asked.
    pub(crate) fn received(&mut self, name: &str) -> Vec<String> {
        self.clients.get_mut(name).unwrap().received.drain(..).collect()
    }

    /// Clients that have received what nobody asked for.
    pub(crate) fn left_over(&self) -> impl Iterator<Item = (&String, &VecDeque<String>)> {
        let left = self.clients.iter().map(|(name, client)| (name, &client.received));
        left.filter(|(_, received)| !received.is_empty())
    }

    pub(crate) fn receive(&mut self, name: &str, text: &str) {
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
            Command::Subscribe { room, from, .. } => self.subscribe(name, id, room_name(&room)?, from),
            Command::Unsubscribe { room } => self.unsubscribe(name, id, &room_name(&room)?),
            Command::Publish { room, kind, body, key } => {
                let room = self.room_of(name, room.as_deref())?;
                let draft = Self::drafted(kind, &body, key.as_deref())?;
                self.publish(name, id, &room, draft);
            }
            Command::Custom { name: unknown, .. } => {
                return Err(Refusal::new(ErrorCode::UnknownType, format!("no handler for type {unknown:?}")));
            }
            other => return self.remember(name, id, other),
        }
        Ok(())
    }

    /// The room that a request names, or the one that the client started in; it must be in it.
    fn room_of(&self, name: &str, room: Option<&str>) -> Result<RoomName, Refusal> {
        let room = match room {
            Some(room) => room_name(room)?,
            None => self.clients[name]
                .default_room
                .clone()
                .ok_or_else(|| Refusal::new(ErrorCode::RoomRequired, "which room?"))?,
        };
        if self.rooms_of(name).contains(&room) {
            Ok(room)
        } else {
            Err(Refusal::new(ErrorCode::NotSubscribed, "subscribe first"))
        }
    }

    /// What is published, or what a slash command makes of it.
    fn drafted<'k>(kind: Kind, body: &BodyRef<'_>, key: Option<&'k str>) -> Result<Draft<'k>, Refusal> {
        if let BodyRef::Text(text) = body
            && let Some(command) = text.strip_prefix('/')
        {
            let Some(action) = command.strip_prefix("me ") else {
                return Err(Refusal::new(ErrorCode::UnknownCommand, "there is no such command"));
            };
            return Ok(Draft::new(Kind::Action, Body::Text(action.into()), key));
        }
        Ok(Draft::new(kind, owned(body), key))
    }

    fn subscribe(&mut self, name: &str, request: Option<RequestId>, room: RoomName, from: StartFrom) {
        let user = self.clients[name].publisher.user.clone();
        let entry = self.rooms.entry(room.clone()).or_default();
        let known = entry.members.iter().any(|member| member == name);
        if !known {
            entry.members.push(name.to_owned());
        }
        let head = entry.head();
        let (offset, recovered) = match from {
            StartFrom::Now => (head, None),
            StartFrom::After(place) if place.epoch == EPOCH && place.offset <= head => {
                (place.offset, Some(true))
            }
            StartFrom::After(_) => (head, Some(false)),
            StartFrom::Last(last) => (head.saturating_sub(last.into()), None),
        };
        let missed = entry.log[offset as usize..].to_vec();
        let subscribed = Subscribed {
            request,
            position: Position { epoch: EPOCH, offset },
            head,
            first: 1,
            recovered,
            members: entry.members.len(),
            durability: Durability::Memory,
            unread: (self.keeps_receipts || is_private(&room)).then(|| entry.unread(&user)),
            topic: "".into(),
            room: room.clone(),
        };
        self.tell(name, &Event::Subscribed(Box::new(subscribed)));
        for message in missed {
            self.tell(name, &Event::Message(message));
        }
        if !known {
            self.announce(name, &room, Kind::Join);
        }
    }

    fn unsubscribe(&mut self, name: &str, request: Option<RequestId>, room: &RoomName) {
        self.remove(name, room);
        self.tell(name, &Event::Unsubscribed { request, room: room.clone(), because: None });
    }

    fn remove(&mut self, name: &str, room: &RoomName) {
        self.rooms.get_mut(room).unwrap().members.retain(|member| member != name);
        self.announce(name, room, Kind::Leave);
    }

    /// Who has no name is not announced, and conversations announce nobody.
    fn announce(&mut self, name: &str, room: &RoomName, kind: Kind) {
        if self.clients[name].publisher.name.is_empty() || is_private(room) {
            return;
        }
        let message = self.message(name, room, None, Draft::new(kind, Body::Empty, None));
        let members = self.rooms[room].members.clone();
        for member in members.iter().filter(|member| *member != name) {
            self.tell(member, &Event::Message(message.clone()));
        }
    }

    fn publish(&mut self, name: &str, request: Option<RequestId>, room: &RoomName, draft: Draft<'_>) {
        let user = self.clients[name].publisher.user.clone();
        let entry = self.rooms.entry(room.clone()).or_default();
        let next = entry.log.len();
        let (index, duplicate) = match draft.key {
            None => (next, false),
            Some(key) => {
                let index = *entry.keys.entry((user, key.to_owned())).or_insert(next);
                (index, index != next)
            }
        };
        if !duplicate {
            let position = Position { epoch: EPOCH, offset: next as u64 + 1 };
            let message = self.message(name, room, Some(position), draft);
            self.rooms.get_mut(room).unwrap().log.push(message);
        }
        let message = self.rooms[room].log[index].clone();
        if let (Some(request), Some(position)) = (request, message.position) {
            let (id, room, ts) = (message.id, room.clone(), message.ts);
            let acknowledgement = Acknowledgement { request, room, id, position, ts, duplicate };
            self.tell(name, &Event::Acknowledged(acknowledgement));
        }
        if !duplicate {
            for receiver in self.rooms[room].members.clone() {
                self.tell(&receiver, &Event::Message(message.clone()));
            }
        }
    }

    fn message(
        &mut self,
        name: &str,
        room: &RoomName,
        position: Option<Position>,
        draft: Draft<'_>,
    ) -> Message {
        Message {
            id: MessageId::from_u128(self.next_id()),
            room: Some(room.clone()),
            position,
            kind: draft.kind,
            from: Some(self.clients[name].publisher.clone()),
            ts: NOW,
            body: draft.body,
            details: (draft.details != Details::default()).then(|| Box::new(draft.details)),
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

fn owned(body: &BodyRef<'_>) -> Body {
    match body {
        BodyRef::Text(text) => Body::Text(text.as_ref().into()),
        BodyRef::Json(data) => Body::Json(Bytes::copy_from_slice(data.get().as_bytes())),
        BodyRef::Binary(bytes) => Body::Binary(Bytes::copy_from_slice(bytes)),
    }
}

fn is_private(room: &RoomName) -> bool {
    room.as_str().starts_with('@')
}

fn room_name(text: &str) -> Result<RoomName, Refusal> {
    RoomName::new(text, 128).map_err(|wrong| Refusal::new(ErrorCode::InvalidRoom, wrong.to_string()))
}
