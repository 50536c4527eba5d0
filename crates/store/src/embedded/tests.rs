//! What the embedded store promises beyond the contract: one process, a format, damage, torn tails, full disks.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::layout::Family;
use super::*;
use crate::limits::{REMEMBERED_MS, REMEMBERED_RECORDS};
use crate::{Append, Direction, Outcome, Record};

const START: i64 = 1_800_000_000_000;

fn options() -> Options {
    Options { reserve_bytes: 0, memtable_bytes: 256 * 1024, ..Options::default() }
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, options()).unwrap()
}

fn log(room: &str) -> LogKey {
    LogKey { tenant: "t".into(), room: room.into() }
}

fn record(n: u64) -> Record {
    let key = Some(Bytes::from(format!("key {n}")));
    let payload = Bytes::from(format!("payload {n} {}", "x".repeat(100)));
    Record { id: n.into(), key, author: "ada".into(), ts: START + n as i64, counted: true, payload }
}

fn batch(room: &str, numbers: std::ops::RangeInclusive<u64>) -> Batch {
    let records = numbers.map(record).collect();
    let append = Append { log: log(room), epoch: 7, records, replaces: vec![], fence: None };
    Batch { appends: vec![append], ..Batch::default() }
}

async fn put(store: &EmbeddedStore, room: &str, numbers: std::ops::RangeInclusive<u64>) -> Vec<Outcome> {
    store.commit(&batch(room, numbers)).await.unwrap().remove(0).outcomes
}

async fn read(store: &EmbeddedStore, room: &str) -> Result<Page, StoreError> {
    let range = Range { direction: Direction::After(0), records_max: usize::MAX, bytes_max: usize::MAX };
    store.range(&log(room), range).await
}

async fn head(store: &EmbeddedStore, room: &str) -> u64 {
    store.states(&[log(room)]).await.unwrap()[0].map_or(0, |state| state.head)
}

fn journals(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.join("engine")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).collect();
    found.sort();
    found
}

/// The bytes of a journal up to its last that is not zero.
fn content(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let len = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(len);
    bytes
}

fn flip(path: &Path, at: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 0xff]).unwrap();
}

/// What closes only when the process ends: the journal is left as it is.
async fn filled(path: &Path, commits: u64) -> Vec<u64> {
    let store = open(path);
    let mut ends = Vec::new();
    for n in 0..commits {
        put(&store, "room", n * 3 + 1..=n * 3 + 3).await;
        ends.push(content(&journals(path)[0]).len() as u64);
    }
    store.close().await.unwrap();
    ends
}

/// Two writers on one folder would destroy it.
#[tokio::test]
async fn a_second_opener_is_refused_with_the_folders_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
    let StoreError::Unavailable(text) = error else { panic!("{error}") };
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    store.close().await.unwrap();
    open(folder.path());
}

#[tokio::test]
async fn a_closed_store_is_unavailable_and_a_dropped_one_lets_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "room", 1..=2).await;
    store.close().await.unwrap();
    assert!(matches!(store.commit(&batch("room", 3..=3)).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(read(&store, "room").await, Err(StoreError::Unavailable(_))));
    let again = open(folder.path());
    assert_eq!(head(&again, "room").await, 2);
    drop(again);
    assert_eq!(head(&open(folder.path()), "room").await, 2);
}

#[tokio::test]
async fn a_newer_format_and_a_foreign_file_are_refused_with_words() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "room", 1..=3).await;
    store.close().await.unwrap();
    for (text, expected) in
        [("outspoke store, format 99\n", "format 99"), ("hello", "not what Outspoke writes")]
    {
        fs::write(folder.path().join("outspoke.format"), text).unwrap();
        let before = everything(folder.path());
        assert!(before.len() > 3, "{:?}", before.keys());
        let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
        assert!(matches!(&error, StoreError::Damaged(text) if text.contains(expected)), "{error}");
        assert!(everything(folder.path()) == before, "an older version has changed what a newer one wrote");
    }
}

/// Every file below a folder, byte for byte.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(everything(&path)),
            false => drop(all.insert(path.clone(), fs::read(path).unwrap())),
        }
    }
    all
}

/// Until the format file is there nothing was acknowledged, so what an interrupted creation left is no damage.
#[tokio::test]
async fn a_creation_that_was_interrupted_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("engine/keyspaces/1")).unwrap();
    fs::write(folder.path().join("engine/0.jnl"), "half").unwrap();
    let store = open(folder.path());
    assert_eq!(put(&store, "room", 1..=1).await[0].offset, 1);
}

