//! Native, and binary frames for what is no text: a JSON header with the length before it, then the bytes as they are.
//!
//! Base64 costs a third more on the wire and a copy on both sides; who asks for this dialect is spared both. Everything that
//! is not bytes travels as in [`Native`](super::Native), also bytes inside a page of history.

use super::super::shared;
use super::{decode, encode};
use crate::json::bad_request;
use crate::{Body, BodyRef, Dialect, Event, FrameKind, Message, Payload, Refusal, Request};

/// Bytes of the header's length, big endian.
const PREFIX_LEN: usize = 2;

/// The `native` dialect with binary frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeBinary;

impl Dialect for NativeBinary {
    fn name(&self) -> &'static str {
        "native-binary"
    }

    fn subprotocols(&self) -> &'static [&'static str] {
        &["outspoke.v1.binary"]
    }

    fn decode<'a>(&self, payload: Payload<'a>) -> Result<Request<'a>, Refusal> {
        match payload {
            Payload::Text(text) => decode::decode_text(text),
            Payload::Binary(frame) => {
                let (header, bytes) = split(frame)?;
                decode::decode_header(header, BodyRef::Binary(bytes))
            }
        }
    }

    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Option<FrameKind> {
        if let Event::Message(message) = event
            && let Body::Binary(bytes) = &message.body
            && write_frame(message, bytes, out)
        {
            return Some(FrameKind::Binary);
        }
        encode::encode(event, out);
        Some(FrameKind::Text)
    }
}

/// The header and the bytes behind it.
fn split(frame: &[u8]) -> Result<(&str, &[u8]), Refusal> {
    let short = || {
        bad_request(
            "a binary frame begins with the length of its JSON header, two bytes, big endian; this one is shorter than it says",
        )
    };
    let (length, rest) = frame.split_first_chunk::<PREFIX_LEN>().ok_or_else(short)?;
    let (header, bytes) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(short)?;
    let header =
        std::str::from_utf8(header).map_err(|_| bad_request("the header of a binary frame is no UTF-8"))?;
    Ok((header, bytes))
}

/// Appends the frame; false, and nothing appended, where the header is too long for its length's two bytes.
fn write_frame(message: &Message, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    encode::write_header(out, message);
    let Ok(length) = u16::try_from(out.len() - start - PREFIX_LEN) else {
        // Thousands of people have reacted to it: text has room for them.
        out.truncate(start);
        return false;
    };
    out[start..start + PREFIX_LEN].copy_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    true
}

/// The refusal of what a binary frame cannot carry.
pub(super) fn not_for_bytes(name: &str) -> Refusal {
    bad_request(format_args!(
        "the header of a binary frame is a publish or direct without `data` and `content`, which are its bytes; this is {name}"
    ))
}

/// The refusal of a binary frame where the client has not asked for this dialect.
pub(super) fn not_asked_for() -> Refusal {
    let mut refusal = shared::text_only("native");
    refusal.detail.push_str("; connect with the subprotocol outspoke.v1.binary to send and receive bytes");
    refusal
}
