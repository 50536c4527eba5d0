//! Who is let in: credentials at the upgrade of the real binary, and what it says when they cannot be used.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use axum::Json;
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outspoke_auth::{Algorithm, SigningKey, new_key};
use outspoke_testkit::{Connect, Refused, Signal, TcpClient, exchange};
use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::support::tls::{Authority, Issued};
use crate::support::{PATIENCE, Server, Settings};

const SECRET: &str = "a-secret-for-tests-of-at-least-32-bytes";

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn claims(changes: Value) -> Map<String, Value> {
    let mut claims = json!({ "sub": "anna", "name": "Anna", "exp": now() + 600 });
    for (claim, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
            value => claims[claim] = value.clone(),
        }
    }
    let Value::Object(claims) = claims else { unreachable!() };
    claims
}

fn token(changes: Value) -> String {
    SigningKey::secret(Algorithm::HS256, SECRET.as_bytes()).unwrap().sign(&claims(changes))
}

/// A server that takes tokens with the secret.
async fn server() -> Server {
    Settings::default().set("auth.jwt.secret", SECRET).start().await
}

async fn show(addr: SocketAddr, token: &str) -> Result<TcpClient, Refused> {
    TcpClient::connect(addr, "/ws?join=none", &[("Authorization", &format!("Bearer {token}"))]).await
}

fn assert_unauthorized(refused: &Refused, token: &str) {
    assert_eq!(refused.status, 401, "{refused:?}");
    let error: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((&error["type"], &error["error"]), (&json!("error"), &json!("unauthorized")), "{error}");
    let said = format!("{refused:?}");
    assert!(token.split('.').all(|part| part.len() < 8 || !said.contains(part)), "{said}");
}

