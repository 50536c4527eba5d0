//! Who comes and goes in a room, and who is told of it.
//!
//! Runs under the room's lock, where members are counted (`room/join.rs`); who is there is kept in `room/roster.rs`. What is
//! told later (leaves held back, crowds) is on the hub's [list](Overdue), which the first shard works off once per tick.
//!
//! * Users come and go, not connections: the first device's coming is told, and the last one's going. Both name the same
//!   connection, so that they pair up even where other connections of the user came and went in between.
//! * Who loses the connection has the class's grace to come back, who is replaced by a newer connection some seconds to
//!   join with that: neither is told if so. Until then the user stays in the roster, without devices.
//! * In a room with more members than the class lets be announced, comings and goings of an interval are told together.
//!   Who came and went within the interval is not told at all.
//! * Clients without a name are members, and nobody hears of them.
//!
//! Invariants: a user whose coming was told is told to have gone exactly once, unless nobody is left to hear it or the hub
//! ends; nothing is told after the hub has begun to stop that was held back before.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ecow::EcoString;
use outspoke_protocol::{
    Body, Crowd, Details, Device, Disconnect, Event, Kind, Presence, Present, Reconnect, RoomName, Timestamp,
    Typing, UserId,
};
use tokio::time::Instant;

use super::roster::{Coming, Gathering, Roster, Shown};
use super::timed::Timed;
use super::{Draft, Room, State};
use crate::client::Client;
use crate::cluster::ExitWord;
use crate::direct;
use crate::hub::{Departure, Inner};
use crate::last_seen;
use crate::publication::Publication;
use crate::sync::Arc;

/// How long a client that was replaced has to come into the room with its newer connection.
const REPLACED_GRACE: Duration = Duration::from_secs(5);
/// Users named in a crowd, each way.
const CROWD_NAMES: usize = 20;
/// Leaves told under one hold of a room's lock.
const LEAVES_AT_ONCE: usize = 256;
/// Leaves told per tick: more wait for the next one.
const LEAVES_PER_SWEEP: usize = 16 * 1024;
/// Rooms looked at per tick: more wait for the next one.
const ROOMS_PER_SWEEP: usize = 4096;
/// Connections of one user on a page.
const DEVICES_SHOWN_MAX: usize = 100;

/// Users on a page that names no number.
pub(crate) const PAGE: usize = 100;
/// Users on a page at most.
pub(crate) const PAGE_MAX: usize = 1000;

/// Why a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It, or the application, wants it so.
    Goodbye,
    /// The connection broke: it may be back in a moment.
    Lost,
    /// The same user connected anew on the same device.
    Replaced,
    /// The hub ends, for everybody.
    Shutdown,
}

impl Departure {
    /// What the end of a connection is for the rooms it was in. Who is sent to another node is expected there in a moment.
    pub(crate) fn exit(self, stopping: bool) -> Exit {
        match self {
            // A page that is reloaded says 1001, so does an application that is put away.
            Self::Lost | Self::ByPeer(Some(1001)) => Exit::Lost,
            Self::ByPeer(_) => Exit::Goodbye,
            Self::ByServer(Disconnect::Replaced) => Exit::Replaced,
            Self::ByServer(Disconnect::GoingAway) if stopping => Exit::Shutdown,
            Self::ByServer(disconnect) if disconnect.reconnect() == Reconnect::Backoff => Exit::Lost,
            Self::ByServer(_) => Exit::Goodbye,
        }
    }
}

/// Rooms with something to tell later. Each holds its room: who comes back within the grace finds the room that was left.
#[derive(Debug, Default)]
pub(crate) struct Overdue(Timed<Arc<Room>>);

impl Overdue {
    /// Tells what is due.
    pub(crate) fn sweep(&self, hub: &Inner, now: Instant) {
        if hub.stopping.load(Ordering::Acquire) {
            return;
        }
        let mut leaves = 0;
        for _ in 0..ROOMS_PER_SWEEP {
            let Some((at, room)) = self.0.take_due(now) else { return };
            leaves += room.tell_overdue(hub, at, now);
            if leaves >= LEAVES_PER_SWEEP {
                return;
            }
        }
    }
}

impl Room {
    /// Whether the room knows who is in it.
    pub(super) fn keeps_roster(&self) -> bool {
        let class = self.class();
        !self.is_everyone() && (class.presence || class.announce)
    }

