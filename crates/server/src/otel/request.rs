//! A span for each request, as a part of the trace that its `traceparent` names (W3C Trace Context).

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use outspoke_hub::TRACE_TARGET;
use tracing::{Instrument as _, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Answers the request within its span. The path is the route's, without anybody's names.
pub(crate) async fn traced(request: Request, next: Next) -> Response {
    let span = tracing::debug_span!(
        target: TRACE_TARGET,
        "request",
        otel.kind = "server",
        http.request.method = %request.method(),
        http.route = field::Empty,
        http.response.status_code = field::Empty,
    );
    if span.is_disabled() {
        return next.run(request).await;
    }
    if let Some(route) = request.extensions().get::<MatchedPath>() {
        span.record("http.route", route.as_str());
    }
    let caller = TraceContextPropagator::new().extract(&HeaderExtractor(request.headers()));
    // It fails only for a span that nobody collects.
    let _ = span.set_parent(caller);
    let answer = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", answer.status().as_u16());
    answer
}
