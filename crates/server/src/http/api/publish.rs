//! Publishing to rooms: answered when the message is kept as its room's class promises.

use axum::Json;
use outspoke_hub::{ErrorCode, Hub, Publication, Published, Publishing, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{ApiError, ErrorBody};
use super::input::{Body, Fields};
use super::said::Said;
use super::{Of, room_name, users};

const FIELDS: &[&str] = &["room", "type", "content", "data", "idempotencyKey", "user"];

/// Messages in a batch.
const BATCH_MAX: usize = 1000;
/// Longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 128;

/// What became of a message.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    id: String,
    room: String,
    /// Absent where the room keeps nothing and nobody is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    timestamp: String,
    members: usize,
    duplicate: bool,
}

impl Answer {
    fn new(room: String, published: &Published) -> Self {
        Self {
            id: published.id.to_string(),
            room,
            epoch: published.position.map(|position| position.epoch.to_string()),
            offset: published.position.map(|position| position.offset),
            timestamp: super::history::timestamp(published.ts),
            members: published.members,
            duplicate: published.duplicate,
        }
    }
}

/// A message that can be published.
struct Order {
    room: String,
    publication: Publication,
}

impl Order {
    fn read(fields: &Fields<'_>, hub: &Hub) -> Result<Self, ApiError> {
        let room = fields.required::<String>("room")?;
        let config = hub.config();
        let class = config.rooms.of(room_name(hub, &room)?.as_str());
        let Said { kind, body } = Said::read(fields, hub)?;
        if class.message_bytes_max > 0 && body.len() > class.message_bytes_max {
            let (len, max) = (body.len(), class.message_bytes_max);
            let message = format!("the message has {len} bytes; this room takes at most {max}");
            return Err(ApiError::new(ErrorCode::ContentTooLong, message));
        }
        let mut publication = Publication::new(kind, body);
        if let Some(key) = fields.optional::<String>("idempotencyKey")? {
            if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
                let message = format!("the field `idempotencyKey` must have 1 to {KEY_BYTES_MAX} bytes");
                return Err(ApiError::bad_request(message));
            }
            publication = publication.once(key);
        }
        if let Some(speaker) = fields.raw("user") {
            let speaker =
                Fields::read(speaker.get(), &["id", "name"]).map_err(|error| error.within("user"))?;
            let id = users::checked_id(hub, &speaker.required::<String>("id")?)?;
            let name = speaker.optional::<String>("name")?.unwrap_or_default();
            publication = publication.by(UserId::new(id), users::checked_name(hub, &name)?);
        }
        Ok(Self { room, publication })
    }

    fn publish(self, hub: &Hub) -> (String, Result<Publishing, ApiError>) {
        let publishing = hub.publish_once(&self.room, self.publication).map_err(ApiError::from);
        (self.room, publishing)
    }
}

pub(super) async fn one(Of(hub): Of, body: Body) -> Result<Json<Answer>, ApiError> {
    let (room, publishing) = Order::read(&body.fields(FIELDS)?, &hub)?.publish(&hub);
    let published = publishing?.await?;
    Ok(Json(Answer::new(room, &published)))
}

/// What became of a batch, in its order.
#[derive(Debug, Serialize)]
pub(super) struct BatchAnswer {
    results: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Published(Answer),
    Refused(ErrorBody),
}

/// Nothing is published unless every message can be read; then each has its own fate.
pub(super) async fn batch(Of(hub): Of, body: Body) -> Result<Json<BatchAnswer>, ApiError> {
    let messages: Vec<Box<RawValue>> = body.fields(&["messages"])?.required("messages")?;
    if !(1..=BATCH_MAX).contains(&messages.len()) {
        let message = format!("a batch has 1 to {BATCH_MAX} messages, this one {}", messages.len());
        return Err(ApiError::bad_request(message));
    }
    let read = |(index, message): (usize, &RawValue)| {
        let order = Fields::read(message.get(), FIELDS).and_then(|fields| Order::read(&fields, &hub));
        order.map_err(|error| error.within(&format!("messages[{index}]")))
    };
    let orders: Vec<Order> =
        messages.iter().map(|message| &**message).enumerate().map(read).collect::<Result<_, _>>()?;
    // All are on their way before the first is waited for: they become durable together.
    let publishing: Vec<_> = orders.into_iter().map(|order| order.publish(&hub)).collect();
    let mut results = Vec::with_capacity(publishing.len());
    for (room, publishing) in publishing {
        let published = match publishing {
            Ok(publishing) => publishing.await.map_err(ApiError::from),
            Err(error) => Err(error),
        };
        results.push(match published {
            Ok(published) => Outcome::Published(Answer::new(room, &published)),
            Err(error) => Outcome::Refused(error.into_body()),
        });
    }
    Ok(Json(BatchAnswer { results }))
}
