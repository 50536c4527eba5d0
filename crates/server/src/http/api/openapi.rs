//! The description of the API, as OpenAPI 3.1: written by hand, served as it is, compared with the routes by a test.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

/// Where it is, in the API.
pub(super) const PATH: &str = "/openapi.json";

/// The description.
pub(super) const DOCUMENT: &str = include_str!("../../../openapi.json");

pub(super) async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}
