//! Amendments to stored messages: read, changed, and written back together with the message that tells of it.
//!
//! Between the keeper's batches, so that nobody else changes the message meanwhile.

use std::sync::Arc;

use outspoke_protocol::{Message, Refusal};
use outspoke_store::{Append, Batch, Direction, Range, Replace, StoreError};
use tokio::time::Instant;

use super::commit::Answers;
use super::{Keeper, Origin, refusal_of_store};
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

impl Keeper {
    pub(super) async fn amend(&self, hub: &Arc<Inner>, amendment: Amendment) {
        let Amendment { room, amending, origin, deadline } = amendment;
        let outcome = if deadline <= Instant::now() {
            Err(refusal_of_store(&StoreError::Unavailable("the change waited too long for it".to_owned())))
        } else {
            self.try_amend(hub, &room, &amending).await
        };
        let mut answers = Answers::new(hub);
        match outcome {
            Ok(published) => answers.accepted(&room, origin, published),
            Err(refusal) => answers.refused_with(origin, refusal),
        }
        answers.send();
    }

    async fn try_amend(
        &self,
        hub: &Arc<Inner>,
        room: &Arc<Room>,
        amending: &Amending,
    ) -> Result<Published, Refusal> {
        let now = hub.now();
        let target = self.target(room, amending.target).await.map_err(|error| {
            tracing::warn!(store = %self.name, %error, "a message to be changed was not read");
            refusal_of_store(&error)
        })?;
        let target = target.ok_or_else(|| room.why_missing(amending.target))?;
        let Some(amended) = amending.change.apply(&target, amending.by.as_ref(), now)? else {
            return Ok(unchanged(&target));
        };
        let mut told = room.message(amending.draft(), now);
        let rewritten = record_of(&amended, None);
        let record = record_of(&told, amending.key.clone());
        let before = record_of(&target, None).payload.len() as u64;
        let after = (rewritten.payload.len() + record.payload.len()) as u64;
        let batch = Batch {
            appends: vec![Append {
                log: room.log_key(),
                epoch: room.epoch().as_u64(),
                records: vec![record.clone()],
                replaces: vec![Replace {
                    offset: amending.target,
                    author: rewritten.author,
                    payload: rewritten.payload.clone(),
                    was: None,
                }],
                fence: None,
            }],
            ..Batch::default()
        };
        let appended =
            self.commit_until_known(hub, &batch).await.map_err(|error| refusal_of_store(&error))?;
        let Some((appended, outcome)) = appended
            .into_iter()
            .next()
            .and_then(|appended| Some((appended.state, *appended.outcomes.first()?)))
        else {
            let broken = StoreError::Damaged("it answered with nothing".to_owned());
            return Err(refusal_of_store(&broken));
        };
        let published = super::commit::published(&outcome, room.epoch(), told.id);
        if published.duplicate {
            return Ok(published);
        }
        // Not refused for want of space: what is taken away must be.
        room.meter.stored_changed(before, after);
        told.position = published.position;
        let epoch = room.epoch();
        let placed = Placed { message: told, ordinal: outcome.ordinal, amended: Some(Box::new(amended)) };
        let members = room.place(hub, Source::Keeper(appended), epoch, vec![placed]);
        if let Some(cluster) = &hub.cluster {
            let told =
                PlacedRecord::new(&outcome, &record.payload).amending(amending.target, &rewritten.payload);
            cluster.tell_placed(room, epoch, vec![told]);
        }
        Ok(Published { members, ..published })
    }

    /// The message that is to be changed, as it is now.
    async fn target(&self, room: &Room, offset: u64) -> Result<Option<Message>, StoreError> {
        if let Some(message) = room.message_in_memory(offset) {
            return Ok(Some(message));
        }
        let Some(before) = offset.checked_sub(1) else { return Ok(None) };
        let range = Range { direction: Direction::After(before), records_max: 1, bytes_max: 1 };
        let page = self.store.range(&room.log_key(), range).await?;
        let epoch = outspoke_protocol::Epoch::from_u64(page.state.epoch);
        let record = page.records.into_iter().next().filter(|record| record.offset == offset);
        record.map(|record| room.message_of(record, epoch)).transpose()
    }
}
