//! What is kept of an hour or a day, as bytes.
//!
//! Facts of the family [`ANALYTICS`](crate::facts::ANALYTICS), by name: `h`, hour and `d`, day for a tenant;
//! `rh`, hour, room and `rd`, day, room for a room; `top`, day for its busiest rooms. Hours and days are counted since 1970 in UTC
//! and written with ten digits: so what is old comes first. A record is its format's version, numbers of eight bytes, big
//! end first, and what has another length; a part of a version never changes.

use bytes::Bytes;
use ecow::EcoString;

use super::distinct::Distinct;

const VERSION: u8 = 1;

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
}

impl Total {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        for number in [self.messages, self.minute_max, self.connections_max, self.rooms] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        self.users.encode(&mut out);
        out.into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&[VERSION])?;
        Some(Self {
            messages: number(&mut rest)?,
            minute_max: number(&mut rest)?,
            connections_max: number(&mut rest)?,
            rooms: number(&mut rest)?,
            users: Distinct::decode(rest)?,
        })
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
        let total = Total { messages: 1, minute_max: 2, connections_max: 3, rooms: 4, users: users.clone() };
        let room = RoomTotal { messages: u64::MAX, users };
        let top = Top(vec![("lobby".into(), 7), ("größer".into(), 3)]);
        assert_eq!(Total::decode(&total.encode()).unwrap(), total);
        assert_eq!(RoomTotal::decode(&room.encode()).unwrap(), room);
        assert_eq!(Top::decode(&top.encode()).unwrap(), top);
        for bytes in [total.encode(), room.encode(), top.encode()] {
            let cut = &bytes[..bytes.len() - 1];
            assert_eq!((Total::decode(cut), RoomTotal::decode(cut), Top::decode(cut)), (None, None, None));
        }
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
