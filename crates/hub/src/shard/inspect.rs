//! A look at connections, and an order to treat one as if it read slowly: for operators.
//!
//! Also where shards tell those who [follow](crate::trace::follow) what happens to connections. All of it is off the fast path.

use std::time::{Duration, Instant};

use outspoke_protocol::{Refusal, RoomName, UserId};

use super::account::{policy_name, told};
use super::connection::{Connection, Phase};
use super::fanout::Batch;
use super::wheel::Tick;
use super::{Key, Shard};
use crate::hub::Departure;
use crate::trace::diary::Because;
use crate::trace::follow::{Following, Sight, Sighting};

/// How a connection is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ConnectionState {
    /// For how long it has taken none of the bytes that wait for it; `None`: nothing waits.
    pub stuck: Option<Duration>,
    /// From its last answered ping to the answer; `None`: there was none.
    pub round_trip: Option<Duration>,
    /// It is being treated as if it read nothing.
    pub slowed: bool,
    /// Its rooms, where they were asked for.
    pub rooms: Vec<RoomPlace>,
}

/// How far a connection has come in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomPlace {
    /// The room.
    pub room: RoomName,
    /// Where the room was when it came in.
    pub joined: u64,
    /// The last message that is written to it, or left out.
    pub offset: u64,
    /// Where the room is.
    pub head: u64,
}

impl Shard {
    /// How a connection is; `None`: it has ended.
    pub(super) fn state_of(&self, key: Key, rooms: bool) -> Option<ConnectionState> {
        let connection = self.connections.get(key.slot as usize)?;
        if connection.generation != key.generation || !connection.is_open() {
            return None;
        }
        let outbox = connection.outbox.as_deref();
        let stuck = outbox.and_then(|outbox| outbox.stuck_since).map(|since| since.elapsed());
        let micros = u64::from(connection.round_trip);
        let places = connection.memberships.iter().filter(|_| rooms).filter_map(|held| {
            let room = held.room.name.clone()?;
            let delivered = self.rooms.position_of(held).offset;
            let waiting = outbox.and_then(|outbox| outbox.first_of(held.room.id));
            let offset = waiting.map_or(delivered, |first| first.saturating_sub(1));
            let (_, _, head) = held.room.extent();
            Some(RoomPlace { room, joined: held.joined, offset, head: head.max(offset) })
        });
        Some(ConnectionState {
            stuck,
            round_trip: (micros > 0).then(|| Duration::from_micros(micros)),
            slowed: connection.slowed_until > 0,
            rooms: places.collect(),
        })
    }

    /// Writes nothing to a connection for so long. Returns whether it is there.
    pub(super) fn slow_down(&mut self, key: Key, lasting: Duration) -> bool {
        let ticks = Tick::try_from(lasting.as_nanos().div_ceil(self.tick.as_nanos())).unwrap_or(Tick::MAX);
        let until = self.now().saturating_add(ticks).max(1);
        let Some(connection) = self.connection(key).filter(|connection| connection.is_open()) else {
            return false;
        };
        connection.slowed_until = until;
        self.hot[key.slot as usize].direct = -1;
        self.look_by(key.slot, until);
        true
    }

    /// Whether nothing is to be written to a connection now. One that ends is written its farewell.
    pub(super) fn is_slowed(&self, slot: u32) -> bool {
        let connection = &self.connections[slot as usize];
        connection.slowed_until > 0 && connection.phase == Phase::Open
    }

    /// Ends a slow time that was ordered, when it is over.
    pub(super) fn end_slowness(&mut self, key: Key) {
        let now = self.now();
        let Some(connection) = self.connection(key) else { return };
        if connection.slowed_until == 0 || connection.slowed_until > now {
            return;
        }
        connection.slowed_until = 0;
        if connection.outbox.is_some() {
            self.flush(key.slot);
        } else if let Some(socket) = connection.conn.socket() {
            self.hot[key.slot as usize].direct = std::os::fd::AsRawFd::as_raw_fd(&socket);
        }
    }

    /// A ping is on its way.
    pub(super) fn ping_sent(&mut self, slot: u32) {
        self.connections[slot as usize].pinged_micros = self.micros();
    }

