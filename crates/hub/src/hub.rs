//! The hub's handle: register, push, broadcast, publish, count.
//!
//! Cheap to clone, usable from any thread. It owns no connection: it finds the shard that does and puts a
//! command into its inbox. A hub is started explicitly ([`HubBuilder`]) and stopped explicitly
//! ([`Hub::shutdown`]).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use bytes::Bytes;
use outspoke_bus::NodeId;
use outspoke_protocol::{
    Body, ClientId, Dialect, Disconnect, Durability, ErrorCode, Event, FrameKind, InvalidRoomName, Kind,
    Message, MessageId, RoomName, StartFrom, Timestamp,
};
use outspoke_websocket::{Window, encode_frame};
use tokio::sync::{oneshot, watch};

use crate::analytics::Analytics;
use crate::antechamber::Antechamber;
use crate::auth::{Asks, AuthError, AuthFailure, Authenticator, Authorizer, Identity, OpenByConfig};
use crate::builder::HubBuilder;
use crate::class::RoomClass;
use crate::client::Client;
use crate::client::registry::{Place, Registry};
use crate::cluster::{Cluster, NodeAnswers};
use crate::commands::{CommandSpec, Commands};
use crate::config::HubConfig;
use crate::conn::WsConn;
use crate::direct::{NAME_BYTES_MAX, is_reserved};
use crate::dispatcher::Dispatcher;
use crate::error::{AttachError, JoinError, NotWritten, PublishError, PushError};
use crate::keeper::Keeper;
use crate::last_seen::LastSeen;
use crate::peer::ClientAddress;
use crate::publication::{Publication, opcode};
use crate::rate::gate::{Crowded, Gate};
use crate::review::Reviewing;
use crate::room::Draft;
use crate::room::idle::Idle;
use crate::room::load::Need;
use crate::room::log::CacheBudget;
use crate::room::presence::Overdue;
use crate::rulings::Book;
use crate::shard::Mailbox;
use crate::shard::command::{Arrival, Command, LastCall};
use crate::shard::inbox::{Congestion, Rejected};
use crate::stats::{Doors, Stats};
use crate::tenant::{NotAdmitted, Tenant, Tenants};
use crate::trace::Traces;
use crate::trace::follow::Watches;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Departure {
    /// The client said goodbye, with this close code if it gave one.
    ByPeer(Option<u16>),
    /// The hub ended it.
    ByServer(Disconnect),
    /// The stream ended or failed without a goodbye.
    Lost,
}

pub(crate) type OnConnect = Box<dyn Fn(&Arc<Client>) + Send + Sync>;
pub(crate) type OnDisconnect = Box<dyn Fn(&Arc<Client>, Departure) + Send + Sync>;
pub(crate) type OnAuthFailure = Box<dyn Fn(&AuthFailure) + Send + Sync>;

