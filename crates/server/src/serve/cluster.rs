//! This server's place among others: the bus between them, and what it says of itself there.

use std::net::SocketAddr;
use std::sync::Arc;

use outspoke_bus::{BusError, MessageBus, Secret};
use outspoke_hub::{ClusterOptions, HubBuilder};

use crate::config::settings::Cluster;
use crate::config::{Bus, Loaded};
use crate::startup::StartError;

/// Makes the hub a node of a cluster, if the settings say so.
///
/// # Errors
/// The bus's settings cannot be used. One that does not answer is no error: it is waited for while everything else goes on.
pub(super) fn join(
    builder: HubBuilder,
    loaded: &Loaded,
    bound: SocketAddr,
) -> Result<HubBuilder, StartError> {
    let settings = &loaded.config.cluster;
    if !settings.enabled {
        return Ok(builder);
    }
    let bus = open(settings).map_err(|error| StartError::bus(settings.bus, error))?;
    let mut options = ClusterOptions::new(name(settings, bound));
    options.advertise = settings.advertise.as_str().into();
    options.secret = (!settings.secret.is_empty()).then(|| Secret::new(&settings.secret));
    options.heartbeat = settings.heartbeat;
    options.queue_bytes_max = settings.queue_bytes_max;
    options.version = env!("CARGO_PKG_VERSION").into();
    if options.secret.is_none() {
        tracing::warn!("cluster.secret is empty: whoever can write to the bus can speak for any server");
    }
    tracing::info!(name = %options.name, bus = bus.name(), "one of several servers");
    Ok(builder.cluster(bus, options))
}

fn open(settings: &Cluster) -> Result<Arc<dyn MessageBus>, BusError> {
    match settings.bus {
        #[cfg(feature = "etcd")]
        Bus::Etcd => etcd(settings),
        #[cfg(feature = "redis")]
        Bus::Redis => redis(settings),
        #[cfg(feature = "nats")]
        Bus::Nats => nats(settings),
        // Refused with the configuration already, where the feature is named.
        #[allow(unreachable_patterns)]
        _ => Err(BusError::Invalid("the bus is not part of this build".to_owned())),
    }
}

#[cfg(feature = "etcd")]
fn etcd(settings: &Cluster) -> Result<Arc<dyn MessageBus>, BusError> {
    use outspoke_bus::etcd::{EtcdBus, EtcdLogin, EtcdOptions};

    let settings = &settings.etcd;
    let mut options = EtcdOptions::new(settings.endpoints.clone());
    options.prefix = settings.key_prefix.clone();
    options.dial_timeout = settings.dial_timeout;
    options.login = (!settings.username.is_empty())
        .then(|| EtcdLogin { username: settings.username.clone(), password: settings.password.clone() });
    Ok(Arc::new(EtcdBus::new(options)?))
}

#[cfg(feature = "redis")]
fn redis(settings: &Cluster) -> Result<Arc<dyn MessageBus>, BusError> {
    use outspoke_bus::redis::{RedisBus, RedisOptions};

    let settings = &settings.redis;
    let mut options = RedisOptions::new(&settings.url);
    options.cluster = settings.cluster;
    options.sentinel_master = Some(settings.sentinel_master.clone()).filter(|name| !name.is_empty());
    options.prefix = settings.prefix.clone();
    Ok(Arc::new(RedisBus::new(&options)?))
}

#[cfg(feature = "nats")]
fn nats(settings: &Cluster) -> Result<Arc<dyn MessageBus>, BusError> {
    use outspoke_bus::nats::{NatsBus, NatsOptions};

    let settings = &settings.nats;
    let mut options = NatsOptions::new(&settings.url);
    options.prefix = settings.prefix.clone();
    Ok(Arc::new(NatsBus::new(&options)?))
}

/// The configured name, or one that stays the same as long as the machine's name and the port do.
pub(super) fn name(settings: &Cluster, bound: SocketAddr) -> String {
    if !settings.name.is_empty() {
        return settings.name.clone();
    }
    let uname = rustix::system::uname();
    format!("{}:{}", uname.nodename().to_string_lossy(), bound.port())
}
