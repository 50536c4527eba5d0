//! `outspoke cluster` as operators meet it: against a server on its own, against two that act as one, and against nobody.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use outspoke_testkit::services::Redis;
use outspoke_testkit::{Process, TcpClient};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

const KEY: &str = "a-key-for-tests-0123456789";

/// A running server. Ends with its guard.
struct Server {
    _process: Process,
    addr: SocketAddr,
    _folder: TempDir,
}

impl Server {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
        command.args(["serve", "--addr", "127.0.0.1:0"]).current_dir(folder.path()).env_clear();
        for (key, value) in settings {
            command.args(["--set", &format!("{key}={value}")]);
        }
        let mut process = Process::spawn(command);
        let ready = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            event["message"]
                .as_str()?
                .starts_with("ready")
                .then(|| event["address"].as_str()?.parse().ok())?
        };
        let addr = process.wait_for(ready).await;
        Self { _process: process, addr, _folder: folder }
    }

    /// A node of a cluster.
    async fn node(name: &str, redis: &Redis) -> Self {
        let url = redis.url();
        Self::start(&[
            ("api.keys", KEY),
            ("cluster.enabled", "true"),
            ("cluster.bus", "redis"),
            ("cluster.redis.url", &url),
            ("cluster.name", name),
            ("cluster.heartbeat", "1s"),
            ("cluster.secret", "battery staple"),
            ("store.backend", "redis"),
            ("store.redis.url", &url),
        ])
        .await
    }

    /// Exit code, output and complaints of `outspoke cluster VERB ... --server ...`.
    async fn cluster(&self, args: &[&str], key: Option<&str>) -> (i32, String, String) {
        let server = format!("http://{}", self.addr);
        let mut all = args.to_vec();
        all.extend(["--server", &server]);
        let env: Vec<_> = key.map(|key| ("OUTSPOKE_API__KEYS", key)).into_iter().collect();
        outspoke(&all, &env).await
    }

    async fn client(&self, user: &str) -> TcpClient {
        let target = format!("/ws?userId={user}&username={user}&join=none");
        let mut client = TcpClient::connect(self.addr, &target, &[]).await.unwrap();
        client.expect("welcome").await;
        client
    }
}

async fn outspoke(args: &[&str], env: &[(&str, &str)]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
    command.arg("cluster").args(args).current_dir(folder.path()).env_clear().envs(env.iter().copied());
    command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (code, out, err) = (output.status.code().unwrap(), text(output.stdout), text(output.stderr));
    assert!(!out.contains(KEY) && !err.contains(KEY), "the key is printed: {out}{err}");
    (code, out, err)
}

