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
