//! Marked secrets in every place that takes one, everything driven that could tell of them, and a search of all that was said.
//!
//! What is searched: both log formats at the most talkative level, standard output and error, heads and bodies of HTTP answers,
//! frames, the command line's own words. A mark counts as found in any of the forms in which it could hide.

mod credentials;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use outspoke_testkit::services::{Etcd, Nats, Redis};
use outspoke_testkit::{Received, Refused, Signal, TcpClient, exchange};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::support::{PATIENCE, Server, Settings};

/// The secrets of one test, and everything that was said.
#[derive(Default)]
struct Evidence {
    marks: BTreeMap<String, String>,
    said: Vec<(String, String)>,
}

impl Evidence {
    /// A secret of a kind that every setting takes.
    fn mark(&mut self, what: &str) -> String {
        let mark = format!("m4rk{}x{}", self.marks.len(), fastrand::u64(1 << 60..));
        self.known(what, &mark);
        mark
    }

    /// A secret that somebody else made.
    fn known(&mut self, what: &str, secret: &str) {
        self.marks.insert(format!("{what} ({})", self.marks.len()), secret.to_owned());
    }

    fn said(&mut self, by: impl Into<String>, text: impl Into<String>) {
        self.said.push((by.into(), text.into()));
    }

    fn answered(&mut self, by: &str, answer: &Refused) {
        self.said(by, format!("{} {:?}\n{}", answer.status, answer.headers, answer.body));
    }

    /// No mark in anything that was said.
    fn acquit(&self) {
        let mut found = Vec::new();
        for (what, mark) in &self.marks {
            let forms = [mark.clone(), hex(mark.as_bytes()), bytes_as_debug(mark)];
            let forms = forms.into_iter().chain(base64(mark));
            for form in forms {
                for (by, text) in self.said.iter().filter(|(_, text)| text.contains(&form)) {
                    let at = text.find(&form).unwrap();
                    let from = text[..at].char_indices().rev().nth(160).map_or(0, |(at, _)| at);
                    let to = text[at..].char_indices().nth(200).map_or(text.len(), |(more, _)| at + more);
                    found.push(format!("{what}, in {by}: {}", &text[from..to]));
                }
            }
        }
        let bytes: usize = self.said.iter().map(|(_, text)| text.len()).sum();
        assert!(found.is_empty(), "{} leaks:\n{}", found.len(), found.join("\n\n"));
        println!("{} marks, {} texts of {bytes} bytes: none found", self.marks.len(), self.said.len());
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `{:?}` writes a vector of bytes.
fn bytes_as_debug(text: &str) -> String {
    let bytes: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
    bytes.join(", ")
}

/// The middle of the text in base64, at each of the three places that it can have there.
fn base64(text: &str) -> Vec<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..3)
        .map(|skip| {
            let whole = &text.as_bytes()[skip..];
            let triples = whole.chunks_exact(3).flat_map(|triple| {
                let number = u32::from_be_bytes([0, triple[0], triple[1], triple[2]]);
                [18, 12, 6, 0].map(|shift| char::from(DIGITS[(number >> shift & 63) as usize]))
            });
            triples.collect()
        })
        .collect()
}

/// A search that finds nothing proves nothing unless it would find something.
#[test]
fn search_finds_a_mark_in_every_form() {
    for leak in [
        |mark: &str| mark.to_owned(),
        |mark: &str| hex(mark.as_bytes()),
        |mark: &str| format!("{:?}", mark.as_bytes()),
    ] {
        let mut evidence = Evidence::default();
        let mark = evidence.mark("a secret");
        evidence.said("a log", "nothing of it");
        evidence.acquit();
        evidence.said("a log", format!("ü {} ü", leak(&mark)));
        assert!(std::panic::catch_unwind(|| evidence.acquit()).is_err());
    }
    // By another implementation: "m4rk" as base64 of "xm4rk...".
    assert!(base64("m4rk0x1").contains(&"bTRyazB4".to_owned()));
}

