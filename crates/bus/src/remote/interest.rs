//! Who wants which topic, and which of them the service has confirmed.
//!
//! The contract's methods change what is wanted, at once and without waiting; each connection has a [`Lane`] of topics to look at and
//! makes what it asks the server for equal to what is wanted. Both sides decide under one lock: a topic that a connection gives
//! up is no longer confirmed for anybody, whatever happens in the same moment.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::{Outlet, Subscriptions, Topic};

/// Which lane a topic takes; `None` while nobody is there to serve it.
pub(crate) type Route = Arc<dyn Fn(&Topic) -> Option<Arc<Lane>> + Send + Sync>;

/// The topics that are wanted of one bus object.
pub(crate) struct Interest {
    pub(crate) subscriptions: Subscriptions,
    inner: Mutex<Inner>,
    /// Counts whenever something was confirmed, or the bus closed.
    confirmed: watch::Sender<u64>,
}

struct Inner {
    topics: HashMap<Topic, Standing>,
    route: Route,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Never confirmed yet.
    Wanted,
    Confirmed,
    /// It was confirmed, and then the server gone: something may be missing.
    Lost,
}

/// The topics that one connection has to look at.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    changed: Mutex<HashSet<Topic>>,
    wake: Notify,
}

/// What a connection has to do about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Ask for it, if not done yet, and confirm it.
    Have,
    /// Ask for it no longer.
    Drop,
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest").field("subscriptions", &self.subscriptions).finish_non_exhaustive()
    }
}

