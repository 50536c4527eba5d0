//! The embedded store when its process is killed, and when the power goes.
//!
//! A child (this program again) commits and prints what was acknowledged; it is killed after some random number of
//! lines, and what it printed must be there. Under `suite::powerloss` only what was synced is there.

#![allow(clippy::unwrap_used, clippy::print_stdout)]
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use outspoke_store::embedded::{EmbeddedStore, Options};
use outspoke_store::suite::powerloss::{Rest, Shim, lose_power};
use outspoke_store::{
    Append, Batch, Direction, FactKey, FactWrite, LogKey, Range, Record, Retention, Space, Store,
};

const START: i64 = 1_800_000_000_000;
const ROOMS: u64 = 5;

fn log(room: u64) -> LogKey {
    LogKey { tenant: "t".into(), room: format!("room {room}").into() }
}

fn cursor(room: u64) -> FactKey {
    FactKey { tenant: "t".into(), space: Space("cursor"), name: Bytes::from(format!("{room}")) }
}

fn options() -> Options {
    let mut options = Options::default();
    // Small, so that files are written, merged and removed all the time.
    options.memtable_bytes = 512 * 1024;
    options.reserve_bytes = 0;
    options
}

/// What a record with this id says: checkable by whoever knows the id.
fn payload(id: u128, size: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(id as u64);
    let mut payload = vec![0; rng.usize(..size.max(1))];
    rng.fill(&mut payload);
    payload.into()
}

/// Commits until it is killed. Started by the tests below; does nothing by itself.
#[test]
fn child() {
    let Ok(folder) = std::env::var("STORE_CRASH_FOLDER") else { return };
    let run: u64 = std::env::var("STORE_CRASH_RUN").unwrap().parse().unwrap();
    let size: usize = std::env::var("STORE_CRASH_SIZE").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(commit_for_ever(&folder, run, size));
}

async fn commit_for_ever(folder: &str, run: u64, size: usize) {
    let store = EmbeddedStore::open(folder, options()).unwrap();
    let mut rng = fastrand::Rng::with_seed(run);
    let mut out = std::io::stdout();
    for turn in 1u64.. {
        let batch = batch(run, turn, size, &mut rng);
        let answers = store.commit(&batch).await.unwrap();
        let mut lines = String::new();
        for (append, answer) in batch.appends.iter().zip(&answers) {
            for (record, outcome) in append.records.iter().zip(&answer.outcomes) {
                assert_eq!((outcome.id, outcome.duplicate), (record.id, false));
                lines += &format!("ack {} {} {}\n", append.log.room, outcome.offset, outcome.id);
            }
        }
        lines += &format!("turn {run} {turn}\n");
        out.write_all(lines.as_bytes()).unwrap();
        if turn.is_multiple_of(7) {
            let keep = Retention { records_max: 20, ..Retention::default() };
            store.trim(&log(0), keep, START).await.unwrap();
        }
        if turn.is_multiple_of(50) {
            store.drop_log(&log(100)).await.unwrap();
        }
    }
}

fn batch(run: u64, turn: u64, size: usize, rng: &mut fastrand::Rng) -> Batch {
    let mut n = 0;
    let mut appends = Vec::new();
    for _ in 0..rng.u64(1..4) {
        let room = if rng.u8(..10) == 0 { 100 } else { rng.u64(..ROOMS) };
        let mut records = Vec::new();
        for _ in 0..rng.u64(1..6) {
            n += 1;
            let id = (u128::from(run) << 64) | (u128::from(turn) << 16) | n;
            let key = Some(Bytes::from(format!("key {id}")));
            let payload = payload(id, size);
            records.push(Record { id, key, author: "ada".into(), ts: START, counted: true, payload });
        }
        appends.push(Append { log: log(room), epoch: 5, records, replaces: vec![], fence: None });
    }
    let value = Bytes::copy_from_slice(&[run.to_be_bytes(), turn.to_be_bytes()].concat());
    let facts = (0..ROOMS).map(|room| FactWrite::Max(cursor(room), value.clone())).collect();
    Batch { appends, facts, not_after: None }
}

/// What was acknowledged, over all runs.
#[derive(Default)]
struct Acknowledged {
    /// Ids by room and offset.
    records: BTreeMap<(String, u64), u128>,
    newest: Option<(u64, u64)>,
}

impl Acknowledged {
    fn note(&mut self, line: &str) -> bool {
        let line = line.split_once(" ... ").map_or(line, |(_, line)| line);
        let words: Vec<_> = line.rsplitn(3, ' ').collect();
        if let Some(room) = words.get(2).and_then(|rest| rest.strip_prefix("ack ")) {
            let known =
                self.records.insert((room.to_owned(), words[1].parse().unwrap()), words[0].parse().unwrap());
            assert!(room == "room 100" || known.is_none(), "an offset was given twice: {line}");
            return true;
        }
        if words.get(2) == Some(&"turn") {
            self.newest = Some((words[1].parse().unwrap(), words[0].parse().unwrap()));
        }
        false
    }

