//! Received bytes become messages and control frames.
//!
//! Fed by the read loop from a scratch buffer that many connections share. What is whole in the buffer is unmasked
//! and lent in place; only what cannot be completed is copied, into a [`Pending`] box that is freed when whole.
//!
//! Invariants: `pending` is `None` unless a header, a payload or a message is incomplete; its memory is at most twice
//! the bytes received for it; after a close frame or an error nothing more is delivered. Time limits for incomplete
//! frames and rate limits belong to the caller, see [`Decoder::is_idle`].

use std::ops::Range;

use crate::frame::Rules;
use crate::{CloseFrame, FRAME_HEADER_BYTES_MAX, FrameHeader, Inflater, Opcode, ProtocolError};

/// The end of the connection that this decoder serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives masked frames from a client.
    Server,
    /// Receives unmasked frames from a server.
    Client,
}

/// What a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one message, inflated if it is compressed. Above: [`ProtocolError::MessageTooBig`], close code 1009.
    /// Default 64 KiB; 0 admits only empty messages.
    pub message_bytes_max: usize,
}

impl Limits {
    /// Messages of at most this many bytes.
    pub const fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max }
    }

    /// A cap for the compressed form, which may be larger than the message itself: a fixed Huffman code costs up to
    /// 9 bits a byte, stored blocks a few bytes each.
    const fn compressed_bytes_max(self) -> usize {
        self.message_bytes_max.saturating_add(self.message_bytes_max / 8).saturating_add(64)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(64 * 1024)
    }
}

/// One thing the peer said. Borrows from the fed buffer or from the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// Answer with a pong of the same payload.
    Ping(&'a [u8]),
    /// A heartbeat's answer.
    Pong(&'a [u8]),
    /// The peer's last words; the decoder delivers nothing after them. `None`: without a code.
    Close(Option<CloseFrame<'a>>),
}

/// One connection's receiving end. 16 bytes; no heap memory while no frame or message is incomplete.
#[derive(Debug)]
pub struct Decoder {
    pending: Option<Box<Pending>>,
    role: Role,
    compression: bool,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// A close frame was delivered: whatever follows is ignored (RFC 6455 section 5.5.1).
    Closed,
    /// An error was reported: whatever follows has no meaning.
    Failed,
}

/// What is incomplete.
#[derive(Debug, Default)]
struct Pending {
    header: [u8; FRAME_HEADER_BYTES_MAX],
    header_len: u8,
    frame: Option<PartialFrame>,
    message: Option<Message>,
}

/// A frame whose payload is on its way. A data frame's payload goes to the message at once.
#[derive(Debug)]
struct PartialFrame {
    header: FrameHeader,
    received: u64,
    control: Vec<u8>,
}

/// A message of which more frames, or more of a frame, must come.
#[derive(Debug)]
struct Message {
    text: bool,
    compressed: bool,
    /// So many of `bytes` are known to be whole UTF-8 characters.
    checked: usize,
    bytes: Vec<u8>,
}

impl Decoder {
    /// For a connection in this role; `compression` if permessage-deflate was negotiated.
    pub const fn new(role: Role, compression: bool) -> Self {
        Self { pending: None, role, compression, phase: Phase::Open }
    }

    /// Starts to deliver what `input` holds. See [`Frames::next`].
    ///
    /// `input` is overwritten: payloads are unmasked in place.
    #[inline]
    pub fn feed<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
        inflater: &'a mut Inflater,
    ) -> Frames<'a> {
        Frames { decoder: self, input, position: 0, limits: *limits, inflater, held: Vec::new() }
    }

    /// Nothing is incomplete: no header, payload or message waits for more bytes, and no memory is held.
    #[inline]
    pub const fn is_idle(&self) -> bool {
        self.pending.is_none()
    }

    /// A message has begun and is not whole: more fragments, or more of its only frame, must come.
    #[inline]
    pub fn is_within_message(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.message.is_some())
    }

    /// A close frame or an error was delivered: all further input is ignored.
    #[inline]
    pub const fn is_finished(&self) -> bool {
        !matches!(self.phase, Phase::Open)
    }

    /// Heap bytes held for what is incomplete.
    pub fn pending_bytes(&self) -> usize {
        let Some(pending) = &self.pending else { return 0 };
        let message = pending.message.as_ref().map_or(0, |message| message.bytes.capacity());
        let control = pending.frame.as_ref().map_or(0, |frame| frame.control.capacity());
        size_of::<Pending>() + message + control
    }

    /// The order of frames (section 5.4) and the size of their message, as the header declares it.
    fn admit(&self, header: &FrameHeader, limits: Limits) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self.pending.as_ref().and_then(|pending| pending.message.as_ref());
        let (so_far, compressed) = match (header.opcode, message) {
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Continuation, Some(message)) => (message.bytes.len() as u64, message.compressed),
            (_, Some(_)) => return Err(ProtocolError::ExpectedContinuation),
            (_, None) => (0, header.compressed),
        };
        let max = if compressed { limits.compressed_bytes_max() } else { limits.message_bytes_max };
        if header.payload_len > (max as u64).saturating_sub(so_far) {
            return Err(ProtocolError::MessageTooBig { limit: limits.message_bytes_max });
        }
        Ok(())
    }

    /// Notes a frame whose payload must be collected.
    fn begin(&mut self, header: FrameHeader) {
        let pending = self.pending.get_or_insert_default();
        if matches!(header.opcode, Opcode::Text | Opcode::Binary) {
            let text = header.opcode == Opcode::Text;
            pending.message =
                Some(Message { text, compressed: header.compressed, checked: 0, bytes: Vec::new() });
        }
        pending.frame = Some(PartialFrame { header, received: 0, control: Vec::new() });
    }

    /// Frees the box once nothing is incomplete.
    fn settle(&mut self) {
        let empty = |pending: &Pending| {
            pending.header_len == 0 && pending.frame.is_none() && pending.message.is_none()
        };
        if self.pending.as_deref().is_some_and(empty) {
            self.pending = None;
        }
    }
}

