//! What a shard says of a message and a user's connections, and what it notes for that.
//!
//! Who got what follows from where a connection stands: the place at which it came into the room, the last place handed out there,
//! what waits in its outbox and what was left out. Only what ends that state is [noted](crate::trace::diary). Nothing is claimed
//! that notes which have fallen out of memory could contradict.

use std::collections::BTreeMap;
use std::time::Instant;

use ecow::EcoString;
use outspoke_protocol::{ClientId, Disconnect, Epoch, Refusal, RoomName, UserId};

use super::connection::Membership;
use super::{Key, Shard};
use crate::client::outbox::Skipped;
use crate::config::SlowClient;
use crate::hub::Departure;
use crate::room::join::Joined;
use crate::room::{Room, RoomId};
use crate::trace::diary::{Because, HandedOut, Note, Stay, What};
use crate::trace::explain::{ConnectionAccount, HandOut, Outcome};
use crate::trace::follow::{Sight, Sighting};

/// Connections of which one shard tells at most.
const CONNECTIONS_MAX: usize = 64;

/// What a shard is asked.
#[derive(Clone, Debug)]
pub(crate) struct Inquiry {
    pub(crate) tenant: EcoString,
    pub(crate) room: RoomName,
    /// Of the room as it was when the message came; `None`: it is not known.
    pub(crate) room_id: Option<RoomId>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) offset: u64,
    /// When this node had it; `None`: it is not remembered.
    pub(crate) at: Option<Instant>,
    pub(crate) user: Option<UserId>,
    /// The user's connections to this shard.
    pub(crate) clients: Vec<(Key, ClientId)>,
}

/// What it answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShardAccount {
    pub(crate) handed: Option<HandOut>,
    pub(crate) connections: Vec<ConnectionAccount>,
}

impl Shard {
    /// Says what became of a message here, for a user if one is named.
    pub(super) fn account(&self, inquiry: &Inquiry) -> ShardAccount {
        let handed = inquiry.room_id.and_then(|room| self.diary.hand_out_of(room, inquiry.offset));
        let mut account = ShardAccount {
            handed: handed.map(|handed| HandOut {
                shard: self.index,
                at: self.hub.time_of(handed.at).as_millis(),
                members: handed.members,
            }),
            connections: Vec::new(),
        };
        let Some(user) = &inquiry.user else { return account };
        let mut notes: BTreeMap<ClientId, Vec<&Note>> = BTreeMap::new();
        for (_, client) in &inquiry.clients {
            notes.insert(*client, Vec::new());
        }
        for note in self.diary.of_user(&inquiry.tenant, user) {
            notes.entry(note.client).or_default().push(note);
        }
        // Those that are here first, and the newest of the others.
        let here = |client: &ClientId| inquiry.clients.iter().any(|(_, here)| here == client);
        let mut clients: Vec<ClientId> = notes.keys().copied().collect();
        let newest = |client: &ClientId| notes[client].last().map(|note| note.at);
        clients.sort_by_key(|client| (here(client), newest(client)));
        for client in clients.into_iter().rev().take(CONNECTIONS_MAX) {
            let key = inquiry.clients.iter().find(|(_, here)| *here == client).map(|(key, _)| *key);
            let case = Case { shard: self, inquiry, handed, notes: &notes[&client] };
            account.connections.extend(case.of(client, key));
        }
        account
    }

    /// Notes that a client was refused a room.
    pub(super) fn note_refused(&mut self, key: Key, room: &RoomName, refusal: &Refusal) {
        self.show_refused(key.slot, room, refusal);
        let client = &self.connections[key.slot as usize].client;
        let (room, reason) = (room.clone(), refusal.detail.clone());
        self.diary.note(client, What::Refused { room, code: refusal.code.number(), reason });
    }

    /// Notes that a client was given what it had missed.
    pub(super) fn note_recovered(&mut self, key: Key, room: &Room, joined: &Joined) {
        let first = joined.missed.iter().find_map(|missed| missed.message_ref()?.position);
        let Some(first) = first else { return };
        let (after, upto) = (first.offset.saturating_sub(1), joined.head);
        let what = What::Recovered { room: room.id, after, upto };
        if let Some(name) = &room.name {
            self.show_in(key.slot, name, Sight::Recovered, |sighting| Sighting {
                after: Some(after),
                offset: Some(upto),
                ..sighting
            });
        }
        self.diary.note(&self.connections[key.slot as usize].client, what);
    }

