//! Several hubs as one: what happens on one node is told to the others, over a [`MessageBus`].
//!
//! The bus is a hint, the store the truth. Messages of stored rooms are told when they are durable, with their offsets; a
//! node that misses one reads it from the store (`room/follow.rs`). Rooms that are not stored are told as they are: what the
//! bus loses is lost, and counted. Who is where is told as it changes, and again when somebody asks or the bus was away
//! (`room/guests.rs`); a node that is not heard of takes its clients with it (`nodes.rs`). What may have been missed is `repair.rs`'s.
//!
//! Sending never waits, so it is done from anywhere, also under a room's lock. Hearing is one task (`run.rs`, `hear.rs`) on a
//! thread of its own. What is said, byte for byte, is in `envelope.rs`; topics: `broadcast`, `direct` and `nodes` for everybody,
//! `node/<id>` for one node, `unicast/<client>` for one client, `room/<tenant>/<room>` for who has the room.

mod ask;
mod claim;
mod envelope;
mod follow;
mod hear;
mod nodes;
mod program;
mod repair;
mod run;
mod tell;
mod topics;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ecow::{EcoString, eco_format};
use outspoke_bus::{Link, LinkCounts, LinkEvents, LinkOptions, MessageBus, NodeId, Secret, Topic};
use outspoke_protocol::{ClientId, NodeHint, RoomName, UserId};

use self::ask::Asks;
pub use self::ask::{NodeChecks, Route};
pub(crate) use self::envelope::{AccountOf, ExitWord, SeatRef};
use self::envelope::{BeatWord, Envelope};
use self::follow::Follows;
pub use self::follow::{Coverage, Told, WideFollower};
pub use self::nodes::NodeInfo;
use self::nodes::Nodes;
use self::program::Answering;
pub use self::program::{NodeAnswer, NodeAnswers, NodeSaid};
use self::repair::Repairs;
pub(crate) use self::run::run;
pub(crate) use self::tell::PlacedRecord;
use self::topics::Topics;
use crate::affinity::{prefer, user_key};
use crate::hub::{Hub, Inner};

/// How a node takes part in a cluster.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// The node's name, for people and for affinity: of its own, and the same after a restart.
    pub name: EcoString,
    /// Where clients reach this very node, if they can. Default: nothing.
    pub advertise: EcoString,
    /// What the nodes of the cluster know and nobody else: with it, what others put on the bus is not heard. Default: nothing.
    pub secret: Option<Secret>,
    /// How often the node says that it is there. One that is not heard for two of these is gone. Default: 5 s; 100 ms to 60 s.
    pub heartbeat: Duration,
    /// Bytes that may wait for the bus; more is dropped, and repaired where rooms are stored. Default: 16 MiB.
    pub queue_bytes_max: usize,
    /// What is told of the program. Default: this crate's version.
    pub version: EcoString,
}

impl ClusterOptions {
    /// The defaults, for a node of that name.
    #[must_use]
    pub fn new(name: impl Into<EcoString>) -> Self {
        Self {
            name: name.into(),
            advertise: EcoString::new(),
            secret: None,
            heartbeat: Duration::from_secs(5),
            queue_bytes_max: 16 * 1024 * 1024,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

/// This node's part in its cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    options: ClusterOptions,
    link: Link,
    /// Taken by who listens.
    events: Mutex<Option<LinkEvents>>,
    nodes: Nodes,
    topics: Topics,
    asks: Asks,
    follows: Follows,
    /// Questions of other nodes' programs.
    answering: Answering,
    repairs: Repairs,
    /// Envelopes that made no sense.
    garbage: AtomicU64,
    everybody: Topic,
    direct: Topic,
    own: Topic,
}

/// What a node counts of its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterCounts {
    /// What its link counts.
    pub link: LinkCounts,
    /// Envelopes that made no sense, in frames that did.
    pub garbage: u64,
    /// Bytes that wait for the bus.
    pub queued_bytes: usize,
}

impl Cluster {
    pub(crate) fn new(bus: Arc<dyn MessageBus>, options: ClusterOptions) -> Self {
        let link = LinkOptions {
            secret: options.secret.clone(),
            queue_bytes_max: options.queue_bytes_max,
            ..LinkOptions::default()
        };
        let own = topic_of_node(link.node);
        let (link, events) = Link::new(bus, link);
        Self {
            options,
            link,
            events: Mutex::new(Some(events)),
            nodes: Nodes::default(),
            topics: Topics::default(),
            asks: Asks::default(),
            follows: Follows::default(),
            answering: Answering::default(),
            repairs: Repairs::default(),
            garbage: AtomicU64::new(0),
            everybody: Topic::new("broadcast").expect("it is a topic"),
            direct: Topic::new("direct").expect("it is a topic"),
            own,
        }
    }

    /// This life of this node.
    pub(crate) fn node(&self) -> NodeId {
        self.link.node()
    }

    /// The name of the node that a client is with: `elsewhere`, or this one. Empty for a node that has not been heard of.
    pub(crate) fn name_of(&self, client: &crate::client::Client, elsewhere: Option<NodeId>) -> EcoString {
        if client.is_here() {
            return self.options.name.clone();
        }
        elsewhere.and_then(|node| self.nodes.name(node)).unwrap_or_default()
    }

    /// Where a room's news is told; `None` for names that no topic can have.
    pub(crate) fn topic_of(&self, tenant: &str, room: &RoomName) -> Option<Topic> {
        Topic::new(eco_format!("room/{tenant}/{}", room.as_str())).ok()
    }

    /// A room begins to be here.
    pub(crate) fn listen_to(&self, topic: &Topic) {
        self.topics.want(topic, true);
    }

