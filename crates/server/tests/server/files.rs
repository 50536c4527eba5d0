//! Files over real sockets: uploads that break and go on, links, and what is said of what is hostile.

use std::collections::HashMap;
use std::net::SocketAddr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outspoke_testkit::{Received, Signal, TcpClient};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, Server, Settings};

/// What a server said.
#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The name of the error.
    fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().unwrap_or_default().to_owned())
    }
}

/// One request on a connection of its own; `headers` each with its line end.
async fn ask(addr: SocketAddr, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    let exchanged = async {
        // A refusal may come before all was sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        bytes
    };
    let bytes = tokio::time::timeout(PATIENCE, exchanged).await.expect("the server answers");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole header") + 4;
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    let fields = text.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers: HashMap<_, _> =
        fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut body = bytes[end..].to_vec();
    if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
        body = unchunked(&body);
    }
    Answer { status, headers, body }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 2 + size + 2..];
    }
}

const TUS: &str = "Tus-Resumable: 1.0.0\r\n";
const PART: &str = "Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n";

fn named(name: &str) -> String {
    format!("Upload-Metadata: filename {}\r\n", STANDARD.encode(name))
}

/// Begins an upload; returns its path and query.
async fn begin(addr: SocketAddr, user: &str, length: usize, headers: &str) -> Result<String, Answer> {
    let headers = format!("{TUS}Upload-Length: {length}\r\n{headers}");
    let answer = ask(addr, "POST", &format!("/files?userId={user}"), &headers, b"").await;
    match answer.status {
        201 => Ok(format!("/{}", answer.header("location"))),
        _ => Err(answer),
    }
}

async fn patch(addr: SocketAddr, target: &str, offset: usize, bytes: &[u8]) -> Answer {
    ask(addr, "PATCH", target, &format!("{PART}Upload-Offset: {offset}\r\n"), bytes).await
}

async fn offset(addr: SocketAddr, target: &str) -> usize {
    let answer = ask(addr, "HEAD", target, TUS, b"").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.header("upload-offset").parse().unwrap()
}

/// Uploads a file at once; returns its id, or what was said instead.
async fn upload(addr: SocketAddr, user: &str, name: &str, bytes: &[u8]) -> Result<String, Answer> {
    let headers = format!("{PART}Upload-Length: {}\r\n{}", bytes.len(), named(name));
    let answer = ask(addr, "POST", &format!("/files?userId={user}"), &headers, bytes).await;
    match answer.status {
        201 => {
            assert_eq!(answer.header("upload-offset"), bytes.len().to_string());
            Ok(answer.header("location")["files/".len()..].split('?').next().unwrap().to_owned())
        }
        _ => Err(answer),
    }
}

async fn link(addr: SocketAddr, user: &str, id: &str) -> Answer {
    ask(addr, "POST", &format!("/files/{id}/link?userId={user}"), "", b"").await
}

/// The content of a file, as its link leads to it.
async fn content(addr: SocketAddr, user: &str, id: &str, headers: &str) -> Answer {
    let answer = link(addr, user, id).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let url = answer.json()["url"].as_str().unwrap().to_owned();
    ask(addr, "GET", &format!("/{url}"), headers, b"").await
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.u8(..)).collect()
}

#[tokio::test]
async fn upload_that_breaks_ten_times_and_a_server_that_is_killed_lose_nothing() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().display().to_string();
    let start = || Settings::default().set("data.dir", &folder).start();
    let mut server = start().await;
    let bytes = noise(3_000_000);
    let target = begin(server.addr, "alice", bytes.len(), &named("noise.bin")).await.unwrap();
    let id = target["/files/".len()..].split('?').next().unwrap().to_owned();
    for step in 1..=10 {
        // A part that is announced whole and breaks off in the middle.
        let at = offset(server.addr, &target).await;
        let end = bytes.len() * step / 11;
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        let head = format!(
            "PATCH {target} HTTP/1.1\r\nHost: x\r\n{PART}Upload-Offset: {at}\r\nContent-Length: {}\r\n\r\n",
            bytes.len() - at
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&bytes[at..end]).await.unwrap();
        if step == 5 {
            server.signal(Signal::KILL);
            server.process().ended(PATIENCE).await;
            server = start().await;
        } else {
            drop(stream);
        }
        assert_eq!(link(server.addr, "alice", &id).await.error(), (409, "unfinished".to_owned()));
    }
    let answer = loop {
        let at = offset(server.addr, &target).await;
        assert!(at > 0 && at < bytes.len(), "{at}");
        let answer = patch(server.addr, &target, at, &bytes[at..]).await;
        // A broken request that the server reads only now may come between, as clients of the protocol expect.
        if answer.status != 409 {
            break answer;
        }
    };
    assert_eq!((answer.status, answer.header("upload-offset")), (204, "3000000"), "{answer:?}");
    assert_eq!(offset(server.addr, &target).await, bytes.len());
    let whole = content(server.addr, "alice", &id, "").await;
    assert_eq!(sha256(&whole.body), sha256(&bytes));
    assert_eq!(whole.header("etag"), format!("\"{}\"", sha256(&bytes)));
}

