//! Takes out of stored logs what is older than their rooms keep, a little at a time.
//!
//! Logs that are written to, every now and then; all of them on a walk over the store, about once an hour. Each trim is a
//! job of the keeper as any other, and small, so that no message waits long for it. Hubs that share a store walk at times of
//! their own: what one has trimmed costs the next a read.

use std::sync::Arc;
use std::time::Duration;

use ecow::EcoString;
use outspoke_store::{Direction, Log, LogKey, LogState, Range, Retention, StoreError, Stored};
use uuid::Uuid;

use super::Keeper;
use super::job::{Asker, Job};
use crate::hub::Inner;

/// How long there is between two walks, on average.
const BETWEEN_WALKS: Duration = Duration::from_secs(3600);
/// Logs looked at in one step.
const LOGS: usize = 64;
/// Records trimmed in one step.
const RECORDS: u64 = 2048;
/// How long there is between two steps.
const PAUSE: Duration = Duration::from_millis(500);

/// An order to trim a log by age.
#[derive(Debug)]
pub(crate) struct Trimming {
    log: LogKey,
    keep: Retention,
    /// When it is taken to be, in milliseconds since 1970: earlier than now where that is enough for one step.
    now: i64,
    pub(super) asker: Asker<LogState>,
}

/// Half of the time to one and a half, so that hubs do not keep step.
fn until_next_walk() -> Duration {
    let part = Uuid::new_v4().as_bytes()[0];
    BETWEEN_WALKS / 2 + BETWEEN_WALKS * u32::from(part) / 256
}

impl Keeper {
    /// Walks over the store again and again.
    pub(super) async fn sweep(self: Arc<Self>, hub: Arc<Inner>) {
        loop {
            tokio::time::sleep(until_next_walk()).await;
            if let Err(error) = self.walk(&hub).await {
                tracing::debug!(store = %self.name, %error, "not every log was looked at for what is too old");
            }
        }
    }

    async fn walk(&self, hub: &Inner) -> Result<(), StoreError> {
        for tenant in self.store.tenants().await? {
            let mut after: Option<EcoString> = None;
            loop {
                let page = self.store.logs(&tenant, after.as_deref(), LOGS).await?;
                after = page.logs.last().map(|log| log.key.room.clone());
                for log in page.logs {
                    self.sweep_log(hub, log).await;
                }
                tokio::time::sleep(PAUSE).await;
                if !page.more || after.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Looks after a log that is written to, beside the writing.
    pub(super) fn sweep_soon(self: &Arc<Self>, hub: &Arc<Inner>, log: Log) {
        let (keeper, hub) = (Arc::clone(self), Arc::clone(hub));
        self.spawn(async move { keeper.sweep_log(&hub, log).await });
    }

    async fn sweep_log(&self, hub: &Inner, log: Log) {
        if let Err(error) = self.trim_by_age(hub, &log).await {
            tracing::warn!(store = %self.name, log = %log.key, %error, "what is too old in a log was not trimmed");
        }
    }

    async fn trim_by_age(&self, hub: &Inner, log: &Log) -> Result<(), StoreError> {
        let class = hub.class_of(&log.key.room);
        let is_ours = hub.keeper_of(&class).is_some_and(|keeper| std::ptr::eq(&*keeper, self));
        let keep = Retention { age_max: class.history.age_max, ..Retention::default() };
        if !is_ours || keep.age_max.is_zero() {
            return Ok(());
        }
        let mut state = log.state;
        while let Some(now) = self.due(hub, &log.key, &state, keep).await? {
            let log = log.key.clone();
            let trimmed =
                self.ask(1024, |asker| Job::Trim(Box::new(Trimming { log, keep, now, asker }))).await?;
            if trimmed.epoch != state.epoch || trimmed.first <= state.first {
                break;
            }
            state = trimmed;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// When it must be taken to be for one step of trimming; `None`: nothing in the log is too old.
    async fn due(
        &self,
        hub: &Inner,
        log: &LogKey,
        state: &LogState,
        keep: Retention,
    ) -> Result<Option<i64>, StoreError> {
        let now = self.age_clock(hub);
        let is_old = |record: &Stored| keep.drops(0, 0, record.ts, now);
        let Some(oldest) = self.record_of(log, state.first, state).await?.filter(is_old) else {
            return Ok(None);
        };
        let last = self.record_of(log, state.first + RECORDS - 1, state).await?.filter(is_old);
        let age_max = i64::try_from(keep.age_max.as_millis()).unwrap_or(i64::MAX);
        let enough = |last: Stored| last.ts.max(oldest.ts).saturating_add(age_max).saturating_add(1);
        Ok(Some(last.map_or(now, enough).min(now)))
    }

    async fn record_of(
        &self,
        log: &LogKey,
        offset: u64,
        state: &LogState,
    ) -> Result<Option<Stored>, StoreError> {
        if offset == 0 || offset > state.head {
            return Ok(None);
        }
        let range = Range { direction: Direction::After(offset - 1), records_max: 1, bytes_max: 1 };
        Ok(self.store.range(log, range).await?.records.into_iter().next())
    }

    pub(super) async fn do_trimming(&self, hub: &Inner, trimming: Trimming) {
        let Trimming { log, keep, now, asker } = trimming;
        asker.answer(self.trim_log(hub, &log, keep, now).await);
    }

    async fn trim_log(
        &self,
        hub: &Inner,
        log: &LogKey,
        keep: Retention,
        now: i64,
    ) -> Result<LogState, StoreError> {
        let before = self.store.states(std::slice::from_ref(log)).await?.into_iter().next().flatten();
        let state = self.store.trim(log, keep, now).await?;
        if let Some(tenant) = hub.tenants.find(&log.tenant) {
            tenant.meter.stored_changed(before.map_or(0, |before| before.bytes), state.bytes);
            if let Some(room) = tenant.directory.get(&log.room) {
                room.trimmed(state);
            }
        }
        Ok(state)
    }
}
