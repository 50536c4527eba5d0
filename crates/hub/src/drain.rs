//! Sending a node's clients to the others before it stops: no new ones, and those that are here go a batch at a time.
//!
//! One task paces ([`Hub::send_away`]); each client's shard says the word (`shard/away.rs`): when to come back and where to,
//! then, once what the client has published is answered, the close frame. Whoever gives the newest order is obeyed: an order
//! that comes while another is carried out replaces it. Invariants: a client is told once however many orders there are; in the
//! time that an order has, every client is told, whatever the batch. Where users would better be is [`crate::affinity`]'s.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ecow::EcoString;
use outspoke_protocol::{Disconnect, Event, Notice};
use outspoke_websocket::Random;
use tokio::time::Instant;

use crate::affinity::user_key;
use crate::client::Client;
use crate::hub::Hub;
use crate::shard::command::Command;

/// How often it is looked whether the last ones have gone.
const LOOK: Duration = Duration::from_millis(50);

/// How clients are sent away when a node drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainConfig {
    /// Clients told at once. Default 100; more where `spread` would not suffice otherwise.
    pub batch: usize,
    /// Time between two batches. Default 100 ms.
    pub interval: Duration,
    /// How long it may take until every client is told. Default 10 s.
    pub spread: Duration,
    /// Clients are asked to come back at a time of their own within this; each is told between half of it and all of it. Default
    /// 2 s; less than the time for which a room holds a leave back, or users seem to leave.
    pub reconnect_after: Duration,
    /// How long clients have for going after the last was told; then they are cut. Default 5 s.
    pub grace: Duration,
    /// Where clients are sent, as a URL. Default: nothing, which is the node that each user prefers, if that says where it is.
    pub target: EcoString,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            batch: 100,
            interval: Duration::from_millis(100),
            spread: Duration::from_secs(10),
            reconnect_after: Duration::from_secs(2),
            grace: Duration::from_secs(5),
            target: EcoString::new(),
        }
    }
}

/// An order to drain: what is not said is as [configured](DrainConfig).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainOrder {
    /// Clients told at once.
    pub batch: Option<usize>,
    /// Time between two batches. With a batch it is the pace, however long the whole takes.
    pub interval: Option<Duration>,
    /// Where clients are sent, as a URL.
    pub target: Option<EcoString>,
}

impl DrainOrder {
    /// Whether everything is as configured.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    fn pace(&self, config: &DrainConfig) -> DrainConfig {
        let paced = self.batch.is_some() || self.interval.is_some();
        DrainConfig {
            batch: self.batch.unwrap_or(config.batch),
            interval: self.interval.unwrap_or(config.interval),
            // Who says how fast it goes means it.
            spread: if paced { Duration::MAX } else { config.spread },
            target: self.target.clone().unwrap_or_else(|| config.target.clone()),
            ..config.clone()
        }
    }
}

/// What came of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Clients that were told to go.
    pub told: usize,
    /// Batches in which they were.
    pub batches: usize,
    /// Connections that are still there.
    pub left: usize,
    /// How long it took.
    pub took: Duration,
}

impl Hub {
    /// Takes no new clients from now on and sends those that are here away, as [configured](DrainConfig); they are expected to
    /// come back on another node. `false`: takes clients again. Publishing, and the HTTP API, go on.
    pub fn drain(&self, drain: bool) {
        match drain {
            true if self.is_draining() => {}
            true => self.drain_as(&DrainOrder::default()),
            false => {
                self.begin_order(false);
            }
        }
    }

    /// [Drains](Self::drain) as this order says. One that is carried out already is replaced.
    pub fn drain_as(&self, order: &DrainOrder) {
        let pace = order.pace(&self.inner.config().drain);
        let number = self.begin_order(true);
        let Some(runtime) = self.inner.timers.get() else { return };
        let hub = self.clone();
        drop(runtime.spawn(async move {
            let drained = hub.send_away(&pace, number).await;
            if hub.is_obeyed(number) && drained.left > 0 {
                hub.cut_leavers();
            }
        }));
    }

    /// [Drains](Self::drain) at the configured pace, or faster where `patience` wants it: half of it is for telling, a quarter for
    /// going. Returns when all have gone, or when that time is over. A `spread` or a patience of zero: nobody is told, and
    /// the return is at once.
    ///
    /// # Cancel safety
    /// The hub takes no new clients from the first poll on. Who was not told when the future is dropped is not.
    pub async fn drain_within(&self, patience: Duration) -> Drained {
        let config = self.inner.config().drain.clone();
        let number = self.begin_order(true);
        if config.spread.is_zero() || patience.is_zero() {
            return Drained { left: self.client_count(), ..Drained::default() };
        }
        let (spread, grace) = (config.spread.min(patience / 2), config.grace.min(patience / 4));
        self.send_away(&DrainConfig { spread, grace, ..config }, number).await
    }

