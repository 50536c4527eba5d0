//! The operators' own listener where the server speaks TLS: what docs/operating/admin.md says of it, over https.

use std::net::SocketAddr;

use outspoke_testkit::{ByteStream as _, Refused, exchange, exchange_over};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::tls::{Authority, Dialer};
use crate::support::{PATIENCE, Server, Settings};

const KEY: &str = "a-key-of-the-operators-tests";

/// A server with TLS and two listeners; where operators are answered.
struct Apart {
    server: Server,
    operators: SocketAddr,
    folder: std::path::PathBuf,
}

impl Apart {
    async fn start(settings: Settings) -> Self {
        let settings = settings.set("admin.addr", "127.0.0.1:0").set("api.keys", KEY);
        let folder = settings.folder().to_owned();
        let mut server = settings.start().await;
        let told = logged(&mut server, "operators are answered at an address of their own").await;
        Self { server, operators: told["address"].as_str().unwrap().parse().unwrap(), folder }
    }

    /// What the command line needs to know to find this server as the machine's own.
    fn as_own(&self) -> Vec<String> {
        let set = |key: &str, value: &str| ["--set".to_owned(), format!("{key}={value}")];
        [
            set("server.addr", &self.server.addr.to_string()),
            set("admin.addr", &self.operators.to_string()),
            set("api.keys", KEY),
            set("tls.certificate", "server.pem"),
            set("tls.key", "server.key"),
        ]
        .concat()
    }
}

async fn logged(server: &mut Server, message: &str) -> Value {
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        event["message"].as_str()?.contains(message).then_some(event)
    };
    server.process().wait_for(event).await
}

fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
    )
}

async fn get(client: &Dialer, at: SocketAddr, path: &str) -> Refused {
    exchange_over(client.dial(at).await.unwrap(), request(path).as_bytes()).await
}

/// What comes back for bytes that are no TLS.
async fn in_the_clear(at: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let (mut answer, _) = (Vec::new(), stream.write_all(bytes).await);
    // An alert or nothing, and then the end in whatever way.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

fn json_of(answer: &Refused) -> Value {
    serde_json::from_str(&answer.body).unwrap()
}

/// The paths in `src` and `href` of a page.
fn assets(page: &str) -> Vec<String> {
    let quoted = page.split('"').map(str::to_owned);
    quoted.filter(|text| text.starts_with("assets/")).map(|path| format!("/{path}")).collect()
}

#[tokio::test]
async fn pages_health_and_the_whole_api_are_there_over_https_and_only_there() {
    let authority = Authority::new();
    let settings = Settings::default().tls(&authority.issue(&["localhost"])).set("tls.hsts", "1h");
    let apart = Apart::start(settings).await;
    let (client, public) = (authority.client(), apart.server.addr);
    let operators = apart.operators;
    for path in ["/admin", "/nodes", "/analytics"] {
        let page = get(&client, operators, path).await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.headers["strict-transport-security"], "max-age=3600", "{path}");
        assert!(!page.headers["content-security-policy"].to_str().unwrap().contains("unsafe"), "{path}");
        let assets = assets(&page.body);
        assert!(!assets.is_empty(), "{path} has scripts");
        for asset in assets {
            assert_eq!(get(&client, operators, &asset).await.status, 200, "{path}: {asset}");
        }
        assert_eq!(get(&client, public, path).await.status, 404, "{path}");
    }
    for path in ["/health", "/healthz", "/readyz", "/api/v1/rooms", "/api/v1/openapi.json"] {
        assert_eq!(get(&client, operators, path).await.status, 200, "{path}");
        assert_eq!(get(&client, public, path).await.status, 200, "{path}");
    }
    for path in ["/nodes", "/config", "/log-level", "/audit", "/metrics"] {
        let path = format!("/api/v1{path}");
        assert_eq!(get(&client, operators, &path).await.status, 200, "{path}");
        assert_eq!(get(&client, public, &path).await.status, 404, "{path}");
    }
    let offered = |caller: &Refused| json_of(caller)["operations"].as_array().unwrap().clone();
    let whoami = get(&client, operators, "/api/v1/whoami").await;
    assert!(offered(&whoami).contains(&json!("GET /nodes")), "{}", whoami.body);
    let whoami = get(&client, public, "/api/v1/whoami").await;
    assert!(!offered(&whoami).contains(&json!("GET /nodes")), "{}", whoami.body);
    // Clients and the chat are elsewhere, and nobody is answered in the clear.
    assert_eq!(get(&client, operators, "/").await.status, 404);
    assert!(client.try_open(operators, "/ws?userId=ann&username=Ann").await.is_err());
    let said = in_the_clear(operators, request("/health").as_bytes()).await;
    assert!(!said.starts_with(b"HTTP"), "no HTTP without TLS");
}

