//! What the hub tells a client.
//!
//! Made by the hub, written down by a dialect. An event that goes to a room is encoded once per dialect
//! present there, never per member: so it holds nothing that differs between receivers.

use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;

use crate::{
    ClientId, Epoch, ErrorCode, Message, MessageId, Position, Publisher, Receipt, RequestId, RoomName,
    Timestamp, UserId,
};

/// Anything the hub says to a client.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The first word after the upgrade.
    Welcome(Box<Welcome>),
    /// A message, an announcement, a unicast or a broadcast.
    Message(Message),
    /// The credential shown is accepted, and holds from now on.
    Authenticated {
        /// The request answered.
        request: Option<RequestId>,
        /// When it ends; `None`: never.
        expires: Option<Timestamp>,
    },
    /// A user was taken out of a room.
    Kicked {
        /// The request answered.
        request: Option<RequestId>,
        /// The room.
        room: RoomName,
        /// Who.
        user: UserId,
    },
    /// The client is in the room now.
    Subscribed(Box<Subscribed>),
    /// The client is out of the room; nothing of it follows.
    Unsubscribed {
        /// The request answered.
        request: Option<RequestId>,
        /// The room.
        room: RoomName,
        /// Why the server took the client out; `None` where the client wanted it.
        because: Option<Box<Refusal>>,
    },
    /// A publish was accepted at the room's durability level.
    Acknowledged(Acknowledgement),
    /// The answer to a ping.
    Pong {
        /// The request answered.
        request: Option<RequestId>,
    },
    /// A request was refused; the connection stays.
    Refused(Refusal),
    /// An application handler's answer.
    Reply {
        /// The request answered.
        request: Option<RequestId>,
        /// The answer's type on the wire.
        name: EcoString,
        /// The answer's data. Invariant: one valid JSON value.
        data: Option<Bytes>,
    },
    /// Messages of a room were skipped for this client.
    Gap(Gap),
    /// A page of a room's log.
    History(Box<History>),
    /// Who is in a room.
    Presence(Box<Presence>),
    /// Who came and went in a room whose comings and goings are told together.
    Crowd(Box<Crowd>),
    /// Somebody is typing, or no longer.
    Typing(Typing),
    /// Somebody has received or read a room up to an offset.
    Receipt(ReceiptOf),
    /// How many users have received and read a room's newest message: for rooms too large to name each.
    ReceiptCounts(ReceiptCounts),
    /// Who has received and read how much.
    Receipts(Box<Receipts>),
    /// The user's private conversations.
    Conversations(Box<Conversations>),
    /// Something the client should know before it happens.
    Notice(Notice),
}

/// What a client learns when it is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// This connection.
    pub client: ClientId,
    /// Who the hub thinks the client is.
    pub user: UserId,
    /// The name shown to others; empty when there is none.
    pub name: EcoString,
    /// The server's clock.
    pub ts: Timestamp,
    /// The server pings a silent connection this often: a client that hears nothing for longer (and some
    /// grace) may take the connection for dead. Zero: no pings.
    pub ping_interval: Duration,
    /// Largest message the server accepts, in bytes.
    pub message_bytes_max: usize,
    /// Whether identities are taken on trust.
    pub open_mode: bool,
    /// When the client's credential ends; `None`: never.
    pub expires: Option<Timestamp>,
    /// Which of several servers this is; `None` where there is only one.
    pub node: Option<NodeHint>,
}

/// Which of several servers a client is with, and which one would be better for its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHint {
    /// The name of the client's server.
    pub name: EcoString,
    /// The name of the server that the user's clients are best with; often the same. Empty where no server takes
    /// clients.
    pub prefer: EcoString,
    /// Where clients reach that one; empty if they cannot choose.
    pub url: EcoString,
}

/// How a client came into a room, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// The request answered; `None` when the server put the client there.
    pub request: Option<RequestId>,
    /// The room.
    pub room: RoomName,
    /// Messages after this place follow, the missed ones first. It is the room's head, unless the client asked for
    /// earlier messages and gets them.
    pub position: Position,
    /// Offset of the room's newest message; 0 when there is none.
    pub head: u64,
    /// Offset of the oldest message that history still has; `head + 1` when it has none.
    pub first: u64,
    /// Where the client said where it was: whether it gets everything it has missed.
    pub recovered: Option<bool>,
    /// Members on this node, the new one included.
    pub members: usize,
    /// What an acknowledgement means here.
    pub durability: Durability,
    /// What the user has not read of this room, where the room keeps receipts and knows the user.
    pub unread: Option<Unread>,
    /// The room's topic; empty for none.
    pub topic: EcoString,
}

/// What an acknowledgement of a publish means in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Durability {
    /// Accepted, and on its way to the members; nothing is kept.
    #[default]
    None,
    /// Kept for the life of the node.
    Memory,
    /// On disk, or committed by the database, before anybody saw it.
    Stored,
}

impl Durability {
    /// The level's name, in configuration and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Memory => "memory",
            Self::Stored => "stored",
        }
    }
}

/// What a user has not read of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Messages after the last one read that others have said.
    pub count: u64,
    /// Offset of the last message read; 0 when none was.
    pub seen: u64,
    /// Offset of the last message that a device of the user has confirmed; 0 when none was.
    pub delivered: u64,
}

