//! What operators do with tenants while the hub runs: name them, give them quotas, count them, remove them.
//!
//! Tenants that are put are facts in the hub's first store, if it has one, and read again at start, and when something
//! that another node has changed may have been missed. What was named to the builder counts at each start, whatever was
//! put before.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ecow::EcoString;
use outspoke_protocol::Disconnect;
use outspoke_store::{FactKey, FactWrite, Store, StoreError};
use serde::Serialize;
use tokio::time::Instant;

use super::{NAME_LEN_MAX, Tenant, Tenants, check_declared, check_name};
use crate::facts::{self, TENANTS};
use crate::hub::{Hub, Inner};
use crate::keeper::{Keeper, key_of_epochs};
use crate::quota::{Meter, Quotas, Usage};
use crate::shard::command::Command;

/// Facts and logs read at once.
const PAGE: usize = 1000;
/// How long to wait before tenants are read again, because they could not be read or because of doubt.
const RETRY: Duration = Duration::from_secs(1);
/// How often a tenant that is being removed is looked at for clients that came in just before.
const LOOK: Duration = Duration::from_millis(50);
/// What the nameless tenant is stored under: no name begins like this.
const NAMELESS: &str = ".";

/// A text is no tenant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant's name has 1 to {NAME_LEN_MAX} of a-z A-Z 0-9 - _ . and does not begin with a dot")]
pub struct InvalidTenantName;

/// Why something was not done to a tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TenantError {
    /// The name is no tenant's name.
    #[error(transparent)]
    InvalidName(#[from] InvalidTenantName),
    /// Nobody has named this tenant, or it was removed already.
    #[error("there is no tenant \"{0}\"")]
    Unknown(String),
    /// The tenant without a name cannot be removed.
    #[error("the tenant without a name cannot be removed")]
    Nameless,
    /// The store cannot be written or read. What was asked for was not done, or not to the end: ask again.
    #[error("the storage is unavailable: {0}")]
    Unavailable(String),
}

impl From<StoreError> for TenantError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What becomes of a removed tenant's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantData {
    /// It stays in the stores, and is there again when the tenant is.
    Keep,
    /// It is erased, for good: messages, and whatever is known of its rooms and users.
    Erase,
}

/// A tenant, what it may use, and what it uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TenantInfo {
    /// Its name; empty for the nameless one.
    pub name: EcoString,
    /// Whether an operator has named it; others are there because somebody was let in.
    pub known: bool,
    /// What it may use.
    pub quotas: Quotas,
    /// What it uses.
    pub usage: Usage,
}

