//! Whether a request that takes long gets on.
//!
//! Requests have a time in which they are answered, and large files take longer on slow lines. So who moves bytes of a file says
//! so, and the time begins anew; who sends or reads less than [`STEP`] in it is as slow as who does nothing.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

/// Bytes that are progress.
const STEP: u64 = 64 * 1024;

/// The time at which something moved last on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<watch::Sender<Instant>>);

impl Progress {
    /// And who may want to know.
    pub(crate) fn begin() -> (Self, watch::Receiver<Instant>) {
        let (moved, seen) = watch::channel(Instant::now());
        (Self(Arc::new(moved)), seen)
    }

    /// Something has moved.
    pub(crate) fn moved(&self) {
        self.0.send_replace(Instant::now());
    }

    /// Counts bytes of one request.
    pub(crate) fn counting(progress: Option<&Self>) -> Counting {
        Counting { progress: progress.cloned(), bytes: 0 }
    }
}

/// Bytes of one request, whether it is one of a connection that can be late or not.
#[derive(Debug)]
pub(crate) struct Counting {
    progress: Option<Progress>,
    bytes: u64,
}

impl Counting {
    /// So many bytes have come, or have gone.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes >= STEP {
            self.bytes = 0;
            self.progress.iter().for_each(Progress::moved);
        }
    }
}
