//! Which other sites' pages may use the HTTP API.
//!
//! Those that may connect by name ([`OriginPolicy`](outspoke_hub::OriginPolicy)): one list for both. Nothing that browsers
//! send by themselves counts: pages send the key. A preflight request has none, so it is answered before keys are asked for.

use std::time::Duration;

use axum::http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, LOCATION,
    RANGE, RETRY_AFTER,
};
use axum::http::{HeaderName, Method};
use outspoke_hub::Hub;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long browsers may remember what they were allowed.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What the tus protocol says in headers of requests.
const TUS_REQUEST: [&str; 9] = [
    "tus-resumable",
    "upload-length",
    "upload-offset",
    "upload-metadata",
    "upload-checksum",
    "upload-defer-length",
    "x-http-method-override",
    "x-request-id",
    "x-requested-with",
];

/// What the tus protocol says in headers of answers.
const TUS_ANSWER: [&str; 9] = [
    "tus-resumable",
    "tus-version",
    "tus-extension",
    "tus-max-size",
    "tus-checksum-algorithm",
    "upload-length",
    "upload-offset",
    "upload-metadata",
    "upload-expires",
];

/// The layer around the files: the same pages, and what clients of the tus protocol send and read besides.
pub(super) fn files_layer(hub: &Hub) -> CorsLayer {
    let hub = hub.clone();
    let listed = AllowOrigin::predicate(move |origin, _| hub.config().origins.allows_by_name(origin));
    let request = [AUTHORIZATION, CONTENT_TYPE, RANGE, IF_RANGE].into_iter();
    let answer = [RETRY_AFTER, LOCATION, ETAG, ACCEPT_RANGES, CONTENT_RANGE, CONTENT_DISPOSITION].into_iter();
    CorsLayer::new()
        .allow_origin(listed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers(request.chain(TUS_REQUEST.map(HeaderName::from_static)).collect::<Vec<_>>())
        .expose_headers(answer.chain(TUS_ANSWER.map(HeaderName::from_static)).collect::<Vec<_>>())
        .max_age(REMEMBERED)
}

/// The layer around the API. It follows the hub's configuration.
pub(super) fn layer(hub: &Hub) -> CorsLayer {
    let hub = hub.clone();
    let listed = AllowOrigin::predicate(move |origin, _| hub.config().origins.allows_by_name(origin));
    CorsLayer::new()
        .allow_origin(listed)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("x-tenant")])
        .expose_headers([RETRY_AFTER])
        .max_age(REMEMBERED)
}
