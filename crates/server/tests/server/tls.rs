//! TLS in the server itself, over the real binary: everything that works over ws works over wss, certificates change under
//! living connections, and nothing that a client does in its handshake troubles another.

use std::time::Duration;

use outspoke_testkit::{Connect, Process, Received, Signal, exchange, exchange_over};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::tls::{Authority, TlsClient, valid};
use crate::support::{PATIENCE, Server, Settings};

/// A server with a certificate for localhost, and the authority that issued it.
async fn secure() -> (Authority, Server) {
    secure_with(|settings| settings).await
}

async fn secure_with(change: impl FnOnce(Settings) -> Settings) -> (Authority, Server) {
    let authority = Authority::new();
    let issued = authority.issue(&["localhost", "127.0.0.1"]);
    let server = change(Settings::default().tls(&issued)).start().await;
    (authority, server)
}

async fn greeted(client: &mut TlsClient) {
    client.expect("welcome").await;
    client.expect("subscribed").await;
}

async fn fails(settings: Settings) -> String {
    let (mut process, _folder) = settings.spawn();
    let status = process.ended(PATIENCE).await;
    assert_eq!(status.code(), Some(1), "{}", process.log().join("\n"));
    process.log().join("\n")
}

/// A line of the log as an event, with this message.
fn event(line: &str, message: &str) -> Option<Value> {
    let event: Value = serde_json::from_str(line).ok()?;
    event["message"].as_str()?.contains(message).then_some(event)
}

async fn logged(process: &mut Process, message: &str) -> Value {
    process.wait_for(|line| event(line, message)).await
}

#[tokio::test]
async fn clients_chat_over_wss_compressed_and_not_in_both_versions_of_tls() {
    let (authority, server) = secure().await;
    let old = authority.client_of(None, &[&rustls::version::TLS12]);
    let new = authority.client_of(None, &[&rustls::version::TLS13]);
    let mut ann = old.open(server.addr, "/ws?userId=ann&username=Ann").await;
    greeted(&mut ann).await;
    let compressed = Connect::to(server.addr, "/ws?userId=ben&username=Ben").compression();
    let mut ben = new.establish(compressed, server.addr).await.unwrap();
    greeted(&mut ben).await;
    assert_eq!(ann.expect("join").await["userId"], "ben");
    let long = "a long text, again and again; ".repeat(30);
    ben.send_compressed(&json!({ "type": "chat", "content": long }).to_string()).await;
    for client in [&mut ann, &mut ben] {
        assert_eq!(client.expect("chat").await["content"], long.as_str());
    }
    ann.send(json!({ "type": "ping", "id": 1 })).await;
    assert_eq!(ann.expect("pong").await["id"], 1);
    for mut client in [ann, ben] {
        client.close(1000, "").await;
        assert_eq!(client.closed().await, Some(1000));
        assert_eq!(client.next().await, Received::End);
    }
}

/// What a client sends in one record with its request arrives, although it was read as a part of HTTP.
#[tokio::test]
async fn bytes_that_come_with_the_request_are_not_lost() {
    let (authority, server) = secure().await;
    let frame = outspoke_testkit_frame(r#"{"type":"ping","id":"early"}"#);
    let connect = Connect::to(server.addr, "/ws?userId=ann&username=Ann&join=none").early(&frame);
    let mut client = authority.client().establish(connect, server.addr).await.unwrap();
    client.expect("welcome").await;
    assert_eq!(client.expect("pong").await["id"], "early");
}

/// A masked text frame, by hand.
fn outspoke_testkit_frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 126);
    [&[0x81, 0x80 | length, 0, 0, 0, 0], text.as_bytes()].concat()
}