/// Every way in which a client can show a credential, right or wrong.
fn credentials(mark: &str) -> Vec<(String, String)> {
    let header = |name: &str, value: String| (String::new(), format!("{name}: {value}\r\n"));
    let query = |name: &str| (format!("{name}={mark}"), String::new());
    vec![
        header("Authorization", format!("Bearer {mark}")),
        header("Authorization", format!("bearer  {mark}")),
        header("Authorization", format!("Basic {mark}")),
        header("Authorization", mark.to_owned()),
        header("X-Api-Key", mark.to_owned()),
        header("Cookie", format!("session={mark}; token={mark}")),
        header("Sec-WebSocket-Protocol", format!("outspoke.bearer.{mark}")),
        header("Sec-WebSocket-Protocol", format!("outspoke.v1, bearer, {mark}")),
        query("token"),
        query("access_token"),
        query("key"),
        query("userId=a&username=a&password"),
    ]
}

const PATHS: [&str; 8] =
    ["/ws", "/gohub", "/t/acme/ws", "/health", "/", "/nowhere", "/api/v1/rooms", "/api/v1/nowhere"];

/// Requests with a credential in every place, as upgrades and as they are.
async fn ask_everywhere(evidence: &mut Evidence, server: &Server, mark: &str) {
    for path in PATHS {
        for (query, header) in credentials(mark) {
            for upgrade in [
                "Connection: close\r\n",
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            ] {
                let request =
                    format!("GET {path}?{query} HTTP/1.1\r\nHost: {}\r\n{header}{upgrade}\r\n", server.addr);
                evidence.answered(&format!("GET {path}"), &exchange(server.addr, request.as_bytes()).await);
            }
        }
    }
    // What no HTTP server takes.
    for request in [
        format!("GET /ws?token={mark} HTTP/9.9\r\n\r\n"),
        format!("GET /ws?token={mark}\r\n\r\n"),
        format!("GET /ws HTTP/1.1\r\nAuthorization: Bearer {mark}\r\nBad Header: {mark}\r\n\r\n"),
        format!(
            "GET /ws HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {mark}\r\nX: {}\r\n\r\n",
            "x".repeat(40_000)
        ),
        format!("GET /ws HTTP/1.1\r\nHost: x\r\nCookie: {mark}"),
        format!("{mark}\r\n\r\n"),
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // It may be cut off in the middle.
        let _ = stream.read_to_end(&mut answer).await;
        evidence.said("an answer to no HTTP", String::from_utf8_lossy(&answer));
    }
}

/// Frames with a credential in them, before and after everything else.
async fn tell_frames(evidence: &mut Evidence, mut client: TcpClient, mark: &str) {
    for frame in [
        json!({ "type": "auth", "token": mark, "id": 1 }),
        json!({ "type": "refresh", "token": mark, "id": 2 }),
        json!({ "type": "subscribe", "room": "x", "token": mark, "id": 3 }),
        json!({ "type": "subscribe", "room": "x", "token": [mark], "id": 4 }),
        json!({ "type": "nothing", "token": mark, "id": 5 }),
        json!([mark]),
    ] {
        client.send(frame).await;
    }
    client.send_text(&format!("{{ \"type\": \"auth\", \"token\": \"{mark}\" ")).await;
    client.send_binary(mark.as_bytes()).await;
    client.send(json!({ "type": "ping", "id": "over" })).await;
    loop {
        match client.next_but_pings().await {
            Received::Json(value) => {
                evidence.said("a frame", value.to_string());
                if value["id"] == "over" {
                    break;
                }
            }
            other => {
                evidence.said("a frame", format!("{other:?}"));
                break;
            }
        }
    }
}

async fn api(
    evidence: &mut Evidence,
    server: &Server,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> Refused {
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        server.addr,
        body.len()
    );
    let answer = exchange(server.addr, request.as_bytes()).await;
    evidence.answered(&format!("{method} {path}"), &answer);
    answer
}

/// What operators look at.
async fn look_around(evidence: &mut Evidence, server: &Server, key: &str) {
    for path in ["/", "/nodes", "/analytics", "/health", "/healthz", "/readyz"] {
        evidence.answered(path, &server.get(path).await);
    }
    for path in [
        "/rooms",
        "/clients",
        "/users",
        "/tenants",
        "/nodes",
        "/affinity?user=a",
        "/analytics",
        "/openapi.json",
        "/rooms/x/history",
    ] {
        api(evidence, server, "GET", path, key, "").await;
    }
    api(evidence, server, "POST", "/cluster/check", key, "").await;
    api(evidence, server, "POST", "/reload?dry_run=true", key, "").await;
    api(evidence, server, "POST", "/publish", key, &format!("{{\"room\": \"x\", \"key\": \"{key}\"}}")).await;
}

