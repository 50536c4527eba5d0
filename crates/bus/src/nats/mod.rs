//! The bus over NATS: core subjects, plain subscriptions, every node gets everything it asked for.
//!
//! The connections are of this crate's own making (`remote`) and speak NATS's client protocol, five verbs of text. The library of
//! NATS's makers was looked at first (async-nats 0.51) and is good at other things: its `flush` waits for the socket, not for
//! the server; a subscription whose channel is full loses messages, of which an event tells later, in another channel than the one
//! with the hole in it; and what is published while the server is away waits in it without an answer. This contract wants an answer for each batch, a confirmation for each
//! subscription, and the loss told in its place.
//!
//! Two connections: what a feed does not take stays unread, and must not hold up what is published. NATS waits with it until
//! its `write_deadline` or `max_pending` (10 s and 64 MB by default), then hangs up; that becomes
//! [`Arrival::Interrupted`](crate::Arrival::Interrupted), as every end of a connection does.

mod codec;
mod credentials;
mod options;
mod service;
mod subjects;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use tokio::sync::watch;

pub use self::options::NatsOptions;
use self::service::Nats;
use self::subjects::Subjects;
use crate::remote::{Condition, Interest, Lane, Pace, Publisher, Subscriber, Tasks};
use crate::{Answer, BusError, BusState, MessageBus, Outgoing, Outlet, Topic};

/// A node's end of a NATS server, or of a cluster of them.
#[derive(Debug)]
pub struct NatsBus {
    subjects: Subjects,
    /// As the server says.
    payload_bytes_max: Arc<AtomicUsize>,
    condition: Condition,
    interest: Arc<Interest>,
    publisher: Publisher,
    tasks: Tasks,
}

impl NatsBus {
    /// Begins to connect, on the runtime it is called in, and goes on trying until it is closed.
    ///
    /// # Errors
    /// [`BusError::Invalid`]: a setting makes no sense; says which.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(options: &NatsOptions) -> Result<Self, BusError> {
        let subjects = Subjects::new(&options.prefix)?;
        let payload_bytes_max = Arc::new(AtomicUsize::new(service::PAYLOAD_BYTES_MIN));
        let nats = Nats::new(options, &subjects, &payload_bytes_max)?;
        let (condition, lane, pace) =
            (Condition::new(), Arc::new(Lane::default()), Pace::new(options.timeout));
        let interest = Arc::new(Interest::of_one(&lane));
        let subscriber = Subscriber::start(nats.clone(), &interest, &lane, condition.part(), pace);
        let (publisher, publishing) = Publisher::start(nats, condition.part(), pace);
        let tasks = Tasks::new([subscriber, publishing]);
        Ok(Self { subjects, payload_bytes_max, condition, interest, publisher, tasks })
    }

    fn check(&self) -> Result<(), BusError> {
        if self.condition.is_closed() { Err(BusError::Closed) } else { Ok(()) }
    }
}

impl MessageBus for NatsBus {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn payload_bytes_max(&self) -> usize {
        self.payload_bytes_max.load(Ordering::Relaxed)
    }

    fn publish<'a>(&'a self, batch: &'a [Outgoing]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.check()?;
            let max = self.payload_bytes_max();
            if let Some(large) = batch.iter().find(|outgoing| outgoing.payload.len() > max) {
                return Err(BusError::TooLarge { bytes: large.payload.len(), max });
            }
            let mut bytes =
                BytesMut::with_capacity(batch.iter().map(|outgoing| outgoing.payload.len() + 128).sum());
            for Outgoing { topic, payload } in batch {
                codec::publish(&self.subjects.of(topic), payload, &mut bytes);
            }
            let published = self.publisher.publish(bytes).await;
            self.check()?;
            published.map_err(BusError::Unavailable)
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
