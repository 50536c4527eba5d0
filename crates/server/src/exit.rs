//! How the process ends: exit codes, and errors said once with their cure.
//!
//! The last stop of every error of the binary. Codes above 2 follow BSD's `sysexits.h`, which service managers know.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::cli::cluster::ClusterError;
use crate::cli::healthcheck::HealthError;
use crate::cli::store;
use crate::config::ConfigError;
use crate::startup::StartError;

/// What the exit codes mean, for `--help`.
pub const CODES_HELP: &str = "\
Exit codes:
   0  stopped cleanly, or the check passed
   1  failed to start, or the check failed
   2  wrong use of the command line
  69  the server to talk to cannot be reached
  78  the configuration is wrong";

/// Exit codes of the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Stopped cleanly, or the check passed.
    Success = 0,
    /// Failed to start, or the check failed.
    Failure = 1,
    /// Wrong use of the command line.
    Usage = 2,
    /// The server to talk to cannot be reached (`EX_UNAVAILABLE`).
    Unreachable = 69,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Prints the error, if there is one, and gives the exit code.
pub fn finish(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return Exit::Success.into() };
    if is_closed_pipe(&error) {
        // `outspoke config show | head` is no failure.
        return Exit::Success.into();
    }
    // Nothing is left to tell if standard error is gone too.
    let _ = io::stderr().write_all(describe(&error).as_bytes());
    code(&error).into()
}

/// The exit code of an error.
pub fn code(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<ClusterError>() {
        return match error {
            ClusterError::Settings(_) => Exit::Config,
            error if error.is_unreachable() => Exit::Unreachable,
            _ => Exit::Failure,
        };
    }
    match error.downcast_ref::<StartError>() {
        _ if error.is::<ConfigError>() => Exit::Config,
        Some(error) if error.is_unreachable() => Exit::Unreachable,
        Some(StartError::Auth { .. } | StartError::KeyFile { .. }) => Exit::Config,
        _ => Exit::Failure,
    }
}

/// The error with its causes and, where there is one, its cure.
pub fn describe(error: &anyhow::Error) -> String {
    if let Some(config) = error.downcast_ref::<ConfigError>() {
        return format!("{config}\n");
    }
    let mut text = format!("error: {error:#}\n");
    let start = error.downcast_ref::<StartError>().map(StartError::hint).or_else(|| store::hint(error));
    let health = || error.downcast_ref::<HealthError>().map(|health| health.hint().to_owned());
    let cluster = || error.downcast_ref::<ClusterError>().map(|cluster| cluster.hint().to_owned());
    if let Some(hint) = start.or_else(health).or_else(cluster) {
        let _ = writeln!(text, "  hint: {hint}");
    }
    text
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagValue, Sources, load};

    #[test]
    fn bad_configuration_exits_with_78_whatever_wraps_it() {
        let flag = FlagValue { flag: "--set".into(), key: "no.such".into(), value: String::new() };
        let sources =
            Sources { flags: vec![flag], file: crate::config::FileChoice::None, ..Sources::default() };
        let error = anyhow::Error::from(load(&sources).expect_err("unknown key"));
        assert_eq!(code(&error), Exit::Config);
        assert_eq!(code(&error.context("while starting")), Exit::Config);
        assert_eq!(code(&anyhow::anyhow!("anything else")), Exit::Failure);
    }
}