    /// A client comes, and is not counted yet.
    pub(super) fn arrive(self: &Arc<Self>, hub: &Inner, state: &mut State, client: &Arc<Client>) {
        if client.name().is_empty() || !self.keeps_roster() {
            return;
        }
        let now = hub.now();
        if let Some(cluster) = &hub.cluster {
            cluster.tell_arrived(self, client, now.as_millis(), state.total + 1);
        }
        self.seat(hub, state, client, now);
    }

    /// A client, of whichever node, has come.
    pub(super) fn seat(
        self: &Arc<Self>,
        hub: &Inner,
        state: &mut State,
        client: &Arc<Client>,
        since: Timestamp,
    ) {
        let roster = state.roster.get_or_insert_default();
        if roster.arrive(client, since) == Coming::First {
            self.announce(hub, state, Kind::Join, client);
        }
    }

    /// A member without a name has one now. The others are told of the name rather than of a coming.
    pub(crate) fn named(&self, hub: &Inner, client: &Arc<Client>) {
        if !self.keeps_roster() {
            return;
        }
        let mut state = self.lock();
        let roster = state.roster.get_or_insert_default();
        if !roster.seats(client) {
            roster.arrive(client, hub.now());
            if let Some(cluster) = &hub.cluster {
                cluster.tell_arrived(self, client, hub.now().as_millis(), state.total);
            }
        }
    }

    /// A client goes, and is not counted any more.
    pub(super) fn part(self: &Arc<Self>, hub: &Inner, state: &mut State, client: &Arc<Client>, exit: Exit) {
        if let (Some(cluster), Some(word)) = (&hub.cluster, ExitWord::of(exit))
            && state.roster.as_ref().is_some_and(|roster| roster.seats(client))
        {
            cluster.tell_parted(self, client, word, state.total);
        }
        self.unseat(hub, state, client, exit);
    }

    /// A client, of whichever node, has gone.
    pub(super) fn unseat(self: &Arc<Self>, hub: &Inner, state: &mut State, client: &Arc<Client>, exit: Exit) {
        let nobody_left = state.everybody() == 0;
        let Some(roster) = &mut state.roster else { return };
        if !roster.part(client) {
            return;
        }
        let now = hub.now();
        if client.is_here() {
            self.note_last_seen(hub, client, now);
        }
        let grace = self.grace(hub, client, exit, nobody_left);
        if let Some(until) = Instant::now().checked_add(grace).filter(|_| !grace.is_zero()) {
            roster.hold(client.user(), now, until);
            self.come_back(hub, roster, until);
            return;
        }
        let Some(present) = roster.remove(client.user()) else { return };
        if exit != Exit::Shutdown {
            self.announce(hub, state, Kind::Leave, &present.told);
        }
        state.tidy();
    }

    /// How long the leave is held back.
    fn grace(&self, hub: &Inner, client: &Client, exit: Exit, nobody_left: bool) -> Duration {
        let class = self.class();
        let grace = class.leave_grace;
        if !class.announce || hub.stopping.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        match exit {
            // Somebody whose id was made up comes back as somebody else.
            Exit::Lost if !client.identity().anonymous => grace,
            // A room that nobody is in has nobody to spare the noise, and no reason to stay.
            Exit::Replaced if !(nobody_left && grace.is_zero()) => grace.max(REPLACED_GRACE),
            _ => Duration::ZERO,
        }
    }

    /// Whether somebody is expected back: the room stays for that.
    pub(super) fn is_expecting(&self) -> bool {
        let state = self.lock();
        let pending = state.roster.as_ref().and_then(|roster| roster.pending());
        !self.class().leave_grace.is_zero() && pending.is_some_and(|pending| !pending.away.is_empty())
    }

    /// Puts the room on the hub's list, unless it is on it for then or sooner.
    fn come_back(self: &Arc<Self>, hub: &Inner, roster: &mut Roster, at: Instant) {
        let pending = roster.pending_mut();
        if pending.due.is_none_or(|due| at < due) {
            pending.due = Some(at);
            hub.overdue.0.put(at, Arc::clone(self));
        }
    }

