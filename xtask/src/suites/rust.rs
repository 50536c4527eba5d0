//! Rust tests: `cargo test`, counted; optionally built so that they note which lines they reach.
//!
//! The measured build leaves its profiles and the list of its programs below `target/coverage/`, where
//! [`crate::checks::coverage`] reads them. This crate is tested apart from the others: its dependencies would otherwise
//! be able to switch on features in theirs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::runner;
use crate::step::{Log, minutes};
use crate::wrapper;

/// How long all the tests of one `cargo test` may take; far more than they need, far less than a CI machine would wait. A
/// program that hangs is ended long before (see [`crate::runner`]), so that the others still have their turn.
const TESTS_LIMIT: Duration = minutes(40);
/// Where a measured run leaves its profiles, below the target directory.
pub(crate) const COVERAGE_FOLDER: &str = "coverage";
/// The programs that wrote the profiles, one path a line, in that folder.
pub(crate) const OBJECTS_FILE: &str = "objects.txt";

/// The workspace's tests, or those whose names contain `filter`.
pub(super) fn run(ctx: &Context, tally: &mut Tally, filter: Option<&str>, measured: bool) -> Result<Notes> {
    // The tests of stores and buses run against the real ones, and the shipped configurations of load balancers with these.
    let services = [
        packages::postgres(),
        packages::redis(),
        packages::etcd(),
        packages::nats(),
        packages::nginx(),
        packages::haproxy(),
        packages::iproute(),
    ];
    // The quick starts run as their readers run them.
    for need in services.into_iter().chain(packages::languages()).chain([packages::npm()]) {
        need.ensure(ctx)?;
    }
    let workspace = ["--workspace", "--exclude=xtask"];
    let programs = build(ctx, &workspace, measured)?;
    if measured {
        note_programs(ctx, &programs)?;
    }
    let mut test = test_command(ctx, &workspace, measured)?;
    runner::limit(ctx, &mut test)?;
    test.arg("--no-fail-fast").args(filter.map(|filter| ["--", filter]).iter().flatten());
    let notes = count(&Log::new(ctx, "rust")?, &mut test, tally)?;
    match filter {
        Some(filter) if *tally == Tally::default() => bail!("no Rust test has `{filter}` in its name"),
        _ => Ok(notes),
    }
}

/// The tests of this crate, which hold the house rules.
pub(super) fn repository(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let log = Log::new(ctx, "repository")?;
    count(&log, ctx.cargo("test").args(["--package=xtask", "--no-fail-fast"]), tally)
}

/// Runs a `cargo test` and adds its counts.
pub(super) fn count(log: &Log, test: &mut Command, tally: &mut Tally) -> Result<Notes> {
    let ended = log.try_run(test, TESTS_LIMIT)?;
    let results: Vec<Tally> = ended.output.lines().filter_map(test_result).collect();
    results.iter().for_each(|&result| tally.add(result));
    if ended.success() {
        return Ok(Notes::new());
    }
    let said = failures(&ended.output);
    let said = if said.is_empty() { log.tail() } else { said.join("\n") };
    bail!("{said}\n`cargo test`: {}; all of it is in {}", ended.how(), log.shown().display())
}

fn test_command(ctx: &Context, packages: &[&str], measured: bool) -> Result<Command> {
    let mut test = ctx.cargo("test");
    test.args(packages);
    if measured {
        wrapper::instrument(&mut test)?;
        // One file per program, in which all its runs count: tests start the server hundreds of times, and kill it.
        test.env("LLVM_PROFILE_FILE", ctx.target.join(COVERAGE_FOLDER).join("%m%c.profraw"));
    }
    Ok(test)
}

/// Builds the test programs and what they start, and returns their paths.
fn build(ctx: &Context, packages: &[&str], measured: bool) -> Result<Vec<String>> {
    let mut build = test_command(ctx, packages, measured)?;
    build.args(["--no-run", "--message-format=json-render-diagnostics"]);
    let output = Log::new(ctx, "rust-build")?.run(&mut build, minutes(30))?;
    Ok(output.lines().filter_map(executable).collect())
}

/// Empties the folder for the profiles and writes the list of programs there.
fn note_programs(ctx: &Context, programs: &[String]) -> Result<()> {
    let folder = ctx.target.join(COVERAGE_FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(OBJECTS_FILE), programs.join("\n")).context("cannot write the list of programs")
}

/// The program that one line of cargo's JSON messages announces.
fn executable(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let message: Message = serde_json::from_str(line).ok()?;
    message.executable.map(|path| path.display().to_string())
}

/// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; ...`.
fn test_result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut tally = Tally::default();
    for part in counts.split("; ") {
        match part.split_once(' ') {
            Some((count, "passed")) => tally.passed = count.parse().ok()?,
            Some((count, "failed")) => tally.failed = count.parse().ok()?,
            Some((count, "ignored")) => tally.skipped = count.parse().ok()?,
            _ => {}
        }
    }
    Some(tally)
}

/// What the failed tests said, without their backtraces; and which test program or test did not come to its end.
fn failures(output: &str) -> Vec<&str> {
    let mut said = Vec::new();
    let mut telling = false;
    for line in output.lines() {
        let begins = line.starts_with("---- ") && line.ends_with(" ----");
        let ends = line == "failures:" || line == "stack backtrace:";
        telling = begins || (telling && !ends);
        let stuck =
            line.contains(" has been running for over ") || line.contains("process didn't exit successfully");
        said.extend((stuck || (telling && !line.is_empty())).then_some(line));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_what_tests_said_without_backtraces() {
        let output = "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\n\nthread panicked: 1 != 2\n\
            stack backtrace:\n   0: core\n\n---- b stdout ----\nno\n\nfailures:\n    a\n    b\n";
        let said = ["---- a stdout ----", "thread panicked: 1 != 2", "---- b stdout ----", "no"];
        assert_eq!(failures(output), said);
    }

    #[test]
    fn test_result_of_cargo_is_counted() {
        let line = "test result: FAILED. 7 passed; 2 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";
        assert_eq!(test_result(line), Some(Tally { passed: 7, failed: 2, skipped: 1 }));
        assert_eq!(test_result("test hub_broadcast_reaches_all ... ok"), None);
    }
}
