//! What a batch comes to: which records are new, which repeat an earlier one, and what is forgotten.
//!
//! A plan reads one view and writes nothing until it is handed to the engine, so a batch that is refused halfway has
//! done nothing. Everything about one log is gathered before it is written, because a key may come up only once.
//!
//! **Repeats.** Publishers' keys are looked up in a family of their own. Ids mostly grow, so nothing is written for an
//! id that is greater than all before it: records keep the greatest id up to themselves, which never falls, and a
//! binary search finds where an id would be. An id that came out of order has an entry like a key's. What is trimmed
//! while it is to be remembered leaves a line in a block of the *past* ([`Past`]).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::engine::{Batch as Writes, View, wrong};
use super::layout::{self, Family, Head, Kept, Past, PastRecord, Turn, Wrong};
use crate::limits::{REMEMBERED_RECORDS, check_restore, is_forgotten};
use crate::{
    Append, Appended, Batch, FactKey, FactWrite, LogKey, LogState, Outcome, Record, Replace, StoreError,
    Stored,
};

/// Heads of logs that were used lately.
pub(super) type Heads = HashMap<LogKey, Head>;

pub(super) struct Plan<'a> {
    view: View<'a>,
    heads: &'a Heads,
    logs: BTreeMap<LogKey, Pending>,
    facts: HashMap<Vec<u8>, Option<Bytes>>,
    next_log: u64,
    logs_begun: bool,
}

/// One log's part.
struct Pending {
    /// As it is in the view; `None` for a log that begins with this batch.
    base: Option<Head>,
    head: Head,
    records: Vec<Kept>,
    replaced: BTreeMap<u64, Kept>,
    ids: HashMap<u128, Outcome>,
    keys: HashMap<Bytes, Outcome>,
    /// Keys that go, by family.
    forgets: Vec<(Family, Vec<u8>)>,
}