/// What a hub's shards and handles share.
pub(crate) struct Inner {
    /// What holds now; another can take its place while the hub runs.
    pub(crate) config: ArcSwap<HubConfig>,
    pub(crate) dialects: Vec<Arc<dyn Dialect>>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) commands: Commands,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    /// Who decides where nobody else was said to.
    pub(crate) open_mode: Arc<OpenByConfig>,
    pub(crate) authorizer: Option<Arc<dyn Authorizer>>,
    /// What it wants to be asked about.
    pub(crate) asks: Asks,
    /// Who wants to see messages of some sorts.
    pub(crate) reviewing: Option<Reviewing>,
    /// Who answers what the program on other nodes asks.
    pub(crate) node_answers: Option<Arc<dyn NodeAnswers>>,
    pub(crate) shards: Box<[Mailbox]>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tenants: Tenants,
    /// What was decided about credentials that are out.
    pub(crate) rulings: Book,
    /// What is remembered of addresses and users.
    pub(crate) gate: Gate,
    /// This life of this hub, and when it began.
    pub(crate) life: NodeId,
    pub(crate) started: Timestamp,
    /// The other nodes, if there may be any.
    pub(crate) cluster: Option<Cluster>,
    /// The first is for every class that names none.
    pub(crate) keepers: Vec<Arc<Keeper>>,
    pub(crate) analytics: Analytics,
    /// Who follows what happens.
    pub(crate) watches: Watches,
    /// The last messages.
    pub(crate) traces: Traces,
    /// Rooms that nobody is in.
    pub(crate) idle: Idle,
    /// Rooms that have something to tell later.
    pub(crate) overdue: Overdue,
    pub(crate) last_seen: LastSeen,
    /// What the newest messages of stored rooms take.
    pub(crate) history_cache: Arc<CacheBudget>,
    /// What the messages of rooms that keep them in memory take.
    pub(crate) history_memory: Arc<CacheBudget>,
    pub(crate) congestion: Arc<Congestion>,
    pub(crate) on_connect: Option<OnConnect>,
    pub(crate) on_disconnect: Option<OnDisconnect>,
    pub(crate) on_auth_failure: Option<OnAuthFailure>,
    pub(crate) doors: Doors,
    /// Who has shown no credential yet.
    pub(crate) antechamber: Antechamber,
    pub(crate) next_shard: AtomicUsize,
    pub(crate) stopping: AtomicBool,
    /// No new clients are taken, and those that are here are sent away.
    pub(crate) draining: AtomicBool,
    /// Orders to drain, or to take clients again, that were given so far: the newest counts.
    pub(crate) drain_orders: AtomicU64,
    /// Shards that have not ended.
    pub(crate) running: watch::Sender<usize>,
    /// Keepers that have not closed their stores.
    pub(crate) keeping: watch::Sender<usize>,
    /// One configuration after the other.
    pub(crate) reconfiguring: Mutex<()>,
    pub(crate) threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    /// Where something is done later: a shard's runtime, once one runs.
    pub(crate) timers: OnceLock<tokio::runtime::Handle>,
    /// The hub itself, for what is done later.
    pub(crate) myself: OnceLock<Weak<Self>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("shards", &self.shards.len())
            .field("clients", &self.registry.count())
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// What holds now: look once per task, lest half of it be done by other rules.
    pub(crate) fn config(&self) -> arc_swap::Guard<Arc<HubConfig>> {
        self.config.load()
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_system_time(SystemTime::now())
    }

    /// The class that a room of that name gets.
    pub(crate) fn class_of(&self, name: &str) -> Arc<RoomClass> {
        Arc::clone(self.config().rooms.of(name))
    }

    /// Who keeps the rooms of a class, if they are stored.
    pub(crate) fn keeper_of(&self, class: &RoomClass) -> Option<Arc<Keeper>> {
        if class.durability != Durability::Stored {
            return None;
        }
        let named = |keeper: &&Arc<Keeper>| class.store.as_ref().is_none_or(|name| keeper.name == *name);
        self.keepers.iter().find(named).cloned()
    }

    /// A room's name, if it is one.
    pub(crate) fn room_name(&self, text: &str) -> Result<RoomName, InvalidRoomName> {
        let max = if is_reserved(text) { NAME_BYTES_MAX } else { self.config().room_name_bytes_max };
        RoomName::new(text, max)
    }

    /// Lets every shard look again at what it was waiting for.
    pub(crate) fn nudge_all(&self) {
        for shard in &self.shards {
            shard.inbox.nudge();
        }
    }

    pub(crate) fn tell_connected(&self, client: &Arc<Client>) {
        if let Some(callback) = &self.on_connect {
            contain(|| callback(client));
        }
    }

    pub(crate) fn tell_disconnected(&self, client: &Arc<Client>, departure: Departure) {
        if let Some(callback) = &self.on_disconnect {
            contain(|| callback(client, departure));
        }
    }
}

impl Inner {
    /// Tells the application of a credential that is not accepted, or that did not come.
    pub(crate) fn tell_auth_failure(&self, address: Option<ClientAddress>, error: &AuthError) {
        let refused =
            matches!(error.code, ErrorCode::Unauthorized | ErrorCode::Forbidden | ErrorCode::TokenExpired);
        if let Some(address) = address.filter(|_| refused) {
            self.gate.auth_failed(address, &self.config().rate);
        }
        self.doors.credential_refused(error.code);
        if let Some(callback) = &self.on_auth_failure {
            let failure = AuthFailure { address, code: error.code, detail: error.detail.clone() };
            contain(|| callback(&failure));
        }
    }
}

/// Runs an application's callback; its panic is its own.
fn contain(callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!("a callback about connections panicked");
    }
}