#[tokio::test]
async fn pages_and_health_are_served_over_https_and_http_is_not() {
    let (authority, server) = secure().await;
    let client = authority.client();
    for path in ["/", "/health", "/readyz"] {
        assert_eq!(client.get(server.addr, path).await.status, 200, "{path}");
    }
    // The negotiated protocol is the one that is spoken.
    let mut config = (*client.config).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut asking = client.clone();
    asking.config = std::sync::Arc::new(config.clone());
    let pipe = asking.dial(server.addr).await.unwrap();
    assert_eq!(pipe.session().alpn_protocol(), Some(b"http/1.1".as_slice()));
    config.alpn_protocols = vec![b"h2".to_vec()];
    asking.config = std::sync::Arc::new(config);
    assert!(asking.dial(server.addr).await.is_err());
    let mut plain = TcpStream::connect(server.addr).await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn missed_messages_are_recovered_over_wss() {
    let (authority, server) = secure().await;
    let client = authority.client();
    let mut ann = client.open(server.addr, "/ws?userId=ann&username=Ann&join=none").await;
    ann.expect("welcome").await;
    ann.join("den").await;
    let mut ben = client.open(server.addr, "/ws?userId=ben&username=Ben&join=none").await;
    ben.expect("welcome").await;
    ben.send(json!({ "type": "subscribe", "room": "den", "id": 1 })).await;
    let joined = ben.expect("subscribed").await;
    drop(ben);
    ann.expect("join").await;
    ann.expect("leave").await;
    for number in 1..=5 {
        ann.send(json!({ "type": "publish", "id": number, "room": "den", "data": number })).await;
        ann.find("ack").await;
    }
    let target = format!(
        "/ws?userId=ben&username=Ben&join=den&epoch={}&offset={}",
        joined["epoch"].as_str().unwrap(),
        joined["offset"]
    );
    let mut ben = client.open(server.addr, &target).await;
    ben.expect("welcome").await;
    assert_eq!(ben.expect("subscribed").await["recovered"], true);
    for number in 1..=5 {
        assert_eq!(ben.expect("message").await["data"], number);
    }
}

/// What it does not read waits in its outbox, which is bounded, and not in the TLS layer, which is not counted.
#[tokio::test]
async fn client_that_does_not_read_is_closed_and_the_others_get_everything() {
    let (authority, server) =
        secure_with(|settings| settings.set("limits.outbox_bytes_max", "64KiB").set("rate.enabled", "false"))
            .await;
    let client = authority.client();
    let slow = client.clone().receive_buffer_bytes(4096);
    let mut slow = slow.open(server.addr, "/ws?userId=slow&username=Slow").await;
    greeted(&mut slow).await;
    let mut fast = client.open(server.addr, "/ws?userId=fast&username=Fast").await;
    greeted(&mut fast).await;
    let text = "x".repeat(1000);
    let mut sent = 0;
    let mut there = true;
    while there {
        fast.send(json!({ "type": "chat", "content": text })).await;
        loop {
            let Received::Json(event) = fast.next_but_pings().await else {
                panic!("the fast one was closed")
            };
            match event["type"].as_str() {
                Some("leave") => there = false,
                Some("chat") => break assert_eq!(event["content"], text.as_str()),
                _ => panic!("unexpected: {event}"),
            }
        }
        sent += 1;
        // Kernel buffers, the TLS layer and the outbox together hold far less than this.
        assert!(sent < 10_000, "the slow client is still there after {sent} messages");
    }
    fast.send(json!({ "type": "ping", "id": 1 })).await;
    assert_eq!(fast.find("pong").await["id"], 1);
}

async fn server_clients(client: &crate::support::tls::Dialer, server: &Server) -> u64 {
    let health: Value = serde_json::from_str(&client.get(server.addr, "/health").await.body).unwrap();
    health["clients"].as_u64().unwrap()
}

#[tokio::test]
async fn stop_tells_every_client_and_ends_with_0() {
    let (authority, mut server) = secure().await;
    let client = authority.client();
    let mut clients = Vec::new();
    for index in 0..20 {
        let mut client = client.open(server.addr, &format!("/ws?userId=u{index}&username=u")).await;
        greeted(&mut client).await;
        clients.push(client);
    }
    // One who has not even begun must not keep it from stopping.
    let _silent = TcpStream::connect(server.addr).await.unwrap();
    server.signal(Signal::TERM);
    for mut client in clients {
        assert_eq!(client.closed().await, Some(1001));
    }
    assert_eq!(server.process().ended(PATIENCE).await.code(), Some(0));
}

#[tokio::test]
async fn handshakes_that_are_none_or_never_end_trouble_nobody() {
    let (authority, server) =
        secure_with(|settings| settings.set("tls.handshake_timeout", "2s").set("tls.handshakes_max", "100"))
            .await;
    let mut hostile = Vec::new();
    for opening in [
        b"".as_slice(),
        b"GET / HTTP/1.1\r\n\r\n",
        // The beginning of a handshake record, and no more.
        b"\x16\x03\x01\x02\x00\x01",
        b"\x16\x03\x01\xff\xff",
        &[0; 300],
        &[0xff; 300],
    ] {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            let _ = stream.write_all(opening).await;
            hostile.push(stream);
        }
    }
    let mut client = authority.client().open(server.addr, "/ws?userId=ann&username=Ann").await;
    greeted(&mut client).await;
    for mut stream in hostile {
        let mut rest = Vec::new();
        // An alert or nothing, then the end.
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a handshake without an end was not ended");
        assert!(rest.len() < 100);
    }
}

