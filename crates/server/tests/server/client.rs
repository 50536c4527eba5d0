//! The Rust client against the real server, also through a network that cuts its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use outspoke_client::{Backoff, Builder, Client, ConnectionState, Event, Overflow, Subscription, Tcp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::tls::Authority;
use crate::support::{PATIENCE, Server, Settings};

/// The example of the crate's front page.
#[allow(dead_code, unreachable_pub)] // Its `main`; and it is written for those who copy it.
#[path = "../../../client/src/front_page.rs"]
mod front_page;

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Build {
    number: u64,
}

fn client(addr: SocketAddr, user: &str) -> Builder {
    let quick = Backoff::full_jitter(Duration::from_millis(1)..=Duration::from_millis(20));
    Client::builder(&format!("ws://{addr}/ws")).user(user, user).reconnect(quick)
}

/// Waits for the next event, for as long as a test is patient.
async fn next<T: serde::de::DeserializeOwned>(stream: &mut Subscription<T>) -> Event<T> {
    let event = tokio::time::timeout(PATIENCE, stream.next()).await.expect("something comes");
    event.expect("the stream goes on").unwrap()
}

/// The next published message's body, everything else passed over.
async fn body<T: serde::de::DeserializeOwned>(stream: &mut Subscription<T>) -> T {
    loop {
        match next(stream).await {
            Event::Message(message) => return message.body,
            Event::Gap(gap) => panic!("{gap:?}"),
            _ => {}
        }
    }
}

/// A network between clients and a server that can be cut.
struct Proxy {
    addr: SocketAddr,
    cuts: watch::Sender<u64>,
}

