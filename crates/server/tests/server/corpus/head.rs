//! Requests that are no requests, or none that may be upgraded.

use std::time::Duration;

use super::{Bystanders, codec};
use crate::support::raw::{Answer, Raw};
use crate::support::{PATIENCE, Server};

pub(super) async fn play(server: &Server, bystanders: &mut Bystanders<'_>) -> usize {
    let handshakes = codec::handshake_cases();
    for case in &handshakes {
        let answer = exchange(server, &case.request).await;
        let expected = match &answer {
            Answer::Status(status, body) => {
                // What is no handshake is told what is wrong with it; what is not even HTTP, or HEAD, only the status.
                assert!(body.is_empty() || body.len() > 30, "{}: {body:?}", case.name);
                *status == case.status
            }
            Answer::Closed => case.broken_http,
        };
        assert!(expected, "{}: {answer:?} instead of {}", case.name, case.status);
        bystanders.are_well(case.name).await;
    }
    let requests = requests();
    let mut wrong = Vec::new();
    for (name, request, expected) in &requests {
        let answer = exchange(server, request).await;
        if !expected.contains(&answer.status().unwrap_or(CLOSED)) {
            wrong.push(format!("{name}: {answer:?} is none of {expected:?}"));
        }
        bystanders.are_well(name).await;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    handshakes.len() + requests.len()
}

/// In a table of statuses: the server may also close without an answer.
const CLOSED: u16 = 0;

async fn exchange(server: &Server, request: &[u8]) -> Answer {
    let mut raw = Raw::connect(server.addr).await;
    raw.send(request).await;
    if !request.windows(4).any(|end| end == b"\r\n\r\n") {
        // The rest of the header does not come.
        raw.shut_down().await;
    }
    raw.answer().await
}

type Case = (&'static str, Vec<u8>, &'static [u16]);

/// Requests that the codec never sees, or sees in the dress of another path.
fn requests() -> Vec<Case> {
    const REFUSED: &[u16] = &[400, CLOSED];
    const TOO_LARGE: &[u16] = &[431, CLOSED];
    let get = |fields: &str| format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n").into_bytes();
    let line = |line: &str| format!("{line}\r\nHost: localhost\r\n\r\n").into_bytes();
    let upgrade = |line: &str| codec::request(line, &[], &[]);
    let with = |fields: &[(&str, &str)]| codec::request("GET /ws?username=A HTTP/1.1", &[], fields);
    let names =
        |count: u32, between: &str| (0..count).map(|n| format!("{n:x}")).collect::<Vec<_>>().join(between);
    vec![
        // Request lines.
        ("nothing but the end", Vec::new(), &[CLOSED]),
        ("empty lines only", b"\r\n\r\n\r\n\r\n".to_vec(), &[CLOSED, 400]),
        ("one word", line("GET"), REFUSED),
        ("two words", line("GET /health"), REFUSED),
        ("no path", line("GET  HTTP/1.1"), REFUSED),
        ("two blanks", line("GET  /health HTTP/1.1"), REFUSED),
        ("a tab for a blank", line("GET\t/health\tHTTP/1.1"), REFUSED),
        ("a path without a slash", line("GET health HTTP/1.1"), &[400, 404]),
        ("a control character in the path", line("GET /hea\u{1}lth HTTP/1.1"), REFUSED),
        ("a NUL in the path", line("GET /health\0 HTTP/1.1"), REFUSED),
        ("a method of signs", line("G@T /health HTTP/1.1"), REFUSED),
        ("a method in lower case", line("get /health HTTP/1.1"), &[400, 405, CLOSED]),
        ("an unknown method", line("BREW /health HTTP/1.1"), &[405]),
        (
            "a method of 9000 letters",
            line(&format!("{} / HTTP/1.1", "A".repeat(9000))),
            &[400, 404, 405, 431, CLOSED],
        ),
        ("HTTP/0.9", b"GET /health\r\n".to_vec(), REFUSED),
        ("HTTP/1.2", line("GET /health HTTP/1.2"), REFUSED),
        ("HTTP/2.0", line("GET /health HTTP/2.0"), REFUSED),
        ("HTTP/11", line("GET /health HTTP/11"), REFUSED),
        ("HTTP/1.1 with more behind it", line("GET /health HTTP/1.1.1"), REFUSED),
        ("another protocol", line("GET /health RTSP/1.0"), REFUSED),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), REFUSED),
        ("CONNECT", line("CONNECT localhost:80 HTTP/1.1"), &[400, 404, 405, CLOSED]),
        ("CONNECT to the endpoint", upgrade("CONNECT /ws HTTP/1.1"), &[400, 404, 405, CLOSED]),
        ("OPTIONS *", line("OPTIONS * HTTP/1.1"), &[400, 404, 405]),
        ("TRACE", line("TRACE /ws HTTP/1.1"), &[405]),
        ("DELETE of the health", line("DELETE /health HTTP/1.1"), &[405]),
        ("a path of 15 KiB", line(&format!("GET /{} HTTP/1.1", "a".repeat(15 << 10))), &[404]),
        ("a path of 64 KiB", line(&format!("GET /{} HTTP/1.1", "a".repeat(64 << 10))), &[414, 431, CLOSED]),
        (
            "a query of 64 KiB",
            line(&format!("GET /ws?{} HTTP/1.1", "a".repeat(64 << 10))),
            &[414, 431, CLOSED],
        ),
        ("a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), REFUSED),
        ("a line of chat", b"{\"type\":\"chat\",\"content\":\"hello\"}\r\n\r\n".to_vec(), REFUSED),
        ("an SSH greeting", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), REFUSED),
        ("a Redis command", b"*1\r\n$4\r\nPING\r\n\r\n".to_vec(), REFUSED),
        ("4 KiB of noise", noise(4096), REFUSED),
        ("64 KiB of zeros", vec![0; 64 << 10], REFUSED),
        ("64 KiB of one letter", vec![b'A'; 64 << 10], &[400, 414, 431, CLOSED]),
        ("a whole TLS hello", tls_hello(), REFUSED),
        // Header fields.
        ("a field without a name", get(": x\r\n"), REFUSED),
        ("a field of signs", get("X(y): z\r\n"), REFUSED),
        ("a field in UTF-8", get("Ünsinn: z\r\n"), REFUSED),
        ("a bare carriage return in a value", get("X: a\rb\r\n"), REFUSED),
        ("a DEL in a value", get("X: a\x7fb\r\n"), REFUSED),
        (
            "a first field that is folded",
            b"GET /health HTTP/1.1\r\n folded\r\nHost: a\r\n\r\n".to_vec(),
            REFUSED,
        ),
        ("200 fields", get(&"X: y\r\n".repeat(200)), &[431]),
        ("a header of 17 KiB in one field", get(&format!("X: {}\r\n", "y".repeat(17 << 10))), TOO_LARGE),
        ("10,000 fields", get(&"X: y\r\n".repeat(10_000)), TOO_LARGE),
        ("a value of 64 KiB", get(&format!("X: {}\r\n", "y".repeat(64 << 10))), TOO_LARGE),
        ("a name of 64 KiB", get(&format!("{}: y\r\n", "x".repeat(64 << 10))), &[400, 431, CLOSED]),
        ("a header that does not end", get("X: y\r\n")[..40].to_vec(), REFUSED),
        // Bodies.
        ("a negative length", get("Content-Length: -1\r\n"), REFUSED),
        ("a length with a sign", get("Content-Length: +5\r\n"), REFUSED),
        ("a length of letters", get("Content-Length: five\r\n"), REFUSED),
        ("a length beyond 64 bits", get("Content-Length: 99999999999999999999\r\n"), REFUSED),
        ("two lengths in one field", get("Content-Length: 5, 6\r\n"), REFUSED),
        ("two lengths in two fields", get("Content-Length: 5\r\nContent-Length: 6\r\n"), REFUSED),
        ("a transfer coding that is not chunked", get("Transfer-Encoding: gzip\r\n"), REFUSED),
        ("chunked, and not last", get("Transfer-Encoding: chunked, gzip\r\n"), REFUSED),
        (
            "a post to the endpoint",
            codec::request("POST /ws HTTP/1.1", &[], &[("Content-Length", "3")]),
            &[400, 405],
        ),
        ("a post to the page", line("POST / HTTP/1.1"), &[405]),
        // Upgrades to something else, and from elsewhere.
        (
            "h2c",
            with(&[("Connection", "HTTP2-Settings"), ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")]),
            &[101],
        ),
        (
            "h2c instead of websocket",
            codec::request("GET /ws?username=A HTTP/1.1", &["Upgrade"], &[("Upgrade", "h2c")]),
            &[426],
        ),
        ("an upgrade of the health", upgrade("GET /health HTTP/1.1"), &[200]),
        ("an upgrade of nothing", upgrade("GET /nothing HTTP/1.1"), &[404]),
        ("an upgrade of the page", upgrade("GET / HTTP/1.1"), &[200]),
        ("an upgrade of the page's files", upgrade("GET /assets/ws HTTP/1.1"), &[404]),
        ("an upgrade with a body in chunks", with(&[("Transfer-Encoding", "chunked")]), &[400]),
        ("an upgrade with a length of nothing", with(&[("Content-Length", "0")]), &[400]),
        ("an upgrade with Expect", with(&[("Expect", "100-continue")]), &[101, 400, 417]),
        ("a second Host in capitals", with(&[("HOST", "elsewhere")]), &[400]),
        (
            "a Host against the absolute path",
            upgrade("GET http://elsewhere/ws?username=A HTTP/1.1"),
            &[101, 400],
        ),
        ("an absolute path", line("GET http://localhost/health HTTP/1.1"), &[200]),
        ("an absolute path of another scheme", line("GET ftp://localhost/health HTTP/1.1"), &[200, 400]),
        // What the query may not say; more of it in the tests of identity.
        (
            "a query with per cent signs that encode nothing",
            upgrade("GET /ws?username=%zz%f HTTP/1.1"),
            &[101],
        ),
        ("a name in broken UTF-8", upgrade("GET /ws?username=%ff%fe HTTP/1.1"), &[400]),
        ("a name with a line end", upgrade("GET /ws?username=a%0d%0ab HTTP/1.1"), &[400]),
        ("no name", upgrade("GET /ws HTTP/1.1"), &[400]),
        (
            "a thousand parameters",
            upgrade(&format!("GET /ws?username=a{} HTTP/1.1", "&a=b".repeat(1000))),
            &[101],
        ),
        ("32 subprotocols", with(&[("Sec-WebSocket-Protocol", &names(32, ","))]), &[101]),
        // So few that they are read as a plain upgrade, and so many that the HTTP library reads them.
        ("33 subprotocols", with(&[("Sec-WebSocket-Protocol", &names(33, ","))]), &[400]),
        ("3,000 subprotocols", with(&[("Sec-WebSocket-Protocol", &names(3000, ","))]), &[400]),
        ("a room that is no name", upgrade("GET /ws?username=a&join=%00 HTTP/1.1"), &[400]),
        ("a dialect that nobody speaks", upgrade("GET /ws?username=a&dialect=%3Cscript%3E HTTP/1.1"), &[400]),
        ("a path with dots", line("GET /../../etc/passwd HTTP/1.1"), &[404]),
        ("a path with encoded dots", line("GET /assets/%2e%2e/%2e%2e/Cargo.toml HTTP/1.1"), &[404]),
    ]
}

/// Bytes that look like nothing, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

/// What a browser sends to `https://` on this port.
fn tls_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.extend(noise(0x200 + 5 - hello.len()));
    hello
}

