//! The `native` dialect.

use crate::{Dialect, Event, FrameKind, Payload, Refusal, Request};

/// The `native` dialect.
#[derive(Clone, Copy, Debug, Default)]
pub struct Native;

impl Dialect for Native {
    fn name(&self) -> &'static str {
        "native"
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
