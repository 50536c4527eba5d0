//! Outspoke's routine commands: the same on a laptop and in CI.
//!
//! `cargo xtask test` runs every test there is, `cargo xtask check` every other check, and `cargo xtask ci` both, as
//! `.ci/run` does. What a suite prints beyond its closing line goes to `target/ci-logs/`. Nothing here knows the
//! product's insides: it builds, starts, counts and reports.

// A command-line tool: standard output is where its answers go.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod ahead;
mod book;
mod by_hand;
mod checks;
mod context;
mod family;
mod packages;
mod report;
mod runner;
mod step;
mod suites;
mod tools;
mod wrapper;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::context::Context;
use crate::report::{Job, run_all};
use crate::step::minutes;

/// Outspoke's routine commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Runs every test: Rust, repository, loom, browser, conformance, api, testssl, prometheus, deploy.
    Test {
        /// A suite's name, or a part of the names of the Rust tests to run.
        filter: Option<String>,
        /// Measures which lines the Rust tests reach, and fails below the minimum.
        #[arg(long)]
        coverage: bool,
    },
    /// Runs every check that is not a test: fmt, clippy, docs, deny, api, fuzz, typos.
    Check {
        /// One check's name.
        filter: Option<String>,
    },
    /// Runs all tests (once, measured for coverage), then all checks.
    Ci {
        /// How many minutes all of it may take: a machine that is too slow says what it has not come to, and fails.
        #[arg(long, default_value_t = 85)]
        within: u64,
    },
    /// Runs the Rust tests measured for coverage.
    Coverage,
    /// Runs the loom models.
    Loom,
    /// Runs the browser suite.
    Browser,
    /// Runs the WebSocket conformance suite.
    Autobahn,
    /// Runs each fuzz target for a while.
    Fuzz {
        /// How long each target runs.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        /// Only the targets whose name contains this.
        target: Option<String>,
    },
    /// Compares the libraries' public API with the one recorded under `docs/api/`.
    Api {
        /// Records the public API as it is now.
        #[arg(long)]
        bless: bool,
    },
    /// Compares Outspoke with the bare loop and with Bun: `outspoke bench compare` with these arguments.
    Bench {
        /// As in `outspoke bench compare --help`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measures front-end techniques in Chromium: `e2e/frontends/measure.js` with these arguments.
    Frontends {
        /// As its head says.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Builds the documentation with mdBook.
    Book,
    /// Takes the README's pictures of the web chat.
    Screenshot,
    /// Lists what the suites need from the system and from registries, and whether it is there.
    Deps,
}

fn main() -> ExitCode {
    // The runner first: the compiler's role is in the environment of everything that cargo starts.
    if let Some(code) = runner::run_if_called_as_one().or_else(wrapper::run_if_called_as_one) {
        return code;
    }
    match run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything passed.
fn run(task: Task) -> Result<bool> {
    let ctx = Context::new()?;
    match task {
        Task::Test { filter, coverage } => Ok(run_all(&ctx, &suites::matching(filter.as_deref(), coverage))),
        Task::Check { filter } => Ok(run_all(&ctx, &checks::matching(filter.as_deref())?)),
        Task::Ci { within } => {
            step::end_within(minutes(within));
            let mut jobs = suites::matching(None, true);
            jobs.extend(checks::all());
            Ok(run_all(&ctx, &jobs))
        }
        Task::Coverage => Ok(run_all(&ctx, &[suites::rust(None, true), checks::coverage()])),
        Task::Loom => Ok(run_all(&ctx, &[suites::loom()])),
        Task::Browser => Ok(run_all(&ctx, &[suites::browser()])),
        Task::Autobahn => Ok(run_all(&ctx, &[suites::conformance()])),
        Task::Fuzz { seconds, target } => Ok(run_all(
            &ctx,
            &[Job::tests("fuzz", move |ctx, tally| {
                checks::fuzz::run(ctx, tally, seconds, target.as_deref())
            })],
        )),
        Task::Api { bless: true } => checks::bless(&ctx).map(|()| true),
        Task::Api { bless: false } => Ok(run_all(&ctx, &[checks::api()])),
        Task::Bench { args } => by_hand::bench(&ctx, &args),
        Task::Frontends { args } => by_hand::frontends(&ctx, &args),
        Task::Book => book::build(&ctx),
        Task::Screenshot => by_hand::screenshot(&ctx),
        Task::Deps => packages::list(&ctx).map(|()| true),
    }
}
