//! The named clients of a room, by user.
//!
//! Belongs to the room's state, behind its lock; what others are told of it is decided in `room/presence.rs`. Made for two
//! shapes: a hundred thousand rooms with a user each, and a room with a hundred thousand users of whom a page is wanted in
//! the order of their ids. Invariant: a user is here exactly as long as the room's members are to think so: while a
//! connection is, and while the leave is held back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use ecow::EcoString;
use outspoke_protocol::{Timestamp, UserId};
use tokio::time::Instant;

use crate::client::Client;
use crate::sync::Arc;

/// With more users than this a list becomes a tree, in which coming and going is cheap.
const FEW: usize = 8;

/// Who is in a room.
#[derive(Debug, Default)]
pub(super) struct Roster {
    users: Users,
    /// What is to be told later.
    pending: Option<Box<Pending>>,
}

/// What is to be told later.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Users whose leave is held back, by when it is told.
    pub(super) away: BTreeSet<(Instant, UserId)>,
    /// Who came and went in a large room.
    pub(super) gathering: Option<Gathering>,
    /// When the hub's list comes back to the room.
    pub(super) due: Option<Instant>,
}

/// Who came and went since the members of a large room were last told.
#[derive(Debug)]
pub(super) struct Gathering {
    /// When they are told again.
    pub(super) at: Instant,
    pub(super) joined: BTreeMap<UserId, EcoString>,
    pub(super) left: BTreeMap<UserId, EcoString>,
}

impl Pending {
    /// When something is to be told next.
    pub(super) fn next(&self) -> Option<Instant> {
        let leave = self.away.first().map(|(at, _)| *at);
        let crowd = self.gathering.as_ref().map(|gathering| gathering.at);
        leave.into_iter().chain(crowd).min()
    }
}

/// A user in the room.
#[derive(Debug)]
pub(super) struct Present {
    /// The connection whose coming was told: the leave names it, too.
    pub(super) told: Arc<Client>,
    devices: Devices,
}

/// The connections of a user in the room.
#[derive(Debug)]
enum Devices {
    /// Only the one whose coming was told, since then: what most users have.
    Told(Timestamp),
    /// In the order in which they came; at least one.
    Seats(Box<Seats>),
    /// None, for so short a time that nobody is told.
    Away(Box<Away>),
}

#[derive(Debug)]
struct Seats(Vec<Seat>);

/// A connection, and when it came.
pub(super) type Seat = (Arc<Client>, Timestamp);

#[derive(Debug)]
struct Away {
    since: Timestamp,
    until: Instant,
}

/// A user as a page of the roster shows it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) told: Arc<Client>,
    pub(super) since: Timestamp,
    /// Empty for one whose leave is held back.
    pub(super) devices: Vec<Seat>,
}

/// What a connection's coming is for its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coming {
    /// The user was not here.
    First,
    /// The user is here already, or has not been told to have left.
    Again,
}

impl Roster {
    pub(super) fn is_empty(&self) -> bool {
        self.users.len() == 0 && self.pending.is_none()
    }

    /// Users that are here, or whose leave is held back.
    pub(super) fn len(&self) -> usize {
        self.users.len()
    }

    pub(super) fn pending(&self) -> Option<&Pending> {
        self.pending.as_deref()
    }

    pub(super) fn pending_mut(&mut self) -> &mut Pending {
        self.pending.get_or_insert_default()
    }

    /// Lets go of what is not needed any more.
    pub(super) fn tidy(&mut self) {
        let idle = |pending: &Pending| {
            pending.away.is_empty() && pending.gathering.is_none() && pending.due.is_none()
        };
        if self.pending.as_deref().is_some_and(idle) {
            self.pending = None;
        }
    }

    /// A connection comes.
    pub(super) fn arrive(&mut self, client: &Arc<Client>, now: Timestamp) -> Coming {
        let Some(present) = self.users.find(client.user()) else {
            self.users.insert(Present { told: Arc::clone(client), devices: Devices::Told(now) });
            return Coming::First;
        };
        if let Some(until) = present.arrive(client, now)
            && let Some(pending) = &mut self.pending
        {
            pending.away.remove(&(until, client.user().clone()));
        }
        Coming::Again
    }

