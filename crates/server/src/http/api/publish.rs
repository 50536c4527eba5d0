//! Publishing to rooms: answered when the message is kept as its room's class promises.

use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use outspoke_hub::{Action, ErrorCode, Hub, Identity, Kind, Publication, Published, Publishing, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{ApiError, ErrorBody};
use super::input::{Body, Fields};
use super::key::For;
use super::said::Said;
use super::{room_name, users};

const FIELDS: &[&str] = &["room", "type", "content", "data", "idempotencyKey", "user"];

/// Messages in a batch.
const BATCH_MAX: usize = 1000;
/// Of a user's: somebody may have to be asked about each.
const USERS_BATCH_MAX: usize = 100;
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
    pub(super) fn new(room: String, published: &Published) -> Self {
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
    /// Reads what is to be published, and who may say so.
    async fn read(fields: &Fields<'_>, asked: &For) -> Result<Self, ApiError> {
        let hub = &asked.hub;
        let room = fields.required::<String>("room")?;
        let config = hub.config();
        let class = config.rooms.of(room_name(hub, &room)?.as_str());
        let Said { kind, body } = Said::read(fields, hub)?;
        if class.message_bytes_max > 0 && body.len() > class.message_bytes_max {
            let (len, max) = (body.len(), class.message_bytes_max);
            let message = format!("the message has {len} bytes; this room takes at most {max}");
            return Err(ApiError::new(ErrorCode::ContentTooLong, message));
        }
        asked.caller.check_permitted(hub, Action::Publish, &room)?;
        let mut publication = Publication::new(kind, body);
        if let Some(key) = idempotency_key(fields)? {
            publication = publication.once(match asked.caller.user() {
                Some(user) => named_by(user, &key),
                None => key.into_bytes(),
            });
        }
        let speaker = match fields.raw("user") {
            None => None,
            Some(speaker) => {
                Some(Fields::read(speaker.get(), &["id", "name"]).map_err(|error| error.within("user"))?)
            }
        };
        if let Some(user) = asked.caller.user() {
            check_speaker(user, speaker.as_ref(), &publication)?;
            publication = publication.by(user.user.clone(), user.name.clone()).limited();
            hub.authorize_as_user(user, &room, &publication.body).await?;
        } else if let Some(speaker) = speaker {
            let id = users::checked_id(hub, &speaker.required::<String>("id")?)?;
            let name = speaker.optional::<String>("name")?.unwrap_or_default();
            publication = publication.by(UserId::new(id), users::checked_name(hub, &name)?);
        }
        if let Some(from) = &publication.from {
            publication.body = hub.review(&from.user, &room, &publication.kind, publication.body).await?;
        }
        Ok(Self { room, publication })
    }

    fn publish(self, hub: &Hub) -> Result<(String, Publishing), ApiError> {
        let publishing = hub.publish_once(&self.room, self.publication)?;
        Ok((self.room, publishing))
    }
}

/// The message's own name, if it has one.
pub(super) fn idempotency_key(fields: &Fields<'_>) -> Result<Option<String>, ApiError> {
    let key = fields.optional::<String>("idempotencyKey")?;
    if key.as_ref().is_some_and(|key| !(1..=KEY_BYTES_MAX).contains(&key.len())) {
        let message = format!("the field `idempotencyKey` must have 1 to {KEY_BYTES_MAX} bytes");
        return Err(ApiError::bad_request(message));
    }
    Ok(key)
}

/// Users speak for themselves only, and say what they could say over a connection.
pub(super) fn check_speaker(
    user: &Identity,
    speaker: Option<&Fields<'_>>,
    publication: &Publication,
) -> Result<(), ApiError> {
    if let Some(speaker) = speaker
        && speaker.required::<String>("id")? != user.user.as_str()
    {
        let message = "with a user's token, `user` is that user, or is left out";
        return Err(ApiError::new(ErrorCode::Forbidden, message));
    }
    match publication.kind {
        Kind::Chat if user.name.is_empty() => {
            Err(ApiError::new(ErrorCode::UsernameRequired, "chatting needs a name: the token has none"))
        }
        Kind::Chat | Kind::Data => Ok(()),
        _ => {
            let message = "users publish messages of the types chat and message only";
            Err(ApiError::new(ErrorCode::Forbidden, message))
        }
    }
}

/// An idempotency key of a user's own: nobody takes another's.
pub(super) fn named_by(user: &Identity, key: &str) -> Vec<u8> {
    let hash = digest(&SHA256, &[user.user.as_str().as_bytes(), &[0], key.as_bytes()].concat());
    [b"user\0", hash.as_ref()].concat()
}

pub(super) async fn one(asked: For, body: Body) -> Result<Json<Answer>, ApiError> {
    asked.count(Action::Publish)?;
    let order = Order::read(&body.fields(FIELDS)?, &asked).await?;
    let (room, publishing) = order.publish(&asked.hub)?;
    let published = publishing.await?;
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

/// Nothing is published unless every message can be read; then each has its own fate. What a user sends too fast is refused unread.
pub(super) async fn batch(asked: For, body: Body) -> Result<Json<BatchAnswer>, ApiError> {
    let messages: Vec<Box<RawValue>> = body.fields(&["messages"])?.required("messages")?;
    let max = asked.caller.user().map_or(BATCH_MAX, |_| USERS_BATCH_MAX);
    if !(1..=max).contains(&messages.len()) {
        let message = format!("a batch has 1 to {max} messages, this one {}", messages.len());
        return Err(ApiError::bad_request(message));
    }
    let mut orders = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        if let Err(too_many) = asked.count(Action::Publish) {
            orders.push(Err(too_many));
            continue;
        }
        let order = match Fields::read(message.get(), FIELDS) {
            Ok(fields) => Order::read(&fields, &asked).await,
            Err(error) => Err(error),
        };
        orders.push(Ok(order.map_err(|error| error.within(&format!("messages[{index}]")))?));
    }
    // All are on their way before the first is waited for: they become durable together.
    let publishing: Vec<_> =
        orders.into_iter().map(|order| order.and_then(|order| order.publish(&asked.hub))).collect();
    let mut results = Vec::with_capacity(publishing.len());
    for publishing in publishing {
        results.push(match publishing {
            Ok((room, publishing)) => {
                publishing.await.map(|published| Answer::new(room, &published)).map_err(ApiError::from)
            }
            Err(error) => Err(error),
        });
    }
    let nothing_for_now = |result: &Result<_, ApiError>| result.as_ref().is_err_and(ApiError::is_too_much);
    if asked.caller.user().is_some() && results.iter().all(nothing_for_now) {
        // With the time after which it is worth another try.
        results.truncate(1);
        results.pop().transpose()?;
    }
    let outcome = |result: Result<_, ApiError>| match result {
        Ok(answer) => Outcome::Published(answer),
        Err(error) => Outcome::Refused(error.into_body()),
    };
    Ok(Json(BatchAnswer { results: results.into_iter().map(outcome).collect() }))
}
