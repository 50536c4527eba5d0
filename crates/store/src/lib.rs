//! Where the hub keeps what must outlive it: the logs of rooms, and small facts beside them.
//!
//! One contract, [`Store`], and several back ends. A store knows no message, no room and no user: it is given
//! tenants, names and authors as texts and payloads as bytes. The hub's keeper is its only writer in the process; who reads
//! is told at each method. What every back end must do is written once more, as a suite that runs over all of them.

mod contract;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod limits;
mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "suite")]
pub mod suite;
#[cfg(feature = "transfer")]
pub mod transfer;

pub use contract::{
    Answer, Append, Appended, AuthoredPage, Batch, Direction, Fact, FactKey, FactPage, FactWrite, Health,
    Log, LogKey, LogState, LogsPage, Outcome, Page, Place, Range, Record, Replace, Retention, Space, Store,
    StoreError, Stored, VerifyReport,
};
#[cfg(feature = "embedded")]
pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;
