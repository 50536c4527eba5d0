//! The engine (fjall) opened, and what its errors mean.
//!
//! An engine that failed to write refuses everything from then on; the writer throws it away and opens another. Reads
//! take a snapshot, so that what they see is of one moment, and hold the engine only as long as they last.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Slice, Snapshot};

use super::folder::{CURE, Folder, sync_folder};
use super::layout::{self, Family, Head, Kept, Turn, Wrong};
use super::{Options, journal};
use crate::{LogKey, StoreError};

/// How many keyspaces we have, the engine's own not counted.
pub(super) const FAMILIES: usize = 6;

#[derive(Debug)]
pub(super) struct Engine {
    db: Database_,
    meta: Keyspace_,
    logs: Keyspace_,
    records: Keyspace_,
    keys: Keyspace_,
    past: Keyspace_,
    facts: Keyspace_,
    /// Set when the engine is to be closed: long reads end.
    stopped: AtomicBool,
}

/// What fjall has no `Debug` for.
macro_rules! opaque {
    ($name:ident, $inner:ty) => {
        struct $name($inner);

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($inner))
            }
        }
    };
}
opaque!(Database_, Database);
opaque!(Keyspace_, Keyspace);

impl Engine {
    /// Opens the engine in a folder, making it if the folder was never finished.
    pub(super) fn open(folder: &Folder, options: &Options) -> Result<Self, StoreError> {
        let marked = folder.is_marked()?;
        let journals = if marked {
            folder.check_whole()?;
            if folder.is_suspect() {
                journal::write_again(&folder.engine())?;
                folder.trust();
            }
            journal::inspect(&folder.engine(), true).map_err(with_cure)?
        } else {
            folder.clear_unfinished()?;
            journal::Journals::default()
        };
        if journals.cut > 0 {
            tracing::info!(bytes = journals.cut, "cut what was being written when the store last ended");
        }
        // The engine panics on some damage; that must not end the hub.
        let path = folder.engine();
        let opened = std::panic::catch_unwind(|| Self::open_engine(&path, options, marked));
        let engine = opened.unwrap_or_else(|_| Err(damaged(folder.path(), "the engine gave up")))?;
        let turn = engine.turn(&engine.snapshot())?.map(|turn| turn.number);
        if journals.last.is_some_and(|last| turn < Some(last.number)) {
            return Err(damaged(folder.path(), "the newest commits did not come back from the journal"));
        }
        if !marked {
            sync_folder(&folder.engine().join("keyspaces"))?;
            sync_folder(&folder.engine())?;
            folder.mark()?;
        }
        Ok(engine)
    }

    fn open_engine(path: &Path, options: &Options, marked: bool) -> Result<Self, StoreError> {
        let to_store = |error: fjall::Error| from_engine(path, error);
        let db = Database::builder(path)
            .cache_size(options.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .manual_journal_persist(true)
            .worker_threads(2)
            .open()
            .map_err(to_store)?;
        let open = |name: &str, memtable_bytes| {
            if marked && !db.keyspace_exists(name) {
                return Err(damaged(path, &format!("the family {name} is missing")));
            }
            let create = || KeyspaceCreateOptions::default().max_memtable_size(memtable_bytes);
            db.keyspace(name, create).map(Keyspace_).map_err(to_store)
        };
        let (large, small) = (options.memtable_bytes, options.memtable_bytes / 4);
        let (meta, logs, records) = (open("meta", small)?, open("logs", small)?, open("records", large)?);
        let (keys, past, facts) = (open("keys", large)?, open("past", small)?, open("facts", small)?);
        Ok(Self {
            db: Database_(db),
            meta,
            logs,
            records,
            keys,
            past,
            facts,
            stopped: AtomicBool::new(false),
        })
    }

    pub(super) fn snapshot(&self) -> View<'_> {
        View { engine: self, snapshot: self.db.0.snapshot() }
    }

    fn keyspace(&self, family: Family) -> &Keyspace {
        match family {
            Family::Meta => &self.meta.0,
            Family::Logs => &self.logs.0,
            Family::Records => &self.records.0,
            Family::Keys => &self.keys.0,
            Family::Past => &self.past.0,
            Family::Facts => &self.facts.0,
        }
    }

    fn keyspaces(&self) -> [&Keyspace; FAMILIES] {
        [&self.meta, &self.logs, &self.records, &self.keys, &self.past, &self.facts]
            .map(|keyspace| &keyspace.0)
    }

    pub(super) fn turn(&self, view: &View<'_>) -> Result<Option<Turn>, StoreError> {
        let value = view.get(Family::Meta, layout::TURN)?;
        value.map(|value| Turn::decode(&value).map_err(|_| wrong("the store's own turn"))).transpose()
    }

    /// Asks long reads to end, so that the engine can be closed.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Makes everything written so far durable.
    pub(super) fn sync(&self) -> Result<(), fjall::Error> {
        self.db.0.persist(PersistMode::SyncData)
    }

