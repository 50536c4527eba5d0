//! Turns what the layers wrote into typed values.
//!
//! Each section asks for its values one by one ([`super::table`]); every input of every layer is checked, also one
//! that another layer overrides, because it would strike when the override goes. The result remembers, per key,
//! what won and what it won over.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash};
use std::sync::LazyLock;

use super::blocks::{ListAssignment, Written, built_in};
use super::entry::{Entry, EntrySetting, shown_entry};
use super::error::{Fault, Problem, mask_userinfo, printable};
use super::kind::{Form, Input, Kind, Refusal};
use super::layers::Assignment;
use super::source::Source;
use super::table::{Block, Key};

/// A setting as `config show` prints it.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The table entry.
    pub key: Key,
    /// The value as written, masked; several for a list.
    pub items: Vec<String>,
    /// Where the value came from.
    pub source: Source,
    /// What it won over, nearest first, the default left out.
    pub over: Vec<Source>,
    /// The entries, if the value is a list of blocks: what each says, in the order of the table.
    pub entries: Vec<Vec<EntrySetting>>,
    /// What was written, as a number that is the same as long as it is. It means nothing in another process.
    pub(crate) fingerprint: u64,
}

/// So that a secret can be compared with what it was, and not guessed from what is kept of it.
fn fingerprint(what: impl Hash) -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEY.hash_one(what)
}

/// Reads values and gathers what is wrong with them.
#[derive(Debug)]
pub(super) struct Resolver {
    assignments: HashMap<&'static str, Vec<Assignment>>,
    lists: HashMap<&'static str, Vec<ListAssignment>>,
    pub(super) settings: Vec<Setting>,
    pub(super) problems: Vec<Problem>,
    /// What won, per setting: entries of lists may inherit it.
    pub(super) winners: HashMap<&'static str, Input>,
    /// Where each key of each entry was written, by its full path.
    pub(super) places: HashMap<String, Source>,
    bad: HashSet<&'static str>,
}

impl Resolver {
    pub(super) fn new(
        assignments: HashMap<&'static str, Vec<Assignment>>,
        lists: HashMap<&'static str, Vec<ListAssignment>>,
    ) -> Self {
        Self {
            assignments,
            lists,
            settings: Vec::new(),
            problems: Vec::new(),
            winners: HashMap::new(),
            places: HashMap::new(),
            bad: HashSet::new(),
        }
    }

    /// The value of one key: that of the highest layer whose input is good.
    pub(super) fn value<K: Kind>(&mut self, key: &Key) -> K::Value {
        let default = Input::Scalar(key.default.to_owned());
        let value = K::read_input(&default).map_err(|refusal| refusal.why);
        let mut value = value.expect("a test reads every default");
        let mut winner = Assignment { source: Source::Default, input: default };
        let mut over = Vec::new();
        for assignment in self.assignments.remove(key.path).unwrap_or_default() {
            match read_in_range::<K>(key, &assignment.input) {
                Ok(better) => {
                    value = better;
                    over.insert(0, std::mem::replace(&mut winner, assignment).source);
                }
                Err(refusal) => self.refused(key, assignment, refusal),
            }
        }
        over.retain(|source| *source != Source::Default);
        let (items, fingerprint) = (shown(key, &winner.input), fingerprint(&winner.input));
        let (entries, source) = (Vec::new(), winner.source);
        self.settings.push(Setting { key: *key, items, source, over, entries, fingerprint });
        self.winners.insert(key.path, winner.input);
        value
    }

