//! Users: who is connected; and everything that is kept of one, to hand out or to erase.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use outspoke_files::Record;
use outspoke_hub::protocol::{Event, UserId};
use outspoke_hub::{ErrorCode, Hub, Listing, UserDataPlace, UserDatum};
use serde::Serialize;

use super::across::{Order, Part, Question, Row, Silent};
use super::error::ApiError;
use super::history::encoded;
use super::input::{Named, Query};
use super::{Api, Of};

/// A user who is connected.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct User {
    user_id: String,
    /// On all nodes together.
    clients: u64,
    nodes: Vec<String>,
}

/// A page of users.
#[derive(Debug, Serialize)]
pub(super) struct Users {
    users: Vec<User>,
    /// What to give as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    /// Nodes whose connections are not counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    silent: Vec<Silent>,
}

/// Those of all nodes.
pub(super) async fn list(State(api): State<Api>, Of(hub): Of, query: Query) -> Result<Json<Users>, ApiError> {
    query.only(&["after", "limit"])?;
    let (after, limit) = (query.text("after").map(str::to_owned), query.limit()?);
    let question = Question::Users { tenant: hub.tenant().to_owned(), after: after.clone(), limit };
    let own = async { part(hub.list_users(after.as_deref(), limit)) };
    let page = api.page_of_all(&question, Order::Rising, limit, own).await;
    Ok(Json(Users { users: users(page.rows), next: page.next, silent: page.silent }))
}

/// A page of the users who are connected to this node, for another node; aside and `None` as with
/// [connections](super::clients::page_aside).
pub(super) async fn page_aside(hub: Hub, after: Option<String>, limit: usize) -> Option<Part> {
    let looking = tokio::task::spawn_blocking(move || hub.list_users(after.as_deref(), limit));
    looking.await.ok().map(part)
}

fn part(listing: Listing<(UserId, usize)>) -> Part {
    let row = |(user, clients): (UserId, usize)| Row { place: user.to_string(), row: clients.into() };
    Part { rows: listing.items.into_iter().map(row).collect(), more: listing.more }
}

/// What each node says of a user, put together. The rows are in the order of the users.
fn users(rows: Vec<(String, Row)>) -> Vec<User> {
    let mut users: Vec<User> = Vec::new();
    for (node, Row { place: user_id, row }) in rows {
        let clients = row.as_u64().unwrap_or_default();
        match users.last_mut().filter(|user| user.user_id == user_id) {
            Some(user) => {
                user.clients += clients;
                user.nodes.push(node);
            }
            None => users.push(User { user_id, clients, nodes: vec![node] }),
        }
    }
    for user in &mut users {
        user.nodes.sort_unstable();
    }
    users
}

/// What was erased.
#[derive(Debug, Serialize)]
pub(super) struct Erased {
    user: String,
    messages: u64,
    facts: u64,
    files: usize,
}

pub(super) async fn erase(
    State(api): State<Api>,
    Of(hub): Of,
    Named(user): Named,
    query: Query,
) -> Result<Json<Erased>, ApiError> {
    query.only(&[])?;
    let user = checked_id(&hub, &user)?;
    let erased = hub.erase_user(&user).await?;
    let files = match &api.files {
        Some(door) => door.erase(hub.tenant(), Some(&user)).await?,
        None => 0,
    };
    tracing::info!(messages = erased.messages, facts = erased.facts, files, "a user's data was erased");
    Ok(Json(Erased { user, messages: erased.messages, facts: erased.facts, files }))
}

/// The last line of an export: without it, something is missing.
#[derive(Debug, Serialize)]
struct End<'a> {
    r#type: &'static str,
    user: &'a str,
    items: u64,
}

/// A fact that names the user.
#[derive(Debug, Serialize)]
struct Fact<'a> {
    r#type: &'static str,
    family: &'a str,
    about: Vec<&'a str>,
    /// As it is stored, in hexadecimal digits.
    value: String,
}

/// What is known of a file of the user's. Its content is had by its link, or from the folder by its hash.
#[derive(Debug, Serialize)]
struct File<'a> {
    r#type: &'static str,
    file: &'a Record,
}

