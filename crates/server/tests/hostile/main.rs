//! Hostile clients against the binary over real sockets: one by one, and two hundred of them beside two hundred healthy ones.
//!
//! What they do is in `attacks`, what the healthy ones do and check in `chat`. This machine's addresses have no limits of
//! their own by default, so what is shown here is what holds without limits on addresses.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // What was measured is printed for whoever wants to see it.

mod alone;
mod attacks;
mod chat;
mod crowd;
#[path = "../server/support/mod.rs"]
#[allow(dead_code)] // Shared with the other tests of the binary, which need more of it.
mod support;