#[tokio::test]
async fn certificate_is_chosen_by_the_name_that_is_asked_for() {
    let authority = Authority::new();
    let settings = Settings::default().tls(&authority.issue(&["localhost"]));
    authority.issue(&["chat.acme.example", "*.rooms.example"]).write(settings.folder(), "acme");
    let further = r#"[{certificate: acme.pem, key: acme.key}]"#;
    let server = settings.set("tls.certificates", further).start().await;
    for (name, known) in [
        ("localhost", true),
        ("chat.acme.example", true),
        ("den.rooms.example", true),
        ("a.den.rooms.example", false),
        ("rooms.example", false),
        // Gets the first certificate, which is not for it.
        ("other.example", false),
    ] {
        let dialed = authority.client().named(name).dial(server.addr).await;
        assert_eq!(dialed.is_ok(), known, "{name}: {:?}", dialed.err());
    }
}

/// A thousand connections under which the certificate changes: none is dropped, and who comes afterwards gets the new one.
#[tokio::test]
async fn new_certificate_is_for_new_handshakes_and_drops_no_connection() {
    const CONNECTIONS: usize = 1000;
    let authority = Authority::new();
    let first = authority.issue(&["localhost"]);
    let settings = Settings::default().tls(&first).set("tls.reload_interval", "1s");
    let folder = settings.folder().to_owned();
    let mut server = settings.start().await;
    let dialer = authority.client();
    let mut clients = Vec::new();
    let mut opening = JoinSet::new();
    for index in 0..CONNECTIONS {
        // Not more at once than a small machine can shake hands with in time.
        if opening.len() == 50 {
            clients.extend(opening.join_next().await.map(Result::unwrap));
        }
        let (dialer, addr) = (dialer.clone(), server.addr);
        opening.spawn(async move {
            let target = format!("/ws?userId=u{index}&username=u{index}&join=none");
            let mut client = dialer.open(addr, &target).await;
            client.expect("welcome").await;
            client
        });
    }
    clients.extend(opening.join_all().await);
    let old = dialer.dial(server.addr).await.unwrap();
    let second = authority.issue(&["localhost"]);
    second.write(&folder, "server");
    logged(server.process(), "new connections get the new certificates").await;
    let new = authority.client().dial(server.addr).await.unwrap();
    assert_ne!(new.shown(), None);
    assert_ne!(new.shown(), old.shown());
    // A client with a ticket from before gets no session from before either.
    let again = dialer.dial(server.addr).await.unwrap();
    assert_eq!(again.shown(), new.shown());
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(json!({ "type": "ping", "id": index })).await;
        assert_eq!(client.expect("pong").await["id"], index);
    }
    let mut late = dialer.open(server.addr, "/ws?userId=late&username=late").await;
    greeted(&mut late).await;
    assert_eq!(server_clients(&dialer, &server).await, CONNECTIONS as u64 + 1);
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing_and_are_told_once_with_the_cure() {
    let authority = Authority::new();
    let settings = Settings::default().tls(&authority.issue(&["localhost"])).set("tls.reload_interval", "1s");
    let folder = settings.folder().to_owned();
    let mut server = settings.start().await;
    let dialer = authority.client();
    let shown = dialer.dial(server.addr).await.unwrap().shown().map(<[u8]>::to_vec);
    // A certificate without its key.
    let other = authority.issue(&["localhost"]);
    std::fs::write(folder.join("server.pem"), &other.certificate).unwrap();
    let said = logged(server.process(), "the certificates in use stay").await;
    assert!(said["error"].as_str().unwrap().contains("is not that of the certificate"), "{said}");
    assert!(said["hint"].as_str().unwrap().contains("made together"), "{said}");
    let expired = authority.issue_with(&["localhost"], |params| valid(params, -9, -1));
    expired.write(&folder, "server");
    let said = server.process().wait_for(|line| {
        event(line, "the certificates in use stay").filter(|said| said.to_string().contains("expired"))
    });
    assert!(said.await["hint"].as_str().unwrap().contains("renew"));
    assert_eq!(authority.client().dial(server.addr).await.unwrap().shown().map(<[u8]>::to_vec), shown);
    other.write(&folder, "server");
    logged(server.process(), "new connections get the new certificates").await;
    let told = server.process().log();
    assert_eq!(told.iter().filter(|line| event(line, "the certificates in use stay").is_some()).count(), 2);
    assert!(!told.iter().any(|line| line.contains("PRIVATE KEY")));
}