/// A page of a room's log.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The request answered.
    pub request: Option<RequestId>,
    /// The room.
    pub room: RoomName,
    /// The log's epoch.
    pub epoch: Epoch,
    /// Offset of the oldest message kept; `head + 1` when there is none.
    pub first: u64,
    /// Offset of the newest message; 0 when there is none.
    pub head: u64,
    /// The messages in the order of their offsets, each in its present state.
    pub messages: Vec<Message>,
    /// Whether there is more in the direction asked for.
    pub more: bool,
}

/// Who is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The request answered.
    pub request: Option<RequestId>,
    /// The room.
    pub room: RoomName,
    /// Users in the room.
    pub users: usize,
    /// Connections in the room; those of users without a name included.
    pub members: usize,
    /// A page of users, in the order of their ids.
    pub page: Vec<Present>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<UserId>,
}

/// A user in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The user.
    pub user: UserId,
    /// The name shown to people.
    pub name: EcoString,
    /// When the first of the user's present connections came.
    pub since: Timestamp,
    /// The user's connections in the room.
    pub devices: Vec<Device>,
    /// What the credential or the application says of the user. Invariant: one valid JSON value.
    pub info: Option<Bytes>,
    /// Whether somebody is behind it now; otherwise this is who was here last, and `since` says when.
    pub online: bool,
}

/// One of a user's connections in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The connection.
    pub client: ClientId,
    /// The device's name; empty when the user has but one.
    pub device: EcoString,
    /// The name of the node that the connection is with; empty for a hub on its own.
    pub node: EcoString,
    /// When it came.
    pub since: Timestamp,
}

/// Comings and goings of a while, told together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// The room.
    pub room: RoomName,
    /// Users in the room now.
    pub users: usize,
    /// Connections in the room now.
    pub members: usize,
    /// Users that came, as many as are worth naming.
    pub joined: Vec<(UserId, EcoString)>,
    /// Users that left, likewise.
    pub left: Vec<(UserId, EcoString)>,
    /// Users that came.
    pub joined_count: usize,
    /// Users that left.
    pub left_count: usize,
}

/// Somebody is typing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typing {
    /// The room.
    pub room: RoomName,
    /// Who.
    pub from: Publisher,
    /// Typing, or no longer.
    pub active: bool,
    /// After so long without another word of it, the user is not typing any more.
    pub expires: Duration,
}

/// How far a user has come in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptOf {
    /// The room.
    pub room: RoomName,
    /// The user.
    pub user: UserId,
    /// Received or read.
    pub receipt: Receipt,
    /// Up to and including this message.
    pub position: Position,
}

/// How far a crowd has come in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptCounts {
    /// The room.
    pub room: RoomName,
    /// The message that is counted for.
    pub position: Position,
    /// Users whose device has it.
    pub delivered: u64,
    /// Users that have read it.
    pub seen: u64,
}

/// A page of how far users have come in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// The request answered.
    pub request: Option<RequestId>,
    /// The room.
    pub room: RoomName,
    /// The log's epoch.
    pub epoch: Epoch,
    /// A page of users, in the order of their ids.
    pub page: Vec<Cursor>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<UserId>,
}

/// A user's places in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The user.
    pub user: UserId,
    /// Up to here a device has it; 0: nothing yet.
    pub delivered: u64,
    /// Up to here it is read; 0: nothing yet.
    pub seen: u64,
}

/// A page of a user's private conversations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversations {
    /// The request answered; `None` when the server tells of what came while the user was away.
    pub request: Option<RequestId>,
    /// The conversations, in the order of the other user's ids.
    pub page: Vec<Conversation>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<UserId>,
}

/// A private conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The room it is: subscribe to it, or ask for its history, as with any other.
    pub room: RoomName,
    /// The other user.
    pub with: UserId,
    /// Its newest message.
    pub head: Position,
    /// When that was said.
    pub ts: Timestamp,
    /// What the user has not read of it.
    pub unread: Unread,
}

/// The receipt of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The request answered.
    pub request: RequestId,
    /// The room.
    pub room: RoomName,
    /// The message's id.
    pub id: MessageId,
    /// The message's place in the log.
    pub position: Position,
    /// When it was accepted.
    pub ts: Timestamp,
    /// The same publish was accepted before; nothing was delivered again.
    pub duplicate: bool,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}", code = code.name())]
pub struct Refusal {
    /// The request refused, where its id could be read.
    pub request: Option<RequestId>,
    /// What a program acts on.
    pub code: ErrorCode,
    /// What a person reads: what is wrong, and what would be right.
    pub detail: EcoString,
    /// When trying again makes sense.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that belongs to no readable request and says nothing of retrying.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<EcoString>) -> Self {
        Self { request: None, code, detail: detail.into(), retry_after: None }
    }

    /// The same refusal, as the answer to `request`.
    #[must_use]
    pub fn answering(mut self, request: Option<RequestId>) -> Self {
        self.request = request;
        self
    }
}

/// A hole in what a client received of a room: it read too slowly, or what it would get next is not kept any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The room.
    pub room: RoomName,
    /// Where the next message the client gets will be: everything up to this offset that it has not seen is missed.
    pub to: Position,
    /// How many messages were skipped; 0 when nobody can know: the room's log was lost, and another one begins.
    pub missed: u64,
}

/// Advance notice.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// This node stops; connect again after the delay.
    GoingAway {
        /// How long to wait before reconnecting.
        reconnect_after: Duration,
        /// Where to: another node's address for the next attempt. `None`: where the client came from.
        url: Option<EcoString>,
    },
}
