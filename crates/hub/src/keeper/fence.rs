//! The fence in time: until when a batch may be written, by the store's clock, and whether this hub was stopped.
//!
//! A hub that was stopped for a while (a suspended machine, a stopped process) and goes on does not know it, and would
//! write what others have long since written in its place: publishers send again, through another hub, what was not
//! answered, and the store remembers ids and keys for minutes only. So every batch has a time after which the store
//! refuses it, chosen when it is first tried and never again. That needs the store's clock, which a keeper of a
//! [shared](outspoke_store::Store::is_shared) store asks for now and then; others have the local one.
//!
//! Three clocks tell that time has passed unseen: the monotonic one does not go on while a machine is suspended, the wall
//! clock may not either, the store's does. When one runs ahead of another, everything accepted before is refused. What
//! becomes of a batch that is refused in spite of an earlier try is the [`commit`](super::commit) module's affair.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant as Monotonic};

use outspoke_store::limits::{REMEMBERED_MS, local_clock};
use outspoke_store::{Batch, FactKey, FactWrite, Space, StoreError};
use tokio::time::Instant;

use super::Keeper;

/// What a batch gets beyond the time-out for storing: room for clocks that differ a little, and for a second try.
const SLACK: Duration = Duration::from_secs(10);
/// How far clocks may run apart before it counts as time that passed unseen.
const JUMP_MS: i64 = 5_000;
/// How often the store's clock is asked for, when there is something to write.
const ASK: Duration = Duration::from_secs(60);
/// ... and how soon again if it was not told: a store that is away must not cost every batch another wait.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// For so long after its first try it is certain what became of a batch: a minute less than ids are remembered.
const CERTAIN_MS: i64 = REMEMBERED_MS - 60_000;

/// A family without facts: whoever writes to it too late is told the time.
const CLOCK: Space = Space("clock");

/// What a keeper knows about time.
#[derive(Debug, Default)]
pub(super) struct Fence(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How far the store's clock is ahead of ours, as it said itself.
    ahead: Option<i64>,
    /// When to ask for it next; `None`: at once.
    ask_at: Option<Monotonic>,
    /// Both local clocks when they were last compared.
    seen: Option<(Monotonic, i64)>,
    /// What had to be begun by then is refused.
    stopped: Option<Instant>,
}

/// The first try of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    pub(super) not_after: i64,
    /// By the three clocks.
    at: (Monotonic, i64, i64),
    pub(super) in_doubt: bool,
}

impl Begun {
    /// Whether, at a time of the store's clock, the store still remembers what it was given with the first try.
    pub(super) fn is_certain(&self, store_now: i64) -> bool {
        self.passed_ms().max(store_now - self.at.2) < CERTAIN_MS
    }

    /// How long ago it was, by the local clock that says more.
    fn passed_ms(&self) -> i64 {
        let (monotonic, wall, _) = self.at;
        let passed = i64::try_from(monotonic.elapsed().as_millis()).unwrap_or(i64::MAX);
        passed.max((local_clock() - wall).abs())
    }
}

impl Fence {
    /// What had to be begun by then is over: now, or later if the hub was stopped.
    pub(super) fn overdue(&self) -> Instant {
        let now = Instant::now();
        self.lock().stopped.map_or(now, |stopped| stopped.max(now))
    }

    /// Compares the local clocks; notes when one of them stood still.
    pub(super) fn compare(&self, timeout: Duration) {
        let (now, wall) = (Monotonic::now(), local_clock());
        let mut state = self.lock();
        if let Some((monotonic, before)) = state.seen.replace((now, wall)) {
            let passed = i64::try_from((now - monotonic).as_millis()).unwrap_or(i64::MAX);
            if wall - before - passed > JUMP_MS {
                state.was_stopped(timeout);
            }
        }
    }

    /// The time for a batch that is tried first now.
    pub(super) fn begin(&self, timeout: Duration) -> Begun {
        let wall = local_clock();
        let store = wall + self.lock().ahead.unwrap_or(0);
        let allowed = i64::try_from((timeout + SLACK).as_millis()).unwrap_or(i64::MAX);
        Begun {
            not_after: store.saturating_add(allowed),
            at: (Monotonic::now(), wall, store),
            in_doubt: false,
        }
    }

    /// Learns the store's time from an answer. `false`: time has passed that nobody here saw.
    fn learn(&self, store_now: i64, timeout: Duration) -> bool {
        let ahead = store_now - local_clock();
        let mut state = self.lock();
        state.ask_at = Some(Monotonic::now() + ASK);
        match state.ahead.replace(ahead) {
            Some(before) if ahead - before > JUMP_MS => {
                state.was_stopped(timeout);
                false
            }
            _ => true,
        }
    }