impl Hub {
    /// Every tenant that an operator has named or that somebody was let into, in the order of their names. The first call
    /// counts what each has in the stores, which takes a look at each of its logs.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn tenants(&self) -> Vec<TenantInfo> {
        let mut tenants = self.inner.tenants.all();
        tenants.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut infos = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            if tenant.meter.stored().is_none() && tenant.meter.should_count() {
                count(&self.inner.keepers, tenant.name.clone(), &tenant.meter).await;
            }
            let in_use = tenant.meter.connections() > 0 || tenant.directory.count() > 0;
            if tenant.is_known() || in_use {
                infos.push(tenant.info(&self.inner));
            }
        }
        infos
    }

    /// Gives a tenant quotas, which count at once, and lets its clients in from now on. The empty name is the nameless
    /// tenant's. It is so after a restart, too, if the hub has a store.
    ///
    /// # Errors
    /// The name is no tenant's name, or the store cannot be written: nothing has changed.
    ///
    /// # Cancel safety
    /// Dropping the future leaves it open whether the quotas count after a restart.
    pub async fn put_tenant(&self, name: &str, quotas: Quotas) -> Result<(), TenantError> {
        if !name.is_empty() {
            check_name(name)?;
        }
        self.tenants_read().await?;
        {
            let _one_at_a_time = self.inner.tenants.changing.lock().await;
            if let Some(keeper) = self.inner.keepers.first() {
                let value = serde_json::to_vec(&quotas).expect("numbers are always JSON");
                keeper.write(vec![FactWrite::Set(key_of(name), Bytes::from(value))]).await?;
            }
            self.inner.tenants.put(name, quotas);
        }
        self.tell_tenant(name);
        let tenant = self.inner.tenants.get(name);
        if quotas.stored_bytes_max > 0 {
            count_soon(&self.inner.keepers, &tenant.name, &tenant.meter);
        }
        Ok(())
    }

    /// Removes a tenant: its clients are disconnected with 4502, which tells them to stay away, and nobody is let in any more
    /// unless the hub takes [any](crate::TenantPolicy::Any) tenant. One that was named to the builder comes back with the next
    /// start.
    ///
    /// # Errors
    /// There is no such tenant (to erase data there need not be), or a store cannot be written: then some of it may be
    /// done, and the same call goes on with it. Where only known tenants are let in, other nodes are told of the
    /// removal once more although there is no such tenant here.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the removal half done; the same call goes on with it.
    pub async fn remove_tenant(&self, name: &str, data: TenantData) -> Result<(), TenantError> {
        if name.is_empty() {
            return Err(TenantError::Nameless);
        }
        check_name(name)?;
        self.tenants_read().await?;
        let tenant = self.inner.tenants.find(name);
        if data == TenantData::Keep && !tenant.as_ref().is_some_and(|tenant| tenant.is_known()) {
            // A node that did not hear of the removal still has it. Where tenants that nobody has named are let in, it
            // would send away their clients as well.
            if self.inner.tenants.are_all_known() {
                self.tell_tenant(name);
            }
            return Err(TenantError::Unknown(name.to_owned()));
        }
        let tenant = tenant.unwrap_or_else(|| self.inner.tenants.get(name));
        let closed = {
            let _one_at_a_time = self.inner.tenants.changing.lock().await;
            if let Some(keeper) = self.inner.keepers.first() {
                keeper.write(vec![FactWrite::Delete(key_of(name))]).await?;
            }
            Closed::for_good(&tenant)
        };
        self.tell_tenant(name);
        self.disconnect_all(&closed.0).await;
        if data == TenantData::Erase {
            tenant.directory.end_all(&self.inner);
            tenant.conversations.clear();
            for keeper in &self.inner.keepers {
                erase(keeper, &tenant.name).await?;
            }
            tenant.meter.found_stored(0);
        }
        Ok(())
    }

    /// Waits until the tenants that are stored are known, at most so long; until then nobody is told that one is unknown. Returns
    /// whether they are.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn tenants_known(&self, patience: Duration) -> bool {
        self.inner.tenants.wait_until_read(patience).await
    }

    /// Lets the other nodes read again what is stored of a tenant.
    fn tell_tenant(&self, name: &str) {
        if let Some(cluster) = &self.inner.cluster {
            cluster.tell_tenant(name);
        }
    }

    /// What is read at start must not come behind what is changed now.
    async fn tenants_read(&self) -> Result<(), TenantError> {
        if self.inner.tenants.wait_until_read(self.inner.config().store_timeout).await {
            return Ok(());
        }
        Err(TenantError::Unavailable("the tenants are not read yet".to_owned()))
    }

    /// Ends every connection of a tenant that takes no more, and waits until they have gone, or for as long as a connection
    /// may take to go.
    async fn disconnect_all(&self, tenant: &Arc<Tenant>) {
        let config = &self.inner.config();
        let deadline = Instant::now() + config.close_timeout + config.write_timeout + LOOK;
        while tenant.meter.connections() > 0 && Instant::now() < deadline {
            for client in self.inner.registry.all() {
                let Some(key) = client.key.get().copied() else { continue };
                if Arc::ptr_eq(&client.tenant, tenant) {
                    let close =
                        Command::Close { client: key, disconnect: Disconnect::TenantRemoved, reason: None };
                    // A shard that has ended has nobody to disconnect.
                    let _ = self.inner.shards[usize::from(client.shard)].inbox.push(close, Command::WEIGHT);
                }
            }
            let _ = tokio::time::timeout(LOOK, tenant.meter.somebody_left()).await;
        }
    }
}

impl Inner {
    /// Another node has put or removed a tenant: what is stored of it counts here, too.
    pub(crate) fn read_tenant_again(self: &Arc<Self>, name: &str) {
        let Some(keeper) = self.keepers.first() else { return };
        if self.tenants.is_declared(name) || check_declared(name).is_err() {
            return;
        }
        let (hub, name) = (Arc::clone(self), EcoString::from(name));
        keeper.spawn(async move {
            if let Some(gone) = hub.take_over_tenant(&name).await {
                hub.send_away(gone).await;
            }
        });
    }

    /// What is stored of a tenant counts here, too. Returns it if that is nothing.
    async fn take_over_tenant(self: &Arc<Self>, name: &str) -> Option<Closed> {
        let keeper = self.keepers.first()?;
        let _one_at_a_time = self.tenants.changing.lock().await;
        let stored = keeper.facts(vec![key_of(name)]).await;
        match stored.map(|facts| facts.into_iter().next().flatten()) {
            Ok(Some(value)) => match serde_json::from_slice(&value) {
                Ok(quotas) => self.tenants.put(name, quotas),
                Err(_) => tracing::error!(%name, "a tenant's stored quotas are damaged: put it again"),
            },
            Ok(None) => return self.forget_tenant(name),
            Err(error) => {
                tracing::warn!(%name, %error, "a tenant that another node has changed was not read; trying again");
                self.doubt_tenants();
            }
        }
        None
    }

