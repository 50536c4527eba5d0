//! The hub's promises, one test each, over scripted connections: no socket and no real time where neither matters.
#![allow(clippy::unwrap_used, missing_docs)]

mod chat;
mod delivery;
mod eviction;
mod handlers;
mod heartbeat;
mod membership;
mod order;
mod presence;
mod pressure;
mod pushes;
mod shutdown;
mod slow;
mod streams;
mod support;
mod upgrade;
mod violations;
