//! What a room's stream yields.
//!
//! A frame stays text until the consumer takes it from its queue: it is turned into an [`Event`] there, in the consumer's
//! task, so that a room with expensive types costs the connection nothing. Fields and types that are not known are
//! ignored, as the protocol demands.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use outspoke_protocol::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::error::Error;
use crate::position::{Epoch, Position};
use crate::queue::Item;

/// Something that happened in a room.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<T> {
    /// Data that somebody published; [`Message::kind`] is `message`, or the name it was published under.
    Message(Message<T>),
    /// Text for people; [`Message::kind`] is `chat`, or `action` for what somebody does.
    Chat(Message<String>),
    /// Bytes that somebody published.
    Bytes(Message<Bytes>),
    /// A replayed message that was deleted since.
    Deleted(Message<()>),
    /// A message was edited, deleted, or reacted to.
    Changed(Message<Change<T>>),
    /// The server talks to people.
    System(Message<String>),
    /// What the room is about from now on; empty for nothing.
    Topic(Message<String>),
    /// Somebody has another name; the body is the previous one.
    Renamed(Message<String>),
    /// The client has come into the room, for the first time or after a reconnect.
    Joined(Joined),
    /// Messages that this stream cannot have. Never silent: what is neither yielded nor in a gap was not sent.
    Gap(Gap),
    /// Somebody came.
    Join(Member),
    /// Somebody went.
    Leave(Member),
    /// Many came and went, in a room too large to name each.
    Presence(PresenceChange),
    /// Somebody is typing, or stopped.
    Typing(Typing),
    /// Somebody has received or read the messages up to a place.
    Receipt(Receipt),
    /// How many have, in a large room.
    ReceiptCounts(ReceiptCounts),
}

/// A message, with a body of type `T`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Message<T> {
    /// The type on the wire.
    pub kind: Arc<str>,
    /// The message's id, the same for everybody.
    pub id: Arc<str>,
    /// The room it is from; none if it was said to everybody.
    pub room: Option<Arc<str>>,
    /// Its place in the room's log, if it has one.
    pub position: Option<Position>,
    /// The server's time.
    pub timestamp: Timestamp,
    /// Who it is from; none for an application's messages.
    pub from: Option<Author>,
    /// The user that a private message is for.
    pub to: Option<Arc<str>>,
    /// When it got the body it has here.
    pub edited: Option<Timestamp>,
    /// When it lost its body.
    pub deleted: Option<Timestamp>,
    /// How people reacted, the first reaction first.
    pub reactions: Vec<Reaction>,
    /// Whether it was said before the client came: it was recovered, or asked for.
    pub replayed: bool,
    /// What was said.
    pub body: T,
    json: Arc<str>,
}

impl<T> Message<T> {
    /// The message as it came over the wire, as JSON. The bytes of a binary message are not in it.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// Who published a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Author {
    /// The user's id.
    pub user: Arc<str>,
    /// The name that the user has; empty for none.
    pub name: Arc<str>,
}

/// A change of an earlier message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Change<T> {
    /// The offset of the message that is changed.
    pub target: u64,
    /// What happened to it.
    pub what: Changed<T>,
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Changed<T> {
    /// It has this text now.
    Text(String),
    /// It has this data now.
    Data(T),
    /// Its body is gone.
    Deleted,
    /// Somebody reacted to it, or took that back.
    Reaction {
        /// An emoji, or another short text.
        reaction: String,
        /// Whether the reaction was taken back.
        removed: bool,
    },
}

/// A reaction and who had it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Reaction {
    /// An emoji, or another short text.
    pub reaction: String,
    /// Ids of the users.
    pub users: Vec<String>,
}

