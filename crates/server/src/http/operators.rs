//! What is for operators only: their pages, and a listener that answers nobody else.
//!
//! With `admin.addr` the public listener has none of it, so that a firewall or an address of a private network keeps it off the
//! internet; what protects it there is still the API's keys.

use axum::Router;
use axum::routing::get;
use outspoke_hub::Hub;

use super::{Kept, api, cors, health_routes, not_found, page, with_security_headers};
use crate::config::Config;

/// Everything that the operators' own listener answers. Made anew for another configuration, as the [public routes](super::routes) are.
pub(crate) fn routes(hub: &Hub, config: &Config, name: &str, kept: &Kept) -> Router {
    let mut routes = pages(health_routes(hub), config).fallback(not_found);
    if config.api.enabled {
        let api = api::Api::new(hub, &config.api, &config.tenants, name, kept);
        let api = api::throttled(api::routes(api), &config.rate, kept);
        routes = routes.nest(api::BASE, api.layer(cors::layer(hub)));
    }
    if config.server.page {
        routes = routes.route("/assets/{*path}", get(page::asset));
    }
    with_security_headers(routes, config.tls.hsts)
}

/// With the pages that show what the API says to operators.
pub(super) fn pages(routes: Router, config: &Config) -> Router {
    if !config.server.page || !config.api.enabled {
        return routes;
    }
    let routes = routes.route("/analytics", get(page::figures)).route("/nodes", get(page::nodes));
    if config.admin.enabled { routes.route("/admin", get(page::admin)) } else { routes }
}
