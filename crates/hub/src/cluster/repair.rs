//! What is done about what may have been missed: rooms are compared with their stores, nodes tell each other again who is there.
//!
//! Beside what is heard, and not all at once: after an interruption it concerns every room of the node.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ecow::EcoString;
use outspoke_protocol::{Conversation, UserId};
use outspoke_store::{LogKey, StoreError};
use tokio::sync::{Notify, Semaphore, oneshot};

use super::Cluster;
use crate::direct;
use crate::hub::Inner;
use crate::keeper::Keeper;
use crate::room::load::Need;
use crate::room::{Room, RoomId};
use crate::tenant::Tenant;

/// Rooms compared with their store at once.
const COMPARED: usize = 256;
/// Rooms of which the members are exchanged at once, and the pause after them.
const MET: (usize, Duration) = (256, Duration::from_millis(20));
/// Conversations opened at once.
const OPENED: usize = 64;
/// How long to wait before a store that could not be read is asked again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long others are waited for that go, or are heard again, at about the same time: one look is for all of them.
const TOGETHER: Duration = Duration::from_secs(1);

/// What is to be looked for.
#[derive(Debug)]
pub(super) struct Repairs {
    last_words: Notify,
    news: Notify,
    /// Conversations that are being opened for devices here, each once, and after which offset there is something
    /// for them.
    opening: Mutex<HashMap<RoomId, u64>>,
    opening_at_once: Semaphore,
}

impl Default for Repairs {
    fn default() -> Self {
        Self {
            last_words: Notify::new(),
            news: Notify::new(),
            opening: Mutex::default(),
            opening_at_once: Semaphore::new(OPENED),
        }
    }
}

impl Repairs {
    /// A node is gone, or is heard for the first time: its beats will not show what of its last words was lost.
    pub(super) fn miss_last_words(&self) {
        self.last_words.notify_one();
    }

    /// Notes from where a conversation is to be opened. Returns whether nobody does it yet.
    fn open_from(&self, room: &Room, before: u64) -> bool {
        let mut opening = self.opening();
        let mut new = false;
        let from = opening.entry(room.id).or_insert_with(|| {
            new = true;
            before
        });
        *from = before.min(*from);
        new
    }

    fn opens_from(&self, room: &Room) -> u64 {
        self.opening().get(&room.id).copied().unwrap_or(0)
    }

    /// It is open, or will not be. Returns from where it was to be opened.
    fn opened(&self, room: &Room) -> u64 {
        self.opening().remove(&room.id).unwrap_or(0)
    }

    fn opening(&self) -> MutexGuard<'_, HashMap<RoomId, u64>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks for what nodes may have said last, once for all that go or come together: what they stored is in the stores.
pub(super) async fn find_last_words(hub: &Arc<Inner>, cluster: &Cluster) {
    loop {
        cluster.repairs.last_words.notified().await;
        tokio::time::sleep(TOGETHER).await;
        compare(hub, all_rooms(hub));
        look_for_news(cluster);
    }
}

/// Exchanges with the other nodes who is in these rooms, not all at the same moment.
pub(super) fn meet_soon(hub: &Arc<Inner>, rooms: Vec<Arc<Room>>) {
    let (me, rooms): (_, Vec<_>) = (Arc::downgrade(hub), rooms.iter().map(Arc::downgrade).collect());
    drop(tokio::spawn(async move {
        for rooms in rooms.chunks(MET.0) {
            let Some(hub) = me.upgrade() else { return };
            rooms.iter().filter_map(Weak::upgrade).for_each(|room| room.meet(&hub));
            drop(hub);
            tokio::time::sleep(MET.1).await;
        }
    }));
}

/// Looks for private messages that nobody has told of, for everybody who is connected: at once, or again when it is
/// done for those who wanted it before.
pub(super) fn look_for_news(cluster: &Cluster) {
    cluster.repairs.news.notify_one();
}

/// Looks for private messages as often as it is wanted, one round after the other.
pub(super) async fn bring_news(hub: &Arc<Inner>, cluster: &Cluster) {
    loop {
        cluster.repairs.news.notified().await;
        let Some(keeper) = hub.keeper_of(&hub.config().rooms.direct) else { continue };
        let (me, (done, ended)) = (Arc::clone(hub), oneshot::channel::<()>());
        keeper.spawn(async move {
            me.bring_news().await;
            drop(done);
        });
        // Nothing is said: it is dropped, also where the keeper has ended.
        let _ = ended.await;
    }
}

pub(super) fn all_rooms(hub: &Inner) -> Vec<Arc<Room>> {
    hub.tenants.all().iter().flat_map(|tenant| tenant.directory.all()).collect()
}

pub(super) fn everywhere(hub: &Inner, act: impl Fn(&Arc<Room>)) {
    all_rooms(hub).iter().for_each(act);
}

/// Compares stored rooms with where their stores say they are; those that are behind read what they miss.
pub(super) fn compare(hub: &Arc<Inner>, rooms: Vec<Arc<Room>>) {
    for keeper in &hub.keepers {
        let of_keeper =
            |room: &&Arc<Room>| room.keeper.as_ref().is_some_and(|held| Arc::ptr_eq(held, keeper));
        let rooms: Vec<_> = rooms.iter().filter(of_keeper).map(Arc::downgrade).collect();
        if !rooms.is_empty() {
            let (me, with) = (Arc::downgrade(hub), Arc::clone(keeper));
            keeper.spawn(async move { compare_with(&me, &with, rooms).await });
        }
    }
}

async fn compare_with(hub: &Weak<Inner>, keeper: &Keeper, rooms: Vec<Weak<Room>>) {
    for rooms in rooms.chunks(COMPARED) {
        let rooms: Vec<_> = rooms.iter().filter_map(Weak::upgrade).collect();
        let logs: Vec<LogKey> = rooms.iter().map(|room| room.log_key()).collect();
        let states = keeper.states(logs).await;
        let Some(hub) = hub.upgrade() else { return };
        match states {
            Ok(states) => rooms.iter().zip(states).for_each(|(room, state)| room.compare(&hub, state)),
            // Each tries by itself until the store can be read.
            Err(_) => rooms.iter().for_each(|room| room.doubt(&hub)),
        }
    }
}

impl Inner {
    /// Opens a conversation for the devices of its users that are here: they get what follows `before`. A store that
    /// cannot be read is asked again until it can.
    pub(super) fn open_for_devices(self: &Arc<Self>, room: &Arc<Room>, before: u64) {
        let (Some(keeper), Some(cluster)) = (&room.keeper, &self.cluster) else { return };
        if !cluster.repairs.open_from(room, before) {
            // The read that is on its way may have begun before this was said.
            return room.doubt(self);
        }
        let (hub, room) = (Arc::clone(self), Arc::clone(room));
        keeper.spawn(async move {
            let Some(cluster) = &hub.cluster else { return };
            let read = hub.read_for_devices(&cluster.repairs, &room).await;
            let before = cluster.repairs.opened(&room);
            match read {
                Ok(()) => room.bring_devices(&hub, before),
                Err(error) if hub.has_devices_of(&room) => {
                    tracing::warn!(%error, "a conversation was not read: its news come with the next message")
                }
                Err(_) => {}
            }
        });
    }