/// How the client came into a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Joined {
    /// Messages after this place follow.
    pub position: Position,
    /// The room's newest message.
    pub head: u64,
    /// The oldest message that is kept.
    pub first: u64,
    /// Connections in the room, this one included.
    pub members: u64,
    /// After a reconnect: whether everything missed follows. None at the first time.
    pub recovered: Option<bool>,
    /// What an acknowledgement means here: `stored`, `memory` or `none`.
    pub durability: Arc<str>,
    /// Messages of others that the user has not read, where the room keeps receipts.
    pub unread: Option<u64>,
    /// What the room is about; empty for nothing.
    pub topic: Arc<str>,
}

/// Messages that are lost to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The last message before it, if there was one.
    pub from: Option<Position>,
    /// The last message in it.
    pub to: Position,
    /// How many, where that can be said.
    pub missed: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

/// Why messages are lost to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// The room does not keep them any more, or never did.
    Expired,
    /// The room's log was lost, or it started afresh: offsets before mean nothing.
    Epoch,
    /// The connection was too slow, and the server passed over them.
    Overflow,
    /// The offset jumped, and the server had not said so: please report it.
    Lost,
    /// They were passed over on purpose: the stream wants what is new ([`Recover::Latest`](crate::Recover::Latest)).
    Skipped,
}

/// Somebody who came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Who.
    pub user: Author,
    /// The connection.
    pub client: Arc<str>,
    /// Of who came: the name of the server that the connection is with, if several act as one.
    pub node: Option<Arc<str>>,
    /// When.
    pub timestamp: Timestamp,
}

/// Who came and went within a few seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresenceChange {
    /// Users there are now.
    pub users: u64,
    /// Connections there are now.
    pub members: u64,
    /// Users that came.
    pub joined_count: u64,
    /// Users that went.
    pub left_count: u64,
    /// Some of those that came.
    pub joined: Vec<Author>,
    /// Some of those that went.
    pub left: Vec<Author>,
}

/// Somebody is typing, or stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Typing {
    /// Who; you, too, from your other devices.
    pub user: Author,
    /// False if they stopped.
    pub active: bool,
    /// After so long without another notice they are not typing any more.
    pub expires_after: Duration,
}

/// Which of the two places of a user has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ReceiptKind {
    /// A device of theirs has the messages.
    Delivered,
    /// They have read them.
    Seen,
}

/// How far a user is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The user's id.
    pub user: Arc<str>,
    /// What it is about.
    pub kind: ReceiptKind,
    /// The last message that it is true of.
    pub position: Position,
}

/// How many users have received and read a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiptCounts {
    /// The message.
    pub position: Position,
    /// Users that have it.
    pub delivered: u64,
    /// Users that have read it.
    pub seen: u64,
}

/// Every field that a message or notice of a room may have.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default, borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    room: Option<Cow<'a, str>>,
    #[serde(default)]
    epoch: Option<Epoch>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    timestamp: Option<Timestamp>,
    #[serde(default, borrow, rename = "userId")]
    user: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    username: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    to: Option<Cow<'a, str>>,
    #[serde(default)]
    edited: Option<Timestamp>,
    #[serde(default)]
    deleted: Option<Timestamp>,
    #[serde(default)]
    reactions: Vec<Reaction>,
    #[serde(default)]
    content: Option<String>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    base64: Option<Cow<'a, str>>,
    #[serde(default)]
    target: u64,
    #[serde(default)]
    reaction: Option<String>,
    #[serde(default)]
    removed: bool,
    #[serde(default)]
    topic: Option<String>,
    #[serde(default, rename = "previousUsername")]
    previous: Option<String>,
}

impl Wire<'_> {
    fn author(&self) -> Option<Author> {
        let user = self.user.as_deref()?.into();
        Some(Author { user, name: self.username.as_deref().unwrap_or_default().into() })
    }

    fn position(&self) -> Option<Position> {
        Some(Position { epoch: self.epoch?, offset: self.offset? })
    }

    fn message<T>(&mut self, body: T, replayed: bool, json: Arc<str>) -> Message<T> {
        Message {
            kind: self.kind.as_ref().into(),
            id: self.id.as_deref().unwrap_or_default().into(),
            room: self.room.as_deref().map(Arc::from),
            position: self.position(),
            timestamp: self.timestamp.unwrap_or(Timestamp::from_millis(0)),
            from: self.author(),
            to: self.to.as_deref().map(Arc::from),
            edited: self.edited,
            deleted: self.deleted,
            reactions: std::mem::take(&mut self.reactions),
            replayed,
            body,
            json,
        }
    }
}