/// The table of refused tokens is the crate's own; here it is the way of some of each sort through a server.
#[tokio::test]
async fn tokens_that_must_not_pass_are_answered_401_before_the_upgrade_and_never_logged() {
    let mut server = server().await;
    let good = token(json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let unsigned = |alg: &str| format!("{}.{}.", encode(&json!({ "alg": alg }).to_string()), parts[1]);
    let other = SigningKey::secret(Algorithm::HS256, b"another secret of at least 32 bytes").unwrap();
    let longer = SigningKey::secret(Algorithm::HS512, SECRET.repeat(2).as_bytes()).unwrap();
    let refused = [
        unsigned("none"),
        unsigned("NoNe"),
        format!("{}{}", unsigned("none"), parts[2]),
        other.sign(&claims(json!({}))),
        longer.sign(&claims(json!({}))),
        SigningKey::secret(Algorithm::HS256, SECRET.as_bytes())
            .unwrap()
            .named("../../dev/null")
            .sign(&claims(json!({}))),
        token(json!({ "exp": null })),
        token(json!({ "exp": now() - 31 })),
        token(json!({ "exp": (now() + 600).to_string() })),
        token(json!({ "exp": 1e300 })),
        token(json!({ "nbf": now() + 600 })),
        token(json!({ "iat": now() + 600 })),
        token(json!({ "sub": 1 })),
        token(json!({ "sub": ["anna"] })),
        token(json!({ "sub": null })),
        token(json!({ "sub": "" })),
        token(json!({ "aud": "somebody-else" })),
        token(json!({ "rooms": "*" })),
        token(json!({ "room": "vip" })),
        format!("{}.{}.{}", parts[0], encode(r#"{"sub":"admin","exp":9999999999}"#), parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{good}.{}", parts[2]),
        format!("{good}="),
        "x".repeat(9000),
        new_key(),
    ];
    for token in &refused {
        let answer = show(server.addr, token).await.expect_err(token);
        assert_unauthorized(&answer, token);
    }
    let nothing = server.try_open("/ws?join=none&userId=anna&username=Anna").await.unwrap_err();
    assert_eq!(nothing.status, 401, "{nothing:?}");
    assert_eq!(server.clients().await, 0);
    let mut client = show(server.addr, &good).await.unwrap();
    let welcome = client.expect("welcome").await;
    assert_eq!(
        (&welcome["userId"], &welcome["username"], &welcome["openMode"]),
        (&json!("anna"), &json!("Anna"), &json!(false))
    );
    drop(client);
    server.signal(Signal::TERM);
    server.process().ended(PATIENCE).await;
    let log = server.process().log().join("\n");
    assert!(!log.contains(SECRET) && !log.contains("OPEN MODE"), "{log}");
    assert!(
        refused.iter().all(|token| token.split('.').all(|part| part.len() < 20 || !log.contains(part))),
        "{log}"
    );
}

#[tokio::test]
async fn credentials_come_from_header_subprotocol_cookie_and_query_as_configured() {
    let server = Settings::default()
        .set("auth.jwt.secret", SECRET)
        .set("auth.cookie", "session")
        .set("auth.cookie_origins", "https://chat.example.com")
        .set("auth.query", "true")
        .start()
        .await;
    let token = token(json!({}));
    let to = |target: &str| Connect::to(server.addr, target);
    let welcomed = async |connect: Connect| {
        let (mut client, established) =
            connect.establish().await.unwrap_or_else(|refused| panic!("{refused:?}"));
        assert_eq!(client.expect("welcome").await["userId"], "anna");
        established
    };
    welcomed(to("/ws?join=none").header("Authorization", &format!("bearer {token}"))).await;
    welcomed(to(&format!("/ws?join=none&token={token}"))).await;
    let cookie = format!("theme=dark; session={token}");
    welcomed(to("/ws?join=none").header("Cookie", &cookie).header("Origin", "https://chat.example.com"))
        .await;
    // The credential is offered beside the dialect, and never agreed on.
    let established =
        welcomed(to("/ws?join=none").protocol("outspoke.v1").protocol(&format!("outspoke.bearer.{token}")))
            .await;
    assert_eq!(established.protocol.as_deref(), Some("outspoke.v1"));
    let established = welcomed(to("/ws?join=none").protocol(&format!("outspoke.bearer.{token}"))).await;
    assert_eq!(established.protocol, None);
    // A page of somebody else has the browser send the cookie.
    for origin in ["https://evil.example", "null", "http://chat.example.com"] {
        let evil = to("/ws?join=none").header("Cookie", &cookie).header("Origin", origin).open().await;
        let status = evil.unwrap_err().status;
        assert!(matches!(status, 401 | 403), "{origin}: {status}");
    }
    let two = to(&format!("/ws?join=none&token={token}x"))
        .header("Authorization", &format!("Bearer {token}"))
        .open()
        .await;
    assert_eq!(two.unwrap_err().status, 401);
    let by_default = self::server().await;
    for connect in [
        Connect::to(by_default.addr, &format!("/ws?join=none&token={token}")),
        Connect::to(by_default.addr, "/ws?join=none").header("Cookie", &cookie),
    ] {
        assert_eq!(connect.open().await.unwrap_err().status, 401);
    }
}

/// Nobody names themselves, nor comes into another tenant, once there is a credential to say who they are.
#[tokio::test]
async fn identity_is_the_credentials_and_not_the_query_parameter() {
    let server = server().await;
    let good = token(json!({ "name": null }));
    let header = format!("Bearer {good}");
    let target = "/ws?userId=admin&username=Admin&join=none&device=tab-1";
    let mut client = TcpClient::connect(server.addr, target, &[("Authorization", &header)]).await.unwrap();
    let welcome = client.expect("welcome").await;
    assert_eq!((&welcome["userId"], &welcome["username"]), (&json!("anna"), &json!("anna")));
    // Another device of the same user does not evict the first one, which the same device would.
    let target = "/ws?join=none&device=tab-2";
    let mut second = TcpClient::connect(server.addr, target, &[("Authorization", &header)]).await.unwrap();
    second.expect("welcome").await;
    assert_eq!(server.clients().await, 2);
}

async fn outspoke(folder: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    use tokio::io::AsyncWriteExt as _;

    let mut command = Command::new(env!("CARGO_BIN_EXE_outspoke"));
    command.args(args).current_dir(folder).env_clear();
    command.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input has closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output: Output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn token_made_on_the_command_line_is_accepted_and_can_be_inspected() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let secret = format!("auth.jwt.secret={SECRET}");
    let with = ["--no-config", "--set", &secret];
    let args = [
        "token", "create", "--user", "bert", "--for", "10m", "--name", "Bert", "--join", "chat:*", "--claim",
        "level=3",
    ];
    let (code, token, complaints) = outspoke(folder.path(), &[&args[..], &with].concat(), "").await;
    assert_eq!((code, complaints.as_str()), (0, ""));
    let mut client = show(server.addr, token.trim()).await.unwrap();
    assert_eq!(client.expect("welcome").await["userId"], "bert");

    let inspect = ["token", "inspect", "-"];
    let (code, said, _) = outspoke(folder.path(), &[&inspect[..], &with].concat(), &token).await;
    assert_eq!(code, 0, "{said}");
    assert!(
        said.starts_with("VERIFIED") && said.contains("\"chat:*\"") && said.contains("\"level\": 3"),
        "{said}"
    );
    let (code, said, _) = outspoke(folder.path(), &[&inspect[..], &["--no-config"]].concat(), &token).await;
    assert_eq!(code, 1);
    assert!(said.starts_with("NOT VERIFIED") && said.contains("\"sub\": \"bert\""), "{said}");
    let other = ["--no-config", "--set", "auth.jwt.secret=another-secret-of-at-least-32-bytes"];
    let (code, said, _) = outspoke(folder.path(), &[&inspect[..], &other].concat(), &token).await;
    assert_eq!(code, 1);
    assert!(said.starts_with("REFUSED: the token's signature does not fit"), "{said}");
    let (code, said, _) = outspoke(folder.path(), &["token", "inspect", "garbage", "--no-config"], "").await;
    assert!(code == 1 && said.contains("(cannot be read)"), "{said}");

    let (code, _, why) =
        outspoke(folder.path(), &["token", "create", "--user", "x", "--no-config"], "").await;
    assert!(code == 1 && why.contains("openssl rand -hex 32"), "{why}");
}

#[tokio::test]
async fn key_made_on_the_command_line_opens_by_its_hash() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said, _) = outspoke(folder.path(), &["key", "create", "--json"], "").await;
    assert_eq!(code, 0);
    let made: Value = serde_json::from_str(&said).unwrap();
    let (key, hash) = (made["key"].as_str().unwrap(), made["hash"].as_str().unwrap());
    let keys = format!(r#"[{{"name":"ci","user":"build-server","hash":"{hash}","publish":["builds:*"]}}]"#);
    let mut server = Settings::default().set("auth.keys", &keys).start().await;
    let mut client = show(server.addr, key).await.unwrap();
    assert_eq!(client.expect("welcome").await["userId"], "build-server");
    for wrong in [hash, &key[..key.len() - 1], &new_key(), ""] {
        assert_unauthorized(&show(server.addr, wrong).await.unwrap_err(), key);
    }
    drop(client);
    server.signal(Signal::TERM);
    server.process().ended(PATIENCE).await;
    assert!(!server.process().log().join("\n").contains(key));
}

#[tokio::test]
async fn key_pairs_of_openssl_make_and_check_tokens() {
    for (algorithm, options) in [
        ("ES256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..]),
        ("EdDSA", &["-algorithm", "ED25519"]),
        ("PS384", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
    ] {
        let settings = Settings::default();
        let openssl = async |args: &[&str]| {
            let command = Command::new("openssl").args(args).current_dir(settings.folder()).output().await;
            assert!(command.unwrap().status.success(), "{args:?}");
        };
        openssl(&[&["genpkey", "-out", "private.pem"], options].concat()).await;
        openssl(&["pkey", "-in", "private.pem", "-pubout", "-out", "public.pem"]).await;
        let create = [
            "token",
            "create",
            "--user",
            "anna",
            "--key",
            "private.pem",
            "--algorithm",
            algorithm,
            "--kid",
            "k1",
            "--no-config",
        ];
        let (code, token, why) = outspoke(settings.folder(), &create, "").await;
        assert_eq!(code, 0, "{why}");
        let keys = format!("[{{id: k1, algorithm: {algorithm}, file: public.pem}}]");
        let server = settings.set("auth.jwt.keys", &keys).start().await;
        let mut client = show(server.addr, token.trim()).await.unwrap();
        assert_eq!(client.expect("welcome").await["userId"], "anna", "{algorithm}");
    }
}

#[tokio::test]
async fn settings_that_would_let_the_wrong_ones_in_keep_the_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("short"), "short\n").unwrap();
    let public = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    std::fs::write(folder.path().join("public.pem"), public).unwrap();
    let duplicate =
        format!("[{{algorithm: HS256, key: {SECRET}}}, {{algorithm: HS256, key: {SECRET}{SECRET}}}]");
    for (set, said) in [
        ("auth.jwt.secret=short", "openssl rand -hex 32"),
        ("auth.jwt.keys=[{algorithm: HS256, file: short}]", "openssl rand -hex 32"),
        ("auth.jwt.keys=[{algorithm: HS256, file: public.pem}]", "whoever has the public key"),
        ("auth.jwt.keys=[{algorithm: ES256, file: public.pem}]", "no public key for this algorithm"),
        ("auth.jwt.keys=[{algorithm: ES256, file: nothing.pem}]", "nothing.pem"),
        ("auth.jwt.keys=[{algorithm: none, key: x}]", "HS256"),
        ("auth.jwt.keys=[{algorithm: ES256}]", "key or a file"),
        (&format!("auth.jwt.keys={duplicate}"), "several keys have no id"),
        ("auth.jwks.url=http://id.example/keys", "https"),
        ("auth.hook.connect=http://app.example/hook", "https"),
        ("auth.ca=nothing.pem", "nothing.pem"),
        ("auth.ca=short", "BEGIN CERTIFICATE"),
        ("auth.cookie=sid", "auth.cookie_origins"),
        ("auth.keys=[{name: a, user: b, hash: \"secret\"}]", "outspoke key create"),
        (
            "auth.keys=[{name: a, user: \"*\", hash: \"sha256:8b8894686993eb52fd27aea12e37897c570793bb6619c559d9c91e29eba9f694\", join: [\"inbox:{user}\"]}]",
            "the user",
        ),
    ] {
        let args = ["serve", "--no-config", "--addr", "127.0.0.1:0", "--set", set];
        let (code, _, why) = outspoke(folder.path(), &args, "").await;
        assert_eq!(code, 78, "{set}: {why}");
        assert!(why.contains(said), "{set}: {why}");
        assert!(!why.contains("MCowBQYDK2VwAyEA") && !why.contains(SECRET), "{set}: {why}");
    }
}

/// A provider and an application on loopback.
async fn serve(routes: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    url
}

#[tokio::test]
async fn published_keys_and_the_application_decide_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let pair = outspoke_auth_pair(folder.path()).await;
    let jwks = json!({ "keys": [pair.1] });
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let remembered = Arc::clone(&asked);
    let application = move |Json(question): Json<Value>| {
        remembered.lock().unwrap().push(question.clone());
        let answer = match question["headers"]["cookie"].as_str() {
            Some("session=good") => json!({ "user": "from-app", "name": "App" }),
            _ => json!({ "allow": false, "reason": "log in first" }),
        };
        std::future::ready(Json(answer))
    };
    let url = serve(
        axum::Router::new()
            .route("/keys", get(move || std::future::ready(Json(jwks))))
            .route("/connect", post(application)),
    )
    .await;
    let server = Settings::default()
        .set("auth.jwks.url", &format!("{url}/keys"))
        .set("auth.jwt.audiences", "chat")
        .set("auth.hook.connect", &format!("{url}/connect"))
        .set("auth.hook.headers", "cookie")
        .start()
        .await;
    let token = pair.0.sign(&claims(json!({ "aud": ["chat", "shop"], "iss": "https://id.example" })));
    let mut client = show(server.addr, &token).await.unwrap();
    assert_eq!(client.expect("welcome").await["userId"], "anna");
    assert_unauthorized(
        &show(server.addr, &pair.0.sign(&claims(json!({ "aud": "shop" })))).await.unwrap_err(),
        "",
    );
    assert!(asked.lock().unwrap().is_empty());
    let mut client =
        TcpClient::connect(server.addr, "/ws?join=none", &[("Cookie", "session=good")]).await.unwrap();
    assert_eq!(client.expect("welcome").await["userId"], "from-app");
    let refused =
        TcpClient::connect(server.addr, "/ws?join=none", &[("Cookie", "session=bad")]).await.unwrap_err();
    assert!(refused.status == 403 && refused.body.contains("log in first"), "{refused:?}");
    let asked = asked.lock().unwrap();
    assert_eq!(
        asked[0],
        json!({ "event": "connect", "address": "127.0.0.1", "headers": { "cookie": "session=good" } })
    );
}

/// The same over TLS, with a certificate for localhost.
async fn serve_over_tls(issued: &Issued, routes: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let acceptor = issued.acceptor();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, routes) = (acceptor.clone(), routes.clone());
            tokio::spawn(async move {
                // Who does not believe the certificate goes away.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper_util::service::TowerToHyperService::new(routes);
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
            });
        }
    });
    url
}

