//! The client that people hold.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::builder::Builder;
use crate::core::Ending;
use crate::core::outbox::{Again, Answer, Frame};
use crate::error::Error;
use crate::publish::{Body, Publish, Target};
use crate::queue::Queue;
use crate::room::Room;
use crate::shared::{Handle, closing_error};
use crate::state::ConnectionState;
use crate::subscription::Subscription;

/// A connection to a hub that comes back by itself, without losing or doubling what goes through it.
///
/// Clones are handles of the same connection. With the last handle (streams, rooms and publishes under way included) the
/// connection is closed and what the outbox still has is dropped; [`close`](Self::close) sends it first.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

impl Client {
    /// Options for a client of the server at `url`, such as `wss://chat.example.com/ws`.
    pub fn builder(url: &str) -> Builder {
        Builder::new(url)
    }

    pub(crate) const fn new(handle: Arc<Handle>) -> Self {
        Self { handle }
    }

    /// Where the connection stands, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.handle.shared.state.subscribe()
    }

    /// Calls `act` with every state that the connection takes, the present one first, until the client ends.
    ///
    /// States that follow each other faster than `act` returns are skipped. It must not block.
    pub fn on_state(&self, mut act: impl FnMut(&ConnectionState) + Send + 'static) {
        let mut states = self.state();
        tokio::spawn(async move {
            loop {
                let state = states.borrow_and_update().clone();
                act(&state);
                if state.is_closed() || states.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Connects, and waits until the client is online, however many attempts it takes.
    ///
    /// # Errors
    /// The client is closed: by [`close`](Self::close), or since coming back would end the same way.
    ///
    /// *Cancel safety*: the client goes on to connect.
    pub async fn ready(&self) -> Result<(), Error> {
        self.handle.shared.order(|core| core.wanted = true);
        let mut states = self.state();
        let state = states.wait_for(|state| state.is_online() || state.is_closed()).await;
        // The sender lives in the handle.
        state.map_or(Err(Error::Closed), |state| closing_error(&state).map_or(Ok(()), Err))
    }

    /// Waits for the first attempt, which ends the client if it fails.
    pub(crate) async fn first_attempt(&self) -> Result<(), Error> {
        self.handle.shared.with(|core| core.strict = true);
        self.ready().await
    }

    /// Makes the next attempt now, if the client waits for one.
    pub fn retry_now(&self) {
        if matches!(*self.handle.shared.state.borrow(), ConnectionState::Offline { .. }) {
            self.handle.shared.order(|core| core.retry_now = true);
        }
    }

    /// A room whose data is of type `T`. Nothing is asked of the server yet.
    pub fn room<T>(&self, name: &str) -> Room<T> {
        Room::new(self.clone(), name)
    }

    /// A private message of data to one user, on all of their devices.
    pub fn direct<T: Serialize + ?Sized>(&self, user: &str, message: &T) -> Publish {
        Publish::new(self.clone(), Target::User(user.into()), Body::data(message))
    }

    /// A private text message to one user.
    pub fn direct_chat(&self, user: &str, content: &str) -> Publish {
        Publish::new(self.clone(), Target::User(user.into()), Ok(Body::Text(content.to_owned())))
    }

    /// The private messages that come for this user and that they send from elsewhere, of all conversations.
    ///
    /// Begins with what is unread, if the stream begins before the client connects.
    ///
    /// # Errors
    /// The client is closed.
    pub fn conversations<T: DeserializeOwned>(&self) -> Result<Subscription<T>, Error> {
        let queue = Arc::new(Queue::new(self.handle.shared.config.buffer));
        self.handle.shared.order(|core| core.follow_conversations(Arc::clone(&queue)))?;
        Ok(Subscription::new(self.clone(), queue))
    }

    /// Asks something of the application: a message of its own type, answered with its data.
    ///
    /// # Errors
    /// What the application says; [`Error::Interrupted`] when the connection broke before the answer came, since nobody
    /// knows then whether the request was carried out; [`Error::TimedOut`].
    ///
    /// *Cancel safety*: what was asked may be carried out.
    pub async fn request<A: DeserializeOwned>(
        &self,
        kind: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<A, Error> {
        #[derive(serde::Deserialize)]
        struct Reply<'a> {
            #[serde(default, borrow)]
            data: Option<&'a RawValue>,
        }
        let data = serde_json::to_value(data).map_err(|error| Error::Encode(Arc::new(error)))?;
        let answer = self.ask(None, Again::Never, json!({ "type": kind, "data": data })).await?;
        let reply: Reply<'_> = decode(&answer)?;
        decode(reply.data.map_or("null", RawValue::get))
    }

    /// Takes a user out of a room, for so many seconds; only moderators may.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn kick(&self, room: &str, user: &str, seconds: u32) -> Result<(), Error> {
        let request = json!({ "type": "kick", "room": room, "user": user, "seconds": seconds });
        self.ask(None, Again::Never, request).await.map(drop)
    }

    /// The slash commands there are, as the server describes them.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub async fn commands(&self) -> Result<Value, Error> {
        let answer = self.ask(None, Again::Harmless, json!({ "type": "commands" })).await?;
        let mut answer: Value = decode(&answer)?;
        Ok(answer["data"].take())
    }

    /// Sends what the outbox has, waits for the acknowledgements, and closes the connection.
    ///
    /// # Errors
    /// [`Error::Unsent`] when some did not come within the builder's `close_timeout`; the client is closed all the same. The
    /// error that had closed the client before, if one had.
    ///
    /// *Cancel safety*: the client goes on to close.
    pub async fn close(&self) -> Result<(), Error> {
        let shared = &self.handle.shared;
        shared.order(|core| {
            if core.ending.is_none() {
                core.ending = Some(Ending::Flush(Instant::now() + shared.config.close_timeout));
            }
        });
        let mut states = self.state();
        let state = states.wait_for(ConnectionState::is_closed).await;
        match state.as_deref() {
            Ok(ConnectionState::Closed { error: Some(error) }) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Makes a request and waits for its answer; `request` gets its id here.
    pub(crate) async fn ask(&self, room: Option<&Arc<str>>, again: Again, mut request: Value) -> Answer {
        let shared = &self.handle.shared;
        let expires = Instant::now() + shared.config.request_timeout;
        let submitted = shared.order(|core| {
            core.submit(room, again, expires, None, |id| {
                request["id"] = id.to_json();
                Frame::Text(request.to_string().into())
            })
        });
        let (_, answer) = submitted?;
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

/// Reads an answer of the server.
pub(crate) fn decode<'a, T: serde::Deserialize<'a>>(json: &'a str) -> Result<T, Error> {
    serde_json::from_str(json).map_err(|source| Error::Decode { source: Arc::new(source), json: json.into() })
}
