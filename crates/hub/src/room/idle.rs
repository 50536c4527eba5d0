//! Rooms that nobody is in, and that are kept for a while for who comes back.
//!
//! Filled when a room's last member leaves, worked off by the first shard once per tick. What is on the list may be in use
//! again, or be on it twice: the directory decides whether a room ends.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use super::Room;
use super::timed::Timed;
use crate::sync::Arc;
use crate::tenant::Tenants;

/// Rooms looked at per tick: more wait for the next one.
const PER_SWEEP: usize = 4096;
/// When a room that is in use without members is looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// Rooms by the time at which they may end.
#[derive(Debug, Default)]
pub(crate) struct Idle(Timed<Weak<Room>>);

impl Idle {
    /// Lets the room end after so long, unless somebody comes; `None`: never.
    pub(crate) fn put(&self, room: &Arc<Room>, lingers: Option<Duration>) {
        let Some(at) = lingers.and_then(|lingers| Instant::now().checked_add(lingers)) else { return };
        self.0.put(at, Arc::downgrade(room));
    }

    /// Ends the rooms whose time has come.
    pub(crate) fn sweep(&self, tenants: &Tenants, now: Instant) {
        for _ in 0..PER_SWEEP {
            let Some((_, room)) = self.0.take_due(now) else { return };
            let Some(room) = room.upgrade() else { continue };
            if room.members() > 0 {
                // It comes back when they leave.
                continue;
            }
            if !tenants.get(&room.tenant).directory.end_if_unused(&room) {
                self.put(&room, Some(AGAIN));
            }
        }
    }
}
