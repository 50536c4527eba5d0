//! How many bytes wait for a client: counted by its shard, read and reserved by any thread.
//!
//! Invariant: a reservation never takes the count above its limit, however many threads reserve at once
//! (`tests/loom_models.rs`). What the bytes are is the outbox's business.
#![cfg_attr(not(loom), allow(unreachable_pub))] // public only to the models

use crate::sync::atomic::{AtomicUsize, Ordering};

/// A count of bytes with a limit that the caller names.
#[derive(Debug, Default)]
pub struct Budget(AtomicUsize);

impl Budget {
    /// Bytes taken.
    pub fn used(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes `bytes` if they fit under `max`; says how many were taken already if they do not.
    pub fn reserve(&self, bytes: usize, max: usize) -> Result<(), usize> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= max);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, fits).map(|_| ())
    }

    /// Takes `bytes`, whatever is taken already.
    pub fn charge(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Gives `bytes` back.
    pub fn release(&self, bytes: usize) {
        let before = self.0.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "only what was taken is given back");
    }
}
