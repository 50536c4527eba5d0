//! Any operations in any order, against a model that is too simple to be wrong.
//!
//! The model keeps every record ever appended in a list and searches it from the front. Seeds are fixed, so that a
//! failure can be repeated; it names its seed and step.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::{Replace, Retention};

const SEEDS: u64 = 4;
const STEPS: usize = 250;

#[derive(Clone, Debug)]
struct Entry {
    record: Record,
    offset: u64,
    ordinal: u64,
    author: EcoString,
    payload: Bytes,
}

#[derive(Clone, Debug, Default)]
struct ModelLog {
    epoch: u64,
    first: u64,
    entries: Vec<Entry>,
}

impl ModelLog {
    fn append(&mut self, record: &Record) -> Outcome {
        let same_id = |entry: &&Entry| entry.record.id == record.id;
        let same_key = |entry: &&Entry| record.key.is_some() && entry.record.key == record.key;
        let found = self.entries.iter().find(same_id).or_else(|| self.entries.iter().find(same_key)).cloned();
        let duplicate = found.is_some();
        let entry = found.unwrap_or_else(|| {
            let ordinal = self.entries.last().map_or(0, |entry| entry.ordinal) + u64::from(record.counted);
            let entry = Entry {
                record: record.clone(),
                offset: self.entries.len() as u64 + 1,
                ordinal,
                author: record.author.clone(),
                payload: record.payload.clone(),
            };
            self.entries.push(entry.clone());
            entry
        });
        Outcome {
            offset: entry.offset,
            ordinal: entry.ordinal,
            id: entry.record.id,
            ts: entry.record.ts,
            duplicate,
        }
    }

    fn kept(&self) -> &[Entry] {
        &self.entries[self.first as usize - 1..]
    }

    fn stored(&self) -> Vec<Stored> {
        let stored = |entry: &Entry| Stored {
            offset: entry.offset,
            ordinal: entry.ordinal,
            id: entry.record.id,
            author: entry.author.clone(),
            ts: entry.record.ts,
            payload: entry.payload.clone(),
        };
        self.kept().iter().map(stored).collect()
    }

    fn trim(&mut self, records_max: usize, age_max: i64, now: i64) {
        while let Some(oldest) = self.kept().first() {
            let many = records_max > 0 && self.kept().len() > records_max;
            let old = age_max > 0 && oldest.record.ts < now - age_max;
            if !many && !old {
                break;
            }
            self.first += 1;
        }
    }
}

#[derive(Debug, Default)]
struct Model {
    logs: BTreeMap<LogKey, ModelLog>,
    facts: BTreeMap<FactKey, Bytes>,
}

impl Model {
    fn commit(&mut self, batch: &Batch) -> Vec<(u64, Vec<Outcome>)> {
        let mut answers = Vec::new();
        for append in &batch.appends {
            let log = self.logs.entry(append.log.clone()).or_insert_with(|| ModelLog {
                epoch: append.epoch,
                first: 1,
                entries: Vec::new(),
            });
            let outcomes: Vec<Outcome> = append.records.iter().map(|record| log.append(record)).collect();
            let again = !outcomes.is_empty() && outcomes.iter().all(|outcome| outcome.duplicate);
            for replace in append.replaces.iter().filter(|_| !again) {
                if replace.offset >= log.first && replace.offset <= log.entries.len() as u64 {
                    let entry = &mut log.entries[replace.offset as usize - 1];
                    entry.author = replace.author.clone();
                    entry.payload = replace.payload.clone();
                }
            }
            answers.push((log.epoch, outcomes));
        }
        for write in &batch.facts {
            match write {
                FactWrite::Set(key, value) => {
                    self.facts.insert(key.clone(), value.clone());
                }
                FactWrite::Max(key, value) => {
                    let greater = self.facts.get(key).is_none_or(|kept| kept < value);
                    if greater {
                        self.facts.insert(key.clone(), value.clone());
                    }
                }
                FactWrite::Delete(key) => {
                    self.facts.remove(key);
                }
            }
        }
        answers
    }
}

/// What makes up operations.
struct Chance {
    rng: Rng,
    /// Counts up with every record, so that ids are unique unless chosen not to be.
    records: u64,
    now: i64,
}

impl Chance {
    fn log(&mut self) -> LogKey {
        let tenants = ["", "t", "t/r"];
        let rooms = ["r", "r/x", "s"];
        log_of(tenants[self.rng.usize(..3)], rooms[self.rng.usize(..3)])
    }

    fn record(&mut self) -> Record {
        self.records += 1;
        self.now += self.rng.i64(0..500);
        let fresh = u128::from(self.records * 100 + self.rng.u64(..500)) << 32 | u128::from(self.records);
        let id = if self.rng.u8(..8) == 0 { u128::from(self.rng.u64(..40)) } else { fresh };
        let key = (self.rng.u8(..3) == 0).then(|| Bytes::from(format!("key {}", self.rng.u8(..60))));
        Record {
            id,
            key,
            author: ["ada", "bob", ""][self.rng.usize(..3)].into(),
            ts: self.now,
            counted: self.rng.bool(),
            payload: vec![self.rng.u8(..); self.rng.usize(..300)].into(),
        }
    }

    fn batch(&mut self) -> Batch {
        let appends = (0..self.rng.usize(1..5)).map(|_| {
            let log = self.log();
            let records = (0..self.rng.usize(1..6)).map(|_| self.record()).collect();
            let replaces = (0..self.rng.usize(..3)).map(|_| self.replace()).collect();
            Append { log, epoch: self.rng.u64(1..), records, replaces, fence: None }
        });
        let appends = appends.collect();
        let facts = (0..self.rng.usize(..6)).map(|_| self.fact_write()).collect();
        Batch { appends, facts, not_after: None }
    }

