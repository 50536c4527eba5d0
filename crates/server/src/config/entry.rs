//! Reads one entry of a list of blocks into its typed form.
//!
//! The counterpart of the resolver's `value` for settings: the same kinds, ranges and complaints, with the entry's
//! place in the path (`rooms.classes[2].pattern`). What an entry does not say it takes from its default, or from the
//! setting it inherits.

use std::collections::HashMap;

use super::blocks::{Written, entry_path};
use super::error::{Fault, Problem, printable};
use super::kind::{Form, Input, Kind};
use super::resolve::{Resolver, read_in_range, shown};
use super::source::Source;
use super::table::{Absent, Key};

/// A key of an entry as `config show` prints it.
#[derive(Debug, Clone)]
pub struct EntrySetting {
    /// The table entry; its path is the key's name alone.
    pub key: Key,
    /// The value as written, masked; several for a list.
    pub items: Vec<String>,
    /// Where it was written.
    pub source: Source,
}

/// One entry while it is read.
pub(super) struct Entry<'a> {
    resolver: &'a mut Resolver,
    path: String,
    at: Source,
    keys: HashMap<&'static str, (Source, Input)>,
    /// Values of keys that must differ from entry to entry, with the path of the first.
    taken: &'a mut HashMap<(&'static str, String), String>,
}

impl<'a> Entry<'a> {
    pub(super) fn new(
        resolver: &'a mut Resolver,
        list: &'static str,
        index: usize,
        written: Written,
        taken: &'a mut HashMap<(&'static str, String), String>,
    ) -> Self {
        Self { resolver, path: entry_path(list, index), at: written.at, keys: written.keys, taken }
    }

    /// The value of one key; `None` if it is missing or bad.
    pub(super) fn value<K: Kind>(&mut self, key: &Key) -> Option<K::Value> {
        let Some((source, input)) = self.keys.remove(key.path) else { return self.absent::<K>(key) };
        match read_in_range::<K>(key, &input) {
            Ok(value) => {
                self.unique(key, &source, &input)?;
                self.resolver.places.insert(format!("{}.{}", self.path, key.path), source);
                Some(value)
            }
            Err(refusal) => {
                let value = if key.form == Form::List { None } else { printable(&input, key.secret) };
                let hint = refusal.hint.unwrap_or_else(|| format!("write {}", key.accepted()));
                self.bad(source, key, value, refusal.why.into_owned(), hint);
                None
            }
        }
    }

    fn absent<K: Kind>(&mut self, key: &Key) -> Option<K::Value> {
        let input = match key.absent {
            Absent::Required => {
                let at = self.at.clone();
                self.bad(at, key, None, "is missing".to_owned(), format!("write {}", key.accepted()));
                return None;
            }
            Absent::Default => Input::Scalar(key.default.to_owned()),
            Absent::Inherited(path) => self.resolver.winners.get(path).cloned()?,
        };
        let value = K::read_input(&input).map_err(|refusal| refusal.why);
        Some(value.expect("a test reads every default, and what is inherited was read before"))
    }

    fn unique(&mut self, key: &Key, source: &Source, input: &Input) -> Option<()> {
        let Some(text) = input.items().first().filter(|_| key.unique) else { return Some(()) };
        let first = self.taken.entry((key.path, text.trim().to_owned())).or_insert_with(|| self.path.clone());
        if *first == self.path {
            return Some(());
        }
        let why = format!("is what {first} has already");
        let value = printable(input, key.secret);
        self.bad(
            source.clone(),
            key,
            value,
            why,
            "delete one of the two, or give it a value of its own".to_owned(),
        );
        None
    }

    fn bad(&mut self, at: Source, key: &Key, value: Option<String>, why: String, hint: String) {
        let fault = Fault::BadValue { key: format!("{}.{}", self.path, key.path).into(), value, why };
        self.resolver.problems.push(Problem { at, fault, hint });
    }
}

/// The keys that an entry says something about, in the order of the table.
pub(super) fn shown_entry(list: &Key, written: &Written) -> Vec<EntrySetting> {
    let known = list.entry.iter();
    known
        .filter_map(|key| {
            let (source, input) = written.keys.get(key.path)?;
            // What is written in this program is no secret.
            let items = if *source == Source::Default { input.items().to_vec() } else { shown(key, input) };
            Some(EntrySetting { key: *key, items, source: source.clone() })
        })
        .collect()
}
