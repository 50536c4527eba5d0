//! The binary while things break: killed, without power, without its database, without space, cut off.
//!
//! Publishers and members talk to it over real sockets, as clients in the field would: they reconnect, send again what
//! was not answered, and come back with their positions. A ledger of what they sent, were told and saw is held against
//! the rooms' logs afterwards (`judge`): nothing acknowledged is lost, nothing comes twice, nothing changes its place.
//!
//! `OUTSPOKE_FAULT_ROUNDS` multiplies how often things break (default 1). Moments are random; the seed is printed, and
//! `OUTSPOKE_FAULT_SEED` repeats it. `OUTSPOKE_FAULT_BINARY` puts another build of the server to the test.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout)] // What was measured is printed for whoever wants to see it.

mod cluster;
mod connection;
mod crowd;
mod databases;
mod full;
mod host;
mod inspect;
mod judge;
mod kills;
mod log;
mod member;
mod million;
mod partition;
mod powerloss;
mod publisher;
mod receipts;
mod revoked;
mod words;

use fastrand::Rng;

/// How often `usual` is, with what the environment asks for.
fn rounds(usual: u32) -> u32 {
    let factor = std::env::var("OUTSPOKE_FAULT_ROUNDS").map_or(1, |text| text.parse().expect("a number"));
    usual * factor
}

/// The source of all moments and lengths of a test.
fn randomness(test: &str) -> Rng {
    let seed = std::env::var("OUTSPOKE_FAULT_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().expect("a number"));
    println!("{test}: OUTSPOKE_FAULT_SEED={seed}");
    Rng::with_seed(seed)
}
