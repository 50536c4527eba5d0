//! The HTTP API: what the application that owns the hub asks of it.
//!
//! One module per noun, one table of routes ([`routes`]), which `openapi.json` describes and a test compares. Everything
//! but that description needs a [key](key), or a user's token. A request is for one tenant, which the header `X-Tenant` names. Bodies and
//! answers are JSON; what is read strictly is told precisely ([`input`], [`error`]).

mod analytics;
mod clients;
#[cfg(test)]
mod cluster_tests;
pub(in crate::http) mod error;
mod history;
mod input;
mod key;
#[cfg(test)]
mod matrix_tests;
mod messages;
mod nodes;
mod openapi;
mod publish;
mod reload;
mod rooms;
mod rulings;
mod said;
mod tenants;
mod throttle;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, post, put};
use outspoke_hub::{Hub, RoomName};

use self::error::ApiError;
use self::key::{Guesses, Keys};
use self::throttle::Throttles;
pub(crate) use self::throttle::throttled;
use super::files::Door;
use crate::config::settings;
use crate::metrics::Exposition;
use crate::reload::Handle;

/// Where the API is.
pub(crate) const BASE: &str = "/api/v1";

/// The header that names the tenant.
const TENANT: &str = "x-tenant";

/// What every request needs.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    hub: Hub,
    keys: Arc<Keys>,
    body_bytes_max: usize,
    tenants: bool,
    /// What this server is called where it is the only one.
    name: Arc<str>,
    reload: Handle,
    files: Option<Door>,
    metrics: Exposition,
}

/// What outlives the routes: they are made anew when the configuration is another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    guesses: Arc<Guesses>,
    throttles: Arc<Throttles>,
    pub(crate) reload: Handle,
    /// Where users' files are, if any are taken.
    pub(crate) files: Option<Door>,
}

impl Kept {
    /// With users' files, if any are taken.
    pub(crate) fn with_files(files: Option<Door>) -> Self {
        Self { files, ..Self::default() }
    }
}

impl Api {
    pub(crate) fn new(
        hub: &Hub,
        api: &settings::Api,
        tenants: &settings::Tenants,
        name: &str,
        kept: &Kept,
    ) -> Self {
        Self {
            hub: hub.clone(),
            keys: Arc::new(Keys::new(api, &kept.guesses)),
            body_bytes_max: api.body_bytes_max,
            tenants: tenants.enabled,
            name: name.into(),
            reload: kept.reload.clone(),
            files: kept.files.clone(),
            metrics: Exposition::new(hub),
        }
    }
}

impl FromRef<Api> for Hub {
    fn from_ref(api: &Api) -> Self {
        api.hub.clone()
    }
}

/// A path, its methods, and who answers.
struct Route {
    path: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with the description"))]
    methods: &'static [&'static str],
    handler: MethodRouter<Api>,
}

