//! What a shard derives from the configuration, when that is another.
//!
//! Its compressor, and the length of its clock's ticks, in which every deadline of a connection is counted: those that are
//! under way are counted anew, so that none is late by more than a tick of either length.

use tokio::time::Instant;

use super::connection::{Connection, Phase};
use super::wheel::{Tick, Wheel};
use super::{Deflater, Shard, lifecycle};

/// What the clock begins with when it is set anew: more ticks than any deadline is long, so that what lies behind has a number.
const BASE: Tick = 1 << 24;

impl Shard {
    pub(super) fn reconfigured(&mut self) {
        let config = self.hub.config.load_full();
        let wanted = (config.compression.level, config.compression.bytes_min);
        if wanted != self.deflates {
            // With the next message it allocates anew.
            self.deflater = Deflater::with_level(wanted.0, wanted.1);
            self.deflates = wanted;
        }
        self.set_clock(lifecycle::tick_length(&config));
        if config.heartbeat != self.heartbeat {
            self.heartbeat = config.heartbeat;
            self.hear_everybody();
        }
    }

    /// Goes on in ticks of another length, and looks at every connection soon: its deadlines may be others.
    fn set_clock(&mut self, tick: std::time::Duration) {
        let (now, before) = (self.now(), self.tick.as_nanos());
        let anew = |at: Tick| {
            let age = u128::from(now.saturating_sub(at)) * before / tick.as_nanos();
            BASE - Tick::try_from(age).unwrap_or(BASE).min(BASE)
        };
        let ahead = |at: Tick| match at {
            Tick::MAX => at,
            at => {
                let left = (u128::from(at.saturating_sub(now)) * before).div_ceil(tick.as_nanos());
                BASE.saturating_add(Tick::try_from(left).unwrap_or(Tick::MAX))
            }
        };
        // What passed since the last tick is passed again: late rather than early.
        (self.began, self.base, self.tick) = (Instant::now(), BASE, tick);
        self.wheel = Wheel::at(BASE);
        for (slot, connection) in &mut self.connections {
            connection.count_anew(anew);
            connection.end_anew(ahead);
            // Over several ticks, so that a crowd is not pinged in one.
            let at = BASE + 1 + (slot as Tick & 7);
            connection.next_look = self.wheel.schedule(connection.key(slot), at);
        }
    }
}

impl Shard {
    /// Silence that was allowed is held against nobody: who was silent for longer than is allowed now is pinged, and has the time
    /// to answer.
    fn hear_everybody(&mut self) {
        let asked = self.heartbeat.ping_interval.as_nanos().div_ceil(self.tick.as_nanos());
        let silence_max = Tick::try_from(asked).unwrap_or(BASE).min(BASE);
        for (_, connection) in &mut self.connections {
            connection.heard = connection.heard.max(self.wheel.now() - silence_max);
        }
    }
}

impl Connection {
    /// Every tick that is to come, at which something ends.
    fn end_anew(&mut self, ahead: impl Fn(Tick) -> Tick) {
        self.expires = ahead(self.expires);
        if let Some(grants) = &mut self.grants {
            grants.end_anew(ahead);
        }
    }

    /// Every tick that a connection remembers. (When others were last told that it types is no deadline.)
    fn count_anew(&mut self, anew: impl Fn(Tick) -> Tick) {
        self.heard = anew(self.heard);
        self.pinged = anew(self.pinged);
        if let Phase::Closing { since, .. } = &mut self.phase {
            *since = anew(*since);
        }
        if let Some(outbox) = &mut self.outbox {
            outbox.progress = anew(outbox.progress);
        }
        if let Some(stall) = &mut self.stall {
            stall.since = anew(stall.since);
        }
        for held in &mut self.memberships {
            held.typing = Default::default();
        }
    }
}
