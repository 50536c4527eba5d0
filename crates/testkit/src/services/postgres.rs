//! A PostgreSQL server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::server::{Server, free_port, program};
use crate::Process;

/// How long making a fresh data folder may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A PostgreSQL server with one database and an ordinary role that owns it, which lives as long as this guard.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// The password of the role `outspoke`, and of the superuser `postgres`.
    pub const PASSWORD: &'static str = "correct-horse";

    /// Starts one with PostgreSQL's own settings for what survives a crash.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for its data");
        initialise(folder.path()).await;
        let port = free_port();
        let server = launch(folder.path(), port).await;
        Self { server, port, folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// How a client finds it, as the ordinary role.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://outspoke:{}@{}/outspoke", Self::PASSWORD, self.addr())
    }

    /// Writes a file into its data folder that only it may read.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_file(&self, name: &str, text: &str) {
        let path = data(self.folder.path()).join(name);
        fs::write(&path, text).expect("the folder takes a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        if let Some((user, group)) = other_user() {
            chown(&path, Some(user), Some(group)).expect("root may give a file away");
        }
    }

    /// Lets it do nothing, with every connection open.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Ends it in the middle of what it does.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again after [`kill`](Self::kill), on the same port and data.
    pub async fn restart(&mut self) {
        self.server = launch(self.folder.path(), self.port).await;
    }

    /// Runs statements in the database as the superuser and returns what they answer, without decoration.
    ///
    /// # Panics
    /// One fails.
    pub async fn sql(&self, statements: &str) -> String {
        let output = Command::new(tool("psql"))
            .env("PGPASSWORD", Self::PASSWORD)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p"])
            .arg(self.port.to_string())
            .args(["-U", "postgres", "-d", "outspoke", "-c", statements])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("psql starts");
        assert!(output.status.success(), "{statements}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// A program of the newest PostgreSQL that is installed.
fn tool(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<_> = versions.map(|entry| entry.path()).collect();
    versions.sort_by_key(|path| {
        let version = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    let candidates = versions.into_iter().map(|version| version.join("bin").join(name));
    program(candidates.chain(super::server::in_path(name)), "postgresql")
}

/// A command as a user that PostgreSQL agrees to run as: it refuses root.
fn command(name: &str) -> Command {
    let mut command = Command::new(tool(name));
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    // The folder we are in may be closed to that user.
    command.current_dir("/");
    command
}

/// When we are root, whom to be instead.
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("the system has users");
    let ids = |name: &str| {
        let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user that is not root"))
}

async fn initialise(folder: &Path) {
    let password = folder.join("password");
    fs::write(&password, Postgres::PASSWORD).expect("the folder takes a file");
    if let Some((user, group)) = other_user() {
        chown(folder, Some(user), Some(group)).expect("root may give a folder away");
        chown(&password, Some(user), Some(group)).expect("root may give a file away");
    }
    let mut initdb = command("initdb");
    initdb.args([
        "--no-sync",
        "--locale=C",
        "--encoding=UTF8",
        "--auth=scram-sha-256",
        "--username=postgres",
    ]);
    initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(data(folder));
    let mut initdb = Process::spawn(initdb);
    let status = initdb.ended(PATIENCE).await;
    assert!(status.success(), "initdb: {}", initdb.log().join("\n"));
    single_user(folder, &format!("CREATE ROLE outspoke LOGIN PASSWORD '{}'\n", Postgres::PASSWORD)).await;
    single_user(folder, "CREATE DATABASE outspoke OWNER outspoke\n").await;
}

/// Runs one statement while there is no server yet.
async fn single_user(folder: &Path, statement: &str) {
    let mut postgres = command("postgres");
    postgres.args(["--single", "-F", "-D"]).arg(data(folder)).arg("postgres");
    postgres.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = postgres.spawn().expect("postgres starts");
    let mut input = child.stdin.take().expect("it was asked for");
    input.write_all(statement.as_bytes()).await.expect("it reads");
    drop(input);
    let output = child.wait_with_output().await.expect("a child can be waited for");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("ERROR"), "{statement}: {said}");
}

async fn launch(folder: &Path, port: u16) -> Server {
    let mut postgres = command("postgres");
    postgres.arg("-D").arg(data(folder)).args(["-p", &port.to_string()]);
    let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=64MB"];
    postgres.args(settings.iter().flat_map(|setting| ["-c", setting]));
    let mut server = Server::new(Process::spawn(postgres));
    let ready = "database system is ready to accept connections";
    server.process().wait_for(|line| line.contains(ready).then_some(())).await;
    server
}
