//! The hot path: a turn's messages, to every local member of every room concerned.
//!
//! Cost per member: one `send(2)`, and beside it a slot number, a descriptor (4 members to a cache line) and
//! the call's bookkeeping; no allocation, no lock, no formatting, no reference count. Cost per room and form:
//! one look at each frame, and one concatenation when there are several.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::Shard;
use super::rooms::{Form, Late};
use super::send::Sent;
use crate::config::SlowClient;
use crate::publication::Publication;
use crate::room::{Room, RoomId};
use crate::shard::connection::Seat;
use crate::stats::count;
use crate::trace::diary::HandedOut;

/// Members written to before the runtime gets a look at its other tasks: about a millisecond.
const MEMBERS_PER_YIELD: usize = 256;

/// A turn's frames of one room in one form.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) room: RoomId,
    /// It is the room that everybody is in, beside others.
    pub(super) everyone: bool,
    /// What becomes of it for a member that reads too slowly.
    pub(super) policy: SlowClient,
    /// All frames, one after the other.
    pub(super) bytes: Bytes,
    /// Each frame: where it ends in `bytes`, and its place in the room's log.
    pub(super) frames: Vec<FrameOf>,
}

/// One frame of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameOf {
    pub(super) end: usize,
    /// Zero: it is no part of the room's log.
    pub(super) offset: u64,
    /// What a conflating room compares.
    pub(super) key: u64,
}

impl Batch {
    /// Messages of the room's log in it.
    pub(super) fn logged(&self) -> u32 {
        self.frames.iter().map(|frame| u32::from(frame.offset > 0)).sum()
    }

    /// The first and the last message of the room's log in it; zeros: there is none.
    pub(super) fn range(&self) -> (u64, u64) {
        let mut logged = self.frames.iter().map(|frame| frame.offset).filter(|offset| *offset > 0);
        let first = logged.next().unwrap_or(0);
        (first, logged.next_back().unwrap_or(first))
    }

    /// Whether one of the log's messages has no words in this form.
    fn leaves_out(&self) -> bool {
        let mut before = 0;
        self.frames.iter().any(|frame| {
            let nothing = frame.end == std::mem::replace(&mut before, frame.end);
            nothing && frame.offset > 0
        })
    }

    /// The batch without its first `skip` publications' frames.
    fn after(&self, skip: usize) -> Self {
        let start = skip.checked_sub(1).map_or(0, |last| self.frames[last].end);
        let frames =
            self.frames[skip..].iter().map(|frame| FrameOf { end: frame.end - start, ..*frame }).collect();
        Self { bytes: self.bytes.slice(start..), frames, ..*self }
    }
}

impl Shard {
    /// Delivers everything pending.
    pub(super) async fn fan_out(&mut self) {
        let pending = self.rooms.take_pending();
        let several = pending.len() > 1;
        let mut written = 0;
        for local in pending {
            let local_room = self.rooms.room_mut(local);
            let publications = std::mem::take(&mut local_room.pending);
            let room = Arc::clone(&local_room.room);
            if let Some(offset) =
                publications.iter().filter_map(|publication| offset_of(publication)).next_back()
            {
                local_room.head = offset;
            }
            let (mut reached, mut unsaid) = (local_room.late.len(), 0);
            for group in 0..local_room.groups.len() {
                let form = self.rooms.room_mut(local).groups[group].form;
                let batch = self.batch(&room, form, &publications);
                unsaid |= u64::from(batch.leaves_out()) << form.dialect.min(63);
                // Taken out for the loop, in which nobody joins or leaves: whoever must go is only doomed.
                let members = std::mem::take(&mut self.rooms.room_mut(local).groups[group].members);
                for chunk in members.chunks(MEMBERS_PER_YIELD) {
                    self.write_to_members(chunk, &batch, several);
                    written += chunk.len();
                    if written >= MEMBERS_PER_YIELD {
                        written = 0;
                        tokio::task::yield_now().await;
                    }
                }
                reached += members.len();
                self.rooms.room_mut(local).groups[group].members = members;
            }
            self.seat_late(local, &room, &publications);
            let done = std::time::Instant::now();
            let mut offsets = publications.iter().filter_map(|publication| offset_of(publication));
            if let Some(first) = offsets.next() {
                let last = offsets.next_back().unwrap_or(first);
                let members = u32::try_from(reached).unwrap_or(u32::MAX);
                self.diary.handed_out(HandedOut { room: room.id, first, last, at: done, members, unsaid });
            }
            for accepted in publications.iter().filter_map(|publication| publication.accepted()) {
                self.measures().deliveries.record(done.saturating_duration_since(accepted));
            }
        }
    }

