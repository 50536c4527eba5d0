//! The shipped `config.yaml` and the reference page, written from the table of settings.
//!
//! Both files are committed, and a test compares them with what is written here, so neither can drift from the code.

use std::fmt::Write as _;

use super::blocks::built_in;
use super::effect::effect;
use super::entry::shown_entry;
use super::kind::{Form, Kind as _, Time};
use super::layers::variable_name;
use super::table::{Absent, Key, SectionInfo, paragraphs};
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
        let names: Vec<&str> = section.path.split('.').filter(|name| !name.is_empty()).collect();
        out.push('\n');
        if let Some((name, outer)) = names.split_last() {
            let outer = "  ".repeat(outer.len());
            comment(&mut out, &outer, &paragraphs(section.doc).join(" "));
            let _ = writeln!(out, "{outer}{name}:");
        }
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
    let leaf = key.path.rsplit('.').next().unwrap_or(key.path);
    if key.is_list() {
        return yaml_list(out, indent, leaf, key);
    }
    let facts = facts(key);
    if !facts.is_empty() {
        comment(out, indent, &facts.join(" "));
    }
    let _ = writeln!(out, "{indent}{leaf}: {}", show::value(key.form, &default_items(key)));
}

/// The keys of an entry as a comment, an example if the default is empty, then the default.
fn yaml_list(out: &mut String, indent: &str, leaf: &str, list: &Key) {
    comment(out, indent, "Keys of an entry:");
    for key in list.entry.iter().filter(|key| inherited_from(key).is_none()) {
        let first = format!("{indent}#   {}: ", key.path);
        hanging(out, &first, &format!("{indent}#     "), &sentences(key));
    }
    for (section, names) in inherited(list) {
        let about = format!("{}: as in {section}, unless given.", names.join(", "));
        hanging(out, &format!("{indent}#   "), &format!("{indent}#     "), &about);
    }
    if let Some(example) = list.example {
        comment(out, indent, "For example:");
        for written in built_in(list, example).iter().flatten() {
            for line in show::entry_lines(&format!("{indent}#   "), &shown_entry(list, written)) {
                let _ = writeln!(out, "{line}");
            }
        }
    }
    let entries = show::default_entries(list);
    if entries.is_empty() {
        let _ = writeln!(out, "{indent}{leaf}: []");
        return;
    }
    let _ = writeln!(out, "{indent}{leaf}:");
    for line in entries.iter().flat_map(|entry| show::entry_lines(&format!("{indent}  "), entry)) {
        let _ = writeln!(out, "{line}");
    }
}

/// What an entry's own key means, in one paragraph.
fn sentences(key: &Key) -> String {
    let mut parts = paragraphs(key.doc);
    parts.extend(facts(key));
    parts.push(without_it(key));
    parts.join(" ")
}

/// What an entry has that does not say it.
fn without_it(key: &Key) -> String {
    match key.absent {
        Absent::Required => "Required.".to_owned(),
        Absent::Default | Absent::Inherited(_) => {
            format!("Default {}.", show::value(key.form, &default_items(key)))
        }
    }
}

/// The section whose setting of the same name counts where an entry says nothing.
fn inherited_from(key: &Key) -> Option<&'static str> {
    match key.absent {
        Absent::Inherited(path) => path.rsplit_once('.').map(|(section, _)| section),
        Absent::Required | Absent::Default => None,
    }
}

/// The inherited keys of an entry by section, in the order of the table.
fn inherited(list: &Key) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for key in list.entry {
        let Some(section) = inherited_from(key) else { continue };
        match sections.iter_mut().find(|(known, _)| *known == section) {
            Some((_, names)) => names.push(key.path),
            None => sections.push((section, vec![key.path])),
        }
    }
    sections
}

