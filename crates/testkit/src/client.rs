//! The client's end of a WebSocket connection, step by step.

use std::collections::VecDeque;
use std::time::Duration;

use outspoke_websocket::{
    CloseCode, Decoder, Deflater, Inflater, Item, Limits, Opcode, PermessageDeflate, Random, Role,
    encode_masked_close, encode_masked_frame, encode_message,
};
use serde_json::{Value, json};

use crate::Received;

/// The bytes under a [`WsClient`].
pub trait ByteStream: Send {
    /// Waits for bytes; empty at the end of the stream, also after an error. Cancel safe.
    fn read(&mut self) -> impl Future<Output = Vec<u8>> + Send;

    /// Takes what is there without waiting; `None` when nothing is, empty at the end of the stream.
    fn read_now(&mut self) -> Option<Vec<u8>>;

    /// Writes everything. Returns whether the server took it all.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = bool> + Send;
}

/// A client that does what a test says, and nothing else.
#[derive(Debug)]
pub struct WsClient<S> {
    stream: S,
    decoder: Decoder,
    inflater: Inflater,
    deflate: Option<(Deflater, PermessageDeflate)>,
    random: Random,
    /// What came, with the text of text messages as it was.
    received: VecDeque<(Received, String)>,
    ended: bool,
    patience: Duration,
}

impl<S: ByteStream> WsClient<S> {
    /// A client on an upgraded stream, of which `early` was read already. Waits at most `patience` for anything.
    pub fn new(stream: S, deflate: Option<PermessageDeflate>, early: Vec<u8>, patience: Duration) -> Self {
        let mut client = Self {
            stream,
            decoder: Decoder::new(Role::Client, deflate.is_some()),
            inflater: Inflater::new(),
            deflate: deflate.map(|deflate| (Deflater::with_level(1, 64), deflate)),
            random: Random::seeded(7),
            received: VecDeque::new(),
            ended: false,
            patience,
        };
        if !early.is_empty() {
            client.absorb(early);
        }
        client
    }

    /// The same, waiting at most so long for what a script expects.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The stream below, for what no frame can say.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    // ---- to the server ----

