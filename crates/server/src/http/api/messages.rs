//! Messages outside rooms: to everybody, to a user, to a client. Nothing keeps them: who is not connected misses them.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use outspoke_hub::{Action, ErrorCode, Hub, Identity, Publication, UserId};
use serde::Serialize;

use super::error::{ApiError, ErrorBody};
use super::input::{Body, Named, Query};
use super::key::For;
use super::publish::{Answer, check_speaker, idempotency_key, named_by};
use super::said::Said;
use super::{Of, clients, room_name, users};

const FIELDS: &[&str] = &["type", "content", "data"];

#[derive(Debug, Serialize)]
pub(super) struct Broadcast {
    id: String,
}

pub(super) async fn broadcast(Of(hub): Of, body: Body) -> Result<Json<Broadcast>, ApiError> {
    let said = Said::read(&body.fields(FIELDS)?, &hub)?;
    let id = hub.announce(said.kind, said.body)?;
    Ok(Json(Broadcast { id: id.to_string() }))
}

/// What became of a message to a client.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sent {
    client_id: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    MessageId(String),
    Refused(ErrorBody),
}

#[derive(Debug, Serialize)]
pub(super) struct SentToUser {
    clients: Vec<Sent>,
}

pub(super) async fn to_client(Of(hub): Of, Named(client): Named, body: Body) -> Result<Json<Sent>, ApiError> {
    let said = Said::read(&body.fields(FIELDS)?, &hub)?;
    let client = clients::parsed(&client)?;
    let id = hub.send_anywhere(client, said.kind, said.body).await?;
    Ok(Json(Sent { client_id: client.to_string(), outcome: Outcome::MessageId(id.to_string()) }))
}

/// From the application: to every connection of the user, and kept nowhere. From another user: a private message.
pub(super) async fn to_user(asked: For, Named(user): Named, body: Body) -> Result<Response, ApiError> {
    let hub = &asked.hub;
    let user = users::checked_id(hub, &user)?;
    asked.check(Action::Direct, &user).await?;
    match asked.caller.user() {
        Some(from) => Ok(privately(hub, from, &user, &body).await?.into_response()),
        None => Ok(from_application(hub, user, &body).await?.into_response()),
    }
}

async fn privately(hub: &Hub, from: &Identity, to: &str, body: &Body) -> Result<Json<Answer>, ApiError> {
    let fields = body.fields(&["type", "content", "data", "idempotencyKey"])?;
    let said = Said::read(&fields, hub)?;
    let mut publication = Publication::new(said.kind, said.body);
    check_speaker(from, None, &publication)?;
    if let Some(key) = idempotency_key(&fields)? {
        publication = publication.once(named_by(from, &key));
    }
    publication = publication.by(from.user.clone(), from.name.clone()).limited();
    let room = hub.conversation(from.user.as_str(), to)?;
    let published = hub.direct(from.user.as_str(), to, publication)?.await?;
    Ok(Json(Answer::new(room.to_string(), &published)))
}

/// Deletes a message of a room: with a user's token, one's own, and others' where the user moderates.
pub(super) async fn delete(
    asked: For,
    Path((room, offset)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Answer>, ApiError> {
    query.only(&[])?;
    let digits = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
    let offset = offset.parse::<u64>().ok().filter(|offset| digits && *offset <= i64::MAX as u64);
    let missing = || ApiError::new(ErrorCode::MessageNotFound, "no message has an offset like this");
    let offset = offset.ok_or_else(missing)?;
    let hub = &asked.hub;
    room_name(hub, &room)?;
    let published = match asked.caller.user() {
        Some(user) => {
            asked.count(Action::Moderate)?;
            hub.delete_as_user(&room, offset, user).await?
        }
        None => {
            asked.check(Action::Moderate, &room).await?;
            hub.delete(&room, offset).await?
        }
    };
    Ok(Json(Answer::new(room, &published)))
}

async fn from_application(hub: &Hub, user: String, body: &Body) -> Result<Json<SentToUser>, ApiError> {
    let said = Said::read(&body.fields(FIELDS)?, hub)?;
    let sent = hub.send_to_user_anywhere(&UserId::new(user), said.kind, said.body).await;
    if sent.is_empty() {
        return Err(ApiError::new(ErrorCode::UserNotFound, "the user is not connected"));
    }
    let sent = sent.into_iter().map(|(client, outcome)| {
        let outcome = match outcome {
            Ok(id) => Outcome::MessageId(id.to_string()),
            Err(error) => Outcome::Refused(ApiError::from(error).into_body()),
        };
        Sent { client_id: client.to_string(), outcome }
    });
    Ok(Json(SentToUser { clients: sent.collect() }))
}
