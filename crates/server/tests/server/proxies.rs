//! Behind proxies: who is believed about where a client comes from.

use std::net::SocketAddr;

use outspoke_testkit::{ByteStream as _, Connect, TcpPipe, exchange_over};
use tokio::net::TcpStream;

use crate::support::tls::Authority;
use crate::support::{Server, Settings};

async fn piped(addr: SocketAddr, first: &[u8]) -> TcpPipe {
    let mut pipe = TcpPipe::new(TcpStream::connect(addr).await.unwrap());
    pipe.write(first).await;
    pipe
}

/// Whether a page of this origin is let in, over a proxy that says so.
async fn let_in(server: &Server, headers: &[(&str, &str)]) -> bool {
    let target = "/ws?userId=ann&username=Ann";
    let connect = headers
        .iter()
        .fold(Connect::to(server.addr, target), |connect, (name, value)| connect.header(name, value));
    connect.open().await.is_ok()
}

#[tokio::test]
async fn host_and_scheme_that_the_client_saw_are_believed_from_trusted_proxies_only() {
    let told = |origin: &'static str, proto: &'static str| {
        [("Origin", origin), ("X-Forwarded-Proto", proto), ("X-Forwarded-Host", "chat.example")]
    };
    let server = Settings::default().set("server.trusted_proxies", "127.0.0.0/8").start().await;
    assert!(let_in(&server, &told("https://chat.example", "https")).await);
    assert!(!let_in(&server, &told("http://chat.example", "https")).await);
    assert!(let_in(&server, &told("http://chat.example", "http")).await);
    assert!(!let_in(&server, &told("https://evil.example", "https")).await);
    let server = Server::start().await;
    assert!(!let_in(&server, &told("https://chat.example", "https")).await);
}

#[tokio::test]
async fn proxy_protocol_is_required_of_everybody_and_believed_from_trusted_proxies_only() {
    const GET: &[u8] = b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let settings = Settings::default().set("server.proxy_protocol", "true");
    let server = settings.set("server.trusted_proxies", "127.0.0.1").start().await;
    let header = b"PROXY TCP4 203.0.113.7 127.0.0.1 4660 80\r\n";
    let pipe = piped(server.addr, header).await;
    assert_eq!(exchange_over(pipe, GET).await.status, 200);
    // Without the header, nobody is served.
    let mut pipe = piped(server.addr, GET).await;
    assert_eq!(pipe.read().await, b"");
    let settings = Settings::default().set("server.proxy_protocol", "true");
    let server = settings.set("server.trusted_proxies", "10.0.0.1").start().await;
    let mut pipe = piped(server.addr, header).await;
    pipe.write(GET).await;
    assert_eq!(pipe.read().await, b"");
    // This machine may say that it speaks for itself, and is itself then.
    let pipe = piped(server.addr, b"PROXY UNKNOWN\r\n").await;
    assert_eq!(exchange_over(pipe, GET).await.status, 200);
}

#[tokio::test]
async fn tls_comes_after_the_proxy_protocol() {
    let authority = Authority::new();
    let settings = Settings::default().tls(&authority.issue(&["localhost"]));
    let settings = settings.set("server.proxy_protocol", "true").set("server.trusted_proxies", "127.0.0.1");
    let server = settings.start().await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"PROXY TCP4 203.0.113.7 127.0.0.1 1 443\r\n")
        .await
        .unwrap();
    let pipe = authority.client().secure(stream).await.unwrap();
    let connect = Connect::to(server.addr, "/ws?userId=ann&username=Ann");
    let (mut client, _) = connect.establish_over(pipe).await.unwrap();
    client.expect("welcome").await;
}

#[tokio::test]
async fn proxy_protocol_without_trusted_proxies_does_not_start() {
    let (mut process, _folder) = Settings::default().set("server.proxy_protocol", "true").spawn();
    let status = process.ended(crate::support::PATIENCE).await;
    let said = process.log().join("\n");
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("server.trusted_proxies"), "{said}");
}
