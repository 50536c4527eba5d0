//! Limits on rates, on connections, and on how long a message may take (C7).

use std::time::Duration;

use outspoke_hub::{
    Attach, AttachError, AuthError, ClientAddress, Hub, HubConfig, Identity, MemoryConn, Rate,
    authenticator_fn,
};
use outspoke_testkit::{Connect, Received, ScriptedClient, TcpClient, attach_with, settle};
use outspoke_websocket::Opcode;
use serde_json::{Value, json};

use crate::support::{eventually, hub, member, user, welcomed};

fn limited(change: impl FnOnce(&mut outspoke_hub::RateConfig)) -> Hub {
    hub(|config| {
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
        config.rate.refusals = Rate::per_second(1, 50);
        change(&mut config.rate);
    })
}

fn from(text: &str) -> ClientAddress {
    ClientAddress::new(text.parse().unwrap())
}

/// Everything that a client gets until it is closed, or until it has its pong.
async fn pongs_and_errors(client: &mut ScriptedClient) -> (usize, Vec<Value>) {
    settle().await;
    let messages = client.messages();
    let pongs = messages.iter().filter(|message| message["type"] == "pong").count();
    (pongs, messages.into_iter().filter(|message| message["type"] == "error").collect())
}

/// The answers to a flood must not be a flood; and they say when to go on.
#[tokio::test(start_paused = true)]
async fn frames_above_the_rate_are_ignored_and_answered_once() {
    let hub = limited(|rate| rate.connection = Rate::per_second(10, 20));
    let mut client = welcomed(&hub, "a").await;
    for _ in 0..60 {
        client.send(json!({ "type": "ping" })).await;
    }
    let (pongs, errors) = pongs_and_errors(&mut client).await;
    assert_eq!((pongs, errors.len()), (20, 1));
    assert_eq!((&errors[0]["error"], &errors[0]["code"]), (&json!("rate_limited"), &json!(162)));
    let wait = errors[0]["retryAfter"].as_u64().unwrap_or_else(|| panic!("{errors:?}"));
    assert_eq!(wait, 100);
    tokio::time::advance(Duration::from_millis(wait)).await;
    client.send(json!({ "type": "ping" })).await;
    assert_eq!(pongs_and_errors(&mut client).await, (1, vec![]));
    assert_eq!((hub.stats().frames_refused, hub.stats().clients_rate_limited), (40, 0));
}