/// Bytes behind a refused upgrade are no frames and no second request in disguise.
#[tokio::test]
async fn bytes_behind_a_refused_upgrade_are_not_smuggled() {
    let server = Server::start().await;
    let smuggled = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for fields in [
        &[("Content-Length", "41")][..],
        &[("Transfer-Encoding", "chunked")],
        &[("Content-Length", "41"), ("Transfer-Encoding", "chunked")],
    ] {
        let mut raw = Raw::connect(server.addr).await;
        let request = codec::request("GET /ws?username=A HTTP/1.1", &[], fields);
        raw.send(&[&request, &smuggled[..]].concat()).await;
        assert_eq!(raw.answer().await.status(), Some(400), "{fields:?}");
        let second = raw.answer().await;
        assert_ne!(second.status(), Some(200), "{fields:?}: the body was taken for a request");
    }
    let mut raw = Raw::connect(server.addr).await;
    let refused = codec::request("GET /ws?username=A HTTP/1.1", &["Sec-WebSocket-Key"], &[]);
    raw.send(&[&refused, &codec::masked(0x81, b"{\"type\":\"ping\"}")[..]].concat()).await;
    assert_eq!(raw.answer().await.status(), Some(400));
    assert_ne!(raw.answer().await.status(), Some(101));
    server.has_clients(0).await;
}