    /// Sends a JSON text message.
    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: &str) {
        let frame = self.frame(Opcode::Text, text.as_bytes());
        self.send_raw(&frame).await;
    }

    /// Sends a binary message.
    pub async fn send_binary(&mut self, bytes: &[u8]) {
        let frame = self.frame(Opcode::Binary, bytes);
        self.send_raw(&frame).await;
    }

    /// Sends a text message compressed, as was negotiated.
    ///
    /// # Panics
    /// Nothing was negotiated.
    pub async fn send_compressed(&mut self, text: &str) {
        let key = self.random.mask_key();
        let (deflater, deflate) = self.deflate.as_mut().expect("compression was negotiated");
        let mut frame = Vec::new();
        let window = deflate.client_window();
        encode_message(Opcode::Text, text.as_bytes(), deflater, window, Some(key), &mut frame);
        self.send_raw(&frame).await;
    }

    /// Sends a ping.
    pub async fn ping(&mut self, payload: &[u8]) {
        let frame = self.frame(Opcode::Ping, payload);
        self.send_raw(&frame).await;
    }

    /// Sends a pong.
    pub async fn pong(&mut self, payload: &[u8]) {
        let frame = self.frame(Opcode::Pong, payload);
        self.send_raw(&frame).await;
    }

    /// Sends a close frame.
    pub async fn close(&mut self, code: u16, reason: &str) {
        let mut frame = Vec::new();
        encode_masked_close(CloseCode::new(code), reason, self.random.mask_key(), &mut frame);
        self.send_raw(&frame).await;
    }

    /// Sends bytes as they are. Returns whether the server took them all.
    ///
    /// # Panics
    /// The server does not take them for as long as the client is patient.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> bool {
        let written = tokio::time::timeout(self.patience, self.stream.write(bytes)).await;
        written.expect("the server reads what a client sends")
    }

    /// A client's frame, without sending it.
    pub fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_masked_frame(opcode, payload, self.random.mask_key(), &mut frame);
        frame
    }

    /// Asks to come into a room, and waits for the answer.
    pub async fn join(&mut self, room: &str) -> Value {
        self.send(json!({ "type": "subscribe", "room": room })).await;
        self.expect("subscribed").await
    }

    /// Says something to a room.
    pub async fn say(&mut self, room: &str, content: &str) {
        self.send(json!({ "type": "chat", "room": room, "content": content })).await;
    }

    // ---- from the server ----

    /// The next thing that comes, whatever it is.
    ///
    /// # Panics
    /// Nothing comes for as long as the client is patient.
    pub async fn next(&mut self) -> Received {
        self.next_with_text().await.0
    }

    /// The next thing that is no ping, which must be a text message: its text, byte for byte. Pings are answered.
    ///
    /// # Panics
    /// Something else comes, or nothing for as long as the client is patient.
    pub async fn next_text(&mut self) -> String {
        loop {
            match self.next_with_text().await {
                (Received::Json(_) | Received::Text(_), text) => return text,
                (Received::Ping(payload), _) => self.pong(&payload).await,
                (other, _) => panic!("expected a text message, and there came {other:?}"),
            }
        }
    }

    async fn next_with_text(&mut self) -> (Received, String) {
        loop {
            if let Some(received) = self.received.pop_front() {
                return received;
            }
            if self.ended {
                return (Received::End, String::new());
            }
            let bytes = tokio::time::timeout(self.patience, self.stream.read()).await;
            self.absorb(bytes.unwrap_or_else(|_| panic!("nothing came within {:?}", self.patience)));
        }
    }

    /// The next thing that is no ping; pings are answered.
    ///
    /// # Panics
    /// As [`next`](Self::next), or nothing but pings comes: a server that pings would keep a test waiting for ever.
    pub async fn next_but_pings(&mut self) -> Received {
        let patience = self.patience;
        let next = async {
            loop {
                match self.next().await {
                    Received::Ping(payload) => self.pong(&payload).await,
                    received => return received,
                }
            }
        };
        tokio::time::timeout(patience, next).await.expect("more than pings comes within the patience")
    }

    /// The next message, which must be JSON of this `type`. Pings are answered.
    ///
    /// # Panics
    /// Something else comes.
    pub async fn expect(&mut self, kind: &str) -> Value {
        match self.next_but_pings().await {
            Received::Json(value) if value["type"] == kind => value,
            other => panic!("expected a message of type {kind:?}, and there came {other:?}"),
        }
    }

    /// The next message of this `type`; others before it are passed over, pings are answered.
    ///
    /// # Panics
    /// The connection ends first.
    pub async fn find(&mut self, kind: &str) -> Value {
        loop {
            match self.next_but_pings().await {
                Received::Json(value) if value["type"] == kind => return value,
                end @ (Received::Close { .. } | Received::End) => {
                    panic!("waited for a message of type {kind:?}, and there came {end:?}")
                }
                _ => {}
            }
        }
    }

    /// The code of the close frame; what comes before it is passed over.
    ///
    /// # Panics
    /// The stream ends without one.
    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Received::Close { code, .. } => return code,
                Received::End => panic!("the stream ended without a close frame"),
                _ => {}
            }
        }
    }

    /// Waits for the end of the stream, and returns what came before it.
    ///
    /// # Panics
    /// The stream does not end for as long as the client is patient.
    pub async fn to_the_end(&mut self) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Received::End => return all,
                received => all.push(received),
            }
        }
    }

    /// Everything that has come so far, without waiting.
    pub fn received(&mut self) -> Vec<Received> {
        while !self.ended
            && let Some(bytes) = self.stream.read_now()
        {
            self.absorb(bytes);
        }
        let mut all: Vec<_> = self.received.drain(..).map(|(received, _)| received).collect();
        if self.ended {
            all.push(Received::End);
        }
        all
    }

    /// The messages that have come so far, without waiting: JSON only, and nothing else may have come.
    ///
    /// # Panics
    /// Something came that is no JSON message.
    pub fn messages(&mut self) -> Vec<Value> {
        let json = |received| match received {
            Received::Json(value) => value,
            other => panic!("expected messages only, and there came {other:?}"),
        };
        self.received().into_iter().map(json).collect()
    }

    /// Bytes, or their end, from the server.
    ///
    /// # Panics
    /// The server broke the protocol.
    fn absorb(&mut self, mut bytes: Vec<u8>) {
        if bytes.is_empty() {
            self.ended = true;
            return;
        }
        let mut frames = self.decoder.feed(&mut bytes, &LIMITS, &mut self.inflater);
        while let Some(item) = frames.next() {
            let item = item.unwrap_or_else(|error| panic!("the server broke the protocol: {error}"));
            let text = if let Item::Text(text) = &item { (*text).to_owned() } else { String::new() };
            self.received.push_back((Received::of(item), text));
        }
    }
}

/// A test's client takes whatever a server may be made to send.
const LIMITS: Limits = Limits::new(64 * 1024 * 1024);
