//! What an append comes to, once it is known what its log has and which of its records are there already.
//!
//! For back ends that hold a log still (by a lock, or by a condition on its head) while they decide. Pure: nothing here
//! reads or writes anything.

use std::collections::HashMap;

use bytes::Bytes;

use crate::{Append, Appended, LogState, Outcome, Record, Replace};

/// A log that is held still, as it will be after what is planned so far.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// What it has; all zero while it does not exist.
    pub(crate) state: LogState,
    ids: HashMap<u128, Outcome>,
    keys: HashMap<Bytes, Outcome>,
}

/// A record to write.
#[derive(Debug)]
pub(crate) struct New<'a> {
    pub(crate) offset: u64,
    pub(crate) ordinal: u64,
    pub(crate) record: &'a Record,
}

/// What an append comes to.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) appended: Appended,
    pub(crate) new: Vec<New<'a>>,
    /// Of records that are kept.
    pub(crate) replaces: Vec<&'a Replace>,
}

impl Planned<'_> {
    /// Whether it comes to anything that must be written.
    pub(crate) fn writes(&self) -> bool {
        !self.new.is_empty() || !self.replaces.is_empty()
    }
}

impl Held {
    pub(crate) fn new(state: LogState) -> Self {
        Self { state, ..Self::default() }
    }

    /// Remembers a record that is there already.
    pub(crate) fn remember(&mut self, id: u128, key: Option<Bytes>, outcome: Outcome) {
        let outcome = Outcome { duplicate: true, ..outcome };
        self.ids.insert(id, outcome);
        if let Some(key) = key {
            self.keys.insert(key, outcome);
        }
    }

    /// Remembers the record that has a key already.
    #[cfg(feature = "dynamodb")]
    pub(crate) fn remember_key(&mut self, key: Bytes, outcome: Outcome) {
        self.keys.insert(key, Outcome { duplicate: true, ..outcome });
    }

    fn repeats(&self, record: &Record) -> Option<Outcome> {
        let by_key = || record.key.as_ref().and_then(|key| self.keys.get(key));
        self.ids.get(&record.id).or_else(by_key).copied()
    }

    /// Plans an append after those that were planned before.
    pub(crate) fn plan<'a>(&mut self, append: &'a Append) -> Planned<'a> {
        if append.is_fenced_by(self.state.epoch) {
            return Planned { appended: Appended::undone(self.state), new: Vec::new(), replaces: Vec::new() };
        }
        let mut new = Vec::new();
        let mut outcomes = Vec::with_capacity(append.records.len());
        for record in &append.records {
            let outcome = self.repeats(record).unwrap_or_else(|| {
                let outcome = self.add(record, append.epoch);
                new.push(New { offset: outcome.offset, ordinal: outcome.ordinal, record });
                outcome
            });
            outcomes.push(outcome);
        }
        let state = self.state;
        let kept =
            |replace: &&Replace| state.epoch != 0 && (state.first..=state.head).contains(&replace.offset);
        let counts = append.replaces_count(&outcomes);
        let replaces = append.replaces.iter().filter(kept).filter(|_| counts).collect();
        let appended = Appended { epoch: state.epoch, outcomes, state };
        Planned { appended, new, replaces }
    }

    fn add(&mut self, record: &Record, epoch: u64) -> Outcome {
        let state = &mut self.state;
        if state.epoch == 0 {
            *state = LogState { epoch, first: 1, ..LogState::default() };
        }
        state.head += 1;
        state.ordinal += u64::from(record.counted);
        state.bytes += record.payload.len() as u64;
        let outcome = Outcome {
            offset: state.head,
            ordinal: state.ordinal,
            id: record.id,
            ts: record.ts,
            duplicate: false,
        };
        self.remember(record.id, record.key.clone(), outcome);
        outcome
    }
}
