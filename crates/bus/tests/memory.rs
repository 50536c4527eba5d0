//! The bus in memory does what a bus must.

use std::sync::Arc;

use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{MemoryHub, MessageBus, bus_suite};

#[derive(Default)]
struct Memory(MemoryHub);

impl Stage for Memory {
    fn connect(&self) -> Arc<dyn MessageBus> {
        Arc::new(self.0.connect())
    }

    fn kill(&mut self) -> Doing<'_> {
        self.0.go_away();
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(self.0.come_back())
    }
}

bus_suite!(Memory::default());
