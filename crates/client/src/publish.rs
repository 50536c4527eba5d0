//! Saying something, and hearing what became of it.
//!
//! A [`Publish`] is the message and its options; awaiting it puts it into the outbox and waits for the acknowledgement.
//! From the outbox on the message is the client's: it is sent again after every reconnect under the same idempotency key,
//! so that it is published once, until it is acknowledged, refused, or too old.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use outspoke_protocol::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::client::{Client, decode};
use crate::core::outbox::{Again, Answer, Frame, Overflow};
use crate::core::rooms::Alive;
use crate::core::wire::{WireAck, WireId};
use crate::error::Error;
use crate::position::Position;

/// Where a message goes.
#[derive(Clone)]
pub(crate) enum Target {
    Room(Arc<str>, Arc<Alive>),
    User(Arc<str>),
}

impl Target {
    fn address(&self) -> Address<'_> {
        match self {
            Self::Room(room, _) => (Some(room), None),
            Self::User(user) => (None, Some(user)),
        }
    }
}

/// What is said.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Text(String),
    Data(Box<RawValue>),
    Bytes(Bytes),
    Edit(u64, Box<Self>),
    Delete(u64),
    React { target: u64, reaction: String, remove: bool },
}

impl Body {
    pub(crate) fn data<T: Serialize + ?Sized>(data: &T) -> Result<Self, Error> {
        serde_json::value::to_raw_value(data).map(Self::Data).map_err(|error| Error::Encode(Arc::new(error)))
    }
}

/// The server's word that a message is published, as lasting as its room's durability.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ack {
    /// The message's id, the same for everybody.
    pub message: Arc<str>,
    /// The room; that of the conversation, for a private message.
    pub room: Arc<str>,
    /// The message's place in the room's log, if it has one.
    pub position: Option<Position>,
    /// The server's time, if it was said.
    pub timestamp: Option<Timestamp>,
    /// Whether it was published by an earlier sending already, and not again.
    pub duplicate: bool,
    /// The whole answer as it came, as JSON: for a slash command, it is the command's own.
    pub json: Arc<str>,
}

/// A message that is not sent yet: await it, or [`submit`](Self::submit) it.
///
/// *Cancel safety* of the future: once polled, the message is in the outbox and will be sent; only its acknowledgement is
/// not seen. With [`Overflow::Wait`], dropped before there was room, it is not sent.
#[must_use = "nothing is sent until this is awaited or submitted"]
pub struct Publish {
    client: Client,
    target: Target,
    body: Result<Body, Error>,
    event: Option<String>,
    key: Option<String>,
    timeout: Option<Duration>,
    volatile: bool,
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Publish {
    pub(crate) const fn new(client: Client, target: Target, body: Result<Body, Error>) -> Self {
        Self { client, target, body, event: None, key: None, timeout: None, volatile: false }
    }

    /// The idempotency key, 1 to 64 bytes: the same message under the same key is published once. Random by default.
    pub fn id(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Publishes under a name of the application's own, of 1 to 64 letters, digits and `_.:-`: receivers find it in
    /// [`Message::kind`](crate::Message::kind).
    pub fn event(mut self, name: &str) -> Self {
        self.event = Some(name.to_owned());
        self
    }

    /// How long the message may take to be acknowledged, if that is shorter than the builder's `message_ttl`: from the first
    /// poll or [`submit`](Self::submit) on, and with it the wait for room.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the message now or not at all: it has no key, waits for no connection, and fails with one.
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Puts the message into the outbox at once, without waiting for anything.
    ///
    /// # Errors
    /// The value is not JSON, the client is closed, or the outbox is full (also with [`Overflow::Wait`]).
    pub fn submit(mut self) -> Result<Publication, Error> {
        self.try_submit(self.expires())
    }

    /// When the message is too old, if its time begins now.
    fn expires(&self) -> Instant {
        let ttl = self.client.handle().shared.config.message_ttl;
        Instant::now() + self.timeout.map_or(ttl, |timeout| timeout.min(ttl))
    }

    fn try_submit(&mut self, expires: Instant) -> Result<Publication, Error> {
        let body = self.body.as_ref().map_err(Clone::clone)?;
        let shared = &self.client.handle().shared;
        let room = match &self.target {
            Target::Room(room, _) => Some(room),
            Target::User(_) => None,
        };
        let (key, id, answer) = shared.order(|core| {
            if let Target::Room(room, alive) = &self.target {
                core.uses(room, alive);
            }
            if self.volatile && !core.is_ready(room.map(|room| &**room)) {
                return Err(Error::NotConnected);
            }
            let key = self.key.get_or_insert_with(|| core.key()).clone();
            let idempotency_key = (!self.volatile).then_some(&*key);
            let frame = |id: WireId<'_>| {
                frame(&id, self.target.address(), body, self.event.as_deref(), idempotency_key)
            };
            let again = if self.volatile { Again::Never } else { Again::Keyed };
            let (id, answer) = core.submit(room, again, expires, Some(&key), frame)?;
            Ok::<_, Error>((key, id, answer))
        })?;
        Ok(Publication { client: self.client.clone(), key, id, answer })
    }

    /// Puts the message into the outbox, waiting for room if that is what is to be done.
    async fn submit_or_wait(mut self) -> Result<Publication, Error> {
        let client = self.client.clone();
        let shared = &client.handle().shared;
        let expires = self.expires();
        if shared.config.overflow != Overflow::Wait {
            return self.try_submit(expires);
        }
        let late = |_| Error::TimedOut { sent: false };
        let _turn = timeout_at(expires, shared.turn.lock()).await.map_err(late)?;
        loop {
            let freed = shared.space.notified();
            tokio::pin!(freed);
            // Registered before looking, so that no release is missed in between.
            freed.as_mut().enable();
            match self.try_submit(expires) {
                Err(Error::OutboxFull { .. }) => {}
                done => return done,
            }
            timeout_at(expires, freed).await.map_err(late)?;
        }
    }
}

impl IntoFuture for Publish {
    type Output = Result<Ack, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.submit_or_wait().await?.await })
    }
}

