//! The contract between a node and whatever carries its bytes to the others.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::Topic;

/// A bus's answer, in time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, BusError>> + Send + 'a>>;

/// Bytes on their way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Who is subscribed to it gets them.
    pub topic: Topic,
    /// At most [`MessageBus::payload_bytes_max`].
    pub payload: Bytes,
}

/// What comes out of a [`Feed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes that somebody published; also this node itself.
    Message {
        /// The topic as it was subscribed to.
        topic: Topic,
        /// As published.
        payload: Bytes,
    },
    /// The bus was away, or this node too slow for it: of every topic that the feed has, messages may be missing before what
    /// comes next. Every subscription works again. A bus that has come back and knows that nothing is missing does not say so.
    Interrupted,
}

/// How a bus is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusState {
    /// Whether the service answers, and what is subscribed to is heard.
    pub connected: bool,
    /// What is wrong, and what to do about it, without secrets; empty when all is well.
    pub detail: String,
}

/// Why a bus did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The service cannot be reached, or did not answer in time. Some of a batch may have been published.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// A payload is larger than the service takes. Nothing of the batch was published.
    #[error("{bytes} bytes are more than the bus carries in one message ({max})")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// A setting cannot be used.
    #[error("the bus refuses: {0}")]
    Invalid(String),
    /// [`MessageBus::close`] was called.
    #[error("the bus is closed")]
    Closed,
}

/// Carries bytes between nodes.
///
/// **Order**: what one bus object publishes on one topic arrives in the order in which it was published, everywhere.
/// **Delivery** is at most once or at least once, as the service has it: [`Arrival::Interrupted`] says when something may be missing;
/// what comes twice, and what a node gets of its own, the [`Link`](crate::Link) drops.
///
/// Back ends connect by themselves, and again when they have lost the service, with growing pauses, until they are
/// closed; nobody has to ask. They start without the service too. No method blocks its thread; none panics on what
/// the service says.
pub trait MessageBus: fmt::Debug + Send + Sync + 'static {
    /// The back end's name, as configuration writes it.
    fn name(&self) -> &'static str;

    /// Longest payload, in bytes. May become known only with the first connection; at least 64 KiB.
    fn payload_bytes_max(&self) -> usize;

    /// Publishes a batch in its order and answers when the service has taken all of it. One call at a time.
    ///
    /// # Errors
    /// After [`BusError::Unavailable`] the caller may publish *the same* batch again: what comes twice is dropped by
    /// who receives it. The call gives up after the back end's time limit, it does not wait for a service that is away.
    ///
    /// # Cancel safety
    /// As after [`BusError::Unavailable`].
    fn publish<'a>(&'a self, batch: &'a [Outgoing]) -> Answer<'a, ()>;

    /// Sends what is published on these topics to `outlet` from now on, also after any reconnection. Answers when the
    /// service has confirmed it: what is published after that, anywhere, arrives. A topic that is subscribed to already is
    /// no error. A topic may have several outlets.
    ///
    /// While the service is away this waits; the subscription is noted at once, and stays when the future is dropped.
    fn subscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()>;

    /// Ends subscriptions. What is on its way may still arrive. A topic that was not subscribed to is no error. Does not wait for the
    /// service.
    fn unsubscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()>;

    /// Whether the topic is subscribed to with that outlet, confirmed or not.
    fn is_subscribed(&self, topic: &Topic, outlet: &Outlet) -> bool;

    /// How the bus is, and every change of it.
    fn state(&self) -> watch::Receiver<BusState>;

    /// Ends every subscription and lets go of the connections. Feeds end; later calls fail with [`BusError::Closed`].
    fn close(&self) -> Answer<'_, ()>;
}

/// Arrivals that a feed holds before the bus has to wait.
pub(crate) const FEED_LEN: usize = 4096;

/// A pair to subscribe with: what is put into the outlet comes out of the feed.
#[must_use]
pub fn feed() -> (Outlet, Feed) {
    let (sender, receiver) = mpsc::channel(FEED_LEN);
    (Outlet(sender), Feed(receiver))
}

/// Where a subscription delivers to. Clones are the same outlet.
#[derive(Clone, Debug)]
pub struct Outlet(mpsc::Sender<Arrival>);

impl Outlet {
    /// Delivers, and waits while the feed is full. Returns whether anybody still listens.
    pub async fn send(&self, arrival: Arrival) -> bool {
        self.0.send(arrival).await.is_ok()
    }

    /// Delivers unless the feed is full.
    ///
    /// # Errors
    /// It is full, or nobody listens any more.
    pub fn try_send(&self, arrival: Arrival) -> Result<(), Arrival> {
        self.0.try_send(arrival).map_err(mpsc::error::TrySendError::into_inner)
    }

    /// Whether nobody listens any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    #[cfg(feature = "suite")]
    pub(crate) fn is_full(&self) -> bool {
        self.0.capacity() == 0
    }

    /// Whether it is the same outlet.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

/// What subscriptions have brought.
#[derive(Debug)]
pub struct Feed(mpsc::Receiver<Arrival>);

impl Feed {
    /// The next arrival; `None` when the bus is closed and every outlet is gone.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Arrival> {
        self.0.recv().await
    }

    /// An arrival that is there already.
    pub fn try_next(&mut self) -> Option<Arrival> {
        self.0.try_recv().ok()
    }
}
