//! RFC 6455 and RFC 7692 as the Autobahn test suite reads them: `e2e/autobahn/`, both roles.
//!
//! The suite needs Python 2.7. Where none is found this says so and counts no test; our own raw-byte cases, part of the
//! Rust tests, have run in any case.

use std::path::PathBuf;

use anyhow::Result;

use super::{node, release};
use crate::context::Context;
use crate::packages::find_program;
use crate::report::{Notes, Tally};
use crate::step::Log;

/// Runs the suite.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let Some(python) = python2() else {
        tally.skipped = 1;
        return Ok(vec![
            "conformance is skipped: the Autobahn suite needs Python 2.7, and there is none; \
             the raw-byte cases among the Rust tests ran instead"
                .to_owned(),
        ]);
    };
    let log = Log::new(ctx, "conformance")?;
    let mut suite = ctx.command("python3");
    suite
        .arg(ctx.root.join("e2e/autobahn/run.py"))
        .env("OUTSPOKE", release::build(ctx)?)
        .env("PYTHON2", python);
    node::count(&log, &mut suite, tally)
}

/// Python 2.7: in the path, or kept by pyenv.
fn python2() -> Option<PathBuf> {
    find_program("python2.7").or_else(|| {
        let versions = PathBuf::from(std::env::var_os("HOME")?).join(".pyenv/versions");
        let folders = versions.read_dir().ok()?;
        let mut found: Vec<_> =
            folders.filter_map(|entry| Some(entry.ok()?.path().join("bin/python2.7"))).collect();
        found.retain(|path| path.is_file());
        found.pop()
    })
}