/// Every route that needs a key.
fn table() -> Vec<Route> {
    let route = |path, methods, handler| Route { path, methods, handler };
    vec![
        route("/publish", &["post"], post(publish::one)),
        route("/publish/batch", &["post"], post(publish::batch)),
        route("/broadcast", &["post"], post(messages::broadcast)),
        route("/rooms", &["get"], get(rooms::list)),
        route("/rooms/{room}", &["get"], get(rooms::one)),
        route("/rooms/{room}/presence", &["get"], get(rooms::presence)),
        route("/rooms/{room}/history", &["get", "delete"], get(history::page).delete(history::clear)),
        route("/rooms/{room}/receipts", &["get"], get(rooms::receipts)),
        route("/rooms/{room}/messages/{offset}", &["delete"], delete(messages::delete)),
        route("/rooms/{room}/members/{user}/remove", &["post"], post(rulings::remove)),
        route("/rooms/{room}/members/{user}/readmit", &["post"], post(rulings::readmit)),
        route("/clients", &["get"], get(clients::list)),
        route("/clients/{client}/messages", &["post"], post(messages::to_client)),
        route("/users", &["get"], get(users::list)),
        route("/users/{user}/messages", &["post"], post(messages::to_user)),
        route("/users/{user}/data", &["get", "delete"], get(users::export).merge(delete(users::erase))),
        route("/users/{user}/revoke", &["post"], post(rulings::revoke_user)),
        route(
            "/users/{user}/permissions",
            &["put", "delete"],
            put(rulings::set_permissions).delete(rulings::restore_permissions),
        ),
        route("/tokens/{token}/revoke", &["post"], post(rulings::revoke_token)),
        route("/rulings", &["get"], get(rulings::list)),
        route("/rulings/{ruling}", &["delete"], delete(rulings::lift)),
        route("/disconnect", &["post"], post(clients::disconnect)),
        route("/tenants", &["get"], get(tenants::list)),
        route(
            "/tenants/{tenant}",
            &["get", "put", "delete"],
            get(tenants::one).put(tenants::put).delete(tenants::remove),
        ),
        route("/nodes", &["get"], get(nodes::list)),
        route("/nodes/{node}", &["get"], get(nodes::one)),
        route("/nodes/{node}/drain", &["post"], post(nodes::drain)),
        route("/nodes/{node}/resume", &["post"], post(nodes::resume)),
        route("/cluster/check", &["post"], post(nodes::check)),
        route("/reload", &["post"], post(reload::reload)),
        route("/affinity", &["get"], get(nodes::affinity)),
        route("/metrics", &["get"], get(metrics)),
        route("/analytics", &["get"], get(analytics::tenant)),
        route("/analytics/rooms", &["get"], get(analytics::top)),
        route("/analytics/rooms/{room}", &["get"], get(analytics::room)),
    ]
}

/// The API, to be mounted at [`BASE`].
pub(crate) fn routes(api: Api) -> Router {
    let locked =
        table().into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler));
    locked
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(api.clone(), key::check))
        .route(openapi::PATH, get(openapi::document))
        .layer(map_response(uncached))
        .with_state(api)
}

/// What the server counts, of all tenants.
async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Response {
    super::metrics::answer(api.metrics.clone(), headers).await
}

async fn unknown_path(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::not_found(format!(
        "there is nothing at {BASE}{path}; {BASE}{} lists what there is",
        openapi::PATH
    ))
}

async fn wrong_method(method: Method) -> ApiError {
    let message = format!("{method} is not what this path understands; the Allow header lists what is");
    ApiError::http(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}

/// Answers are about this moment.
async fn uncached(mut response: Response) -> Response {
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The hub, for the tenant of the request: of the application, which may name any. See also [`key::For`].
#[derive(Debug)]
struct Of(Hub);

impl FromRequestParts<Api> for Of {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let Some(tenant) = parts.headers.get(TENANT) else { return Ok(Self(api.hub.clone())) };
        if !api.tenants {
            let message = "this server has no tenants: set tenants.enabled, or leave the header X-Tenant out";
            return Err(ApiError::bad_request(message));
        }
        let name = tenant.to_str().unwrap_or_default();
        if !is_tenant_name(name) {
            let message =
                "the header X-Tenant must be 1 to 64 letters, digits, -, _ and ., and begin with no dot";
            return Err(ApiError::bad_request(message));
        }
        Ok(Self(api.hub.known_tenant(name)?))
    }
}

fn is_tenant_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with('.')
}

/// A room's name, checked as the hub would.
fn room_name(hub: &Hub, name: &str) -> Result<RoomName, ApiError> {
    Ok(RoomName::new(name, hub.config().room_name_bytes_max)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// A description that lags behind is worse than none.
    #[test]
    fn every_route_is_described_and_every_description_is_routed() {
        let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                described.insert((path.clone(), method.clone()));
            }
        }
        let mut routed: BTreeSet<_> = table()
            .iter()
            .flat_map(|route| {
                route.methods.iter().map(|method| (route.path.to_owned(), (*method).to_owned()))
            })
            .collect();
        routed.insert((openapi::PATH.to_owned(), "get".to_owned()));
        assert_eq!(routed, described);
    }

    #[test]
    fn description_names_this_version_and_this_base() {
        let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(document["servers"][0]["url"], BASE);
    }
}
