//! Lists of blocks as they are written: from the YAML tree to entries whose keys are known.
//!
//! [`super::layers`] calls it for the file, a variable or a flag; what it gives is read by [`super::entry`]. Judges
//! names alone (unknown, twice, not a block), as the layers do for settings; values are judged later.

use std::collections::HashMap;

use super::error::{Fault, PRINTED_MAX, Problem};
use super::kind::Input;
use super::nearest::nearest;
use super::source::Source;
use super::table::Key;
use super::yaml::{Entry, Node, Position, Value};

/// One input for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListAssignment {
    pub(super) source: Source,
    /// The entries, `None` for what is no block; nothing if it is no list at all. Both are reported already.
    pub(super) blocks: Option<Vec<Option<Written>>>,
}

/// One entry as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) at: Source,
    pub(super) keys: HashMap<&'static str, (Source, Input)>,
}

/// Reads the entries of `list` from a tree, and reports what is no entry.
pub(super) fn gather(
    list: &Key,
    node: Node,
    place: &dyn Fn(Position) -> Source,
    problems: &mut Vec<Problem>,
) -> Option<Vec<Option<Written>>> {
    let mut gathering = Gathering { list, place, problems };
    let at = place(node.at);
    let why = match node.value {
        Value::List(nodes) => {
            let entries = nodes.into_iter().enumerate();
            return Some(entries.map(|(index, node)| gathering.entry(index, node)).collect());
        }
        Value::Null => "has no value",
        Value::Scalar(_) => "is one value, but takes a list of blocks",
        Value::Map(_) => "is a block, but takes a list of blocks",
    };
    let hint = format!("write entries, each beginning with a dash: {}; or [] for none", first_line(list));
    gathering.bad(at, list.path.to_owned(), why, hint);
    None
}

/// How an entry begins: `- pattern: ...`.
fn first_line(list: &Key) -> String {
    format!("- {}: ...", list.entry.first().map_or("name", |key| key.path))
}

struct Gathering<'a> {
    list: &'a Key,
    place: &'a dyn Fn(Position) -> Source,
    problems: &'a mut Vec<Problem>,
}

impl Gathering<'_> {
    fn bad(&mut self, at: Source, key: String, why: &str, hint: String) {
        let fault = Fault::BadValue { key: key.into(), value: None, why: why.to_owned() };
        self.problems.push(Problem { at, fault, hint });
    }

    fn entry(&mut self, index: usize, node: Node) -> Option<Written> {
        let path = entry_path(self.list.path, index);
        let at = (self.place)(node.at);
        let why = match node.value {
            Value::Map(entries) => return Some(Written { at, keys: self.keys(&path, entries) }),
            Value::Null => "is empty",
            Value::Scalar(_) => "is one value, but takes a block",
            Value::List(_) => "is a list, but takes a block",
        };
        self.bad(at, path, why, format!("write its keys: {}", first_line(self.list)));
        None
    }

    fn keys(&mut self, path: &str, entries: Vec<Entry>) -> HashMap<&'static str, (Source, Input)> {
        let mut lines: HashMap<String, usize> = HashMap::new();
        let mut keys = HashMap::new();
        for Entry { key, at, value } in entries {
            let source = (self.place)(at);
            let full = format!("{path}.{key}");
            if let Some(first) = lines.get(&key) {
                let fault = Fault::Duplicate { key: full, first: *first };
                let hint = "keep one of the two; YAML does not say which would count".to_owned();
                self.problems.push(Problem { at: source, fault, hint });
                continue;
            }
            match self.list.entry.iter().find(|known| known.path == key) {
                Some(known) => {
                    keys.insert(known.path, ((self.place)(value.at), super::layers::input(value.value)));
                }
                None => {
                    let hint = self.unknown_hint(&key);
                    self.problems.push(Problem { at: source, fault: Fault::UnknownKey { key: full }, hint });
                }
            }
            lines.insert(key, at.line);
        }
        keys
    }

    fn unknown_hint(&self, key: &str) -> String {
        let names = || self.list.entry.iter().map(|known| known.path);
        // Looking for near names costs time, and nobody reads that many hints.
        let near = if self.problems.len() > PRINTED_MAX { None } else { nearest(key, names()) };
        match near {
            Some(name) => format!("did you mean {name}?"),
            None => format!("an entry takes {}", names().collect::<Vec<_>>().join(", ")),
        }
    }
}

/// The path of an entry, counted from 0 as JSON paths do: `rooms.classes[2]`.
pub(super) fn entry_path(list: &str, index: usize) -> String {
    format!("{list}[{index}]")
}

/// The entries of the list's own default or example.
pub(super) fn built_in(list: &Key, text: &str) -> Vec<Option<Written>> {
    let mut problems = Vec::new();
    let node = super::yaml::parse(text).expect("a test reads every default");
    let blocks = gather(list, node, &|_| Source::Default, &mut problems);
    debug_assert!(problems.is_empty(), "{}: {problems:?}", list.path);
    blocks.unwrap_or_default()
}
