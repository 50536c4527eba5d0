//! A server in memory, for tests with paused time: it does what the test says, and nothing by itself.

use std::io;

use bytes::Bytes;
use http::Uri;
use outspoke_websocket::handshake::head::{HeadReader, encode_response, parse_request};
use outspoke_websocket::{
    CloseCode, Decoder, Inflater, Item, Limits, Opcode, Role, Upgrade, encode_close, encode_frame,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, oneshot};

use crate::dialer::{ByteStream, Dialer, Dialing};

/// Bytes that lie between the two ends.
const PIPE_BYTES: usize = 64 * 1024;

type Answer = oneshot::Sender<Option<DuplexStream>>;

/// What a client dials.
pub(crate) struct LanDialer {
    calls: mpsc::Sender<(Uri, Answer)>,
}

/// Where the calls arrive.
pub(crate) struct Lan {
    calls: mpsc::Receiver<(Uri, Answer)>,
    /// The address of the last call.
    pub(crate) url: Option<Uri>,
}

impl Dialer for LanDialer {
    fn dial<'a>(&'a self, url: &'a Uri) -> Dialing<'a> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let gone = || io::Error::from(io::ErrorKind::ConnectionRefused);
            self.calls.send((url.clone(), answer)).await.map_err(|_| gone())?;
            let stream = answered.await.ok().flatten().ok_or_else(gone)?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

impl Lan {
    pub(crate) fn new() -> (LanDialer, Self) {
        let (send, calls) = mpsc::channel(16);
        (LanDialer { calls: send }, Self { calls, url: None })
    }

    async fn call(&mut self) -> Answer {
        loop {
            let (url, answer) = self.calls.recv().await.expect("a client");
            // A client that gave up does not wait any more.
            if !answer.is_closed() {
                self.url = Some(url);
                return answer;
            }
        }
    }

    /// Answers the next call, and its handshake.
    pub(crate) async fn accept(&mut self) -> Peer {
        self.pick_up().await.upgrade("outspoke.v1.binary").await
    }

    /// Answers the next call; the handshake is still to come.
    pub(crate) async fn pick_up(&mut self) -> Caller {
        let answer = self.call().await;
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let _ = answer.send(Some(theirs));
        Caller::read(ours).await
    }

    /// Lets the next attempt fail.
    pub(crate) async fn refuse(&mut self) {
        let _ = self.call().await.send(None);
    }

    /// Forgets calls of clients that gave up.
    pub(crate) fn forget(&mut self) {
        while self.calls.try_recv().is_ok() {}
    }

    /// Whether somebody calls now.
    pub(crate) fn rings(&self) -> bool {
        !self.calls.is_empty()
    }
}

/// A client that has asked to be upgraded.
pub(crate) struct Caller {
    stream: DuplexStream,
    pub(crate) request: http::Request<()>,
}

impl Caller {
    async fn read(mut stream: DuplexStream) -> Self {
        let (mut bytes, mut reader) = (Vec::new(), HeadReader::new());
        while reader.end(&bytes).unwrap().is_none() {
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        }
        Self { stream, request: parse_request(&bytes).unwrap() }
    }

    /// Upgrades, to this subprotocol if it was offered.
    pub(crate) async fn upgrade(mut self, protocol: &str) -> Peer {
        let upgrade = Upgrade::of(&self.request).unwrap();
        let protocol = upgrade.select_protocol(&[protocol]);
        let response = upgrade.accept(protocol, false).response();
        let mut bytes = Vec::new();
        encode_response(&response, None, &mut bytes);
        self.stream.write_all(&bytes).await.unwrap();
        let decoder = Decoder::new(Role::Server, false);
        Peer { stream: self.stream, decoder, inflater: Inflater::new(), received: Vec::new().into() }
    }

    /// Refuses with an HTTP status.
    pub(crate) async fn reject(mut self, status: u16) {
        let head = format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
        self.stream.write_all(head.as_bytes()).await.unwrap();
    }
}

/// What came from a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromClient {
    Text(String),
    Binary(Bytes),
    Ping,
    Pong,
    Close(Option<u16>),
    End,
}

/// The server's end of a connection.
pub(crate) struct Peer {
    stream: DuplexStream,
    decoder: Decoder,
    inflater: Inflater,
    received: std::collections::VecDeque<FromClient>,
}

impl Peer {
    pub(crate) async fn next(&mut self) -> FromClient {
        loop {
            if let Some(received) = self.received.pop_front() {
                return received;
            }
            let mut bytes = vec![0; PIPE_BYTES];
            // Both ends of a pipe end alike, whichever way it broke.
            let count = self.stream.read(&mut bytes).await.unwrap_or(0);
            if count == 0 {
                return FromClient::End;
            }
            self.digest(&mut bytes[..count]);
        }
    }

    fn digest(&mut self, bytes: &mut [u8]) {
        let mut frames = self.decoder.feed(bytes, &Limits::new(1 << 24), &mut self.inflater);
        while let Some(item) = frames.next() {
            self.received.push_back(match item.unwrap() {
                Item::Text(text) => FromClient::Text(text.to_owned()),
                Item::Binary(bytes) => FromClient::Binary(Bytes::copy_from_slice(bytes)),
                Item::Ping(_) => FromClient::Ping,
                Item::Pong(_) => FromClient::Pong,
                Item::Close(frame) => FromClient::Close(frame.map(|frame| frame.code.get())),
            });
        }
    }

    /// What has come already; [`FromClient::End`] again and again, if it is the end.
    pub(crate) fn now(&mut self) -> Option<FromClient> {
        use std::future::Future as _;
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let mut next = std::pin::pin!(self.next());
        match next.as_mut().poll(&mut context) {
            std::task::Poll::Ready(received) => Some(received),
            std::task::Poll::Pending => None,
        }
    }

    /// The next text; pings are passed over.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            match self.next().await {
                FromClient::Text(text) => return text,
                FromClient::Ping => {}
                other => panic!("expected a text, and there came {other:?}"),
            }
        }
    }

    pub(crate) async fn binary(&mut self) -> Vec<u8> {
        match self.next().await {
            FromClient::Binary(bytes) => bytes.to_vec(),
            other => panic!("expected bytes, and there came {other:?}"),
        }
    }

    /// The code of the client's close frame.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                FromClient::Close(code) => return code,
                FromClient::End => return None,
                _ => {}
            }
        }
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send(Opcode::Text, text.as_bytes()).await;
    }

    pub(crate) async fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        let mut frame = Vec::new();
        encode_frame(opcode, payload, &mut frame);
        // The client may have gone.
        let _ = self.stream.write_all(&frame).await;
    }

    pub(crate) async fn close(&mut self, code: u16, reason: &str) {
        let mut frame = Vec::new();
        encode_close(CloseCode::new(code), reason, &mut frame);
        let _ = self.stream.write_all(&frame).await;
    }
}