/// Inside a company, providers and applications have certificates from its own authority.
#[tokio::test]
async fn provider_and_application_are_believed_by_the_authority_of_the_settings_and_by_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (key, public) = outspoke_auth_pair(folder.path()).await;
    let jwks = json!({ "keys": [public] });
    let routes = axum::Router::new()
        .route("/keys", get(move || std::future::ready(Json(jwks))))
        .route("/connect", post(|| std::future::ready(Json(json!({ "user": "from-app" })))));
    let authority = Authority::new();
    let url = serve_over_tls(&authority.issue(&["localhost"]), routes).await;
    let token = key.sign(&claims(json!({})));
    let open = async |server: &Server, header: (&str, &str)| {
        TcpClient::connect(server.addr, "/ws?join=none", &[header]).await.map_err(|refused| refused.status)
    };
    let settings = || {
        Settings::default()
            .set("auth.jwks.url", &format!("{url}/keys"))
            .set("auth.hook.connect", &format!("{url}/connect"))
            .set("auth.hook.headers", "cookie")
    };
    let bearer = format!("Bearer {token}");
    let ways = [(("Authorization", bearer.as_str()), "anna"), (("Cookie", "session=good"), "from-app")];
    // The public authorities do not know this one.
    let server = settings().start().await;
    for (header, _) in ways {
        assert_eq!(open(&server, header).await.err(), Some(503), "{header:?}");
    }
    drop(server);
    let settings = settings();
    let ca = settings.folder().join("ca.pem");
    std::fs::write(&ca, Authority::new().pem).unwrap();
    let mut server = settings.set("auth.ca", "ca.pem").start().await;
    for (header, _) in ways {
        assert_eq!(open(&server, header).await.err(), Some(503), "a stranger's authority: {header:?}");
    }
    // The file is read again with the configuration.
    std::fs::write(&ca, &authority.pem).unwrap();
    server.signal(Signal::HUP);
    server.process().wait_for(|line| line.contains("the configuration was read again").then_some(())).await;
    for (header, user) in ways {
        let mut client = open(&server, header).await.unwrap();
        assert_eq!(client.expect("welcome").await["userId"], user);
    }
    std::fs::write(&ca, "nothing").unwrap();
    server.signal(Signal::HUP);
    server.process().wait_for(|line| line.contains("BEGIN CERTIFICATE").then_some(())).await;
    assert!(open(&server, ways[1].0).await.is_ok(), "what cannot be used changes nothing");
}

