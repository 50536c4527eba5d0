//! What the store in PostgreSQL does when its server is killed, paused, full, shared, or not let us in.
#![cfg(feature = "postgres")]
#![allow(clippy::unwrap_used)]

mod faults;

use std::sync::{Arc, Weak};
use std::time::Duration;

use faults::{assert_helpful, batch, commit, log};
use outspoke_store::postgres::{PostgresOptions, PostgresStore};
use outspoke_store::{Appended, Batch, Store, StoreError};
use outspoke_testkit::services::{Postgres, Shared, Slot};
use tokio_postgres::NoTls;

static SERVER: Slot<Postgres> = Slot::const_new(Weak::new());

impl faults::Server for Postgres {
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

fn impatient(url: String) -> PostgresOptions {
    PostgresOptions { timeout: Duration::from_secs(1), ..PostgresOptions::new(url) }
}

async fn shared() -> Arc<Shared<Postgres>> {
    Shared::get(&SERVER, Postgres::start).await
}

async fn open(server: &Postgres, schema: &str) -> PostgresStore {
    let options = PostgresOptions { schema: schema.to_owned(), ..PostgresOptions::new(server.url()) };
    PostgresStore::open(&options).await.unwrap()
}

/// A second way in, for what no store does.
async fn superuser(server: &Postgres) -> tokio_postgres::Client {
    let url = server.url().replace("//outspoke:", "//postgres:");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_killed_in_the_middle_of_commits_loses_and_repeats_nothing() {
    let server = Postgres::start().await;
    let store = PostgresStore::open(&PostgresOptions::new(server.url())).await.unwrap();
    faults::killed_in_the_middle_of_commits(Arc::new(store), server, 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_paused_acknowledges_nothing_and_goes_on_by_itself() {
    let server = Postgres::start().await;
    let store = PostgresStore::open(&impatient(server.url())).await.unwrap();
    faults::paused_in_the_middle_of_commits(Arc::new(store), server, Duration::from_secs(4)).await;
}

/// The hub begins while the database is away, and finds it when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_that_comes_later_is_found() {
    let mut server = Postgres::start().await;
    server.kill();
    let store = PostgresStore::new(&impatient(server.url())).unwrap();
    let error = store.commit(&batch(0)).await.unwrap_err();
    assert_helpful(&error, &["`url`", &server.addr().to_string()], Postgres::PASSWORD);
    assert!(!store.health().await.unwrap().writable);
    server.restart().await;
    commit(&store, &batch(0)).await;
    faults::assert_whole(&store, 1).await;
}

/// The hardest case of a repetition: the first try is not dead, it is only slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_batch_repeated_while_its_first_try_is_under_way_is_written_once() {
    let server = Postgres::start().await;
    let store = PostgresStore::open(&impatient(server.url())).await.unwrap();
    commit(&store, &batch(0)).await;
    let superuser = superuser(&server).await;

    // The first try stands still between its records and its commit, which is sent already.
    superuser.batch_execute("BEGIN; LOCK TABLE outspoke.facts IN EXCLUSIVE MODE").await.unwrap();
    let error = store.commit(&batch(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::InDoubt(_)), "{error}");
    // The second waits for it, in vain; that it wrote nothing itself says nothing about the first.
    let error = store.commit(&batch(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::InDoubt(_)), "{error}");
    superuser.batch_execute("COMMIT").await.unwrap();

    let appended: Vec<Appended> = commit(&store, &batch(1)).await;
    assert_eq!(appended[0].state.head, 6);
    faults::assert_whole(&store, 2).await;
}

/// The server's clock, in milliseconds since 1970.
async fn clock(superuser: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    superuser.query_one(sql, &[]).await.unwrap().get(0)
}

/// The hub is stopped, or the server slow, after the locks are had: the time is looked at again before the commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_batch_whose_time_ends_in_the_middle_is_not_written() {
    let server = shared().await;
    let (store, superuser) = (Arc::new(open(&server, "fence").await), superuser(&server).await);
    commit(&*store, &batch(0)).await;
    superuser.batch_execute("BEGIN; LOCK TABLE fence.facts IN EXCLUSIVE MODE").await.unwrap();
    let not_after = clock(&superuser).await + 500;
    let late = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.commit(&Batch { not_after: Some(not_after), ..batch(1) }).await }
    });
    while clock(&superuser).await <= not_after {
        superuser.batch_execute("SELECT pg_sleep(0.1)").await.unwrap();
    }
    superuser.batch_execute("COMMIT").await.unwrap();
    let error = late.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::TooLate { now } if now > not_after), "{error}");
    faults::assert_whole(&*store, 1).await;
    commit(&*store, &batch(1)).await;
    faults::assert_whole(&*store, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_batch_in_doubt_is_done_or_too_late_and_never_both() {
    let server = Postgres::start().await;
    let first = PostgresStore::open(&impatient(server.url())).await.unwrap();
    let second = PostgresStore::open(&impatient(server.url())).await.unwrap();
    faults::done_or_too_late(&first, &second, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_without_space_says_full_and_takes_the_batch_once_there_is_some() {
    let server = shared().await;
    let store = open(&server, "full").await;
    commit(&store, &batch(0)).await;
    let full = "CREATE FUNCTION \"full\".refuse() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$; \
                CREATE TRIGGER refuse BEFORE INSERT ON \"full\".records EXECUTE FUNCTION \"full\".refuse()";
    server.sql(full).await;
    let error = store.commit(&batch(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert_eq!(store.states(&[log("a")]).await.unwrap()[0].unwrap().head, 3);
    server.sql("DROP TRIGGER refuse ON \"full\".records").await;
    store.commit(&batch(1)).await.unwrap();
    faults::assert_whole(&store, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_read_only_is_unavailable_until_it_is_not() {
    let server = Postgres::start().await;
    let store = open(&server, "outspoke").await;
    store.commit(&batch(0)).await.unwrap();
    server.sql("ALTER ROLE outspoke SET default_transaction_read_only = on").await;
    // Settings of a role are those of its next session.
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'outspoke'").await;
    let error = store.commit(&batch(1)).await.unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("read-only")), "{error}");
    let health = store.health().await.unwrap();
    assert!(!health.writable && health.detail.contains("read-only"), "{health:?}");
    server.sql("ALTER ROLE outspoke RESET default_transaction_read_only").await;
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'outspoke'").await;
    store.commit(&batch(1)).await.unwrap();
    assert!(store.health().await.unwrap().writable);
    faults::assert_whole(&store, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_settings_that_keep_less_are_said_in_words() {
    let server = Postgres::start().await;
    let store = open(&server, "outspoke").await;
    let durability = store.health().await.unwrap().durability;
    assert!(durability.contains("survives a crash of PostgreSQL and of its machine"), "{durability}");
    for (setting, value, words) in [
        ("synchronous_commit", "off", "`synchronous_commit` is off"),
        ("synchronous_commit", "local", "standby"),
        ("fsync", "off", "`fsync` is off"),
    ] {
        server.sql(&format!("ALTER SYSTEM SET {setting} = {value}")).await;
        server.sql("SELECT pg_reload_conf()").await;
        // The server tells its processes one after the other.
        loop {
            let durability = store.health().await.unwrap().durability;
            if durability.contains(words) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Two hubs, one room: every offset is there once, whoever wrote it, also when they meet in opposite orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_shared_by_hubs_has_no_holes_and_no_repetitions() {
    const HUBS: u64 = 4;
    const TURNS: u64 = 40;
    let server = shared().await;
    // Also the tables are made by whoever is first.
    let hubs = (0..HUBS).map(|hub| {
        let options = PostgresOptions { schema: "hubs".to_owned(), ..PostgresOptions::new(server.url()) };
        tokio::spawn(async move {
            let store = PostgresStore::open(&options).await.unwrap();
            for turn in 0..TURNS {
                let first = (turn * HUBS + hub) * 10;
                let mut appends: Vec<_> =
                    ["a", "b", "c"].map(|room| faults::append(room, first..first + 2)).into();
                if hub.is_multiple_of(2) {
                    appends.reverse();
                }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_that_lets_us_not_in_says_which_setting_to_correct() {
    let server = shared().await;
    let good = server.url();
    let error = async |url: &str| PostgresStore::open(&impatient(url.to_owned())).await.unwrap_err();
    let wrong = good.replace(Postgres::PASSWORD, "hunter2");
    assert_helpful(&error(&wrong).await, &["password", "outspoke", "`url`"], "hunter2");
    let nowhere = good.replace(&format!("{}/outspoke", server.addr()), &format!("{}/nowhere", server.addr()));
    assert_helpful(&error(&nowhere).await, &["no database nowhere", "`url`"], Postgres::PASSWORD);
    let port = server.addr().port().to_string();
    let closed = good.replace(&port, "1");
    assert_helpful(&error(&closed).await, &["127.0.0.1:1", "`url`"], Postgres::PASSWORD);
    let unknown = good.replace("127.0.0.1", "no-such-host.invalid");
    assert_helpful(&error(&unknown).await, &["no-such-host.invalid", "`url`"], Postgres::PASSWORD);
    server.sql("CREATE ROLE guest LOGIN PASSWORD 'hunter2'").await;
    let guest = good.replace(&format!("outspoke:{}", Postgres::PASSWORD), "guest:hunter2");
    assert_helpful(&error(&guest).await, &["CREATE SCHEMA \"outspoke\" AUTHORIZATION \"guest\""], "hunter2");
    // What it says is what helps.
    server.sql("CREATE SCHEMA \"outspoke\" AUTHORIZATION \"guest\"").await;
    let store = PostgresStore::open(&impatient(guest)).await.unwrap();
    commit(&store, &batch(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_tables_of_a_newer_version_are_left_alone() {
    let server = shared().await;
    commit(&open(&server, "newer").await, &batch(0)).await;
    server.sql("INSERT INTO newer.migrations (version) VALUES (99)").await;
    // Each row of each table, and who wrote it.
    let everything = async || {
        let mut all = server
            .sql("SELECT relname FROM pg_class WHERE relnamespace = 'newer'::regnamespace ORDER BY 1")
            .await;
        for table in ["migrations", "logs", "records"] {
            let rows =
                format!("SELECT string_agg(xmin::text || t::text, ';' ORDER BY ctid) FROM newer.{table} t");
            all.push_str(&server.sql(&rows).await);
        }
        all
    };
    let before = everything().await;
    let options = PostgresOptions { schema: "newer".to_owned(), ..PostgresOptions::new(server.url()) };
    let error = PostgresStore::open(&options).await.unwrap_err();
    assert_helpful(&error, &["version 99", "newer Outspoke"], Postgres::PASSWORD);
    assert_eq!(everything().await, before);
}

/// Records that somebody deleted are not passed over in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_with_rows_missing_is_damaged() {
    let server = shared().await;
    let store = open(&server, "damaged").await;
    commit(&store, &batch(0)).await;
    let delete = "DELETE FROM damaged.records r USING damaged.logs l WHERE r.log = l.id AND l.room = 'a' AND r.off = 2";
    server.sql(delete).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_over_tls_checks_the_certificate_it_is_told_to_check() {
    let server = Postgres::start().await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");
    for file in ["server.pem", "server.key"] {
        let text = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        server.write_file(file, &text);
    }
    for setting in ["ssl_cert_file = 'server.pem'", "ssl_key_file = 'server.key'", "ssl = on"] {
        server.sql(&format!("ALTER SYSTEM SET {setting}")).await;
    }
    server.write_file(
        "pg_hba.conf",
        "host all postgres 127.0.0.1/32 trust\nhostssl all all all scram-sha-256\n",
    );
    server.sql("SELECT pg_reload_conf()").await;

    let named = server.url().replace("127.0.0.1", "localhost");
    let open = async |url: String| PostgresStore::open(&impatient(url)).await;
    // The server may take a moment to have read its settings.
    while let Err(error) = open(format!("{named}?sslmode=require")).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    }
    let trusted = format!("?sslmode=verify-full&sslrootcert={folder}/ca.pem");
    let store = open(format!("{named}{trusted}")).await.unwrap();
    commit(&store, &batch(0)).await;
    let error = open(named.clone()).await.unwrap_err();
    assert_helpful(&error, &["sslmode", "`url`"], Postgres::PASSWORD);
    let error = open(format!("{named}?sslmode=verify-full")).await.unwrap_err();
    assert_helpful(&error, &["certificate"], Postgres::PASSWORD);
    let error = open(format!("{}{trusted}", server.url())).await.unwrap_err();
    assert_helpful(&error, &["certificate"], Postgres::PASSWORD);
}
