//! The contract suite over DynamoDB, on a stand-in for it; what the store does when that goes away; the mark of the format.
//!
//! `OUTSPOKE_DYNAMODB=http://127.0.0.1:8000` asks a DynamoDB there in the stand-in's place, for all but the one test that
//! takes it away.
#![cfg(feature = "dynamodb-stand-in")]
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // The stand-in runs in this process: it cannot be killed or paused.
mod faults;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Credentials;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use dynoxide::Database;
use faults::{assert_helpful, batch, commit, log};
use outspoke_store::dynamodb::{DynamoOptions, DynamoStore};
use outspoke_store::suite::{Opening, Second, Stage};
use outspoke_store::{Batch, Direction, Range, Store, StoreError, store_suite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Names the endpoint of a DynamoDB to ask in the stand-in's place: Amazon's own DynamoDB Local, for instance.
const ELSEWHERE: &str = "OUTSPOKE_DYNAMODB";

type Item = HashMap<String, AttributeValue>;

/// The stand-in, with everything in memory. It can be away and come back with its data.
struct StandIn {
    database: Database,
    addr: SocketAddr,
    server: Mutex<Option<JoinHandle<()>>>,
    tables: AtomicUsize,
    /// What is asked in the stand-in's place, and what this test's tables begin with there.
    elsewhere: Option<(String, String)>,
}

impl StandIn {
    async fn new() -> Self {
        let database = Database::memory().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let elsewhere =
            std::env::var(ELSEWHERE).ok().map(|endpoint| (endpoint, format!("{:x}-", fastrand::u64(..))));
        let (server, tables) = (Mutex::default(), AtomicUsize::new(0));
        let stand_in = Self { database, addr, server, tables, elsewhere };
        stand_in.serve(listener);
        stand_in
    }

    /// The stand-in itself, for what cannot be done to another.
    async fn here() -> Self {
        let mut stand_in = Self::new().await;
        stand_in.elsewhere = None;
        stand_in
    }

    fn serve(&self, listener: TcpListener) {
        let database = self.database.clone();
        let server = tokio::spawn(async move { dynoxide::server::serve_on(listener, database).await });
        *self.server.lock().unwrap() = Some(server);
    }

    fn options(&self, table: &str) -> DynamoOptions {
        let (endpoint, prefix) = match &self.elsewhere {
            Some((endpoint, prefix)) => (endpoint.clone(), prefix.as_str()),
            None => (format!("http://{}", self.addr), ""),
        };
        DynamoOptions {
            table: format!("{prefix}{table}"),
            region: Some("eu-central-1".to_owned()),
            endpoint: Some(endpoint),
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
    let stand_in = StandIn::here().await;
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
    assert_helpful(&error, &["no table ", "missing", "`table`", "`create_table`"], "hunter2");
}

/// How an item of the mark looks, whatever its number is.
fn mark(number: AttributeValue) -> Item {
    let key = |name: &str, bytes: &[u8]| (name.to_owned(), AttributeValue::B(Blob::new(bytes)));
    [key("pk", b"v"), key("sk", &[0]), ("format".to_owned(), number)].into()
}

fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// A table as a client without any store sees it.
struct Bare {
    client: Client,
    table: String,
}

impl Bare {
    async fn of(options: &DynamoOptions) -> Self {
        let (id, secret) = options.access_key.clone().unwrap();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(options.region.clone().unwrap()))
            .endpoint_url(options.endpoint.clone().unwrap())
            .credentials_provider(Credentials::new(id, secret, None, None, "test"))
            .load()
            .await;
        Self { client: Client::new(&config), table: options.table.clone() }
    }

    async fn put(&self, item: Item) {
        self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await.unwrap();
    }

    /// Takes the mark away, as the builds before it left their tables.
    async fn unmark(&self) {
        let mut key = mark(number(1));
        key.remove("format");
        self.client.delete_item().table_name(&self.table).set_key(Some(key)).send().await.unwrap();
    }

    /// Every item with every attribute, in an order of its own.
    async fn everything(&self) -> Vec<String> {
        let mut pages =
            self.client.scan().table_name(&self.table).consistent_read(true).into_paginator().send();
        let mut items = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.unwrap().items.unwrap_or_default();
            items.extend(page.iter().map(|item| format!("{:?}", item.iter().collect::<BTreeMap<_, _>>())));
        }
        items.sort();
        items
    }
}

/// An older build, started by mistake beside a newer one, would write what that cannot read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_table_of_a_newer_or_foreign_format_is_refused_and_left_alone() {
    let stand_in = StandIn::new().await;
    let options = stand_in.options("newer");
    commit(&DynamoStore::open(&options).await.unwrap(), &batch(0)).await;
    let bare = Bare::of(&options).await;
    let newer: &[&str] = &["format 2", "newer Outspoke", "`table`"];
    let foreign: &[&str] = &["not what Outspoke writes", "`table`", "backup"];
    for (format, words) in
        [(number(2), newer), (number(0), foreign), (AttributeValue::S("1".to_owned()), foreign)]
    {
        bare.put(mark(format)).await;
        let before = bare.everything().await;
        assert!(before.len() > 3, "{before:?}");
        let error = DynamoStore::open(&options).await.unwrap_err();
        assert_helpful(&error, words, "hunter2");
        // One that was made without a look at the table looks before its first batch.
        let unlooked = DynamoStore::new(&options).unwrap();
        assert_helpful(&unlooked.commit(&batch(1)).await.unwrap_err(), words, "hunter2");
        assert!(!unlooked.health().await.unwrap().writable);
        assert_eq!(bare.everything().await, before);
    }
    bare.put(mark(number(1))).await;
    commit(&DynamoStore::open(&options).await.unwrap(), &batch(1)).await;
}

/// What builds without a mark wrote is of the first format; hubs that find that at the same time agree on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dynamodb_table_without_a_mark_gets_the_first_and_keeps_its_data() {
    let stand_in = StandIn::new().await;
    let options = stand_in.options("unmarked");
    commit(&DynamoStore::open(&options).await.unwrap(), &batch(0)).await;
    let bare = Bare::of(&options).await;
    let marked = bare.everything().await;
    bare.unmark().await;
    assert_eq!(bare.everything().await.len() + 1, marked.len());
    let hubs: Vec<_> = (0..8).map(|_| DynamoStore::open(&options)).collect();
    let hubs = futures_util::future::try_join_all(hubs).await.unwrap();
    assert_eq!(bare.everything().await, marked);
    faults::assert_whole(&hubs[0], 1).await;
}
