//! What rulings mean for who is connected.
//!
//! A ruling that is news is in the book before anybody is looked for, and a connection is known to the registry before the book is
//! asked about it: so whichever comes first, one finds the other.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use ecow::EcoString;
use outspoke_protocol::{Disconnect, ErrorCode, UserId};
use tokio::sync::oneshot;

use super::Subject;
use super::record::Entry;
use crate::auth::{AuthError, Identity};
use crate::client::Client;
use crate::hub::Inner;
use crate::shard::command::Command;

/// With more rulings at once it is looked at everybody, once.
const BY_NAME_MAX: usize = 256;

/// Who was concerned.
#[derive(Debug, Default)]
pub(super) struct Concerned {
    pub(super) clients: usize,
    shards: BTreeSet<u8>,
}

impl Inner {
    /// Lets the shards look again at every connection that a ruling is about.
    pub(super) fn enforce(&self, news: &[Arc<Entry>]) -> Concerned {
        let mut concerned = Concerned::default();
        for client in self.concerned_by(news) {
            let Some(&key) = client.key.get() else { continue };
            concerned.clients += 1;
            concerned.shards.insert(client.shard);
            // A shard that has ended has no connections.
            let _ =
                self.shards[usize::from(client.shard)].inbox.push(Command::Reconsider(key), Command::WEIGHT);
        }
        concerned
    }

    fn concerned_by(&self, news: &[Arc<Entry>]) -> Vec<Arc<Client>> {
        let mut users: HashSet<(EcoString, UserId)> = HashSet::new();
        let mut tokens: HashSet<(EcoString, EcoString)> = HashSet::new();
        for entry in news {
            let tenant = entry.tenant.clone();
            match &entry.ruling.subject {
                Subject::Token(id) => tokens.insert((tenant, id.clone())),
                Subject::User(user) | Subject::Device { user, .. } => users.insert((tenant, user.clone())),
            };
        }
        let by_name = tokens.is_empty()
            && users.len() <= BY_NAME_MAX
            && !users.iter().any(|(_, user)| is_made_up(user));
        if by_name {
            return users.iter().flat_map(|(tenant, user)| self.registry.devices(tenant, user)).collect();
        }
        self.registry.matching(|client| {
            let identity = client.holds();
            let tenant = || identity.tenant.clone();
            users.contains(&(tenant(), identity.user.clone()))
                || (!identity.credential.is_empty()
                    && tokens.contains(&(tenant(), identity.credential.clone())))
        })
    }

    /// Waits until the shards have done what they were told: nothing follows to whom it concerned.
    pub(super) async fn done(&self, concerned: &Concerned) {
        for &shard in &concerned.shards {
            let (reached, done) = oneshot::channel();
            if self.shards[usize::from(shard)].inbox.push(Command::Reached(reached), 0).is_ok() {
                // Never, from a shard that has ended: it has sent its last word to everybody.
                let _ = done.await;
            }
        }
    }

    /// Whether a credential that was found good is accepted, after the rulings about it are known.
    ///
    /// # Errors
    /// It was revoked, or it is not known yet whether it was.
    pub(crate) async fn admit_credential(&self, identity: &Identity) -> Result<(), AuthError> {
        if !self.rulings.is_read() && !self.rulings.wait_until_read(self.config().store_timeout).await {
            let detail = "it is not known yet which credentials were revoked: try again later";
            return Err(AuthError::new(ErrorCode::Unavailable, detail));
        }
        match self.revoked(identity) {
            None => Ok(()),
            Some(Disconnect::ReconnectRequested) => {
                Err(AuthError::new(ErrorCode::TokenExpired, "the credential was replaced: show a fresh one"))
            }
            Some(_) => Err(AuthError::unauthorized("the credential was revoked")),
        }
    }

    /// How a connection with that credential is to be ended, if it is.
    pub(crate) fn revoked(&self, identity: &Identity) -> Option<Disconnect> {
        self.rulings.judge(identity, self.now()).revoked.map(|reconnect| match reconnect {
            true => Disconnect::ReconnectRequested,
            false => Disconnect::Revoked,
        })
    }
}

/// Connections of anonymous users are not found by the user.
fn is_made_up(user: &UserId) -> bool {
    user.as_str().starts_with("anon-")
}
