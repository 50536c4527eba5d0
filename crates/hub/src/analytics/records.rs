//! What is kept of an hour or a day, as bytes.
//!
//! Facts of the family [`ANALYTICS`](crate::facts::ANALYTICS), by name: `h`, hour and `d`, day for a tenant;
//! `rh`, hour, room and `rd`, day, room for a room; `top`, day for its busiest rooms. Hours and days are counted since 1970 in UTC
//! and written with ten digits: so what is old comes first. A record is its format's version, numbers of eight bytes, big
//! end first, and what has another length; a part of a version never changes.
//!
//! In a store that hubs share, each life of a hub has facts of its own, with a name of its own at the end: nobody else
//! writes them. What they say together is found when somebody asks: messages are added up, users and rooms united, minutes
//! added up before the busiest is looked for, and connections added up where lives were at the same time.

use std::collections::BTreeMap;

use bytes::Bytes;
use ecow::EcoString;

use super::distinct::Distinct;

const VERSION: u8 = 1;
/// Of a total with its [`Shares`].
const VERSION_SHARED: u8 = 2;

/// How much of the busiest rooms is kept, in rooms and in bytes of their names.
const TOP: (usize, usize) = (100, 32 * 1024);

/// An hour or a day of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) messages: u64,
    /// Messages in the busiest minute.
    pub(super) minute_max: u64,
    pub(super) connections_max: u64,
    /// Rooms in which something was said.
    pub(super) rooms: u64,
    pub(super) users: Distinct,
    /// In a store that hubs share.
    pub(super) shares: Option<Box<Shares>>,
}

/// What it takes to add up the totals of several lives of hubs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// The time that this life is known to have been there in the span, in milliseconds since 1970.
    pub(super) alive: (i64, i64),
    /// The names of the rooms.
    pub(super) names: Distinct,
    /// Messages by the minute of the span, where there were any.
    pub(super) minutes: BTreeMap<u16, u64>,
}

impl Shares {
    fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.alive.0, self.alive.1] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let mut names = Vec::new();
        self.names.encode(&mut names);
        put_part(out, &names);
        let mut before = 0;
        for (minute, messages) in &self.minutes {
            put_varint(out, u64::from(minute - before));
            put_varint(out, *messages);
            before = *minute;
        }
    }

    fn decode(mut rest: &[u8]) -> Option<Self> {
        let alive = (number(&mut rest)?.cast_signed(), number(&mut rest)?.cast_signed());
        let names = Distinct::decode(part(&mut rest)?)?;
        let (mut minutes, mut minute) = (BTreeMap::new(), 0_u16);
        while !rest.is_empty() {
            minute = minute.checked_add(u16::try_from(varint(&mut rest)?).ok()?)?;
            minutes.insert(minute, varint(&mut rest)?);
        }
        Some(Self { alive, names, minutes })
    }
}

impl Total {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![if self.shares.is_some() { VERSION_SHARED } else { VERSION }];
        for number in [self.messages, self.minute_max, self.connections_max, self.rooms] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        match &self.shares {
            None => self.users.encode(&mut out),
            Some(shares) => {
                let mut users = Vec::new();
                self.users.encode(&mut users);
                put_part(&mut out, &users);
                shares.encode(&mut out);
            }
        }
        out.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first()?;
        let total = Self {
            messages: number(&mut rest)?,
            minute_max: number(&mut rest)?,
            connections_max: number(&mut rest)?,
            rooms: number(&mut rest)?,
            ..Self::default()
        };
        match version {
            VERSION => Some(Self { users: Distinct::decode(rest)?, ..total }),
            VERSION_SHARED => {
                let users = Distinct::decode(part(&mut rest)?)?;
                Some(Self { users, shares: Some(Box::new(Shares::decode(rest)?)), ..total })
            }
            _ => None,
        }
    }

    /// What several lives of hubs, or one, did in the same span.
    pub(super) fn of_all(lives: Vec<Self>) -> Self {
        if lives.len() < 2 {
            return lives.into_iter().next().unwrap_or_default();
        }
        let mut all = Self::default();
        let (mut names, mut unnamed, mut rooms_max) = (Distinct::default(), 0, 0);
        let mut minutes: BTreeMap<u16, u64> = BTreeMap::new();
        let mut alive = Vec::new();
        for life in &lives {
            all.messages += life.messages;
            all.rooms += life.rooms;
            all.minute_max = all.minute_max.max(life.minute_max);
            all.connections_max = all.connections_max.max(life.connections_max);
            all.users.merge(&life.users);
            rooms_max = rooms_max.max(life.rooms);
            let Some(shares) = &life.shares else {
                unnamed += life.rooms;
                continue;
            };
            names.merge(&shares.names);
            alive.push((shares.alive, life.connections_max));
            for (minute, messages) in &shares.minutes {
                *minutes.entry(*minute).or_default() += messages;
            }
        }
        // An estimate may be a little off, these bounds never are.
        all.rooms = (names.count() + unnamed).clamp(rooms_max, all.rooms);
        all.minute_max = all.minute_max.max(minutes.into_values().max().unwrap_or_default());
        // The most are there when one has just begun.
        for ((begin, _), _) in &alive {
            let there = alive.iter().filter(|((from, until), _)| (*from..*until).contains(begin));
            all.connections_max = all.connections_max.max(there.map(|(_, most)| most).sum());
        }
        all
    }
}

/// An hour or a day of a room. Users are kept for days only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RoomTotal {
    pub(super) messages: u64,
    pub(super) users: Distinct,
}

impl RoomTotal {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.messages.to_be_bytes());
        self.users.encode(&mut out);
        out.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        Some(Self { messages: number(&mut rest)?, users: Distinct::decode(rest)? })
    }
}

