//! When users were last in the stored rooms they have left.
//!
//! Noted when a user's last connection leaves (`room/presence.rs`), gathered here and written through the room's keeper once per
//! tick: a crowd that leaves costs a batch, not a write each. Shards let go of what is gathered before they end, so that
//! it is queued before the store is closed. What is lost in a crash is a tick's worth of times, which only grow.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::{Timestamp, UserId};
use outspoke_store::{FactKey, FactWrite, StoreError};

use crate::facts;
use crate::hub::{Hub, Inner};
use crate::keeper::Keeper;

/// Gathered before they are written at once.
const GATHERED_MAX: usize = 1024;
/// Longest name of a fact, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// Times that are to be written.
#[derive(Debug, Default)]
pub(crate) struct LastSeen(Mutex<HashMap<FactKey, (Arc<Keeper>, Timestamp)>>);

impl LastSeen {
    /// Notes when a user was last in a room.
    pub(crate) fn note(&self, keeper: &Arc<Keeper>, key: FactKey, at: Timestamp) {
        if key.name.len() > NAME_BYTES_MAX {
            return;
        }
        let full = {
            let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.insert(key, (Arc::clone(keeper), at));
            gathered.len() >= GATHERED_MAX
        };
        if full {
            self.flush();
        }
    }

    /// Queues what is gathered for writing.
    pub(crate) fn flush(&self) {
        let gathered = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut by_keeper: Vec<(Arc<Keeper>, Vec<FactWrite>)> = Vec::new();
        for (key, (keeper, at)) in gathered {
            let write = FactWrite::Max(key, encode(at));
            match by_keeper.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &keeper)) {
                Some((_, writes)) => writes.push(write),
                None => by_keeper.push((keeper, vec![write])),
            }
        }
        for (keeper, writes) in by_keeper {
            keeper.write_soon(writes);
        }
    }
}

impl Hub {
    /// When a user was last in a room: now, for one who is in it; otherwise when the last of the user's connections left.
    /// `None` for one who never was, and for rooms that are not stored or have no presence.
    ///
    /// # Errors
    /// The room's store cannot be asked.
    pub async fn last_seen(&self, room: &str, user: &UserId) -> Result<Option<Timestamp>, StoreError> {
        let class = self.inner.class_of(room);
        if !class.presence {
            return Ok(None);
        }
        if self.tenant.directory.get(room).is_some_and(|room| room.has_user(user)) {
            return Ok(Some(self.inner.now()));
        }
        let Some(keeper) = self.inner.keeper_of(&class) else { return Ok(None) };
        read(&self.inner, &keeper, key_of(&self.tenant.name, room, user.as_str())).await
    }
}

async fn read(hub: &Inner, keeper: &Keeper, key: FactKey) -> Result<Option<Timestamp>, StoreError> {
    hub.last_seen.flush();
    // Behind what has just been queued.
    keeper.write(Vec::new()).await?;
    let values = keeper.facts(vec![key]).await?;
    Ok(values.into_iter().next().flatten().as_ref().and_then(decode))
}

/// Where the time is kept.
pub(crate) fn key_of(tenant: &EcoString, room: &str, user: &str) -> FactKey {
    FactKey { tenant: tenant.clone(), space: facts::LAST_SEEN, name: facts::name(&[room, user]) }
}

/// Milliseconds since 1970, big-endian: the greater one is the later one.
fn encode(at: Timestamp) -> Bytes {
    Bytes::copy_from_slice(&at.as_millis().max(0).to_be_bytes())
}

fn decode(value: &Bytes) -> Option<Timestamp> {
    let millis = i64::from_be_bytes(value.as_ref().try_into().ok()?);
    Some(Timestamp::from_millis(millis))
}