/// What is still to be written of an export.
struct Export {
    hub: Hub,
    files: Vec<Record>,
    user: String,
    place: Option<UserDataPlace>,
    begun: bool,
    items: u64,
}

impl Export {
    /// The next lines; `None` after the last.
    async fn next(mut self) -> Result<Option<(Bytes, Option<Self>)>, ApiError> {
        loop {
            if self.begun && self.place.is_none() {
                let end = End { r#type: "end", user: &self.user, items: self.items };
                return Ok(Some((Bytes::from(line(&end)), None)));
            }
            if !self.files.is_empty() {
                let files = std::mem::take(&mut self.files);
                self.items += files.len() as u64;
                let lines = files.iter().flat_map(|file| line(&File { r#type: "file", file })).collect();
                return Ok(Some((lines, Some(self))));
            }
            let (data, next) = self.hub.user_data(&self.user, self.place.take()).await?;
            (self.begun, self.place) = (true, next);
            if data.is_empty() {
                continue;
            }
            let mut lines = Vec::new();
            for datum in data {
                self.items += 1;
                match datum {
                    UserDatum::Message(message) => {
                        lines.extend(encoded(&self.hub, &Event::Message(*message))?);
                        lines.push(b'\n');
                    }
                    UserDatum::Fact { family, about, value } => {
                        let about = about.iter().map(|part| part.as_str()).collect();
                        let value = value.iter().map(|byte| format!("{byte:02x}")).collect();
                        lines.extend(line(&Fact { r#type: "fact", family, about, value }));
                    }
                    _ => {}
                }
            }
            return Ok(Some((Bytes::from(lines), Some(self))));
        }
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("structs of texts and numbers are JSON");
    line.push(b'\n');
    line
}

/// JSON lines, as they are read. A store that goes away in the middle ends the stream without its end.
pub(super) async fn export(
    State(api): State<Api>,
    Of(hub): Of,
    Named(user): Named,
    query: Query,
) -> Result<Response, ApiError> {
    query.only(&[])?;
    let user = checked_id(&hub, &user)?;
    let files = match &api.files {
        Some(door) => door.of_user(hub.tenant(), &user).await?,
        None => Vec::new(),
    };
    let export = Export { hub, files, user, place: None, begun: false, items: 0 };
    // Begun before the status is sent, so that a store that is away can still be told.
    let first = export.next().await?;
    let lines = stream::try_unfold(Some(first), |state| async move {
        match state {
            None => Ok(None),
            Some(None) => Ok(None),
            Some(Some((lines, rest))) => {
                let next = match rest {
                    Some(export) => Some(export.next().await.map_err(|error| {
                        let error = error.into_body();
                        tracing::warn!(error = ?error, "the export of a user's data was broken off");
                        std::io::Error::other("broken off")
                    })?),
                    None => None,
                };
                Ok::<_, std::io::Error>(Some((lines, next)))
            }
        }
    });
    let headers = [
        (CONTENT_TYPE, "application/jsonl"),
        (CONTENT_DISPOSITION, "attachment; filename=\"user-data.jsonl\""),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
}

/// A user's id as a connection may have it.
pub(super) fn checked_id(hub: &Hub, user: &str) -> Result<String, ApiError> {
    let max = hub.config().user_id_bytes_max;
    if user.is_empty() || user.len() > max || user.chars().any(char::is_control) {
        let message = format!("a user's id has 1 to {max} bytes and no control characters");
        return Err(ApiError::new(ErrorCode::InvalidIdentity, message));
    }
    Ok(UserId::new(user).to_string())
}

/// A user's name as a connection may have it.
pub(super) fn checked_name(hub: &Hub, name: &str) -> Result<String, ApiError> {
    let (len, max) = (name.chars().count(), hub.config().username_chars_max);
    if len > max {
        let message = format!("username has {len} characters; at most {max} are allowed");
        return Err(ApiError::new(ErrorCode::UsernameTooLong, message));
    }
    if name.chars().any(char::is_control) {
        return Err(ApiError::new(ErrorCode::InvalidIdentity, "username has control characters"));
    }
    Ok(name.trim().to_owned())
}
