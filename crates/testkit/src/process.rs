//! A program that a test starts, watches and ends.
//!
//! Lives as long as its guard: whatever happens to the test, the process ends with it, by its id. What it says on
//! standard output and standard error is kept, and shown if the test fails.

use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a program may take to say or do what a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program.
pub struct Process {
    child: Child,
    pid: u32,
    log: Arc<Log>,
    /// Ready when its output has ended.
    listeners: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// The lines a program has written so far.
#[derive(Debug)]
struct Log {
    lines: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl Log {
    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, line: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push(line);
        self.count.send_replace(lines.len());
    }

    async fn keep(self: Arc<Self>, stream: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(stream).lines();
        // A program that ends, or writes no text, says nothing further.
        while let Ok(Some(line)) = lines.next_line().await {
            self.add(line);
        }
    }
}

/// What the system knows of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory it occupies (`VmRSS`), in bytes.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
}

impl Process {
    /// Starts a program without input.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn spawn(mut command: Command) -> Self {
        // Where a program measured for coverage counts; tests that clear the environment mean everything else.
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let pid = child.id().expect("nobody has waited for it yet");
        let log = Arc::new(Log { lines: Mutex::default(), count: watch::Sender::new(0) });
        let output = child.stdout.take().map(|stream| tokio::spawn(Arc::clone(&log).keep(stream)));
        let errors = child.stderr.take().map(|stream| tokio::spawn(Arc::clone(&log).keep(stream)));
        Self { child, pid, log, listeners: output.into_iter().chain(errors).collect() }
    }

    /// The process's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a line of which `find` makes something.
    ///
    /// # Panics
    /// The program ends, or takes too long, without one.
    pub async fn wait_for<T>(&mut self, find: impl FnMut(&str) -> Option<T>) -> T {
        let (log, mut find) = (Arc::clone(&self.log), find);
        let mut count = log.count.subscribe();
        let said = async {
            let mut seen = 0;
            loop {
                let lines = log.lines();
                if let Some(found) = lines[seen..].iter().find_map(|line| find(line)) {
                    return found;
                }
                seen = lines.len();
                let _ = count.wait_for(|count| *count > seen).await;
            }
        };
        tokio::select! {
            found = tokio::time::timeout(PATIENCE, said) => found.expect("the program says what is expected"),
            status = self.child.wait() => panic!("the program ended with {status:?}"),
        }
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.child.id().is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).expect("the system's own number");
        Ok(kill_process(pid, signal)?)
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// The system does not say.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the system knows its children").is_none()
    }

    /// Waits for its end; the log is complete then.
    ///
    /// # Panics
    /// It takes longer than `patience`.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let ended = tokio::time::timeout(patience, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("still running after {patience:?}"));
        for listener in self.listeners.drain(..) {
            let heard = tokio::time::timeout(PATIENCE, listener).await;
            heard.expect("its output ends with it").expect("listening does not fail");
        }
        ended.expect("a child can be waited for")
    }

    /// What it occupies now; Linux only.
    ///
    /// # Panics
    /// The process is gone.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        let entries = |folder: &str| {
            std::fs::read_dir(format!("/proc/{}/{folder}", self.pid)).expect("it is ours").count()
        };
        Usage { resident_bytes: field("VmRSS") * 1024, descriptors: entries("fd"), threads: entries("task") }
    }
}

impl Drop for Process {
    #[allow(clippy::print_stderr)] // To whoever reads why a test failed.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- what process {} said ----\n{}", self.pid, self.log.lines().join("\n"));
        }
    }
}
