//! A room's log as the server tells it to whoever pages through its history.

use serde_json::json;

use crate::connection::Way;
use crate::member::Seen;

/// All of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    pub(crate) room: String,
    pub(crate) epoch: String,
    pub(crate) head: u64,
    pub(crate) messages: Vec<Seen>,
}

impl Log {
    /// Reads a log from its beginning; nothing may be trimmed.
    pub(crate) async fn read(way: &mut Way, room: &str) -> Self {
        let (mut connection, subscribed) = way.join(room, None).await;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let mut log = Self { room: room.to_owned(), epoch: text(&subscribed["epoch"]), ..Self::default() };
        loop {
            let after = log.messages.last().map_or(0, |last| last.offset);
            let request = json!({ "type": "history", "id": "page", "room": room, "after": after });
            connection.send(&request).await;
            let page = connection.answer("page").await.expect("the server stays");
            assert_eq!(page["type"], "history", "{page}");
            assert_eq!(
                (text(&page["epoch"]), page["first"].as_u64()),
                (log.epoch.clone(), Some(1)),
                "{page}"
            );
            log.head = page["head"].as_u64().unwrap();
            log.messages.extend(page["messages"].as_array().unwrap().iter().map(|message| Seen {
                offset: message["offset"].as_u64().unwrap(),
                id: text(&message["id"]),
                text: text(&message["data"]),
            }));
            if page["more"] == false {
                return log;
            }
        }
    }
}
