//! Messages outside rooms: to everybody, to a user, to a client. Nothing keeps them: who is not connected misses them.

use axum::Json;
use outspoke_hub::{ErrorCode, UserId};
use serde::Serialize;

use super::error::{ApiError, ErrorBody};
use super::input::{Body, Named};
use super::said::Said;
use super::{Of, clients, users};

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

/// To every connection of the user.
pub(super) async fn to_user(
    Of(hub): Of,
    Named(user): Named,
    body: Body,
) -> Result<Json<SentToUser>, ApiError> {
    let said = Said::read(&body.fields(FIELDS)?, &hub)?;
    let user = users::checked_id(&hub, &user)?;
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
