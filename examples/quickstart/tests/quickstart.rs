//! The quick starts as their readers run them, and what they print.
//!
//! `docs/quickstart` shows these very files, which the repository's tests hold. What runs in a browser is tested in
//! `e2e/browser`. The server is the program that was built beside this test, or the one that `OUTSPOKE_BIN` names.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use outspoke_testkit::{Connect, Process, Signal, TcpClient, exchange};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(120);
const KEY: &str = "the-key-of-the-quick-starts";

/// The real server, on a port and in a folder of its own.
struct Hub {
    addr: SocketAddr,
    _process: Process,
    _folder: TempDir,
}

impl Hub {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(server());
        command.args(["serve", "--no-config", "--addr=127.0.0.1:0", "--set=log.format=json"]);
        command.current_dir(folder.path()).env_clear().env("OUTSPOKE_API__KEYS", KEY);
        let mut process = Process::spawn(command);
        let addr = process.wait_for(ready).await;
        Self { addr, _process: process, _folder: folder }
    }

    /// A program of a quick start, told where the hub is.
    fn run(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder());
        command.env("HUB", format!("http://{}", self.addr)).env("KEY", KEY);
        command
    }

    async fn in_room(&self, room: &str) -> TcpClient {
        let mut client =
            TcpClient::connect(self.addr, "/ws?userId=ann&username=Ann&join=none", &[]).await.unwrap();
        client.expect("welcome").await;
        client.join(room).await;
        client
    }
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The server's program.
fn server() -> PathBuf {
    let beside = || std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("outspoke");
    let program = std::env::var_os("OUTSPOKE_BIN").map_or_else(beside, PathBuf::from);
    assert!(program.is_file(), "{} is missing: `cargo build -p outspoke` makes it", program.display());
    program
}

/// The address in the server's line that says that it is ready.
fn ready(line: &str) -> Option<SocketAddr> {
    let event: Value = serde_json::from_str(line).ok()?;
    event["message"].as_str()?.starts_with("ready").then(|| event["address"].as_str()?.parse().ok())?
}

/// What a program prints that must end well.
async fn output(mut command: Command) -> String {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends");
    let ended =
        ended.unwrap_or_else(|error| panic!("{command:?} needs a program that is not installed: {error}"));
    let (said, errors) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{command:?}: {}\n{said}{errors}", ended.status);
    said.into_owned()
}

/// What the page says that is printed.
fn expected(quick_start: &str) -> String {
    std::fs::read_to_string(folder().join(quick_start).join("output.txt")).unwrap()
}

/// The same text with ids, times and epochs as they are in `output.txt`.
fn settled(text: &str) -> String {
    let example = [("id", "019b6ece-b840-7a43-a430-d84680aabd0b"), ("epoch", "5ac1d54f0b7c9e21")];
    let time = ("timestamp", "2025-12-30T10:30:00.000Z");
    let settle = |text: String, (field, value): (&str, &str)| {
        let start = format!("\"{field}\":\"");
        let mut parts = text.split(&start);
        let mut settled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (is, rest) = part.split_once('"').unwrap();
            // The user's own id is no secret of the server's.
            let value = if is.len() == value.len() { value } else { is };
            settled.push_str(&format!("{start}{value}\"{rest}"));
        }
        settled
    };
    example.into_iter().chain([time]).fold(text.to_owned(), settle)
}

#[tokio::test]
async fn curl_says_something_in_the_lobby_and_reads_it_back() {
    let hub = Hub::start().await;
    let mut ann = hub.in_room("lobby").await;
    let said = output(hub.run("curl/quickstart.sh", &[])).await;
    assert_eq!(settled(&said), expected("curl"));
    let heard = ann.find("chat").await;
    assert_eq!((&heard["username"], &heard["content"]), (&json!("Curl"), &json!("Hello from curl")));
}

#[tokio::test]
async fn pushed_from_a_shell_python_and_go_each_version_arrives_once() {
    let hub = Hub::start().await;
    let mut ann = hub.in_room("deploys").await;
    let first = settled(&output(hub.run("push/push.sh", &["1.4.0"])).await);
    let second = output(hub.run("python3", &["push/push.py", "1.4.1"])).await;
    let third = output(hub.run("go", &["run", "push/push.go", "1.4.2"])).await;
    let again = output(hub.run("python3", &["push/push.py", "1.4.2"])).await;
    assert_eq!([first, second, third, again].concat(), expected("push"));
    for version in ["1.4.0", "1.4.1", "1.4.2"] {
        let deploy = ann.expect("deploy").await;
        assert_eq!(deploy["data"], json!({ "version": version }));
    }
}

