//! What the server answers over plain HTTP.

use outspoke_testkit::{Received, Signal};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::raw::{Answer, Raw};
use crate::support::{Server, Settings};

#[tokio::test]
async fn health_tells_status_clients_and_whether_everybody_may_in() {
    let server = Server::start().await;
    let health = server.get("/health").await;
    assert_eq!((health.status, health.body.as_str()), (200, r#"{"status":"ok","clients":0,"open":true}"#));
    assert_eq!(health.headers["content-type"], "application/json");
    assert_eq!(health.headers["cache-control"], "no-store");
    let _lobby = server.in_lobby("ann").await;
    let _nowhere = server.client("ben").await;
    let gohub = server.open("/gohub").await;
    assert_eq!(server.get("/health").await.body, r#"{"status":"ok","clients":3,"open":true}"#);
    drop(gohub);
    server.has_clients(2).await;
}

#[tokio::test]
async fn probes_answer_and_unknown_paths_are_404_in_json() {
    let server = Server::start().await;
    assert_eq!((server.get("/healthz").await.status, server.get("/readyz").await.status), (200, 200));
    for path in [
        "/nothing",
        "/ws/",
        "/health/",
        "/assets/nothing.js",
        "/conformance/echo",
        "//",
        "/..%2f..%2fetc/passwd",
    ] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    let body: Value = serde_json::from_str(&server.get("/nothing").await.body).unwrap();
    assert_eq!(body, json!({ "error": "not_found", "path": "/nothing" }));
}

#[tokio::test]
async fn page_is_served_with_its_headers_and_can_be_switched_off() {
    let server = Server::start().await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{:?}", page.headers);
    assert!(page.headers["content-security-policy"].to_str().unwrap().contains("default-src 'none'"));
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    let asset = page.body.split('"').find(|word| word.starts_with("assets/")).expect("the page has assets");
    let asset = server.get(&format!("/{asset}")).await;
    assert_eq!(asset.status, 200);
    assert!(asset.headers.contains_key("etag"));
    let server = Settings::default().set("server.page", "false").start().await;
    assert_eq!(server.get("/").await.status, 404);
}

/// Read without a network, under the same policy as every page, and below any prefix of a proxy.
#[tokio::test]
async fn documentation_is_served_and_can_be_switched_off() {
    let server = Server::start().await;
    let folder = server.get("/docs").await;
    assert_eq!((folder.status, &folder.headers["location"]), (308, &"docs/".parse().unwrap()));
    for path in
        ["/docs/", "/docs/operating/tls.html", "/docs/tutorial/", "/docs/search.json", "/docs/book.css"]
    {
        let page = server.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.headers["content-security-policy"].to_str().unwrap().contains("script-src 'self'"));
        assert!(page.headers.contains_key("etag"), "{path}");
    }
    for path in ["/docs/nothing.html", "/docs/..%2fCargo.toml"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    let server = Settings::default().set("server.docs", "false").start().await;
    assert_eq!(server.get("/docs/").await.status, 404);
}

/// Any site's page may import the client, and gets a new build as soon as there is one.
#[tokio::test]
async fn client_is_served_to_pages_of_every_site() {
    let server = Server::start().await;
    let module = server.get("/client/outspoke.js").await;
    assert_eq!(module.status, 200);
    assert!(module.body.contains("createHub"));
    for (name, value) in [
        ("content-type", "text/javascript; charset=utf-8"),
        ("access-control-allow-origin", "*"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(module.headers[name], value);
    }
    assert!(module.headers.contains_key("etag"));
    assert_eq!(server.get("/client/room.js").await.status, 200);
    assert_eq!(server.get("/client/nothing.js").await.status, 404);
}

/// An echo on a public server is a gift to nobody.
#[tokio::test]
async fn conformance_echo_exists_only_where_it_was_asked_for() {
    let server = Server::start().await;
    let refused = server.try_open("/conformance/echo").await.expect_err("it is off");
    assert_eq!(refused.status, 404);
    let server = Settings::default().set("server.conformance_echo", "true").start().await;
    let mut client = server.open("/conformance/echo").await;
    client.send_text("no JSON at all").await;
    assert_eq!(client.next().await, Received::Text("no JSON at all".to_owned()));
    client.send_binary(b"\xff\x00").await;
    assert_eq!(client.next().await, Received::Binary(b"\xff\x00"[..].into()));
    client.ping(b"p").await;
    assert_eq!(client.next().await, Received::Pong(b"p"[..].into()));
}

/// A proxy sends what follows without waiting; nothing of it may be lost or read as something else.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start().await;
    let mut raw = Raw::connect(server.addr).await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    raw.send([get("/health"), get("/nothing"), get("/healthz")].concat().as_bytes()).await;
    assert_eq!(raw.answer().await.status(), Some(200));
    assert_eq!(raw.answer().await.status(), Some(404));
    assert_eq!(raw.answer().await, Answer::Status(200, r#"{"status":"ok"}"#.to_owned()));
}

/// As `nc -N` asks: the end of what it sends is there before the answer is.
#[tokio::test]
async fn client_that_says_it_sends_no_more_is_answered_all_the_same() {
    let server = Server::start().await;
    let with_expectation = "GET /health HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n\r\n";
    for request in ["GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n", with_expectation] {
        for round in 0..50 {
            let mut raw = Raw::connect(server.addr).await;
            raw.send(request.as_bytes()).await;
            raw.shut_down().await;
            assert_eq!(raw.answer().await.status(), Some(200), "round {round} of {request:?}");
        }
    }
}

/// Frames in one segment with the request: they are the first that the dialect reads.
#[tokio::test]
async fn frames_that_come_with_the_request_are_read_after_the_upgrade() {
    let server = Server::start().await;
    let mut client = outspoke_testkit::Connect::to(server.addr, "/ws?userId=a&join=none")
        .early(&[&[0x81, 0x80 | 15, 0, 0, 0, 0], &br#"{"type":"ping"}"#[..]].concat())
        .open()
        .await
        .unwrap();
    client.expect("welcome").await;
    client.expect("pong").await;
}

const UPGRADE: &str = "GET /ws?userId=a&join=none HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// In one packet it is answered without the HTTP library, in several or behind another request by it: nobody can tell.
#[tokio::test]
async fn upgrade_is_the_same_however_its_request_comes() {
    let server = Server::start().await;
    let pinged = [&[0x81, 0x80 | 15, 0, 0, 0, 0], &br#"{"type":"ping"}"#[..]].concat();
    let health = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (how, parts, answers) in [
        ("at once", vec![UPGRADE.to_owned()], 0),
        ("in two", vec![UPGRADE[..40].to_owned(), UPGRADE[40..].to_owned()], 0),
        ("behind another", vec![format!("{health}{UPGRADE}")], 1),
        ("after another", vec![health.to_owned(), UPGRADE.to_owned()], 1),
    ] {
        let mut raw = Raw::connect(server.addr).await;
        for (index, part) in parts.iter().enumerate() {
            if index > 0 {
                // Each is a packet of its own; whether the server sees it as one, nothing that is said here depends on.
                tokio::task::yield_now().await;
            }
            raw.send(part.as_bytes()).await;
        }
        for _ in 0..answers {
            assert_eq!(raw.answer().await.status(), Some(200), "{how}");
        }
        assert_eq!(raw.answer().await.status(), Some(101), "{how}");
        raw.send(&pinged).await;
        let mut client = raw.into_client();
        assert_eq!(client.expect("welcome").await["userId"], "a", "{how}");
        client.expect("pong").await;
    }
}

/// The client learns why, and the connection ends: what it sent behind its request was no request.
#[tokio::test]
async fn refused_upgrade_is_answered_and_ends_its_connection() {
    let server = Server::start().await;
    let refused = UPGRADE.replace("/ws?userId=a&join=none", "/ws?userId=a&dialect=none");
    let mut raw = Raw::connect(server.addr).await;
    raw.send(format!("{refused}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await;
    let Answer::Status(400, body) = raw.answer().await else { panic!("there is no such dialect") };
    assert!(body.contains("choose one of"), "{body}");
    assert_eq!(raw.answer().await, Answer::Closed);
    // Somewhere else it is a request like any other.
    let mut raw = Raw::connect(server.addr).await;
    raw.send(UPGRADE.replace("/ws?", "/healthz?").as_bytes()).await;
    assert_eq!(raw.answer().await, Answer::Status(200, r#"{"status":"ok"}"#.to_owned()));
}

/// While it stops, a load balancer is told, and new clients are sent elsewhere.
#[tokio::test]
async fn connections_are_refused_once_the_server_stops() {
    let mut server = Settings::default().set("drain.grace", "100ms").start().await;
    let client = server.client("ann").await;
    // It does not answer the close frame, so that stopping takes a while.
    server.signal(Signal::TERM);
    server.process().wait_for(|line| line.contains("\"stopping;").then_some(())).await;
    let connected = async {
        loop {
            let Ok(stream) = tokio::net::TcpStream::connect(server.addr).await else { return };
            drop(stream);
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, connected).await.expect("the listener closes");
    drop(client);
    assert!(server.process().ended(crate::support::PATIENCE).await.success());
}

/// What the HTTP library answers itself has no header of ours, and nothing in it that one could be for: `docs/security.md` says so.
#[tokio::test]
async fn what_is_no_request_is_answered_with_a_bare_status() {
    let server = Server::start().await;
    let headers = |count: usize| "X: <script>\r\n".repeat(count);
    for (request, status) in [
        ("<script>alert(1)</script>\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n<script>\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/7.7\r\nHost: a\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "<script>".repeat(4000)), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", headers(1000)), 431),
    ] {
        let mut stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
        // It may be answered and closed before all of it is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {answer}");
        let mut names: Vec<_> =
            head.lines().skip(1).filter_map(|line| Some(line.split_once(": ")?.0)).collect();
        names.sort_unstable();
        assert_eq!((names, body), (vec!["connection", "content-length", "date"], ""), "{answer}");
    }
}
