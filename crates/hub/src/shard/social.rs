//! Receipts, private messages and conversations, from the shard's side: judged, done or given to a store, answered.

use std::sync::Arc;

use ecow::eco_format;
use outspoke_protocol::{
    BodyRef, ErrorCode, Event, Kind, Position, Receipt, Refusal, RequestId, StartFrom, UserId,
};

use super::command::Command;
use super::joins::{Outcome, refusal_of, somebody};
use super::receive::Flow;
use super::{Key, Shard};
use crate::direct::{self, Wish};
use crate::keeper::refusal_of_store;
use crate::policy::Action;
use crate::room::Room;
use crate::room::receipts::{RECEIPTS_PAGE_MAX, Waiter, acknowledgement};

/// Tries to bring a device up to a message that it must get, before it is let in where the room is now.
const TRIES_MAX: u8 = 3;

impl Shard {
    /// A client has received, or read, everything up to an offset.
    pub(super) fn receipt(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: Option<&str>,
        receipt: Receipt,
        offset: u64,
    ) -> Result<Flow, Refusal> {
        self.check_serving()?;
        let room = self.room_to_publish(key, room)?;
        self.may(key, Action::Join, &room)?;
        check_receipts(&room)?;
        let user = self.user_of(key, "receipts")?;
        let hub = Arc::clone(&self.hub);
        let waiter = id.map(|id| Waiter::Client { shard: self.index, key, request: id.clone(), receipt });
        match room.mark(&hub, &user, receipt, offset, waiter)? {
            Some(marks) => {
                if let (Some(id), Some(name)) = (id, &room.name) {
                    let position = Position { epoch: room.epoch(), offset: marks.at(receipt) };
                    self.reply(key.slot, &acknowledgement(id.clone(), name, receipt, position));
                }
                Ok(Flow::Continue)
            }
            None if id.is_some() => Ok(self.count_unanswered(key)),
            None => Ok(Flow::Continue),
        }
    }

