//! A real-time messaging hub to embed: clients, rooms, one order for everybody.
//!
//! ```no_run
//! use outspoke_hub::{Hub, Kind, Body};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::builder().start()?;
//! let app = axum::Router::<()>::new().route_service("/ws", hub.service());
//! // ... serve `app`, and from anywhere:
//! hub.publish("builds", Kind::Data, Body::json(&serde_json::json!({ "state": "green" }))?)?.await?;
//! # Ok(()) }
//! ```
//!
//! The road of a message: a [`WsConn`] is read by its shard, decoded by the connection's
//! [dialect](outspoke_protocol::Dialect), judged and done, given its place in the room's order, and written by every
//! shard that has members of the room, once per member and turn. See `docs/architecture.md` in the repository.

mod admin;
mod admitted;
pub mod affinity;
mod amend;
mod analytics;
mod antechamber;
mod auth;
mod builder;
mod class;
mod client;
mod clock;
mod cluster;
mod commands;
mod config;
mod conn;
mod direct;
mod dispatcher;
mod drain;
mod erasure;
mod error;
mod facts;
mod hub;
mod keeper;
mod last_seen;
mod metrics;
mod origin;
mod peer;
mod policy;
mod process;
mod publication;
mod publish;
mod quota;
mod rate;
mod reconfigure;
mod review;
mod room;
mod rulings;
mod shard;
mod social;
mod spans;
mod stats;
mod sync;
mod tenant;
mod trace;
mod upgrade;

/// What threads share, for the models of `tests/loom_models.rs`.
#[cfg(loom)]
#[doc(hidden)]
pub mod models {
    pub use crate::client::budget::Budget;
    pub use crate::rate::bucket::{Bucket, Moment, Rate};
    pub use crate::shard::inbox::{Congestion, Inbox, Rejected};
}

pub use crate::{
    admin::{Listing, RoomInfo},
    admitted::{Admitted, SocketInHand},
    analytics::{AnalyticsError, Figures, Grain, RoomFigures},
    auth::{
        Ask, Asks, AuthError, AuthFailure, Authentication, Authenticator, Authorization, Authorizer, Grant,
        Identity, OpenMode, authenticator_fn,
    },
    builder::HubBuilder,
    class::{Publishers, RoomClass, RoomClasses},
    client::Client,
    cluster::{
        ClusterCounts, ClusterOptions, Coverage, NodeAnswer, NodeAnswers, NodeChecks, NodeInfo, NodeSaid,
        Route, Told, WideFollower,
    },
    commands::{Argument, ArgumentKind, CommandHandler, CommandSpec, Invocation},
    config::{CompressionConfig, HeartbeatConfig, HubConfig, InvalidConfig, Rename, SlowClient, TcpConfig},
    conn::{MemoryConn, MemoryPeer, StreamConn, TcpConn, WsConn},
    dispatcher::{Context, Data, Handler, Handling, Reply},
    drain::{DrainConfig, DrainOrder, Drained},
    erasure::{Erased, UserDataPlace, UserDatum},
    error::{AttachError, JoinError, NotWritten, PublishError, PushError, StartError},
    facts::FACT_FAMILIES,
    hub::{Attach, Departure, Frame, Hub},
    metrics::{ClusterMetrics, Metrics, ShardMetrics, StoreMetrics},
    origin::{ForeignOrigin, InvalidOrigin, Origin, OriginPolicy},
    peer::{ClientAddress, ClientCertificate, Reached, Unwrap},
    policy::{Action, Permissions},
    process::{PROCESS_OUTPUT, PROCESS_STATUS, ProcessStatus, ProcessStream, process_room},
    publish::{Publication, Publishing},
    quota::{Quotas, Usage},
    rate::{ActionRates, AddressRange, Deed, InvalidAddressRange, Rate, RateConfig, RateLimiter, origin_of},
    reconfigure::{Changed, ReconfigureError, Takes},
    review::{Proposal, Review, Reviewer},
    room::Published,
    rulings::{
        BAR_LASTS_MIN, RULING_LASTS, RULING_LASTS_MAX, Ruled, Ruling, RulingError, RulingInfo, Subject,
        Verdict,
    },
    shard::inspect::{ConnectionState, RoomPlace},
    spans::TRACE_TARGET,
    stats::{Distribution, Stats},
    tenant::{InvalidTenantName, TenantData, TenantError, TenantInfo, TenantPolicy},
    trace::{
        Heard,
        explain::{
            Account, ConnectionAccount, Explanation, HandOut, HeardMessage, NodeAccount, Outcome, Which,
        },
        follow::{Follower, Following, Sight, Sighting, TooManyFollowers},
        look::SlowDown,
    },
    upgrade::{TenantFrom, UpgradeOptions, UpgradeService},
};
pub use outspoke_bus as bus;
pub use outspoke_protocol::{
    self as protocol, Body, ClientId, Dialect, Disconnect, Durability, Epoch, ErrorCode, FrameKind, Kind,
    Message, MessageId, Position, Publisher, Refusal, RequestId, RoomName, StartFrom, Timestamp, UserId,
};
pub use outspoke_store as store;
