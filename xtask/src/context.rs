//! Where things are: the repository, the target directory, the logs.
//!
//! Made once by `main` and handed to everything. All suites share one target directory, so that nothing is built twice.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// The places every command needs.
#[derive(Debug)]
pub(crate) struct Context {
    /// The repository's root.
    pub(crate) root: PathBuf,
    /// Cargo's target directory; caches and logs live under it too.
    pub(crate) target: PathBuf,
    /// One log per suite or check.
    pub(crate) logs: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Context {
    /// Asks cargo where the workspace is.
    pub(crate) fn new() -> Result<Self> {
        let Metadata { workspace_root: root, target_directory: target } = metadata()?;
        let logs = target.join("ci-logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        Ok(Self { root, target, logs })
    }

    /// `program`, to be run in the repository's root.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Cargo, to be run in the repository's root with our target directory.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.command(cargo());
        command.arg(subcommand).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// A path as people of this repository would write it.
    pub(crate) fn shorten<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The host's target triple, where cross-compiling flags ask for one.
    pub(crate) fn host(&self) -> Result<String> {
        self.rustc_says("host")
    }

    /// The major version of the LLVM inside rustc.
    pub(crate) fn llvm_major(&self) -> Result<u32> {
        let version = self.rustc_says("LLVM version")?;
        let major = version.split('.').next().unwrap_or_default();
        major.parse().with_context(|| format!("rustc has LLVM `{version}`, which is no version"))
    }

    fn rustc_says(&self, key: &str) -> Result<String> {
        let text = stdout_of(self.command("rustc").arg("-vV"))?;
        text.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
            .map(str::to_owned)
            .with_context(|| format!("`rustc -vV` does not tell its {key}"))
    }
}

/// What a short, quiet command prints.
pub(crate) fn stdout_of(command: &mut Command) -> Result<String> {
    let output =
        command.output().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn metadata() -> Result<Metadata> {
    let json = stdout_of(Command::new(cargo()).args(["metadata", "--format-version=1", "--no-deps"]))?;
    serde_json::from_str(&json).context("cannot read what `cargo metadata` prints")
}
