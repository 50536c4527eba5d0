//! `metrics.*`: where Prometheus finds what the server counts.

use super::super::kind::AddressOrNone;
use super::super::table::section;
use super::ListenAddr;

section! {
    /// What the server counts and measures, for Prometheus; see docs/operating/metrics.md. With one of api.keys it is also at
    /// /api/v1/metrics.
    Metrics at "metrics" {
        /// Address of a listener of its own, such as "127.0.0.1:9464", that answers /metrics and health checks to everybody who
        /// reaches it, without TLS: not one for the internet. "" for none.
        addr: Option<ListenAddr> as AddressOrNone = "" {}
    }
}
