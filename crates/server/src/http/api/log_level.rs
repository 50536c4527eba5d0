//! What this server logs, changed for a while.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::input::{Body, Query, Whole};
use crate::log_level::LogLevel;

/// Longest time after which a level ends.
const SECONDS_MAX: u64 = 24 * 60 * 60;

/// What is logged.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Level {
    directives: String,
    configured: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
}

impl Level {
    fn of(level: &LogLevel) -> Self {
        let now = level.in_force();
        let seconds_left = now.left.map(|left| left.as_millis().div_ceil(1000) as u64);
        Self { directives: now.directives, configured: now.configured, seconds_left }
    }
}

pub(super) async fn get(State(api): State<Api>, query: Query) -> Result<Json<Level>, ApiError> {
    query.only(&[])?;
    Ok(Json(Level::of(level(&api)?)))
}

pub(super) async fn put(State(api): State<Api>, query: Query, body: Body) -> Result<Json<Level>, ApiError> {
    query.only(&[])?;
    let fields = body.fields(&["directives", "seconds"])?;
    let directives = match fields.raw("directives").map(|raw| raw.get()) {
        Some("null") => None,
        _ => Some(fields.required::<String>("directives")?),
    };
    let seconds = fields.optional::<Whole>("seconds")?.map(|seconds| seconds.0);
    if seconds.is_some_and(|seconds| !(1..=SECONDS_MAX).contains(&seconds)) {
        let message = format!("the field `seconds` must be a number from 1 to {SECONDS_MAX}");
        return Err(ApiError::bad_request(message));
    }
    if directives.is_none() && seconds.is_some() {
        return Err(ApiError::bad_request(
            "with `directives` null the configured level counts now: leave `seconds` out",
        ));
    }
    let level = level(&api)?;
    let asked = level.ask(directives.as_deref(), seconds.map(Duration::from_secs));
    asked.map_err(|error| ApiError::bad_request(format!("the field `directives`: {error}")))?;
    Ok(Json(Level::of(level)))
}

fn level(api: &Api) -> Result<&Arc<LogLevel>, ApiError> {
    let message = "this server's log is not its own to change";
    api.log_level
        .as_ref()
        .ok_or_else(|| ApiError::http(StatusCode::NOT_IMPLEMENTED, "not_implemented", message))
}
