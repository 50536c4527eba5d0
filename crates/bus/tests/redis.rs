//! The bus over Redis does what a bus must, and what Redis makes of it.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use outspoke_bus::redis::{RedisBus, RedisOptions};
use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{MessageBus, bus_suite};
use outspoke_testkit::services::Redis;

struct Service(Redis);

impl Stage for Service {
    fn connect(&self) -> Arc<dyn MessageBus> {
        Arc::new(RedisBus::new(&RedisOptions::new(self.0.url())).unwrap())
    }

    fn kill(&mut self) -> Doing<'_> {
        self.0.kill();
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(self.0.restart())
    }
}

bus_suite!(Service(Redis::start_with(&[]).await));
