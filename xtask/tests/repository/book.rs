//! The documentation's order: `docs/README.md` is the map, `docs/SUMMARY.md` the same as a list, for mdBook and for the pages in the binary.
//!
//! `UPDATE=1 cargo test -p xtask --test repository book` writes the list.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use crate::tree::{assert_none, files, root};

const MAP: &str = "docs/README.md";
const LIST: &str = "docs/SUMMARY.md";

/// The list that follows from the map: its sections, and under each the pages that it links to, where they come first.
fn list() -> String {
    let map = fs::read_to_string(root().join(MAP)).unwrap();
    let mut list = "# Summary\n\n[Documentation](README.md)\n".to_owned();
    let mut seen = BTreeSet::from(["README.md".to_owned()]);
    for section in map.split("\n## ").skip(1) {
        let heading = section.lines().next().unwrap_or_default();
        let _ = writeln!(list, "\n# {}\n", heading.split(':').next().unwrap_or_default());
        for page in linked(section) {
            for page in [vec![page.clone()], below(&page)].concat() {
                if seen.insert(page.clone()) {
                    let _ = writeln!(list, "- [{}]({page})", title(&page));
                }
            }
        }
    }
    list
}

/// The pages below `docs/` that a text links to.
fn linked(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let targets = targets.map(|target| target.split('#').next().unwrap_or_default());
    targets.filter(|target| target.ends_with(".md") && !target.starts_with("..")).map(str::to_owned).collect()
}

/// Decisions are found from the list of them, in the order of their numbers.
fn below(page: &str) -> Vec<String> {
    if page != "decisions/README.md" {
        return Vec::new();
    }
    let all = files().into_iter().filter_map(|file| file.path.strip_prefix("docs/").map(str::to_owned));
    all.filter(|path| path.starts_with("decisions/0") && !path.ends_with("-template.md")).collect()
}

/// What a page calls itself.
fn title(page: &str) -> String {
    let text =
        fs::read_to_string(root().join("docs").join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let heading = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(page);
    heading.replace(['`', '[', ']'], "")
}

/// Whoever adds a page adds it to the map; the rest follows.
#[test]
fn book_has_the_pages_of_the_map_in_its_order() {
    let wanted = list();
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(root().join(LIST), wanted).unwrap();
    }
    let found = fs::read_to_string(root().join(LIST)).unwrap_or_default();
    assert!(
        found == wanted,
        "{LIST} lags behind {MAP}; run: UPDATE=1 cargo test -p xtask --test repository book"
    );
}

/// A page that is not in the map is in no list, and found by nobody.
#[test]
fn book_misses_no_page() {
    let list = list();
    let pages = files().into_iter().filter_map(|file| file.path.strip_prefix("docs/").map(str::to_owned));
    let pages =
        pages.filter(|page| page.ends_with(".md") && page != "SUMMARY.md" && !page.ends_with("-template.md"));
    let missing = pages.filter(|page| !list.contains(&format!("]({page})")));
    assert_none(&missing.collect::<Vec<_>>(), "pages to which docs/README.md does not link");
}
