//! From a configuration to a running hub.
//!
//! Collects what an embedder decides (dialects, handlers, who may connect, callbacks), checks it, and starts the
//! shards: on threads of their own, or as a task of the caller's runtime. What a running hub does is in [`crate::hub`].

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError};

use ecow::EcoString;
use outspoke_protocol::Dialect;
use outspoke_websocket::Limits;
use tokio::sync::watch;

use crate::auth::{Authenticator, OpenMode};
use crate::client::Client;
use crate::client::registry::Registry;
use crate::config::HubConfig;
use crate::dispatcher::{Dispatcher, Handler};
use crate::error::StartError;
use crate::hub::{Departure, Hub, Inner, OnConnect, OnDisconnect};
use crate::room::directory::Directory;
use crate::shard::inbox::{Congestion, Inbox};
use crate::shard::{Mailbox, Shard};
use crate::stats::Counters;

/// Builds a hub: configuration, dialects, handlers, callbacks.
#[must_use = "a hub does nothing until it is started"]
pub struct HubBuilder {
    config: HubConfig,
    dialects: Vec<Arc<dyn Dialect>>,
    dispatcher: Dispatcher,
    authenticator: Option<Arc<dyn Authenticator>>,
    on_connect: Option<OnConnect>,
    on_disconnect: Option<OnDisconnect>,
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
            authenticator: None,
            on_connect: None,
            on_disconnect: None,
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

    /// Decides who may connect. Without one, everybody may ([`OpenMode`]).
    pub fn authenticator(mut self, authenticator: impl Authenticator) -> Self {
        self.authenticator = Some(Arc::new(authenticator));
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

    /// Starts the hub on threads of its own, one per shard.
    ///
    /// # Errors
    /// The configuration cannot work, or the system gives no thread or poller.
    pub fn start(self) -> Result<Hub, StartError> {
        let (inner, shards) = self.build()?;
        for (index, shard) in shards.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let running = Running { hub: Arc::clone(&inner), index };
            let name = format!("outspoke-shard-{index}");
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                let _running = running;
                runtime.block_on(shard.run());
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
        let Self { config, dialects, dispatcher, authenticator, on_connect, on_disconnect } = self;
        config.validate()?;
        let count = config.shard_count();
        let congestion = Arc::new(Congestion::default());
        let mailbox = || Mailbox {
            inbox: Inbox::new(config.inbox_bytes_max, Arc::clone(&congestion)),
            counters: Counters::default(),
        };
        let open = OpenMode {
            username_chars_max: config.username_chars_max,
            user_id_bytes_max: config.user_id_bytes_max,
        };
        let inner = Arc::new(Inner {
            limits: Limits::new(config.message_bytes_max),
            dialects,
            dispatcher,
            authenticator: authenticator.unwrap_or_else(|| Arc::new(open)),
            shards: (0..count).map(|_| mailbox()).collect(),
            registry: Arc::new(Registry::new(config.connections_max)),
            directory: Directory::new(count),
            congestion,
            on_connect,
            on_disconnect,
            next_shard: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            running: watch::Sender::new(count),
            threads: Mutex::default(),
            config,
        });
        let shards: std::io::Result<Vec<Shard>> =
            (0..count).map(|index| Shard::new(index, Arc::clone(&inner))).collect();
        Ok((inner, shards?))
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
