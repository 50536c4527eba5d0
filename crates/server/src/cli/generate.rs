//! `outspoke completions`, `man` and `version`: what the command line knows of itself.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use super::output::{print, print_json};

/// For which shell.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Which manual.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for every command into this folder instead of printing the first one
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// How to print it.
#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "outspoke", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &ManArgs, mut command: Command) -> anyhow::Result<()> {
    command.build();
    match &args.dir {
        Some(folder) => {
            fs::create_dir_all(folder)?;
            let written = pages(&command, "outspoke", folder)?;
            print(&format!("ok: {written} pages in {}\n", folder.display()))
        }
        None => print(&String::from_utf8_lossy(&page(&command)?)),
    }
}

/// The page of a command and those of its commands: `outspoke-context-add.1`.
fn pages(command: &Command, name: &str, folder: &Path) -> anyhow::Result<usize> {
    fs::write(folder.join(format!("{name}.1")), page(command)?)?;
    let mut written = 1;
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        written += pages(sub, &format!("{name}-{}", sub.get_name()), folder)?;
    }
    Ok(written)
}

fn page(command: &Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

/// What was compiled in, beside what is always there.
const FEATURES: &[(&str, bool)] = &[
    ("embedded", cfg!(feature = "embedded")),
    ("postgres", cfg!(feature = "postgres")),
    ("redis", cfg!(feature = "redis")),
    ("dynamodb", cfg!(feature = "dynamodb")),
    ("etcd", cfg!(feature = "etcd")),
    ("nats", cfg!(feature = "nats")),
    ("acme", cfg!(feature = "acme")),
];

pub(super) fn version(args: &VersionArgs) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if !args.json {
        return print(&format!("outspoke {version}\n"));
    }
    let features: Vec<_> = FEATURES.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    print_json([
        &json!({ "name": "outspoke", "version": version, "features": features, "os": os, "arch": arch }),
    ])
}
