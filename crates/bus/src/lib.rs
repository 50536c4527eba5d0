//! How the nodes of a cluster reach each other: bytes on topics, over the service that is there anyway.
//!
//! Two layers. A [`MessageBus`] carries opaque bytes over etcd, Redis, NATS or memory, as well as that service can.
//! A [`Link`] is a node's end of one: it adds who sent what in which order, so that nothing loops, nothing comes twice,
//! and what was lost is known to be lost. Neither knows messages, rooms or users; what lost bytes meant, and where to get it
//! instead, is the hub's business.
//!
//! The bus is a hint. Whoever needs more than at-most-once takes it from a store.

mod contract;
mod dispatch;
#[cfg(feature = "etcd")]
pub mod etcd;
mod link;
mod memory;
#[cfg(feature = "nats")]
pub mod nats;
mod node;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "nats", feature = "redis"))]
mod remote;
#[cfg(feature = "suite")]
pub mod suite;
mod topic;

pub use contract::{Answer, Arrival, BusError, BusState, Feed, MessageBus, Outgoing, Outlet, feed};
pub use dispatch::Subscriptions;
pub use link::{Link, LinkCounts, LinkEvent, LinkEvents, LinkOptions, QueueFull, Secret};
pub use memory::{MemoryBus, MemoryHub};
pub use node::NodeId;
pub use topic::{InvalidTopic, Topic};
