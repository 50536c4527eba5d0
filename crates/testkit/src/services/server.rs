//! One service's processes: the one that was started, and what it has started itself.
//!
//! PostgreSQL answers each connection in a process of its own, so a signal that is meant for the service goes to all of
//! them. Their ids come from `/proc`; Linux only.

use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Process;

/// How long a killed process may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running service.
#[derive(Debug)]
pub(super) struct Server {
    process: Process,
}

impl Server {
    pub(super) fn new(process: Process) -> Self {
        Self { process }
    }

    pub(super) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops every process where it is; the head first, so that it starts no other meanwhile.
    pub(super) fn pause(&self) {
        let head = self.process.id();
        signal(head, Signal::STOP);
        let children = children(head);
        children.iter().for_each(|&child| signal(child, Signal::STOP));
        // A thread stops when it notices, which on a busy machine is not at once.
        let deadline = Instant::now() + PATIENCE;
        while children.iter().chain([&head]).any(|&pid| !stands_still(pid)) {
            assert!(Instant::now() < deadline, "process {head} and its children stop when they are told to");
            std::thread::yield_now();
        }
    }

    /// Lets every process go on; the head last, so that it finds its children at work.
    pub(super) fn resume(&self) {
        let head = self.process.id();
        children(head).into_iter().for_each(|child| signal(child, Signal::CONT));
        signal(head, Signal::CONT);
    }

    /// Ends every process in the middle of what it does, and waits until all are gone.
    pub(super) fn kill(&mut self) {
        let head = self.process.id();
        signal(head, Signal::STOP);
        let children = children(head);
        // Also the children at once: left alone, they would notice and say goodbye.
        for &pid in children.iter().chain([&head]) {
            signal(pid, Signal::KILL);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.process.is_running() || children.iter().any(|&pid| is_alive(pid)) {
            assert!(Instant::now() < deadline, "process {head} and its children end when they are killed");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let head = self.process.id();
        if self.process.is_running() {
            let children = children(head);
            for pid in children.into_iter().chain([head]) {
                signal(pid, Signal::KILL);
            }
        }
    }
}

/// A port of the loopback interface that nobody has now.
///
/// Not one of those that the system gives to outgoing connections: between this look and the service's own, one of the
/// many clients of other tests would take it.
pub(super) fn free_port() -> u16 {
    let below_ephemeral =
        || 10_000 + u16::try_from(RandomState::new().hash_one(0) % 20_000).expect("it is small");
    let mut ports = std::iter::repeat_with(below_ephemeral).take(1000);
    let free = ports.find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    free.expect("one of many ports is free")
}

/// The first of these programs that is there.
pub(crate) fn program(candidates: impl IntoIterator<Item = PathBuf>, package: &str) -> PathBuf {
    let mut found = candidates.into_iter().filter(|path| path.is_file());
    found.next().unwrap_or_else(|| {
        panic!("a program of the Debian package {package} is missing: `sudo apt-get install {package}`")
    })
}

/// Every place where `name` may be, as a shell would look.
pub(crate) fn in_path(name: &str) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|folder| folder.join(name)).collect()
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself in this moment.
        let _ = kill_process(pid, signal);
    }
}

/// The state and the parent of a process; `None` when it is gone.
fn stat(pid: &Path) -> Option<(char, u32)> {
    let stat = fs::read_to_string(pid.join("stat")).ok()?;
    // The second field is the program's name in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    stat(Path::new(&format!("/proc/{pid}"))).is_some_and(|(state, _)| state != 'Z')
}

/// Whether every thread of a process is stopped, or gone.
fn stands_still(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = threads.filter_map(|thread| Some(stat(&thread.path())?.0));
    states.all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

fn children(head: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        (stat(&entry.path())?.1 == head).then_some(pid)
    });
    pids.collect()
}