/// The engine would take any of these for a new beginning, and delete the rest.
#[tokio::test]
async fn a_missing_part_is_damage_not_a_new_beginning() {
    for part in [
        "engine",
        "engine/version",
        "engine/keyspaces/0/current",
        "engine/keyspaces/3/current",
        "engine/keyspaces/2",
    ] {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 3).await;
        let path = folder.path().join(part);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        let error = EmbeddedStore::open(folder.path(), options()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged(_)), "{part}: {error}");
        assert!(matches!(EmbeddedStore::examine(folder.path()), Err(StoreError::Damaged(_))), "{part}");
    }
}

/// A journal cut anywhere comes back as the commits that are whole, and goes on from there.
#[tokio::test]
async fn a_torn_tail_is_cut_to_the_last_whole_commit() {
    let folder = tempfile::tempdir().unwrap();
    let ends = filled(folder.path(), 6).await;
    let journal = journals(folder.path())[0].clone();
    let whole = content(&journal);
    let mut rng = fastrand::Rng::with_seed(3);
    for _ in 0..40 {
        let cut = rng.u64(ends[0]..*ends.last().unwrap());
        // A disk may have written any of the bytes behind the cut, or zeros.
        let mut torn = whole[..cut as usize].to_vec();
        match rng.u8(..3) {
            0 => {}
            1 => torn.resize(whole.len() + 5_000, 0),
            _ => torn.extend(std::iter::repeat_with(|| rng.u8(..)).take(700)),
        }
        fs::write(&journal, &torn).unwrap();
        let store = open(folder.path());
        let commits = ends.iter().filter(|end| **end <= cut).count() as u64;
        assert_eq!(head(&store, "room").await, commits * 3, "cut at {cut} of {ends:?}");
        assert_eq!(store.verify().await.unwrap().problems, Vec::<String>::new());
        assert_eq!(put(&store, "other", 1..=1).await[0].offset, 1);
        store.close().await.unwrap();
    }
}

/// Everything behind the damage was acknowledged: cutting there would lose it without a word.
#[tokio::test]
async fn damage_in_the_middle_of_a_journal_is_refused_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let ends = filled(folder.path(), 4).await;
    let journal = journals(folder.path())[0].clone();
    let whole = content(&journal);
    // A byte of every part of a batch: tags, counts, numbers, lengths, keys, values, checksums, trailers.
    for at in (ends[0]..ends[2]).step_by(5) {
        flip(&journal, at);
        let opened = EmbeddedStore::open(folder.path(), options());
        // The engine does not check the upper bytes of its own sequence number; wrong bytes are not served either way.
        let Err(error) = opened else {
            let store = opened.unwrap();
            assert_eq!(head(&store, "room").await, 12, "byte {at}");
            drop(store);
            panic!("byte {at} of {ends:?} went unnoticed");
        };
        let StoreError::Damaged(text) = &error else { panic!("byte {at}: {error}") };
        assert!(text.contains("outspoke store verify"), "{text}");
        assert!(EmbeddedStore::examine(folder.path()).is_err(), "byte {at}");
        assert_eq!(content(&journal).len(), whole.len(), "a damaged journal must stay as it is");
        fs::write(&journal, &whole).unwrap();
    }
    assert_eq!(head(&open(folder.path()), "room").await, 12);
}

/// Whatever byte of the tables is wrong, what is read is right or an error, and verify sees it.
#[tokio::test]
async fn damaged_tables_are_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 0..20 {
        put(&store, "room", n * 100 + 1..=n * 100 + 100).await;
    }
    store.compact().await.unwrap();
    let expected = read(&store, "room").await.unwrap();
    store.close().await.unwrap();
    let mut tables = Vec::new();
    for family in fs::read_dir(folder.path().join("engine/keyspaces")).unwrap() {
        let tables_folder = family.unwrap().path().join("tables");
        tables.extend(fs::read_dir(tables_folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    tables.sort();
    tables.retain(|table| !table.to_str().unwrap().contains("keyspaces/0/"));
    let mut rng = fastrand::Rng::with_seed(4);
    let (mut refused, mut found) = (0, 0);
    for round in 0..60 {
        let table = &tables[rng.usize(..tables.len())];
        let bytes = fs::read(table).unwrap();
        flip(table, rng.u64(..bytes.len() as u64));
        match EmbeddedStore::open(folder.path(), options()) {
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged(_)), "{error}");
                refused += 1;
            }
            Ok(store) => {
                match read(&store, "room").await {
                    Ok(page) => assert!(page == expected, "round {round}: wrong bytes were served"),
                    Err(error) => {
                        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
                        found += 1;
                    }
                }
                store.close().await.unwrap();
            }
        }
        fs::write(table, &bytes).unwrap();
    }
    assert!(refused + found > 30, "{refused} refused, {found} found: the flips do not hit what is read");
}

