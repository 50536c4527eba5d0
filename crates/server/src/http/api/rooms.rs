//! Rooms: which there are, and what each has.

use axum::Json;
use axum::response::Response;
use outspoke_hub::protocol::{Durability, Event, Presence, UserId};
use outspoke_hub::{Action, ErrorCode, Hub, Listing, RoomInfo};
use serde::Serialize;

use super::error::ApiError;
use super::history::{encoded, json};
use super::input::{Named, Query};
use super::key::For;
use super::{Of, room_name};

/// A room.
#[derive(Debug, Serialize)]
pub(super) struct Room {
    room: String,
    members: usize,
    class: String,
    durability: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    first: u64,
    head: u64,
}

impl From<RoomInfo> for Room {
    fn from(info: RoomInfo) -> Self {
        Self {
            room: info.name.to_string(),
            members: info.members,
            class: info.class.to_string(),
            durability: match info.durability {
                Durability::Memory => "memory",
                Durability::Stored => "stored",
                _ => "none",
            },
            epoch: info.epoch.map(|epoch| epoch.to_string()),
            first: info.first,
            head: info.head,
        }
    }
}

/// A page of rooms.
#[derive(Debug, Serialize)]
pub(super) struct Rooms {
    rooms: Vec<Room>,
    /// What to give as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(Of(hub): Of, query: Query) -> Result<Json<Rooms>, ApiError> {
    query.only(&["prefix", "after", "limit"])?;
    let prefix = query.text("prefix").unwrap_or_default();
    let Listing { items, more } = hub.list_rooms(prefix, query.text("after"), query.limit()?).await?;
    let next = items.last().filter(|_| more).map(|last| last.name.to_string());
    Ok(Json(Rooms { rooms: items.into_iter().map(Room::from).collect(), next }))
}

pub(super) async fn one(asked: For, Named(name): Named, query: Query) -> Result<Json<Room>, ApiError> {
    query.only(&[])?;
    asked.check(Action::Join, &name).await?;
    let hub = asked.hub;
    hub.look_for_members(&name).await?;
    let info = hub.room(&name).await?.ok_or_else(unknown)?;
    Ok(Json(info.into()))
}

/// Who is in a room, in the form that clients of the native dialect get.
pub(super) async fn presence(asked: For, Named(name): Named, query: Query) -> Result<Response, ApiError> {
    query.only(&["after", "limit"])?;
    asked.check(Action::Presence, &name).await?;
    let hub = asked.hub;
    hub.look_for_members(&name).await?;
    exists(&hub, &name).await?;
    let after = query.text("after").map(UserId::new);
    let limit = query.limit()?;
    let presence = match hub.presence(&name, after.as_ref(), limit) {
        Some(presence) => presence,
        None if hub.config().rooms.of(&name).presence => Presence {
            request: None,
            room: room_name(&hub, &name)?,
            users: 0,
            members: 0,
            page: Vec::new(),
            next: None,
        },
        None => return Err(ApiError::new(ErrorCode::Forbidden, "this room does not tell who is in it")),
    };
    Ok(json(encoded(&hub, &Event::Presence(Box::new(presence)))?))
}

/// How far users have received and read a room, in the form that clients of the native dialect get.
pub(super) async fn receipts(asked: For, Named(name): Named, query: Query) -> Result<Response, ApiError> {
    query.only(&["after", "limit"])?;
    asked.check(Action::Presence, &name).await?;
    let hub = asked.hub;
    exists(&hub, &name).await?;
    let receipts = hub.receipts(&name, query.text("after"), query.limit()?).await?;
    Ok(json(encoded(&hub, &Event::Receipts(Box::new(receipts)))?))
}

/// Refuses what neither is nor was.
pub(super) async fn exists(hub: &Hub, name: &str) -> Result<(), ApiError> {
    hub.room(name).await?.map(drop).ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::not_found("there is no such room: nobody is in it, and it has no messages")
}
