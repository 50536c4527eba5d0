//! Who has come how far, from the store: as a room is read, for one user who is not in memory, and in pages.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use outspoke_protocol::{Cursor, Epoch, Receipt, Receipts as Page, RequestId, RoomName, UserId};
use outspoke_store::{Fact, FactKey, StoreError};

use super::cursors::{CURSORS_MAX, Counted, Marks, Receipts};
use crate::facts::{self, CURSORS};
use crate::hub::Inner;
use crate::keeper::Keeper;
use crate::room::Room;
use crate::sync::Arc;

/// What was read of the cursors of a room.
#[derive(Debug, Default)]
struct Found {
    cursors: BTreeMap<UserId, Marks>,
    partial: bool,
}

impl Room {
    /// Reads who has come how far, for everybody or for those who are missing. `epoch`: of the log, if there is one.
    pub(in crate::room) async fn read_cursors(
        self: &Arc<Self>,
        hub: &Inner,
        keeper: &Keeper,
        epoch: Option<Epoch>,
    ) -> Result<(), StoreError> {
        if !self.keeps_receipts() {
            return Ok(());
        }
        // They are missing until they are read: whoever waits for one of them asks again until then.
        let missing = self.lock().receipts.as_ref().map(|receipts| receipts.missing.clone());
        if let Some(missing) = missing {
            let found = self.read_cursors_of(keeper, missing.iter().cloned().collect()).await;
            let mut state = self.lock();
            let head = state.head;
            if let Some(receipts) = &mut state.receipts {
                // Whoever waited for a read that failed is refused, and comes again.
                receipts.missing.retain(|user| !missing.contains(user));
                let mut found = found?;
                for user in missing {
                    let marks = found.remove(&user).unwrap_or_default();
                    receipts.cursors.entry(user.clone()).or_default();
                    receipts.advance(&user, marks, head);
                }
            }
            return Ok(());
        }
        let found = match epoch {
            Some(epoch) => self.scan_cursors(keeper, epoch).await?,
            None => Found::default(),
        };
        self.take_in_cursors(hub, found);
        Ok(())
    }

    async fn scan_cursors(&self, keeper: &Keeper, epoch: Epoch) -> Result<Found, StoreError> {
        let prefix = self.cursor_prefix(epoch);
        let max = 2 * CURSORS_MAX;
        let page = keeper.scan(self.tenant.clone(), CURSORS, prefix.clone(), None, max).await?;
        let mut cursors = cursors_in(&page.facts, prefix.len());
        if page.more {
            // The last one's other place may be on the next page.
            cursors.pop_last();
        }
        Ok(Found { cursors, partial: page.more })
    }

    fn take_in_cursors(self: &Arc<Self>, hub: &Inner, found: Found) {
        let mut state = self.lock();
        if state.receipts.is_some() {
            return;
        }
        let Found { cursors, partial } = found;
        let head = state.head;
        let at = |receipt: Receipt| cursors.values().filter(|marks| marks.at(receipt) >= head).count() as u64;
        let counted = Counted { offset: head, delivered: at(Receipt::Delivered), seen: at(Receipt::Seen) };
        let mut receipts = Receipts { cursors, partial, counted, ..Receipts::default() };
        let messages = || state.tail.iter().filter_map(|publication| publication.message_ref());
        let said = messages().filter(|message| message.kind.is_said()).count() as u64;
        let mut ordinal = state.ordinal.saturating_sub(said);
        for message in messages().filter(|message| message.kind.is_said()) {
            ordinal += 1;
            let (Some(from), Some(position)) = (&message.from, message.position) else { continue };
            let Some(marks) = receipts.ahead(&from.user) else { continue };
            // Who is not known by a receipt is known only where nobody comes in without an id of their own.
            if marks.ordinal + 1 == ordinal && (marks != Marks::default() || self.pair.is_some()) {
                receipts.want(&from.user).raise(Receipt::Seen, position.offset, Some(ordinal));
            }
        }
        if !receipts.wanted.is_empty() {
            self.write_receipts_soon(hub, &mut receipts);
        }
        state.receipts = Some(Box::new(receipts));
    }

    pub(super) async fn read_cursors_of(
        &self,
        keeper: &Keeper,
        users: Vec<UserId>,
    ) -> Result<HashMap<UserId, Marks>, StoreError> {
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        let keys = users.iter().flat_map(|user| [SEEN, DELIVERED].map(|which| self.cursor_key(user, which)));
        let values = keeper.facts(keys.collect()).await?;
        let marks = values.chunks(2).map(|both| {
            let of = |index: usize| both.get(index).and_then(Option::as_ref);
            marks_of(of(0), of(1))
        });
        Ok(users.into_iter().zip(marks).collect())
    }

