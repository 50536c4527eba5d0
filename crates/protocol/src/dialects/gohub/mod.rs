//! The `gohub` dialect: `{"message_id":1,"message_type":"chat","data":...,"ts":...}` in text frames.
//!
//! For clients of gohub, and for anybody who wants one envelope around everything. The contract is
//! `docs/protocol/gohub.md`; `transcripts/` of this crate holds conversations that the tests replay.
//!
//! * Words: `message_id` is the request's id: above 0 it asks for an answer, which carries the same number;
//!   0 asks for none, and is what everything carries that answers no request. `ts` is Unix time in
//!   milliseconds. Inside `data`, names are in snake case.
//! * Unknown fields are ignored, unknown types go to the application's handlers with `data` unparsed.
//! * Not supported: binary frames, the word `channel`, request ids that are texts. A binary body is written
//!   as base64.

mod decode;
mod encode;

use crate::{Dialect, Event, FrameKind, Payload, Refusal, Request};

/// The `gohub` dialect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gohub;

impl Dialect for Gohub {
    fn name(&self) -> &'static str {
        "gohub"
    }

    fn subprotocols(&self) -> &'static [&'static str] {
        &["gohub"]
    }

    fn decode<'a>(&self, payload: Payload<'a>) -> Result<Request<'a>, Refusal> {
        decode::decode(payload)
    }

    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Option<FrameKind> {
        encode::encode(event, out);
        Some(FrameKind::Text)
    }
}

#[cfg(test)]
mod tests;
