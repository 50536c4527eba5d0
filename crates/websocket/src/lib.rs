//! RFC 6455 frames and handshake, RFC 7692 compression: bytes in, frames out, no I/O.
//!
//! The road of received bytes: [`Decoder::feed`] takes what a read gave, unmasks it in place and lends
//! each complete message or control frame as an [`Item`]. The road of sent bytes: [`encode_frame`] (server),
//! [`encode_masked_frame`] (client), or [`SharedFrame`] for one message that goes to many connections.
//! Before both: [`Upgrade`] checks and answers an upgrade request, [`ClientHandshake`] makes one.
//!
//! Invariants of the whole crate:
//!
//! - An idle [`Decoder`] owns no heap memory; a busy one owns at most twice the bytes that it received.
//!   No allocation is ever sized by a length that the peer declared.
//! - Work is bounded by received bytes, never by the number of fragments.
//! - Inflated bytes are counted while inflating ([`Limits::message_bytes_max`]).
//! - No context takeover in either direction, so that one [`Inflater`] and one [`Deflater`] serve every
//!   connection of a thread.
//! - No unsafe code, no input that panics.
//!
//! ```
//! use outspoke_websocket::{Decoder, Inflater, Item, Limits, Opcode, Role, encode_close, encode_frame};
//!
//! let mut decoder = Decoder::new(Role::Server, false); // one per connection
//! let mut inflater = Inflater::new(); // one per thread
//! let mut scratch = *b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"; // what a read gave
//! let mut replies = Vec::new();
//!
//! let mut frames = decoder.feed(&mut scratch, &Limits::new(8192), &mut inflater);
//! while let Some(item) = frames.next() {
//!     match item {
//!         Ok(Item::Text(text)) => encode_frame(Opcode::Text, text.as_bytes(), &mut replies),
//!         Ok(Item::Ping(payload)) => encode_frame(Opcode::Pong, payload, &mut replies),
//!         Ok(Item::Binary(_) | Item::Pong(_)) => {}
//!         Ok(Item::Close(frame)) => encode_close(frame.map(|frame| frame.code), "", &mut replies),
//!         Err(error) => encode_close(Some(error.close_code()), &error.to_string(), &mut replies),
//!     }
//! }
//! assert_eq!(replies, b"\x81\x05Hello");
//! ```
//!
//! Sockets, time limits, rate limits, Origin checks and authentication belong to the caller.

#![forbid(unsafe_code)]

mod close;
mod decoder;
mod deflate;
mod error;
mod frame;
pub mod handshake;
mod inflate;
mod mask;
mod random;
mod shared;

pub use close::{CLOSE_REASON_BYTES_MAX, CloseCode, CloseFrame, CloseHandshake, CloseReaction};
pub use decoder::{Decoder, Frames, Item, Limits, Role};
pub use deflate::{Deflater, Window};
pub use error::ProtocolError;
pub use frame::{
    CONTROL_PAYLOAD_BYTES_MAX, EncodedHeader, FRAME_HEADER_BYTES_MAX, FrameHeader, Opcode, encode_close,
    encode_frame, encode_masked_close, encode_masked_frame, encode_message,
};
pub use handshake::{
    Accept, ClientError, ClientHandshake, Established, HandshakeError, PermessageDeflate, Upgrade,
};
pub use inflate::Inflater;
pub use mask::apply_mask;
pub use random::Random;
pub use shared::SharedFrame;