/// A shard for which something was queued, and that is woken when this is dropped.
#[derive(Debug)]
pub(crate) struct Unwoken {
    hub: Arc<Inner>,
    shard: usize,
}

impl Drop for Unwoken {
    fn drop(&mut self) {
        self.hub.shards[self.shard].inbox.wake();
    }
}

/// How a connection is to be attached.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attach {
    /// Who it is.
    pub identity: Identity,
    /// The dialect's name; `None` for the hub's first.
    pub dialect: Option<String>,
    /// The form of compression negotiated with the client, if any.
    pub compression: Option<Window>,
    /// The room to be put into at once.
    pub room: Option<RoomName>,
    /// With which of the room's messages to begin.
    pub from: StartFrom,
    /// Bytes that were read from the stream already.
    pub early: Bytes,
    /// Bytes that are written before anything else: the answer to the upgrade, unless it has been written.
    pub(crate) greeting: Bytes,
    /// Return every message as it came and tell nobody of this client: for conformance tests.
    pub echo: bool,
    /// From where it came, if that is known.
    pub address: Option<ClientAddress>,
}

impl Attach {
    /// A connection of `identity` in the default dialect, without a room.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            dialect: None,
            compression: None,
            room: None,
            from: StartFrom::Now,
            early: Bytes::new(),
            greeting: Bytes::new(),
            echo: false,
            address: None,
        }
    }

    /// The same, put into `room` at once.
    #[must_use]
    pub fn into_room(mut self, room: RoomName) -> Self {
        self.room = Some(room);
        self
    }

    /// The same, beginning with those of its room's messages.
    #[must_use]
    pub fn starting(mut self, from: StartFrom) -> Self {
        self.from = from;
        self
    }

    /// The same, from that address.
    #[must_use]
    pub fn coming_from(mut self, address: ClientAddress) -> Self {
        self.address = Some(address);
        self
    }

    /// The same, speaking the dialect of that name.
    #[must_use]
    pub fn speaking(mut self, dialect: impl Into<String>) -> Self {
        self.dialect = Some(dialect.into());
        self
    }
}

/// A payload for [`Hub::push`] and [`Hub::broadcast`]: sent as it is, whatever dialect the receiver speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Text or binary.
    pub kind: FrameKind,
    /// The payload. Text must be UTF-8; [`Frame::text`] sees to it.
    pub bytes: Bytes,
}

impl Frame {
    /// A text frame.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { kind: FrameKind::Text, bytes: Bytes::from(text.into()) }
    }

    /// A binary frame.
    #[must_use]
    pub fn binary(bytes: impl Into<Bytes>) -> Self {
        Self { kind: FrameKind::Binary, bytes: bytes.into() }
    }
}

/// A running hub. Clones are handles to the same hub.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(crate) inner: Arc<Inner>,
    /// Whose rooms this handle means.
    pub(crate) tenant: Arc<Tenant>,
}

impl From<Arc<Inner>> for Hub {
    fn from(inner: Arc<Inner>) -> Self {
        let tenant = inner.tenants.get("");
        Self { inner, tenant }
    }
}

impl Hub {
    /// A builder with the default configuration and every shipped dialect.
    pub fn builder() -> HubBuilder {
        HubBuilder::new()
    }

    /// The same hub, for the rooms and the clients of one tenant. What a handle says of *rooms*, and who gets a
    /// broadcast, is always its tenant's; connections, statistics and shutdown are the whole hub's. A tenant begins to
    /// exist when it is first named, and costs some kilobytes from then on.
    #[must_use]
    pub fn in_tenant(&self, name: &str) -> Self {
        Self { inner: Arc::clone(&self.inner), tenant: self.inner.tenants.get(name) }
    }

