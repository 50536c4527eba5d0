//! Is the process alive, is it well, may it get connections?
//!
//! `/health` is for people and dashboards, `/healthz` for a liveness probe, `/readyz` for a load balancer.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use outspoke_hub::Hub;
use serde::Serialize;

/// The answer of `/health`.
#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    clients: usize,
    /// Whether clients are believed who they say they are: the page asks for a name then, and for a token otherwise.
    open: bool,
}

pub(super) async fn health(State(hub): State<Hub>) -> impl IntoResponse {
    let health = Health { status: "ok", clients: hub.client_count(), open: hub.authenticator().is_open() };
    ([(CACHE_CONTROL, "no-store")], Json(health))
}

pub(super) async fn alive() -> impl IntoResponse {
    ([(CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "status": "ok" })))
}

pub(super) async fn ready(State(hub): State<Hub>) -> impl IntoResponse {
    let (status, word) = match (hub.is_accepting(), hub.is_draining()) {
        (true, _) => (StatusCode::OK, "ready"),
        (false, true) => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        (false, false) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    (status, [(CACHE_CONTROL, "no-store")], Json(serde_json::json!({ "status": word })))
}
