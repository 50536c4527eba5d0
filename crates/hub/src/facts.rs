//! The families of facts that the hub keeps in its stores, and how their names are put together.
//!
//! Names and values are on disk: a family's meaning never changes, a new meaning is a new family. Parts of a name are
//! separated by a zero byte, which neither room names nor user ids contain.

use bytes::Bytes;
use outspoke_store::Space;

/// How far users have received and read: room, epoch, user, which of both -> see `room/receipts.rs`.
pub(crate) const CURSORS: Space = Space("cursors");
/// Private conversations: user, other user -> when the newest was said; see `direct.rs`.
pub(crate) const CONVERSATIONS: Space = Space("conversations");
/// Topics of rooms: room -> text.
pub(crate) const TOPICS: Space = Space("topics");
/// When users were last in a room: room, user -> see `room/presence.rs`.
pub(crate) const LAST_SEEN: Space = Space("last_seen");
/// Counted messages and users: see `analytics.rs`.
pub(crate) const ANALYTICS: Space = Space("analytics");
/// Tenants put at run time, all under the nameless one: name -> quotas, see `tenant/admin.rs`.
pub(crate) const TENANTS: Space = Space("tenants");
/// What was decided about credentials that are out, all under the nameless tenant; see `rulings/record.rs`, `rulings/keep.rs`.
pub(crate) const RULINGS: Space = Space("rulings");

/// Every family: for whoever copies or moves what is kept.
pub const FACT_FAMILIES: [Space; 7] =
    [CURSORS, CONVERSATIONS, TOPICS, LAST_SEEN, ANALYTICS, TENANTS, RULINGS];
/// What is of one tenant, and goes with it.
pub(crate) const OF_TENANTS: [Space; 5] = [CURSORS, CONVERSATIONS, TOPICS, LAST_SEEN, ANALYTICS];

/// A name of several parts.
pub(crate) fn name(parts: &[&str]) -> Bytes {
    Bytes::from(parts.join("\0"))
}

/// The beginning of the names whose first parts are these.
pub(crate) fn prefix(parts: &[&str]) -> Bytes {
    let mut prefix = parts.join("\0");
    prefix.push('\0');
    Bytes::from(prefix)
}

/// Whether an id can be a part of a name. Whoever admits identities may admit others; what needs a name is not for them.
pub(crate) fn is_nameable(id: &str) -> bool {
    !id.is_empty() && id.len() <= ID_BYTES_MAX && !id.contains('\0')
}

/// With a room's name, the longest there is, and a second id it fits a name.
const ID_BYTES_MAX: usize = 256;
