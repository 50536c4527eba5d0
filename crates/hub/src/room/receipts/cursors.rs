//! Where users are in a room's log, and where they want to be.

use std::collections::{BTreeMap, BTreeSet};

use outspoke_protocol::{Receipt, UserId};

use super::Waiter;

/// Users whose places are in memory, for one room.
pub(super) const CURSORS_MAX: usize = 10_000;
/// So many more are let in before the ones who are behind are let go, so that not every newcomer costs a search.
const CURSORS_SLACK: usize = CURSORS_MAX / 4;

/// A user's places in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Up to here a device has it.
    pub(crate) delivered: u64,
    /// Up to here it is read; never after `delivered`.
    pub(crate) seen: u64,
    /// Messages said up to `seen`.
    pub(crate) ordinal: u64,
}

impl Marks {
    pub(super) fn read_up_to(seen: u64, ordinal: u64) -> Self {
        Self { delivered: seen, seen, ordinal }
    }

    /// The further of both, place by place.
    pub(super) fn raised(self, other: Self) -> Self {
        let (seen, ordinal) = (self.seen, self.ordinal).max((other.seen, other.ordinal));
        Self { delivered: self.delivered.max(other.delivered).max(seen), seen, ordinal }
    }

    /// How far the user has come.
    pub(crate) fn at(&self, receipt: Receipt) -> u64 {
        match receipt {
            Receipt::Delivered => self.delivered,
            Receipt::Seen => self.seen,
        }
    }

    /// Messages that a user with these places has not read, of those that a log still has. No count of messages can be
    /// more than there are records, so a user who was away for long is told what there is to read.
    pub(crate) fn unread(&self, head: u64, first: u64, ordinal: u64) -> u64 {
        let left = head.saturating_sub(self.seen.max(first.saturating_sub(1)));
        ordinal.saturating_sub(self.ordinal).min(left)
    }
}

/// What a room knows of who has come how far.
#[derive(Debug, Default)]
pub(in crate::room) struct Receipts {
    /// Durable, in a stored room.
    pub(super) cursors: BTreeMap<UserId, Marks>,
    /// There are, or were, more users than those in `cursors`.
    pub(super) partial: bool,
    /// Nobody who is not in `cursors` any more had come further.
    pub(super) let_go_up_to: u64,
    /// Users to be read from the store.
    pub(super) missing: BTreeSet<UserId>,
    /// On the way into the store.
    pub(super) wanted: BTreeMap<UserId, Wanted>,
    /// Somebody is writing what is wanted.
    pub(super) writing: bool,
    /// Somebody will, in a while.
    pub(super) later: bool,
    pub(super) untold: BTreeMap<UserId, Untold>,
    pub(super) counts_untold: bool,
    /// Somebody will look at what is untold.
    pub(super) telling: bool,
    pub(super) counted: Counted,
}

/// How many users have the message at `offset`, which was the newest one when somebody last came to it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) offset: u64,
    pub(super) delivered: u64,
    pub(super) seen: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Untold {
    pub(super) delivered: bool,
    pub(super) seen: bool,
}

/// Where a user wants to be.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) delivered: u64,
    pub(super) seen: u64,
    /// Messages said up to `seen`; `None`: the store knows.
    pub(super) ordinal: Option<u64>,
    /// The user said so, and others are told.
    pub(super) said: bool,
    pub(super) waiting: Vec<Waiter>,
}

impl Wanted {
    pub(super) fn marks(&self) -> Option<Marks> {
        let read = Marks::read_up_to(self.seen, self.ordinal?);
        Some(Marks { delivered: self.delivered.max(self.seen), ..read })
    }
}

impl Receipts {
    /// Those of a log of which the store knows who has read how much, and nobody here does.
    pub(in crate::room) fn unread() -> Self {
        Self { partial: true, ..Self::default() }
    }

    /// Moves a user forward. Returns what has moved.
    pub(super) fn advance(&mut self, user: &UserId, marks: Marks, head: u64) -> Untold {
        if self.counted.offset != head {
            // Whoever had come further than the last look would have been counted then.
            self.counted = Counted { offset: head, ..Counted::default() };
        }
        let known = self.cursors.get(user).copied();
        let former = known.unwrap_or_default();
        let now = former.raised(marks);
        let moved = Untold { delivered: now.delivered > former.delivered, seen: now.seen > former.seen };
        self.counted.delivered += u64::from(moved.delivered && now.delivered >= head);
        self.counted.seen += u64::from(moved.seen && now.seen >= head);
        if known != Some(now) {
            self.cursors.insert(user.clone(), now);
            self.let_go();
        }
        moved
    }

