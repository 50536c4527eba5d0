//! `outspoke config`: look over, print, begin a configuration.

use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{SettingsArgs, print};
use crate::config::{Loaded, Source, load, reference, show};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Look over a configuration without starting: exits with 0 if it is good, with 78 if not.
    Check(CheckArgs),
    /// Print every value that is in force, and where it came from.
    Show(ShowArgs),
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

pub(super) fn run(command: ConfigCommand) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check(args) => check(args),
        ConfigCommand::Show(args) => {
            let loaded = load(&args.settings.sources())?;
            print(&if args.json { show::json(&loaded) + "\n" } else { show::yaml(&loaded) })
        }
        ConfigCommand::Default => print(&reference::config_yaml()),
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
