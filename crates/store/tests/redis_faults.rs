//! What the store in Redis does when its server is killed, paused, full, shared, or does not let us in.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

mod faults;

use std::sync::{Arc, Weak};
use std::time::Duration;

use faults::{assert_helpful, batch, commit, log};
use outspoke_store::limits::local_clock;
use outspoke_store::redis::{RedisOptions, RedisStore};
use outspoke_store::{Batch, Store, StoreError};
use outspoke_testkit::services::{Redis, Shared, Slot};

static SERVER: Slot<Redis> = Slot::const_new(Weak::new());

impl faults::Server for Redis {
    fn pause(&self) {
        Self::pause(self);
    }

    fn resume(&self) {
        Self::resume(self);
    }

    fn kill(&mut self) {
        Self::kill(self);
    }

    async fn restart(&mut self) {
        Self::restart(self).await;
    }
}

fn impatient(url: String) -> RedisOptions {
    RedisOptions { timeout: Duration::from_secs(1), ..RedisOptions::new(url) }
}

async fn shared() -> Arc<Shared<Redis>> {
    Shared::get(&SERVER, Redis::start).await
}

async fn open(server: &Redis, prefix: &str) -> RedisStore {
    let options = RedisOptions { prefix: prefix.to_owned(), ..RedisOptions::new(server.url()) };
    RedisStore::open(&options).await.unwrap()
}

