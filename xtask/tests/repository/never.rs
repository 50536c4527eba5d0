//! The "never" facts of `docs/architecture.md`, which are invisible in the code because they are about what is absent.

use crate::tree::{assert_none, sources};

/// Every line of code below `folders` that has one of `words`.
fn uses(folders: &[&str], words: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in folders.iter().flat_map(|folder| sources(folder)) {
        for (number, line) in file.code().lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: {word}", file.path, number + 1));
            }
        }
    }
    findings
}

/// Bytes in, frames out, and time is told, not read: that is what lets the fuzzers, the tests and both roles share one codec.
#[test]
fn websocket_and_protocol_do_no_io_and_read_no_clock() {
    let io = ["tokio", "mio::", "std::net", "std::fs", "std::io::", "std::thread", "TcpStream", "File::"];
    let clocks = ["Instant::now", "SystemTime::now"];
    assert_none(
        &uses(&["crates/websocket/src/", "crates/protocol/src/"], &[&io[..], &clocks[..]].concat()),
        "I/O or a clock in a crate that has none",
    );
}

/// A value has one way in, so that `config show` can tell where it came from and an embedder is not surprised.
#[test]
fn only_the_server_reads_environment_and_files() {
    let folders = [
        "crates/auth/src/",
        "crates/hub/src/",
        "crates/protocol/src/",
        "crates/websocket/src/",
        "crates/web/src/",
    ];
    let reads = ["env::var", "env::args", "std::fs", "tokio::fs", "File::open", "File::create"];
    assert_none(&uses(&folders, &reads), "a library that reads what only the server reads");
}

/// A dialect is one directory and one registration line; the hub would grow a case per wire format otherwise.
#[test]
fn hub_names_no_dialect() {
    let dialects = ["gohub", "Gohub", "GoHub", "native::", "Native"];
    assert_none(&uses(&["crates/hub/src/"], &dialects), "the hub knows a dialect by name");
}

/// Libraries are silent: what they have to say goes through `tracing` or an error.
#[test]
fn libraries_do_not_print() {
    let folders = [
        "crates/auth/src/",
        "crates/hub/src/",
        "crates/protocol/src/",
        "crates/websocket/src/",
        "crates/web/src/",
    ];
    assert_none(&uses(&folders, &["println!", "eprintln!", "print!("]), "a library that prints");
}
