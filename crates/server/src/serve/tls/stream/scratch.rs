//! Memory for records on their way, shared by all connections of a thread.
//!
//! What one connection leaves here the next one overwrites; nobody is handed more of it than was written for it.

use std::cell::Cell;

use super::{RECORD_BYTES_MAX, WRITE_BYTES_MAX};

/// What encryption adds to [`WRITE_BYTES_MAX`]: 29 bytes to each of two records, and messages that go before them (an
/// answer to a key update).
const SEALING_BYTES_MAX: usize = 2048;

/// 86 KiB.
pub(super) struct Scratch {
    /// As it comes from the socket, then decrypted in place.
    pub(super) received: Box<[u8]>,
    /// What is to be encrypted, in one piece.
    pub(super) plain: Box<[u8]>,
    /// Encrypted.
    pub(super) sealed: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        let zeros = |count| vec![0; count].into_boxed_slice();
        Self {
            received: zeros(RECORD_BYTES_MAX),
            plain: zeros(WRITE_BYTES_MAX),
            sealed: zeros(WRITE_BYTES_MAX + SEALING_BYTES_MAX),
        }
    }
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Lends this thread's scratch memory to `work`. Should `work` come here again, it gets other memory.
pub(super) fn with<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.take().unwrap_or_default();
    let result = work(&mut scratch);
    SCRATCH.set(Some(scratch));
    result
}
