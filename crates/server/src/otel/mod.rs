//! Traces for OpenTelemetry: the hub's spans, and one for each request, sent to a collector by OTLP over HTTP.
//!
//! In builds with the feature `otel`; in others a setting that asks for it is refused at the start. Set up before the log, which
//! it is a layer beside ([`crate::logging`]), and ended after the last client has gone, so that nothing is left unsent. Spans are
//! queued; where the collector is too slow or away they are dropped, and nobody waits.

#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod request;

use crate::config::settings::Otel;
use crate::logging::More;

#[cfg(feature = "otel")]
pub(crate) use self::request::traced;

/// Why there can be no traces.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OtelError {
    #[cfg(not(feature = "otel"))]
    #[error(
        "otel.endpoint is set, and this build has no OpenTelemetry: build with `cargo build --release --features otel`, or remove it"
    )]
    NotBuilt,
    #[cfg(feature = "otel")]
    #[error("otel.headers: number {0} is not a header, written NAME=VALUE")]
    Header(usize),
    #[cfg(feature = "otel")]
    #[error("otel.endpoint cannot be used: {0}; write for example http://collector:4318")]
    Endpoint(String),
    #[cfg(feature = "otel")]
    #[error("traces cannot be sent: {0}")]
    Client(#[from] std::io::Error),
}

/// What collects spans, until it is ended.
#[derive(Debug)]
pub(crate) struct Traces {
    #[cfg(feature = "otel")]
    provider: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Begins to collect, if there is a collector.
#[cfg(not(feature = "otel"))]
pub(crate) fn begin(settings: &Otel) -> Result<(Option<More>, Traces), OtelError> {
    match settings.endpoint.is_empty() {
        true => Ok((None, Traces {})),
        false => Err(OtelError::NotBuilt),
    }
}

/// Begins to collect, if there is a collector.
#[cfg(feature = "otel")]
pub(crate) fn begin(settings: &Otel) -> Result<(Option<More>, Traces), OtelError> {
    use opentelemetry::trace::TracerProvider as _;
    use tracing_subscriber::Layer as _;

    if settings.endpoint.is_empty() {
        return Ok((None, Traces { provider: None }));
    }
    let provider = collector::provider(settings)?;
    let ours =
        tracing_subscriber::filter::filter_fn(|metadata| metadata.target() == outspoke_hub::TRACE_TARGET);
    let layer = tracing_opentelemetry::layer()
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_tracer(provider.tracer("outspoke"));
    Ok((Some(Box::new(layer.with_filter(ours))), Traces { provider: Some(provider) }))
}

impl Traces {
    /// Sends what has not been sent.
    pub(crate) fn end(self) {
        #[cfg(feature = "otel")]
        if let Some(Err(error)) = self.provider.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}
