//! Figures: what was said, by how many, when.

use std::ops::Range;

use axum::Json;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use outspoke_hub::{Grain, Timestamp};
use serde::Serialize;

use super::Of;
use super::error::ApiError;
use super::history::timestamp;
use super::input::{Named, Query};

/// Spans where the request does not say from when.
const USUAL: (i64, i64) = (24, 30);

/// An hour or a day of the tenant.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    begin: String,
    messages: u64,
    users: u64,
    users_exact: bool,
    rooms: u64,
    messages_per_minute_max: u64,
    connections_max: u64,
}

/// Figures in their order.
#[derive(Debug, Serialize)]
pub(super) struct Series<T> {
    by: &'static str,
    spans: Vec<T>,
}

pub(super) async fn tenant(Of(hub): Of, query: Query) -> Result<Json<Series<impl Serialize>>, ApiError> {
    query.only(&["by", "from", "until"])?;
    let (grain, by, time) = time_of(&query)?;
    let figures = hub.figures(grain, time).await?;
    let span = |figures: outspoke_hub::Figures| Span {
        begin: timestamp(figures.begin),
        messages: figures.messages,
        users: figures.users,
        users_exact: figures.users_exact,
        rooms: figures.rooms,
        messages_per_minute_max: figures.minute_max,
        connections_max: figures.connections_max,
    };
    Ok(Json(Series { by, spans: figures.into_iter().map(span).collect::<Vec<_>>() }))
}

/// An hour or a day of a room.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomSpan {
    begin: String,
    messages: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    users: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    users_exact: Option<bool>,
}

pub(super) async fn room(
    Of(hub): Of,
    Named(room): Named,
    query: Query,
) -> Result<Json<Series<impl Serialize>>, ApiError> {
    query.only(&["by", "from", "until"])?;
    let (grain, by, time) = time_of(&query)?;
    let figures = hub.room_figures(&room, grain, time).await?;
    let span = |figures: outspoke_hub::RoomFigures| RoomSpan {
        begin: timestamp(figures.begin),
        messages: figures.messages,
        users: figures.users,
        users_exact: figures.users.map(|_| figures.users_exact),
    };
    Ok(Json(Series { by, spans: figures.into_iter().map(span).collect::<Vec<_>>() }))
}

/// A busy room.
#[derive(Debug, Serialize)]
struct Busy {
    room: String,
    messages: u64,
}

/// The busiest rooms of a day.
#[derive(Debug, Serialize)]
pub(super) struct Top {
    day: String,
    rooms: Vec<Busy>,
}

pub(super) async fn top(Of(hub): Of, query: Query) -> Result<Json<Top>, ApiError> {
    query.only(&["day", "limit"])?;
    let today = || jiff::Timestamp::now().to_zoned(TimeZone::UTC).date();
    let day = query.parsed::<Date>("day", "a date as 2026-01-31")?.unwrap_or_else(today);
    let limit = query.limit()?;
    let begin = day
        .to_zoned(TimeZone::UTC)
        .map_err(|_| ApiError::bad_request("the parameter `day` is out of range"))?;
    let rooms = hub.top_rooms(Timestamp::from_millis(begin.timestamp().as_millisecond())).await?;
    let rooms = rooms.into_iter().map(|(room, messages)| Busy { room: room.to_string(), messages });
    Ok(Json(Top { day: day.to_string(), rooms: rooms.take(limit).collect() }))
}

fn time_of(query: &Query) -> Result<(Grain, &'static str, Range<Timestamp>), ApiError> {
    let (grain, by, usual) = match query.text("by") {
        None | Some("hour") => (Grain::Hour, "hour", USUAL.0),
        Some("day") => (Grain::Day, "day", USUAL.1),
        Some(_) => return Err(ApiError::bad_request("the parameter `by` must be hour or day")),
    };
    let time = |name| {
        let parsed = query.parsed::<jiff::Timestamp>(name, "a time as 2026-01-31T12:00:00Z")?;
        Ok::<_, ApiError>(parsed.map(|at| at.as_millisecond()))
    };
    let until = time("until")?.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond() + 1);
    let from = time("from")?.unwrap_or_else(|| until.saturating_sub((usual - 1) * grain.millis()));
    Ok((grain, by, Timestamp::from_millis(from)..Timestamp::from_millis(until)))
}
