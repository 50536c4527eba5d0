//! What the server tells Prometheus: one look at the hub and the process, written as its protocol wants it.
//!
//! Nothing is kept between two looks: every family is made from what [`Hub::metrics`] says at the moment. Prometheus is given
//! its protobuf form, with native histograms, where it asks for that, and otherwise the text of OpenMetrics 1.0 with classic
//! buckets. Labels have few values, all known beforehand: no room, user, address or tenant is one.

mod family;
mod hub;
mod process;

use std::sync::Arc;

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use outspoke_hub::Hub;
use prometheus_client::encoding::{prometheus_protobuf, text};
use prometheus_client::registry::Registry;

use self::hub::HubFamilies;
use self::process::ProcessFamilies;
use crate::http::api::refusals::Refusals;

const TEXT: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
const PROTOBUF: HeaderValue = HeaderValue::from_static(
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
);

/// Everything that is told.
#[derive(Clone, Debug)]
pub(crate) struct Exposition(Arc<Registry>);

impl Exposition {
    /// `refusals`: what was refused over HTTP.
    pub(crate) fn new(hub: &Hub, refusals: &Arc<Refusals>) -> Self {
        let mut registry = Registry::default();
        registry
            .register_collector(Box::new(HubFamilies { hub: hub.clone(), refusals: Arc::clone(refusals) }));
        registry.register_collector(Box::new(ProcessFamilies));
        Self(Arc::new(registry))
    }

    /// Answers a scrape in the form that it asks for.
    pub(crate) fn answer(&self, headers: &HeaderMap) -> Response {
        let written = match wants_protobuf(headers) {
            true => self.protobuf().map(|body| (PROTOBUF, body)),
            false => self.text().map(|body| (TEXT, body.into_bytes())),
        };
        match written {
            Some((kind, body)) => ([(CONTENT_TYPE, kind)], body).into_response(),
            None => {
                (StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written down").into_response()
            }
        }
    }

    /// As text, with classic buckets.
    pub(crate) fn text(&self) -> Option<String> {
        let mut body = String::new();
        text::encode(&mut body, &self.0).ok().map(|()| body)
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        prometheus_protobuf::encode_to_vec(&self.0).ok()
    }
}

/// Whether the first form that is asked for, of those that we have, is protobuf. Prometheus puts what it likes best first.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut forms = accepted.flat_map(|value| value.split(',')).map(str::trim);
    let known = forms.find(|form| {
        is_protobuf(form)
            || form.starts_with("application/openmetrics-text")
            || form.starts_with("text/plain")
    });
    known.is_some_and(is_protobuf)
}

fn is_protobuf(form: &str) -> bool {
    form.starts_with("application/vnd.google.protobuf")
        && form.contains("proto=io.prometheus.client.MetricFamily")
        && form.contains("encoding=delimited")
}

#[cfg(test)]
mod tests;