#[tokio::test]
async fn server_on_its_own_is_listed_and_drained_but_is_no_cluster_to_check() {
    let server = Server::start(&[("api.keys", KEY), ("cluster.name", "lonely")]).await;
    let mut ana = server.client("ana").await;
    let (code, out, err) = server.cluster(&["nodes"], Some(KEY)).await;
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("NODE") && lines[0].ends_with("ADDRESS"), "{out}");
    assert!(lines[1].starts_with("lonely (this one)  serving  1 "), "{out}");
    assert_eq!(lines[2], "no bus: this server is on its own");
    let (code, _, err) = server.cluster(&["check"], Some(KEY)).await;
    assert_eq!(code, 1);
    assert!(err.starts_with("error: the server is in no cluster\n  hint: set cluster.enabled"), "{err}");
    let told = server.cluster(&["drain", "lonely", "--wait"], Some(KEY)).await;
    assert_eq!((told.0, told.1.as_str()), (0, "ok: node lonely has no connections\n"), "{told:?}");
    assert_eq!(ana.closed().await, Some(1001));
    let (_, out, _) = server.cluster(&["nodes", "--json"], Some(KEY)).await;
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["nodes"][0]["name"], &json["nodes"][0]["draining"]), (&"lonely".into(), &true.into()));
    let told = server.cluster(&["resume", "lonely"], Some(KEY)).await;
    assert_eq!((told.0, told.1.as_str()), (0, "ok: node lonely takes clients again\n"), "{told:?}");
    server.client("ana").await;
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_cure() {
    let server = Server::start(&[("api.keys", KEY)]).await;
    let hint = |(code, out, err): (i32, String, String), wanted: i32, what: &str| {
        assert_eq!((code, out.as_str()), (wanted, ""), "{err}");
        assert!(
            err.starts_with("error: ") && err.contains("\n  hint: ") && err.contains(what),
            "{what}: {err}"
        );
    };
    hint(server.cluster(&["nodes"], None).await, 77, "refuses requests without a key");
    hint(server.cluster(&["nodes", "--key", "guess"], None).await, 77, "refuses this key");
    hint(server.cluster(&["drain", "nobody"], Some(KEY)).await, 1, "hears of no node \"nobody\"");
    hint(server.cluster(&["resume", "a/../b c%"], Some(KEY)).await, 1, "hears of no node");
    let closed = Server::start(&[]).await;
    hint(closed.cluster(&["nodes"], None).await, 77, "set api.keys");
    let off = Server::start(&[("api.enabled", "false")]).await;
    hint(off.cluster(&["nodes"], Some(KEY)).await, 1, "set api.enabled to true");
    let nobody = outspoke(&["nodes", "--server", "http://127.0.0.1:1"], &[]).await;
    hint(nobody, 69, "cannot reach 127.0.0.1:1");
    let encrypted = outspoke(&["nodes", "--server", "https://127.0.0.1:1"], &[]).await;
    hint(encrypted, 69, "cannot reach 127.0.0.1:1");
    let (code, _, err) = outspoke(&["nodes", "--set", "no.such=1"], &[]).await;
    assert_eq!(code, 78, "{err}");
    let (code, _, _) = outspoke(&["drain"], &[]).await;
    assert_eq!(code, 2);
}

/// The verbs find the server where `serve` with the same settings would listen.
#[tokio::test]
async fn server_and_key_are_found_in_the_settings() {
    let server = Server::start(&[("api.keys", KEY)]).await;
    let addr = server.addr.to_string();
    let (code, out, err) = outspoke(&["nodes", "--addr", &addr], &[("OUTSPOKE_API__KEYS", KEY)]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let open = Server::start(&[("api.open_on_loopback", "true")]).await;
    let (code, _, err) = outspoke(&["nodes", "--addr", &open.addr.to_string()], &[]).await;
    assert_eq!((code, err.as_str()), (0, ""));
}

/// Clients of the drained node go, and the other one says so.
#[tokio::test]
async fn node_is_checked_drained_and_resumed_through_another() {
    let redis = Redis::start().await;
    let (one, two) = tokio::join!(Server::node("hub-1", &redis), Server::node("hub-2", &redis));
    let heard = async {
        while !one.cluster(&["nodes"], Some(KEY)).await.1.contains("hub-2") {}
        while !two.cluster(&["nodes"], Some(KEY)).await.1.contains("hub-1") {}
    };
    tokio::time::timeout(Duration::from_secs(60), heard).await.unwrap();
    let (code, out, err) = one.cluster(&["check"], Some(KEY)).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("FROM   TO     ROUND TRIP  CLOCK\nhub-1  hub-2  "), "{out}");
    assert!(out.ends_with("ok: 2 nodes reach each other\n"), "{out}");
    let (code, out, _) = one.cluster(&["nodes"], Some(KEY)).await;
    assert!(code == 0 && out.contains("bus: redis, connected; "), "{out}");
    let mut ben = two.client("ben").await;
    let told = one.cluster(&["drain", "hub-2", "--wait=30s"], Some(KEY)).await;
    assert_eq!((told.0, told.1.as_str()), (0, "ok: node hub-2 has no connections\n"), "{told:?}");
    assert_eq!(ben.closed().await, Some(1001));
    let (_, out, _) = one.cluster(&["nodes"], Some(KEY)).await;
    assert!(out.lines().any(|line| line.starts_with("hub-2 ") && line.contains(" draining ")), "{out}");
    let told = one.cluster(&["resume", "hub-2"], Some(KEY)).await;
    assert_eq!(told.0, 0, "{told:?}");
    two.client("ben").await;
}
