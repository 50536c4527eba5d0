//! What this node tells the others of its rooms.

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use outspoke_bus::NodeId;
use outspoke_protocol::{
    Body, ClientId, Epoch, FrameKind, Message, RoomName, Timestamp, Typing, UserId, encode_record,
};
use outspoke_store::{LogKey, Outcome};

use super::envelope::{Envelope, ExitWord, PlacedRef, SeatRef};
use super::{Cluster, topic_of_client};
use crate::client::Client;
use crate::hub::Frame;
use crate::room::Room;
use crate::spans::TRACE_TARGET;
use crate::sync::Arc;

/// Bytes of records told together at most; a larger record is not told but pointed to.
const TOGETHER_BYTES: usize = 48 * 1024;
/// Bytes of rulings told together at most.
const RULINGS_TOGETHER_BYTES: usize = 32 * 1024;
/// Clients told of together.
const SEATS_TOGETHER: usize = 200;

/// A durable message on its way to the other nodes.
#[derive(Debug)]
pub(crate) struct PlacedRecord {
    offset: u64,
    ordinal: u64,
    record: Bytes,
    amended: Option<(u64, Bytes)>,
}

impl PlacedRecord {
    pub(crate) fn new(outcome: &Outcome, record: &Bytes) -> Self {
        Self { offset: outcome.offset, ordinal: outcome.ordinal, record: record.clone(), amended: None }
    }

    /// The same, which amends that message; `record` is what that one is from now on.
    pub(crate) fn amending(self, target: u64, record: &Bytes) -> Self {
        Self { amended: Some((target, record.clone())), ..self }
    }

    fn as_ref(&self) -> PlacedRef<'_> {
        PlacedRef {
            offset: self.offset,
            ordinal: self.ordinal,
            record: &self.record,
            amended: self.amended.as_ref().map(|(target, record)| (*target, &record[..])),
        }
    }

    fn len(&self) -> usize {
        self.record.len() + self.amended.as_ref().map_or(0, |(_, record)| record.len()) + 32
    }
}

impl Cluster {
    /// Messages of a stored room are durable.
    pub(crate) fn tell_placed(&self, room: &Room, epoch: Epoch, records: Vec<PlacedRecord>) {
        let (Some(topic), Some(name)) = (&room.bus_topic, &room.name) else { return };
        let _span =
            tracing::debug_span!(target: TRACE_TARGET, "bus publish", messages = records.len()).entered();
        let mut rest = &records[..];
        while let Some(first) = rest.first() {
            let max = TOGETHER_BYTES.min(self.link.payload_bytes_max() - 1024);
            if first.len() > max {
                self.say(topic, &Envelope::Head { epoch: epoch.as_u64(), head: first.offset });
                rest = &rest[1..];
                continue;
            }
            let mut bytes = 0;
            let fits = |record: &&PlacedRecord| {
                bytes += record.len();
                bytes <= max
            };
            let count = rest.iter().take_while(fits).count();
            let placed = rest[..count].iter().map(PlacedRecord::as_ref).collect();
            let epoch = epoch.as_u64();
            if room.pair.is_some() {
                let (tenant, room) = (&*room.tenant, name.as_str());
                self.say(&self.direct, &Envelope::Direct { tenant, room, placed, epoch });
            } else {
                self.say(topic, &Envelope::Placed(placed, epoch));
            }
            rest = &rest[count..];
        }
    }

    /// What other nodes have in memory of a log is not what is stored any more.
    pub(crate) fn tell_void(&self, log: &LogKey) {
        let name = RoomName::new(&log.room, usize::MAX);
        if let Some(topic) = name.ok().and_then(|name| self.topic_of(&log.tenant, &name)) {
            self.say(&topic, &Envelope::Void);
        }
    }

    /// A message of a room that is not stored. `target`: the id of the one that it amends.
    pub(crate) fn tell_said(&self, room: &Room, message: &Message, target: Option<u128>) {
        let Some(topic) = &room.bus_topic else { return };
        let _span = tracing::debug_span!(target: TRACE_TARGET, "bus publish", messages = 1).entered();
        self.say(topic, &Envelope::Said(&record(message), target));
    }

    /// A client has come into a room, which has so many members here now.
    pub(crate) fn tell_arrived(&self, room: &Room, client: &Client, since: i64, members: usize) {
        let Some(topic) = &room.bus_topic else { return };
        let (name, info) = (client.name(), info_of(client));
        let seat = seat_of(client, &name, &info, since);
        self.say(topic, &Envelope::Arrived(seat, number(members)));
    }

