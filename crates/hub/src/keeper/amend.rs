//! Amendments to stored messages: read, changed, and written back together with the message that tells of it.
//!
//! Between the keeper's batches, so that nobody else of this hub changes the message meanwhile. Other hubs on the same
//! store may: what is written back is conditional on what was read, and read again from the store when that has changed.

use std::sync::Arc;

use bytes::Bytes;
use outspoke_protocol::{Epoch, ErrorCode, Message, Refusal};
use outspoke_store::{Append, Batch, Direction, Range, Replace, StoreError};
use tokio::time::Instant;

use super::commit::Answers;
use super::{Keeper, Origin, refusal_of_store};
use crate::amend::Change;
use crate::cluster::PlacedRecord;
use crate::hub::Inner;
use crate::publish::record_of;
use crate::room::amend::{Amending, unchanged};
use crate::room::follow::{Placed, Source};
use crate::room::{Published, Room};

/// An amendment on its way into a store.
#[derive(Debug)]
pub(crate) struct Amendment {
    pub(crate) room: Arc<Room>,
    pub(crate) amending: Amending,
    pub(crate) origin: Origin,
    /// Not begun by then: refused.
    pub(crate) deadline: Instant,
}

/// How often a message is read and changed again that others change at the same time.
const TRIES_MAX: usize = 16;

/// A message that is to be changed.
struct Target {
    message: Message,
    /// As it is stored.
    payload: Bytes,
    epoch: Epoch,
    from_memory: bool,
}

/// Why an amendment was not made.
enum Failure {
    Refused(Refusal),
    /// Perhaps it was: nobody can know.
    Unknown,
    /// Somebody else changed the message meanwhile.
    Conflict,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(refusal_of_store(&error))
    }
}

impl Keeper {
    pub(super) async fn amend(&self, hub: &Arc<Inner>, amendment: Amendment) {
        let Amendment { room, amending, origin, .. } = amendment;
        let outcome = self.amend_until_done(hub, &room, &amending).await;
        let mut answers = Answers::new(hub);
        match outcome {
            Ok(published) => answers.accepted(&room, origin, published),
            Err(Failure::Refused(refusal)) => answers.refused_with(origin, refusal),
            Err(Failure::Unknown) => answers.unknown(origin),
            Err(Failure::Conflict) => {
                let detail =
                    "the message is being changed by others all the time: nothing was changed; send it again";
                answers.refused_with(origin, Refusal::new(ErrorCode::Unavailable, detail));
            }
        }
        answers.send();
    }

    async fn amend_until_done(
        &self,
        hub: &Arc<Inner>,
        room: &Arc<Room>,
        amending: &Amending,
    ) -> Result<Published, Failure> {
        if let Some(target) = self.target_in_memory(room, amending.target) {
            let outcome = self.try_amend(hub, room, amending, target).await;
            if !matches!(outcome, Err(Failure::Conflict)) {
                return outcome;
            }
        }
        for _ in 1..TRIES_MAX {
            let target = self.stored_target(room, amending.target).await.map_err(|error| {
                tracing::warn!(store = %self.name, %error, "a message to be changed was not read");
                error
            })?;
            let target = target.ok_or_else(|| room.why_missing(amending.target))?;
            match self.try_amend(hub, room, amending, target).await {
                Err(Failure::Conflict) => {}
                outcome => return outcome,
            }
        }
        Err(Failure::Conflict)
    }

    async fn try_amend(
        &self,
        hub: &Arc<Inner>,
        room: &Arc<Room>,
        amending: &Amending,
        target: Target,
    ) -> Result<Published, Failure> {
        let now = hub.now();
        let Target { message, payload, epoch, from_memory } = target;
        // What is in memory may be behind what another hub has done.
        let is_final = !(from_memory && self.store.is_shared());
        let amended = match amending.apply(hub, &message, now) {
            Ok(Some(amended)) => amended,
            _ if !is_final => return Err(Failure::Conflict),
            Ok(None) => return Ok(unchanged(&message)),
            Err(refusal) => return Err(refusal.into()),
        };
        let mut told = room.message(amending.draft(), now);
        let rewritten = record_of(&amended, None);
        let record = record_of(&told, amending.key.clone());
        let before = payload.len() as u64;
        let after = (rewritten.payload.len() + record.payload.len()) as u64;
        let append = Append {
            log: room.log_key(),
            epoch: epoch.as_u64(),
            records: vec![record.clone()],
            replaces: vec![Replace {
                offset: amending.target,
                author: rewritten.author,
                payload: rewritten.payload.clone(),
                was: Some(payload),
            }],
            fence: Some(epoch.as_u64()),
        };
        let mut batch = Batch { appends: vec![append], ..Batch::default() };
        room.begin_to_write();
        let appended = match self.commit_until_known(hub, &mut batch).await {
            Ok(appended) => appended,
            Err(undone) if undone.error == StoreError::Conflict => return Err(Failure::Conflict),
            Err(undone) if undone.is_certain => return Err(undone.told().into()),
            Err(undone) => {
                tracing::warn!(store = %self.name, error = %undone.error, "nobody can know whether a message was changed");
                return Err(Failure::Unknown);
            }
        };
        let appended = appended.into_iter().next();
        if appended.as_ref().is_some_and(|appended| appended.is_fenced(&batch.appends[0])) {
            return Err(room.why_missing(amending.target).into());
        }
        let Some((appended, outcome)) =
            appended.and_then(|appended| Some((appended.state, *appended.outcomes.first()?)))
        else {
            return Err(StoreError::Damaged("it answered with nothing".to_owned()).into());
        };
        let published = super::commit::published(&outcome, epoch, told.id);
        if published.duplicate {
            return Ok(published);
        }
        // Not refused for want of space: what is taken away must be.
        room.meter.stored_changed(before, after);
        told.position = published.position;
        let placed = Placed {
            message: told,
            ordinal: outcome.ordinal,
            amended: Some(Box::new(amended)),
            stored: None,
        };
        let members = room.place(hub, Source::Keeper(appended), epoch, vec![placed]);
        if let Some(cluster) = &hub.cluster {
            let told =
                PlacedRecord::new(&outcome, &record.payload).amending(amending.target, &rewritten.payload);
            cluster.tell_placed(room, epoch, vec![told]);
        }
        if amending.change == Change::Delete {
            hub.tell_deleted(&room.tenant, &message);
        }
        Ok(Published { members, ..published })
    }

    /// The message that is to be changed, if it is in memory.
    fn target_in_memory(&self, room: &Room, offset: u64) -> Option<Target> {
        let message = room.message_in_memory(offset)?;
        let epoch = message.position?.epoch;
        let payload = record_of(&message, None).payload;
        Some(Target { message, payload, epoch, from_memory: true })
    }

    /// The message that is to be changed, as it is now in the history that the room is of.
    async fn stored_target(&self, room: &Room, offset: u64) -> Result<Option<Target>, StoreError> {
        let Some(before) = offset.checked_sub(1) else { return Ok(None) };
        let range = Range { direction: Direction::After(before), records_max: 1, bytes_max: 1 };
        let page = self.store.range(&room.log_key(), range).await?;
        let epoch = Epoch::from_u64(page.state.epoch);
        if ![0, epoch.as_u64()].contains(&room.epoch().as_u64()) {
            return Ok(None);
        }
        let record = page.records.into_iter().next().filter(|record| record.offset == offset);
        record
            .map(|record| {
                let payload = record.payload.clone();
                let message = room.message_of(record, epoch)?;
                Ok(Target { message, payload, epoch, from_memory: false })
            })
            .transpose()
    }
}
