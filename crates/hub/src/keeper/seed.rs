//! The epoch that a log will have that does not exist yet: the same on every hub that shares the store.
//!
//! Clients come into a room before anything is said there, on several nodes, and are told a place. So that it stays true with
//! the first message, the epoch is made of the room's name and a random seed, which the store keeps. A store that was
//! emptied has another seed, and its logs other epochs: nobody takes the new history for the old one.

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::Epoch;
use outspoke_store::{FactKey, FactWrite, LogKey, StoreError};

use super::Keeper;
use crate::facts;

impl Keeper {
    /// The epoch with which a log will begin. Reads the store each time: what was known before it was emptied is wrong.
    pub(crate) async fn epoch_to_come(&self, log: &LogKey) -> Result<Epoch, StoreError> {
        Ok(epoch_of(&self.seed().await?, log))
    }

    /// The seed; a new one if there is none. Another one than before: the store was emptied meanwhile.
    pub(crate) async fn seed(&self) -> Result<Bytes, StoreError> {
        if let Some(seed) = self.stored_seed().await? {
            return Ok(seed);
        }
        let random = random();
        // Several hubs may do so at once: the greatest counts.
        self.write(vec![FactWrite::Max(key(), random.clone())]).await?;
        Ok(self.stored_seed().await?.unwrap_or(random))
    }

    async fn stored_seed(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.facts(vec![key()]).await?.into_iter().next().flatten())
    }
}

fn key() -> FactKey {
    FactKey { tenant: EcoString::new(), space: facts::SEEDS, name: facts::name(&["epochs"]) }
}

fn random() -> Bytes {
    Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes())
}

/// Another seed: for when logs are dropped whose names may be used again.
pub(crate) fn renewal() -> FactWrite {
    FactWrite::Set(key(), random())
}

/// FNV-1a with the finaliser of splitmix64: the same in every version of the program.
fn epoch_of(seed: &[u8], log: &LogKey) -> Epoch {
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
        let one = epoch_of(b"seed", &log("", "lobby"));
        assert_eq!(one, epoch_of(b"seed", &log("", "lobby")));
        for other in [
            epoch_of(b"seeD", &log("", "lobby")),
            epoch_of(b"seed", &log("l", "obby")),
            epoch_of(b"seed", &log("", "lobbz")),
        ] {
            assert_ne!(one, other);
        }
    }
}
