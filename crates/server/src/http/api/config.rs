//! The settings that are in force on this server, and where each of them was made.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::history::json;
use super::input::Query;
use crate::config::show::Document;
use crate::reload::Difference;

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    document: Document<'a>,
    /// What was read and counts after a restart.
    waiting: Vec<Difference>,
}

/// What `outspoke config show --format json` would say of this server as it runs; secrets are masked.
pub(super) async fn config(State(api): State<Api>, query: Query) -> Result<Response, ApiError> {
    query.only(&[])?;
    let Some(reloader) = api.reload.get() else {
        let message = "this server was not started from a configuration";
        return Err(ApiError::http(StatusCode::NOT_IMPLEMENTED, "not_implemented", message));
    };
    // It waits for a reload that is under way.
    let read = tokio::task::spawn_blocking(move || {
        let (loaded, waiting) = reloader.read_last();
        serde_json::to_vec(&Shown { document: Document::of(&loaded), waiting })
    });
    match read.await {
        Ok(Ok(payload)) => Ok(json(payload)),
        _ => Err(ApiError::http(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the settings could not be written down; see the log",
        )),
    }
}
