//! Threads that read, so that whoever asks does not wait on a disk.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::engine::Engine;
use super::folder::CURE;
use super::writer::Shared;
use crate::StoreError;

/// Reads that may wait for a thread; who comes after them waits to be let in.
const QUEUE: usize = 256;

type Read = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub(super) struct Pool {
    queue: SyncSender<(Read, OwnedSemaphorePermit)>,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Pool {
    pub(super) fn start(threads: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        let (queue, reads) = sync_channel::<(Read, OwnedSemaphorePermit)>(QUEUE);
        let reads = Arc::new(Mutex::new(reads));
        for number in 0..threads.max(1) {
            let reads = reads.clone();
            let name = format!("store-read-{number}");
            std::thread::Builder::new().name(name).spawn(move || run(&reads))?;
        }
        Ok(Self { queue, places: Arc::new(Semaphore::new(QUEUE)), shared })
    }

    /// Has a thread of the pool read.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        let shared = self.shared.clone();
        let read: Read = Box::new(move || {
            let _ = reply.send(guarded(&shared, read));
        });
        // There is a place for it, so this does not wait; it fails only without threads.
        self.queue.try_send((read, place)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Has a thread of its own do something long.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let shared = self.shared.clone();
        let spawned = std::thread::Builder::new().name("store-work".to_owned()).spawn(move || {
            let _ = reply.send(guarded(&shared, work));
        });
        spawned.map_err(|error| StoreError::Unavailable(format!("no thread: {error}")))?;
        answer.await.map_err(|_| closed())?
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}

/// The engine panics on some damage; that is an answer, too.
fn guarded<T>(shared: &Shared, read: impl FnOnce(&Engine) -> Result<T, StoreError>) -> Result<T, StoreError> {
    let engine = shared.engine()?;
    let read = catch_unwind(AssertUnwindSafe(|| read(&engine)));
    read.unwrap_or_else(|_| Err(StoreError::Damaged(format!("the engine gave up reading; {CURE}"))))
}

fn run(reads: &Mutex<Receiver<(Read, OwnedSemaphorePermit)>>) {
    loop {
        let next = reads.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok((read, _place)) => read(),
            Err(_) => return,
        }
    }
}
