//! The command line: verbs, flags, help texts, and the way from a verb to its exit code.
//!
//! Declares and dispatches; each verb with substance has a module. Results go to standard output, everything else
//! to standard error.

mod ansi;
pub mod api;
pub mod ca;
pub mod cluster;
pub mod config;
pub mod context;
mod exec;
pub mod explain;
mod explain_message;
mod generate;
pub mod healthcheck;
mod history;
pub mod key;
mod link;
mod output;
pub mod publish;
pub mod reach;
mod render;
mod rooms;
pub mod socket;
pub mod store;
mod tail;
pub mod token;
pub mod top;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{FileChoice, FlagValue, Sources, Warning};
use crate::{exit, logging, otel, serve};

/// A self-hosted real-time messaging hub over WebSocket.
///
/// Without a command, `outspoke` serves: open the address it prints in two browser tabs and chat.
#[derive(Debug, Parser)]
#[command(name = "outspoke", version, args_conflicts_with_subcommands = true, after_help = exit::CODES_HELP)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// The verbs.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server (this is also what happens without a command).
    Serve(SettingsArgs),
    /// Say something in a room: outspoke pub lobby 'Hello everyone!'
    #[command(name = "pub", visible_alias = "publish", after_help = exit::CODES_HELP)]
    Pub(Box<publish::PubArgs>),
    /// Run a program, publish what it says, and exit with its code: outspoke exec build -- cargo build
    ///
    /// Every line is a message of the type process_output in the room; process_status says that it runs and how it ended. The
    /// exit code is the program's, 128 and the signal's number where one ended it, 126 or 127 if it cannot be run.
    #[command(after_help = exit::CODES_HELP)]
    Exec(Box<exec::ExecArgs>),
    /// Print what was said in a room.
    #[command(after_help = exit::CODES_HELP)]
    History(history::HistoryArgs),
    /// Print what is said in rooms, as it is said: outspoke tail lobby
    ///
    /// With an API key the room's history is asked for again and again; else it is a connection of its own, with a token or,
    /// on a server without authentication, under any name.
    #[command(visible_alias = "sub", after_help = exit::CODES_HELP)]
    Tail(Box<tail::TailArgs>),
    /// List who is in a room.
    #[command(after_help = exit::CODES_HELP)]
    Presence(rooms::PresenceArgs),
    /// List the rooms that have members or messages.
    #[command(after_help = exit::CODES_HELP)]
    Rooms(rooms::RoomsArgs),
    /// Watch the nodes, the busiest rooms and the slowest clients.
    #[command(after_help = exit::CODES_HELP)]
    Top(Box<top::TopArgs>),
    /// Send a user away: out of a room for a while, or off the server.
    #[command(after_help = exit::CODES_HELP)]
    Kick(Box<rooms::KickArgs>),
    /// Remember servers by name, with their credentials: add, use, ls, rm, show.
    #[command(subcommand, after_help = exit::CODES_HELP)]
    Context(context::ContextCommand),
    /// Say what an error means and what to do; or why a message did or did not arrive: outspoke explain lobby@42 ana
    ///
    /// Errors, close codes and exit codes need no server. For a message (its id, or ROOM@OFFSET) and a user a running server is
    /// asked: whether it was published and stored, on which nodes it was heard, and what became of it for each of the user's
    /// connections.
    #[command(after_help = exit::CODES_HELP)]
    Explain(Box<explain::ExplainArgs>),
    /// Look over, print or begin a configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Look after what is kept: verify, compact, export, import.
    #[command(subcommand, after_help = exit::CODES_HELP)]
    Store(store::StoreCommand),
    /// Look at the servers that act as one, and drain one of them: nodes, check, drain, resume.
    #[command(subcommand, after_help = exit::CODES_HELP)]
    Cluster(cluster::ClusterCommand),
    /// Make, inspect and revoke the tokens with which clients connect: create, inspect, revoke.
    #[command(subcommand, after_help = exit::CODES_HELP)]
    Token(token::TokenCommand),
    /// Make API keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Ask a running server whether it is well; exits with 0 or 1, for container health checks.
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Measure a running server: fan-out, latency, idle connections (outspoke bench --help).
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the load generator.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Print the completions of a shell: outspoke completions bash > /etc/bash_completion.d/outspoke
    Completions(generate::CompletionsArgs),
    /// Print the manual page: outspoke man | man -l -
    Man(generate::ManArgs),
    /// Print the version.
    Version(generate::VersionArgs),
}

/// The command line's declaration, for those who describe it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Flags that choose the settings.
#[derive(Clone, Default, Args)]
pub struct SettingsArgs {
    /// Configuration file; "-" reads standard input [env: OUTSPOKE_CONFIG] [default: config.yaml, if there is one]
    #[arg(long, value_name = "FILE", conflicts_with = "no_config")]
    config: Option<PathBuf>,

    /// Read no configuration file
    #[arg(long)]
    no_config: bool,

    /// Address to listen on, for example :9000 or 127.0.0.1:8080 [env: PORT for the port alone]
    #[arg(long, value_name = "ADDRESS", allow_hyphen_values = true)]
    addr: Option<String>,

    /// Set one value, for example --set log.level=debug; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, for example log.level=debug")?;
    if key.trim().is_empty() {
        return Err("the key before = is missing; expected KEY=VALUE".to_owned());
    }
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// Without the values: any of them may be a secret.
impl std::fmt::Debug for SettingsArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<&str> = self.set.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("SettingsArgs")
            .field("config", &self.config)
            .field("set", &keys)
            .finish_non_exhaustive()
    }
}

