//! A server for one test: started, talked to, and ended with it.

pub(crate) mod raw;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use outspoke_testkit::{Process, Refused, Signal, TcpClient, Usage, exchange};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. Ends with its guard.
#[derive(Debug)]
pub(crate) struct Server {
    process: Process,
    pub(crate) addr: SocketAddr,
    _folder: TempDir,
}

/// How a server is to be started.
#[derive(Debug)]
#[must_use = "nothing runs until it is started"]
pub(crate) struct Settings {
    folder: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    descriptors: Option<u32>,
    binary: std::path::PathBuf,
}

impl Settings {
    /// The defaults, in an empty folder, on loopback.
    pub(crate) fn default() -> Self {
        let settings = Self::bare();
        settings.set("server.addr", "127.0.0.1:0")
    }

    /// The defaults, also for the address.
    pub(crate) fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binary = env!("CARGO_BIN_EXE_outspoke").into();
        let arguments = vec!["serve".to_owned()];
        Self { folder, arguments, environment: Vec::new(), descriptors: None, binary }
    }

    /// With `--set key=value`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another build than this one.
    pub(crate) fn binary(self, binary: &Path) -> Self {
        Self { binary: binary.to_owned(), ..self }
    }

    /// With so many file descriptors at most.
    pub(crate) fn descriptors(mut self, limit: u32) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// The working directory of the server to be.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a process that need not become a server.
    pub(crate) fn spawn(self) -> (Process, TempDir) {
        let mut command = match self.descriptors {
            None => Command::new(&self.binary),
            Some(limit) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]).arg(&self.binary);
                shell
            }
        };
        command.args(&self.arguments).current_dir(self.folder.path()).env_clear();
        command.envs(self.environment);
        (Process::spawn(command), self.folder)
    }

    /// Starts the server and waits until it is ready.
    pub(crate) async fn start(self) -> Server {
        self.start_saying(ready_address).await
    }

    /// Starts the server and waits until a line of its says where it listens.
    pub(crate) async fn start_saying(self, ready: impl Fn(&str) -> Option<SocketAddr>) -> Server {
        let (mut process, folder) = self.spawn();
        let addr = process.wait_for(|line| ready(line)).await;
        Server { process, addr, _folder: folder }
    }
}

/// The address in the log event that says that the server is ready.
fn ready_address(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    let ready = event["message"].as_str()?.starts_with("ready");
    ready.then(|| event["address"].as_str()?.parse().ok())?
}

impl Server {
    /// A server with the default settings.
    pub(crate) async fn start() -> Self {
        Settings::default().start().await
    }

    /// A connection to a path and query, which must be upgraded.
    pub(crate) async fn open(&self, target: &str) -> TcpClient {
        self.try_open(target).await.unwrap_or_else(|refused| panic!("{target}: {refused:?}"))
    }

    pub(crate) async fn try_open(&self, target: &str) -> Result<TcpClient, Refused> {
        TcpClient::connect(self.addr, target, &[]).await
    }

    /// A connection in no room, with its welcome read.
    pub(crate) async fn client(&self, user: &str) -> TcpClient {
        let mut client = self.open(&format!("/ws?userId={user}&username={user}&join=none")).await;
        client.expect("welcome").await;
        client
    }

    /// A connection in the lobby, with its welcome read.
    pub(crate) async fn in_lobby(&self, user: &str) -> TcpClient {
        let mut client = self.open(&format!("/ws?userId={user}&username={user}")).await;
        client.expect("welcome").await;
        client.expect("subscribed").await;
        client
    }

    /// The answer to a GET.
    pub(crate) async fn get(&self, path: &str) -> Refused {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.addr);
        exchange(self.addr, request.as_bytes()).await
    }

    /// The number of clients that `/health` tells.
    pub(crate) async fn clients(&self) -> usize {
        let health: Value = serde_json::from_str(&self.get("/health").await.body).unwrap();
        usize::try_from(health["clients"].as_u64().unwrap()).unwrap()
    }

    /// Asks until `/health` tells of so many clients.
    pub(crate) async fn has_clients(&self, count: usize) {
        let mut last = 0;
        let asked = async {
            loop {
                last = self.clients().await;
                if last == count {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, asked).await;
        assert!(in_time.is_ok(), "still {last} clients, not {count}");
    }

    /// A healthy exchange over a connection of its own.
    pub(crate) async fn serves(&self) {
        let mut client = self.client("healthy").await;
        client.send(serde_json::json!({ "type": "ping", "id": "healthy" })).await;
        assert_eq!(client.expect("pong").await["id"], "healthy");
        client.close(1000, "").await;
        assert_eq!(client.closed().await, Some(1000));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal).unwrap();
    }

    pub(crate) fn usage(&self) -> Usage {
        self.process.usage()
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
