//! One identity, one connection: also when the newer one comes to another node.
//!
//! Which one is newer is told by the two ids alone, which begin with the time: so both nodes say the same, however late
//! they hear of it, and one stays. How far the other node's clock is from ours each node knows only roughly, and not
//! alike.

use ecow::EcoString;
use outspoke_protocol::{ClientId, Disconnect, UserId};

use super::Cluster;
use super::envelope::Envelope;
use crate::client::Client;
use crate::hub::Inner;
use crate::shard::command::Command;

impl Cluster {
    /// A client has taken its identity here.
    pub(crate) fn tell_claim(&self, client: &Client) {
        let identity = client.identity();
        if identity.anonymous {
            return;
        }
        let (tenant, user, device) = (&*identity.tenant, identity.user.as_str(), &*identity.device);
        let client = client.id().as_u128();
        self.say(&self.everybody, &Envelope::Claim { tenant, user, device, client });
    }

    /// A client has taken an identity elsewhere: who has it here goes.
    pub(super) fn hear_claim(&self, hub: &Inner, tenant: &str, user: &str, device: &str, newer: u128) {
        let user = UserId::new(user);
        for client in hub.registry.devices(&EcoString::from(tenant), &user) {
            let older = client.id() < ClientId::from_u128(newer);
            if *client.identity().device != *device || !older {
                continue;
            }
            let Some(&key) = client.key.get() else { continue };
            let close = Command::Close { client: key, disconnect: Disconnect::Replaced, reason: None };
            // A shard that has ended has no connections.
            let _ = hub.shards[usize::from(client.shard)].inbox.push(close, Command::WEIGHT);
        }
    }
}
