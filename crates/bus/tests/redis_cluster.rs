//! The bus over a cluster of Redis servers does what a bus must, and follows where slots go.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use outspoke_bus::redis::{RedisBus, RedisOptions};
use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{MessageBus, bus_suite};
use outspoke_testkit::services::RedisCluster;

struct Service(RedisCluster);

impl Stage for Service {
    fn connect(&self) -> Arc<dyn MessageBus> {
        let options = RedisOptions { cluster: true, ..RedisOptions::new(self.0.url()) };
        Arc::new(RedisBus::new(&options).unwrap())
    }

    fn kill(&mut self) -> Doing<'_> {
        (0..3).for_each(|node| self.0.node(node).kill());
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(async move {
            for node in 0..3 {
                self.0.node(node).restart().await;
            }
        })
    }
}

bus_suite!(Service(RedisCluster::start().await));
