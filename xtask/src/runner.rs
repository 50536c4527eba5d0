//! This program between cargo and a test program, to end one that hangs.
//!
//! Without it one test that waits for ever takes the time of all that come after it, and CI says nothing of those.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::step::{Guard, minutes};

/// The first argument that makes this program one; no subcommand, for nobody else is to use it.
const NAME: &str = "as-runner-of-tests";
/// How long one test program may take. The longest takes five minutes on a slow machine.
const LIMIT: Duration = minutes(10);

/// Makes `cargo` run its test programs by this one.
pub(crate) fn limit(ctx: &Context, cargo: &mut Command) -> Result<()> {
    let this = env::current_exe()?;
    let this = this.to_str().context("the path of this program is no text")?;
    // Not by a variable: cargo would take a path with spaces apart.
    let runner = serde_json::to_string(&[this, NAME])?;
    cargo.args(["--config", &format!("target.{}.runner={runner}", ctx.host()?)]);
    Ok(())
}

/// Runs a test program, if cargo called this program for that.
pub(crate) fn run_if_called_as_one() -> Option<ExitCode> {
    let mut args = env::args_os().skip(1);
    if args.next()? != NAME {
        return None;
    }
    let program = args.next()?;
    let mut command = Command::new(&program);
    command.args(args);
    Some(within(&mut command, LIMIT).unwrap_or_else(|error| {
        eprintln!("cannot run {}: {error:#}", Path::new(&program).display());
        ExitCode::FAILURE
    }))
}

fn within(command: &mut Command, limit: Duration) -> Result<ExitCode> {
    let mut running = Guard::of(command.spawn()?);
    let Some(status) = running.wait(limit)? else {
        let program = Path::new(command.get_program()).display();
        eprintln!("{program}: ended because it has taken {limit:?}; a test has not come to its end");
        return Ok(ExitCode::FAILURE);
    };
    // Ended by a signal: cargo only asks whether it is 0.
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn program_that_hangs_is_ended_and_fails() {
        let code = within(&mut shell("sleep 600 & wait"), Duration::from_millis(50)).unwrap();
        assert_eq!(code, ExitCode::FAILURE);
    }

    #[test]
    fn exit_code_is_the_programs() {
        assert_eq!(within(&mut shell("exit 101"), minutes(1)).unwrap(), ExitCode::from(101));
        assert_eq!(within(&mut shell("true"), minutes(1)).unwrap(), ExitCode::SUCCESS);
    }
}
