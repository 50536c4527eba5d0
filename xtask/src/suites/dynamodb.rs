//! The store in DynamoDB, on a stand-in for it. Only by name: it is not in the standard binary, and building what it needs
//! takes minutes.

use anyhow::Result;

use super::rust::count;
use crate::context::Context;
use crate::report::{Notes, Tally};
use crate::step::Log;

/// Runs its tests.
pub(super) fn run(ctx: &Context, tally: &mut Tally) -> Result<Notes> {
    let mut test = ctx.cargo("test");
    test.args([
        "--package=outspoke-store",
        "--features=dynamodb-stand-in",
        "--test=dynamodb",
        "--no-fail-fast",
    ]);
    count(&Log::new(ctx, "dynamodb")?, &mut test, tally)
}
