//! The road to the collector: sampling, the queue, and requests over the same TLS as everything else.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Runtime;

use super::OtelError;
use crate::config::settings::Otel;

/// How long the collector may take for one delivery.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of its answer that are looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Collects spans and sends them.
pub(super) fn provider(settings: &Otel) -> Result<SdkTracerProvider, OtelError> {
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Road::new()?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", settings.endpoint.trim_end_matches('/')))
        .with_headers(headers(&settings.headers)?)
        .with_timeout(TIMEOUT)
        .build()
        .map_err(|error| OtelError::Endpoint(error.to_string()))?;
    let resource = Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", settings.service_name.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(sampler(settings.sample_one_in))))
        .with_resource(resource)
        .build())
}

fn sampler(one_in: usize) -> Sampler {
    match one_in {
        0 => Sampler::AlwaysOff,
        1 => Sampler::AlwaysOn,
        many => Sampler::TraceIdRatioBased(1.0 / many as f64),
    }
}

/// Reads `NAME=VALUE,NAME=VALUE`. What is wrong is told by its number: the values are secrets.
fn headers(text: &str) -> Result<HashMap<String, String>, OtelError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty()).enumerate();
    parts
        .map(|(index, part)| {
            let bad = || OtelError::Header(index + 1);
            let (name, value) = part.split_once('=').ok_or_else(bad)?;
            let (name, value) = (name.trim(), value.trim());
            http::HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            http::HeaderValue::from_str(value).map_err(|_| bad())?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// An HTTP client with a runtime of its own: spans are sent from a thread that belongs to no other, before the server's runtime
/// is there and after it has gone.
struct Road {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    runtime: Runtime,
}

impl fmt::Debug for Road {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Road")
    }
}

impl Road {
    fn new() -> Result<Self, OtelError> {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has what TLS 1.2 and 1.3 need")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), runtime })
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.client.request(request.map(Full::new)).await?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }
}

#[async_trait]
impl HttpClient for Road {
    /// Called by the thread that sends, which has nothing else to do than to wait for it.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.runtime.block_on(async { tokio::time::timeout(TIMEOUT, self.exchange(request)).await? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_are_names_and_values_and_errors_do_not_tell_them() {
        let read = headers("authorization=Bearer a=b, x-scope=chat,").unwrap();
        assert_eq!(read["authorization"], "Bearer a=b");
        assert_eq!((read["x-scope"].as_str(), read.len()), ("chat", 2));
        for bad in ["secret", "ok=1,se cret=2", "ok=1,name=se\u{1}cret"] {
            assert!(!headers(bad).unwrap_err().to_string().contains("cret"), "{bad}");
        }
    }

    #[test]
    fn one_in_so_many_is_sampled() {
        assert!(matches!(sampler(0), Sampler::AlwaysOff));
        assert!(matches!(sampler(1), Sampler::AlwaysOn));
        assert!(matches!(sampler(100), Sampler::TraceIdRatioBased(ratio) if (ratio - 0.01).abs() < 1e-9));
    }
}
