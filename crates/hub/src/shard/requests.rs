//! What a client asks: decoded by its dialect, judged, done, answered.
//!
//! One function owns the branching ([`Shard::request`]); each of the others does one thing. All run in the
//! connection's shard, at the edge: nothing of a client's text is parsed anywhere further in.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use ecow::{EcoString, eco_format};
use outspoke_protocol::{
    Acknowledgement, Body, BodyRef, Command as Wanted, ErrorCode, Event, Kind, Payload, Publisher, Refusal,
    Request, RequestId, RoomName,
};
use outspoke_websocket::encode_frame;
use serde_json::value::RawValue;

use super::connection::{Connection, Membership, Outcome, Seat, Stall};
use super::receive::Flow;
use super::rooms::{Form, Seated};
use super::{Key, Shard};
use crate::client::Client;
use crate::config::HubConfig;
use crate::dispatcher::Context;
use crate::error::JoinError;
use crate::hub::Hub;
use crate::publication::opcode;
use crate::room::directory::JoinRefused;
use crate::room::{Draft, Joined, Room};
use crate::stats::count;

impl Shard {
    /// Does what one message asks. `merge` is set when more for this client follows within the turn.
    pub(super) fn request(&mut self, key: Key, payload: Payload<'_>, merge: &mut bool) -> Flow {
        let hub = Arc::clone(&self.hub);
        let dialect = &hub.dialects[usize::from(self.connections[key.slot as usize].dialect)];
        let Request { id, command } = match dialect.decode(payload) {
            Ok(request) => request,
            Err(refusal) => {
                self.refuse(key.slot, refusal);
                return Flow::Continue;
            }
        };
        let done = match command {
            Wanted::Ping => {
                self.reply(key.slot, &Event::Pong { request: id.clone() });
                Ok(Flow::Continue)
            }
            Wanted::Subscribe { room, since: _ } => self.subscribe(key, id.as_ref(), &room),
            Wanted::Unsubscribe { room } => self.unsubscribe(key, id.as_ref(), &room),
            Wanted::Publish { room, kind, body } => {
                *merge = true;
                self.publish(key, id.as_ref(), room, kind, body)
            }
            Wanted::Custom { name, data } => self.call_handler(key, id.as_ref(), &name, data),
            _ => Err(Refusal::new(ErrorCode::UnknownType, "this hub does not know the request")),
        };
        match done {
            Ok(flow) => flow,
            Err(refusal) => {
                self.refuse(key.slot, refusal.answering(id));
                Flow::Continue
            }
        }
    }

    fn subscribe(&mut self, key: Key, id: Option<&RequestId>, room: &str) -> Result<Flow, Refusal> {
        let name = self.room_name(room)?;
        let (position, members) = match self.membership(key, name.as_str()) {
            // Repeating it is harmless.
            Some(index) => {
                let held = &self.connections[key.slot as usize].memberships[index];
                (self.rooms.position_of(held), held.room.members())
            }
            None => {
                let Joined { position, members } = self.join(key, &name).map_err(refusal_of)?;
                (position, members)
            }
        };
        self.reply(key.slot, &Event::Subscribed { request: id.cloned(), room: name, position, members });
        Ok(Flow::Continue)
    }

    fn unsubscribe(&mut self, key: Key, id: Option<&RequestId>, room: &str) -> Result<Flow, Refusal> {
        let name = self.room_name(room)?;
        // Repeating it is harmless.
        if let Some(index) = self.membership(key, name.as_str()) {
            self.leave(key, index);
        }
        self.reply(key.slot, &Event::Unsubscribed { request: id.cloned(), room: name });
        Ok(Flow::Continue)
    }

    fn publish(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: Option<Cow<'_, str>>,
        kind: Kind,
        body: BodyRef<'_>,
    ) -> Result<Flow, Refusal> {
        if self.is_stopping() {
            // Once the last shard has said so, members are told goodbye: what came later would reach some and not others.
            let detail = "the server is stopping: nobody got this; send it again after reconnecting";
            return Err(Refusal::new(ErrorCode::Unavailable, detail));
        }
        let room = self.room_to_publish(key, room.as_deref())?;
        let client = Arc::clone(&self.connections[key.slot as usize].client);
        if kind == Kind::Chat {
            self.check_chat(client.name(), &body)?;
        }
        let draft = Draft { kind, from: Some(client.publisher()), body: owned(body), logged: true };
        let hub = Arc::clone(&self.hub);
        let published = room.publish(&hub, draft);
        if let (Some(request), Some(name), Some(position)) = (id, &room.name, published.position) {
            let acknowledgement = Acknowledgement {
                request: request.clone(),
                room: name.clone(),
                id: published.id,
                position,
                ts: published.ts,
                duplicate: false,
            };
            self.reply(key.slot, &Event::Acknowledged(acknowledgement));
        }
        Ok(if self.hub.congestion.is_congested() { self.throttle(key) } else { Flow::Continue })
    }