    /// Lets those go who are furthest behind.
    fn let_go(&mut self) {
        if self.cursors.len() <= CURSORS_MAX + CURSORS_SLACK {
            return;
        }
        let mut places: Vec<u64> = self.cursors.values().map(|marks| marks.delivered).collect();
        let surplus = places.len() - CURSORS_MAX;
        let (behind, &mut limit, _) = places.select_nth_unstable(surplus);
        let mut of_equals = behind.iter().filter(|place| **place == limit).count();
        self.cursors.retain(|_, marks| {
            let equal = marks.delivered == limit && of_equals > 0;
            of_equals -= usize::from(equal);
            marks.delivered >= limit && !equal
        });
        self.partial = true;
        self.let_go_up_to = self.let_go_up_to.max(limit);
    }

    /// Where a user is, or will be when what is on its way is durable; `None`: it must be read first.
    pub(super) fn ahead(&self, user: &UserId) -> Option<Marks> {
        let known = self.known(user)?;
        let wanted = self.wanted.get(user).and_then(Wanted::marks);
        Some(wanted.map_or(known, |wanted| known.raised(wanted)))
    }

    pub(super) fn known(&self, user: &UserId) -> Option<Marks> {
        match self.cursors.get(user) {
            Some(marks) => Some(*marks),
            None => (!self.partial).then(Marks::default),
        }
    }

    pub(super) fn want(&mut self, user: &UserId) -> &mut Wanted {
        if !self.wanted.contains_key(user) {
            self.wanted.insert(user.clone(), Wanted { ordinal: Some(0), ..Wanted::default() });
        }
        self.wanted.get_mut(user).expect("it was put there")
    }
}

impl Wanted {
    pub(super) fn raise(&mut self, receipt: Receipt, offset: u64, ordinal: Option<u64>) {
        match receipt {
            Receipt::Delivered => self.delivered = self.delivered.max(offset),
            Receipt::Seen if offset > self.seen => (self.seen, self.ordinal) = (offset, ordinal),
            Receipt::Seen => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name)
    }

    #[test]
    fn marks_only_rise_and_what_is_read_is_received() {
        let read = Marks::read_up_to(5, 4);
        let received = Marks { delivered: 3, ..Marks::default() };
        assert_eq!(received.raised(read), Marks { delivered: 5, seen: 5, ordinal: 4 });
        assert_eq!(read.raised(received), Marks { delivered: 5, seen: 5, ordinal: 4 });
        let further = Marks { delivered: 9, ..read };
        assert_eq!(further.raised(Marks::read_up_to(2, 2)), further);
    }

    #[test]
    fn unread_counts_what_was_said_and_is_still_there() {
        let marks = Marks::read_up_to(10, 8);
        assert_eq!(marks.unread(20, 1, 15), 7);
        assert_eq!(marks.unread(20, 18, 15), 3, "17 of the messages are trimmed");
        assert_eq!(marks.unread(10, 11, 8), 0);
        assert_eq!(Marks::default().unread(3, 1, 3), 3);
    }

    #[test]
    fn who_is_behind_is_let_go_first_and_the_number_in_memory_is_bounded() {
        let mut receipts = Receipts::default();
        for number in 0..(CURSORS_MAX + CURSORS_SLACK + 1) as u64 {
            let marks = Marks { delivered: number + 1, ..Marks::default() };
            receipts.advance(&user(&format!("u{number}")), marks, 1_000_000);
        }
        assert_eq!(receipts.cursors.len(), CURSORS_MAX);
        assert!(receipts.partial);
        assert!(receipts.known(&user("u0")).is_none());
        assert!(receipts.known(&user(&format!("u{}", CURSORS_MAX + CURSORS_SLACK))).is_some());
    }

    #[test]
    fn counts_are_those_of_the_newest_message() {
        let mut receipts = Receipts::default();
        receipts.advance(&user("a"), Marks::read_up_to(5, 5), 5);
        receipts.advance(&user("b"), Marks { delivered: 5, ..Marks::default() }, 5);
        receipts.advance(&user("b"), Marks { delivered: 5, ..Marks::default() }, 5);
        receipts.advance(&user("c"), Marks { delivered: 4, ..Marks::default() }, 5);
        assert_eq!((receipts.counted.delivered, receipts.counted.seen), (2, 1));
        receipts.advance(&user("c"), Marks::read_up_to(6, 6), 6);
        assert_eq!((receipts.counted.delivered, receipts.counted.seen), (1, 1));
    }
}
