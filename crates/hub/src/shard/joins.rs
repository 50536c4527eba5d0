//! In and out of rooms, from the shard's side: asking, waiting for what must be read, membership, activation.
//!
//! A client that asks waits while its room reads from a store; nothing else of it is read meanwhile, so its requests
//! keep their order. What it has missed is sent at once, before anything the room delivers.

use std::sync::Arc;

use ecow::eco_format;
use outspoke_protocol::{
    ErrorCode, Event, Refusal, RequestId, RoomName, StartFrom, Subscribed, Token, UserId,
};
use outspoke_store::StoreError;

use super::connection::{Asking, Connection, Membership, Seat, Stall, Waiting};
use super::receive::Flow;
use super::rooms::{Form, Seated};
use super::{Key, Shard};
use crate::client::Client;
use crate::direct;
use crate::error::JoinError;
use crate::keeper::refusal_of_store;
use crate::policy::{self, Action, Granted};
use crate::room::Room;
use crate::room::join::{Admission, Joined, Newcomer};
use crate::room::load::Need;
use crate::room::presence::Exit;
use crate::stats::count;
use crate::trace::diary::Because;
use crate::trace::follow::{Sight, Sighting};

/// Reads of a room for one client that asks: one that did not suffice is followed by one that reads all there is to
/// give, and a third finds what came in between.
const READS_MAX: u8 = 3;

/// Whether a client came into a room.
pub(super) enum Outcome {
    In(Joined),
    Once(Arc<Room>, Need),
}

impl Shard {
    pub(super) fn subscribe(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &str,
        from: StartFrom,
        token: Option<&Token<'_>>,
    ) -> Result<Flow, Refusal> {
        let room = self.room_name(room)?;
        let asking = Asking { request: id.cloned(), room: room.clone(), from, reads: 0, granted: None };
        let entered = self.enter(key, asking, token.map(|token| token.reveal().into()));
        if let Err(refusal) = &entered {
            self.note_refused(key, &room, refusal);
        }
        entered
    }

    /// Puts a client into a room, now or when the room has read what it needs.
    pub(super) fn ask(&mut self, key: Key, mut asking: Asking) -> Result<Flow, Refusal> {
        if let Some(index) = self.membership(key, asking.room.as_str()) {
            if let Some(granted) = asking.granted {
                self.connections[key.slot as usize].grant(&asking.room, granted);
                self.look_at_end(key);
            }
            // Repeating it is harmless, and begins nothing again.
            let held = &self.connections[key.slot as usize].memberships[index];
            let room = Arc::clone(&held.room);
            let user = somebody(&self.connections[key.slot as usize].client);
            let mut joined = room.joined_already(self.rooms.position_of(held), user.as_ref());
            if let StartFrom::After(position) = asking.from {
                joined.recovered = Some(position == joined.position);
            }
            self.welcome_to(key, &room, asking.request, &joined);
            return Ok(Flow::Continue);
        }
        match self.join(key, &asking.room, asking.from, asking.reads, asking.granted).map_err(refusal_of)? {
            (room, Outcome::In(joined)) => {
                self.welcome_to(key, &room, asking.request, &joined);
                Ok(if joined.missed.is_empty() { Flow::Continue } else { self.drain_if_much(key) })
            }
            (_, Outcome::Once(room, need)) => {
                asking.reads += 1;
                let hub = Arc::clone(&self.hub);
                let preparation = Box::pin(async move { room.prepare(&hub, need).await });
                let request = asking.request.clone();
                self.wait_for(key, Waiting::Room(preparation, Box::new(asking)), request);
                self.poll_soon(key);
                Ok(Flow::Stalled)
            }
        }
    }

    /// A room has read what a client of it needs, or could not.
    pub(super) fn ask_again(&mut self, key: Key, outcome: Result<(), StoreError>, asking: Asking) {
        let (request, room) = (asking.request.clone(), asking.room.clone());
        let asked = match outcome {
            Ok(()) if asking.reads <= READS_MAX => self.ask(key, asking).map(|_| ()),
            Ok(()) => {
                let detail = "the room changes faster than it can be read; try again";
                Err(Refusal::new(ErrorCode::Unavailable, detail))
            }
            Err(error) => {
                tracing::debug!(%error, room = asking.room.as_str(), "a room could not be read");
                Err(refusal_of_store(&error))
            }
        };
        if let Err(refusal) = asked {
            self.note_refused(key, &room, &refusal);
            self.refuse(key.slot, refusal.answering(request));
        }
    }

