//! Each attack on its own: it ends as the table of limits says, and the server goes on.

use std::time::Duration;

use outspoke_testkit::Connect;
use serde_json::{Value, json};

use crate::attacks::{Attack, End};
use crate::support::raw::{Answer, Raw};
use crate::support::{Server, Settings};

/// The defaults, but for times: a test is not to wait for half a minute.
pub(crate) fn impatient() -> Settings {
    Settings::default()
        .set("server.header_timeout", "1s")
        .set("server.request_timeout", "2s")
        .set("limits.message_timeout", "1s")
        .set("api.keys", "hostile-tests-key")
        .set("rooms.announce", "false")
}

/// How an attack may end. Where the client is still writing when the server closes, its system may throw away the last words.
pub(crate) fn may_end(attack: Attack, end: End) -> bool {
    match attack {
        Attack::CompressionBomb | Attack::HugeLength => end == End::Code(1009),
        Attack::TopBit => matches!(end, End::Code(1002 | 1009)),
        // On a busy machine they may take longer than a message may.
        Attack::EmptyFragments => matches!(end, End::Code(1000 | 4007)),
        Attack::ManyHeaders => end == End::Status(431),
        Attack::SlowHeaders | Attack::NeverUpgrading => matches!(end, End::Cut | End::Status(408)),
        Attack::HalfFrame | Attack::HalfMessage => end == End::Code(4007),
        Attack::PingFlood
        | Attack::PongFlood
        | Attack::MessageFlood
        | Attack::GarbageFlood
        | Attack::Deaf => {
            matches!(end, End::Code(4005) | End::Cut)
        }
        Attack::DribbledBody => matches!(end, End::Status(408) | End::Cut),
    }
}

#[tokio::test]
async fn every_attack_is_ended_by_its_limit_and_the_server_goes_on() {
    let server = impatient().start().await;
    let attacks = Attack::ALL.into_iter().enumerate();
    let mut running: Vec<_> =
        attacks.map(|(number, attack)| (attack, tokio::spawn(attack.run(server.addr, number)))).collect();
    for (attack, ended) in &mut running {
        let end = ended.await.unwrap();
        println!("{attack:?}: {end:?}");
        assert!(may_end(*attack, end), "{attack:?}: {end:?}");
    }
    server.has_clients(0).await;
    server.serves().await;
}

/// Class 4, at its edge: a hundred fields are enough for anybody, sixteen kilobytes too.
#[tokio::test]
async fn header_with_too_much_is_answered_with_431_and_one_below_is_served() {
    let server = Server::start().await;
    let with = |count: usize, len: usize| {
        let filling = "x".repeat(len);
        let fields: String = (0..count).map(|number| format!("x-{number}: {filling}\r\n")).collect();
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
    };
    for (count, len, status) in
        [(90, 1, 200), (101, 1, 431), (2000, 1, 431), (10, 2000, 431), (10, 1000, 200)]
    {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(with(count, len).as_bytes()).await;
        assert_eq!(raw.answer().await.status(), Some(status), "{count} fields of {len} bytes");
    }
}

/// Between requests nobody keeps a connection longer than a header may take.
#[tokio::test]
async fn connection_that_is_kept_alive_without_a_request_is_closed() {
    let server = impatient().start().await;
    let mut raw = Raw::connect(server.addr).await;
    for _ in 0..3 {
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(raw.answer().await.status(), Some(200));
    }
    assert!(raw.ends().await);
}

/// What is behind a proxy's address must be able to talk; what is not, has so many connections.
#[tokio::test]
async fn address_has_so_many_connections_before_and_after_the_upgrade() {
    let server = impatient()
        .set("rate.exempt", "")
        .set("server.header_timeout", "1m")
        .set("limits.http_connections_per_address_max", "5")
        .set("limits.connections_per_address_max", "3")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in ["a", "b", "c"] {
        clients.push(server.client(user).await);
    }
    let refused = server.try_open("/ws?userId=d&username=d").await.unwrap_err();
    let body: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!((refused.status, &body["error"]), (429, &json!("too_many_connections")));
    assert!(refused.headers.contains_key("retry-after"));
    // Who is upgraded counts no more among those that are not.
    let mut waiting = Vec::new();
    let crowded = loop {
        let mut raw = Raw::connect(server.addr).await;
        if raw.ends_within(Duration::from_millis(500)).await {
            break raw;
        }
        waiting.push(raw);
        assert!(waiting.len() <= 5, "a sixth connection says nothing and is let in");
    };
    let mut crowded = crowded;
    assert!(matches!(crowded.answer().await, Answer::Status(429, _) | Answer::Closed));
    // The same address is served again as soon as it has let go of one.
    waiting.clear();
    loop {
        let mut raw = Raw::connect(server.addr).await;
        raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
        if raw.answer().await.status() == Some(200) {
            break;
        }
    }
}

#[tokio::test]
async fn address_that_connects_too_often_is_told_when_to_come_back() {
    let server = impatient().set("rate.exempt", "").set("rate.upgrades", "1/h burst 3").start().await;
    for _ in 0..3 {
        server.client("a").await;
    }
    let refused = server.try_open("/ws?userId=a&username=a").await.unwrap_err();
    assert_eq!(refused.status, 429);
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 60);
    // It costs nobody the reading of what it asks for, which is no upgrade here.
    assert_eq!(server.get("/ws").await.status, 429);
    // Other requests are not connections.
    assert_eq!(server.get("/health").await.status, 200);
}

/// A load test of one's own server must find out in one line why it is slow.
#[tokio::test]
async fn rates_can_be_switched_off_all_at_once() {
    let server = impatient().set("rate.enabled", "false").start().await;
    let mut client = Connect::to(server.addr, "/ws?userId=a&username=a&join=none").open().await.unwrap();
    client.expect("welcome").await;
    for _ in 0..3000 {
        client.send_text(r#"{"type":"ping"}"#).await;
    }
    for _ in 0..3000 {
        client.expect("pong").await;
    }
}
