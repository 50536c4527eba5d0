//! What hostile clients do, each until the server ends it.

use std::net::SocketAddr;
use std::time::Duration;

use outspoke_testkit::{Connect, Received, TcpClient};
use outspoke_websocket::Opcode;
use serde_json::json;

use crate::support::PATIENCE;
use crate::support::raw::Raw;

/// How an attack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this HTTP status.
    Status(u16),
    /// With this close code.
    Code(u16),
    /// With the end of the stream and no word.
    Cut,
}

/// One kind of attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    CompressionBomb,
    HugeLength,
    TopBit,
    EmptyFragments,
    ManyHeaders,
    SlowHeaders,
    HalfFrame,
    HalfMessage,
    PingFlood,
    PongFlood,
    MessageFlood,
    GarbageFlood,
    NeverUpgrading,
    DribbledBody,
    Deaf,
}

/// As often as the mission says.
const FRAGMENTS: usize = 200_000;

impl Attack {
    pub(crate) const ALL: [Self; 15] = [
        Self::CompressionBomb,
        Self::HugeLength,
        Self::TopBit,
        Self::EmptyFragments,
        Self::ManyHeaders,
        Self::SlowHeaders,
        Self::HalfFrame,
        Self::HalfMessage,
        Self::PingFlood,
        Self::PongFlood,
        Self::MessageFlood,
        Self::GarbageFlood,
        Self::NeverUpgrading,
        Self::DribbledBody,
        Self::Deaf,
    ];

