//! As many quiet connections as a machine holds: several servers, each with a driver process of its own.
//!
//! A process has as many connections as it may have descriptors, on both ends; so what one server is to have needs one driver, and what a
//! machine is to have needs several of both. Each driver is this program with `idle --hold --json`.

use std::env;
use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::args::Scale as Args;
use crate::compare::{Launcher, Running};
use crate::process::kernel_memory;
use crate::report::{grouped, ratio};

/// What a driver reports.
#[derive(Debug, Deserialize)]
struct Driven {
    idle: Idle,
    problems: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Idle {
    connections: u32,
    connects_per_s: f64,
    #[serde(default)]
    pss_per_connection: Option<f64>,
    #[serde(default)]
    heartbeat_cpu_us: Option<f64>,
}

/// Runs `scale`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let launcher = Launcher::of_outspoke(&args.outspoke_bin)?;
    let kernel = Highest::watch();
    let servers: Vec<Running> =
        (0..args.servers).map(|_| launcher.start_outspoke(&[])).collect::<Result<_>>()?;
    let drivers: Vec<Driver> =
        servers.iter().map(|server| Driver::begin(server, args)).collect::<Result<_>>()?;
    let found: Vec<Driven> = drivers.into_iter().map(Driver::end).collect::<Result<_>>()?;
    print(args, &found, kernel.end()).context("cannot print the report")
}

/// How far the kernel's memory goes beyond what it was, looked at twice a second.
struct Highest {
    over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Highest {
    fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let over = Arc::clone(&over);
            move || {
                let now = || kernel_memory().unwrap_or_default();
                let (before, mut highest) = (now(), 0);
                while !over.load(Ordering::Relaxed) {
                    highest = now().max(highest);
                    thread::sleep(Duration::from_millis(500));
                }
                highest.saturating_sub(before)
            }
        });
        Self { over, thread }
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// A driver process; ended with its handle.
struct Driver(Child);

impl Driver {
    fn begin(server: &Running, args: &Args) -> Result<Self> {
        let server = server.args();
        let words = env::args().skip(1).take_while(|word| word != "scale");
        let mut command = Command::new(env::current_exe().context("cannot find this program's own file")?);
        command
            .args(words)
            .args(["idle", "--json", "--settle", "3s", "--timeout", "60s", "--url", &server.url])
            .args(["--server-pid", &server.server_pid.unwrap_or_default().to_string()])
            .args(["--connections", &args.connections.to_string()])
            .args(["--hold", &format!("{}ms", args.hold.as_millis())])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        if let Some(rooms) = args.rooms {
            command.args(["--rooms", &rooms.to_string()]);
        }
        command.spawn().map(Self).context("cannot start a driver")
    }

    fn end(mut self) -> Result<Driven> {
        let output = self.0.stdout.take().context("the driver's output is not piped")?;
        let text = io::read_to_string(output).context("cannot read what the driver says")?;
        let status = self.0.wait().context("cannot wait for the driver")?;
        ensure!(status.success(), "a driver failed ({status}); its words are above");
        serde_json::from_str(&text).context("cannot understand what the driver says")
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn print(args: &Args, found: &[Driven], kernel: u64) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let connections: u32 = found.iter().map(|driven| driven.idle.connections).sum();
    writeln!(
        out,
        "scale: {} connections on {} server(s), held for {:?}",
        grouped(f64::from(connections)),
        args.servers,
        args.hold
    )?;
    for (server, Driven { idle, problems }) in found.iter().enumerate() {
        let pss = idle.pss_per_connection.map_or_else(|| "-".to_owned(), grouped);
        let cpu = idle.heartbeat_cpu_us.map_or_else(|| "-".to_owned(), |cpu| format!("{cpu:.2}"));
        writeln!(
            out,
            "  server {:<2} {:>9} connections, {:>7}/s, {pss} B each (PSS), {cpu} us of CPU per connection and second",
            server + 1,
            grouped(f64::from(idle.connections)),
            grouped(idle.connects_per_s),
        )?;
        for problem in problems {
            writeln!(out, "  PROBLEM {problem}")?;
        }
    }
    let each = ratio(kernel as f64, f64::from(connections));
    writeln!(out, "  the kernel's slabs grew by {} B per connection, both ends together", grouped(each))
}
