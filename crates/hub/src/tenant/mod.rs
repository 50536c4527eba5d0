//! Tenants: each has its own rooms, its own everybody, and its own quotas.
//!
//! Separation is by construction: a client holds its tenant, a tenant owns its directory, and nothing looks a room up
//! anywhere else. A tenant comes into being when somebody is let into it, or an operator names it, and costs some
//! kilobytes from then on. Which names there are is decided by the [`TenantPolicy`]; what a tenant may use, by its
//! [`Meter`].

mod admin;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use ecow::EcoString;
use outspoke_protocol::Durability;
use tokio::sync::watch;

pub(crate) use self::admin::count_soon;
pub use self::admin::{InvalidTenantName, TenantData, TenantError, TenantInfo};
use crate::analytics::Gauge;
use crate::class::RoomClass;
use crate::config::HubConfig;
use crate::direct::Conversations;
use crate::hub::Inner;
use crate::quota::{Meter, Quotas};
use crate::room::Room;
use crate::room::directory::Directory;

/// Longest name of a tenant, in bytes.
const NAME_LEN_MAX: usize = 64;

/// Which tenants there may be. The one without a name is always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenantPolicy {
    /// Whichever a credential names: whoever gives out credentials decides.
    #[default]
    Any,
    /// Those that were named to the [builder](crate::HubBuilder::tenant) or [put](crate::Hub::put_tenant).
    Known,
}

/// One tenant on this hub.
#[derive(Debug)]
pub(crate) struct Tenant {
    /// Empty for the one tenant of a hub without tenants.
    pub(crate) name: EcoString,
    pub(crate) directory: Directory,
    pub(crate) conversations: Conversations,
    /// Its connections.
    pub(crate) gauge: Gauge,
    /// The room that everybody of the tenant is in; broadcasts go here. It has no name and never ends.
    pub(crate) everyone: Arc<Room>,
    pub(crate) meter: Arc<Meter>,
    /// An operator has named it, and has not removed it since.
    known: AtomicBool,
    /// Somebody has said what it may use; otherwise it is what the configuration says of tenants.
    has_own_quotas: AtomicBool,
}

/// Nobody is let into a tenant of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    Unknown,
    /// Those that are stored are not known yet.
    NotYet,
}

/// Every tenant of this hub.
#[derive(Debug)]
pub(crate) struct Tenants {
    by_name: RwLock<HashMap<EcoString, Arc<Tenant>>>,
    /// The one without a name, found without a look-up.
    nameless: Arc<Tenant>,
    next_room: Arc<AtomicU64>,
    rooms: Arc<AtomicUsize>,
    shards: usize,
    rules: ArcSwap<Rules>,
    /// Whether the stored ones are known.
    read: watch::Sender<bool>,
    /// Held by whoever changes what is stored of a tenant, or takes it over from there: what was read before a change
    /// must not be believed after it.
    changing: tokio::sync::Mutex<()>,
    /// Something that another node has changed may have been missed, and is not being read yet.
    doubted: AtomicBool,
    /// Those named to the builder, or since.
    declared: RwLock<HashSet<EcoString>>,
}

/// What the configuration says of tenants.
#[derive(Debug)]
struct Rules {
    /// Of the room that everybody is in.
    class: Arc<RoomClass>,
    policy: TenantPolicy,
    /// Of tenants that nobody has said other quotas for.
    quotas: Quotas,
}

impl Rules {
    fn new(class: &RoomClass, policy: TenantPolicy, quotas: Quotas) -> Self {
        let class = RoomClass { durability: Durability::None, announce: false, ..class.clone() };
        Self { class: Arc::new(class), policy, quotas }
    }
}

impl Tenants {
    pub(crate) fn new(shards: usize, class: &RoomClass, policy: TenantPolicy, quotas: Quotas) -> Self {
        let rules = Rules::new(class, policy, quotas);
        let next_room = Arc::new(AtomicU64::new(1));
        let rooms = Arc::new(AtomicUsize::new(0));
        let unlimited = Quotas::default();
        let nameless = Tenant::new(EcoString::new(), shards, &rules.class, &next_room, &rooms, unlimited);
        nameless.known.store(true, Ordering::Release);
        Self {
            by_name: RwLock::default(),
            nameless: Arc::new(nameless),
            next_room,
            rooms,
            shards,
            rules: ArcSwap::from_pointee(rules),
            read: watch::Sender::new(true),
            changing: tokio::sync::Mutex::default(),
            doubted: AtomicBool::new(false),
            declared: RwLock::default(),
        }
    }

