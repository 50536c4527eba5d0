//! Telling who has come how far: of each user at most ten times a second, whatever the rate of receipts.

use std::time::Duration;

use outspoke_protocol::{Event, Position, Receipt, ReceiptCounts, ReceiptOf, UserId};

use super::cursors::{Counted, Untold};
use crate::hub::Inner;
use crate::publication::Publication;
use crate::room::{Room, State};
use crate::sync::Arc;

/// What is told of one user waits for so long for what comes next.
const TELL_EVERY: Duration = Duration::from_millis(100);

impl Room {
    pub(super) fn note_untold(&self, state: &mut State, user: &UserId, moved: Untold) {
        let crowd = state.total > self.class().receipts_members_max;
        let Some(receipts) = &mut state.receipts else { return };
        if !(moved.delivered || moved.seen) || state.total == 0 {
            return;
        }
        if crowd {
            receipts.counts_untold = true;
        } else {
            let untold = receipts.untold.entry(user.clone()).or_default();
            untold.delivered |= moved.delivered;
            untold.seen |= moved.seen;
        }
    }

    /// Tells members what they have not been told, unless they were told just now: then it waits for more.
    pub(super) fn tell_receipts(self: &Arc<Self>, hub: &Inner, state: &mut State) {
        if state.receipts.as_ref().is_none_or(|receipts| receipts.telling) {
            return;
        }
        let Some(mut pause) = self.tell_receipts_now(hub, state) else { return };
        let (Some(runtime), Some(hub)) = (hub.timers.get(), hub.myself.get().cloned()) else { return };
        if let Some(receipts) = &mut state.receipts {
            receipts.telling = true;
        }
        let room = Arc::downgrade(self);
        drop(runtime.spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let (Some(room), Some(hub)) = (room.upgrade(), hub.upgrade()) else { return };
                match room.tell_more_receipts(&hub) {
                    Some(next) => pause = next,
                    None => return,
                }
            }
        }));
    }

    pub(super) fn tell_more_receipts(self: &Arc<Self>, hub: &Inner) -> Option<Duration> {
        let mut state = self.lock();
        let pause = self.tell_receipts_now(hub, &mut state);
        if let Some(receipts) = &mut state.receipts {
            receipts.telling = pause.is_some();
        }
        pause
    }

    /// Returns how long what comes next is to wait, if anything was told. Under the room's lock, and in the order in which
    /// users move: so nobody is told an older place after a newer one.
    pub(super) fn tell_receipts_now(self: &Arc<Self>, hub: &Inner, state: &mut State) -> Option<Duration> {
        let room = self.name.clone()?;
        let epoch = self.epoch();
        let head = state.head;
        let receipts = state.receipts.as_mut()?;
        let untold = std::mem::take(&mut receipts.untold);
        let counts = std::mem::take(&mut receipts.counts_untold);
        let mut events = Vec::with_capacity(untold.len());
        for (user, untold) in untold {
            let Some(marks) = receipts.known(&user) else { continue };
            let of = |receipt| {
                let position = Position { epoch, offset: marks.at(receipt) };
                Event::Receipt(ReceiptOf { room: room.clone(), user: user.clone(), receipt, position })
            };
            // Who has read it has it.
            if untold.delivered && marks.delivered > marks.seen {
                events.push(of(Receipt::Delivered));
            }
            if untold.seen {
                events.push(of(Receipt::Seen));
            }
        }
        let mut pause = (!events.is_empty()).then_some(TELL_EVERY);
        if counts {
            let Counted { offset, delivered, seen } = receipts.counted;
            let (delivered, seen) = if offset == head { (delivered, seen) } else { (0, 0) };
            let position = Position { epoch, offset: head };
            events.push(Event::ReceiptCounts(ReceiptCounts { room, position, delivered, seen }));
            pause = Some(self.class().crowd_interval);
        }
        for event in events {
            self.hand_out(hub, state, &Arc::new(Publication::event(event, hub.dialects.len())));
        }
        pause
    }

    // ---- from the store ----
}