    /// Tells a client that it is in a room, and what it has missed.
    pub(super) fn welcome_to(&mut self, key: Key, room: &Room, request: Option<RequestId>, joined: &Joined) {
        let Some(name) = room.name.clone() else { return };
        self.count_join(joined.recovered);
        self.note_recovered(key, room, joined);
        let Joined { position, head, first, recovered, members, unread, ref topic, ref missed } = *joined;
        let subscribed = Subscribed {
            request,
            room: name,
            position,
            head,
            first,
            recovered,
            members,
            durability: room.durability(),
            unread,
            topic: topic.clone(),
        };
        self.reply(key.slot, &Event::Subscribed(Box::new(subscribed)));
        let connection = &self.connections[key.slot as usize];
        let (dialect, compression) = (usize::from(connection.dialect), connection.compression);
        for publication in missed {
            if let Some(frame) = publication.frame_for(dialect, &self.hub.dialects) {
                self.replies.extend_from_slice(frame.encoded(&mut self.deflater, compression));
            }
        }
    }

    fn count_join(&self, recovered: Option<bool>) {
        let counters = self.counters();
        count(&counters.joins, 1);
        match recovered {
            Some(true) => count(&counters.recoveries, 1),
            Some(false) => count(&counters.recoveries_failed, 1),
            None => {}
        }
    }

    /// A client that was sent much at once reads that before it is given more.
    pub(super) fn drain_if_much(&mut self, key: Key) -> Flow {
        let connection = &mut self.connections[key.slot as usize];
        let ahead = connection.client.queued_bytes() + self.replies.len();
        if ahead + self.hub.config().replay_bytes() <= self.hub.config().outbox_bytes_max {
            return Flow::Continue;
        }
        let stall =
            connection.stall.get_or_insert_with(|| Box::new(Stall { readable: true, ..Stall::default() }));
        stall.draining = true;
        Flow::Stalled
    }

    /// Goes on with a client that has read what it was sent.
    pub(super) fn drained(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.outbox.is_some() {
            return;
        }
        if let Some(stall) = &mut connection.stall
            && std::mem::take(&mut stall.draining)
        {
            let key = connection.key(slot as usize);
            self.poll_soon(key);
        }
    }

    pub(super) fn unsubscribe(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &str,
    ) -> Result<Flow, Refusal> {
        let name = self.room_name(room)?;
        // Repeating it is harmless.
        if let Some(index) = self.membership(key, name.as_str()) {
            self.leave(key, index);
        }
        self.reply(key.slot, &Event::Unsubscribed { request: id.cloned(), room: name, because: None });
        Ok(Flow::Continue)
    }

    /// Where in its memberships a client has the room.
    pub(super) fn membership(&self, key: Key, name: &str) -> Option<usize> {
        let named =
            |membership: &Membership| membership.room.name.as_ref().is_some_and(|held| held.as_str() == name);
        self.connections[key.slot as usize].memberships.iter().position(named)
    }

    /// Puts a client into a room that it is not in, and tells the room.
    pub(super) fn join(
        &mut self,
        key: Key,
        name: &RoomName,
        from: StartFrom,
        reads: u8,
        granted: Option<Granted>,
    ) -> Result<(Arc<Room>, Outcome), JoinError> {
        let hub = Arc::clone(&self.hub);
        let config = &hub.config();
        let (from, unread) = self.judge_join(key, name, from, granted)?;
        let connection = &mut self.connections[key.slot as usize];
        // Conversations are begun by others, and must not take the place of rooms: each have as many places.
        let reserved = direct::is_reserved(name.as_str());
        if connection.rooms_like(reserved).count() >= config.rooms_per_client_max {
            return Err(JoinError::TooManyRooms { max: config.rooms_per_client_max });
        }
        let ticket = connection.next_ticket;
        connection.next_ticket = ticket.wrapping_add(1);
        let client = Some(Arc::clone(&connection.client));
        // What is unread is worth two reads of the store, and not a refusal.
        let (user, insists) = (somebody(&connection.client), reads < 2);
        let newcomer = Newcomer {
            shard: self.index,
            key,
            ticket,
            from,
            client,
            user,
            insists,
            asks: reads == 0,
            looked: reads >= 2,
        };
        let joined = connection.client.tenant.directory.join(&hub, name, newcomer);
        let (room, admission) = joined?;
        let mut joined = match admission {
            Admission::In(joined) => joined,
            Admission::Once(need) => {
                hub.idle.put(&room, room.lingers());
                return Ok((Arc::clone(&room), Outcome::Once(room, need)));
            }
            Admission::Full => return Err(JoinError::RoomFull { max: room.class().members_max }),
        };
        connection.memberships.push(Membership {
            local: None,
            place: Seat::None,
            room: Arc::clone(&room),
            ticket,
            joined: joined.head,
            typing: Default::default(),
        });
        if let Some(granted) = granted {
            connection.grant(name, granted);
            self.look_at_end(key);
        }
        if unread {
            joined.recovered = Some(false);
        }
        let connection = &self.connections[key.slot as usize];
        self.hot[key.slot as usize].several_rooms = connection.memberships.len() > 2;
        self.show_in(key.slot, name, Sight::Joined, |sighting| Sighting {
            offset: Some(joined.head),
            ..sighting
        });
        Ok((room, Outcome::In(joined)))
    }

