//! An nginx with the configuration of `deploy/nginx/`.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use super::balancer::{Upstream, replaced, shipped, with_lines};
use super::server::{Server, free_port, in_path, program};
use crate::Process;

/// Processes that serve; all of them have to take over a new configuration.
const WORKERS: usize = 2;

/// An nginx in front of hubs, which lives as long as this guard.
#[derive(Debug)]
pub struct Nginx {
    server: Server,
    port: u16,
    folder: TempDir,
    /// How often it got a new configuration.
    reloads: usize,
}

impl Nginx {
    /// Starts one in front of these nodes.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start(nodes: &[Upstream]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for its files");
        let port = free_port();
        fs::write(folder.path().join("nginx.conf"), config(port)).expect("the folder takes a file");
        write_nodes(folder.path(), nodes);
        let mut command = Command::new(program(in_path("nginx"), "nginx"));
        command.arg("-p").arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
        command.args(["-e", "stderr", "-g", "daemon off; error_log stderr notice; pid nginx.pid;"]);
        let mut server = Server::new(Process::spawn(command));
        has_said(server.process(), "start worker process ", WORKERS).await;
        Self { server, port, folder, reloads: 0 }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Puts it in front of other nodes without ending connections, and waits until none of its processes goes by the
    /// old list any more.
    ///
    /// # Panics
    /// It does not take the configuration.
    pub async fn set_nodes(&mut self, nodes: &[Upstream]) {
        write_nodes(self.folder.path(), nodes);
        self.server.process().signal(Signal::HUP).expect("it runs");
        self.reloads += 1;
        has_said(self.server.process(), "gracefully shutting down", WORKERS * self.reloads).await;
    }
}

/// Waits until it has said something so often.
async fn has_said(process: &mut Process, what: &str, times: usize) {
    let mut count = 0;
    let heard = |line: &str| {
        count += usize::from(line.contains(what));
        (count >= times).then_some(())
    };
    process.wait_for(heard).await;
}

/// The shipped configuration, on this port and without a need for any right.
fn config(port: u16) -> String {
    let text = shipped("nginx/nginx.conf");
    let text = replaced(&text, "listen 8080;", &format!("listen 127.0.0.1:{port};"));
    let text = replaced(&text, "worker_processes auto;", &format!("worker_processes {WORKERS};"));
    let text = replaced(&text, "worker_rlimit_nofile 262144;", "");
    let text = replaced(&text, "worker_connections 131072;", "worker_connections 8192;");
    let text = replaced(&text, "access_log /dev/stdout outspoke;", "access_log access.log outspoke;");
    let scratch: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("    {name}_temp_path scratch-{name};\n"))
        .collect();
    replaced(&text, "http {\n", &format!("http {{\n{scratch}"))
}

fn write_nodes(folder: &Path, nodes: &[Upstream]) {
    fs::write(folder.join("nodes.conf"), nodes_conf(nodes)).expect("the folder takes a file");
}

/// The shipped list of nodes, with these instead.
fn nodes_conf(nodes: &[Upstream]) -> String {
    let (mut ring, mut map, mut single) = (String::new(), String::new(), String::new());
    for Upstream { name, addr } in nodes {
        let _ = writeln!(ring, "    server {addr} weight=8 max_fails=0;");
        let _ = writeln!(map, "    {name}   node-{name};");
        let _ = writeln!(single, "upstream node-{name} {{ server {addr}; }}");
    }
    let text = shipped("nginx/nodes.conf");
    let text = with_lines(&text, |line| line.starts_with("    server "), &ring);
    let text = with_lines(&text, |line| line.contains("   node-"), &map);
    with_lines(&text, |line| line.starts_with("upstream node-"), &single)
}

#[cfg(test)]
mod tests {
    use super::super::balancer::shipped_nodes;
    use super::*;

    // Tests would run with another configuration than users.
    #[test]
    fn nginx_nodes_of_the_shipped_file_give_the_shipped_file() {
        assert_eq!(nodes_conf(&shipped_nodes()), shipped("nginx/nodes.conf"));
    }
}