/// Turns what lay in a queue into an event; `None` for what a room's stream does not tell.
pub(crate) fn decode<T: DeserializeOwned>(item: Item) -> Option<Result<Event<T>, Error>> {
    match item {
        Item::Frame { json, bytes, replayed } => {
            let event = decode_frame(&json, bytes, replayed);
            event.map_err(|source| Error::Decode { source: Arc::new(source), json }).transpose()
        }
        Item::Joined(joined) => Some(Ok(Event::Joined(*joined))),
        Item::Gap(gap) => Some(Ok(Event::Gap(gap))),
        Item::End(error) => Some(Err(error)),
    }
}

/// The place of a message in its room's log.
pub(crate) fn position(json: &str) -> Option<Position> {
    serde_json::from_str::<crate::core::wire::Head<'_>>(json).ok()?.position()
}

/// One of the messages of a page of history.
pub(crate) fn decode_replayed<T: DeserializeOwned>(json: &str) -> Option<Result<Event<T>, Error>> {
    decode(Item::Frame { json: json.into(), bytes: None, replayed: true })
}

fn decode_frame<T: DeserializeOwned>(
    json: &Arc<str>,
    bytes: Option<Bytes>,
    replayed: bool,
) -> serde_json::Result<Option<Event<T>>> {
    let mut wire: Wire<'_> = match notice(json)? {
        Seen::Notice(event) => return Ok(event),
        Seen::Message(wire) => wire,
    };
    let shared = Arc::clone(json);
    let kind = wire.kind.clone();
    if kind == "join" || kind == "leave" {
        let NoticeOf { client, node } = serde_json::from_str(json).unwrap_or_default();
        let member = Member {
            user: wire.author().unwrap_or_else(|| Author { user: "".into(), name: "".into() }),
            client: client.into(),
            node: node.map(Into::into),
            timestamp: wire.timestamp.unwrap_or(Timestamp::from_millis(0)),
        };
        return Ok(Some(if kind == "join" { Event::Join(member) } else { Event::Leave(member) }));
    }
    if wire.deleted.is_some() {
        return Ok(Some(Event::Deleted(wire.message((), replayed, shared))));
    }
    let bytes = match (bytes, wire.base64.as_deref()) {
        (None, Some(text)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            Some(Bytes::from(decoded.map_err(serde::de::Error::custom)?))
        }
        (bytes, _) => bytes,
    };
    if let Some(bytes) = bytes {
        return Ok(Some(Event::Bytes(wire.message(bytes, replayed, shared))));
    }
    let content = wire.content.take();
    Ok(Some(match kind.as_ref() {
        "chat" | "action" => Event::Chat(wire.message(content.unwrap_or_default(), replayed, shared)),
        "system" => Event::System(wire.message(content.unwrap_or_default(), replayed, shared)),
        "topic" => {
            let topic = wire.topic.take().unwrap_or_default();
            Event::Topic(wire.message(topic, replayed, shared))
        }
        "rename" => {
            let previous = wire.previous.take().unwrap_or_default();
            Event::Renamed(wire.message(previous, replayed, shared))
        }
        "edit" | "delete" | "reaction" => {
            let what = match (kind.as_ref(), content, wire.data) {
                ("edit", Some(text), _) => Changed::Text(text),
                ("edit", None, data) => Changed::Data(body(data)?),
                ("reaction", ..) => Changed::Reaction {
                    reaction: wire.reaction.take().unwrap_or_default(),
                    removed: wire.removed,
                },
                _ => Changed::Deleted,
            };
            let change = Change { target: wire.target, what };
            Event::Changed(wire.message(change, replayed, shared))
        }
        _ => {
            let body = body(wire.data)?;
            Event::Message(wire.message(body, replayed, shared))
        }
    }))
}

