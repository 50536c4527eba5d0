//! The contract suite over a cluster of Redis servers.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use outspoke_store::redis::{RedisOptions, RedisStore};
use outspoke_store::suite::{Opening, Second, Stage};
use outspoke_store::{Store, store_suite};
use outspoke_testkit::services::{RedisCluster, Shared, Slot};

/// What is asked here is what a store does, not how fast a machine does it that tests everything at once.
const TIMEOUT: Duration = Duration::from_secs(60);

static CLUSTER: Slot<RedisCluster> = Slot::const_new(Weak::new());
static PREFIXES: AtomicUsize = AtomicUsize::new(0);

/// Each store with a prefix of its own, on a cluster that the tests share.
struct Prefixes {
    cluster: Arc<Shared<RedisCluster>>,
    last: AtomicUsize,
}

impl Prefixes {
    async fn new() -> Self {
        Self { cluster: Shared::get(&CLUSTER, RedisCluster::start).await, last: AtomicUsize::new(0) }
    }

    async fn open(&self) -> Arc<dyn Store> {
        let prefix = format!("hub{}", self.last.load(Ordering::Relaxed));
        let options =
            RedisOptions { cluster: true, prefix, timeout: TIMEOUT, ..RedisOptions::new(self.cluster.url()) };
        Arc::new(RedisStore::open(&options).await.unwrap())
    }
}

impl Stage for Prefixes {
    fn fresh(&self) -> Opening<'_> {
        self.last.store(PREFIXES.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        Box::pin(self.open())
    }

    fn second<'a>(&'a self, _: &Arc<dyn Store>) -> Second<'a> {
        Box::pin(async { Some(self.open().await) })
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Opening<'_> {
        Box::pin(async move {
            store.close().await.unwrap();
            self.open().await
        })
    }
}

store_suite!(Prefixes::new().await);
