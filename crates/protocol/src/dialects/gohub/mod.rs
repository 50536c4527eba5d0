//! The `gohub` dialect.

use crate::{Dialect, Event, FrameKind, Payload, Refusal, Request};

/// The `gohub` dialect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gohub;

impl Dialect for Gohub {
    fn name(&self) -> &'static str {
        "gohub"
    }

    fn subprotocols(&self) -> &'static [&'static str] {
        &[]
    }

    fn decode<'a>(&self, _payload: Payload<'a>) -> Result<Request<'a>, Refusal> {
        Err(Refusal::new(crate::ErrorCode::UnknownType, ""))
    }

    fn encode(&self, _event: &Event, _out: &mut Vec<u8>) -> Option<FrameKind> {
        None
    }
}
