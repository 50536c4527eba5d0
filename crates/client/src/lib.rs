//! A client for [Outspoke](https://github.com/outspoke/outspoke), the self-hosted real-time messaging hub.
//!
//! ```no_run
#![doc = include_str!("front_page.rs")]
//! ```
//!
//! [`Client`] speaks the native dialect: typed rooms, acknowledgements, history, presence, private messages. It comes back by
//! itself, with full jitter, and obeys what the server says when it closes a connection. What goes through it is neither lost
//! nor doubled:
//!
//! - A message waits in a bounded outbox until it is acknowledged, and is sent again after every loss under the same
//!   idempotency key: the server publishes it once.
//! - A stream goes on behind the last message it had. What it cannot have is an [`Event::Gap`]; nothing is passed over in
//!   silence, also when the stream is polled slowly.
//! - Where the connection stands is a [`watch`](tokio::sync::watch) channel of [`ConnectionState`], with all that a banner
//!   needs.
//! - A token provider is asked before a credential ends, and a fresh one is shown over the connection that is there.
//!
//! [`reconnecting`] is the small one: raw frames and callbacks, against any WebSocket server.
//!
//! Everything runs on Tokio. The feature `rustls`, on by default, is for `wss://` addresses.

mod backoff;
mod builder;
mod client;
#[cfg(test)]
mod conformance;
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
#[cfg(test)]
mod tests;
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
