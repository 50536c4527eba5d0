//! Members that read too slowly: what becomes of a room's messages for them.
//!
//! The room's policy decides only here, off the fast path, and only for a member whose connection has refused bytes:
//! one with an untried queue may be the fastest of all. It ends when the outbox is empty. Whatever is not delivered is counted, and told to the client
//! as a gap when it reads again.

use outspoke_protocol::{Disconnect, Event, Gap};

use super::Shard;
use super::fanout::Batch;
use crate::client::outbox::{Entry, Origin, Skipped};
use crate::config::SlowClient;
use crate::stats::count;

impl Shard {
    /// Queues a delivery. `tried`: the socket took so many bytes of it, and no more; `None`: it has not been tried.
    pub(super) fn queue_batch(&mut self, slot: u32, batch: &Batch, tried: Option<usize>) {
        let connection = &self.connections[slot as usize];
        if !connection.is_open() {
            return;
        }
        let untried = connection.outbox.is_none() && tried.is_none();
        let stuck = connection.outbox.as_ref().is_some_and(|outbox| outbox.stuck);
        if !stuck {
            self.queue(slot, batch.entry(), tried);
        } else if self.is_muted(slot, batch) {
            self.skip(slot, batch, batch.logged(), true);
        } else {
            self.queue_for_slow(slot, batch);
        }
        if untried || self.owes_a_gap_only(slot) {
            let key = self.connections[slot as usize].key(slot as usize);
            self.dirty.push(key);
        }
    }

    fn queue_for_slow(&mut self, slot: u32, batch: &Batch) {
        let queued = self.connections[slot as usize].client.queued_bytes();
        let fits = queued + batch.bytes.len() <= self.hub.config().outbox_bytes_max;
        match batch.policy {
            SlowClient::Conflate if !batch.everyone => self.conflate(slot, batch),
            _ if fits => self.queue(slot, batch.entry(), None),
            SlowClient::Disconnect => self.doom_slow(slot),
            SlowClient::DropNewest => self.skip(slot, batch, batch.logged(), false),
            SlowClient::DropOldest | SlowClient::Conflate => self.drop_oldest(slot, batch),
            SlowClient::Resync => self.mute(slot, batch),
        }
    }

    /// Everything that waited was dropped: what was missed can be told.
    fn owes_a_gap_only(&self, slot: u32) -> bool {
        self.connections[slot as usize].outbox.as_ref().is_some_and(|outbox| outbox.is_empty())
    }

    fn doom_slow(&mut self, slot: u32) {
        let key = self.connections[slot as usize].key(slot as usize);
        self.doomed.push((key, Disconnect::SlowConsumer));
    }

    fn is_muted(&self, slot: u32, batch: &Batch) -> bool {
        self.connections[slot as usize].outbox.as_ref().is_some_and(|outbox| outbox.is_muted(batch.room))
    }

    /// Makes space among the room's own messages; a neighbour room pays nothing.
    fn drop_oldest(&mut self, slot: u32, batch: &Batch) {
        let max = self.hub.config().outbox_bytes_max;
        let queued = self.connections[slot as usize].client.queued_bytes();
        let mut excess = (queued + batch.bytes.len()).saturating_sub(max);
        self.drop_where(slot, batch, false, |_, len| {
            let wanted = excess > 0;
            excess = excess.saturating_sub(len);
            wanted
        });
        if self.connections[slot as usize].client.queued_bytes() + batch.bytes.len() > max {
            self.skip(slot, batch, batch.logged(), false);
        } else {
            self.queue(slot, batch.entry(), None);
        }
    }

    /// Keeps the newest message of each key; the rest of the batch is treated as usual.
    fn conflate(&mut self, slot: u32, batch: &Batch) {
        for single in batch.frames_alone() {
            let key = single.frames[0].key;
            if key != 0 {
                self.drop_where(slot, &single, false, |held, _| held == key);
            }
            let queued = self.connections[slot as usize].client.queued_bytes();
            if queued + single.bytes.len() > self.hub.config().outbox_bytes_max {
                self.drop_oldest(slot, &single);
            } else {
                self.queue(slot, single.entry(), None);
            }
        }
    }

    /// Drops everything of the room, and what follows until the outbox is empty.
    fn mute(&mut self, slot: u32, batch: &Batch) {
        self.drop_where(slot, batch, true, |_, _| true);
        self.skip(slot, batch, batch.logged(), true);
    }

    /// Drops queued entries of the batch's room for which `drop`, told key and length, says so.
    fn drop_where(
        &mut self,
        slot: u32,
        batch: &Batch,
        muted: bool,
        mut drop: impl FnMut(u64, usize) -> bool,
    ) {
        let connection = &mut self.connections[slot as usize];
        let Some(outbox) = connection.outbox.as_mut() else { return };
        let mut ranges = Vec::new();
        let (bytes, missed) = outbox.drop_where(|origin, len| match origin {
            Origin::Room { room, key, messages, last } => {
                let dropped = *room == batch.room && drop(*key, len);
                if dropped && *messages > 0 {
                    ranges.push((last + 1 - u64::from(*messages), *last));
                }
                dropped
            }
            _ => false,
        });
        connection.client.release(bytes);
        let last = ranges.last().map_or(0, |range| range.1);
        if missed > 0 {
            outbox.skip(batch.room, missed, muted, (0, 0));
            ranges.into_iter().for_each(|range| outbox.skip(batch.room, 0, muted, range));
            count(&self.counters().deliveries_skipped, missed);
            self.show_skipped(slot, batch, last, missed);
        }
    }

    fn skip(&mut self, slot: u32, batch: &Batch, missed: u32, muted: bool) {
        let Some(outbox) = self.connections[slot as usize].outbox.as_mut() else { return };
        outbox.skip(batch.room, u64::from(missed), muted, batch.range());
        count(&self.counters().deliveries_skipped, batch.frames.len() as u64);
        self.show_skipped(slot, batch, batch.range().1, u64::from(missed));
    }

    /// Says what was missed, now that the client reads again, and what else is owed to it.
    pub(super) fn tell_gaps(&mut self, slot: u32, skipped: &[Skipped]) {
        for gap in skipped.iter().filter(|gap| gap.missed > 0) {
            let Some((room, to)) = self.rooms.position(gap.room) else { continue };
            let Some(name) = room.name.clone() else { continue };
            self.reply(slot, &Event::Gap(Gap { room: name, to, missed: gap.missed }));
        }
        self.send_replies(slot, false);
    }
}

impl Batch {
    fn entry(&self) -> Entry {
        let key = if self.frames.len() == 1 { self.frames[0].key } else { 0 };
        let origin = Origin::Room { room: self.room, messages: self.logged(), last: self.range().1, key };
        Entry { bytes: self.bytes.clone(), origin }
    }

    /// Each frame as a batch of its own.
    fn frames_alone(&self) -> impl Iterator<Item = Self> {
        let mut start = 0;
        self.frames.iter().filter_map(move |frame| {
            let bytes = self.bytes.slice(start..frame.end);
            start = frame.end;
            let frames = vec![super::fanout::FrameOf { end: bytes.len(), ..*frame }];
            (!bytes.is_empty()).then_some(Self { bytes, frames, ..*self })
        })
    }
}
