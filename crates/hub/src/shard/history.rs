//! Pages of history, for clients.

use std::sync::Arc;

use ecow::eco_format;
use outspoke_protocol::{ErrorCode, Event, PageFrom, Refusal, RequestId};

use super::joins::refusal_of;
use super::receive::Flow;
use super::{Key, Shard};
use crate::error::JoinError;
use crate::keeper::refusal_of_store;
use crate::policy::Action;
use crate::room::Room;

/// Messages on a page, where the client does not say how many.
const PAGE: u32 = 50;

impl Shard {
    pub(super) fn history(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &str,
        from: PageFrom,
        limit: Option<u32>,
    ) -> Result<Flow, Refusal> {
        let room = self.room_of_member(key, room)?;
        self.may(key, Action::History, &room)?;
        if !room.keeps() {
            let name = room.name.as_ref().map_or("", |name| name.as_str());
            let detail = eco_format!("the room \"{name}\" keeps no messages");
            return Err(Refusal::new(ErrorCode::Forbidden, detail));
        }
        let limit = (limit.unwrap_or(PAGE) as usize).min(self.hub.config().history_page_max);
        if let Some(page) = room.page_in_memory(&self.hub, id.cloned(), from, limit) {
            self.reply(key.slot, &Event::History(Box::new(page)));
            return Ok(self.drain_if_much(key));
        }
        let (hub, request) = (Arc::clone(&self.hub), id.cloned());
        Ok(self.look(key, id, async move {
            let page = room.page(&hub, request, from, limit).await;
            page.map(|page| Event::History(Box::new(page))).map_err(|error| refusal_of_store(&error))
        }))
    }

    /// The room of that name, if the client is in it.
    pub(super) fn room_of_member(&self, key: Key, room: &str) -> Result<Arc<Room>, Refusal> {
        let name = self.room_name(room)?;
        match self.membership(key, name.as_str()) {
            Some(index) => Ok(Arc::clone(&self.connections[key.slot as usize].memberships[index].room)),
            None => Err(refusal_of(JoinError::NotSubscribed { room: name })),
        }
    }
}
