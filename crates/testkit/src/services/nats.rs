//! A NATS server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;
use tokio::process::Command;

use super::server::{Server, free_port, in_path, program};
use crate::Process;

/// A NATS server, which lives as long as this guard.
#[derive(Debug)]
pub struct Nats {
    server: Server,
    port: u16,
    /// With its configuration.
    folder: TempDir,
}

impl Nats {
    /// Starts one that lets everybody in.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts one with this in its configuration file.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_with(configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for its configuration");
        fs::write(folder.path().join("nats.conf"), configuration).expect("the folder takes a file");
        let port = free_port();
        let server = launch(&folder, port).await;
        Self { server, port, folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// How a client finds it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// How a client finds it who says this of itself: `user:password`, or a token.
    #[must_use]
    pub fn url_as(&self, who: &str) -> String {
        format!("nats://{who}@{}", self.addr())
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

    /// Starts it again after [`kill`](Self::kill), on the same port.
    pub async fn restart(&mut self) {
        self.server = launch(&self.folder, self.port).await;
    }
}

async fn launch(folder: &TempDir, port: u16) -> Server {
    let mut command = Command::new(program(in_path("nats-server"), "nats-server"));
    command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--config"]);
    command.arg(folder.path().join("nats.conf"));
    let mut server = Server::new(Process::spawn(command));
    server.process().wait_for(|line| line.contains("Server is ready").then_some(())).await;
    server
}