    /// Tells the members who came or went, now or with others.
    fn announce(self: &Arc<Self>, hub: &Inner, state: &mut State, kind: Kind, who: &Arc<Client>) {
        if !self.class().announce || state.cancels_out(&kind, who.user()) {
            return;
        }
        if state.everybody() > self.class().announce_members_max {
            self.gather(hub, state, &kind, who);
        } else if state.total > 0 {
            let from = Some(who.publisher());
            let details = details_of(hub, state, &kind, who);
            let draft = Draft { kind, from, body: Body::Empty, details, key: None };
            let message = self.message(draft, hub.now());
            self.hand_out(hub, state, &Arc::new(Publication::message(message, hub.dialects.len())));
        }
    }

    /// Notes who came or went, to be told with the others of the interval.
    fn gather(self: &Arc<Self>, hub: &Inner, state: &mut State, kind: &Kind, who: &Client) {
        let roster = state.roster.get_or_insert_default();
        let at = Instant::now() + self.class().crowd_interval;
        let gathering = roster.pending_mut().gathering.get_or_insert_with(|| Gathering::until(at));
        let at = gathering.at;
        let side = if *kind == Kind::Join { &mut gathering.joined } else { &mut gathering.left };
        side.insert(who.user().clone(), who.name());
        self.come_back(hub, roster, at);
    }

    /// Tells what is due at `now`; the list came back for what was to be told at `at`. Returns how many leaves it was.
    fn tell_overdue(self: &Arc<Self>, hub: &Inner, at: Instant, now: Instant) -> usize {
        let mut state = self.lock();
        let Some(roster) = &mut state.roster else { return 0 };
        if roster.pending().is_none_or(|pending| pending.due != Some(at)) {
            // The list has come back sooner for something else, and will again.
            return 0;
        }
        roster.pending_mut().due = None;
        let mut leaves = 0;
        while leaves < LEAVES_AT_ONCE
            && let Some(present) = state.roster.as_mut().and_then(|roster| roster.take_overdue(now))
        {
            leaves += 1;
            self.announce(hub, &mut state, Kind::Leave, &present.told);
        }
        self.tell_crowd(hub, &mut state, now);
        if let Some(roster) = &mut state.roster
            && let Some(next) = roster.pending().and_then(|pending| pending.next())
        {
            self.come_back(hub, roster, next);
        }
        state.tidy();
        leaves
    }

    /// Tells who came and went since the last time, if the interval is over.
    fn tell_crowd(self: &Arc<Self>, hub: &Inner, state: &mut State, now: Instant) {
        let Some(roster) = &mut state.roster else { return };
        let users = roster.len();
        let Some(Gathering { joined, left, .. }) =
            roster.pending_mut().gathering.take_if(|gathering| gathering.at <= now)
        else {
            return;
        };
        let Some(room) = self.name.clone() else { return };
        if joined.is_empty() && left.is_empty() {
            return;
        }
        let crowd = Crowd {
            room,
            users,
            members: state.everybody(),
            joined_count: joined.len(),
            left_count: left.len(),
            joined: joined.into_iter().take(CROWD_NAMES).collect(),
            left: left.into_iter().take(CROWD_NAMES).collect(),
        };
        let event = Event::Crowd(Box::new(crowd));
        self.hand_out(hub, state, &Arc::new(Publication::event(event, hub.dialects.len())));
    }

    /// Tells the members that somebody is typing, or no longer, unless they are too many to care.
    pub(crate) fn tell_typing(self: &Arc<Self>, hub: &Inner, typing: Typing) {
        let state = self.lock();
        if state.everybody() > 1 && state.everybody() <= self.class().announce_members_max {
            let publication = Publication::event(Event::Typing(typing), hub.dialects.len());
            self.hand_out(hub, &state, &Arc::new(publication));
        }
    }