    /// The tenant whose rooms this handle means; empty for the one of a hub without tenants.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant.name
    }

    /// The hub's configuration.
    #[must_use]
    pub fn config(&self) -> Arc<HubConfig> {
        Arc::clone(&self.inner.config())
    }

    /// The dialects it speaks, the default one first.
    #[must_use]
    pub fn dialects(&self) -> &[Arc<dyn Dialect>] {
        &self.inner.dialects
    }

    /// The slash commands that its clients have, in the order of their names.
    pub fn commands(&self) -> impl Iterator<Item = &CommandSpec> {
        self.inner.commands.specs()
    }

    /// Who decides who may connect.
    #[must_use]
    pub fn authenticator(&self) -> &Arc<dyn Authenticator> {
        &self.inner.authenticator
    }

    /// Takes over an upgraded connection. The returned client is known to the hub once its shard has taken it in,
    /// in the shard's order: what is pushed to it afterwards arrives after its welcome.
    ///
    /// # Errors
    /// Every place is taken, the hub is stopping, or it does not speak the dialect; the connection is dropped.
    pub fn attach(&self, conn: impl WsConn, attach: Attach) -> Result<Arc<Client>, AttachError> {
        let tenant = self.admit(&attach.identity.tenant)?;
        let place = self.place(&tenant, &attach.identity, attach.address)?;
        self.attach_at(place, Box::new(conn), attach)
    }

    /// Takes a place for a connection that is about to be upgraded.
    pub(crate) fn place(
        &self,
        tenant: &Arc<Tenant>,
        identity: &Identity,
        address: Option<ClientAddress>,
    ) -> Result<Place, AttachError> {
        if !self.is_accepting() {
            return Err(AttachError::Stopping);
        }
        let config = self.inner.config();
        let max = config.connections_max;
        let place = self.inner.registry.place(tenant).ok_or(AttachError::TooManyConnections { max })?;
        let mut place = place.map_err(|max| AttachError::Quota { max })?;
        place.standing =
            self.inner.gate.admit(identity, address, &config).map_err(|crowded| match crowded {
                Crowded::Address { max } => AttachError::TooManyFromAddress { max },
                Crowded::User { max } => AttachError::TooManyOfUser { max },
            })?;
        Ok(place)
    }

    /// The tenant that somebody is to be let into.
    pub(crate) fn admit(&self, tenant: &str) -> Result<Arc<Tenant>, AttachError> {
        self.inner.tenants.admit(tenant).map_err(|error| match error {
            NotAdmitted::Unknown => AttachError::UnknownTenant { name: tenant.to_owned() },
            NotAdmitted::NotYet => AttachError::TenantsUnread,
        })
    }

    pub(crate) fn attach_at(
        &self,
        place: Place,
        conn: Box<dyn WsConn>,
        attach: Attach,
    ) -> Result<Arc<Client>, AttachError> {
        let (shard, arrival, client) = self.arrival(place, conn, attach)?;
        match self.inner.shards[shard].inbox.push(arrival, Command::WEIGHT) {
            Ok(()) => Ok(client),
            Err(_) => Err(AttachError::Stopping),
        }
    }

    /// The same for one of many who come at the same time: their shard is woken when what is returned is dropped, which is to be
    /// soon, and by whoever else has something for it.
    pub(crate) fn attach_quietly(
        &self,
        place: Place,
        conn: Box<dyn WsConn>,
        attach: Attach,
    ) -> Result<Option<Unwoken>, AttachError> {
        let (shard, arrival, _) = self.arrival(place, conn, attach)?;
        match self.inner.shards[shard].inbox.push_quietly(arrival, Command::WEIGHT) {
            Ok(owed) => Ok(owed.then(|| Unwoken { hub: Arc::clone(&self.inner), shard })),
            Err(_) => Err(AttachError::Stopping),
        }
    }

    /// Chooses a shard for a connection.
    fn arrival(
        &self,
        place: Place,
        conn: Box<dyn WsConn>,
        attach: Attach,
    ) -> Result<(usize, Command, Arc<Client>), AttachError> {
        let Attach { identity, dialect, compression, room, from, early, greeting, echo, address } = attach;
        let dialect = match dialect {
            None => 0,
            Some(name) => self.dialect_index(&name).ok_or(AttachError::UnknownDialect { name })?,
        };
        let shard = self.inner.next_shard.fetch_add(1, Ordering::Relaxed) % self.inner.shards.len();
        let tenant = Arc::clone(place.tenant());
        let client = Arc::new(Client::new(identity, tenant, dialect, shard as u8).at(address));
        let arrival = Arrival {
            conn,
            early,
            greeting,
            client: Arc::clone(&client),
            place,
            dialect,
            compression,
            room,
            from,
            echo,
            claimed: echo,
        };
        Ok((shard, Command::Attach(Box::new(arrival)), client))
    }

    fn dialect_index(&self, name: &str) -> Option<u8> {
        let index = self.inner.dialects.iter().position(|dialect| dialect.name() == name)?;
        u8::try_from(index).ok()
    }

    /// Shards, each with its own thread.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.inner.shards.len()
    }

    /// Connections, those included that are just being attached or closed.
    #[must_use]
    pub fn client_count(&self) -> usize {
        self.inner.registry.count()
    }

    /// Connections that have shown no credential yet; they are none of the [clients](Self::client_count).
    #[must_use]
    pub fn unauthenticated_count(&self) -> usize {
        self.inner.antechamber.count()
    }

    /// Rooms of this tenant that have members, or messages in memory.
    #[must_use]
    pub fn room_count(&self) -> usize {
        self.tenant.directory.count()
    }

    /// Members of a room, on every node that is heard of; 0 when there is no such room here.
    #[must_use]
    pub fn member_count(&self, room: &str) -> usize {
        self.tenant.directory.get(room).map_or(0, |room| room.members_everywhere())
    }

    /// Every room that [counts](Self::room_count), and how many members it has, in no order. Costs a look at each: for operators.
    #[must_use]
    pub fn rooms(&self) -> Vec<(RoomName, usize)> {
        let rooms = self.tenant.directory.all();
        rooms.iter().filter_map(|room| Some((room.name.clone()?, room.members()))).collect()
    }

    /// The client with that id, if it is connected to this hub.
    #[must_use]
    pub fn client(&self, id: ClientId) -> Option<Arc<Client>> {
        self.inner.registry.get(id)
    }

    /// Every client, in no order. Costs a look at each: for operators.
    #[must_use]
    pub fn clients(&self) -> Vec<Arc<Client>> {
        self.inner.registry.all()
    }

    /// Sends a frame to one client, and forgets it. One that is not connected to this node is looked for on the others, in a
    /// cluster; whether one has it, [`push_anywhere`](Self::push_anywhere) tells.
    ///
    /// # Errors
    /// See [`PushError`]: nothing was queued.
    pub fn push(&self, id: ClientId, frame: &Frame) -> Result<(), PushError> {
        let here = self.push_here(id, frame);
        if let (Err(PushError::ClientNotFound), Some(cluster)) = (&here, &self.inner.cluster) {
            cluster.push(id, frame, 0);
            return Ok(());
        }
        here
    }

    pub(crate) fn push_here(&self, id: ClientId, frame: &Frame) -> Result<(), PushError> {
        self.push_bytes(id, |_| Ok(encoded(frame)), None)
    }

    /// Sends a frame to one client and waits until its last byte is written to the socket.
    ///
    /// # Errors
    /// [`PushError`] at once when nothing was queued; inside, [`NotWritten`] when the connection ended first.
    ///
    /// # Cancel safety
    /// The frame is queued when this is called. Dropping the future gives up the news, not the frame.
    pub fn push_and_wait(
        &self,
        id: ClientId,
        frame: &Frame,
    ) -> Result<impl Future<Output = Result<(), NotWritten>> + use<>, PushError> {
        let (written, outcome) = oneshot::channel();
        self.push_bytes(id, |_| Ok(encoded(frame)), Some(written))?;
        Ok(async { outcome.await.map_err(|_| NotWritten) })
    }

    /// Sends a message to one client of this node, in its dialect, outside any room; see also [`send_anywhere`](Self::send_anywhere).
    ///
    /// # Errors
    /// See [`PushError`]: nothing was queued.
    pub fn send(&self, id: ClientId, kind: Kind, body: Body) -> Result<MessageId, PushError> {
        self.send_message(id, self.message_outside_rooms(kind, body))
    }

    pub(crate) fn message_outside_rooms(&self, kind: Kind, body: Body) -> Message {
        Message {
            id: MessageId::random(),
            room: None,
            position: None,
            kind,
            from: None,
            ts: self.inner.now(),
            body,
            details: None,
        }
    }

    pub(crate) fn send_message(&self, id: ClientId, message: Message) -> Result<MessageId, PushError> {
        let id_of_message = message.id;
        let event = Event::Message(message);
        let encode = |dialect: &dyn Dialect| {
            let mut payload = Vec::new();
            let kind = dialect.encode(&event, &mut payload).ok_or(PushError::Unspeakable)?;
            Ok(encoded(&Frame { kind, bytes: Bytes::from(payload) }))
        };
        self.push_bytes(id, encode, None)?;
        Ok(id_of_message)
    }

    fn push_bytes(
        &self,
        id: ClientId,
        encode: impl FnOnce(&dyn Dialect) -> Result<Bytes, PushError>,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<(), PushError> {
        let client = self.client(id).ok_or(PushError::ClientNotFound)?;
        let dialect = &self.inner.dialects[usize::from(client.dialect())];
        let frame = encode(dialect.as_ref())?;
        let len = frame.len();
        client
            .reserve(len, self.inner.config().outbox_bytes_max)
            .map_err(|queued| PushError::SendBufferFull { queued })?;
        let command = Command::Push { client: Arc::clone(&client), frame, written };
        self.inner.shards[usize::from(client.shard)].inbox.offer(command, Command::WEIGHT + len).map_err(
            |rejected| {
                client.release(len);
                match rejected {
                    Rejected::Full => PushError::Overloaded,
                    Rejected::Closed => PushError::ClientNotFound,
                }
            },
        )
    }

    /// Sends a frame to every client of the tenant, as it is.
    ///
    /// # Errors
    /// The hub is overloaded or stopping: nobody gets the frame.
    pub fn broadcast(&self, frame: &Frame) -> Result<(), PublishError> {
        self.check_open()?;
        let publication = Arc::new(Publication::frame(frame.kind, &frame.bytes));
        self.tenant.everyone.tell(&self.inner, &publication);
        if let Some(cluster) = &self.inner.cluster {
            cluster.tell_broadcast(&self.tenant.name, frame);
        }
        Ok(())
    }

    /// Sends a message to every client of the tenant, each in its dialect, outside any room.
    ///
    /// # Errors
    /// The hub is overloaded or stopping: nobody gets the message.
    pub fn announce(&self, kind: Kind, body: Body) -> Result<MessageId, PublishError> {
        self.check_open()?;
        let draft = Draft { kind, from: None, body, details: None, key: None };
        let message = self.tenant.everyone.message(draft, self.inner.now());
        let id = message.id;
        if let Some(cluster) = &self.inner.cluster {
            cluster.tell_announcement(&self.tenant.name, &message);
        }
        let publication = Publication::message(message, self.inner.dialects.len());
        self.tenant.everyone.tell(&self.inner, &Arc::new(publication));
        Ok(id)
    }

    pub(crate) fn check_open(&self) -> Result<(), PublishError> {
        if self.inner.stopping.load(Ordering::Acquire) {
            return Err(PublishError::Stopping);
        }
        if self.inner.congestion.is_congested() {
            return Err(PublishError::Overloaded);
        }
        Ok(())
    }

    /// Puts a client into a room; the client is told. Being there already is no error.
    ///
    /// # Errors
    /// See [`JoinError`].
    ///
    /// # Cancel safety
    /// The order is given when this is first polled; dropping the future gives up the answer.
    pub async fn join(&self, id: ClientId, room: &str) -> Result<(), JoinError> {
        self.read_room(id, room).await?;
        self.order(id, room, |client, room, done| Command::Join { client, room, done }).await
    }

    /// Sees to it that a stored room knows its log.
    async fn read_room(&self, id: ClientId, room: &str) -> Result<(), JoinError> {
        let name = self.inner.room_name(room)?;
        if self.inner.keeper_of(self.inner.config().rooms.of(name.as_str())).is_none() {
            return Ok(());
        }
        let client = self.client(id).ok_or(JoinError::ClientNotFound)?;
        let room = client.tenant.directory.open(&self.inner, &name)?;
        self.inner.idle.put(&room, room.lingers());
        if room.is_read() {
            return Ok(());
        }
        let read = room.prepare(&self.inner, Need::Cursors).await;
        read.map_err(|error| JoinError::Unavailable(error.to_string()))
    }

    /// Takes a client out of a room; the client is told.
    ///
    /// # Errors
    /// See [`JoinError`].
    ///
    /// # Cancel safety
    /// The order is given when this is first polled; dropping the future gives up the answer.
    pub async fn leave(&self, id: ClientId, room: &str) -> Result<(), JoinError> {
        self.order(id, room, |client, room, done| Command::Leave { client, room, done }).await
    }

    async fn order(
        &self,
        id: ClientId,
        room: &str,
        command: impl FnOnce(crate::shard::Key, RoomName, oneshot::Sender<Result<(), JoinError>>) -> Command,
    ) -> Result<(), JoinError> {
        let room = self.inner.room_name(room)?;
        let client = self.client(id).ok_or(JoinError::ClientNotFound)?;
        let key = *client.key.get().ok_or(JoinError::ClientNotFound)?;
        let (done, outcome) = oneshot::channel();
        let inbox = &self.inner.shards[usize::from(client.shard)].inbox;
        inbox.push(command(key, room, done), Command::WEIGHT).map_err(|_| JoinError::ClientNotFound)?;
        outcome.await.unwrap_or(Err(JoinError::ClientNotFound))
    }

    /// Ends a client's connection with the given code. Returns whether there was such a client.
    pub fn disconnect(&self, id: ClientId, disconnect: Disconnect) -> bool {
        let Some(client) = self.client(id) else { return false };
        let Some(&key) = client.key.get() else { return false };
        let command = Command::Close { client: key, disconnect, reason: None };
        self.inner.shards[usize::from(client.shard)].inbox.push(command, Command::WEIGHT).is_ok()
    }

    /// What happened since the hub started.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for shard in &self.inner.shards {
            stats.add(&shard.counters);
        }
        stats
    }

    /// Waits until every shard has taken a turn: never, while one of them hangs; at once, where they have ended.
    ///
    /// # Cancel safety
    /// Nothing is lost; shards answer nobody then.
    ///
    /// # Cost
    /// One command for each shard.
    pub async fn every_shard_answers(&self) {
        let ask = |shard: &Mailbox| {
            let (reached, answer) = oneshot::channel();
            shard.inbox.push(Command::Reached(reached), 0).ok().map(|()| answer)
        };
        let answers: Vec<_> = self.inner.shards.iter().filter_map(ask).collect();
        for answer in answers {
            // An error from a shard that has ended meanwhile.
            let _ = answer.await;
        }
    }

    /// Whether the hub takes connections: it neither stops nor [drains](Self::drain).
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        !self.inner.stopping.load(Ordering::Acquire) && !self.inner.draining.load(Ordering::Acquire)
    }

    /// Stops the hub: no new connections, what clients publish is refused, what was acknowledged is delivered, then
    /// a close frame (1001) for every client, and an end when all have gone or `patience` is over. Returns whether
    /// all had gone. Calling it again waits for the same end.
    ///
    /// # Cancel safety
    /// Stopping begins when this is first polled, and goes on if the future is dropped.
    pub async fn shutdown(&self, patience: Duration) -> bool {
        if !self.inner.stopping.swap(true, Ordering::AcqRel) {
            self.inner.antechamber.close();
            self.inner.watches.close();
            let last_call = Arc::new(LastCall(Arc::clone(&self.inner)));
            for shard in &self.inner.shards {
                // A shard that has ended needs no order to.
                let _ = shard.inbox.push(Command::Stop(Arc::clone(&last_call)), 0);
            }
        }
        let mut running = self.inner.running.subscribe();
        let mut keeping = self.inner.keeping.subscribe();
        let ended = async {
            running.wait_for(|count| *count == 0).await.is_ok()
                && keeping.wait_for(|count| *count == 0).await.is_ok()
                && self.inner.antechamber.is_left().await
        };
        let ended = tokio::time::timeout(patience, ended).await.unwrap_or(false);
        if ended {
            let threads =
                std::mem::take(&mut *self.inner.threads.lock().unwrap_or_else(PoisonError::into_inner));
            for thread in threads {
                // They have left their loops; a panic in one was counted by its `Running`.
                let _ = thread.join();
            }
        }
        ended
    }

    /// Runs until `signal` is ready, then [shuts down](Self::shutdown).
    pub async fn run_until(&self, signal: impl Future<Output = ()>, patience: Duration) -> bool {
        signal.await;
        self.shutdown(patience).await
    }
}

/// The frame as bytes for a server to send.
fn encoded(frame: &Frame) -> Bytes {
    let mut bytes = Vec::with_capacity(frame.bytes.len() + 10);
    encode_frame(opcode(frame.kind), &frame.bytes, &mut bytes);
    Bytes::from(bytes)
}
