//! Why the hub did not do what it was asked: one small enum per operation.

use outspoke_protocol::InvalidRoomName;
use outspoke_store::StoreError;

/// Why [`Hub::push`](crate::Hub::push) did not queue the frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// No client with this id is connected to this hub.
    #[error("client not found")]
    ClientNotFound,
    /// The client reads too slowly. The frame was not queued: retry later, skip it, or disconnect the client.
    #[error("send buffer full: {queued} bytes are waiting for the client")]
    SendBufferFull {
        /// Bytes waiting for this client.
        queued: usize,
    },
    /// The client's shard is too far behind. The frame was not queued: retry later.
    #[error("the hub is overloaded")]
    Overloaded,
    /// The message has no form in the client's dialect.
    #[error("the client's dialect cannot say this")]
    Unspeakable,
}

/// Why a frame that was queued was never written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection ended before the frame was written")]
pub struct NotWritten;

/// Why [`Hub::publish`](crate::Hub::publish) did not accept the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The name is no room name.
    #[error(transparent)]
    InvalidRoom(#[from] InvalidRoomName),
    /// Shards are too far behind. Nothing was published: retry later.
    #[error("the hub is overloaded")]
    Overloaded,
    /// The hub is stopping, or has stopped. Nothing was published.
    #[error("the hub is stopping")]
    Stopping,
    /// The hub has as many rooms as it may have, and the message would be the first of another one.
    #[error("the hub has {max} rooms already, the configured maximum")]
    RoomLimit {
        /// The limit.
        max: usize,
    },
    /// No space is left for the room's messages. Nothing was published: retry when there is.
    #[error("the storage is full")]
    StorageFull,
    /// It cannot be done like that: the words are for whoever asked.
    #[error(transparent)]
    Refused(outspoke_protocol::Refusal),
    /// What keeps the room's messages is away. Nothing was published: retry later.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
    /// It may have been published, or not: the store went away in the middle, for longer than it remembers ids, or broke. Look
    /// at the room's history before you publish it again, and use the same idempotency key: a key that the store still has
    /// prevents a second one.
    #[error(
        "it may have been done or not, the storage went away in the middle: look at the room's history before you send \
         it again, and send it only with the same idempotency key"
    )]
    Unknown,
}

impl From<&StoreError> for PublishError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Full(_) => Self::StorageFull,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// Why a client was not put into a room, or not taken out of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The name is no room name.
    #[error(transparent)]
    InvalidRoom(#[from] InvalidRoomName),
    /// No client with this id is connected to this hub.
    #[error("client not found")]
    ClientNotFound,
    /// The client is in as many rooms as it may be.
    #[error("the client is in {max} rooms already, the configured maximum; leave one first")]
    TooManyRooms {
        /// The limit.
        max: usize,
    },
    /// The room has as many members as it may have.
    #[error("the room is full: it has {max} members, the configured maximum")]
    RoomFull {
        /// The limit.
        max: usize,
    },
    /// The hub has as many rooms as it may have.
    #[error("the hub has {max} rooms already, the configured maximum")]
    RoomLimit {
        /// The limit.
        max: usize,
    },
    /// The tenant has as many rooms as it may have.
    #[error("{0}")]
    Quota(outspoke_protocol::Refusal),
    /// The client may not be there: its permissions do not say so, or somebody keeps it out.
    #[error("{}", _0.detail)]
    Refused(outspoke_protocol::Refusal),
    /// The room is a private conversation of others, or its name is kept for one.
    #[error("\"{room}\" is not the client's: rooms that begin with @ are private conversations of two users")]
    Forbidden {
        /// The room.
        room: outspoke_protocol::RoomName,
    },
    /// What the room has cannot be read now.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
    /// The client is not in the room.
    #[error("not in room \"{room}\": subscribe to it first")]
    NotSubscribed {
        /// The room.
        room: outspoke_protocol::RoomName,
    },
}

/// Why [`Hub::attach`](crate::Hub::attach) did not take the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Every place is taken.
    #[error("the hub holds {max} connections already, the configured maximum")]
    TooManyConnections {
        /// The limit.
        max: usize,
    },
    /// The tenant has as many connections as it may have.
    #[error("the tenant has {max} connections already, as many as it may have")]
    Quota {
        /// The limit.
        max: usize,
    },
    /// The address has as many connections as it may have.
    #[error("this address has {max} connections already, as many as it may have")]
    TooManyFromAddress {
        /// The limit.
        max: usize,
    },
    /// The user has as many connections as it may have.
    #[error("this user has {max} connections already, as many as it may have")]
    TooManyOfUser {
        /// The limit.
        max: usize,
    },
    /// Nobody is let into a tenant of that name.
    #[error("there is no tenant \"{name}\"")]
    UnknownTenant {
        /// The tenant's name.
        name: String,
    },
    /// It is not known yet which tenants there are.
    #[error("the tenants are not read yet")]
    TenantsUnread,
    /// The hub is stopping, or has stopped.
    #[error("the hub is stopping")]
    Stopping,
    /// The dialect is not one of the hub's.
    #[error("the hub has no dialect \"{name}\"")]
    UnknownDialect {
        /// The dialect asked for.
        name: String,
    },
}

/// Why the hub did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration cannot work.
    #[error(transparent)]
    InvalidConfig(#[from] crate::config::InvalidConfig),
    /// The system gave no thread, no poller or no runtime.
    #[error("cannot start a shard")]
    Io(#[from] std::io::Error),
    /// A slash command cannot be as it is specified.
    #[error("the command \"{name}\" cannot be: {problem}")]
    InvalidCommand {
        /// What it is called.
        name: String,
        /// What is wrong with it, and what would be right.
        problem: &'static str,
    },
    /// A tenant was named that cannot be.
    #[error("the tenant \"{name}\" cannot be: {error}")]
    InvalidTenant {
        /// What it is called.
        name: String,
        /// What is wrong with that.
        error: crate::tenant::InvalidTenantName,
    },
    /// A hub of a cluster was given a store that only it can use.
    #[error(
        "the store \"{store}\" ({backend}) belongs to one hub alone, and a cluster's nodes must share what is stored: \
         use PostgreSQL or Redis, or run without a cluster"
    )]
    StoreNotShared {
        /// What classes call it.
        store: String,
        /// What it is.
        backend: &'static str,
    },
    /// A node's options cannot be.
    #[error("a node of a cluster has a name, and a heartbeat of 100 ms to 60 s")]
    InvalidCluster,
    /// A room class wants its messages stored, and the hub was given no store of that name.
    #[error(
        "the room class `{pattern}` keeps its messages in the store \"{store}\", and the hub has none of that name: \
         give it one with `HubBuilder::store`, or choose another durability"
    )]
    NoSuchStore {
        /// The class.
        pattern: String,
        /// The store; empty for any.
        store: String,
    },
}
