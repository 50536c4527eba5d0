//! Batches as transactions, under leases.
//!
//! etcd answers requests of one connection in any order, so that what has an order waits for the answer before. What a
//! transaction does, watches tell in its order: a batch becomes transactions of as many operations as may be. A large one is
//! spread over lanes by topic, each with one transaction after the other, as only topics have an order: a cluster whose disks
//! are slow takes several at once.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::connection::{Connection, Failure};
use super::keys::Keys;
use super::proto::PutRequest;
use crate::{Outgoing, Topic};

/// etcd's own limit, unless it is started with another.
const OPERATIONS_MAX: usize = 128;
/// Below etcd's limit of a request, 1.5 MiB, with what a request has beside keys and values.
const BYTES_MAX: usize = 1_310_720;
/// What a put takes beside its key and its value, at most.
const PUT_OVERHEAD: usize = 40;
/// Keys live at least 20 s: a lease of 30 s is shared by what is published within 10.
const LEASE_USED_FOR: Duration = Duration::from_secs(10);

/// Transactions of a batch at once, at most.
const LANES: usize = 4;

/// What is known for the next batch.
#[derive(Debug)]
pub(super) struct Publisher {
    lease: Mutex<Option<(i64, Instant)>>,
    operations_max: AtomicUsize,
    /// Chooses a topic's lane.
    hasher: RandomState,
}

impl Publisher {
    pub(super) fn new() -> Self {
        Self {
            lease: Mutex::new(None),
            operations_max: AtomicUsize::new(OPERATIONS_MAX),
            hasher: RandomState::new(),
        }
    }

    /// Puts a batch, in the order of each topic.
    pub(super) async fn publish(
        &self,
        connection: &Connection,
        keys: &Keys,
        batch: &[Outgoing],
    ) -> Result<(), Failure> {
        if batch.len() <= self.operations_max.load(Ordering::Relaxed) {
            return self.in_order(connection, keys, batch.iter().collect()).await;
        }
        let mut lanes: [Vec<&Outgoing>; LANES] = Default::default();
        for outgoing in batch {
            lanes[self.hasher.hash_one(&outgoing.topic) as usize % LANES].push(outgoing);
        }
        // All are waited for, also when one has failed: what is tried again should not meet what is still on its way.
        join_all(lanes.map(|lane| self.in_order(connection, keys, lane))).await.into_iter().collect()
    }

    /// Puts one transaction after the other.
    async fn in_order(
        &self,
        connection: &Connection,
        keys: &Keys,
        batch: Vec<&Outgoing>,
    ) -> Result<(), Failure> {
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let (puts, taken) = next(keys, rest, self.operations_max.load(Ordering::Relaxed));
            match self.put(connection, puts).await {
                Ok(()) => rest = &rest[taken..],
                Err(Failure::TooManyOperations) if taken > 1 => {
                    self.operations_max.fetch_min(taken / 2, Ordering::Relaxed);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// Puts under the lease of now, or a new one: etcd was away for longer than it lasts.
    async fn put(&self, connection: &Connection, mut puts: Vec<PutRequest>) -> Result<(), Failure> {
        let lease = self.lease(connection).await?;
        puts.iter_mut().for_each(|put| put.lease = lease);
        // Clones share their bytes.
        match connection.put(puts.clone()).await {
            Err(Failure::Lease) => {
                self.set_lease(None);
                let lease = self.lease(connection).await?;
                puts.iter_mut().for_each(|put| put.lease = lease);
                connection.put(puts).await
            }
            other => other,
        }
    }

    async fn lease(&self, connection: &Connection) -> Result<i64, Failure> {
        let known = *self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((lease, _)) = known.filter(|(_, since)| since.elapsed() < LEASE_USED_FOR) {
            return Ok(lease);
        }
        let since = Instant::now();
        let lease = connection.grant().await?;
        self.set_lease(Some((lease, since)));
        Ok(lease)
    }

    fn set_lease(&self, lease: Option<(i64, Instant)>) {
        *self.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
    }
}

/// The puts of the next transaction, and how many of the batch are in it: all that fits.
fn next(keys: &Keys, batch: &[&Outgoing], operations_max: usize) -> (Vec<PutRequest>, usize) {
    let mut puts = Vec::with_capacity(batch.len().min(operations_max));
    let mut of_topic: HashMap<&Topic, usize> = HashMap::new();
    let mut bytes = 0;
    for Outgoing { topic, payload } in batch.iter().take(operations_max) {
        let nth = of_topic.entry(topic).or_default();
        let key = keys.encode(topic, *nth);
        bytes += key.len() + payload.len() + PUT_OVERHEAD;
        if bytes > BYTES_MAX && !puts.is_empty() {
            break;
        }
        *nth += 1;
        puts.push(PutRequest { key, value: payload.clone(), lease: 0 });
    }
    let taken = puts.len();
    (puts, taken)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::*;

    fn outgoing(topic: &str, len: usize) -> Outgoing {
        Outgoing { topic: Topic::new(topic).unwrap(), payload: vec![0; len].into() }
    }

    #[test]
    fn no_key_comes_twice_in_a_transaction_and_none_has_too_many() {
        let batch: Vec<Outgoing> = (0..300).map(|n| outgoing(["a", "b", "a"][n % 3], 10)).collect();
        let (puts, taken) = next(&Keys::new("/p"), &batch.iter().collect::<Vec<_>>(), OPERATIONS_MAX);
        assert_eq!((puts.len(), taken), (OPERATIONS_MAX, OPERATIONS_MAX));
        let keys: HashSet<_> = puts.iter().map(|put| &put.key).collect();
        assert_eq!(keys.len(), puts.len());
        assert_eq!((&puts[0].key[..], &puts[2].key[..]), (&b"/p/a"[..], &b"/p/a#1"[..]));
    }

    #[test]
    fn a_transaction_has_as_many_bytes_as_fit_but_at_least_one_put() {
        let large = [outgoing("a", 600_000), outgoing("b", 600_000), outgoing("c", 600_000)];
        assert_eq!(next(&Keys::new("/p"), &large.each_ref(), OPERATIONS_MAX).1, 2);
        let huge = [outgoing("a", 2_000_000), outgoing("b", 1)];
        assert_eq!(next(&Keys::new("/p"), &huge.each_ref(), OPERATIONS_MAX).1, 1);
    }
}
