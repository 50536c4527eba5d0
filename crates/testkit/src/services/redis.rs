//! A Redis server, a cluster of some, and some that a sentinel watches over.

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

    /// Waits until it has everything that its master has.
    async fn until_in_sync(&mut self) {
        let line = "MASTER <-> REPLICA sync: Finished with success";
        self.server.process().wait_for(|said| said.contains(line).then_some(())).await;
    }
}

/// A cluster of three Redis servers, which lives as long as this guard; with a replica of each if you like.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts one without replicas.
    pub async fn start() -> Self {
        Self::start_with(0).await
    }

    /// Starts one in which a dead master is replaced by its replica after some two seconds.
    pub async fn start_with_replicas() -> Self {
        Self::start_with(1).await
    }

    /// # Panics
    /// It does not start.
    async fn start_with(replicas: usize) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 * (1 + replicas) {
            // The port they talk to each other on is by default one that may not exist.
            let bus = free_port().to_string();
            let cluster =
                ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
            nodes.push(Redis::start_with(&cluster).await);
        }
        let mut create = Command::new(program(in_path("redis-cli"), "redis-tools"));
        create.args(["--no-auth-warning", "-a", Redis::PASSWORD, "--cluster", "create"]);
        create.args(nodes.iter().map(|node| node.addr().to_string()));
        create.args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"]);
        let mut create = Process::spawn(create);
        // It waits until every node knows of the others.
        let status = create.ended(PATIENCE).await;
        assert!(status.success(), "redis-cli: {}", create.log().join("\n"));
        // One that never was in sync does not take over.
        for replica in nodes.iter_mut().skip(3) {
            replica.until_in_sync().await;
        }
        Self { nodes }
    }

    /// How a client finds it.
    #[must_use]
    pub fn url(&self) -> String {
        self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }

    /// Its servers; masters first.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// One of its servers, to do harm to.
    ///
    /// # Panics
    /// It has fewer.
    pub fn node(&mut self, index: usize) -> &mut Redis {
        &mut self.nodes[index]
    }
}

/// A master, a replica, and a sentinel that makes the replica the master when the master is gone for a second. Lives as long as this guard.
#[derive(Debug)]
pub struct RedisSentinel {
    servers: [Redis; 2],
    /// Held for its process.
    _sentinel: Server,
    port: u16,
    /// With the sentinel's configuration, which it writes to.
    _folder: TempDir,
}

impl RedisSentinel {
    /// What the sentinel calls the master.
    pub const MASTER: &'static str = "main";
    /// The sentinel's own password.
    pub const PASSWORD: &'static str = "battery-staple";

    /// Starts all three.
    ///
    /// # Panics
    /// One does not start.
    pub async fn start() -> Self {
        let master = Redis::start_with(&[]).await;
        let port = master.addr().port().to_string();
        let mut replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]).await;
        replica.until_in_sync().await;
        let folder = tempfile::tempdir().expect("a folder for the sentinel");
        let (name, port) = (Self::MASTER, free_port());
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("requirepass {}", Self::PASSWORD),
            format!("dir {}", folder.path().display()),
            format!("sentinel monitor {name} 127.0.0.1 {} 1", master.addr().port()),
            format!("sentinel auth-pass {name} {}", Redis::PASSWORD),
            format!("sentinel down-after-milliseconds {name} 1000"),
            format!("sentinel failover-timeout {name} 5000"),
        ];
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, lines.join("\n")).expect("the folder takes a file");
        let mut command = Command::new(program(in_path("redis-server"), "redis-server"));
        command.arg(file).arg("--sentinel");
        let mut sentinel = Server::new(Process::spawn(command));
        // Without it there is nobody to take over.
        sentinel.process().wait_for(|line| line.contains("+slave ").then_some(())).await;
        Self { servers: [master, replica], _sentinel: sentinel, port, _folder: folder }
    }

    /// How a client finds the sentinel, with the servers' password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}", Redis::PASSWORD, self.port)
    }

    /// The first master and the first replica.
    #[must_use]
    pub fn servers(&self) -> &[Redis; 2] {
        &self.servers
    }

    /// One of both, to do harm to.
    ///
    /// # Panics
    /// There are two.
    pub fn server(&mut self, index: usize) -> &mut Redis {
        &mut self.servers[index]
    }
}

async fn launch(folder: &TempDir, port: u16, options: &[String]) -> Server {
    let mut command = Command::new(program(in_path("redis-server"), "redis-server"));
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        // A replica need not wait for others that do not come.
        .args(["--repl-diskless-sync-delay", "0"])
        .args(["--requirepass", Redis::PASSWORD, "--masterauth", Redis::PASSWORD])
        .arg("--dir")
        .arg(folder.path())
        .args(options);
    let mut server = Server::new(Process::spawn(command));
    server.process().wait_for(|line| line.contains("Ready to accept connections").then_some(())).await;
    server
}
