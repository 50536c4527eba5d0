//! What the back ends that are servers of their own have in common.
//!
//! [`plan`] turns an append into what is new and what repeats, for back ends that decide that on this side of the wire;
//! [`facts`] folds a batch's facts into one change each; [`Backoff`] spaces the attempts to connect. How to talk to a
//! server, and what its errors mean, each back end knows alone.

mod backoff;
mod facts;
mod limits;
#[cfg(feature = "postgres")]
pub(crate) mod plan;
mod url;

pub(crate) use backoff::Backoff;
pub(crate) use facts::{Change, fold, successor};
pub(crate) use limits::check;
pub(crate) use url::masked;

/// How many records of a log a key or an id is remembered for, at least.
pub(crate) const REMEMBERED_RECORDS: u64 = 10_000;
/// How long a key or an id is remembered, at least, in milliseconds: the five minutes of the contract, and one for
/// clocks that differ.
pub(crate) const REMEMBERED_MS: i64 = 6 * 60 * 1000;