impl Pending {
    fn put(&mut self, stored: Stored, key: Option<Bytes>) -> Outcome {
        let head = &mut self.head;
        let id_high = head.id_high.map_or(stored.id, |high| high.max(stored.id));
        let kept = Kept { id_high, key, stored };
        // An id equal to the greatest is none that came in order; only an import can bring one.
        head.id_high = Some(id_high);
        head.state.head = kept.stored.offset;
        head.state.ordinal = kept.stored.ordinal;
        head.state.bytes += kept.stored.payload.len() as u64;
        let outcome = kept.outcome();
        self.ids.insert(outcome.id, outcome);
        if let Some(key) = &kept.key {
            self.keys.insert(key.clone(), outcome);
        }
        self.records.push(kept);
        Outcome { duplicate: false, ..outcome }
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(view: View<'a>, heads: &'a Heads, next_log: u64) -> Self {
        Self { view, heads, logs: BTreeMap::new(), facts: HashMap::new(), next_log, logs_begun: false }
    }

    fn head(&self, log: &LogKey) -> Result<Option<Head>, StoreError> {
        match self.heads.get(log) {
            Some(head) => Ok(Some(*head)),
            None => self.view.head(log),
        }
    }

    /// Makes sure that the log is in the plan; `begin` makes it one that begins, if it does not exist.
    fn enter(&mut self, log: &LogKey, begin: Option<LogState>) -> Result<bool, StoreError> {
        if self.logs.contains_key(log) {
            return Ok(true);
        }
        let base = self.head(log)?;
        let head = match (base, begin) {
            (Some(head), _) => head,
            (None, Some(begin)) => {
                let number = self.next_log;
                self.next_log += 1;
                self.logs_begun = true;
                let state = LogState { first: begin.head + 1, bytes: 0, ..begin };
                Head { number, state, id_high: None, forgotten: begin.head }
            }
            (None, None) => return Ok(false),
        };
        let pending = Pending {
            base,
            head,
            records: Vec::new(),
            replaced: BTreeMap::new(),
            ids: HashMap::new(),
            keys: HashMap::new(),
            forgets: Vec::new(),
        };
        self.logs.insert(log.clone(), pending);
        Ok(true)
    }

    /// Plans all of a batch.
    pub(super) fn batch(&mut self, batch: &Batch, now: i64) -> Result<Vec<Appended>, StoreError> {
        let mut writes = !batch.has_records() && !batch.facts.is_empty();
        let mut conflicts = false;
        let mut appended = Vec::with_capacity(batch.appends.len());
        for append in &batch.appends {
            let done = self.append(append)?;
            if !done.is_fenced(append) && done.epoch != 0 && append.replaces_count(&done.outcomes) {
                writes |= !append.records.is_empty() || !append.replaces.is_empty();
                for replace in &append.replaces {
                    conflicts |= self.says_otherwise(&append.log, replace)?;
                }
            }
            appended.push(done);
        }
        if batch.is_late(now) && writes {
            return Err(StoreError::TooLate { now });
        }
        if conflicts {
            return Err(StoreError::Conflict);
        }
        if !batch.is_late(now) {
            batch.facts.iter().try_for_each(|write| self.fact(write))?;
        }
        Ok(appended)
    }

    /// Whether a record says something else, before the batch, than is expected.
    fn says_otherwise(&self, log: &LogKey, replace: &Replace) -> Result<bool, StoreError> {
        let base = self.logs.get(log).and_then(|pending| pending.base);
        let (Some(was), Some(base)) = (&replace.was, base) else { return Ok(false) };
        if !(base.state.first..=base.state.head).contains(&replace.offset) {
            return Ok(false);
        }
        Ok(self.view.record(log, base.number, replace.offset)?.stored.payload != *was)
    }

    fn append(&mut self, append: &Append) -> Result<Appended, StoreError> {
        if append.fence.is_some() {
            let planned = self.logs.get(&append.log).map(|pending| pending.head);
            let head = match planned {
                Some(head) => Some(head),
                None => self.head(&append.log)?,
            };
            let state = head.map(|head| head.state).unwrap_or_default();
            if append.is_fenced_by(state.epoch) {
                return Ok(Appended::undone(state));
            }
        }
        let begin = LogState { epoch: append.epoch, ..LogState::default() };
        let begin = (!append.records.is_empty()).then_some(begin);
        if !self.enter(&append.log, begin)? {
            return Ok(Appended::undone(LogState::default()));
        }
        let Some(mut pending) = self.logs.remove(&append.log) else { return Err(gone()) };
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(append.records.len());
        for record in &append.records {
            outcomes.push(self.append_record(&append.log, &mut pending, record)?);
        }
        if append.replaces_count(&outcomes) {
            for replace in &append.replaces {
                self.replace(&append.log, &mut pending, replace)?;
            }
        }
        if let Some(newest) = append.records.last() {
            self.forget(&append.log, &mut pending, append.records.len() * 2 + 16, newest.ts)?;
        }
        let state = pending.head.state;
        self.logs.insert(append.log.clone(), pending);
        Ok(Appended { epoch: state.epoch, outcomes, state })
    }

    fn append_record(
        &self,
        log: &LogKey,
        pending: &mut Pending,
        record: &Record,
    ) -> Result<Outcome, StoreError> {
        if let Some(first) = self.find(log, pending, record)? {
            return Ok(first);
        }
        let state = pending.head.state;
        let stored = Stored {
            offset: state.head + 1,
            ordinal: state.ordinal + u64::from(record.counted),
            id: record.id,
            author: record.author.clone(),
            ts: record.ts,
            payload: record.payload.clone(),
        };
        Ok(pending.put(stored, record.key.clone()))
    }

    /// The outcome of the record that this one repeats.
    fn find(&self, log: &LogKey, pending: &Pending, record: &Record) -> Result<Option<Outcome>, StoreError> {
        if let Some(first) = pending.ids.get(&record.id) {
            return Ok(Some(*first));
        }
        if let Some(base) = &pending.base
            && let Some(first) = self.find_id(log, base, record.id)?
        {
            return Ok(Some(first));
        }
        let Some(key) = &record.key else { return Ok(None) };
        if let Some(first) = pending.keys.get(key) {
            return Ok(Some(*first));
        }
        match &pending.base {
            Some(base) => self.outcome_at(log, &layout::key_key(base.number, key)),
            None => Ok(None),
        }
    }

    fn outcome_at(&self, log: &LogKey, key: &[u8]) -> Result<Option<Outcome>, StoreError> {
        let value = self.view.get(Family::Keys, key)?;
        let decode = |value: fjall::Slice| {
            layout::decode_outcome(key, &value).map_err(|Wrong| wrong(&log.to_string()))
        };
        value.map(decode).transpose()
    }

    fn find_id(&self, log: &LogKey, base: &Head, id: u128) -> Result<Option<Outcome>, StoreError> {
        if base.id_high.is_none_or(|high| id > high) {
            return Ok(None);
        }
        if let Some(first) = self.outcome_at(log, &layout::id_key(base.number, id))? {
            return Ok(Some(first));
        }
        let LogState { first, head, .. } = base.state;
        let (mut low, mut high) = (first, head + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.view.record(log, base.number, middle)?.id_high < id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low <= head {
            let kept = self.view.record(log, base.number, low)?;
            if kept.stored.id == id {
                return Ok(Some(kept.outcome()));
            }
        }
        if low > first { Ok(None) } else { self.find_past(log, base.number, id) }
    }

    fn find_past(&self, log: &LogKey, number: u64, id: u128) -> Result<Option<Outcome>, StoreError> {
        let to = layout::after_prefix(number.to_be_bytes().to_vec());
        let mut blocks = self.view.range(Family::Past, layout::past_key(number, id, 0), to);
        let Some(block) = blocks.next() else { return Ok(None) };
        let (key, value) = block?;
        let past = Past::decode(&key, &value).map_err(|Wrong| wrong(&log.to_string()))?;
        let found = past.records.iter().find(|record| record.outcome.id == id);
        Ok(found.map(|record| record.outcome))
    }

    fn replace(&self, log: &LogKey, pending: &mut Pending, replace: &Replace) -> Result<(), StoreError> {
        let state = pending.head.state;
        if !(state.first..=state.head).contains(&replace.offset) {
            return Ok(());
        }
        let base_head = pending
            .base
            .map_or(pending.head.state.head - pending.records.len() as u64, |base| base.state.head);
        let kept = match replace.offset.checked_sub(base_head + 1) {
            Some(index) => &mut pending.records[index as usize],
            None => match pending.replaced.entry(replace.offset) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    entry.insert(self.view.record(log, pending.head.number, replace.offset)?)
                }
            },
        };
        let bytes = &mut pending.head.state.bytes;
        *bytes = bytes.saturating_sub(kept.stored.payload.len() as u64) + replace.payload.len() as u64;
        kept.stored.author = replace.author.clone();
        kept.stored.payload = replace.payload.clone();
        Ok(())
    }

