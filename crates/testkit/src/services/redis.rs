//! A Redis server, and a cluster of some.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;

use super::server::{Server, free_port, in_path, program};
use crate::Process;

/// How long servers may take to become a cluster.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Redis server with a password, which lives as long as this guard.
#[derive(Debug)]
pub struct Redis {
    server: Server,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
}

impl Redis {
    /// The password of its only user.
    pub const PASSWORD: &'static str = "correct-horse";

    /// Starts one that loses nothing it has answered for: an append-only file, synced at each write.
    pub async fn start() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts one with these options on its command line.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for its data");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let port = free_port();
        let server = launch(&folder, port, &options).await;
        Self { server, port, options, folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// How a client finds it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{}@{}/0", Self::PASSWORD, self.addr())
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
        self.server = launch(&self.folder, self.port, &self.options).await;
    }
}

/// A cluster of three Redis servers without replicas, which lives as long as this guard.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts one.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            // The port they talk to each other on is by default one that may not exist.
            let bus = free_port().to_string();
            nodes.push(Redis::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await);
        }
        let mut create = Command::new(program(in_path("redis-cli"), "redis-tools"));
        create.args(["--no-auth-warning", "-a", Redis::PASSWORD, "--cluster", "create"]);
        create.args(nodes.iter().map(|node| node.addr().to_string())).arg("--cluster-yes");
        let mut create = Process::spawn(create);
        // It waits until every node knows of the others.
        let status = create.ended(PATIENCE).await;
        assert!(status.success(), "redis-cli: {}", create.log().join("\n"));
        Self { nodes }
    }

    /// How a client finds it.
    #[must_use]
    pub fn url(&self) -> String {
        self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }
}

async fn launch(folder: &TempDir, port: u16, options: &[String]) -> Server {
    let mut command = Command::new(program(in_path("redis-server"), "redis-server"));
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--requirepass", Redis::PASSWORD, "--masterauth", Redis::PASSWORD])
        .arg("--dir")
        .arg(folder.path())
        .args(options);
    let mut server = Server::new(Process::spawn(command));
    server.process().wait_for(|line| line.contains("Ready to accept connections").then_some(())).await;
    server
}
