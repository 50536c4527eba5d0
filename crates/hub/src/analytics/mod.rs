//! How much is said, by how many: per tenant and room, by hour and day.
//!
//! Messages are counted where they get their place, in the room's state, under the lock that is held anyway
//! ([`tally`]): an addition, and a look-up of the user in a short list. The flusher collects what rooms have counted every 15
//! seconds, adds it up and writes it to the hub's first store as [facts](records), or keeps it in memory where there is
//! no store. Without analytics a message costs one comparison; with it, besides a cache line of a room that is in use, 27 ns
//! where one user speaks, 44 ns where 16 do, 56 ns with 200, and 28 ns with 100,000, who are estimated (a loop over this
//! counting alone, optimised, on a busy machine; the ignored test below measures it again).
//!
//! What a count means: messages are those *said* ([`Kind::is_said`](outspoke_protocol::Kind::is_said)), once each,
//! whoever received them; users are those who said them, by [`distinct`]; connections are all of a tenant's. Hours, days
//! and minutes are UTC's. Private conversations count in their tenant, and nowhere by name. Rooms beyond
//! [`ROOMS_MAX`] in an hour or day count in their tenant only.
//!
//! Invariants: a count is added to a store in one step and taken from memory only when it is there, so a store that is
//! away delays figures and loses none; a graceful stop writes everything before the store closes. A crash loses what was
//! counted since the last flush. Nobody writes what another hub writes: in a store that several share, each life of a
//! hub has facts of its own, which are added up for whoever asks ([`records`]) and go when they are old, as all do.

mod distinct;
mod flush;
mod query;
mod records;
mod tally;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use ecow::EcoString;
use outspoke_protocol::{Message, MessageId, RoomName};
use outspoke_store::MemoryStore;

use self::flush::Pending;
pub use self::query::{AnalyticsError, Figures, Grain, RoomFigures};
pub(crate) use self::tally::Tally;
use self::tally::{Desk, Whose};
use crate::direct::is_reserved;
use crate::hub::Inner;
use crate::room::Room;
use crate::sync::Arc;

/// How often what rooms have counted is collected and written.
const FLUSH: Duration = Duration::from_secs(15);
/// Rooms of a tenant that are counted by name in one hour or day: with a store, and without.
const ROOMS_MAX: (u64, u64) = (100_000, 10_000);
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Everything a hub counts for its operators.
#[derive(Debug)]
pub(crate) struct Analytics {
    enabled: bool,
    desk: Arc<Desk>,
    pending: tokio::sync::Mutex<Pending>,
    /// For a hub without stores.
    memory: MemoryStore,
    /// The name of this life of the hub, and when it began.
    life: String,
    began: i64,
    ended: AtomicBool,
}

impl Analytics {
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            desk: Arc::default(),
            pending: tokio::sync::Mutex::default(),
            memory: MemoryStore::new(),
            life: format!("{:032x}", MessageId::random().as_u128()),
            began: outspoke_store::limits::local_clock(),
            ended: AtomicBool::new(false),
        }
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Counts a message that has got its place in `room`, whose tally this is.
    pub(crate) fn count(&self, room: &Arc<Room>, tally: &mut Option<Box<Tally>>, message: &Message) {
        if !self.enabled || !message.kind.is_said() {
            return;
        }
        let tally = tally.get_or_insert_with(|| Box::new(self.begin(room)));
        let user = message.from.as_ref().map(|from| from.user.as_str());
        tally.count(message.ts.as_millis().div_euclid(MINUTE_MS), user);
    }

    #[cold]
    fn begin(&self, room: &Arc<Room>) -> Tally {
        self.desk.remember(Arc::downgrade(room));
        let public = |name: &&RoomName| !is_reserved(name.as_str());
        let name = room.name.as_ref().filter(public).map(|name| EcoString::from(name.as_str()));
        Tally::new(Whose { tenant: room.tenant.clone(), room: name }, Arc::clone(&self.desk))
    }

    /// Runs until the hub's shards have ended, and meanwhile, if `counting`, collects and writes; a last time after that.
    pub(crate) async fn run(hub: Arc<Inner>, counting: bool) {
        let mut running = hub.running.subscribe();
        let counting = counting && hub.analytics.enabled;
        loop {
            let more = tokio::select! {
                // The sender lives as long as the hub.
                _ = running.wait_for(|count| *count == 0) => false,
                () = hub.analytics.desk.crowded.notified(), if counting => true,
                () = tokio::time::sleep(until_next_flush()), if counting => true,
            };
            if !more {
                hub.analytics.ended.store(true, Ordering::Release);
            }
            if counting {
                hub.analytics.flush(&hub).await;
            }
            if !more {
                return;
            }
        }
    }
}

/// An hour's last flush is at its end, so that peaks are the right hour's.
fn until_next_flush() -> Duration {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let into_hour = Duration::from_millis(since_1970.as_millis() as u64 % HOUR_MS as u64);
    let left = Duration::from_millis(HOUR_MS as u64) - into_hour;
    FLUSH.min(left.max(Duration::from_millis(1)))
}

/// How many connections a tenant has, and how many it had at most since somebody looked.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Gauge {
    pub(crate) fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::AcqRel) + 1;
        self.peak.fetch_max(now, Ordering::AcqRel);
    }

    pub(crate) fn leave(&self) {
        self.now.fetch_sub(1, Ordering::AcqRel);
    }

    /// Connections now.
    pub(crate) fn now(&self) -> usize {
        self.now.load(Ordering::Acquire)
    }

    /// The peak since the last call; from here on it begins with what is.
    fn take_peak(&self) -> usize {
        self.peak.swap(self.now(), Ordering::AcqRel).max(self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauge_keeps_the_peak_until_it_is_taken() {
        let gauge = Gauge::default();
        (0..5).for_each(|_| gauge.enter());
        (0..3).for_each(|_| gauge.leave());
        assert_eq!((gauge.take_peak(), gauge.take_peak(), gauge.now()), (5, 2, 2));
    }

    /// Prints what counting a message costs in a room's state: `cargo test --release -- --ignored --nocapture counting`.
    #[test]
    #[ignore = "a measurement, not a fact"]
    #[allow(clippy::print_stdout)]
    fn counting_costs_this_much() {
        const MESSAGES: u32 = 10_000_000;
        for users in [1, 16, 200, 100_000] {
            let names: Vec<String> = (0..users).map(|user| format!("user-{user:012}")).collect();
            let whose = Whose { tenant: EcoString::new(), room: Some(EcoString::from("lobby")) };
            let mut tally = Tally::new(whose, Arc::default());
            let began = std::time::Instant::now();
            for (message, name) in (0..MESSAGES).zip(names.iter().cycle()) {
                // A minute is as long as a hundred thousand messages.
                tally.count(i64::from(message / 100_000), Some(std::hint::black_box(name)));
            }
            println!("{users} users: {:.1} ns", began.elapsed().as_nanos() as f64 / f64::from(MESSAGES));
        }
    }
}
