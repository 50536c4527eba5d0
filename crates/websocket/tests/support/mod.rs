//! What several suites need: the codec and tungstenite behind one face, and frames made by hand.
//!
//! Included by path, also by the fuzz targets; hence no test framework in here.

#![allow(dead_code, missing_docs, unreachable_pub)] // Each suite uses its part.

use outspoke_websocket::{
    Decoder, FrameHeader, Inflater, Item, Limits, Opcode, ProtocolError, Role, apply_mask,
};

/// An item that owns its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

impl From<Item<'_>> for Event {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Self::Text(text.to_owned()),
            Item::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Item::Ping(payload) => Self::Ping(payload.to_vec()),
            Item::Pong(payload) => Self::Pong(payload.to_vec()),
            Item::Close(frame) => Self::Close(frame.map(|frame| (frame.code.get(), frame.reason.to_owned()))),
        }
    }
}

/// How a byte sequence ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<E> {
    /// More may come.
    Open,
    /// By a close frame.
    Closed,
    Refused(E),
}

/// A decoder with what it needs, fed like a connection.
#[derive(Debug)]
pub struct Receiver {
    pub decoder: Decoder,
    pub inflater: Inflater,
    pub limits: Limits,
    pub events: Vec<Event>,
    pub error: Option<ProtocolError>,
}

impl Receiver {
    pub fn new(role: Role, compression: bool, message_bytes_max: usize) -> Self {
        Self {
            decoder: Decoder::new(role, compression),
            inflater: Inflater::new(),
            limits: Limits::new(message_bytes_max),
            events: Vec::new(),
            error: None,
        }
    }

    pub fn server(message_bytes_max: usize) -> Self {
        Self::new(Role::Server, false, message_bytes_max)
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        let mut input = bytes.to_vec();
        let mut frames = self.decoder.feed(&mut input, &self.limits, &mut self.inflater);
        while let Some(item) = frames.next() {
            match item {
                Ok(item) => self.events.push(item.into()),
                Err(error) => self.error = Some(error),
            }
        }
    }

    pub fn end(&self) -> End<ProtocolError> {
        match (self.error, self.events.last()) {
            (Some(error), _) => End::Refused(error),
            (None, Some(Event::Close(_))) => End::Closed,
            _ => End::Open,
        }
    }
}

/// A frame of any shape, masked if `key` is given.
pub fn frame(fin: bool, compressed: bool, opcode: Opcode, payload: &[u8], key: Option<[u8; 4]>) -> Vec<u8> {
    let header = FrameHeader { fin, compressed, opcode, mask: key, payload_len: payload.len() as u64 };
    let mut bytes = header.encode().to_vec();
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    apply_mask(&mut bytes[start..], key.unwrap_or_default(), 0);
    bytes
}

/// What tungstenite makes of the bytes that a client sent.
pub mod tungstenite_peer {
    use std::io::{self, Cursor, Read, Write};

    use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
    use tungstenite::{Error, Message};

    use super::{End, Event};

    /// Reads the given bytes, then would block; swallows what is written.
    struct Wire<'a>(Cursor<&'a [u8]>);

    impl Read for Wire<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }
    }

    impl Write for Wire<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub fn decode(bytes: &[u8], message_bytes_max: usize) -> (Vec<Event>, End<()>) {
        let config = WebSocketConfig::default()
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(bytes)), Role::Server, Some(config));
        let mut events = Vec::new();
        loop {
            let event = match socket.read() {
                Ok(Message::Text(text)) => Event::Text(text.as_str().to_owned()),
                Ok(Message::Binary(bytes)) => Event::Binary(bytes.to_vec()),
                Ok(Message::Ping(payload)) => Event::Ping(payload.to_vec()),
                Ok(Message::Pong(payload)) => Event::Pong(payload.to_vec()),
                Ok(Message::Close(frame)) => {
                    // It reports a forbidden code as a close frame of its own.
                    if frame.as_ref().is_some_and(|frame| frame.reason.as_str() == "Protocol violation") {
                        return (events, End::Refused(()));
                    }
                    let frame = frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned()));
                    events.push(Event::Close(frame));
                    return (events, End::Closed);
                }
                Ok(Message::Frame(_)) => unreachable!("never read"),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return (events, End::Open);
                }
                Err(_) => return (events, End::Refused(())),
            };
            events.push(event);
        }
    }
}

/// Compares with a peer that knows no compression, has the same limit and may notice a violation later.
///
/// Known differences, and why ours holds:
/// - We refuse as soon as a violation is certain; the peer at the end of the frame or message (`End::Open` there).
/// - We demand the shortest length form (RFC 6455 section 5.2), in control frames too; tungstenite does not.
/// - We judge the length and the order of frames once the header is whole; a peer may do so before.
pub fn assert_agreement(ours: &mut Receiver, theirs: &(Vec<Event>, End<()>), peer: &str) {
    let (events, end) = theirs;
    let stricter =
        matches!(ours.error, Some(ProtocolError::LengthNotMinimal | ProtocolError::ControlTooLong));
    if stricter {
        assert!(events.starts_with(&ours.events), "{peer} read {events:?}, we {:?}", ours.events);
        return;
    }
    assert_eq!(&ours.events, events, "{peer} ends {end:?}, we {:?}", ours.end());
    if (ours.end(), end) == (End::Open, &End::Refused(())) && !ours.decoder.is_idle() {
        // The rest of the header; what is too much of it can only be an unmasked frame.
        ours.feed(&[0; 12]);
        let refused = ours.error.is_some_and(|error| error != ProtocolError::Unmasked);
        assert!(refused, "{peer} refuses, we do not: {:?}", ours.error);
        return;
    }
    let agreed = matches!(
        (ours.end(), end),
        (End::Refused(_), End::Refused(()) | End::Open) | (End::Closed, End::Closed) | (End::Open, End::Open)
    );
    assert!(agreed, "{peer} ends {end:?}, we {:?} after {events:?}", ours.end());
}
