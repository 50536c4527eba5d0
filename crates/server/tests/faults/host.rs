//! The server under fault: the real binary, on data that outlives it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use outspoke_testkit::{Process, Signal, Usage};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::watch;

/// How long the system may take to be done with a killed process.
const GONE: Duration = Duration::from_secs(30);

/// Every room is stored and keeps everything, except those whose names begin with `mem:`.
const ROOMS: &str = r#"
server:
  addr: "127.0.0.1:0"
  shards: 2
rate:
  enabled: false
rooms:
  default: ""
  durability: stored
  history_messages: 0
  history_bytes: 0
  history_age: 30d
  announce: false
  classes:
    - pattern: "mem:*"
      durability: memory
      history_messages: 1000
"#;

/// Where a server runs, again and again.
#[derive(Debug)]
pub(crate) struct Host {
    folder: TempDir,
    pub(crate) data: PathBuf,
    process: Option<Process>,
    address: watch::Sender<Option<SocketAddr>>,
}

impl Host {
    /// With stored rooms, and further sections of the configuration. Nothing runs yet.
    pub(crate) fn new(sections: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.yaml"), format!("{ROOMS}{sections}")).unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        Self { folder, data, process: None, address: watch::Sender::new(None) }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the server is at any time; nowhere while it is dead.
    pub(crate) fn address(&self) -> watch::Receiver<Option<SocketAddr>> {
        self.address.subscribe()
    }

    pub(crate) fn command(&self) -> Command {
        self.command_of(Command::new(binary()))
    }

    /// The server's arguments for a program that runs it.
    pub(crate) fn command_of(&self, mut command: Command) -> Command {
        command.args(["serve", "--config"]).arg(self.folder.path().join("config.yaml"));
        command.arg("--set").arg(format!("data.dir={}", self.data.display()));
        command.current_dir(self.folder.path()).env_clear();
        command
    }

    /// Starts the server and waits until it is ready; says how long that took.
    pub(crate) async fn start(&mut self) -> Duration {
        self.start_as(self.command()).await
    }

    pub(crate) async fn start_as(&mut self, command: Command) -> Duration {
        let begin = Instant::now();
        self.spawn(command);
        let address = self.process().wait_for(ready_address).await;
        let taken = begin.elapsed();
        self.address.send_replace(Some(address));
        taken
    }

    /// Starts the server and does not wait.
    pub(crate) fn spawn(&mut self, command: Command) {
        assert!(self.process.is_none(), "one server at a time has the data");
        self.process = Some(Process::spawn(command));
    }

    /// Stops the server in good order: who is connected is told to go. Returns how long that took.
    pub(crate) async fn stop(&mut self) -> Duration {
        let begin = Instant::now();
        self.address.send_replace(None);
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::TERM).unwrap();
        let status = process.ended(GONE).await;
        assert!(status.success(), "stopped in good order: {status}");
        begin.elapsed()
    }

    /// Ends the server in the middle of what it does.
    pub(crate) async fn kill(&mut self) {
        self.address.send_replace(None);
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::KILL).unwrap();
        process.ended(GONE).await;
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    pub(crate) fn usage(&self) -> Usage {
        self.process.as_ref().expect("it runs").usage()
    }
}

/// The program under fault: the one that was built with the tests, or another, such as a release build.
pub(crate) fn binary() -> OsString {
    std::env::var_os("OUTSPOKE_FAULT_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_outspoke").into())
}

/// The address in the log event that says that the server is ready.
fn ready_address(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    let ready = event["message"].as_str()?.starts_with("ready");
    ready.then(|| event["address"].as_str()?.parse().ok())?
}