    /// Who has received and read how much of a room?
    pub(super) fn receipts(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &str,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Flow, Refusal> {
        let room = self.room_of_member(key, room)?;
        self.may(key, Action::Presence, &room)?;
        check_receipts(&room)?;
        let limit = limit.map_or(direct::PAGE, |limit| limit as usize).clamp(1, RECEIPTS_PAGE_MAX);
        let (after, request) = (after.map(UserId::new), id.cloned());
        Ok(self.look(key, id, async move {
            let page = room.receipts_page(request, after, limit).await;
            page.map(|page| Event::Receipts(Box::new(page))).map_err(|error| refusal_of_store(&error))
        }))
    }

    /// Says something to one user.
    pub(super) fn direct(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        to: &str,
        kind: Kind,
        body: BodyRef<'_>,
        name: Option<&str>,
    ) -> Result<Flow, Refusal> {
        self.check_serving()?;
        let hub = Arc::clone(&self.hub);
        let client = Arc::clone(&self.connections[key.slot as usize].client);
        let conversation = direct::conversation_of(&hub, client.identity(), to)?;
        let room = client.tenant.directory.open(&hub, &conversation);
        let room = room.map_err(|error| refusal_of(error.into()))?;
        let said = self.say_in(key, id, &room, kind, body, name);
        if room.members() == 0 {
            // Its first members are on their way, if anybody is there.
            hub.idle.put(&room, room.lingers());
        }
        said
    }

    /// Which private conversations does the client's user have?
    pub(super) fn conversations(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        after: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Flow, Refusal> {
        let user = self.user_of(key, "private conversations")?;
        let tenant = Arc::clone(&self.connections[key.slot as usize].client.tenant);
        let limit = limit.map_or(direct::PAGE, |limit| limit as usize);
        let after = after.map(UserId::new);
        let wish = Wish { user, request: id.cloned(), after, limit, news: false };
        let hub = Arc::clone(&self.hub);
        Ok(self.look(key, id, async move {
            let page = direct::page(&hub, &tenant, wish).await;
            page.map(|page| Event::Conversations(Box::new(page))).map_err(|error| refusal_of_store(&error))
        }))
    }

    /// Tells a client that has just come what was said to its user meanwhile. Its connection does not wait for that.
    pub(super) fn tell_news(&mut self, key: Key) {
        let hub = Arc::clone(&self.hub);
        let client = &self.connections[key.slot as usize].client;
        let tenant = Arc::clone(&client.tenant);
        let Some(user) = somebody(client).filter(|_| hub.config().rooms.direct.keeps()) else { return };
        let wish = Wish::news(user);
        if let Some(page) = direct::page_in_memory(&hub, &tenant, &wish) {
            if !page.page.is_empty() {
                self.reply(key.slot, &Event::Conversations(Box::new(page)));
            }
            return;
        }
        if tenant.conversations.is_unused() {
            return;
        }
        let Some(keeper) = hub.keeper_of(&hub.config().rooms.direct) else { return };
        let shard = self.index;
        keeper.spawn(async move {
            match direct::page(&hub, &tenant, wish).await {
                Ok(page) if page.page.is_empty() && page.next.is_none() => {}
                Ok(page) => {
                    let news = Command::Tell(key, Box::new(Event::Conversations(Box::new(page))));
                    // A shard that has ended has nobody to tell.
                    let _ = hub.shards[shard].inbox.push(news, 4 * Command::WEIGHT);
                }
                Err(error) => tracing::warn!(%error, "conversations were not read for a newcomer"),
            }
        });
    }

    /// Tells a client something that it has not asked for.
    pub(super) fn tell(&mut self, key: Key, event: &Event) {
        if self.connection(key).is_some_and(|connection| connection.is_open()) {
            self.reply(key.slot, event);
            self.send_replies(key.slot, false);
        }
    }

    /// Puts a device into a conversation, behind the place after which there is something that it must get.
    pub(super) fn enroll(&mut self, room: &Arc<Room>, key: Key, after: Position, tried: u8) {
        let waiting = (key, room.id);
        if tried > 0 {
            self.enrolling.retain(|enrolling| *enrolling != waiting);
        } else if self.enrolling.contains(&waiting) {
            // It will begin at an earlier place.
            return;
        }
        let Some(connection) = self.connection(key).filter(|connection| connection.is_open()) else { return };
        let Some(name) = &room.name else { return };
        if connection.memberships.iter().any(|held| held.room.id == room.id) {
            return;
        }
        self.make_place(key);
        let from = if tried < TRIES_MAX { StartFrom::After(after) } else { StartFrom::Now };
        match self.join(key, name, from, tried, None) {
            Ok((room, Outcome::In(mut joined))) => {
                if from == StartFrom::Now {
                    joined.recovered = Some(false);
                }
                self.welcome_to(key, &room, None, &joined);
                // Should it be much, the client reads it before it is read from.
                let _ = self.drain_if_much(key);
                self.send_replies(key.slot, true);
            }
            Ok((_, Outcome::Once(room, need))) if tried < TRIES_MAX => {
                let Some(keeper) = room.keeper.clone() else { return };
                self.enrolling.push(waiting);
                let (hub, shard) = (Arc::clone(&self.hub), self.index);
                keeper.spawn(async move {
                    let tried = match room.prepare(&hub, need).await {
                        Ok(()) => tried + 1,
                        Err(_) => TRIES_MAX,
                    };
                    let again = Command::Enroll { room, client: key, after, tried };
                    // A shard that has ended has no devices.
                    let _ = hub.shards[shard].inbox.push(again, Command::WEIGHT);
                });
            }
            Ok((_, Outcome::Once(..))) => {
                // It is kept, and the user finds it at the next connect.
                tracing::warn!(room = name.as_str(), "a private conversation could not be read for a device");
            }
            Err(error) => tracing::debug!(%error, room = name.as_str(), "a device was not let in"),
        }
    }

    /// Sees to it that a device can be put into one conversation more: the one it is in for longest goes, unless
    /// something of it is just being delivered. The next message there brings it back.
    fn make_place(&mut self, key: Key) {
        let max = self.hub.config().rooms_per_client_max;
        let connection = &self.connections[key.slot as usize];
        if connection.rooms_like(true).count() < max {
            return;
        }
        let quiet = connection
            .rooms_like(true)
            .filter(|held| held.local.is_some_and(|local| self.rooms.is_quiet(local)))
            .min_by_key(|held| held.ticket)
            .map(|held| held.room.id);
        let Some(index) =
            quiet.and_then(|id| connection.memberships.iter().position(|held| held.room.id == id))
        else {
            return;
        };
        let room = connection.memberships[index].room.name.clone();
        self.leave(key, index);
        if let Some(room) = room {
            self.reply(key.slot, &Event::Unsubscribed { request: None, room, because: None });
        }
    }

    /// The client's user, of whom something can be kept.
    fn user_of(&self, key: Key, what: &str) -> Result<UserId, Refusal> {
        somebody(&self.connections[key.slot as usize].client).ok_or_else(|| {
            let detail = eco_format!("{what} need a user: connect with a user id");
            Refusal::new(ErrorCode::Unauthorized, detail)
        })
    }
}

fn check_receipts(room: &Room) -> Result<(), Refusal> {
    if room.keeps_receipts() {
        return Ok(());
    }
    let name = room.name.as_ref().map_or("", |name| name.as_str());
    Err(Refusal::new(ErrorCode::Forbidden, eco_format!("the room \"{name}\" keeps no receipts")))
}