/// The busiest rooms of a tenant's day, the busiest first.
///
/// A room's count only grows and is [put in](Self::put) whenever it does, so what was pushed out and does not come back
/// has less than all that are here: the list is exact however short it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Top(pub(super) Vec<(EcoString, u64)>);

impl Top {
    pub(super) fn put(&mut self, room: &EcoString, messages: u64) {
        self.0.retain(|(known, _)| known != room);
        let before = |(known, count): &(EcoString, u64)| (*count, room) > (messages, known);
        let at = self.0.partition_point(before);
        self.0.insert(at, (room.clone(), messages));
        self.0.truncate(TOP.0);
        let mut bytes = 0;
        let fitting = self.0.iter().take_while(|(room, _)| {
            bytes += room.len();
            bytes <= TOP.1
        });
        let fitting = fitting.count();
        self.0.truncate(fitting);
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        for (room, messages) in &self.0 {
            out.extend_from_slice(&messages.to_be_bytes());
            out.extend_from_slice(&(room.len() as u64).to_be_bytes());
            out.extend_from_slice(room.as_bytes());
        }
        out.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        let mut rooms = Vec::new();
        while !rest.is_empty() {
            let messages = number(&mut rest)?;
            let len = usize::try_from(number(&mut rest)?).ok()?;
            let (name, after) = rest.split_at_checked(len)?;
            rooms.push((EcoString::from(std::str::from_utf8(name).ok()?), messages));
            rest = after;
        }
        Some(Self(rooms))
    }
}

/// Something of any length, behind its length.
fn put_part(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(number(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

/// Seven bits a byte, the smallest first; all but the last byte have the highest bit set (LEB128).
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_read_back_as_they_were_written_and_cut_ones_do_not() {
        let mut users = Distinct::default();
        (0..300).for_each(|user| users.insert(user));
        let total = Total {
            messages: 1,
            minute_max: 2,
            connections_max: 3,
            rooms: 4,
            users: users.clone(),
            shares: None,
        };
        let shares = Shares {
            alive: (-1, 1_800_000_000_000),
            names: users.clone(),
            minutes: BTreeMap::from([(0, 1), (127, 300), (1439, u64::MAX)]),
        };
        let shared = Total { shares: Some(Box::new(shares)), ..total.clone() };
        assert_eq!(Total::decode(&shared.encode()).unwrap(), shared);
        let room = RoomTotal { messages: u64::MAX, users };
        let top = Top(vec![("lobby".into(), 7), ("größer".into(), 3)]);
        assert_eq!(Total::decode(&total.encode()).unwrap(), total);
        assert_eq!(RoomTotal::decode(&room.encode()).unwrap(), room);
        assert_eq!(Top::decode(&top.encode()).unwrap(), top);
        for bytes in [total.encode(), shared.encode(), room.encode(), top.encode()] {
            let cut = &bytes[..bytes.len() - 1];
            assert_eq!((Total::decode(cut), RoomTotal::decode(cut), Top::decode(cut)), (None, None, None));
        }
    }

    fn life(
        alive: (i64, i64),
        connections_max: u64,
        rooms: std::ops::Range<u64>,
        minutes: &[(u16, u64)],
    ) -> Total {
        let mut names = Distinct::default();
        rooms.clone().for_each(|room| names.insert(room));
        let shares = Shares { alive, names, minutes: minutes.iter().copied().collect() };
        Total {
            messages: minutes.iter().map(|(_, messages)| messages).sum(),
            minute_max: minutes.iter().map(|(_, messages)| *messages).max().unwrap_or_default(),
            connections_max,
            rooms: rooms.end - rooms.start,
            users: Distinct::default(),
            shares: Some(Box::new(shares)),
        }
    }

    /// Two at once, then one in their place; and what was kept before there were several.
    #[test]
    fn lives_together_say_what_one_would_have_said() {
        let before = Total { messages: 5, minute_max: 4, connections_max: 9, rooms: 2, ..Total::default() };
        let all = Total::of_all(vec![
            before.clone(),
            life((100, 500), 10, 0..30, &[(3, 7), (4, 1)]),
            life((200, 400), 20, 20..50, &[(4, 8), (5, 2)]),
            life((500, 900), 15, 0..50, &[]),
        ]);
        assert_eq!((all.messages, all.rooms, all.minute_max, all.connections_max), (23, 52, 9, 30));
        assert_eq!(Total::of_all(vec![before.clone()]), before);
        assert_eq!(Total::of_all(Vec::new()), Total::default());
    }

    /// Counts grow at random; after every step the list is the greatest of all counts.
    #[test]
    fn busiest_rooms_are_exact_although_the_list_is_bounded() {
        let mut random = fastrand::Rng::with_seed(7);
        let (mut top, mut all) = (Top::default(), vec![0_u64; 400]);
        for _ in 0..20_000 {
            let room = random.usize(0..all.len());
            all[room] += random.u64(1..50);
            top.put(&ecow::eco_format!("room-{room}"), all[room]);
        }
        let listed: Vec<u64> = top.0.iter().map(|(_, messages)| *messages).collect();
        all.sort_unstable_by(|left, right| right.cmp(left));
        assert_eq!(listed, all[..TOP.0]);
    }

    #[test]
    fn busiest_rooms_with_long_names_stay_within_what_a_fact_holds() {
        let mut top = Top::default();
        for room in 0..500_u64 {
            top.put(&ecow::eco_format!("{room:0>512}"), room);
        }
        assert!(top.encode().len() < 64 * 1024);
        assert_eq!(top.0.len(), 64);
    }
}
