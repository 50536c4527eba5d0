//! Clients that bring no credential and show one in their first message: over sockets, and over a stream in memory.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::request::Parts;
use outspoke_hub::{
    AuthError, AuthFailure, Authentication, Authenticator, ErrorCode, Hub, HubBuilder, HubConfig, Identity,
    RoomName, TenantFrom, UpgradeOptions, UpgradeService,
};
use outspoke_testkit::{ByteStream, Connect, Received, TcpClient, WsClient};
use outspoke_websocket::{Opcode, Random, encode_masked_frame};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;

use crate::support::{PATIENCE, eventually, kinds};

/// Takes `Authorization: USER` and tokens that are users of at most five letters, which take as long as they are let.
#[derive(Debug)]
struct Door(Arc<Semaphore>);

impl Authenticator for Door {
    fn authenticate<'a>(&'a self, request: &'a Parts) -> Authentication<'a> {
        let header = request.headers.get("authorization").map(|value| value.to_str().unwrap());
        Box::pin(std::future::ready(match header {
            None => Err(AuthError::missing("a token is needed")),
            Some("nobody") => Err(AuthError::unauthorized("not this one")),
            Some(user) => Ok(Identity::user(user)),
        }))
    }

    fn authenticate_token<'a>(&'a self, token: &'a str) -> Authentication<'a> {
        Box::pin(async move {
            self.0.acquire().await.unwrap().forget();
            match token {
                "away" => Err(AuthError::new(ErrorCode::Unavailable, "nobody can tell now")),
                "acme" => Ok(Identity::user("ann").of_tenant("acme")),
                token if token.len() <= 5 => Ok(Identity::user(token).named(token)),
                _ => Err(AuthError::unauthorized("no such token")),
            }
        })
    }
}

struct House {
    hub: Hub,
    addr: SocketAddr,
    turns: Arc<Semaphore>,
    failures: Arc<Mutex<Vec<AuthFailure>>>,
}

fn door() -> (HubBuilder, Arc<Semaphore>, Arc<Mutex<Vec<AuthFailure>>>) {
    let (turns, failures) = (Arc::new(Semaphore::new(1000)), Arc::<Mutex<Vec<AuthFailure>>>::default());
    let told = Arc::clone(&failures);
    let builder = Hub::builder()
        .authenticator(Door(Arc::clone(&turns)))
        .on_auth_failure(move |failure| told.lock().unwrap().push(failure.clone()));
    (builder, turns, failures)
}