/// What stands behind a request for an upgrade is of another protocol, or of somebody else: it is not answered as a request,
/// whichever way the refused one went.
#[tokio::test]
async fn request_behind_a_refused_upgrade_is_not_answered() {
    let server = Server::start().await;
    const WS: &str = "GET /ws?username=A HTTP/1.1";
    let second = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (name, line, without, with, status) in [
        ("no key", WS, "Sec-WebSocket-Key", &[][..], 400),
        ("no name", "GET /ws HTTP/1.1", "", &[], 400),
        ("another version", WS, "Sec-WebSocket-Version", &[("Sec-WebSocket-Version", "8")], 426),
        ("nothing there", "GET /nothing HTTP/1.1", "", &[], 404),
        ("no endpoint", "GET /health HTTP/1.1", "", &[], 200),
        // These are read by the HTTP library alone.
        ("another protocol", WS, "Upgrade", &[("Upgrade", "h2c")], 426),
        ("several protocols", "GET /ws HTTP/1.1", "Upgrade", &[("Upgrade", "websocket, h2c")], 400),
        ("another method", "POST /ws HTTP/1.1", "", &[], 405),
    ] {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(&[&codec::request(line, &[without], with)[..], &second[..]].concat()).await;
        let first = raw.answer().await;
        assert_eq!(first.status(), Some(status), "{name}: {first:?}");
        let second = raw.answer().await;
        assert!(matches!(second, Answer::Closed), "{name}: {second:?}");
    }
}

