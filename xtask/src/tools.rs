//! Cargo tools at fixed versions, built once and kept below the target directory.
//!
//! They are built without optimisation: each is used for seconds, and building it so takes under a minute on two cores.

use std::path::PathBuf;

use anyhow::Result;

use crate::context::Context;
use crate::step::{Log, minutes};

/// A program from crates.io.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    program: &'static str,
    pub(crate) for_check: &'static str,
}

/// Licences, bans, sources, advisories.
pub(crate) const CARGO_DENY: Tool =
    Tool { name: "cargo-deny", version: "0.20.2", program: "cargo-deny", for_check: "deny" };
/// Spelling.
pub(crate) const TYPOS: Tool =
    Tool { name: "typos-cli", version: "1.52.0", program: "typos", for_check: "typos" };
/// Every tool, for listing.
pub(crate) const ALL: [&Tool; 2] = [&CARGO_DENY, &TYPOS];

impl Tool {
    /// Where the program is or will be.
    pub(crate) fn path(&self, ctx: &Context) -> PathBuf {
        self.folder(ctx).join("bin").join(self.program)
    }

    /// The program's path; builds it first if it is not there.
    pub(crate) fn ensure(&self, ctx: &Context) -> Result<PathBuf> {
        let path = self.path(ctx);
        if !path.exists() {
            let log = Log::new(ctx, &format!("install-{}", self.name))?;
            let mut install = ctx.cargo("install");
            install
                .args(["--locked", "--debug", "--version", self.version, self.name, "--root"])
                .arg(self.folder(ctx))
                .env("CARGO_TARGET_DIR", ctx.target.join("tools/build"))
                .env("CARGO_PROFILE_DEV_DEBUG", "0");
            log.run(&mut install, minutes(15))?;
        }
        Ok(path)
    }

    fn folder(&self, ctx: &Context) -> PathBuf {
        ctx.target.join("tools").join(format!("{}-{}", self.name, self.version))
    }
}
