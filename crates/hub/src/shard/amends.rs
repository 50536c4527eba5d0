//! Changes that clients make to earlier messages: judged, made or given to the room's keeper, answered.

use std::borrow::Cow;
use std::sync::Arc;

use ecow::eco_format;
use outspoke_protocol::{Amendment as Wanted, BodyRef, ErrorCode, Refusal, RequestId};
use tokio::time::Instant;

use super::publishes::{check_size, key_of, owned};
use super::receive::Flow;
use super::{Key, Shard};
use crate::amend::Change;
use crate::client::Client;
use crate::keeper::{Amendment, Origin};
use crate::policy::{self, Action};
use crate::room::Room;
use crate::room::amend::Amending;

impl Shard {
    pub(super) fn amend(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: Option<Cow<'_, str>>,
        target: u64,
        wanted: Wanted<'_>,
        name: Option<&str>,
    ) -> Result<Flow, Refusal> {
        self.check_serving()?;
        let room = self.room_to_publish(key, room.as_deref())?;
        if !room.keeps() || !room.class().amendments {
            let name = room.name.as_ref().map_or("", |name| name.as_str());
            let detail = eco_format!("messages of the room \"{name}\" cannot be changed");
            return Err(Refusal::new(ErrorCode::Forbidden, detail));
        }
        let moderates = self.judge_change(key, &room, &wanted)?;
        let client = Arc::clone(&self.connections[key.slot as usize].client);
        let change = self.change(&client, &room, wanted)?;
        let key_of_change = name.map(|name| key_of(&client, name));
        let amending =
            Amending { target, change, by: Some(client.publisher()), moderates, key: key_of_change };
        match (&amending.change, self.hub.asks.publish) {
            (Change::Edit(_), true) => self.ask_to_amend(key, id, &room, amending),
            _ => self.amend_now(key, id, &room, amending),
        }
    }

    /// Gives a change to the message's room, or to the room's keeper.
    pub(super) fn amend_now(
        &mut self,
        key: Key,
        id: Option<&RequestId>,
        room: &Arc<Room>,
        amending: Amending,
    ) -> Result<Flow, Refusal> {
        let hub = Arc::clone(&self.hub);
        hub.check_room_rate(room)?;
        room.meter.message()?;
        let Some(keeper) = &room.keeper else {
            let published = room.amend(&hub, &amending)?;
            self.acknowledge(key, id, room, &published);
            return Ok(if hub.congestion.is_congested() { self.throttle(key) } else { Flow::Continue });
        };
        let origin = Origin::Client { shard: self.index, key, request: id.cloned() };
        let deadline = Instant::now() + hub.config().store_timeout;
        let amendment = Amendment { room: Arc::clone(room), amending, origin, deadline };
        keeper.submit_amendment(Box::new(amendment))?;
        Ok(self.count_unanswered(key))
    }

    /// Whether a client may do this to messages of the room; returns whether also to those of others. Whose the message is, is
    /// found out where it is looked up.
    fn judge_change(&self, key: Key, room: &Arc<Room>, wanted: &Wanted<'_>) -> Result<bool, Refusal> {
        match wanted {
            // Only who said it, as far as users go.
            Wanted::Edit(_) => self.may(key, Action::Publish, room)?,
            Wanted::React { .. } => {
                policy::check_reaction(&self.hub, &self.connections[key.slot as usize].who(), room)?;
            }
            Wanted::Delete if self.may(key, Action::Moderate, room).is_ok() => return Ok(true),
            Wanted::Delete => self.may(key, Action::Publish, room)?,
        }
        Ok(false)
    }

    fn change(&self, client: &Client, room: &Room, wanted: Wanted<'_>) -> Result<Change, Refusal> {
        match wanted {
            Wanted::Delete => Ok(Change::Delete),
            Wanted::React { reaction, withdraw } => Change::react(&reaction, withdraw),
            Wanted::Edit(body) => {
                check_size(room, &body)?;
                if matches!(body, BodyRef::Text(_)) {
                    self.check_chat(&client.name(), &body)?;
                }
                Ok(Change::Edit(owned(body)))
            }
        }
    }
}
