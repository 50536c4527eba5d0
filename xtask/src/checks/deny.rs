//! Licences, banned crates and sources by `deny.toml`; known vulnerabilities where their database can be had.
//!
//! The first three need nothing but the lock file. The advisories live in a git repository that a machine may not reach:
//! then this says so, and that part alone is left out.

use anyhow::{Result, bail};

use crate::context::Context;
use crate::report::Notes;
use crate::step::{Log, minutes};
use crate::tools;

/// How cargo-deny begins its message when the database cannot be fetched.
const UNREACHABLE: &str = "failed to fetch advisory database";

/// Runs cargo-deny.
pub(super) fn run(ctx: &Context) -> Result<Notes> {
    let log = Log::new(ctx, "deny")?;
    let program = tools::CARGO_DENY.ensure(ctx)?;
    let check = |what: &[&str]| {
        let mut deny = ctx.command(&program);
        deny.args(["--workspace", "check", "--hide-inclusion-graph"]).args(what);
        deny
    };
    log.run(&mut check(&["licenses", "bans", "sources"]), minutes(5))?;

    let ended = log.try_run(&mut check(&["advisories"]), minutes(5))?;
    if ended.success() {
        return Ok(Notes::new());
    }
    if ended.output.contains(UNREACHABLE) {
        let note =
            "advisories were not checked: their database (RustSec/advisory-db) cannot be reached from here";
        return Ok(vec![note.to_owned()]);
    }
    bail!("{}", log.tail())
}