    /// Notes the end of a client's time in a room, before what waits of the room is no longer known as the room's.
    pub(super) fn note_stay(&mut self, key: Key, membership: &Membership, because: Because) {
        let Some(name) = membership.room.name.clone() else { return };
        let until = self.rooms.position_of(membership);
        self.show_left(key.slot, &name, until.offset, because);
        if !self.diary.is_on() {
            return;
        }
        let connection = &self.connections[key.slot as usize];
        let outbox = connection.outbox.as_deref();
        let waiting = outbox.and_then(|outbox| outbox.first_of(membership.room.id));
        let skipped = outbox.and_then(|outbox| {
            outbox.skipped.iter().find(|skipped| skipped.room == membership.room.id).cloned()
        });
        let stay = Stay {
            room: name,
            room_id: membership.room.id,
            epoch: until.epoch,
            joined: membership.joined,
            until: until.offset,
            waiting,
            because,
            dialect: connection.dialect,
        };
        if let Some(skipped) = skipped {
            self.diary.note(&connection.client, skipped_there(skipped, &membership.room));
        }
        self.diary.note(&connection.client, What::Stayed(Box::new(stay)));
    }

    /// Notes what a slow client did not get, now that it reads again.
    pub(super) fn note_skipped(&mut self, slot: u32, skipped: &[Skipped]) {
        for skipped in skipped {
            let connection = &self.connections[slot as usize];
            let held = connection.memberships.iter().find(|held| held.room.id == skipped.room);
            if let Some(held) = held {
                self.diary.note(&connection.client, skipped_there(skipped.clone(), &held.room));
            }
        }
    }
}

fn skipped_there(skipped: Skipped, room: &Room) -> What {
    let policy = policy_name(room.class().slow_client);
    What::Skipped { room: skipped.room, ranges: Box::new(skipped.ranges), policy }
}

/// As the settings call it.
pub(super) fn policy_name(policy: SlowClient) -> &'static str {
    match policy {
        SlowClient::Disconnect => "disconnect",
        SlowClient::DropOldest => "drop_oldest",
        SlowClient::DropNewest => "drop_newest",
        SlowClient::Conflate => "conflate",
        SlowClient::Resync => "resync",
    }
}

/// One connection and one message.
struct Case<'a> {
    shard: &'a Shard,
    inquiry: &'a Inquiry,
    handed: Option<HandedOut>,
    /// What was noted of the connection.
    notes: &'a [&'a Note],
}

