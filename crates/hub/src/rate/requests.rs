//! What users do without a connection: counted as if they did it over one.

use ecow::eco_format;
use outspoke_protocol::{ErrorCode, Refusal};

use super::gate::Deed;
use crate::auth::Identity;
use crate::hub::{Hub, Inner};
use crate::peer::ClientAddress;
use crate::room::Room;

impl Hub {
    /// Counts something that a user is about to do without a connection, as over a connection: for the user, the address, the
    /// tenant and by its kind. A private message is a message, too. Messages count for their room when they are
    /// [published](crate::Publication::limited).
    ///
    /// # Errors
    /// `rate_limited`: it is too much, and is not to be done.
    pub fn count_as_user(
        &self,
        identity: &Identity,
        address: Option<ClientAddress>,
        deed: Deed,
    ) -> Result<(), Refusal> {
        let config = self.inner.config();
        if !config.rate.is_on() {
            return Ok(());
        }
        let deeds: &[Deed] = if deed == Deed::Direct { &[Deed::Direct, Deed::Publish] } else { &[deed] };
        self.inner.gate.request((identity, address, &self.tenant.meter), deeds, &config)
    }
}

impl Inner {
    /// Asks whether a room takes another message from users.
    pub(crate) fn check_room_rate(&self, room: &Room) -> Result<(), Refusal> {
        let rate = self.config().rate.room;
        if rate.is_off() {
            return Ok(());
        }
        room.messages.take(rate, self.gate.now()).map_err(|wait| {
            let name = room.name.as_ref().map_or("", |name| name.as_str());
            let detail =
                eco_format!("too many messages in the room \"{name}\": nobody got this; send it again later");
            Refusal { retry_after: Some(wait), ..Refusal::new(ErrorCode::RateLimited, detail) }
        })
    }
}
