//! Frame headers (RFC 6455 section 5.2) and the encoding of whole frames.
//!
//! The decoder parses headers with it; everything that sends encodes with it. A header is parsed as far as its
//! bytes go, so that a broken one is refused at its first wrong byte. Order between frames is the decoder's.

use crate::close::fit_reason;
use crate::{CloseCode, Deflater, ProtocolError, Role, Window, apply_mask};

/// The longest header: two bytes, a 64-bit length, a mask key.
pub const FRAME_HEADER_BYTES_MAX: usize = 14;
/// The longest payload of a close, ping or pong frame.
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASKED: u8 = 0x80;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next piece of a fragmented message.
    Continuation = 0x0,
    /// UTF-8 text, or its first piece.
    Text = 0x1,
    /// Bytes, or their first piece.
    Binary = 0x2,
    /// The connection ends.
    Close = 0x8,
    /// Asks for a pong with the same payload.
    Ping = 0x9,
    /// Answers a ping, or an unasked heartbeat.
    Pong = 0xa,
}

impl Opcode {
    /// Close, ping or pong.
    pub const fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    const fn parse(bits: u8) -> Result<Self, ProtocolError> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Text),
            0x2 => Ok(Self::Binary),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            reserved => Err(ProtocolError::ReservedOpcode(reserved)),
        }
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last frame of its message.
    pub fin: bool,
    /// The message is compressed (on its first frame only).
    pub compressed: bool,
    /// What the frame carries.
    pub opcode: Opcode,
    /// The client's mask key.
    pub mask: Option<[u8; 4]>,
    /// The payload's bytes on the wire.
    pub payload_len: u64,
}

/// What the receiving end demands of every header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) role: Role,
    pub(crate) compression: bool,
}

impl FrameHeader {
    /// The header of a whole, unfragmented, unmasked frame.
    pub const fn whole(opcode: Opcode, payload_len: usize) -> Self {
        Self { fin: true, compressed: false, opcode, mask: None, payload_len: payload_len as u64 }
    }

    /// The header's bytes, with the length in its shortest form.
    #[inline]
    pub fn encode(&self) -> EncodedHeader {
        let mut header = EncodedHeader { bytes: [0; FRAME_HEADER_BYTES_MAX], len: 2 };
        let compressed = if self.compressed { RSV1 } else { 0 };
        header.bytes[0] = if self.fin { FIN } else { 0 } | compressed | self.opcode as u8;
        header.bytes[1] = match self.payload_len {
            short @ 0..=125 => short as u8,
            126..=0xffff => {
                header.push((self.payload_len as u16).to_be_bytes());
                126
            }
            _ => {
                header.push(self.payload_len.to_be_bytes());
                127
            }
        };
        if let Some(key) = self.mask {
            header.bytes[1] |= MASKED;
            header.push(key);
        }
        header
    }

    /// Reads a header from the front of `input`: with its length in bytes, or `None` if bytes are missing.
    #[inline]
    pub(crate) fn parse(input: &[u8], rules: Rules) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some(&first) = input.first() else { return Ok(None) };
        let (fin, compressed) = (first & FIN != 0, first & RSV1 != 0);
        let opcode = parse_first(first, rules)?;
        let Some(&second) = input.get(1) else { return Ok(None) };
        check_second(second, opcode, rules)?;
        let Some((payload_len, length_end)) = parse_length(second & !MASKED, input)? else { return Ok(None) };
        let (mask, size) = if second & MASKED == 0 {
            (None, length_end)
        } else {
            match input[length_end..].first_chunk::<4>() {
                Some(key) => (Some(*key), length_end + 4),
                None => return Ok(None),
            }
        };
        Ok(Some((Self { fin, compressed, opcode, mask, payload_len }, size)))
    }
}

/// The rules for a header's first byte, in the order of its bits.
#[inline]
fn parse_first(first: u8, rules: Rules) -> Result<Opcode, ProtocolError> {
    if first & RSV2_AND_3 != 0 || (first & RSV1 != 0 && !rules.compression) {
        return Err(ProtocolError::ReservedBit);
    }
    let opcode = Opcode::parse(first & 0x0f)?;
    if first & RSV1 != 0 && !matches!(opcode, Opcode::Text | Opcode::Binary) {
        return Err(ProtocolError::MisplacedCompressionBit);
    }
    if opcode.is_control() && first & FIN == 0 {
        return Err(ProtocolError::FragmentedControl);
    }
    Ok(opcode)
}

/// The rules for a header's second byte: mask direction, length of control frames.
#[inline]
fn check_second(second: u8, opcode: Opcode, rules: Rules) -> Result<(), ProtocolError> {
    match (rules.role, second & MASKED != 0) {
        (Role::Server, false) => return Err(ProtocolError::Unmasked),
        (Role::Client, true) => return Err(ProtocolError::Masked),
        _ => {}
    }
    if opcode.is_control() && usize::from(second & !MASKED) > CONTROL_PAYLOAD_BYTES_MAX {
        return Err(ProtocolError::ControlTooLong);
    }
    Ok(())
}

