//! The JavaScript client: its types by `tsc`, its size, the conformance suite, and `e2e/sdk/server` against the release
//! binary, in Node and in a real Chromium.

use anyhow::Result;

use super::{node, release};
use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::{Log, minutes};

/// Runs the suite.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let log = Log::new(ctx, "sdk")?;
    let folder = ctx.root.join("e2e/sdk");
    let chromium = packages::chromium().ensure(ctx)?;
    node::install(ctx, &folder, &log)?;
    log.run(ctx.command("npm").current_dir(&folder).args(["run", "--silent", "check"]), minutes(5))?;
    let mut suite = ctx.command("npm");
    suite
        .current_dir(&folder)
        .args(["test", "--silent"])
        .env("OUTSPOKE_BIN", release::build(ctx)?)
        .env("CHROMIUM", chromium);
    node::count(&log, &mut suite, tally)
}
