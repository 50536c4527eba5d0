//! The local members of each room, and what is to be delivered to them this turn.
//!
//! Members are grouped by the form in which they get a frame (dialect and compression), so that a turn's
//! frames are put together once per group. Joins and leaves cost O(1). A member that joins while
//! deliveries are pending is *late*: it gets only those that follow its join in the inbox.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use outspoke_protocol::Position;
use outspoke_websocket::Window;
use slab::Slab;

use super::connection::Membership;
use crate::publication::Publication;
use crate::room::{Room, RoomId};

/// The form in which a connection gets frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) dialect: u8,
    pub(super) compression: Option<Window>,
}

/// Every room with members on this shard.
#[derive(Debug, Default)]
pub(super) struct LocalRooms {
    rooms: Slab<Box<LocalRoom>>,
    by_id: HashMap<RoomId, u32, FixedState>,
    /// Rooms with something to deliver this turn.
    pending: Vec<u32>,
}

/// One room's members on this shard.
#[derive(Debug)]
pub(super) struct LocalRoom {
    pub(super) room: Arc<Room>,
    pub(super) groups: Vec<Group>,
    pub(super) pending: Vec<Arc<Publication>>,
    pub(super) late: Vec<Late>,
    /// The offset of the last message delivered here.
    pub(super) head: u64,
    members: usize,
}

/// Members that get frames in the same form.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) form: Form,
    pub(super) members: Vec<u32>,
}

/// A member that joined behind the first `after` pending publications.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    pub(super) slot: u32,
    pub(super) form: Form,
    pub(super) after: usize,
}

/// Where a new member was put.
pub(super) enum Seated {
    Late,
    In(u8, u32),
}

impl LocalRooms {
    pub(super) fn deliver(&mut self, room: &Arc<Room>, publication: Arc<Publication>) {
        // Every member of this shard may have left since.
        let Some(&local) = self.by_id.get(&room.id) else { return };
        let local_room = &mut self.rooms[local as usize];
        if local_room.pending.is_empty() {
            self.pending.push(local);
        }
        local_room.pending.push(publication);
    }

    /// Adds a member; what is pending already is not for it.
    pub(super) fn add(&mut self, room: &Arc<Room>, slot: u32, form: Form) -> (u32, Seated) {
        let local = *self.by_id.entry(room.id).or_insert_with(|| {
            let local_room = LocalRoom {
                room: Arc::clone(room),
                groups: Vec::new(),
                pending: Vec::new(),
                late: Vec::new(),
                head: 0,
                members: 0,
            };
            self.rooms.insert(Box::new(local_room)) as u32
        });
        let local_room = &mut self.rooms[local as usize];
        local_room.members += 1;
        if !local_room.pending.is_empty() {
            let after = local_room.pending.len();
            local_room.late.push(Late { slot, form, after });
            return (local, Seated::Late);
        }
        let (group, place) = local_room.seat(slot, form);
        (local, Seated::In(group, place))
    }

    /// Removes the member at `seat`. Returns the slot of the member that moved into its place, if one did.
    pub(super) fn remove_seated(&mut self, local: u32, group: u8, place: u32) -> Option<u32> {
        let members = &mut self.rooms[local as usize].groups[group as usize].members;
        members.swap_remove(place as usize);
        let moved = members.get(place as usize).copied();
        if members.capacity() > 64 && members.len() * 4 < members.capacity() {
            members.shrink_to(members.len() * 2);
        }
        self.forget_member(local);
        moved
    }

    /// Removes a member that has not been seated yet.
    pub(super) fn remove_late(&mut self, local: u32, slot: u32) {
        self.rooms[local as usize].late.retain(|late| late.slot != slot);
        self.forget_member(local);
    }

    fn forget_member(&mut self, local: u32) {
        let room = &mut self.rooms[local as usize];
        room.members -= 1;
        if room.members == 0 {
            let ended = self.rooms.remove(local as usize);
            self.by_id.remove(&ended.room.id);
            if !ended.pending.is_empty() {
                self.pending.retain(|pending| *pending != local);
            }
            if self.by_id.capacity() > 64 && self.by_id.len() * 8 < self.by_id.capacity() {
                self.by_id.shrink_to_fit();
                self.rooms.shrink_to_fit();
            }
        }
    }

    /// Rooms with something to deliver, the small ones first: a small room does not wait for a large one.
    pub(super) fn take_pending(&mut self) -> Vec<u32> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_unstable_by_key(|local| self.rooms[*local as usize].members);
        pending
    }

    pub(super) fn room_mut(&mut self, local: u32) -> &mut LocalRoom {
        &mut self.rooms[local as usize]
    }

    /// Whether nothing is to be delivered in a room.
    pub(super) fn is_quiet(&self, local: u32) -> bool {
        self.rooms[local as usize].pending.is_empty()
    }

    /// How far a member has got in its room: what it is sent next follows this place.
    pub(super) fn position_of(&self, membership: &Membership) -> Position {
        let delivered = membership.local.map_or(0, |local| self.rooms[local as usize].head);
        Position { epoch: membership.room.epoch(), offset: delivered.max(membership.joined) }
    }

    /// The last delivered place of a room that is still here.
    pub(super) fn position(&self, id: RoomId) -> Option<(Arc<Room>, Position)> {
        let local_room = &self.rooms[*self.by_id.get(&id)? as usize];
        let position = Position { epoch: local_room.room.epoch(), offset: local_room.head };
        Some((Arc::clone(&local_room.room), position))
    }
}

impl LocalRoom {
    /// Puts a member into the group of its form.
    pub(super) fn seat(&mut self, slot: u32, form: Form) -> (u8, u32) {
        let group = match self.groups.iter().position(|group| group.form == form) {
            Some(group) => group,
            None => {
                // Most rooms are small and speak one dialect: begin with room for one of each.
                self.groups.reserve_exact(1);
                self.groups.push(Group { form, members: Vec::with_capacity(1) });
                self.groups.len() - 1
            }
        };
        let members = &mut self.groups[group].members;
        members.push(slot);
        // A form is a dialect (at most 256, in practice few) and one of four compressions.
        (group as u8, members.len() as u32 - 1)
    }
}
