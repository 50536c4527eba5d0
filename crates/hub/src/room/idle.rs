//! Rooms that nobody is in, and that are kept for a while for who comes back.
//!
//! Filled when a room's last member leaves, or a message comes to a room without members; worked off by the first shard once
//! per tick. A room is on the list once, however often it was put there, and its own state says until when it stays.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use super::Room;
use super::timed::Timed;
use crate::hub::Inner;
use crate::sync::Arc;

/// Rooms looked at per tick: more wait for the next one.
const PER_SWEEP: usize = 4096;
/// When a room that is in use without members is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Rooms by the time at which they may end.
#[derive(Debug, Default)]
pub(crate) struct Idle(Timed<Weak<Room>>);

/// How long a room stays without members.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stay {
    /// It may end then; `None`: when the hub does.
    until: Option<Instant>,
    /// It is on the list.
    listed: bool,
}

impl Idle {
    /// Lets the room end after so long, unless somebody comes or something is said; `None`: never.
    pub(crate) fn put(&self, room: &Arc<Room>, lingers: Option<Duration>) {
        let until = lingers.and_then(|lingers| Instant::now().checked_add(lingers));
        let mut state = room.lock();
        state.stay.until = until;
        let Some(at) = until.filter(|_| !state.stay.listed) else { return };
        state.stay.listed = true;
        drop(state);
        self.0.put(at, Arc::downgrade(room));
    }

    /// As [`put`](Self::put), where the room may have to end sooner than it is listed for. It is looked at both times.
    pub(super) fn put_anew(&self, room: &Arc<Room>, lingers: Option<Duration>) {
        room.lock().stay.listed = false;
        self.put(room, lingers);
    }

    /// Ends the rooms whose time has come.
    pub(crate) fn sweep(&self, hub: &Inner, now: Instant) {
        for _ in 0..PER_SWEEP {
            let Some((_, room)) = self.0.take_due(now) else { return };
            let Some(room) = room.upgrade() else { continue };
            let again = match due(&room, now) {
                // It comes back when they leave, or never.
                Due::InUse => continue,
                Due::Later(at) => at,
                Due::Over if hub.tenants.get(&room.tenant).directory.end_if_unused(hub, &room, now) => {
                    continue;
                }
                Due::Over => now + AGAIN,
            };
            room.lock().stay.listed = true;
            self.0.put(again, Arc::downgrade(&room));
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Due {
    InUse,
    Later(Instant),
    Over,
}

/// What becomes of a room that is not on the list any more.
fn due(room: &Room, now: Instant) -> Due {
    let mut state = room.lock();
    state.stay.listed = false;
    match state.stay.until {
        Some(_) if state.total > 0 => Due::InUse,
        Some(until) if until > now => Due::Later(until),
        Some(_) => Due::Over,
        None => Due::InUse,
    }
}

impl Room {
    /// Whether the room's time without members is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let state = self.lock();
        state.total == 0 && state.stay.until.is_some_and(|until| until <= now)
    }
}