    /// Something that other nodes have done to tenants may not have been heard, or not read: everything that is stored
    /// of them is read some time soon.
    pub(crate) fn doubt_tenants(self: &Arc<Self>) {
        let Some(keeper) = self.keepers.first() else { return };
        // Doubts come in crowds.
        if self.tenants.doubted.swap(true, Ordering::AcqRel) {
            return;
        }
        let me = Arc::downgrade(self);
        keeper.spawn(async move {
            loop {
                tokio::time::sleep(RETRY).await;
                let Some(hub) = me.upgrade() else { return };
                if hub.stopping.load(Ordering::Acquire) {
                    return;
                }
                let Err(error) = hub.take_over_tenants().await else { return };
                tracing::warn!(%error, "the tenants were not read again; trying again");
                if hub.tenants.doubted.swap(true, Ordering::AcqRel) {
                    // There was another doubt meanwhile, and one who follows it.
                    return;
                }
            }
        });
    }

    /// Takes over what other nodes have put and removed.
    async fn take_over_tenants(self: &Arc<Self>) -> Result<(), StoreError> {
        let Some(keeper) = self.keepers.first() else { return Ok(()) };
        let _one_at_a_time = self.tenants.changing.lock().await;
        // Doubts from here on are about what may not be read by then.
        self.tenants.doubted.store(false, Ordering::Release);
        let stored = self.tenants.read_all(self).await?;
        for tenant in self.tenants.all() {
            let name = &tenant.name;
            let is_kept = name.is_empty() || self.tenants.is_declared(name) || stored.contains(name);
            if tenant.is_known()
                && !is_kept
                && let Some(gone) = self.forget_tenant(name)
            {
                tracing::info!(%name, "another node has removed a tenant");
                let hub = Arc::clone(self);
                keeper.spawn(async move { hub.send_away(gone).await });
            }
        }
        Ok(())
    }

    /// Nobody names this tenant to the hub any more: it is what is stored of it, or nothing.
    pub(crate) fn undeclare(self: &Arc<Self>, name: &EcoString) {
        if !self.keepers.is_empty() {
            return self.read_tenant_again(name);
        }
        let (hub, name) = (Arc::clone(self), name.clone());
        // Where no shard has begun there is nobody to send away either.
        let Some(runtime) = self.timers.get() else { return };
        drop(runtime.spawn(async move {
            if let Some(gone) = hub.forget_tenant(&name) {
                hub.send_away(gone).await;
            }
        }));
    }

    /// Nobody has named this tenant: it has the quotas of all. Returns it, closed, if its clients must go.
    fn forget_tenant(&self, name: &str) -> Option<Closed> {
        let tenant = self.tenants.find(name)?;
        self.tenants.unput(&tenant);
        (!name.is_empty()).then(|| Closed::for_good(&tenant))
    }

    async fn send_away(self: &Arc<Self>, gone: Closed) {
        Hub::from(Arc::clone(self)).disconnect_all(&gone.0).await;
    }
}

impl Tenant {
    fn info(&self, hub: &Inner) -> TenantInfo {
        let stored_bytes = if hub.keepers.is_empty() { Some(0) } else { self.meter.stored() };
        TenantInfo {
            name: self.name.clone(),
            known: self.is_known(),
            quotas: self.meter.quotas(),
            usage: Usage {
                connections: self.meter.connections(),
                rooms: self.directory.count(),
                stored_bytes,
            },
        }
    }
}

/// Keeps a tenant closed for as long as it is being removed.
struct Closed(Arc<Tenant>);

impl Closed {
    /// Nobody has named it any more.
    fn for_good(tenant: &Arc<Tenant>) -> Self {
        tenant.meter.close(true);
        tenant.known.store(false, Ordering::Release);
        Self(Arc::clone(tenant))
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.0.meter.close(false);
    }
}

fn key_of(name: &str) -> FactKey {
    let name = if name.is_empty() { NAMELESS } else { name };
    FactKey { tenant: EcoString::new(), space: TENANTS, name: facts::name(&[name]) }
}