impl Case<'_> {
    /// `None`: the connection has nothing to do with it.
    fn of(&self, client: ClientId, key: Option<Key>) -> Option<ConnectionAccount> {
        let connection = key.and_then(|key| {
            let connection = self.shard.connections.get(key.slot as usize)?;
            (connection.generation == key.generation && connection.is_open()).then_some(connection)
        });
        let device = match (connection, self.notes.first()) {
            (Some(connection), _) => connection.client.identity().device.to_string(),
            (None, Some(note)) => note.device.to_string(),
            (None, None) => String::new(),
        };
        let mut account =
            ConnectionAccount { client, device, connected: connection.is_some(), ..Default::default() };
        let membership = connection.and_then(|connection| {
            let named = |held: &&Membership| held.room.name.as_ref() == Some(&self.inquiry.room);
            connection.memberships.iter().find(named)
        });
        if let Some(connection) = connection
            && let Some(membership) = membership.filter(|held| self.is_same_log(held.room.epoch()))
            && membership.joined < self.inquiry.offset
        {
            let queued = connection.client.queued_bytes();
            self.of_member(
                &mut account,
                membership,
                connection.outbox.as_deref(),
                connection.dialect,
                queued,
            );
            return Some(account);
        }
        if let Some(stay) = self.stays().rev().find(|(_, stay)| stay.joined < self.inquiry.offset) {
            self.of_stay(&mut account, stay.0, stay.1);
            return Some(account);
        }
        self.of_others(&mut account, membership);
        // Of connections that are gone and never had to do with the room nothing is said.
        (account.connected || !matches!(account.outcome, Outcome::NotMember)).then_some(account)
    }

    fn is_same_log(&self, epoch: Epoch) -> bool {
        self.inquiry.epoch.is_none_or(|known| known == epoch)
    }

    fn stays(&self) -> impl DoubleEndedIterator<Item = (&Note, &Stay)> {
        self.notes.iter().filter_map(|note| match &note.what {
            What::Stayed(stay) if stay.room == self.inquiry.room && self.is_same_log(stay.epoch) => {
                Some((*note, &**stay))
            }
            _ => None,
        })
    }

    /// It is in the room since before the message.
    fn of_member(
        &self,
        account: &mut ConnectionAccount,
        membership: &Membership,
        outbox: Option<&crate::client::outbox::Outbox>,
        dialect: u8,
        queued_bytes: usize,
    ) {
        let (room, offset) = (membership.room.id, self.inquiry.offset);
        if self.shard.rooms.position_of(membership).offset < offset {
            account.put(
                Outcome::Pending,
                "its shard has not come to the message yet, or the message is not in the room",
            );
            return;
        }
        if outbox.is_some_and(|outbox| outbox.holds(room, offset)) {
            account.put(Outcome::Queued, "it waits for the client to read what was sent before");
            account.queued_bytes = Some(queued_bytes as u64);
            account.at = self.handed.map(|handed| self.millis(handed.at));
            return;
        }
        let skipped = outbox.and_then(|outbox| outbox.skipped.iter().find(|skipped| skipped.room == room));
        match skipped.map_or(Some(false), |skipped| skipped.ranges.has(offset)) {
            Some(true) => {
                account.policy = Some(policy_name(membership.room.class().slow_client).to_owned());
                account
                    .put(Outcome::Skipped, "the client reads too slowly, and the room's policy left it out");
            }
            None => {
                account.put(
                    Outcome::Unknown,
                    "of messages around it some were left out, since the client reads too slowly",
                );
            }
            Some(false) => self.of_done(account, room, dialect),
        }
    }

    /// It was a member, and nothing of it waits any more.
    fn of_done(&self, account: &mut ConnectionAccount, room: RoomId, dialect: u8) {
        let offset = self.inquiry.offset;
        for note in self.notes {
            let What::Skipped { room: there, ranges, policy } = &note.what else { continue };
            match ranges.has(offset) {
                Some(true) if *there == room => {
                    account.policy = Some((*policy).to_owned());
                    account.at = Some(self.millis(note.at));
                    account.put(
                        Outcome::Skipped,
                        "the client read too slowly, and the room's policy left it out",
                    );
                    return;
                }
                None if *there == room => {
                    account.put(
                        Outcome::Unknown,
                        "of messages around it some were left out, since the client read too slowly",
                    );
                    return;
                }
                _ => {}
            }
        }
        match (self.handed, self.inquiry.at) {
            (Some(handed), _) if handed.unsaid & (1 << dialect.min(63)) != 0 => {
                if handed.first == handed.last {
                    account.put(Outcome::Unspeakable, "the dialect of the connection has no words for it");
                } else {
                    account.put(
                        Outcome::Unknown,
                        "the dialect of the connection has no words for one of the messages around it",
                    );
                }
            }
            (_, Some(at)) if self.shard.diary.knows_slow_since(at) => {
                account.put(Outcome::Written, "all its bytes were given to the connection's socket");
                account.at = self.written_at().map(|at| self.millis(at));
            }
            (_, Some(_)) => account.put(
                Outcome::Unknown,
                "it was in the room and nothing waits; whether it was too slow then is not remembered any more",
            ),
            (_, None) => account.put(
                Outcome::Unknown,
                "it is in the room since before the message, and has what came after; the message itself is not remembered any more",
            ),
        }
    }

    /// When the last byte was written: at the hand-out, or at the end of the slow time that this fell into.
    fn written_at(&self) -> Option<Instant> {
        let handed = self.handed?.at;
        let slow = self.notes.iter().find_map(|note| match note.what {
            What::WasSlow { since } if since <= handed && handed <= note.at => Some(note.at),
            _ => None,
        });
        Some(slow.unwrap_or(handed))
    }

    /// It was in the room when or before the message came, and is not any more.
    fn of_stay(&self, account: &mut ConnectionAccount, note: &Note, stay: &Stay) {
        let offset = self.inquiry.offset;
        if stay.until < offset {
            account.at = Some(self.millis(note.at));
            match stay.because {
                Because::Left => account.put(Outcome::Left, "it had left the room before"),
                Because::Removed => {
                    account.put(
                        Outcome::Removed,
                        "it had been taken out of the room before, or may not be there any more",
                    );
                }
                Because::Ended(departure) => {
                    account.put(Outcome::Ended, "the connection had ended before");
                    account.end(departure);
                }
            }
            return;
        }
        if stay.waiting.is_some_and(|waiting| waiting <= offset) {
            account.at = Some(self.millis(note.at));
            match stay.because {
                Because::Ended(departure) => {
                    account.put(
                        Outcome::Ended,
                        "the connection ended while the message waited for the client to read",
                    );
                    account.end(departure);
                }
                Because::Removed => {
                    account.put(
                        Outcome::Removed,
                        "it was taken out of the room while the message waited for the client to read",
                    );
                }
                Because::Left => {
                    account.put(
                        Outcome::Unknown,
                        "it left the room while the message waited for it, and may have read it after",
                    );
                }
            }
            return;
        }
        let ended = matches!(stay.because, Because::Ended(Departure::Lost));
        self.of_done(account, stay.room_id, stay.dialect);
        if ended && account.outcome == Outcome::Written {
            account.why.push_str("; the connection broke later, and may have lost it on the way");
        }
    }

    /// It was not in the room when the message came.
    fn of_others(&self, account: &mut ConnectionAccount, membership: Option<&Membership>) {
        let offset = self.inquiry.offset;
        let recovered = self.notes.iter().rev().find(|note| match note.what {
            What::Recovered { room, after, upto } => {
                Some(room) == membership.map(|held| held.room.id).or(self.inquiry.room_id)
                    && after < offset
                    && offset <= upto
            }
            _ => false,
        });
        if let Some(note) = recovered {
            account.at = Some(self.millis(note.at));
            account.put(Outcome::Recovered, "it came into the room later, and was sent it from history");
            return;
        }
        if let Some(membership) = membership {
            match self.inquiry.at {
                _ if !self.is_same_log(membership.room.epoch()) => {
                    account.put(Outcome::JoinedLater, "the room's history has begun anew since the message");
                }
                Some(at) if self.shard.diary.knows_stays_since(at) => {
                    account.put(Outcome::JoinedLater, "it came into the room behind the message, and was not sent what was before");
                }
                _ => account.put(
                    Outcome::JoinedLater,
                    "it came into the room behind the message; whether it was sent what was before is not remembered any more",
                ),
            }
            account.joined = Some(membership.joined);
            return;
        }
        if let Some((note, stay)) = self.stays().next() {
            account.at = Some(self.millis(note.at));
            account.joined = Some(stay.joined);
            account.put(Outcome::JoinedLater, "it came into the room behind the message, and is gone by now");
            return;
        }
        let refused = self.notes.iter().rev().find_map(|note| match &note.what {
            What::Refused { room, code, reason } if *room == self.inquiry.room => {
                Some((note.at, *code, reason))
            }
            _ => None,
        });
        if let Some((at, code, reason)) = refused {
            account.at = Some(self.millis(at));
            (account.code, account.reason) = (Some(code), Some(reason.to_string()));
            account.put(Outcome::Refused, "it was refused the room");
            return;
        }
        let knows = self.inquiry.at.is_some_and(|at| self.shard.diary.knows_stays_since(at));
        match (account.connected, knows) {
            (true, true) => account.put(Outcome::NotMember, "it was not in the room"),
            (true, false) => account.put(
                Outcome::NotMember,
                "it is not in the room; whether it was there then is not remembered any more",
            ),
            (false, _) => {}
        }
    }

    fn millis(&self, at: Instant) -> i64 {
        self.shard.hub.time_of(at).as_millis()
    }
}

/// How a connection ended, as people are told.
pub(super) fn told(departure: Departure) -> (Option<u16>, &'static str) {
    match departure {
        Departure::ByPeer(code) => (code, "the client said goodbye"),
        Departure::ByServer(disconnect) => (Some(disconnect.code()), Disconnect::reason(disconnect)),
        Departure::Lost => (None, "the connection broke without a goodbye"),
    }
}

impl ConnectionAccount {
    fn put(&mut self, outcome: Outcome, why: &str) {
        self.outcome = outcome;
        self.why = why.to_owned();
    }

    fn end(&mut self, departure: Departure) {
        let (code, reason) = told(departure);
        (self.code, self.reason) = (code, Some(reason.to_owned()));
    }
}
