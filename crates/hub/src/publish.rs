//! Publishing to a room in the application's name.
//!
//! The order is made when [`Hub::publish`] is called, not when its answer is awaited: a room that is not stored answers
//! at once, one that is when the message is durable.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use outspoke_protocol::{
    Body, ClientId, ErrorCode, History, Kind, Message, MessageId, PageFrom, Publisher, Refusal, RoomName,
    UserId, encode_record,
};
use outspoke_store::Record;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::amend::Change;
use crate::direct;
use crate::error::PublishError;
use crate::hub::{Hub, Inner};
use crate::keeper::{Amendment, NotQueued, Origin, Submission};
use crate::room::amend::Amending;
use crate::room::load::Need;
use crate::room::{Draft, Published, Room, facts_of};
use crate::spans::TRACE_TARGET;
use crate::stats::count;
use crate::tenant::count_soon;

/// A message to publish, and what is said of it beside its body.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Publication {
    /// What sort of message it is.
    pub kind: Kind,
    /// What it says.
    pub body: Body,
    /// Who says it; `None`: the application itself.
    pub from: Option<Publisher>,
    /// The application's own name for it: a second one with the same name publishes nothing, for at least 5 minutes and
    /// 10,000 names in the room. At most 128 bytes.
    pub key: Option<Bytes>,
    /// Whether it counts for its room as what clients say does ([`RateConfig::room`](crate::RateConfig::room)).
    pub limited: bool,
}

impl Publication {
    /// A message without a name of its own.
    #[must_use]
    pub fn new(kind: Kind, body: Body) -> Self {
        Self { kind, body, from: None, key: None, limited: false }
    }

    /// The same message, said by a user, whom the application speaks for.
    #[must_use]
    pub fn by(mut self, user: UserId, name: impl Into<ecow::EcoString>) -> Self {
        // No connection has this id.
        self.from = Some(Publisher { user, name: name.into(), client: ClientId::from_u128(0) });
        self
    }

    /// The same message, as one that its user says without a connection: it counts for its room.
    #[must_use]
    pub fn limited(mut self) -> Self {
        self.limited = true;
        self
    }

    /// The same message, published only once under this name.
    #[must_use]
    pub fn once(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// A published message on its way; await it to learn what became of it.
///
/// # Cancel safety
/// The message is on its way already. Dropping this gives up the news, not the message.
#[derive(Debug)]
pub struct Publishing(State);

#[derive(Debug)]
enum State {
    Done(Option<Published>),
    Waiting(oneshot::Receiver<Result<Published, PublishError>>),
}

impl Publishing {
    /// What became of the message, if that is known without waiting: always, in a room that is not stored.
    #[must_use]
    pub fn now(&self) -> Option<&Published> {
        match &self.0 {
            State::Done(published) => published.as_ref(),
            State::Waiting(_) => None,
        }
    }
}

impl Future for Publishing {
    type Output = Result<Published, PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Done(published) => {
                Poll::Ready(Ok(published.take().expect("a future is not polled after it was ready")))
            }
            State::Waiting(outcome) => {
                Pin::new(outcome).poll(context).map(|outcome| outcome.unwrap_or(Err(PublishError::Unknown)))
            }
        }
    }
}

impl Hub {
    /// Publishes a message to a room, in the application's name.
    ///
    /// The message is on its way when this returns; await what it returns to know that it is kept as the room's class
    /// promises. A room that keeps messages takes them without members, too; another one drops them.
    ///
    /// # Ordering
    /// Every member, on every shard, sees the room's messages in the order of their offsets. Calls from one
    /// thread keep their order.
    ///
    /// # Errors
    /// The name is no room name, or the hub is overloaded or stopping: nobody gets the message. Awaiting it, besides:
    /// the store is full or away, and the message was not kept and not delivered; or it is [unknown](PublishError::Unknown)
    /// whether it was.
    pub fn publish(&self, room: &str, kind: Kind, body: Body) -> Result<Publishing, PublishError> {
        self.publish_once(room, Publication::new(kind, body))
    }

