//! Which topics this node listens to: what rooms and clients want, told to the bus in batches.
//!
//! Rooms and clients come and go under locks and at any speed; here they only say what they want. One task tells the bus,
//! as much as has gathered at once, and once the bus has confirmed a subscription says so: what was said before it may
//! have been missed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use outspoke_bus::Topic;
use tokio::sync::Notify;

/// Topics told to the bus at once.
const BATCH: usize = 512;

/// Topics by whether they are wanted, not told yet.
#[derive(Debug, Default)]
pub(super) struct Topics {
    wishes: Mutex<HashMap<Topic, bool>>,
    more: Notify,
}

impl Topics {
    /// Bounded by the rooms and clients that there may be: each has one topic.
    pub(super) fn want(&self, topic: &Topic, wanted: bool) {
        self.lock().insert(topic.clone(), wanted);
        self.more.notify_one();
    }

    /// Wishes that have gathered: topics to listen to, and those not to listen to any more.
    pub(super) async fn take(&self) -> (Vec<Topic>, Vec<Topic>) {
        loop {
            {
                let mut wishes = self.lock();
                if !wishes.is_empty() {
                    let taken: Vec<Topic> = wishes.keys().take(BATCH).cloned().collect();
                    let taken = taken.into_iter().filter_map(|topic| wishes.remove_entry(&topic));
                    let (wanted, unwanted): (Vec<_>, Vec<_>) = taken.partition(|(_, wanted)| *wanted);
                    let topics =
                        |wishes: Vec<(Topic, bool)>| wishes.into_iter().map(|(topic, _)| topic).collect();
                    return (topics(wanted), topics(unwanted));
                }
            }
            self.more.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, bool>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
