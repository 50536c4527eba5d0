//! This program standing in for `rustc` or `rustdoc`, to give flags to our own crates and to no other.
//!
//! `RUSTFLAGS` would reach every dependency and rebuild them all in another directory. Cargo calls a
//! `RUSTC_WORKSPACE_WRAPPER` for workspace members only and keeps what it makes apart from the plain build, so that
//! coverage shares one target directory, and all compiled dependencies, with the plain tests. For the same reason rustdoc
//! is wrapped: `RUSTC_BOOTSTRAP` in cargo's own environment would rebuild every dependency that looks at it.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Says which of the two this program is.
const ROLE: &str = "OUTSPOKE_XTASK_ROLE";
const COVERAGE: &str = "rustc-coverage";
const JSON: &str = "rustdoc-json";

/// Makes `cargo` instrument the workspace's members, and only them.
pub(crate) fn instrument(cargo: &mut Command) -> Result<()> {
    cargo.env("RUSTC_WORKSPACE_WRAPPER", env::current_exe()?).env(ROLE, COVERAGE);
    Ok(())
}

/// Makes `cargo rustdoc` write JSON, a format that only nightly offers or `RUSTC_BOOTSTRAP` unlocks.
pub(crate) fn document_as_json(cargo: &mut Command) -> Result<()> {
    cargo.env("RUSTDOC", env::current_exe()?).env(ROLE, JSON);
    Ok(())
}

/// Becomes the compiler, if cargo called this program as one.
pub(crate) fn run_if_called_as_one() -> Option<ExitCode> {
    let role = env::var(ROLE).ok()?;
    match become_compiler(&role) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("xtask as {role}: {error:#}");
            Some(ExitCode::FAILURE)
        }
    }
}

fn become_compiler(role: &str) -> Result<std::convert::Infallible> {
    let mut args: Vec<OsString> = env::args_os().skip(1).collect();
    let mut command = if role == JSON {
        let mut rustdoc = Command::new("rustdoc");
        rustdoc.env("RUSTC_BOOTSTRAP", "1");
        rustdoc
    } else {
        anyhow::ensure!(!args.is_empty(), "cargo gave no compiler to run");
        Command::new(args.remove(0))
    };
    let compiles = args.iter().any(|arg| arg == "--crate-name");
    command.args(args);
    if compiles && role == JSON {
        command.args(["-Zunstable-options", "--output-format=json"]);
    } else if compiles {
        command.args(["-Cinstrument-coverage", "--cfg=coverage"]);
    }
    // The compiler's own children are no compilers.
    Err(command.env_remove(ROLE).exec()).context("cannot run the compiler")
}
