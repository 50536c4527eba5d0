//! The frames that the client itself understands: just the fields it needs.

use std::borrow::Cow;

use outspoke_protocol::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::position::{Epoch, Position};

/// What decides where a frame goes.
#[derive(Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) kind: Cow<'a, str>,
    #[serde(default, borrow)]
    id: Option<&'a RawValue>,
    #[serde(default, borrow)]
    pub(crate) room: Option<Cow<'a, str>>,
    #[serde(default)]
    epoch: Option<Epoch>,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    timestamp: Option<IgnoredAny>,
}

/// The id that a frame carries: of a request of ours, or of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WireId<'a> {
    Number(i64),
    Text(Cow<'a, str>),
}

impl WireId<'_> {
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Number(number) => (*number).into(),
            Self::Text(text) => (**text).into(),
        }
    }
}

impl Head<'_> {
    pub(crate) fn id(&self) -> Option<WireId<'_>> {
        let json = self.id?.get();
        match json.parse() {
            Ok(number) => Some(WireId::Number(number)),
            Err(_) => serde_json::from_str::<Cow<'_, str>>(json).ok().map(WireId::Text),
        }
    }

    /// Whether this is of the moment, and has no place in a log.
    pub(crate) fn is_notice(&self) -> bool {
        let notices = ["typing", "presence_change", "receipt", "receipt_counts", "join", "leave"];
        notices.contains(&self.kind.as_ref())
    }

    /// A message's place in its room's log, if this is a message.
    ///
    /// Receipts and answers name places too, which are not theirs.
    pub(crate) fn position(&self) -> Option<Position> {
        let whole = self.room.is_some() && self.id.is_some() && self.timestamp.is_some();
        let answer = ANSWERS.contains(&self.kind.as_ref());
        if !whole || answer || self.is_notice() {
            return None;
        }
        Some(Position { epoch: self.epoch?, offset: self.offset? })
    }
}

/// Types that only answer or announce.
const ANSWERS: [&str; 16] = [
    "ack",
    "authenticated",
    "command_result",
    "commands",
    "conversations",
    "error",
    "gap",
    "going_away",
    "history",
    "kicked",
    "pong",
    "presence",
    "receipt_ack",
    "receipts",
    "subscribed",
    "unsubscribed",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Welcome {
    pub(crate) client_id: String,
    #[serde(default)]
    pub(crate) user_id: String,
    #[serde(default)]
    pub(crate) username: String,
    pub(crate) timestamp: Timestamp,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) ping_interval: Option<u64>,
    #[serde(default)]
    pub(crate) max_message_bytes: Option<usize>,
    #[serde(default)]
    pub(crate) open_mode: bool,
    #[serde(default)]
    pub(crate) expires: Option<Timestamp>,
    #[serde(default)]
    pub(crate) node: Option<Node>,
}

#[derive(Deserialize)]
pub(crate) struct Node {
    #[serde(default)]
    pub(crate) name: String,
}

#[derive(Deserialize)]
pub(crate) struct Authenticated {
    #[serde(default)]
    pub(crate) expires: Option<Timestamp>,
}

#[derive(Deserialize)]
pub(crate) struct Subscribed {
    pub(crate) epoch: Epoch,
    pub(crate) offset: u64,
    #[serde(default)]
    pub(crate) members: u64,
    pub(crate) head: u64,
    pub(crate) first: u64,
    #[serde(default)]
    pub(crate) recovered: Option<bool>,
    #[serde(default)]
    pub(crate) durability: String,
    #[serde(default)]
    pub(crate) unread: Option<u64>,
    #[serde(default)]
    pub(crate) topic: Option<String>,
}

impl Subscribed {
    pub(crate) const fn position(&self) -> Position {
        Position { epoch: self.epoch, offset: self.offset }
    }
}

#[derive(Deserialize)]
pub(crate) struct WireGap {
    pub(crate) missed: u64,
    pub(crate) epoch: Epoch,
    pub(crate) offset: u64,
}

#[derive(Deserialize)]
pub(crate) struct History<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) first: u64,
    pub(crate) head: u64,
    #[serde(default)]
    pub(crate) more: bool,
    #[serde(borrow)]
    pub(crate) messages: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct Conversations {
    pub(crate) conversations: Vec<Conversation>,
}

#[derive(Deserialize)]
pub(crate) struct Conversation {
    pub(crate) room: String,
    pub(crate) epoch: Epoch,
    #[serde(default)]
    pub(crate) seen: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GoingAway {
    #[serde(default)]
    pub(crate) reconnect_after: u64,
    #[serde(default)]
    pub(crate) url: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireAck {
    #[serde(default)]
    pub(crate) room: Option<String>,
    #[serde(default)]
    pub(crate) message_id: String,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) offset: Option<u64>,
    #[serde(default)]
    pub(crate) timestamp: Option<Timestamp>,
    #[serde(default)]
    pub(crate) duplicate: bool,
}

/// A number, and nothing where something else stands.
fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let json = <&RawValue>::deserialize(deserializer)?;
    Ok(json.get().parse().ok())
}