    /// Forgets keys and ids that need not be remembered longer: about as many as come in, so that nobody waits.
    fn forget(&self, log: &LogKey, pending: &mut Pending, budget: usize, now: i64) -> Result<(), StoreError> {
        let Some(base) = pending.base else { return Ok(()) };
        let to = layout::after_prefix(base.number.to_be_bytes().to_vec());
        let mut blocks = None;
        let mut looked_at = 0;
        while looked_at < budget && pending.head.state.head - pending.head.forgotten > REMEMBERED_RECORDS {
            let next = pending.head.forgotten + 1;
            if next > base.state.head {
                break;
            }
            let past = if next >= base.state.first {
                let kept = self.view.record(log, base.number, next)?;
                Past { records: vec![remembered(&kept)] }
            } else {
                let blocks = blocks.get_or_insert_with(|| {
                    self.view.range(Family::Past, base.number.to_be_bytes().to_vec(), to.clone())
                });
                let Some(block) = blocks.next() else {
                    // Nothing is remembered of them; go on where the records begin.
                    pending.head.forgotten = base.state.first - 1;
                    continue;
                };
                let (key, value) = block?;
                let past = Past::decode(&key, &value).map_err(|Wrong| wrong(&log.to_string()))?;
                if is_forgotten(past.last(), past.ts_max(), pending.head.state.head, now) {
                    pending.forgets.push((Family::Past, key.to_vec()));
                }
                past
            };
            if !is_forgotten(past.last(), past.ts_max(), pending.head.state.head, now) {
                break;
            }
            looked_at += past.records.len();
            pending.head.forgotten = past.last().max(next);
            for record in &past.records {
                forget_record(base.number, record, |key| pending.forgets.push((Family::Keys, key)));
            }
        }
        Ok(())
    }

    pub(super) fn restore(
        &mut self,
        log: &LogKey,
        start: LogState,
        records: &[Stored],
    ) -> Result<LogState, StoreError> {
        check_restore(self.head(log)?.map(|head| head.state), start, records)?;
        self.enter(log, Some(start))?;
        let pending = self.logs.get_mut(log).ok_or_else(gone)?;
        for record in records {
            pending.put(record.clone(), None);
        }
        Ok(pending.head.state)
    }