    /// Runs a child until it has acknowledged so many records, and kills it.
    fn run(&mut self, mut program: Command, lines: usize) {
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let (mut line, mut count) = (String::new(), 0);
        while reader.read_line(&mut line).unwrap() > 0 {
            // The last line may be a part of one.
            if line.ends_with('\n') && self.note(line.trim_end()) {
                count += 1;
                if count == lines {
                    child.kill().unwrap();
                }
            }
            line.clear();
        }
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(count >= lines, "the child ended by itself after {count} records: {error}");
    }

    /// Holds a folder against what was acknowledged. What is there beyond that was in flight, and counts as kept now.
    async fn check(&mut self, folder: &Path, size: usize, what: &str) {
        let store: Arc<dyn Store> = Arc::new(
            EmbeddedStore::open(folder, options()).unwrap_or_else(|error| panic!("{what}: {error}")),
        );
        let report = store.verify().await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new(), "{what}");
        let range = Range { direction: Direction::After(0), records_max: usize::MAX, bytes_max: usize::MAX };
        let mut ids = std::collections::BTreeSet::new();
        for room in 0..ROOMS {
            let log = log(room);
            let page = store.range(&log, range).await.unwrap();
            let kept: BTreeMap<_, _> = page.records.iter().map(|record| (record.offset, record)).collect();
            let name = log.room.to_string();
            for ((_, offset), id) in self.records.range((name.clone(), 0)..=(name.clone(), u64::MAX)) {
                if room == 0 && *offset < page.state.first {
                    continue;
                }
                let record =
                    kept.get(offset).unwrap_or_else(|| panic!("{what}: record {offset} of {log} is lost"));
                assert_eq!(record.id, *id, "{what}: record {offset} of {log} is another one");
            }
            for record in &page.records {
                assert!(ids.insert(record.id), "{what}: {} is there twice", record.id);
                assert_eq!(record.payload, payload(record.id, size), "{what}: {log} {}", record.offset);
                self.records.insert((name.clone(), record.offset), record.id);
            }
        }
        if let Some((run, turn)) = self.newest {
            let value = Bytes::copy_from_slice(&[run.to_be_bytes(), turn.to_be_bytes()].concat());
            for room in 0..ROOMS {
                let kept = store.facts(&[cursor(room)]).await.unwrap().remove(0);
                assert!(kept.is_some_and(|kept| kept >= value), "{what}: a cursor went back");
            }
        }
        store.close().await.unwrap();
    }
}

fn program(folder: &Path, run: u64, size: usize) -> Command {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    program.env("STORE_CRASH_FOLDER", folder).env("STORE_CRASH_RUN", run.to_string());
    program.env("STORE_CRASH_SIZE", size.to_string());
    program
}

#[tokio::test]
async fn embedded_store_killed_twenty_times_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    let mut rng = fastrand::Rng::with_seed(20);
    for run in 1..=20 {
        acknowledged.run(program(folder.path(), run, 2_000), rng.usize(1..800));
        acknowledged.check(folder.path(), 2_000, &format!("kill {run}")).await;
    }
    println!("{} records acknowledged, none lost", acknowledged.records.len());
}

async fn lose_power_often(seed: u64, runs: u64, size: usize, lines: std::ops::Range<usize>) {
    let scratch = tempfile::tempdir().unwrap();
    let shim = Shim::build(scratch.path());
    let mut acknowledged = Acknowledged::default();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut folder = scratch.path().join("disk 0");
    std::fs::create_dir(&folder).unwrap();
    for run in 1..=runs {
        let mirror = scratch.path().join(format!("mirror {run}"));
        std::fs::create_dir(&mirror).unwrap();
        let mut program = program(&folder.join("store"), run, size);
        shim.watch(&mut program, &folder, &mirror);
        acknowledged.run(program, rng.usize(lines.clone()));
        let rest = if run % 3 == 1 { Rest::Lost } else { Rest::Scattered(seed * 1_000 + run) };
        let after = scratch.path().join(format!("disk {run}"));
        lose_power(&folder, &mirror, &after, rest).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::remove_dir_all(&mirror).unwrap();
        folder = after;
        acknowledged.check(&folder.join("store"), size, &format!("seed {seed}, run {run}, {rest:?}")).await;
    }
    println!("seed {seed}: {} records acknowledged, none lost", acknowledged.records.len());
}

/// Small records and many merges.
#[tokio::test]
async fn embedded_store_after_power_losses_has_what_it_acknowledged() {
    for seed in 1..=3 {
        lose_power_often(seed, 8, 2_000, 1..2_500).await;
    }
}

