//! From a configuration to a running hub.
//!
//! Collects what an embedder decides (dialects, handlers, who may connect, callbacks), checks it, and starts the
//! shards: on threads of their own, or as a task of the caller's runtime. What a running hub does is in [`crate::hub`].

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ecow::EcoString;
use outspoke_bus::MessageBus;
use outspoke_protocol::{Dialect, Durability};
use outspoke_store::Store;
use tokio::sync::watch;

use crate::analytics::Analytics;
use crate::antechamber::Antechamber;
use crate::auth::{AuthFailure, Authenticator, Authorizer, OpenByConfig};
use crate::client::Client;
use crate::client::registry::Registry;
use crate::cluster::{Cluster, ClusterOptions, NodeAnswers};
use crate::commands::{CommandHandler, CommandSpec, Commands, Doer};
use crate::config::HubConfig;
use crate::dispatcher::{Dispatcher, Handler};
use crate::error::StartError;
use crate::hub::{Departure, Hub, Inner, OnAuthFailure, OnConnect, OnDisconnect};
use crate::keeper::Keeper;
use crate::last_seen::LastSeen;
use crate::quota::Quotas;
use crate::rate::gate::Gate;
use crate::review::{Reviewer, Reviewing};
use crate::room::idle::Idle;
use crate::room::presence::Overdue;
use crate::rulings::{self, Book};
use crate::shard::inbox::{Congestion, Inbox};
use crate::shard::{Mailbox, Shard};
use crate::stats::{Counters, Doors, Measures};
use crate::tenant::{Tenants, check_declared};

/// Builds a hub: configuration, dialects, handlers, callbacks.
#[must_use = "a hub does nothing until it is started"]
pub struct HubBuilder {
    config: HubConfig,
    dialects: Vec<Arc<dyn Dialect>>,
    dispatcher: Dispatcher,
    commands: Commands,
    tenants: Vec<(EcoString, Quotas)>,
    authenticator: Option<Arc<dyn Authenticator>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    reviewer: Option<Arc<dyn Reviewer>>,
    node_answers: Option<Arc<dyn NodeAnswers>>,
    stores: Vec<(EcoString, Arc<dyn Store>)>,
    cluster: Option<(Arc<dyn MessageBus>, ClusterOptions)>,
    on_connect: Option<OnConnect>,
    on_disconnect: Option<OnDisconnect>,
    on_auth_failure: Option<OnAuthFailure>,
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl HubBuilder {
    pub(crate) fn new() -> Self {
        Self {
            config: HubConfig::default(),
            dialects: outspoke_protocol::dialects::standard(),
            dispatcher: Dispatcher::default(),
            commands: Commands::default(),
            tenants: Vec::new(),
            authenticator: None,
            authorizer: None,
            reviewer: None,
            node_answers: None,
            stores: Vec::new(),
            cluster: None,
            on_connect: None,
            on_disconnect: None,
            on_auth_failure: None,
        }
    }

    /// Replaces the configuration.
    pub fn config(mut self, config: HubConfig) -> Self {
        self.config = config;
        self
    }

    /// Replaces the dialects; the first is what a client gets that names none. At most 256.
    pub fn dialects(mut self, dialects: Vec<Arc<dyn Dialect>>) -> Self {
        self.dialects = dialects;
        self
    }

    /// Answers messages of type `name`, replacing an earlier handler for it.
    pub fn on(mut self, name: impl Into<EcoString>, handler: impl Handler) -> Self {
        self.dispatcher.insert(name.into(), Box::new(handler));
        self
    }

    /// Adds a slash command, in the place of one of that name, built-in or not.
    pub fn command(mut self, spec: CommandSpec, handler: impl CommandHandler) -> Self {
        self.commands.insert(spec, Doer::Application(Box::new(handler)));
        self
    }

    /// Takes a slash command away. A hub without any takes chat texts that begin with a slash as they are.
    pub fn without_command(mut self, name: &str) -> Self {
        self.commands.remove(name);
        self
    }

    /// Names a tenant, and says what it may use. This counts at every start, whatever was
    /// [put](Hub::put_tenant) before. The empty name is the nameless tenant's.
    pub fn tenant(mut self, name: impl Into<EcoString>, quotas: Quotas) -> Self {
        self.tenants.push((name.into(), quotas));
        self
    }

    /// Decides who may connect. Without one, everybody may ([`OpenMode`](crate::OpenMode)).
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Some(Arc::new(authenticator));
        self
    }

