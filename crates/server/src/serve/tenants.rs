//! The tenants of the settings, as the hub's.

use std::collections::HashSet;

use ecow::EcoString;
use outspoke_hub::{HubBuilder, Quotas};

use crate::config::settings::{Tenant, Tenants};

/// What tenants may use that the settings do not name.
pub(super) fn quotas(tenants: &Tenants) -> Quotas {
    Quotas {
        connections_max: tenants.connections_max,
        rooms_max: tenants.rooms_max,
        messages_per_second: per_second(tenants.messages_per_second),
        stored_bytes_max: tenants.stored_bytes_max as u64,
    }
}

/// Names the tenants to the hub.
pub(super) fn declare(builder: HubBuilder, tenants: &Tenants) -> HubBuilder {
    declared(tenants).into_iter().fold(builder, |builder, (name, quotas)| builder.tenant(name, quotas))
}

/// The tenants that are named: those of the list, and those that a host name leads to.
pub(super) fn declared(tenants: &Tenants) -> Vec<(EcoString, Quotas)> {
    let mut declared = Vec::new();
    if !tenants.enabled {
        return declared;
    }
    let mut named = HashSet::new();
    for tenant in &tenants.list {
        named.insert(tenant.name.as_str());
        declared.push((tenant.name.as_str().into(), quotas_of(tenant)));
    }
    for host in &tenants.hosts {
        if named.insert(host.tenant.as_str()) {
            declared.push((host.tenant.as_str().into(), quotas(tenants)));
        }
    }
    declared
}

fn quotas_of(tenant: &Tenant) -> Quotas {
    Quotas {
        connections_max: tenant.connections_max,
        rooms_max: tenant.rooms_max,
        messages_per_second: per_second(tenant.messages_per_second),
        stored_bytes_max: tenant.stored_bytes_max as u64,
    }
}

/// The setting's range fits.
fn per_second(messages: usize) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}
