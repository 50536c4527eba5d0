//! Reading the configuration again, on this server.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::Api;
use super::error::ApiError;
use super::input::Query;
use super::key::Caller;
use crate::reload::{Asker, ReloadError, Report};

/// Only for the application with a key that opens everything: reads the configuration again and puts it in force, or says what that would change.
pub(super) async fn reload(
    State(api): State<Api>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Report>, ApiError> {
    query.only(&["dry_run"])?;
    let dry_run = query.parsed("dry_run", "true or false")?.unwrap_or(false);
    let Some(reloader) = api.reload.get() else {
        let message = "this server does not read its configuration again";
        return Err(ApiError::http(StatusCode::NOT_IMPLEMENTED, "not_implemented", message));
    };
    let asker = Asker::Api(format!("{peer} ({})", caller.name()));
    // It reads files, and waits for other reloads.
    let done = tokio::task::spawn_blocking(move || reloader.reload(&asker, dry_run)).await;
    match done {
        Ok(Ok(report)) => Ok(Json(report)),
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => Err(ApiError::http(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the reload did not end; see the log",
        )),
    }
}

fn refused(error: &ReloadError) -> ApiError {
    let name = match error {
        ReloadError::Config(_) | ReloadError::Refused { .. } => "invalid_configuration",
        _ => "not_reloaded",
    };
    ApiError::http(StatusCode::UNPROCESSABLE_ENTITY, name, error.to_string())
}