    async fn read_for_devices(
        self: &Arc<Self>,
        repairs: &Repairs,
        room: &Arc<Room>,
    ) -> Result<(), StoreError> {
        let mut pause = RETRY.0;
        loop {
            let read = {
                let _turn = repairs.opening_at_once.acquire().await;
                room.prepare(self, Need::After(repairs.opens_from(room))).await
            };
            match read {
                Err(error) if may_pass(&error) && self.has_devices_of(room) => {
                    tracing::debug!(%error, "a conversation with news cannot be read");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
                read => return read,
            }
        }
    }

    /// Whether somebody of a conversation is still to get what is read of it.
    fn has_devices_of(&self, room: &Room) -> bool {
        let here = |user: &UserId| !self.registry.devices(&room.tenant, user).is_empty();
        !self.stopping.load(Ordering::Acquire) && room.pair.iter().any(|pair| pair.users().any(here))
    }

    /// Opens every conversation in which somebody who is connected here has something unread. A store that cannot be
    /// read is asked again until it can.
    async fn bring_news(self: &Arc<Self>) {
        // That there were no conversations was known before this.
        self.tenants.all().iter().for_each(|tenant| tenant.conversations.use_it());
        let mut wishes = self.wishes_for_news();
        let mut pause = RETRY.0;
        while let Some((tenant, wish)) = wishes.pop_front() {
            let gone = self.registry.devices(&tenant.name, &wish.user).is_empty();
            if gone || self.stopping.load(Ordering::Acquire) {
                continue;
            }
            match direct::page(self, &tenant, wish.clone()).await {
                Ok(page) => {
                    pause = RETRY.0;
                    self.open_all(&tenant, page.page);
                    if page.next.is_some() {
                        wishes.push_front((tenant, direct::Wish { after: page.next, ..wish }));
                    }
                }
                Err(error) if may_pass(&error) => {
                    tracing::debug!(%error, "private messages that may have been missed cannot be looked for");
                    wishes.push_front((tenant, wish));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
                Err(error) => tracing::warn!(%error, "the conversations of a user were not read"),
            }
        }
    }

    /// One for each user who is connected here.
    fn wishes_for_news(&self) -> VecDeque<(Arc<Tenant>, direct::Wish)> {
        let mut seen = HashSet::new();
        let mut wishes = VecDeque::new();
        for client in self.registry.all() {
            let key: (EcoString, UserId) = (client.identity().tenant.clone(), client.user().clone());
            if direct::is_somebody(client.identity()) && seen.insert(key) {
                wishes.push_back((Arc::clone(&client.tenant), direct::Wish::news(client.user().clone())));
            }
        }
        wishes
    }

    fn open_all(self: &Arc<Self>, tenant: &Tenant, conversations: Vec<Conversation>) {
        for conversation in conversations {
            let Ok(room) = tenant.directory.open(self, &conversation.room) else { continue };
            self.idle.put(&room, room.lingers());
            // The oldest that is unread is the earliest that may have been missed.
            let before = conversation.head.offset.saturating_sub(conversation.unread.count);
            self.open_for_devices(&room, before);
        }
    }
}

/// Whether the same read may work later.
fn may_pass(error: &StoreError) -> bool {
    !matches!(error, StoreError::Damaged(_) | StoreError::Invalid(_))
}
