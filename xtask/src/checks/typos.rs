//! Spelling, by `typos.toml`.

use anyhow::Result;

use crate::context::Context;
use crate::report::Notes;
use crate::step::{Log, minutes};
use crate::tools;

/// Runs typos over what git tracks.
pub(super) fn run(ctx: &Context) -> Result<Notes> {
    let mut typos = ctx.command(tools::TYPOS.ensure(ctx)?);
    typos.args(["--format", "brief"]);
    Log::new(ctx, "typos")?.run(&mut typos, minutes(5)).map(|_| Notes::new())
}
