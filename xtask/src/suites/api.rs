//! The HTTP API as its own description has it: schemathesis against the release binary.
//!
//! `e2e/api/run.py` installs schemathesis, runs it with all checks on, and counts. Without PyPI, or a copy that was installed
//! before, the suite fails and says so: nothing else compares description and server.

use anyhow::{Result, bail};

use super::release::{self, Server};
use crate::context::Context;
use crate::report::{Notes, Tally};
use crate::step::{Log, minutes};

const KEY: &str = "the-api-suites-own-key-0123456789";

/// What the cases need beyond the defaults: a key, tenants, and names as long as the description allows.
const SETTINGS: [&str; 5] = [
    "api.keys=the-api-suites-own-key-0123456789",
    "tenants.enabled=true",
    "limits.room_name_bytes_max=512",
    "limits.user_id_bytes_max=512",
    "heartbeat.ping_interval=0",
];

/// Runs every case.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let log = Log::new(ctx, "api")?;
    let server = Server::start(ctx, &release::build(ctx)?, &SETTINGS)?;
    let mut command = ctx.command("python3");
    command.args(["e2e/api/run.py", &server.address, "--key", KEY]);
    command.arg("--cache").arg(ctx.target.join("schemathesis"));
    let ended = log.try_run(&mut command, minutes(15))?;
    tally.add(ended.output.lines().rev().find_map(Tally::parse).unwrap_or_default());
    if !ended.success() {
        bail!("{}\n{}; all of it is in {}", log.tail(), ended.how(), log.shown().display());
    }
    Ok(Notes::new())
}
