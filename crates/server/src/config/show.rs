//! Prints settings back: as YAML whose comments say where each value came from, or as JSON.
//!
//! The YAML is a valid configuration that gives the same settings. Secrets are masked before they get here.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Map, Value};

use super::blocks::built_in;
use super::entry::{EntrySetting, shown_entry};
use super::kind::Form;
use super::table::Key;
use super::{Loaded, Setting, Source};

/// The settings as YAML, each with its source as a comment.
pub fn yaml(loaded: &Loaded) -> String {
    let mut out = String::new();
    let lines: Vec<Line> = loaded.settings.iter().flat_map(lines).collect();
    let width = lines.iter().map(|line| line.text.chars().count()).max().unwrap_or(0).min(48);
    let mut open: &[String] = &[];
    for Line { sections, text, note } in &lines {
        open_sections(&mut out, open, sections);
        open = sections;
        match note.as_str() {
            "" => {
                let _ = writeln!(out, "{text}");
            }
            note => {
                let _ = writeln!(out, "{text:width$}  # {note}");
            }
        }
    }
    out
}

/// A line of a setting: the sections it stands in, the indented text, and its comment.
struct Line {
    sections: Vec<String>,
    text: String,
    note: String,
}

fn lines(setting: &Setting) -> Vec<Line> {
    let mut sections: Vec<String> = setting.key.path.split('.').map(str::to_owned).collect();
    let leaf = sections.pop().unwrap_or_default();
    let indent = "  ".repeat(sections.len());
    let text = match setting.entries.is_empty() {
        true => format!("{indent}{leaf}: {}", value(setting.key.form, &setting.items)),
        false => format!("{indent}{leaf}:"),
    };
    let mut lines = vec![Line { sections: sections.clone(), text, note: provenance(setting) }];
    for entry in &setting.entries {
        lines.extend(entry_lines(&format!("{indent}  "), entry).into_iter().zip(entry).map(|(text, key)| {
            // A variable or flag has no places inside, and was named above.
            let note = match &key.source {
                place @ Source::File { .. } => place.to_string(),
                _ => String::new(),
            };
            Line { sections: sections.clone(), text, note }
        }));
    }
    lines
}

/// The lines of an entry, one per key: `- pattern: "lobby"`, then the rest below it.
pub(super) fn entry_lines(indent: &str, entry: &[EntrySetting]) -> Vec<String> {
    let line = |(i, setting): (usize, &EntrySetting)| {
        let dash = if i == 0 { "- " } else { "  " };
        format!("{indent}{dash}{}: {}", setting.key.path, value(setting.key.form, &setting.items))
    };
    entry.iter().enumerate().map(line).collect()
}

/// A list of blocks in one line, as a variable or flag may give it.
pub(super) fn flow(entries: &[Vec<EntrySetting>]) -> String {
    let key =
        |setting: &EntrySetting| format!("{}: {}", setting.key.path, value(setting.key.form, &setting.items));
    let entry =
        |entry: &Vec<EntrySetting>| format!("{{{}}}", entry.iter().map(key).collect::<Vec<_>>().join(", "));
    format!("[{}]", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
}

/// Writes the section lines that are not open yet.
pub(super) fn open_sections(out: &mut String, open: &[String], wanted: &[String]) {
    let common = open.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    for (depth, name) in wanted.iter().enumerate().skip(common) {
        let _ = writeln!(out, "{}{name}:", "  ".repeat(depth));
    }
}

/// The value of a setting in one line, masked.
pub(crate) fn value_of(setting: &Setting) -> String {
    value(setting.key.form, &setting.items)
}

/// A value in YAML.
pub(super) fn value(form: Form, items: &[String]) -> String {
    match form {
        Form::Bool | Form::Number | Form::Word | Form::Blocks => items.concat(),
        Form::Quoted => quoted(&items.concat()),
        Form::List => format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ")),
    }
}

/// JSON's string syntax is YAML's double-quoted style.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn provenance(setting: &Setting) -> String {
    if setting.source == Source::Default {
        return "default".to_owned();
    }
    let default = match setting.key.default {
        "" => "\"\"".to_owned(),
        _ if setting.key.is_list() => match default_entries(&setting.key).len() {
            0 => "[]".to_owned(),
            1 => "1 entry".to_owned(),
            many => format!("{many} entries"),
        },
        default => default.to_owned(),
    };
    let over: String = setting.over.iter().map(|source| format!("over {source}, ")).collect();
    format!("{} ({over}default {default})", setting.source)
}

