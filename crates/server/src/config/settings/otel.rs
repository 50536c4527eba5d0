//! `otel.*`: where traces go.

use super::super::kind::{Count, Text, Url};
use super::super::table::section;

section! {
    /// Traces for OpenTelemetry: how long a request or a message takes, and where. Only in builds with the feature otel; see
    /// docs/operating/tracing.md.
    Otel at "otel" {
        /// Address of a collector that takes OTLP over HTTP, such as http://collector:4318; /v1/traces is added. "" for no traces.
        endpoint: String as Url = "" {}

        /// One of so many requests and messages is traced; 1 traces all. Who sends a traceparent has decided already.
        sample_one_in: usize as Count = "100" {
            range: Some(("1", "1_000_000_000")),
            zero: Some("only those that a traceparent asks for"),
        }

        /// What this service is called there.
        service_name: String as Text = "outspoke" {}

        /// Headers for the collector, such as authorization=Bearer TOKEN, with commas between several.
        headers: String as Text = "" { secret: true }
    }
}
