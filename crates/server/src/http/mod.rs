//! What the server answers over HTTP: the WebSocket endpoints, health, and the web chat.
//!
//! Bodies are JSON for programs and the page for people. The upgrade itself is the hub's service.

pub(crate) mod api;
mod cors;
pub(crate) mod files;
mod headers;
mod health;
pub(crate) mod metrics;
mod operators;
mod page;
mod progress;

pub(crate) use self::api::{Answers, Kept};
pub(crate) use self::headers::with_security_headers;
pub(crate) use self::operators::routes as operators_routes;
pub(crate) use self::progress::Progress;
use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use axum::routing::{any_service, get};
use outspoke_hub::{Hub, TenantFrom, UpgradeOptions};

use crate::config::Config;
use crate::config::settings::{TenantHost, Tenants};

/// Every route of the public listener: those for operators only if they have no [listener of their own](operators_routes).
///
/// `name`: what the server is called among others, and where it is the only one. Made anew for another configuration, with what
/// was `kept`.
pub(crate) fn routes(hub: &Hub, config: &Config, name: &str, kept: &Kept) -> Router {
    let server = &config.server;
    let mut routes = health_routes(hub)
        .route(
            "/ws",
            any_service(hub.service_with(native_endpoint(config).of_tenant(by_host(&config.tenants)))),
        )
        .route(
            "/gohub",
            any_service(hub.service_with(gohub_endpoint(config).of_tenant(by_host(&config.tenants)))),
        )
        .fallback(not_found);
    if server.conformance_echo {
        tracing::warn!("server.conformance_echo is on: /conformance/echo returns whatever it is sent");
        let echo = hub.service_with(UpgradeOptions::default().echoing());
        routes = routes.route("/conformance/echo", any_service(echo));
    }
    if config.tenants.enabled && config.tenants.path {
        let by_path = |endpoint: UpgradeOptions| hub.service_with(endpoint.of_tenant(TenantFrom::Path));
        routes = routes
            .route("/t/{tenant}/ws", any_service(by_path(native_endpoint(config))))
            .route("/t/{tenant}/gohub", any_service(by_path(gohub_endpoint(config))));
    }
    if let Some(door) = &kept.files {
        let files = |tenant| {
            let endpoint = hub.service_with(native_endpoint(config).of_tenant(tenant));
            api::throttled(files::routes(door.clone(), endpoint), &config.rate, kept)
                .layer(cors::files_layer(hub))
        };
        routes = routes.merge(files::answering_options(door, files(by_host(&config.tenants))));
        if config.tenants.enabled && config.tenants.path {
            routes = routes.nest("/t/{tenant}", files::answering_options(door, files(TenantFrom::Path)));
        }
    }
    if config.api.enabled {
        let mut api = api::Api::new(hub, &config.api, &config.tenants, name, kept);
        api.for_operators = !kept.operators_apart;
        let api = api::throttled(api::routes(api), &config.rate, kept);
        routes = routes.nest(api::BASE, api.layer(cors::layer(hub)));
    }
    if !kept.operators_apart {
        routes = operators::pages(routes, config);
    }
    if server.page {
        routes = routes
            .route("/", get(page::index))
            .route("/assets/{*path}", get(page::asset))
            .route("/client/{*path}", get(page::client));
    }
    if server.docs {
        routes = routes
            .route("/docs", get(page::docs_folder))
            .route("/docs/", get(page::docs))
            .route("/docs/{*path}", get(page::docs));
    }
    #[cfg(feature = "otel")]
    if !config.otel.endpoint.is_empty() {
        routes = routes.layer(axum::middleware::from_fn(crate::otel::traced));
    }
    with_security_headers(routes, config.tls.hsts)
}

/// Whether the server is well, for whoever asks.
pub(crate) fn health_routes<S: Clone + Send + Sync + 'static>(hub: &Hub) -> Router<S> {
    Router::new()
        .route("/health", get(health::health))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .with_state(hub.clone())
}

/// Whose the clients of a host name are.
fn by_host(tenants: &Tenants) -> TenantFrom {
    if !tenants.enabled || tenants.hosts.is_empty() {
        return TenantFrom::Identity;
    }
    let tenant_of = |entry: &TenantHost| (entry.host.to_ascii_lowercase(), entry.tenant.as_str().into());
    TenantFrom::Host(tenants.hosts.iter().map(tenant_of).collect())
}

/// `/ws`: people chat here, so they have names.
fn native_endpoint(config: &Config) -> UpgradeOptions {
    endpoint(config).with_username()
}

/// `/gohub`: programs connect here and join what they need.
fn gohub_endpoint(config: &Config) -> UpgradeOptions {
    endpoint(config).speaking("gohub").without_room()
}

fn endpoint(config: &Config) -> UpgradeOptions {
    let options = UpgradeOptions::default();
    if config.auth.first_message { options.with_first_message(config.auth.timeout) } else { options }
}

async fn not_found(uri: Uri) -> impl IntoResponse {
    let path: String = uri.path().chars().take(200).collect();
    (StatusCode::NOT_FOUND, axum::Json(serde_json::json!({ "error": "not_found", "path": path })))
}
