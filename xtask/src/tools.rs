//! Cargo tools at fixed versions, got once and kept below the target directory.
//!
//! Where the Python package index has the same version compiled, that is taken: it comes in seconds. The others are built,
//! without optimisation: each is used for seconds, and building it so takes a minute or two on two cores.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::context::Context;
use crate::step::{Log, minutes};

/// A program from crates.io.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    program: &'static str,
    /// What it is called at the Python package index, if its makers put it there.
    wheel: Option<&'static str>,
    pub(crate) for_check: &'static str,
}

/// Licences, bans, sources, advisories.
pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", program: "cargo-deny", wheel: None, for_check: "deny" };
/// Spelling.
pub(crate) const TYPOS: Tool =
    Tool { name: "typos-cli", version: "1.52.0", program: "typos", wheel: Some("typos"), for_check: "typos" };
/// The documentation as a site of files.
pub(crate) const MDBOOK: Tool =
    Tool { name: "mdbook", version: "0.5.4", program: "mdbook", wheel: None, for_check: "book, by hand" };
/// Every tool, for listing.
pub(crate) const ALL: [&Tool; 3] = [&CARGO_DENY, &TYPOS, &MDBOOK];

impl Tool {
    /// Where the program is or will be.
    pub(crate) fn path(&self, ctx: &Context) -> PathBuf {
        self.folder(ctx).join("bin").join(self.program)
    }

    /// The program's path; gets it first if it is not there.
    pub(crate) fn ensure(&self, ctx: &Context) -> Result<PathBuf> {
        let path = self.path(ctx);
        if !path.exists() {
            let log = Log::new(ctx, &format!("install-{}", self.name))?;
            // Some machines have no Python, or none of its packages for them.
            if self.unpack(ctx, &log).is_err() {
                self.build(ctx, &log)?;
            }
        }
        Ok(path)
    }

    /// Takes it compiled, into a virtual environment of its own.
    fn unpack(&self, ctx: &Context, log: &Log) -> Result<()> {
        let wheel = self.wheel.context("it is not there")?;
        let mut environment = ctx.command("python3");
        log.run(environment.args(["-m", "venv"]).arg(self.folder(ctx)), minutes(2))?;
        let mut pip = ctx.command(self.folder(ctx).join("bin/pip"));
        pip.args(["install", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]);
        log.run(pip.arg(format!("{wheel}=={}", self.version)), minutes(5)).map(drop)
    }

    fn build(&self, ctx: &Context, log: &Log) -> Result<()> {
        let mut install = ctx.cargo("install");
        install
            .args(["--locked", "--debug", "--version", self.version, self.name, "--root"])
            .arg(self.folder(ctx))
            .env("CARGO_TARGET_DIR", ctx.target.join("tools/build"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        log.run(&mut install, minutes(15)).map(drop)
    }

    fn folder(&self, ctx: &Context) -> PathBuf {
        ctx.target.join("tools").join(format!("{}-{}", self.name, self.version))
    }
}