/// Large records, so that journals are rotated and removed.
#[tokio::test]
async fn embedded_store_after_power_losses_with_rotated_journals_has_what_it_acknowledged() {
    lose_power_often(7, 3, 100_000, 1_800..2_600).await;
}

/// Commits a record a line; the syncs of the sixth commit fail, and of what the store does about it. Started by the test
/// below; does nothing by itself.
#[tokio::test]
async fn child_whose_syncs_fail() {
    let (Ok(folder), Ok(fail)) = (std::env::var("STORE_CRASH_FAILING"), std::env::var("POWERLOSS_FAIL"))
    else {
        return;
    };
    let store = EmbeddedStore::open(folder, options()).unwrap();
    let mut failures = 0;
    for n in 1..=40u64 {
        let payload = payload(n.into(), 9_000);
        let record =
            Record { id: n.into(), key: None, author: "ada".into(), ts: START, counted: true, payload };
        let append = Append { log: log(1), epoch: 5, records: vec![record], replaces: vec![], fence: None };
        let batch = Batch { appends: vec![append], ..Batch::default() };
        if n == 6 {
            std::fs::write(&fail, "12345678").unwrap();
        }
        let answers = loop {
            match store.commit(&batch).await {
                Ok(answers) => break answers,
                Err(_) => failures += 1,
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert!(n < 6 || failures > 0, "no commit failed");
        let offset = answers[0].outcomes[0].offset;
        std::io::stdout().write_all(format!("ack {} {offset} {n}\n", log(1).room).as_bytes()).unwrap();
    }
}

/// What the system takes for clean after a failed sync is written again before it is acknowledged, and leaves no hole.
#[tokio::test]
async fn embedded_store_whose_syncs_failed_acknowledges_only_what_is_on_the_disk() {
    let scratch = tempfile::tempdir().unwrap();
    let shim = Shim::build(scratch.path());
    for lines in [6, 12] {
        let name = |what: &str| scratch.path().join(format!("{what} {lines}"));
        let (folder, mirror, after) = (name("disk"), name("mirror"), name("after"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(&mirror).unwrap();
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "child_whose_syncs_fail", "--nocapture", "--test-threads=1"]);
        program.env("STORE_CRASH_FAILING", folder.join("store"));
        shim.watch(&mut program, &folder, &mirror);
        shim.fail_syncs(&mut program, &name("fail"));
        let mut acknowledged = Acknowledged::default();
        acknowledged.run(program, lines);
        lose_power(&folder, &mirror, &after, Rest::Lost).unwrap();
        acknowledged.check(&after.join("store"), 9_000, &format!("after {lines} acknowledgements")).await;
    }
}

/// The test would prove nothing if the shim kept what was not synced.
#[test]
fn powerloss_shim_loses_what_was_not_synced() {
    let scratch = tempfile::tempdir().unwrap();
    let shim = Shim::build(scratch.path());
    let (folder, mirror, after) =
        (scratch.path().join("a"), scratch.path().join("mirror"), scratch.path().join("b"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::create_dir(&mirror).unwrap();
    std::fs::write(folder.join("before"), "before").unwrap();
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", "child_that_syncs_some"]).current_dir(&folder).env("STORE_CRASH_SHIM", "1");
    shim.watch(&mut program, &folder, &mirror);
    assert!(program.stdout(Stdio::null()).status().unwrap().success());
    lose_power(&folder, &mirror, &after, Rest::Lost).unwrap();
    let read = |name: &str| std::fs::read_to_string(after.join(name)).ok();
    assert_eq!(read("synced").as_deref(), Some("synced"));
    assert_eq!(read("before").as_deref(), Some("before"));
    assert_eq!(read("nameless"), None);
    assert_eq!(read("renamed"), None);
    assert_eq!(read("cut").as_deref(), Some("cut"));
    assert_eq!(read("gone").as_deref(), Some("gone"));
}

/// Writes, renames, cuts and removes, and syncs only some of it. Started by the test above; does nothing by itself.
#[test]
fn child_that_syncs_some() {
    if std::env::var("STORE_CRASH_SHIM").is_err() {
        return;
    }
    let append = |name: &str, text: &str, sync: bool| {
        let mut file = std::fs::File::options().append(true).create(true).open(name).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        if sync {
            file.sync_data().unwrap();
        }
    };
    for name in ["synced", "cut", "gone"] {
        append(name, name, true);
    }
    std::fs::File::open(".").unwrap().sync_all().unwrap();
    append("synced", " and more", false);
    append("nameless", "x", true);
    std::fs::rename("before", "renamed").unwrap();
    std::fs::File::options().write(true).open("cut").unwrap().set_len(1).unwrap();
    std::fs::remove_file("gone").unwrap();
}
