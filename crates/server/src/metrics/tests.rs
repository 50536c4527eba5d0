//! The metrics of a hub that does a little of everything, in both forms; and the page that lists them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue};
use outspoke_hub::bus::MemoryHub;
use outspoke_hub::store::MemoryStore;
use outspoke_hub::{Attach, Body, ClusterOptions, Hub, Identity, Kind};
use outspoke_testkit::{attach_with, settle};
use prometheus_client::encoding::prometheus_protobuf::{encode, prometheus_data_model::MetricFamily};
use serde_json::json;

use super::{Exposition, wants_protobuf};

const MARK: &str = "<!-- Generated from the code: UPDATE=1 cargo test -p outspoke --lib metrics -->\n\n";

/// A node of a cluster in which two people and the application have said something.
async fn busy() -> (Hub, Exposition) {
    let bus = MemoryHub::new();
    let builder = Hub::builder().cluster(Arc::new(bus.connect()), ClusterOptions::new("node-1"));
    let builder = builder.store("default", Arc::new(MemoryStore::shared()));
    let hub = builder.start_on_this_runtime().unwrap();
    let (mut ana, _) = attach_with(&hub, Attach::new(Identity::user("ana").named("Ana")), 65536);
    let (mut bob, _) = attach_with(&hub, Attach::new(Identity::user("bob").named("Bob")), 65536);
    ana.expect("welcome").await;
    bob.expect("welcome").await;
    ana.join("x").await;
    bob.join("x").await;
    ana.say("x", "hello").await;
    bob.find("chat").await;
    hub.publish("x", Kind::Data, Body::json(&1).unwrap()).unwrap().await.unwrap();
    bob.find("message").await;
    ana.send(json!({ "type": "publish", "room": "elsewhere", "data": 1 })).await;
    ana.find("error").await;
    bob.close(1000, "").await;
    bob.closed().await;
    drop(bob);
    settle().await;
    let exposition = Exposition::new(&hub, &Arc::default());
    (hub, exposition)
}

/// Samples by name and labels, as the text has them.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name, value.parse().unwrap()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn text_says_what_has_happened() {
    let (_hub, exposition) = busy().await;
    let text = exposition.text().unwrap();
    assert!(text.ends_with("# EOF\n"));
    let samples = samples(&text);
    for (name, value) in [
        ("outspoke_clients", 1.0),
        ("outspoke_rooms", 1.0),
        ("outspoke_connections_opened_total", 2.0),
        (r#"outspoke_connections_closed_total{by="client",reason="goodbye"}"#, 1.0),
        (r#"outspoke_connections_closed_total{by="server",reason="slow_consumer"}"#, 0.0),
        (r#"outspoke_messages_total{from="client"}"#, 1.0),
        (r#"outspoke_messages_total{from="application"}"#, 1.0),
        (r#"outspoke_joins_total{outcome="first"}"#, 2.0),
        (r#"outspoke_requests_refused_total{from="client",error="not_subscribed"}"#, 1.0),
        (r#"outspoke_requests_refused_total{from="api",error="rate_limited"}"#, 0.0),
        ("outspoke_nodes", 1.0),
        ("outspoke_panics_total", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}\n{text}");
    }
    // Two messages, and the news of who came and went.
    let deliveries = samples["outspoke_delivery_seconds_count"];
    assert!(deliveries >= 2.0 && samples["outspoke_deliveries_total"] >= 4.0, "{text}");
    assert_eq!(samples[r#"outspoke_delivery_seconds_bucket{le="+Inf"}"#], deliveries);
    assert!(samples[r#"outspoke_shard_turn_seconds_count{shard="0"}"#] > 2.0);
    #[cfg(target_os = "linux")]
    assert!(samples["process_resident_memory_bytes"] > 1e6 && samples["process_open_fds"] > 3.0);
}

/// Prometheus believes a native histogram only if its spans, deltas and count agree.
#[tokio::test(start_paused = true)]
async fn protobuf_has_native_histograms_that_agree_with_themselves() {
    let (_hub, exposition) = busy().await;
    let families: Vec<MetricFamily> = encode(&exposition.0).unwrap();
    let mut histograms = 0;
    for metric in families.iter().flat_map(|family| &family.metric) {
        let Some(histogram) = &metric.histogram else { continue };
        histograms += 1;
        assert_eq!(histogram.schema, 3);
        let (mut before, mut sum) = (0, 0);
        for delta in &histogram.positive_delta {
            before += delta;
            assert!(before > 0);
            sum += before;
        }
        assert_eq!(u64::try_from(sum).unwrap(), histogram.sample_count);
        let spanned: u32 = histogram.positive_span.iter().map(|span| span.length).sum();
        assert_eq!(spanned as usize, histogram.positive_delta.len());
        assert!(histogram.positive_span.iter().skip(1).all(|span| span.offset > 0));
    }
    assert!(histograms >= 2, "{histograms}");
    assert!(exposition.protobuf().is_some_and(|bytes| bytes.len() > 1000));
}

/// Whoever reads the page finds every family, and nothing that there is not.
#[tokio::test(start_paused = true)]
async fn page_lists_every_family() {
    let (_hub, exposition) = busy().await;
    let text = exposition.text().unwrap();
    let mut table = "| Name | Type | Labels | |\n| --- | --- | --- | --- |\n".to_owned();
    for line in text.lines() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
        let shown = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        writeln!(table, "| `{shown}` | {kind} | {} | {} |", labels(&text, name), help.trim_end_matches('.'))
            .unwrap();
    }
    let file: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../docs/operating/metrics.md"].iter().collect();
    let page = fs::read_to_string(&file).unwrap();
    let (prose, _) = page.split_once(MARK).expect("the page has the mark that begins its generated part");
    let wanted = format!("{prose}{MARK}{table}");
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(file, wanted).unwrap();
    }
    assert!(
        page == wanted,
        "docs/operating/metrics.md lags behind: UPDATE=1 cargo test -p outspoke --lib metrics"
    );
}

/// The names of a family's labels.
fn labels(text: &str, name: &str) -> String {
    let labelled = text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix("_total").or_else(|| line.strip_prefix(name))?;
        let rest = rest.strip_prefix("_count").unwrap_or(rest);
        rest.strip_prefix('{')?.split_once('}').map(|(labels, _)| labels.to_owned())
    });
    let names =
        labelled.iter().flat_map(|labels| labels.split(',')).filter_map(|label| label.split_once('='));
    names.map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn asks(accept: &str) -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(accept).unwrap())])
}

#[test]
fn form_is_the_one_that_is_liked_best() {
    let prometheus = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                      application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    assert!(wants_protobuf(&asks(prometheus)));
    for text in [
        "*/*",
        "text/plain",
        "application/openmetrics-text;version=1.0.0,application/vnd.google.protobuf",
        "",
    ] {
        assert!(!wants_protobuf(&asks(text)), "{text}");
    }
    assert!(!wants_protobuf(&asks("application/vnd.google.protobuf")), "another message, or another framing");
    assert!(!wants_protobuf(&HeaderMap::new()));
}
