//! What the hub tells a client.
//!
//! Made by the hub, written down by a dialect. An event that goes to a room is encoded once per dialect
//! present there, never per member: so it holds nothing that differs between receivers.

use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;

use crate::{ClientId, ErrorCode, Message, MessageId, Position, RequestId, RoomName, Timestamp, UserId};

/// Anything the hub says to a client.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The first word after the upgrade.
    Welcome(Box<Welcome>),
    /// A message, an announcement, a unicast or a broadcast.
    Message(Message),
    /// The client is in the room now; messages after `position` follow.
    Subscribed {
        /// The request answered; `None` when the server put the client there.
        request: Option<RequestId>,
        /// The room.
        room: RoomName,
        /// The room's head at the moment of joining.
        position: Position,
        /// Members on this node, the new one included.
        members: usize,
    },
    /// The client is out of the room; nothing of it follows.
    Unsubscribed {
        /// The request answered.
        request: Option<RequestId>,
        /// The room.
        room: RoomName,
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

/// A hole in what a client received of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The room.
    pub room: RoomName,
    /// Where the next message the client gets will be: everything up to this offset that it has not seen is missed.
    pub to: Position,
    /// How many messages were skipped.
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
    },
}