    fn write_to_members(&mut self, members: &[u32], batch: &Batch, several: bool) {
        if batch.bytes.is_empty() {
            return;
        }
        for &slot in members {
            let hot = self.hot[slot as usize];
            // A member of several rooms with news gets them all in one write at the end of the turn.
            if hot.direct >= 0 && !(several && (hot.several_rooms || batch.everyone)) {
                match super::send::send_direct(hot.direct, &batch.bytes) {
                    Sent::All => {}
                    Sent::Part(written) => self.queue_batch(slot, batch, Some(written)),
                    Sent::Failed => self.lost_later(slot),
                }
            } else {
                self.queue_batch(slot, batch, None);
            }
        }
        let counters = self.counters();
        count(&counters.deliveries, members.len() as u64 * batch.frames.len() as u64);
        count(&counters.delivery_writes, members.len() as u64);
        count(&counters.bytes_delivered, members.len() as u64 * batch.bytes.len() as u64);
    }

    /// Puts the publications together in the form that a group gets.
    fn batch(&mut self, room: &Room, form: Form, publications: &[Arc<Publication>]) -> Batch {
        let dialects = &self.hub.dialects;
        let mut frames = Vec::with_capacity(publications.len());
        let mut single = Bytes::new();
        let mut joined = BytesMut::new();
        for publication in publications {
            let offset = offset_of(publication).unwrap_or(0);
            if let Some(frame) = publication.frame_for(usize::from(form.dialect), dialects) {
                let bytes = frame.encoded(&mut self.deflater, form.compression);
                match publications.len() {
                    1 => single = bytes.clone(),
                    _ => joined.extend_from_slice(bytes),
                }
            }
            let key = publication.conflation_key();
            frames.push(FrameOf { end: single.len() + joined.len(), offset, key });
        }
        let bytes = if publications.len() == 1 { single } else { joined.freeze() };
        let (everyone, policy) = (room.is_everyone(), room.class().slow_client);
        Batch { room: room.id, everyone, policy, bytes, frames }
    }

    /// Gives members that joined during the turn what followed their join, and a seat.
    fn seat_late(&mut self, local: u32, room: &Room, publications: &[Arc<Publication>]) {
        let late = std::mem::take(&mut self.rooms.room_mut(local).late);
        let mut batches: Vec<(Form, Batch)> = Vec::new();
        for Late { slot, form, after } in late {
            if after < publications.len() {
                let index = match batches.iter().position(|(known, _)| *known == form) {
                    Some(index) => index,
                    None => {
                        batches.push((form, self.batch(room, form, publications)));
                        batches.len() - 1
                    }
                };
                let rest = batches[index].1.after(after);
                self.write_to_members(&[slot], &rest, false);
            }
            let (group, place) = self.rooms.room_mut(local).seat(slot, form);
            let connection = &mut self.connections[slot as usize];
            if let Some(membership) = connection.memberships.iter_mut().find(|held| held.local == Some(local))
            {
                membership.place = Seat::In(group, place);
            }
        }
    }
}

fn offset_of(publication: &Publication) -> Option<u64> {
    publication.message_ref().and_then(|message| message.position).map(|position| position.offset)
}