/// Forgets everything that a store has of a tenant.
async fn erase(keeper: &Keeper, tenant: &EcoString) -> Result<(), StoreError> {
    // Whatever was on its way into the store is there when this is: nothing of it comes behind the erasing.
    keeper.write(vec![FactWrite::Delete(key_of(tenant))]).await?;
    loop {
        let page = {
            let tenant = tenant.clone();
            keeper
                .read(move |store: Arc<dyn Store>| async move { store.logs(&tenant, None, PAGE).await })
                .await?
        };
        for log in &page.logs {
            let key = log.key.clone();
            keeper.read(move |store: Arc<dyn Store>| async move { store.drop_log(&key).await }).await?;
        }
        if !page.more {
            break;
        }
    }
    // The epochs of logs that begin under the same names are others.
    let seed = key_of_epochs();
    keeper.read(move |store: Arc<dyn Store>| async move { store.drop_log(&seed).await }).await?;
    for space in facts::OF_TENANTS {
        loop {
            let page = keeper.scan(tenant.clone(), space, Bytes::new(), None, PAGE).await?;
            let delete = |fact: outspoke_store::Fact| {
                FactWrite::Delete(FactKey { tenant: tenant.clone(), space, name: fact.name })
            };
            if page.facts.is_empty() {
                break;
            }
            keeper.write(page.facts.into_iter().map(delete).collect()).await?;
            if !page.more {
                break;
            }
        }
    }
    Ok(())
}

/// Counts what a tenant has in the stores, some time soon, unless that was done just now.
pub(crate) fn count_soon(keepers: &[Arc<Keeper>], tenant: &EcoString, meter: &Arc<Meter>) {
    let Some(keeper) = keepers.first().filter(|_| meter.should_count()) else { return };
    let (keepers, tenant, meter) = (keepers.to_vec(), tenant.clone(), Arc::clone(meter));
    keeper.spawn(async move { count(&keepers, tenant, &meter).await });
}

async fn count(keepers: &[Arc<Keeper>], tenant: EcoString, meter: &Meter) {
    match stored_bytes(keepers, &tenant).await {
        Ok(bytes) => meter.found_stored(bytes),
        Err(error) => {
            meter.not_counted();
            tracing::warn!(%tenant, %error, "what a tenant has stored was not counted");
        }
    }
}

async fn stored_bytes(keepers: &[Arc<Keeper>], tenant: &EcoString) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for keeper in keepers {
        let mut after: Option<EcoString> = None;
        loop {
            let tenant = tenant.clone();
            let read =
                move |store: Arc<dyn Store>| async move { store.logs(&tenant, after.as_deref(), PAGE).await };
            let page = keeper.read(read).await?;
            bytes += page.logs.iter().map(|log| log.state.bytes).sum::<u64>();
            after = page.logs.last().map(|log| log.key.room.clone());
            if !page.more || after.is_none() {
                break;
            }
        }
    }
    Ok(bytes)
}

impl Tenants {
    /// Reads the tenants that were put before, if there is where. Until that is done, nobody is told that a tenant is
    /// unknown.
    pub(crate) fn read_soon(hub: &Arc<Inner>) {
        let Some(keeper) = hub.keepers.first() else { return };
        hub.tenants.read.send_replace(false);
        let hub = Arc::clone(hub);
        keeper.spawn(async move {
            while let Err(error) = hub.tenants.read_all(&hub).await {
                if hub.stopping.load(Ordering::Acquire) {
                    return;
                }
                tracing::warn!(%error, "the tenants were not read; trying again");
                tokio::time::sleep(RETRY).await;
            }
            for tenant in hub.tenants.all() {
                if tenant.meter.quotas().stored_bytes_max > 0 {
                    count_soon(&hub.keepers, &tenant.name, &tenant.meter);
                }
            }
            hub.tenants.read.send_replace(true);
        });
    }

    /// Takes over every tenant that is stored. Returns their names.
    async fn read_all(&self, hub: &Inner) -> Result<HashSet<EcoString>, StoreError> {
        let mut names = HashSet::new();
        let Some(keeper) = hub.keepers.first() else { return Ok(names) };
        let mut after: Option<Bytes> = None;
        loop {
            let page = keeper.scan(EcoString::new(), TENANTS, Bytes::new(), after, PAGE).await?;
            after = page.facts.last().map(|fact| fact.name.clone());
            for fact in &page.facts {
                let name = std::str::from_utf8(&fact.name).ok();
                // One that is damaged is stored all the same.
                names.extend(name.map(EcoString::from));
                let Some((name, quotas)) = name.zip(serde_json::from_slice(&fact.value).ok()) else {
                    tracing::error!(name = ?fact.name, "a tenant's stored quotas are damaged: put it again");
                    continue;
                };
                let name = if name == NAMELESS { "" } else { name };
                if !self.is_declared(name) {
                    self.put(name, quotas);
                }
            }
            if !page.more || after.is_none() {
                return Ok(names);
            }
        }
    }

    /// Waits until the stored tenants are known, at most so long. Returns whether they are.
    pub(crate) async fn wait_until_read(&self, patience: Duration) -> bool {
        let mut read = self.read.subscribe();
        tokio::time::timeout(patience, read.wait_for(|read| *read)).await.is_ok()
    }
}
