//! The test suites: what `cargo xtask test` runs.
//!
//! Each closes with one line of counts. A suite that cannot run here has failed, unless it says in a note why that is
//! allowed and what ran in its place.

mod acme;
mod api;
mod browser;
mod conformance;
mod deploy;
mod dynamodb;
mod loom;
mod node;
mod otel;
mod prometheus;
mod release;
mod rust;
mod sdk;
mod testssl;

use crate::checks;
use crate::report::Job;

pub(crate) use node::install as install_npm;
pub(crate) use release::build as release_binary;
pub(crate) use rust::{COVERAGE_FOLDER, OBJECTS_FILE};

/// Every suite, the one that `filter` names, or the Rust tests whose names contain it.
pub(crate) fn matching(filter: Option<&str>, coverage: bool) -> Vec<Job> {
    let all = all(coverage);
    let Some(filter) = filter else { return all };
    let named: Vec<Job> =
        all.into_iter().chain([dynamodb(), acme(), otel()]).filter(|job| job.name == filter).collect();
    if named.is_empty() { vec![rust(Some(filter), false)] } else { named }
}

fn all(coverage: bool) -> Vec<Job> {
    let mut jobs = vec![rust(None, coverage)];
    if coverage {
        jobs.push(checks::coverage());
    }
    jobs.extend([
        repository(),
        browser(),
        loom(),
        sdk(),
        conformance(),
        api(),
        testssl(),
        prometheus(),
        deploy(),
    ]);
    jobs
}

/// The Rust tests of every crate but this one; `measured` builds them to note which lines they reach.
pub(crate) fn rust(filter: Option<&str>, measured: bool) -> Job {
    let filter = filter.map(str::to_owned);
    Job::tests("rust", move |ctx, tally| rust::run(ctx, tally, filter.as_deref(), measured))
}

/// The house rules: this crate's own tests.
fn repository() -> Job {
    Job::tests("repository", rust::repository)
}

/// What threads share, in every order they can meet in.
pub(crate) fn loom() -> Job {
    Job::tests("loom", loom::run).built_by(loom::build)
}

/// The web chat, in Chromium.
pub(crate) fn browser() -> Job {
    Job::tests("browser", browser::run).built_by(release::command)
}

/// The JavaScript client, on a clock of its own and against the server.
pub(crate) fn sdk() -> Job {
    Job::tests("sdk", sdk::run)
}

/// RFC 6455 and 7692, by the Autobahn suite.
pub(crate) fn conformance() -> Job {
    Job::tests("conformance", conformance::run)
}

/// The store in DynamoDB, on a stand-in.
fn dynamodb() -> Job {
    Job::tests("dynamodb", dynamodb::run)
}

/// Certificates from an authority.
fn acme() -> Job {
    Job::tests("acme", acme::run)
}

/// Traces for OpenTelemetry.
fn otel() -> Job {
    Job::tests("otel", otel::run)
}

/// The HTTP API, by schemathesis.
pub(crate) fn api() -> Job {
    Job::tests("api", api::run)
}

/// The dashboard and the alerts, by a real Prometheus.
pub(crate) fn prometheus() -> Job {
    Job::tests("prometheus", prometheus::run)
}

/// The TLS that the server has by default, by testssl.sh.
pub(crate) fn testssl() -> Job {
    Job::tests("testssl", testssl::run)
}

/// Chart, manifests, image and workflows, by linters, schemas, and the server's own word.
pub(crate) fn deploy() -> Job {
    Job::tests("deploy", deploy::run)
}
