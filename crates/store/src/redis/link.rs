//! Connections, and when to try again to have one.
//!
//! One connection commits, another reads, so that large answers do not hold up small commits. Each carries any number of
//! commands at once, in their order. Connecting happens when a connection is needed and none is there; after failures
//! the callers wait their turn.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture,
    ServerErrorKind, Value, from_redis_value,
};
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::care::Server;
use super::errors;
use super::format;
use super::keys::Keys;
use super::options::{RedisOptions, Target};
use super::scripts::Call;
use crate::StoreError;
use crate::remote::Backoff;

/// A connection to a server, or one to each of a cluster.
#[derive(Clone)]
pub(super) enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server(_) => "Server",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(link) => link.req_packed_command(cmd),
            Self::Cluster(link) => link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(link) => link.req_packed_commands(pipeline, offset, count),
            Self::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}

impl Link {
    /// Makes a call; it is sent at the first poll. A script that the server does not know was not run, so it is loaded
    /// and called again.
    pub(super) async fn call<T: FromRedisValue>(&self, call: &Call) -> Result<T, RedisError> {
        let mut link = self.clone();
        let answer = call.cmd.query_async::<Value>(&mut link).await;
        let answer = match (answer, call.script) {
            (Err(error), Some(script)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                script.load_async(&mut link).await?;
                call.cmd.query_async::<Value>(&mut link).await
            }
            (answer, _) => answer,
        };
        Ok(from_redis_value(answer?)?)
    }
}

/// What writing needs to know from one batch to the next.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) link: Option<Link>,
    /// Whether the last batch may be written or not.
    pub(super) in_doubt: bool,
    /// Counts the commits.
    pub(super) turn: u64,
}

/// Every connection of a store.
#[derive(Debug)]
pub(super) struct Links {
    target: Target,
    pub(super) keys: Keys,
    home: Handle,
    /// Whoever commits holds the lock.
    pub(super) writer: AsyncMutex<Writer>,
    reader: AsyncMutex<Option<Link>>,
    backoff: Mutex<Backoff>,
    /// What was last found out about what a commit survives.
    durability: Mutex<Option<String>>,
    closed: AtomicBool,
}

impl Links {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, StoreError> {
        Ok(Self {
            target: Target::new(options)?,
            keys: Keys::new(&options.prefix),
            home: Handle::current(),
            writer: AsyncMutex::default(),
            reader: AsyncMutex::default(),
            backoff: Mutex::default(),
            durability: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// When what begins now must have ended.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.target.timeout
    }

    /// A new connection, as soon as one may be tried.
    pub(super) async fn connect(&self, deadline: Instant) -> Result<Link, StoreError> {
        let until = self.backoff.lock().unwrap_or_else(PoisonError::into_inner).until();
        if let Some(until) = until {
            // Half of the time is left for the attempt itself.
            sleep_until(until.min(Instant::now() + (deadline - Instant::now()) / 2)).await;
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        let opening = async {
            let link = self.dial().await?;
            self.learn(&link).await?;
            Ok(link)
        };
        let opened = timeout_at(deadline, opening).await.unwrap_or_else(|_| Err(self.too_slow()));
        let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
        match &opened {
            Ok(_) => backoff.worked(),
            Err(_) => backoff.failed(),
        }
        opened
    }

    async fn dial(&self) -> Result<Link, StoreError> {
        let (nodes, timeout) = (self.target.nodes.clone(), self.target.timeout);
        let cluster = self.target.cluster;
        // Socket and driver belong to one runtime, whichever runtime the caller is on.
        let dialled = self.home.spawn(async move {
            if cluster {
                let client = ClusterClient::builder(nodes)
                    .connection_timeout(timeout)
                    .response_timeout(timeout)
                    .overall_response_timeout(Some(timeout))
                    .retries(2)
                    .build()?;
                return client.get_async_connection().await.map(Link::Cluster);
            }
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(timeout))
                .set_response_timeout(Some(timeout));
            let node = nodes.into_iter().next().expect("a url has one at least");
            let client = Client::open(node)?;
            client.get_multiplexed_async_connection_with_config(&config).await.map(Link::Server)
        });
        let dialled = dialled.await;
        let dialled = dialled.map_err(|_| StoreError::Unavailable("the store's runtime has ended".into()))?;
        dialled.map_err(|error| errors::cannot_connect(&error, &self.target))
    }

    /// Looks at what a commit survives here; says so in the log whenever that is less than it should be.
    async fn learn(&self, link: &Link) -> Result<(), StoreError> {
        let server = Server::of(link).await.map_err(|error| errors::cannot_connect(&error, &self.target))?;
        server.check(&self.target)?;
        format::check(link, &self.keys.format(), &self.target).await?;
        let durability = server.durability();
        let known =
            self.durability.lock().unwrap_or_else(PoisonError::into_inner).replace(durability.clone());
        if server.is_weak() && known.as_ref() != Some(&durability) {
            tracing::warn!(server = %self.target.place(), "{durability}");
        }
        Ok(())
    }

    /// What a commit survives, as far as it is known.
    pub(super) fn durability(&self) -> Option<String> {
        self.durability.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection for reading.
    pub(super) async fn connect_reader(&self) -> Result<Link, StoreError> {
        let deadline = self.deadline();
        let Ok(mut reader) = timeout_at(deadline, self.reader.lock()).await else {
            return Err(self.too_slow());
        };
        if let Some(link) = &*reader {
            return Ok(link.clone());
        }
        let link = self.connect(deadline).await?;
        Ok(reader.insert(link).clone())
    }

    /// Asks something that may be asked twice: once more on a new connection if the old one turns out to be gone.
    pub(super) async fn ask<T: FromRedisValue>(&self, call: &Call) -> Result<T, StoreError> {
        let mut answers = self.ask_all(std::slice::from_ref(call)).await?;
        answers.pop().ok_or_else(|| StoreError::Unavailable("Redis gave no answer".into()))
    }

    /// Asks several things at once, each of which may be asked twice.
    pub(super) async fn ask_all<T: FromRedisValue>(&self, calls: &[Call]) -> Result<Vec<T>, StoreError> {
        let mut tries = 0;
        loop {
            let link = self.connect_reader().await?;
            let answers =
                timeout_at(self.deadline(), join_all(calls.iter().map(|call| link.call(call)))).await;
            let answers = answers.map(|answers| answers.into_iter().collect::<Result<Vec<T>, _>>());
            match answers {
                Ok(Ok(answers)) => return Ok(answers),
                Ok(Err(error)) if errors::is_answer(&error) => return Err(errors::refused(&error)),
                Ok(Err(error)) => {
                    self.forget_reader().await;
                    if tries > 0 || error.is_timeout() {
                        return Err(errors::refused(&error));
                    }
                    tries += 1;
                }
                Err(_) => {
                    self.forget_reader().await;
                    return Err(self.too_slow());
                }
            }
        }
    }

    /// The next that reads connects anew.
    pub(super) async fn forget_reader(&self) {
        *self.reader.lock().await = None;
    }

    pub(super) fn too_slow(&self) -> StoreError {
        StoreError::Unavailable(self.too_slow_text())
    }

    pub(super) fn too_slow_text(&self) -> String {
        format!("Redis at {} did not answer within {:?}", self.target.place(), self.target.timeout)
    }

    pub(super) async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.writer.lock().await.link = None;
        *self.reader.lock().await = None;
    }
}
