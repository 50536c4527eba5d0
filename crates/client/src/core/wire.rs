//! The frames that the client itself understands: just the fields it needs.

use std::borrow::Cow;

use outspoke_protocol::Timestamp;
use serde::Deserialize;
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
}

impl Head<'_> {
    /// The request that the frame answers. Ours are numbers; the ids of messages are texts.
    pub(crate) fn request(&self) -> Option<i64> {
        self.id?.get().parse().ok()
    }

    /// A message's place in its room's log. Receipts have one too, and it is not theirs.
    pub(crate) fn position(&self) -> Option<Position> {
        match self.kind.as_ref() {
            "receipt" | "receipt_counts" | "typing" | "presence_change" => None,
            _ => Some(Position { epoch: self.epoch?, offset: self.offset? }),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Welcome {
    pub(crate) client_id: String,
    #[serde(default)]
    pub(crate) user_id: String,
    #[serde(default)]
    pub(crate) username: String,
    pub(crate) timestamp: Timestamp,
    #[serde(default)]
    pub(crate) ping_interval: u64,
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireAck {
    #[serde(default)]
    pub(crate) room: Option<String>,
    pub(crate) message_id: String,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) offset: Option<u64>,
    pub(crate) timestamp: Timestamp,
    #[serde(default)]
    pub(crate) duplicate: bool,
}