    /// Decides single joins and messages besides the permissions that identities bring. Without one, nobody is asked, and
    /// tokens for rooms are not accepted.
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Some(Arc::new(authorizer));
        self
    }

    /// Looks at messages of certain sorts before they are placed, and says what they say.
    pub fn reviewer(mut self, reviewer: impl Reviewer) -> Self {
        self.reviewer = Some(Arc::new(reviewer));
        self
    }

    /// Gives the hub a store for the rooms whose messages are stored, under the name that their classes use. The
    /// first one given is for every class that names none. The hub closes it when it stops.
    pub fn store(mut self, name: impl Into<EcoString>, store: Arc<dyn Store>) -> Self {
        self.stores.push((name.into(), store));
        self
    }

    /// Makes the hub a node of a cluster: what happens on the others is told here, and the other way round, over `bus`. Stores
    /// must then be [shared](Store::is_shared) by all nodes. The hub closes the bus when it stops.
    pub fn cluster(mut self, bus: Arc<dyn MessageBus>, options: ClusterOptions) -> Self {
        self.cluster = Some((bus, options));
        self
    }

    /// Answers what the same program [asks](Hub::ask_nodes) on other nodes of a cluster. Without one, they are told that nobody does.
    pub fn node_answers(mut self, answers: impl NodeAnswers) -> Self {
        self.node_answers = Some(Arc::new(answers));
        self
    }

    /// Called in a shard for every new client, after its welcome is queued. It must not block.
    pub fn on_connect(mut self, callback: impl Fn(&Arc<Client>) + Send + Sync + 'static) -> Self {
        self.on_connect = Some(Box::new(callback));
        self
    }

    /// Called in a shard exactly once for every client that [`on_connect`](Self::on_connect) saw. It must not block.
    pub fn on_disconnect(
        mut self,
        callback: impl Fn(&Arc<Client>, Departure) + Send + Sync + 'static,
    ) -> Self {
        self.on_disconnect = Some(Box::new(callback));
        self
    }

    /// Called for every credential that is not accepted or does not come: before the upgrade, as a first message, and over a
    /// connection. It must not block.
    pub fn on_auth_failure(mut self, callback: impl Fn(&AuthFailure) + Send + Sync + 'static) -> Self {
        self.on_auth_failure = Some(Box::new(callback));
        self
    }

    /// Starts the hub on threads of its own, one per shard.
    ///
    /// # Errors
    /// The configuration cannot work, or the system gives no thread or poller.
    pub fn start(self) -> Result<Hub, StartError> {
        let (inner, shards) = self.build()?;
        for keeper in &inner.keepers {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (keeper, keeping) = (Arc::clone(keeper), Keeping(Arc::clone(&inner)));
            keeper.lives_on(runtime.handle().clone());
            let name = format!("outspoke-keep-{}", keeper.name);
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                let hub = Arc::clone(&keeping.0);
                runtime.block_on(keeper.run(hub));
                drop(keeping);
            })?;
            inner.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Tenants::read_soon(&inner);
        rulings::begin(&inner);
        if inner.cluster.is_some() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let hub = Arc::clone(&inner);
            let thread = std::thread::Builder::new()
                .name("outspoke-cluster".to_owned())
                .spawn(move || runtime.block_on(crate::cluster::run(hub)))?;
            inner.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        for (index, shard) in shards.into_iter().enumerate() {
            let counts = (index == 0 && inner.keepers.is_empty()).then(|| Arc::clone(&inner));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let running = Running { hub: Arc::clone(&inner), index };
            let name = format!("outspoke-shard-{index}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                let _running = running;
                runtime.block_on(async {
                    // With a store its keeper's thread does it.
                    drop(counts.map(|hub| tokio::spawn(Analytics::run(hub, true))));
                    shard.run().await;
                });
            })?;
            inner.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(Hub::from(inner))
    }

    /// Starts the hub with one shard as a task of the runtime that the caller runs in: for small embeddings, and
    /// for tests with paused time. The runtime needs time and I/O enabled.
    ///
    /// # Errors
    /// The configuration cannot work, or the system gives no poller.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_on_this_runtime(mut self) -> Result<Hub, StartError> {
        self.config.shards = 1;
        let (inner, shards) = self.build()?;
        for keeper in &inner.keepers {
            let (keeper, keeping) = (Arc::clone(keeper), Keeping(Arc::clone(&inner)));
            keeper.lives_on(tokio::runtime::Handle::current());
            tokio::spawn(async move {
                keeper.run(Arc::clone(&keeping.0)).await;
                drop(keeping);
            });
        }
        Tenants::read_soon(&inner);
        rulings::begin(&inner);
        if inner.cluster.is_some() {
            drop(tokio::spawn(crate::cluster::run(Arc::clone(&inner))));
        }
        if inner.keepers.is_empty() {
            drop(tokio::spawn(Analytics::run(Arc::clone(&inner), true)));
        }
        for (index, shard) in shards.into_iter().enumerate() {
            let running = Running { hub: Arc::clone(&inner), index };
            tokio::spawn(async move {
                let _running = running;
                shard.run().await;
            });
        }
        Ok(Hub::from(inner))
    }

    fn build(self) -> Result<(Arc<Inner>, Vec<Shard>), StartError> {
        let Self {
            config,
            dialects,
            dispatcher,
            commands,
            tenants,
            authenticator,
            authorizer,
            reviewer,
            node_answers,
            stores,
            cluster,
            on_connect,
            on_disconnect,
            on_auth_failure,
        } = self;
        config.validate()?;
        check_stores(&config, &stores)?;
        let cluster = match cluster {
            Some((bus, options)) => {
                check_cluster(&options, &stores)?;
                Some(Cluster::new(bus, options))
            }
            None => None,
        };
        let commands = commands.finish()?;
        let keeper = |(name, store)| Arc::new(Keeper::new(name, store, config.store_queue_bytes_max));
        let keepers: Vec<_> = stores.into_iter().map(keeper).collect();
        let count = config.shard_count();
        let congestion = Arc::new(Congestion::default());
        let mailbox = || Mailbox {
            inbox: Inbox::new(config.inbox_bytes_max, Arc::clone(&congestion)),
            counters: Counters::default(),
            measures: Measures::default(),
        };
        let open_mode = Arc::new(OpenByConfig::new(&config));
        let known = Tenants::new(count, &config.rooms.default, config.tenants, config.tenant_quotas);
        for (name, _) in &tenants {
            let invalid = |error| StartError::InvalidTenant { name: name.to_string(), error };
            check_declared(name).map_err(invalid)?;
        }
        let _ = known.declare_all(&tenants);
        let inner = Arc::new(Inner {
            dialects,
            dispatcher,
            commands,
            authenticator: authenticator.unwrap_or_else(|| Arc::clone(&open_mode) as _),
            open_mode,
            asks: authorizer.as_ref().map(|authorizer| authorizer.asks()).unwrap_or_default(),
            authorizer,
            reviewing: reviewer.map(Reviewing::new),
            node_answers,
            shards: (0..count).map(|_| mailbox()).collect(),
            registry: Arc::new(Registry::new(config.connections_max)),
            tenants: known,
            rulings: Book::default(),
            gate: Gate::default(),
            life: cluster.as_ref().map_or_else(outspoke_bus::NodeId::new, Cluster::node),
            started: outspoke_protocol::Timestamp::from_system_time(std::time::SystemTime::now()),
            cluster,
            keeping: watch::Sender::new(keepers.len()),
            keepers,
            analytics: Analytics::new(config.analytics),
            watches: crate::trace::follow::Watches::default(),
            traces: crate::trace::Traces::new(config.remembered_messages_max),
            idle: Idle::default(),
            overdue: Overdue::default(),
            last_seen: LastSeen::default(),
            history_cache: Arc::default(),
            history_memory: Arc::default(),
            congestion,
            on_connect,
            on_disconnect,
            on_auth_failure,
            doors: Doors::default(),
            antechamber: Antechamber::default(),
            next_shard: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            drain_orders: AtomicU64::new(0),
            running: watch::Sender::new(count),
            reconfiguring: Mutex::default(),
            threads: Mutex::default(),
            timers: OnceLock::new(),
            myself: OnceLock::new(),
            config: ArcSwap::from_pointee(config),
        });
        let _ = inner.myself.set(Arc::downgrade(&inner));
        let shards: std::io::Result<Vec<Shard>> =
            (0..count).map(|index| Shard::new(index, Arc::clone(&inner))).collect();
        Ok((inner, shards?))
    }
}

