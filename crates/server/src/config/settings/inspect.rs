//! `inspect.*`: what is remembered of messages and connections, for whoever looks for the reason of something.

use super::super::kind::{Count, Flag};
use super::super::table::section;

section! {
    /// What the server remembers to answer why a message did or did not arrive; see docs/operating/explain.md.
    Inspect at "inspect" {
        /// Messages that a node remembers (up to 200 bytes each), and hand-outs of rooms that each of its shards does (48 bytes each).
        /// A room with much to say pushes out what few others have.
        messages_max: usize as Count = "32_768" {
            range: Some(("256", "16_000_000")),
            unit: Some("messages"),
            at_limit: Some("the oldest are forgotten, and said to be"),
            zero: Some("none: `outspoke explain` knows only what the room's history has"),
        }
        /// Comings and goings of connections that each shard remembers, and as many times of slow reading (up to 300 bytes each).
        events_max: usize as Count = "4096" {
            range: Some(("16", "4_000_000")),
            unit: Some("events"),
            at_limit: Some("the oldest are forgotten, and said to be"),
            zero: Some("none: of connections that are gone nothing is known"),
        }
        /// Whether operators may slow a connection to this server down (POST /api/v1/clients/{client}/slow, asked of any node) to see
        /// what the rooms' policies for slow clients do.
        slow: bool as Flag = "false" {}
    }
}
