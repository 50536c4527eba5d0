//! What a back end promises when its server is harmed: shared by the tests of those that have one.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outspoke_store::{
    Append, Appended, Batch, Direction, FactKey, FactWrite, LogKey, Record, Space, Store, StoreError, Stored,
};
use tokio::sync::watch;

/// A server to be harmed.
pub(crate) trait Server: Send {
    fn pause(&self);
    fn resume(&self);
    fn kill(&mut self);
    fn restart(&mut self) -> impl Future<Output = ()> + Send;
}

const LOGS: [&str; 3] = ["a", "b", "c"];
const SPACE: Space = Space("faults");

/// How soon a store works again after its server does.
const RETURN_MAX: Duration = Duration::from_secs(5);

pub(crate) fn log(room: &str) -> LogKey {
    LogKey { tenant: "tenant".into(), room: room.into() }
}

pub(crate) fn record(n: u64) -> Record {
    Record {
        id: u128::from(n) << 32,
        key: n.is_multiple_of(2).then(|| Bytes::from(format!("key {n}"))),
        author: "ada".into(),
        ts: 1_800_000_000_000 + n as i64,
        counted: true,
        payload: Bytes::from(format!("payload {n}")),
    }
}

pub(crate) fn append(room: &str, numbers: Range<u64>) -> Append {
    Append {
        log: log(room),
        epoch: 1,
        records: numbers.map(record).collect(),
        replaces: Vec::new(),
        fence: None,
    }
}

fn cursor() -> FactKey {
    FactKey { tenant: "tenant".into(), space: SPACE, name: Bytes::from_static(b"cursor") }
}

/// The batch of a turn: a few records for each log, and a cursor that moves on.
pub(crate) fn batch(turn: u64) -> Batch {
    let first = turn * 10;
    let appends = LOGS.iter().zip([3, 1, 2]).map(|(room, count)| append(room, first..first + count));
    let value = Bytes::copy_from_slice(&turn.to_be_bytes());
    Batch { appends: appends.collect(), facts: vec![FactWrite::Max(cursor(), value)], not_after: None }
}