#[tokio::test]
async fn protocol_answers_with_the_statuses_that_it_names() {
    let server = Settings::default().set("files.file_bytes_max", "1000").start().await;
    let addr = server.addr;
    let options = ask(addr, "OPTIONS", "/files", "", b"").await;
    assert_eq!((options.status, options.header("tus-version")), (204, "1.0.0"));
    assert_eq!(
        options.header("tus-extension"),
        "creation,creation-with-upload,expiration,checksum,termination"
    );
    assert_eq!(options.header("tus-checksum-algorithm"), "sha1,sha256");
    assert_eq!(options.header("tus-max-size"), "1000");
    let post = async |headers: String| ask(addr, "POST", "/files?userId=alice", &headers, b"").await;
    let answer = post("Upload-Length: 1\r\n".to_owned()).await;
    assert_eq!((answer.status, answer.header("tus-version")), (412, "1.0.0"));
    for (headers, status) in [
        ("Upload-Length: 1001\r\n", 413),
        ("Upload-Length: -1\r\n", 400),
        ("Upload-Length: 99999999999999999999\r\n", 400),
        ("", 400),
        ("Upload-Defer-Length: 1\r\n", 400),
        ("Upload-Length: 1\r\nUpload-Metadata: filename %%\r\n", 400),
    ] {
        let answer = post(format!("{TUS}{headers}")).await;
        assert_eq!(answer.status, status, "{headers}: {answer:?}");
        assert_eq!(answer.header("tus-resumable"), "1.0.0");
    }
    let nobody = ask(addr, "POST", "/files", &format!("{TUS}Upload-Length: 1\r\n"), b"").await;
    assert_eq!(nobody.error(), (401, "unauthorized".to_owned()));

    let target = begin(addr, "alice", 10, &named("../../a.txt")).await.unwrap();
    assert_eq!(patch(addr, &target, 5, b"67890").await.error(), (409, "wrong_offset".to_owned()));
    let typed = format!("{TUS}Content-Type: text/plain\r\nUpload-Offset: 0\r\n");
    assert_eq!(ask(addr, "PATCH", &target, &typed, b"12345").await.status, 415);
    let sum = |bytes: &[u8]| STANDARD.encode(digest(&SHA256, bytes).as_ref());
    let checked = format!("{PART}Upload-Offset: 0\r\nUpload-Checksum: sha256 {}\r\n", sum(b"12345"));
    assert_eq!(
        ask(addr, "PATCH", &target, &checked, b"12x45").await.error(),
        (460, "checksum_mismatch".to_owned())
    );
    assert_eq!(offset(addr, &target).await, 0);
    let answer = ask(addr, "PATCH", &target, &checked, b"12345").await;
    assert_eq!((answer.status, answer.header("upload-offset")), (204, "5"));
    assert!(answer.header("upload-expires").ends_with(" GMT"), "{answer:?}");
    assert_eq!(patch(addr, &target, 5, b"678901").await.status, 413);
    let stranger = target.replace("userId=alice", "userId=mallory");
    assert_eq!(patch(addr, &stranger, 5, b"67890").await.status, 404);
    assert_eq!(ask(addr, "HEAD", &stranger, TUS, b"").await.status, 404);
    let overridden = format!("{PART}Upload-Offset: 5\r\nX-HTTP-Method-Override: PATCH\r\n");
    assert_eq!(ask(addr, "POST", &target, &overridden, b"67890").await.status, 204);
    assert_eq!(patch(addr, &target, 0, b"again").await.error(), (409, "finished".to_owned()));
    let head = ask(addr, "HEAD", &target, TUS, b"").await;
    assert_eq!((head.header("upload-offset"), head.header("upload-length")), ("10", "10"));
    assert_eq!(head.header("upload-metadata"), named("../../a.txt").trim().split_once(": ").unwrap().1);
    assert_eq!(ask(addr, "DELETE", &stranger, TUS, b"").await.status, 404);
    assert_eq!(ask(addr, "DELETE", &target, TUS, b"").await.status, 204);
    assert_eq!(ask(addr, "HEAD", &target, TUS, b"").await.status, 404);
    for target in ["/files/..%2f..%2fetc%2fpasswd?userId=alice", "/files/0?userId=alice"] {
        assert_eq!(ask(addr, "HEAD", target, TUS, b"").await.status, 404, "{target}");
    }
}