#[tokio::test]
async fn certificate_that_changes_is_shown_to_operators_too() {
    let authority = Authority::new();
    let settings = Settings::default().tls(&authority.issue(&["localhost"])).set("tls.reload_interval", "1s");
    let mut apart = Apart::start(settings).await;
    let client = authority.client();
    let shown = async |at| client.dial(at).await.unwrap().shown().map(<[u8]>::to_vec);
    // Session tickets would hide what is shown now.
    let fresh = authority.client();
    let before = shown(apart.operators).await;
    assert!(before.is_some());
    assert_eq!(fresh.dial(apart.server.addr).await.unwrap().shown().map(<[u8]>::to_vec), before);
    authority.issue(&["localhost"]).write(&apart.folder, "server");
    logged(&mut apart.server, "new connections get the new certificates").await;
    let after = authority.client().dial(apart.operators).await.unwrap().shown().map(<[u8]>::to_vec);
    assert!(after.is_some() && after != before);
    // A ticket from before is for nothing at either address.
    assert_eq!(shown(apart.operators).await, after);
    assert_eq!(authority.client().dial(apart.server.addr).await.unwrap().shown().map(<[u8]>::to_vec), after);
}

#[tokio::test]
async fn operators_are_asked_for_certificates_where_clients_are_and_never_for_the_proxy_protocol() {
    let authority = Authority::new();
    let settings = Settings::default().tls(&authority.issue(&["localhost"]));
    std::fs::write(settings.folder().join("clients.pem"), &authority.pem).unwrap();
    let settings = settings
        .set("tls.client_ca", "clients.pem")
        .set("tls.client_auth", "required")
        .set("server.proxy_protocol", "true")
        .set("server.trusted_proxies", "127.0.0.1");
    let apart = Apart::start(settings).await;
    let shown = authority.issue_client("desk", "spiffe://example.org/desk");
    let answer = get(&authority.client_showing(Some(&shown)), apart.operators, "/api/v1/nodes").await;
    assert_eq!(answer.status, 200);
    // In TLS 1.3 the client learns only after its handshake what the server thinks of it.
    let answered = match authority.client().dial(apart.operators).await {
        Ok(mut pipe) => {
            pipe.write(request("/health").as_bytes()).await;
            pipe.read().await.starts_with(b"HTTP/1.1 200")
        }
        Err(_) => false,
    };
    assert!(!answered, "nobody is answered there without a certificate");
    let announced = [b"PROXY UNKNOWN\r\n", request("/health").as_bytes()].concat();
    assert!(!in_the_clear(apart.operators, &announced).await.starts_with(b"HTTP"));
}

/// Where the command line reads the server's own settings it asks operators' questions at operators' address, and TLS is no
/// hindrance; elsewhere `--server` names it, and `--ca` whom to believe.
#[tokio::test]
async fn command_line_finds_operators_over_tls() {
    let authority = Authority::new();
    let apart = Apart::start(Settings::default().tls(&authority.issue(&["localhost", "127.0.0.1"]))).await;
    std::fs::write(apart.folder.join("ca.pem"), &authority.pem).unwrap();
    let run = async |arguments: &[&str], more: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
        command.args(arguments).arg("--no-config").args(more).env_clear().current_dir(&apart.folder);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let nodes = ["cluster", "nodes", "--json"];
    let (code, said, error) = run(&nodes, &apart.as_own()).await;
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["nodes"][0]["here"], true, "{said}");
    let (code, _, error) = run(&["healthcheck"], &apart.as_own()).await;
    assert_eq!(code, Some(0), "{error}");
    let named = |at: SocketAddr, ca: &str| {
        let address = format!("https://{at}");
        ["--server", &address, "--key", KEY, "--ca", ca].map(str::to_owned).to_vec()
    };
    let (code, _, error) = run(&nodes, &named(apart.operators, "ca.pem")).await;
    assert_eq!(code, Some(0), "{error}");
    // The public address is not for this, and a stranger's authority vouches for nobody.
    let (code, _, error) = run(&nodes, &named(apart.server.addr, "ca.pem")).await;
    assert!(code == Some(1) && error.contains("admin.addr"), "{code:?}: {error}");
    std::fs::write(apart.folder.join("stranger.pem"), &Authority::new().pem).unwrap();
    let (code, _, error) = run(&nodes, &named(apart.operators, "stranger.pem")).await;
    assert!(code == Some(69) && error.contains("--ca"), "{code:?}: {error}");
}

/// Over plain HTTP where the server has no TLS: the other half of "where `server.addr` does".
#[tokio::test]
async fn operators_without_tls_are_answered_in_the_clear() {
    let apart = Apart::start(Settings::default()).await;
    let answer = exchange(apart.operators, request("/api/v1/nodes").as_bytes()).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("strict-transport-security"));
}
