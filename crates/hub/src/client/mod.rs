//! The server's side of one connection, as the rest of the hub sees it.
//!
//! Shared between the shard that owns the connection and whoever holds its id. What only the shard may touch
//! (the stream, the codec, the queue itself) is in `shard/connection.rs`.

pub(crate) mod budget;
mod index;
pub(crate) mod outbox;
pub(crate) mod registry;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use ecow::EcoString;
use outspoke_protocol::{ClientId, Publisher, UserId};

use self::budget::Budget;
use crate::auth::Identity;
use crate::peer::ClientAddress;
use crate::shard::Key;
use crate::tenant::Tenant;

/// No shard has this number: there are at most 64.
const ELSEWHERE: u8 = u8::MAX;

/// One connected client.
#[derive(Debug)]
pub struct Client {
    id: ClientId,
    identity: Identity,
    /// Who it has shown to be, or was said to be, since: nothing until then.
    standing: OnceLock<ArcSwap<Identity>>,
    /// The name since it was last changed.
    renamed: ArcSwapOption<EcoString>,
    pub(crate) tenant: Arc<Tenant>,
    connected: Instant,
    address: Option<ClientAddress>,
    dialect: u8,
    /// It was told to go to another node.
    away: AtomicBool,
    pub(crate) shard: u8,
    pub(crate) key: OnceLock<Key>,
    /// What waits for this client, in its outbox or in its shard's inbox on the way there.
    queue: Budget,
}

/// A look at what holds for a client.
pub(crate) enum Standing<'a> {
    First(&'a Identity),
    Later(Guard<Arc<Identity>>),
}

impl Deref for Standing<'_> {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        match self {
            Self::First(identity) => identity,
            Self::Later(identity) => identity,
        }
    }
}

impl Client {
    pub(crate) fn new(identity: Identity, tenant: Arc<Tenant>, dialect: u8, shard: u8) -> Self {
        Self {
            id: ClientId::random(),
            identity,
            standing: OnceLock::new(),
            renamed: ArcSwapOption::empty(),
            tenant,
            connected: Instant::now(),
            address: None,
            dialect,
            away: AtomicBool::new(false),
            shard,
            key: OnceLock::new(),
            queue: Budget::default(),
        }
    }

    /// The same client, from that address.
    pub(crate) fn at(self, address: Option<ClientAddress>) -> Self {
        Self { address, ..self }
    }

    /// A client on another node, as a member of rooms.
    pub(crate) fn elsewhere(id: ClientId, identity: Identity, tenant: Arc<Tenant>) -> Self {
        Self { id, ..Self::new(identity, tenant, 0, ELSEWHERE) }
    }

    /// It is told to go to another node. Returns whether it was before.
    pub(crate) fn send_away(&self) -> bool {
        self.away.swap(true, Ordering::Relaxed)
    }

    /// Whether it was told to go to another node.
    pub(crate) fn was_sent_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Whether it is connected to this hub.
    pub(crate) fn is_here(&self) -> bool {
        self.shard != ELSEWHERE
    }

    /// The connection's id.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Who is behind the connection, as it came; its [name](Self::name) may have changed, and what it may do
    /// [as well](Self::standing).
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What holds now: the identity that the last accepted credential gave, or the application since. User, tenant and device
    /// are those of [`identity`](Self::identity), of which this is a copy as long as nothing else was said.
    #[must_use]
    pub fn standing(&self) -> Arc<Identity> {
        match self.standing.get() {
            None => Arc::new(self.identity.clone()),
            Some(standing) => standing.load_full(),
        }
    }

    /// What holds now, to look at. Costs one load as long as nothing else was said since the connect.
    pub(crate) fn holds(&self) -> Standing<'_> {
        match self.standing.get() {
            None => Standing::First(&self.identity),
            Some(standing) => Standing::Later(standing.load()),
        }
    }

    /// Says what holds from now on. The client's shard must be told to [reconsider](crate::shard::command::Command::Reconsider)
    /// what the client is doing already.
    pub(crate) fn set_standing(&self, identity: Identity) {
        // Who it is was settled at the connect; only what it may do changes.
        let Identity { tenant, user, device, anonymous, .. } = self.identity.clone();
        let identity = Arc::new(Identity { tenant, user, device, anonymous, ..identity });
        self.standing.get_or_init(|| ArcSwap::new(Arc::clone(&identity))).store(identity);
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &UserId {
        &self.identity.user
    }

    /// The name shown to people now; empty when there is none.
    #[must_use]
    pub fn name(&self) -> EcoString {
        match &*self.renamed.load() {
            Some(name) => EcoString::clone(name),
            None => self.identity.name.clone(),
        }
    }

    /// Gives the client another name to show.
    pub(crate) fn rename(&self, name: EcoString) {
        self.renamed.store(Some(Arc::new(name)));
    }

    /// When the connection was attached to the hub.
    #[must_use]
    pub fn connected(&self) -> Instant {
        self.connected
    }

    /// From where it came: `None` for one on another node, and where the HTTP server did not say.
    #[must_use]
    pub fn address(&self) -> Option<ClientAddress> {
        self.address
    }

    /// The dialect's index in [`Hub::dialects`](crate::Hub::dialects).
    #[must_use]
    pub fn dialect(&self) -> u8 {
        self.dialect
    }

    /// Bytes waiting for this client to read.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.used()
    }

    /// The client as the publisher of a message.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher { user: self.identity.user.clone(), name: self.name(), client: self.id }
    }

    /// Takes `bytes` of the queue if they fit under `max`; says how much was queued if they do not.
    pub(crate) fn reserve(&self, bytes: usize, max: usize) -> Result<(), usize> {
        self.queue.reserve(bytes, max)
    }

    /// Takes `bytes` of the queue whatever its level.
    pub(crate) fn charge(&self, bytes: usize) {
        self.queue.charge(bytes);
    }

    /// Gives `bytes` of the queue back.
    pub(crate) fn release(&self, bytes: usize) {
        self.queue.release(bytes);
    }
}

// With the two counts of its `Arc` it fills the allocator's class of 256 bytes; the next is one of 320.
const _: () = assert!(size_of::<Client>() <= 240);
