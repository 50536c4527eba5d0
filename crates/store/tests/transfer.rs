//! Export and import, between back ends.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use outspoke_store::embedded::{EmbeddedStore, Options};
use outspoke_store::transfer::{Counts, Mode, Scope, TransferError, examine, export, import};
use outspoke_store::{
    Append, Batch, Direction, FactKey, FactWrite, LogKey, MemoryStore, Page, Range, Record, Retention, Space,
    Store, StoreError,
};

const SPACES: [Space; 2] = [Space("cursor"), Space("topic")];
const START: i64 = 1_800_000_000_000;

fn log(tenant: &str, room: &str) -> LogKey {
    LogKey { tenant: tenant.into(), room: room.into() }
}

fn record(n: u64) -> Record {
    let payload =
        if n.is_multiple_of(3) { Bytes::from(vec![255, n as u8]) } else { format!("said {n}").into() };
    let counted = !n.is_multiple_of(4);
    Record {
        id: u128::from(n) << 70 | 1,
        key: None,
        author: "ada".into(),
        ts: START + n as i64,
        counted,
        payload,
    }
}

async fn append(store: &dyn Store, log: &LogKey, numbers: std::ops::RangeInclusive<u64>) {
    let records = numbers.map(record).collect();
    let append = Append { log: log.clone(), epoch: u64::MAX - 5, records, replaces: vec![], fence: None };
    store.commit(&Batch { appends: vec![append], ..Batch::default() }).await.unwrap();
}

async fn filled(store: &dyn Store) {
    append(store, &log("", "lobby"), 1..=2_500).await;
    append(store, &log("t", "a \"room\"\n\u{1F980}"), 1..=10).await;
    append(store, &log("t", "empty"), 1..=9).await;
    let keep = Retention { records_max: 2_000, ..Retention::default() };
    store.trim(&log("", "lobby"), keep, START).await.unwrap();
    let nothing = Retention { age_max: Duration::from_millis(1), ..Retention::default() };
    store.trim(&log("t", "empty"), nothing, START + 9_999).await.unwrap();
    let fact = |tenant: &str, space, name: &'static [u8]| {
        let key = FactKey { tenant: tenant.into(), space, name: Bytes::from_static(name) };
        FactWrite::Set(key, Bytes::from_static(b"\xff value"))
    };
    let facts = vec![
        fact("", SPACES[0], b"ada"),
        fact("t", SPACES[1], b"\x00\xff"),
        fact("only facts", SPACES[0], b""),
    ];
    store.commit(&Batch { facts, ..Batch::default() }).await.unwrap();
}

fn everything() -> Scope {
    Scope { spaces: SPACES.to_vec(), ..Scope::default() }
}

async fn exported(store: &dyn Store, scope: &Scope) -> Vec<u8> {
    let mut lines = Vec::new();
    export(store, scope, &mut lines).await.unwrap();
    lines
}

async fn read(store: &dyn Store, log: &LogKey) -> Page {
    let range = Range { direction: Direction::After(0), records_max: usize::MAX, bytes_max: usize::MAX };
    store.range(log, range).await.unwrap()
}

/// Offsets, epochs and ordinals are what clients hold on to: a move must not change them.
#[tokio::test]
async fn an_export_imported_elsewhere_is_the_same_export() {
    let from = MemoryStore::new();
    filled(&from).await;
    let lines = exported(&from, &everything()).await;
    let counts = Counts { logs: 3, records: 2_010, facts: 3 };
    assert_eq!(examine(&lines[..]).unwrap(), counts);
    let folder = tempfile::tempdir().unwrap();
    let to = EmbeddedStore::open(folder.path(), Options::default()).unwrap();
    assert_eq!(import(&to, &SPACES, Mode::Empty, &lines[..]).await.unwrap(), counts);
    assert_eq!(exported(&to, &everything()).await, lines);
    for log in [log("", "lobby"), log("t", "empty")] {
        assert_eq!(read(&to, &log).await, read(&from, &log).await);
    }
    assert_eq!(to.verify().await.unwrap().problems, Vec::<String>::new());
    append(&to, &log("t", "empty"), 10..=10).await;
    assert_eq!(read(&to, &log("t", "empty")).await.state.head, 10);
}

#[tokio::test]
async fn an_import_into_a_store_that_has_something_is_refused() {
    let store = MemoryStore::new();
    filled(&store).await;
    let lines = exported(&store, &everything()).await;
    let error = import(&store, &SPACES, Mode::Empty, &lines[..]).await.unwrap_err();
    assert!(matches!(error, TransferError::NotEmpty(_)), "{error}");
}

/// A merge that was interrupted is simply done again.
#[tokio::test]
async fn a_merge_appends_what_is_missing_and_can_be_repeated() {
    let (from, to) = (MemoryStore::new(), MemoryStore::new());
    filled(&from).await;
    append(&to, &log("", "lobby"), 2_400..=2_600).await;
    let lines = exported(&from, &everything()).await;
    for _ in 0..2 {
        import(&to, &SPACES, Mode::Merge, &lines[..]).await.unwrap();
        let merged = read(&to, &log("", "lobby")).await;
        assert_eq!(merged.records.len(), 2_100);
        let room = log("t", "a \"room\"\n\u{1F980}");
        assert_eq!(read(&to, &room).await, read(&from, &room).await);
    }
}

#[tokio::test]
async fn one_tenant_or_one_log_is_exported_alone() {
    let store = MemoryStore::new();
    filled(&store).await;
    let tenant = Scope { tenant: Some("t".into()), ..everything() };
    let lines = exported(&store, &tenant).await;
    assert_eq!(examine(&lines[..]).unwrap(), Counts { logs: 2, records: 10, facts: 1 });
    let room = Scope { room: Some("empty".into()), ..tenant };
    let lines = exported(&store, &room).await;
    assert_eq!(examine(&lines[..]).unwrap(), Counts { logs: 1, records: 0, facts: 0 });
}

/// A file that was cut or changed must not pass for a backup.
#[tokio::test]
async fn a_cut_or_changed_export_is_refused_with_the_line() {
    let store = MemoryStore::new();
    filled(&store).await;
    let lines = exported(&store, &everything()).await;
    let text = String::from_utf8(lines).unwrap();
    let all: Vec<_> = text.lines().collect();
    let cut = all[..all.len() - 1].join("\n") + "\n";
    let error = examine(cut.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("last line is missing"), "{error}");
    let changed = text.replace("said 1001\"", "said 1O01\"");
    assert_ne!(changed, text);
    assert!(matches!(examine(changed.as_bytes()), Err(TransferError::Malformed { .. })));
    let fewer: Vec<_> = all.iter().enumerate().filter(|(n, _)| *n != 5).map(|(_, line)| *line).collect();
    let error = import(&MemoryStore::new(), &SPACES, Mode::Empty, (fewer.join("\n") + "\n").as_bytes()).await;
    assert!(matches!(error, Err(TransferError::Store(StoreError::Invalid(_)))), "{error:?}");
    let newer = text.replacen("{\"outspoke_export\":1}", "{\"outspoke_export\":2}", 1);
    assert!(examine(newer.as_bytes()).unwrap_err().to_string().contains("newer"));
    assert!(examine(&b"hello\n"[..]).is_err());
    let error = import(&MemoryStore::new(), &SPACES[..1], Mode::Empty, text.as_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("does not know"), "{error}");
}