/// What a cluster needs.
fn check_cluster(options: &ClusterOptions, stores: &[(EcoString, Arc<dyn Store>)]) -> Result<(), StartError> {
    if let Some((name, store)) = stores.iter().find(|(_, store)| !store.is_shared()) {
        return Err(StartError::StoreNotShared { store: name.to_string(), backend: store.name() });
    }
    let heartbeat = Duration::from_millis(100)..=Duration::from_secs(60);
    if options.name.is_empty() || !heartbeat.contains(&options.heartbeat) {
        return Err(StartError::InvalidCluster);
    }
    Ok(())
}

/// Every class that is stored must have where.
fn check_stores(config: &HubConfig, stores: &[(EcoString, Arc<dyn Store>)]) -> Result<(), StartError> {
    for class in config.rooms.iter().filter(|class| class.durability == Durability::Stored) {
        let known = match &class.store {
            Some(name) => stores.iter().any(|(known, _)| known == name),
            None => !stores.is_empty(),
        };
        if !known {
            let store = class.store.clone().unwrap_or_default().to_string();
            return Err(StartError::NoSuchStore { pattern: class.pattern.to_string(), store });
        }
    }
    Ok(())
}

/// Counts a keeper as at work until it ends, however it does.
struct Keeping(Arc<Inner>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.keeping.send_modify(|count| *count -= 1);
    }
}

/// Counts a shard as running until it ends, however it does.
struct Running {
    hub: Arc<Inner>,
    index: usize,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whatever is left is given up, so that nobody waits for a shard that will not come to it.
        self.hub.shards[self.index].inbox.close();
        self.hub.running.send_modify(|count| *count -= 1);
    }
}
