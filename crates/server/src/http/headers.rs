//! What every response tells browsers not to do with it.
//!
//! One layer around all routes: what a handler has set itself, as the pages do, stays. Answers of the HTTP parser itself
//! (to a header that is too long, or is none) never come here; they have no body that anything could be done with.

use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use outspoke_hub::Reached;

/// For answers to programs: nothing in them is to be run, shown in a frame, or loaded by other sites' pages without CORS.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
];

/// Puts them on every response of these routes.
///
/// `hsts`: how long browsers are to use TLS alone, where the request came over it; zero: nothing is said of that.
pub(crate) fn with_security_headers(routes: Router, hsts: Duration) -> Router {
    let hsts = (!hsts.is_zero()).then(|| format!("max-age={}", hsts.as_secs()));
    let hsts = hsts.and_then(|value| HeaderValue::try_from(value).ok());
    routes.layer(from_fn_with_state(hsts, secure))
}

async fn secure(State(hsts): State<Option<HeaderValue>>, request: Request, next: Next) -> Response {
    // RFC 6797 section 7.2: never over plain HTTP.
    let over_tls = request.extensions().get::<Reached>().is_some_and(|reached| reached.secure == Some(true));
    let mut response = next.run(request).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(hsts) = hsts.filter(|_| over_tls) {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts);
    }
    response
}