    /// A room is here no more.
    pub(crate) fn stop_listening_to(&self, topic: &Topic) {
        self.topics.want(topic, false);
    }

    /// A client is here.
    pub(crate) fn client_came(&self, client: ClientId) {
        self.topics.want(&topic_of_client(client), true);
    }

    /// A client is here no more.
    pub(crate) fn client_went(&self, client: ClientId) {
        self.topics.want(&topic_of_client(client), false);
    }

    /// Says something. What does not fit into the queue is lost, which the others notice.
    fn say(&self, topic: &Topic, envelope: &Envelope<'_>) {
        self.say_encoded(topic, &envelope.encode());
    }

    fn say_encoded(&self, topic: &Topic, envelope: &[u8]) {
        if self.link.send(topic, envelope).is_err() {
            tracing::debug!(%topic, "the queue for the bus is full");
        }
    }

    fn say_to_node(&self, node: NodeId, envelope: &Envelope<'_>) {
        self.say(&topic_of_node(node), envelope);
    }

    /// Says that this node is there, and how it is.
    pub(crate) fn beat(&self, hub: &Inner, leaving: bool) {
        let word = BeatWord {
            name: self.options.name.to_string(),
            version: self.options.version.to_string(),
            advertise: self.options.advertise.to_string(),
            started: hub.started.as_millis(),
            clients: hub.registry.count() as u64,
            rooms: hub.tenants.rooms() as u64,
            interval: self.options.heartbeat.as_millis() as u64,
            draining: hub.draining.load(Ordering::Acquire),
            leaving,
            hears: self.nodes.ids().into_iter().map(NodeId::as_u128).collect(),
        };
        // The next one will do.
        let _ = self.link.beat(&word.encode(), 3 * self.options.heartbeat);
    }

    fn take_events(&self) -> Option<LinkEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn topic_of_node(node: NodeId) -> Topic {
    Topic::new(eco_format!("node/{node}")).expect("it is a topic")
}

fn topic_of_client(client: ClientId) -> Topic {
    Topic::new(eco_format!("unicast/{client}")).expect("it is a topic")
}

impl Inner {
    /// What there is to tell of this node.
    fn as_node(&self) -> NodeInfo {
        let options = self.cluster.as_ref().map(|cluster| &cluster.options);
        let text =
            |of: fn(&ClusterOptions) -> &EcoString| options.map_or("", |options| of(options)).to_owned();
        NodeInfo {
            id: self.life,
            name: text(|options| &options.name),
            version: options.map_or(env!("CARGO_PKG_VERSION"), |options| &options.version).to_owned(),
            advertise: text(|options| &options.advertise),
            started: self.started,
            clients: self.registry.count() as u64,
            rooms: self.tenants.rooms() as u64,
            draining: self.draining.load(Ordering::Acquire),
            here: true,
            silent: Duration::ZERO,
            overdue: false,
            lag: 0,
            hears_us: true,
        }
    }

    /// Which node this is, and which one a user would better be with, for the user's client; `None` for a hub that is on
    /// its own.
    pub(crate) fn node_hint(&self, tenant: &str, user: &UserId) -> Option<NodeHint> {
        let cluster = self.cluster.as_ref()?;
        let options = &cluster.options;
        let own = (!self.draining.load(Ordering::Acquire)).then_some((&*options.name, &*options.advertise));
        let (prefer, url) = cluster.nodes.prefer(own, &user_key(tenant, user.as_str())).unwrap_or_default();
        Some(NodeHint { name: options.name.clone(), prefer, url })
    }
}

impl Cluster {
    /// Where clients reach the other node that a key prefers; `None` where no other takes clients, or it does not say.
    pub(crate) fn elsewhere(&self, key: &str) -> Option<EcoString> {
        let (_, url) = self.nodes.prefer(None, key)?;
        Some(url).filter(|url| !url.is_empty())
    }
}

impl Hub {
    /// The nodes of the cluster that this one hears of, itself first. A hub that is on its own is the only one, without a
    /// name.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let cluster = self.inner.cluster.as_ref();
        let others = cluster.map(|cluster| cluster.nodes.infos(cluster.node())).unwrap_or_default();
        std::iter::once(self.inner.as_node()).chain(others).collect()
    }

    /// The node that [prefers](crate::affinity) a key, among those that take clients; `None` where none does.
    #[must_use]
    pub fn preferred_node(&self, key: &str) -> Option<NodeInfo> {
        let nodes: Vec<NodeInfo> = self.nodes().into_iter().filter(NodeInfo::takes_clients).collect();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        prefer(&names, key).map(|place| nodes[place].clone())
    }

    /// What this node has counted of its cluster; `None` for a hub that is on its own.
    #[must_use]
    pub fn cluster_counts(&self) -> Option<ClusterCounts> {
        let cluster = self.inner.cluster.as_ref()?;
        Some(ClusterCounts {
            link: cluster.link.counts(),
            garbage: cluster.garbage.load(Ordering::Relaxed) + self.inner.rulings.garbage(),
            queued_bytes: cluster.link.queued_bytes(),
        })
    }

    /// What kind of bus it is; `None` for a hub that is on its own.
    #[must_use]
    pub fn bus_name(&self) -> Option<&'static str> {
        self.inner.cluster.as_ref().map(|cluster| cluster.link.bus().name())
    }

    /// How the bus is; `None` for a hub that is on its own.
    #[must_use]
    pub fn bus_state(&self) -> Option<outspoke_bus::BusState> {
        let cluster = self.inner.cluster.as_ref()?;
        Some(cluster.link.bus().state().borrow().clone())
    }
}