impl SettingsArgs {
    /// Whether any of these flags was given.
    fn are_given(&self) -> bool {
        let Self { config, no_config: _, addr, set } = self;
        config.is_some() || addr.is_some() || !set.is_empty()
    }

    /// The sources these flags name, with the process's environment.
    pub fn sources(&self) -> Sources {
        let file = match (&self.config, self.no_config) {
            (Some(path), _) => FileChoice::Named(path.clone()),
            (None, true) => FileChoice::None,
            (None, false) => FileChoice::Search,
        };
        Sources { file, env: std::env::vars_os().collect(), flags: self.flags() }
    }

    /// As [`SettingsArgs::sources`], with one more setting that a flag of its own gave.
    pub(super) fn sources_and(&self, flag: &str, key: &str, value: Option<String>) -> Sources {
        let mut sources = self.sources();
        sources.flags.extend(value.map(|value| FlagValue {
            flag: flag.to_owned(),
            key: key.to_owned(),
            value,
        }));
        sources
    }

    /// `--addr` after `--set`: the flag made for one setting wins over the general one.
    fn flags(&self) -> Vec<FlagValue> {
        let set = self.set.iter().map(|(key, value)| FlagValue {
            flag: "--set".to_owned(),
            key: key.clone(),
            value: value.clone(),
        });
        let addr = self.addr.iter().map(|value| FlagValue {
            flag: "--addr".to_owned(),
            key: "server.addr".to_owned(),
            value: value.clone(),
        });
        set.chain(addr).collect()
    }
}

/// Reads the command line, does what it says, and gives the exit code.
///
/// Wrong use of the command line ends the process with code 2, `--help` and `--version` with 0.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => exit::finish(Err(error)),
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command.unwrap_or(Command::Serve(cli.settings)) {
        Command::Serve(settings) => start(&settings)?,
        Command::Config(command) => return config::run(command),
        Command::Store(command) => return store::run(command),
        Command::Cluster(command) => return cluster::run(command),
        Command::Token(command) => return token::run(command),
        Command::Key(command) => key::run(&command)?,
        Command::Healthcheck(args) => healthcheck::run(&args)?,
        Command::Bench { args } => return bench(args),
        Command::Pub(args) => publish::run(&args)?,
        Command::Exec(args) => return exec::run(&args),
        Command::History(args) => history::run(&args)?,
        Command::Tail(args) => return tail::run(&args),
        Command::Presence(args) => rooms::presence(&args)?,
        Command::Rooms(args) => rooms::rooms(&args)?,
        Command::Top(args) => top::run(&args)?,
        Command::Kick(args) => rooms::kick(&args)?,
        Command::Context(command) => context::run(command)?,
        Command::Explain(args) => explain::run(&args)?,
        Command::Completions(args) => generate::completions(&args, command())?,
        Command::Man(args) => generate::man(&args, command())?,
        Command::Version(args) => generate::version(&args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn start(settings: &SettingsArgs) -> anyhow::Result<()> {
    let sources = settings.sources();
    let loaded = crate::config::load(&sources)?;
    let (layer, traces) = otel::begin(&loaded.config.otel)?;
    let (style, logging) = logging::init(&loaded.config.log, layer)?;
    for Warning { at, what, hint } in &loaded.warnings {
        tracing::warn!(%at, hint, "{what}");
    }
    let served = serve::run(sources, &loaded, style, &logging);
    traces.end();
    served
}

/// The load generator's own command line, under the name that was typed.
#[derive(Debug, Parser)]
#[command(name = "outspoke bench", version)]
struct BenchCli {
    #[command(flatten)]
    args: outspoke_bench::Args,
}

fn bench(args: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let cli = BenchCli::parse_from(std::iter::once(OsString::from("outspoke bench")).chain(args));
    outspoke_bench::run(cli.args)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn command_line_declaration_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default_verb_and_takes_the_same_flags() {
        let bare = Cli::try_parse_from(["outspoke", "--addr", ":1", "--set", "a.b=c=d"]).unwrap();
        assert!(bare.command.is_none());
        assert_eq!(bare.settings.addr.as_deref(), Some(":1"));
        assert_eq!(bare.settings.set, [("a.b".to_owned(), "c=d".to_owned())]);
        let named = Cli::try_parse_from(["outspoke", "serve", "--addr", ":1"]).unwrap();
        assert!(
            matches!(named.command, Some(Command::Serve(settings)) if settings.addr.as_deref() == Some(":1"))
        );
    }

    #[test]
    fn bench_arguments_pass_through_untouched() {
        let cli = Cli::try_parse_from(["outspoke", "bench", "fanout", "--help", "-n", "3"]).unwrap();
        let Some(Command::Bench { args }) = cli.command else { unreachable!() };
        assert_eq!(args, ["fanout", "--help", "-n", "3"]);
        let cli = Cli::try_parse_from(["outspoke", "bench", "--help"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Bench { args }) if args == ["--help"]));
    }

    #[test]
    fn wrong_use_is_refused_before_anything_happens() {
        for line in
            [&["--set", "novalue"][..], &["--set", "=x"], &["--config", "a", "--no-config"], &["frobnicate"]]
        {
            let error = Cli::try_parse_from(["outspoke"].iter().chain(line)).unwrap_err();
            assert_eq!(error.exit_code(), exit::Exit::Usage as i32, "{line:?}");
        }
    }
}
