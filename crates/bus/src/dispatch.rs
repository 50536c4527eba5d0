//! Who is subscribed to what: the part that every back end has.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{Arrival, Outlet, Topic};

/// The subscriptions of one bus object.
#[derive(Debug, Default)]
pub struct Subscriptions(Mutex<HashMap<Topic, Vec<Outlet>>>);

impl Subscriptions {
    /// Notes an outlet for a topic. Returns whether it is the topic's first: the service must be told.
    pub fn add(&self, topic: &Topic, outlet: &Outlet) -> bool {
        let mut topics = self.lock();
        let outlets = topics.entry(topic.clone()).or_default();
        if !outlets.iter().any(|known| known.is(outlet)) {
            outlets.push(outlet.clone());
        }
        outlets.len() == 1
    }

    /// Forgets an outlet of a topic. Returns whether it was the topic's last: the service need not send it any more.
    pub fn remove(&self, topic: &Topic, outlet: &Outlet) -> bool {
        let mut topics = self.lock();
        let Some(outlets) = topics.get_mut(topic) else { return false };
        outlets.retain(|known| !known.is(outlet) && !known.is_closed());
        let last = outlets.is_empty();
        if last {
            topics.remove(topic);
        }
        last
    }

    /// Every topic, in no order.
    #[must_use]
    pub fn topics(&self) -> Vec<Topic> {
        self.lock().keys().cloned().collect()
    }

    /// Whether anybody is subscribed to a topic.
    #[must_use]
    pub fn has(&self, topic: &Topic) -> bool {
        self.lock().contains_key(topic)
    }

    /// Whether that outlet is subscribed to a topic.
    #[must_use]
    pub fn sends_to(&self, topic: &Topic, outlet: &Outlet) -> bool {
        self.lock().get(topic).is_some_and(|outlets| outlets.iter().any(|known| known.is(outlet)))
    }

    /// Delivers to the topic's outlets; waits for those that are full.
    pub async fn deliver(&self, topic: &Topic, payload: Bytes) {
        let outlets = self.lock().get(topic).cloned().unwrap_or_default();
        for outlet in outlets {
            // One that nobody listens to goes with its next removal.
            outlet.send(Arrival::Message { topic: topic.clone(), payload: payload.clone() }).await;
        }
    }

    /// Tells every outlet, once, that something may be missing.
    pub async fn interrupted(&self) {
        let mut distinct: Vec<Outlet> = Vec::new();
        for outlet in self.lock().values().flatten() {
            if !distinct.iter().any(|known| known.is(outlet)) {
                distinct.push(outlet.clone());
            }
        }
        for outlet in distinct {
            outlet.send(Arrival::Interrupted).await;
        }
    }

    /// Lets go of everything: the feeds end.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Vec<Outlet>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