impl Message {
    /// Adds a piece. Grows by doubling, so that memory follows what was received; the last frame's length and the
    /// limit only keep it from growing further than needed.
    fn append(&mut self, piece: &[u8], total_max: usize) {
        let needed = self.bytes.len() + piece.len();
        if needed > self.bytes.capacity() {
            let doubled = (self.bytes.capacity() * 2).max(32).min(total_max).max(needed);
            self.bytes.reserve_exact(doubled - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
    }

    /// Fails at the first byte that no valid text can have there; a character cut by `last` fails too.
    fn check_text(&mut self, last: bool) -> Result<(), ProtocolError> {
        if !self.text || self.compressed {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() && !last => self.checked += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::TextNotUtf8),
        }
        Ok(())
    }
}

/// What [`Frames::advance`] found, and where its bytes are.
struct Ready {
    opcode: Opcode,
    place: Place,
    compressed: bool,
}

enum Place {
    Input(Range<usize>),
    Held,
    Inflated,
}

/// Delivers what one input holds: a lending iterator, since each item borrows from it.
///
/// Dropping it early loses the bytes that were not delivered; take [`Frames::unread`] before.
#[derive(Debug)]
pub struct Frames<'a> {
    decoder: &'a mut Decoder,
    input: &'a mut [u8],
    position: usize,
    limits: Limits,
    inflater: &'a mut Inflater,
    /// A message that was collected, alive while its item is lent.
    held: Vec<u8>,
}

