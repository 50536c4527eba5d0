//! The web chat: its types by `tsc`, then `e2e/browser/` in a real Chromium against the release binary.
//!
//! And what chose its technique, `e2e/frontends/`, once and at full speed, so that it can be measured again any time.

use anyhow::Result;

use super::{node, release};
use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::{Log, minutes};

/// Runs the suite.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let log = Log::new(ctx, "browser")?;
    let folder = ctx.root.join("e2e/browser");
    let chromium = packages::chromium().ensure(ctx)?;
    let redis = packages::redis().ensure(ctx)?;
    node::install(ctx, &folder, &log)?;
    log.run(ctx.command("npm").current_dir(&folder).args(["run", "--silent", "check"]), minutes(5))?;
    let mut suite = ctx.command("npm");
    suite
        .current_dir(&folder)
        .args(["test", "--silent"])
        .env("OUTSPOKE_BIN", release::build(ctx)?)
        .env("CHROMIUM", &chromium)
        .env("REDIS_SERVER", redis);
    let notes = node::count(&log, &mut suite, tally)?;
    let folder = ctx.root.join("e2e/frontends");
    node::install(ctx, &folder, &log)?;
    let mut smoke = ctx.command("npm");
    smoke.current_dir(&folder).args(["run", "--silent", "smoke"]).env("CHROMIUM", chromium);
    node::count(&log, smoke.env("FRONTENDS_WORK", ctx.target.join("frontends")), tally)?;
    Ok(notes)
}
