//! `outspoke config`: look over, print, begin a configuration; let a running server read it again.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::SettingsArgs;
use super::api::{Api, read};
use super::cluster::ClusterArgs;
use super::output::print;
use crate::config::{Loaded, Source, load, reference, show};
use crate::exit;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Look over a configuration without starting: exits with 0 if it is good, with 78 if not.
    Check(CheckArgs),
    /// Print every value that is in force, and where it came from.
    Show(ShowArgs),
    /// Show what `reload` would change on a running server: setting by setting, with secrets masked.
    #[command(after_help = exit::CODES_HELP)]
    Diff(ClusterArgs),
    /// Let a running server read its configuration again, from where it did at its start.
    ///
    /// All of it holds or nothing does. Settings that are decided when the server starts are named, and wait for that.
    #[command(after_help = exit::CODES_HELP)]
    Reload(ClusterArgs),
    /// Print the default configuration with comments, to begin your own: outspoke config default > config.yaml
    Default,
}

/// What to check.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file to check instead of the one that `serve` would read; "-" reads standard input
    #[arg(value_name = "FILE", conflicts_with_all = ["config", "no_config"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// How to show.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Print JSON instead of commented YAML
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) fn run(command: ConfigCommand) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(args) => check(args)?,
        ConfigCommand::Diff(args) => reload(&args, true)?,
        ConfigCommand::Reload(args) => reload(&args, false)?,
        ConfigCommand::Show(args) => {
            let loaded = load(&args.settings.sources())?;
            print(&if args.json { show::json(&loaded) + "\n" } else { show::yaml(&loaded) })?;
        }
        ConfigCommand::Default => print(&reference::config_yaml())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a server answers to a reload.
#[derive(Debug, Deserialize)]
struct Report {
    changed: Vec<Change>,
    waiting: Vec<Change>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Change {
    key: String,
    old: String,
    new: String,
    source: String,
    counts: String,
}

impl Change {
    fn line(&self) -> String {
        let Self { key, old, new, source, counts } = self;
        let when = match counts.as_str() {
            "new_clients" => ", for clients that connect from now on",
            "new_rooms" => ", in full for rooms that begin from now on",
            _ => "",
        };
        format!("  {key}: {old} -> {new} ({source}{when})\n")
    }
}

fn reload(args: &ClusterArgs, dry_run: bool) -> anyhow::Result<()> {
    let path = if dry_run { "/reload?dry_run=true" } else { "/reload" };
    let json = Api::of(&args.reach)?.ask("POST", path)?;
    if args.json {
        return print(&format!("{}\n", json.trim_end()));
    }
    let report: Report = read(&json)?;
    for warning in &report.warnings {
        // Whoever closed standard error does not want them.
        let _ = writeln!(io::stderr(), "{warning}");
    }
    print(&report.text(dry_run))
}

impl Report {
    fn text(&self, dry_run: bool) -> String {
        let mut text = String::new();
        let mut part = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&format!("{title}:\n{}", lines.concat()));
            }
        };
        part(
            if dry_run { "would change" } else { "changed" },
            self.changed.iter().map(Change::line).collect(),
        );
        part("in files", self.notes.iter().map(|note| format!("  {note}\n")).collect());
        part("waiting for a restart of the server", self.waiting.iter().map(Change::line).collect());
        if text.is_empty() { "ok: nothing differs\n".to_owned() } else { text }
    }
}

fn check(CheckArgs { file, mut settings }: CheckArgs) -> anyhow::Result<()> {
    settings.config = file.or(settings.config);
    let loaded = load(&settings.sources())?;
    for warning in &loaded.warnings {
        // Whoever closed standard error does not want them.
        let _ = writeln!(io::stderr(), "{warning}");
    }
    print(&verdict(&loaded))
}

/// One line: which file, and how many values come from where.
fn verdict(loaded: &Loaded) -> String {
    let count =
        |is: fn(&Source) -> bool| loaded.settings.iter().filter(|setting| is(&setting.source)).count();
    let file = loaded.file.as_deref().unwrap_or("no file");
    format!(
        "ok: {file}: {} settings from the file, {} from the environment, {} from flags, {} defaults\n",
        count(|source| matches!(source, Source::File { .. })),
        count(|source| matches!(source, Source::Env(_))),
        count(|source| matches!(source, Source::Flag(_))),
        count(|source| *source == Source::Default),
    )
}