    /// The tenant of that name, which begins to exist if it did not.
    pub(crate) fn get(&self, name: &str) -> Arc<Tenant> {
        if let Some(tenant) = self.find(name) {
            return tenant;
        }
        let mut by_name = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let name = EcoString::from(name);
            // With the list held, so that nobody gets rules that are followed up already.
            let (rules, next_room, rooms) = (self.rules.load(), &self.next_room, &self.rooms);
            Arc::new(Tenant::new(name, self.shards, &rules.class, next_room, rooms, rules.quotas))
        };
        Arc::clone(by_name.entry(EcoString::from(name)).or_insert_with(make))
    }

    /// The tenant of that name, if it exists on this hub.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<Tenant>> {
        if name.is_empty() {
            return Some(Arc::clone(&self.nameless));
        }
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The tenant of that name, if somebody may be let into it. Names that nobody knows leave nothing behind.
    pub(crate) fn admit(&self, name: &str) -> Result<Arc<Tenant>, NotAdmitted> {
        let open = match self.find(name) {
            Some(tenant) if tenant.meter.is_closed() => return Err(NotAdmitted::Unknown),
            Some(tenant) if tenant.is_known() => return Ok(tenant),
            _ => self.rules.load().policy == TenantPolicy::Any,
        };
        match open {
            true => Ok(self.get(name)),
            false if *self.read.borrow() => Err(NotAdmitted::Unknown),
            false => Err(NotAdmitted::NotYet),
        }
    }

    /// Rooms of all tenants.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.load(Ordering::Relaxed)
    }

    /// Every tenant, the nameless one first.
    pub(crate) fn all(&self) -> Vec<Arc<Tenant>> {
        let by_name = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&self.nameless).chain(by_name.values()).cloned().collect()
    }

    /// Sets the quotas of the tenants that are named to the hub at its start or since, and returns those that no longer are.
    pub(crate) fn declare_all(
        &self,
        tenants: &[(EcoString, Quotas)],
    ) -> Result<Vec<EcoString>, InvalidTenantName> {
        tenants.iter().try_for_each(|(name, _)| check_declared(name))?;
        let named: HashSet<EcoString> = tenants.iter().map(|(name, _)| name.clone()).collect();
        let former = {
            let mut declared = self.declared.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *declared, named)
        };
        for (name, quotas) in tenants {
            self.put(name, *quotas);
        }
        Ok(former.into_iter().filter(|name| !self.is_declared(name)).collect())
    }

    /// Whether nobody is let into a tenant that is not known.
    fn are_all_known(&self) -> bool {
        self.rules.load().policy == TenantPolicy::Known
    }

    fn is_declared(&self, name: &str) -> bool {
        self.declared.read().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    /// Lets every tenant have what another configuration says of it.
    pub(crate) fn follow(&self, hub: &Inner, former: &HubConfig, config: &HubConfig) {
        let rules = Rules::new(&config.rooms.default, config.tenants, config.tenant_quotas);
        let class = Arc::clone(&rules.class);
        self.rules.store(Arc::new(rules));
        for tenant in self.all() {
            if former.rooms.default != config.rooms.default {
                tenant.everyone.reclassify(hub, &class);
            }
            let nameless = tenant.name.is_empty();
            if !nameless && !tenant.has_own_quotas.load(Ordering::Acquire) {
                tenant.meter.set(config.tenant_quotas);
            }
        }
    }

    /// Forgets the quotas that were said for a tenant.
    fn unput(&self, tenant: &Tenant) {
        let quotas = if tenant.name.is_empty() { Quotas::default() } else { self.rules.load().quotas };
        tenant.has_own_quotas.store(false, Ordering::Release);
        tenant.meter.set(quotas);
    }

    /// Sets a tenant's quotas; it is known from here on.
    pub(crate) fn put(&self, name: &str, quotas: Quotas) {
        let tenant = self.get(name);
        tenant.has_own_quotas.store(true, Ordering::Release);
        tenant.meter.set(quotas);
        tenant.known.store(true, Ordering::Release);
    }
}

impl Tenant {
    fn new(
        name: EcoString,
        shards: usize,
        class: &Arc<RoomClass>,
        next_room: &Arc<AtomicU64>,
        rooms: &Arc<AtomicUsize>,
        quotas: Quotas,
    ) -> Self {
        let meter = Arc::new(Meter::new(quotas));
        let everyone = Room::everyone(
            next_room.fetch_add(1, Ordering::Relaxed),
            Arc::clone(class),
            Arc::clone(&meter),
            shards,
        );
        let (next_room, rooms) = (Arc::clone(next_room), Arc::clone(rooms));
        let directory = Directory::new(name.clone(), Arc::clone(&meter), shards, next_room, rooms);
        Self {
            name,
            directory,
            conversations: Conversations::default(),
            gauge: Gauge::default(),
            everyone: Arc::new(everyone),
            meter,
            known: AtomicBool::new(false),
            has_own_quotas: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }
}

/// Checks the name of a tenant that is named to the hub, which may be the nameless one.
pub(crate) fn check_declared(name: &str) -> Result<(), InvalidTenantName> {
    if name.is_empty() { Ok(()) } else { check_name(name) }
}

/// Checks a tenant's name: it stands in paths, host names and keys.
pub(crate) fn check_name(name: &str) -> Result<(), InvalidTenantName> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if (1..=NAME_LEN_MAX).contains(&name.len()) && plain && !name.starts_with('.') {
        Ok(())
    } else {
        Err(InvalidTenantName)
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn tenant_names_are_plain_and_short() {
        let longest = "x".repeat(64);
        for name in ["acme", "acme-2_b.example", "Acme", &longest] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "x".repeat(65);
        for name in ["", ".", "..", ".x", "a/b", "a b", "a%20", "é", "a\0b", &long] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