    fn replace(&mut self) -> Replace {
        let payload = vec![self.rng.u8(..); self.rng.usize(..50)].into();
        Replace { offset: self.rng.u64(..60), author: "zoe".into(), payload, was: None }
    }

    fn fact_write(&mut self) -> FactWrite {
        let space = if self.rng.bool() { SPACE } else { OTHER_SPACE };
        let key = fact(["", "t"][self.rng.usize(..2)], space, &format!("name {}", self.rng.u8(..12)));
        let value = Bytes::from(vec![self.rng.u8(..); self.rng.usize(1..4)]);
        match self.rng.u8(..4) {
            0 => FactWrite::Delete(key),
            1 => FactWrite::Set(key, value),
            _ => FactWrite::Max(key, value),
        }
    }
}

/// A few hundred random steps (batches, repeated batches, trims, drops, reopening) end where the model does, and each
/// is answered as the model answers.
pub async fn any_operations_agree_with_a_naive_model(stage: &dyn Stage) {
    for seed in 0..SEEDS {
        let mut run = Run {
            store: stage.fresh().await,
            model: Model::default(),
            chance: Chance { rng: Rng::with_seed(seed), records: 0, now: START },
            last: Batch::default(),
        };
        for step in 0..STEPS {
            run.step(stage, &format!("seed {seed}, step {step}")).await;
        }
        run.compare_everything(&format!("seed {seed}, at the end")).await;
    }
}

struct Run {
    store: Arc<dyn Store>,
    model: Model,
    chance: Chance,
    last: Batch,
}

impl Run {
    async fn step(&mut self, stage: &dyn Stage, at: &str) {
        match self.chance.rng.u8(..100) {
            0..70 => {
                self.last = self.chance.batch();
                self.commit(at).await;
            }
            70..76 => self.commit(at).await,
            76..90 => self.trim(at).await,
            90..93 => {
                let log = self.chance.log();
                self.model.logs.remove(&log);
                self.store.drop_log(&log).await.unwrap();
                // Its records would begin a new log, which is another batch's affair.
                self.last = Batch::default();
            }
            93..96 => self.store = stage.reopen(self.store.clone()).await,
            _ => {
                let log = self.chance.log();
                self.compare_range(&log, at).await;
            }
        }
    }

    async fn commit(&mut self, at: &str) {
        let expected = self.model.commit(&self.last);
        let answers = self.store.commit(&self.last).await.unwrap();
        let answers: Vec<_> = answers.into_iter().map(|answer| (answer.epoch, answer.outcomes)).collect();
        assert_eq!(answers, expected, "{at}");
    }

    async fn trim(&mut self, at: &str) {
        let log = self.chance.log();
        let now = self.chance.now;
        let (records, age) = match self.chance.rng.u8(..4) {
            0 => (0, self.chance.rng.u64(1..5_000)),
            1 => (self.chance.rng.u64(1..10), self.chance.rng.u64(1..5_000)),
            _ => (self.chance.rng.u64(1..20), 0),
        };
        let keep = Retention { records_max: records, bytes_max: 0, age_max: Duration::from_millis(age) };
        let state = self.store.trim(&log, keep, now).await.unwrap();
        if let Some(model) = self.model.logs.get_mut(&log) {
            model.trim(records as usize, age as i64, now);
            assert_eq!((state.epoch, state.first), (model.epoch, model.first), "{at}");
            assert_eq!(state.head, model.entries.len() as u64, "{at}");
        } else {
            assert_eq!(state, LogState::default(), "{at}");
        }
    }

    async fn compare_range(&mut self, log: &LogKey, at: &str) {
        let expected = self.model.logs.get(log).map(ModelLog::stored).unwrap_or_default();
        let from = self.chance.rng.u64(..60);
        let records_max = self.chance.rng.usize(..30);
        let bounded = |direction| Range { records_max, ..whole(direction) };
        let forwards = read(&*self.store, log, bounded(Direction::After(from))).await.records;
        let newer = expected.iter().filter(|record| record.offset > from).take(records_max);
        assert_eq!(forwards, newer.cloned().collect::<Vec<_>>(), "{at}");
        let backwards = read(&*self.store, log, bounded(Direction::Before(from))).await.records;
        let older = expected.iter().rev().filter(|record| record.offset < from).take(records_max);
        assert_eq!(backwards, older.cloned().collect::<Vec<_>>(), "{at}");
    }

    async fn compare_everything(&self, at: &str) {
        for (key, log) in &self.model.logs {
            assert_eq!(all(&*self.store, key).await, log.stored(), "{key}, {at}");
        }
        let keys: Vec<_> = self.model.facts.keys().cloned().collect();
        let expected: Vec<_> = self.model.facts.values().cloned().map(Some).collect();
        assert_eq!(self.store.facts(&keys).await.unwrap(), expected, "{at}");
        let tenants = self.model.logs.keys().map(|key| key.tenant.clone());
        let mut tenants: Vec<_> = tenants.chain(keys.iter().map(|key| key.tenant.clone())).collect();
        tenants.sort();
        tenants.dedup();
        assert_eq!(self.store.tenants().await.unwrap(), tenants, "{at}");
        let report = self.store.verify().await.unwrap();
        assert_eq!(report.problems, Vec::<String>::new(), "{at}");
        assert_eq!(report.logs, self.model.logs.len() as u64, "{at}");
        assert_eq!(report.facts, self.model.facts.len() as u64, "{at}");
        let kept: usize = self.model.logs.values().map(|log| log.kept().len()).sum();
        assert_eq!(report.records, kept as u64, "{at}");
    }
}
