//! How many lines of the product the Rust tests reach, from the profiles that the measured run left behind.
//!
//! Counts the sources of the product's crates: not the tests' own files, the test kit, the examples or this crate.
//! Programs that a test starts count too, also those it kills.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::context::Context;
use crate::packages;
use crate::report::Notes;
use crate::step::{Log, minutes};
use crate::suites::{COVERAGE_FOLDER, OBJECTS_FILE};

/// The share of lines that tests must reach, in percent.
const MINIMUM: f64 = 85.0;
/// The folders under `crates/` that are the product.
const PRODUCT: [&str; 10] =
    ["auth", "bench", "bus", "files", "hub", "protocol", "server", "store", "web", "websocket"];

/// Lines, and those of them that ran.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
struct Lines {
    count: u64,
    covered: u64,
}

impl Lines {
    fn percent(self) -> f64 {
        if self.count == 0 {
            return 100.0;
        }
        // Line counts are far below the 2^52 that an f64 holds exactly.
        self.covered as f64 * 100.0 / self.count as f64
    }
}

/// Merges the profiles, counts, and compares with the minimum.
pub(super) fn run(ctx: &Context) -> Result<Notes> {
    let log = Log::new(ctx, "coverage")?;
    let profile = merge(ctx, &log)?;
    let files = count(ctx, &profile, &log)?;
    let crates = per_crate(ctx, &files);
    let total = crates.values().fold(Lines::default(), |sum, lines| Lines {
        count: sum.count + lines.count,
        covered: sum.covered + lines.covered,
    });
    let each: Vec<_> =
        crates.iter().map(|(name, lines)| format!("{name} {:.1} %", lines.percent())).collect();
    let found = format!(
        "tests reach {:.1} % of {} lines (minimum {MINIMUM} %): {}; each file in {}",
        total.percent(),
        total.count,
        each.join(", "),
        log.shown().display()
    );
    ensure!(total.percent() >= MINIMUM, found);
    Ok(vec![found])
}

fn merge(ctx: &Context, log: &Log) -> Result<PathBuf> {
    let folder = ctx.target.join(COVERAGE_FOLDER);
    let mut profiles = Vec::new();
    for entry in fs::read_dir(&folder).context("the measured Rust tests have not run")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "profraw") {
            profiles.push(path);
        }
    }
    ensure!(!profiles.is_empty(), "the measured Rust tests left no profile");
    let merged = folder.join("merged.profdata");
    let mut merge = ctx.command(packages::llvm(ctx, "llvm-profdata")?.ensure(ctx)?);
    // A program killed in its first moment leaves half a profile: the others still count.
    merge.args(["merge", "--sparse", "--failure-mode=all", "--output"]).arg(&merged).args(profiles);
    log.run(&mut merge, minutes(10))?;
    Ok(merged)
}

#[derive(Deserialize)]
struct Export {
    data: Vec<ExportData>,
}

#[derive(Deserialize)]
struct ExportData {
    files: Vec<FileSummary>,
}

#[derive(Deserialize)]
struct FileSummary {
    filename: PathBuf,
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    lines: Lines,
}

/// Lines per source file of the product.
fn count(ctx: &Context, profile: &Path, log: &Log) -> Result<Vec<(PathBuf, Lines)>> {
    let tool = packages::llvm(ctx, "llvm-cov")?.ensure(ctx)?;
    let objects = fs::read_to_string(ctx.target.join(COVERAGE_FOLDER).join(OBJECTS_FILE))?;
    let mut args = vec![OsString::from("--instr-profile"), profile.into()];
    args.extend(objects.lines().flat_map(|object| ["--object".into(), object.into()]));

    let mut report = Command::new(&tool);
    report
        .arg("report")
        .args(&args)
        .args(["--ignore-filename-regex", "/\\.cargo/|/rustc/|/xtask/|/testkit/"]);
    log.run(&mut report, minutes(10))?;

    let json = crate::context::stdout_of(Command::new(&tool).args(["export", "--summary-only"]).args(&args))?;
    let export: Export = serde_json::from_str(&json).context("cannot read what llvm-cov exports")?;
    let files = export.data.into_iter().flat_map(|data| data.files);
    Ok(files.map(|file| (file.filename, file.summary.lines)).collect())
}

fn per_crate(ctx: &Context, files: &[(PathBuf, Lines)]) -> BTreeMap<&'static str, Lines> {
    let mut crates = BTreeMap::new();
    for (path, lines) in files {
        let product =
            PRODUCT.iter().find(|name| path.starts_with(ctx.root.join("crates").join(name).join("src")));
        if let (Some(&name), false) = (product, is_test_file(path)) {
            let sum: &mut Lines = crates.entry(name).or_default();
            sum.count += lines.count;
            sum.covered += lines.covered;
        }
    }
    crates
}

/// Whether a file below `src` holds nothing but tests.
fn is_test_file(path: &Path) -> bool {
    path.file_stem().is_some_and(|stem| stem == "tests")
        || path.components().any(|component| component.as_os_str() == "tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_of_test_files_is_not_counted() {
        assert!(is_test_file(Path::new("crates/hub/src/shard/tests.rs")));
        assert!(is_test_file(Path::new("crates/hub/src/tests/model.rs")));
        assert!(!is_test_file(Path::new("crates/hub/src/shard/fanout.rs")));
    }
}