#[tokio::test]
async fn whoever_may_connect_may_upload_and_from_the_same_pages() {
    let hash = sha256(b"the-key-of-alice-0123456789");
    let keys = format!("[{{name: app, user: alice, hash: \"sha256:{hash}\"}}]");
    let settings = Settings::default().set("auth.keys", &keys).set("origins.allowed", "https://app.example");
    let server = settings.start().await;
    let addr = server.addr;
    let begin = async |headers: &str| {
        ask(addr, "POST", "/files?userId=mallory", &format!("{TUS}Upload-Length: 0\r\n{headers}"), b"").await
    };
    assert_eq!(begin("").await.status, 401);
    assert_eq!(begin("Authorization: Bearer wrong\r\n").await.status, 401);
    let key = "Authorization: Bearer the-key-of-alice-0123456789\r\n";
    let answer = begin(key).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(!answer.header("location").contains("userId"), "{answer:?}");
    assert_eq!(begin(&format!("{key}Origin: https://evil.example\r\n")).await.status, 403);
    let answer = begin(&format!("{key}Origin: https://app.example\r\n")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (201, "https://app.example"));
    assert!(answer.header("access-control-expose-headers").contains("upload-offset"), "{answer:?}");
    let asking = "Origin: https://app.example\r\nAccess-Control-Request-Method: PATCH\r\nAccess-Control-Request-Headers: upload-offset\r\n";
    let preflight = ask(addr, "OPTIONS", "/files/x", asking, b"").await;
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-origin")),
        (204, "https://app.example")
    );
    assert!(preflight.header("access-control-allow-headers").contains("upload-offset"), "{preflight:?}");
    let preflight = ask(addr, "OPTIONS", "/files/x", &asking.replace("app", "evil"), b"").await;
    assert_eq!(preflight.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn links_are_for_one_part_of_one_file_and_for_a_while() {
    let server = Settings::default().set("files.link_lifetime", "1h").start().await;
    let addr = server.addr;
    let id = upload(addr, "alice", "Ümläut \"x\".txt", b"0123456789").await.unwrap();
    let other = upload(addr, "alice", "other.txt", b"other").await.unwrap();
    assert_eq!(link(addr, "mallory", &id).await.status, 404);
    let answer = link(addr, "alice", &id).await.json();
    assert_eq!(answer["preview"], Value::Null);
    let url = format!("/{}", answer["url"].as_str().unwrap());
    let get = async |target: &str, headers: &str| ask(addr, "GET", target, headers, b"").await;
    let whole = get(&url, "").await;
    assert_eq!((whole.status, &whole.body[..]), (200, &b"0123456789"[..]));
    assert_eq!(whole.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        whole.header("content-disposition"),
        "attachment; filename=\"_ml_ut _x_.txt\"; filename*=UTF-8''%C3%9Cml%C3%A4ut%20%22x%22.txt"
    );
    assert_eq!(whole.header("x-content-type-options"), "nosniff");
    assert_eq!(
        whole.header("content-security-policy"),
        "default-src 'none'; frame-ancestors 'none'; sandbox"
    );
    let head = ask(addr, "HEAD", &url, "", b"").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "10", 0));
    let part = get(&url, "Range: bytes=2-4\r\n").await;
    assert_eq!(
        (part.status, &part.body[..], part.header("content-range")),
        (206, &b"234"[..], "bytes 2-4/10")
    );
    let tag = whole.header("etag");
    let part = get(&url, &format!("Range: bytes=-3\r\nIf-Range: {tag}\r\n")).await;
    assert_eq!((part.status, &part.body[..]), (206, &b"789"[..]));
    assert_eq!(get(&url, "Range: bytes=2-4\r\nIf-Range: \"other\"\r\n").await.status, 200);
    assert_eq!(get(&url, &format!("If-None-Match: {tag}\r\n")).await.status, 304);
    let behind = get(&url, "Range: bytes=10-\r\n").await;
    assert_eq!((behind.status, behind.header("content-range")), (416, "bytes */10"));
    let invalid = (403, "link_invalid".to_owned());
    for altered in [
        url.replace(&id, &other),
        url.replace("/content", "/preview"),
        url.replace("expires=", "expires=9"),
        url[..url.len() - 1].to_owned(),
        url.split('?').next().unwrap().to_owned(),
    ] {
        assert_eq!(get(&altered, "").await.error(), invalid, "{altered}");
    }
    assert_eq!(ask(addr, "DELETE", &format!("/files/{id}?userId=alice"), "", b"").await.status, 204);
    assert_eq!(get(&url, "").await.status, 404);
    let server = Settings::default().set("files.link_lifetime", "1s").start().await;
    let id = upload(server.addr, "alice", "a.txt", b"a").await.unwrap();
    let url = format!("/{}", link(server.addr, "alice", &id).await.json()["url"].as_str().unwrap());
    let expired = async {
        while ask(server.addr, "GET", &url, "", b"").await.status != 403 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, expired).await.unwrap();
    assert_eq!(ask(server.addr, "GET", &url, "", b"").await.error(), (403, "link_expired".to_owned()));
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    png.extend(width.to_be_bytes());
    png.extend(height.to_be_bytes());
    // One bit of grey; the checksum is whatever it is.
    png.extend(b"\x01\0\0\0\0\0\0\0\0");
    png
}

