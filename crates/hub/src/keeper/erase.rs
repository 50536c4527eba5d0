//! Taking words out of stored logs: all of a room's, or all of a user's.
//!
//! Between the keeper's batches, as amendments are; what another hub changes meanwhile is read again. What is done is done
//! in the store first; rooms in memory follow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{Epoch, Message, RoomName};
use outspoke_store::{Append, Batch, Direction, LogKey, Range, Replace, StoreError};

use super::Keeper;
use super::job::{Asker, Job};
use crate::admin::NOTHING;
use crate::erasure::erased;
use crate::hub::Inner;
use crate::publish::record_of;
use crate::room::{Room, message_of};

/// How often messages are read again that others change at the same time.
const TRIES_MAX: usize = 16;

/// An order to take words out of a log.
#[derive(Debug)]
pub(crate) struct Erasure {
    pub(crate) log: LogKey,
    /// The room, if it is in memory.
    pub(crate) room: Option<Arc<Room>>,
    pub(crate) what: Erase,
    pub(super) asker: Asker<()>,
}

/// What to take out.
#[derive(Debug)]
pub(crate) enum Erase {
    /// Every message.
    All,
    /// What this user said, or did to what others said, in the records at these offsets.
    User(EcoString, Vec<u64>),
}

impl Keeper {
    /// Forgets every message of a log.
    pub(crate) async fn clear(&self, log: LogKey, room: Option<Arc<Room>>) -> Result<(), StoreError> {
        self.order_erasure(log, room, Erase::All).await
    }

    /// Takes a user's words out of these records.
    pub(crate) async fn erase(
        &self,
        log: LogKey,
        room: Option<Arc<Room>>,
        user: EcoString,
        offsets: Vec<u64>,
    ) -> Result<(), StoreError> {
        self.order_erasure(log, room, Erase::User(user, offsets)).await
    }

    async fn order_erasure(
        &self,
        log: LogKey,
        room: Option<Arc<Room>>,
        what: Erase,
    ) -> Result<(), StoreError> {
        self.ask(1024, |asker| Job::Erase(Box::new(Erasure { log, room, what, asker }))).await
    }

    pub(super) async fn do_erasure(&self, hub: &Arc<Inner>, erasure: Erasure) {
        let Erasure { log, room, what, asker } = erasure;
        let of = log.clone();
        let outcome = match what {
            Erase::All => self.forget_all(&log, room.as_deref()).await,
            Erase::User(user, offsets) => {
                self.erase_records(hub, log, room.as_deref(), &user, &offsets).await
            }
        };
        if let Some(cluster) = hub.cluster.as_ref().filter(|_| outcome.is_ok()) {
            cluster.tell_void(&of);
        }
        asker.answer(outcome);
    }

    async fn forget_all(&self, log: &LogKey, room: Option<&Room>) -> Result<(), StoreError> {
        let (nothing, now) = NOTHING;
        if self.store.states(std::slice::from_ref(log)).await?.iter().all(Option::is_none) {
            return Ok(());
        }
        let state = self.store.trim(log, nothing, now).await?;
        if let Some(room) = room {
            room.trimmed(state);
            room.clear_memory();
        }
        Ok(())
    }

    async fn erase_records(
        &self,
        hub: &Inner,
        log: LogKey,
        room: Option<&Room>,
        user: &str,
        offsets: &[u64],
    ) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            match self.try_erase(hub, &log, room, user, offsets, tries > 0).await {
                // Another hub changed one of them meanwhile, or an earlier try that was in doubt did.
                Err(StoreError::Conflict) if tries < TRIES_MAX => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn try_erase(
        &self,
        hub: &Inner,
        log: &LogKey,
        room: Option<&Room>,
        user: &str,
        offsets: &[u64],
        again: bool,
    ) -> Result<(), StoreError> {
        let mut rewritten: BTreeMap<u64, (Bytes, Message)> = BTreeMap::new();
        let mut epoch = 0;
        let mut seen = BTreeSet::new();
        let mut offsets = offsets.to_vec();
        while let Some(offset) = offsets.pop() {
            if !seen.insert(offset) {
                continue;
            }
            let Some((log_epoch, was, message)) = self.record_at(log, offset).await? else { continue };
            epoch = log_epoch;
            // A reaction stands in the message that it is for, too.
            offsets.extend(message.details.as_ref().and_then(|details| details.target));
            if let Some(message) = erased(&message, user, hub.now()) {
                rewritten.insert(offset, (was, message));
            } else if again && let Some(room) = room {
                // Erased by the earlier try.
                room.replace_in_memory(hub, message);
            }
        }
        if rewritten.is_empty() {
            return Ok(());
        }
        let replaces = rewritten.iter().map(|(offset, (was, message))| {
            let record = record_of(message, None);
            let was = Some(was.clone());
            Replace { offset: *offset, author: record.author, payload: record.payload, was }
        });
        // Another history that began meanwhile has none of these words.
        let append = Append {
            log: log.clone(),
            epoch,
            records: Vec::new(),
            replaces: replaces.collect(),
            fence: Some(epoch),
        };
        let mut batch = Batch { appends: vec![append], ..Batch::default() };
        self.commit_until_known(hub, &mut batch).await.map_err(|undone| undone.told())?;
        if let Some(room) = room {
            rewritten.into_values().for_each(|(_, message)| room.replace_in_memory(hub, message));
        }
        Ok(())
    }

    async fn record_at(
        &self,
        log: &LogKey,
        offset: u64,
    ) -> Result<Option<(u64, Bytes, Message)>, StoreError> {
        let Some(before) = offset.checked_sub(1) else { return Ok(None) };
        let range = Range { direction: Direction::After(before), records_max: 1, bytes_max: 1 };
        let page = self.store.range(log, range).await?;
        let Some(record) = page.records.into_iter().next().filter(|record| record.offset == offset) else {
            return Ok(None);
        };
        let name = RoomName::new(&log.room, usize::MAX)
            .map_err(|error| StoreError::Damaged(format!("{log}: {error}")))?;
        let payload = record.payload.clone();
        let message = message_of(record, name, Epoch::from_u64(page.state.epoch))?;
        Ok(Some((page.state.epoch, payload, message)))
    }
}
