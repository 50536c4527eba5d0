//! The binary over real sockets: what clients and operators meet.
//!
//! Each test starts a server of its own, on a port that the system chooses; see `support`.

#![allow(clippy::unwrap_used)]

mod chat;
mod corpus;
mod dialects;
mod heartbeat;
mod http;
mod identity;
mod limits;
mod rooms;
mod start;
mod support;
mod transcripts;