#[tokio::test]
async fn start_without_usable_files_is_an_error_with_its_cure() {
    let authority = Authority::new();
    let issued = authority.issue(&["localhost"]);
    let with = |change: &dyn Fn(&std::path::Path)| {
        let settings = Settings::default().tls(&issued);
        change(settings.folder());
        fails(settings)
    };
    let said = with(&|folder| std::fs::remove_file(folder.join("server.pem")).unwrap()).await;
    assert!(said.contains("cannot read server.pem") && said.contains("hint: "), "{said}");
    let said = with(&|folder| std::fs::write(folder.join("server.pem"), "nothing").unwrap()).await;
    assert!(said.contains("server.pem holds no certificate") && said.contains("BEGIN CERTIFICATE"), "{said}");
    let said = with(&|folder| std::fs::write(folder.join("server.key"), "nothing").unwrap()).await;
    assert!(said.contains("server.key holds no private key"), "{said}");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let said = with(&|folder| std::fs::write(folder.join("server.key"), encrypted).unwrap()).await;
    assert!(said.contains("is encrypted") && said.contains("openssl pkey"), "{said}");
    let other = authority.issue(&["localhost"]);
    let said = with(&|folder| std::fs::write(folder.join("server.key"), &other.key).unwrap()).await;
    assert!(said.contains("is not that of the certificate"), "{said}");
}

#[tokio::test]
async fn certificate_near_its_end_is_told_at_the_start() {
    let authority = Authority::new();
    for (days, words) in [(5, "the certificate expires soon"), (-1, "the certificate has expired")] {
        let issued = authority.issue_with(&["localhost"], |params| valid(params, -9, days));
        let mut server = Settings::default().tls(&issued).start().await;
        logged(server.process(), words).await;
    }
    let mut server = Settings::default().tls(&authority.issue(&["localhost"])).start().await;
    let told = logged(server.process(), "using the certificate").await;
    assert_eq!(told["names"], "localhost");
}

#[tokio::test]
async fn client_certificates_are_optional_or_required_and_must_be_of_the_authority() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let worker = authority.issue_client("worker-7", "spiffe://example.org/worker");
    let foreign = stranger.issue_client("worker-7", "spiffe://example.org/worker");
    for (mode, without) in [("optional", true), ("required", false)] {
        let settings = Settings::default().tls(&authority.issue(&["localhost"]));
        std::fs::write(settings.folder().join("clients.pem"), &authority.pem).unwrap();
        let settings = settings.set("tls.client_ca", "clients.pem").set("tls.client_auth", mode);
        let server = settings.start().await;
        for (shown, welcome) in [(None, without), (Some(&worker), true), (Some(&foreign), false)] {
            // In TLS 1.3 the client learns only after its handshake what the server thinks of it.
            let request =
                format!("GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", server.addr);
            let answered = match authority.client_showing(shown).dial(server.addr).await {
                Ok(mut pipe) => {
                    use outspoke_testkit::ByteStream as _;
                    pipe.write(request.as_bytes()).await;
                    pipe.read().await.starts_with(b"HTTP/1.1 200")
                }
                Err(_) => false,
            };
            assert_eq!(answered, welcome, "{mode}, {shown:?}", shown = shown.is_some());
        }
    }
}