    /// Whether the hub takes no new clients for now.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::Acquire)
    }

    /// Another order counts from now on. Returns its number.
    fn begin_order(&self, drain: bool) -> u64 {
        let was = self.inner.draining.swap(drain, Ordering::AcqRel);
        let number = self.inner.drain_orders.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(cluster) = self.inner.cluster.as_ref().filter(|_| was != drain) {
            // Nobody is to be sent here meanwhile.
            cluster.beat(&self.inner, false);
        }
        number
    }

    fn is_obeyed(&self, number: u64) -> bool {
        self.is_draining()
            && self.inner.drain_orders.load(Ordering::Acquire) == number
            && !self.inner.stopping.load(Ordering::Acquire)
    }

    /// Tells all clients, then waits for their going. Ends early when another order counts, or the hub stops.
    async fn send_away(&self, pace: &DrainConfig, number: u64) -> Drained {
        let began = Instant::now();
        let (mut told, mut batches, mut random) = (0, 0, Random::new());
        // In no order: neither those of one shard nor those of one room all at once.
        let mut waiting = self.clients();
        tracing::info!(clients = waiting.len(), "draining: clients are sent to other nodes");
        while !waiting.is_empty() && self.is_obeyed(number) {
            let left = pace.spread.saturating_sub(began.elapsed());
            let batch = waiting.split_off(waiting.len() - batch_of(waiting.len(), left, pace));
            told += batch.len();
            batches += 1;
            batch.iter().for_each(|client| self.send_client_away(client, pace, &mut random));
            if waiting.is_empty() {
                // Whoever was on the way in when it began.
                waiting = self.clients();
                waiting.retain(|client| !client.was_sent_away());
            }
            if !waiting.is_empty() {
                tokio::time::sleep(pace.interval).await;
            }
        }
        tracing::info!(told, batches, took = ?began.elapsed(), "every client is told where to go");
        let last = Instant::now();
        while self.client_count() > 0 && last.elapsed() < pace.grace && self.is_obeyed(number) {
            tokio::time::sleep(LOOK.min(pace.grace)).await;
            // One that was upgraded while the last were told.
            for late in self.clients().iter().filter(|client| !client.was_sent_away()) {
                told += 1;
                self.send_client_away(late, pace, &mut random);
            }
        }
        Drained { told, batches, left: self.client_count(), took: began.elapsed() }
    }

    /// Tells one client to go, unless it was.
    fn send_client_away(&self, client: &Client, pace: &DrainConfig, random: &mut Random) {
        let Some(&key) = client.key.get() else { return };
        if client.send_away() {
            return;
        }
        let url = match &*pace.target {
            "" => self.inner.cluster.as_ref().and_then(|cluster| {
                cluster.elsewhere(&user_key(&client.identity().tenant, client.user().as_str()))
            }),
            target => Some(target.into()),
        };
        // Clients that draw no time of their own are not all to come at the same moment either.
        let half = pace.reconnect_after / 2;
        let spread = random.next_u64() % u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        let reconnect_after = half + Duration::from_nanos(spread);
        let notice = Box::new(Event::Notice(Notice::GoingAway { reconnect_after, url }));
        let command = Command::SendAway { client: key, notice };
        // A shard that has ended has no clients.
        let _ = self.inner.shards[usize::from(client.shard)].inbox.push(command, Command::WEIGHT);
    }

    /// Ends what is left of connections whose time to go is over.
    fn cut_leavers(&self) {
        tracing::warn!(connections = self.client_count(), "clients that did not go in time are cut");
        for client in self.clients() {
            self.disconnect(client.id(), Disconnect::GoingAway);
        }
        for shard in &self.inner.shards {
            // A shard that has ended has cut everybody.
            let _ = shard.inbox.push(Command::CutLeavers, Command::WEIGHT);
        }
    }
}

/// How many of `waiting` are told next, so that all are within what is `left` of the time.
fn batch_of(waiting: usize, left: Duration, pace: &DrainConfig) -> usize {
    let rounds = left.as_nanos() / pace.interval.as_nanos().max(1);
    // The last round of the time is one as well.
    let needed = waiting.div_ceil(usize::try_from(rounds).unwrap_or(usize::MAX).saturating_add(1));
    pace.batch.max(1).max(needed).min(waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(batch: usize, interval_ms: u64, spread_ms: u64) -> DrainConfig {
        DrainConfig {
            batch,
            interval: Duration::from_millis(interval_ms),
            spread: Duration::from_millis(spread_ms),
            ..DrainConfig::default()
        }
    }

    /// How many batches so many clients need, and how long the last one waits.
    fn told(mut waiting: usize, pace: &DrainConfig) -> (usize, Duration) {
        let (mut batches, mut now) = (0, Duration::ZERO);
        loop {
            waiting -= batch_of(waiting, pace.spread.saturating_sub(now), pace);
            batches += 1;
            if waiting == 0 {
                return (batches, now);
            }
            now += pace.interval;
        }
    }

    #[test]
    fn drain_of_few_clients_takes_the_configured_batches() {
        assert_eq!(told(5000, &pace(100, 100, 10_000)), (50, Duration::from_millis(4900)));
        assert_eq!(told(1, &pace(100, 100, 10_000)), (1, Duration::ZERO));
        assert_eq!(told(250, &pace(100, 100, 10_000)), (3, Duration::from_millis(200)));
    }

    // A node with a million clients would not stop in time.
    #[test]
    fn drain_of_many_clients_ends_within_its_time_whatever_the_batch() {
        for clients in [10_001, 100_000, 1_000_000] {
            let (batches, last) = told(clients, &pace(100, 100, 10_000));
            assert!(batches <= 101 && last <= Duration::from_secs(10), "{clients}: {batches}, {last:?}");
        }
        assert_eq!(told(1000, &pace(1, 1000, 500)), (1, Duration::ZERO));
    }

    #[test]
    fn drain_whose_order_names_the_pace_keeps_to_it() {
        let order = DrainOrder { batch: Some(10), ..DrainOrder::default() };
        let (batches, _) = told(100_000, &order.pace(&DrainConfig::default()));
        assert_eq!(batches, 10_000);
    }
}
