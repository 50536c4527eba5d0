//! Loom models: what threads share in the hub, in every order they can meet in.
//!
//! `--cfg loom` swaps the primitives under the hub's code. Only the hub is compiled with it, and only its `tests/loom_*.rs`
//! are built; debug assertions are on, which state the invariants that a model is there to break.

use std::process::Command;

use anyhow::{Result, ensure};

use super::rust::count;
use crate::context::Context;
use crate::report::{Notes, Tally};
use crate::step::Log;
use crate::wrapper;

/// Runs every model.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    count(&Log::new(ctx, "loom")?, test(ctx)?.arg("--no-fail-fast"), tally)
}

/// How the models are built.
pub(super) fn build(ctx: &Context) -> Result<Command> {
    let mut build = test(ctx)?;
    build.arg("--no-run");
    Ok(build)
}

fn test(ctx: &Context) -> Result<Command> {
    let models = models(ctx)?;
    ensure!(!models.is_empty(), "no loom model under crates/hub/tests");
    let mut test = ctx.cargo("test");
    // As the other Rust tests are built, so that dependencies have the same features and are there already.
    test.args(["--workspace", "--exclude=xtask"]);
    test.args(models.iter().map(|model| format!("--test={model}")));
    wrapper::model(&mut test, "outspoke-hub")?;
    Ok(test)
}

/// The names of the test files that hold models.
fn models(ctx: &Context) -> Result<Vec<String>> {
    let folder = ctx.root.join("crates/hub/tests");
    let mut names = Vec::new();
    for entry in folder.read_dir().into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").filter(|stem| stem.starts_with("loom_")).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