    /// Publishes a message as [`publish`](Self::publish) does, with what else is to be said of it.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub fn publish_once(&self, room: &str, publication: Publication) -> Result<Publishing, PublishError> {
        let _span = tracing::debug_span!(target: TRACE_TARGET, "publish", by = "application").entered();
        let name = self.inner.room_name(room)?;
        self.check_open()?;
        check_reserved(&name)?;
        let Publication { kind, body, from, key, limited } = publication;
        // No client's key begins with this byte.
        let key = key.map(|key| [&[0], &key[..]].concat().into());
        let draft = Draft { kind, from, body, details: None, key };
        let keeps = self.inner.config().rooms.of(name.as_str()).keeps();
        let room = match self.tenant.directory.get(name.as_str()) {
            Some(room) => room,
            None if keeps => {
                let room = self.tenant.directory.open(&self.inner, &name)?;
                self.inner.idle.put(&room, room.lingers());
                room
            }
            None => {
                let ts = self.inner.now();
                let published =
                    Published { id: MessageId::random(), position: None, ts, members: 0, duplicate: false };
                return Ok(Publishing(State::Done(Some(published))));
            }
        };
        self.publish_in(&room, draft, limited)
    }

    /// A page of a room's log, each message in its present state.
    ///
    /// # Errors
    /// The name is no room name, or what the room has cannot be read now.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn history(&self, room: &str, from: PageFrom, limit: usize) -> Result<History, PublishError> {
        let name = self.inner.room_name(room)?;
        let limit = limit.min(self.inner.config().history_page_max);
        let room = match self.tenant.directory.get(name.as_str()) {
            Some(room) => room,
            None => {
                let room = self.tenant.directory.open(&self.inner, &name)?;
                self.inner.idle.put(&room, room.lingers());
                room
            }
        };
        room.page(&self.inner, None, from, limit).await.map_err(|error| PublishError::from(&error))
    }

    /// Gives an earlier message of a room another body, in the application's name; members are told.
    ///
    /// # Errors
    /// There is no such message (any more), its body is of another sort, or what keeps the room is full or away; or it is
    /// [unknown](PublishError::Unknown) whether it was done, and may be done again.
    ///
    /// # Cancel safety
    /// The change is on its way when this is first polled; dropping the future gives up the news.
    pub async fn edit(&self, room: &str, offset: u64, body: Body) -> Result<Published, PublishError> {
        self.amend(room, offset, Change::Edit(body), None, true).await
    }

    /// Takes the body of an earlier message of a room away, in the application's name; members are told.
    ///
    /// # Errors
    /// There is no such message (any more), or what keeps the room is full or away; or unknown, as with
    /// [`edit`](Self::edit).
    ///
    /// # Cancel safety
    /// As [`edit`](Self::edit).
    pub async fn delete(&self, room: &str, offset: u64) -> Result<Published, PublishError> {
        self.amend(room, offset, Change::Delete, None, true).await
    }

    /// `by`: `None` for the application. `moderates`: others' messages may be deleted.
    pub(crate) async fn amend(
        &self,
        room: &str,
        target: u64,
        change: Change,
        by: Option<Publisher>,
        moderates: bool,
    ) -> Result<Published, PublishError> {
        let name = self.inner.room_name(room)?;
        self.check_open()?;
        let room = self.tenant.directory.open(&self.inner, &name)?;
        self.inner.idle.put(&room, room.lingers());
        if by.is_some() {
            self.inner.check_room_rate(&room).map_err(PublishError::Refused)?;
        }
        room.meter.message().map_err(|exceeded| PublishError::Refused(exceeded.into()))?;
        let amending = Amending { target, change, by, moderates, key: None };
        let Some(keeper) = &room.keeper else {
            return room.amend(&self.inner, &amending).map_err(PublishError::Refused);
        };
        if !room.is_known() {
            let read = room.prepare(&self.inner, Need::State).await;
            read.map_err(|error| PublishError::from(&error))?;
        }
        let (done, outcome) = oneshot::channel();
        let deadline = Instant::now() + self.inner.config().store_timeout;
        let origin = Origin::Api(done);
        let amendment = Amendment { room: Arc::clone(&room), amending, origin, deadline };
        keeper.submit_amendment(Box::new(amendment))?;
        outcome.await.unwrap_or(Err(PublishError::Unknown))
    }

    /// Sends a private message in a user's name: to every connected device of both, and kept for those that are not
    /// connected. Whether there are such users the hub cannot know.
    ///
    /// # Ordering
    /// As [`publish`](Self::publish), for the conversation of the two.
    ///
    /// # Errors
    /// An id is no user's, private messages are switched off, or the hub is overloaded or stopping; awaiting it, as
    /// with [`publish`](Self::publish).
    pub fn direct(&self, from: &str, to: &str, publication: Publication) -> Result<Publishing, PublishError> {
        self.check_open()?;
        let from = UserId::new(from);
        let name = direct::conversation(&self.inner, &from, to).map_err(PublishError::Refused)?;
        let room = self.tenant.directory.open(&self.inner, &name)?;
        let limited = publication.limited;
        let draft = direct::draft(&self.inner, &self.tenant.name, &from, publication);
        let publishing = self.publish_in(&room, draft, limited);
        if let Some(keeper) = &room.keeper {
            self.inner.idle.put(&room, room.lingers());
            if !room.is_read() {
                // The author has read it, also if nobody is there for whom the room would be read.
                let (room, hub) = (Arc::clone(&room), Arc::clone(&self.inner));
                keeper.spawn(async move { drop(room.prepare(&hub, Need::Cursors).await) });
            }
        }
        publishing
    }

    fn publish_in(&self, room: &Arc<Room>, draft: Draft, limited: bool) -> Result<Publishing, PublishError> {
        if limited {
            self.inner.check_room_rate(room).map_err(PublishError::Refused)?;
        }
        room.meter.message().map_err(|exceeded| PublishError::Refused(exceeded.into()))?;
        count(&self.inner.doors.published, 1);
        if room.keeper.is_none() {
            let published = room.publish(&self.inner, draft);
            if published.members == 0 && room.keeps() {
                // From now on there is something to keep.
                self.inner.idle.put(room, room.lingers());
            }
            return Ok(Publishing(State::Done(Some(published))));
        }
        let (done, outcome) = oneshot::channel();
        submit(&self.inner, room, draft, Origin::Api(done)).map_err(|error| match error {
            NotSubmitted::NotQueued(error) => error.into(),
            NotSubmitted::Quota(refusal) => PublishError::Refused(refusal),
        })?;
        Ok(Publishing(State::Waiting(outcome)))
    }
}

