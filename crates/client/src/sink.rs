//! A room as a sink: many messages under way, none forgotten.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Sink;
use serde::Serialize;
use tokio::sync::Notify;

use crate::error::Error;
use crate::publish::Publication;
use crate::room::Room;

/// Publishes what is sent into it, in order; waits while the outbox is full.
///
/// Flushing waits for the acknowledgements of everything sent before. An error is that of the oldest message that failed;
/// the others go on. Dropping the sink leaves what was sent to be published.
#[must_use = "a sink publishes what is sent into it"]
pub struct PublishSink<T> {
    room: Room<T>,
    under_way: VecDeque<Publication>,
    space: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T> fmt::Debug for PublishSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishSink")
            .field("room", &self.room)
            .field("under_way", &self.under_way.len())
            .finish_non_exhaustive()
    }
}

impl<T> PublishSink<T> {
    pub(crate) const fn new(room: Room<T>) -> Self {
        Self { room, under_way: VecDeque::new(), space: None }
    }

    /// Takes in acknowledgements as far as they have come.
    fn poll_acknowledged(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while let Some(first) = self.under_way.front_mut() {
            let acknowledged = ready!(Pin::new(first).poll(context));
            self.under_way.pop_front();
            acknowledged?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T> Unpin for PublishSink<T> {}

impl<T: Serialize> Sink<T> for PublishSink<T> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(Err(error)) = self.poll_acknowledged(context) {
            return Poll::Ready(Err(error));
        }
        loop {
            if let Some(space) = &mut self.space {
                ready!(space.as_mut().poll(context));
                self.space = None;
            }
            let shared = &self.room.client().handle().shared;
            let mut freed = Box::pin(freed(Arc::clone(&shared.space)));
            // Polled once, so that it is registered before the outbox is looked at.
            let _ = freed.as_mut().poll(context);
            if shared.with(|core| core.has_space()) {
                return Poll::Ready(Ok(()));
            }
            self.space = Some(freed);
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: T) -> Result<(), Error> {
        let publication = self.room.publish(&message).submit()?;
        self.under_way.push_back(publication);
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_acknowledged(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(context)
    }
}

async fn freed(space: Arc<Notify>) {
    space.notified().await;
}
