//! The store that forgets when the process ends.
//!
//! For tests, and for hubs whose rooms need not outlive them. Everything is in maps behind one mutex, held for a look
//! and never across an await. It fulfils the whole contract but durability. Idempotency keys and ids are held for the
//! contract's window, so a log costs that much memory even when it is trimmed to nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::ready;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ecow::EcoString;

use crate::limits::{check, is_forgotten, local_clock};
use crate::{
    Answer, Append, Appended, AuthoredPage, Batch, Direction, Fact, FactKey, FactPage, FactWrite, Health,
    Log, LogKey, LogState, LogsPage, Outcome, Page, Place, Range, Record, Replace, Retention, Space, Store,
    StoreError, Stored, VerifyReport,
};

/// Logs and facts in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    kept: Mutex<Kept>,
    is_shared: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that says it [is shared](Store::is_shared), for several hubs in one process: each is given the same `Arc`.
    #[must_use]
    pub fn shared() -> Self {
        Self { is_shared: true, ..Self::default() }
    }

    /// Nothing panics while the lock is held, and half a change is never visible: a poisoned lock is as good as new.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Kept {
    logs: BTreeMap<LogKey, MemoryLog>,
    facts: BTreeMap<FactKey, Bytes>,
}

#[derive(Debug)]
struct MemoryLog {
    epoch: u64,
    head: u64,
    ordinal: u64,
    bytes: u64,
    /// The records kept; the last one has the offset `head`.
    records: VecDeque<Stored>,
    ids: HashMap<u128, Outcome>,
    keys: HashMap<Bytes, Outcome>,
    /// What `ids` and `keys` hold, the oldest first.
    remembered: VecDeque<(Outcome, Option<Bytes>)>,
}

impl MemoryLog {
    fn new(epoch: u64) -> Self {
        Self {
            epoch,
            head: 0,
            ordinal: 0,
            bytes: 0,
            records: VecDeque::new(),
            ids: HashMap::new(),
            keys: HashMap::new(),
            remembered: VecDeque::new(),
        }
    }

    fn state(&self) -> LogState {
        let kept = self.records.len() as u64;
        LogState {
            epoch: self.epoch,
            first: self.head + 1 - kept,
            head: self.head,
            ordinal: self.ordinal,
            bytes: self.bytes,
        }
    }

    /// Where a record with this offset is in `records`, if it is kept.
    fn index(&self, offset: u64) -> Option<usize> {
        let first = self.state().first;
        (first..=self.head).contains(&offset).then(|| (offset - first) as usize)
    }

    fn append(&mut self, record: &Record) -> Outcome {
        let by_key = || record.key.as_ref().and_then(|key| self.keys.get(key));
        if let Some(first) = self.ids.get(&record.id).or_else(by_key) {
            return Outcome { duplicate: true, ..*first };
        }
        let stored = Stored {
            offset: self.head + 1,
            ordinal: self.ordinal + u64::from(record.counted),
            id: record.id,
            author: record.author.clone(),
            ts: record.ts,
            payload: record.payload.clone(),
        };
        self.put(stored, record.key.clone())
    }

    fn put(&mut self, stored: Stored, key: Option<Bytes>) -> Outcome {
        let Stored { offset, ordinal, id, ts, .. } = stored;
        let outcome = Outcome { offset, ordinal, id, ts, duplicate: false };
        self.head = offset;
        self.ordinal = ordinal;
        self.bytes += stored.payload.len() as u64;
        self.records.push_back(stored);
        self.ids.insert(id, outcome);
        if let Some(key) = &key {
            self.keys.insert(key.clone(), outcome);
        }
        self.remembered.push_back((outcome, key));
        self.forget(ts);
        outcome
    }

    fn forget(&mut self, now: i64) {
        while let Some((oldest, _)) = self.remembered.front()
            && is_forgotten(oldest.offset, oldest.ts, self.head, now)
        {
            let Some((oldest, key)) = self.remembered.pop_front() else { break };
            self.ids.remove(&oldest.id);
            if let Some(key) = key {
                self.keys.remove(&key);
            }
        }
    }

