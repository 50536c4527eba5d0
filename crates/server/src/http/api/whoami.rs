//! Who asks, and what for that one may ask: so that a page can leave out what would be refused.

use std::sync::LazyLock;

use axum::extract::State;
use axum::http::Method;
use axum::{Extension, Json};
use outspoke_hub::Permissions;
use serde::Serialize;

use super::error::ApiError;
use super::input::Query;
use super::key::Caller;
use super::{Api, table};

/// Every path and method there is, in the order of the routes.
static OPERATIONS: LazyLock<Vec<(&'static str, Method)>> = LazyLock::new(|| {
    let methods = |methods: &'static [&'static str]| methods.iter().map(|method| method.to_ascii_uppercase());
    let routes = table().into_iter();
    routes
        .flat_map(|route| methods(route.methods).map(move |method| (route.path, method)))
        .filter_map(|(path, method)| Some((path, Method::from_bytes(method.as_bytes()).ok()?)))
        .collect()
});

/// The server that answers.
#[derive(Debug, Serialize)]
struct Server {
    name: String,
    version: &'static str,
    /// Whether it has tenants.
    tenants: bool,
}

/// Whoever asks.
#[derive(Debug, Serialize)]
pub(super) struct Asking {
    /// As the log has it.
    name: String,
    kind: &'static str,
    /// The only tenant that the caller may name; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Absent: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    permissions: Option<Permissions>,
    /// What the caller may ask for, at least about some rooms or users: `GET /rooms/{room}`.
    operations: Vec<String>,
    server: Server,
}

pub(super) async fn whoami(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Asking>, ApiError> {
    query.only(&[])?;
    let of_use = |(path, method): &&(&str, Method)| api.answers(path) && caller.has_use_for(path, method);
    let of_use = OPERATIONS.iter().filter(of_use);
    let operations = of_use.map(|(path, method)| format!("{method} {path}")).collect();
    let server =
        Server { name: api.name.to_string(), version: env!("CARGO_PKG_VERSION"), tenants: api.tenants };
    Ok(Json(Asking {
        name: caller.name(),
        kind: caller.kind(),
        tenant: caller.only_tenant().map(str::to_owned),
        permissions: caller.permissions().cloned(),
        operations,
        server,
    }))
}