/// Nobody parses, inflates or decodes what is refused: it could be anything.
#[tokio::test(start_paused = true)]
async fn refused_frames_are_not_looked_into() {
    let hub = limited(|rate| rate.connection = Rate::per_second(1, 1));
    let (mut client, _) = attach_with(&hub, user("a"), 64 * 1024);
    client.expect("welcome").await;
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
    // Text that is no UTF-8, and JSON that is none: either would have another answer.
    let broken = client.frame(Opcode::Text, &[0xff, 0xfe]);
    client.send_raw(&broken).await;
    client.send_text("{{{").await;
    assert_eq!(client.next().await.kind(), Some("error"));
    settle().await;
    assert_eq!(client.messages(), Vec::<Value>::new());
    assert_eq!(hub.stats().frames_refused, 2);
    assert_eq!(hub.stats().protocol_errors, 0);
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_is_closed_with_4005_and_its_room_with_others_goes_on() {
    let hub = limited(|rate| rate.connection = Rate::per_second(10, 20));
    let mut other = member(&hub, "b", "x").await;
    let mut client = member(&hub, "a", "x").await;
    for _ in 0..200 {
        client.send(json!({ "type": "ping" })).await;
    }
    assert_eq!(client.closed().await, Some(4005));
    assert_eq!((hub.member_count("x"), hub.stats().clients_rate_limited), (1, 1));
    other.say("x", "still here").await;
    other.expect("chat").await;
}

/// Class 7: pings are frames like others, and so are pongs that nobody asked for.
#[tokio::test(start_paused = true)]
async fn control_frames_are_inside_the_limit() {
    for opcode in [Opcode::Ping, Opcode::Pong] {
        let hub = limited(|rate| rate.connection = Rate::per_second(10, 20));
        let mut client = welcomed(&hub, "a").await;
        let frame = client.frame(opcode, b"x");
        for _ in 0..200 {
            client.send_raw(&frame).await;
        }
        let received = client.to_the_end().await;
        let pongs = received.iter().filter(|received| matches!(received, Received::Pong(_))).count();
        assert_eq!(pongs, if opcode == Opcode::Ping { 20 } else { 0 });
        assert!(received.iter().any(|received| matches!(received, Received::Close { code: Some(4005), .. })));
    }
}

/// A user's tabs and devices count together; other users do not.
#[tokio::test(start_paused = true)]
async fn users_are_limited_over_all_their_connections() {
    let hub = limited(|rate| rate.user = Rate::per_second(1, 30));
    let of = |name: &str, device: &str| Attach::new(Identity::user(name).on_device(device));
    let mut clients = Vec::new();
    for (name, device) in [("a", "1"), ("a", "2"), ("b", "1")] {
        let (mut client, _) = attach_with(&hub, of(name, device), 64 * 1024);
        client.expect("welcome").await;
        clients.push(client);
    }
    let mut passed = Vec::new();
    for client in &mut clients {
        for _ in 0..25 {
            client.send(json!({ "type": "ping" })).await;
        }
        passed.push(pongs_and_errors(client).await.0);
    }
    assert_eq!(passed, [25, 5, 25]);
    // Coming back is no new beginning.
    clients.clear();
    settle().await;
    let (mut again, _) = attach_with(&hub, of("a", "3"), 64 * 1024);
    again.expect("welcome").await;
    again.send(json!({ "type": "ping" })).await;
    assert_eq!(pongs_and_errors(&mut again).await.0, 0);
}

#[tokio::test(start_paused = true)]
async fn addresses_and_tenants_are_limited_and_exempt_addresses_are_not() {
    let hub = limited(|rate| {
        rate.address = Rate::per_second(1, 10);
        rate.tenant = Rate::per_second(1, 25);
        rate.exempt = vec!["10.0.0.0/8".parse().unwrap()];
    });
    let mut passed = Vec::new();
    for (name, address) in [("a", "192.0.2.1"), ("b", "192.0.2.1"), ("c", "192.0.2.2"), ("d", "10.1.1.1")] {
        let (mut client, _) = attach_with(&hub, user(name).coming_from(from(address)), 64 * 1024);
        client.expect("welcome").await;
        for _ in 0..8 {
            client.send(json!({ "type": "ping" })).await;
        }
        passed.push(pongs_and_errors(&mut client).await.0);
    }
    // Ten for the first address, eight for the next; and of the tenant's twenty-five seven are left.
    assert_eq!(passed, [8, 2, 8, 7]);
}

/// What a request asks for is limited by its kind, and whoever waits for an answer gets one.
#[tokio::test(start_paused = true)]
async fn kinds_of_action_have_limits_of_their_own() {
    let hub = limited(|rate| {
        rate.actions.publish = Rate::per_second(1, 3);
        rate.actions.read = Rate::per_second(1, 2);
        rate.actions.membership = Rate::per_second(1, 5);
        rate.refusals = Rate::per_second(1, 20);
    });
    let mut client = member(&hub, "a", "x").await;
    for id in 0..6 {
        client.send(json!({ "type": "chat", "room": "x", "content": "hi", "id": format!("p{id}") })).await;
        client.send(json!({ "type": "presence", "room": "x", "id": format!("r{id}") })).await;
    }
    settle().await;
    let messages = client.messages();
    let refused: Vec<_> = messages
        .iter()
        .filter(|message| message["error"] == "rate_limited")
        .map(|message| message["id"].as_str().or(message["re"].as_str()).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(refused.len(), 3 + 4, "{messages:?}");
    let said = messages.iter().filter(|message| message["type"] == "chat").count();
    assert_eq!(said, 3);
    // Joining is another kind, and a ping is none.
    client.join("y").await;
    client.send(json!({ "type": "ping" })).await;
    client.expect("pong").await;
    for _ in 0..30 {
        client.send(json!({ "type": "chat", "room": "x", "content": "hi", "id": "again" })).await;
    }
    assert_eq!(client.closed().await, Some(4005), "refusals are limited, too");
}

/// A room is not drowned by many who each stay within their limits.
#[tokio::test(start_paused = true)]
async fn rooms_take_so_many_messages_whoever_they_are_from() {
    let hub = limited(|rate| rate.room = Rate::per_second(1, 5));
    let mut reader = member(&hub, "reader", "x").await;
    for name in ["a", "b", "c", "d"] {
        let mut client = member(&hub, name, "x").await;
        for _ in 0..2 {
            client.say("x", name).await;
        }
        client.say("y-not-joined", "no").await;
        settle().await;
    }
    settle().await;
    let said = reader.messages().iter().filter(|message| message["type"] == "chat").count();
    assert_eq!(said, 5);
}

/// Class 6: a message that is never finished holds memory for ever; a slow one that is, need not be told from it.
#[tokio::test(start_paused = true)]
async fn messages_and_frames_that_are_not_completed_in_time_are_closed_with_4007() {
    let half_header = vec![0x81];
    let half_frame = vec![0x81, 0x85, 0, 0, 0, 0, b'h', b'e'];
    let half_message = vec![0x01, 0x81, 0, 0, 0, 0, b'h'];
    let half_ping = vec![0x89, 0x85, 0, 0, 0, 0, b'h'];
    for bytes in [half_header, half_frame, half_message, half_ping] {
        let hub = hub(|config| {
            config.message_timeout = Duration::from_secs(3);
            config.heartbeat.ping_interval = Duration::ZERO;
            config.heartbeat.pong_timeout = Duration::ZERO;
        });
        let mut client = welcomed(&hub, "a").await;
        let began = tokio::time::Instant::now();
        client.send_raw(&bytes).await;
        assert_eq!(client.closed().await, Some(4007), "{bytes:?}");
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(2) && took <= Duration::from_secs(5), "{bytes:?}: {took:?}");
    }
}

/// Pings between the fragments keep a connection alive, not a message.
#[tokio::test(start_paused = true)]
async fn control_frames_and_single_bytes_do_not_prolong_a_message() {
    let hub = hub(|config| {
        config.message_timeout = Duration::from_secs(3);
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
    });
    let mut client = welcomed(&hub, "a").await;
    client.send_raw(&[0x01, 0x81, 0, 0, 0, 0, b'h']).await;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.ping(b"").await;
        let empty_fragment = [0x00, 0x80, 0, 0, 0, 0];
        if !client.send_raw(&empty_fragment).await {
            break;
        }
    }
    let received = client.to_the_end().await;
    assert!(received.iter().any(|received| matches!(received, Received::Close { code: Some(4007), .. })));
}