    /// A page of who has come how far, wherever that is known.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn receipts_page(
        &self,
        request: Option<RequestId>,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let unread = || StoreError::Unavailable("the room is not read yet".to_owned());
        let Some(room) = self.name.clone() else { return Err(unread()) };
        let epoch = self.epoch();
        let (page, more) = match self.receipts_in_memory(after.as_ref(), limit) {
            Some(page) => page,
            None => {
                let keeper = self.keeper.as_ref().ok_or_else(unread)?;
                let prefix = self.cursor_prefix(epoch);
                // After everything of that user.
                let after = after.map(|after| [&prefix[..], after.as_str().as_bytes(), &[1]].concat().into());
                let scan = keeper.scan(self.tenant.clone(), CURSORS, prefix.clone(), after, 2 * (limit + 1));
                let facts = scan.await?;
                let cursors = cursors_in(&facts.facts, prefix.len());
                let more = facts.more || cursors.len() > limit;
                (cursors.into_iter().take(limit).collect::<Vec<_>>(), more)
            }
        };
        let next = page.last().filter(|_| more).map(|(user, _)| user.clone());
        let cursor =
            |(user, marks): (UserId, Marks)| Cursor { user, delivered: marks.delivered, seen: marks.seen };
        Ok(Page { request, room, epoch, page: page.into_iter().map(cursor).collect(), next })
    }

    /// `None`: not everybody is in memory.
    fn receipts_in_memory(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> Option<(Vec<(UserId, Marks)>, bool)> {
        let state = self.lock();
        let Some(receipts) = &state.receipts else {
            return self.keeper.is_none().then(|| (Vec::new(), false));
        };
        if receipts.partial && self.keeper.is_some() {
            return None;
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut users = receipts
            .cursors
            .range::<UserId, _>((from, Bound::Unbounded))
            .filter(|(_, marks)| **marks != Marks::default());
        let page = users.by_ref().take(limit).map(|(user, marks)| (user.clone(), *marks)).collect();
        Some((page, users.next().is_some()))
    }

    fn cursor_prefix(&self, epoch: Epoch) -> Bytes {
        let room = self.name.as_ref().map_or("", |name| name.as_str());
        facts::prefix(&[room, &epoch.to_string()])
    }

    pub(super) fn cursor_key(&self, user: &UserId, which: &str) -> FactKey {
        let room = self.name.as_ref().map_or("", |name| name.as_str());
        cursor_key(&self.tenant, room, self.epoch(), user, which)
    }
}

pub(super) const SEEN: &str = "s";
pub(super) const DELIVERED: &str = "d";

fn cursor_key(tenant: &ecow::EcoString, room: &str, epoch: Epoch, user: &UserId, which: &str) -> FactKey {
    let name = facts::name(&[room, &epoch.to_string(), user.as_str(), which]);
    FactKey { tenant: tenant.clone(), space: CURSORS, name }
}

/// The keys of a user's places in a room, for who reads many rooms at once; see [`marks_of`].
pub(crate) fn cursor_keys(
    tenant: &ecow::EcoString,
    room: &RoomName,
    epoch: Epoch,
    user: &UserId,
) -> [FactKey; 2] {
    [SEEN, DELIVERED].map(|which| cursor_key(tenant, room.as_str(), epoch, user, which))
}

/// What the values under [`cursor_keys`] say.
pub(crate) fn marks_of(seen: Option<&Bytes>, delivered: Option<&Bytes>) -> Marks {
    let number = |value: Option<&Bytes>, index: usize| {
        let bytes = value.and_then(|value| value.get(index * 8..index * 8 + 8)?.try_into().ok());
        bytes.map_or(0, u64::from_be_bytes)
    };
    let read = Marks::read_up_to(number(seen, 0), number(seen, 1));
    Marks { delivered: number(delivered, 0), ..Marks::default() }.raised(read)
}

fn cursors_in(facts: &[Fact], prefix: usize) -> BTreeMap<UserId, Marks> {
    let mut cursors: BTreeMap<UserId, Marks> = BTreeMap::new();
    for Fact { name, value } in facts {
        let parts = std::str::from_utf8(name.get(prefix..).unwrap_or_default()).ok();
        let Some((user, which)) = parts.and_then(|parts| parts.rsplit_once('\0')) else { continue };
        let marks = match which {
            SEEN => marks_of(Some(value), None),
            _ => marks_of(None, Some(value)),
        };
        let held = cursors.entry(UserId::new(user)).or_default();
        *held = held.raised(marks);
    }
    cursors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_as_they_were_written() {
        let seen = Bytes::from([7u64, 5].map(u64::to_be_bytes).concat());
        let delivered = Bytes::copy_from_slice(&9u64.to_be_bytes());
        let marks = marks_of(Some(&seen), Some(&delivered));
        assert_eq!(marks, Marks { delivered: 9, seen: 7, ordinal: 5 });
        assert_eq!(marks_of(None, None), Marks::default());
        assert_eq!(marks_of(Some(&Bytes::from_static(b"x")), None), Marks::default(), "no panic on anything");
    }
}
