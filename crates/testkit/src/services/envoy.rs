//! An Envoy with the configuration of `deploy/envoy/`.
//!
//! Debian has none: the environment variable `OUTSPOKE_ENVOY` names the program.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::balancer::{Upstream, replaced, shipped, with_lines};
use super::server::{Server, free_port};
use crate::Process;

/// How long it may take to follow a change.
const PATIENCE: Duration = Duration::from_secs(60);

/// An Envoy in front of hubs, which lives as long as this guard.
#[derive(Debug)]
pub struct Envoy {
    _server: Server,
    port: u16,
    admin: SocketAddr,
    folder: TempDir,
    /// How often it got a new configuration.
    reloads: usize,
}

impl Envoy {
    /// Starts one in front of these nodes.
    ///
    /// # Panics
    /// It does not start, or nobody has said where it is.
    pub async fn start(nodes: &[Upstream]) -> Self {
        let program = std::env::var_os("OUTSPOKE_ENVOY").expect("OUTSPOKE_ENVOY names the program `envoy`");
        let folder = tempfile::tempdir().expect("a folder for its files");
        let port = free_port();
        let admin: SocketAddr = (Ipv4Addr::LOCALHOST, free_port()).into();
        put(folder.path(), "envoy.yaml", &config(folder.path(), port, admin.port()));
        put(folder.path(), "clusters.yaml", &clusters(nodes));
        put(folder.path(), "routes.yaml", &routes(nodes));
        let mut command = Command::new(PathBuf::from(program));
        // Without its shared memory, of which each Envoy of a machine would need one of its own.
        command
            .args(["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning", "-c"])
            .arg(folder.path().join("envoy.yaml"));
        let server = Server::new(Process::spawn(command));
        let envoy = Self { _server: server, port, admin, folder, reloads: 0 };
        envoy.follows(nodes).await;
        envoy
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Puts it in front of other nodes without ending connections, and waits until it goes by the new list.
    ///
    /// # Panics
    /// It does not take the configuration.
    pub async fn set_nodes(&mut self, nodes: &[Upstream]) {
        self.reloads += 1;
        put(self.folder.path(), "clusters.yaml", &clusters(nodes));
        put(self.folder.path(), "routes.yaml", &routes(nodes));
        self.follows(nodes).await;
    }

    /// Waits until it has found out that a node is not well.
    ///
    /// # Panics
    /// It does not.
    pub async fn has_lost(&self, node: &str) {
        self.tells(&[format!("cluster.only-{node}.membership_healthy: 0")]).await;
    }

    async fn follows(&self, nodes: &[Upstream]) {
        let updates = self.reloads + 1;
        self.tells(&[
            format!("cluster_manager.cds.update_success: {updates}"),
            "cluster_manager.warming_clusters: 0".to_owned(),
            format!("cluster.hubs.membership_healthy: {}", nodes.len()),
            format!("http.outspoke.rds.outspoke.update_success: {updates}"),
            "listener_manager.total_listeners_active: 1".to_owned(),
        ])
        .await;
    }

    /// Asks for its counters until they are these.
    async fn tells(&self, counters: &[String]) {
        let mut told = String::new();
        let asked = async {
            loop {
                told = self.stats().await;
                if counters.iter().all(|counter| told.lines().any(|line| line == counter)) {
                    return;
                }
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, asked).await;
        assert!(in_time.is_ok(), "Envoy does not come to {counters:?}: {told}");
    }

    async fn stats(&self) -> String {
        // It has just been started.
        let Ok(mut stream) = TcpStream::connect(self.admin).await else { return String::new() };
        let filter = "membership_healthy|update_success|warming_clusters|listeners_active";
        let request =
            format!("GET /stats?filter={filter} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers with text");
        answer
    }
}

/// Moves a file into place, which is what Envoy looks out for.
fn put(folder: &Path, name: &str, text: &str) {
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, text).expect("the folder takes a file");
    fs::rename(new, folder.join(name)).expect("the folder takes a file");
}

/// The shipped configuration, on these ports and with its other files in this folder.
fn config(folder: &Path, port: u16, admin: u16) -> String {
    let text = shipped("envoy/envoy.yaml");
    let all = r#"address: "::", port_value: 8080, ipv4_compat: true"#;
    let text = replaced(&text, all, &format!("address: 127.0.0.1, port_value: {port}"));
    let text = replaced(&text, "port_value: 9901", &format!("port_value: {admin}"));
    text.replace("/etc/envoy", &folder.display().to_string())
}

/// The shipped clusters, with these nodes.
fn clusters(nodes: &[Upstream]) -> String {
    let text = shipped("envoy/clusters.yaml");
    let (head, of_nodes) = text
        .split_once("\n  - \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n    name: only-")
        .expect("clusters of nodes follow");
    let (of_first, _) = of_nodes.split_once("\n\n").expect("one node follows another");
    let mut ring = String::new();
    let mut own = String::new();
    for node in nodes {
        let Upstream { name, addr } = node;
        let (host, port) = addr.rsplit_once(':').expect("an address with a port");
        let _ = write!(
            ring,
            "            - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}\n              \
             metadata: {{ filter_metadata: {{ envoy.lb: {{ hash_key: {name} }} }} }}\n"
        );
        let first = of_first.trim_end();
        let first = replaced(
            first,
            "address: hub-1, port_value: 8080",
            &format!("address: {host}, port_value: {port}"),
        );
        let _ = write!(
            own,
            "\n  - \"@type\": type.googleapis.com/envoy.config.cluster.v3.Cluster\n    name: only-{}\n",
            first.replace("hub-1", name)
        );
    }
    let of_ring = |line: &str| {
        line.starts_with("            - endpoint:") || line.starts_with("              metadata:")
    };
    format!("{}{own}", with_lines(head, of_ring, &ring))
}

/// The shipped routes, with these nodes.
fn routes(nodes: &[Upstream]) -> String {
    let text = shipped("envoy/routes.yaml");
    let of_node = |line: &str| line.contains("exact: hub-") || line.contains("cluster: node-");
    let first: String =
        text.lines().filter(|line| of_node(line)).take(2).flat_map(|line| [line, "\n"]).collect();
    let own: String = nodes.iter().map(|node| first.replace("hub-1", &node.name)).collect();
    with_lines(&text, of_node, &own)
}

#[cfg(test)]
mod tests {
    use super::super::balancer::shipped_nodes;
    use super::*;

    // Tests would run with another configuration than users.
    #[test]
    fn envoy_nodes_of_the_shipped_files_give_the_shipped_files() {
        assert_eq!(clusters(&shipped_nodes()), shipped("envoy/clusters.yaml"));
        assert_eq!(routes(&shipped_nodes()), shipped("envoy/routes.yaml"));
    }
}
