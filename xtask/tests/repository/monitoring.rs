//! The dashboard, the alerts and the pages about them name the same metrics, and every alert says what to do.

use std::collections::BTreeSet;
use std::fs;

use crate::tree::{assert_none, root};

const DASHBOARD: &str = "deploy/grafana/outspoke.json";
const ALERTS: &str = "deploy/prometheus/alerts.yml";
const ALERTS_TEST: &str = "deploy/prometheus/alerts_test.yml";
const METRICS: &str = "docs/operating/metrics.md";
const RUNBOOK: &str = "docs/operating/monitoring.md";

/// What is documented and neither shown nor watched, with the reason.
const NOT_SHOWN: [(&str, &str); 1] =
    [("process_virtual_memory_bytes", "addresses in use say nothing about what a machine needs")];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Metrics that queries name: as they are documented, without what a classic histogram adds. Recorded ones, with a colon, are none.
fn named(text: &str, documented: &BTreeSet<String>) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let metrics = words.filter(|word| {
        !word.contains(':') && (word.starts_with("outspoke_") || word.starts_with("process_"))
    });
    let base = |word: &str| {
        let mut bases = ["_bucket", "_sum", "_count"].iter().filter_map(|end| word.strip_suffix(end));
        bases.find(|base| documented.contains(*base)).unwrap_or(word).to_owned()
    };
    metrics.map(base).collect()
}

fn documented() -> BTreeSet<String> {
    let page = read(METRICS);
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned())
        .filter(|name| name.starts_with("outspoke_") || name.starts_with("process_"))
        .collect()
}

fn alerts() -> Vec<String> {
    let rules = read(ALERTS);
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

/// A query for a metric that there is not answers nothing, and nobody notices.
#[test]
fn dashboard_and_alerts_name_only_documented_metrics_and_leave_none_out() {
    let documented = documented();
    assert!(documented.len() > 40, "{METRICS} lists only {} metrics", documented.len());
    let used: BTreeSet<String> =
        [DASHBOARD, ALERTS].into_iter().flat_map(|path| named(&read(path), &documented)).collect();
    let unknown = used.difference(&documented).cloned();
    assert_none(&unknown.collect::<Vec<_>>(), "metrics in dashboard or alerts that the page does not list");
    let not_shown: BTreeSet<String> = NOT_SHOWN.iter().map(|(name, _)| (*name).to_owned()).collect();
    let left_out = documented.difference(&used).filter(|name| !not_shown.contains(*name)).cloned();
    assert_none(&left_out.collect::<Vec<_>>(), "metrics that are shown nowhere; say why in NOT_SHOWN");
    assert_none(
        &not_shown.intersection(&used).cloned().collect::<Vec<_>>(),
        "metrics that are shown after all",
    );
}

/// Who is woken up wants to be told what to do, by a link that leads there.
#[test]
fn every_alert_has_a_section_that_says_what_to_do_and_a_test() {
    let (rules, runbook, tests) = (read(ALERTS), read(RUNBOOK), read(ALERTS_TEST));
    let alerts = alerts();
    assert!(alerts.len() > 10, "{ALERTS} has only {} alerts", alerts.len());
    let mut findings = Vec::new();
    for alert in &alerts {
        let anchor = format!("blob/main/{RUNBOOK}#{}\"", alert.to_lowercase());
        let wanted = [
            (rules.contains(&anchor), "no link to its section"),
            (runbook.contains(&format!("\n### {alert}\n")), "no section in the runbook"),
            (tests.contains(&format!("alertname: {alert}\n        exp_alerts:")), "no case that raises it"),
        ];
        findings
            .extend(wanted.iter().filter(|(there, _)| !there).map(|(_, what)| format!("{alert}: {what}")));
    }
    let sections = runbook.lines().filter_map(|line| line.strip_prefix("### Outspoke"));
    let lost = sections.map(|name| format!("Outspoke{name}")).filter(|name| !alerts.contains(name));
    findings.extend(lost.map(|name| format!("{name}: a section without an alert")));
    assert_none(&findings, "alerts and their runbook");
}

/// A panel without words leaves its reader with a line that goes up.
#[test]
fn every_panel_has_a_description_and_a_unit() {
    let dashboard: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 30, "the dashboard has only {} panels", panels.len());
    let shown = panels.iter().filter(|panel| panel["type"] != "row");
    let lacking = shown.filter(|panel| {
        let described = panel["description"].as_str().is_some_and(|text| text.len() > 20);
        !described || panel["fieldConfig"]["defaults"]["unit"].as_str().is_none_or(str::is_empty)
    });
    let titles = lacking.map(|panel| panel["title"].as_str().unwrap_or_default().to_owned());
    assert_none(&titles.collect::<Vec<_>>(), "panels without a description or a unit");
}
