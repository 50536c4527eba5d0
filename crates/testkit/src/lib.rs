//! What the tests of several crates share: WebSocket clients that do exactly what a script says.
//!
//! [`ScriptedClient`] talks to a hub without a socket, so that time can be paused and every wait is on an event;
//! [`TcpClient`] does the real handshake with a real server. Both are a [`WsClient`], the client's end of the
//! codec over a [`ByteStream`]. [`Process`] runs the program that a client talks to, [`services`] the databases
//! behind it, [`netns`] lays the wires between them. Nothing here is clever on its own: no reconnecting, and no answer to a ping that
//! the script did not ask for.
//!
//! A step that does not come true panics with what came instead: a test's way to fail.

#![cfg(not(loom))] // models share memory, not bytes

#[cfg(feature = "clients")]
mod client;
#[cfg(feature = "clients")]
mod memory;
#[cfg(target_os = "linux")]
pub mod netns;
mod patience;
mod process;
#[cfg(feature = "clients")]
mod received;
pub mod services;
#[cfg(feature = "clients")]
mod tcp;

#[cfg(feature = "clients")]
pub use client::{ByteStream, WsClient};
#[cfg(feature = "clients")]
pub use memory::{ScriptedClient, attach, attach_with, settle};
pub use patience::{pace, within};
pub use process::{Process, Usage};
#[cfg(feature = "clients")]
pub use received::Received;
pub use rustix::process::Signal;
#[cfg(feature = "clients")]
pub use tcp::{Connect, Refused, TcpClient, TcpPipe, exchange, exchange_over};
