//! Whatever `docs/security.md` names as the proof of a defence is there: each test by its name, each file by its path.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every source file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !["target", "node_modules", ".git"].contains(&name) {
            sources(&path, found);
        } else if ["rs", "ts", "mjs"].iter().any(|kind| path.extension().is_some_and(|known| known == *kind))
        {
            found.push(path);
        }
    }
}

/// Names of functions that are tests: the word after `fn ` in the lines behind an attribute that says so.
fn tests() -> HashSet<String> {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let mut names = HashSet::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs")) {
        let text = fs::read_to_string(file).unwrap();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            // Properties are functions inside of a macro, with the same attribute.
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                let function = lines.by_ref().find_map(|line| {
                    let (_, name) = line.split_once("fn ")?;
                    Some(name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?.to_owned())
                });
                names.extend(function);
            }
        }
    }
    names
}

/// What stands in code quotes in the third column of the tables.
fn references(page: &str) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.matches(" | ").count() >= 3);
    let cells = rows.filter_map(|row| row.split(" | ").nth(2));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_proof_that_the_threat_model_names_is_there() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (tests, references) = (tests(), references(&page));
    assert!(references.len() > 60, "the tables were not understood: {references:?}");
    let missing: Vec<_> = references
        .iter()
        .filter(|reference| match reference.contains(['/', '.']) {
            true => !root().join(reference).exists(),
            false => !tests.contains(*reference),
        })
        .collect();
    assert!(missing.is_empty(), "docs/security.md names what is not there: {missing:#?}");
}

/// A defence without a proof is a wish.
#[test]
fn every_row_of_the_threat_model_names_a_proof_and_what_is_not_defended() {
    let page = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let threats = page.split("\n## Threats").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = threats.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| threat"));
    let mut count = 0;
    for row in rows.filter(|row| !row.starts_with("| ---")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        assert!(cells[2].contains('`') || cells[2].contains("none yet"), "no proof: {row}");
        assert!(!cells[3].trim().is_empty(), "nothing is defended wholly: {row}");
        count += 1;
    }
    assert!(count >= 25, "{count}");
}
