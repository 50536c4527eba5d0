//! A scripted client without a socket.

use std::sync::Arc;
use std::time::Duration;

use outspoke_hub::{Attach, Client, Hub, Identity, MemoryConn, MemoryPeer};

use crate::{ByteStream, WsClient};

/// A client over two pipes in memory. It reads only when the script does: a script that does not is a slow client.
pub type ScriptedClient = WsClient<MemoryPeer>;

/// Bytes that each pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

/// Long enough for every time-out of a hub under paused time, where waiting costs nothing.
const PATIENCE: Duration = Duration::from_secs(600);

impl ByteStream for MemoryPeer {
    async fn read(&mut self) -> Vec<u8> {
        self.receive().await
    }

    fn read_now(&mut self) -> Option<Vec<u8>> {
        let bytes = self.take();
        (!bytes.is_empty() || self.is_finished()).then_some(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> bool {
        self.send_all(bytes).await
    }
}

/// Connects a user without a room.
///
/// # Panics
/// The hub refuses the connection.
#[must_use]
pub fn attach(hub: &Hub, user: &str) -> ScriptedClient {
    attach_with(hub, Attach::new(Identity::user(user).named(user)), PIPE_BYTES).0
}

/// Connects as told, over pipes that hold `pipe_bytes` each.
///
/// # Panics
/// The hub refuses the connection.
#[must_use]
pub fn attach_with(hub: &Hub, attach: Attach, pipe_bytes: usize) -> (ScriptedClient, Arc<Client>) {
    let (conn, peer) = MemoryConn::pair(pipe_bytes);
    let client = hub.attach(conn, attach).expect("the hub takes the connection");
    (WsClient::new(peer, None, Vec::new(), PATIENCE), client)
}

/// Lets every task of a runtime with paused time do what it can: the clock moves on by one millisecond, which it
/// does only when nobody has anything left to do.
pub async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
