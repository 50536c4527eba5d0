//! The repository's files, and Rust sources without what is only for tests or for readers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file that is in the repository, or is about to be.
pub(crate) struct File {
    /// Relative to the repository's root, with `/`.
    pub(crate) path: String,
    full: PathBuf,
}

impl File {
    /// The file's text; `None` for an image or another binary.
    pub(crate) fn text(&self) -> Option<String> {
        String::from_utf8(fs::read(&self.full).unwrap_or_default()).ok()
    }

    /// The product's part of a Rust source: no comments, no test module.
    pub(crate) fn code(&self) -> String {
        let text = self.text().unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let end = (0..lines.len()).find(|&at| opens_test_module(&lines[at..])).unwrap_or(lines.len());
        let code = lines[..end].iter().map(|line| line.split("//").next().unwrap_or_default());
        code.collect::<Vec<_>>().join("\n")
    }
}

/// Whether a module of tests begins here, other attributes between the two lines or not.
fn opens_test_module(lines: &[&str]) -> bool {
    let module = lines.iter().find(|line| !line.starts_with("#[")).copied().unwrap_or_default();
    lines[0] == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{')
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file that git knows or would add, in order.
pub(crate) fn files() -> Vec<File> {
    let listing = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listing.status.success(), "git cannot list the repository's files");
    let names = String::from_utf8(listing.stdout).unwrap();
    let mut paths: Vec<_> = names.split_terminator('\0').map(str::to_owned).collect();
    paths.sort();
    paths.dedup();
    let there = paths.into_iter().map(|path| File { full: root().join(&path), path });
    there.filter(|file| file.full.is_file()).collect()
}

/// The Rust sources below `folder`, without files that hold only tests.
pub(crate) fn sources(folder: &str) -> Vec<File> {
    let is_test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    let mut files = files();
    files.retain(|file| file.path.starts_with(folder) && file.path.ends_with(".rs") && !is_test(&file.path));
    assert!(!files.is_empty(), "no source below {folder}");
    files
}

/// Fails with every finding at once.
pub(crate) fn assert_none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n  {}\n", findings.join("\n  "));
}
