//! RFC 6455 and RFC 7692 as the Autobahn suite reads them: the server on its production path, then the codec's client role.
//!
//! `e2e/autobahn/run.py` compares with the committed results. The suite needs Python 2.7; where none is found that is said
//! and counted as skipped, and our own raw-byte cases, which are Rust tests, have run in any case.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::release::{self, Server};
use crate::context::Context;
use crate::report::{Notes, Tally};
use crate::step::{Log, minutes};

/// Cases in each direction, for the count of those that could not run.
const CASES: usize = 517;

/// What the cases need beyond the defaults: an endpoint that echoes, and room for messages of 16 MiB.
const SETTINGS: [&str; 4] = [
    "server.conformance_echo=true",
    "limits.message_bytes_max=64MiB",
    "limits.outbox_bytes_max=256MiB",
    "heartbeat.ping_interval=0",
];

/// Runs both roles.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let log = Log::new(ctx, "conformance")?;
    let server = Server::start(ctx, &release::build(ctx)?, &SETTINGS)?;
    let url = format!("ws://{}/conformance/echo", server.address);
    let mut notes = role(&log, tally, autobahn(ctx).args(["server", &url]))?;
    drop(server);
    notes.extend(role(
        &log,
        tally,
        autobahn(ctx).args(["client", "--"]).arg(echo(ctx)?).args(["client", "{url}"]),
    )?);
    Ok(notes)
}

fn autobahn(ctx: &Context) -> Command {
    let mut command = ctx.command("python3");
    command.arg("e2e/autobahn/run.py").arg("--cache").arg(ctx.target.join("autobahn"));
    command
}

/// Runs one role and adds its counts.
fn role(log: &Log, tally: &mut Tally, command: &mut Command) -> Result<Notes> {
    let ended = log.try_run(command, minutes(25))?;
    let skipped = ended.output.lines().find(|line| line.contains(": skipped, "));
    if let (true, Some(reason)) = (ended.success(), skipped) {
        tally.skipped += CASES;
        return Ok(vec![format!("{reason}; the raw-byte cases among the Rust tests ran instead")]);
    }
    tally.add(ended.output.lines().rev().find_map(Tally::parse).unwrap_or_default());
    if !ended.success() {
        bail!("{}\n{}; all of it is in {}", log.tail(), ended.how(), log.shown().display());
    }
    Ok(Notes::new())
}

/// The echo client that is driven by the suite's server.
fn echo(ctx: &Context) -> Result<PathBuf> {
    let mut build = ctx.cargo("build");
    build.args(["--release", "--package=outspoke-websocket", "--example=echo"]);
    Log::new(ctx, "echo")?.run(&mut build, minutes(15)).context("cannot build the echo client")?;
    Ok(ctx.target.join("release/examples/echo"))
}
