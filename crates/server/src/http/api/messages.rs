//! Messages outside rooms: to everybody, to a user, to a client. Nothing keeps them: who is not connected misses them.

use axum::Json;
use outspoke_hub::{ClientId, ErrorCode, Hub};
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
    let client = clients::known(&hub, &client)?;
    let id = hub.send(client, said.kind, said.body)?;
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
    let clients = hub.list_clients(Some(&user), None, usize::MAX - 1).items;
    if clients.is_empty() {
        return Err(ApiError::new(ErrorCode::UserNotFound, "the user is not connected"));
    }
    let clients = clients.into_iter().map(|client| send(&hub, client.id(), &said)).collect();
    Ok(Json(SentToUser { clients }))
}

fn send(hub: &Hub, client: ClientId, said: &Said) -> Sent {
    let outcome = match hub.send(client, said.kind.clone(), said.body.clone()) {
        Ok(id) => Outcome::MessageId(id.to_string()),
        Err(error) => Outcome::Refused(ApiError::from(error).into_body()),
    };
    Sent { client_id: client.to_string(), outcome }
}
