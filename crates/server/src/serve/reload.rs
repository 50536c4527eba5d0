//! The parts of the server that follow another configuration while it runs: the one place where they are wired.
//!
//! In this order: the hub first, which judges most; its tenants; who may connect; the routes, with whatever they were built from; the log last,
//! so that what went wrong before is written as it would have been.

use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use axum::Router;
use outspoke_hub::{Hub, HubConfig};

use super::accept::HeaderLimits;
use super::doors::{self, Doors};
use super::sender::Trusted;
use super::tls::Certificates;
use super::{auth, hub, tenants};
use crate::config::{Config, Loaded};
use crate::http;
use crate::limits::DescriptorLimit;
use crate::log_level::LogLevel;
use crate::logging::Filters;
use crate::reload::Reloader;
use crate::reload::part::Step;
use crate::startup::StartError;

/// What the accept loop looks at for each request and connection.
#[derive(Clone, Debug)]
pub(super) struct Front {
    pub(super) routes: Arc<ArcSwap<Router>>,
    pub(super) limits: Arc<ArcSwap<HeaderLimits>>,
    pub(super) doors: Arc<Doors>,
    /// Who is believed about the addresses of others.
    pub(super) trusted: Arc<ArcSwap<Trusted>>,
}

impl Front {
    pub(super) fn new(routes: Router, config: &Config) -> Self {
        Self {
            routes: Arc::new(ArcSwap::from_pointee(routes)),
            limits: Arc::new(ArcSwap::from_pointee(HeaderLimits::of(&config.server))),
            doors: Arc::new(Doors::of(config)),
            trusted: Arc::new(ArcSwap::from_pointee(Trusted::new(&config.server.trusted_proxies))),
        }
    }
}

impl Front {
    /// The same for a listener with other routes.
    pub(super) fn with(&self, routes: Router) -> Self {
        Self { routes: Arc::new(ArcSwap::from_pointee(routes)), ..self.clone() }
    }
}

/// Lets the certificates follow: other files, or the same with other content.
pub(super) fn certificates_part(reloader: &mut Reloader, certificates: &Arc<Certificates>) {
    let certificates = Arc::clone(certificates);
    reloader.part("the certificates", move |next| {
        let next = next.config.tls.clone();
        if next.is_on() {
            Certificates::check(&next).map_err(StartError::Tls)?;
        }
        let certificates = Arc::clone(&certificates);
        Ok(Step::new(move || {
            let former = certificates.former();
            // Whether TLS is spoken at all waits for a restart.
            if next.is_on() {
                certificates.reload_with(&next).map_err(StartError::Tls)?;
            }
            Ok(Box::new(move || certificates.restore(former)))
        }))
    });
}

/// Lets the hub's configuration follow, and its tenants.
pub(super) fn hub_parts(reloader: &mut Reloader, hub: &Hub, descriptors: DescriptorLimit) {
    let of = hub.clone();
    reloader.part("the hub", move |next| {
        let next = hub_config(&of, &next.config, descriptors)?;
        of.check_reconfigure(&next)?;
        let hub = of.clone();
        Ok(Step::new(move || {
            let former = HubConfig::clone(&hub.config());
            hub.reconfigure(next)?;
            // It lived by it a moment ago.
            Ok(Box::new(move || drop(hub.reconfigure(former))))
        }))
    });
    let of = hub.clone();
    let in_force = Arc::new(ArcSwap::from_pointee(tenants::declared(&reloader.loaded().config.tenants)));
    reloader.part("the tenants", move |next| {
        let (hub, in_force) = (of.clone(), Arc::clone(&in_force));
        let next = Arc::new(tenants::declared(&next.config.tenants));
        Ok(Step::new(move || {
            let former = in_force.load_full();
            if former != next {
                hub.declare_tenants(&next)?;
                in_force.store(Arc::clone(&next));
            }
            Ok(Box::new(move || {
                if former != next {
                    let _ = hub.declare_tenants(&former);
                    in_force.store(former);
                }
            }))
        }))
    });
}

/// What the settings say, with what a running hub cannot change as it is: that waits for a restart, and is reported.
fn hub_config(hub: &Hub, settings: &Config, descriptors: DescriptorLimit) -> anyhow::Result<HubConfig> {
    let now = hub.config();
    let next = hub::config(settings, descriptors)?;
    Ok(HubConfig {
        shards: now.shards,
        inbox_bytes_max: now.inbox_bytes_max,
        analytics: now.analytics,
        remembered_messages_max: now.remembered_messages_max,
        remembered_events_max: now.remembered_events_max,
        ..next
    })
}

/// Lets keys and everything else follow that decides who may connect.
pub(super) fn access_part(reloader: &mut Reloader, access: auth::Live) {
    reloader.part_with_files(
        "who may connect",
        |loaded| auth::files(&loaded.config),
        move |next| access.prepare(&next.config),
    );
}

/// Lets everything follow that is answered over HTTP: keys, pages, hosts, limits of bodies and headers.
pub(super) fn front_parts(reloader: &mut Reloader, front: &Front, hub: &Hub, name: &str, kept: &http::Kept) {
    let (routes, hub, name, kept) = (Arc::clone(&front.routes), hub.clone(), name.to_owned(), kept.clone());
    reloader.part("the routes", move |next| {
        Ok(Step::swap(&routes, http::routes(&hub, &next.config, &name, &kept)))
    });
    let trusted = Arc::clone(&front.trusted);
    reloader.part("the trusted proxies", move |next| {
        Ok(Step::swap(&trusted, Trusted::new(&next.config.server.trusted_proxies)))
    });
    let limits = Arc::clone(&front.limits);
    reloader.part("the limits of headers", move |next| {
        Ok(Step::swap(&limits, HeaderLimits::of(&next.config.server)))
    });
    let doors = Arc::clone(&front.doors);
    reloader.part("the connections of addresses", move |next| {
        Ok(Step::swap(&doors.rules, doors::Rules::of(&next.config)))
    });
}

/// Lets the operators' own listener follow, too: a key that was taken away opens nothing there either.
pub(super) fn operators_part(
    reloader: &mut Reloader,
    operators: &Front,
    hub: &Hub,
    name: &str,
    kept: &http::Kept,
) {
    let (routes, hub, name, kept) =
        (Arc::clone(&operators.routes), hub.clone(), name.to_owned(), kept.clone());
    reloader.part("the operators' routes", move |next| {
        Ok(Step::swap(&routes, http::operators_routes(&hub, &next.config, &name, &kept)))
    });
}

/// Lets level and format of the log follow.
pub(super) fn log_part(reloader: &mut Reloader, level: &Arc<LogLevel>) {
    let level = Arc::clone(level);
    reloader.part("the log", move |next: &Loaded| {
        let next = next.config.log.clone();
        Filters::of(&next).context("log.level cannot be used")?;
        let level = Arc::clone(&level);
        Ok(Step::new(move || {
            if level.is_configured(&next) {
                return Ok(Box::new(|| {}));
            }
            let former = level.configure(next)?;
            Ok(Box::new(move || {
                // It was in force a moment ago.
                drop(level.configure(former));
            }))
        }))
    });
}
