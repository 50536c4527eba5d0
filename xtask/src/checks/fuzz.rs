//! Fuzz targets, each for a while: a smoke test in CI, hours by hand.
//!
//! The flags are those of cargo-fuzz (libFuzzer's counters, the address sanitizer), given directly so that nothing has
//! to be installed. What a run finds new stays in `target/fuzz/corpus`, so later runs begin where it ended; an input that
//! breaks a target is kept in `target/fuzz/artifacts` and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::{Guard, Log, minutes};

/// How long each target runs in CI.
pub(crate) const SMOKE_SECONDS: u64 = 10;

/// As cargo-fuzz builds: coverage feedback with comparison tracing, and the address sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Zsanitizer=address";

/// Runs the targets whose names contain `only`, or all.
pub(crate) fn run(ctx: &Context, tally: &mut Tally, seconds: u64, only: Option<&str>) -> Result<Notes> {
    let mut targets = targets(ctx)?;
    targets.retain(|target| only.is_none_or(|part| target.contains(part)));
    ensure!(!targets.is_empty(), "no fuzz target below fuzz/fuzz_targets");
    let binaries = build(ctx)?;
    let limit = Duration::from_secs(seconds + 60);
    // Two at a time: a run is one thread.
    for pair in targets.chunks(2) {
        let mut running = Vec::new();
        for target in pair {
            running.push(start(ctx, target, &binaries, seconds)?);
        }
        for mut run in running {
            match run.guard.wait(limit)? {
                Some(status) if status.success() => tally.passed += 1,
                _ => {
                    tally.failed += 1;
                    println!("{}\nfuzz target `{}` failed", run.log.tail(), run.target);
                }
            }
        }
    }
    Ok(Notes::new())
}

struct Run {
    target: String,
    log: Log,
    guard: Guard,
}

fn targets(ctx: &Context) -> Result<Vec<String>> {
    let folder = ctx.root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in
        folder.read_dir().with_context(|| format!("cannot list {}", ctx.shorten(&folder).display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// Builds every target and returns the folder they are in.
fn build(ctx: &Context) -> Result<PathBuf> {
    packages::cxx().ensure(ctx)?;
    Log::new(ctx, "fuzz-build")?.run(&mut command(ctx)?, minutes(20))?;
    Ok(target(ctx).join(ctx.host()?).join("release"))
}

/// How the targets are built.
pub(crate) fn command(ctx: &Context) -> Result<Command> {
    let mut build = ctx.cargo("build");
    build
        .current_dir(ctx.root.join("fuzz"))
        // Named, so that the flags reach only the targets and not build scripts.
        .args(["--release", "--bins", "--target", &ctx.host()?])
        .env("CARGO_TARGET_DIR", target(ctx))
        .env("RUSTFLAGS", FLAGS)
        .env("RUSTC_BOOTSTRAP", "1");
    Ok(build)
}

/// A target directory of their own, for nothing that is built with these flags serves anybody else.
fn target(ctx: &Context) -> PathBuf {
    ctx.target.join("fuzz")
}

fn start(ctx: &Context, target: &str, binaries: &Path, seconds: u64) -> Result<Run> {
    let corpus = ctx.target.join("fuzz/corpus").join(target);
    let artifacts = ctx.target.join("fuzz/artifacts").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let program = binaries.join(target);
    if !program.is_file() {
        bail!("fuzz/fuzz_targets/{target}.rs is not a binary of fuzz/Cargo.toml");
    }
    let mut command: Command = ctx.command(program);
    command
        .arg(format!("-max_total_time={seconds}"))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .arg(&corpus);
    // Committed examples are read first.
    let seeds = ctx.root.join("fuzz/seeds").join(target);
    command.args(seeds.is_dir().then_some(seeds));
    let log = Log::new(ctx, &format!("fuzz-{target}"))?;
    let guard = log.spawn(&mut command)?;
    Ok(Run { target: target.to_owned(), log, guard })
}