    /// The room that a publish goes to: one the client is in.
    fn room_to_publish(&self, key: Key, room: Option<&str>) -> Result<Arc<Room>, Refusal> {
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

    fn check_chat(&self, name: &EcoString, body: &BodyRef<'_>) -> Result<(), Refusal> {
        if name.is_empty() {
            let detail = "chatting needs a name: connect with one";
            return Err(Refusal::new(ErrorCode::UsernameRequired, detail));
        }
        let BodyRef::Text(content) = body else { return Ok(()) };
        if content.trim().is_empty() {
            return Err(Refusal::new(ErrorCode::ContentRequired, "content is empty: say something"));
        }
        let max = self.hub.config.content_chars_max;
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

    /// Stops reading a publisher until no shard is behind.
    fn throttle(&mut self, key: Key) -> Flow {
        let now = self.now();
        count(&self.counters().publishers_throttled, 1);
        self.throttled.push(key);
        self.connections[key.slot as usize].stall =
            Some(Box::new(Stall { throttled: true, since: now, readable: true, ..Stall::default() }));
        Flow::Stalled
    }

    fn call_handler(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        name: &str,
        data: Option<&RawValue>,
    ) -> Result<Flow, Refusal> {
        let hub = Arc::clone(&self.hub);
        let Some(handler) = hub.dispatcher.get(name) else {
            let known: String = name.chars().take(64).collect();
            return Err(Refusal::new(ErrorCode::UnknownType, eco_format!("no handler for type \"{known}\"")));
        };
        let now = self.now();
        let index = self.index;
        let connection = &mut self.connections[key.slot as usize];
        let client = Arc::clone(&connection.client);
        let context = Context { client, hub: Hub::from(Arc::clone(&hub)), request: id.cloned() };
        let mut handling = handler.handle(context, data.map(ToOwned::to_owned));
        let waker = connection.waker(&hub, index, key.slot as usize);
        match handling.as_mut().poll(&mut TaskContext::from_waker(&waker)) {
            Poll::Ready(outcome) => {
                self.respond(key.slot, id.cloned(), outcome);
                Ok(Flow::Continue)
            }
            Poll::Pending => {
                let stall = Stall {
                    handling: Some(handling),
                    request: id.cloned(),
                    since: now,
                    readable: true,
                    ..Stall::default()
                };
                self.connections[key.slot as usize].stall = Some(Box::new(stall));
                self.look_at_handler(key.slot);
                Ok(Flow::Stalled)
            }
        }
    }

    /// Passes a handler's answer on.
    pub(super) fn respond(&mut self, slot: u32, request: Option<RequestId>, outcome: Outcome) {
        match outcome {
            Ok(Some(reply)) => {
                self.reply(slot, &Event::Reply { request, name: reply.name, data: reply.data })
            }
            Ok(None) => {}
            Err(refusal) => self.refuse(slot, refusal.answering(request)),
        }
    }

    pub(super) fn refuse(&mut self, slot: u32, refusal: Refusal) {
        count(&self.counters().requests_refused, 1);
        self.reply(slot, &Event::Refused(refusal));
    }

    /// Adds an event for one client to the replies, in its dialect.
    pub(super) fn reply(&mut self, slot: u32, event: &Event) {
        let dialect = usize::from(self.connections[slot as usize].dialect);
        self.payload.clear();
        if let Some(kind) = self.hub.dialects[dialect].encode(event, &mut self.payload) {
            encode_frame(opcode(kind), &self.payload, &mut self.replies);
        }
    }

    fn room_name(&self, text: &str) -> Result<RoomName, Refusal> {
        RoomName::new(text, self.hub.config.room_name_bytes_max)
            .map_err(|invalid| Refusal::new(ErrorCode::InvalidRoom, eco_format!("{invalid}")))
    }

    /// Where in its memberships a client has the room.
    fn membership(&self, key: Key, name: &str) -> Option<usize> {
        let named =
            |membership: &Membership| membership.room.name.as_ref().is_some_and(|held| held.as_str() == name);
        self.connections[key.slot as usize].memberships.iter().position(named)
    }

    /// Puts a client into a room that it is not in, and tells the room.
    pub(super) fn join(&mut self, key: Key, name: &RoomName) -> Result<Joined, JoinError> {
        let hub = Arc::clone(&self.hub);
        let config = &hub.config;
        let connection = &mut self.connections[key.slot as usize];
        // The room that everybody is in does not count.
        if connection.memberships.len() > config.rooms_per_client_max {
            return Err(JoinError::TooManyRooms { max: config.rooms_per_client_max });
        }
        let ticket = connection.next_ticket;
        connection.next_ticket = ticket.wrapping_add(1);
        let newcomer = announced(config, &connection.client);
        let (room, joined) = hub.directory.join(&hub, name, self.index, key, ticket, newcomer).map_err(
            |refused| match refused {
                JoinRefused::RoomFull => JoinError::RoomFull { max: config.room_members_max },
                JoinRefused::RoomLimit => JoinError::RoomLimit { max: config.rooms_max },
            },
        )?;
        connection.memberships.push(Membership {
            local: None,
            place: Seat::None,
            room,
            ticket,
            joined: joined.position.offset,
        });
        self.hot[key.slot as usize].several_rooms = connection.memberships.len() > 2;
        Ok(joined)
    }

    /// Makes a member of a client whose join has come up in the room's order.
    pub(super) fn activate(&mut self, room: &Arc<Room>, key: Key, ticket: u32) {
        let held = |held: &&mut Membership| held.room.id == room.id && held.ticket == ticket;
        let known = |connection: &&mut Box<Connection>| connection.generation == key.generation;
        let Some(connection) = self.connections.get_mut(key.slot as usize).filter(known) else { return };
        let form = Form { dialect: connection.dialect, compression: connection.compression };
        let Some(membership) = connection.memberships.iter_mut().find(held) else { return };
        let (local, seated) = self.rooms.add(room, key.slot, form);
        membership.local = Some(local);
        membership.place = match seated {
            Seated::Late => Seat::Late,
            Seated::In(group, place) => Seat::In(group, place),
        };
    }

    /// Takes a client out of the room at `index` of its memberships.
    pub(super) fn leave(&mut self, key: Key, index: usize) {
        let connection = &mut self.connections[key.slot as usize];
        let membership = connection.memberships.swap_remove(index);
        if let Some(outbox) = connection.outbox.as_mut() {
            outbox.forget(membership.room.id);
        }
        self.hot[key.slot as usize].several_rooms = connection.memberships.len() > 2;
        if let Some(local) = membership.local {
            match membership.place {
                Seat::In(group, place) => {
                    if let Some(moved) = self.rooms.remove_seated(local, group, place) {
                        let moved = &mut self.connections[moved as usize].memberships;
                        if let Some(held) = moved.iter_mut().find(|held| held.local == Some(local)) {
                            held.place = Seat::In(group, place);
                        }
                    }
                }
                Seat::Late | Seat::None => self.rooms.remove_late(local, key.slot),
            }
        }
        let hub = Arc::clone(&self.hub);
        let leaver = announced(&hub.config, &self.connections[key.slot as usize].client);
        hub.directory.leave(&hub, &membership.room, self.index, leaver);
    }

    /// [`Hub::join`]'s part in the shard.
    pub(super) fn join_for_api(&mut self, key: Key, room: RoomName) -> Result<(), JoinError> {
        if !self.connection(key).is_some_and(|connection| connection.is_open()) {
            return Err(JoinError::ClientNotFound);
        }
        if self.membership(key, room.as_str()).is_some() {
            return Ok(());
        }
        let Joined { position, members } = self.join(key, &room)?;
        self.reply(key.slot, &Event::Subscribed { request: None, room, position, members });
        self.send_replies(key.slot, false);
        Ok(())
    }

    /// [`Hub::leave`]'s part in the shard.
    pub(super) fn leave_for_api(&mut self, key: Key, room: &RoomName) -> Result<(), JoinError> {
        if !self.connection(key).is_some_and(|connection| connection.is_open()) {
            return Err(JoinError::ClientNotFound);
        }
        let Some(index) = self.membership(key, room.as_str()) else {
            return Err(JoinError::NotSubscribed { room: room.clone() });
        };
        self.leave(key, index);
        self.reply(key.slot, &Event::Unsubscribed { request: None, room: room.clone() });
        self.send_replies(key.slot, false);
        Ok(())
    }
}

/// The client as its rooms hear of it, if they do: nobody knows somebody without a name.
fn announced(config: &HubConfig, client: &Client) -> Option<Publisher> {
    (config.announce && !client.name().is_empty()).then(|| client.publisher())
}

/// What a client is told of a join that failed.
pub(super) fn refusal_of(error: JoinError) -> Refusal {
    let code = match error {
        JoinError::InvalidRoom(_) => ErrorCode::InvalidRoom,
        JoinError::ClientNotFound => ErrorCode::ClientNotFound,
        JoinError::TooManyRooms { .. } => ErrorCode::TooManyRooms,
        JoinError::RoomFull { .. } => ErrorCode::RoomFull,
        JoinError::RoomLimit { .. } => ErrorCode::RoomLimit,
        JoinError::NotSubscribed { .. } => ErrorCode::NotSubscribed,
    };
    Refusal::new(code, eco_format!("{error}"))
}

fn owned(body: BodyRef<'_>) -> Body {
    match body {
        BodyRef::Text(text) => Body::Text(EcoString::from(&*text)),
        BodyRef::Json(json) => Body::Json(Bytes::copy_from_slice(json.get().as_bytes())),
        BodyRef::Binary(bytes) => Body::Binary(Bytes::copy_from_slice(bytes)),
    }
}
