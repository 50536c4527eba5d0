//! One at a time for each file.
//!
//! Uploads are worked on by one at a time, whoever else comes is told so; records are changed under a lock that is held for
//! as long as that takes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::FileId;

/// Locks that ids share; more would be of no use.
const STRIPES: usize = 64;

#[derive(Debug)]
pub(crate) struct Locks {
    busy: Mutex<HashSet<FileId>>,
    stripes: [Mutex<()>; STRIPES],
}

impl Default for Locks {
    fn default() -> Self {
        Self { busy: Mutex::default(), stripes: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Locks {
    /// The right to work on an upload; `None`: somebody else has it.
    pub(crate) fn take(self: &Arc<Self>, id: FileId) -> Option<Taken> {
        self.busy().insert(id).then(|| Taken { locks: Arc::clone(self), id })
    }

    /// Keeps others from changing the record, as long as it is held. Never two of them at a time.
    pub(crate) fn record(&self, id: FileId) -> MutexGuard<'_, ()> {
        let stripe = usize::from_str_radix(&id.shard(), 16).unwrap_or_default() % STRIPES;
        self.stripes[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<FileId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to work on an upload.
#[derive(Debug)]
pub(crate) struct Taken {
    locks: Arc<Locks>,
    id: FileId,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.locks.busy().remove(&self.id);
    }
}