fn body<T: DeserializeOwned>(data: Option<&RawValue>) -> serde_json::Result<T> {
    serde_json::from_str(data.map_or("null", RawValue::get))
}

/// What a frame turned out to be.
enum Seen<'a, T> {
    Notice(Option<Event<T>>),
    Message(Wire<'a>),
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// The notices, each with fields of its own.
fn notice<T>(json: &str) -> serde_json::Result<Seen<'_, T>> {
    let Kind { kind } = serde_json::from_str(json)?;
    // A notice that is none is passed over, like everything that is not understood.
    Ok(Seen::Notice(match kind.as_ref() {
        "typing" => {
            serde_json::from_str::<WireTyping<'_>>(json).ok().map(|typing| Event::Typing(typing.into()))
        }
        "presence_change" => {
            let change = serde_json::from_str::<WirePresenceChange<'_>>(json).ok();
            change.map(|change| Event::Presence(change.into()))
        }
        "receipt" => {
            serde_json::from_str::<WireReceipt<'_>>(json).ok().map(|receipt| Event::Receipt(receipt.into()))
        }
        "receipt_counts" => {
            let counts = serde_json::from_str::<WireReceiptCounts>(json).ok();
            counts.map(|counts| Event::ReceiptCounts(counts.into()))
        }
        _ => return Ok(Seen::Message(serde_json::from_str(json)?)),
    }))
}

/// What only those who come and go have.
#[derive(Default, Deserialize)]
struct NoticeOf {
    #[serde(default, rename = "clientId")]
    client: String,
    #[serde(default)]
    node: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTyping<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(default, borrow)]
    username: Cow<'a, str>,
    active: bool,
    #[serde(default)]
    expires_after: u64,
}

impl From<WireTyping<'_>> for Typing {
    fn from(wire: WireTyping<'_>) -> Self {
        Self {
            user: Author { user: wire.user_id.into(), name: wire.username.into() },
            active: wire.active,
            expires_after: Duration::from_millis(wire.expires_after),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireUser<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    #[serde(default, borrow)]
    username: Cow<'a, str>,
}

impl From<WireUser<'_>> for Author {
    fn from(wire: WireUser<'_>) -> Self {
        Self { user: wire.user_id.into(), name: wire.username.into() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePresenceChange<'a> {
    user_count: u64,
    members: u64,
    #[serde(default)]
    joined_count: u64,
    #[serde(default)]
    left_count: u64,
    #[serde(default, borrow)]
    joined: Vec<WireUser<'a>>,
    #[serde(default, borrow)]
    left: Vec<WireUser<'a>>,
}

impl From<WirePresenceChange<'_>> for PresenceChange {
    fn from(wire: WirePresenceChange<'_>) -> Self {
        Self {
            users: wire.user_count,
            members: wire.members,
            joined_count: wire.joined_count,
            left_count: wire.left_count,
            joined: wire.joined.into_iter().map(Into::into).collect(),
            left: wire.left.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReceipt<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    receipt: ReceiptKind,
    epoch: Epoch,
    offset: u64,
}

impl From<WireReceipt<'_>> for Receipt {
    fn from(wire: WireReceipt<'_>) -> Self {
        let position = Position { epoch: wire.epoch, offset: wire.offset };
        Self { user: wire.user_id.into(), kind: wire.receipt, position }
    }
}

#[derive(Deserialize)]
struct WireReceiptCounts {
    epoch: Epoch,
    offset: u64,
    delivered: u64,
    seen: u64,
}

impl From<WireReceiptCounts> for ReceiptCounts {
    fn from(wire: WireReceiptCounts) -> Self {
        let position = Position { epoch: wire.epoch, offset: wire.offset };
        Self { position, delivered: wire.delivered, seen: wire.seen }
    }
}