#[tokio::test]
async fn node_hears_what_it_and_others_publish() {
    let hub = Hub::start().await;
    // As `npm install` would leave it.
    let project = tempfile::tempdir().unwrap();
    let packages = project.path().join("node_modules/@outspoke");
    std::fs::create_dir_all(&packages).unwrap();
    std::os::unix::fs::symlink(folder().join("../../crates/web/sdk"), packages.join("client")).unwrap();
    std::fs::copy(folder().join("node/quickstart.mjs"), project.path().join("quickstart.mjs")).unwrap();
    // Node 20 has a WebSocket behind this flag; later ones have it anyway.
    let mut node = hub.run("node", &["--experimental-websocket", "--no-warnings", "quickstart.mjs", "1.4.0"]);
    node.current_dir(project.path());
    let mut node = Process::spawn(node);
    node.wait_for(|line| line.starts_with("published as").then_some(())).await;
    node.wait_for(|line| line.ends_with(": 1.4.0").then_some(())).await;
    output(hub.run("push/push.sh", &["1.4.1"])).await;
    node.wait_for(|line| line.ends_with(": 1.4.1").then_some(())).await;
    assert_eq!(node.log().join("\n") + "\n", expected("node"));
}

#[tokio::test]
async fn rust_hears_what_it_and_others_publish() {
    let hub = Hub::start().await;
    let mut rust = Process::spawn(hub.run(env!("CARGO_BIN_EXE_quickstart-rust"), &["1.4.0"]));
    rust.wait_for(|line| line.ends_with(": 1.4.0").then_some(())).await;
    output(hub.run("push/push.sh", &["1.4.1"])).await;
    rust.wait_for(|line| line.ends_with(": 1.4.1").then_some(())).await;
    assert_eq!(rust.log().join("\n") + "\n", expected("rust"));
}

async fn post(address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    let answer = exchange(address, request.as_bytes()).await;
    (answer.status, answer.body)
}

async fn start(program: &str, environment: &[(&str, &str)]) -> (Process, SocketAddr) {
    let mut command = Command::new(program);
    command.arg("127.0.0.1:0").envs(environment.iter().copied());
    let mut process = Process::spawn(command);
    let address = process.wait_for(|line| line.strip_prefix("http://")?.parse().ok()).await;
    (process, address)
}

#[tokio::test]
async fn embedded_hub_tells_the_page_of_a_deploy() {
    let (mut process, address) = start(env!("CARGO_BIN_EXE_quickstart-embedding"), &[]).await;
    let page = exchange(address, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!((page.status, page.body.contains("new WebSocket(address)")), (200, true));
    let mut ann = TcpClient::connect(address, "/ws?userId=ann", &[]).await.unwrap();
    ann.expect("welcome").await;
    ann.send(json!({ "type": "subscribe", "room": "deploys", "last": 10 })).await;
    ann.expect("subscribed").await;
    assert_eq!(post(address, "/deploys", "1.4.0").await, (200, expected("embedding")));
    assert_eq!(ann.find("deploy").await["data"], json!({ "version": "1.4.0" }));
    process.signal(Signal::INT).unwrap();
    assert_eq!(ann.closed().await, Some(1001));
    ann.close(1001, "").await;
    drop(ann);
    assert!(process.ended(Duration::from_secs(30)).await.success());
}

#[tokio::test]
async fn embedded_hub_with_tokens_lets_in_who_is_logged_in_and_allows_what_the_token_says() {
    let secret = [("SECRET", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")];
    let (mut process, address) = start(env!("CARGO_BIN_EXE_quickstart-embedding-auth"), &secret).await;
    let stranger = TcpClient::connect(address, "/ws?userId=ann", &[]).await.unwrap_err();
    assert_eq!(stranger.status, 401, "{}", stranger.body);

    let (status, token) = post(address, "/login", "ann").await;
    assert_eq!(status, 200);
    // As a browser does it, which can set no header.
    let credential = format!("outspoke.bearer.{token}");
    let mut ann =
        Connect::to(address, "/ws").protocol("outspoke.v1").protocol(&credential).open().await.unwrap();
    assert_eq!(ann.expect("welcome").await["userId"], "ann");
    process.wait_for(|line| (line == "ann came").then_some(())).await;
    ann.join("team:red").await;
    ann.send(json!({ "type": "publish", "id": 1, "room": "team:red", "data": "hello" })).await;
    assert_eq!(ann.find("ack").await["id"], 1);
    assert_eq!(ann.find("message").await["data"], "hello");
    ann.join("deploys").await;
    ann.send(json!({ "type": "publish", "id": 2, "room": "deploys", "data": "1.4.0" })).await;
    let refused = ann.find("error").await;
    assert_eq!((&refused["id"], &refused["error"]), (&json!(2), &json!("forbidden")));
    assert!(process.log().iter().all(|line| !line.contains(&token)), "the token is in the log");
}