/// What the built-in entries of a list say.
pub(super) fn default_entries(list: &Key) -> Vec<Vec<EntrySetting>> {
    built_in(list, list.default).iter().flatten().map(|written| shown_entry(list, written)).collect()
}

/// The settings as JSON.
pub fn json(loaded: &Loaded) -> String {
    serde_json::to_string_pretty(&Document::of(loaded)).expect("strings, numbers and lists always serialize")
}

/// What JSON says of the settings.
#[derive(Serialize)]
pub(crate) struct Document<'a> {
    file: Option<&'a str>,
    settings: Vec<Row<'a>>,
}

impl<'a> Document<'a> {
    /// Of all settings, secrets masked.
    pub(crate) fn of(loaded: &'a Loaded) -> Self {
        Self { file: loaded.file.as_deref(), settings: loaded.settings.iter().map(Row::new).collect() }
    }
}

#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    value: Value,
    source: Origin<'a>,
    /// For a list: where each key of each entry was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<Vec<Map<String, Value>>>,
    over: Vec<Origin<'a>>,
    default: Value,
}

impl<'a> Row<'a> {
    fn new(setting: &'a Setting) -> Self {
        let Key { path, form, default, .. } = setting.key;
        let is_list = setting.key.is_list();
        let default = match is_list {
            true => entries_json(&default_entries(&setting.key)),
            false if form == Form::List && default.is_empty() => Value::Array(Vec::new()),
            false => json_value(form, &[default.to_owned()]),
        };
        Self {
            key: path,
            value: if is_list { entries_json(&setting.entries) } else { json_value(form, &setting.items) },
            source: Origin::new(&setting.source),
            sources: is_list.then(|| setting.entries.iter().map(|entry| origins(entry)).collect()),
            over: setting.over.iter().map(Origin::new).collect(),
            default,
        }
    }
}

fn entries_json(entries: &[Vec<EntrySetting>]) -> Value {
    let key =
        |setting: &EntrySetting| (setting.key.path.to_owned(), json_value(setting.key.form, &setting.items));
    entries.iter().map(|entry| Value::Object(entry.iter().map(key).collect())).collect()
}

fn origins(entry: &[EntrySetting]) -> Map<String, Value> {
    let origin = |setting: &EntrySetting| {
        let origin = serde_json::to_value(Origin::new(&setting.source));
        (setting.key.path.to_owned(), origin.expect("texts and numbers always serialize"))
    };
    entry.iter().map(origin).collect()
}

#[derive(Serialize)]
#[serde(tag = "layer", rename_all = "lowercase")]
enum Origin<'a> {
    Default,
    File { file: &'a str, line: usize, column: usize },
    Env { name: &'a str },
    Flag { name: &'a str },
}

impl<'a> Origin<'a> {
    fn new(source: &'a Source) -> Self {
        match source {
            Source::Default => Self::Default,
            Source::File { file, line, column } => Self::File { file, line: *line, column: *column },
            Source::Env(name) => Self::Env { name },
            Source::Flag(name) => Self::Flag { name },
        }
    }
}

fn json_value(form: Form, items: &[String]) -> Value {
    let text = items.concat();
    match form {
        Form::Bool => (text == "true").into(),
        Form::Number => text.replace('_', "").parse::<u64>().map_or_else(|_| text.into(), Into::into),
        Form::Word | Form::Quoted | Form::Blocks => text.into(),
        Form::List => items.into(),
    }
}
