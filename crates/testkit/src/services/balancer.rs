//! What the load balancers have in common: the nodes behind them, and the repository's own configurations.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// A node behind a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// What `?node=` calls it.
    pub name: String,
    /// Where it listens: an address, or a name with a port.
    pub addr: String,
}

impl Upstream {
    /// A node of this name and address.
    #[must_use]
    pub fn new(name: &str, addr: SocketAddr) -> Self {
        Self { name: name.to_owned(), addr: addr.to_string() }
    }
}

/// A file below `deploy/`, as it ships.
pub(super) fn shipped(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` with its only `old` replaced: a change that finds nothing, or too much, would test something else.
pub(super) fn replaced(text: &str, old: &str, new: &str) -> String {
    let count = text.matches(old).count();
    assert_eq!(count, 1, "`{old}` is {count} times in the configuration");
    text.replace(old, new)
}

/// `text` with `new` in place of the lines that `are_meant`.
pub(super) fn with_lines(text: &str, are_meant: impl Fn(&str) -> bool, new: &str) -> String {
    let mut result = String::new();
    let mut new = Some(new);
    for line in text.lines() {
        if !are_meant(line) {
            result.extend([line, "\n"]);
        } else if let Some(new) = new.take() {
            result.push_str(new);
        }
    }
    assert!(new.is_none(), "the configuration lists nodes");
    result
}

/// The two nodes of the shipped files.
#[cfg(test)]
pub(super) fn shipped_nodes() -> Vec<Upstream> {
    let node = |name: &str| Upstream { name: name.to_owned(), addr: format!("{name}:8080") };
    ["hub-1", "hub-2"].map(node).into()
}
