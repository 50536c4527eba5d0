//! `compare` from the outside: it starts servers, takes turns, writes figures, and leaves no process behind.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program around this crate; `cargo test` builds it before it runs tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/bench");
    assert!(program.exists(), "{} is missing; run `cargo test` without --test", program.display());
    program
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("outspoke-bench-test-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// An executable that notes its process id and then does `what`.
    fn script(&self, name: &str, what: &str) -> PathBuf {
        let path = self.0.join(name);
        let pids = self.0.join("pids");
        fs::write(&path, format!("#!/bin/sh\necho $$ >> {}\n{what}\n", pids.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn started(&self) -> Vec<String> {
        fs::read_to_string(self.0.join("pids")).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Any core that this process may use: the tests do not measure.
fn a_core() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    list.split(['-', ',']).next().unwrap().to_owned()
}

fn compare(words: &[&str], paths: &[(&str, &Path)]) -> Output {
    let core = a_core();
    let mut command = Command::new(program());
    command.args(["compare", "--shrink", "100", "--duration", "50ms", "--warm-up", "10ms"]);
    command.args(["--server-core", &core, "--driver-core", &core]).args(words);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    command.output().unwrap()
}

#[test]
fn compare_takes_turns_writes_all_figures_and_ends_every_server() {
    let folder = Folder::new("turns");
    // A stand-in for Bun: another relay that says where it listens.
    let relay = folder.script("relay", &format!("exec {} bare-server", program().display()));
    let figures = folder.0.join("figures.json");
    let paths = [("--bun", relay.as_path()), ("--bun-script", &relay), ("--json", &figures)];
    let output = compare(&["--runs", "2"], &paths);
    let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{told}");
    assert!(said.contains("| fanout | bun | CPU us each |"), "{said}");
    // Who came first came second the next time.
    assert!(
        told.find("run 1 bare") < told.find("run 1 bun") && told.find("run 2 bun") < told.find("run 2 bare")
    );

    let record: serde_json::Value = serde_json::from_slice(&fs::read(&figures).unwrap()).unwrap();
    let measurements = record["measurements"].as_array().unwrap();
    assert_eq!(measurements.len(), 2 * 2 * 5, "two servers, two runs, five cases");
    assert!(measurements.iter().all(|m| m["report"]["problems"].as_array().unwrap().is_empty()));

    let started = folder.started();
    assert_eq!(started.len(), 2 * 5);
    assert!(started.iter().all(|pid| !Path::new("/proc").join(pid).exists()), "a server was left behind");
}

#[test]
fn compare_with_a_server_that_does_not_start_tells_and_fails() {
    let folder = Folder::new("broken");
    let broken = folder.script("broken", "echo no such thing");
    let paths = [("--bun", broken.as_path()), ("--bun-script", &broken)];
    let output = compare(&["--runs", "1", "--cases", "echo"], &paths);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("PROBLEM echo") && said.contains("no such thing"), "{said}");
    assert!(said.contains("| echo | bare |"), "the others are measured nevertheless: {said}");
}

#[test]
fn compare_with_an_outspoke_that_ends_at_once_quotes_its_last_words() {
    let folder = Folder::new("ends");
    let ends = folder.script("ends", "echo the port is taken >&2\nexit 3");
    let output = compare(&[], &[("--outspoke-bin", ends.as_path())]);
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("exit status: 3") && told.contains("the port is taken"), "{told}");
}

#[test]
fn compare_with_nobody_says_what_to_give() {
    let output = compare(&[], &[]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--outspoke-bin"));
}
