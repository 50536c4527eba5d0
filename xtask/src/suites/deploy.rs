//! What brings the server onto machines: chart, manifests, image, unit, packages, workflows.
//!
//! `e2e/deploy/run.py` installs linters and Kubernetes' schemas, builds Helm's and Kustomize's engines, and counts. What they
//! cannot know, whether a setting exists, it asks the release binary.

use anyhow::{Result, bail};

use super::release;
use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::{Log, minutes};

/// Runs every case.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    for need in packages::deploy() {
        need.ensure(ctx)?;
    }
    let log = Log::new(ctx, "deploy")?;
    let mut command = ctx.command("python3");
    command.arg("e2e/deploy/run.py").arg("--binary").arg(release::build(ctx)?);
    command.arg("--cache").arg(ctx.target.join("deploy"));
    let ended = log.try_run(&mut command, minutes(15))?;
    tally.add(ended.output.lines().rev().find_map(Tally::parse).unwrap_or_default());
    if !ended.success() {
        bail!("{}\n{}; all of it is in {}", log.tail(), ended.how(), log.shown().display());
    }
    Ok(Notes::new())
}
