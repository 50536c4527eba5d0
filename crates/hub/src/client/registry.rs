//! Which clients are connected: by id, by user for private messages, and by identity for eviction.
//!
//! Written at connect and disconnect, read by pushes from any thread. A look-up is a few tens of nanoseconds beside a
//! system call, and no lock outlives one; they are taken one after the other, and a room's before a user's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ecow::EcoString;
use outspoke_protocol::{ClientId, UserId};

use super::Client;
use super::index::{Index, Key};
use crate::rate::gate::Standing;
use crate::tenant::Tenant;

/// Everybody connected to this hub.
#[derive(Debug)]
pub(crate) struct Registry {
    by_id: Index<ById>,
    /// Those who are somebody: the newest connection of each identity.
    by_identity: Index<ByIdentity>,
    /// Connections of users who are somebody.
    by_user: Index<ByUser>,
    count: AtomicUsize,
    max: AtomicUsize,
}

#[derive(Debug)]
struct ById;

impl Key for ById {
    type Of<'a> = ClientId;

    fn of(client: &Client) -> ClientId {
        client.id()
    }

    fn is(id: &ClientId, client: &Client) -> bool {
        client.id() == *id
    }
}

/// What eviction compares: tenant, user and device.
#[derive(Debug)]
struct ByIdentity;

impl Key for ByIdentity {
    type Of<'a> = (&'a str, &'a str, &'a str);

    fn of(client: &Client) -> Self::Of<'_> {
        let identity = client.identity();
        (&identity.tenant, identity.user.as_str(), &identity.device)
    }

    fn is(identity: &Self::Of<'_>, client: &Client) -> bool {
        Self::of(client) == *identity
    }
}

/// Whose devices are looked for: tenant and user.
#[derive(Debug)]
struct ByUser;

impl Key for ByUser {
    type Of<'a> = (&'a str, &'a str);

    fn of(client: &Client) -> Self::Of<'_> {
        (&client.identity().tenant, client.identity().user.as_str())
    }

    fn is(user: &Self::Of<'_>, client: &Client) -> bool {
        Self::of(client) == *user
    }
}

/// A place for one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    registry: Arc<Registry>,
    tenant: Arc<Tenant>,
    /// What it may use beside the tenant's.
    pub(crate) standing: Standing,
}

impl Place {
    /// Whose connection it is.
    pub(crate) fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tenant.meter.disconnect();
        self.registry.count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Registry {
    pub(crate) fn new(max: usize) -> Self {
        let registry = Self {
            by_id: Index::new(),
            by_identity: Index::new(),
            by_user: Index::new(),
            count: AtomicUsize::new(0),
            max: AtomicUsize::new(0),
        };
        registry.set_max(max);
        registry
    }

    /// How many places there are from now on; zero: no limit. Who has one keeps it.
    pub(crate) fn set_max(&self, max: usize) {
        self.max.store(if max == 0 { usize::MAX } else { max }, Ordering::Relaxed);
    }

    /// Takes a place for a connection of a tenant: `None` when every place is taken, an error when the tenant has as many as
    /// it may have.
    pub(crate) fn place(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Option<Result<Place, usize>> {
        let max = self.max.load(Ordering::Relaxed);
        let one_more = |count| (count < max).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).ok()?;
        Some(match tenant.meter.connect() {
            Ok(()) => {
                let (registry, tenant) = (Arc::clone(self), Arc::clone(tenant));
                Ok(Place { registry, tenant, standing: Standing::default() })
            }
            Err(max) => {
                self.count.fetch_sub(1, Ordering::AcqRel);
                Err(max)
            }
        })
    }

    /// Connections, those included that are just being attached.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Makes `client` the holder of its identity and returns the connection that held it before.
    pub(crate) fn claim(&self, client: &Arc<Client>) -> Option<Arc<Client>> {
        if client.identity().anonymous {
            return None;
        }
        self.by_identity.replace(client)
    }

    /// Makes `client` known by its id and its user.
    pub(crate) fn insert(&self, client: &Arc<Client>) {
        if !client.identity().anonymous {
            self.by_user.add(client);
        }
        if self.by_id.replace(client).is_none() {
            client.tenant.gauge.enter();
        }
    }

    /// Forgets `client`; its identity too, unless a newer connection holds it by now.
    pub(crate) fn remove(&self, client: &Client) {
        if !client.identity().anonymous {
            self.by_identity.remove(client);
            self.by_user.remove(client);
        }
        if self.by_id.remove(client) {
            client.tenant.gauge.leave();
        }
    }

    /// The connections of a user who is somebody, in no order.
    pub(crate) fn devices(&self, tenant: &EcoString, user: &UserId) -> Vec<Arc<Client>> {
        self.by_user.find_all(&(tenant, user.as_str()))
    }

    /// Whether no newer connection has taken the client's identity.
    pub(crate) fn holds(&self, client: &Client) -> bool {
        let holder = || self.by_identity.find(&ByIdentity::of(client));
        client.identity().anonymous || holder().is_some_and(|holder| holder.id() == client.id())
    }

    pub(crate) fn get(&self, id: ClientId) -> Option<Arc<Client>> {
        self.by_id.find(&id)
    }

    /// Looks at everybody, in no order.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Client)) {
        self.by_id.for_each(|client| look(client));
    }

    /// Everybody like that, in no order. Costs a look at each.
    pub(crate) fn matching(&self, like: impl Fn(&Client) -> bool) -> Vec<Arc<Client>> {
        let mut found = Vec::new();
        self.by_id.for_each(|client| found.extend(like(client).then(|| Arc::clone(client))));
        found
    }

    /// Everybody, in no order: for operators, not for the hot path.
    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.matching(|_| true)
    }
}
