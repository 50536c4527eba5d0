//! Connections: which there are on all nodes, and away with some.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use outspoke_hub::protocol::Disconnect;
use outspoke_hub::{Client, ClientId, ConnectionState, ErrorCode, Hub, Listing, RoomPlace, UserId};
use serde::Serialize;
use serde_json::Value;

use super::across::{Order, Part, Question, Row, Silent, with_nodes};
use super::audit::own_id;
use super::error::ApiError;
use super::input::{Body, Fields, Named, Query};
use super::{Api, Of, users};

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
    /// For how long it has taken nothing of what waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_queued_ms: Option<u64>,
    /// Of the last answered ping.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    /// An operator slows it down.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    slowed: bool,
}

/// A connection looked at closely.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Close {
    #[serde(flatten)]
    connection: Connection,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    rooms: Vec<Place>,
    /// Rooms that are not told, since another node has the connection and they were too many for one answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    more_rooms: Option<usize>,
}

/// How far it has come in a room.
#[derive(Debug, Serialize)]
struct Place {
    room: String,
    joined: u64,
    offset: u64,
    head: u64,
    behind: u64,
}

impl From<RoomPlace> for Place {
    fn from(place: RoomPlace) -> Self {
        let behind = place.head.saturating_sub(place.offset);
        Self {
            room: place.room.to_string(),
            joined: place.joined,
            offset: place.offset,
            head: place.head,
            behind,
        }
    }
}

impl Connection {
    fn new(hub: &Hub, client: &Client, state: Option<&ConnectionState>) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
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
            oldest_queued_ms: state.and_then(|state| state.stuck).map(millis),
            round_trip_ms: state
                .and_then(|state| state.round_trip)
                .map(|took| took.as_micros() as f64 / 1000.0),
            slowed: state.is_some_and(|state| state.slowed),
        }
    }
}

/// A page of connections.
#[derive(Debug, Serialize)]
pub(super) struct Connections {
    /// Each with its node.
    clients: Vec<Value>,
    /// What to give as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Nodes whose connections are not among these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<Silent>,
}

/// Those of all nodes.
pub(super) async fn list(
    State(api): State<Api>,
    Of(hub): Of,
    query: Query,
) -> Result<Json<Connections>, ApiError> {
    query.only(&["user", "after", "limit"])?;
    let after = query.parsed::<ClientId>("after", "a client's id")?;
    let (user, limit) = (query.text("user").map(str::to_owned), query.limit()?);
    let question = Question::Clients {
        tenant: hub.tenant().to_owned(),
        user: user.clone(),
        after: after.map(|after| after.to_string()),
        limit,
    };
    let own = async {
        let listing = hub.list_clients(user.as_deref(), after, limit);
        part(&hub, listing).await
    };
    let page = api.page_of_all(&question, Order::Rising, limit, own).await;
    Ok(Json(Connections { clients: with_nodes(page.rows), next: page.next, silent: page.silent }))
}

/// A page of this node's connections, for another node. Looking through all of them takes its time where they are many, which
/// the thread that hears the bus does not have. `None`: the server stops.
pub(super) async fn page_aside(
    hub: Hub,
    user: Option<String>,
    after: Option<ClientId>,
    limit: usize,
) -> Option<Part> {
    let of = hub.clone();
    let looking = tokio::task::spawn_blocking(move || of.list_clients(user.as_deref(), after, limit));
    Some(part(&hub, looking.await.ok()?).await)
}

async fn part(hub: &Hub, listing: Listing<Arc<Client>>) -> Part {
    let Listing { items, more } = listing;
    let states = hub.connection_states(&items, false).await;
    let row = |(client, state): (&Arc<Client>, &Option<ConnectionState>)| {
        let row = serde_json::to_value(Connection::new(hub, client, state.as_ref())).ok()?;
        Some(Row { place: client.id().to_string(), row })
    };
    Part { rows: items.iter().zip(&states).filter_map(row).collect(), more }
}

/// One connection with its rooms, on whichever node it is.
pub(super) async fn one(
    State(api): State<Api>,
    Of(hub): Of,
    Named(client): Named,
    query: Query,
) -> Result<Json<Value>, ApiError> {
    query.only(&[])?;
    let id = parsed(&client)?;
    let (node, mut known) = match close_here(&hub, id).await {
        Some(close) => (api.node_name(own_id(&hub)), serde_json::to_value(close).unwrap_or_default()),
        None => {
            let question = Question::Client { tenant: hub.tenant().to_owned(), client: id.to_string() };
            api.first_of_all(&question).await.map_err(|silent| nowhere(&silent))?
        }
    };
    known["node"] = node.into();
    Ok(Json(known))
}

/// No node that has answered has a connection.
fn nowhere(silent: &[Silent]) -> ApiError {
    if silent.is_empty() {
        return ApiError::new(ErrorCode::ClientNotFound, "no node has such a connection");
    }
    let silent: Vec<String> =
        silent.iter().map(|silent| format!("{} ({})", silent.node, silent.why)).collect();
    let message = format!(
        "no node that answered has such a connection, and of these it is not known: {}",
        silent.join(", ")
    );
    ApiError::new(ErrorCode::Unavailable, message)
}

/// One of this node's connections, with its rooms.
pub(super) async fn close_here(hub: &Hub, id: ClientId) -> Option<Close> {
    let client = hub.client(id).filter(|client| client.identity().tenant == hub.tenant())?;
    let state = hub.connection_states(std::slice::from_ref(&client), true).await.pop().flatten()?;
    Some(Close {
        connection: Connection::new(hub, &client, Some(&state)),
        address: client.address().map(|address| address.ip().to_string()),
        rooms: state.rooms.into_iter().map(Place::from).collect(),
        more_rooms: None,
    })
}

impl Close {
    /// With as many of its rooms as fit into so many bytes.
    pub(super) fn cut(mut self, bytes_max: usize) -> Self {
        while !self.rooms.is_empty() && serde_json::to_vec(&self).is_ok_and(|json| json.len() > bytes_max) {
            let fewer = self.rooms.len() / 2;
            *self.more_rooms.get_or_insert_default() += self.rooms.len() - fewer;
            self.rooms.truncate(fewer);
        }
        self
    }
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

impl Disconnected {
    pub(super) fn one() -> Self {
        Self { disconnected: 1 }
    }
}

/// The words with which a connection is ended.
pub(super) fn reason(fields: &Fields<'_>, disconnect: Disconnect) -> Result<String, ApiError> {
    let reason = fields.optional::<String>("reason")?;
    let reason = reason.unwrap_or_else(|| disconnect.reason().to_owned());
    if reason.len() > REASON_BYTES_MAX {
        let message =
            format!("the field `reason` has {} bytes; a close frame takes {REASON_BYTES_MAX}", reason.len());
        return Err(ApiError::bad_request(message));
    }
    Ok(reason)
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
    let reason = &reason(&fields, disconnect)?;
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
