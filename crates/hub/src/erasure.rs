//! A user's data: all of it to read, and all of it to take away.
//!
//! Data are the messages that the user published, reactions to other messages, and the facts kept of the user
//! (`facts.rs`). Erased messages stay as deleted ones without words and without an author: offsets have no holes, and what others
//! said keeps its place. Erasing goes through the logs from the beginning and takes out what it finds, so it is the same whether it
//! is done once, twice, or anew after a crash; figures keep their counts, which name nobody.

use std::sync::Arc;

use ecow::EcoString;
use outspoke_protocol::{Body, Details, Kind, Message, RoomName, Timestamp, UserId};
use outspoke_store::{FactKey, FactWrite, LogKey, Place, Space, Store, StoreError};

use crate::facts;
use crate::hub::{Hub, Inner};
use crate::keeper::Keeper;
use crate::room::{Room, message_of};

/// Records erased in one step.
const STEP: usize = 64;
/// Facts looked at in one step.
const LOOK: usize = 1000;

/// What was erased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Erased {
    /// Records of messages.
    pub messages: u64,
    /// Facts: read cursors, conversations, times last seen.
    pub facts: u64,
}

/// Something kept of a user.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum UserDatum {
    /// A message of the user's.
    Message(Box<Message>),
    /// A fact, by the family it belongs to and the parts of its name.
    Fact {
        /// The family.
        family: &'static str,
        /// What it is about: rooms and users.
        about: Vec<EcoString>,
        /// Its value, as it is stored.
        value: bytes::Bytes,
    },
}

/// Where to go on reading a user's data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserDataPlace(Step);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Rooms in memory only.
    Memory,
    /// A keeper's logs.
    Logs(usize, Option<Place>),
    /// A keeper's facts of a family, after a name.
    Facts(usize, usize, Option<bytes::Bytes>),
}

/// Families of facts that name users, and which parts of their names do.
const FAMILIES: [(Space, &[usize]); 3] =
    [(facts::CURSORS, &[2]), (facts::CONVERSATIONS, &[0, 1]), (facts::LAST_SEEN, &[1])];

impl Hub {
    /// A part of what is kept of a user of the tenant, and where to go on; `None`: that was all. Begin with `None`.
    ///
    /// # Errors
    /// A store cannot be read now; the same place may be read again later.
    pub async fn user_data(
        &self,
        user: &str,
        place: Option<UserDataPlace>,
    ) -> Result<(Vec<UserDatum>, Option<UserDataPlace>), StoreError> {
        let step = place.map_or(Step::Memory, |place| place.0);
        let (data, next) = match step {
            Step::Memory => (self.in_memory(user), Some(Step::Logs(0, None))),
            Step::Logs(index, from) => match self.inner.keepers.get(index) {
                None => (Vec::new(), Some(Step::Facts(0, 0, None))),
                Some(keeper) => {
                    let (data, next) = self.in_logs(keeper, user, from).await?;
                    let next = next.map_or(Step::Logs(index + 1, None), |from| Step::Logs(index, Some(from)));
                    (data, Some(next))
                }
            },
            Step::Facts(index, family, after) => match self.inner.keepers.get(index) {
                None => (Vec::new(), None),
                Some(keeper) => {
                    let (facts, next) = self.facts_of(keeper, user, family, after).await?;
                    let next = match next {
                        Some(after) => Step::Facts(index, family, Some(after)),
                        None if family + 1 < FAMILIES.len() => Step::Facts(index, family + 1, None),
                        None => Step::Facts(index + 1, 0, None),
                    };
                    let data = facts.into_iter().map(|(key, value)| UserDatum::Fact {
                        family: key.space.0,
                        about: parts(&key.name),
                        value,
                    });
                    (data.collect(), Some(next))
                }
            },
        };
        Ok((data, next.map(UserDataPlace)))
    }

    /// Takes everything away that is kept of a user of the tenant: what the user said is empty and nobody's from now
    /// on, in memory and in every store. Doing it again is no error, and goes on where an earlier one was broken off.
    ///
    /// # Errors
    /// A store cannot be read or written now. What was erased until then stays erased.
    ///
    /// # Cancel safety
    /// Dropping the future stops it between two steps.
    pub async fn erase_user(&self, user: &str) -> Result<Erased, StoreError> {
        let mut erased = Erased::default();
        let id = UserId::new(user);
        self.tenant.conversations.forget_all_of(&id);
        for room in self.tenant.directory.all() {
            room.forget_reader(&id);
            erased.messages += room.erase_in_memory(&self.inner, user);
        }
        // What is about to be written must not come behind the erasing.
        self.inner.last_seen.flush();
        for keeper in &self.inner.keepers {
            erased.messages += self.erase_in_logs(keeper, user).await?;
            erased.facts += self.erase_facts(keeper, user).await?;
        }
        Ok(erased)
    }

    fn in_memory(&self, user: &str) -> Vec<UserDatum> {
        let rooms = self.tenant.directory.all().into_iter().filter(|room| room.keeper.is_none());
        let messages = rooms.flat_map(|room| room.messages_of(user));
        messages.map(|message| UserDatum::Message(Box::new(message))).collect()
    }

