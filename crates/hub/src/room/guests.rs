//! Members of a room on other nodes, as far as the room tells who is in it.
//!
//! Each node says who comes and goes with it, and who is there when asked; here they sit in the room's roster beside this node's
//! own clients, so that a user with devices on two nodes comes once and goes once. A node that is gone takes its guests with it.

use std::collections::{BTreeMap, HashMap, HashSet};

use outspoke_bus::NodeId;
use outspoke_protocol::{ClientId, Timestamp};

use super::presence::Exit;
use super::roster::Seat;
use super::{Room, State};
use crate::auth::Identity;
use crate::client::Client;
use crate::cluster::{ExitWord, SeatRef};
use crate::hub::Inner;
use crate::sync::Arc;

/// Guests of one node that are remembered: more are counted only.
const GUESTS_MAX: usize = 100_000;

/// Who is in the room on other nodes.
#[derive(Debug, Default)]
pub(super) struct Guests(BTreeMap<NodeId, OfNode>);

#[derive(Debug, Default)]
struct OfNode {
    /// Members there, also those without a name.
    members: usize,
    seats: HashMap<ClientId, Arc<Client>>,
    /// While the node lists them: those that it has not named yet.
    unnamed: Option<HashSet<ClientId>>,
}

impl Guests {
    fn members(&self) -> usize {
        self.0.values().map(|node| node.members).sum()
    }

    fn node_of(&self, id: ClientId) -> Option<NodeId> {
        self.0.iter().find(|(_, of_node)| of_node.seats.contains_key(&id)).map(|(node, _)| *node)
    }
}

impl State {
    /// Members on every node.
    pub(super) fn everybody(&self) -> usize {
        self.total + self.guests.as_ref().map_or(0, |guests| guests.members())
    }

    /// The node that a member from elsewhere is with, while it is there.
    ///
    /// *Cost*: a look-up for each node that has members in the room.
    pub(super) fn node_of(&self, client: &Client) -> Option<NodeId> {
        self.guests.as_ref().filter(|_| !client.is_here())?.node_of(client.id())
    }
}

impl ExitWord {
    /// What other nodes are told of it; nothing where they learn it otherwise.
    pub(super) fn of(exit: Exit) -> Option<Self> {
        match exit {
            Exit::Goodbye => Some(Self::Goodbye),
            Exit::Lost => Some(Self::Lost),
            Exit::Replaced => Some(Self::Replaced),
            // The node's last beat says it for all.
            Exit::Shutdown => None,
        }
    }
}

impl From<ExitWord> for Exit {
    fn from(word: ExitWord) -> Self {
        match word {
            ExitWord::Goodbye => Self::Goodbye,
            ExitWord::Lost => Self::Lost,
            ExitWord::Replaced => Self::Replaced,
        }
    }
}

impl Room {
    /// Tells other nodes who is here, and asks who is there.
    pub(crate) fn meet(self: &Arc<Self>, hub: &Inner) {
        let Some(cluster) = hub.cluster.as_ref().filter(|_| self.keeps_roster()) else { return };
        if self.members() > 0 {
            cluster.tell_seats(self);
        }
        cluster.ask_who(self);
    }

    /// Looks at the number of members of this node, and at those of them that have a name, with the time since when
    /// they are here. Nobody comes or goes meanwhile.
    pub(crate) fn with_seats_here<T>(&self, look: impl FnOnce(usize, &[Seat]) -> T) -> T {
        let state = self.lock();
        let seats = state.roster.as_ref().map(|roster| roster.seats_where(|client| client.is_here()));
        look(state.total, &seats.unwrap_or_default())
    }

    /// A client has come on another node.
    pub(crate) fn guest_arrives(
        self: &Arc<Self>,
        hub: &Inner,
        node: NodeId,
        seat: &SeatRef<'_>,
        members: u32,
    ) {
        if !self.keeps_roster() {
            return;
        }
        let mut state = self.lock();
        self.seat_guest(hub, &mut state, node, seat);
        state.guests.get_or_insert_default().0.entry(node).or_default().members = members as usize;
    }

