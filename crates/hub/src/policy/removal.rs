//! Taking a user out of a room, for the moment. Keeping somebody out is a [ruling](crate::rulings).

use outspoke_protocol::{ErrorCode, Refusal, RoomName, UserId};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::hub::Hub;
use crate::shard::command::Command;
use crate::sync::Arc;

impl Hub {
    /// Takes every client of a user out of a room, on all nodes; the clients are told, and may come in again:
    /// [`remove_from_room`](Self::remove_from_room) keeps them out. Returns how many were there on this node. Another one that the
    /// bus does not reach now is not told later.
    ///
    /// # Errors
    /// The name is no room name.
    ///
    /// # Cancel safety
    /// The orders are given when this is first polled; dropping the future gives up the answer.
    pub async fn put_out_of_room(&self, room: &str, user: &UserId) -> Result<usize, Refusal> {
        let room = self
            .inner
            .room_name(room)
            .map_err(|invalid| Refusal::new(ErrorCode::InvalidRoom, ecow::eco_format!("{invalid}")))?;
        if let Some(cluster) = &self.inner.cluster {
            cluster.tell_put_out(&self.tenant.name, &room, user);
        }
        let orders = self.order_out(&room, user);
        let mut removed = 0;
        for order in orders {
            // A shard that has ended has nobody to remove.
            removed += usize::from(order.await.unwrap_or(false));
        }
        Ok(removed)
    }

    /// Orders the user's clients on this node out of a room.
    pub(crate) fn order_out(&self, room: &RoomName, user: &UserId) -> Vec<oneshot::Receiver<bool>> {
        let because = Refusal::new(ErrorCode::Forbidden, "removed from the room by a moderator");
        self.clients_of(user).iter().filter_map(|client| self.order_one_out(client, room, &because)).collect()
    }

    fn order_one_out(
        &self,
        client: &Client,
        room: &RoomName,
        because: &Refusal,
    ) -> Option<oneshot::Receiver<bool>> {
        let &key = client.key.get()?;
        let (done, outcome) = oneshot::channel();
        let because = Box::new(because.clone());
        let command = Command::Remove { client: key, room: room.clone(), because, done };
        // A shard that has ended has nobody to remove.
        let _ = self.inner.shards[usize::from(client.shard)].inbox.push(command, Command::WEIGHT);
        Some(outcome)
    }

    /// The tenant's clients here of that user. One whom nobody knows has a single one, which is found by looking at all.
    fn clients_of(&self, user: &UserId) -> Vec<Arc<Client>> {
        let known = self.inner.registry.devices(&self.tenant.name, user);
        if !known.is_empty() {
            return known;
        }
        let mut all = self.inner.registry.all();
        all.retain(|client| client.user() == user && client.tenant.name == self.tenant.name);
        all
    }
}
