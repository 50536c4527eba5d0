//! The database is killed and comes back, or stands still: nothing is acknowledged meanwhile, and nothing was lost.

use std::time::{Duration, Instant};

use outspoke_testkit::services::{Postgres, Redis};
use serde_json::json;

use crate::connection::Way;
use crate::crowd::Crowd;
use crate::host::Host;
use crate::{randomness, rounds};

/// How long the database stands still.
const PAUSE: Duration = Duration::from_secs(20);
/// What was committed in the moment before may still be told.
const COMMITTED: Duration = Duration::from_millis(500);
/// What is promised after its return.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Where the messages are.
enum Database {
    Postgres(Postgres),
    Redis(Redis),
}

impl Database {
    fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgresql",
            Self::Redis(_) => "redis",
        }
    }

    /// A server that keeps its rooms there.
    async fn host(&self) -> Host {
        let (name, url) = match self {
            Self::Postgres(postgres) => (self.name(), postgres.url()),
            Self::Redis(redis) => (self.name(), redis.url()),
        };
        let mut host = Host::new(&format!("store:\n  backend: {name}\n  {name}:\n    url: \"{url}\"\n"));
        host.start().await;
        host
    }

    fn kill(&mut self) {
        match self {
            Self::Postgres(postgres) => postgres.kill(),
            Self::Redis(redis) => redis.kill(),
        }
    }

    async fn restart(&mut self) {
        match self {
            Self::Postgres(postgres) => postgres.restart().await,
            Self::Redis(redis) => redis.restart().await,
        }
    }

    fn pause(&self) {
        match self {
            Self::Postgres(postgres) => postgres.pause(),
            Self::Redis(redis) => redis.pause(),
        }
    }

    fn resume(&self) {
        match self {
            Self::Postgres(postgres) => postgres.resume(),
            Self::Redis(redis) => redis.resume(),
        }
    }
}

async fn killed_and_returned(mut database: Database) {
    let name = database.name();
    let mut rng = randomness(name);
    let mut host = database.host().await;
    let mut crowd = Crowd::gather(&host, &["one", "two", "three"]);
    for _ in 0..rounds(5) {
        crowd.acknowledge(rng.u64(1..400)).await;
        database.kill();
        tokio::time::sleep(Duration::from_millis(rng.u64(..1_000))).await;
        database.restart().await;
    }
    crowd.acknowledge(100).await;
    assert!(host.process().is_running(), "the server goes on");
    crowd.account().await.judge(&format!("{name} killed {} times", rounds(5)));
}

async fn paused(database: Database) {
    let name = database.name();
    let mut host = database.host().await;
    let mut crowd = Crowd::gather(&host, &["one", "two"]);
    let mut other = Way::to(host.address(), "other");
    let (mut other, _) = other.join("mem:other", None).await;
    crowd.acknowledge(200).await;

    database.pause();
    let begin = Instant::now();
    tokio::time::sleep(COMMITTED).await;
    let before = crowd.acknowledged();
    let mut others = 0;
    while begin.elapsed() < PAUSE {
        others += 1;
        other.send(&json!({ "type": "publish", "id": others, "room": "mem:other", "data": others })).await;
        let answer = loop {
            match other.next().await {
                crate::connection::Heard::Event(event) if event["id"] == others => break event,
                crate::connection::Heard::Event(_) => {}
                crate::connection::Heard::Gone => {
                    panic!("a room in memory has nothing to do with a database")
                }
            }
        };
        assert_eq!(answer["type"], "ack", "{answer}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(crowd.acknowledged(), before, "acknowledged while the database stood still");

    database.resume();
    let begin = Instant::now();
    crowd.acknowledge(1).await;
    let back = begin.elapsed();
    let refused = crowd.progress.refused.load(std::sync::atomic::Ordering::Relaxed);
    println!(
        "{name} paused {PAUSE:?}: 0 acknowledged and {refused} refused meanwhile, {others} in another room; the first \
         acknowledgement {back:.1?} after its return"
    );
    assert!(back <= BACK_WITHIN, "{back:?} after the return of the database");
    crowd.acknowledge(200).await;
    assert!(host.process().is_running(), "the server goes on");
    crowd.account().await.judge(&format!("{name} paused"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_killed_under_load_and_returned_loses_repeats_and_reorders_nothing() {
    killed_and_returned(Database::Postgres(Postgres::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_under_load_and_returned_loses_repeats_and_reorders_nothing() {
    killed_and_returned(Database::Redis(Redis::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_paused_acknowledges_nothing_and_goes_on_at_its_return() {
    paused(Database::Postgres(Postgres::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_paused_acknowledges_nothing_and_goes_on_at_its_return() {
    paused(Database::Redis(Redis::start().await)).await;
}
