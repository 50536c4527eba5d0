//! The `native` dialect: JSON objects in text frames, told apart by their `type`.
//!
//! What a client speaks that names no dialect, so it is as small as `{"type":"chat","content":"hello"}`. The
//! contract is `docs/protocol/native.md`; `transcripts/` of this crate holds conversations that the tests replay.
//!
//! * Words: *room* is `room`, and `channel` is read as the same; everything else has its neutral name in
//!   camel case.
//! * Unknown fields are ignored, unknown types go to the application's handlers.
//! * [`Native`] has text frames only, and writes bytes as base64; [`NativeBinary`] has binary frames for them.

mod binary;
mod decode;
mod encode;

use crate::{Dialect, Event, FrameKind, Payload, Refusal, Request};

pub use binary::NativeBinary;

/// The `native` dialect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn subprotocols(&self) -> &'static [&'static str] {
        &["outspoke.v1"]
    }

    fn decode<'a>(&self, payload: Payload<'a>) -> Result<Request<'a>, Refusal> {
        match payload {
            Payload::Text(text) => decode::decode_text(text),
            Payload::Binary(_) => Err(binary::not_asked_for()),
        }
    }

    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Option<FrameKind> {
        encode::encode(event, out);
        Some(FrameKind::Text)
    }
}

#[cfg(test)]
mod tests;