impl Proxy {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let cuts = watch::Sender::new(0);
        let cut = cuts.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, cut.clone()));
            }
        });
        Self { addr, cuts }
    }

    /// Breaks every connection there is, wherever it stands.
    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, mut cut: watch::Receiver<u64>) {
    cut.mark_unchanged();
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => return,
        _ = cut.changed() => {}
    }
    // A reset, as of a network that forgot the connection: what is under way in either direction is lost.
    for stream in [&client, &server] {
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

#[tokio::test]
async fn client_says_and_hears_in_typed_rooms() {
    let server = Server::start().await;
    let ci = client(server.addr, "ci").connect().await.unwrap();
    let dev = client(server.addr, "dev").connect().await.unwrap();
    let builds = ci.room::<Build>("builds");
    let mut heard = dev.room::<Build>("builds").subscribe().await.unwrap();

    let first = builds.publish(&Build { number: 1 }).id("b1").await.unwrap();
    let again = builds.publish(&Build { number: 1 }).id("b1").await.unwrap();
    assert!(again.duplicate && again.message == first.message);
    builds.publish(&Build { number: 2 }).await.unwrap();
    assert_eq!(body(&mut heard).await, Build { number: 1 });
    assert_eq!(body(&mut heard).await, Build { number: 2 });

    let said: Vec<_> = builds.history(10).map(|event| event.unwrap()).collect().await;
    let numbers = said.iter().filter_map(|event| match event {
        Event::Message(message) => Some(message.body.number),
        _ => None,
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [2, 1]);

    let present = builds.presence(None, 10).await.unwrap();
    let ids: Vec<_> = present.users.iter().map(|user| user.user_id.as_str()).collect();
    assert_eq!(ids, ["ci", "dev"]);

    let mut private = dev.conversations::<Build>().unwrap();
    ci.direct("dev", &Build { number: 3 }).await.unwrap();
    assert_eq!(body(&mut private).await, Build { number: 3 });

    ci.close().await.unwrap();
    dev.close().await.unwrap();
    server.has_clients(0).await;
}

#[tokio::test]
async fn client_does_what_its_front_page_shows() {
    let server = Server::start().await;
    let build = front_page::say_and_hear(&format!("ws://{}/ws", server.addr)).await.unwrap();
    assert_eq!(format!("{build:?}"), r#"Build { commit: "9fceb02", passed: true }"#);
}

#[tokio::test]
async fn client_refused_by_the_server_says_why() {
    let server = Server::start().await;
    let room = client(server.addr, "ann").connect().await.unwrap().room::<Build>(" ");
    let error = room.subscribe().await.map(drop).unwrap_err();
    assert!(error.to_string().contains("room name"), "{error}");
    let gone = Client::builder("ws://127.0.0.1:9/ws").connect().await.map(drop).unwrap_err();
    assert!(gone.is_retryable() && gone.hint().is_some(), "{gone}");
    let wrong = Client::builder(&format!("ws://{}/nowhere", server.addr)).connect().await.map(drop);
    assert!(!wrong.unwrap_err().is_retryable());
}

#[tokio::test]
async fn client_sends_bytes_and_events_of_its_own_names() {
    let server = Server::start().await;
    let ci = client(server.addr, "ci").connect().await.unwrap();
    let room = ci.room::<Build>("builds");
    let mut heard = room.subscribe().await.unwrap();
    let bytes: Vec<u8> = (0..=255).collect();
    room.publish_bytes(bytes.clone()).event("log.gz").await.unwrap();
    room.publish_as("process_output", &Build { number: 5 }).await.unwrap();
    let (mut got, mut named) = (None, None);
    while got.is_none() || named.is_none() {
        match next(&mut heard).await {
            Event::Bytes(message) => got = Some((message.kind.to_string(), message.body.to_vec())),
            Event::Message(message) => named = Some((message.kind.to_string(), message.body)),
            _ => {}
        }
    }
    assert_eq!(got.unwrap(), ("log.gz".to_owned(), bytes));
    assert_eq!(named.unwrap(), ("process_output".to_owned(), Build { number: 5 }));
}

#[tokio::test]
async fn client_speaks_over_tls_and_only_to_whom_it_trusts() {
    let authority = Authority::new();
    let server = Settings::default().tls(&authority.issue(&["127.0.0.1"])).start().await;
    let url = format!("wss://{}/ws", server.addr);
    let stranger = Client::builder(&url).connect().await.map(drop).unwrap_err();
    assert!(stranger.to_string().contains("certificate"), "{stranger}");

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let dialer = Tcp::with_tls(Arc::new(config));
    let ann = Client::builder(&url).user("ann", "Ann").dialer(dialer).connect().await.unwrap();
    ann.room::<Build>("builds").publish(&Build { number: 1 }).await.unwrap();
    ann.close().await.unwrap();
}

/// Ten thousand messages through a hundred cuts: each is acknowledged once, none is lost, none comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_loses_and_doubles_nothing_through_a_hundred_cuts() {
    const MESSAGES: u64 = 10_000;
    const CUTS: u64 = 100;
    let settings = Settings::default().set("rate.enabled", "false").set("rooms.durability", "stored");
    let settings = settings.set("rooms.history_messages", "20000");
    let server = settings.start().await;
    let proxy = Arc::new(Proxy::to(server.addr).await);

    let speaker = client(proxy.addr, "speaker").outbox(256, Overflow::Wait).connect().await.unwrap();
    let listener = client(proxy.addr, "listener").connect().await.unwrap();
    let mut heard = listener.room::<Build>("builds").subscribe().await.unwrap();

    // A cut at every hundredth message that was heard: every connection has work under way.
    let cutter = Arc::clone(&proxy);
    let hearing = tokio::spawn(async move {
        let mut cuts = 0;
        for number in 0..MESSAGES {
            assert_eq!(body(&mut heard).await, Build { number });
            if number % (MESSAGES / CUTS) == 50 {
                cutter.cut();
                cuts += 1;
            }
        }
        (heard, cuts)
    });

    let room = speaker.room::<Build>("builds");
    let mut acknowledged = Vec::new();
    let mut under_way = futures_util::stream::FuturesOrdered::new();
    for number in 0..MESSAGES {
        under_way.push_back(IntoFuture::into_future(room.publish(&Build { number })));
        if under_way.len() >= 300 {
            acknowledged.push(under_way.next().await.unwrap().unwrap().position.unwrap().offset);
        }
    }
    while let Some(ack) = under_way.next().await {
        acknowledged.push(ack.unwrap().position.unwrap().offset);
    }
    assert!(acknowledged.iter().copied().eq(1..=MESSAGES), "each once, and in their order");

    let (heard, cuts) = tokio::time::timeout(PATIENCE, hearing).await.unwrap().unwrap();
    assert_eq!((cuts, heard.position().unwrap().offset), (CUTS, MESSAGES));
    // What was heard last may have been here already when the last cut came.
    let mut state = listener.state();
    let is_back =
        |state: &ConnectionState| matches!(state, ConnectionState::Online(session) if session.resumed);
    drop(tokio::time::timeout(PATIENCE, state.wait_for(is_back)).await.unwrap().unwrap());
    speaker.close().await.unwrap();
}
