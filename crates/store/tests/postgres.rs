//! The contract suite over PostgreSQL, on a real server.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use outspoke_store::postgres::{PostgresOptions, PostgresStore};
use outspoke_store::suite::{Opening, Second, Stage};
use outspoke_store::{Store, store_suite};
use outspoke_testkit::services::{Postgres, Shared, Slot};

/// What is asked here is what a store does, not how fast a machine does it that tests everything at once.
const TIMEOUT: Duration = Duration::from_secs(60);

static SERVER: Slot<Postgres> = Slot::const_new(Weak::new());
static SCHEMAS: AtomicUsize = AtomicUsize::new(0);

/// Each store in a schema of its own, on a server that the tests share.
struct Schemas {
    server: Arc<Shared<Postgres>>,
    last: AtomicUsize,
}

impl Schemas {
    async fn new() -> Self {
        Self { server: Shared::get(&SERVER, Postgres::start).await, last: AtomicUsize::new(0) }
    }

    async fn open(&self) -> Arc<dyn Store> {
        // A name that needs its quotes.
        let schema = format!("The \"{}\"", self.last.load(Ordering::Relaxed));
        let options = PostgresOptions {
            schema,
            readers_max: 2,
            timeout: TIMEOUT,
            ..PostgresOptions::new(self.server.url())
        };
        Arc::new(PostgresStore::open(&options).await.unwrap())
    }
}

impl Stage for Schemas {
    fn fresh(&self) -> Opening<'_> {
        self.last.store(SCHEMAS.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
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

store_suite!(Schemas::new().await);
