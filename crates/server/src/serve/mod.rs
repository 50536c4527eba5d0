//! From a loaded configuration to a listening server, and back to a stopped one.
//!
//! Wiring, in this order: descriptors, listener, stores, hub, routes, what follows another configuration, banner; then the
//! accept loop until a signal to stop; then clients are sent to other servers while HTTP is still answered,
//! the listener closes, requests in flight are answered, and the hub says goodbye to who is left.

mod accept;
pub(crate) mod auth;
mod cluster;
mod doors;
mod files;
mod first;
mod hub;
mod listen;
mod notify;
mod redirect;
mod reload;
mod sender;
mod signals;
mod tenants;
pub mod tls;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::signals::Told;
use crate::banner::Banner;
use crate::config::{Loaded, Sources};
use crate::http;
use crate::limits::DescriptorLimit;
use crate::log_level::LogLevel;
use crate::logging::{Logging, Style};
use crate::reload::watch::Watch;
use crate::reload::{Asker, Reloader};
use crate::startup::StartError;
use crate::storage;

/// Threads that accept connections and answer HTTP; the shards have their own.
const HTTP_THREADS_MAX: usize = 4;

/// Serves until told to stop.
///
/// # Errors
/// Whatever keeps the server from starting, with its cure.
pub fn run(sources: Sources, loaded: &Loaded, style: Style, logging: &Logging) -> anyhow::Result<()> {
    let descriptors = DescriptorLimit::raise();
    if !descriptors.is_usable() {
        return Err(StartError::TooFewDescriptors(descriptors).into());
    }
    if let Some(warning) = descriptors.warning(loaded.config.server.connections_max) {
        tracing::warn!("{warning}");
    }
    let threads =
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(HTTP_THREADS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("outspoke-http")
        .enable_all()
        .build()
        .context("cannot start the HTTP threads")?;
    runtime.block_on(serve(sources, loaded, style, logging, descriptors))
}

/// Files that an authority is to fill are there from the beginning.
fn begin_acme(settings: &crate::config::settings::tls::Tls) -> Result<(), StartError> {
    #[cfg(feature = "acme")]
    return tls::acme::begin(settings).map_err(StartError::Tls);
    #[cfg(not(feature = "acme"))]
    match settings.acme_domains.is_empty() {
        true => Ok(()),
        false => Err(StartError::Tls(tls::TlsError::NoAcme)),
    }
}

async fn serve(
    sources: Sources,
    loaded: &Loaded,
    style: Style,
    logging: &Logging,
    descriptors: DescriptorLimit,
) -> anyhow::Result<()> {
    let config = &loaded.config;
    // Before stores and hub: an address in use must not open files nor start threads.
    begin_acme(&config.tls)?;
    let certificates = match config.tls.is_on() {
        true => Some(Arc::new(tls::Certificates::open(&config.tls).map_err(StartError::Tls)?)),
        false => None,
    };
    let listener = listen::bind(&config.server.addr, &config.server, loaded.source("server.addr"))?;
    let bound = listener.local_addr()?;
    let redirecting = match &config.tls.redirect_addr {
        Some(addr) => Some(
            listen::bind(addr, &config.server, crate::config::Source::Default)
                .context("the listener of tls.redirect_addr")?,
        ),
        None => None,
    };
    let scraped = match &config.metrics.addr {
        Some(addr) => Some(
            listen::bind(addr, &config.server, loaded.source("metrics.addr"))
                .context("the listener of metrics.addr")?,
        ),
        None => None,
    };
    let operating = match &config.admin.addr {
        Some(addr) => Some(
            listen::bind(addr, &config.server, loaded.source("admin.addr"))
                .context("the listener of admin.addr")?,
        ),
        None => None,
    };
    // Before the banner: whoever reads it may send the signal at once.
    let mut signals = signals::Signals::listen().context("cannot listen for signals")?;
    let builder = outspoke_hub::Hub::builder().config(hub::config(config, descriptors)?);
    let (access, builder) = auth::Live::begin(config, builder)?;
    let stores = storage::open(loaded).await?;
    let builder = tenants::declare(builder, &config.tenants);
    let builder = stores
        .iter()
        .fold(builder, |builder, open| builder.store(open.plan.name.as_str(), Arc::clone(&open.store)));
    let files = files::open(config)?;
    let messages = files.clone().map(|door| http::files::FileMessages::new(door, Handle::current()));
    let builder = messages.iter().fold(builder, |builder, messages| builder.reviewer(messages.clone()));
    let mut kept = http::Kept::with_files(files);
    let builder = builder.node_answers(http::Answers::new(&kept));
    let hub = cluster::join(builder, loaded, bound)?.start()?;
    messages.iter().for_each(|messages| messages.of(&hub));
    // Who reads that the server is ready is not to be told to try again. A store that is away is no reason to wait for ever.
    hub.tenants_known(config.store.timeout).await;
    let (stop, stopping) = watch::channel(false);
    let name = cluster::name(&config.cluster, bound);
    let log_level = Arc::new(LogLevel::new(logging, &config.log));
    kept.log_level = Some(Arc::clone(&log_level));
    kept.operators_apart = operating.is_some();
    let front = reload::Front::new(http::routes(&hub, config, &name, &kept), config);
    let operators = front.with(http::operators_routes(&hub, config, &name, &kept));
    let mut reloader = Reloader::new(sources, loaded.clone());
    reload::hub_parts(&mut reloader, &hub, descriptors);
    reload::access_part(&mut reloader, access);
    if let Some(certificates) = &certificates {
        reload::certificates_part(&mut reloader, certificates);
    }
    if let Some((door, messages)) = kept.files.as_ref().zip(messages) {
        files::part(&mut reloader, door);
        tokio::spawn(files::sweep(messages, config.files.sweep_interval, stopping.clone()));
    }
    reload::front_parts(&mut reloader, &front, &hub, &name, &kept);
    if operating.is_some() {
        reload::operators_part(&mut reloader, &operators, &hub, &name, &kept);
    }
    reload::log_part(&mut reloader, &log_level);
    let reloader = Arc::new(reloader);
    kept.reload.set(&reloader);
    let in_flight = accept::InFlight::default();
    let accept = |listener, way| {
        let acceptor = accept::Acceptor {
            listener,
            way,
            hub: hub.clone(),
            descriptors_max: usize::try_from(descriptors.soft).unwrap_or(usize::MAX),
            stopping: stopping.clone(),
            in_flight: in_flight.clone(),
        };
        tokio::spawn(acceptor.run())
    };
    let way = accept::Way {
        front: front.clone(),
        proxy_protocol: config.server.proxy_protocol,
        tls: certificates.as_ref().map(|certificates| tls::Tls::new(Arc::clone(certificates), &config.tls)),
    };
    let operators = accept::Way { front: operators, proxy_protocol: false, tls: way.tls.clone() };
    let mut accepting = vec![accept(listener, way)];
    if let Some(listener) = operating {
        tracing::info!(address = %listener.local_addr()?, "operators are answered at an address of their own");
        accepting.push(accept(listener, operators));
    }
    let challenges = tls::challenges::Challenges::default();
    if let Some((listener, certificates)) = redirecting.zip(certificates.as_ref()) {
        let redirect = redirect::Redirect {
            host: Some(config.tls.redirect_host.clone()).filter(|host| !host.is_empty()),
            port: bound.port(),
            certificates: Arc::clone(certificates),
            challenges: challenges.clone(),
        };
        tracing::info!(address = %listener.local_addr()?, "sending http to https");
        let front = front.with(redirect::routes(&hub, redirect));
        let way = accept::Way { front, proxy_protocol: config.server.proxy_protocol, tls: None };
        accepting.push(accept(listener, way));
    }
    if let Some(listener) = scraped {
        tracing::info!(address = %listener.local_addr()?, "metrics are at /metrics");
        let front = front.with(http::metrics::routes(&hub, &kept));
        accepting.push(accept(listener, accept::Way { front, proxy_protocol: false, tls: None }));
    }
    if let Some(certificates) = &certificates {
        let watching = tls::watch(Arc::clone(certificates), config.tls.reload_interval, stopping.clone());
        tokio::spawn(watching);
        #[cfg(feature = "acme")]
        if !config.tls.acme_domains.is_empty() {
            let certificates = Arc::clone(certificates);
            tokio::spawn(tls::acme::keep(config.tls.clone(), challenges, certificates, stopping.clone()));
        }
    }
    let watching = tokio::spawn(Watch::new(Arc::clone(&reloader)).run());
    Banner {
        loaded,
        bound,
        shards: hub.shard_count(),
        descriptors,
        open_mode: hub.authenticator().is_open(),
        stores: &stores,
    }
    .announce(style);
    let manager = notify::Manager::of_this_process();
    manager.ready(hub.client_count());
    tokio::spawn(manager.clone().vouch_for(hub.clone()));

    let signal = loop {
        match signals.next().await {
            Told::Stop(signal) => break signal,
            Told::Reload => {
                let reloader = Arc::clone(&reloader);
                manager.reloading();
                // Logged there. Whoever sends several gets several, one after the other.
                let _ = tokio::task::spawn_blocking(move || reloader.reload(&Asker::Signal, false)).await;
                manager.ready(hub.client_count());
            }
        }
    };
    manager.stopping(hub.client_count());
    watching.abort();
    let patience = reloader.loaded().config.server.shutdown_timeout;
    tracing::info!(signal, clients = hub.client_count(), timeout = ?patience, "stopping; a second signal ends at once");
    // No grace for who insists; nothing stored is lost by it.
    tokio::spawn(async move {
        while let Told::Reload = signals.next().await {}
        std::process::exit(signals::SECOND_SIGNAL);
    });
    let stopping = tokio::time::Instant::now();
    // Health checks and the API are answered meanwhile; upgrades are not.
    let drained = hub.drain_within(patience).await;
    if drained.told > 0 {
        let outspoke_hub::Drained { told, batches, left, took, .. } = drained;
        tracing::info!(told, batches, left, ?took, "drained");
    }
    let patience = patience.saturating_sub(stopping.elapsed());
    let _ = stop.send(true);
    // Closes the listeners; requests in flight go on.
    for accepting in accepting {
        accepting.await.context("the accept loop failed")?;
    }
    let all_gone = hub.shutdown(patience).await;
    drop(tokio::time::timeout(std::time::Duration::from_secs(1), in_flight.all_answered()).await);
    if all_gone {
        tracing::info!("stopped; every client was told");
    } else {
        tracing::warn!(clients = hub.client_count(), "stopped; connections that remained were cut");
    }
    Ok(())
}
