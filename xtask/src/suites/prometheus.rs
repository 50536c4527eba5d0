//! The dashboard and the alert rules: by Prometheus' own checker, then by a real Prometheus that scrapes a cluster under load.
//!
//! `e2e/prometheus/run.py` starts everything with the release binary, asks every query, and counts.

use anyhow::{Result, bail};

use super::release;
use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::{Log, minutes};

/// What `promtool` looks at, each one case.
const CHECKS: [[&str; 3]; 3] = [
    ["check", "config", "deploy/prometheus/prometheus.yml"],
    ["check", "rules", "deploy/prometheus/alerts.yml"],
    ["test", "rules", "deploy/prometheus/alerts_test.yml"],
];

/// Runs both.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let log = Log::new(ctx, "prometheus")?;
    packages::prometheus().ensure(ctx)?;
    let redis = packages::redis().ensure(ctx)?;
    for check in CHECKS {
        log.run(ctx.command("promtool").args(check), minutes(1))?;
        tally.add(Tally { passed: 1, ..Tally::default() });
    }
    let mut command = ctx.command("python3");
    command.args(["e2e/prometheus/run.py", "--outspoke"]).arg(release::build(ctx)?);
    command.arg("--redis").arg(redis).arg("--keep").arg(ctx.logs.join("prometheus"));
    let ended = log.try_run(&mut command, minutes(5))?;
    tally.add(ended.output.lines().rev().find_map(Tally::parse).unwrap_or_default());
    if !ended.success() {
        bail!("{}\n{}; all of it is in {}", log.tail(), ended.how(), log.shown().display());
    }
    Ok(Notes::new())
}