fn default_items(key: &Key) -> Vec<String> {
    match key.form {
        Form::List if key.default.is_empty() => Vec::new(),
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
    let start = format!("{indent}# ");
    hanging(out, &start, &start, text);
}

/// Text in lines of bounded width, the first with a beginning of its own.
fn hanging(out: &mut String, first: &str, others: &str, text: &str) {
    let mut line = first.trim_end().to_owned();
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COMMENT_WIDTH {
            let _ = writeln!(out, "{line}");
            line = others.trim_end().to_owned();
            line.push_str(&" ".repeat(others.len() - others.trim_end().len() - 1));
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

/// The generated part of `docs/operating/limits.md`: one table of every setting that limits something.
pub fn limits_markdown() -> String {
    let mut out = String::from(
        "| Setting | What it limits | Default | Off | At the limit |\n| --- | --- | --- | --- | --- |\n",
    );
    for key in sections().into_iter().flat_map(|section| section.keys).filter(is_limit) {
        let default = show::value(key.form, &default_items(&key));
        let what = paragraphs(key.doc).into_iter().next().unwrap_or_default();
        let off = key.zero.map_or_else(|| "-".to_owned(), |zero| format!("0: {zero}"));
        let outcome = key.at_limit.unwrap_or("-");
        let _ = writeln!(out, "| `{}` | {what} | `{default}` | {off} | {outcome} |", key.path);
    }
    out
}

/// Whether a setting limits something: a size, a number or a time, with an outcome, or one whose name says so.
pub fn is_limit(key: &Key) -> bool {
    key.at_limit.is_some()
        || key.kind == super::settings::rate::RATE
        || ["_max", "_timeout", "_messages", "_age"].iter().any(|ending| key.path.ends_with(ending))
}

fn section_markdown(out: &mut String, section: &SectionInfo) {
    // What stands in no section has a heading of its own kind.
    let (title, doc) = match (section.path, section.keys.first()) {
        ("", Some(key)) => (key.path, key.doc),
        (path, _) => (path, section.doc),
    };
    let _ = write!(out, "### `{title}`\n\n{}\n", paragraphs(doc).join("\n\n"));
    for key in &section.keys {
        match section.path {
            "" => out.push('\n'),
            _ => {
                let _ = write!(out, "\n#### `{}`\n\n{}\n\n", key.path, paragraphs(key.doc).join("\n\n"));
            }
        }
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
        if let Some(former) = key.formerly {
            row("Old name", &format!("`{former}`"));
        }
        row("Counts", &effect(key.path).to_string());
        row("Variable", &format!("`{}`", variable_name(key.path)));
        if key.is_list() {
            entry_markdown(out, key);
        }
    }
    out.push('\n');
}

/// The keys of an entry as a table.
fn entry_markdown(out: &mut String, list: &Key) {
    let _ = writeln!(
        out,
        "\nKeys of an entry:\n\n| Key | Type | Without it | Meaning |\n| --- | --- | --- | --- |"
    );
    for key in list.entry {
        let without = match key.absent {
            Absent::Required => "required".to_owned(),
            Absent::Inherited(path) => format!("`{path}`"),
            Absent::Default => format!("`{}`", show::value(key.form, &default_items(key))),
        };
        let meaning = match key.absent {
            Absent::Inherited(_) => "as that setting, for this entry".to_owned(),
            _ => paragraphs(key.doc).into_iter().chain(facts(key)).collect::<Vec<_>>().join(" "),
        };
        let _ = writeln!(out, "| `{}` | {} | {without} | {meaning} |", key.path, key.kind);
    }
    if let Some(example) = list.example {
        let _ = writeln!(out, "\n```yaml");
        let (outer, leaf) = list.path.rsplit_once('.').map_or(("", list.path), |(outer, leaf)| (outer, leaf));
        let mut indent = String::new();
        for section in outer.split('.').filter(|section| !section.is_empty()) {
            let _ = writeln!(out, "{indent}{section}:");
            indent.push_str("  ");
        }
        let _ = writeln!(out, "{indent}{leaf}:");
        for written in built_in(list, example).iter().flatten() {
            for line in show::entry_lines(&format!("{indent}  "), &shown_entry(list, written)) {
                let _ = writeln!(out, "{line}");
            }
        }
        let _ = writeln!(out, "```");
    }
}

/// Says "not accepted" where a range excludes zero and nothing gives it a meaning.
fn zero_row(key: &Key) -> Option<String> {
    match (key.zero, key.range) {
        (Some(zero), _) => Some(zero.to_owned()),
        (None, Some(_)) => Some("not accepted".to_owned()),
        (None, None) => None,
    }
}
