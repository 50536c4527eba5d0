//! The bus over etcd does what a bus must, on a real etcd.
#![cfg(feature = "etcd")]
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Weak};

use outspoke_bus::etcd::{EtcdBus, EtcdOptions};
use outspoke_bus::suite::{Doing, Stage};
use outspoke_bus::{MessageBus, NodeId, bus_suite};
use outspoke_testkit::services::{Etcd, Shared, Slot};

static SERVER: Slot<Etcd> = Slot::const_new(Weak::new());

fn connect(server: &Etcd, prefix: &str) -> Arc<dyn MessageBus> {
    let options = EtcdOptions { prefix: prefix.to_owned(), ..EtcdOptions::new([server.url()]) };
    Arc::new(EtcdBus::new(options).unwrap())
}

/// A prefix of the etcd that all tests use.
struct Part {
    server: Arc<Shared<Etcd>>,
    prefix: String,
}

impl Part {
    async fn new() -> Self {
        Self { server: Shared::get(&SERVER, Etcd::start).await, prefix: format!("/{}", NodeId::new()) }
    }
}

impl Stage for Part {
    fn connect(&self) -> Arc<dyn MessageBus> {
        connect(&self.server, &self.prefix)
    }

    fn kill(&mut self) -> Doing<'_> {
        unreachable!("it is not ours alone")
    }

    fn restart(&mut self) -> Doing<'_> {
        unreachable!("it is not ours alone")
    }
}

/// An etcd for one test.
struct Own(Etcd);

impl Own {
    async fn new() -> Self {
        Self(Etcd::start().await)
    }
}

impl Stage for Own {
    fn connect(&self) -> Arc<dyn MessageBus> {
        connect(&self.0, "/gohub")
    }

    fn kill(&mut self) -> Doing<'_> {
        self.0.kill();
        Box::pin(std::future::ready(()))
    }

    fn restart(&mut self) -> Doing<'_> {
        Box::pin(self.0.restart())
    }
}

bus_suite!(Part::new().await, Own::new().await);
