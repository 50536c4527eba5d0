//! The bus over Redis: publish and subscribe, through one server, a master that sentinels watch over, or a cluster.
//!
//! The connections are of this crate's own making (`remote`) and speak version 2 of Redis's protocol, so that servers of any age
//! will do, and what only speaks as Redis does. The library that the stores use (redis 1.8) was looked at first: whatever arrives on its
//! subscriptions, of every kind, goes into a queue without a bound, so that a feed which is slow would take this node's memory instead of Redis's
//! buffers, which have limits; in a cluster it subscribes again by itself after an interruption of which it says nothing.
//!
//! Two connections to each server: what a feed does not take stays unread, and must not hold up what is published. Redis waits with it up to its
//! `client-output-buffer-limit` for `pubsub` (32 MB, or 8 MB for a minute, by default), then hangs up; that becomes
//! [`Arrival::Interrupted`](crate::Arrival::Interrupted), as every end of a connection does.

mod cluster;
mod codec;
mod errors;
mod options;
mod resp;
mod server;

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::watch;

use self::cluster::Cluster;
use self::codec::Channels;
pub use self::options::RedisOptions;
use self::options::Target;
use self::server::Server;
use crate::remote::{Condition, Interest, Lane, Pace, Publisher, Subscriber, Tasks};
use crate::{Answer, BusError, BusState, MessageBus, Outgoing, Outlet, Topic};

/// A quarter of what Redis keeps for a subscriber by default: a few may wait, and it still does not hang up.
const PAYLOAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A node's end of a Redis server, or of a cluster of them.
#[derive(Debug)]
pub struct RedisBus {
    channels: Channels,
    condition: Condition,
    interest: Arc<Interest>,
    way: Way,
    tasks: Tasks,
}

/// Where batches go.
#[derive(Debug)]
enum Way {
    One(Publisher),
    Cluster(Cluster),
}

impl RedisBus {
    /// Begins to connect, on the runtime it is called in, and goes on trying until it is closed.
    ///
    /// # Errors
    /// [`BusError::Invalid`]: a setting makes no sense; says which.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(options: &RedisOptions) -> Result<Self, BusError> {
        let target = Arc::new(Target::new(options)?);
        let (condition, lane, pace) =
            (Condition::new(), Arc::new(Lane::default()), Pace::new(options.timeout));
        let channels = Channels::new(&options.prefix, options.cluster);
        if options.cluster {
            // No node is known yet.
            let interest = Arc::new(Interest::new(Arc::new(|_| None)));
            let (cluster, keeper) = Cluster::new(target, &channels, &interest, &condition, pace);
            let tasks = Tasks::new([tokio::spawn(keeper.run())]);
            return Ok(Self { channels, condition, interest, way: Way::Cluster(cluster), tasks });
        }
        let interest = Arc::new(Interest::of_one(&lane));
        let server = Server::new(&target, &channels, pace);
        let subscriber = Subscriber::start(server.clone(), &interest, &lane, condition.part(), pace);
        let (publisher, publishing) = Publisher::start(server, condition.part(), pace);
        let tasks = Tasks::new([subscriber, publishing]);
        Ok(Self { channels, condition, interest, way: Way::One(publisher), tasks })
    }

    fn check(&self) -> Result<(), BusError> {
        if self.condition.is_closed() { Err(BusError::Closed) } else { Ok(()) }
    }

    async fn send(&self, batch: &[Outgoing]) -> Result<(), String> {
        let publisher = match &self.way {
            Way::One(publisher) => publisher,
            Way::Cluster(cluster) => return cluster.publish(batch).await,
        };
        let mut bytes =
            BytesMut::with_capacity(batch.iter().map(|outgoing| outgoing.payload.len() + 128).sum());
        for Outgoing { topic, payload } in batch {
            self.channels.publish(&self.channels.of(topic), payload, &mut bytes);
        }
        publisher.publish(bytes).await
    }
}

impl MessageBus for RedisBus {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    fn publish<'a>(&'a self, batch: &'a [Outgoing]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.check()?;
            if let Some(large) = batch.iter().find(|outgoing| outgoing.payload.len() > PAYLOAD_BYTES_MAX) {
                return Err(BusError::TooLarge { bytes: large.payload.len(), max: PAYLOAD_BYTES_MAX });
            }
            let sent = self.send(batch).await;
            self.check()?;
            sent.map_err(BusError::Unavailable)
        })
    }

    fn subscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()> {
        Box::pin(async move {
            self.check()?;
            self.interest.add(topics, outlet);
            self.interest.confirmed(topics, || self.condition.is_closed()).await;
            self.check()
        })
    }

    fn unsubscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()> {
        self.interest.remove(topics, outlet);
        Box::pin(std::future::ready(self.check()))
    }

    fn is_subscribed(&self, topic: &Topic, outlet: &Outlet) -> bool {
        self.interest.subscriptions.sends_to(topic, outlet)
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.condition.watch()
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            self.condition.close();
            self.interest.clear();
            self.tasks.end().await;
            Ok(())
        })
    }
}