/// A second way in, for what no store does.
async fn command<T: redis::FromRedisValue>(server: &Redis, words: &[&str]) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_in_the_middle_of_commits_loses_and_repeats_nothing() {
    let server = Redis::start().await;
    let store = RedisStore::open(&RedisOptions::new(server.url())).await.unwrap();
    faults::killed_in_the_middle_of_commits(Arc::new(store), server, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_paused_acknowledges_nothing_and_goes_on_by_itself() {
    let server = Redis::start().await;
    let store = RedisStore::open(&impatient(server.url())).await.unwrap();
    faults::paused_in_the_middle_of_commits(Arc::new(store), server, Duration::from_secs(4)).await;
}

/// The hub begins while the server is away, and finds it when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_comes_later_is_found() {
    let mut server = Redis::start().await;
    server.kill();
    let store = RedisStore::new(&impatient(server.url())).unwrap();
    let error = store.commit(&batch(0)).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert_helpful(&error, &["`url`", &server.addr().to_string()], Redis::PASSWORD);
    assert!(!store.health().await.unwrap().writable);
    server.restart().await;
    commit(&store, &batch(0)).await;
    faults::assert_whole(&store, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_without_memory_says_full_and_takes_the_batch_once_there_is_some() {
    let server = Redis::start().await;
    let store = open(&server, "full").await;
    commit(&store, &batch(0)).await;
    command::<()>(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = store.commit(&batch(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert_eq!(store.states(&[log("a")]).await.unwrap()[0].unwrap().head, 3);
    command::<()>(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
    store.commit(&batch(1)).await.unwrap();
    faults::assert_whole(&store, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_is_a_replica_is_unavailable_until_it_is_none() {
    let server = Redis::start().await;
    let store = open(&server, "replica").await;
    commit(&store, &batch(0)).await;
    command::<()>(&server, &["REPLICAOF", "127.0.0.1", "1"]).await;
    let error = store.commit(&batch(1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("replica")), "{error}");
    let health = store.health().await.unwrap();
    assert!(!health.writable && health.detail.contains("replica"), "{health:?}");
    command::<()>(&server, &["REPLICAOF", "NO", "ONE"]).await;
    store.commit(&batch(1)).await.unwrap();
    assert!(store.health().await.unwrap().writable);
    faults::assert_whole(&store, 2).await;
}

/// What Redis's settings mean is said, and that they are less than was promised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_settings_that_keep_less_are_said_in_words() {
    let server = Redis::start().await;
    let store = open(&server, "settings").await;
    let durability = async || store.health().await.unwrap().durability;
    assert!(durability().await.starts_with("a commit survives a crash of Redis and of its machine"));
    for (setting, value, words) in [
        ("appendfsync", "everysec", "`appendfsync` is everysec"),
        ("appendfsync", "no", "`appendfsync` is no"),
        ("appendonly", "no", "`appendonly` is no"),
    ] {
        command::<()>(&server, &["CONFIG", "SET", setting, value]).await;
        let durability = durability().await;
        assert!(durability.contains(words) && durability.contains("weaker than promised"), "{durability}");
    }
    command::<()>(&server, &["CONFIG", "SET", "maxmemory", "1gb", "maxmemory-policy", "allkeys-lru"]).await;
    assert!(durability().await.contains("allkeys-lru"));
}

/// A user who may not ask for settings can still store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_forbids_config_says_that_it_is_unknown() {
    let server = shared().await;
    let rights = ["+@read", "+@write", "+@scripting", "+@connection", "+info", "+time", "+wait"];
    let rules = [&["ACL", "SETUSER", "hub", "on", ">hunter2", "~limited:*"], &rights[..]].concat();
    command::<()>(&server, &rules).await;
    let url = format!("redis://hub:hunter2@{}/0", server.addr());
    let options = RedisOptions { prefix: "limited".to_owned(), ..RedisOptions::new(url) };
    let store = RedisStore::open(&options).await.unwrap();
    commit(&store, &Batch { not_after: Some(local_clock() + 3_600_000), ..batch(0) }).await;
    faults::assert_whole(&store, 1).await;
    let durability = store.health().await.unwrap().durability;
    assert!(durability.starts_with("unknown"), "{durability}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_batch_in_doubt_is_done_or_too_late_and_never_both() {
    let server = Redis::start().await;
    let first = RedisStore::open(&impatient(server.url())).await.unwrap();
    let second = RedisStore::open(&impatient(server.url())).await.unwrap();
    faults::done_or_too_late(&first, &second, &server).await;
}

/// Two hubs, one room: every offset is there once, whoever wrote it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_shared_by_hubs_has_no_holes_and_no_repetitions() {
    const HUBS: u64 = 4;
    const TURNS: u64 = 40;
    let server = shared().await;
    let hubs = (0..HUBS).map(|hub| {
        let options = RedisOptions { prefix: "hubs".to_owned(), ..RedisOptions::new(server.url()) };
        tokio::spawn(async move {
            let store = RedisStore::open(&options).await.unwrap();
            for turn in 0..TURNS {
                let first = (turn * HUBS + hub) * 10;
                let appends = ["a", "b", "c"].map(|room| faults::append(room, first..first + 2)).into();
                commit(&store, &Batch { appends, ..Batch::default() }).await;
            }
        })
    });
    for hub in hubs.collect::<Vec<_>>() {
        hub.await.unwrap();
    }
    let store = open(&server, "hubs").await;
    let rooms = ["a", "b", "c"].map(log);
    for state in store.states(&rooms).await.unwrap() {
        assert_eq!(state.unwrap().head, HUBS * TURNS * 2);
    }
    let report = store.verify().await.unwrap();
    assert_eq!((report.problems, report.records), (Vec::new(), 3 * HUBS * TURNS * 2));
}

/// Who asks for replicas gets no answer without them, and the batch is not lost for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_without_the_replicas_asked_for_is_in_doubt_until_they_are_there() {
    let server = Redis::start().await;
    let options = RedisOptions { replicas_min: 1, ..impatient(server.url()) };
    let store = RedisStore::open(&options).await.unwrap();
    let error = store.commit(&batch(0)).await.unwrap_err();
    assert!(matches!(&error, StoreError::InDoubt(text) if text.contains("0 of 1")), "{error}");
    let port = server.addr().port().to_string();
    let _replica = Redis::start_with(&["--appendonly", "yes", "--replicaof", "127.0.0.1", &port]).await;
    commit(&store, &batch(0)).await;
    faults::assert_whole(&store, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_that_lets_us_not_in_says_which_setting_to_correct() {
    let server = shared().await;
    let good = server.url();
    let error = async |url: &str| RedisStore::open(&impatient(url.to_owned())).await.unwrap_err();
    let wrong = good.replace(Redis::PASSWORD, "hunter2");
    assert_helpful(&error(&wrong).await, &["password", "`url`"], "hunter2");
    let none = good.replace(&format!(":{}@", Redis::PASSWORD), "");
    assert_helpful(&error(&none).await, &["password", "`url`"], Redis::PASSWORD);
    let nowhere = good.replace("/0", "/99");
    assert_helpful(&error(&nowhere).await, &["no such database", "`url`"], Redis::PASSWORD);
    let closed = good.replace(&server.addr().port().to_string(), "1");
    assert_helpful(&error(&closed).await, &["127.0.0.1:1", "`url`"], Redis::PASSWORD);
    let unknown = good.replace("127.0.0.1", "no-such-host.invalid");
    assert_helpful(&error(&unknown).await, &["no-such-host.invalid", "`url`"], Redis::PASSWORD);
}

/// Records that somebody deleted are not passed over in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_entries_missing_is_damaged() {
    let server = shared().await;
    let store = open(&server, "damaged").await;
    commit(&store, &batch(0)).await;
    command::<()>(&server, &["XDEL", "damaged:{tenant/a}:log", "2-0"]).await;
    let range = outspoke_store::Range {
        direction: outspoke_store::Direction::After(0),
        records_max: 10,
        bytes_max: 1000,
    };
    let error = store.range(&log("a"), range).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged(_)), "{error}");
    let problems = store.verify().await.unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("room \"a\""), "{problems:?}");
}

/// Every key of a prefix with its value, byte for byte.
async fn everything(server: &Redis, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut keys: Vec<String> = command(server, &["KEYS", &format!("{prefix}:*")]).await;
    keys.sort();
    let mut all = Vec::new();
    for key in keys {
        let value = command(server, &["DUMP", &key]).await;
        all.push((key, value));
    }
    all
}

/// An older build, started by mistake beside a newer one, would write what that cannot read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_data_of_a_newer_format_is_refused_and_left_alone() {
    let server = shared().await;
    let store = open(&server, "newer").await;
    commit(&store, &batch(0)).await;
    assert_eq!(command::<String>(&server, &["GET", "newer:format"]).await, "1");
    for (mark, expected) in
        [("2", ["format 2", "newer Outspoke", "`prefix`"]), ("x", ["newer:format", "not what", "`prefix`"])]
    {
        command::<String>(&server, &["SET", "newer:format", mark]).await;
        let before = everything(&server, "newer").await;
        let options = RedisOptions { prefix: "newer".to_owned(), ..impatient(server.url()) };
        let error = RedisStore::open(&options).await.unwrap_err();
        let text = error.to_string();
        assert!(expected.iter().all(|word| text.contains(word)), "{text}");
        // One that was made without a look at the server refuses the first batch.
        let unlooked = RedisStore::new(&options).unwrap();
        assert!(unlooked.commit(&batch(1)).await.is_err());
        assert_eq!(everything(&server, "newer").await, before);
    }
    // Data of before there were marks is of the first format.
    command::<i64>(&server, &["DEL", "newer:format"]).await;
    commit(&open(&server, "newer").await, &batch(1)).await;
}