/// Our own checksum, below the engine's: a value that is another one's.
#[tokio::test]
async fn a_value_that_is_not_its_own_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "room", 1..=3).await;
    let engine = store.shared.engine().unwrap();
    let value = engine.snapshot().get(Family::Records, &layout::record_key(1, 1)).unwrap().unwrap();
    let mut writes = engine.batch();
    writes.insert(Family::Records, &layout::record_key(1, 2), &value);
    writes.commit(true).unwrap();
    drop(engine);
    let error = read(&store, "room").await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged(text) if text.contains("record 2 of room \"room\"")),
        "{error}"
    );
    assert_eq!(store.verify().await.unwrap().problems.len(), 1);
    let range = Range { direction: Direction::Before(2), records_max: 9, bytes_max: 9_999 };
    assert_eq!(store.range(&log("room"), range).await.unwrap().records.len(), 1);
}

/// Otherwise keys and ids would pile up for ever.
#[tokio::test]
async fn keys_and_past_records_are_forgotten_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let total = REMEMBERED_RECORDS * 2;
    let commit = |n: u64| {
        let mut batch = batch("room", n + 1..=n + 500);
        // A record a second: five minutes are 300 records, so the ten thousand decide.
        batch.appends[0].records.iter_mut().for_each(|record| record.ts = START + record.id as i64 * 1_000);
        batch
    };
    for n in (0..total).step_by(500) {
        store.commit(&commit(n)).await.unwrap();
        let keep = Retention { records_max: 200, ..Retention::default() };
        store.trim(&log("room"), keep, START + (n + 500) as i64 * 1_000).await.unwrap();
    }
    let engine = store.shared.engine().unwrap();
    let view = engine.snapshot();
    let count = |family| view.range(family, Vec::new(), None).count() as u64;
    let keys = count(Family::Keys);
    assert!((REMEMBERED_RECORDS..REMEMBERED_RECORDS + 1_600).contains(&keys), "{keys} keys");
    assert_eq!(count(Family::Records), 200);
    assert!(count(Family::Past) < 100);
    drop(view);
    drop(engine);
    let again = store.commit(&commit(total - REMEMBERED_RECORDS)).await.unwrap();
    assert!(again[0].outcomes.iter().all(|outcome| outcome.duplicate));
    assert_eq!(store.verify().await.unwrap().problems, Vec::<String>::new());
    assert!(REMEMBERED_MS < 1_000 * total as i64);
}

/// A dropped log gives its space back, also when the process ends before that is done.
#[tokio::test]
async fn a_dropped_log_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for n in 0..12 {
        put(&store, "room", n * 1_000 + 1..=n * 1_000 + 1_000).await;
    }
    store.drop_log(&log("room")).await.unwrap();
    store.close().await.unwrap();
    let store = open(folder.path());
    // The sweep goes on whenever there is nothing else to do.
    loop {
        let engine = store.shared.engine().unwrap();
        let view = engine.snapshot();
        if view.prefix(Family::Meta, layout::DOOMED.to_vec()).next().is_none() {
            for family in [Family::Records, Family::Keys, Family::Past, Family::Logs] {
                assert_eq!(view.range(family, Vec::new(), None).count(), 0, "{family:?}");
            }
            break;
        }
        drop(view);
        drop(engine);
        tokio::task::yield_now().await;
    }
    // How much is left, not how much this frees: the engine may have compacted by itself before.
    let freed = store.compact().await.unwrap();
    let left = store.shared.engine().unwrap().disk_space();
    assert!(left < 4_096, "{left} bytes left, {freed} given back");
}

