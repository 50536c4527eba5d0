//! Builds what later jobs need while earlier ones wait.
//!
//! Tests wait a good part of their time: for a partition to last, for a server to come back. Meanwhile cargo builds the release
//! binary and the rest, one after the other, with the lowest priority there is, so that nothing that runs beside it gets slower by
//! more than a few percent. Whoever needs such a build runs it as if nobody had, finds it done, or waits for cargo's lock while the
//! rest of it has the whole machine; so nothing depends on how far this came, and what fails here fails there with its words.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::context::Context;
use crate::step::Log;

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Builds in the background, which end when this is dropped.
#[derive(Debug)]
pub(crate) struct Ahead {
    ended: Arc<AtomicBool>,
    builder: Option<JoinHandle<()>>,
}

impl Ahead {
    /// Runs these commands one after the other; each name is its log's, too.
    pub(crate) fn start(ctx: &Context, builds: Vec<(&'static str, Command)>) -> Self {
        let builds: Vec<_> = builds
            .into_iter()
            .filter_map(|(name, build)| {
                Some((Log::new(ctx, &format!("ahead-{name}")).ok()?, politely(&build)))
            })
            .collect();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let builder = thread::spawn(move || {
            for (log, mut build) in builds {
                let Ok(mut running) = log.spawn(&mut build) else { return };
                while running.is_running() {
                    if seen.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::sleep(LOOK_EVERY);
                }
            }
        });
        Self { ended, builder: Some(builder) }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(builder) = self.builder.take() {
            // It has nothing to say.
            let _ = builder.join();
        }
    }
}

/// The same command, after everybody else.
fn politely(command: &Command) -> Command {
    let mut polite = Command::new("nice");
    polite.args(["-n", "19"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => polite.env(name, value),
            None => polite.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        polite.current_dir(folder);
    }
    polite
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn command_stays_the_same_but_comes_after_everybody_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut build = shell(r#"echo "$(nice) $AHEAD $(pwd -P) ${HOME-nowhere}""#);
        build.env("AHEAD", "yes").env_remove("HOME").current_dir(folder.path());
        let said = politely(&build).output().unwrap().stdout;
        let here = folder.path().canonicalize().unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), format!("19 yes {} nowhere\n", here.display()));
    }

    #[test]
    fn builds_come_one_after_the_other_and_end_with_their_guard() {
        let ctx = Context::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("first");
        let wait = format!("test -e {} && exec sleep 600", first.display());
        let make = format!("sleep 0.1; touch {}", first.display());
        let begin = Instant::now();
        let ahead = Ahead::start(&ctx, vec![("test-1", shell(&make)), ("test-2", shell(&wait))]);
        while !first.exists() {
            assert!(begin.elapsed() < Duration::from_secs(60), "the first was never run");
            thread::sleep(Duration::from_millis(10));
        }
        drop(ahead);
        assert!(begin.elapsed() < Duration::from_secs(60), "the second went on");
    }
}