impl Frames<'_> {
    /// The next message or control frame; `None` when the input has no further whole one.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol: send a close frame with [`ProtocolError::close_code`]. Nothing follows.
    ///
    /// # Cost
    ///
    /// A whole frame inside the input costs no allocation and no copy.
    #[inline]
    #[allow(clippy::should_implement_trait)] // An `Iterator` cannot lend.
    pub fn next(&mut self) -> Option<Result<Item<'_>, ProtocolError>> {
        let whole = match self.whole()? {
            Ok(whole) => whole,
            Err(error) => return Some(Err(error)),
        };
        Some(self.item(whole))
    }

    /// As [`next`](Self::next), for who limits rates: what `admit` refuses is delivered as `None`, and nobody has looked into
    /// it; it was not inflated, nor checked for UTF-8 where it came in one frame. Asked once per message and per ping or pong
    /// when its last byte is there; a close frame is always delivered.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    #[inline]
    pub fn next_admitted(
        &mut self,
        admit: impl FnOnce(Opcode) -> bool,
    ) -> Option<Result<Option<Item<'_>>, ProtocolError>> {
        let whole = match self.whole()? {
            Ok(whole) => whole,
            Err(error) => return Some(Err(error)),
        };
        if whole.opcode != Opcode::Close && !admit(whole.opcode) {
            return Some(Ok(None));
        }
        Some(self.item(whole).map(Some))
    }

    /// The next message or control frame that is whole, as it came.
    #[inline]
    fn whole(&mut self) -> Option<Result<Ready, ProtocolError>> {
        if self.decoder.phase != Phase::Open {
            return None;
        }
        let whole = self.advance();
        if whole.is_err() {
            self.fail();
        }
        whole.transpose()
    }

    /// What a whole message or control frame says.
    #[inline]
    fn item(&mut self, whole: Ready) -> Result<Item<'_>, ProtocolError> {
        let ready = match self.inflated(whole) {
            Ok(ready) => ready,
            Err(error) => {
                self.fail();
                return Err(error);
            }
        };
        let bytes = match ready.place {
            Place::Input(range) => &self.input[range],
            Place::Held => &self.held,
            Place::Inflated => self.inflater.message(),
        };
        let item = match ready.opcode {
            Opcode::Text => match simdutf8::basic::from_utf8(bytes) {
                Ok(text) => Ok(Item::Text(text)),
                Err(_) => Err(ProtocolError::TextNotUtf8),
            },
            Opcode::Ping => Ok(Item::Ping(bytes)),
            Opcode::Pong => Ok(Item::Pong(bytes)),
            Opcode::Close => {
                self.decoder.phase = Phase::Closed;
                self.decoder.pending = None;
                CloseFrame::parse(bytes).map(Item::Close)
            }
            Opcode::Binary | Opcode::Continuation => Ok(Item::Binary(bytes)),
        };
        if item.is_err() {
            self.decoder.phase = Phase::Failed;
            self.decoder.pending = None;
        }
        item
    }

    /// The input that was not consumed yet, untouched: feed it again to go on.
    pub fn unread(&self) -> &[u8] {
        &self.input[self.position..]
    }

    fn fail(&mut self) {
        self.decoder.phase = Phase::Failed;
        self.decoder.pending = None;
    }

    fn advance(&mut self) -> Result<Option<Ready>, ProtocolError> {
        while self.position < self.input.len() {
            let in_payload = self.decoder.pending.as_ref().is_some_and(|pending| pending.frame.is_some());
            let ready = if in_payload { self.continue_payload()? } else { self.start_frame()? };
            if ready.is_some() {
                return Ok(ready);
            }
        }
        Ok(None)
    }

    /// At a header: delivers the frame in place if it is whole, else collects it.
    #[inline]
    fn start_frame(&mut self) -> Result<Option<Ready>, ProtocolError> {
        let Some(header) = self.read_header()? else { return Ok(None) };
        self.decoder.admit(&header, self.limits)?;
        let available = self.input.len() - self.position;
        let stands_alone = header.fin && header.opcode != Opcode::Continuation;
        if !stands_alone || header.payload_len > available as u64 {
            self.decoder.begin(header);
            return self.continue_payload();
        }
        let range = self.unmask(&header, 0, header.payload_len as usize);
        self.decoder.settle();
        let (opcode, compressed) = (header.opcode, header.compressed);
        Ok(Some(Ready { opcode, place: Place::Input(range), compressed }))
    }

    /// The next header, or `None` after putting the incomplete one aside.
    #[inline]
    fn read_header(&mut self) -> Result<Option<FrameHeader>, ProtocolError> {
        let rules = Rules { role: self.decoder.role, compression: self.decoder.compression };
        if self.decoder.pending.as_ref().is_some_and(|pending| pending.header_len > 0) {
            return self.resume_header(rules);
        }
        let rest = &self.input[self.position..];
        if let Some((header, size)) = FrameHeader::parse(rest, rules)? {
            self.position += size;
            return Ok(Some(header));
        }
        let pending = self.decoder.pending.get_or_insert_default();
        pending.header[..rest.len()].copy_from_slice(rest);
        pending.header_len = rest.len() as u8;
        self.position = self.input.len();
        Ok(None)
    }

    /// Goes on with a header that an earlier input began.
    #[cold]
    fn resume_header(&mut self, rules: Rules) -> Result<Option<FrameHeader>, ProtocolError> {
        let Some(pending) = &mut self.decoder.pending else { return Ok(None) };
        let known = usize::from(pending.header_len);
        let rest = &self.input[self.position..];
        let more = rest.len().min(FRAME_HEADER_BYTES_MAX - known);
        pending.header[known..known + more].copy_from_slice(&rest[..more]);
        match FrameHeader::parse(&pending.header[..known + more], rules)? {
            Some((header, size)) => {
                pending.header_len = 0;
                self.position += size - known;
                Ok(Some(header))
            }
            None => {
                pending.header_len = (known + more) as u8;
                self.position += more;
                Ok(None)
            }
        }
    }

    /// Takes `count` payload bytes of the input, `offset` bytes into their frame, and unmasks them.
    #[inline]
    fn unmask(&mut self, header: &FrameHeader, offset: u64, count: usize) -> Range<usize> {
        let range = self.position..self.position + count;
        if let Some(key) = header.mask {
            crate::apply_mask(&mut self.input[range.clone()], key, (offset % 4) as usize);
        }
        self.position += count;
        range
    }

    /// In a payload that must be collected: takes what is there.
    fn continue_payload(&mut self) -> Result<Option<Ready>, ProtocolError> {
        let Some(frame) = self.decoder.pending.as_ref().and_then(|pending| pending.frame.as_ref()) else {
            return Ok(None);
        };
        let (header, received) = (frame.header, frame.received);
        let missing = header.payload_len - received;
        let available = self.input.len() - self.position;
        let count = usize::try_from(missing).map_or(available, |missing| missing.min(available));
        let range = self.unmask(&header, received, count);
        self.collect(&header, range)?;
        if count as u64 == missing { self.finish_frame(&header) } else { Ok(None) }
    }

    /// Copies a piece of payload to where it is collected.
    fn collect(&mut self, header: &FrameHeader, range: Range<usize>) -> Result<(), ProtocolError> {
        let Some(pending) = &mut self.decoder.pending else { return Ok(()) };
        let Some(frame) = &mut pending.frame else { return Ok(()) };
        let piece = &self.input[range];
        let missing = header.payload_len - frame.received;
        frame.received += piece.len() as u64;
        if header.opcode.is_control() {
            frame.control.extend_from_slice(piece);
        } else if let Some(message) = &mut pending.message {
            let max = self.limits.compressed_bytes_max();
            let total_max =
                if header.fin { message.bytes.len().saturating_add(missing as usize) } else { max };
            message.append(piece, total_max.min(max));
            message.check_text(header.fin && piece.len() as u64 == missing)?;
        }
        Ok(())
    }

    /// The collected frame is whole: is there something to deliver?
    fn finish_frame(&mut self, header: &FrameHeader) -> Result<Option<Ready>, ProtocolError> {
        let Some(pending) = &mut self.decoder.pending else { return Ok(None) };
        let frame = pending.frame.take();
        if header.opcode.is_control() {
            self.held = frame.map(|frame| frame.control).unwrap_or_default();
            self.decoder.settle();
            return Ok(Some(Ready { opcode: header.opcode, place: Place::Held, compressed: false }));
        }
        let message = if header.fin { pending.message.take() } else { None };
        let Some(message) = message else { return Ok(None) };
        self.decoder.settle();
        let opcode = if message.text { Opcode::Text } else { Opcode::Binary };
        self.held = message.bytes;
        Ok(Some(Ready { opcode, place: Place::Held, compressed: message.compressed }))
    }

    /// The whole message, inflated if it is compressed.
    #[inline]
    fn inflated(&mut self, whole: Ready) -> Result<Ready, ProtocolError> {
        if whole.compressed { self.inflate(whole) } else { Ok(whole) }
    }

    fn inflate(&mut self, whole: Ready) -> Result<Ready, ProtocolError> {
        let compressed = match whole.place {
            Place::Input(range) => &self.input[range],
            Place::Held | Place::Inflated => &self.held,
        };
        self.inflater.inflate(compressed, self.limits.message_bytes_max)?;
        let place = match self.inflater.take_large() {
            Some(message) => {
                self.held = message;
                Place::Held
            }
            None => Place::Inflated,
        };
        Ok(Ready { opcode: whole.opcode, place, compressed: false })
    }
}
