//! The hub's promises, one test each, over scripted connections: no socket and no real time where neither matters.
#![allow(clippy::unwrap_used, missing_docs)]

mod amendments;
mod analytics;
mod chat;
mod commands;
mod delivery;
mod direct;
mod eviction;
mod handlers;
mod heartbeat;
mod membership;
mod order;
mod presence;
mod pressure;
mod pushes;
mod receipts;
mod recovery;
mod shelf;
mod shutdown;
mod slow;
mod stored;
mod streams;
mod support;
mod tenants;
mod upgrade;
mod violations;
