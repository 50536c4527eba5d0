//! What the embedded store does on this machine: commits, reads, opening, memory.
//!
//! `cargo run --release -p outspoke-store --example measure -- FOLDER [RECORDS [ROOMS]]`: commits so many records (a
//! million by default) of 128 bytes with keys over so many rooms (5,000), a batch of 256 at a time, each durable; then opens the folder
//! again, cold in the process though not in the system, and reads.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use outspoke_store::embedded::{EmbeddedStore, Options};
use outspoke_store::{Append, Batch, Direction, LogKey, Range, Record, Retention, Store};

const BATCH: u64 = 256;
const START: i64 = 1_800_000_000_000;

fn log(room: u64) -> LogKey {
    LogKey { tenant: "".into(), room: format!("room {room}").into() }
}

fn batch(from: u64, rooms: u64, rng: &mut fastrand::Rng) -> Batch {
    let appends = (from..from + BATCH).map(|n| {
        // Most of what is said is said in few rooms.
        let room = (rng.f64() * rng.f64() * rng.f64() * rooms as f64) as u64;
        let record = Record {
            id: u128::from(n) << 64,
            key: Some(Bytes::from(format!("user {:06}:{n:012}", n % 1_000))),
            author: format!("user {:06}", n % 1_000).into(),
            ts: START + (n / 30) as i64,
            counted: true,
            payload: Bytes::from(vec![b'x'; 128]),
        };
        Append { log: log(room), epoch: 1, records: vec![record], replaces: vec![], fence: None }
    });
    Batch { appends: appends.collect(), ..Batch::default() }
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("VmRSS: unknown").to_owned()
}

/// CPU time of the process and bytes that it had written to disks.
fn costs() -> (Duration, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = ticks.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
    (Duration::from_millis(ticks * 10), written.unwrap_or(0))
}

fn percentile(times: &mut [Duration], of: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * of / 100]
}

async fn fill(store: &EmbeddedStore, records: u64, rooms: u64) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut times = Vec::new();
    let (begun, before) = (Instant::now(), costs());
    for from in (0..records).step_by(BATCH as usize) {
        let batch = batch(from, rooms, &mut rng);
        let at = Instant::now();
        store.commit(&batch).await.unwrap();
        times.push(at.elapsed());
    }
    let (took, after) = (begun.elapsed(), costs());
    println!(
        "commit: {records} records in {took:.2?}: {:.0}/s; a batch of {BATCH} p50 {:.2?}, p99 {:.2?}, worst {:.2?}",
        records as f64 / took.as_secs_f64(),
        percentile(&mut times, 50),
        percentile(&mut times, 99),
        percentile(&mut times, 100),
    );
    println!(
        "        {:.2?} of CPU, {} MB written; {}",
        after.0 - before.0,
        (after.1 - before.1) / 1_000_000,
        memory()
    );
}

async fn read(store: &EmbeddedStore, rooms: u64) {
    let mut rng = fastrand::Rng::with_seed(2);
    let range = Range { direction: Direction::Before(u64::MAX), records_max: 50, bytes_max: usize::MAX };
    let mut times = Vec::new();
    for _ in 0..10_000 {
        let log = log(rng.u64(..rooms));
        let at = Instant::now();
        store.range(&log, range).await.unwrap();
        times.push(at.elapsed());
    }
    println!(
        "read:   the last 50 of a room p50 {:.2?}, p99 {:.2?}; {}",
        percentile(&mut times, 50),
        percentile(&mut times, 99),
        memory()
    );
    let mut times = Vec::new();
    for room in 0..rooms {
        let at = Instant::now();
        store.states(&[log(room)]).await.unwrap();
        times.push(at.elapsed());
    }
    println!(
        "        the state of a room p50 {:.2?}, p99 {:.2?}",
        percentile(&mut times, 50),
        percentile(&mut times, 99)
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder"));
    let records = arguments.next().map_or(1_000_000, |records| records.parse().unwrap());
    let rooms = arguments.next().map_or(5_000, |rooms| rooms.parse().unwrap());
    let open = || {
        let (at, before) = (Instant::now(), costs());
        let store = EmbeddedStore::open(&folder, Options::default()).unwrap();
        println!("open:   {:.2?}, {:.2?} of CPU; {}", at.elapsed(), costs().0 - before.0, memory());
        store
    };
    if !folder.exists() {
        let store = open();
        fill(&store, records, rooms).await;
        store.close().await.unwrap();
        println!("run again with the same folder for the rest");
        return;
    }
    let store = open();
    read(&store, rooms).await;
    let at = Instant::now();
    let report = store.verify().await.unwrap();
    println!(
        "verify: {} records in {:.2?}, {} problems",
        report.records,
        at.elapsed(),
        report.problems.len()
    );
    let at = Instant::now();
    let keep = Retention { records_max: 20, ..Retention::default() };
    for room in 0..rooms {
        store.trim(&log(room), keep, START).await.unwrap();
    }
    println!("trim:   {rooms} rooms to 20 records in {:.2?}", at.elapsed());
    let at = Instant::now();
    let won = store.compact().await.unwrap();
    println!("compact: {} MB given back in {:.2?}; {}", won / 1_000_000, at.elapsed(), memory());
    store.close().await.unwrap();
}
