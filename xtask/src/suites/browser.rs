//! The web chat in a real browser: `e2e/browser/`, against the release binary.

use anyhow::Result;

use super::{node, release};
use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::Log;

/// Runs the suite.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let log = Log::new(ctx, "browser")?;
    let folder = ctx.root.join("e2e/browser");
    let chromium = packages::chromium().ensure(ctx)?;
    node::install(ctx, &folder, &log)?;
    let mut suite = ctx.command("npm");
    suite
        .current_dir(&folder)
        .args(["test", "--silent"])
        .env("OUTSPOKE_BIN", release::build(ctx)?)
        .env("CHROMIUM", chromium);
    node::count(&log, &mut suite, tally)
}
