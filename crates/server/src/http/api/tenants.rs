//! Tenants: which there are, what they may use, what they use; made, changed and removed while the server runs.

use axum::Json;
use axum::extract::State;
use outspoke_hub::{Quotas, TenantData, TenantError, TenantInfo};
use serde::Serialize;

use super::error::ApiError;
use super::input::{Body, Named, Query, Whole};
use super::{Api, is_tenant_name};

const FIELDS: &[&str] = &["connectionsMax", "roomsMax", "messagesPerSecond", "storedBytesMax"];

/// A tenant.
#[derive(Debug, Serialize)]
pub(super) struct Tenant {
    tenant: String,
    /// Whether it was named, in the configuration or here; others are there because somebody was let in.
    known: bool,
    quotas: Limits,
    usage: Usage,
}

/// What it may use; zero is no limit.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    connections_max: usize,
    rooms_max: usize,
    messages_per_second: u32,
    stored_bytes_max: u64,
}

/// What it uses.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    connections: usize,
    rooms: usize,
    /// Absent when it could not be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_bytes: Option<u64>,
}

impl From<&TenantInfo> for Tenant {
    fn from(info: &TenantInfo) -> Self {
        let quotas = &info.quotas;
        Self {
            tenant: info.name.to_string(),
            known: info.known,
            quotas: Limits {
                connections_max: quotas.connections_max,
                rooms_max: quotas.rooms_max,
                messages_per_second: quotas.messages_per_second,
                stored_bytes_max: quotas.stored_bytes_max,
            },
            usage: Usage {
                connections: info.usage.connections,
                rooms: info.usage.rooms,
                stored_bytes: info.usage.stored_bytes,
            },
        }
    }
}

/// A page of tenants.
#[derive(Debug, Serialize)]
pub(super) struct Tenants {
    tenants: Vec<Tenant>,
    /// What to give as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(State(api): State<Api>, query: Query) -> Result<Json<Tenants>, ApiError> {
    query.only(&["after", "limit"])?;
    check_enabled(&api)?;
    let limit = query.limit()?;
    let after = query.text("after");
    let tenants = api.hub.tenants().await;
    let mut rest = tenants.iter().filter(|tenant| after.is_none_or(|after| tenant.name.as_str() > after));
    let page: Vec<Tenant> = rest.by_ref().take(limit).map(Tenant::from).collect();
    let next = page.last().filter(|_| rest.next().is_some()).map(|last| last.tenant.clone());
    Ok(Json(Tenants { tenants: page, next }))
}

pub(super) async fn one(
    State(api): State<Api>,
    Named(name): Named,
    query: Query,
) -> Result<Json<Tenant>, ApiError> {
    query.only(&[])?;
    check_enabled(&api)?;
    find(&api, &name).await
}

async fn find(api: &Api, name: &str) -> Result<Json<Tenant>, ApiError> {
    check_name(name)?;
    let tenants = api.hub.tenants().await;
    let tenant = tenants.iter().find(|tenant| tenant.name == name);
    tenant.map(|tenant| Json(tenant.into())).ok_or_else(|| TenantError::Unknown(name.to_owned()).into())
}

/// Makes a tenant, or gives one that exists other quotas. What is not said is not limited.
pub(super) async fn put(
    State(api): State<Api>,
    Named(name): Named,
    query: Query,
    body: Body,
) -> Result<Json<Tenant>, ApiError> {
    query.only(&[])?;
    check_enabled(&api)?;
    check_name(&name)?;
    let fields = body.fields(FIELDS)?;
    let count = |name: &str| {
        let count = fields.optional::<Whole>(name)?.map_or(0, |count| count.0);
        let too_many = |_| ApiError::bad_request(format!("the field `{name}` is more than {}", u32::MAX));
        u32::try_from(count).map_err(too_many)
    };
    let quotas = Quotas {
        connections_max: count("connectionsMax")? as usize,
        rooms_max: count("roomsMax")? as usize,
        messages_per_second: count("messagesPerSecond")?,
        stored_bytes_max: fields.optional::<Whole>("storedBytesMax")?.map_or(0, |bytes| bytes.0),
    };
    api.hub.put_tenant(&name, quotas).await?;
    find(&api, &name).await
}

/// What was removed.
#[derive(Debug, Serialize)]
pub(super) struct Removed {
    tenant: String,
    erased: bool,
}

/// Disconnects everybody and lets nobody in any more; with `data=erase`, forgets what there was.
pub(super) async fn remove(
    State(api): State<Api>,
    Named(name): Named,
    query: Query,
) -> Result<Json<Removed>, ApiError> {
    query.only(&["data"])?;
    check_enabled(&api)?;
    check_name(&name)?;
    let data = match query.text("data") {
        None | Some("keep") => TenantData::Keep,
        Some("erase") => TenantData::Erase,
        Some(_) => return Err(ApiError::bad_request("the parameter `data` must be keep or erase")),
    };
    api.hub.remove_tenant(&name, data).await?;
    let erased = data == TenantData::Erase;
    if let Some(files) = api.files.as_ref().filter(|_| erased) {
        files.erase(&name, None).await?;
    }
    tracing::info!(tenant = %name, erased, "a tenant was removed");
    Ok(Json(Removed { tenant: name, erased }))
}

fn check_enabled(api: &Api) -> Result<(), ApiError> {
    if api.tenants {
        return Ok(());
    }
    Err(ApiError::bad_request("this server has no tenants: set tenants.enabled"))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    if is_tenant_name(name) {
        return Ok(());
    }
    Err(ApiError::bad_request(
        "a tenant's name has 1 to 64 letters, digits, -, _ and ., and begins with no dot",
    ))
}