async fn serve(change: impl FnOnce(&mut HubConfig), auth_timeout: Duration) -> House {
    let (builder, turns, failures) = door();
    let mut config = HubConfig {
        shards: 2,
        default_room: Some(RoomName::new("lobby", 99).unwrap()),
        ..HubConfig::default()
    };
    change(&mut config);
    let hub = builder.config(config).start().unwrap();
    let options = UpgradeOptions::default().with_first_message(auth_timeout);
    let app = axum::Router::<()>::new()
        .route_service("/ws", hub.service_with(options.clone()))
        .route_service("/strict", hub.service())
        .route_service("/name", hub.service_with(options.clone().with_username()))
        .route_service("/t/{tenant}/ws", hub.service_with(options.of_tenant(TenantFrom::Path)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    House { hub, addr, turns, failures }
}

async fn house() -> House {
    serve(|_| {}, PATIENCE).await
}

async fn connect(house: &House, target: &str) -> TcpClient {
    TcpClient::connect(house.addr, target, &[]).await.unwrap().with_patience(PATIENCE)
}

fn auth(token: &str) -> Value {
    json!({ "type": "auth", "id": 1, "token": token })
}

/// What was said, and the code at the end.
async fn end(client: &mut TcpClient) -> (Option<Value>, Option<u16>) {
    let (mut said, mut code) = (None, None);
    for received in client.to_the_end().await {
        match received {
            Received::Json(value) => said = Some(value),
            Received::Close { code: closed, .. } => code = closed,
            _ => {}
        }
    }
    (said, code)
}

#[tokio::test]
async fn first_message_lets_in_as_if_the_credential_had_come_with_the_request() {
    let house = house().await;
    let mut client = connect(&house, "/ws?join=kitchen").await;
    eventually("it waits outside", || house.hub.unauthenticated_count() == 1).await;
    assert_eq!((house.hub.client_count(), house.hub.clients().len()), (0, 0));
    client.ping(b"hello?").await;
    assert_eq!(client.next().await, Received::Pong("hello?".into()));
    client.send(auth("ann")).await;
    assert_eq!(client.expect("welcome").await["userId"], "ann");
    assert_eq!(client.expect("subscribed").await["room"], "kitchen");
    eventually("nobody waits", || house.hub.unauthenticated_count() == 0).await;
    assert!(house.failures.lock().unwrap().is_empty());
}

/// Whoever sends on without waiting loses nothing, wherever the network cuts it.
#[tokio::test]
async fn what_is_sent_behind_the_first_message_is_read_after_the_welcome() {
    let house = house().await;
    for cut in [0, 1, 7, 60, 90] {
        let mut client = connect(&house, "/ws?join=none").await;
        let mut bytes = client.frame(Opcode::Text, auth("ann").to_string().as_bytes());
        for number in 1..=20 {
            let ping = json!({ "type": "ping", "id": number }).to_string();
            bytes.extend(client.frame(Opcode::Text, ping.as_bytes()));
        }
        client.send_raw(&bytes[..cut]).await;
        client.send_raw(&bytes[cut..]).await;
        client.expect("welcome").await;
        for number in 1..=20 {
            assert_eq!(client.expect("pong").await["id"], number, "cut at {cut}");
        }
    }
}

#[tokio::test]
async fn whatever_else_comes_first_is_answered_and_closed() {
    let house = house().await;
    for (first, error, code) in [
        (auth("nobody known"), "unauthorized", 4504),
        (auth("away"), "unavailable", 1013),
        (json!({ "type": "subscribe", "id": 1, "room": "a" }), "unauthorized", 4504),
        (json!({ "type": "auth", "id": 1 }), "bad_request", 4504),
    ] {
        let mut client = connect(&house, "/ws").await;
        client.send(first.clone()).await;
        let (said, closed) = end(&mut client).await;
        let said = said.unwrap();
        assert_eq!((said["error"].as_str(), closed), (Some(error), Some(code)), "{first}: {said}");
        assert_eq!(said["id"], 1);
        assert!(!said.to_string().contains("nobody known"));
    }
    let mut client = connect(&house, "/ws").await;
    client.send_text("what?").await;
    assert_eq!(end(&mut client).await.1, Some(4504));
    assert_eq!(house.hub.client_count(), 0);
    let failures = house.failures.lock().unwrap();
    let codes: Vec<_> = failures.iter().map(|failure| failure.code).collect();
    assert_eq!(codes, [ErrorCode::Unauthorized, ErrorCode::Unavailable]);
    assert!(!format!("{failures:?}").contains("nobody known"));
}

#[tokio::test]
async fn credential_that_is_not_accepted_with_the_request_gets_no_second_try() {
    let house = house().await;
    let refused = Connect::to(house.addr, "/ws").header("authorization", "nobody").open().await.unwrap_err();
    assert_eq!(refused.status, 401);
    // Where no first message is taken, a missing one is refused likewise.
    let refused = Connect::to(house.addr, "/strict").open().await.unwrap_err();
    assert_eq!(refused.status, 401);
    let mut client = TcpClient::connect(house.addr, "/ws", &[("authorization", "ann")]).await.unwrap();
    assert_eq!(client.expect("welcome").await["userId"], "ann");
    assert_eq!(house.failures.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn who_says_nothing_in_time_is_closed_with_4006() {
    let house = serve(|_| {}, Duration::from_millis(50)).await;
    let mut silent = connect(&house, "/ws").await;
    assert_eq!(end(&mut silent).await, (None, Some(4006)));
    // One who says only half of it, likewise; and one whose token nobody judges in time.
    let mut slow = connect(&house, "/ws").await;
    let frame = slow.frame(Opcode::Text, auth("ann").to_string().as_bytes());
    slow.send_raw(&frame[..frame.len() - 1]).await;
    assert_eq!(end(&mut slow).await, (None, Some(4006)));
    house.turns.forget_permits(1000);
    let mut unlucky = connect(&house, "/ws").await;
    unlucky.send(auth("ann")).await;
    assert_eq!(end(&mut unlucky).await, (None, Some(4006)));
    eventually("nobody is left", || house.hub.unauthenticated_count() == 0).await;
    assert_eq!(house.failures.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn only_so_many_may_wait() {
    let house = serve(|config| config.unauthenticated_max = 2, PATIENCE).await;
    let first = connect(&house, "/ws").await;
    let _second = connect(&house, "/ws").await;
    let refused = Connect::to(house.addr, "/ws").open().await.unwrap_err();
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("too_many_connections"), "{}", refused.body);
    // Who brings a credential need not wait.
    TcpClient::connect(house.addr, "/ws", &[("authorization", "ann")]).await.unwrap();
    drop(first);
    eventually("a place is free", || house.hub.unauthenticated_count() == 1).await;
    connect(&house, "/ws").await;
}

/// Memory before authentication is bounded by the limit, whatever a header declares, and so is work.
#[tokio::test]
async fn hostile_first_messages_are_cut_short() {
    let house = house().await;
    let mut large = connect(&house, "/ws").await;
    large.send(auth(&"x".repeat(20_000))).await;
    assert_eq!(end(&mut large).await.1, Some(1009));
    let mut declared = connect(&house, "/ws").await;
    // A frame of 2^62 bytes, of which none follows.
    declared.send_raw(&[0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]).await;
    assert_eq!(end(&mut declared).await.1, Some(1009));
    let mut compressed = connect(&house, "/ws").await;
    compressed.send_raw(&[0xc1, 0x81, 1, 2, 3, 4, 5]).await;
    assert_eq!(end(&mut compressed).await.1, Some(1002));
    let mut pinging = connect(&house, "/ws").await;
    let mut random = Random::seeded(1);
    let mut pings = Vec::new();
    for _ in 0..100 {
        encode_masked_frame(Opcode::Ping, b"", random.mask_key(), &mut pings);
    }
    pinging.send_raw(&pings).await;
    assert_eq!(end(&mut pinging).await.1, Some(4005));
    let mut polite = connect(&house, "/ws").await;
    polite.close(1000, "").await;
    assert_eq!(end(&mut polite).await.1, Some(1000));
    eventually("nobody is left", || house.hub.unauthenticated_count() == 0).await;
}

#[tokio::test]
async fn nothing_is_compressed_before_anybody_is_known() {
    let house = house().await;
    let opened = Connect::to(house.addr, "/ws?join=none").compression().open().await.unwrap();
    let mut client = opened.with_patience(PATIENCE);
    client.send(auth("ann")).await;
    client.expect("welcome").await;
}

/// What the endpoint says counts for who comes in late, too.
#[tokio::test]
async fn tenant_and_name_are_asked_for_after_the_first_message_as_before() {
    let house = house().await;
    let mut elsewhere = connect(&house, "/t/other/ws").await;
    elsewhere.send(auth("acme")).await;
    let (said, code) = end(&mut elsewhere).await;
    assert_eq!((said.unwrap()["error"].as_str(), code), (Some("forbidden"), Some(4504)));
    let mut at_home = connect(&house, "/t/acme/ws").await;
    at_home.send(auth("acme")).await;
    at_home.expect("welcome").await;
    assert_eq!(house.hub.clients()[0].identity().tenant, "acme");
    let mut nameless = connect(&house, "/name").await;
    nameless.send(auth("acme")).await;
    let (said, code) = end(&mut nameless).await;
    assert_eq!((said.unwrap()["error"].as_str(), code), (Some("username_required"), Some(4504)));
}

#[tokio::test]
async fn hub_that_stops_sends_those_away_who_wait() {
    let house = house().await;
    let mut waiting = connect(&house, "/ws").await;
    let mut judged = connect(&house, "/ws").await;
    house.turns.forget_permits(1000);
    judged.send(auth("ann")).await;
    let (stopped, ..) = tokio::join!(house.hub.shutdown(PATIENCE), end(&mut waiting), async {
        assert_eq!(end(&mut judged).await, (None, Some(1001)));
    });
    assert!(stopped);
    assert_eq!(house.hub.unauthenticated_count(), 0);
}

// ---- over a stream in memory ----

struct Pipe(DuplexStream);

impl ByteStream for Pipe {
    async fn read(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let count = self.0.read(&mut buffer).await.unwrap_or(0);
        buffer.truncate(count);
        buffer
    }

    fn read_now(&mut self) -> Option<Vec<u8>> {
        None
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }
}

/// An HTTP server and an upgrade over a pipe: no socket, and the clock is the test's.
async fn over_a_pipe(service: UpgradeService) -> WsClient<Pipe> {
    let (server, mut peer) = tokio::io::duplex(16 * 1024);
    let service = hyper_util::service::TowerToHyperService::new(service);
    let io = hyper_util::rt::TokioIo::new(server);
    tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service).with_upgrades());
    let request = "GET /ws?join=none HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: gohub\r\n\r\n";
    peer.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(peer.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    WsClient::new(Pipe(peer), None, Vec::new(), PATIENCE)
}

#[tokio::test(start_paused = true)]
async fn first_message_works_over_any_stream_and_in_the_other_dialect() {
    let (builder, ..) = door();
    let hub = builder.start_on_this_runtime().unwrap();
    let service = || hub.service_with(UpgradeOptions::default().with_first_message(Duration::from_secs(10)));
    let mut ann = over_a_pipe(service()).await;
    ann.send(json!({ "message_id": 1, "message_type": "auth", "data": { "token": "ann" } })).await;
    let welcome: Value = serde_json::from_str(&ann.next_text().await).unwrap();
    assert_eq!(welcome["data"]["user_id"], "ann");
    ann.send(json!({ "message_id": 2, "message_type": "ping" })).await;
    let pong: Value = serde_json::from_str(&ann.next_text().await).unwrap();
    assert_eq!(pong, json!({ "message_id": 2, "message_type": "pong" }));
    let mut bob = over_a_pipe(service()).await;
    bob.send(json!({ "message_id": 1, "message_type": "auth", "data": { "token": "nobody" } })).await;
    let said: Value = serde_json::from_str(&bob.next_text().await).unwrap();
    assert_eq!((&said["message_id"], &said["data"]["error"]), (&json!(1), &json!("unauthorized")));
    assert_eq!(bob.closed().await, Some(4504));
    // Ten seconds of the test's clock.
    let mut silent = over_a_pipe(service()).await;
    let received = silent.to_the_end().await;
    assert!(
        matches!(&received[..], [Received::Close { code: Some(4006), .. }, ..]),
        "{:?}",
        kinds(&received)
    );
}
