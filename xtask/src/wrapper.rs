//! This program standing in for `rustc` or `rustdoc`, to give flags to our own crates and to no others.
//!
//! `RUSTFLAGS` would reach every dependency and rebuild them all in another directory. Cargo calls a
//! `RUSTC_WORKSPACE_WRAPPER` for workspace members only and keeps what it makes apart from the plain build, so that
//! coverage shares one target directory, and all compiled dependencies, with the plain tests. For the same reason rustdoc
//! is wrapped: `RUSTC_BOOTSTRAP` in cargo's own environment would rebuild every dependency that looks at it. And `--cfg
//! loom` is not for everybody either: there are crates that mean something of their own by it, and no longer compile.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Says which of them this program is. Without the prefix of the server's settings, which tests would take it for.
const ROLE: &str = "XTASK_ROLE";
const COVERAGE: &str = "rustc-coverage";
/// The last lets counters live in the profile itself (`%c` in its name): a server that a test kills has counted too.
const COVERAGE_FLAGS: &[&str] =
    &["-Cinstrument-coverage", "--cfg=coverage", "-Cllvm-args=-runtime-counter-relocation"];
const LOOM: &str = "rustc-loom";
/// The package that has the models.
const MODELLED: &str = "XTASK_MODELLED";
const JSON: &str = "rustdoc-json";

/// Makes `cargo` instrument the workspace's members, and only them.
pub(crate) fn instrument(cargo: &mut Command) -> Result<()> {
    cargo.env("RUSTC_WORKSPACE_WRAPPER", env::current_exe()?).env(ROLE, COVERAGE);
    Ok(())
}

/// Makes `cargo` compile one package, and only that, with `--cfg loom`. Cargo itself sees the flag too, so that
/// `[target.'cfg(loom)'.dependencies]` are there: that takes the wrapper of every crate, while the one of workspace members
/// keeps what they become apart.
pub(crate) fn model(cargo: &mut Command, package: &str) -> Result<()> {
    let this = env::current_exe()?;
    cargo.env("RUSTC_WRAPPER", &this).env("RUSTC_WORKSPACE_WRAPPER", &this);
    cargo.env(ROLE, LOOM).env(MODELLED, package);
    Ok(())
}

/// Makes `cargo doc` write JSON, a format that only nightly offers or `RUSTC_BOOTSTRAP` unlocks.
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
    // Both kinds of wrapper at once: this program is told to run itself.
    let this = env::current_exe()?;
    let mut args = env::args_os().skip(1).skip_while(|arg| *arg == this);
    let program = match role {
        JSON => "rustdoc".into(),
        _ => args.next().context("cargo gave no compiler to run")?,
    };
    let args: Vec<OsString> = args.collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // Without a crate's name cargo only asks for the version.
    let added: &[&str] = match role {
        JSON if has("--crate-name") => &["-Zunstable-options", "--output-format=json"],
        COVERAGE if has("--crate-name") => COVERAGE_FLAGS,
        LOOM if has("--print=cfg") || env::var_os("CARGO_PKG_NAME") == env::var_os(MODELLED) => {
            &["--cfg=loom"]
        }
        _ => &[],
    };
    let mut compiler = Command::new(program);
    // The compiler's own children are no compilers.
    compiler.args(&args).args(added).env_remove(ROLE);
    if role == JSON {
        compiler.env("RUSTC_BOOTSTRAP", "1");
    }
    Err(compiler.exec()).context("cannot run the compiler")
}