    /// A connection goes. Returns whether it was its user's last one.
    pub(super) fn part(&mut self, client: &Arc<Client>) -> bool {
        self.users.find(client.user()).is_some_and(|present| present.part(client))
    }

    /// The user has no connection any more, and stays until then.
    pub(super) fn hold(&mut self, user: &UserId, since: Timestamp, until: Instant) {
        let Some(present) = self.users.find(user) else { return };
        present.devices = Devices::Away(Box::new(Away { since, until }));
        self.pending_mut().away.insert((until, user.clone()));
    }

    /// The user is not here any more.
    pub(super) fn remove(&mut self, user: &UserId) -> Option<Present> {
        self.users.remove(user)
    }

    /// Takes out a user whose leave has been held back until now.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Option<Present> {
        let away = &mut self.pending.as_mut()?.away;
        if away.first()?.0 > now {
            return None;
        }
        let (_, user) = away.pop_first()?;
        self.users.remove(&user)
    }

    /// Whether the user has a connection here.
    pub(super) fn has(&self, user: &UserId) -> bool {
        self.users.get(user).is_some_and(|present| !matches!(present.devices, Devices::Away(_)))
    }

    /// Every connection like that, and when it came.
    pub(super) fn seats_where(&self, wanted: impl Fn(&Client) -> bool) -> Vec<Seat> {
        let seats = self.users.after(None).flat_map(|present| present.shown(usize::MAX).devices);
        seats.filter(|(client, _)| wanted(client)).collect()
    }

    /// Whether the connection is here already.
    pub(super) fn seats(&self, client: &Arc<Client>) -> bool {
        self.users.get(client.user()).is_some_and(|present| match &present.devices {
            Devices::Told(_) => Arc::ptr_eq(&present.told, client),
            Devices::Seats(seats) => seats.0.iter().any(|(seat, _)| Arc::ptr_eq(seat, client)),
            Devices::Away(_) => false,
        })
    }

    /// Users after that one in the order of their ids, at most so many, and whether there are more.
    pub(super) fn page(
        &self,
        after: Option<&UserId>,
        users_max: usize,
        devices_max: usize,
    ) -> (Vec<Shown>, bool) {
        let mut users = self.users.after(after);
        let page = users.by_ref().take(users_max).map(|present| present.shown(devices_max)).collect();
        let more = users_max > 0 && users.next().is_some();
        (page, more)
    }
}

impl Present {
    /// Returns until when the leave was held back, if it was.
    fn arrive(&mut self, client: &Arc<Client>, now: Timestamp) -> Option<Instant> {
        let seat = (Arc::clone(client), now);
        match &mut self.devices {
            Devices::Told(since) => {
                let seats = vec![(Arc::clone(&self.told), *since), seat];
                self.devices = Devices::Seats(Box::new(Seats(seats)));
                None
            }
            Devices::Seats(seats) => {
                seats.0.push(seat);
                None
            }
            Devices::Away(away) => {
                let until = away.until;
                self.devices = Devices::Seats(Box::new(Seats(vec![seat])));
                Some(until)
            }
        }
    }

    fn part(&mut self, client: &Arc<Client>) -> bool {
        match &mut self.devices {
            Devices::Told(_) => Arc::ptr_eq(&self.told, client),
            Devices::Seats(seats) => {
                let Some(index) = seats.0.iter().position(|(seat, _)| Arc::ptr_eq(seat, client)) else {
                    return false;
                };
                seats.0.remove(index);
                if let [(seat, since)] = &seats.0[..]
                    && Arc::ptr_eq(seat, &self.told)
                {
                    self.devices = Devices::Told(*since);
                    return false;
                }
                seats.0.is_empty()
            }
            Devices::Away(_) => false,
        }
    }

    fn shown(&self, devices_max: usize) -> Shown {
        let (since, devices) = match &self.devices {
            Devices::Told(since) => (*since, vec![(Arc::clone(&self.told), *since)]),
            Devices::Seats(seats) => (seats.0[0].1, seats.0.iter().take(devices_max).cloned().collect()),
            Devices::Away(away) => (away.since, Vec::new()),
        };
        Shown { told: Arc::clone(&self.told), since, devices }
    }
}

