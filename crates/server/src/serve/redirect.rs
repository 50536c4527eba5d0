//! The listener without TLS beside the one with it: sends browsers to https, and answers health checks.
//!
//! Nobody is sent to a host of a stranger's choice: `Host` counts only if one of the server's certificates is for it. A
//! WebSocket is never redirected, since clients do not follow; it is told where to go.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, HOST, LOCATION, UPGRADE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use outspoke_hub::Hub;

use super::tls::Certificates;
use super::tls::challenges::Challenges;
use crate::http;

/// Where requests are sent.
#[derive(Clone, Debug)]
pub(super) struct Redirect {
    /// Host and port, as configured.
    pub(super) host: Option<String>,
    /// The port where TLS is spoken, for hosts that are taken from requests.
    pub(super) port: u16,
    pub(super) certificates: Arc<Certificates>,
    /// What an authority that gives certificates looks for here.
    pub(super) challenges: Challenges,
}

/// Everything that is answered without TLS.
pub(super) fn routes(hub: &Hub, redirect: Redirect) -> Router {
    let routes = http::health_routes(hub)
        .route("/.well-known/acme-challenge/{token}", get(proof))
        .fallback(to_https)
        .with_state(redirect);
    http::with_security_headers(routes, std::time::Duration::ZERO)
}

/// RFC 8555 section 8.3: authorities begin without TLS.
async fn proof(State(redirect): State<Redirect>, Path(token): Path<String>) -> Response {
    match redirect.challenges.answer(&token) {
        Some(proof) => ([(CONTENT_TYPE, "application/octet-stream")], proof).into_response(),
        None => {
            refusal(StatusCode::NOT_FOUND, "not_found", "no certificate is being asked for with this token")
        }
    }
}

async fn to_https(State(redirect): State<Redirect>, request: Request) -> Response {
    let Some(host) = redirect.host(request.uri(), request.headers()) else {
        let message =
            "this request's Host is not one that this server has a certificate for; ask by its own name";
        return refusal(StatusCode::MISDIRECTED_REQUEST, "misdirected", message);
    };
    if wants_upgrade(request.headers()) {
        let message = format!("there are no WebSockets on this port: connect to wss://{host}");
        let mut response = refusal(StatusCode::UPGRADE_REQUIRED, "tls_required", &message);
        // RFC 9110 section 15.5.22: it must be said to what.
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("TLS/1.2, HTTP/1.1"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        return response;
    }
    let path = request.uri().path_and_query().map_or("/", uri::PathAndQuery::as_str);
    match HeaderValue::try_from(format!("https://{host}{path}")) {
        Ok(location) => (StatusCode::PERMANENT_REDIRECT, [(LOCATION, location)]).into_response(),
        Err(_) => {
            refusal(StatusCode::BAD_REQUEST, "bad_request", "the address has bytes that no header can carry")
        }
    }
}

fn refusal(status: StatusCode, error: &str, message: &str) -> Response {
    let body = serde_json::json!({ "error": error, "message": message }).to_string();
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE) || headers.contains_key("sec-websocket-key")
}

impl Redirect {
    fn host(&self, target: &uri::Uri, headers: &HeaderMap) -> Option<String> {
        if let Some(host) = &self.host {
            return Some(host.clone());
        }
        let asked = target.authority().map(uri::Authority::as_str);
        let asked = asked.or_else(|| headers.get(HOST)?.to_str().ok())?;
        let asked: uri::Authority = asked.parse().ok()?;
        // The port of the request is this listener's.
        let host = asked.host();
        if asked.as_str().contains('@') || !self.certificates.are_for(host) {
            return None;
        }
        Some(match self.port {
            443 => host.to_owned(),
            port => format!("{host}:{port}"),
        })
    }
}
