//! Which other sites' pages may use the HTTP API.
//!
//! Those that may connect by name ([`OriginPolicy`](outspoke_hub::OriginPolicy)): one list for both. Nothing that browsers
//! send by themselves counts: pages send the key. A preflight request has none, so it is answered before keys are asked for.

use std::time::Duration;

use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, Method};
use outspoke_hub::Hub;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long browsers may remember what they were allowed.
const REMEMBERED: Duration = Duration::from_secs(600);

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
