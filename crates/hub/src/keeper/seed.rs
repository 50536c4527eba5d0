//! The epoch that a log will have that does not exist yet: the same on every hub that shares the store.
//!
//! Clients come into a room before anything is said there, on several nodes, and are told a place. So that it stays true with
//! the first message, the epoch is made of the room's name and a random seed, which the store keeps. A store that was
//! emptied has another seed, and its logs other epochs: nobody takes the new history for the old one.
//!
//! The seed is itself the epoch of a log, one with a name that no room can have: of several hubs that begin it at the same
//! moment each is told the same one.

use std::sync::Arc;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::Epoch;
use outspoke_store::limits::local_clock;
use outspoke_store::{Append, Batch, LogKey, Record, StoreError};

use super::Keeper;
use super::job::Job;
use crate::hub::Inner;

/// Control characters are in no room's name.
const NAME: &str = "\u{1}epochs";

impl Keeper {
    /// The epoch with which a log will begin. Reads the store each time: what was known before it was emptied is wrong.
    pub(crate) async fn epoch_to_come(&self, log: &LogKey) -> Result<Epoch, StoreError> {
        Ok(epoch_of(self.seed().await?, log))
    }

    /// The seed; a new one if there is none. Another one than before: the store was emptied meanwhile.
    pub(crate) async fn seed(&self) -> Result<u64, StoreError> {
        if let Some(log) = self.states(vec![key()]).await?.into_iter().next().flatten() {
            return Ok(log.epoch);
        }
        self.ask(256, Job::Seed).await
    }

    /// As [`seed`](Self::seed), for who works off the queue, in which the other one would wait behind itself.
    pub(super) async fn seed_now(&self, hub: &Arc<Inner>) -> Result<u64, StoreError> {
        match self.states(vec![key()]).await?.into_iter().next().flatten() {
            Some(log) => Ok(log.epoch),
            None => self.sow(hub).await,
        }
    }

    /// Begins the seed's log, unless another hub has.
    pub(super) async fn sow(&self, hub: &Arc<Inner>) -> Result<u64, StoreError> {
        let record = Record {
            id: uuid::Uuid::new_v4().as_u128(),
            key: Some(Bytes::from_static(b"seed")),
            author: EcoString::new(),
            ts: local_clock(),
            counted: false,
            payload: Bytes::from_static(b"seed"),
        };
        let append = Append {
            log: key(),
            epoch: Epoch::random().as_u64(),
            records: vec![record],
            replaces: Vec::new(),
            fence: None,
        };
        let mut batch = Batch { appends: vec![append], ..Batch::default() };
        let appended = self.commit_until_known(hub, &mut batch).await.map_err(|undone| undone.error)?;
        let nothing = || StoreError::Damaged("it answered with nothing".to_owned());
        appended.first().map(|appended| appended.epoch).ok_or_else(nothing)
    }
}

/// The log whose epoch is the seed. Whoever drops logs whose names may be used again drops it, too.
pub(crate) fn key() -> LogKey {
    LogKey { tenant: EcoString::new(), room: NAME.into() }
}

/// FNV-1a with the finaliser of splitmix64: the same in every version of the program.
pub(super) fn epoch_of(seed: u64, log: &LogKey) -> Epoch {
    let seed = seed.to_be_bytes();
    let bytes = seed.iter().chain(log.tenant.as_bytes()).chain(&[0]).chain(log.room.as_bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    // Zero is no epoch.
    Epoch::from_u64((hash ^ (hash >> 31)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_to_come_differ_by_room_tenant_and_seed_and_stay_the_same() {
        let log = |tenant: &str, room: &str| LogKey { tenant: tenant.into(), room: room.into() };
        let one = epoch_of(7, &log("", "lobby"));
        assert_eq!(one, epoch_of(7, &log("", "lobby")));
        for other in
            [epoch_of(8, &log("", "lobby")), epoch_of(7, &log("l", "obby")), epoch_of(7, &log("", "lobbz"))]
        {
            assert_ne!(one, other);
        }
    }
}
