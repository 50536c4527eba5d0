//! The crate from outside: tokens that must and must not pass, key sets and the application over real HTTP.
#![allow(clippy::unwrap_used)]

mod forge;
mod hook;
mod jwks;
mod provider;
mod refused_tokens;
mod rooms;
mod setup;
mod tokens;
