//! The checks that are not tests: what `cargo xtask check` runs.
//!
//! Each holds or does not. Dependencies are compiled once for clippy and the documentation together.

mod api;
mod coverage;
mod deny;
pub(crate) mod fuzz;
mod typos;

use std::process::Command;

use anyhow::{Result, bail};

use crate::context::Context;
use crate::report::{Job, Notes};
use crate::step::{Log, minutes};

/// Every check, or the one named.
pub(crate) fn matching(filter: Option<&str>) -> Result<Vec<Job>> {
    let mut jobs = all();
    if let Some(filter) = filter {
        let names: Vec<_> = jobs.iter().map(|job| job.name).collect();
        jobs.retain(|job| job.name == filter);
        if jobs.is_empty() {
            bail!("no check is called `{filter}`; there are {}", names.join(", "));
        }
    }
    Ok(jobs)
}

/// Every check.
pub(crate) fn all() -> Vec<Job> {
    vec![
        Job::check("fmt", fmt),
        Job::check("clippy", clippy).built_by(clippy_command),
        Job::check("docs", docs).built_by(docs_command),
        api(),
        Job::check("deny", deny::run),
        Job::check("typos", typos::run),
        Job::tests("fuzz", |ctx, tally| fuzz::run(ctx, tally, fuzz::SMOKE_SECONDS, None))
            .built_by(fuzz::command),
    ]
}

/// The public API is the recorded one.
pub(crate) fn api() -> Job {
    Job::check("api", api::run)
}

/// Records the public API.
pub(crate) use api::bless;

/// The Rust tests, run just before and measured, reached enough lines.
pub(crate) fn coverage() -> Job {
    Job::check("coverage", coverage::run)
}

fn fmt(ctx: &Context) -> Result<Notes> {
    let mut fmt = ctx.cargo("fmt");
    fmt.args(["--all", "--check"]);
    Log::new(ctx, "fmt")?.run(&mut fmt, minutes(5)).map(|_| Notes::new())
}

fn clippy(ctx: &Context) -> Result<Notes> {
    Log::new(ctx, "clippy")?.run(&mut clippy_command(ctx)?, minutes(30)).map(|_| Notes::new())
}

fn docs(ctx: &Context) -> Result<Notes> {
    Log::new(ctx, "docs")?.run(&mut docs_command(ctx)?, minutes(20)).map(|_| Notes::new())
}

#[expect(clippy::unnecessary_wraps, reason = "the builds of other jobs can fail to be put together")]
fn clippy_command(ctx: &Context) -> Result<Command> {
    let mut clippy = ctx.cargo("clippy");
    clippy.args(["--workspace", "--all-targets", "--keep-going", "--", "-Dwarnings"]);
    Ok(clippy)
}

#[expect(clippy::unnecessary_wraps, reason = "the builds of other jobs can fail to be put together")]
fn docs_command(ctx: &Context) -> Result<Command> {
    let mut doc = ctx.cargo("doc");
    doc.args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-Dwarnings");
    Ok(doc)
}