/// A key to sign with, and its public half as a provider publishes it.
async fn outspoke_auth_pair(folder: &Path) -> (SigningKey, Value) {
    let run = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ED25519", "-out", "p.pem"])
        .current_dir(folder)
        .status();
    assert!(run.await.unwrap().success());
    let run = Command::new("openssl")
        .args(["pkey", "-in", "p.pem", "-pubout", "-outform", "DER"])
        .current_dir(folder)
        .output();
    let der = run.await.unwrap().stdout;
    let private = std::fs::read(folder.join("p.pem")).unwrap();
    let key = SigningKey::private(Algorithm::EdDSA, &private).unwrap().named("2026-11");
    // The key itself is the last 32 bytes (RFC 8410, section 4).
    let x = URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
    (key, json!({ "kty": "OKP", "crv": "Ed25519", "kid": "2026-11", "x": x, "use": "sig" }))
}

/// Whoever showed nothing may do it then; whoever showed something wrong may not.
#[tokio::test]
async fn credential_may_come_with_the_first_message_where_that_is_configured() {
    let server =
        Settings::default().set("auth.jwt.secret", SECRET).set("auth.first_message", "true").start().await;
    let mut client = server.open("/ws?join=none").await;
    client.send(json!({ "type": "auth", "token": token(json!({})) })).await;
    assert_eq!(client.find("welcome").await["userId"], "anna");
    assert_unauthorized(&show(server.addr, &token(json!({ "exp": 1 }))).await.unwrap_err(), "");
}

