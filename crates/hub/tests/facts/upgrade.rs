//! The way in: requests over real sockets, through axum, to clients of the hub (D1, B4, C8's seam).

use std::net::SocketAddr;

use outspoke_hub::{
    AuthError, Authentication, Authenticator, ClientAddress, ErrorCode, Hub, HubBuilder, HubConfig, Identity,
    Kind, RoomName, UpgradeOptions,
};
use outspoke_testkit::{Connect, Received, Refused, TcpClient, exchange};
use outspoke_websocket::{Opcode, encode_masked_frame};
use serde_json::{Value, json};

use crate::support::{PATIENCE, eventually, publish};

/// A hub behind axum on loopback: `/ws` with its default room, `/free` without, `/strict` with a name, `/echo`.
async fn serve(builder: HubBuilder, change: impl FnOnce(&mut HubConfig)) -> (Hub, SocketAddr) {
    let mut config = HubConfig {
        shards: 2,
        rooms: outspoke_hub::RoomClasses::all(outspoke_hub::RoomClass {
            announce: false,
            ..Default::default()
        }),
        default_room: Some(RoomName::new("lobby", 99).unwrap()),
        ..HubConfig::default()
    };
    change(&mut config);
    let hub = builder.config(config).start().unwrap();
    let app = axum::Router::<()>::new()
        .route_service("/ws", hub.service())
        .route_service("/free", hub.service_with(UpgradeOptions::default().without_room()))
        .route_service("/strict", hub.service_with(UpgradeOptions::default().with_username()))
        .route_service("/gohub", hub.service_with(UpgradeOptions::default().speaking("gohub")))
        .route_service("/echo", hub.service_with(UpgradeOptions::default().echoing()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (hub, addr)
}

async fn refused(addr: SocketAddr, target: &str) -> (Refused, Value) {
    let refused = Connect::to(addr, target).open().await.unwrap_err();
    let body = serde_json::from_str(&refused.body).unwrap_or_else(|_| panic!("{}", refused.body));
    (refused, body)
}

/// B2, to the letter.
#[tokio::test]
async fn upgrade_takes_identity_from_the_query_and_puts_the_client_into_the_default_room() {
    let (hub, addr) = serve(Hub::builder(), |_| {}).await;
    let mut client = TcpClient::connect(addr, "/ws?userId=user123&username=Alice", &[]).await.unwrap();
    let welcome = client.expect("welcome").await;
    assert_eq!((&welcome["userId"], &welcome["username"]), (&json!("user123"), &json!("Alice")));
    assert_eq!(welcome["openMode"], true);
    assert_eq!(client.expect("subscribed").await["room"], "lobby");
    client.send_text(r#"{"type":"chat","content":"Hello everyone!"}"#).await;
    let chat = client.expect("chat").await;
    assert_eq!((&chat["content"], &chat["username"]), (&json!("Hello everyone!"), &json!("Alice")));
    client.close(1000, "").await;
    assert_eq!(client.closed().await, Some(1000));
    assert_eq!(client.next().await, Received::End);
    eventually("it is gone", || hub.client_count() == 0).await;
}

#[tokio::test]
async fn client_and_endpoint_choose_the_room() {
    let (hub, addr) = serve(Hub::builder(), |_| {}).await;
    for (target, room) in [
        ("/ws?join=none", None),
        ("/ws?join=kitchen", Some("kitchen")),
        ("/free", None),
        ("/free?join=caf%C3%A9", Some("café")), // typos: ignore
        ("/ws?userId=a", Some("lobby")),
    ] {
        let mut client = TcpClient::connect(addr, target, &[]).await.unwrap();
        client.expect("welcome").await;
        match room {
            Some(room) => assert_eq!(client.expect("subscribed").await["room"], room, "{target}"),
            None => {
                client.send(json!({ "type": "ping" })).await;
                client.expect("pong").await;
            }
        }
    }
    eventually("all are gone", || hub.client_count() == 0).await;
}

/// Each refusal comes before the upgrade, with its status and words for people, and takes no place.
#[tokio::test]
async fn bad_requests_are_refused_before_the_upgrade() {
    let (hub, addr) = serve(Hub::builder(), |config| config.username_chars_max = 5).await;
    let long_id = "x".repeat(129);
    for (target, status, code) in [
        ("/ws?username=abcdef".to_owned(), 400, "username_too_long"),
        (format!("/ws?userId={long_id}"), 400, "invalid_identity"),
        (format!("/ws?device={long_id}"), 400, "invalid_identity"),
        ("/ws?username=a%00b".to_owned(), 400, "invalid_identity"),
        ("/ws?join=".to_owned(), 400, "invalid_room"),
        ("/ws?join=a%0Ab".to_owned(), 400, "invalid_room"),
        ("/ws?dialect=klingon".to_owned(), 400, "bad_request"),
        ("/strict".to_owned(), 400, "username_required"),
        ("/strict?username=%20%20".to_owned(), 400, "username_required"),
    ] {
        let (refused, body) = refused(addr, &target).await;
        assert_eq!((refused.status, body["error"].as_str()), (status, Some(code)), "{target}: {body}");
        assert_eq!(body["type"], "error");
        assert_eq!(refused.headers["content-type"], "application/json");
        assert!(!body["message"].as_str().unwrap().is_empty());
    }
    let mut client =
        TcpClient::connect(addr, "/strict?username=%C3%A4%C3%B6%C3%BC%C3%9F%E2%82%AC", &[]).await.unwrap();
    assert_eq!(client.expect("welcome").await["username"], "äöüß€");
    TcpClient::connect(addr, "/strict?join=none", &[]).await.unwrap();
    drop(client);
    eventually("no place is lost", || hub.client_count() == 0).await;
}

/// RFC 6455 section 4.2.1; a request that is no handshake is told what is missing.
#[tokio::test]
async fn requests_that_are_no_handshake_are_refused() {
    let (hub, addr) = serve(Hub::builder(), |_| {}).await;
    let good = [
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let request = |line: &str, headers: &[&str]| format!("{line}\r\n{}\r\n\r\n", headers.join("\r\n"));
    let get = "GET /ws HTTP/1.1";
    let without = |missing: usize| {
        let left: Vec<_> =
            good.iter().enumerate().filter(|(index, _)| *index != missing).map(|(_, h)| *h).collect();
        request(get, &left)
    };
    let with = |more: &str| request(get, &[&good[..], &[more]].concat());
    let cases = [
        ("POST", request("POST /ws HTTP/1.1", &good), 405),
        ("no Upgrade", without(1), 426),
        ("no Connection", without(2), 400),
        ("no version", without(3), 400),
        ("no key", without(4), 400),
        ("second key", with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
        ("second Host", with("Host: elsewhere"), 400),
        ("a body", with("Content-Length: 0"), 400),
        ("bad protocols", with("Sec-WebSocket-Protocol: a,,b,a"), 400),
        ("bad extensions", with("Sec-WebSocket-Extensions: ;;"), 400),
        ("version 8", request(get, &[good[0], good[1], good[2], "Sec-WebSocket-Version: 8", good[4]]), 426),
        ("short key", request(get, &[good[0], good[1], good[2], good[3], "Sec-WebSocket-Key: abcd"]), 400),
    ];
    for (name, request, status) in cases {
        let answer = exchange(addr, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.body);
        assert!(!answer.body.is_empty(), "{name}");
        if status == 426 {
            assert_eq!(answer.headers["sec-websocket-version"], "13", "{name}");
        }
    }
    assert_eq!(exchange(addr, request(get, &good).as_bytes()).await.status, 101);
    eventually("it is gone", || hub.client_count() == 0).await;
}

/// Who is somebody else's decision: the status follows its code, and nothing else of it is told.
#[tokio::test]
async fn authenticator_decides_before_the_upgrade() {
    #[derive(Debug)]
    struct Gate;
    impl Authenticator for Gate {
        fn authenticate<'a>(&'a self, request: &'a http::request::Parts) -> Authentication<'a> {
            Box::pin(async move {
                tokio::task::yield_now().await;
                match request.headers.get("authorization").and_then(|value| value.to_str().ok()) {
                    Some("alice") => Ok(Identity::user("alice").with_claims(json!({ "role": "admin" }))),
                    Some("mallory") => Err(AuthError::forbidden("you are banned")),
                    Some("slow") => Err(AuthError::new(ErrorCode::Unavailable, "the directory is away")),
                    _ => Err(AuthError::unauthorized("who are you?")),
                }
            })
        }
    }
    let (hub, addr) = serve(Hub::builder().authenticator(Gate), |_| {}).await;
    for (header, status, code) in
        [(None, 401, "unauthorized"), (Some("mallory"), 403, "forbidden"), (Some("slow"), 503, "unavailable")]
    {
        let mut connect = Connect::to(addr, "/ws?userId=alice");
        if let Some(header) = header {
            connect = connect.header("authorization", header);
        }
        let refused = connect.open().await.unwrap_err();
        let body: Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!((refused.status, body["error"].as_str()), (status, Some(code)));
    }
    let headers = [("authorization", "alice")];
    let mut client = TcpClient::connect(addr, "/ws?userId=mallory&username=M", &headers).await.unwrap();
    let welcome = client.expect("welcome").await;
    assert_eq!((&welcome["userId"], &welcome["openMode"]), (&json!("alice"), &json!(false)));
    let handle = hub.clients().pop().unwrap();
    assert_eq!(handle.identity().claims.as_ref().unwrap()["role"], "admin");
}

#[tokio::test]
async fn full_hub_refuses_with_503_and_a_place_that_is_free_again_is_given() {
    let (hub, addr) = serve(Hub::builder(), |config| config.connections_max = 2).await;
    let first = TcpClient::connect(addr, "/ws", &[]).await.unwrap();
    let _second = TcpClient::connect(addr, "/ws", &[]).await.unwrap();
    let (refusal, body) = refused(addr, "/ws").await;
    assert_eq!((refusal.status, body["error"].as_str()), (503, Some("too_many_connections")));
    assert!(refusal.headers.contains_key("retry-after"));
    drop(first);
    eventually("its place is free", || hub.client_count() == 1).await;
    TcpClient::connect(addr, "/ws", &[]).await.unwrap();
}

#[tokio::test]
async fn stopping_hub_refuses_with_503() {
    let (hub, addr) = serve(Hub::builder(), |_| {}).await;
    assert!(hub.shutdown(PATIENCE).await);
    let (refusal, body) = refused(addr, "/ws").await;
    assert_eq!((refusal.status, body["error"].as_str()), (503, Some("unavailable")));
}

#[tokio::test]
async fn subprotocol_decides_the_dialect_before_query_and_endpoint() {
    let (_hub, addr) = serve(Hub::builder(), |_| {}).await;
    // (target, offered, chosen, speaks gohub)
    for (target, offered, chosen, gohub) in [
        ("/free", &[][..], None, false),
        ("/free?dialect=gohub", &[], None, true),
        ("/gohub?join=none", &[], None, true),
        ("/gohub?join=none&dialect=native", &[], None, false),
        ("/gohub?join=none", &["outspoke.v1"], Some("outspoke.v1"), false),
        ("/free", &["unknown"], None, false),
        ("/free", &["unknown", "outspoke.v1"], Some("outspoke.v1"), false),
    ] {
        let connect = offered.iter().fold(Connect::to(addr, target), |connect, name| connect.protocol(name));
        let (mut client, established) = connect.establish().await.unwrap();
        assert_eq!(established.protocol.as_deref(), chosen, "{target} {offered:?}");
        let Received::Json(welcome) = client.next().await else { panic!("no JSON") };
        assert_eq!(welcome.get("message_type").is_some(), gohub, "{target} {offered:?}: {welcome}");
    }
}

/// A fast client sends its first message before it has seen the answer: one segment with the request.
#[tokio::test]
async fn bytes_behind_the_request_are_not_lost() {
    let (_hub, addr) = serve(Hub::builder(), |_| {}).await;
    let mut early = Vec::new();
    for id in 0..50 {
        let text = json!({ "type": "ping", "id": id }).to_string();
        encode_masked_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], &mut early);
    }
    for cut in [early.len(), early.len() - 3, 1, 7] {
        let connect = Connect::to(addr, "/free").early(&early[..cut]);
        let mut client = connect.open().await.unwrap();
        client.expect("welcome").await;
        client.send_raw(&early[cut..]).await;
        for id in 0..50 {
            assert_eq!(client.expect("pong").await["id"], id, "cut at {cut}");
        }
    }
}

/// Compressed both ways above the threshold, once for all; and not at all for those who did not ask.
#[tokio::test]
async fn compression_is_used_above_the_threshold_where_it_was_negotiated() {
    let (hub, addr) = serve(Hub::builder(), |_| {}).await;
    let (mut squeezed, established) = Connect::to(addr, "/ws").compression().establish().await.unwrap();
    assert!(established.deflate.is_some());
    let (mut plain, established) = Connect::to(addr, "/ws").establish().await.unwrap();
    assert!(established.deflate.is_none());
    for client in [&mut squeezed, &mut plain] {
        client.expect("welcome").await;
        client.expect("subscribed").await;
    }
    let large = "spam ".repeat(2000);
    let before = hub.stats().bytes_delivered;
    hub.publish("lobby", Kind::Data, outspoke_hub::Body::json(&large).unwrap()).unwrap();
    publish(&hub, "lobby", 7);
    for client in [&mut squeezed, &mut plain] {
        assert_eq!(client.expect("message").await["data"], large);
        assert_eq!(client.expect("message").await["data"], 7);
    }
    let sent = hub.stats().bytes_delivered - before;
    assert!(sent > 10_000 && sent < 12_500, "{sent} bytes: one whole, one squeezed");
    let text = json!({ "type": "publish", "room": "lobby", "data": large }).to_string();
    let read = hub.stats().bytes_read;
    squeezed.send_compressed(&text).await;
    for client in [&mut squeezed, &mut plain] {
        assert_eq!(client.expect("message").await["data"], large);
    }
    assert!(hub.stats().bytes_read - read < 1000);
}

#[tokio::test]
async fn compression_that_is_switched_off_is_not_negotiated() {
    let (_hub, addr) = serve(Hub::builder(), |config| config.compression.enabled = false).await;
    let (mut client, established) = Connect::to(addr, "/ws").compression().establish().await.unwrap();
    assert!(established.deflate.is_none());
    client.expect("welcome").await;
}

/// A small message that inflates to a large one is counted while it inflates.
#[tokio::test]
async fn compressed_message_above_the_limit_closes_with_1009() {
    let (hub, addr) = serve(Hub::builder(), |config| config.message_bytes_max = 10_000).await;
    let mut client = Connect::to(addr, "/free").compression().open().await.unwrap();
    client.expect("welcome").await;
    client.send_compressed(&"x".repeat(1_000_000)).await;
    assert_eq!(client.closed().await, Some(1009));
    assert_eq!(client.next().await, Received::End);
    drop(client);
    eventually("it is gone", || hub.client_count() == 0).await;
}

/// The conformance endpoint: everything comes back as it was, and no room ever hears of it.
#[tokio::test]
async fn echo_endpoint_returns_messages_as_they_came() {
    let (hub, addr) = serve(Hub::builder(), |_| {}).await;
    let mut client = Connect::to(addr, "/echo").compression().open().await.unwrap();
    client.send_text("hello").await;
    assert_eq!(client.next().await, Received::Text("hello".into()));
    client.send_binary(&[0, 1, 255]).await;
    assert_eq!(client.next().await, Received::Binary(vec![0, 1, 255].into()));
    let large = "spam ".repeat(2000);
    client.send_compressed(&large).await;
    assert_eq!(client.next().await, Received::Text(large));
    client.ping(b"x").await;
    assert_eq!(client.next().await, Received::Pong("x".into()));
    assert_eq!(hub.room_count(), 0);
    client.close(1000, "").await;
    assert_eq!(client.closed().await, Some(1000));
}

/// A client that goes away between the request and the answer leaves nothing behind.
#[tokio::test]
async fn client_that_vanishes_during_the_upgrade_gives_its_place_back() {
    let (hub, addr) = serve(Hub::builder(), |_| {}).await;
    let request = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    for _ in 0..50 {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        std::io::Write::write_all(&mut stream, request).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }
    let mut last = TcpClient::connect(addr, "/ws", &[]).await.unwrap();
    last.expect("welcome").await;
    eventually("only the last is there", || hub.client_count() == 1).await;
}

/// What limits and logs name is what the HTTP server found out, never a header.
#[tokio::test]
async fn client_has_the_address_that_the_http_server_gave_the_request() {
    let hub = Hub::builder().config(HubConfig { shards: 1, ..HubConfig::default() }).start().unwrap();
    let known = ClientAddress::new("::ffff:192.0.2.7".parse().unwrap());
    let app = axum::Router::<()>::new()
        .route_service("/known", hub.service())
        .layer(axum::Extension(known))
        .route_service("/unknown", hub.service());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    for (target, address) in [("/known", Some(known)), ("/unknown", None)] {
        let mut client =
            TcpClient::connect(addr, target, &[("X-Forwarded-For", "198.51.100.1")]).await.unwrap();
        client.expect("welcome").await;
        assert_eq!(hub.clients()[0].address(), address, "{target}");
        client.close(1000, "").await;
        eventually("it is gone", || hub.client_count() == 0).await;
    }
    assert_eq!(known.ip(), std::net::Ipv4Addr::new(192, 0, 2, 7));
}