    /// A client has left a room, which has so many members here now.
    pub(crate) fn tell_parted(&self, room: &Room, client: &Client, exit: ExitWord, members: usize) {
        let Some(topic) = &room.bus_topic else { return };
        let (client, members) = (client.id().as_u128(), number(members));
        self.say(topic, &Envelope::Parted { client, exit, members });
    }

    /// Everybody of this node that is in a room. It is queued under the room's lock, as comings and goings are: told
    /// after one of them, it would say what was before. The most of a long list is encoded before that.
    pub(crate) fn tell_seats(&self, room: &Room) {
        let Some(topic) = &room.bus_topic else { return };
        let early = EarlyParts::of(room);
        room.with_seats_here(|members, seats| {
            let here: HashSet<ClientId> = early.ids_if_any(seats);
            for (index, part) in early.parts.iter().enumerate() {
                self.say_encoded(topic, &part.as_of_now(index == 0, members, &here));
            }
            let late: Vec<&Seat> =
                seats.iter().filter(|(client, _)| !early.ids.contains(&client.id())).collect();
            // The last part says that it is, also where nobody is in it.
            let last = late.len().div_ceil(SEATS_TOGETHER).max(1) - 1;
            for index in 0..=last {
                let part = late.iter().skip(index * SEATS_TOGETHER).take(SEATS_TOGETHER);
                let (begin, end) = (index == 0 && early.parts.is_empty(), index == last);
                self.say_encoded(topic, &encode_seats((begin, end), members, part.copied()));
            }
        });
    }

    /// Asks who is in a room elsewhere.
    pub(crate) fn ask_who(&self, room: &Room) {
        if let Some(topic) = &room.bus_topic {
            self.say(topic, &Envelope::Who);
        }
    }

    /// Somebody here is typing.
    pub(crate) fn tell_typing(&self, room: &Room, typing: &Typing) {
        let Some(topic) = &room.bus_topic else { return };
        let Typing { from, active, .. } = typing;
        let (user, name, client) = (from.user.as_str(), &*from.name, from.client.as_u128());
        self.say(topic, &Envelope::Typing { user, name, client, active: *active });
    }

    /// A member here has another name.
    pub(crate) fn tell_renamed(&self, room: &Room, client: u128, name: &str, former: &str) {
        if let Some(topic) = &room.bus_topic {
            self.say(topic, &Envelope::Renamed { client, name, former });
        }
    }

    /// A user has come so far.
    pub(crate) fn tell_read(&self, room: &Room, user: &UserId, marks: (u64, u64, u64)) {
        let Some(topic) = &room.bus_topic else { return };
        let (delivered, seen, ordinal) = marks;
        let epoch = room.epoch().as_u64();
        self.say(topic, &Envelope::Read { user: user.as_str(), epoch, delivered, seen, ordinal });
    }

    /// A frame for everybody.
    pub(crate) fn tell_broadcast(&self, tenant: &str, frame: &Frame) {
        let (binary, bytes) = (frame.kind == FrameKind::Binary, &frame.bytes[..]);
        self.say(&self.everybody, &Envelope::Broadcast { tenant, binary, bytes });
    }

    /// A message for everybody.
    pub(crate) fn tell_announcement(&self, tenant: &str, message: &Message) {
        self.say(&self.everybody, &Envelope::Announce { tenant, record: &record(message) });
    }

    /// A frame for a client that is not here.
    pub(crate) fn push(&self, client: ClientId, frame: &Frame, ask: u64) {
        let (binary, bytes) = (frame.kind == FrameKind::Binary, &frame.bytes[..]);
        self.say(&topic_of_client(client), &Envelope::Push { binary, bytes, ask });
    }

    /// A message for a client that is not here.
    pub(crate) fn tell_client(&self, client: ClientId, tenant: &str, message: &Message, ask: u64) {
        self.say(&topic_of_client(client), &Envelope::Tell { tenant, record: &record(message), ask });
    }

