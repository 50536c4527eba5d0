//! A WebSocket over a stream of bytes: the client's end of the codec, with I/O.
//!
//! Above [`Dialer`](crate::Dialer), below the session and [`reconnecting`](crate::reconnecting). One owner polls it: reading
//! and writing go on in the same future, so that neither waits for the other. Invariant: what was queued leaves in order,
//! and a frame that is partly written is finished before anything else is, since only this file sees frames.
//! Reconnecting, watchdogs and what frames mean belong to the callers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use outspoke_websocket::handshake::head::{HeadReader, parse_response};
use outspoke_websocket::{
    ClientError, ClientHandshake, CloseCode, Decoder, Deflater, Inflater, Item, Limits, Opcode,
    PermessageDeflate, Random, Role, encode_masked_close, encode_masked_frame, encode_message,
};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};

use crate::dialer::ByteStream;
use crate::error::Error;

/// Bytes that may wait for the network before more is queued.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes taken in one read.
const READ_BYTES: usize = 16 * 1024;
/// Of the body of an answer that is no upgrade: enough for the error in it.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// What a connection is asked for.
pub(crate) struct Request<'a> {
    pub(crate) url: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) protocols: &'a [&'a str],
    pub(crate) compression: bool,
    pub(crate) message_bytes_max: usize,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Text(String),
    Binary(Bytes),
    /// A ping, answered already.
    Ping,
    Pong,
    /// The peer's close frame, answered already; nothing follows.
    Close {
        code: Option<u16>,
        reason: String,
    },
}

/// What happened to a connection.
#[derive(Debug)]
pub(crate) enum Step {
    Received(Received),
    /// Everything that was queued is with the network.
    Written,
}

/// An open connection.
pub(crate) struct Socket {
    stream: Box<dyn ByteStream>,
    decoder: Decoder,
    inflater: Inflater,
    deflate: Option<(Deflater, PermessageDeflate)>,
    limits: Limits,
    random: Random,
    protocol: Option<String>,
    inbox: VecDeque<Received>,
    out: Vec<u8>,
    /// Bytes of `out` that the network has.
    written: usize,
    scratch: Box<[u8]>,
    /// Nothing more is sent behind a close frame.
    closing: bool,
}

