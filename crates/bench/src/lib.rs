//! The load generator behind `outspoke bench`.
//!
//! It drives a running server over real sockets from one thread with its own epoll loop, so that driver and
//! server can have a core each, and counts what a delivery costs, how late it is, and whether it came once and
//! in order. The server binary hands its arguments to [`run`]; nothing else of this crate is meant for others.
//!
//! Flow: `args` -> `scenario` (what is sent) -> `session` (connections made and joined) -> `net` (sockets)
//! -> `peer` and `stamp` (what arrived) -> `sequence` and `histogram` -> `report`. `bare` is the reference
//! server, `disk` the reference store, `compare` runs servers in turn and judges, `scale` runs several at the same time. `capacity`
//! opens no socket: it plans with what the others have measured.
//!
//! Never: code shared with the server under test. A mistake there must not be invisible here.

mod args;
mod bare;
mod capacity;
mod compare;
mod disk;
mod frame;
mod histogram;
mod net;
mod peer;
mod process;
mod report;
mod scale;
mod scenario;
mod sequence;
mod session;
mod stamp;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

pub use args::Args;
pub use bare::{Bare, BareOptions};
pub use report::Report;

use args::{BareServer, Command};

/// Does what the arguments say and prints the result.
///
/// The exit code says failure if anything was lost, repeated or out of order, if a connection ended that should
/// not, or if a comparison missed its bar.
///
/// # Errors
/// If the run could not be done: no server, a refusal, too few descriptors.
pub fn run(args: Args) -> Result<ExitCode> {
    match &args.command {
        Command::BareServer(args) => serve_bare(args).map(|()| ExitCode::SUCCESS),
        Command::Compare(args) => compare::run(args),
        Command::Scale(args) => scale::run(args).map(|()| ExitCode::SUCCESS),
        Command::Plan(args) => capacity::plan(args).map(|()| ExitCode::SUCCESS),
        Command::Storm(args) => capacity::storm(args).map(|()| ExitCode::SUCCESS),
        Command::Scenario(scenario) => {
            let report = scenario.measure().map_err(explained)?;
            print(&report, scenario.server().json).context("cannot print the report")?;
            Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

/// A server that limits rates is asked whether it keeps its limits, not how fast it is.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let text = format!("{error:#}");
    let limited = ["rate_limited", "close code 4005", "HTTP/1.1 429"].iter().any(|sign| text.contains(sign));
    match limited {
        true => error.context(
            "the server limits rates and this run is faster: start it with --set rate.enabled=false, or run slower",
        ),
        false => error,
    }
}

/// Does what the arguments say and returns the result instead of printing it; scenarios only.
///
/// # Errors
/// As [`run`]; also for commands that have no report.
pub fn measure(args: &Args) -> Result<Report> {
    match &args.command {
        Command::Scenario(scenario) => scenario.measure(),
        _ => bail!("this command has no report"),
    }
}

fn serve_bare(args: &BareServer) -> Result<()> {
    process::allow_all_connections();
    let mut server = Bare::bind(args.addr, BareOptions { frame_bytes: args.frame_bytes, batch: args.batch })?;
    writeln!(io::stdout().lock(), "listening on {}", server.local_addr()?)
        .context("cannot print the address")?;
    server.run()
}

fn print(report: &Report, json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(())
}