/// A message in the outbox, or further: a future of its acknowledgement.
///
/// Dropping it leaves the message to be sent.
#[derive(Debug)]
pub struct Publication {
    client: Client,
    key: String,
    id: i64,
    answer: oneshot::Receiver<Answer>,
}

impl Publication {
    /// The message's idempotency key, known before anything is sent.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.key
    }

    /// Takes the message back, if it was not sent yet. Returns whether it was taken back.
    pub fn cancel(self) -> bool {
        self.client.handle().shared.with(|core| core.outbox.cancel(self.id))
    }
}

impl Future for Publication {
    type Output = Result<Ack, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.unwrap_or(Err(Error::Closed)).and_then(|json| ack(&json)))
    }
}

fn ack(json: &str) -> Result<Ack, Error> {
    let wire: WireAck = decode(json)?;
    let position = wire.epoch.zip(wire.offset).map(|(epoch, offset)| Position { epoch, offset });
    Ok(Ack {
        message: wire.message_id.into(),
        room: wire.room.unwrap_or_default().into(),
        position,
        timestamp: wire.timestamp,
        duplicate: wire.duplicate,
        json: json.into(),
    })
}

/// A request on the wire, in the order of the protocol's tables.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reaction: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    remove: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<&'a str>,
}

/// The room, or the user, that a message is for.
type Address<'a> = (Option<&'a str>, Option<&'a str>);

fn frame(
    id: &WireId<'_>,
    (room, to): Address<'_>,
    body: &Body,
    event: Option<&str>,
    key: Option<&str>,
) -> Frame {
    let direct = to.is_some();
    let mut request = Request {
        kind: if direct { "direct" } else { "publish" },
        id: id.to_json(),
        event,
        room,
        to,
        offset: None,
        content: None,
        data: None,
        reaction: None,
        remove: false,
        idempotency_key: key,
    };
    let said = match body {
        Body::Edit(target, said) => {
            (request.kind, request.offset) = ("edit", Some(*target));
            said
        }
        said => said,
    };
    match said {
        Body::Text(content) => {
            request.content = Some(content);
            if request.offset.is_none() && !direct {
                request.kind = "chat";
            }
        }
        Body::Data(data) => request.data = Some(data),
        Body::Delete(target) => (request.kind, request.offset) = ("delete", Some(*target)),
        Body::React { target, reaction, remove } => {
            (request.kind, request.offset) = ("react", Some(*target));
            (request.reaction, request.remove) = (Some(reaction.as_str()), *remove);
        }
        Body::Bytes(_) | Body::Edit(..) => {}
    }
    let json = serde_json::to_string(&request).expect("texts, numbers and JSON are JSON");
    match said {
        Body::Bytes(bytes) => binary_frame(&json, bytes),
        _ => Frame::Text(json.into()),
    }
}

/// Two bytes with the header's length, the header, the bytes.
fn binary_frame(header: &str, bytes: &Bytes) -> Frame {
    let mut frame = BytesMut::with_capacity(2 + header.len() + bytes.len());
    // A header that does not fit is longer than the server's frames: it is refused before it is sent.
    frame.put_u16(u16::try_from(header.len()).unwrap_or(u16::MAX));
    frame.put_slice(header.as_bytes());
    frame.put_slice(bytes);
    Frame::Binary(frame.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(address: Address<'_>, body: &Body, event: Option<&str>) -> String {
        match frame(&WireId::Number(7), address, body, event, Some("k")) {
            Frame::Text(text) => text.to_string(),
            Frame::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    const fn room() -> Address<'static> {
        (Some("r"), None)
    }

    #[test]
    fn frames_are_those_of_the_protocol() {
        let chat = Body::Text("hi".to_owned());
        let data = Body::data(&[1, 2]).unwrap();
        assert_eq!(
            text(room(), &chat, None),
            r#"{"type":"chat","id":7,"room":"r","content":"hi","idempotencyKey":"k"}"#
        );
        assert_eq!(
            text(room(), &data, Some("score")),
            r#"{"type":"publish","id":7,"event":"score","room":"r","data":[1,2],"idempotencyKey":"k"}"#
        );
        assert_eq!(
            text((None, Some("bob")), &chat, None),
            r#"{"type":"direct","id":7,"to":"bob","content":"hi","idempotencyKey":"k"}"#
        );
        assert_eq!(
            text(room(), &Body::Edit(3, Box::new(chat)), None),
            r#"{"type":"edit","id":7,"room":"r","offset":3,"content":"hi","idempotencyKey":"k"}"#
        );
        let react = Body::React { target: 3, reaction: "+1".to_owned(), remove: true };
        assert_eq!(
            text(room(), &react, None),
            r#"{"type":"react","id":7,"room":"r","offset":3,"reaction":"+1","remove":true,"idempotencyKey":"k"}"#
        );
    }

    #[test]
    fn bytes_follow_their_header_and_its_length() {
        let header = r#"{"type":"publish","id":7,"room":"r","idempotencyKey":"k"}"#;
        let expected = format!("\0{}{header}abc", char::from(u8::try_from(header.len()).unwrap()));
        assert_eq!(text(room(), &Body::Bytes(Bytes::from_static(b"abc")), None), expected);
    }
}