/// Users in the order of their ids. A room of one's own, which there are most of, takes no memory beside the roster's.
#[derive(Debug, Default)]
enum Users {
    #[default]
    Nobody,
    One(Present),
    Few(Box<List>),
    Many(Box<Tree>),
}

#[derive(Debug)]
struct List(Vec<Present>);

#[derive(Debug)]
struct Tree(BTreeMap<UserId, Present>);

impl Users {
    fn len(&self) -> usize {
        match self {
            Self::Nobody => 0,
            Self::One(_) => 1,
            Self::Few(users) => users.0.len(),
            Self::Many(users) => users.0.len(),
        }
    }

    fn get(&self, user: &UserId) -> Option<&Present> {
        match self {
            Self::Nobody => None,
            Self::One(present) => Some(present).filter(|present| present.told.user() == user),
            Self::Few(users) => place(&users.0, user).ok().map(|index| &users.0[index]),
            Self::Many(users) => users.0.get(user),
        }
    }

    fn find(&mut self, user: &UserId) -> Option<&mut Present> {
        match self {
            Self::Nobody => None,
            Self::One(present) => Some(present).filter(|present| present.told.user() == user),
            Self::Few(users) => place(&users.0, user).ok().map(|index| &mut users.0[index]),
            Self::Many(users) => users.0.get_mut(user),
        }
    }

    /// Adds a user that is not here.
    fn insert(&mut self, present: Present) {
        let user = present.told.user().clone();
        *self = match std::mem::take(self) {
            Self::Nobody => Self::One(present),
            Self::One(other) => {
                let mut users = vec![other, present];
                users.sort_by(|one, other| one.told.user().cmp(other.told.user()));
                Self::Few(Box::new(List(users)))
            }
            Self::Few(mut users) if users.0.len() < FEW => {
                let index = place(&users.0, &user).unwrap_or_else(|index| index);
                users.0.insert(index, present);
                Self::Few(users)
            }
            Self::Few(users) => {
                let users = users.0.into_iter().chain([present]);
                let by_id = users.map(|present| (present.told.user().clone(), present));
                Self::Many(Box::new(Tree(by_id.collect())))
            }
            Self::Many(mut users) => {
                users.0.insert(user, present);
                Self::Many(users)
            }
        };
    }

    fn remove(&mut self, user: &UserId) -> Option<Present> {
        let removed = match self {
            Self::Nobody => None,
            Self::One(present) if present.told.user() == user => match std::mem::take(self) {
                Self::One(present) => Some(present),
                _ => None,
            },
            Self::One(_) => None,
            Self::Few(users) => place(&users.0, user).ok().map(|index| users.0.remove(index)),
            Self::Many(users) => users.0.remove(user),
        };
        match self {
            Self::Few(users) if users.0.len() <= 1 => {
                *self = users.0.pop().map_or(Self::Nobody, Self::One);
            }
            // Half of what made it a tree: not back and forth with one who comes and goes.
            Self::Many(users) if users.0.len() <= FEW / 2 => {
                let users = std::mem::take(&mut users.0).into_values().collect();
                *self = Self::Few(Box::new(List(users)));
            }
            _ => {}
        }
        removed
    }

    fn after(&self, after: Option<&UserId>) -> impl Iterator<Item = &Present> {
        let listed: &[Present] = match self {
            Self::Nobody | Self::Many(_) => &[],
            Self::One(present) => std::slice::from_ref(present),
            Self::Few(users) => &users.0,
        };
        let start = after.map_or(0, |after| place(listed, after).map_or_else(|at| at, |at| at + 1));
        let tree = match self {
            Self::Many(users) => Some(&users.0),
            _ => None,
        };
        let start_in_tree = after.map_or(Bound::Unbounded, Bound::Excluded);
        let in_tree = tree.map(|users| users.range((start_in_tree, Bound::Unbounded)));
        listed[start..].iter().chain(in_tree.into_iter().flatten().map(|(_, present)| present))
    }
}

fn place(users: &[Present], user: &UserId) -> Result<usize, usize> {
    users.binary_search_by(|present| present.told.user().cmp(user))
}
