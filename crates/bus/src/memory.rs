//! Several nodes in one process: for tests, and as the simplest back end there is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::watch;

use crate::{Answer, BusError, BusState, MessageBus, Outgoing, Outlet, Subscriptions, Topic};

/// What the buses of several nodes share. It can be taken away, as a service can.
#[derive(Clone, Debug, Default)]
pub struct MemoryHub(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ends: Mutex<Vec<Weak<End>>>,
    away: AtomicBool,
    loses: AtomicBool,
}

/// One node's end.
#[derive(Debug)]
pub struct MemoryBus {
    hub: MemoryHub,
    end: Arc<End>,
}

#[derive(Debug)]
struct End {
    subscriptions: Subscriptions,
    state: watch::Sender<BusState>,
    closed: AtomicBool,
}

/// As large as anything may be.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

impl MemoryHub {
    /// One that nobody is connected to.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new node's end.
    #[must_use]
    pub fn connect(&self) -> MemoryBus {
        let connected = !self.0.away.load(Ordering::Acquire);
        let end = Arc::new(End {
            subscriptions: Subscriptions::default(),
            state: watch::Sender::new(BusState { connected, detail: String::new() }),
            closed: AtomicBool::new(false),
        });
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&end));
        MemoryBus { hub: self.clone(), end }
    }

    /// Carries nothing from now on.
    pub fn go_away(&self) {
        self.0.away.store(true, Ordering::Release);
        for end in self.ends() {
            end.state.send_replace(BusState { connected: false, detail: "it was taken away".to_owned() });
        }
    }

    /// Carries again; what was published meanwhile is lost.
    pub async fn come_back(&self) {
        self.0.away.store(false, Ordering::Release);
        for end in self.ends() {
            end.subscriptions.interrupted().await;
            end.state.send_replace(BusState { connected: true, detail: String::new() });
        }
    }

    /// Takes what it is given and gives it to nobody, or carries again: as a service that loses messages without a word.
    pub fn lose(&self, loses: bool) {
        self.0.loses.store(loses, Ordering::Release);
    }

    fn ends(&self) -> Vec<Arc<End>> {
        let mut ends = self.0.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|end| end.strong_count() > 0);
        ends.iter().filter_map(Weak::upgrade).collect()
    }
}

impl MemoryBus {
    fn check(&self) -> Result<(), BusError> {
        if self.end.closed.load(Ordering::Acquire) { Err(BusError::Closed) } else { Ok(()) }
    }
}

impl MessageBus for MemoryBus {
    fn name(&self) -> &'static str {
        "memory"
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
            if self.hub.0.loses.load(Ordering::Acquire) {
                return Ok(());
            }
            for outgoing in batch {
                for end in self.hub.ends() {
                    if self.hub.0.away.load(Ordering::Acquire) {
                        return Err(BusError::Unavailable("it was taken away".to_owned()));
                    }
                    end.subscriptions.deliver(&outgoing.topic, outgoing.payload.clone()).await;
                }
            }
            Ok(())
        })
    }

    fn subscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()> {
        Box::pin(async move {
            self.check()?;
            for topic in topics {
                self.end.subscriptions.add(topic, outlet);
            }
            let mut state = self.end.state.subscribe();
            let connected = state.wait_for(|state| state.connected || self.check().is_err()).await;
            connected.map_err(|_| BusError::Closed)?;
            self.check()
        })
    }

    fn unsubscribe<'a>(&'a self, topics: &'a [Topic], outlet: &'a Outlet) -> Answer<'a, ()> {
        for topic in topics {
            self.end.subscriptions.remove(topic, outlet);
        }
        Box::pin(std::future::ready(self.check()))
    }

    fn is_subscribed(&self, topic: &Topic, outlet: &Outlet) -> bool {
        self.end.subscriptions.sends_to(topic, outlet)
    }

    fn state(&self) -> watch::Receiver<BusState> {
        self.end.state.subscribe()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.end.closed.store(true, Ordering::Release);
        self.end.subscriptions.clear();
        self.end.state.send_replace(BusState { connected: false, detail: "it is closed".to_owned() });
        Box::pin(std::future::ready(Ok(())))
    }
}
