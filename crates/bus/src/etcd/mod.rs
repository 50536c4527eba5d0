//! Nodes that reach each other through etcd.
//!
//! Publishing puts a key per topic; hearing is one watch over all of them, filtered here by what is subscribed to, so that subscribing
//! and unsubscribing cost etcd nothing. Keys are under short leases and vanish by themselves: etcd is asked to carry, not to
//! keep. Neighbours: `keys` lays topics out, `publish` makes transactions of batches, `watch` keeps the watch up, and
//! `connection` makes the calls.

mod connection;
mod keys;
mod options;
mod proto;
mod publish;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, watch as state};
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;

use self::connection::{Connection, Failure};
use self::keys::Keys;
pub use self::options::{EtcdLogin, EtcdOptions, EtcdTls};
use self::publish::Publisher;
use crate::{Answer, BusError, BusState, MessageBus, Outgoing, Outlet, Subscriptions, Topic};

/// Below etcd's limit of a request, 1.5 MiB.
const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;

/// A node's end of an etcd cluster.
#[derive(Debug)]
pub struct EtcdBus {
    inner: Arc<Inner>,
    /// Keeps the watch up; `None` when closed.
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Inner {
    options: EtcdOptions,
    endpoints: Vec<Endpoint>,
    keys: Keys,
    subscriptions: Subscriptions,
    publisher: Publisher,
    state: state::Sender<BusState>,
    /// While the watch is up.
    link: Mutex<Link>,
    /// The connection's token has had its time.
    again: Notify,
}

#[derive(Debug)]
enum Link {
    Away,
    Up(Arc<Connection>),
    Closed,
}

impl EtcdBus {
    /// An end that connects by itself, now or whenever etcd is there. Must be called within a runtime.
    ///
    /// # Errors
    /// [`BusError::Invalid`]: an option cannot be used.
    pub fn new(options: EtcdOptions) -> Result<Self, BusError> {
        let endpoints = options.endpoints()?;
        let inner = Arc::new(Inner {
            keys: Keys::new(&options.prefix),
            options,
            endpoints,
            subscriptions: Subscriptions::default(),
            publisher: Publisher::new(),
            state: state::Sender::new(BusState {
                connected: false,
                detail: "it was not reached yet".to_owned(),
            }),
            link: Mutex::new(Link::Away),
            again: Notify::new(),
        });
        let task = tokio::spawn(watch::keep(inner.clone()));
        Ok(Self { inner, task: Mutex::new(Some(task)) })
    }
}

impl Inner {
    /// Notes how the bus is, unless it is closed.
    fn set_state(&self, connection: Option<Arc<Connection>>, state: BusState) {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*link, Link::Closed) {
            *link = connection.map_or(Link::Away, Link::Up);
            self.state.send_replace(state);
        }
    }

    /// Closes; later states do not count.
    fn close(&self) {
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        *link = Link::Closed;
        self.subscriptions.clear();
        self.state.send_replace(BusState { connected: false, detail: "it is closed".to_owned() });
    }

    fn is_closed(&self) -> bool {
        matches!(*self.link.lock().unwrap_or_else(PoisonError::into_inner), Link::Closed)
    }

    fn check(&self) -> Result<(), BusError> {
        if self.is_closed() { Err(BusError::Closed) } else { Ok(()) }
    }

    fn connection(&self) -> Result<Arc<Connection>, BusError> {
        match &*self.link.lock().unwrap_or_else(PoisonError::into_inner) {
            Link::Up(connection) => Ok(connection.clone()),
            Link::Away => Err(BusError::Unavailable(self.state.borrow().detail.clone())),
            Link::Closed => Err(BusError::Closed),
        }
    }

    async fn publish(&self, batch: &[Outgoing]) -> Result<(), BusError> {
        if let Some(large) = batch.iter().find(|outgoing| outgoing.payload.len() > PAYLOAD_BYTES_MAX) {
            return Err(BusError::TooLarge { bytes: large.payload.len(), max: PAYLOAD_BYTES_MAX });
        }
        let connection = self.connection()?;
        let published = self.publisher.publish(&connection, &self.keys, batch).await;
        published.map_err(|failure| {
            if failure == Failure::Token {
                self.again.notify_one();
            }
            BusError::Unavailable(format!("etcd: {failure}"))
        })
    }
}

impl MessageBus for EtcdBus {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn payload_bytes_max(&self) -> usize {
        PAYLOAD_BYTES_MAX
    }

    fn publish<'a>(&'a self, batch: &'a [Outgoing]) -> Answer<'a, ()> {
        Box::pin(self.inner.publish(batch))
    }

    fn subscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()> {
        Box::pin(async move {
            let inner = &self.inner;
            inner.check()?;
            for topic in topics {
                inner.subscriptions.add(topic, outlet);
            }
            // The watch covers every topic: it hears this one from when it is up, or has been all the time.
            let mut state = inner.state.subscribe();
            loop {
                // Let go of before the link is looked at: whoever changes both has the link first.
                let connected = state.borrow_and_update().connected;
                inner.check()?;
                if connected {
                    return Ok(());
                }
                state.changed().await.map_err(|_| BusError::Closed)?;
            }
        })
    }

    fn unsubscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()> {
        for topic in topics {
            self.inner.subscriptions.remove(topic, outlet);
        }
        Box::pin(std::future::ready(self.inner.check()))
    }

    fn is_subscribed(&self, topic: &Topic, outlet: &Outlet) -> bool {
        self.inner.subscriptions.sends_to(topic, outlet)
    }

    fn state(&self) -> state::Receiver<BusState> {
        self.inner.state.subscribe()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.inner.close();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        Box::pin(async move {
            if let Some(task) = task {
                task.abort();
                // It may be in the middle of a delivery; its outlets go with it.
                let _ = task.await;
            }
            Ok(())
        })
    }
}

impl Drop for EtcdBus {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}
