//! Which stores several hubs may have open at once.

use outspoke_store::{MemoryStore, Store};

#[test]
fn memory_is_shared_only_when_it_was_made_to_be() {
    assert!(!MemoryStore::new().is_shared());
    assert!(MemoryStore::shared().is_shared());
}
