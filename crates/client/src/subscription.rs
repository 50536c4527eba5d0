//! A room's events as a stream.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::Error;
use crate::event::{self, Event};
use crate::position::Position;
use crate::queue::{Item, Queue};

/// What happens in a room, from the place where the stream began, without holes that are not said ([`Event::Gap`]).
///
/// An `Err` of [`Error::Decode`] is a message that is not of type `T`; the stream goes on. Any other is its last item.
/// Dropping the stream leaves the room, unless another stream or a publishing handle is there. A stream that is not polled
/// holds up nothing: beyond its buffer it is fed from the room's history later.
///
/// *Cancel safety*: `next` loses nothing.
#[must_use = "a stream that is dropped leaves its room"]
pub struct Subscription<T> {
    client: Client,
    queue: Arc<Queue>,
    position: Option<Position>,
    body: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<T> Subscription<T> {
    pub(crate) const fn new(client: Client, queue: Arc<Queue>) -> Self {
        Self { client, queue, position: None, body: PhantomData }
    }

    /// The place of the last message, or gap, that was yielded: what to give
    /// [`since`](crate::Subscribe::since) in another process to go on from here.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.position
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.queue.close();
        self.client.handle().shared.bell.notify_one();
    }
}

impl<T: DeserializeOwned> Stream for Subscription<T> {
    type Item = Result<Event<T>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let (item, made_room) = ready!(self.queue.poll_pop(context));
            if made_room {
                self.client.handle().shared.bell.notify_one();
            }
            let Some(item) = item else { return Poll::Ready(None) };
            match &item {
                Item::Frame { json, .. } => self.position = event::position(json).or(self.position),
                Item::Gap(gap) => self.position = Some(gap.to),
                Item::Joined(joined) if self.position.is_none() => self.position = Some(joined.position),
                Item::Joined(_) | Item::End(_) => {}
            }
            if let Some(event) = event::decode(item) {
                return Poll::Ready(Some(event));
            }
        }
    }
}
