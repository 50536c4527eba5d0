//! The contract suite over the store in memory.

use std::sync::Arc;

use outspoke_store::suite::{Opening, Second, Stage};
use outspoke_store::{MemoryStore, Store, store_suite};

struct Memory;

impl Stage for Memory {
    fn fresh(&self) -> Opening<'_> {
        Box::pin(std::future::ready(Arc::new(MemoryStore::shared()) as _))
    }

    fn second<'a>(&'a self, store: &Arc<dyn Store>) -> Second<'a> {
        Box::pin(std::future::ready(Some(store.clone())))
    }
}

store_suite!(Memory);