    /// Whether a batch that was too late may get another time: only the clocks differed, and it was never in doubt. Not if
    /// it really took so long, by whichever clock.
    pub(super) fn forgives(&self, begun: &Begun, store_now: i64, timeout: Duration) -> bool {
        self.learn(store_now, timeout) && !begun.in_doubt && begun.passed_ms() < JUMP_MS
    }

    /// Whether to ask for the store's clock; if that fails, not again at once.
    fn is_due(&self) -> bool {
        let now = Monotonic::now();
        let mut state = self.lock();
        let is_due = state.ask_at.is_none_or(|at| at <= now);
        if is_due {
            state.ask_at = Some(now + ASK_AGAIN);
        }
        is_due
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn was_stopped(&mut self, timeout: Duration) {
        tracing::warn!(
            "time has passed that this hub did not see: it was stopped, or a clock was set; what waited is refused"
        );
        // Everything gets the same time to be begun, so what was accepted before now has a deadline before this.
        self.stopped = Some(Instant::now() + timeout.saturating_sub(Duration::from_millis(1)));
    }
}

impl Keeper {
    /// Asks a shared store for its clock when that was long ago. `false`: time has passed that nobody here saw.
    pub(super) async fn is_in_time(&self, timeout: Duration) -> bool {
        if !self.store.is_shared() || !self.fence.is_due() {
            return true;
        }
        // Deletes nothing, and is too late for it in any case.
        let key = FactKey { tenant: Default::default(), space: CLOCK, name: Default::default() };
        let batch = Batch { facts: vec![FactWrite::Delete(key)], not_after: Some(0), ..Batch::default() };
        match self.store.commit(&batch).await {
            Err(StoreError::TooLate { now }) => self.fence.learn(now, timeout),
            // Then the batch itself will hardly fare better, or tell the time.
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn store_clock_that_jumps_ahead_means_that_the_hub_was_stopped() {
        let fence = Fence::default();
        let accepted = Instant::now() + TIMEOUT;
        assert!(fence.learn(local_clock() - 3_600_000, TIMEOUT), "the first word is believed");
        assert!(fence.begin(TIMEOUT).not_after < local_clock() - 3_000_000);
        assert!(fence.learn(local_clock() - 3_599_000, TIMEOUT), "clocks drift");
        assert!(fence.overdue() < accepted);
        assert!(!fence.learn(local_clock() - 3_500_000, TIMEOUT));
        assert!(fence.overdue() > accepted - Duration::from_millis(2));
        let stopped = Instant::now();
        assert!(fence.overdue() <= stopped + TIMEOUT, "what comes after is not refused");
    }

    #[tokio::test]
    async fn wall_clock_that_runs_ahead_of_the_monotonic_one_means_that_the_hub_was_stopped() {
        let fence = Fence::default();
        let accepted = Instant::now() + TIMEOUT;
        fence.compare(TIMEOUT);
        fence.compare(TIMEOUT);
        assert!(fence.overdue() < accepted);
        fence.lock().seen = Some((Monotonic::now(), local_clock() - 60_000));
        fence.compare(TIMEOUT);
        assert!(fence.overdue() > accepted - Duration::from_millis(2));
    }

    /// A process that was stopped: its clocks went on, and so did the store's.
    #[tokio::test]
    async fn late_batch_gets_another_time_only_if_it_was_just_begun() {
        let fence = Fence::default();
        let begun = fence.begin(TIMEOUT);
        let now = local_clock() + 3_600_000;
        assert!(fence.forgives(&begun, now, TIMEOUT), "the clocks differ");
        assert!(!fence.forgives(&Begun { in_doubt: true, ..begun }, now, TIMEOUT));
        let (monotonic, wall, store) = begun.at;
        let earlier = monotonic.checked_sub(Duration::from_secs(20)).unwrap_or(monotonic);
        let stopped = Begun { at: (earlier, wall - 20_000, store), ..begun };
        assert!(!fence.forgives(&stopped, now, TIMEOUT));
    }

    #[tokio::test]
    async fn batch_is_certain_only_while_every_clock_says_so() {
        let fence = Fence::default();
        let begun = fence.begin(TIMEOUT);
        let store = local_clock();
        assert!(begun.is_certain(store) && begun.is_certain(store + CERTAIN_MS - 60_000));
        assert!(!begun.is_certain(store + CERTAIN_MS));
        let (monotonic, wall, store) = begun.at;
        let slept = Begun { at: (monotonic, wall - CERTAIN_MS, store), ..begun };
        assert!(!slept.is_certain(store));
    }
}
