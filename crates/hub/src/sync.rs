//! The synchronisation primitives that shared state is built from.
//!
//! The same names come from `std` in a build and from `loom` in a model (`--cfg loom`), so that what the
//! models check is what runs. Locks never stay poisoned: a panic is contained where it happens and the
//! state behind every lock here is valid between any two statements.

#[cfg(loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic};
// Counting references is std's to get right; models share by it too.
pub(crate) use std::sync::Arc;
#[cfg(not(loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

/// Locks `mutex`, also after a panic elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