/// A steady sender whose messages are cut wherever the network cuts them is never half done for long.
#[tokio::test(start_paused = true)]
async fn messages_that_follow_each_other_in_pieces_are_not_one_slow_message() {
    let hub = hub(|config| {
        config.message_timeout = Duration::from_secs(3);
        config.heartbeat.ping_interval = Duration::ZERO;
        config.heartbeat.pong_timeout = Duration::ZERO;
    });
    let mut client = welcomed(&hub, "a").await;
    let frame = client.frame(Opcode::Text, br#"{"type":"ping"}"#);
    client.send_raw(&frame[..5]).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        client.send_raw(&[&frame[5..], &frame[..5]].concat()).await;
        client.expect("pong").await;
    }
    assert_eq!(hub.client_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn connections_are_limited_by_address_and_user() {
    let hub = hub(|config| {
        config.connections_per_address_max = 2;
        config.connections_per_user_max = 1;
    });
    let attach = |name: &str, device: &str, address: &str| {
        let (conn, peer) = MemoryConn::pair(64 * 1024);
        let identity = Identity::user(name).on_device(device);
        hub.attach(conn, Attach::new(identity).coming_from(from(address))).map(|_| peer)
    };
    let _first = attach("a", "1", "2001:db8::1").unwrap();
    assert_eq!(attach("a", "2", "2001:db8::1").unwrap_err(), AttachError::TooManyOfUser { max: 1 });
    let second = attach("b", "1", "2001:db8::2").unwrap();
    assert_eq!(attach("c", "1", "2001:db8::3").unwrap_err(), AttachError::TooManyFromAddress { max: 2 });
    assert_eq!(hub.client_count(), 2);
    drop(second);
    settle().await;
    attach("c", "1", "2001:db8::3").unwrap();
}

async fn serve(change: impl FnOnce(&mut HubConfig)) -> (Hub, std::net::SocketAddr) {
    let mut config = HubConfig { shards: 1, ..HubConfig::default() };
    change(&mut config);
    let decide = |request: &http::request::Parts| match request.uri.query() {
        Some("right") => Ok(Identity::anonymous()),
        _ => Err(AuthError::unauthorized("who are you?")),
    };
    let hub = Hub::builder().authenticator(authenticator_fn(decide)).config(config).start().unwrap();
    let app = axum::Router::<()>::new()
        .route_service("/ws", hub.service())
        .layer(axum::Extension(ClientAddress::new([192, 0, 2, 7].into())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (hub, addr)
}

/// Before anybody is asked who it is: a flood of upgrades must not become a flood of questions to a directory.
#[tokio::test]
async fn upgrades_above_a_limit_are_answered_with_429_and_when_to_come_back() {
    let (_hub, addr) = serve(|config| {
        config.connections_per_address_max = 1;
        config.rate.upgrades = Rate::per(1, Duration::from_secs(3600), 3);
    })
    .await;
    let client = TcpClient::connect(addr, "/ws?right", &[]).await.unwrap();
    for (code, number) in
        [("too_many_connections", 132), ("too_many_connections", 132), ("rate_limited", 162)]
    {
        let refused = Connect::to(addr, "/ws?right").open().await.unwrap_err();
        let body: Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!((refused.status, &body["error"], &body["code"]), (429, &json!(code), &json!(number)));
        assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        assert_eq!(body["temporary"], true);
    }
    drop(client);
}

#[tokio::test]
async fn addresses_that_show_wrong_credentials_too_often_are_not_asked_any_more() {
    let (hub, addr) =
        serve(|config| config.rate.auth_failures = Rate::per(1, Duration::from_secs(3600), 3)).await;
    let good = TcpClient::connect(addr, "/ws?right", &[]).await.unwrap();
    for status in [401, 401, 401, 429, 429] {
        assert_eq!(Connect::to(addr, "/ws?wrong").open().await.unwrap_err().status, status);
    }
    let refused = Connect::to(addr, "/ws?right").open().await.unwrap_err();
    assert_eq!(refused.status, 429, "nor with what is right: that would tell");
    assert_eq!(hub.client_count(), 1, "who is in stays in");
    drop(good);
    eventually("it is gone", || hub.client_count() == 0).await;
}