    fn fact(&mut self, write: &FactWrite) -> Result<(), StoreError> {
        let (key, value) = match write {
            FactWrite::Set(key, value) => (layout::fact_key(key), Some(value)),
            FactWrite::Delete(key) => (layout::fact_key(key), None),
            FactWrite::Max(fact, value) => {
                let key = layout::fact_key(fact);
                let kept = match self.facts.get(&key) {
                    Some(kept) => kept.clone(),
                    None => read_fact(&self.view, fact)?,
                };
                if kept.is_some_and(|kept| kept >= *value) {
                    return Ok(());
                }
                (key, Some(value))
            }
        };
        self.facts.insert(key, value.cloned());
        Ok(())
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        let untouched = |pending: &Pending| {
            pending.base == Some(pending.head) && pending.records.is_empty() && pending.replaced.is_empty()
        };
        self.facts.is_empty() && self.logs.values().all(untouched)
    }

    /// Writes the plan into a batch of the engine; gives the heads as they will be, and the next log's number.
    pub(super) fn write(self, writes: &mut Writes<'_>, turn: Turn) -> (Vec<(LogKey, Head)>, u64) {
        writes.insert(Family::Meta, layout::TURN, &turn.encode());
        if self.logs_begun {
            writes.insert(
                Family::Meta,
                layout::NEXT_LOG,
                &layout::encode_number(layout::NEXT_LOG, self.next_log),
            );
        }
        for (key, value) in &self.facts {
            match value {
                Some(value) => writes.insert(Family::Facts, key, &layout::sealed(Family::Facts, key, value)),
                None => writes.remove(Family::Facts, key),
            }
        }
        let mut heads = Vec::with_capacity(self.logs.len());
        for (log, pending) in self.logs {
            pending.write(&log, writes);
            heads.push((log, pending.head));
        }
        (heads, self.next_log)
    }
}

impl Pending {
    fn write(&self, log: &LogKey, writes: &mut Writes<'_>) {
        let number = self.head.number;
        let key = layout::log_key(log);
        writes.insert(Family::Logs, &key, &self.head.encode(&key));
        let mut greatest = self.base.and_then(|base| base.id_high);
        let mut remembered = HashSet::new();
        for kept in &self.records {
            let at = layout::record_key(number, kept.stored.offset);
            writes.insert(Family::Records, &at, &kept.encode(&at));
            let outcome = kept.outcome();
            let by_key = kept.key.as_ref().map(|key| layout::key_key(number, key));
            // Not after all before it: an equal one, too, must be found by its own entry.
            let late = greatest.is_some_and(|greatest| outcome.id <= greatest);
            let by_id = late.then(|| layout::id_key(number, outcome.id));
            for at in by_key.into_iter().chain(by_id) {
                writes.insert(Family::Keys, &at, &layout::encode_outcome(&at, outcome));
                remembered.insert(at);
            }
            greatest = greatest.max(Some(outcome.id));
        }
        for (offset, kept) in &self.replaced {
            let at = layout::record_key(number, *offset);
            writes.insert(Family::Records, &at, &kept.encode(&at));
        }
        for (family, key) in &self.forgets {
            // An entry that this batch writes again stays.
            if *family != Family::Keys || !remembered.contains(key) {
                writes.remove(*family, key);
            }
        }
    }
}

/// What is remembered of a record when it goes.
pub(super) fn remembered(kept: &Kept) -> PastRecord {
    PastRecord { outcome: kept.outcome(), in_order: kept.in_order(), key: kept.key.clone() }
}

/// Gives `forget` the entries that a record has among the keys.
pub(super) fn forget_record(number: u64, record: &PastRecord, mut forget: impl FnMut(Vec<u8>)) {
    if let Some(key) = &record.key {
        forget(layout::key_key(number, key));
    }
    if !record.in_order {
        forget(layout::id_key(number, record.outcome.id));
    }
}

pub(super) fn read_fact(view: &View<'_>, fact: &FactKey) -> Result<Option<Bytes>, StoreError> {
    let key = layout::fact_key(fact);
    let value = view.get(Family::Facts, &key)?;
    value.map(|value| fact_value(&key, &value)).transpose()
}

pub(super) fn fact_value(key: &[u8], value: &[u8]) -> Result<Bytes, StoreError> {
    let body = layout::opened(Family::Facts, key, value);
    body.map(Bytes::copy_from_slice)
        .map_err(|Wrong| wrong(&format!("the fact {:?}", key.escape_ascii().to_string())))
}

fn gone() -> StoreError {
    StoreError::Unavailable("a log left its own plan".to_owned())
}
