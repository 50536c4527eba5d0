//! Who may not come into which room for a while.
//!
//! Asked by [`super::check`] before anything else that is asked of a room; what it knows are [rulings](crate::rulings).

use ecow::eco_format;
use outspoke_protocol::{ErrorCode, Refusal};

use crate::auth::Identity;
use crate::hub::Inner;

/// Whether somebody is kept out of a room.
///
/// # Errors
/// Why, and until when.
pub(super) fn check(hub: &Inner, identity: &Identity, room: &str) -> Result<(), Refusal> {
    match hub.rulings.barred(identity, room, || hub.now()) {
        None => Ok(()),
        Some(until) => {
            let detail = eco_format!("removed from the room \"{room}\", and kept out of it until {until}");
            Err(Refusal::new(ErrorCode::Forbidden, detail))
        }
    }
}