    fn knows(&self, record: &Record) -> bool {
        self.ids.contains_key(&record.id)
            || record.key.as_ref().is_some_and(|key| self.keys.contains_key(key))
    }

    fn says_otherwise(&self, replace: &Replace) -> bool {
        let said = self.index(replace.offset).map(|index| &self.records[index].payload);
        matches!((&replace.was, said), (Some(was), Some(said)) if was != said)
    }

    fn replace(&mut self, replace: &Replace) {
        let Some(index) = self.index(replace.offset) else { return };
        let record = &mut self.records[index];
        self.bytes = self.bytes - record.payload.len() as u64 + replace.payload.len() as u64;
        record.author = replace.author.clone();
        record.payload = replace.payload.clone();
    }

    fn trim(&mut self, keep: Retention, now: i64) {
        while let Some(oldest) = self.records.front() {
            if !keep.drops(self.records.len() as u64, self.bytes, oldest.ts, now) {
                break;
            }
            self.bytes -= oldest.payload.len() as u64;
            self.records.pop_front();
        }
    }

    fn range(&self, range: Range) -> Vec<Stored> {
        let at = |from: usize, to: usize| self.records.range(from..to);
        let kept = self.records.len();
        match range.direction {
            Direction::After(offset) => {
                let from = offset.saturating_add(1).saturating_sub(self.state().first) as usize;
                bounded(at(from.min(kept), kept), range)
            }
            Direction::Before(offset) => {
                let to = offset.saturating_sub(self.state().first) as usize;
                bounded(at(0, to.min(kept)).rev(), range)
            }
        }
    }
}

/// As many as the range's bounds allow, and the first in any case.
fn bounded<'a>(records: impl Iterator<Item = &'a Stored>, range: Range) -> Vec<Stored> {
    let mut bytes = 0;
    let mut taken: Vec<Stored> = Vec::new();
    for record in records.take(range.records_max) {
        bytes += record.payload.len();
        if bytes > range.bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(record.clone());
    }
    taken
}

impl Kept {
    fn commit(&mut self, batch: &Batch, now: i64) -> Result<Vec<Appended>, StoreError> {
        let is_late = batch.is_late(now);
        let mut writes = !batch.has_records() && !batch.facts.is_empty();
        let mut conflicts = false;
        for append in &batch.appends {
            let log = self.logs.get(&append.log);
            if append.is_fenced_by(log.map_or(0, |log| log.epoch)) {
                continue;
            }
            let is_new = |record| log.is_none_or(|log| !log.knows(record));
            if append.records.is_empty() || append.records.iter().any(is_new) {
                writes |= !append.records.is_empty() || (log.is_some() && !append.replaces.is_empty());
                let differs = |replace| log.is_some_and(|log| log.says_otherwise(replace));
                conflicts |= append.replaces.iter().any(differs);
            }
        }
        if is_late && writes {
            return Err(StoreError::TooLate { now });
        }
        if conflicts {
            return Err(StoreError::Conflict);
        }
        let appended = batch.appends.iter().map(|append| self.append(append)).collect();
        batch.facts.iter().filter(|_| !is_late).for_each(|write| self.write(write));
        Ok(appended)
    }

    fn append(&mut self, append: &Append) -> Appended {
        let state = self.logs.get(&append.log).map(MemoryLog::state).unwrap_or_default();
        if append.is_fenced_by(state.epoch) {
            return Appended::undone(state);
        }
        if !append.records.is_empty() && !self.logs.contains_key(&append.log) {
            self.logs.insert(append.log.clone(), MemoryLog::new(append.epoch));
        }
        let Some(log) = self.logs.get_mut(&append.log) else {
            return Appended::undone(LogState::default());
        };
        let outcomes: Vec<_> = append.records.iter().map(|record| log.append(record)).collect();
        if append.replaces_count(&outcomes) {
            for replace in &append.replaces {
                log.replace(replace);
            }
        }
        Appended { epoch: log.epoch, outcomes, state: log.state() }
    }

