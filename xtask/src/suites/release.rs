//! The release binary, as users build it: what the suites that come in from outside talk to.

use std::path::PathBuf;

use anyhow::Result;

use crate::context::Context;
use crate::step::{Log, minutes};

/// Builds `outspoke` in release mode, at most once per change, and returns its path.
pub(super) fn build(ctx: &Context) -> Result<PathBuf> {
    let mut build = ctx.cargo("build");
    build.args(["--release", "--package=outspoke"]);
    Log::new(ctx, "release")?.run(&mut build, minutes(30))?;
    Ok(ctx.target.join("release/outspoke"))
}
