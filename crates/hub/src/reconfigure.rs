//! Another configuration for a hub that runs.
//!
//! [`Hub::reconfigure`] checks the whole of it first, refuses what cannot change, and only then puts it in force: tasks look
//! at [`Inner::config`](crate::hub::Inner::config) once each, so a task under way ends by the rules it began with. What was
//! copied out of the configuration when something began is followed up here and nowhere else: places of the registry,
//! tenants' quotas, rooms' classes, keepers' queues, open mode's limits, and what shards derive (their clocks, their
//! compressors). Invariant: every field of [`HubConfig`] is decided upon, or this does not compile.

use std::sync::{Arc, PoisonError};

use outspoke_protocol::Durability;

use crate::config::{HubConfig, InvalidConfig};
use crate::hub::{Hub, Inner};
use crate::quota::Quotas;
use crate::shard::command::Command;
use crate::tenant::InvalidTenantName;

/// For whom a changed field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Takes {
    /// For everybody, from the next look on.
    AtOnce,
    /// For clients that connect from now on.
    NewClients,
}

/// A field that another configuration changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changed {
    /// Its name in [`HubConfig`].
    pub field: &'static str,
    /// For whom it counts.
    pub takes: Takes,
}

/// Why a hub kept its configuration. Nothing of the other one is in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// The configuration cannot work.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    /// These fields are decided when a hub starts.
    #[error("{} cannot change while the hub runs: leave {} as it is, or start anew", .fields.join(", "),
            if .fields.len() == 1 { "it" } else { "each" })]
    Fixed {
        /// Which.
        fields: Vec<&'static str>,
    },
    /// A room class wants its messages stored where the hub has no store.
    #[error(
        "the room class `{pattern}` keeps its messages in the store \"{store}\", and the hub has none of that name: stores are \
         given to a hub when it starts"
    )]
    NoSuchStore {
        /// The class.
        pattern: String,
        /// The store; empty for any.
        store: String,
    },
}

/// What becomes of a field that differs.
enum Verdict {
    Takes(Takes),
    Fixed,
}

const AT_ONCE: Verdict = Verdict::Takes(Takes::AtOnce);
const NEW_CLIENTS: Verdict = Verdict::Takes(Takes::NewClients);
const FIXED: Verdict = Verdict::Fixed;

/// Compares two configurations field by field. A field that is missing here is an error of the compiler.
macro_rules! compare {
    ($old:expr, $new:expr, $found:ident, { $($field:ident: $verdict:expr),* $(,)? }) => {{
        let HubConfig { $($field: _),* } = $old;
        $(if $old.$field != $new.$field {
            $found.push((stringify!($field), $verdict));
        })*
    }};
}

fn compare(old: &HubConfig, new: &HubConfig) -> Vec<(&'static str, Verdict)> {
    let mut found = Vec::new();
    compare!(old, new, found, {
        shards: FIXED,
        default_room: NEW_CLIENTS,
        heartbeat: AT_ONCE,
        write_timeout: AT_ONCE,
        close_timeout: AT_ONCE,
        drain: AT_ONCE,
        handler_timeout: AT_ONCE,
        message_timeout: AT_ONCE,
        message_bytes_max: AT_ONCE,
        content_chars_max: AT_ONCE,
        username_chars_max: NEW_CLIENTS,
        user_id_bytes_max: NEW_CLIENTS,
        room_name_bytes_max: AT_ONCE,
        rooms_per_client_max: AT_ONCE,
        rooms_max: AT_ONCE,
        connections_max: NEW_CLIENTS,
        unauthenticated_max: NEW_CLIENTS,
        connections_per_address_max: NEW_CLIENTS,
        connections_per_user_max: NEW_CLIENTS,
        unauthenticated_per_address_max: NEW_CLIENTS,
        // But for `exempt`, which counts for clients that connect from now on.
        rate: AT_ONCE,
        outbox_bytes_max: AT_ONCE,
        // Senders compare with it without a lock.
        inbox_bytes_max: FIXED,
        rooms: AT_ONCE,
        replay_bytes_max: AT_ONCE,
        history_page_max: AT_ONCE,
        history_cache_bytes_max: AT_ONCE,
        history_memory_bytes_max: AT_ONCE,
        store_queue_bytes_max: AT_ONCE,
        store_timeout: AT_ONCE,
        typing_timeout: AT_ONCE,
        rename: AT_ONCE,
        // Counts of half a life would look like counts of all of it.
        analytics: FIXED,
        // What is remembered already is not remembered otherwise.
        remembered_messages_max: FIXED,
        remembered_events_max: FIXED,
        slow_down: AT_ONCE,
        rulings_max: AT_ONCE,
        origins: NEW_CLIENTS,
        tenants: NEW_CLIENTS,
        tenant_quotas: AT_ONCE,
        compression: AT_ONCE,
        tcp: NEW_CLIENTS,
    });
    found
}

