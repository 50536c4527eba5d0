//! The contract suite over the store in memory.

use std::sync::Arc;

use outspoke_store::suite::{Opening, Stage};
use outspoke_store::{MemoryStore, store_suite};

struct Memory;

impl Stage for Memory {
    fn fresh(&self) -> Opening<'_> {
        Box::pin(std::future::ready(Arc::new(MemoryStore::new()) as _))
    }
}

store_suite!(Memory);
