//! A handle of a room.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use outspoke_protocol::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::client::{Client, decode};
use crate::core::outbox::Again;
use crate::core::rooms::{self, Alive, Recover, Start};
use crate::error::Error;
use crate::history::History;
use crate::position::Position;
use crate::publish::{Body, Publish, Target};
use crate::queue::Queue;
use crate::sink::PublishSink;
use crate::subscription::Subscription;

/// A room whose data is of type `T`.
///
/// A name and a connection: making one asks nothing of the server. The client comes into the room when it is subscribed to,
/// published to or asked about, and stays for as long as a stream is there, a request is under way, or a handle that has
/// published lives.
pub struct Room<T> {
    name: Arc<str>,
    /// The client, shared by the clones of this handle and what they have under way.
    alive: Arc<Alive>,
    recover: Recover,
    body: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Room<T> {
    fn clone(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            alive: Arc::clone(&self.alive),
            recover: self.recover,
            body: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Room<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<T> Room<T> {
    pub(crate) fn new(client: Client, name: &str) -> Self {
        Self {
            name: name.into(),
            alive: Arc::new(Alive { client }),
            recover: Recover::Replay,
            body: PhantomData,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.alive.client
    }

    /// The client, which stays in the room for as long as this handle lives.
    fn user(&self) -> &Client {
        self.client().handle().shared.with(|core| core.uses(&self.name, &self.alive));
        self.client()
    }

    /// The room's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What streams of this handle get of the times without a connection: everything, by default.
    #[must_use]
    pub const fn recover(mut self, recover: Recover) -> Self {
        self.recover = recover;
        self
    }

    /// A token for this room alone, shown whenever the client comes into it.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.client().handle().shared.with(|core| core.set_room_token(&self.name, token.into(), &self.alive));
        self
    }

    /// Comes into the room and listens: a builder, to be awaited.
    pub fn subscribe(&self) -> Subscribe<T> {
        Subscribe {
            client: self.client().clone(),
            room: Arc::clone(&self.name),
            start: Start::Live,
            recover: self.recover,
            buffer: self.client().handle().shared.config.buffer,
            body: PhantomData,
        }
    }

    /// Publishes data.
    pub fn publish(&self, message: &T) -> Publish
    where
        T: Serialize,
    {
        self.say(Body::data(message))
    }

    /// Publishes data of any type, under a name of the application's own.
    pub fn publish_as<D: Serialize + ?Sized>(&self, event: &str, data: &D) -> Publish {
        self.say(Body::data(data)).event(event)
    }

    /// Publishes bytes as they are.
    pub fn publish_bytes(&self, bytes: impl Into<Bytes>) -> Publish {
        self.say(Ok(Body::Bytes(bytes.into())))
    }

    /// Says something to people.
    pub fn chat(&self, content: &str) -> Publish {
        self.say(Ok(Body::Text(content.to_owned())))
    }

    /// Gives a message of one's own another data.
    pub fn edit(&self, offset: u64, message: &T) -> Publish
    where
        T: Serialize,
    {
        self.say(Body::data(message).map(|body| Body::Edit(offset, Box::new(body))))
    }

    /// Gives a message of one's own another text.
    pub fn edit_chat(&self, offset: u64, content: &str) -> Publish {
        self.say(Ok(Body::Edit(offset, Box::new(Body::Text(content.to_owned())))))
    }

    /// Takes a message of one's own its body.
    pub fn delete(&self, offset: u64) -> Publish {
        self.say(Ok(Body::Delete(offset)))
    }

    /// Adds a reaction to a message: an emoji or another short text.
    pub fn react(&self, offset: u64, reaction: &str) -> Publish {
        self.say(Ok(Body::React { target: offset, reaction: reaction.to_owned(), remove: false }))
    }

    /// Takes a reaction back.
    pub fn unreact(&self, offset: u64, reaction: &str) -> Publish {
        self.say(Ok(Body::React { target: offset, reaction: reaction.to_owned(), remove: true }))
    }

    fn say(&self, body: Result<Body, Error>) -> Publish {
        let target = Target::Room(Arc::clone(&self.name), Arc::clone(&self.alive));
        Publish::new(self.client().clone(), target, body)
    }

    /// Publishes what is sent into it, with as many messages under way as the outbox holds.
    pub fn sink(&self) -> PublishSink<T> {
        PublishSink::new(self.clone())
    }

    /// Messages that were said before, at most `count` of them, the newest first.
    pub fn history(&self, count: usize) -> History<T> {
        History::new(Arc::clone(&self.alive), Arc::clone(&self.name), count)
    }

    /// Who is in the room: a page of users in the order of their ids, after a user's id if one is given.
    ///
    /// # Errors
    /// What the server says; [`Error::TimedOut`].
    ///
    /// *Cancel safety*: nothing happens.
    pub async fn presence(&self, after: Option<&str>, limit: u32) -> Result<Presence, Error> {
        let mut request = json!({ "type": "presence", "room": &*self.name, "limit": limit });
        if let Some(after) = after {
            request["after"] = json!(after);
        }
        decode(&self.user().ask(Some(&self.name), Again::Harmless, request).await?)
    }

    /// How far the room's users have received and read, as the server describes it, after a user's id if one is given.
    ///
    /// # Errors
    /// As [`presence`](Self::presence).
    pub async fn receipts(&self, after: Option<&str>, limit: u32) -> Result<Receipts, Error> {
        let mut request = json!({ "type": "receipts", "room": &*self.name, "limit": limit });
        if let Some(after) = after {
            request["after"] = json!(after);
        }
        decode(&self.user().ask(Some(&self.name), Again::Harmless, request).await?)
    }

    /// Tells the room that you are typing, or no longer are. Not kept: returns whether it was sent, which it is only while
    /// the client is in the room. To be repeated every few seconds.
    pub fn typing(&self, active: bool) -> bool {
        let frame = json!({ "type": "typing", "room": &*self.name, "active": active }).to_string();
        self.client().handle().shared.order(|core| core.send_volatile(&self.name, frame))
    }

    /// Says that this user has read all messages up to `offset`.
    ///
    /// # Errors
    /// What the server says; [`Error::TimedOut`].
    ///
    /// *Cancel safety*: it may be said.
    pub async fn seen(&self, offset: u64) -> Result<(), Error> {
        self.receipt("seen", offset).await
    }

    /// Says that a device of this user has all messages up to `offset`.
    ///
    /// # Errors
    /// As [`seen`](Self::seen).
    pub async fn delivered(&self, offset: u64) -> Result<(), Error> {
        self.receipt("delivered", offset).await
    }

    async fn receipt(&self, kind: &str, offset: u64) -> Result<(), Error> {
        let request = json!({ "type": kind, "room": &*self.name, "offset": offset });
        // Places only move forward, so saying it twice says the same.
        self.user().ask(Some(&self.name), Again::Harmless, request).await.map(drop)
    }
}

/// A stream that is about to begin: await it.
#[must_use = "nobody listens until this is awaited"]
pub struct Subscribe<T> {
    client: Client,
    room: Arc<str>,
    start: Start,
    recover: Recover,
    buffer: usize,
    body: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Subscribe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribe")
            .field("room", &self.room)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl<T> Subscribe<T> {
    /// Begins with so many of the room's newest messages.
    pub const fn last(mut self, count: u32) -> Self {
        self.start = Start::Last(count);
        self
    }

    /// Begins after this place, which was remembered from a [`Subscription::position`].
    pub const fn since(mut self, position: Position) -> Self {
        self.start = Start::Since(position);
        self
    }

    /// How many events the stream holds before it falls back on history, if not what the builder says.
    pub const fn buffer(mut self, events: usize) -> Self {
        self.buffer = events;
        self
    }
}

impl<T: DeserializeOwned> IntoFuture for Subscribe<T> {
    type Output = Result<Subscription<T>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    /// Waits until the client is in the room, through reconnects and refusals of the moment. Dropping the future gives it up.
    fn into_future(self) -> Self::IntoFuture {
        let Self { client, room, start, recover, buffer, body: _ } = self;
        Box::pin(async move {
            let queue = Arc::new(Queue::new(buffer));
            let (ready, joined) = oneshot::channel();
            let subscription = rooms::Subscription {
                queue: Arc::clone(&queue),
                start,
                recover,
                ready: Some(ready),
                shared: false,
            };
            // From here on the stream leaves the room when it is dropped, this future's end included.
            let stream = Subscription::new(client.clone(), queue);
            client.handle().shared.order(|core| core.subscribe(&room, subscription))?;
            joined.await.unwrap_or(Err(Error::Closed))?;
            Ok(stream)
        })
    }
}

/// A page of who is in a room.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Presence {
    /// Users in the room.
    pub user_count: u64,
    /// Connections in the room.
    pub members: u64,
    /// The page.
    pub users: Vec<Present>,
    /// What the next page is `after`, if there is one.
    #[serde(default)]
    pub next: Option<String>,
}

/// A user in a room.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Present {
    /// The user's id.
    pub user_id: String,
    /// The name that others see; empty for none.
    #[serde(default)]
    pub username: String,
    /// False for somebody who is expected back.
    pub online: bool,
    /// Since when, or, of who is away, since when they are.
    pub since: Timestamp,
    /// The connections.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// What the credential or the application says of the user.
    #[serde(default)]
    pub info: Option<Box<RawValue>>,
}

/// A connection of a user.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Device {
    /// The connection's id.
    pub client_id: String,
    /// The device's name, if it has one.
    #[serde(default)]
    pub device: Option<String>,
    /// The name of the server that it is connected to, if several act as one.
    #[serde(default)]
    pub node: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// A page of how far users are.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct Receipts {
    /// The page.
    pub users: Vec<Progress>,
    /// What the next page is `after`, if there is one.
    #[serde(default)]
    pub next: Option<String>,
}

/// How far a user is.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Progress {
    /// The user's id.
    pub user_id: String,
    /// The last message that a device of theirs has; 0 for none.
    pub delivered: u64,
    /// The last message that they have read; 0 for none.
    pub seen: u64,
}