    /// What was decided about credentials, to one node or to all.
    pub(crate) fn tell_rulings(&self, node: Option<NodeId>, records: &[Bytes]) {
        let max = RULINGS_TOGETHER_BYTES.min(self.link.payload_bytes_max() - 1024);
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |record: &&Bytes| {
                bytes += record.len() + 8;
                bytes <= max
            };
            // One that fits nowhere is tried alone.
            let count = rest.iter().take_while(fits).count().max(1);
            let envelope = Envelope::Rulings(rest[..count].iter().map(|record| &record[..]).collect());
            match node {
                Some(node) => self.say_to_node(node, &envelope),
                None => self.say(&self.everybody, &envelope),
            }
            rest = &rest[count..];
        }
    }

    /// A user's clients go out of a room.
    pub(crate) fn tell_put_out(&self, tenant: &str, room: &RoomName, user: &UserId) {
        let (room, user) = (room.as_str(), user.as_str());
        self.say(&self.everybody, &Envelope::PutOut { tenant, room, user });
    }

    /// What all the rulings come to that this node knows.
    pub(crate) fn tell_digest(&self, digest: u64) {
        self.say(&self.everybody, &Envelope::Digest(digest));
    }

    /// What is known of a tenant has changed.
    pub(crate) fn tell_tenant(&self, tenant: &str) {
        self.say(&self.everybody, &Envelope::Tenant(tenant));
    }
}

pub(super) fn record(message: &Message) -> Vec<u8> {
    let mut record = Vec::with_capacity(
        128 + match &message.body {
            Body::Empty => 0,
            body => body.len(),
        },
    );
    encode_record(message, &mut record);
    record
}

/// A named client in a room, and since when.
type Seat = (Arc<Client>, Timestamp);

/// The most of a long list of a room's members here, as it was a moment ago. Of a short one nothing.
#[derive(Default)]
struct EarlyParts {
    parts: Vec<EarlyPart>,
    ids: HashSet<ClientId>,
}

struct EarlyPart {
    seats: Vec<Seat>,
    encoded: Vec<u8>,
}

impl EarlyParts {
    fn of(room: &Room) -> Self {
        if room.members() <= SEATS_TOGETHER {
            return Self::default();
        }
        let (members, seats) = room.with_seats_here(|members, seats| (members, seats.to_vec()));
        let encoded = |(index, seats): (usize, &[Seat])| EarlyPart {
            seats: seats.to_vec(),
            encoded: encode_seats((index == 0, false), members, seats),
        };
        Self {
            parts: seats.chunks(SEATS_TOGETHER).enumerate().map(encoded).collect(),
            ids: seats.iter().map(|(client, _)| client.id()).collect(),
        }
    }

    /// Who is here now, where there is anything to be compared with that.
    fn ids_if_any(&self, seats: &[Seat]) -> HashSet<ClientId> {
        if self.parts.is_empty() {
            return HashSet::new();
        }
        seats.iter().map(|(client, _)| client.id()).collect()
    }
}

impl EarlyPart {
    /// Without those that have gone since.
    fn as_of_now(&self, begin: bool, members: usize, here: &HashSet<ClientId>) -> Cow<'_, [u8]> {
        let is_here = |seat: &&Seat| here.contains(&seat.0.id());
        if self.seats.iter().all(|seat| is_here(&seat)) {
            return Cow::Borrowed(&self.encoded);
        }
        Cow::Owned(encode_seats((begin, false), members, self.seats.iter().filter(is_here)))
    }
}

/// A part of the list of a room's members here: whether it is the first, and the last.
fn encode_seats<'a>(
    (begin, end): (bool, bool),
    members: usize,
    seats: impl IntoIterator<Item = &'a Seat>,
) -> Vec<u8> {
    let texts = |seat: &'a Seat| (seat, seat.0.name(), info_of(&seat.0));
    let seats: Vec<_> = seats.into_iter().map(texts).collect();
    let seats =
        seats.iter().map(|((client, since), name, info)| seat_of(client, name, info, since.as_millis()));
    Envelope::Seats { begin, end, members: number(members), seats: seats.collect() }.encode()
}

fn seat_of<'a>(client: &'a Client, name: &'a str, info: &'a [u8], since: i64) -> SeatRef<'a> {
    let identity = client.identity();
    SeatRef {
        client: client.id().as_u128(),
        user: identity.user.as_str(),
        name,
        device: &identity.device,
        anonymous: identity.anonymous,
        info,
        since,
    }
}

fn info_of(client: &Client) -> Vec<u8> {
    let info = client.identity().claims.as_ref().and_then(|claims| claims.get("info"));
    info.and_then(|info| serde_json::to_vec(info).ok()).unwrap_or_default()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