impl Lane {
    /// Waits for something to do.
    pub(crate) async fn changed(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn add(&self, topic: &Topic) {
        self.lock().insert(topic.clone());
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Topic>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    pub(crate) fn new(route: Route) -> Self {
        let inner = Inner { topics: HashMap::new(), route };
        Self {
            subscriptions: Subscriptions::default(),
            inner: Mutex::new(inner),
            confirmed: watch::Sender::new(0),
        }
    }

    /// Of a service with one connection for all topics.
    pub(crate) fn of_one(lane: &Arc<Lane>) -> Self {
        let lane = Arc::clone(lane);
        Self::new(Arc::new(move |_| Some(Arc::clone(&lane))))
    }

    pub(crate) fn add(&self, topics: &[Topic], outlet: &Outlet) {
        let mut inner = self.lock();
        for topic in topics {
            self.subscriptions.add(topic, outlet);
            if !inner.topics.contains_key(topic) {
                inner.topics.insert(topic.clone(), Standing::Wanted);
                inner.look_at(topic);
            }
        }
    }

    pub(crate) fn remove(&self, topics: &[Topic], outlet: &Outlet) {
        let mut inner = self.lock();
        for topic in topics {
            if self.subscriptions.remove(topic, outlet) {
                inner.topics.remove(topic);
                inner.look_at(topic);
            }
        }
    }

    /// Wants nothing any more.
    pub(crate) fn clear(&self) {
        let mut inner = self.lock();
        inner.topics.clear();
        self.subscriptions.clear();
        drop(inner);
        self.confirmed.send_modify(|count| *count += 1);
    }

    /// Waits until the service has confirmed all of these that are wanted; or until `ended`.
    pub(crate) async fn confirmed(&self, topics: &[Topic], ended: impl Fn() -> bool) {
        let mut confirmed = self.confirmed.subscribe();
        while !ended() && !self.are_confirmed(topics) {
            // The sender lives as long as this object.
            let _ = confirmed.changed().await;
        }
    }

    fn are_confirmed(&self, topics: &[Topic]) -> bool {
        let inner = self.lock();
        topics
            .iter()
            .all(|topic| inner.topics.get(topic).is_none_or(|&standing| standing == Standing::Confirmed))
    }

    /// Takes some of what a lane has to look at.
    pub(crate) fn take(&self, lane: &Arc<Lane>, max: usize) -> Vec<(Topic, Wish)> {
        let inner = self.lock();
        let mut changed = lane.lock();
        let some: Vec<Topic> = changed.iter().take(max).cloned().collect();
        let wishes = some.into_iter().map(|topic| {
            changed.remove(&topic);
            let wish = if inner.topics.contains_key(&topic) && inner.leads_to(&topic, lane) {
                Wish::Have
            } else {
                Wish::Drop
            };
            (topic, wish)
        });
        wishes.collect()
    }

    /// A server has confirmed topics. Returns whether one of them had been lost before.
    pub(crate) fn confirm(&self, lane: &Arc<Lane>, topics: impl Iterator<Item = Topic>) -> bool {
        let mut inner = self.lock();
        let mut lost = false;
        for topic in topics {
            if !inner.leads_to(&topic, lane) {
                continue;
            }
            if let Some(standing) = inner.topics.get_mut(&topic) {
                lost |= *standing == Standing::Lost;
                *standing = Standing::Confirmed;
            }
        }
        drop(inner);
        self.confirmed.send_modify(|count| *count += 1);
        lost
    }

    /// A connection begins: all topics of its lane are to be looked at.
    pub(crate) fn begin(&self, lane: &Arc<Lane>) {
        let inner = self.lock();
        inner.topics.keys().filter(|topic| inner.leads_to(topic, lane)).for_each(|topic| lane.add(topic));
    }

    /// A lane has topics no longer; those that take another lane by now are no concern of this one.
    pub(crate) fn lose<'a>(&self, lane: &Arc<Lane>, topics: impl Iterator<Item = &'a Topic>) {
        let mut inner = self.lock();
        for topic in topics {
            if inner.leads_to(topic, lane) {
                inner.lose(topic);
            }
        }
    }

    /// Topics take other lanes from now on.
    #[cfg(feature = "redis")]
    pub(crate) fn reroute(&self, route: Route) {
        let mut inner = self.lock();
        let old = std::mem::replace(&mut inner.route, Arc::clone(&route));
        let topics: Vec<Topic> = inner.topics.keys().cloned().collect();
        for topic in topics {
            let (old, new) = (old(&topic), route(&topic));
            let same = matches!((&old, &new), (Some(old), Some(new)) if Arc::ptr_eq(old, new));
            if !same {
                inner.lose(&topic);
                old.iter().chain(&new).for_each(|lane| lane.add(&topic));
            }
        }
    }

    /// Every topic that is not confirmed is looked at again.
    #[cfg(feature = "redis")]
    pub(crate) fn look_again(&self) {
        let inner = self.lock();
        let open = inner.topics.iter().filter(|(_, standing)| **standing != Standing::Confirmed);
        open.for_each(|(topic, _)| inner.look_at(topic));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn look_at(&self, topic: &Topic) {
        if let Some(lane) = (self.route)(topic) {
            lane.add(topic);
        }
    }

    fn leads_to(&self, topic: &Topic, lane: &Arc<Lane>) -> bool {
        (self.route)(topic).is_some_and(|route| Arc::ptr_eq(&route, lane))
    }

    fn lose(&mut self, topic: &Topic) {
        if let Some(standing @ Standing::Confirmed) = self.topics.get_mut(topic) {
            *standing = Standing::Lost;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::feed;

    fn topic(name: &str) -> Topic {
        Topic::new(name).unwrap()
    }

    #[test]
    fn a_topic_that_was_given_up_and_wanted_again_needs_a_new_confirmation() {
        let lane = Arc::new(Lane::default());
        let interest = Interest::of_one(&lane);
        let (topics, (outlet, _feed)) = ([topic("a")], feed());
        interest.add(&topics, &outlet);
        assert_eq!(interest.take(&lane, 9), [(topic("a"), Wish::Have)]);
        assert!(!interest.confirm(&lane, topics.iter().cloned()), "it was never lost");
        assert!(interest.are_confirmed(&topics));
        interest.remove(&topics, &outlet);
        interest.add(&topics, &outlet);
        assert!(!interest.are_confirmed(&topics));
        assert_eq!(interest.take(&lane, 9), [(topic("a"), Wish::Have)], "it never stopped");
        interest.remove(&topics, &outlet);
        assert_eq!(interest.take(&lane, 9), [(topic("a"), Wish::Drop)]);
        assert!(lane.is_empty());
    }

    #[test]
    fn a_topic_that_was_lost_says_so_when_it_is_confirmed_again_once() {
        let lane = Arc::new(Lane::default());
        let interest = Interest::of_one(&lane);
        let (topics, (outlet, _feed)) = ([topic("a")], feed());
        interest.add(&topics, &outlet);
        interest.lose(&lane, topics.iter());
        assert!(!interest.confirm(&lane, topics.iter().cloned()), "nothing had been promised");
        interest.lose(&lane, topics.iter());
        assert!(!interest.are_confirmed(&topics));
        assert!(interest.confirm(&lane, topics.iter().cloned()));
        assert!(!interest.confirm(&lane, topics.iter().cloned()));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn a_topic_that_moves_is_dropped_here_and_asked_for_there() {
        let (here, there) = (Arc::new(Lane::default()), Arc::new(Lane::default()));
        let interest = Interest::of_one(&here);
        let (topics, (outlet, _feed)) = ([topic("a")], feed());
        interest.add(&topics, &outlet);
        interest.take(&here, 9);
        interest.confirm(&here, topics.iter().cloned());
        let to = Arc::clone(&there);
        interest.reroute(Arc::new(move |_| Some(Arc::clone(&to))));
        assert!(!interest.confirm(&here, topics.iter().cloned()), "it is not this one's any more");
        assert_eq!(interest.take(&here, 9), [(topic("a"), Wish::Drop)]);
        assert_eq!(interest.take(&there, 9), [(topic("a"), Wish::Have)]);
        assert!(interest.confirm(&there, topics.iter().cloned()), "it was lost on the way");
    }
}