impl Hub {
    /// Puts another configuration in force, all of it or nothing, and says which fields differ from the former one. Nobody is
    /// disconnected: a limit that is lower than what somebody has counts for what they want next.
    ///
    /// * Lowered `message_bytes_max` counts for messages that have begun to arrive, and clients were told of the former one.
    /// * Of another room class, rooms that exist take all but where their messages are kept; who is in them, and who has read how
    ///   much, they go on not knowing if they never did. Rooms that begin later take all of it.
    /// * Of compression, whether clients are offered it counts for new ones, its effort for everybody.
    /// * Quotas that were [put](Self::put_tenant) or [declared](Self::declare_tenants) for a tenant stay.
    ///
    /// *Cost*: with other room classes or quotas, a look at each room or tenant; with other time-outs, a look at each client.
    ///
    /// # Errors
    /// See [`ReconfigureError`]: nothing has changed.
    pub fn reconfigure(&self, config: HubConfig) -> Result<Vec<Changed>, ReconfigureError> {
        let hub = &self.inner;
        let _one_at_a_time = hub.reconfiguring.lock().unwrap_or_else(PoisonError::into_inner);
        let (changed, config) = hub.judge(config)?;
        let former = hub.config.swap(Arc::new(config));
        hub.follow(&former);
        Ok(changed)
    }

    /// What [`reconfigure`](Self::reconfigure) would say, without doing it.
    ///
    /// # Errors
    /// See [`ReconfigureError`].
    pub fn check_reconfigure(&self, config: &HubConfig) -> Result<Vec<Changed>, ReconfigureError> {
        self.inner.judge(config.clone()).map(|(changed, _)| changed)
    }

    /// Replaces the tenants that were named to the [builder](crate::HubBuilder::tenant), and their quotas, which count at once.
    /// One that is not among them any more is what it was put to be, or unknown: then its clients are disconnected with 4502.
    ///
    /// # Errors
    /// A name is no tenant's name; nothing has changed.
    pub fn declare_tenants(&self, tenants: &[(ecow::EcoString, Quotas)]) -> Result<(), InvalidTenantName> {
        let hub = &self.inner;
        let _one_at_a_time = hub.reconfiguring.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = hub.tenants.declare_all(tenants)?;
        for name in dropped {
            hub.undeclare(&name);
        }
        Ok(())
    }
}

impl Inner {
    fn judge(&self, mut config: HubConfig) -> Result<(Vec<Changed>, HubConfig), ReconfigureError> {
        config.validate()?;
        let former = self.config.load_full();
        if config.shard_count() == self.shards.len() {
            // "One per core" and their number are the same.
            config.shards = former.shards;
        }
        let (mut changed, mut fixed) = (Vec::new(), Vec::new());
        for (field, verdict) in compare(&former, &config) {
            match verdict {
                Verdict::Takes(takes) => changed.push(Changed { field, takes }),
                Verdict::Fixed => fixed.push(field),
            }
        }
        if !fixed.is_empty() {
            return Err(ReconfigureError::Fixed { fields: fixed });
        }
        let homeless = |class: &&Arc<crate::class::RoomClass>| {
            class.durability == Durability::Stored && self.keeper_of(class).is_none()
        };
        if let Some(class) = config.rooms.iter().find(homeless) {
            let store = class.store.clone().unwrap_or_default().to_string();
            return Err(ReconfigureError::NoSuchStore { pattern: class.pattern.to_string(), store });
        }
        Ok((changed, config))
    }

    /// Lets everything follow that was copied out of the former configuration.
    fn follow(&self, former: &HubConfig) {
        let config = self.config.load_full();
        self.registry.set_max(config.connections_max);
        self.open_mode.follow(&config);
        for keeper in &self.keepers {
            keeper.set_queue_bytes_max(config.store_queue_bytes_max);
        }
        self.tenants.follow(self, former, &config);
        if former.rooms != config.rooms {
            for tenant in self.tenants.all() {
                tenant.directory.reclassify(self);
            }
        }
        for shard in &self.shards {
            // A shard that has ended follows nothing.
            let _ = shard.inbox.push(Command::Reconfigured, Command::WEIGHT);
        }
    }
}
