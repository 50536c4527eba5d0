//! Connections: which there are, and away with some.

use axum::Json;
use outspoke_hub::protocol::Disconnect;
use outspoke_hub::{Client, ClientId, ErrorCode, Hub, Listing, UserId};
use serde::Serialize;

use super::error::ApiError;
use super::input::{Body, Query};
use super::{Of, users};

/// Longest reason: what a close frame has room for.
const REASON_BYTES_MAX: usize = 123;

/// A connection.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    client_id: String,
    user_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    device: String,
    anonymous: bool,
    dialect: &'static str,
    /// How long it is there.
    connected_seconds: u64,
    /// Bytes that wait for it to read.
    queued_bytes: usize,
}

impl Connection {
    fn new(hub: &Hub, client: &Client) -> Self {
        let identity = client.identity();
        Self {
            client_id: client.id().to_string(),
            user_id: identity.user.to_string(),
            username: identity.name.to_string(),
            device: identity.device.to_string(),
            anonymous: identity.anonymous,
            dialect: hub.dialects()[usize::from(client.dialect())].name(),
            connected_seconds: client.connected().elapsed().as_secs(),
            queued_bytes: client.queued_bytes(),
        }
    }
}

/// A page of connections.
#[derive(Debug, Serialize)]
pub(super) struct Connections {
    clients: Vec<Connection>,
    /// What to give as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(Of(hub): Of, query: Query) -> Result<Json<Connections>, ApiError> {
    query.only(&["user", "after", "limit"])?;
    let after = query.parsed::<ClientId>("after", "a client's id")?;
    let Listing { items, more } = hub.list_clients(query.text("user"), after, query.limit()?);
    let next = items.last().filter(|_| more).map(|last| last.id().to_string());
    Ok(Json(Connections {
        clients: items.iter().map(|client| Connection::new(&hub, client)).collect(),
        next,
    }))
}

/// A client's id; one that is no id is nobody's.
pub(super) fn parsed(id: &str) -> Result<ClientId, ApiError> {
    id.parse().map_err(|_| ApiError::new(ErrorCode::ClientNotFound, "no client has an id like this"))
}

/// How many connections are ended.
#[derive(Debug, Serialize)]
pub(super) struct Disconnected {
    disconnected: usize,
}

/// Ends a client's connection, or those of a user, or of a user's device, on all nodes. None is no error: they are gone.
pub(super) async fn disconnect(Of(hub): Of, body: Body) -> Result<Json<Disconnected>, ApiError> {
    let fields = body.fields(&["client", "user", "device", "reason", "reconnect"])?;
    let (client, user) = (fields.optional::<String>("client")?, fields.optional::<String>("user")?);
    let device = fields.optional::<String>("device")?;
    let disconnect = match fields.optional::<bool>("reconnect")?.unwrap_or(false) {
        true => Disconnect::ReconnectRequested,
        false => Disconnect::Kicked,
    };
    let reason = fields.optional::<String>("reason")?;
    let reason = reason.as_deref().unwrap_or(disconnect.reason());
    if reason.len() > REASON_BYTES_MAX {
        let message =
            format!("the field `reason` has {} bytes; a close frame takes {REASON_BYTES_MAX}", reason.len());
        return Err(ApiError::bad_request(message));
    }
    let disconnected = match (client, user) {
        (Some(client), None) if device.is_none() => match client.parse() {
            Ok(client) => usize::from(hub.disconnect_anywhere(client, disconnect, reason).await),
            Err(_) => 0,
        },
        (None, Some(user)) => {
            let user = UserId::new(users::checked_id(&hub, &user)?);
            match device {
                None => hub.disconnect_everywhere(&user, disconnect, reason).await,
                Some(device) => hub.disconnect_device_everywhere(&user, &device, disconnect, reason).await,
            }
        }
        _ => {
            let message = "say whom: `client`, the id of a connection; or `user`, and of its devices `device` if only one";
            return Err(ApiError::bad_request(message));
        }
    };
    Ok(Json(Disconnected { disconnected }))
}