    /// A pong has come; nobody says to which ping, but only one is out.
    pub(super) fn pong_heard(&mut self, key: Key) {
        let now = self.micros();
        let connection = &mut self.connections[key.slot as usize];
        let sent = std::mem::take(&mut connection.pinged_micros);
        if sent > 0 {
            connection.round_trip = now.wrapping_sub(sent).max(1);
        }
    }

    /// Microseconds since the shard began, of which the lowest bits count: enough for a ping.
    fn micros(&self) -> u32 {
        (self.clock.elapsed().as_micros() as u32).max(1)
    }

    /// Tells those who follow the connection's user, or a room that it is in.
    pub(super) fn show(&self, slot: u32, sight: Sight, more: impl Fn(Sighting) -> Sighting) {
        if !self.hub.watches.any() {
            return;
        }
        let connection = &self.connections[slot as usize];
        let (tenant, user) = (&connection.client.identity().tenant, connection.client.user());
        for watch in self.hub.watches.all().iter().filter(|watch| watch.is_of(tenant)) {
            if means(&watch.of, connection, user) {
                watch.tell(more(Sighting::new(sight, self.hub.now()).of(&connection.client)));
            }
        }
    }

    /// Tells of the end of a connection.
    pub(super) fn show_end(&self, slot: u32, departure: Departure) {
        let (code, reason) = told(departure);
        self.show(slot, Sight::Closed, |sighting| Sighting { code, reason: Some(reason.into()), ..sighting });
    }

    /// Tells that a client is not in a room any more.
    pub(super) fn show_left(&self, slot: u32, room: &RoomName, offset: u64, because: Because) {
        let reason = match because {
            Because::Left => "it left",
            Because::Removed => "it was taken out",
            Because::Ended(_) => "its connection ended",
        };
        self.show_in(slot, room, Sight::Left, |sighting| Sighting {
            offset: Some(offset),
            reason: Some(reason.into()),
            ..sighting
        });
    }

    /// Tells that a client was refused a room.
    pub(super) fn show_refused(&self, slot: u32, room: &RoomName, refusal: &Refusal) {
        // The user's followers are told of the refusal itself.
        let client = &self.connections[slot as usize].client;
        self.hub.watches.tell(&client.identity().tenant, Some(room), None, || Sighting {
            code: Some(refusal.code.number()),
            reason: Some(refusal.detail.clone()),
            ..Sighting::new(Sight::Refused, self.hub.now()).of(client).at_room(room)
        });
    }

    /// Tells those who follow the user that something was refused.
    pub(super) fn show_refusal(&self, slot: u32, refusal: &Refusal) {
        let client = &self.connections[slot as usize].client;
        self.hub.watches.tell(&client.identity().tenant, None, Some(client.user()), || Sighting {
            code: Some(refusal.code.number()),
            reason: Some(refusal.detail.clone()),
            ..Sighting::new(Sight::Refused, self.hub.now()).of(client)
        });
    }

    /// Tells that messages were left out for a client.
    pub(super) fn show_skipped(&self, slot: u32, batch: &Batch, last: u64, missed: u64) {
        if !self.hub.watches.any() || missed == 0 {
            return;
        }
        let held = self.connections[slot as usize].memberships.iter().find(|held| held.room.id == batch.room);
        if let Some(room) = held.and_then(|held| held.room.name.as_ref()) {
            self.show_in(slot, room, Sight::Skipped, |sighting| Sighting {
                offset: Some(last),
                count: Some(missed),
                policy: Some(policy_name(batch.policy).into()),
                ..sighting
            });
        }
    }

    /// Tells those who follow a room, or the connection's user.
    pub(super) fn show_in(
        &self,
        slot: u32,
        room: &RoomName,
        sight: Sight,
        more: impl Fn(Sighting) -> Sighting,
    ) {
        let client = &self.connections[slot as usize].client;
        let (tenant, user) = (&client.identity().tenant, client.user());
        self.hub.watches.tell(tenant, Some(room), Some(user), || {
            more(Sighting::new(sight, self.hub.now()).of(client).at_room(room))
        });
    }
}

fn means(of: &Following, connection: &Connection, user: &UserId) -> bool {
    match of {
        Following::User(wanted) => wanted == user,
        Following::Room(wanted) => {
            connection.memberships.iter().any(|held| held.room.name.as_ref() == Some(wanted))
        }
    }
}

/// A clock that tests do not stop: what it measures is the network's time.
pub(super) fn clock() -> Instant {
    Instant::now()
}
