//! An HAProxy with the configuration of `deploy/haproxy/`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use super::balancer::{Upstream, replaced, shipped, with_lines};
use super::server::{Server, free_port, in_path, program};
use crate::Process;

/// An HAProxy in front of hubs, which lives as long as this guard.
#[derive(Debug)]
pub struct Haproxy {
    server: Server,
    port: u16,
    folder: TempDir,
    /// How often it got a new configuration.
    reloads: usize,
}

impl Haproxy {
    /// Starts one in front of these nodes.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start(nodes: &[Upstream]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for its files");
        let port = free_port();
        write_config(folder.path(), port, nodes);
        let mut command = Command::new(program(in_path("haproxy"), "haproxy"));
        command.arg("-W").arg("-f").arg(folder.path().join("haproxy.cfg"));
        let mut server = Server::new(Process::spawn(command));
        server.process().wait_for(|line| line.contains("Loading success").then_some(())).await;
        Self { server, port, folder, reloads: 0 }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Puts it in front of other nodes without ending connections, and waits until its process with the old list
    /// takes no more of them.
    ///
    /// # Panics
    /// It does not take the configuration.
    pub async fn set_nodes(&mut self, nodes: &[Upstream]) {
        write_config(self.folder.path(), self.port, nodes);
        self.server.process().signal(Signal::USR2).expect("it runs");
        self.reloads += 1;
        let mut count = 0;
        let stopped = |line: &str| {
            // The log proper says the same without the bracket.
            count += usize::from(line.starts_with('[') && line.contains("Proxy outspoke stopped"));
            (count >= self.reloads).then_some(())
        };
        self.server.process().wait_for(stopped).await;
    }

    /// Waits until it has found out that a node is not well.
    ///
    /// # Panics
    /// It does not.
    pub async fn has_lost(&mut self, node: &str) {
        let lost = format!("Server hubs/{node} is DOWN");
        self.server.process().wait_for(|line| line.contains(&lost).then_some(())).await;
    }
}

fn write_config(folder: &Path, port: u16, nodes: &[Upstream]) {
    let text = replaced(&config(nodes), "bind :8080\n", &format!("bind 127.0.0.1:{port}\n"));
    let text = replaced(&text, "maxconn 100000", "maxconn 4000");
    fs::write(folder.join("haproxy.cfg"), text).expect("the folder takes a file");
}

/// The shipped configuration, with these nodes.
fn config(nodes: &[Upstream]) -> String {
    let servers = nodes.iter().zip(1..).map(|(node, id)| {
        let Upstream { name, addr } = node;
        format!("    server {name} {addr} id {id}\n")
    });
    with_lines(
        &shipped("haproxy/haproxy.cfg"),
        |line| line.starts_with("    server "),
        &servers.collect::<String>(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::balancer::shipped_nodes;
    use super::*;

    // Tests would run with another configuration than users.
    #[test]
    fn haproxy_nodes_of_the_shipped_file_give_the_shipped_file() {
        assert_eq!(config(&shipped_nodes()), shipped("haproxy/haproxy.cfg"));
    }
}
