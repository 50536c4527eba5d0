//! The contract suite over the embedded store.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use outspoke_store::embedded::{EmbeddedStore, Options};
use outspoke_store::suite::{Opening, Stage};
use outspoke_store::{Store, store_suite};

/// A folder per store; they go when the stage does.
#[derive(Default)]
struct Folders {
    folders: Mutex<Vec<(Arc<dyn Store>, tempfile::TempDir)>>,
}

fn options() -> Options {
    // Small, so that files are written and merged within a test.
    let mut options = Options::default();
    options.memtable_bytes = 256 * 1024;
    options.reserve_bytes = 1;
    options
}

impl Stage for Folders {
    fn fresh(&self) -> Opening<'_> {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(folder.path(), options()).unwrap());
        self.folders.lock().unwrap().push((store.clone(), folder));
        Box::pin(std::future::ready(store))
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Opening<'_> {
        Box::pin(async move {
            store.close().await.unwrap();
            let mut folders = self.folders.lock().unwrap();
            let (kept, folder) = folders.iter_mut().find(|(kept, _)| Arc::ptr_eq(kept, &store)).unwrap();
            *kept = Arc::new(EmbeddedStore::open(folder.path(), options()).unwrap());
            kept.clone()
        })
    }
}

store_suite!(Folders::default());
