//! What nodes say to each other, as bytes.
//!
//! Neutral: messages travel as records, as stores keep them, never as a dialect's frames, since the far side may speak another one. The
//! order of the variants and of their fields is the format (postcard); what does not decode is counted and forgotten. A
//! change that older nodes cannot read raises the version of the link's frames.

use outspoke_bus::NodeId;
use serde::{Deserialize, Serialize};

use crate::trace::explain::Account;
use crate::trace::follow::Sight;

/// One thing said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Envelope<'a> {
    // ---- on a room's topic ----
    /// Messages of a stored room that are durable now.
    Placed(#[serde(borrow)] Vec<PlacedRef<'a>>, u64),
    /// The log of a stored room has come up to there; what it says is in the store.
    Head { epoch: u64, head: u64 },
    /// What is in memory of the room's log is not what is stored any more.
    Void,
    /// A message of a room that is not stored, and the id of the earlier message that it amends.
    Said(&'a [u8], Option<u128>),
    /// A client has come.
    Arrived(#[serde(borrow)] SeatRef<'a>, u32),
    /// A client has gone; so many are left there.
    Parted { client: u128, exit: ExitWord, members: u32 },
    /// Everybody of this node that is in the room, in one or several parts.
    Seats {
        begin: bool,
        end: bool,
        members: u32,
        #[serde(borrow)]
        seats: Vec<SeatRef<'a>>,
    },
    /// Tell me who of you is in the room.
    Who,
    /// Somebody is typing, or no longer.
    Typing { user: &'a str, name: &'a str, client: u128, active: bool },
    /// How far a user has come, which is durable where the room is stored.
    Read { user: &'a str, epoch: u64, delivered: u64, seen: u64, ordinal: u64 },
    /// A member has another name.
    Renamed { client: u128, name: &'a str, former: &'a str },
    // ---- to every node ----
    /// A frame for every client of a tenant.
    Broadcast { tenant: &'a str, binary: bool, bytes: &'a [u8] },
    /// A message for every client of a tenant, outside any room.
    Announce { tenant: &'a str, record: &'a [u8] },
    /// Messages of a private conversation that are durable now: whoever has a device of one of the two opens it.
    Direct {
        tenant: &'a str,
        room: &'a str,
        #[serde(borrow)]
        placed: Vec<PlacedRef<'a>>,
        epoch: u64,
    },
    /// Somebody has connected with this identity: whoever was there with it before goes.
    Claim { tenant: &'a str, user: &'a str, device: &'a str, client: u128 },
    /// What is known of the tenant is to be read again.
    Tenant(&'a str),
    // ---- to one client ----
    /// A frame for the client that the topic names.
    Push { binary: bool, bytes: &'a [u8], ask: u64 },
    /// A message for the client that the topic names, if it is this tenant's.
    Tell { tenant: &'a str, record: &'a [u8], ask: u64 },
    // ---- to one node, or to all ----
    /// A question; the answer goes to the asker's own topic.
    Ask(u64, #[serde(borrow)] Question<'a>),
    /// An answer.
    Answer(u64, #[serde(borrow)] Reply<'a>),
    /// What was decided about credentials, as stores keep it.
    Rulings(#[serde(borrow)] Vec<&'a [u8]>),
    /// The user's clients go out of the room, and may come in again.
    PutOut { tenant: &'a str, room: &'a str, user: &'a str },
    /// What all the rulings come to that the sender knows.
    Digest(u64),
    /// What was seen for the asker's follow of that number, and how many sightings were sent for it before.
    Seen {
        follow: u64,
        before: u64,
        #[serde(borrow)]
        sightings: Vec<SightingWord<'a>>,
    },
    /// Nobody wants to be told more for that follow.
    Unfollow(u64),
}

/// A durable message and its place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlacedRef<'a> {
    pub(crate) offset: u64,
    pub(crate) ordinal: u64,
    pub(crate) record: &'a [u8],
    /// The offset of the message that it amends, and that message's record from now on.
    #[serde(borrow)]
    pub(crate) amended: Option<(u64, &'a [u8])>,
}

/// A client in a room.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SeatRef<'a> {
    pub(crate) client: u128,
    pub(crate) user: &'a str,
    pub(crate) name: &'a str,
    pub(crate) device: &'a str,
    pub(crate) anonymous: bool,
    /// What the credential says of the user for others to see, as JSON; empty for nothing.
    pub(crate) info: &'a [u8],
    /// Milliseconds since 1970.
    pub(crate) since: i64,
}

/// Why a client has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ExitWord {
    Goodbye,
    Lost,
    Replaced,
}

/// What may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Question<'a> {
    /// Are you there, and what is the time?
    Ping,
    /// Ping every node that you know, and tell.
    Check,
    /// Take no new clients and let those you have go; or take clients again.
    Drain(bool),
    /// How many clients does this user have with you? They are disconnected, if a code says so.
    Devices {
        tenant: &'a str,
        user: &'a str,
        device: Option<&'a str>,
        disconnect: Option<u16>,
        reason: &'a str,
    },
    /// Is this client with you? It is disconnected with this code.
    Client { tenant: &'a str, client: u128, disconnect: u16, reason: &'a str },
    /// How many members of this room are with you?
    Members { tenant: &'a str, room: &'a str },
    /// Which clients does this user have with you? They are sent this message.
    Say { tenant: &'a str, user: &'a str, record: &'a [u8] },
    /// What do you know of this message, and of what became of it for this user?
    Account(AccountOf<'a>),
    /// Take no new clients and let those you have go, so many at once, in so many milliseconds, there. A node that does not know
    /// this question does not answer.
    DrainAs { batch: Option<u64>, interval_ms: Option<u64>, target: Option<&'a str> },
    /// Is this client with you? Treat it for so many milliseconds as one that reads nothing.
    Slow { tenant: &'a str, client: u128, lasting_ms: u64 },
    /// Tell me what you see of this, for a while; or go on telling.
    Follow(FollowOf<'a>),
    /// What the program of the asker wants to know of yours. A node that does not know this question does not answer.
    Program(&'a [u8]),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Reply<'a> {
    /// At this time, in milliseconds since 1970.
    Pong(i64),
    /// What was found from there to each node.
    Checked(Vec<RouteWord>),
    Done,
    /// So many.
    Count(u64),
    /// It could not be done.
    Refused(&'a str),
    /// These clients, and whether there was space for the message.
    Said(Vec<(u128, bool)>),
    /// What is known of a message.
    Account(Box<Account>),
    /// What the program says.
    Program(&'a [u8]),
}

/// Which message, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AccountOf<'a> {
    pub(crate) tenant: &'a str,
    /// `None`: it is known by its id only.
    pub(crate) room: Option<&'a str>,
    pub(crate) offset: u64,
    pub(crate) id: Option<u128>,
    pub(crate) user: Option<&'a str>,
}

/// What is followed, on a node that is asked to tell of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FollowOf<'a> {
    /// The asker's number for it.
    pub(crate) follow: u64,
    pub(crate) tenant: &'a str,
    /// A room, or else a user.
    pub(crate) room: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    /// What messages say is wanted, too.
    pub(crate) payload: bool,
}

/// Something that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SightingWord<'a> {
    pub(crate) sight: Sight,
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) room: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) client: Option<u128>,
    pub(crate) device: &'a str,
    pub(crate) offset: Option<u64>,
    pub(crate) after: Option<u64>,
    pub(crate) count: Option<u64>,
    pub(crate) code: Option<u16>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) policy: Option<&'a str>,
    pub(crate) queued_bytes: Option<u64>,
    pub(crate) id: Option<u128>,
    pub(crate) kind: Option<&'a str>,
    /// The message, if what it says is wanted.
    #[serde(borrow)]
    pub(crate) message: Option<SeenMessage<'a>>,
}

/// Epoch and offset of a message, if it has any, and the message as stores keep it.
pub(crate) type SeenMessage<'a> = (Option<(u64, u64)>, &'a [u8]);

/// How another node is reached from one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RouteWord {
    pub(crate) to: u128,
    /// Microseconds there and back; `None`: no answer.
    pub(crate) round_trip: Option<u64>,
    /// How far the other clock is ahead, in milliseconds, about.
    pub(crate) clock: i64,
}

/// What a node says of itself with each beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BeatWord {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) advertise: String,
    /// Milliseconds since 1970.
    pub(crate) started: i64,
    pub(crate) clients: u64,
    pub(crate) rooms: u64,
    /// Milliseconds within which it is to be heard of again.
    pub(crate) interval: u64,
    pub(crate) draining: bool,
    /// This is its last one.
    pub(crate) leaving: bool,
    /// Whom it has heard of; a node that is not among them has not been heard.
    pub(crate) hears: Vec<u128>,
}

impl<'a> Envelope<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("writing to memory does not fail")
    }

    /// What was said; `None` for anything that is no envelope.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

impl BeatWord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("writing to memory does not fail")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    pub(crate) fn hears(&self, node: NodeId) -> bool {
        self.hears.contains(&node.as_u128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_come_back_as_they_were() {
        let seat = SeatRef {
            client: 7,
            user: "анна",
            name: "Анна",
            device: "",
            anonymous: false,
            info: b"{}",
            since: -1,
        };
        let placed = PlacedRef { offset: 9, ordinal: 4, record: b"abc", amended: Some((3, b"def")) };
        let sighting = SightingWord {
            sight: Sight::Skipped,
            at: -5,
            room: Some("r"),
            user: Some("анна"),
            client: Some(u128::MAX),
            device: "phone",
            offset: Some(9),
            after: None,
            count: Some(u64::MAX),
            code: Some(4005),
            reason: Some(""),
            policy: Some("skip"),
            queued_bytes: None,
            id: Some(1),
            kind: Some("chat"),
            message: Some((Some((1, 2)), b"abc")),
        };
        for envelope in [
            Envelope::Placed(vec![placed, PlacedRef { amended: None, ..placed }], 5),
            Envelope::Head { epoch: 1, head: 2 },
            Envelope::Void,
            Envelope::Said(b"x", Some(u128::MAX)),
            Envelope::Arrived(seat, 3),
            Envelope::Parted { client: 1, exit: ExitWord::Lost, members: 0 },
            Envelope::Seats { begin: true, end: false, members: 9, seats: vec![seat, seat] },
            Envelope::Direct { tenant: "t", room: "@a~b", placed: vec![placed], epoch: 5 },
            Envelope::Ask(
                4,
                Question::Devices { tenant: "", user: "u", device: None, disconnect: None, reason: "" },
            ),
            Envelope::Rulings(vec![b"one", b""]),
            Envelope::Digest(u64::MAX),
            Envelope::Seen { follow: 3, before: 1 << 40, sightings: vec![sighting, sighting] },
            Envelope::Unfollow(3),
            Envelope::Ask(5, Question::Slow { tenant: "t", client: 8, lasting_ms: 60_000 }),
            Envelope::Ask(
                6,
                Question::Follow(FollowOf {
                    follow: 3,
                    tenant: "",
                    room: Some("r"),
                    user: None,
                    payload: true,
                }),
            ),
            Envelope::Ask(7, Question::Program(b"{}")),
            Envelope::Answer(7, Reply::Program(&[0, 255])),
            Envelope::Answer(4, Reply::Checked(vec![RouteWord { to: 1, round_trip: None, clock: -3 }])),
        ] {
            assert_eq!(Envelope::decode(&envelope.encode()), Some(envelope));
        }
    }

    /// What a length says is believed only as far as there are bytes.
    #[test]
    fn bytes_of_any_kind_neither_panic_nor_take_memory() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..50_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..64)).map(|_| random.u8(..)).collect();
            if let Some(first) = bytes.first_mut() {
                *first %= 26;
            }
            let _ = Envelope::decode(&bytes);
            let _ = BeatWord::decode(&bytes);
        }
        assert_eq!(Envelope::decode(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f]), None);
    }
}
