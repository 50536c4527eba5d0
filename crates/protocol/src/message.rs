//! The neutral message: what was said, by whom, where, and its place in the room's log.
//!
//! The hub makes messages, dialects write them down, stores keep them. Nothing here knows a wire format.

use bytes::Bytes;
use ecow::EcoString;

use crate::{ClientId, Epoch, MessageId, RoomName, Timestamp, UserId};

/// One message, equal on every node and for every receiver.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Unique across nodes and restarts.
    pub id: MessageId,
    /// Where it was said; `None` when it is for everybody or for one client.
    pub room: Option<RoomName>,
    /// Its place in the room's log; `None` for what is no part of it (announcements, unicasts, broadcasts).
    pub position: Option<Position>,
    /// What sort of message it is.
    pub kind: Kind,
    /// Who said it; `None` when the server or an application did.
    pub from: Option<Publisher>,
    /// When the server accepted it.
    pub ts: Timestamp,
    /// What was said.
    pub body: Body,
    /// What only some messages have.
    pub details: Option<Box<Details>>,
}

/// What only some messages have; boxed, so that the usual message stays small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The user a private message is for; the other end of the conversation is its publisher.
    pub to: Option<UserId>,
    /// The offset of the message that an [`Edit`](Kind::Edit), [`Delete`](Kind::Delete) or
    /// [`Reaction`](Kind::Reaction) is about, in the same room and epoch.
    pub target: Option<u64>,
    /// A [`Reaction`](Kind::Reaction) takes back instead of giving.
    pub withdrawn: bool,
    /// When the message got its present body, if it was edited.
    pub edited: Option<Timestamp>,
    /// When the message's body was taken away, if it was deleted; the body is empty then.
    pub deleted: Option<Timestamp>,
    /// How people reacted, in the order in which the reactions first came up.
    pub reactions: Vec<Reactions>,
    /// Of a [`Join`](Kind::Join), the name of the node that the connection is with; empty for a hub on its own. Never kept.
    pub node: EcoString,
}

/// Everybody who reacted to a message in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reactions {
    /// The emoji, or whatever short text it was.
    pub reaction: EcoString,
    /// Who, in the order they did it; each once.
    pub users: Vec<UserId>,
}

/// A place in a room's log. Offsets grow by one without holes within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which history the offset belongs to.
    pub epoch: Epoch,
    /// 1 for the first message of the epoch; 0 is the place before it.
    pub offset: u64,
}

/// Who published a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publisher {
    /// The user, as authenticated.
    pub user: UserId,
    /// The name shown to people; empty when the user gave none.
    pub name: EcoString,
    /// The connection it came over.
    pub client: ClientId,
}

/// The sort of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// People talking: the body is text.
    Chat,
    /// The server talking to people: the body is text.
    System,
    /// Somebody came into the room.
    Join,
    /// Somebody left the room.
    Leave,
    /// Data published to a room: the body is any JSON, or bytes.
    Data,
    /// Somebody does something (`/me waves`): the body is text.
    Action,
    /// The room has a new topic: the body is text, empty for none.
    Topic,
    /// Somebody has another name from now on: the publisher has the new one, the body is the former one.
    Rename,
    /// An earlier message has a new body, this one's; [`Details::target`] says which.
    Edit,
    /// An earlier message is gone; [`Details::target`] says which.
    Delete,
    /// Somebody reacted to an earlier message, which [`Details::target`] names; the body is the reaction.
    Reaction,
    /// An application's own sort, by its name on the wire (`process_output`, say).
    Custom(EcoString),
}

impl Kind {
    /// Whether it is something said, which a reader can have missed: what unread counters count.
    #[must_use]
    pub fn is_said(&self) -> bool {
        matches!(self, Self::Chat | Self::Action | Self::Data | Self::Custom(_))
    }

    /// The kind's name, as the dialects write it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Chat => "chat",
            Self::System => "system",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Data => "message",
            Self::Action => "action",
            Self::Topic => "topic",
            Self::Rename => "rename",
            Self::Edit => "edit",
            Self::Delete => "delete",
            Self::Reaction => "reaction",
            Self::Custom(name) => name,
        }
    }
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Body {
    /// Nothing beyond its kind.
    Empty,
    /// Text for people.
    Text(EcoString),
    /// JSON as it was sent, byte for byte. Invariant: these bytes are one valid JSON value.
    Json(Bytes),
    /// Bytes that are no text.
    Binary(Bytes),
}

impl Body {
    /// Any serialisable value as a JSON body.
    ///
    /// # Errors
    /// When the value cannot be JSON (a map with keys that are no strings, a failing `Serialize`).
    pub fn json(value: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(|bytes| Self::Json(Bytes::from(bytes)))
    }

    /// Bytes this body occupies.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Text(text) => text.len(),
            Self::Json(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
