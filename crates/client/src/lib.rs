//! A client for [Outspoke](https://github.com/outspoke/outspoke), the self-hosted real-time messaging hub.
//!
//! [`Client`] speaks the native dialect: typed rooms, acknowledgements, history, presence. It comes back by itself, with
//! full jitter, and what goes through it is neither lost nor doubled: messages wait in a bounded outbox and are sent again
//! under the same idempotency key, streams go on behind the last message they had, and what cannot be had is an
//! [`Event::Gap`].
//!
//! [`reconnecting`] is the small one: raw frames and callbacks, against any WebSocket server.

mod backoff;
mod builder;
mod client;
mod core;
mod dialer;
mod driver;
mod error;
mod event;
mod history;
#[cfg(test)]
mod peer;
mod position;
mod publish;
mod queue;
pub mod reconnecting;
mod room;
mod shared;
mod sink;
mod socket;
mod state;
mod subscription;
mod token;

pub use outspoke_protocol::{Disconnect, ErrorCode, Timestamp};

pub use crate::backoff::Backoff;
pub use crate::builder::Builder;
pub use crate::client::Client;
pub use crate::core::outbox::Overflow;
pub use crate::core::rooms::Recover;
pub use crate::dialer::{ByteStream, Dialer, Dialing, Tcp};
pub use crate::error::{Error, Refusal};
pub use crate::event::{
    Author, Change, Changed, Event, Gap, GapReason, Joined, Member, Message, PresenceChange, Reaction,
    Receipt, ReceiptCounts, ReceiptKind, Typing,
};
pub use crate::history::History;
pub use crate::position::{Epoch, InvalidEpoch, Position};
pub use crate::publish::{Ack, Publication, Publish};
pub use crate::room::{Device, Presence, Present, Progress, Receipts, Room, Subscribe};
pub use crate::sink::PublishSink;
pub use crate::state::{Cause, ConnectionState, Session};
pub use crate::subscription::Subscription;
pub use crate::token::{TokenError, TokenReason};