    /// Whether a client may come into a room, and with what it may begin there. Who may not read what was said before begins
    /// now, and is told that there may be something that it does not get.
    fn judge_join(
        &self,
        key: Key,
        name: &RoomName,
        from: StartFrom,
        granted: Option<Granted>,
    ) -> Result<(StartFrom, bool), JoinError> {
        let connection = &self.connections[key.slot as usize];
        let who = connection.who().granted(granted.map(|granted| granted.actions).unwrap_or_default());
        policy::check(&self.hub, &who, Action::Join, name.as_str()).map_err(|refusal| {
            match direct::is_reserved(name.as_str()) {
                true => JoinError::Forbidden { room: name.clone() },
                false => JoinError::Refused(refusal),
            }
        })?;
        let wants_more = !matches!(from, StartFrom::Now | StartFrom::Last(0));
        if wants_more && policy::check(&self.hub, &who, Action::History, name.as_str()).is_err() {
            return Ok((StartFrom::Now, true));
        }
        Ok((from, false))
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

    /// Takes a client that wants it so out of the room at `index` of its memberships.
    pub(super) fn leave(&mut self, key: Key, index: usize) {
        self.leave_because(key, index, Exit::Goodbye, Because::Left);
    }

    /// Takes a client out of the room at `index` of its memberships.
    pub(super) fn leave_because(&mut self, key: Key, index: usize, exit: Exit, because: Because) {
        let connection = &mut self.connections[key.slot as usize];
        let membership = connection.memberships.swap_remove(index);
        self.note_stay(key, &membership, because);
        let connection = &mut self.connections[key.slot as usize];
        if let Some(outbox) = connection.outbox.as_mut() {
            outbox.forget(membership.room.id);
        }
        if let Some(name) = &membership.room.name {
            connection.forget_grant(name.as_str());
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
        let client = &self.connections[key.slot as usize].client;
        client.tenant.directory.leave(&hub, &membership.room, self.index, client, exit);
    }

    /// [`Hub::join`]'s part in the shard.
    pub(super) fn join_for_api(&mut self, key: Key, room: RoomName) -> Result<(), JoinError> {
        if !self.connection(key).is_some_and(|connection| connection.is_open()) {
            return Err(JoinError::ClientNotFound);
        }
        if self.membership(key, room.as_str()).is_some() {
            return Ok(());
        }
        // Whom the application puts there may be there; what else it may do is said elsewhere.
        let permitted = self.may(key, Action::Join, room.as_str()).is_ok();
        let granted = (!permitted).then(Granted::to_be_there);
        match self.join(key, &room, StartFrom::Now, READS_MAX, granted)? {
            (room, Outcome::In(joined)) => {
                self.welcome_to(key, &room, None, &joined);
                self.send_replies(key.slot, false);
                Ok(())
            }
            // Whoever calls has seen to it that the room was read.
            (_, Outcome::Once(..)) => Err(JoinError::Unavailable("it was not read in time".to_owned())),
        }
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
        self.reply(key.slot, &Event::Unsubscribed { request: None, room: room.clone(), because: None });
        self.send_replies(key.slot, false);
        Ok(())
    }
}

/// The client's user, if the hub can keep something about it.
pub(super) fn somebody(client: &Client) -> Option<UserId> {
    direct::is_somebody(client.identity()).then(|| client.user().clone())
}

/// What a client is told of a join that failed.
pub(super) fn refusal_of(error: JoinError) -> Refusal {
    let code = match error {
        JoinError::Quota(refusal) | JoinError::Refused(refusal) => return refusal,
        JoinError::InvalidRoom(_) => ErrorCode::InvalidRoom,
        JoinError::ClientNotFound => ErrorCode::ClientNotFound,
        JoinError::TooManyRooms { .. } => ErrorCode::TooManyRooms,
        JoinError::RoomFull { .. } => ErrorCode::RoomFull,
        JoinError::RoomLimit { .. } => ErrorCode::RoomLimit,
        JoinError::Forbidden { .. } => ErrorCode::Forbidden,
        JoinError::Unavailable(_) => ErrorCode::Unavailable,
        JoinError::NotSubscribed { .. } => ErrorCode::NotSubscribed,
    };
    Refusal::new(code, eco_format!("{error}"))
}
