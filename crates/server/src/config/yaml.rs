//! YAML to a small tree in which every key and value knows its line and column.
//!
//! The one place that knows the YAML library: it reads serde-saphyr's event stream rather than its serde front end,
//! because layering needs the text of each scalar as written (`1_000`, `3m`), the place of each *key*, and all
//! duplicates rather than the first. Which keys exist is [`super::layers`]'s business.
//!
//! Hostile input is refused within fixed bounds: bytes, nesting, nodes; an alias may repeat one scalar and never
//! a collection, so nothing can multiply.

use std::collections::HashMap;

use serde_saphyr::granit_parser::{
    Event, Marker, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag,
};

/// Largest file that is read.
pub(super) const BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting; the settings themselves need three levels.
const DEPTH_MAX: usize = 16;
/// Most keys and values in a file.
const NODES_MAX: usize = 20_000;

/// Line and column in characters, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Where the value starts.
    pub at: Position,
    /// The value.
    pub value: Value,
}

/// What a [`Node`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Null,
    /// One value, unquoted and unescaped, its type not guessed.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, duplicates kept.
    Map(Vec<Entry>),
}

/// One `key: value` of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub at: Position,
    /// The value.
    pub value: Node,
}

/// Why a text could not be read at all; the text ends a sentence that begins with the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct YamlError {
    /// Where.
    pub at: Position,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Reads one document. An empty one, or one with comments only, is [`Value::Null`].
///
/// # Errors
/// The first thing that stops the reader: after a syntax error nothing that follows can be trusted.
pub(super) fn parse(text: &str) -> Result<Node, YamlError> {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    Reader { parser, scalars: HashMap::new(), nodes: 0 }.document()
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Anchored scalars by the parser's anchor id.
    scalars: HashMap<usize, Value>,
    nodes: usize,
}

type Step<'a> = (Event<'a>, Position);

