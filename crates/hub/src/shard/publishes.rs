//! What clients publish: judged, placed or given to the room's keeper, answered.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use ecow::{EcoString, eco_format};
use outspoke_protocol::{Acknowledgement, Body, BodyRef, ErrorCode, Event, Kind, Refusal, RequestId};

use super::connection::{Stall, Waiting};
use super::joins::refusal_of;
use super::receive::Flow;
use super::{Key, Shard};
use crate::client::Client;
use crate::error::JoinError;
use crate::keeper::Origin;
use crate::policy::Action;
use crate::publish::{NotSubmitted, submit};
use crate::review::Proposal;
use crate::room::{Draft, Published, Room};
use crate::spans::TRACE_TARGET;
use crate::stats::count;

/// Messages of one connection that its stores may have to answer for; with more it is not read from.
const UNANSWERED_MAX: u32 = 256;

impl Shard {
    pub(super) fn publish(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: Option<Cow<'_, str>>,
        kind: Kind,
        body: BodyRef<'_>,
        name: Option<&str>,
    ) -> Result<Flow, Refusal> {
        let _span = tracing::debug_span!(target: TRACE_TARGET, "publish", by = "client").entered();
        self.check_serving()?;
        let room = self.room_to_publish(key, room.as_deref())?;
        self.say_in(key, id, &room, kind, body, name)
    }

    /// Says something in a room, of which the client need not be a member.
    pub(super) fn say_in(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Arc<Room>,
        kind: Kind,
        body: BodyRef<'_>,
        name: Option<&str>,
    ) -> Result<Flow, Refusal> {
        self.may(key, Action::Publish, room)?;
        let client = Arc::clone(&self.connections[key.slot as usize].client);
        check_size(room, &body)?;
        self.check_kind(&kind)?;
        if matches!(kind, Kind::Chat | Kind::Action) {
            self.check_chat(&client.name(), &body)?;
        }
        let key_of_message = name.map(|name| key_of(&client, name));
        let draft = Draft {
            kind,
            from: Some(client.publisher()),
            body: owned(body),
            details: None,
            key: key_of_message,
        };
        self.place(key, id, room, draft)
    }

    /// What a handler makes of its type, members take for the application's word: nobody gets round it.
    fn check_kind(&self, kind: &Kind) -> Result<(), Refusal> {
        match kind {
            Kind::Custom(name) if self.hub.dispatcher.get(name).is_some() => {
                let detail = eco_format!("{name:?} has a handler of its own: send it as a request's type");
                Err(Refusal::new(ErrorCode::BadRequest, detail))
            }
            _ => Ok(()),
        }
    }

    /// Whether messages are accepted.
    pub(super) fn check_serving(&self) -> Result<(), Refusal> {
        if !self.is_stopping() {
            return Ok(());
        }
        // Once the last shard has said so, members are told goodbye: what came later would reach some and not others.
        let detail = "the server is stopping: nobody got this; send it again after reconnecting";
        Err(Refusal::new(ErrorCode::Unavailable, detail))
    }

    /// Gives a client's message to its room, once whoever must be asked allows it.
    pub(super) fn place(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Arc<Room>,
        draft: Draft,
    ) -> Result<Flow, Refusal> {
        match self.hub.asks.publish {
            true => self.ask_to_say(key, id, room, draft),
            false => self.place_reviewed(key, id, room, draft),
        }
    }

    /// Gives a client's message to its room, once whoever wants to see it has.
    pub(super) fn place_reviewed(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Arc<Room>,
        draft: Draft,
    ) -> Result<Flow, Refusal> {
        let (Some(reviewer), Some(name)) = (self.hub.reviewer_of(&draft.kind).cloned(), room.name.clone())
        else {
            return self.place_now(key, id, room, draft);
        };
        let client = &self.connections[key.slot as usize].client;
        let (tenant, user) = (client.tenant.name.clone(), client.user().clone());
        let proposal =
            Proposal { tenant, user, room: name, kind: draft.kind.clone(), body: draft.body.clone() };
        let looking = Box::pin(async move { reviewer.review(proposal).await });
        let said = Some(Box::new((Arc::clone(room), draft)));
        self.wait_for(key, Waiting::Review(looking, said), id.cloned());
        self.poll_soon(key);
        Ok(Flow::Stalled)
    }

    /// Gives a client's message to its room, or to the room's keeper.
    pub(super) fn place_now(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Arc<Room>,
        draft: Draft,
    ) -> Result<Flow, Refusal> {
        let hub = Arc::clone(&self.hub);
        hub.check_room_rate(room)?;
        room.meter.message()?;
        count(&self.counters().published, 1);
        if room.keeper.is_some() {
            let origin = Origin::Client { shard: self.index, key, request: id.cloned() };
            submit(&hub, room, draft, origin).map_err(|error| match error {
                NotSubmitted::Quota(refusal) => refusal,
                NotSubmitted::NotQueued(error) => error.into(),
            })?;
            return Ok(self.count_unanswered(key));
        }
        let published = room.publish(&hub, draft);
        self.acknowledge(key, id, room, &published);
        Ok(if self.hub.congestion.is_congested() { self.throttle(key) } else { Flow::Continue })
    }