impl Socket {
    /// Shakes hands.
    ///
    /// *Cancel safety*: the attempt is given up.
    pub(crate) async fn open(
        mut stream: Box<dyn ByteStream>,
        request: &Request<'_>,
        mut random: Random,
    ) -> Result<Self, Error> {
        let mut handshake = ClientHandshake::new(request.url.clone(), &mut random)
            .and_then(|handshake| handshake.headers(request.headers))?
            .compression(request.compression);
        for protocol in request.protocols {
            handshake = handshake.protocol(protocol)?;
        }
        stream.write_all(&handshake.request()).await.map_err(Error::lost)?;
        stream.flush().await.map_err(Error::lost)?;
        let (head, rest) = read_head(&mut stream).await?;
        let response = parse_response(&head).map_err(ClientError::Head)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let body = read_body(&mut stream, response.headers(), rest).await;
            return Err(Error::rejected(response.status(), response.headers(), &body));
        }
        let agreed = handshake.check_response(&response)?;
        let mut socket = Self {
            stream,
            decoder: Decoder::new(Role::Client, agreed.deflate.is_some()),
            inflater: Inflater::new(),
            deflate: agreed.deflate.map(|deflate| (Deflater::new(), deflate)),
            limits: Limits::new(request.message_bytes_max),
            random,
            protocol: agreed.protocol,
            inbox: VecDeque::new(),
            out: Vec::new(),
            written: 0,
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            closing: false,
        };
        socket.digest(rest)?;
        Ok(socket)
    }

    /// The subprotocol that the server chose.
    pub(crate) fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Whether more may be queued: less waits for the network than it may.
    pub(crate) fn has_room(&self) -> bool {
        !self.closing && self.out.len() - self.written < OUT_BYTES_MAX
    }

    pub(crate) fn queue_text(&mut self, text: &str) {
        self.queue(Opcode::Text, text.as_bytes());
    }

    pub(crate) fn queue_binary(&mut self, bytes: &[u8]) {
        self.queue(Opcode::Binary, bytes);
    }

    pub(crate) fn queue_ping(&mut self) {
        self.queue(Opcode::Ping, b"");
    }

    pub(crate) fn queue_close(&mut self, code: CloseCode, reason: &str) {
        if !self.closing {
            self.compact();
            encode_masked_close(Some(code), reason, self.random.mask_key(), &mut self.out);
            self.closing = true;
        }
    }

    fn queue(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.closing {
            return;
        }
        self.compact();
        let key = self.random.mask_key();
        match &mut self.deflate {
            Some((deflater, agreed)) if !opcode.is_control() => {
                let window = agreed.client_window();
                encode_message(opcode, payload, deflater, window, Some(key), &mut self.out);
            }
            _ => encode_masked_frame(opcode, payload, key, &mut self.out),
        }
    }

    /// Forgets what the network has.
    fn compact(&mut self) {
        if self.written == self.out.len() {
            self.out.clear();
        } else {
            self.out.drain(..self.written);
        }
        self.written = 0;
    }

    /// What came already, without waiting.
    pub(crate) fn pop(&mut self) -> Option<Received> {
        self.inbox.pop_front()
    }

    /// The next thing that comes, writing what is queued meanwhile.
    ///
    /// *Cancel safety*: nothing is lost.
    pub(crate) async fn next(&mut self) -> Result<Received, Error> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next thing that comes, or the moment at which all that was queued is written, if anything was.
    ///
    /// *Cancel safety*: nothing is lost.
    pub(crate) async fn step(&mut self) -> Result<Step, Error> {
        poll_fn(|context| {
            if let Some(received) = self.inbox.pop_front() {
                return Poll::Ready(Ok(Step::Received(received)));
            }
            if !self.out.is_empty() && self.poll_write(context)?.is_ready() {
                self.compact();
                return Poll::Ready(Ok(Step::Written));
            }
            self.poll_next(context).map_ok(Step::Received)
        })
        .await
    }

    /// Reads on until the peer has said goodbye, or is gone.
    pub(crate) async fn until_closed(&mut self) {
        while let Ok(received) = self.next().await {
            if matches!(received, Received::Close { .. }) {
                let _ = self.flush().await;
                return;
            }
        }
    }

    /// Writes everything that is queued; what comes meanwhile is left unread.
    ///
    /// *Cancel safety*: what was not written stays queued.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        poll_fn(|context| self.poll_write(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, Error>> {
        loop {
            if let Some(received) = self.inbox.pop_front() {
                return Poll::Ready(Ok(received));
            }
            // An error of writing is reported by reading, after what still came.
            let _ = self.poll_write(context);
            let mut buffer = ReadBuf::new(&mut self.scratch);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer)).map_err(Error::lost)?;
            let bytes = buffer.filled().to_vec();
            if bytes.is_empty() {
                return Poll::Ready(Err(Error::lost(io::ErrorKind::UnexpectedEof.into())));
            }
            self.digest(bytes)?;
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.written < self.out.len() {
            let rest = &self.out[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(context, rest)) {
                Ok(0) => return Poll::Ready(Err(Error::lost(io::ErrorKind::WriteZero.into()))),
                Ok(count) => self.written += count,
                Err(error) => return Poll::Ready(Err(Error::lost(error))),
            }
        }
        // TLS keeps bytes of its own.
        ready!(Pin::new(&mut self.stream).poll_flush(context)).map_err(Error::lost)?;
        Poll::Ready(Ok(()))
    }

    /// Takes bytes from the network apart.
    fn digest(&mut self, mut bytes: Vec<u8>) -> Result<(), Error> {
        let mut replies = Vec::new();
        let mut broken = None;
        let mut frames = self.decoder.feed(&mut bytes, &self.limits, &mut self.inflater);
        while let Some(item) = frames.next() {
            match item {
                Ok(Item::Text(text)) => self.inbox.push_back(Received::Text(text.to_owned())),
                Ok(Item::Binary(bytes)) => {
                    self.inbox.push_back(Received::Binary(Bytes::copy_from_slice(bytes)));
                }
                Ok(Item::Ping(payload)) => {
                    replies.push(payload.to_vec());
                    self.inbox.push_back(Received::Ping);
                }
                Ok(Item::Pong(_)) => self.inbox.push_back(Received::Pong),
                Ok(Item::Close(frame)) => self.inbox.push_back(Received::Close {
                    code: frame.map(|frame| frame.code.get()),
                    reason: frame.map_or_else(String::new, |frame| frame.reason.to_owned()),
                }),
                Err(error) => broken = Some(error),
            }
        }
        for payload in replies {
            self.queue(Opcode::Pong, &payload);
        }
        if let Some(Received::Close { code, .. }) = self.inbox.back() {
            let code = code.and_then(CloseCode::new).unwrap_or(CloseCode::NORMAL);
            self.queue_close(code, "");
        }
        match broken {
            None => Ok(()),
            Some(error) => {
                self.queue_close(error.close_code(), &error.to_string());
                Err(Error::Protocol(Arc::from(error.to_string())))
            }
        }
    }
}

/// Reads an HTTP head, and what came behind it.
async fn read_head(stream: &mut Box<dyn ByteStream>) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let mut reader = HeadReader::new();
    let mut bytes = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut bytes).await.map_err(Error::lost)? == 0 {
            return Err(Error::lost(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some(end) = reader.end(&bytes).map_err(ClientError::Head)? {
            let rest = bytes.split_off(end);
            return Ok((bytes, rest));
        }
    }
}

/// The beginning of a body, as far as its declared length; without one, what came with the head.
async fn read_body(stream: &mut Box<dyn ByteStream>, headers: &HeaderMap, mut body: Vec<u8>) -> Vec<u8> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length = length.unwrap_or(0).min(BODY_BYTES_MAX);
    while body.len() < length {
        // An answer that was cut is still an answer: its status counts.
        match stream.read_buf(&mut body).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    body.truncate(length);
    body
}
