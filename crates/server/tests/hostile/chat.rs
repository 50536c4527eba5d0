//! Healthy clients: they talk at a human pace, and notice whatever goes wrong.

use std::net::SocketAddr;
use std::time::Duration;

use outspoke_testkit::{Received, TcpClient};
use serde_json::json;
use tokio::sync::Barrier;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::support::PATIENCE;

/// So often each of them says something.
const PACE: Duration = Duration::from_millis(500);

/// What one of them is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) number: usize,
    /// Members of a room; everybody is in one room.
    pub(crate) room_size: usize,
    pub(crate) messages: usize,
}

impl Part {
    fn room(self) -> String {
        format!("room-{}", self.number / self.room_size)
    }
}

/// Joins, waits for the others, talks, and returns when everything that was said in its room has come.
///
/// Panics if it is closed, refused anything, or misses a message.
pub(crate) async fn chat(addr: SocketAddr, part: Part, everybody: &Barrier) {
    let (number, room) = (part.number, part.room());
    let target = format!("/ws?userId=healthy-{number}&username=healthy-{number}&join={room}");
    let client = TcpClient::connect(addr, &target, &[])
        .await
        .unwrap_or_else(|refused| panic!("{number}: {refused:?}"));
    let mut client = client.with_patience(PATIENCE);
    client.expect("welcome").await;
    client.expect("subscribed").await;
    everybody.wait().await;
    let total = part.messages * part.room_size;
    // They do not all talk at the same moment.
    let first = Instant::now() + PACE.mul_f64((number % 97) as f64 / 97.0);
    let mut pace = interval_at(first, PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut said, mut acknowledged, mut heard) = (0, 0, 0);
    while heard < total || acknowledged < part.messages {
        tokio::select! {
            _ = pace.tick(), if said < part.messages => {
                said += 1;
                client.send(json!({ "type": "publish", "id": said, "room": room, "data": said })).await;
            }
            received = client.next_but_pings() => match received {
                Received::Json(value) if value["type"] == "message" => {
                    heard += 1;
                    assert_eq!(value["offset"], heard as u64, "{number} has missed something");
                }
                Received::Json(value) if value["type"] == "ack" => acknowledged += 1,
                other => panic!("{number}: {other:?} after {said} messages"),
            }
        }
    }
    client.close(1000, "").await;
    assert_eq!(client.closed().await, Some(1000));
}
