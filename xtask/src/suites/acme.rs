//! Certificates from an authority, on a real one (Pebble). Only by name: it is not in the standard binary, which would have to be
//! built a second time.

use anyhow::Result;

use super::rust::count;
use crate::context::Context;
use crate::packages;
use crate::report::{Notes, Tally};
use crate::step::Log;

/// Runs its tests.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    packages::pebble().ensure(ctx)?;
    let mut test = ctx.cargo("test");
    test.args(["--package=outspoke", "--features=acme", "--test=server", "--no-fail-fast", "--", "acme::"]);
    count(&Log::new(ctx, "acme")?, &mut test, tally)
}