impl<'a> Reader<'a> {
    fn document(mut self) -> Result<Node, YamlError> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::StreamEnd => break,
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(refuse(at, "a second document starts here", "keep one document in the file"));
                }
                Event::DocumentStart(..) => {
                    let first = self.next()?;
                    root = Some(self.node(first, 0)?);
                }
                _ => return Err(unexpected(at)),
            }
        }
        Ok(root.unwrap_or(Node { at: Position { line: 1, column: 1 }, value: Value::Null }))
    }

    fn next(&mut self) -> Result<Step<'a>, YamlError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, position(&span))),
            Some(Err(error)) => Err(syntax(&error)),
            None => Err(unexpected(Position { line: 1, column: 1 })),
        }
    }

    fn node(&mut self, (event, at): Step<'a>, depth: usize) -> Result<Node, YamlError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(refuse(at, "too many keys and values", "a configuration has fewer than a hundred"));
        }
        if depth > DEPTH_MAX {
            return Err(refuse(at, "nested too deeply", "the settings need three levels"));
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), at)?
            }
            Event::SequenceStart(_, _, tag) => {
                known_tag(tag.as_deref(), at)?;
                self.list(depth)?
            }
            Event::MappingStart(_, _, tag) => {
                known_tag(tag.as_deref(), at)?;
                self.map(depth)?
            }
            Event::Alias(id) => self.alias(id, at)?,
            _ => return Err(unexpected(at)),
        };
        Ok(Node { at, value })
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: Position,
    ) -> Result<Value, YamlError> {
        known_tag(tag, at)?;
        let plain = style == ScalarStyle::Plain && tag.is_none();
        let value = match text {
            "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
            _ => Value::Scalar(text.to_owned()),
        };
        if anchor != 0 {
            self.scalars.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn alias(&self, id: usize, at: Position) -> Result<Value, YamlError> {
        self.scalars.get(&id).cloned().ok_or_else(|| {
            refuse(
                at,
                "an alias that repeats a whole block",
                "only single values may be repeated by alias; write the block out",
            )
        })
    }

    fn list(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            let step = self.next()?;
            if step.0 == Event::SequenceEnd {
                return Ok(Value::List(items));
            }
            items.push(self.node(step, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, YamlError> {
        let mut entries = Vec::new();
        loop {
            let step = self.next()?;
            if step.0 == Event::MappingEnd {
                return Ok(Value::Map(entries));
            }
            let Node { at, value } = self.node(step, depth + 1)?;
            let key = match value {
                Value::Scalar(key) => key,
                Value::Null => "null".to_owned(),
                Value::List(_) | Value::Map(_) => {
                    return Err(refuse(
                        at,
                        "a key that is not a word",
                        "a key is a single word such as addr",
                    ));
                }
            };
            let first = self.next()?;
            entries.push(Entry { key, at, value: self.node(first, depth + 1)? });
        }
    }
}

/// Tags outside YAML's core schema would ask for types that no setting has.
fn known_tag(tag: Option<&Tag>, at: Position) -> Result<(), YamlError> {
    match tag {
        Some(tag) if tag.is_custom() => {
            Err(refuse(at, "a YAML tag (!...)", "settings need no tags; delete it"))
        }
        _ => Ok(()),
    }
}

fn position(span: &Span) -> Position {
    from_marker(&span.start)
}

fn from_marker(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

fn syntax(error: &ScanError) -> YamlError {
    YamlError {
        at: from_marker(error.marker()),
        what: format!("not valid YAML: {}", error.info()),
        hint: "check indentation (spaces, not tabs), quotes and colons on this line and the one above",
    }
}

fn refuse(at: Position, what: &str, hint: &'static str) -> YamlError {
    YamlError { at, what: what.to_owned(), hint }
}

fn unexpected(at: Position) -> YamlError {
    refuse(at, "not a YAML mapping", "begin with a section, such as server:")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fmt::Write as _;

    /// The tree as `path@line:column=value` lines.
    fn outline(text: &str) -> Vec<String> {
        fn walk(path: &str, node: &Node, out: &mut Vec<String>) {
            let at = format!("{path}@{}:{}", node.at.line, node.at.column);
            match &node.value {
                Value::Null => out.push(format!("{at}=null")),
                Value::Scalar(text) => out.push(format!("{at}={text}")),
                Value::List(items) => items.iter().for_each(|item| walk(&format!("{path}[]"), item, out)),
                Value::Map(entries) => {
                    for entry in entries {
                        walk(&format!("{path}.{}", entry.key), &entry.value, out);
                    }
                }
            }
        }
        let mut out = Vec::new();
        walk("", &parse(text).unwrap(), &mut out);
        out
    }

    fn refused(text: &str) -> String {
        let error = parse(text).unwrap_err();
        format!("{}:{} {}", error.at.line, error.at.column, error.what)
    }

    #[test]
    fn yaml_values_keep_text_and_place() {
        let text = "server:\n  addr: \":8080\" # here\n  shards: 1_0\ncluster:\n  hosts: [a, 'b']\n";
        assert_eq!(
            outline(text),
            [
                ".server.addr@2:9=:8080",
                ".server.shards@3:11=1_0",
                ".cluster.hosts[]@5:11=a",
                ".cluster.hosts[]@5:14=b"
            ]
        );
    }

    #[test]
    fn yaml_columns_count_characters_and_ignore_line_endings() {
        assert_eq!(outline("é: 1\r\nb: ü\r\nc: 2\r\n"), [".é@1:4=1", ".b@2:4=ü", ".c@3:4=2"]);
        assert_eq!(outline("\u{feff}a: 1\n").len(), 1, "a byte order mark is no part of the first key");
    }

    #[test]
    fn yaml_null_and_empty_text_differ() {
        assert_eq!(
            outline("a:\nb: ~\nc: \"\"\nd: 'null'\n"),
            [".a@1:2=null", ".b@2:4=null", ".c@3:4=", ".d@4:4=null"]
        );
        assert_eq!(parse("").unwrap().value, Value::Null);
        assert_eq!(parse("# only a comment\n").unwrap().value, Value::Null);
    }

    #[test]
    fn yaml_alias_repeats_scalars_only() {
        assert_eq!(outline("a: &t 3m\nb: *t\n"), [".a@1:7=3m", ".b@2:4=3m"]);
        assert_eq!(refused("a: &t [1]\nb: *t\n"), "2:4 an alias that repeats a whole block");
    }

    #[test]
    fn yaml_bomb_of_aliases_is_refused_at_once() {
        let mut bomb = String::from("a0: &a0 [x, x]\n");
        for i in 1..40 {
            writeln!(bomb, "a{i}: &a{i} [*a{0}, *a{0}]", i - 1).unwrap();
        }
        assert!(refused(&bomb).starts_with("2:"));
    }

    #[test]
    fn yaml_depth_and_number_of_nodes_are_bounded() {
        for deep in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(50_000), "? ".repeat(100_000)] {
            assert!(parse(&deep).is_err());
        }
        let blocks = (0..300).fold(String::new(), |text, i| text + &" ".repeat(i) + "a:\n");
        assert!(refused(&blocks).contains("nested too deeply"));
        assert!(refused(&"a: 1\n".repeat(NODES_MAX)).contains("too many"));
    }

    #[test]
    fn yaml_refuses_what_settings_never_need() {
        assert!(refused("a: !custom 1\n").contains("tag"));
        assert!(refused("a: 1\n---\nb: 1\n").contains("second document"));
        assert!(refused("? [a]\n: 1\n").contains("key"));
        assert!(refused("a: [1\n").contains("not valid YAML"));
        assert!(refused("a: 1\n\tb: 2\n").contains("not valid YAML"));
        assert!(refused("a: *nowhere\n").contains("not valid YAML"));
    }
}
