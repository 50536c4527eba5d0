//! One service for all tests of a program that run at the same time, for those that do it no harm.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;

/// Where a program's tests find the service that they share: a `static` that begins as `Slot::const_new(Weak::new())`.
pub type Slot<S> = Mutex<Weak<Shared<S>>>;

/// A service that ends with the last test that holds it.
#[derive(Debug)]
pub struct Shared<S> {
    service: S,
    /// Its output is read here: the runtime of the test that started it may end before it.
    runtime: Option<Runtime>,
}

impl<S: Send + Sync + 'static> Shared<S> {
    /// The service that another test has, or a new one.
    ///
    /// # Panics
    /// It does not start.
    pub async fn get<F>(slot: &'static Slot<S>, start: impl FnOnce() -> F) -> Arc<Self>
    where
        F: Future<Output = S> + Send + 'static,
    {
        let mut slot = slot.lock().await;
        if let Some(shared) = slot.upgrade() {
            return shared;
        }
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("the system gives a thread");
        let service = runtime.spawn(start()).await.expect("the service starts");
        let shared = Arc::new(Self { service, runtime: Some(runtime) });
        *slot = Arc::downgrade(&shared);
        shared
    }
}

impl<S> Deref for Shared<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.service
    }
}

impl<S> Drop for Shared<S> {
    fn drop(&mut self) {
        // Waiting for it is not allowed in a test's own runtime; ending the service needs no waiting.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