#[tokio::test]
async fn plain_listener_sends_to_https_and_nowhere_else() {
    let authority = Authority::new();
    let settings = Settings::default()
        .tls(&authority.issue(&["localhost", "*.chat.example", "127.0.0.1"]))
        .set("tls.redirect_addr", "127.0.0.1:0");
    let mut server = settings.start().await;
    let told = logged(server.process(), "sending http to https").await;
    let plain: std::net::SocketAddr = told["address"].as_str().unwrap().parse().unwrap();
    let port = server.addr.port();
    let ask = async |host: &str, path: &str, more: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
        exchange(plain, request.as_bytes()).await
    };
    for (host, path, location) in [
        ("localhost", "/", format!("https://localhost:{port}/")),
        ("localhost:80", "/a?b=c%20d", format!("https://localhost:{port}/a?b=c%20d")),
        ("Den.chat.example", "//evil.example/", format!("https://Den.chat.example:{port}//evil.example/")),
        ("127.0.0.1:8080", "/", format!("https://127.0.0.1:{port}/")),
    ] {
        let answer = ask(host, path, "").await;
        assert_eq!(answer.status, 308, "{host}{path}");
        assert_eq!(answer.headers["location"], location.as_str());
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(!answer.headers.contains_key("strict-transport-security"));
    }
    for host in ["evil.example", "chat.example", "a.b.chat.example", "user@localhost", "evil example", ""] {
        let answer = ask(host, "/", "").await;
        assert!((400..=421).contains(&answer.status), "{host}: {}", answer.status);
        assert!(!answer.headers.contains_key("location"), "{host}");
    }
    for path in ["/health", "/healthz", "/readyz"] {
        assert_eq!(ask("10.1.2.3", path, "").await.status, 200, "{path}");
    }
    let upgrade =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let answer = ask("localhost", "/ws", upgrade).await;
    assert_eq!(answer.status, 426);
    assert!(answer.body.contains(&format!("wss://localhost:{port}")), "{}", answer.body);
}

#[tokio::test]
async fn configured_host_is_where_the_redirect_leads_and_hsts_is_said_over_tls() {
    let (authority, mut server) = secure_with(|settings| {
        settings
            .set("tls.redirect_addr", "127.0.0.1:0")
            .set("tls.redirect_host", "chat.example")
            .set("tls.hsts", "1h")
    })
    .await;
    let told = logged(server.process(), "sending http to https").await;
    let plain: std::net::SocketAddr = told["address"].as_str().unwrap().parse().unwrap();
    let answer = exchange(plain, b"GET /x HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert_eq!(
        (answer.status, answer.headers["location"].to_str().unwrap()),
        (308, "https://chat.example/x")
    );
    let answer = authority.client().get(server.addr, "/nothing").await;
    assert_eq!(answer.headers["strict-transport-security"], "max-age=3600");
}

/// The page of an http address may be anybody's on the way; that of the https address is ours.
#[tokio::test]
async fn only_pages_that_came_over_tls_may_connect_over_it() {
    let (authority, server) = secure().await;
    let host = server.addr.to_string();
    for (origin, welcome) in [
        (format!("https://{host}"), true),
        (format!("http://{host}"), false),
        ("https://evil.example".into(), false),
    ] {
        let connect = Connect::to(server.addr, "/ws?userId=ann&username=Ann").header("Origin", &origin);
        let opened = authority.client().establish(connect, server.addr).await;
        assert_eq!(opened.is_ok(), welcome, "{origin}");
    }
}

