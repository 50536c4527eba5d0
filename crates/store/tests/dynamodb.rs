//! The contract suite over DynamoDB, on a stand-in for it; and what the store does when that goes away.
#![cfg(feature = "dynamodb-stand-in")]
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // The stand-in runs in this process: it cannot be killed or paused.
mod faults;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynoxide::Database;
use faults::{assert_helpful, batch, commit, log};
use outspoke_store::dynamodb::{DynamoOptions, DynamoStore};
use outspoke_store::suite::{Opening, Second, Stage};
use outspoke_store::{Batch, Direction, Range, Store, StoreError, store_suite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The stand-in, with everything in memory. It can be away and come back with its data.
struct StandIn {
    database: Database,
    addr: SocketAddr,
    server: Mutex<Option<JoinHandle<()>>>,
    tables: AtomicUsize,
}

impl StandIn {
    async fn new() -> Self {
        let database = Database::memory().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let stand_in = Self { database, addr, server: Mutex::default(), tables: AtomicUsize::new(0) };
        stand_in.serve(listener);
        stand_in
    }

    fn serve(&self, listener: TcpListener) {
        let database = self.database.clone();
        let server = tokio::spawn(async move { dynoxide::server::serve_on(listener, database).await });
        *self.server.lock().unwrap() = Some(server);
    }

    fn options(&self, table: &str) -> DynamoOptions {
        DynamoOptions {
            table: table.to_owned(),
            region: Some("eu-central-1".to_owned()),
            endpoint: Some(format!("http://{}", self.addr)),
            access_key: Some(("AKIATEST".to_owned(), "hunter2".to_owned())),
            timeout: Duration::from_secs(30),
            ..DynamoOptions::default()
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        let table = format!("hub{}", self.tables.load(Ordering::Relaxed));
        Arc::new(DynamoStore::open(&self.options(&table)).await.unwrap())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(server) = self.server.lock().unwrap().take() {
            server.abort();
        }
    }
}

impl Stage for StandIn {
    fn fresh(&self) -> Opening<'_> {
        self.tables.fetch_add(1, Ordering::Relaxed);
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

store_suite!(StandIn::new().await);

/// Two hubs, one room: every offset is there once, whoever wrote it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_shared_by_hubs_has_no_holes_and_no_repetitions() {
    const HUBS: u64 = 3;
    const TURNS: u64 = 10;
    let stand_in = StandIn::new().await;
    let hubs = (0..HUBS).map(|hub| {
        let options = stand_in.options("hubs");
        tokio::spawn(async move {
            let store = DynamoStore::open(&options).await.unwrap();
            for turn in 0..TURNS {
                let first = (turn * HUBS + hub) * 10;
                let appends = ["a", "b"].map(|room| faults::append(room, first..first + 2)).into();
                commit(&store, &Batch { appends, ..Batch::default() }).await;
            }
        })
    });
    for hub in hubs.collect::<Vec<_>>() {
        hub.await.unwrap();
    }
    let store = DynamoStore::open(&stand_in.options("hubs")).await.unwrap();
    for state in store.states(&["a", "b"].map(log)).await.unwrap() {
        assert_eq!(state.unwrap().head, HUBS * TURNS * 2);
    }
    let report = store.verify().await.unwrap();
    assert_eq!((report.problems, report.records), (Vec::new(), 2 * HUBS * TURNS * 2));
}

/// More than a transaction takes is done in several, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_append_of_many_records_is_whole_and_repeats_exactly() {
    let stand_in = StandIn::new().await;
    let store = DynamoStore::open(&stand_in.options("many")).await.unwrap();
    let batch = Batch { appends: vec![faults::append("a", 0..250)], ..Batch::default() };
    let first = store.commit(&batch).await.unwrap();
    assert_eq!(
        first[0].outcomes.iter().map(|outcome| outcome.offset).collect::<Vec<_>>(),
        (1..=250).collect::<Vec<_>>()
    );
    let again = store.commit(&batch).await.unwrap();
    assert!(again[0].outcomes.iter().all(|outcome| outcome.duplicate));
    let range = Range { direction: Direction::After(0), records_max: 1000, bytes_max: usize::MAX };
    assert_eq!(store.range(&log("a"), range).await.unwrap().records.len(), 250);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_that_goes_away_is_found_again() {
    let stand_in = StandIn::new().await;
    let options = DynamoOptions { timeout: Duration::from_secs(2), ..stand_in.options("away") };
    let store = DynamoStore::open(&options).await.unwrap();
    commit(&store, &batch(0)).await;
    let server = stand_in.server.lock().unwrap().take().unwrap();
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    // A connection that is open may still be served; a new store has none.
    let late = DynamoStore::new(&options).unwrap();
    let error = late.commit(&batch(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert_helpful(&error, &["`endpoint`"], "hunter2");
    assert!(!late.health().await.unwrap().writable);
    stand_in.serve(TcpListener::bind(stand_in.addr).await.unwrap());
    commit(&late, &batch(1)).await;
    assert!(late.health().await.unwrap().writable);
    faults::assert_whole(&store, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_without_its_table_says_which_setting_to_correct() {
    let stand_in = StandIn::new().await;
    let options = DynamoOptions { create_table: false, ..stand_in.options("missing") };
    let error = DynamoStore::open(&options).await.unwrap_err();
    assert_helpful(&error, &["no table missing", "`table`", "`create_table`"], "hunter2");
}
