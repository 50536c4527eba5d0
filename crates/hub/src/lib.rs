//! A real-time messaging hub to embed: clients, rooms, one order for everybody.
//!
//! ```no_run
//! use outspoke_hub::{Hub, Kind, Body};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::builder().start()?;
//! let app = axum::Router::<()>::new().route_service("/ws", hub.service());
//! // ... serve `app`, and from anywhere:
//! hub.publish("builds", Kind::Data, Body::json(&serde_json::json!({ "state": "green" }))?)?;
//! # Ok(()) }
//! ```
//!
//! The road of a message: a [`WsConn`] is read by its shard, decoded by the connection's
//! [dialect](outspoke_protocol::Dialect), judged and done, given its place in the room's order, and written by every
//! shard that has members of the room, once per member and turn. See `docs/architecture.md` in the repository.

#[cfg(not(loom))]
mod auth;
#[cfg(not(loom))]
mod client;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
mod conn;
#[cfg(not(loom))]
mod dispatcher;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod hub;
#[cfg(not(loom))]
mod publication;
#[cfg(not(loom))]
mod room;
#[cfg(not(loom))]
mod shard;
#[cfg(not(loom))]
mod stats;
mod sync;
#[cfg(not(loom))]
mod upgrade;

/// The model checker sees only what threads share.
#[cfg(loom)]
#[path = "shard/inbox.rs"]
#[allow(missing_docs)]
pub mod inbox;

#[cfg(not(loom))]
pub use crate::{
    auth::{AuthError, Authentication, Authenticator, Identity, OpenMode, authenticator_fn},
    client::Client,
    config::{CompressionConfig, HeartbeatConfig, HubConfig, InvalidConfig, SlowClient, TcpConfig},
    conn::{MemoryConn, MemoryPeer, StreamConn, TcpConn, WsConn},
    dispatcher::{Context, Data, Handler, Handling, Reply},
    error::{AttachError, JoinError, NotWritten, PublishError, PushError, StartError},
    hub::{Attach, Departure, Frame, Hub, HubBuilder},
    room::Published,
    stats::Stats,
    upgrade::{UpgradeOptions, UpgradeService},
};
#[cfg(not(loom))]
pub use outspoke_protocol::{
    self as protocol, Body, ClientId, Dialect, Disconnect, Epoch, ErrorCode, FrameKind, Kind, Message,
    MessageId, Position, Publisher, Refusal, RequestId, RoomName, Timestamp, UserId,
};