/// Keys are changed while the server runs; who is connected stays.
#[tokio::test]
async fn another_secret_counts_after_a_reload() {
    let settings = Settings::default();
    let file = settings.folder().join("config.yaml");
    std::fs::write(&file, format!("auth:\n  jwt:\n    secret: {SECRET}\n")).unwrap();
    let mut server = settings.start().await;
    let former = token(json!({}));
    let mut client = show(server.addr, &former).await.unwrap();
    client.expect("welcome").await;
    let next = "the-next-secret-for-tests-of-32-bytes";
    std::fs::write(&file, format!("auth:\n  jwt:\n    secret: {next}\n")).unwrap();
    server.signal(Signal::HUP);
    let told = |line: &str| line.contains("the configuration was read again").then_some(());
    server.process().wait_for(told).await;
    let newer = SigningKey::secret(Algorithm::HS256, next.as_bytes())
        .unwrap()
        .sign(&claims(json!({ "sub": "bert" })));
    show(server.addr, &newer).await.unwrap().expect("welcome").await;
    assert_unauthorized(&show(server.addr, &former).await.unwrap_err(), &former);
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
    // What would open the door to everybody is not taken over.
    std::fs::write(&file, "log:\n  level: info\n").unwrap();
    server.signal(Signal::HUP);
    let told = |line: &str| line.contains("takes a restart").then_some(());
    server.process().wait_for(told).await;
    let nobody = server.try_open("/ws?join=none&userId=x&username=x").await.unwrap_err();
    assert_eq!(nobody.status, 401);
}

