//! What Prometheus asks for: `/metrics`, on a listener of its own, or with a key as a part of the API.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use outspoke_hub::Hub;

use super::{Kept, health_routes};
use crate::metrics::Exposition;

/// Everything that the listener for metrics answers.
pub(crate) fn routes(hub: &Hub, kept: &Kept) -> Router {
    let routes =
        Router::new().route("/metrics", get(scrape)).with_state(Exposition::new(hub, &kept.refusals));
    super::with_security_headers(
        health_routes(hub).merge(routes).fallback(super::not_found),
        std::time::Duration::ZERO,
    )
}

async fn scrape(State(exposition): State<Exposition>, headers: HeaderMap) -> Response {
    answer(exposition, headers).await
}

/// Looks at everything beside the threads that serve: with very many connections that takes a moment.
pub(super) async fn answer(exposition: Exposition, headers: HeaderMap) -> Response {
    let answered = tokio::task::spawn_blocking(move || exposition.answer(&headers)).await;
    answered.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
