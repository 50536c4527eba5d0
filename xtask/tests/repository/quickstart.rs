//! The quick starts' pages show the very files that tests run.
//!
//! `UPDATE=1 cargo test -p xtask --test repository` writes the files into the pages.

use std::collections::BTreeSet;
use std::fs;

use crate::tree::{assert_none, files, root};

const PROGRAMS: &str = "examples/quickstart/";
const PAGES: &str = "docs/quickstart/";
const MARK: &str = "<!-- file: ";

/// A page with each marked code block as its file has it, and the files that it shows.
fn filled(page: &str) -> (String, Vec<String>) {
    let (mut text, mut shown) = (String::new(), Vec::new());
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text += &format!("{line}\n");
        let Some(name) = line.strip_prefix(MARK).and_then(|rest| rest.strip_suffix(" -->")) else { continue };
        let fence = lines.next().filter(|fence| fence.starts_with("```"));
        let fence = fence.unwrap_or_else(|| panic!("no code block behind `{line}`"));
        assert!(lines.any(|line| line == "```"), "the code block of {name} does not end");
        let program = fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        text += &format!("{fence}\n{program}```\n");
        shown.push(name.to_owned());
    }
    (text, shown)
}

/// What a reader copies must be what was tested.
#[test]
fn pages_of_the_quick_starts_show_the_files_that_tests_run() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut findings = Vec::new();
    let mut all_shown = BTreeSet::new();
    for file in files().into_iter().filter(|file| file.path.starts_with(PAGES)) {
        let page = file.text().unwrap();
        let (filled, shown) = filled(&page);
        all_shown.extend(shown);
        if filled == page {
            continue;
        }
        if update {
            fs::write(root().join(&file.path), filled).unwrap();
        } else {
            findings.push(file.path);
        }
    }
    assert_none(&findings, "pages that show something else; write them with UPDATE=1");
    let programs = files().into_iter().map(|file| file.path).filter(|path| path.starts_with(PROGRAMS));
    let is_shown = |path: &String| {
        let rest = &path[PROGRAMS.len()..];
        rest == "Cargo.toml" || rest.starts_with("tests/") || all_shown.contains(path)
    };
    assert_none(&programs.filter(|path| !is_shown(path)).collect::<Vec<_>>(), "programs that no page shows");
}

/// Every page can be found from the list of them.
#[test]
fn list_of_quick_starts_has_every_page() {
    let list = fs::read_to_string(root().join(PAGES).join("README.md")).unwrap();
    let pages = files().into_iter().filter_map(|file| Some(file.path.strip_prefix(PAGES)?.to_owned()));
    let missing = pages.filter(|page| page != "README.md" && !list.contains(&format!("({page})")));
    assert_none(&missing.collect::<Vec<_>>(), "quick starts that are not in the list");
}