/// One request with a credential; `headers` each with its line end.
async fn request(
    addr: SocketAddr,
    credential: &str,
    (method, target): (&str, &str),
    headers: &str,
    body: &str,
) -> Refused {
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nAuthorization: Bearer {credential}\r\n\
         Content-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    );
    exchange(addr, request.as_bytes()).await
}

#[tokio::test]
async fn room_that_the_application_refuses_is_refused_on_every_road() {
    const KEY: &str = "a-key-for-tests-0123456789";
    let application = |Json(question): Json<Value>| {
        let refused = question["user"] == "mallory" && question["room"] == "secret";
        std::future::ready(Json(json!({ "allow": !refused })))
    };
    let url = serve(axum::Router::new().route("/subscribe", post(application))).await;
    let server = Settings::default()
        .set("auth.jwt.secret", SECRET)
        .set("auth.hook.subscribe", &format!("{url}/subscribe"))
        .set("api.keys", KEY)
        .start()
        .await;
    let (anna, mallory) = (token(json!({})), token(json!({ "sub": "mallory", "name": "Mallory" })));
    let tus = "Tus-Resumable: 1.0.0\r\nUpload-Length: 5\r\n";
    let part = format!("{tus}Content-Type: application/offset+octet-stream\r\n");
    let uploaded = request(server.addr, &anna, ("POST", "/files"), &part, "hello").await;
    assert_eq!(uploaded.status, 201, "{uploaded:?}");
    let id = uploaded.headers["location"].to_str().unwrap().strip_prefix("files/").unwrap().to_owned();
    let json = "Content-Type: application/json\r\n";
    let said = json!({ "room": "secret", "type": "file", "data": { "files": [{ "id": id }] }, "user": { "id": "anna" } });
    let published = request(server.addr, KEY, ("POST", "/api/v1/publish"), json, &said.to_string()).await;
    assert_eq!(published.status, 200, "{published:?}");

    let mut client = show(server.addr, &mallory).await.unwrap();
    client.send(json!({ "type": "subscribe", "room": "secret" })).await;
    assert_eq!(client.find("error").await["error"], "forbidden");
    let (facts, link) = (format!("/files/{id}"), format!("/files/{id}/link"));
    let room = format!(
        "{tus}Upload-Metadata: room {}\r\n",
        base64::engine::general_purpose::STANDARD.encode("secret")
    );
    let chat = r#"{"room":"secret","type":"chat","content":"x"}"#;
    for (what, headers, body, refused, done) in [
        (("GET", "/api/v1/rooms/secret"), "", "", 403, 200),
        (("GET", "/api/v1/rooms/secret/history"), "", "", 403, 200),
        (("GET", "/api/v1/rooms/secret/presence"), "", "", 403, 200),
        (("POST", "/api/v1/publish"), json, chat, 403, 200),
        (("GET", facts.as_str()), "", "", 404, 200),
        (("POST", link.as_str()), "", "", 404, 200),
        (("DELETE", facts.as_str()), "", "", 404, 204),
        (("POST", "/files"), room.as_str(), "", 403, 201),
    ] {
        let answer = request(server.addr, &mallory, what, headers, body).await;
        assert_eq!(answer.status, refused, "{what:?}: {answer:?}");
        let answer = request(server.addr, &anna, what, headers, body).await;
        assert_eq!(answer.status, done, "{what:?}: {answer:?}");
    }
}

