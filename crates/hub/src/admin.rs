//! What operators ask of a hub: which rooms and clients there are, and away with some.
//!
//! Nothing here is on a message's road. Looking through everything costs a look at each, once per call, and holds no
//! lock for longer than a bucket of a map; pages are in the order of their keys, so that one can go on after another
//! although things come and go meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ecow::EcoString;
use outspoke_protocol::{ClientId, Disconnect, Durability, Epoch, RoomName, UserId};
use outspoke_store::{LogKey, LogState, Retention, Store};

use crate::class::RoomClass;
use crate::client::Client;
use crate::direct::is_reserved;
use crate::error::{AttachError, PublishError};
use crate::hub::Hub;
use crate::keeper::Keeper;
use crate::room::Room;
use crate::room::load::Need;
use crate::shard::command::Command;

/// What there is to say about a room.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoomInfo {
    /// Its name.
    pub name: RoomName,
    /// Clients in it on this hub.
    pub members: usize,
    /// What an acknowledgement means there.
    pub durability: Durability,
    /// The pattern of its class.
    pub class: EcoString,
    /// Which history its offsets belong to; `None` for a stored room that never had a message.
    pub epoch: Option<Epoch>,
    /// Offset of the oldest message kept; `head + 1` when there is none.
    pub first: u64,
    /// Offset of the newest message; 0 when there never was one.
    pub head: u64,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// In the order of their keys.
    pub items: Vec<T>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// A list that keeps the first few of what is put into it.
pub(crate) struct First<K, T> {
    items: BTreeMap<K, T>,
    max: usize,
}

impl<K: Ord, T> First<K, T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { items: BTreeMap::new(), max }
    }

    pub(crate) fn put(&mut self, key: K, item: T) {
        self.items.entry(key).or_insert(item);
        // One more than asked for, to know whether there is more.
        if self.items.len() > self.max + 1 {
            self.items.pop_last();
        }
    }

    pub(crate) fn into_listing(self) -> Listing<T> {
        let more = self.items.len() > self.max;
        Listing { items: self.items.into_values().take(self.max).collect(), more }
    }
}

impl Hub {
    /// The same hub for one tenant, as [`in_tenant`](Self::in_tenant), if somebody may be let into it.
    ///
    /// # Errors
    /// There is no such tenant, or it is not known yet which there are.
    pub fn known_tenant(&self, name: &str) -> Result<Self, AttachError> {
        let tenant = self.admit(name)?;
        Ok(Self { inner: Arc::clone(&self.inner), tenant })
    }

    /// What there is to say about a room; `None`: it has neither members nor messages.
    ///
    /// # Errors
    /// The name is no room name, or its store cannot be read now.
    pub async fn room(&self, room: &str) -> Result<Option<RoomInfo>, PublishError> {
        let name = self.inner.room_name(room)?;
        if let Some(room) = self.tenant.directory.get(name.as_str()) {
            if !room.is_known() {
                let read = room.prepare(&self.inner, Need::State).await;
                read.map_err(|error| PublishError::from(&error))?;
            }
            let info = room.info(name);
            return Ok((info.members > 0 || info.head > 0).then_some(info));
        }
        let class = self.inner.class_of(name.as_str());
        let Some(keeper) = self.inner.keeper_of(&class) else { return Ok(None) };
        let log = LogKey { tenant: self.tenant.name.clone(), room: EcoString::from(name.as_str()) };
        let states = keeper.read(|store: Arc<dyn Store>| async move { store.states(&[log]).await }).await;
        let state = states.map_err(|error| PublishError::from(&error))?.into_iter().next().flatten();
        Ok(state.map(|state| info_of_log(name, &class, &state)))
    }

    /// The tenant's rooms whose names begin with `prefix`, after the name `after`, in the order of their names: those with
    /// members, with messages in memory, and with messages in a store. Private conversations are listed only for a prefix
    /// that begins as their names do.
    ///
    /// # Errors
    /// A store cannot be read now.
    pub async fn list_rooms(
        &self,
        prefix: &str,
        after: Option<&str>,
        max: usize,
    ) -> Result<Listing<RoomInfo>, PublishError> {
        let mut first = First::new(max);
        for keeper in &self.inner.keepers {
            self.list_stored(keeper, prefix, after, &mut first).await?;
        }
        let wanted = |name: &str| {
            name.starts_with(prefix)
                && after.is_none_or(|after| name > after)
                && is_reserved(name) == is_reserved(prefix)
        };
        for room in self.tenant.directory.all() {
            if let Some(name) = room.name.clone().filter(|name| wanted(name.as_str())) {
                let info = room.info(name);
                // One that has never been read is in the store's list, and here in the latest state otherwise.
                let known = first.items.get_mut(info.name.as_str());
                match known {
                    Some(listed) if info.epoch.is_some() => *listed = info,
                    Some(listed) => listed.members = info.members,
                    None if info.members > 0 || info.head > 0 => {
                        first.put(EcoString::from(info.name.as_str()), info);
                    }
                    None => {}
                }
            }
        }
        Ok(first.into_listing())
    }

