//! A connection that may fail at any moment, and comes back.

use std::net::SocketAddr;
use std::time::Duration;

use outspoke_testkit::{Received, TcpClient, TcpPipe};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// How long a client may wait for a message or an answer: longer than any outage that a test makes.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(5);
/// Before a request is sent again that was refused for a while.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What came.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A message of the dialect.
    Event(Value),
    /// The connection is gone.
    Gone,
}

/// One connection, upgraded and welcomed.
pub(crate) struct Connection {
    client: TcpClient,
}

/// Where to connect, and as whom. With several servers the next one is tried whenever a connection is gone.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) addresses: Vec<watch::Receiver<Option<SocketAddr>>>,
    pub(crate) next: usize,
    pub(crate) user: String,
}

impl Way {
    /// To one server, wherever it is.
    pub(crate) fn to(address: watch::Receiver<Option<SocketAddr>>, user: &str) -> Self {
        Self { addresses: vec![address], next: 0, user: user.to_owned() }
    }

    /// Which of the servers the newest connection is to.
    pub(crate) fn server(&self) -> usize {
        self.next.wrapping_sub(1) % self.addresses.len()
    }

    /// Connects as soon as there is a server.
    pub(crate) async fn connect(&mut self) -> Connection {
        loop {
            let address = *self.addresses[self.next % self.addresses.len()].borrow();
            self.next += 1;
            let Some(address) = address else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if let Some(mut connection) = upgrade(address, &self.user).await
                && matches!(connection.next().await, Heard::Event(event) if event["type"] == "welcome")
            {
                return connection;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Connects, and returns the client's id, too.
    pub(crate) async fn connect_as(&mut self) -> (Connection, String) {
        loop {
            let address = *self.addresses[self.next % self.addresses.len()].borrow();
            self.next += 1;
            if let Some(address) = address
                && let Some(mut connection) = upgrade(address, &self.user).await
                && let Heard::Event(event) = connection.next().await
            {
                let id = event["clientId"].as_str().unwrap_or_default().to_owned();
                return (connection, id);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Connects and joins; with a place, from there. Returns the answer too.
    pub(crate) async fn join(&mut self, room: &str, place: Option<&(String, u64)>) -> (Connection, Value) {
        loop {
            let mut connection = self.connect().await;
            if let Some(subscribed) = connection.subscribe(room, place).await {
                return (connection, subscribed);
            }
        }
    }
}

impl Connection {
    /// `None` when the connection ends first.
    async fn subscribe(&mut self, room: &str, place: Option<&(String, u64)>) -> Option<Value> {
        loop {
            let mut request = json!({ "type": "subscribe", "id": "join", "room": room });
            if let Some((epoch, offset)) = place {
                (request["epoch"], request["offset"]) = (json!(epoch), json!(offset));
            }
            self.send(&request).await;
            let answer = self.answer("join").await?;
            match answer["type"].as_str() {
                Some("subscribed") => return Some(answer),
                // The store is away, and with it what the room is.
                Some("error") if answer["temporary"] == true => tokio::time::sleep(REFUSED_PAUSE).await,
                _ => panic!("a subscription was answered with {answer}"),
            }
        }
    }

    /// The answer to the request with this id; what comes before it is passed over.
    pub(crate) async fn answer(&mut self, id: &str) -> Option<Value> {
        loop {
            match self.next().await {
                Heard::Event(event) if event["id"] == id => return Some(event),
                Heard::Event(_) => {}
                Heard::Gone => return None,
            }
        }
    }

    /// Sends as much as the server takes; whether it is there shows in what comes next.
    pub(crate) async fn send(&mut self, request: &Value) {
        self.client.send(request.clone()).await;
    }

    /// The next message.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn next(&mut self) -> Heard {
        match self.client.next_but_pings().await {
            Received::Json(event) => Heard::Event(event),
            Received::Close { .. } | Received::End => Heard::Gone,
            other => panic!("a server of the native dialect sent {other:?}"),
        }
    }
}

/// Nothing if nobody listens, or the server goes away meanwhile.
async fn upgrade(address: SocketAddr, user: &str) -> Option<Connection> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let request = format!(
        "GET /ws?userId={user}&username={user}&join=none HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let rest = bytes.split_off(end);
    let upgraded = bytes.starts_with(b"HTTP/1.1 101 ");
    upgraded.then(|| Connection { client: TcpClient::new(TcpPipe::new(stream), None, rest, PATIENCE) })
}
