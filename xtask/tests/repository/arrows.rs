//! Which of our crates may use which: server -> auth -> hub -> protocol, bus, store and websocket, never back;
//! the client stands beside the hub, on the same protocol and websocket.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::tree::{assert_none, root};

/// Each product crate and all of ours that it may depend on outside its tests.
const ARROWS: [(&str, &[&str]); 11] = [
    (
        "outspoke",
        &[
            "outspoke-auth",
            "outspoke-bench",
            "outspoke-bus",
            "outspoke-client",
            "outspoke-files",
            "outspoke-hub",
            "outspoke-protocol",
            "outspoke-store",
            "outspoke-web",
            "outspoke-websocket",
        ],
    ),
    ("outspoke-auth", &["outspoke-hub"]),
    ("outspoke-client", &["outspoke-protocol", "outspoke-websocket"]),
    ("outspoke-hub", &["outspoke-bus", "outspoke-protocol", "outspoke-store", "outspoke-websocket"]),
    ("outspoke-bus", &[]),
    ("outspoke-store", &[]),
    ("outspoke-protocol", &[]),
    ("outspoke-websocket", &[]),
    ("outspoke-files", &[]),
    ("outspoke-web", &[]),
    // The load generator shares no code path with what it measures.
    ("outspoke-bench", &[]),
];

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Our crates that `package` names as dependencies; in tests only if `dev`.
fn ours(package: &Value, dev: bool) -> BTreeSet<String> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    dependencies
        .filter(|dependency| (dependency["kind"] == "dev") == dev && dependency["path"].is_string())
        .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
        .collect()
}

/// An arrow that points back makes the hub unusable without the server, or the codec without a runtime.
#[test]
fn crates_depend_only_along_the_arrows() {
    let packages = packages();
    let mut findings = Vec::new();
    for (name, allowed) in ARROWS {
        let package = packages.iter().find(|package| package["name"] == name);
        let package = package.unwrap_or_else(|| panic!("no crate {name}"));
        let wrong = ours(package, false).into_iter().filter(|found| !allowed.contains(&found.as_str()));
        findings.extend(wrong.map(|found| format!("{name} -> {found}")));
    }
    assert_none(&findings, "arrows that must not be");
}

/// What is published must not need what is not.
#[test]
fn published_crates_depend_on_published_crates() {
    let packages = packages();
    let private: BTreeSet<_> = packages
        .iter()
        .filter(|package| package["publish"].as_array().is_some_and(Vec::is_empty))
        .map(|package| package["name"].as_str().unwrap().to_owned())
        .collect();
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| !private.contains(package["name"].as_str().unwrap())) {
        let wrong = ours(package, false).intersection(&private).cloned().collect::<Vec<_>>();
        findings.extend(wrong.into_iter().map(|found| format!("{} -> {found}", package["name"])));
    }
    assert_none(&findings, "published crates with unpublished dependencies");
}

/// A crate without its own line in the table would escape the first test.
#[test]
fn every_product_crate_has_its_arrows_stated() {
    let stated: BTreeSet<_> = ARROWS.iter().map(|(name, _)| *name).collect();
    let packages = packages();
    let private = |package: &&Value| package["publish"].as_array().is_some_and(Vec::is_empty);
    let product = packages.iter().filter(|package| !private(package));
    let found: BTreeSet<_> = product.map(|package| package["name"].as_str().unwrap()).collect();
    assert_eq!(found, stated);
}

/// Every version is written once, in the workspace; a second copy of a crate starts with a second version.
#[test]
fn dependencies_take_their_versions_from_the_workspace() {
    let mut findings = Vec::new();
    for file in crate::tree::files() {
        let member = file.path.starts_with("crates/") || file.path.starts_with("examples/");
        if !member || !file.path.ends_with("/Cargo.toml") {
            continue;
        }
        let text = file.text().unwrap();
        let mut in_dependencies = false;
        for line in text.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            } else if in_dependencies && names_a_version(line) {
                findings.push(format!("{}: {line}", file.path));
            }
        }
    }
    assert_none(&findings, "versions outside [workspace.dependencies]");
}

/// Whether a line of a dependency table brings a version of its own; a path is the crate's own folder.
fn names_a_version(line: &str) -> bool {
    line.contains('=') && !line.contains("workspace = true") && !line.contains("path =")
}
