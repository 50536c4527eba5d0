//! What the back ends over a socket share: connections, and the two tasks that keep them.
//!
//! A back end says how to connect ([`Service`]) and how its protocol is spelt ([`Codec`], without I/O). A [`Subscriber`] keeps the
//! connection that messages arrive on, a [`Publisher`] the one they leave on: two, so that a feed which is full holds up what arrives
//! and nothing else. Both connect again by themselves, both find out within [`Pace::limit`] that a server is silent.
//!
//! One rule confirms everything: servers do what a connection says in its order, so the answer to a `PING` says that all before it
//! was done. Any error that a server tells ends the connection; the next attempt is made after a growing pause.
//!
//! Back-pressure is the socket's: who does not take what has arrived leaves it unread, and the server decides when it has had enough of that and hangs up.
//! Nothing is ever dropped without [`Arrival::Interrupted`](crate::Arrival::Interrupted).

mod backoff;
mod codec;
mod condition;
mod interest;
mod publisher;
mod sessions;
mod socket;
mod subscriber;
mod url;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

pub(crate) use self::codec::{Codec, Event, crc16};
pub(crate) use self::condition::{Condition, Part};
pub(crate) use self::interest::{Interest, Lane};
pub(crate) use self::publisher::Publisher;
#[cfg(feature = "redis")]
pub(crate) use self::sessions::Stale;
pub(crate) use self::sessions::{Service, Session, never};
pub(crate) use self::socket::{Place, Tls};
pub(crate) use self::subscriber::Subscriber;
pub(crate) use self::url::{Address, masked};

/// How patient a connection is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How long the server may be silent when it should answer.
    pub(crate) limit: Duration,
}

impl Pace {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit: limit.max(Duration::from_millis(100)) }
    }

    /// How often a connection that is idle is asked whether it lives.
    pub(crate) fn interval(self) -> Duration {
        self.limit / 3
    }

    pub(crate) fn too_slow(self, place: &str) -> String {
        format!("{place} did not answer within {:?}", self.limit)
    }
}

/// Tasks that end with this.
#[derive(Debug, Default)]
pub(crate) struct Tasks(Mutex<Vec<JoinHandle<()>>>);

impl Tasks {
    pub(crate) fn new(tasks: impl Into<Vec<JoinHandle<()>>>) -> Self {
        Self(Mutex::new(tasks.into()))
    }

    #[cfg(feature = "redis")]
    pub(crate) fn add(&self, task: JoinHandle<()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Ends them, and waits until they have let go of everything.
    pub(crate) async fn end(&self) {
        for task in self.abort() {
            // It was told to end; how it did says nothing.
            let _ = task.await;
        }
    }

    fn abort(&self) -> Vec<JoinHandle<()>> {
        let tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.iter().for_each(JoinHandle::abort);
        tasks
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort();
    }
}
