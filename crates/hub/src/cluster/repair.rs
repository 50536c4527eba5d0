//! What is done about what may have been missed: rooms are compared with their stores, nodes tell each other again who is there.
//!
//! Beside what is heard, and not all at once: after an interruption it concerns every room of the node.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ecow::EcoString;
use outspoke_protocol::UserId;
use outspoke_store::LogKey;
use tokio::sync::Notify;

use super::Cluster;
use crate::direct;
use crate::hub::Inner;
use crate::keeper::Keeper;
use crate::room::Room;
use crate::room::load::Need;

/// Rooms compared with their store at once.
const COMPARED: usize = 256;
/// Rooms of which the members are exchanged at once, and the pause after them.
const MET: (usize, Duration) = (256, Duration::from_millis(20));
/// How long it is waited for other nodes that go, or are heard again, at about the same time: one look is for all of them.
const TOGETHER: Duration = Duration::from_secs(1);

/// What is to be looked for.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    last_words: Notify,
}

impl Repairs {
    /// A node is gone, or is heard for the first time: its beats will not show what of its last words was lost.
    pub(super) fn miss_last_words(&self) {
        self.last_words.notify_one();
    }
}

/// Looks for what nodes may have said last, once for all that go or come together: what they stored is in the stores.
pub(super) async fn find_last_words(hub: &Arc<Inner>, cluster: &Cluster) {
    loop {
        cluster.repairs.last_words.notified().await;
        tokio::time::sleep(TOGETHER).await;
        compare(hub, all_rooms(hub));
        look_for_news(hub);
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

/// Looks for private messages that nobody has told of, for everybody who is connected.
pub(super) fn look_for_news(hub: &Arc<Inner>) {
    let Some(keeper) = hub.keeper_of(&hub.config().rooms.direct) else { return };
    let me = Arc::clone(hub);
    keeper.spawn(async move { me.look_for_news().await });
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
    /// Opens a conversation for the devices of its users that are here: they get what follows `before`.
    pub(super) fn open_for_devices(self: &Arc<Self>, room: &Arc<Room>, before: u64) {
        let Some(keeper) = &room.keeper else { return };
        let (hub, room) = (Arc::clone(self), Arc::clone(room));
        keeper.spawn(async move {
            match room.prepare(&hub, Need::After(before)).await {
                Ok(()) => room.bring_devices(&hub, before),
                Err(error) => {
                    tracing::warn!(%error, "a conversation was not read: its news come with the next message")
                }
            }
        });
    }

    /// Opens every conversation in which somebody who is connected here has something unread.
    async fn look_for_news(self: &Arc<Self>) {
        // That there were no conversations was known before this.
        self.tenants.all().iter().for_each(|tenant| tenant.conversations.use_it());
        let mut seen = HashSet::new();
        for client in self.registry.all() {
            let key: (EcoString, UserId) = (client.identity().tenant.clone(), client.user().clone());
            if !direct::is_somebody(client.identity()) || !seen.insert(key) {
                continue;
            }
            let wish = direct::Wish::news(client.user().clone());
            let Ok(page) = direct::page(self, &client.tenant, wish).await else { return };
            for conversation in page.page {
                let Ok(room) = client.tenant.directory.open(self, &conversation.room) else { continue };
                self.idle.put(&room, room.lingers());
                // The oldest that is unread is the earliest that may have been missed.
                let before = conversation.head.offset.saturating_sub(conversation.unread.count);
                self.open_for_devices(&room, before);
            }
        }
    }
}
