//! How connections are, and one of them slowed down: what operators ask of this node's shards.

use std::sync::Arc;
use std::time::Duration;

use outspoke_bus::NodeId;
use outspoke_protocol::ClientId;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::hub::Hub;
use crate::shard::Key;
use crate::shard::command::Command;
use crate::shard::inspect::ConnectionState;

/// How long a shard may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What has become of an order to slow a connection down.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SlowDown {
    /// This node has the connection, and has slowed it down.
    Done(NodeId),
    /// This node has the connection, and is not configured to slow any down.
    NotPermitted(NodeId),
    /// No node that has answered has it.
    NotFound {
        /// Those that did not answer within two seconds.
        silent: Vec<NodeId>,
    },
}

impl Hub {
    /// How connections of this node are, with their rooms if asked for; `None` for those that have ended, or whose shard does not
    /// answer within a second.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn connection_states(
        &self,
        clients: &[Arc<Client>],
        rooms: bool,
    ) -> Vec<Option<ConnectionState>> {
        let mut by_shard: Vec<Vec<(usize, Key)>> = vec![Vec::new(); self.inner.shards.len()];
        for (index, client) in clients.iter().enumerate() {
            if let (Some(key), Some(list)) = (client.key.get(), by_shard.get_mut(usize::from(client.shard))) {
                list.push((index, *key));
            }
        }
        let asks = by_shard.into_iter().enumerate().filter(|(_, list)| !list.is_empty());
        let asks = asks.map(|(shard, list)| {
            let (done, answer) = oneshot::channel();
            let keys = list.iter().map(|(_, key)| *key).collect();
            // A shard that has ended says nothing.
            let _ = self.inner.shards[shard]
                .inbox
                .push(Command::Look { clients: keys, rooms, done }, Command::WEIGHT);
            async move { (list, tokio::time::timeout(PATIENCE, answer).await) }
        });
        let mut states = vec![None; clients.len()];
        for (list, answer) in futures_util::future::join_all(asks).await {
            let Ok(Ok(found)) = answer else { continue };
            for ((index, _), state) in list.into_iter().zip(found) {
                states[index] = state;
            }
        }
        states
    }

    /// Treats one of the tenant's connections to this node for so long as if its peer read nothing: bytes wait, and the policies
    /// of its rooms and the write time-out do what they do to slow clients. Returns whether the connection is here.
    ///
    /// # Cancel safety
    /// The order is given when this is first polled.
    pub async fn slow_down(&self, id: ClientId, lasting: Duration) -> bool {
        let Some(client) = self.client(id).filter(|client| client.identity().tenant == self.tenant.name)
        else {
            return false;
        };
        let Some(&key) = client.key.get() else { return false };
        let (done, answer) = oneshot::channel();
        let command = Command::SlowDown { client: key, lasting, done };
        // A shard that has ended has no connections.
        let _ = self.inner.shards[usize::from(client.shard)].inbox.push(command, Command::WEIGHT);
        matches!(tokio::time::timeout(PATIENCE, answer).await, Ok(Ok(true)))
    }

    /// As [`slow_down`](Self::slow_down), on whichever node the connection is, if that node's configuration
    /// [permits](crate::HubConfig::slow_down) it.
    ///
    /// # Cancel safety
    /// The order is given when this is first polled.
    pub async fn slow_down_anywhere(&self, id: ClientId, lasting: Duration) -> SlowDown {
        match (self.slow_down_here(id, lasting).await, &self.inner.cluster) {
            (Some(true), _) => SlowDown::Done(self.inner.life),
            (Some(false), _) => SlowDown::NotPermitted(self.inner.life),
            (None, None) => SlowDown::NotFound { silent: Vec::new() },
            (None, Some(cluster)) => cluster.slow_down(&self.tenant.name, id, lasting).await,
        }
    }

    /// The same, if the connection is here; `None`: it is not. `Some(false)`: it is, and that is not permitted.
    pub(crate) async fn slow_down_here(&self, id: ClientId, lasting: Duration) -> Option<bool> {
        let ours = self.client(id).is_some_and(|client| client.identity().tenant == self.tenant.name);
        if ours && !self.inner.config().slow_down {
            return Some(false);
        }
        (ours && self.slow_down(id, lasting).await).then_some(true)
    }
}
