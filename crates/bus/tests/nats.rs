//! The bus over NATS does what a bus must, and what NATS makes of it.
#![cfg(feature = "nats")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use outspoke_bus::nats::{NatsBus, NatsOptions};
use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{MessageBus, bus_suite};
use outspoke_testkit::services::Nats;

struct Service(Nats);

impl Stage for Service {
    fn connect(&self) -> Arc<dyn MessageBus> {
        Arc::new(NatsBus::new(&NatsOptions::new(self.0.url())).unwrap())
    }

    fn kill(&mut self) -> Doing<'_> {
        self.0.kill();
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(self.0.restart())
    }
}

bus_suite!(Service(Nats::start().await));
