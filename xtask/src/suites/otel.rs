//! Traces for OpenTelemetry, on a collector that decodes what it gets. Only by name: they are not in the standard binary, which
//! would have to be built a second time.

use anyhow::Result;

use super::rust::count;
use crate::context::Context;
use crate::report::{Notes, Tally};
use crate::step::Log;

/// Lints the feature, and runs its tests.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let log = Log::new(ctx, "otel")?;
    let mut clippy = ctx.cargo("clippy");
    clippy.args(["--package=outspoke", "--features=otel", "--all-targets", "--", "--deny=warnings"]);
    log.run(&mut clippy, crate::step::minutes(15))?;
    for target in ["--lib", "--test=server"] {
        let mut test = ctx.cargo("test");
        test.args(["--package=outspoke", "--features=otel", target, "--no-fail-fast", "--", "otel::"]);
        count(&log, &mut test, tally)?;
    }
    Ok(Notes::new())
}
