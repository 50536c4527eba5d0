//! How much, how fast: limits on what comes in, by connection, user, address, tenant, room and kind of action.
//!
//! The [bucket](bucket) is the mechanism, [`RateConfig`] the numbers, [`gate`] what is remembered of addresses and users.
//! Connections ask before they look into a frame (`shard/receive.rs`), requests once it is known what they want
//! (`shard/toll.rs`), upgrades before anybody is asked who it is (`upgrade.rs`), and what users do without a connection counts as
//! if they had one ([`requests`]). What is off costs one look at a number.

pub(crate) mod bucket;
mod config;
pub(crate) mod gate;
mod keyed;
mod limiter;
mod requests;

pub use self::bucket::Rate;
pub use self::config::{ActionRates, AddressRange, InvalidAddressRange, RateConfig};
pub use self::gate::{Deed, origin_of};
pub use self::limiter::RateLimiter;
