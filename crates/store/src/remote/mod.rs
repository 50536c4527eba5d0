//! What the back ends that are servers of their own have in common.
//!
//! [`plan`] turns an append into what is new and what repeats, for back ends that decide that on this side of the wire;
//! [`facts`] folds a batch's facts into one change each; [`Backoff`] spaces the attempts to connect. How to talk to a
//! server, and what its errors mean, each back end knows alone.

mod backoff;
mod facts;
mod page;
#[cfg(any(feature = "dynamodb", feature = "postgres"))]
pub(crate) mod plan;
mod url;
#[cfg(any(feature = "dynamodb", feature = "redis"))]
pub(crate) mod walk;

pub(crate) use backoff::Backoff;
pub(crate) use facts::{Change, fold, successor};
pub(crate) use page::without_holes;
pub(crate) use url::masked;