    /// Does it once, from the connection to its end. `number`: whose.
    pub(crate) async fn run(self, addr: SocketAddr, number: usize) -> End {
        match self {
            Self::CompressionBomb => bomb(addr, number).await,
            Self::HugeLength => declares(addr, number, 1 << 40).await,
            Self::TopBit => declares(addr, number, u64::MAX).await,
            Self::EmptyFragments => fragments(addr, number).await,
            Self::ManyHeaders => many_headers(addr).await,
            Self::SlowHeaders => slow_headers(addr).await,
            Self::HalfFrame => half(addr, number, &[0x81, 0x85, 0, 0, 0, 0, b'h', b'a']).await,
            Self::HalfMessage => half(addr, number, &[0x01, 0x82, 0, 0, 0, 0, b'h', b'a']).await,
            Self::PingFlood => flood(addr, number, Opcode::Ping, b"ping").await,
            Self::PongFlood => flood(addr, number, Opcode::Pong, b"pong").await,
            Self::MessageFlood => {
                let message = br#"{"type":"chat","room":"flood","content":"spam","id":"x"}"#;
                flood(addr, number, Opcode::Text, message).await
            }
            Self::GarbageFlood => flood(addr, number, Opcode::Text, br#"{"type":"#).await,
            Self::NeverUpgrading => silent(addr).await,
            Self::DribbledBody => dribbled_body(addr).await,
            Self::Deaf => deaf(addr, number).await,
        }
    }
}

async fn connected(addr: SocketAddr, number: usize) -> TcpClient {
    let target = format!("/ws?userId=villain-{number}&username=villain&join=none");
    TcpClient::connect(addr, &target, &[])
        .await
        .unwrap_or_else(|refused| panic!("{refused:?}"))
        .with_patience(PATIENCE)
}

/// What the server says last; whatever it said before does not matter.
async fn end_of(mut client: TcpClient) -> End {
    let closes = client.to_the_end().await.into_iter().rev().find_map(|received| match received {
        Received::Close { code, .. } => code,
        _ => None,
    });
    closes.map_or(End::Cut, End::Code)
}

async fn bomb(addr: SocketAddr, number: usize) -> End {
    let target = format!("/ws?userId=villain-{number}&username=villain&join=none");
    let (mut client, established) = Connect::to(addr, &target).compression().establish().await.unwrap();
    assert!(established.deflate.is_some());
    client.send_compressed(&"0".repeat(4 << 20)).await;
    end_of(client).await
}

async fn declares(addr: SocketAddr, number: usize, length: u64) -> End {
    let mut client = connected(addr, number).await;
    let mut frame = vec![0x82, 0xff];
    frame.extend(length.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend([b'x'; 1000]);
    client.send_raw(&frame).await;
    end_of(client).await
}

/// A message in two hundred thousand fragments of nothing, and then its end: it is a good one, however silly, if it is in time.
async fn fragments(addr: SocketAddr, number: usize) -> End {
    let mut client = connected(addr, number).await;
    client.expect("welcome").await;
    client.send_raw(&[0x01, 0x80, 0, 0, 0, 0]).await;
    let thousand = [0x00, 0x80, 0, 0, 0, 0].repeat(1000);
    for _ in 0..FRAGMENTS / 1000 {
        if !client.send_raw(&thousand).await {
            return end_of(client).await;
        }
    }
    let last = client.frame(Opcode::Text, br#"{"type":"ping","id":"whole"}"#);
    let last = [&[0x80], &last[1..]].concat();
    client.send_raw(&last).await;
    client.close(1000, "").await;
    let received = client.to_the_end().await;
    let answered =
        received.iter().any(|received| matches!(received, Received::Json(value) if value["id"] == "whole"));
    let code = received.iter().rev().find_map(|received| match received {
        Received::Close { code, .. } => *code,
        _ => None,
    });
    assert!(answered || code != Some(1000), "{received:?}");
    code.map_or(End::Cut, End::Code)
}

async fn many_headers(addr: SocketAddr) -> End {
    let mut raw = Raw::connect(addr).await;
    let headers: String = (0..2000).map(|number| format!("x-{number}: x\r\n")).collect();
    raw.send(format!("GET /ws HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).await;
    raw.answer().await.status().map_or(End::Cut, End::Status)
}

async fn slow_headers(addr: SocketAddr) -> End {
    let mut raw = Raw::connect(addr).await;
    raw.send(b"GET /ws HTTP/1.1\r\nHost: x\r\n").await;
    loop {
        if raw.ends_within(Duration::from_millis(100)).await {
            return raw.answer().await.status().map_or(End::Cut, End::Status);
        }
        raw.send(b"x: x\r\n").await;
    }
}

async fn silent(addr: SocketAddr) -> End {
    let mut raw = Raw::connect(addr).await;
    assert!(raw.ends().await, "nobody waits for who says nothing");
    raw.answer().await.status().map_or(End::Cut, End::Status)
}

async fn half(addr: SocketAddr, number: usize, bytes: &[u8]) -> End {
    let mut client = connected(addr, number).await;
    client.send_raw(bytes).await;
    end_of(client).await
}

async fn flood(addr: SocketAddr, number: usize, opcode: Opcode, payload: &[u8]) -> End {
    let mut client = connected(addr, number).await;
    let frame = client.frame(opcode, payload);
    let many = frame.repeat(100);
    // Twenty times what a second allows, and what then costs the connection.
    for _ in 0..400 {
        if !client.send_raw(&many).await {
            break;
        }
    }
    end_of(client).await
}

/// A request whose body comes byte by byte.
async fn dribbled_body(addr: SocketAddr) -> End {
    let mut raw = Raw::connect(addr).await;
    let head = "POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer hostile-tests-key\r\n\
                Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{";
    raw.send(head.as_bytes()).await;
    loop {
        if raw.ends_within(Duration::from_millis(100)).await {
            return raw.answer().await.status().map_or(End::Cut, End::Status);
        }
        raw.send(b" ").await;
    }
}

/// Asks much, and reads nothing of the answers.
async fn deaf(addr: SocketAddr, number: usize) -> End {
    let target = format!("/ws?userId=villain-{number}&username=villain&join=deaf-{number}");
    let connect = Connect::to(addr, &target).receive_buffer_bytes(4096);
    let mut client = connect.open().await.unwrap();
    let asked = json!({ "type": "presence", "room": format!("deaf-{number}") }).to_string();
    for _ in 0..3000 {
        let frame = client.frame(Opcode::Text, asked.as_bytes());
        if !client.send_raw(&frame).await {
            break;
        }
    }
    end_of(client).await
}
