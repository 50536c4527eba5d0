//! Runs one command quietly: its output goes to the suite's log, and only a failure shows the log's end.
//!
//! Every command has a deadline and no standard input, so that nothing waits for ever. A child is ended by process id,
//! with everything it started, politely first, whatever way the function that started it is left.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::context::Context;
use crate::family::Family;

/// When everything must have ended, if it must.
static DEADLINE: OnceLock<Instant> = OnceLock::new();

/// How often a waiting parent looks at its child.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a child may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
/// How much of a log is shown when a command fails.
const TAIL_LINES: usize = 60;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` when its time was over.
    status: Option<ExitStatus>,
    /// What it wrote.
    pub(crate) output: String,
}

impl Ended {
    /// Whether it ended by itself and said that all is well.
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// In words, for a person.
    pub(crate) fn how(&self) -> String {
        self.status.map_or_else(|| "ended because its time was over".to_owned(), |status| status.to_string())
    }
}

/// A log file that one suite's commands write to, one after the other.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    shown: PathBuf,
}

impl Log {
    /// Starts an empty log.
    pub(crate) fn new(ctx: &Context, name: &str) -> Result<Self> {
        let path = ctx.logs.join(format!("{name}.log"));
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { shown: ctx.shorten(&path).to_owned(), path })
    }

    /// The log's file, as people of this repository would write it.
    pub(crate) fn shown(&self) -> &Path {
        &self.shown
    }

    /// What has been written so far.
    pub(crate) fn text(&self) -> Result<String> {
        let bytes = std::fs::read(&self.path)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Runs `command` to its end and returns what it wrote; an exit code other than 0 is an error with the log's tail.
    pub(crate) fn run(&self, command: &mut Command, limit: Duration) -> Result<String> {
        let ended = self.try_run(command, limit)?;
        if !ended.success() {
            bail!(
                "{}\n`{}`: {}; all of it is in {}",
                self.tail(),
                words(command),
                ended.how(),
                self.shown.display()
            );
        }
        Ok(ended.output)
    }

    /// Like [`Self::run`], for commands whose failure the caller judges.
    pub(crate) fn try_run(&self, command: &mut Command, limit: Duration) -> Result<Ended> {
        let start = self.text()?.len() as u64;
        let status = self.spawn(command)?.wait(limit)?;
        Ok(Ended { status, output: self.text_from(start)? })
    }

    /// Starts `command` in the background; dropping the guard ends it.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Guard> {
        let file = OpenOptions::new().append(true).open(&self.path)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Guard::of(child))
    }

    /// The end of the log, for a reader who has only the terminal.
    pub(crate) fn tail(&self) -> String {
        let text = self.text().unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    fn text_from(&self, start: u64) -> Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A running child that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Takes charge of a child.
    pub(crate) fn of(child: Child) -> Self {
        Self { child }
    }

    /// Waits for the child's end; `None` when its time, or that of everything, is over, and the child is then ended.
    pub(crate) fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + time_left().map_or(limit, |left| left.min(limit));
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                self.end();
                return Ok(None);
            }
            sleep(LOOK_EVERY);
        }
    }

    /// Whether the child still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn end(&mut self) {
        if !self.is_running() {
            return;
        }
        let family = Family::of(self.child.id());
        family.signal(Signal::TERM);
        let deadline = Instant::now() + GRACE;
        while self.is_running() && Instant::now() < deadline {
            sleep(LOOK_EVERY);
        }
        family.signal(Signal::KILL);
        // Where there is no /proc, this is all there is.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets nothing take longer than `limit` from now on, all together. What runs then is ended.
pub(crate) fn end_within(limit: Duration) {
    DEADLINE.get_or_init(|| Instant::now() + limit);
}

/// The time that everything together still has; `None`: as much as it needs.
pub(crate) fn time_left() -> Option<Duration> {
    DEADLINE.get().map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

/// Minutes, as a duration.
pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

fn words(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut text = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
