//! One request at a time works on an upload, and the newest one is right.
//!
//! A client whose connection broke comes back before the server has noticed: the old request may wait for bytes that will never
//! come. So who comes asks whoever is there to stop, and waits a moment for that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outspoke_files::FileId;
use tokio::sync::{OwnedMutexGuard, watch};

/// How long the one before may take to write what it has.
const PATIENCE: Duration = Duration::from_secs(5);

/// The uploads that are worked on.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<FileId, Arc<Place>>>>);

#[derive(Debug, Default)]
struct Place {
    lock: Arc<tokio::sync::Mutex<()>>,
    /// Requests that have come so far.
    come: watch::Sender<u64>,
}

/// The right to work on an upload, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    id: FileId,
    place: Arc<Place>,
    /// Which of those that have come it is.
    number: u64,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits until it is this request's turn; `None`: it does not come.
    pub(super) async fn take(&self, id: FileId) -> Option<Turn> {
        let place = Arc::clone(self.places().entry(id).or_default());
        let mut number = 0;
        place.come.send_modify(|come| {
            *come += 1;
            number = *come;
        });
        let mut turn = Turn { turns: self.clone(), id, place, number, held: None };
        let lock = Arc::clone(&turn.place.lock).lock_owned();
        turn.held = Some(tokio::time::timeout(PATIENCE, lock).await.ok()?);
        Some(turn)
    }

    fn places(&self) -> MutexGuard<'_, HashMap<FileId, Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Ready when another request, which came later, wants to work on the upload.
    pub(super) async fn asked(&self) {
        // The sender is in the place, which is held.
        drop(self.place.come.subscribe().wait_for(|come| *come > self.number).await);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut places = self.turns.places();
        // The map's and this one: nobody waits for it.
        if Arc::strong_count(&self.place) <= 2 {
            places.remove(&self.id);
        }
    }
}
