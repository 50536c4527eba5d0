//! Another configuration while the server runs: by signal, by the API, by the command line, by itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use outspoke_testkit::{Received, Refused, Signal, exchange};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::{PATIENCE, Server, Settings};

const KEY: &str = "a-key-of-the-reload-tests";

/// A server with a configuration file, and that file.
async fn start(text: &str) -> (Server, std::path::PathBuf) {
    let settings = Settings::default();
    let path = settings.folder().join("config.yaml");
    write(&path, text);
    (settings.start().await, path)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, format!("api: {{ keys: [{KEY}] }}\n{text}")).unwrap();
}

async fn post(server: &Server, path: &str, key: &str) -> (u16, Value) {
    ask(server, "POST", path, key).await
}

async fn ask(server: &Server, method: &str, path: &str, key: &str) -> (u16, Value) {
    let request = format!(
        "{method} /api/v1{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {key}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n",
        server.addr
    );
    let Refused { status, body, .. } = exchange(server.addr, request.as_bytes()).await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn reload(server: &Server) -> Value {
    let (status, report) = post(server, "/reload", KEY).await;
    assert_eq!(status, 200, "{report}");
    report
}

fn keys(differences: &Value) -> Vec<&str> {
    differences.as_array().unwrap().iter().map(|difference| difference["key"].as_str().unwrap()).collect()
}

/// What an operator sees is what the server lives by, and tells no secret.
#[tokio::test]
async fn settings_are_told_with_their_places_and_without_secrets() {
    let (server, path) = start("limits: { rooms_max: 77 }\n").await;
    let config = async || {
        let (status, config) = ask(&server, "GET", "/config", KEY).await;
        assert_eq!(status, 200, "{config}");
        assert!(!config.to_string().contains(KEY));
        config
    };
    let setting = |config: &Value, key: &str| {
        config["settings"].as_array().unwrap().iter().find(|setting| setting["key"] == key).unwrap().clone()
    };
    let before = config().await;
    let rooms = setting(&before, "limits.rooms_max");
    assert_eq!(
        (&rooms["value"], &rooms["source"]["layer"], &rooms["source"]["line"]),
        (&json!(77), &json!("file"), &json!(2))
    );
    assert_eq!(setting(&before, "api.keys")["value"], json!(["***"]));
    assert_eq!(before["waiting"], json!([]));
    write(&path, "limits: { rooms_max: 78 }\nserver: { shards: 3 }\n");
    assert_eq!(setting(&config().await, "limits.rooms_max")["value"], 77, "not before it is read");
    reload(&server).await;
    let after = config().await;
    assert_eq!(setting(&after, "limits.rooms_max")["value"], 78);
    assert_eq!(keys(&after["waiting"]), ["server.shards"]);
    assert_eq!(ask(&server, "GET", "/config", "another-key").await.0, 401);
}

/// Waits for a log event with that message.
async fn logged(server: &mut Server, message: &str) -> Value {
    logged_so(server, message, |_| true).await
}

async fn logged_so(server: &mut Server, message: &str, so: impl Fn(&Value) -> bool) -> Value {
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        (event["message"].as_str()?.starts_with(message) && so(&event)).then_some(event)
    };
    server.process().wait_for(event).await
}

