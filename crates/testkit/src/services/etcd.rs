//! An etcd server.

use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::server::{Server, free_port, in_path, program};
use crate::Process;

/// An etcd of one member, which lives as long as this guard.
#[derive(Debug)]
pub struct Etcd {
    server: Server,
    port: u16,
    peer_port: u16,
    options: Vec<String>,
    folder: TempDir,
}

impl Etcd {
    /// Starts one.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts one with these options on its command line.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for its data");
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let (port, peer_port) = (free_port(), free_port());
        let server = launch(&folder, port, peer_port, &options).await;
        Self { server, port, peer_port, options, folder }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// How a client finds it. With `--cert-file` among its options it speaks TLS, as `localhost`.
    #[must_use]
    pub fn url(&self) -> String {
        match is_secure(&self.options) {
            true => format!("https://localhost:{}", self.port),
            false => format!("http://{}", self.addr()),
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
        self.server = launch(&self.folder, self.port, self.peer_port, &self.options).await;
    }

    /// Ends it and takes away all that it has kept.
    ///
    /// # Panics
    /// The folder cannot be replaced.
    pub fn wipe(&mut self) {
        self.server.kill();
        self.folder = tempfile::tempdir().expect("a folder for its data");
    }

    /// Forgets every revision but the current one.
    ///
    /// # Panics
    /// It refuses.
    pub async fn compact(&self) {
        // The answer's header has the revision, as a string: its numbers have 64 bits.
        let answer = self.ask("/v3/kv/range", r#"{"key":"AA=="}"#).await;
        let (_, after) = answer.split_once(r#""revision":""#).expect("a revision");
        let revision: String = after.chars().take_while(char::is_ascii_digit).collect();
        let question = format!(r#"{{"revision":"{revision}","physical":true}}"#);
        let answer = self.ask("/v3/kv/compaction", &question).await;
        assert!(answer.contains("header"), "compaction: {answer}");
    }

    /// Asks its JSON gateway, as `curl -d` would, and gives the answer's body.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn ask(&self, path: &str, question: &str) -> String {
        self.ask_as("", path, question).await
    }

    /// Asks as whoever has got that token from it.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn ask_as(&self, token: &str, path: &str, question: &str) -> String {
        let mut stream = TcpStream::connect(self.addr()).await.expect("it listens");
        let login = if token.is_empty() { String::new() } else { format!("Authorization: {token}\r\n") };
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: etcd\r\n{login}Content-Length: {}\r\n\r\n",
            question.len()
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        stream.write_all(question.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer.split_once("\r\n\r\n").expect("an answer has a head").1.to_owned()
    }
}

fn is_secure(options: &[String]) -> bool {
    options.iter().any(|option| option == "--cert-file")
}

async fn launch(folder: &TempDir, port: u16, peer_port: u16, options: &[String]) -> Server {
    let mut command = Command::new(program(in_path("etcd"), "etcd-server"));
    let scheme = if is_secure(options) { "https" } else { "http" };
    let (client, peer) = (format!("{scheme}://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    command
        .args(["--name", "test", "--data-dir"])
        .arg(folder.path())
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("test={peer}"), "--logger", "zap"])
        .args(options);
    let mut server = Server::new(Process::spawn(command));
    server.process().wait_for(|line| line.contains("serving client traffic").then_some(())).await;
    server
}