/// The payload length and where its field ends; `None` if bytes are missing.
#[inline]
fn parse_length(short: u8, input: &[u8]) -> Result<Option<(u64, usize)>, ProtocolError> {
    match short {
        126 => {
            let Some(bytes) = input[2..].first_chunk::<2>() else { return Ok(None) };
            let length = u16::from_be_bytes(*bytes);
            if length < 126 { Err(ProtocolError::LengthNotMinimal) } else { Ok(Some((length.into(), 4))) }
        }
        127 => {
            let Some(bytes) = input[2..].first_chunk::<8>() else { return Ok(None) };
            match u64::from_be_bytes(*bytes) {
                0..=0xffff => Err(ProtocolError::LengthNotMinimal),
                length if length >> 63 != 0 => Err(ProtocolError::LengthTopBit),
                length => Ok(Some((length, 10))),
            }
        }
        short => Ok(Some((short.into(), 2))),
    }
}

/// A header as bytes; dereferences to them.
#[derive(Debug, Clone, Copy)]
pub struct EncodedHeader {
    bytes: [u8; FRAME_HEADER_BYTES_MAX],
    len: u8,
}

impl EncodedHeader {
    #[inline]
    fn push<const N: usize>(&mut self, field: [u8; N]) {
        let start = usize::from(self.len);
        self.bytes[start..start + N].copy_from_slice(&field);
        self.len += N as u8;
    }
}

impl std::ops::Deref for EncodedHeader {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Appends a whole server frame. Control payloads have at most [`CONTROL_PAYLOAD_BYTES_MAX`] bytes.
///
/// # Cost
///
/// One copy of the payload; allocates only if `output` must grow.
#[inline]
pub fn encode_frame(opcode: Opcode, payload: &[u8], output: &mut Vec<u8>) {
    encode(FrameHeader::whole(opcode, payload.len()), payload, output);
}

/// Appends a whole client frame, masked with `key`: a fresh one per frame, see [`crate::Random::mask_key`].
#[inline]
pub fn encode_masked_frame(opcode: Opcode, payload: &[u8], key: [u8; 4], output: &mut Vec<u8>) {
    encode(FrameHeader { mask: Some(key), ..FrameHeader::whole(opcode, payload.len()) }, payload, output);
}

/// Appends a whole message on a connection with permessage-deflate: compressed if that makes it smaller.
///
/// `key` is the client's fresh mask key, `None` on a server. For one message to many connections use
/// [`crate::SharedFrame`], which compresses once.
pub fn encode_message(
    opcode: Opcode,
    payload: &[u8],
    deflater: &mut Deflater,
    window: Window,
    key: Option<[u8; 4]>,
    output: &mut Vec<u8>,
) {
    let (compressed, payload) = match deflater.compress(payload, window) {
        Some(smaller) => (true, smaller),
        None => (false, payload),
    };
    encode(
        FrameHeader { compressed, mask: key, ..FrameHeader::whole(opcode, payload.len()) },
        payload,
        output,
    );
}

/// Appends a server's close frame; a reason too long for it is cut at a character boundary.
pub fn encode_close(code: Option<CloseCode>, reason: &str, output: &mut Vec<u8>) {
    let (payload, length) = close_payload(code, reason);
    encode_frame(Opcode::Close, &payload[..length], output);
}

/// Appends a client's close frame; a reason too long for it is cut at a character boundary.
pub fn encode_masked_close(code: Option<CloseCode>, reason: &str, key: [u8; 4], output: &mut Vec<u8>) {
    let (payload, length) = close_payload(code, reason);
    encode_masked_frame(Opcode::Close, &payload[..length], key, output);
}

pub(crate) fn close_payload(
    code: Option<CloseCode>,
    reason: &str,
) -> ([u8; CONTROL_PAYLOAD_BYTES_MAX], usize) {
    let mut payload = [0; CONTROL_PAYLOAD_BYTES_MAX];
    let Some(code) = code else { return (payload, 0) };
    let reason = fit_reason(reason);
    payload[..2].copy_from_slice(&code.get().to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    (payload, 2 + reason.len())
}

#[inline]
pub(crate) fn encode(header: FrameHeader, payload: &[u8], output: &mut Vec<u8>) {
    debug_assert!(
        !header.opcode.is_control() || payload.len() <= CONTROL_PAYLOAD_BYTES_MAX,
        "the caller bounds control payloads"
    );
    let bytes = header.encode();
    output.reserve(bytes.len() + payload.len());
    output.extend_from_slice(&bytes);
    let start = output.len();
    output.extend_from_slice(payload);
    if let Some(key) = header.mask {
        apply_mask(&mut output[start..], key, 0);
    }
}