/// Names of conversations are made by the hub; nobody could come into another room with that sign.
fn check_reserved(name: &RoomName) -> Result<(), PublishError> {
    if !direct::is_reserved(name.as_str()) || direct::Pair::parse(name.as_str()).is_some() {
        return Ok(());
    }
    let detail = "names that begin with @ are those of private conversations";
    Err(PublishError::Refused(Refusal::new(ErrorCode::Forbidden, detail)))
}

/// Why a message was not given to its keeper: nobody will hear of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotSubmitted {
    /// The store cannot keep up, or nobody writes to it any more.
    NotQueued(NotQueued),
    /// The tenant has stored what it may.
    Quota(Refusal),
}

/// Gives a message of a stored room to its keeper.
pub(crate) fn submit(
    hub: &Inner,
    room: &Arc<Room>,
    draft: Draft,
    origin: Origin,
) -> Result<(), NotSubmitted> {
    let Some(keeper) = &room.keeper else { return Err(NotSubmitted::NotQueued(NotQueued::Closed)) };
    let key = draft.key.clone();
    let message = room.message(draft, hub.now());
    let record = record_of(&message, key);
    let deadline = Instant::now() + hub.config().store_timeout;
    let mut facts = direct::facts(hub, room, &message);
    facts.append(&mut facts_of(room, &message));
    if room.meter.is_uncounted() {
        count_soon(&hub.keepers, &room.tenant, &room.meter);
    }
    let charge = room.meter.store(record.payload.len() as u64).map_err(|exceeded| {
        // Trimming by age, or erasing, may have made room that was not heard of.
        count_soon(&hub.keepers, &room.tenant, &room.meter);
        NotSubmitted::Quota(exceeded.into())
    })?;
    let room = Arc::clone(room);
    let accepted = std::time::Instant::now();
    let span = tracing::debug_span!(target: TRACE_TARGET, "store append", store = %keeper.name);
    let submission = Submission { room, message, record, origin, facts, charge, accepted, deadline, span };
    keeper.submit(Box::new(submission)).map_err(NotSubmitted::NotQueued)
}

/// A message as its store gets it.
pub(crate) fn record_of(message: &Message, key: Option<Bytes>) -> Record {
    let mut payload = Vec::with_capacity(128 + message.body.len());
    encode_record(message, &mut payload);
    Record {
        id: message.id.as_u128(),
        key,
        author: message
            .from
            .as_ref()
            .map(|from| ecow::EcoString::from(from.user.as_str()))
            .unwrap_or_default(),
        ts: message.ts.as_millis(),
        counted: message.kind.is_said(),
        payload: Bytes::from(payload),
    }
}