    async fn in_logs(
        &self,
        keeper: &Keeper,
        user: &str,
        from: Option<Place>,
    ) -> Result<(Vec<UserDatum>, Option<Place>), StoreError> {
        let page = self.authored(keeper, user, from, STEP).await?;
        let mut messages = Vec::new();
        for (room, record) in page.records {
            let log = LogKey { tenant: self.tenant.name.clone(), room };
            let name = RoomName::new(&log.room, usize::MAX)
                .map_err(|error| StoreError::Damaged(format!("{log}: {error}")))?;
            let states =
                keeper.read(move |store: Arc<dyn Store>| async move { store.states(&[log]).await }).await?;
            let epoch = states.into_iter().next().flatten().map_or(0, |state| state.epoch);
            let message = message_of(record, name, outspoke_protocol::Epoch::from_u64(epoch))?;
            messages.push(UserDatum::Message(Box::new(message)));
        }
        Ok((messages, page.next))
    }

    async fn erase_in_logs(&self, keeper: &Keeper, user: &str) -> Result<u64, StoreError> {
        let (mut erased, mut from) = (0, None);
        loop {
            let page = self.authored(keeper, user, from, STEP).await?;
            let mut by_room: Vec<(EcoString, Vec<u64>)> = Vec::new();
            for (room, record) in page.records {
                erased += 1;
                match by_room.last_mut().filter(|(last, _)| *last == room) {
                    Some((_, offsets)) => offsets.push(record.offset),
                    None => by_room.push((room, vec![record.offset])),
                }
            }
            for (room, offsets) in by_room {
                let held = self.tenant.directory.get(&room);
                let log = LogKey { tenant: self.tenant.name.clone(), room };
                keeper.erase(log, held, EcoString::from(user), offsets).await?;
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(erased),
            }
        }
    }

    async fn erase_facts(&self, keeper: &Keeper, user: &str) -> Result<u64, StoreError> {
        let mut erased = 0;
        for family in 0..FAMILIES.len() {
            let mut after = None;
            loop {
                let (facts, next) = self.facts_of(keeper, user, family, after).await?;
                erased += facts.len() as u64;
                if !facts.is_empty() {
                    keeper.write(facts.into_iter().map(|(key, _)| FactWrite::Delete(key)).collect()).await?;
                }
                match next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
        }
        Ok(erased)
    }

    async fn authored(
        &self,
        keeper: &Keeper,
        user: &str,
        from: Option<Place>,
        max: usize,
    ) -> Result<outspoke_store::AuthoredPage, StoreError> {
        let (tenant, user) = (self.tenant.name.clone(), EcoString::from(user));
        keeper
            .read(move |store: Arc<dyn Store>| async move { store.authored(&tenant, &user, from, max).await })
            .await
    }

    /// Facts of a family that name the user, and where to go on.
    async fn facts_of(
        &self,
        keeper: &Keeper,
        user: &str,
        family: usize,
        after: Option<bytes::Bytes>,
    ) -> Result<(Vec<(FactKey, bytes::Bytes)>, Option<bytes::Bytes>), StoreError> {
        let (space, places) = FAMILIES[family];
        let tenant = self.tenant.name.clone();
        let page = keeper.scan(tenant.clone(), space, bytes::Bytes::new(), after, LOOK).await?;
        let next = page.facts.last().filter(|_| page.more).map(|fact| fact.name.clone());
        let names_user = |name: &[u8]| {
            let parts: Vec<&[u8]> = name.split(|byte| *byte == 0).collect();
            places.iter().any(|place| parts.get(*place) == Some(&user.as_bytes()))
        };
        let facts = page.facts.into_iter().filter(|fact| names_user(&fact.name));
        let facts =
            facts.map(|fact| (FactKey { tenant: tenant.clone(), space, name: fact.name }, fact.value));
        Ok((facts.collect(), next))
    }
}

fn parts(name: &[u8]) -> Vec<EcoString> {
    name.split(|byte| *byte == 0)
        .map(|part| EcoString::from(String::from_utf8_lossy(part).as_ref()))
        .collect()
}

impl Room {
    /// Takes a user's words out of a room that is not stored. Returns from how many messages.
    fn erase_in_memory(&self, hub: &Inner, user: &str) -> u64 {
        if self.keeper.is_some() {
            return 0;
        }
        let now = hub.now();
        let messages: Vec<Message> = self.all_in_memory();
        let rewritten: Vec<Message> =
            messages.iter().filter_map(|message| erased(message, user, now)).collect();
        let count = messages.iter().filter(|message| is_by(message, user)).count() as u64;
        rewritten.into_iter().for_each(|message| self.replace_in_memory(hub, message));
        count
    }

    fn messages_of(&self, user: &str) -> Vec<Message> {
        let mut messages = self.all_in_memory();
        messages.retain(|message| is_by(message, user));
        messages
    }
}

fn is_by(message: &Message, user: &str) -> bool {
    message.from.as_ref().is_some_and(|from| from.user.as_str() == user)
}

/// The message without what the user said or did; `None` when there is nothing of that.
pub(crate) fn erased(message: &Message, user: &str, now: Timestamp) -> Option<Message> {
    let mut rest = message.clone();
    let mut details: Details = message.details.as_deref().cloned().unwrap_or_default();
    for reaction in &mut details.reactions {
        reaction.users.retain(|reactor| reactor.as_str() != user);
    }
    details.reactions.retain(|reaction| !reaction.users.is_empty());
    if is_by(message, user) {
        rest.from = None;
        rest.body = Body::Empty;
        if rest.kind == Kind::Rename {
            // Both names were the user's.
            rest.kind = Kind::System;
        }
        details.deleted = Some(details.deleted.unwrap_or(now));
        details.edited = None;
        details.reactions.clear();
    }
    rest.details = (details != Details::default()).then(|| Box::new(details));
    (rest != *message).then_some(rest)
}
