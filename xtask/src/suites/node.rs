//! Suites written for Node: installs their packages by their lock file, runs them, reads their closing line.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::{Log, minutes};

/// Installs exactly what the lock file of `folder` says.
pub(crate) fn install(ctx: &Context, folder: &Path, log: &Log) -> Result<()> {
    ensure!(folder.join("package-lock.json").is_file(), "no lock file in {}", ctx.shorten(folder).display());
    let mut npm = ctx.command(packages::npm().ensure(ctx)?);
    npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    log.run(&mut npm, minutes(10)).map(drop)
}

/// Runs a suite whose output closes with a line of counts.
pub(super) fn count(log: &Log, suite: &mut Command, tally: &mut Tally) -> Result<Notes> {
    let ended = log.try_run(suite, minutes(15))?;
    let counted = ended.output.lines().rev().find_map(Tally::parse);
    tally.add(counted.unwrap_or_default());
    if !ended.success() {
        bail!("{}\n{}; all of it is in {}", log.tail(), ended.how(), log.shown().display());
    }
    counted.context("the suite did not say how many tests passed").map(|_| Notes::new())
}
