//! Nodes without a store tell each other what they know.
//!
//! Every two seconds each says what all its rulings come to; one that knows something else sends the other everything it knows. So
//! a ruling whose message was lost is heard a moment later, and a node that starts learns what there is, from any other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use outspoke_bus::NodeId;
use tokio::time::Instant;

use super::Book;
use crate::cluster::Cluster;
use crate::hub::Inner;

/// How often a node says what it knows.
const EVERY: Duration = Duration::from_secs(2);
/// How soon a node is sent everything again.
const AGAIN: Duration = Duration::from_secs(1);

/// Whom everything was sent lately.
#[derive(Debug, Default)]
pub(super) struct Sent(Mutex<HashMap<NodeId, Instant>>);

impl Book {
    /// Whether it is time to send this node everything.
    fn is_time_to_tell(&self, node: NodeId) -> bool {
        let now = Instant::now();
        let mut sent = self.sent.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.retain(|_, at| now.duration_since(*at) < AGAIN);
        sent.insert(node, now).is_none()
    }
}

impl Inner {
    /// Says what this node knows, for as long as the hub runs. With a shared store nobody needs it.
    pub(crate) async fn gossip(&self, cluster: &Cluster) {
        if !self.keepers.is_empty() {
            return;
        }
        loop {
            cluster.tell_digest(self.rulings.digest());
            let _ = tokio::time::timeout(EVERY, self.rulings.doubt.notified()).await;
        }
    }

    /// Another node has said what all its rulings come to.
    pub(crate) fn hear_digest(&self, cluster: &Cluster, node: NodeId, digest: u64) {
        if !self.keepers.is_empty() || digest == self.rulings.digest() || !self.rulings.is_time_to_tell(node)
        {
            return;
        }
        let records: Vec<Bytes> = self.rulings.all().iter().map(|entry| entry.encode()).collect();
        cluster.tell_rulings(Some(node), &records);
    }

    /// Another node tells rulings.
    pub(crate) fn hear_told_rulings(self: &Arc<Self>, records: &[&[u8]]) {
        self.hear_rulings(records.iter().copied());
    }
}
