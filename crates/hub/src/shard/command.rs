//! What may be asked of a shard, by other threads and by the shard itself.

use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{ClientId, Disconnect, Event, Position, Refusal, RoomName, StartFrom};
use outspoke_websocket::Window;
use tokio::sync::oneshot;

use super::Key;
use super::account::{Inquiry, ShardAccount};
use super::inspect::ConnectionState;
use crate::client::Client;
use crate::client::registry::Place;
use crate::conn::WsConn;
use crate::error::JoinError;
use crate::hub::Inner;
use crate::publication::Publication;
use crate::room::Room;
use crate::sync::Arc;

/// One order to a shard. The order of a shard's inbox is the order of everything its clients see.
#[derive(Debug)]
pub(crate) enum Command {
    /// Take over an upgraded connection.
    Attach(Box<Arrival>),
    /// The client that held an arrival's identity is yours: end it, then send the arrival back.
    Evict { client: ClientId, then: Box<Arrival> },
    /// From here on `client` is a member: it gets what follows in this inbox, and nothing before.
    Activate { room: Arc<Room>, client: Key, ticket: u32 },
    /// Tell the room's members on this shard.
    Deliver { room: Arc<Room>, publication: Arc<Publication> },
    /// Tell clients what became of what they published; `None`: done, and nobody asked.
    Answers(Vec<(Key, Option<Event>)>),
    /// Send encoded bytes to one client, which is charged with them already.
    Push { client: Arc<Client>, frame: Bytes, written: Option<oneshot::Sender<()>> },
    /// Put a client into a room.
    Join { client: Key, room: RoomName, done: oneshot::Sender<Result<(), JoinError>> },
    /// Take a client out of a room.
    Leave { client: Key, room: RoomName, done: oneshot::Sender<Result<(), JoinError>> },
    /// What holds for a client has changed, or may have: see to it that it does nothing that it may not do any more.
    Reconsider(Key),
    /// Take a client out of a room, and say why. Answers whether it was there.
    Remove { client: Key, room: RoomName, because: Box<Refusal>, done: oneshot::Sender<bool> },
    /// Put a device into a conversation, behind this place, unless it is there: a message has come that it must get.
    Enroll { room: Arc<Room>, client: Key, after: Position, tried: u8 },
    /// Tell one client something that it has not asked for.
    Tell(Key, Box<Event>),
    /// End one connection.
    Close { client: Key, disconnect: Disconnect, reason: Option<EcoString> },
    /// Tell a client where to go; once what it has published is answered, its connection ends.
    SendAway { client: Key, notice: Box<Event> },
    /// Cut connections that are closing, however far they are.
    CutLeavers,
    /// Say that everything before this is done.
    Reached(oneshot::Sender<()>),
    /// Say what became of a message here.
    Account(Box<Inquiry>, oneshot::Sender<ShardAccount>),
    /// Say how connections are, with their rooms or without.
    Look { clients: Vec<Key>, rooms: bool, done: oneshot::Sender<Vec<Option<ConnectionState>>> },
    /// Treat a connection for so long as if it read nothing. Answers whether it is there.
    SlowDown { client: Key, lasting: Duration, done: oneshot::Sender<bool> },
    /// Something the connection waited for may have happened.
    Wake(Key),
    /// The hub's configuration is another.
    Reconfigured,
    /// Accept no more messages. Obeying includes letting go of the [`LastCall`].
    Stop(Arc<LastCall>),
    /// Deliver what is before this, say goodbye to everybody, and end.
    Farewell,
}

impl Command {
    /// What a command without a payload counts for in the inbox, in bytes.
    pub(crate) const WEIGHT: usize = 64;
}

/// Held by every shard that may still accept a message; the last to let go sends all of them the
/// [farewell](Command::Farewell). So whatever was accepted anywhere is in every inbox before it, and is delivered
/// before the close frames.
#[derive(Debug)]
pub(crate) struct LastCall(pub(crate) Arc<Inner>);

impl Drop for LastCall {
    fn drop(&mut self) {
        for shard in &self.0.shards {
            // A shard that has ended has nobody to say goodbye to.
            let _ = shard.inbox.push(Command::Farewell, 0);
        }
    }
}

/// A connection on its way into a shard.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) conn: Box<dyn WsConn>,
    /// What came after the upgrade request in the same read.
    pub(crate) early: Bytes,
    /// What is written before anything else, whatever becomes of the connection.
    pub(crate) greeting: Bytes,
    pub(crate) client: Arc<Client>,
    pub(crate) place: Place,
    pub(crate) dialect: u8,
    pub(crate) compression: Option<Window>,
    /// The room to be put into at once.
    pub(crate) room: Option<RoomName>,
    pub(crate) from: StartFrom,
    /// Bytes go back as they came, and no room ever hears of this client (conformance tests).
    pub(crate) echo: bool,
    /// The identity is this client's already: its former holder is gone.
    pub(crate) claimed: bool,
}