/// What `outspoke config ...` prints: exit code, standard output, standard error.
async fn outspoke(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
    command.args(arguments).args(["--server", &format!("http://{}", server.addr), "--no-config"]).env_clear();
    let output = command.output().await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Every way that a limit can be seen: the answer to a text that is too long for it.
async fn says(server: &Server, content: &str) -> Value {
    let mut client = server.client("somebody").await;
    client.join("reloads").await;
    client.send(json!({ "type": "chat", "room": "reloads", "content": content, "id": 1 })).await;
    loop {
        match client.next_but_pings().await {
            Received::Json(value) if value["type"] == "ack" || value["type"] == "error" => return value,
            Received::Json(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn api_reloads_and_says_what_changed_and_what_waits() {
    let (server, path) = start("limits: { content_chars_max: 5 }\n").await;
    assert_eq!(says(&server, "123456").await["error"], "content_too_long");
    write(&path, "limits: { content_chars_max: 6 }\nserver: { backlog: 77 }\n");
    let (status, report) = post(&server, "/reload?dry_run=true", KEY).await;
    assert_eq!((status, &report["dryRun"]), (200, &json!(true)));
    assert_eq!(
        (keys(&report["changed"]), keys(&report["waiting"])),
        (vec!["limits.content_chars_max"], vec!["server.backlog"])
    );
    assert_eq!(says(&server, "123456").await["error"], "content_too_long", "a dry run changes nothing");
    let report = reload(&server).await;
    let change = &report["changed"][0];
    assert_eq!(
        (&change["old"], &change["new"], &change["counts"]),
        (&json!("5"), &json!("6"), &json!("at_once"))
    );
    assert!(change["source"].as_str().unwrap().ends_with("config.yaml:2:30"), "{change}");
    assert_eq!(keys(&report["waiting"]), ["server.backlog"]);
    assert_eq!(says(&server, "123456").await["type"], "ack");
    let (status, refused) = post(&server, "/reload?dry_run=perhaps", KEY).await;
    assert_eq!((status, &refused["error"]), (400, &json!("bad_request")));
    assert_eq!(post(&server, "/reload", "another-key").await.0, 401);
}

#[tokio::test]
async fn wrong_configuration_is_told_with_its_line_and_everything_stays() {
    let (mut server, path) = start("limits: { content_chars_max: 5 }\n").await;
    write(&path, "limits:\n  content_chars_max: 9\n  rooms_max: lots\n");
    let (status, refused) = post(&server, "/reload", KEY).await;
    assert_eq!((status, &refused["error"]), (422, &json!("invalid_configuration")));
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("config.yaml:4:14: limits.rooms_max: \"lots\""), "{message}");
    server.signal(Signal::HUP);
    for asker in ["the HTTP API, from 127.0.0.1:", "SIGHUP"] {
        let by = |event: &Value| event["asker"].as_str().is_some_and(|by| by.starts_with(asker));
        let event = logged_so(&mut server, "the configuration was not taken over", by).await;
        assert!(event["error"].as_str().unwrap().contains("config.yaml:4:14"), "{event}");
    }
    assert_eq!(says(&server, "123456").await["error"], "content_too_long");
    // A class whose store is not there: right by itself, and refused by the hub.
    write(
        &path,
        "stores: [{name: attic, backend: memory}]\nrooms: { classes: [{pattern: x, durability: stored, store: attic}] }\n",
    );
    let (status, refused) = post(&server, "/reload", KEY).await;
    assert_eq!(status, 422);
    assert!(refused["message"].as_str().unwrap().contains("store \"attic\""), "{refused}");
    write(&path, "limits: { content_chars_max: 6 }\n");
    server.signal(Signal::HUP);
    logged(&mut server, "the configuration was read again").await;
    assert_eq!(says(&server, "123456").await["type"], "ack");
}

/// Keys, pages, hosts and the log: what is not the hub's.
#[tokio::test]
async fn keys_pages_and_the_log_change_with_the_next_request() {
    let (mut server, path) = start("").await;
    assert_eq!(server.get("/").await.status, 200);
    std::fs::write(
        &path,
        "api: { keys: [quite-another-key] }\nserver: { page: false }\nlog: { level: \"info,outspoke=debug\" }\n\
         tenants: { enabled: true, list: [{name: acme}] }\n",
    )
    .unwrap();
    let report = reload(&server).await;
    assert_eq!(
        keys(&report["changed"]),
        ["server.page", "tenants.enabled", "tenants.list", "api.keys", "log.level"]
    );
    assert_eq!(report["changed"][3]["new"], "[\"***\"] (another one)");
    assert_eq!(post(&server, "/reload", KEY).await.0, 401, "the old key opens nothing");
    assert_eq!(post(&server, "/reload?dry_run=true", "quite-another-key").await.0, 200);
    assert_eq!(server.get("/").await.status, 404);
    assert!(server.try_open("/t/acme/ws?userId=a&username=a").await.is_ok());
    // An HTTP connection that breaks off is told at this level only.
    drop(tokio::net::TcpStream::connect(server.addr).await.unwrap());
    exchange(server.addr, b"NONSENSE\r\n\r\n").await;
    logged(&mut server, "an HTTP connection ended early").await;
    std::fs::write(&path, "api: { keys: [quite-another-key] }\n").unwrap();
    let mut acme = server.open("/t/acme/ws?userId=b&username=b").await;
    server.signal(Signal::HUP);
    assert_eq!(acme.closed().await, Some(4502), "the tenant is no longer named");
    let by_signal = |event: &Value| event["asker"] == "SIGHUP";
    logged_so(&mut server, "the configuration was read again", by_signal).await;
    assert_eq!(server.get("/").await.status, 200);
}

#[tokio::test]
async fn command_line_shows_differences_and_reloads() {
    let (server, path) = start("").await;
    let diff = async || outspoke(&server, &["config", "diff", "--key", KEY]).await;
    assert_eq!(diff().await, (Some(0), "ok: nothing differs\n".to_owned(), String::new()));
    write(&path, "limits: { rooms_max: 7 }\nserver: { shards: 1 }\ntenants: { connections_max: 8 }\n");
    let (code, shown, _) = diff().await;
    assert_eq!(code, Some(0));
    let place = path.canonicalize().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(
        shown,
        format!(
            "would change:\n  limits.rooms_max: 1_000_000 -> 7 ({place}:2:22)\n  tenants.connections_max: 0 -> 8 \
             ({place}:4:29)\nwaiting for a restart of the server:\n  server.shards: 0 -> 1 ({place}:3:19)\n"
        )
    );
    let (code, shown, _) = outspoke(&server, &["config", "reload", "--key", KEY]).await;
    assert_eq!(code, Some(0));
    assert!(shown.starts_with("changed:\n  limits.rooms_max"), "{shown}");
    assert!(diff().await.1.starts_with("waiting for a restart"));
    write(&path, "limits: { rooms_max: none }\n");
    let (code, shown, error) = outspoke(&server, &["config", "reload", "--key", KEY]).await;
    assert_eq!((code, shown.as_str()), (Some(1), ""));
    assert!(error.contains("config.yaml:2:22: limits.rooms_max: \"none\""), "{error}");
}

#[tokio::test]
async fn server_looks_for_another_configuration_by_itself_if_told_to() {
    let (mut server, path) = start("limits: { content_chars_max: 5 }\nreload: { watch: 100ms }\n").await;
    write(&path, "limits: { content_chars_max: 6 }\nreload: { watch: 100ms }\n");
    let event = logged(&mut server, "the configuration was read again").await;
    assert_eq!((&event["asker"], &event["changed"]), (&json!("a changed file"), &json!(1)));
    assert_eq!(says(&server, "123456").await["type"], "ack");
}

/// Clients of many rooms, publishing, while everything that can change changes: nobody is closed, nothing acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_under_load_drops_no_connection_and_no_message() {
    const CLIENTS: usize = 200;
    const ROOMS: usize = 20;
    const RELOADS: usize = 10;
    // Who publishes as fast as acknowledgements come would be held back some day.
    let (server, path) = start("server: { shards: 2 }\nrate: { enabled: false }\n").await;
    let server = Arc::new(server);
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    let ready = Arc::new(tokio::sync::Barrier::new(CLIENTS + 1));
    for index in 0..CLIENTS {
        let (server, stop) = (Arc::clone(&server), Arc::clone(&stop));
        let (acknowledged, ready) = (Arc::clone(&acknowledged), Arc::clone(&ready));
        clients.spawn(async move {
            let room = format!("room-{}", index % ROOMS);
            let mut client = server.client(&format!("user-{index}")).await;
            client.join(&room).await;
            ready.wait().await;
            // The first of each room publishes numbers; all count what they see.
            let (publishes, mut said, mut seen) = (index < ROOMS, 0_u64, 0_u64);
            let message = |id: u64| json!({ "type": "publish", "id": id, "room": room, "data": id });
            if publishes {
                said += 1;
                client.send(message(said)).await;
            }
            loop {
                let Received::Json(event) = client.next_but_pings().await else {
                    panic!("client {index} was closed")
                };
                match event["type"].as_str() {
                    Some("message") if event["data"] == "end" => return (index, seen),
                    Some("message") => {
                        seen += 1;
                        assert_eq!(event["data"], seen, "in order, without a hole");
                    }
                    Some("ack") if publishes => {
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                        said += 1;
                        let next = match stop.load(Ordering::Relaxed) {
                            true => json!({ "type": "publish", "room": room, "data": "end" }),
                            false => message(said),
                        };
                        client.send(next).await;
                    }
                    Some("error") => panic!("{event}"),
                    _ => {}
                }
            }
        });
    }
    ready.wait().await;
    for round in 0..RELOADS {
        let before = acknowledged.load(Ordering::Relaxed);
        let load = async {
            while acknowledged.load(Ordering::Relaxed) < before + 5 * ROOMS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, load).await.expect("messages go on");
        write(
            &path,
            &format!(
                "server: {{ shards: 2, connections_max: {} }}\nrate: {{ enabled: false }}\n\
                 limits: {{ message_bytes_max: {}KiB, rooms_max: {}, outbox_bytes_max: {}MiB }}\n\
                 heartbeat: {{ ping_interval: {}s }}\ncompression: {{ level: {}, min_bytes: {} }}\n\
                 rooms: {{ history_messages: {}, members_max: {}, classes: [{{pattern: \"room-*\", history_messages: {}}}] }}\n\
                 log: {{ level: {} }}\ntenants: {{ enabled: {} }}\n",
                1000 + round,
                8 + round,
                1000 + round,
                1 + round,
                20 + round,
                1 + round % 9,
                1 + 500 * (round % 2),
                10 + round,
                100 + round,
                10 + round,
                if round % 2 == 0 { "info" } else { "debug" },
                round % 2 == 0,
            ),
        );
        // By signal, and each is over before the next: the API says what is left.
        server.signal(Signal::HUP);
        let done = async {
            while !keys(&post(&server, "/reload?dry_run=true", KEY).await.1["changed"]).is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, done).await.expect("the signal reloads");
    }
    stop.store(true, Ordering::Relaxed);
    let mut seen = vec![Vec::new(); ROOMS];
    for (index, count) in clients.join_all().await {
        seen[index % ROOMS].push(count);
    }
    for counts in &seen {
        assert!(counts.iter().all(|count| *count == counts[0]), "everybody has seen the same: {counts:?}");
    }
    let messages: u64 = seen.iter().map(|counts| counts[0]).sum();
    println!("{RELOADS} reloads under {CLIENTS} clients and {messages} messages: nobody was closed");
}

/// What is kept off the internet at an address of its own is not at the public one, and follows another configuration.
#[tokio::test]
async fn operators_have_a_listener_of_their_own_whose_keys_are_changed_with_a_reload() {
    let (mut server, path) = start("admin: { addr: \"127.0.0.1:0\" }\nserver: { page: true }\n").await;
    let told = logged(&mut server, "operators are answered at an address of their own").await;
    let operators: std::net::SocketAddr = told["address"].as_str().unwrap().parse().unwrap();
    let status = async |at, path: &str, key: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
        );
        exchange(at, request.as_bytes()).await.status
    };
    for path in [
        "/admin",
        "/nodes",
        "/analytics",
        "/api/v1/nodes",
        "/api/v1/config",
        "/api/v1/audit",
        "/api/v1/metrics",
    ] {
        let seen = (status(operators, path, KEY).await, status(server.addr, path, KEY).await);
        assert_eq!(seen, (200, 404), "{path}");
    }
    // Applications find what is theirs at both, and people the chat at one.
    for path in ["/api/v1/rooms", "/api/v1/whoami", "/api/v1/openapi.json", "/healthz"] {
        assert_eq!(
            (status(operators, path, KEY).await, status(server.addr, path, KEY).await),
            (200, 200),
            "{path}"
        );
    }
    assert_eq!((status(operators, "/", KEY).await, status(server.addr, "/", KEY).await), (404, 200));
    assert_eq!(status(operators, "/ws", KEY).await, 404);
    assert_eq!(status(server.addr, "/api/v1/nodes", "no-key").await, 401, "who is nobody is told nothing");
    let (_, caller) = ask(&server, "GET", "/whoami", KEY).await;
    let offered = caller["operations"].as_array().unwrap();
    assert!(offered.contains(&json!("GET /rooms")) && !offered.contains(&json!("GET /nodes")), "{caller}");
    let (_, refused) = ask(&server, "GET", "/nodes", KEY).await;
    assert!(refused["message"].as_str().unwrap().contains("admin.addr"), "{refused}");
    let other = "another-key-of-the-reload-tests";
    // Where operators are waits for another start: until then nothing moves, and nobody is locked out.
    std::fs::write(&path, format!("api: {{ keys: [{other}] }}\n")).unwrap();
    let order = format!(
        "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let report = exchange(operators, order.as_bytes()).await;
    assert_eq!(report.status, 200, "{}", report.body);
    let report: Value = serde_json::from_str(&report.body).unwrap();
    assert_eq!(keys(&report["waiting"]), ["admin.addr"], "{report}");
    for (key, expected) in [(KEY, 401), (other, 200)] {
        assert_eq!(status(operators, "/api/v1/nodes", key).await, expected);
    }
    assert_eq!(status(server.addr, "/api/v1/nodes", other).await, 404);
}
