//! Sending a node's clients to the others before it stops: no new ones, and those that are here go a few at a time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use outspoke_protocol::Disconnect;

use crate::hub::Hub;

/// About how long it takes until every client was told to go: the other nodes are to take them without haste.
const SPREAD: Duration = Duration::from_secs(10);
/// How often some are told.
const STEP: Duration = Duration::from_millis(100);

impl Hub {
    /// Takes no new clients from now on and sends those that are here away, with 1001 and over about ten seconds; they are
    /// expected to come back on another node. `false`: takes clients again. Publishing, and the HTTP API, go on.
    pub fn drain(&self, drain: bool) {
        let was = self.inner.draining.swap(drain, Ordering::AcqRel);
        if drain == was {
            return;
        }
        if let Some(cluster) = &self.inner.cluster {
            // Nobody is to be sent here meanwhile.
            cluster.beat(&self.inner, false);
        }
        if !drain {
            return;
        }
        let Some(runtime) = self.inner.timers.get() else { return };
        let hub = self.clone();
        drop(runtime.spawn(async move { hub.send_away().await }));
    }

    /// Whether the hub takes no new clients for now.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    async fn send_away(&self) {
        let steps = (SPREAD.as_millis() / STEP.as_millis()) as usize;
        let at_once = self.client_count().div_ceil(steps).max(1);
        tracing::info!(clients = self.client_count(), "draining: clients are sent to other nodes");
        while self.is_draining() && !self.inner.stopping.load(Ordering::Acquire) {
            // Those that are closing already are not here any more.
            let clients: Vec<_> =
                self.clients().into_iter().take(at_once).map(|client| client.id()).collect();
            if clients.is_empty() && self.client_count() == 0 {
                return;
            }
            for client in clients {
                self.disconnect(client, Disconnect::GoingAway);
            }
            tokio::time::sleep(STEP).await;
        }
    }
}