/// Whoever sends a header byte by byte, or none, is sent away after the configured time; nobody waits for them.
#[tokio::test]
async fn slow_headers_are_cut_off_and_nobody_waits_for_them() {
    let server = crate::support::Settings::default().set("server.header_timeout", "2s").start().await;
    let begun: [&[u8]; 4] = [
        b"",
        b"GET",
        b"GET /ws?username=A HTTP/1.1\r\nHost: a\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX-Slow: y",
    ];
    let mut slow = Vec::new();
    for index in 0..100 {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(begun[index % begun.len()]).await;
        slow.push(raw);
    }
    server.serves().await;
    for (index, raw) in slow.iter_mut().enumerate() {
        assert!(raw.ends().await, "{index}: still open after {PATIENCE:?}");
    }
    // Dripping a byte now and then does not help.
    let mut dripping = Raw::connect(server.addr).await;
    dripping.send(b"GET /health HTTP/1.1\r\nX-Slow: ").await;
    let drip = async {
        while dripping.send(b"y").await && !dripping.ends_within(Duration::from_millis(50)).await {}
    };
    tokio::time::timeout(PATIENCE, drip).await.expect("the server closes the connection");
    server.serves().await;
}

/// The same for frames: who never completes one has a connection, and nothing of anybody else's.
#[tokio::test]
async fn frames_never_completed_hold_up_nobody() {
    let server = Server::start().await;
    let mut stuck = Vec::new();
    for index in 0..100 {
        let mut client = server.client(&format!("stuck-{index}")).await;
        client.join("hall").await;
        let begun = match index % 4 {
            0 => vec![0x81],
            1 => codec::declared(0x81, 8192)[..5].to_vec(),
            2 => [codec::declared(0x82, 8192), vec![0; 100]].concat(),
            _ => codec::masked(0x01, b"{\"type\":"),
        };
        client.send_raw(&begun).await;
        stuck.push(client);
    }
    let mut ann = server.client("ann").await;
    ann.join("hall").await;
    ann.say("hall", "Is anybody stuck?").await;
    ann.find("chat").await;
    for client in &mut stuck {
        // They read on, although what they began is not done.
        assert_eq!(client.find("chat").await["content"], "Is anybody stuck?");
    }
    server.serves().await;
    drop(stuck);
    server.has_clients(1).await;
}
