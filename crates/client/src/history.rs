//! What was said before, as a stream that turns the pages by itself.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::client::decode;
use crate::core::outbox::{Again, Answer};
use crate::core::rooms::Alive;
use crate::core::wire;
use crate::error::Error;
use crate::event::{self, Event};

/// Messages asked for at once; the server may give fewer.
const PAGE: usize = 100;

/// Messages of a room's log: the newest first, or the oldest first [`after`](Self::after) a place.
///
/// The next page is asked for when the stream is polled and the last one is used up. An `Err` of [`Error::Decode`] is a
/// message that is not of type `T`; any other is the last item.
///
/// *Cancel safety*: `next` loses nothing.
#[must_use = "nothing is asked for until the stream is polled"]
pub struct History<T> {
    alive: Arc<Alive>,
    room: Arc<str>,
    /// Messages still to be yielded.
    left: usize,
    cursor: Cursor,
    page: VecDeque<String>,
    asked: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
    done: bool,
    body: PhantomData<fn() -> T>,
}

#[derive(Clone, Copy, Debug)]
enum Cursor {
    Newest,
    Before(u64),
    After(u64),
}

impl<T> fmt::Debug for History<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("room", &self.room)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

impl<T> History<T> {
    pub(crate) fn new(alive: Arc<Alive>, room: Arc<str>, count: usize) -> Self {
        Self {
            alive,
            room,
            left: count,
            cursor: Cursor::Newest,
            page: VecDeque::new(),
            asked: None,
            done: false,
            body: PhantomData,
        }
    }

    /// Only messages before this offset.
    pub const fn before(mut self, offset: u64) -> Self {
        self.cursor = Cursor::Before(offset);
        self
    }

    /// Only messages after this offset, the oldest first.
    pub const fn after(mut self, offset: u64) -> Self {
        self.cursor = Cursor::After(offset);
        self
    }

    fn ask(&self) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        let mut request = json!({ "type": "history", "room": &*self.room, "limit": self.left.min(PAGE) });
        match self.cursor {
            Cursor::Newest => {}
            Cursor::Before(offset) => request["before"] = json!(offset),
            Cursor::After(offset) => request["after"] = json!(offset),
        }
        let (client, room) = (self.alive.client.clone(), Arc::clone(&self.room));
        client.handle().shared.with(|core| core.uses(&room, &self.alive));
        Box::pin(async move { client.ask(Some(&room), Again::Harmless, request).await })
    }

    fn turn(&mut self, answer: &str) -> Result<(), Error> {
        let page: wire::History<'_> = decode(answer)?;
        let offset = |message: &str| event::position(message).map_or(0, |position| position.offset);
        let ends = page.messages.first().zip(page.messages.last());
        self.done = !page.more || ends.is_none();
        let texts = page.messages.iter().map(|message| message.get().to_owned());
        match (self.cursor, ends) {
            (_, None) => {}
            (Cursor::After(_), Some((_, last))) => {
                self.cursor = Cursor::After(offset(last.get()));
                self.page.extend(texts);
            }
            (_, Some((first, _))) => {
                self.cursor = Cursor::Before(offset(first.get()));
                self.page.extend(texts.rev());
            }
        }
        Ok(())
    }
}

impl<T: DeserializeOwned> Stream for History<T> {
    type Item = Result<Event<T>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.left == 0 {
                return Poll::Ready(None);
            }
            if let Some(message) = self.page.pop_front() {
                self.left -= 1;
                if let Some(event) = event::decode_replayed(&message) {
                    return Poll::Ready(Some(event));
                }
                continue;
            }
            if self.done {
                return Poll::Ready(None);
            }
            if self.asked.is_none() {
                self.asked = Some(self.ask());
            }
            let Some(asked) = &mut self.asked else { continue };
            let answer = ready!(asked.as_mut().poll(context));
            self.asked = None;
            if let Err(error) = answer.and_then(|answer| self.turn(&answer)) {
                self.left = 0;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}
