//! The committed `config.yaml` and the reference page say what the code says.
//!
//! `UPDATE=1 cargo test -p outspoke --test config_generated` writes both anew.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use outspoke::config::{Config, FileChoice, Sources, load, reference, sections};

const MARK: &str =
    "<!-- Generated from the code: UPDATE=1 cargo test -p outspoke --test config_generated -->\n\n";

fn repository(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../..", path].iter().collect()
}

/// Compares, or writes if asked to.
fn hold(path: &str, wanted: &str) {
    let file = repository(path);
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(file, wanted).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    let differing = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let line = differing.unwrap_or_else(|| found.lines().count().min(wanted.lines().count())) + 1;
    assert!(
        found == wanted,
        "{path} lags behind the settings from line {line} on; run: \
         UPDATE=1 cargo test -p outspoke --test config_generated"
    );
}

#[test]
fn shipped_config_yaml_is_what_the_table_says() {
    hold("config.yaml", &reference::config_yaml());
}

#[test]
fn reference_page_is_what_the_table_says() {
    let path = "docs/operating/configuration.md";
    let page = fs::read_to_string(repository(path)).unwrap();
    let (prose, _) = page.split_once(MARK).expect("the page has the mark that begins its generated part");
    hold(path, &format!("{prose}{MARK}{}", reference::markdown()));
}

#[test]
fn page_of_limits_is_what_the_table_says() {
    let path = "docs/operating/limits.md";
    let page = fs::read_to_string(repository(path)).unwrap();
    let (prose, _) = page.split_once(MARK).expect("the page has the mark that begins its generated part");
    hold(path, &format!("{prose}{MARK}{}", reference::limits_markdown()));
}

/// What is reached one day must be told before: every limit says what happens then, and is in the one table of them.
#[test]
fn every_limit_says_what_happens_where_it_is_reached_and_is_in_the_table() {
    let table = reference::limits_markdown();
    let keys: Vec<_> = sections().into_iter().flat_map(|section| section.keys).collect();
    let limits: Vec<_> = keys.iter().filter(|key| reference::is_limit(key)).collect();
    assert!(limits.len() > 50, "{}", limits.len());
    let silent: Vec<_> = limits.iter().filter(|key| key.at_limit.is_none()).map(|key| key.path).collect();
    assert_eq!(silent, Vec::<&str>::new(), "these have no at_limit");
    for key in keys.iter().filter(|key| reference::is_limit(key)) {
        assert!(table.contains(&format!("| `{}` |", key.path)), "{}", key.path);
    }
}

/// The hub has limits of its own. Those that no setting changes are in the page's text, with what they are.
#[test]
fn every_limit_of_the_hub_is_in_the_page() {
    let page = fs::read_to_string(repository("docs/operating/limits.md")).unwrap();
    for source in ["crates/hub/src/config.rs", "crates/hub/src/quota.rs", "crates/hub/src/class.rs"] {
        let source = fs::read_to_string(repository(source)).unwrap();
        let fields = source
            .lines()
            .filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(": "))
            .map(|(name, _)| name);
        let limits: Vec<_> = fields
            .filter(|name| ["_max", "_timeout", "_per_second"].iter().any(|ending| name.ends_with(ending)))
            .collect();
        assert!(!limits.is_empty());
        for name in limits {
            // A field of the hub has the name that the setting has in its section, or is named in the text.
            let name = if name == "store_timeout" { "timeout" } else { name };
            assert!(page.contains(&format!(".{name}`")) || page.contains(&format!("`{name}`")), "{name}");
        }
    }
}

/// Whoever deletes the file, or any line of it, must not change what the server does.
#[test]
fn shipped_config_yaml_sets_every_key_to_its_default() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    fs::write(&file, reference::config_yaml()).unwrap();
    let loaded = load(&Sources { file: FileChoice::Named(file), ..Sources::default() }).unwrap();
    assert_eq!(loaded.config, Config::default());
    for setting in &loaded.settings {
        assert!(matches!(setting.source, outspoke::config::Source::File { .. }), "{}", setting.key.path);
    }
}

#[test]
fn every_setting_is_documented_and_named_by_the_rules() {
    for section in sections() {
        assert!(!section.doc.trim().is_empty(), "{}", section.path);
        for key in section.keys {
            let sentence = key.doc.trim();
            assert!(sentence.ends_with('.'), "{}: {sentence}", key.path);
            assert!(
                key.path.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.')),
                "{}",
                key.path
            );
        }
    }
}

#[test]
fn every_range_is_written_so_that_it_can_be_read_back() {
    for key in sections().into_iter().flat_map(|section| section.keys) {
        for bound in key.range.map(|(min, max)| [min, max]).into_iter().flatten() {
            let flag = outspoke::config::FlagValue {
                flag: "--set".into(),
                key: key.path.into(),
                value: bound.into(),
            };
            let sources = Sources { file: FileChoice::None, env: Vec::new(), flags: vec![flag] };
            let problems = load(&sources).map_or_else(|error| error.problems, |_| Vec::new());
            // A bound may clash with the default of another setting, but must itself be a good value.
            let bad = problems
                .iter()
                .any(|problem| matches!(problem.fault, outspoke::config::Fault::BadValue { .. }));
            assert!(!bad, "{}: {problems:?}", key.path);
        }
    }
}