fn gif(frames: usize) -> Vec<u8> {
    let mut gif = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff".to_vec();
    (0..frames).for_each(|_| gif.extend(b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"));
    gif.push(b';');
    gif
}

#[tokio::test]
async fn hostile_files_are_refused_or_harmless_and_bombs_cost_no_memory() {
    let server = Settings::default().set("files.file_bytes_max", "8MiB").start().await;
    let addr = server.addr;
    for (name, bytes) in [
        ("picture.svg", &b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>"[..]),
        ("page.html", b"<!doctype html><script>alert(1)</script>"),
        ("photo.png", b"<html><body onload=alert(1)>"),
        ("../../../../etc/cron.d/evil", b"\x7fELF\x02\x01"),
        (
            "evil\r\nSet-Cookie: a=b",
            b"<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY y SYSTEM \"file:///etc/passwd\">]><x>&y;</x>",
        ),
        ("polyglot.gif", b"GIF89a/*<svg/onload=alert(1)>*/=alert(1)//"),
        ("polyglot.pdf", b"<html>%PDF-1.7<script>alert(1)</script>"),
        ("report.pdf", b"%PDF-1.7 /OpenAction /JavaScript"),
        ("utf16.txt", b"\xff\xfe<\0s\0c\0r\0i\0p\0t\0>\0"),
    ] {
        let id = upload(addr, "alice", name, bytes).await.unwrap();
        let answer = content(addr, "alice", &id, "").await;
        assert_eq!((answer.status, &answer.body[..]), (200, bytes), "{name}");
        assert_eq!(answer.header("content-type"), "application/octet-stream", "{name}");
        assert!(answer.header("content-disposition").starts_with("attachment; "), "{answer:?}");
        assert!(answer.header("content-security-policy").contains("sandbox"), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(
            !answer.headers.contains_key("set-cookie") && !answer.header("content-disposition").contains('/'),
            "{answer:?}"
        );
        assert_eq!(link(addr, "alice", &id).await.json()["preview"], Value::Null, "{name}");
    }
    let before = server.usage().resident_bytes;
    let refused = (415, "image_too_large".to_owned());
    for bomb in [png(30_000, 30_000), gif(50_000), png(u32::MAX, u32::MAX)] {
        assert_eq!(upload(addr, "alice", "bomb.png", &bomb).await.unwrap_err().error(), refused);
    }
    let grown = server.usage().resident_bytes.saturating_sub(before);
    println!("images that would take too much took {grown} bytes");
    assert!(grown < 64 << 20, "{grown}");
}

#[tokio::test]
async fn previews_are_shown_and_files_are_not() {
    let server = Server::start().await;
    let addr = server.addr;
    let mut picture = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(2000, 1000, image::Rgb([9, 200, 9]))
        .write_to(&mut picture, image::ImageFormat::Png)
        .unwrap();
    let id = upload(addr, "alice", "two.png", &picture.into_inner()).await.unwrap();
    let answer = link(addr, "alice", &id).await.json();
    let known = ask(addr, "GET", &format!("/files/{id}?userId=alice"), "", b"").await.json();
    assert_eq!(
        (&known["type"], &known["width"], &known["height"]),
        (&"image/png".into(), &2000.into(), &1000.into())
    );
    assert_eq!(known["preview"], true);
    let preview = format!("/{}", answer["preview"].as_str().unwrap());
    let shown = ask(addr, "GET", &preview, "", b"").await;
    assert_eq!((shown.status, shown.header("content-type")), (200, "image/jpeg"));
    assert_eq!(shown.header("content-disposition"), "inline");
    assert_eq!(shown.header("x-content-type-options"), "nosniff");
    let small = image::load_from_memory(&shown.body).unwrap();
    assert_eq!((small.width(), small.height()), (1280, 640));
    let answer = content(addr, "alice", &id, "").await;
    assert_eq!(
        answer.header("content-disposition"),
        "attachment; filename=\"two.png\"; filename*=UTF-8''two.png"
    );
}

#[tokio::test]
async fn quotas_are_told_before_anything_is_sent() {
    let settings = Settings::default()
        .set("files.user_bytes_max", "20KiB")
        .set("files.tenant_bytes_max", "30KiB")
        .set("files.unfinished_per_user_max", "2")
        .set("files.types", "text/plain");
    let server = settings.start().await;
    let addr = server.addr;
    let target = begin(addr, "alice", 16_000, "").await.unwrap();
    let quota = (413, "file_quota_exceeded".to_owned());
    assert_eq!(begin(addr, "alice", 10_000, "").await.unwrap_err().error(), quota);
    begin(addr, "alice", 1, "").await.unwrap();
    assert_eq!(ask(addr, "DELETE", &target, TUS, b"").await.status, 204);
    begin(addr, "alice", 1, "").await.unwrap();
    let many = begin(addr, "alice", 1, "").await.unwrap_err();
    assert_eq!(many.error(), (429, "too_many_uploads".to_owned()));
    begin(addr, "bob", 20_000, "").await.unwrap();
    assert_eq!(begin(addr, "carol", 4_000, "").await.unwrap_err().error(), quota);
    let refused = upload(addr, "carol", "a.txt", b"PK\x03\x04").await.unwrap_err();
    assert_eq!(refused.error(), quota);
}

#[tokio::test]
async fn whoever_comes_back_need_not_wait_for_a_request_that_hangs() {
    let server = Server::start().await;
    let target = begin(server.addr, "alice", 10, "").await.unwrap();
    let mut hanging = TcpStream::connect(server.addr).await.unwrap();
    let head = format!(
        "PATCH {target} HTTP/1.1\r\nHost: x\r\n{PART}Upload-Offset: 0\r\nContent-Length: 10\r\n\r\n12345"
    );
    hanging.write_all(head.as_bytes()).await.unwrap();
    // Until its bytes are there; then the older request is told to stop, and what it had is kept.
    let seen = async {
        loop {
            let at = offset(server.addr, &target).await;
            if at > 0 {
                return at;
            }
            hanging = TcpStream::connect(server.addr).await.unwrap();
            hanging.write_all(head.as_bytes()).await.unwrap();
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, seen).await.unwrap(), 5);
    assert_eq!(patch(server.addr, &target, 5, b"67890").await.status, 204);
}

/// Sends files to the lobby; returns the answer.
async fn send_files(client: &mut TcpClient, request: Value) -> Value {
    let mut request = request;
    request["id"] = json!("sent");
    client.send(request).await;
    loop {
        let Received::Json(answer) = client.next_but_pings().await else { panic!("the connection ended") };
        if answer["id"] == "sent" {
            return answer;
        }
    }
}

fn message(files: Value) -> Value {
    json!({ "type": "publish", "event": "file", "room": "lobby", "data": { "content": "look", "files": files } })
}

/// Asks until the file is gone.
async fn goes(addr: SocketAddr, user: &str, id: &str) {
    let gone = async {
        while link(addr, user, id).await.status != 404 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn message_says_what_is_true_of_its_files_and_they_go_with_it() {
    let server = Settings::default().set("api.keys", "a-key-for-tests-0123456789").start().await;
    let addr = server.addr;
    let mut bob = server.in_lobby("bob").await;
    let mut alice = server.in_lobby("alice").await;
    let id = upload(addr, "alice", "notes.txt", b"hello").await.unwrap();
    assert_eq!(link(addr, "bob", &id).await.status, 404);
    let sent =
        send_files(&mut alice, message(json!([{ "id": id, "alt": "notes", "name": "forged", "size": 7 }])))
            .await;
    assert_eq!(sent["type"], "ack", "{sent}");
    let told = bob.find("file").await;
    let fact = json!({
        "id": id, "name": "notes.txt", "type": "text/plain", "size": 5, "sha256": sha256(b"hello"),
        "alt": "notes", "preview": false,
    });
    assert_eq!(told["data"], json!({ "content": "look", "files": [fact] }));
    assert_eq!(content(addr, "bob", &id, "").await.body, b"hello");
    let edit = json!({ "type": "edit", "room": "lobby", "offset": told["offset"], "data": { "files": [] } });
    assert_eq!(send_files(&mut alice, edit).await["error"], "bad_request");

    // What is somebody else's, unfinished, or nothing at all is not sent.
    let half = begin(addr, "bob", 10, "").await.unwrap();
    let half = half["/files/".len()..].split('?').next().unwrap().to_owned();
    for wrong in [
        json!([{ "id": id }]),
        json!([{ "id": half }]),
        json!([{ "id": "0123456789abcdef0123456789abcdef" }]),
        json!([{ "id": "../../etc/passwd" }]),
        json!([]),
        json!("x"),
    ] {
        let answer = send_files(&mut bob, message(wrong.clone())).await;
        assert_eq!(answer["error"], "bad_request", "{wrong}: {answer}");
    }

    // Privately: for its two users.
    let secret = upload(addr, "alice", "secret.txt", b"for bob").await.unwrap();
    let direct =
        json!({ "type": "direct", "event": "file", "to": "bob", "data": { "files": [{ "id": secret }] } });
    assert_eq!(send_files(&mut alice, direct).await["type"], "ack");
    assert_eq!(content(addr, "bob", &secret, "").await.body, b"for bob");
    assert_eq!(link(addr, "carol", &secret).await.status, 404);

    let delete = json!({ "type": "delete", "room": "lobby", "offset": told["offset"] });
    assert_eq!(send_files(&mut alice, delete).await["type"], "ack");
    goes(addr, "alice", &id).await;
    let key = "Authorization: Bearer a-key-for-tests-0123456789\r\n";
    let erased = ask(addr, "DELETE", "/api/v1/users/alice/data", key, b"").await;
    assert_eq!((erased.status, &erased.json()["files"]), (200, &json!(1)), "{erased:?}");
    assert_eq!(link(addr, "bob", &secret).await.status, 404);
}

#[tokio::test]
async fn files_go_that_were_never_sent_or_whose_messages_went_with_time() {
    let settings = Settings::default()
        .set("api.keys", "a-key-for-tests-0123456789")
        .set("files.sweep_interval", "1s")
        .set("files.orphan_lifetime", "1s");
    let server = settings.start().await;
    let addr = server.addr;
    let mut alice = server.in_lobby("alice").await;
    let kept = upload(addr, "alice", "kept.txt", b"kept").await.unwrap();
    let cleared = upload(addr, "alice", "cleared.txt", b"cleared").await.unwrap();
    assert_eq!(send_files(&mut alice, message(json!([{ "id": kept }]))).await["type"], "ack");
    alice.send(json!({ "type": "subscribe", "room": "other" })).await;
    let mut other = message(json!([{ "id": cleared }]));
    other["room"] = json!("other");
    assert_eq!(send_files(&mut alice, other).await["type"], "ack");
    let orphan = upload(addr, "alice", "orphan.txt", b"orphan").await.unwrap();
    goes(addr, "alice", &orphan).await;
    let key = "Authorization: Bearer a-key-for-tests-0123456789\r\n";
    assert_eq!(ask(addr, "DELETE", "/api/v1/rooms/other/history", key, b"").await.status, 200);
    goes(addr, "alice", &cleared).await;
    assert_eq!(link(addr, "alice", &kept).await.status, 200);
}
