//! A server, and the command line beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use outspoke_testkit::{Process, Signal, TcpClient};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

pub(crate) const KEY: &str = "a-key-for-tests-0123456789";
/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, in a folder that outlives it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) addr: SocketAddr,
    pub(crate) folder: TempDir,
}

impl Server {
    /// With [`KEY`] for its API.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1:0", tempfile::tempdir().unwrap(), settings).await
    }

    /// At an address, with what a former one kept in the folder.
    pub(crate) async fn start_at(addr: &str, folder: TempDir, settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
        command.args(["serve", "--addr", addr, "--set", &format!("api.keys={KEY}")]);
        for (key, value) in settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        command.current_dir(folder.path()).env_clear();
        let mut process = Process::spawn(command);
        let ready = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            let ready = event["message"].as_str()?.starts_with("ready");
            ready.then(|| event["address"].as_str()?.parse().ok())?
        };
        let addr = process.wait_for(ready).await;
        Self { process, addr, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The command line with this server and its key in the environment.
    pub(crate) fn cli(&self) -> Cli {
        Cli::new().env("OUTSPOKE_SERVER", &self.url()).env("OUTSPOKE_KEY", KEY)
    }

    /// The command line with this server, and no credential: as a client of a server in open mode.
    pub(crate) fn open_cli(&self) -> Cli {
        Cli::new().env("OUTSPOKE_SERVER", &self.url())
    }

    /// Killed as by a power cut, and started again where it was.
    pub(crate) async fn killed(self) -> (String, TempDir) {
        let Self { mut process, addr, folder } = self;
        process.signal(Signal::KILL).unwrap();
        process.ended(PATIENCE).await;
        (addr.to_string(), folder)
    }

    /// A user's connection, in no room, with its welcome read.
    pub(crate) async fn client(&self, user: &str) -> TcpClient {
        let target = format!("/ws?userId={user}&username={user}&join=none");
        let mut client = TcpClient::connect(self.addr, &target, &[]).await.unwrap();
        client.expect("welcome").await;
        client
    }
}

/// A command line in an environment of its own.
#[derive(Debug)]
pub(crate) struct Cli {
    home: TempDir,
    env: Vec<(String, String)>,
}

/// What a run said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Cli {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), env: Vec::new() }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
        command.args(args).current_dir(self.home.path()).env_clear();
        command.env("HOME", self.home.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
        command.kill_on_drop(true);
        command
    }

    /// Begins a run that goes on beside the test.
    pub(crate) fn start(&self, args: &[&str]) -> Process {
        Process::spawn(self.command(args))
    }

    pub(crate) async fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, "").await
    }

    /// With something on standard input.
    pub(crate) async fn run_with(&self, args: &[&str], input: &str) -> Said {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_owned();
        let feeding = tokio::spawn(async move {
            // Who reads nothing may close.
            let _ = stdin.write_all(input.as_bytes()).await;
        });
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{args:?} takes too long")).unwrap();
        feeding.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let said =
            Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) };
        assert!(!said.out.contains(KEY) && !said.err.contains(KEY), "the key is printed: {said:?}");
        said
    }

    /// What a run that must succeed says.
    pub(crate) async fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{args:?}: {}", said.out);
        said.out
    }

    /// The JSON lines of a run that must succeed.
    pub(crate) async fn json(&self, args: &[&str]) -> Vec<Value> {
        json_lines(&self.ok(args).await)
    }

    /// A run that must fail, with its cure.
    pub(crate) async fn fails(&self, code: i32, args: &[&str], what: &str) {
        let said = self.run(args).await;
        let told = said.err.starts_with("error: ") && said.err.contains("hint: ") && said.err.contains(what);
        assert!(said.code == code && said.out.is_empty() && told, "{args:?}: {code}, {what}: {said:?}");
    }
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

pub(crate) fn repository(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../..", path].iter().collect()
}
