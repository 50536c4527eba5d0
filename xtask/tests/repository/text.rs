//! Rules for every text in the repository: module docs, words that must not appear, numbering, lock files.

use crate::tree::{assert_none, files, root};

/// A reader who opens a file learns first what it is for.
#[test]
fn every_module_opens_with_its_docs() {
    let rust = files().into_iter().filter(|file| file.path.ends_with(".rs"));
    let without = rust.filter(|file| !file.text().unwrap_or_default().starts_with("//! "));
    assert_none(&without.map(|file| file.path).collect::<Vec<_>>(), "files that do not begin with `//! `");
}

/// Clippy says so too, but not for the fuzz targets, which are a workspace of their own.
#[test]
fn nothing_is_left_to_do_in_code() {
    let macros = ["todo", "dbg", "unimplemented"].map(|name| format!("{name}!("));
    let mut findings = Vec::new();
    for file in files().into_iter().filter(|file| file.path.ends_with(".rs")) {
        let code = file.code();
        findings.extend(
            macros
                .iter()
                .filter(|found| code.contains(found.as_str()))
                .map(|found| format!("{}: {found}", file.path)),
        );
    }
    assert_none(&findings, "unfinished code");
}

/// Words that would tie the repository to one machine or one mirror. Put together here, so that this file has none.
fn banned() -> Vec<String> {
    let paths = ["work", "root", "home/user"].map(|folder| format!("/{folder}/"));
    let hosts = [("registry", "npmjs"), ("registry", "yarnpkg"), ("index", "crates"), ("static", "crates")]
        .map(|(host, domain)| format!("{host}.{domain}."));
    let python = format!("files.{}", "pythonhosted");
    paths.into_iter().chain(hosts).chain([python]).collect()
}

/// A path or a mirror of one machine works nowhere else.
#[test]
fn no_file_names_a_machine_or_a_registry_host() {
    let banned = banned();
    let mut findings = Vec::new();
    for file in files() {
        let Some(text) = file.text() else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = banned.iter().find(|word| line.contains(word.as_str())) {
                findings.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    assert_none(&findings, "words of one machine");
}

/// With an address in the lock file npm would ask that host, whatever registry the user configured.
#[test]
fn npm_lock_files_name_no_addresses() {
    let locks = files().into_iter().filter(|file| file.path.ends_with("package-lock.json"));
    let resolved = locks.filter(|file| file.text().unwrap_or_default().contains("\"resolved\""));
    assert_none(
        &resolved.map(|file| file.path).collect::<Vec<_>>(),
        "lock files with addresses; write them with `npm install --package-lock-only --omit-lockfile-registry-resolved`",
    );
}

/// Decisions are cited by number; a gap or a number used twice makes the citation useless.
#[test]
fn decisions_are_numbered_without_gaps() {
    let folder = root().join("docs/decisions");
    let mut names: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    names.sort();
    for (number, name) in names.iter().enumerate() {
        assert!(name.starts_with(&format!("{number:04}-")), "{name} should be number {number:04}");
        assert!(name.ends_with(".md"), "{name} is no page");
    }
    assert_eq!(names.first().map(String::as_str), Some("0000-template.md"));
}

/// Links between our own pages break silently when a file moves.
#[test]
fn links_between_pages_lead_somewhere() {
    let mut findings = Vec::new();
    for file in files().into_iter().filter(|file| file.path.ends_with(".md")) {
        let text = file.text().unwrap_or_default();
        let folder = root().join(&file.path).parent().unwrap().to_owned();
        for target in link_targets(&text) {
            if !folder.join(target).exists() {
                findings.push(format!("{}: {target}", file.path));
            }
        }
    }
    assert_none(&findings, "links to files that are not there");
}

/// A page that no other links to is found by nobody.
#[test]
fn every_page_of_the_documentation_is_linked_from_another() {
    let pages = || files().into_iter().filter(|file| file.path.ends_with(".md"));
    let mut linked = std::collections::BTreeSet::new();
    for file in pages() {
        let page = root().join(&file.path).canonicalize().unwrap();
        let text = file.text().unwrap_or_default();
        let targets = link_targets(&text)
            .into_iter()
            .filter_map(|target| page.parent().and_then(|folder| folder.join(target).canonicalize().ok()));
        linked.extend(targets.filter(|target| *target != page));
    }
    let numbered = |path: &str| path.starts_with("docs/decisions/0");
    let documentation =
        pages().map(|file| file.path).filter(|path| path.starts_with("docs/") && !numbered(path));
    let lost = documentation.filter(|path| {
        !linked.contains(&root().join(path).canonicalize().unwrap())
            && path != "docs/README.md"
            && path != "docs/SUMMARY.md"
    });
    assert_none(&lost.collect::<Vec<_>>(), "pages that nothing links to; docs/README.md is the map");
}

/// The relative files that a page links to.
fn link_targets(text: &str) -> Vec<&str> {
    let ends = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = ends.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|target| !target.is_empty() && !target.contains(':') && !target.contains(' ')).collect()
}

/// Blanks at line ends and missing newlines come back as noise in somebody else's diff.
#[test]
fn texts_end_with_a_newline_and_have_no_trailing_blanks() {
    let endings = [".rs", ".toml", ".md", ".yaml", ".yml", ".sh", ".js", ".py", ".css", ".html"];
    let mut findings = Vec::new();
    for file in files() {
        let Some(text) = file.text().filter(|_| endings.iter().any(|end| file.path.ends_with(end))) else {
            continue;
        };
        let blank_at_end = text.lines().any(|line| line.ends_with([' ', '\t', '\r']));
        if blank_at_end || !(text.is_empty() || text.ends_with('\n')) {
            findings.push(file.path);
        }
    }
    assert_none(&findings, "texts with blanks at line ends, or without a newline at the end");
}
