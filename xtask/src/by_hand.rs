//! Commands that no check needs: the comparison with other servers, that of front-end techniques, the README's pictures.
//!
//! All talk to the person who started them, on the terminal, and use the release binary.

use anyhow::{Result, ensure};

use crate::context::Context;
use crate::packages;
use crate::step::Log;
use crate::suites::{install_npm, release_binary};

/// Runs `outspoke bench compare` with `args`, beside Bun.
pub(crate) fn bench(ctx: &Context, args: &[String]) -> Result<bool> {
    let peers = ctx.root.join("e2e/bench");
    let log = Log::new(ctx, "bench")?;
    // Bun's npm package fetches its program in an install script.
    let mut npm = ctx.command(packages::npm().ensure(ctx)?);
    npm.current_dir(&peers).args(["install", "--no-audit", "--no-fund", "--no-package-lock"]);
    log.run(&mut npm, crate::step::minutes(10))?;
    let program = release_binary(ctx)?;
    let mut compare = ctx.command(&program);
    compare.args(["bench", "compare", "--outspoke-bin"]).arg(&program);
    compare.arg("--bun").arg(peers.join("node_modules/.bin/bun")).args(args);
    Ok(compare.status()?.success())
}

/// Builds and measures the mini chat in every front-end technique, and the web chat beside them.
pub(crate) fn frontends(ctx: &Context, args: &[String]) -> Result<bool> {
    let folder = ctx.root.join("e2e/frontends");
    let chromium = packages::chromium().ensure(ctx)?;
    install_npm(ctx, &folder, &Log::new(ctx, "frontends")?)?;
    let mut measure = ctx.command("node");
    measure.current_dir(&folder).arg("measure.js").args(args);
    measure.env("FRONTENDS_WORK", ctx.target.join("frontends"));
    Ok(measure.env("OUTSPOKE_BIN", release_binary(ctx)?).env("CHROMIUM", chromium).status()?.success())
}

/// Takes the pictures in `docs/images/` again.
pub(crate) fn screenshot(ctx: &Context) -> Result<bool> {
    let folder = ctx.root.join("e2e/browser");
    let chromium = packages::chromium().ensure(ctx)?;
    install_npm(ctx, &folder, &Log::new(ctx, "screenshot")?)?;
    let mut npm = ctx.command("npm");
    npm.current_dir(&folder).args(["run", "--silent", "screenshot"]);
    let status = npm.env("OUTSPOKE_BIN", release_binary(ctx)?).env("CHROMIUM", chromium).status()?;
    ensure!(status.success(), "no pictures were taken");
    Ok(true)
}
