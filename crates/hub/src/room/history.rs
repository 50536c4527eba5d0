//! Pages of a room's log, each message in its present state.
//!
//! From memory where the page is there, else from the room's store; a page is bounded in messages and in bytes, so that
//! it never overflows the queue of whoever asked.

use outspoke_protocol::{Epoch, History, Message, PageFrom, RequestId};
use outspoke_store::{Direction, Page as StoredPage, Range, Retention, StoreError};

use super::{Room, State};
use crate::hub::Inner;
use crate::keeper::Keeper;
use crate::room::load::Need;
use crate::sync::Arc;

/// How many records that are too old to be shown are passed over in one read.
const SKIPPED: usize = 2048;

/// A page, and the log it is from.
#[derive(Debug)]
struct Page {
    epoch: Epoch,
    first: u64,
    head: u64,
    messages: Vec<Message>,
}

impl Room {
    /// A page of the room's log; `None` when it must be read from the store.
    pub(crate) fn page_in_memory(
        &self,
        hub: &Inner,
        request: Option<RequestId>,
        from: PageFrom,
        limit: usize,
    ) -> Option<History> {
        let mut state = self.lock();
        self.forget_old(hub, &mut state);
        if !state.is_known() {
            return None;
        }
        let messages = self.messages_in_memory(hub, &state, from, limit)?;
        let page = Page { epoch: self.epoch(), first: self.oldest(&state), head: state.head, messages };
        drop(state);
        self.history(page, request, from)
    }

    /// A page of the room's log, wherever it is.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) async fn page(
        self: &Arc<Self>,
        hub: &Arc<Inner>,
        request: Option<RequestId>,
        from: PageFrom,
        limit: usize,
    ) -> Result<History, StoreError> {
        if !self.is_known() {
            self.prepare(hub, Need::State).await?;
        }
        if let Some(history) = self.page_in_memory(hub, request.clone(), from, limit) {
            return Ok(history);
        }
        let gone = || StoreError::Unavailable("the room is not read yet".to_owned());
        let Some(keeper) = &self.keeper else { return Err(gone()) };
        let direction = match from {
            PageFrom::Newest => Direction::Before(u64::MAX),
            PageFrom::Before(offset) => Direction::Before(offset),
            // What is not shown any more may be in the store still.
            PageFrom::After(offset) => Direction::After(offset.max(self.extent().1.saturating_sub(1))),
        };
        let range = Range { direction, records_max: limit, bytes_max: hub.config().replay_bytes() };
        let read = self.read_kept(hub, keeper, range).await?;
        let epoch = self.epoch();
        let records = read.records.into_iter();
        let messages: Result<_, _> = records.map(|record| self.message_of(record, epoch)).collect();
        let (first, head) = {
            let state = self.lock();
            // What is stored and not handed out yet is not told of either.
            (self.oldest(&state).max(read.state.first), state.head)
        };
        let mut messages: Vec<Message> = messages?;
        messages.retain(|message| (first..=head).contains(&offset_of(message)));
        messages.truncate(limit);
        self.history(Page { epoch, first, head, messages }, request, from).ok_or_else(gone)
    }

    /// Reads a part of the log, the oldest record first, without what is too old to be shown.
    async fn read_kept(
        &self,
        hub: &Inner,
        keeper: &Keeper,
        mut range: Range,
    ) -> Result<StoredPage, StoreError> {
        loop {
            let mut page = self.range_unchanged(keeper, range).await?;
            if matches!(range.direction, Direction::Before(_)) {
                page.records.reverse();
            }
            match (range.direction, self.take_aged(hub, &mut page)) {
                // What follows may not be too old.
                (Direction::After(_), Some(last)) if page.records.is_empty() && last < page.state.head => {
                    range.direction = Direction::After(last);
                    range.records_max = range.records_max.max(SKIPPED);
                }
                _ => return Ok(page),
            }
        }
    }

    /// Takes the records out of a page, the oldest first, that are too old, and notes that history begins behind them.
    /// Returns the last one's offset.
    fn take_aged(&self, hub: &Inner, page: &mut StoredPage) -> Option<u64> {
        let keep = Retention { age_max: self.class().history.age_max, ..Retention::default() };
        let now = hub.now().as_millis();
        let aged = page.records.iter().take_while(|record| keep.drops(0, 0, record.ts, now)).count();
        let last = page.records.drain(..aged).last()?.offset;
        if page.state.epoch == self.epoch().as_u64() {
            let mut state = self.lock();
            state.first = state.first.max((last + 1).min(state.head + 1));
        }
        Some(last)
    }

    fn messages_in_memory(
        &self,
        hub: &Inner,
        state: &State,
        from: PageFrom,
        limit: usize,
    ) -> Option<Vec<Message>> {
        let (begin, oldest) = (state.head + 1 - state.tail.len() as u64, self.oldest(state));
        let whole = begin <= oldest;
        let mut room = hub.config().replay_bytes();
        let mut fits = |message: &&Message| {
            // The first one comes however large it is.
            let fits = room > 0;
            room = room.saturating_sub(256 + 2 * message.body.len());
            fits
        };
        let messages = state.tail.iter().filter_map(|publication| publication.message_ref());
        let messages = messages.filter(|message| offset_of(message) >= oldest);
        match from {
            PageFrom::After(offset) if whole || offset.saturating_add(1) >= begin => {
                let after = messages.skip_while(|message| offset_of(message) <= offset);
                Some(after.take(limit).take_while(|message| fits(message)).cloned().collect())
            }
            PageFrom::After(_) => None,
            PageFrom::Newest | PageFrom::Before(_) => {
                let before = match from {
                    PageFrom::Before(offset) => offset,
                    _ => u64::MAX,
                };
                let older = messages.rev().skip_while(|message| offset_of(message) >= before);
                let mut page: Vec<_> =
                    older.take(limit).take_while(|message| fits(message)).cloned().collect();
                let ended_early =
                    page.len() < limit && page.last().is_none_or(|last| offset_of(last) == begin);
                page.reverse();
                (whole || !ended_early).then_some(page)
            }
        }
    }

    /// Offset of the oldest message that is worth showing: trimming may lag behind.
    pub(super) fn oldest(&self, state: &State) -> u64 {
        let kept = match self.class().history.records_max {
            0 => u64::MAX,
            max => max,
        };
        state.first.max((state.head + 1).saturating_sub(kept))
    }

    fn history(&self, page: Page, request: Option<RequestId>, from: PageFrom) -> Option<History> {
        let Page { epoch, first, head, messages } = page;
        let more = match (from, messages.first(), messages.last()) {
            (PageFrom::After(_), _, Some(last)) => offset_of(last) < head,
            (_, Some(oldest), _) => offset_of(oldest) > first,
            _ => false,
        };
        Some(History { request, room: self.name.clone()?, epoch, first, head, messages, more })
    }
}

fn offset_of(message: &Message) -> u64 {
    message.position.map_or(0, |position| position.offset)
}
