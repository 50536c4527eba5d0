//! Clients that are sent to another node, from the shard's side.
//!
//! Told by `drain.rs`, in batches. Invariant: whatever the client published before it was told is answered before its close frame,
//! and nothing that it sends afterwards is read: so each of its messages is acknowledged, refused, or was never taken.

use outspoke_protocol::{Disconnect, Event};

use super::connection::{Phase, Stall};
use super::{Key, Shard};

impl Shard {
    /// Tells a client to go, and where. Its connection ends now, or when what it waits for is answered.
    pub(super) fn send_away(&mut self, key: Key, notice: &Event) {
        let Some(connection) = self.connection(key).filter(|connection| connection.is_open()) else { return };
        let stall =
            connection.stall.get_or_insert_with(|| Box::new(Stall { readable: true, ..Stall::default() }));
        stall.away = true;
        if !connection.echo {
            self.reply(key.slot, notice);
            self.send_replies(key.slot, true);
        }
        self.end_if_away(key);
    }

    /// Ends a connection that was sent away and waits for nothing more: neither for a store nor for a handler. Both have their
    /// time limits.
    pub(super) fn end_if_away(&mut self, key: Key) {
        let Some(connection) = self.connection(key).filter(|connection| connection.is_open()) else { return };
        let waits = |stall: &Stall| !stall.away || stall.waiting.is_some();
        if connection.unanswered == 0 && !connection.stall.as_deref().is_none_or(waits) {
            self.begin_close(key, Disconnect::GoingAway);
        }
    }

    /// Cuts connections that are closing: they had the time to go.
    pub(super) fn cut_leavers(&mut self) {
        let closing = |connection: &super::Connection| matches!(connection.phase, Phase::Closing { .. });
        let leavers = self.connections.iter().filter(|(_, connection)| closing(connection));
        let leavers: Vec<Key> = leavers.map(|(slot, connection)| connection.key(slot)).collect();
        for key in leavers {
            self.close_quietly(key);
        }
    }
}