    fn seat_guest(self: &Arc<Self>, hub: &Inner, state: &mut State, node: NodeId, seat: &SeatRef<'_>) {
        let of_node = state.guests.get_or_insert_default().0.entry(node).or_default();
        let id = ClientId::from_u128(seat.client);
        if let Some(unnamed) = &mut of_node.unnamed {
            unnamed.remove(&id);
        }
        if of_node.seats.contains_key(&id) || of_node.seats.len() >= GUESTS_MAX || seat.name.is_empty() {
            return;
        }
        let info = serde_json::from_slice::<serde_json::Value>(seat.info).ok();
        let identity = Identity {
            tenant: self.tenant.clone(),
            name: seat.name.into(),
            device: seat.device.into(),
            anonymous: seat.anonymous,
            claims: info.map(|info| Arc::new(serde_json::json!({ "info": info }))),
            ..Identity::user(seat.user)
        };
        let client = Arc::new(Client::elsewhere(id, identity, hub.tenants.get(&self.tenant)));
        of_node.seats.insert(id, Arc::clone(&client));
        self.seat(hub, state, &client, Timestamp::from_millis(seat.since));
    }

    /// A client has gone on another node.
    pub(crate) fn guest_parts(
        self: &Arc<Self>,
        hub: &Inner,
        node: NodeId,
        id: ClientId,
        exit: ExitWord,
        members: u32,
    ) {
        let mut state = self.lock();
        let Some(of_node) = state.guests.as_mut().and_then(|guests| guests.0.get_mut(&node)) else { return };
        of_node.members = members as usize;
        if let Some(client) = of_node.seats.remove(&id) {
            self.unseat(hub, &mut state, &client, exit.into());
        }
        state.tidy_guests(node);
    }

    /// A node lists who is with it.
    pub(crate) fn guests_are(
        self: &Arc<Self>,
        hub: &Inner,
        node: NodeId,
        (begin, end): (bool, bool),
        members: u32,
        seats: &[SeatRef<'_>],
    ) {
        if !self.keeps_roster() {
            return;
        }
        let mut state = self.lock();
        let of_node = state.guests.get_or_insert_default().0.entry(node).or_default();
        of_node.members = members as usize;
        if begin {
            of_node.unnamed = Some(of_node.seats.keys().copied().collect());
        }
        for seat in seats {
            self.seat_guest(hub, &mut state, node, seat);
        }
        let guests = state.guests.get_or_insert_default();
        let of_node = guests.0.entry(node).or_default();
        let gone: Vec<_> = match of_node.unnamed.take_if(|_| end) {
            Some(unnamed) => unnamed.iter().filter_map(|id| of_node.seats.remove(id)).collect(),
            None => Vec::new(),
        };
        for client in gone {
            self.unseat(hub, &mut state, &client, Exit::Goodbye);
        }
        state.tidy_guests(node);
    }

    /// A node is gone, and its guests with it; `expected`: they may come to another node in a moment.
    pub(crate) fn node_gone(self: &Arc<Self>, hub: &Inner, node: NodeId, expected: bool) {
        let mut state = self.lock();
        let Some(of_node) = state.guests.as_mut().and_then(|guests| guests.0.remove(&node)) else { return };
        if state.guests.as_ref().is_some_and(|guests| guests.0.is_empty()) {
            state.guests = None;
        }
        let exit = if expected { Exit::Lost } else { Exit::Goodbye };
        for client in of_node.seats.values() {
            self.unseat(hub, &mut state, client, exit);
        }
    }

    /// A guest has another name.
    pub(crate) fn guest_renamed(
        self: &Arc<Self>,
        hub: &Inner,
        node: NodeId,
        id: ClientId,
        name: &str,
        former: &str,
    ) {
        let client = {
            let state = self.lock();
            let of_node = state.guests.as_ref().and_then(|guests| guests.0.get(&node));
            of_node.and_then(|of_node| of_node.seats.get(&id).cloned())
        };
        if let Some(client) = client {
            client.rename(name.into());
            self.renamed(hub, client.publisher(), &former.into());
        }
    }
}

impl State {
    fn tidy_guests(&mut self, node: NodeId) {
        let Some(guests) = &mut self.guests else { return };
        let idle =
            |of_node: &OfNode| of_node.members == 0 && of_node.seats.is_empty() && of_node.unnamed.is_none();
        if guests.0.get(&node).is_some_and(idle) {
            guests.0.remove(&node);
        }
        if guests.0.is_empty() {
            self.guests = None;
        }
    }
}
