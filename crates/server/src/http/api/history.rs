//! What was said in a room: to read in pages, and to forget.
//!
//! Messages have the form that clients of the native dialect get.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use outspoke_hub::protocol::{Event, Message, PageFrom};
use outspoke_hub::{Action, Hub, Timestamp};
use serde::Serialize;

use super::error::ApiError;
use super::input::{Named, Query};
use super::key::For;
use super::{Of, rooms};

pub(super) async fn page(asked: For, Named(room): Named, query: Query) -> Result<Response, ApiError> {
    query.only(&["before", "after", "limit"])?;
    let (before, after) = (query.offset("before")?, query.offset("after")?);
    let from = match (before, after) {
        (None, None) => PageFrom::Newest,
        (Some(before), None) => PageFrom::Before(before),
        (_, Some(after)) => PageFrom::After(after),
    };
    let limit = query.limit()?;
    asked.check(Action::History, &room).await?;
    let hub = asked.hub;
    rooms::exists(&hub, &room).await?;
    let mut history = hub.history(&room, from, limit).await?;
    if let (Some(before), Some(_)) = (before, after) {
        let in_bounds = |message: &Message| message.position.is_some_and(|position| position.offset < before);
        let read = history.messages.len();
        history.messages.retain(in_bounds);
        history.more &= history.messages.len() == read;
    }
    Ok(json(encoded(&hub, &Event::History(Box::new(history)))?))
}

/// What was forgotten.
#[derive(Debug, Serialize)]
pub(super) struct Cleared {
    room: String,
}

pub(super) async fn clear(Of(hub): Of, Named(room): Named, query: Query) -> Result<Json<Cleared>, ApiError> {
    query.only(&[])?;
    hub.clear_history(&room).await?;
    Ok(Json(Cleared { room }))
}

/// An event as clients of the native dialect get it.
pub(super) fn encoded(hub: &Hub, event: &Event) -> Result<Vec<u8>, ApiError> {
    let native = hub.dialects().iter().find(|dialect| dialect.name() == "native");
    let mut payload = Vec::new();
    match native.and_then(|native| native.encode(event, &mut payload)) {
        Some(_) => Ok(payload),
        None => {
            let message = "this server does not speak the native dialect, in which messages are written";
            Err(ApiError::http(StatusCode::NOT_IMPLEMENTED, "not_implemented", message))
        }
    }
}

pub(super) fn json(payload: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], payload).into_response()
}

/// A time as clients get it.
pub(super) fn timestamp(at: Timestamp) -> String {
    String::from_utf8_lossy(&at.to_rfc3339()).into_owned()
}