    fn write(&mut self, write: &FactWrite) {
        match write {
            FactWrite::Set(key, value) => {
                self.facts.insert(key.clone(), value.clone());
            }
            FactWrite::Max(key, value) => {
                let kept = self.facts.entry(key.clone()).or_default();
                if value > kept {
                    *kept = value.clone();
                }
            }
            FactWrite::Delete(key) => {
                self.facts.remove(key);
            }
        }
    }

    fn restore(&mut self, key: &LogKey, start: LogState, records: &[Stored]) -> Result<LogState, StoreError> {
        crate::limits::check_restore(self.logs.get(key).map(MemoryLog::state), start, records)?;
        let log = self.logs.entry(key.clone()).or_insert_with(|| MemoryLog {
            head: start.head,
            ordinal: start.ordinal,
            ..MemoryLog::new(start.epoch)
        });
        for record in records {
            log.put(record.clone(), None);
        }
        Ok(log.state())
    }

    /// The tenant's logs from a room on.
    fn logs_from<'a>(
        &'a self,
        tenant: &'a str,
        from: Bound<&str>,
    ) -> impl Iterator<Item = (&'a LogKey, &'a MemoryLog)> {
        let key = |room: &str| LogKey { tenant: tenant.into(), room: room.into() };
        let from = match from {
            Bound::Included(room) => Bound::Included(key(room)),
            Bound::Excluded(room) => Bound::Excluded(key(room)),
            Bound::Unbounded => Bound::Included(key("")),
        };
        self.logs.range((from, Bound::Unbounded)).take_while(move |(key, _)| key.tenant == tenant)
    }

    fn scan(&self, tenant: &str, space: Space, prefix: &[u8], after: Option<&[u8]>, max: usize) -> FactPage {
        let key = |name: &[u8]| FactKey { tenant: tenant.into(), space, name: Bytes::copy_from_slice(name) };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(key(after)),
            _ => Bound::Included(key(prefix)),
        };
        let mut found = self.facts.range((from, Bound::Unbounded)).take_while(|(key, _)| {
            key.tenant == tenant && key.space == space && key.name.starts_with(prefix)
        });
        let fact = |(key, value): (&FactKey, &Bytes)| Fact { name: key.name.clone(), value: value.clone() };
        let facts = found.by_ref().take(max).map(fact).collect();
        FactPage { facts, more: found.next().is_some() }
    }

    fn authored(&self, tenant: &str, author: &str, from: Option<&Place>, max: usize) -> AuthoredPage {
        let mut page = AuthoredPage::default();
        let start = from.map_or(Bound::Unbounded, |place| Bound::Included(place.room.as_str()));
        for (key, log) in self.logs_from(tenant, start) {
            let offset = from.filter(|place| place.room == key.room).map_or(0, |place| place.offset);
            let records = log.records.iter().filter(|record| record.offset >= offset);
            for record in records.filter(|record| record.author == author) {
                if page.records.len() >= max {
                    page.next = Some(Place { room: key.room.clone(), offset: record.offset });
                    return page;
                }
                page.records.push((key.room.clone(), record.clone()));
            }
        }
        page
    }

    fn tenants(&self) -> Vec<EcoString> {
        let logs = self.logs.keys().map(|key| &key.tenant);
        let mut tenants: Vec<_> = logs.chain(self.facts.keys().map(|key| &key.tenant)).cloned().collect();
        tenants.sort();
        tenants.dedup();
        tenants
    }
}

/// What needs no waiting.
fn now<'a, T: Send + 'a>(result: Result<T, StoreError>) -> Answer<'a, T> {
    Box::pin(ready(result))
}

impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn is_shared(&self) -> bool {
        self.is_shared
    }

    fn commit<'a>(&'a self, batch: &'a Batch) -> Answer<'a, Vec<Appended>> {
        now(check(batch).and_then(|()| self.kept().commit(batch, local_clock())))
    }

    fn range<'a>(&'a self, log: &'a LogKey, range: Range) -> Answer<'a, Page> {
        let kept = self.kept();
        let found = kept.logs.get(log);
        now(
            Ok(found
                .map_or_else(Page::default, |log| Page { state: log.state(), records: log.range(range) })),
        )
    }

    fn states<'a>(&'a self, logs: &'a [LogKey]) -> Answer<'a, Vec<Option<LogState>>> {
        let kept = self.kept();
        now(Ok(logs.iter().map(|log| kept.logs.get(log).map(MemoryLog::state)).collect()))
    }

    fn trim<'a>(&'a self, log: &'a LogKey, keep: Retention, at: i64) -> Answer<'a, LogState> {
        let mut kept = self.kept();
        now(Ok(kept.logs.get_mut(log).map_or_else(LogState::default, |log| {
            log.trim(keep, at);
            log.state()
        })))
    }

    fn restore<'a>(
        &'a self,
        log: &'a LogKey,
        start: LogState,
        records: &'a [Stored],
    ) -> Answer<'a, LogState> {
        now(self.kept().restore(log, start, records))
    }

    fn drop_log<'a>(&'a self, log: &'a LogKey) -> Answer<'a, ()> {
        self.kept().logs.remove(log);
        now(Ok(()))
    }

    fn logs<'a>(&'a self, tenant: &'a str, after: Option<&'a str>, max: usize) -> Answer<'a, LogsPage> {
        let kept = self.kept();
        let mut found = kept.logs_from(tenant, after.map_or(Bound::Unbounded, Bound::Excluded));
        let logs = found.by_ref().take(max);
        let logs = logs.map(|(key, log)| Log { key: key.clone(), state: log.state() }).collect();
        let more = found.next().is_some();
        now(Ok(LogsPage { logs, more }))
    }

    fn tenants(&self) -> Answer<'_, Vec<EcoString>> {
        now(Ok(self.kept().tenants()))
    }

    fn facts<'a>(&'a self, keys: &'a [FactKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        let kept = self.kept();
        now(Ok(keys.iter().map(|key| kept.facts.get(key).cloned()).collect()))
    }

    fn scan<'a>(
        &'a self,
        tenant: &'a str,
        space: Space,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        max: usize,
    ) -> Answer<'a, FactPage> {
        now(Ok(self.kept().scan(tenant, space, prefix, after, max)))
    }

    fn authored<'a>(
        &'a self,
        tenant: &'a str,
        author: &'a str,
        from: Option<Place>,
        max: usize,
    ) -> Answer<'a, AuthoredPage> {
        now(Ok(self.kept().authored(tenant, author, from.as_ref(), max)))
    }

    fn health(&self) -> Answer<'_, Health> {
        now(Ok(Health {
            writable: true,
            detail: String::new(),
            durability: "kept in memory: lost when the process ends".to_owned(),
        }))
    }

    fn verify(&self) -> Answer<'_, VerifyReport> {
        let kept = self.kept();
        let mut report = VerifyReport { facts: kept.facts.len() as u64, ..VerifyReport::default() };
        for (key, log) in &kept.logs {
            report.logs += 1;
            report.records += log.records.len() as u64;
            let offsets = log.records.iter().map(|record| record.offset);
            if !offsets.eq(log.state().first..=log.head) {
                report.problems.push(format!("{key}: the offsets have a hole"));
            }
        }
        now(Ok(report))
    }

    fn compact(&self) -> Answer<'_, u64> {
        now(Ok(0))
    }

    fn close(&self) -> Answer<'_, ()> {
        now(Ok(()))
    }
}
