//! What the two ends of a connection say to each other, without any I/O.
//!
//! The hub speaks in neutral [`Request`]s and [`Event`]s; a [`Dialect`] turns a frame's payload into the
//! first and the second into a payload. `outspoke-websocket` frames those payloads, `outspoke-hub` acts on
//! them. Invariant: nothing here reads a clock, a socket or a configuration file.
//!
//! * [`Message`]: what somebody said, where, and its place in the room's log
//! * [`ErrorCode`] and [`Disconnect`]: the one table each of refusals and of closes
//! * [`dialects`]: the wire formats that ship
//! * [`encode_record`] and [`decode_record`]: a message as bytes to keep

mod code;
mod dialect;
pub mod dialects;
mod event;
mod id;
mod json;
mod message;
mod record;
mod request;
mod room;
mod timestamp;
// For the tests and documents of this repository, and no part of what the crate promises.
#[doc(hidden)]
pub mod transcript;

pub use code::{Disconnect, ErrorCode, Reconnect};
pub use dialect::{Dialect, FrameKind, Payload};
pub use event::{
    Acknowledgement, Conversation, Conversations, Crowd, Cursor, Device, Durability, Event, Gap, History,
    NodeHint, Notice, Presence, Present, ReceiptCounts, ReceiptOf, Receipts, Refusal, Subscribed, Typing,
    Unread, Welcome,
};
pub use id::{ClientId, Epoch, MessageId, RequestId, UserId};
pub use json::check_portable;
pub use message::{Body, Details, Kind, Message, Position, Publisher, Reactions};
pub use record::{DamagedRecord, decode_record, encode_record};
pub use request::{Amendment, BodyRef, Command, PageFrom, Receipt, Request, StartFrom, Token};
pub use room::{InvalidRoomName, RoomName};
pub use timestamp::{InvalidTimestamp, Timestamp};