#[tokio::test]
async fn wrong_credentials_from_one_address_are_counted_together_on_every_road() {
    let asked: Arc<Mutex<usize>> = Arc::default();
    let counted = Arc::clone(&asked);
    let application = move || {
        *counted.lock().unwrap() += 1;
        std::future::ready(Json(json!({ "allow": false })))
    };
    let url = serve(axum::Router::new().route("/connect", post(application))).await;
    let server = Settings::default()
        .set("auth.hook.connect", &format!("{url}/connect"))
        .set("rate.auth_failures", "3/h burst 3")
        .set("rate.exempt", "192.0.2.1")
        .set("api.keys", "a-key-for-tests-0123456789")
        .start()
        .await;
    for _ in 0..5 {
        show(server.addr, "wrong").await.unwrap_err();
    }
    assert_eq!(*asked.lock().unwrap(), 3);
    for target in ["/files/0123456789abcdef0123456789abcdef", "/api/v1/whoami"] {
        for _ in 0..3 {
            let answer = request(server.addr, "wrong", ("GET", target), "", "").await;
            assert_eq!(answer.status, 429, "{target}: {answer:?}");
            assert!(answer.headers.contains_key("retry-after"), "{target}: {answer:?}");
        }
    }
    assert_eq!(*asked.lock().unwrap(), 3, "nobody was asked again");
    let key = request(server.addr, "a-key-for-tests-0123456789", ("GET", "/api/v1/whoami"), "", "").await;
    assert_eq!(key.status, 200, "the application's key is compared here: {key:?}");
}