    /// The entries of one list: those of the highest layer that is a list, whose entries are then all checked. A
    /// layer replaces the list of the one below; nothing is merged.
    pub(super) fn blocks<B: Block>(&mut self, key: &Key) -> Vec<B> {
        let mut winner = (Source::Default, built_in(key, key.default));
        let mut values = self.entries(key, winner.1.clone());
        let mut over = Vec::new();
        for ListAssignment { source, blocks } in self.lists.remove(key.path).unwrap_or_default() {
            let Some(blocks) = blocks else {
                self.bad.insert(key.path);
                continue;
            };
            self.places
                .retain(|path, _| !path.strip_prefix(key.path).is_some_and(|rest| rest.starts_with('[')));
            values = self.entries(key, blocks.clone());
            over.insert(0, std::mem::replace(&mut winner, (source, blocks)).0);
        }
        over.retain(|source| *source != Source::Default);
        let entries: Vec<_> = winner.1.iter().flatten().map(|written| shown_entry(key, written)).collect();
        let items = vec![super::show::flow(&entries)];
        let written = winner.1.iter().flatten().map(|written| {
            let of = |known: &Key| written.keys.get(known.path).map(|(_, input)| (known.path, input));
            key.entry.iter().filter_map(of).collect::<Vec<_>>()
        });
        let fingerprint = fingerprint(written.collect::<Vec<_>>());
        self.settings.push(Setting { key: *key, items, source: winner.0, over, entries, fingerprint });
        values
    }

    fn entries<B: Block>(&mut self, key: &Key, blocks: Vec<Option<Written>>) -> Vec<B> {
        let problems = self.problems.len();
        let mut taken = HashMap::new();
        let mut values = Vec::with_capacity(blocks.len());
        for (index, written) in blocks.into_iter().enumerate() {
            let Some(written) = written else {
                self.bad.insert(key.path);
                continue;
            };
            values.extend(B::read(&mut Entry::new(self, key.path, index, written, &mut taken)));
        }
        if self.problems.len() > problems {
            self.bad.insert(key.path);
        }
        values
    }

    fn refused(&mut self, key: &Key, Assignment { source, input }: Assignment, refusal: Refusal) {
        self.bad.insert(key.path);
        // A list may hold passwords; its kind names the bad item itself.
        let value = if key.form == Form::List { None } else { printable(&input, key.secret) };
        let fault = Fault::BadValue { key: Cow::Borrowed(key.path), value, why: refusal.why.into_owned() };
        let hint = match refusal.hint {
            Some(hint) => hint,
            None => format!("write {}", key.accepted()),
        };
        self.problems.push(Problem { at: source, fault, hint });
    }

    /// Whether any layer wrote something unusable for this key, so that its value means nothing. One bad entry spoils
    /// its list: what is said about the others might not hold any more.
    pub(super) fn is_bad(&self, path: &str) -> bool {
        self.bad.contains(list_of(path))
    }

    /// Where the value of a key that was read came from; for one that an entry does not write, where the list did.
    pub(super) fn source(&self, path: &str) -> Source {
        if let Some(place) = self.places.get(path) {
            return place.clone();
        }
        let path = list_of(path);
        let setting = self.settings.iter().find(|setting| setting.key.path == path);
        setting.map_or(Source::Default, |setting| setting.source.clone())
    }
}

/// `rooms.classes` for `rooms.classes[2].pattern`, and any other path itself.
fn list_of(path: &str) -> &str {
    path.split('[').next().unwrap_or(path)
}

impl Key {
    /// What is accepted, with the range and the meaning of zero.
    pub fn accepted(&self) -> String {
        let mut text = self.accepts.to_owned();
        if let Some((min, max)) = self.range {
            text.push_str(&format!(", from {min} to {max}"));
        }
        if let Some(zero) = self.zero {
            text.push_str(&format!(" (0: {zero})"));
        }
        text
    }
}

pub(super) fn read_in_range<K: Kind>(key: &Key, input: &Input) -> Result<K::Value, Refusal> {
    let value = K::read_input(input)?;
    let (Some((min, max)), Some(size)) = (key.range, K::magnitude(&value)) else { return Ok(value) };
    let bound = |text: &str| K::read(text).ok().as_ref().and_then(K::magnitude);
    if size == 0 && key.zero.is_some() {
        return Ok(value);
    }
    if bound(min).is_some_and(|min| size < min) {
        return Err(Refusal { why: format!("is below the minimum of {min}").into(), hint: None });
    }
    if bound(max).is_some_and(|max| size > max) {
        return Err(Refusal { why: format!("is above the maximum of {max}").into(), hint: None });
    }
    Ok(value)
}