/// Commits until it is known to be done, as the hub does; every other answer must be one that a caller may repeat.
pub(crate) async fn commit(store: &dyn Store, batch: &Batch) -> Vec<Appended> {
    let mut in_doubt = false;
    loop {
        match store.commit(batch).await {
            Ok(appended) => return appended,
            Err(StoreError::InDoubt(_)) => in_doubt = true,
            Err(error @ StoreError::Unavailable(_)) => {
                // "Nothing was written" can be true of a batch in doubt only if it was found to be so.
                if in_doubt {
                    assert_nothing_of(store, batch).await;
                    in_doubt = false;
                }
                assert!(!error.to_string().is_empty());
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn assert_nothing_of(store: &dyn Store, batch: &Batch) {
    for append in &batch.appends {
        if let Ok(page) = read(store, &append.log).await {
            let ids = append.records.iter().map(|record| record.id);
            assert!(
                ids.clone().all(|id| page.iter().all(|stored| stored.id != id)),
                "it was written after all"
            );
        }
    }
}

async fn read(store: &dyn Store, log: &LogKey) -> Result<Vec<Stored>, StoreError> {
    let direction = Direction::After(0);
    let range = outspoke_store::Range { direction, records_max: usize::MAX, bytes_max: usize::MAX };
    store.range(log, range).await.map(|page| page.records)
}

/// What the logs must hold after some turns: each record once, in order, without holes.
pub(crate) async fn assert_whole(store: &dyn Store, turns: u64) {
    for (room, count) in LOGS.iter().zip([3, 1, 2]) {
        let expected = (0..turns).flat_map(|turn| turn * 10..turn * 10 + count).map(record);
        let stored = read(store, &log(room)).await.unwrap();
        let found: Vec<_> =
            stored.iter().map(|stored| (stored.offset, stored.id, &stored.payload[..])).collect();
        let expected: Vec<_> = expected.collect();
        let expected: Vec<_> =
            (1..).zip(&expected).map(|(offset, record)| (offset, record.id, &record.payload[..])).collect();
        assert_eq!(found, expected, "room {room}");
    }
    let facts = store.facts(&[cursor()]).await.unwrap();
    assert_eq!(facts, [Some(Bytes::copy_from_slice(&(turns - 1).to_be_bytes()))]);
    assert_eq!(store.verify().await.unwrap().problems, Vec::<String>::new());
}

/// Commits turn after turn until told to stop, and tells after each.
fn writer(
    store: Arc<dyn Store>,
) -> (watch::Receiver<u64>, watch::Sender<bool>, tokio::task::JoinHandle<u64>) {
    let (done, progress) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let mut turn = 0;
        while !*stopped.borrow() {
            let appended = commit(&*store, &batch(turn)).await;
            let heads: Vec<_> =
                appended.iter().map(|appended| appended.outcomes.last().unwrap().offset).collect();
            assert_eq!(
                heads,
                [3, 1, 2].map(|count| count * (turn + 1)),
                "an answer that does not follow the last"
            );
            turn += 1;
            done.send_replace(turn);
        }
        turn
    });
    (progress, stop, task)
}

/// Killed in the middle of commits and started again, over and over: nothing acknowledged is lost, nothing is there twice,
/// nothing is out of order.
pub(crate) async fn killed_in_the_middle_of_commits(
    store: Arc<dyn Store>,
    mut server: impl Server,
    kills: u64,
) {
    let (mut progress, stop, task) = writer(Arc::clone(&store));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..kills {
        // Not a fixed number of turns after the start: another moment in a commit each time.
        let until = *progress.borrow() + random.u64(1..40);
        progress.wait_for(|turns| *turns >= until).await.unwrap();
        server.kill();
        server.restart().await;
    }
    let until = *progress.borrow() + 5;
    progress.wait_for(|turns| *turns >= until).await.unwrap();
    stop.send_replace(true);
    let turns = task.await.unwrap();
    assert_whole(&*store, turns).await;
}

/// Paused in the middle of commits: no answer says that something is written, and soon after it goes on, so does the store.
pub(crate) async fn paused_in_the_middle_of_commits(
    store: Arc<dyn Store>,
    server: impl Server,
    paused: Duration,
) {
    let (mut progress, stop, task) = writer(Arc::clone(&store));
    for _ in 0..2 {
        let until = *progress.borrow() + 20;
        progress.wait_for(|turns| *turns >= until).await.unwrap();
        server.pause();
        // An answer that was on its way already.
        let _ = tokio::time::timeout(Duration::from_millis(200), progress.changed()).await;
        let before = *progress.borrow_and_update();
        let answered = tokio::time::timeout(paused, progress.changed()).await;
        assert!(answered.is_err(), "acknowledged while the server was paused: {before}");
        let health = store.health().await.unwrap();
        assert!(!health.writable && !health.detail.is_empty(), "{health:?}");
        server.resume();
        let works = outspoke_testkit::within(RETURN_MAX, progress.wait_for(|turns| *turns > before)).await;
        works.expect("it works again in time").unwrap();
    }
    stop.send_replace(true);
    let turns = task.await.unwrap();
    assert_whole(&*store, turns).await;
}

/// Says what is wrong and which setting to correct, and keeps the secret.
pub(crate) fn assert_helpful(error: &StoreError, words: &[&str], secret: &str) {
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in: {text}");
    assert!(!text.contains(secret), "{text}");
    assert!(!format!("{error:?}").contains(secret));
}

/// The store's clock, as it tells whoever is too late.
async fn clock(store: &dyn Store) -> i64 {
    let late = Batch { facts: vec![FactWrite::Delete(cursor())], not_after: Some(0), ..Batch::default() };
    match store.commit(&late).await {
        Err(StoreError::TooLate { now }) => now,
        other => panic!("{other:?}"),
    }
}

/// Two hubs. One is in doubt about a batch while the server stands still; the publishers go to the other one. What the
/// first is told when the server goes on is true for ever, whichever of both was faster.
#[allow(dead_code)] // Not every server can be paused.
pub(crate) async fn done_or_too_late(first: &dyn Store, second: &dyn Store, server: &impl Server) {
    const TURNS: u64 = 6;
    commit(first, &batch(0)).await;
    for turn in 1..TURNS {
        // Soon over, or not for long.
        let allowed = if turn % 2 == 0 { 700 } else { 60_000 };
        let held = Batch { not_after: Some(clock(first).await + allowed), ..batch(turn) };
        server.pause();
        let mut outcome = first.commit(&held).await;
        assert!(outcome.is_err(), "a server that stands still has answered");
        server.resume();
        while let Err(StoreError::InDoubt(_) | StoreError::Unavailable(_)) = outcome {
            outcome = first.commit(&held).await;
        }
        match outcome {
            Ok(_) => {}
            Err(StoreError::TooLate { .. }) if allowed < 60_000 => {}
            Err(error) => panic!("{error}"),
        }
        // Sent again through the other hub, with the same ids and keys: once, and the same places for both.
        let again = commit(second, &batch(turn)).await;
        let known = first.commit(&held).await.unwrap();
        let places = |appended: &[Appended]| {
            let outcomes = appended.iter().flat_map(|append| &append.outcomes);
            outcomes.map(|outcome| (outcome.id, outcome.offset)).collect::<Vec<_>>()
        };
        assert_eq!(places(&again), places(&known));
        assert_whole(second, turn + 1).await;
    }
}
