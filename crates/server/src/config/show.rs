//! Prints settings back: as YAML whose comments say where each value came from, or as JSON.
//!
//! The YAML is a valid configuration that gives the same settings. Secrets are masked before they get here.

use std::fmt::Write as _;

use serde::Serialize;

use super::kind::Form;
use super::{Loaded, Setting, Source};

/// The settings as YAML, each with its source as a comment.
pub fn yaml(loaded: &Loaded) -> String {
    let mut out = String::new();
    let lines: Vec<(Vec<String>, String, &Setting)> = loaded.settings.iter().map(line).collect();
    let width = lines.iter().map(|(_, text, _)| text.chars().count()).max().unwrap_or(0).min(48);
    let mut open: &[String] = &[];
    for (sections, text, setting) in &lines {
        open_sections(&mut out, open, sections);
        open = sections;
        let _ = writeln!(out, "{text:width$}  # {}", provenance(setting));
    }
    out
}

/// Sections, the indented `key: value`, and the setting.
fn line(setting: &Setting) -> (Vec<String>, String, &Setting) {
    let mut sections: Vec<String> = setting.key.path.split('.').map(str::to_owned).collect();
    let leaf = sections.pop().unwrap_or_default();
    let indent = "  ".repeat(sections.len());
    let text = format!("{indent}{leaf}: {}", value(setting.key.form, &setting.items));
    (sections, text, setting)
}

/// Writes the section lines that are not open yet.
pub(super) fn open_sections(out: &mut String, open: &[String], wanted: &[String]) {
    let common = open.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    for (depth, name) in wanted.iter().enumerate().skip(common) {
        let _ = writeln!(out, "{}{name}:", "  ".repeat(depth));
    }
}

/// A value in YAML.
pub(super) fn value(form: Form, items: &[String]) -> String {
    match form {
        Form::Bool | Form::Number | Form::Word => items.concat(),
        Form::Quoted => quoted(&items.concat()),
        Form::List => format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ")),
    }
}

/// JSON's string syntax is YAML's double-quoted style.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn provenance(setting: &Setting) -> String {
    if setting.source == Source::Default {
        return "default".to_owned();
    }
    let default = match setting.key.default {
        "" => "\"\"",
        default => default,
    };
    let over: String = setting.over.iter().map(|source| format!("over {source}, ")).collect();
    format!("{} ({over}default {default})", setting.source)
}

/// The settings as JSON.
pub fn json(loaded: &Loaded) -> String {
    #[derive(Serialize)]
    struct Document<'a> {
        file: Option<&'a str>,
        settings: Vec<Row<'a>>,
    }
    let document =
        Document { file: loaded.file.as_deref(), settings: loaded.settings.iter().map(Row::new).collect() };
    serde_json::to_string_pretty(&document).expect("strings, numbers and lists always serialize")
}

#[derive(Serialize)]
struct Row<'a> {
    key: &'a str,
    value: serde_json::Value,
    source: Origin<'a>,
    over: Vec<Origin<'a>>,
    default: serde_json::Value,
}

impl<'a> Row<'a> {
    fn new(setting: &'a Setting) -> Self {
        let form = setting.key.form;
        Self {
            key: setting.key.path,
            value: json_value(form, &setting.items),
            source: Origin::new(&setting.source),
            over: setting.over.iter().map(Origin::new).collect(),
            default: json_value(form, &[setting.key.default.to_owned()]),
        }
    }
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

fn json_value(form: Form, items: &[String]) -> serde_json::Value {
    let text = items.concat();
    match form {
        Form::Bool => (text == "true").into(),
        Form::Number => text.replace('_', "").parse::<u64>().map_or_else(|_| text.into(), Into::into),
        Form::Word | Form::Quoted => text.into(),
        Form::List => items.into(),
    }
}