/// The value as it may be printed.
pub(super) fn shown(key: &Key, input: &Input) -> Vec<String> {
    if key.secret && input.items().iter().any(|item| !item.trim().is_empty()) {
        return vec!["***".to_owned()];
    }
    let one = |text: &str| mask_userinfo(text).into_owned();
    match (key.form, input) {
        (Form::List, Input::Scalar(text)) if text.trim().is_empty() => Vec::new(),
        (Form::List, Input::Scalar(text)) => text.split(',').map(|item| one(item.trim())).collect(),
        (Form::Quoted, _) => input.items().iter().map(|item| one(item)).collect(),
        _ => input.items().iter().map(|item| one(item.trim())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::kind::{Text, Time};
    use super::*;

    const TOKEN: Key =
        Key { path: "auth.token", kind: Text::NAME, accepts: Text::ACCEPTS, secret: true, ..Key::BLANK };

    fn resolver(path: &'static str, inputs: &[(&str, &str)]) -> Resolver {
        let assignment = |(name, text): &(&str, &str)| Assignment {
            source: Source::Env((*name).to_owned()),
            input: Input::Scalar((*text).to_owned()),
        };
        Resolver::new(HashMap::from([(path, inputs.iter().map(assignment).collect())]), HashMap::new())
    }

    #[test]
    fn secret_is_printed_neither_as_value_nor_in_a_complaint() {
        let mut good = resolver("auth.token", &[("A", "hunter2")]);
        assert_eq!(good.value::<Text>(&TOKEN), "hunter2");
        assert_eq!(good.settings[0].items, ["***"]);

        let mut bad = resolver("auth.token", &[("A", "hunter2\x07")]);
        bad.value::<Text>(&TOKEN);
        let text = bad.problems[0].to_string();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.contains("auth.token: the value (hidden: it is a secret) contains a control character"),
            "{text}"
        );
    }

    #[test]
    fn highest_layer_wins_and_remembers_what_it_beat() {
        let key = Key { path: "a.b", default: "1s", secret: false, ..TOKEN };
        let mut resolver = resolver("a.b", &[("LOW", "2s"), ("HIGH", "3s")]);
        assert_eq!(resolver.value::<Time>(&key).as_secs(), 3);
        assert_eq!(resolver.settings[0].source, Source::Env("HIGH".into()));
        assert_eq!(resolver.settings[0].over, [Source::Env("LOW".into())]);
    }

    #[test]
    fn mistake_in_an_overridden_layer_is_still_reported() {
        let key = Key { path: "a.b", default: "1s", secret: false, ..TOKEN };
        let mut resolver = resolver("a.b", &[("LOW", "soon"), ("HIGH", "3s")]);
        assert_eq!(resolver.value::<Time>(&key).as_secs(), 3);
        assert_eq!(resolver.problems.len(), 1);
        assert!(resolver.is_bad("a.b"));
    }

    #[test]
    fn zero_passes_below_the_range_only_where_it_has_a_meaning() {
        let key = Key { path: "a.b", default: "2s", range: Some(("1s", "1m")), secret: false, ..TOKEN };
        let read = |key: &Key, text: &str| {
            read_in_range::<Time>(key, &Input::Scalar(text.into())).map_err(|r| r.why)
        };
        assert_eq!(read(&key, "0"), Err("is below the minimum of 1s".into()));
        assert_eq!(read(&key, "2m"), Err("is above the maximum of 1m".into()));
        assert!(read(&Key { zero: Some("never"), ..key }, "0").is_ok());
        assert!(read(&key, "1m").is_ok());
    }
}