    /// A page of who is here: users after that one in the order of their ids, at most so many, and about so many bytes.
    ///
    /// *Cost*: a look-up and one step per user on the page under the room's lock, and of connections elsewhere a look-up per node,
    /// however many users there are.
    pub(crate) fn presence(
        &self,
        hub: &Inner,
        name: RoomName,
        after: Option<&UserId>,
        users_max: usize,
        bytes_max: usize,
    ) -> Presence {
        let (users, members, elsewhere, (shown, mut more)) = {
            let state = self.lock();
            let roster = state.roster.as_ref();
            let page = roster.map(|roster| roster.page(after, users_max.min(PAGE_MAX), DEVICES_SHOWN_MAX));
            let page = page.unwrap_or_default();
            let seats = page.0.iter().flat_map(|shown| &shown.devices);
            let elsewhere: HashMap<_, _> =
                seats.filter_map(|(client, _)| Some((client.id(), state.node_of(client)?))).collect();
            (roster.map_or(0, |roster| roster.len()), state.everybody(), elsewhere, page)
        };
        let node_of = |client: &Client| {
            let cluster = hub.cluster.as_ref();
            cluster
                .map(|cluster| cluster.name_of(client, elsewhere.get(&client.id()).copied()))
                .unwrap_or_default()
        };
        let mut page = Vec::with_capacity(shown.len());
        let mut bytes = 0;
        for shown in shown {
            let present = present(shown, node_of);
            bytes += about_bytes(&present);
            if bytes > bytes_max && !page.is_empty() {
                more = true;
                break;
            }
            page.push(present);
        }
        let next = page.last().filter(|_| more).map(|last| last.user.clone());
        Presence { request: None, room: name, users, members, page, next }
    }

    /// Whether a user has a connection here.
    pub(crate) fn has_user(&self, user: &UserId) -> bool {
        self.lock().roster.as_ref().is_some_and(|roster| roster.has(user))
    }

    fn note_last_seen(&self, hub: &Inner, client: &Client, now: Timestamp) {
        // Made-up ids are never asked for again.
        if !self.class().presence || !direct::is_somebody(client.identity()) {
            return;
        }
        if let (Some(keeper), Some(name)) = (&self.keeper, &self.name) {
            let key = last_seen::key_of(&self.tenant, name.as_str(), client.user().as_str());
            hub.last_seen.note(keeper, key, now);
        }
    }
}

impl State {
    /// Whether this undoes what is to be told with the others of the interval.
    fn cancels_out(&mut self, kind: &Kind, user: &UserId) -> bool {
        let Some(roster) = &mut self.roster else { return false };
        if roster.pending().is_none_or(|pending| pending.gathering.is_none()) {
            return false;
        }
        let Some(gathering) = &mut roster.pending_mut().gathering else { return false };
        let other = if *kind == Kind::Join { &mut gathering.left } else { &mut gathering.joined };
        other.remove(user).is_some()
    }

    /// Lets go of a roster that nobody is in.
    fn tidy(&mut self) {
        let Some(roster) = &mut self.roster else { return };
        roster.tidy();
        if roster.is_empty() {
            self.roster = None;
        }
    }
}

impl Gathering {
    fn until(at: Instant) -> Self {
        Self { at, joined: Default::default(), left: Default::default() }
    }
}

/// What is said of who comes: the node that the connection is with, where there are several.
fn details_of(hub: &Inner, state: &State, kind: &Kind, who: &Client) -> Option<Box<Details>> {
    let cluster = hub.cluster.as_ref().filter(|_| *kind == Kind::Join)?;
    let node = cluster.name_of(who, state.node_of(who));
    Some(Details { node, ..Details::default() }).filter(|details| !details.node.is_empty()).map(Box::new)
}

/// A user of the roster as others see it; `node_of` names the node of a connection.
fn present(shown: Shown, node_of: impl Fn(&Client) -> EcoString) -> Present {
    let Shown { told, since, devices } = shown;
    let newest = devices.last().map_or(&told, |(client, _)| client);
    let info = newest.identity().claims.as_ref().and_then(|claims| claims.get("info"));
    Present {
        user: newest.user().clone(),
        name: newest.name(),
        since,
        online: !devices.is_empty(),
        info: info.and_then(|info| serde_json::to_vec(info).ok()).map(Into::into),
        devices: devices
            .iter()
            .map(|(client, since)| Device {
                client: client.id(),
                device: client.identity().device.clone(),
                node: node_of(client),
                since: *since,
            })
            .collect(),
    }
}

/// About how long the user is on the wire, in bytes: rather more than less.
fn about_bytes(present: &Present) -> usize {
    let devices = present.devices.iter().map(|device| 128 + device.device.len() + device.node.len());
    let info = present.info.as_ref().map_or(0, |info| info.len());
    160 + 2 * present.user.as_str().len() + 2 * present.name.len() + info + devices.sum::<usize>()
}