/// The health check in the container's image needs no certificate and trusts none: it asks this machine.
#[tokio::test]
async fn health_check_speaks_tls_where_the_server_does() {
    let (_authority, server) = secure().await;
    let check = tokio::process::Command::new(env!("CARGO_BIN_EXE_outspoke"))
        .args(["healthcheck", "--url", &format!("https://{}/health", server.addr)])
        .output();
    let output = tokio::time::timeout(PATIENCE, check).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Where the server is asked under its own name, a health check can want to know that it is the server.
#[tokio::test]
async fn health_check_believes_the_authority_that_it_is_given_and_no_other() {
    let authority = Authority::new();
    let settings = Settings::default().tls(&authority.issue(&["localhost"]));
    let folder = settings.folder().to_owned();
    let server = settings.start().await;
    std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
    std::fs::write(folder.join("stranger.pem"), Authority::new().pem).unwrap();
    std::fs::write(folder.join("empty.pem"), "").unwrap();
    let port = server.addr.port();
    let own = format!("server.addr=localhost:{port}");
    let own = ["--set", &own, "--set", "tls.certificate=server.pem", "--set", "tls.key=server.key"];
    for (host, ca, code, told) in [
        ("localhost", "ca.pem", 0, ""),
        ("127.0.0.1", "ca.pem", 1, "--ca"),
        ("localhost", "stranger.pem", 1, "--ca"),
        ("localhost", "empty.pem", 1, "BEGIN CERTIFICATE"),
        ("localhost", "nowhere.pem", 1, "nowhere.pem"),
        ("", "ca.pem", 0, ""),
        ("", "stranger.pem", 1, "--ca"),
    ] {
        let url = format!("https://{host}:{port}");
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_outspoke"));
        command.args(["healthcheck", "--ca", ca]).env_clear().current_dir(&folder);
        if host.is_empty() {
            command.args(own)
        } else {
            command.args(["--url", &url])
        };
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(told), "{host} {ca}: {said}");
    }
}

/// A connection in one of fifty rooms that says nothing, at the default settings: what the server pays for it.
#[tokio::test]
async fn idle_connection_over_tls_keeps_no_buffers() {
    const CONNECTIONS: u64 = 2000;
    let (authority, server) = secure().await;
    let dialer = authority.client();
    let mut clients = Vec::new();
    let mut open = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let target = format!("/ws?userId=u{number}&username=u{number}&join=room-{}", number % 50);
            let mut client = dialer.open(server.addr, &target).await;
            greeted(&mut client).await;
            clients.push(client);
        }
    };
    // The first ones pay for buffers and tables.
    open(0..500).await;
    let before = server.usage().resident_bytes;
    open(500..500 + CONNECTIONS).await;
    let each = server.usage().resident_bytes.saturating_sub(before) / CONNECTIONS;
    println!("{each} bytes of process memory for each idle connection over TLS");
    // With rustls' buffered session it was 9.7 KB.
    assert!(each <= 8 * 1024, "{each} bytes");
}

/// Kept for those who need to see bytes: a response over TLS is the response without it.
#[tokio::test]
async fn requests_that_the_parser_refuses_are_answered_over_tls_too() {
    let (authority, server) = secure().await;
    let pipe = authority.client().dial(server.addr).await.unwrap();
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let answer = tokio::time::timeout(Duration::from_secs(60), exchange_over(pipe, long.as_bytes())).await;
    assert_eq!(answer.unwrap().status, 431);
}

/// Runs `outspoke bench WORDS` against the server.
async fn bench(server: &Server, words: &str) -> std::process::Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_outspoke"));
    command.arg("bench").args(words.split_whitespace());
    command.args(["--json", "--url", &format!("wss://{}", server.addr)]);
    command.kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

/// The driver's figures are only worth something if it is really TLS that it speaks, and with whom it should.
#[tokio::test]
async fn load_driver_connects_over_tls_and_trusts_whom_it_is_told_to() {
    let (authority, server) = secure_with(|settings| settings.set("rate.enabled", "false")).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let ca = format!("--ca {}", ca.display());
    for trust in [ca.as_str(), "--insecure"] {
        for (scenario, figure) in [
            ("idle --connections 20 --settle 50ms", "/idle/connections"),
            ("churn --cycles 30 --concurrent 5 --settle 50ms", "/churn/cycles"),
            ("fanout --members 20 --duration 100ms --warm-up 20ms", "/load/deliveries"),
        ] {
            let output = bench(&server, &format!("{scenario} {trust}")).await;
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{scenario} {trust}: {told}");
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(report.pointer(figure).and_then(Value::as_u64).unwrap() >= 20, "{report}");
        }
    }
    let stranger = folder.path().join("stranger.pem");
    std::fs::write(&stranger, Authority::new().pem).unwrap();
    for (words, said) in [
        ("idle --connections 2".to_owned(), "--ca FILE"),
        (format!("idle --connections 2 --ca {}", stranger.display()), "invalid peer certificate"),
        ("rooms --insecure".to_owned(), "only idle, churn and fanout speak TLS"),
    ] {
        let output = bench(&server, &words).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(said), "{words}: {told}");
    }
}