/// A command of the binary, in the folder and with the environment of a server.
async fn command(
    evidence: &mut Evidence,
    folder: &Path,
    env: &[(&str, &str)],
    arguments: &[&str],
) -> Option<i32> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
    command.args(arguments).current_dir(folder).env_clear().envs(env.iter().copied()).kill_on_drop(true);
    command.stdin(std::process::Stdio::null());
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let by = arguments.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    evidence.said(format!("outspoke {by}"), String::from_utf8_lossy(&output.stdout));
    evidence.said(format!("outspoke {by}"), String::from_utf8_lossy(&output.stderr));
    output.status.code()
}

/// Waits until everything that was done is in the log, and takes it.
async fn log_of(evidence: &mut Evidence, mut server: Server) {
    server.signal(Signal::TERM);
    server.process().ended(PATIENCE).await;
    evidence.said("the log", server.process().log().join("\n"));
}

/// The settings that take a secret and are not used by the server that has them, but shown, compared and read again.
fn file_with_secrets(evidence: &mut Evidence, key: &str) -> String {
    let mut mark = |what: &str| evidence.mark(what);
    format!(
        "api: {{ keys: [{key}, {}] }}\n\
         log: {{ level: trace }}\n\
         store:\n  backend: memory\n  postgresql: {{ url: \"postgresql://u:{}@127.0.0.1:1/d?password={}\" }}\n  \
         redis: {{ url: \"redis://u:{}@127.0.0.1:1\" }}\n  dynamodb: {{ endpoint: \"http://u:{}@127.0.0.1:1\" }}\n\
         cluster:\n  secret: {}\n  etcd: {{ endpoints: [\"http://u:{}@127.0.0.1:1\"], password: {} }}\n  \
         redis: {{ url: \"redis://u:{}@127.0.0.1:1,redis://u:{}/?#@127.0.0.1:1\" }}\n  \
         nats: {{ url: \"nats://{}@127.0.0.1:1\" }}\n",
        mark("another API key"),
        mark("postgresql url"),
        mark("postgresql parameter"),
        mark("redis url"),
        mark("dynamodb endpoint"),
        mark("cluster secret"),
        mark("etcd endpoint"),
        mark("etcd password"),
        mark("bus redis url"),
        mark("bus redis url with odd characters"),
        mark("nats token"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_a_server_and_of_its_clients_are_said_nowhere() {
    for format in ["human", "json"] {
        let mut evidence = Evidence::default();
        let key = evidence.mark("the API key");
        let from_env = evidence.mark("a secret in the environment");
        let from_flag = evidence.mark("a secret in a flag");
        let wrong = evidence.mark("what clients show");
        let settings = Settings::default()
            .set("log.format", format)
            .set("cluster.etcd.password", &from_flag)
            .env("OUTSPOKE_CLUSTER__SECRET", &from_env)
            .env("RUST_BACKTRACE", "1");
        let file = settings.folder().join("config.yaml");
        std::fs::write(&file, file_with_secrets(&mut evidence, &key)).unwrap();
        let folder = settings.folder().to_owned();
        let server = start(settings, format).await;

        ask_everywhere(&mut evidence, &server, &wrong).await;
        ask_everywhere(&mut evidence, &server, &key).await;
        tell_frames(&mut evidence, server.client("teller").await, &wrong).await;
        look_around(&mut evidence, &server, &key).await;

        let env = [("OUTSPOKE_CLUSTER__SECRET", from_env.as_str())];
        let flag = format!("cluster.etcd.password={from_flag}");
        let url = format!("http://{}", server.addr);
        for arguments in [
            &["config", "show", "--set", &flag][..],
            &["config", "show", "--json", "--set", &flag],
            &["config", "check", "--set", &flag],
            &["config", "diff", "--server", &url, "--key", &key],
            &["config", "diff", "--server", &url, "--key", &wrong],
            &["config", "reload", "--server", &url],
            &["cluster", "nodes", "--server", &url, "--key", &wrong],
            &["cluster", "check", "--server", "http://127.0.0.1:1", "--key", &wrong],
            &["healthcheck", "--url", &url],
        ] {
            command(&mut evidence, &folder, &env, arguments).await;
        }
        // Other secrets, then wrong ones.
        let text = file_with_secrets(&mut evidence, &key);
        std::fs::write(&file, text).unwrap();
        let report = api(&mut evidence, &server, "POST", "/reload", &key, "").await;
        assert!(report.body.contains("\"api.keys\""), "it is told that they differ: {}", report.body);
        let bad = evidence.mark("a secret in a wrong place");
        let keys = format!("api: {{ keys: [{key}] }}\n");
        for (text, wrong) in [
            (format!("api: {{ keys: [\"{bad} \\u0007\"] }}\n"), true),
            (format!("api: {{ keys: {{ a: {bad} }} }}\n"), true),
            (format!("api: {{ key: {bad} }}\n"), true),
            (format!("api:\n  keys: [\"{bad}\n"), true),
            (format!("api: [*x, {bad}]\n"), true),
            (format!("{keys}cluster: {{ secret: [{bad}], etcd: {{ password: {{ x: {bad} }} }} }}\n"), true),
            (
                format!("{keys}cluster: {{ etcd: {{ endpoints: [\"u:{bad}@h\", \"ftp://u:{bad}@h\"] }} }}\n"),
                true,
            ),
            (format!("{keys}cluster: {{ secret: \"{bad}\\u0007\" }}\n"), true),
            // These are looked at when they are used.
            (format!("{keys}store: {{ postgresql: {{ url: \"mysql://u:{bad}@h\" }} }}\n"), false),
            (format!("{keys}store: {{ postgresql: {{ url: \"u:{bad}@h\" }} }}\n"), false),
            (format!("{keys}stores: [{{name: a, backend: redis, url: \"http://u:{bad}@h\"}}]\n"), false),
        ] {
            std::fs::write(&file, &text).unwrap();
            let answer = api(&mut evidence, &server, "POST", "/reload", &key, "").await;
            assert!(answer.status == 422 || !wrong, "{text}: {}", answer.body);
            server.signal(Signal::HUP);
            let code = command(&mut evidence, &folder, &env, &["config", "check"]).await;
            assert!(code == Some(78) || !wrong, "{text}");
        }
        log_of(&mut evidence, server).await;
        evidence.acquit();
    }
}

/// Starts a server whose log may be for people.
async fn start(settings: Settings, format: &str) -> Server {
    match format {
        "json" => settings.start().await,
        _ => {
            settings
                .start_saying(|line| {
                    let (_, address) = line.split_once("address=\"")?;
                    line.contains("ready").then(|| address.split('"').next()?.parse().ok())?
                })
                .await
        }
    }
}

/// Stores that are away or refuse the password: the server does not start, and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_of_stores_are_in_no_complaint() {
    let mut evidence = Evidence::default();
    let redis = Redis::start().await;
    evidence.known("the password of Redis", Redis::PASSWORD);
    let mark = evidence.mark("the password of a store");
    let folder = tempfile::tempdir().unwrap();
    let urls = [
        ("postgresql", format!("postgresql://u:{mark}@127.0.0.1:1/d")),
        ("postgresql", format!("postgresql://u@127.0.0.1:1/d?password={mark}")),
        ("postgresql", format!("postgresql://u:{mark}@127.0.0.1:1/d?sslmode=verify-full")),
        ("postgresql", format!("postgresql://u:{mark}%zz@127.0.0.1:1/d")),
        ("postgresql", format!("postgresql://u:{mark}@{}/d", redis.addr())),
        ("redis", format!("redis://u:{mark}@127.0.0.1:1")),
        ("redis", format!("redis://:{mark}@{}", redis.addr())),
        ("redis", format!("redis://u:{mark}@{}", redis.addr())),
        ("redis", format!("rediss://u:{mark}@{}", redis.addr())),
        ("redis", format!("redis://u:{mark}/?x,y@127.0.0.1:1")),
    ];
    for (backend, url) in &urls {
        for format in ["human", "json"] {
            let (backend, url) = (format!("store.backend={backend}"), format!("store.{backend}.url={url}"));
            let format = format!("log.format={format}");
            let timeout = format!("store.{}.timeout=1s", backend.trim_start_matches("store.backend="));
            let set = ["--set", &backend, "--set", &url, "--set", &format, "--set", "log.level=trace"];
            let rest = ["--set", &timeout, "--set", "server.addr=127.0.0.1:0"];
            let arguments: Vec<&str> = ["serve"].into_iter().chain(set).chain(rest).collect();
            let code = command(&mut evidence, folder.path(), &[], &arguments).await;
            assert_ne!(code, Some(0), "{url}");
            let verify: Vec<&str> = ["store", "verify"].into_iter().chain(set).chain(rest).collect();
            command(&mut evidence, folder.path(), &[], &verify).await;
        }
    }
    evidence.acquit();
}

/// A bus that refuses the password, for as long as the server runs; and a store that takes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_of_the_bus_are_in_no_complaint() {
    let (redis, nats, etcd) = tokio::join!(
        Redis::start(),
        Nats::start_with("authorization { user: u, password: right }\n"),
        Etcd::start()
    );
    for format in ["human", "json"] {
        for bus in ["redis", "nats", "etcd"] {
            let mut evidence = Evidence::default();
            evidence.known("the password of Redis", Redis::PASSWORD);
            let (key, mark) = (evidence.mark("the API key"), evidence.mark("the password of the bus"));
            let secret = evidence.mark("the secret of the cluster");
            let settings = Settings::default()
                .set("log.format", format)
                .set("log.level", "trace")
                .set("api.keys", &key)
                .set("store.backend", "redis")
                .set("store.redis.url", &redis.url())
                .set("cluster.enabled", "true")
                .set("cluster.secret", &secret)
                .set("cluster.heartbeat", "200ms")
                .set("cluster.bus", bus);
            let settings = match bus {
                "redis" => settings.set("cluster.redis.url", &format!("redis://u:{mark}@{}", redis.addr())),
                "nats" => settings.set("cluster.nats.url", &nats.url_as(&format!("u:{mark}"))),
                _ => settings
                    .set("cluster.etcd.endpoints", &etcd.url())
                    .set("cluster.etcd.username", "u")
                    .set("cluster.etcd.password", &mark),
            };
            let server = start(settings, format).await;
            // Long enough for it to be refused a few times, whatever it waits between two attempts.
            for _ in 0..10 {
                look_around(&mut evidence, &server, &key).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            log_of(&mut evidence, server).await;
            evidence.acquit();
        }
    }
}

/// A user's name can neither begin a line of the log nor drive the terminal of its reader; most are not even let in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_forge_no_line_of_the_log() {
    const FORGED: &str = "%0A2026-01-01T00:00:00Z%20ERROR%20forged%1B%5B2J%C2%9B31m%E2%80%AE%0D";
    for format in ["human", "json"] {
        let settings = Settings::default().set("log.format", format).set("log.level", "trace");
        let server = start(settings, format).await;
        for target in [
            format!("/ws?userId={FORGED}"),
            format!("/ws?username={FORGED}"),
            format!("/ws?userId=a&username=a&device={FORGED}"),
            format!("/ws?userId=a&username=a&join={FORGED}"),
            format!("/ws?userId=a&username=a&dialect={FORGED}"),
            format!("/{FORGED}"),
            format!("/t/{FORGED}/ws"),
            format!("/api/v1/{FORGED}"),
        ] {
            server.get(&target).await;
            let refused = server.try_open(&target).await;
            assert!(refused.is_err() || target.contains("dialect"), "{target}");
        }
        let mut client = server.client("a").await;
        let forged = "\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{9b}31m\u{202e}\r";
        for frame in [
            json!({ "type": forged, "id": 1 }),
            json!({ "type": "subscribe", "room": forged, "id": 2 }),
            json!({ "type": "chat", "content": format!("/nick {forged}"), "id": 3 }),
            json!({ "type": "ping", "id": "over" }),
        ] {
            client.send(frame).await;
        }
        client.find("pong").await;
        let mut server = server;
        server.signal(Signal::TERM);
        server.process().ended(PATIENCE).await;
        for line in server.process().log() {
            assert!(!line.starts_with("2026-01-01"), "{line}");
            assert!(line.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{line:?}");
            if format == "json" {
                assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
            }
        }
    }
}
