//! The binary over real sockets: what clients and operators meet.
//!
//! Each test starts a server of its own, on a port that the system chooses; see `support`.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // What was measured is printed for whoever wants to see it.

#[cfg(feature = "acme")]
mod acme;
mod affinity;
mod api;
mod auth;
mod bluegreen;
mod chat;
mod churn;
mod client;
mod corpus;
mod descriptors;
mod dialects;
mod drain;
mod files;
mod heartbeat;
mod http;
mod identity;
mod limits;
mod metrics;
mod operators;
mod origins;
#[cfg(feature = "otel")]
mod otel;
mod proxies;
mod reload;
mod rooms;
mod secrets;
mod shutdown;
mod start;
mod support;
mod tenants;
mod tls;
mod transcripts;
