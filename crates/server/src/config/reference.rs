//! The shipped `config.yaml` and the reference page, written from the table of settings.
//!
//! Both files are committed, and a test compares them with what is written here, so neither can drift from the code.

use std::fmt::Write as _;

use super::kind::{Form, Kind as _, Time};
use super::layers::variable_name;
use super::table::{Key, SectionInfo, paragraphs};
use super::{sections, show};

/// Widest comment line in `config.yaml`.
const COMMENT_WIDTH: usize = 98;

const YAML_HEAD: &str = "\
# Outspoke's settings, each with its default. Delete what you do not change.
#
# Environment variables override this file (OUTSPOKE_SERVER__ADDR for server.addr, PORT for its
# port), and flags override both (--addr, --set server.addr=:9000). `outspoke config show` prints
# where each value came from; `outspoke config check FILE` looks a file over.
# Durations: 500ms, 54s, 1m30s, 2h. Sizes: 512, 64KiB, 1MiB.
";

/// The shipped `config.yaml`: every setting at its default, with comments.
pub fn config_yaml() -> String {
    let mut out = YAML_HEAD.to_owned();
    for section in sections() {
        let names: Vec<&str> = section.path.split('.').collect();
        let outer = "  ".repeat(names.len() - 1);
        out.push('\n');
        comment(&mut out, &outer, &paragraphs(section.doc).join(" "));
        let _ = writeln!(out, "{outer}{}:", names[names.len() - 1]);
        for (i, key) in section.keys.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            yaml_key(&mut out, &"  ".repeat(names.len()), key);
        }
    }
    out
}

fn yaml_key(out: &mut String, indent: &str, key: &Key) {
    for text in paragraphs(key.doc) {
        comment(out, indent, &text);
    }
    let facts = facts(key);
    if !facts.is_empty() {
        comment(out, indent, &facts.join(" "));
    }
    let leaf = key.path.rsplit('.').next().unwrap_or(key.path);
    let _ = writeln!(out, "{indent}{leaf}: {}", show::value(key.form, &default_items(key)));
}

fn default_items(key: &Key) -> Vec<String> {
    match key.form {
        Form::List => key.default.split(',').map(str::to_owned).collect(),
        _ => vec![key.default.to_owned()],
    }
}

/// Range, zero and limit as sentences.
fn facts(key: &Key) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some((min, max)) = key.range {
        let unit = key.unit.map(|unit| format!(" {unit}")).unwrap_or_default();
        facts.push(format!("From {min} to {max}{unit}."));
    }
    facts.extend(key.zero.map(|zero| format!("0: {zero}.")));
    facts.extend(key.at_limit.map(|limit| format!("{}: {limit}.", limit_word(key))));
    facts
}

/// A time-out passes, a bound is reached.
fn limit_word(key: &Key) -> &'static str {
    if key.kind == Time::NAME { "After that" } else { "At the limit" }
}

fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = format!("{indent}#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COMMENT_WIDTH {
            let _ = writeln!(out, "{line}");
            line = format!("{indent}#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(out, "{line}");
}

/// The generated part of `docs/operating/configuration.md`.
pub fn markdown() -> String {
    let mut out = String::new();
    for section in sections() {
        section_markdown(&mut out, &section);
    }
    out
}

fn section_markdown(out: &mut String, section: &SectionInfo) {
    let _ = write!(out, "### `{}`\n\n{}\n", section.path, paragraphs(section.doc).join("\n\n"));
    for key in &section.keys {
        let _ = write!(out, "\n#### `{}`\n\n{}\n\n", key.path, paragraphs(key.doc).join("\n\n"));
        let _ = writeln!(out, "| | |\n| --- | --- |");
        let mut row = |name: &str, text: &str| {
            let _ = writeln!(out, "| {name} | {text} |");
        };
        let unit = key.unit.map(|unit| format!(", in {unit}")).unwrap_or_default();
        match key.range {
            Some(_) => row("Type", &format!("{}{unit}", key.kind)),
            None => row("Type", &format!("{}: {}", key.kind, key.accepts)),
        }
        row("Default", &format!("`{}`", show::value(key.form, &default_items(key))));
        if let Some((min, max)) = key.range {
            row("Range", &format!("`{min}` to `{max}`"));
        }
        if let Some(zero) = zero_row(key) {
            row("Zero", &zero);
        }
        if let Some(limit) = key.at_limit {
            row(limit_word(key), limit);
        }
        row("Variable", &format!("`{}`", variable_name(key.path)));
    }
    out.push('\n');
}

/// Says "not accepted" where a range excludes zero and nothing gives it a meaning.
fn zero_row(key: &Key) -> Option<String> {
    match (key.zero, key.range) {
        (Some(zero), _) => Some(zero.to_owned()),
        (None, Some(_)) => Some("not accepted".to_owned()),
        (None, None) => None,
    }
}