    /// Tells a publisher what became of its message, if it wants to know.
    pub(super) fn acknowledge(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Room,
        published: &Published,
    ) {
        if let (Some(request), Some(name), Some(position)) = (id, &room.name, published.position) {
            let acknowledgement = Acknowledgement {
                request: request.clone(),
                room: name.clone(),
                id: published.id,
                position,
                ts: published.ts,
                duplicate: published.duplicate,
            };
            self.reply(key.slot, &Event::Acknowledged(acknowledgement));
        }
    }

    /// One message more for whose answer the connection waits.
    pub(super) fn count_unanswered(&mut self, key: Key) -> Flow {
        let connection = &mut self.connections[key.slot as usize];
        connection.unanswered += 1;
        if connection.unanswered < UNANSWERED_MAX {
            return if self.hub.congestion.is_congested() { self.throttle(key) } else { Flow::Continue };
        }
        let stall =
            connection.stall.get_or_insert_with(|| Box::new(Stall { readable: true, ..Stall::default() }));
        stall.unanswered = true;
        Flow::Stalled
    }

    /// Tells publishers what a store has answered.
    pub(super) fn answer(&mut self, answers: Vec<(Key, Option<Event>)>) {
        for (key, answer) in answers {
            let Some(connection) = self.connection(key) else { continue };
            connection.unanswered -= 1;
            let go_on = connection.unanswered < UNANSWERED_MAX / 2;
            let released = connection.stall.as_mut().is_some_and(|stall| stall.unanswered && go_on);
            if let Some(stall) = connection.stall.as_mut().filter(|_| released) {
                stall.unanswered = false;
            }
            let open = connection.is_open();
            if let Some(answer) = answer.filter(|_| open) {
                if matches!(answer, Event::Refused(_)) {
                    count(&self.counters().requests_refused, 1);
                }
                self.reply(key.slot, &answer);
                // The message itself is on the way with the turn's other deliveries.
                self.send_replies(key.slot, true);
            }
            if released {
                self.poll_soon(key);
            }
            self.end_if_away(key);
        }
    }

    /// The room that a publish goes to: one the client is in.
    pub(super) fn room_to_publish(&self, key: Key, room: Option<&str>) -> Result<Arc<Room>, Refusal> {
        let name = match (room, &self.connections[key.slot as usize].home) {
            (Some(room), _) => self.room_name(room)?,
            (None, Some(home)) => home.clone(),
            (None, None) => {
                let detail = "say which room: this connection was not put into one";
                return Err(Refusal::new(ErrorCode::RoomRequired, detail));
            }
        };
        match self.membership(key, name.as_str()) {
            Some(index) => Ok(Arc::clone(&self.connections[key.slot as usize].memberships[index].room)),
            None => Err(refusal_of(JoinError::NotSubscribed { room: name })),
        }
    }

    pub(super) fn check_chat(&self, name: &EcoString, body: &BodyRef<'_>) -> Result<(), Refusal> {
        self.check_named(name)?;
        let BodyRef::Text(content) = body else { return Ok(()) };
        if content.trim().is_empty() {
            return Err(Refusal::new(ErrorCode::ContentRequired, "content is empty: say something"));
        }
        let max = self.hub.config().content_chars_max;
        // Bytes bound characters from above, and are free to count.
        if content.len() > max {
            let len = content.chars().count();
            if len > max {
                let detail = eco_format!("content has {len} characters; at most {max} are allowed");
                return Err(Refusal::new(ErrorCode::ContentTooLong, detail));
            }
        }
        Ok(())
    }

    /// Whether somebody has a name.
    pub(super) fn check_named(&self, name: &EcoString) -> Result<(), Refusal> {
        if name.is_empty() {
            let detail = "chatting needs a name: connect with one";
            return Err(Refusal::new(ErrorCode::UsernameRequired, detail));
        }
        Ok(())
    }

    /// Stops reading a publisher until no shard is behind.
    pub(super) fn throttle(&mut self, key: Key) -> Flow {
        let now = self.now();
        count(&self.counters().publishers_throttled, 1);
        self.throttled.push(key);
        let connection = &mut self.connections[key.slot as usize];
        // It may have waited for something else before, and what it has read meanwhile is in there.
        let stall =
            connection.stall.get_or_insert_with(|| Box::new(Stall { readable: true, ..Stall::default() }));
        (stall.throttled, stall.since) = (true, now);
        Flow::Stalled
    }
}

/// A client's own name for a message, unique to its user.
pub(super) fn key_of(client: &Client, name: &str) -> Bytes {
    [&[1], client.user().as_str().as_bytes(), &[0], name.as_bytes()].concat().into()
}

pub(super) fn check_size(room: &Room, body: &BodyRef<'_>) -> Result<(), Refusal> {
    let (len, max) = (len_of(body), room.class().message_bytes_max);
    if max > 0 && len > max {
        let detail = eco_format!("the message has {len} bytes; this room takes at most {max}");
        return Err(Refusal::new(ErrorCode::ContentTooLong, detail));
    }
    Ok(())
}

fn len_of(body: &BodyRef<'_>) -> usize {
    match body {
        BodyRef::Text(text) => text.len(),
        BodyRef::Json(json) => json.get().len(),
        BodyRef::Binary(bytes) => bytes.len(),
    }
}

pub(super) fn owned(body: BodyRef<'_>) -> Body {
    match body {
        BodyRef::Text(text) => Body::Text(EcoString::from(&*text)),
        BodyRef::Json(json) => Body::Json(Bytes::copy_from_slice(json.get().as_bytes())),
        BodyRef::Binary(bytes) => Body::Binary(Bytes::copy_from_slice(bytes)),
    }
}
