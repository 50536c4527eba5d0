//! The seam between the hub and a wire format.

use std::fmt;

use crate::{Event, Refusal, Request};

/// Whether a payload travels in text or binary frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// UTF-8, RFC 6455 opcode 1.
    Text,
    /// Any bytes, RFC 6455 opcode 2.
    Binary,
}

/// A whole message as it came from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// From a text message.
    Text(&'a str),
    /// From a binary message.
    Binary(&'a [u8]),
}

/// One wire format: a pure function each way.
///
/// The hub calls both from its shards, on the hot path: [`decode`](Self::decode) once per frame received,
/// [`encode`](Self::encode) once per event and dialect present among its receivers (never per receiver).
/// Implementations keep no state, do no I/O, never block and never panic on any input.
pub trait Dialect: fmt::Debug + Send + Sync + 'static {
    /// The dialect's name, for configuration, logs and the `?dialect=` query.
    fn name(&self) -> &'static str;

    /// The `Sec-WebSocket-Protocol` values that choose this dialect.
    fn subprotocols(&self) -> &'static [&'static str];

    /// Reads one message.
    ///
    /// # Errors
    /// A refusal that says what is wrong, carrying the request's id wherever it could be read; the hub sends
    /// it back and keeps the connection.
    fn decode<'a>(&self, payload: Payload<'a>) -> Result<Request<'a>, Refusal>;

    /// Appends `event` to `out`; `None` (and nothing appended) when the dialect has no word for it.
    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Option<FrameKind>;
}
