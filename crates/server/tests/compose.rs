//! The shipped `compose.yaml`: its hubs are configured as this server understands it, and known to the balancer.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A file of the repository.
fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file)).unwrap()
}

/// `text` with the value of each `${NAME:-default}`.
fn interpolated(text: &str, variables: &[(&str, &str)]) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inside, after) = after.split_once('}').unwrap();
        let (name, default) = inside.split_once(":-").unwrap();
        let given = variables.iter().find(|(variable, _)| *variable == name);
        result.extend([before, given.map_or(default, |(_, value)| value)]);
        rest = after;
    }
    result + rest
}

/// The environment of each hub.
fn hubs(variables: &[(&str, &str)]) -> BTreeMap<String, BTreeMap<String, String>> {
    let compose: Value = serde_saphyr::from_str(&interpolated(&shipped("compose.yaml"), variables)).unwrap();
    let services = compose["services"].as_object().unwrap();
    let hubs = services.iter().filter(|(name, _)| name.starts_with("hub-"));
    hubs.map(|(name, hub)| (name.clone(), serde_json::from_value(hub["environment"].clone()).unwrap()))
        .collect()
}

// The cluster to try out would not start.
#[test]
fn compose_environment_of_the_hubs_is_a_valid_configuration() {
    for variables in [&[][..], &[("BUS", "nats")], &[("BUS", "redis"), ("STORE", "redis")]] {
        let hubs = hubs(variables);
        assert_eq!(hubs.keys().collect::<Vec<_>>(), ["hub-1", "hub-2"]);
        for (name, environment) in hubs {
            assert_eq!(environment["OUTSPOKE_CLUSTER__NAME"], name);
            let mut check = Command::new(env!("CARGO_BIN_EXE_outspoke"));
            // A build may be without the bus.
            let alone = ["--set", "cluster.enabled=false"];
            check.args(["config", "check", "--no-config"]).args(alone).env_clear().envs(&environment);
            check.envs(std::env::var_os("LLVM_PROFILE_FILE").map(|file| ("LLVM_PROFILE_FILE", file)));
            let output = check.stdin(Stdio::null()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name} with {variables:?}: {said}");
        }
    }
}

// Hints would name nodes that the balancer does not know.
#[test]
fn compose_hubs_are_the_balancers_nodes() {
    let haproxy = shipped("deploy/haproxy/haproxy.cfg");
    let servers = haproxy.lines().filter_map(|line| line.trim().strip_prefix("server "));
    let servers: Vec<String> =
        servers.map(|server| server.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    let hubs: Vec<String> = hubs(&[]).into_keys().map(|name| format!("{name} {name}:8080")).collect();
    assert_eq!(servers, hubs);
}
