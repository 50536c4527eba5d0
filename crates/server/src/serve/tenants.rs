//! The tenants of the settings, as the hub's.

use std::collections::HashSet;

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

/// Names the tenants to the hub: those of the list, and those that a host name leads to.
pub(super) fn declare(mut builder: HubBuilder, tenants: &Tenants) -> HubBuilder {
    if !tenants.enabled {
        return builder;
    }
    let mut named = HashSet::new();
    for tenant in &tenants.list {
        named.insert(tenant.name.as_str());
        builder = builder.tenant(tenant.name.as_str(), quotas_of(tenant));
    }
    for host in &tenants.hosts {
        if named.insert(host.tenant.as_str()) {
            builder = builder.tenant(host.tenant.as_str(), quotas(tenants));
        }
    }
    builder
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
