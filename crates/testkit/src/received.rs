//! One thing that a server said to a scripted client.

use bytes::Bytes;
use outspoke_websocket::Item;
use serde_json::Value;

/// What a client received, in the order it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// A text message that is JSON.
    Json(Value),
    /// Any other text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// A heartbeat.
    Ping(Bytes),
    /// A heartbeat's answer.
    Pong(Bytes),
    /// The server's close frame; the code is `None` if it gave none.
    Close {
        /// Why, as a number.
        code: Option<u16>,
        /// Why, for people.
        reason: String,
    },
    /// The end of the stream.
    End,
}

impl Received {
    pub(crate) fn of(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => {
                serde_json::from_str(text).map_or_else(|_| Self::Text(text.to_owned()), Self::Json)
            }
            Item::Binary(bytes) => Self::Binary(Bytes::copy_from_slice(bytes)),
            Item::Ping(bytes) => Self::Ping(Bytes::copy_from_slice(bytes)),
            Item::Pong(bytes) => Self::Pong(Bytes::copy_from_slice(bytes)),
            Item::Close(frame) => Self::Close {
                code: frame.map(|frame| frame.code.get()),
                reason: frame.map(|frame| frame.reason.to_owned()).unwrap_or_default(),
            },
        }
    }

    /// The `type` of a JSON message.
    #[must_use]
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Json(value) => value["type"].as_str(),
            _ => None,
        }
    }
}
