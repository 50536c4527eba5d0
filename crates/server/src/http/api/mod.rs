//! The HTTP API: what the application that owns the hub asks of it.
//!
//! One module per noun, one table of routes ([`routes`]), which `openapi.json` describes and a test compares. Everything
//! but that description needs a [key](key), or a user's token. A request is for one tenant, which the header `X-Tenant` names. Bodies and
//! answers are JSON; what is read strictly is told precisely ([`input`], [`error`]).

mod across;
#[cfg(test)]
mod across_tests;
mod analytics;
mod audit;
mod clients;
#[cfg(test)]
mod cluster_tests;
mod config;
pub(in crate::http) mod error;
mod explain;
mod history;
mod input;
mod inspect;
mod key;
mod log_level;
#[cfg(test)]
mod matrix_tests;
mod messages;
mod nodes;
mod openapi;
mod publish;
pub(crate) mod refusals;
mod reload;
mod rooms;
mod rulings;
mod said;
mod tenants;
mod throttle;
#[cfg(test)]
mod user_tests;
mod users;
mod whoami;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{MethodRouter, any, delete, get, post, put};
use outspoke_hub::{Hub, RoomName};

pub(crate) use self::across::Answers;
use self::audit::Audit;
use self::error::ApiError;
use self::key::{Guesses, Keys, Of};
use self::refusals::Refusals;
use self::throttle::Throttles;
pub(crate) use self::throttle::throttled;
use super::files::Door;
use crate::config::settings;
use crate::log_level::LogLevel;
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
    audit: Arc<Audit>,
    log_level: Option<Arc<LogLevel>>,
    /// What is about servers is answered here.
    pub(in crate::http) for_operators: bool,
}

/// What outlives the routes: they are made anew when the configuration is another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    guesses: Arc<Guesses>,
    throttles: Arc<Throttles>,
    /// What was refused over HTTP.
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) reload: Handle,
    audit: Arc<Audit>,
    /// Operators have a listener of their own, in this life of the server.
    pub(crate) operators_apart: bool,
    /// What is logged, where that is this server's to change.
    pub(crate) log_level: Option<Arc<LogLevel>>,
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
            metrics: Exposition::new(hub, &kept.refusals),
            audit: Arc::clone(&kept.audit),
            log_level: kept.log_level.clone(),
            for_operators: true,
        }
    }
}

impl Api {
    /// Whether what is asked at a path is answered here.
    fn answers(&self, path: &str) -> bool {
        self.for_operators || !OPERATORS.contains(&path)
    }
}

impl FromRef<Api> for Hub {
    fn from_ref(api: &Api) -> Self {
        api.hub.clone()
    }
}

/// What is about servers rather than about rooms and users: for operators, and where they have a [listener of their
/// own](super::operators) answered there alone.
const OPERATORS: [&str; 10] = [
    "/nodes",
    "/nodes/{node}",
    "/nodes/{node}/drain",
    "/nodes/{node}/resume",
    "/cluster/check",
    "/config",
    "/reload",
    "/log-level",
    "/audit",
    "/metrics",
];

/// A path, its methods, and who answers.
struct Route {
    path: &'static str,
    methods: &'static [&'static str],
    handler: MethodRouter<Api>,
}

/// Every route that needs a key.
fn table() -> Vec<Route> {
    let route = |path, methods, handler| Route { path, methods, handler };
    vec![
        route("/whoami", &["get"], get(whoami::whoami)),
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
        route("/clients/{client}", &["get"], get(clients::one)),
        route("/clients/{client}/disconnect", &["post"], post(inspect::disconnect)),
        route("/clients/{client}/slow", &["post"], post(inspect::slow)),
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
        route("/audit", &["get"], get(audit::list)),
        route("/log-level", &["get", "put"], get(log_level::get).put(log_level::put)),
        route("/follow", &["get"], get(inspect::follow)),
        route("/explain", &["get"], get(explain::explain)),
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
        route("/config", &["get"], get(config::config)),
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
    let locked = table().into_iter().fold(Router::new(), |router, route| {
        let here = api.answers(route.path);
        router.route(route.path, if here { route.handler } else { any(elsewhere) })
    });
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

/// For operators, who have an address of their own.
async fn elsewhere() -> ApiError {
    ApiError::not_found("this is for operators, who are answered at an address of their own: see admin.addr")
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
