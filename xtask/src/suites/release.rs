//! The release binary, as users build it, and a running server of it: what the suites that come in from outside talk to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use crate::context::Context;
use crate::step::{Guard, Log, minutes};

/// How long a server may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Builds `outspoke` in release mode, at most once per change, and returns its path.
pub(crate) fn build(ctx: &Context) -> Result<PathBuf> {
    Log::new(ctx, "release")?.run(&mut command(ctx)?, minutes(30))?;
    Ok(ctx.target.join("release/outspoke"))
}

/// How it is built.
#[expect(clippy::unnecessary_wraps, reason = "the builds of other jobs can fail to be put together")]
pub(super) fn command(ctx: &Context) -> Result<Command> {
    let mut build = ctx.cargo("build");
    build.args(["--release", "--package=outspoke"]);
    Ok(build)
}

/// A server with a port and a folder of its own; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Server {
    /// Host and port.
    pub(super) address: String,
    _process: Guard,
    _folder: TempDir,
}

impl Server {
    /// Starts `program` with `settings`, each `key=value`, and waits until it says where it listens.
    pub(super) fn start(ctx: &Context, program: &Path, settings: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = Log::new(ctx, "server")?;
        let mut serve = ctx.command(program);
        serve.args(["serve", "--no-config", "--addr=127.0.0.1:0", "--set=log.format=json"]);
        // Suites send as fast as they can.
        serve.arg("--set=rate.enabled=false");
        serve.args(settings.iter().map(|setting| format!("--set={setting}"))).current_dir(folder.path());
        let mut process = log.spawn(&mut serve)?;
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline && process.is_running() {
            if let Some(address) = log.text()?.lines().find_map(address) {
                return Ok(Self { address, _process: process, _folder: folder });
            }
            sleep(Duration::from_millis(20));
        }
        bail!("{}\nthe server did not say that it is ready", log.tail())
    }
}

/// The address in the log line that says that the server is ready.
fn address(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Ready {
        address: String,
    }
    serde_json::from_str::<Ready>(line).ok().map(|ready| ready.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_from_the_line_that_says_ready() {
        let ready = r#"{"level":"INFO","message":"ready","address":"127.0.0.1:42013","open_mode":true}"#;
        assert_eq!(address(ready).as_deref(), Some("127.0.0.1:42013"));
        assert_eq!(address(r#"{"level":"WARN","message":"something else"}"#), None);
        assert_eq!(address("not JSON"), None);
    }
}