    pub(super) fn batch(&self) -> Batch<'_> {
        Batch { engine: self, batch: self.db.0.batch() }
    }

    /// Whether a write failed, also one in the engine's own threads.
    pub(super) fn is_broken(&self) -> bool {
        self.db.0.persist(PersistMode::Buffer).is_err()
    }

    /// Waits until another batch cannot make the engine wait by itself, which it would do for ever if the thread it
    /// waits for had failed.
    pub(super) fn wait_for_room(&self) -> Result<(), StoreError> {
        let is_full =
            |keyspace: &&Keyspace| keyspace.sealed_memtable_count() >= 2 || keyspace.l0_table_count() >= 24;
        while self.keyspaces().iter().any(is_full) {
            if self.is_broken() {
                return Err(StoreError::Unavailable("the engine failed to write".to_owned()));
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    }

    /// Writes everything into new files, so that nothing is in the journals alone.
    fn rewrite(&self) -> Result<(), StoreError> {
        for keyspace in self.keyspaces() {
            keyspace.rotate_memtable().map_err(|error| from_engine(keyspace.path(), error))?;
        }
        while self.keyspaces().iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
            if self.is_broken() {
                return Err(StoreError::Unavailable("the engine failed to write".to_owned()));
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Ok(())
    }

    /// Gives space of what was removed back; returns how much.
    pub(super) fn compact(&self) -> Result<u64, StoreError> {
        let before = self.disk_space();
        self.rewrite()?;
        for keyspace in self.keyspaces() {
            keyspace.major_compact().map_err(|error| from_engine(keyspace.path(), error))?;
        }
        Ok(before.saturating_sub(self.disk_space()))
    }

    pub(super) fn disk_space(&self) -> u64 {
        self.keyspaces().iter().map(|keyspace| keyspace.disk_space()).sum()
    }
}

/// The engine's journals are 64 MB each; with this it keeps at most two.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The engine at one moment.
pub(super) struct View<'a> {
    engine: &'a Engine,
    snapshot: Snapshot,
}

impl View<'_> {
    pub(super) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        let keyspace = self.engine.keyspace(family);
        self.snapshot.get(keyspace, key).map_err(|error| from_engine(keyspace.path(), error))
    }

    /// Keys from `from` on and before `to`.
    pub(super) fn range(
        &self,
        family: Family,
        from: Vec<u8>,
        to: Option<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Result<(Slice, Slice), StoreError>> {
        use std::ops::Bound;
        let keyspace = self.engine.keyspace(family);
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let path = keyspace.path().to_owned();
        self.snapshot
            .range::<Vec<u8>, _>(keyspace, (Bound::Included(from), to))
            .map(move |guard: Guard| guard.into_inner().map_err(|error| from_engine(&path, error)))
    }

    /// Whether the engine is to be closed.
    pub(super) fn is_stopped(&self) -> bool {
        self.engine.is_stopped()
    }

    pub(super) fn prefix(
        &self,
        family: Family,
        prefix: Vec<u8>,
    ) -> impl DoubleEndedIterator<Item = Result<(Slice, Slice), StoreError>> {
        let to = layout::after_prefix(prefix.clone());
        self.range(family, prefix, to)
    }

    pub(super) fn head(&self, log: &LogKey) -> Result<Option<Head>, StoreError> {
        let key = layout::log_key(log);
        let value = self.get(Family::Logs, &key)?;
        value.map(|value| Head::decode(&key, &value).map_err(|Wrong| wrong(&log.to_string()))).transpose()
    }

    /// A record that must be there.
    pub(super) fn record(&self, log: &LogKey, number: u64, offset: u64) -> Result<Kept, StoreError> {
        let key = layout::record_key(number, offset);
        let value = self.get(Family::Records, &key)?.ok_or_else(|| hole(log, offset))?;
        Kept::decode(&key, &value).map_err(|Wrong| wrong_record(log, offset))
    }
}

/// What is to be written in one step.
pub(super) struct Batch<'a> {
    engine: &'a Engine,
    batch: fjall::OwnedWriteBatch,
}

impl Batch<'_> {
    /// Each key at most once: of two writes of one step the engine keeps either.
    pub(super) fn insert(&mut self, family: Family, key: &[u8], value: &[u8]) {
        self.batch.insert(self.engine.keyspace(family), key, value);
    }

    pub(super) fn remove(&mut self, family: Family, key: &[u8]) {
        self.batch.remove(self.engine.keyspace(family), key);
    }

    pub(super) fn commit(self, durable: bool) -> Result<(), fjall::Error> {
        // Data and the file's size are what reading it back needs; the journal's name was made durable at its creation.
        let mode = if durable { PersistMode::SyncData } else { PersistMode::Buffer };
        self.batch.durability(Some(mode)).commit()
    }
}

pub(super) fn wrong(what: &str) -> StoreError {
    StoreError::Damaged(format!("{what}: the checksum does not match; {CURE}"))
}

pub(super) fn wrong_record(log: &LogKey, offset: u64) -> StoreError {
    StoreError::Damaged(format!("record {offset} of {log}: the checksum does not match; {CURE}"))
}

pub(super) fn hole(log: &LogKey, offset: u64) -> StoreError {
    StoreError::Damaged(format!("record {offset} of {log} is missing; {CURE}"))
}

fn damaged(path: &Path, what: &str) -> StoreError {
    with_cure(StoreError::Damaged(format!("{}: {what}", path.display())))
}

fn with_cure(error: StoreError) -> StoreError {
    match error {
        StoreError::Damaged(text) => StoreError::Damaged(format!("{text}; {CURE}")),
        other => other,
    }
}

/// What an error of the engine means to the hub.
pub(super) fn from_engine(path: &Path, error: fjall::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full(text),
            // A file shorter than its index says.
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData => with_cure(StoreError::Damaged(text)),
            _ => StoreError::Unavailable(text),
        },
        fjall::Error::Poisoned | fjall::Error::Locked => StoreError::Unavailable(text),
        _ => with_cure(StoreError::Damaged(text)),
    }
}