/// A file system of a few megabytes, where the tests may mount one.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("skipped: a tmpfs cannot be mounted here");
        }
        mounted.then_some(Self { folder })
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Takes all the space there is.
    fn fill(&self) -> PathBuf {
        let path = self.folder.path().join("filler");
        let mut file = File::create(&path).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        path
    }

    fn remount(&self, how: &str) {
        let mut mount = std::process::Command::new("mount");
        let output = mount.args(["-o", &format!("remount,{how}")]).arg(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// Refused before anything is tried, with reading and trimming as ever, and resumed by itself.
#[tokio::test]
async fn a_disk_at_its_reserve_refuses_commits_and_resumes() {
    let Some(disk) = SmallDisk::mount(48) else { return };
    let store = EmbeddedStore::open(disk.store(), Options { reserve_bytes: 8 << 20, ..options() }).unwrap();
    put(&store, "room", 1..=10).await;
    assert!(store.health().await.unwrap().writable);
    let filler = disk.fill();
    for _ in 0..3 {
        let error = store.commit(&batch("room", 11..=12)).await.unwrap_err();
        assert!(matches!(&error, StoreError::Full(text) if text.contains("bytes left")), "{error}");
    }
    let health = store.health().await.unwrap();
    assert!(!health.writable && health.detail.contains("full"), "{health:?}");
    assert_eq!(read(&store, "room").await.unwrap().records.len(), 10);
    fs::remove_file(filler).unwrap();
    assert_eq!(put(&store, "room", 11..=12).await[1].offset, 12);
    assert!(store.health().await.unwrap().writable);
}

/// Without a reserve the engine itself runs into the end of the disk. What was acknowledged is there, what was refused
/// is not, and writing resumes without opening the store again.
#[tokio::test]
async fn a_disk_that_is_really_full_loses_nothing_and_resumes() {
    let Some(disk) = SmallDisk::mount(24) else { return };
    let store = open(&disk.store());
    let (mut next, mut acknowledged, mut refused) = (1, Vec::new(), 0);
    for _ in 0..4 {
        let filler = disk.fill();
        for _ in 0..30 {
            match store.commit(&batch("room", next..=next + 199)).await {
                Ok(answers) => acknowledged.extend(answers[0].outcomes.iter().map(|o| (o.offset, o.id))),
                Err(StoreError::Full(_) | StoreError::Unavailable(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
            next += 200;
        }
        fs::remove_file(filler).unwrap();
        let answers = store.commit(&batch("room", next..=next + 199)).await.unwrap();
        acknowledged.extend(answers[0].outcomes.iter().map(|outcome| (outcome.offset, outcome.id)));
        next += 200;
        let page = read(&store, "room").await.unwrap();
        let kept: Vec<_> = page.records.iter().map(|record| (record.offset, record.id)).collect();
        assert_eq!(kept, acknowledged);
    }
    assert!(refused > 0, "the disk was never full");
    assert_eq!(store.verify().await.unwrap().problems, Vec::<String>::new());
    store.close().await.unwrap();
    let page = read(&open(&disk.store()), "room").await.unwrap();
    assert_eq!(page.records.len(), acknowledged.len());
}

#[tokio::test]
async fn a_read_only_disk_refuses_commits_and_resumes() {
    let Some(disk) = SmallDisk::mount(48) else { return };
    // A file that is open for writing keeps a file system writable, so only what is asked before each write can be
    // shown here: a folder that was mounted read-only when the store is opened, and one that changes under it.
    let store = open(&disk.store());
    put(&store, "room", 1..=3).await;
    store.close().await.unwrap();
    disk.remount("ro");
    let error = EmbeddedStore::open(disk.store(), options()).unwrap_err();
    assert!(matches!(&error, StoreError::Unavailable(text) if text.contains("ead-only")), "{error}");
    disk.remount("rw");
    let store = open(&disk.store());
    assert_eq!(head(&store, "room").await, 3);
}

/// A crash between a write that was not answered and its repeat must not append twice.
#[tokio::test]
async fn a_batch_left_in_the_journal_is_answered_as_a_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let first = {
        let store = open(folder.path());
        put(&store, "room", 1..=5).await
    };
    let again = put(&open(folder.path()), "room", 1..=5).await;
    assert!(again.iter().all(|outcome| outcome.duplicate));
    assert_eq!(again.iter().map(|outcome| outcome.offset).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(first.len(), 5);
}
