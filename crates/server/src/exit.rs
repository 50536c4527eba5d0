//! How the process ends: exit codes, and errors said once with their cure.
//!
//! The last stop of every error of the binary. Codes above 2 follow BSD's `sysexits.h`, which service managers know.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::cli::api::ApiError;
use crate::cli::ca::CaError;
use crate::cli::cluster::ClusterError;
use crate::cli::context::ContextError;
use crate::cli::explain::UnknownCode;
use crate::cli::healthcheck::HealthError;
use crate::cli::publish::PubError;
use crate::cli::socket::SocketError;
use crate::cli::store;
use crate::cli::top::NoTerminal;
use crate::config::ConfigError;
use crate::startup::StartError;

/// What the exit codes mean, for `--help`.
pub const CODES_HELP: &str = "\
Exit codes:
   0  done: stopped cleanly, or the check passed
   1  not done: failed to start, refused, or the check failed
   2  wrong use of the command line
  69  the server to talk to cannot be reached
  77  the server does not let this credential do that
  78  the configuration, or a context, is wrong";

/// Exit codes of the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done: stopped cleanly, or the check passed.
    Success = 0,
    /// Not done: failed to start, refused, or the check failed.
    Failure = 1,
    /// Wrong use of the command line.
    Usage = 2,
    /// The server to talk to cannot be reached (`EX_UNAVAILABLE`).
    Unreachable = 69,
    /// The server does not let this credential do that (`EX_NOPERM`).
    Denied = 77,
    /// The configuration, or a context, is wrong (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    /// Every code.
    pub const ALL: [Self; 6] =
        [Self::Success, Self::Failure, Self::Usage, Self::Unreachable, Self::Denied, Self::Config];

    /// The code's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::Config => "config",
        }
    }

    /// What the code means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done: stopped cleanly, or the check passed",
            Self::Failure => "not done: failed to start, refused, or the check failed",
            Self::Usage => "wrong use of the command line",
            Self::Unreachable => "the server to talk to cannot be reached",
            Self::Denied => "the server does not let this credential do that",
            Self::Config => "the configuration, or a context, is wrong",
        }
    }
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
        return error.exit();
    }
    if let Some(error) = error.downcast_ref::<ApiError>() {
        return error.exit();
    }
    if let Some(error) = error.downcast_ref::<SocketError>() {
        return error.exit();
    }
    if error.is::<ContextError>() || error.is::<CaError>() {
        return Exit::Config;
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
    let mut text = format!("error: {}\n", causes(error));
    let start = error.downcast_ref::<StartError>().map(StartError::hint).or_else(|| store::hint(error));
    if let Some(hint) = start.or_else(|| verb_hint(error)) {
        let _ = writeln!(text, "  hint: {hint}");
    }
    text
}

/// The error and what it came of, each said once: some say their cause themselves, for those who print them alone.
pub(crate) fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// What the verbs that talk to a server say about their errors.
fn verb_hint(error: &anyhow::Error) -> Option<String> {
    let health = error.downcast_ref::<HealthError>().map(|health| health.hint().to_owned());
    let cluster = || error.downcast_ref::<ClusterError>().map(ClusterError::hint);
    let api = || error.downcast_ref::<ApiError>().map(ApiError::hint);
    let ca = || error.downcast_ref::<CaError>().map(|error| error.hint().to_owned());
    let context = || error.downcast_ref::<ContextError>().map(ContextError::hint);
    let publish = || error.downcast_ref::<PubError>().map(|publish| publish.hint().to_owned());
    let socket = || error.downcast_ref::<SocketError>().map(SocketError::hint);
    let top = || error.is::<NoTerminal>().then(|| NoTerminal::HINT.to_owned());
    let explain = || error.downcast_ref::<UnknownCode>().map(UnknownCode::hint);
    health
        .or_else(cluster)
        .or_else(api)
        .or_else(context)
        .or_else(ca)
        .or_else(publish)
        .or_else(socket)
        .or_else(top)
        .or_else(explain)
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagValue, Sources, load};

    /// One table: what `--help` says is what the codes mean.
    #[test]
    fn help_lists_every_exit_code_with_its_meaning() {
        for exit in Exit::ALL {
            let line = format!("{:4}  {}", exit as u8, exit.meaning());
            assert!(CODES_HELP.lines().any(|known| known == line), "{line}");
        }
        assert_eq!(CODES_HELP.lines().count(), Exit::ALL.len() + 1);
    }

    #[test]
    fn causes_are_said_once_each() {
        let host = "127.0.0.1:1".to_owned();
        let source = io::Error::from_raw_os_error(111);
        let health = HealthError::Unreachable { host, source };
        let error = anyhow::Error::from(ApiError::Server(health));
        let text = describe(&error);
        assert_eq!(text.matches("Connection refused").count(), 1, "{text}");
        assert!(
            text.starts_with("error: cannot reach 127.0.0.1:1: Connection refused (os error 111)\n  hint: "),
            "{text}"
        );
        let wrapped = anyhow::anyhow!("the disk is full").context("cannot write x").context("cannot start");
        assert_eq!(causes(&wrapped), "cannot start: cannot write x: the disk is full");
    }

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