    async fn list_stored(
        &self,
        keeper: &Keeper,
        prefix: &str,
        after: Option<&str>,
        first: &mut First<EcoString, RoomInfo>,
    ) -> Result<(), PublishError> {
        let tenant = &self.tenant.name;
        let mut after = after.map(EcoString::from);
        if !prefix.is_empty() && after.as_ref().is_none_or(|after| after.as_str() < prefix) {
            // The list goes on *after* a name, and this one may be a room itself.
            let log = LogKey { tenant: tenant.clone(), room: EcoString::from(prefix) };
            let key = log.clone();
            let states = keeper.read(|store: Arc<dyn Store>| async move { store.states(&[key]).await }).await;
            let state = states.map_err(|error| PublishError::from(&error))?.into_iter().next().flatten();
            if let Some(state) = state {
                self.put_log(&log, &state, prefix, first);
            }
            after = Some(EcoString::from(prefix));
        }
        loop {
            let (tenant, from, max) = (tenant.clone(), after.clone(), first.max + 1);
            let page =
                keeper
                    .read(move |store: Arc<dyn Store>| async move {
                        store.logs(&tenant, from.as_deref(), max).await
                    })
                    .await
                    .map_err(|error| PublishError::from(&error))?;
            let mut fitting = 0;
            for log in page.logs.iter().filter(|log| log.key.room.starts_with(prefix)) {
                fitting += 1;
                self.put_log(&log.key, &log.state, prefix, first);
            }
            after = page.logs.last().map(|log| log.key.room.clone());
            // Names are in their order: after the last with the prefix comes no other one.
            if !page.more || fitting < page.logs.len() || first.items.len() > first.max {
                return Ok(());
            }
        }
    }

    fn put_log(&self, log: &LogKey, state: &LogState, prefix: &str, first: &mut First<EcoString, RoomInfo>) {
        if is_reserved(&log.room) != is_reserved(prefix) {
            return;
        }
        if let Ok(name) = self.inner.room_name(&log.room) {
            let class = self.inner.class_of(name.as_str());
            first.put(log.room.clone(), info_of_log(name, &class, state));
        }
    }

    /// Forgets every message that a room has, in memory and in its store. Offsets go on where they are, so that clients
    /// see that there is nothing to come back to. Returns whether the room keeps messages at all.
    ///
    /// # Errors
    /// The name is no room name, or its store cannot be written now.
    ///
    /// # Cancel safety
    /// The order is given when this is first polled; dropping the future gives up the news.
    pub async fn clear_history(&self, room: &str) -> Result<bool, PublishError> {
        let name = self.inner.room_name(room)?;
        let class = self.inner.class_of(name.as_str());
        if !class.keeps() {
            return Ok(false);
        }
        let held = self.tenant.directory.get(name.as_str());
        let Some(keeper) = self.inner.keeper_of(&class) else {
            if let Some(room) = held {
                room.clear_memory();
            }
            return Ok(true);
        };
        let log = LogKey { tenant: self.tenant.name.clone(), room: EcoString::from(name.as_str()) };
        keeper.clear(log, held).await.map_err(|error| PublishError::from(&error))?;
        Ok(true)
    }

    /// The tenant's clients, of one user or of all, after the client `after`, in the order of their ids: who came first
    /// is first.
    #[must_use]
    pub fn list_clients(
        &self,
        user: Option<&str>,
        after: Option<ClientId>,
        max: usize,
    ) -> Listing<Arc<Client>> {
        let mut first = First::new(max);
        for client in self.inner.registry.all() {
            let fits = Arc::ptr_eq(&client.tenant, &self.tenant)
                && user.is_none_or(|user| client.user().as_str() == user)
                && after.is_none_or(|after| client.id() > after);
            if fits {
                first.put(client.id(), client);
            }
        }
        first.into_listing()
    }

    /// The tenant's users who are connected, with the number of their connections, after the user `after`, in the
    /// order of their ids.
    #[must_use]
    pub fn list_users(&self, after: Option<&str>, max: usize) -> Listing<(UserId, usize)> {
        let mut users: BTreeMap<EcoString, usize> = BTreeMap::new();
        for client in self.inner.registry.all() {
            let user = client.user().as_str();
            if Arc::ptr_eq(&client.tenant, &self.tenant) && after.is_none_or(|after| user > after) {
                *users.entry(EcoString::from(user)).or_default() += 1;
            }
        }
        let more = users.len() > max;
        let items = users.into_iter().take(max).map(|(user, clients)| (UserId::new(user), clients));
        Listing { items: items.collect(), more }
    }

    /// Ends a client's connection as [`disconnect`](Self::disconnect) does, with words of one's own: at most 123 bytes
    /// of them are sent.
    pub fn disconnect_because(&self, id: ClientId, disconnect: Disconnect, reason: &str) -> bool {
        let Some(client) = self.client(id) else { return false };
        let Some(&key) = client.key.get() else { return false };
        let reason = Some(EcoString::from(&reason[..reason.floor_char_boundary(123)]));
        let command = Command::Close { client: key, disconnect, reason };
        self.inner.shards[usize::from(client.shard)].inbox.push(command, Command::WEIGHT).is_ok()
    }
}

impl Room {
    fn info(&self, name: RoomName) -> RoomInfo {
        let (members, first, head) = self.extent();
        let epoch = self.epoch();
        RoomInfo {
            name,
            members,
            durability: self.durability(),
            class: self.class().pattern.clone(),
            epoch: (epoch.as_u64() != 0).then_some(epoch),
            first,
            head,
        }
    }
}

fn info_of_log(name: RoomName, class: &RoomClass, log: &LogState) -> RoomInfo {
    RoomInfo {
        name,
        members: 0,
        durability: class.durability,
        class: class.pattern.clone(),
        epoch: Some(Epoch::from_u64(log.epoch)),
        first: log.first,
        head: log.head,
    }
}

/// Keeps nothing: what was accepted up to the end of time is too old.
pub(crate) const NOTHING: (Retention, i64) =
    (Retention { records_max: 0, bytes_max: 0, age_max: Duration::from_millis(1) }, i64::MAX);
