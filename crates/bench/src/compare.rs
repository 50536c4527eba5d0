//! Servers in turn on the same machine, the same cases, interleaved; then medians, ratios and bars.
//!
//! Every measurement has a fresh server process, pinned to one core, with this driver on another. The servers
//! take turns within each repetition, so that a slow minute of the machine hits all of them alike, and ratios
//! are taken within a repetition before their median is. A case that fails on one server is reported and
//! fails the comparison; the others go on.

mod case;
mod servers;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::args;
use crate::process::{self, Cores};
use crate::report::Report;
pub(crate) use case::Case;
use case::{Figure, Scale};
use servers::Contender;
pub(crate) use servers::{Launcher, Running};
use verdict::Verdict;

/// One measurement.
#[derive(Debug, Serialize)]
struct Measurement {
    case: Case,
    server: Contender,
    run: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// All figures of one kind, by case and server, in the order of the runs.
type Figures = BTreeMap<(Case, Contender, Figure), Vec<f64>>;

#[derive(Serialize)]
struct Record<'a> {
    machine: Machine,
    command: Vec<String>,
    /// Deliveries on the wire, header included; what the bare loop pads to.
    frame_bytes: usize,
    verdicts: &'a [Verdict],
    measurements: &'a [Measurement],
}

#[derive(Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
}

/// Runs `compare`.
pub(crate) fn run(args: &args::Compare) -> Result<ExitCode> {
    ensure!(
        args.outspoke_bin.is_some() || args.bun.is_some(),
        "nothing to compare with the bare loop: give --outspoke-bin, --bun or both"
    );
    let (server, driver) = (Cores::one(args.server_core)?, Cores::one(args.driver_core)?);
    driver.apply()?;
    // Before anything starts: the servers inherit the limit, and need as many descriptors as the driver.
    process::allow_all_connections();
    let scale = Scale { shrink: args.shrink, duration: args.duration, warm_up: args.warm_up };
    let mut launcher = Launcher::new(args, server, driver)?;
    launcher.learn_frame_size()?;
    say(&format!("deliveries are {} bytes on the wire; the others send as much", launcher.frame_bytes));

    let measurements = measure_all(args, scale, &launcher)?;
    let figures = collect(&measurements);
    let verdicts = verdict::judge(&figures);
    let failed: Vec<_> = measurements.iter().filter(|m| m.is_faulty()).collect();
    let mut out = io::stdout().lock();
    write!(out, "{}", verdict::table(&figures, &verdicts)).context("cannot print the result")?;
    if let Some(share) = verdict::disturbance(&figures) {
        let percent = share * 100.0;
        writeln!(
            out,
            "\nNOT QUIET: other programs took up to {percent:.0} % of the cores; only CPU figures mean much"
        )
        .context("cannot print the result")?;
    }
    for measurement in &failed {
        writeln!(out, "PROBLEM {measurement}").context("cannot print the result")?;
    }
    if let Some(path) = &args.json {
        let record = Record {
            machine: machine(),
            command: std::env::args().collect(),
            frame_bytes: launcher.frame_bytes,
            verdicts: &verdicts,
            measurements: &measurements,
        };
        let file = fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &record)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let passed = failed.is_empty() && verdicts.iter().all(|verdict| verdict.passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn measure_all(args: &args::Compare, scale: Scale, launcher: &Launcher) -> Result<Vec<Measurement>> {
    let cases = if args.cases.is_empty() { Case::ALL.to_vec() } else { args.cases.clone() };
    let mut measurements = Vec::new();
    for case in cases {
        for run in 0..args.runs {
            let mut order = launcher.contenders(case);
            // Nobody always comes first.
            let count = order.len();
            order.rotate_left(run as usize % count.max(1));
            for server in order {
                let found = launcher.measure(server, case, scale);
                let measurement = Measurement::new(case, server, run, found);
                say(&measurement.to_string());
                measurements.push(measurement);
            }
        }
    }
    Ok(measurements)
}

fn collect(measurements: &[Measurement]) -> Figures {
    let mut figures = Figures::new();
    for measurement in measurements {
        for (figure, value) in measurement.figures() {
            figures.entry((measurement.case, measurement.server, figure)).or_default().push(value);
        }
    }
    figures
}

impl Measurement {
    fn new(case: Case, server: Contender, run: u32, found: Result<Report>) -> Self {
        let (report, error) = match found {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Self { case, server, run, report, error }
    }

    fn is_faulty(&self) -> bool {
        self.report.as_ref().is_none_or(|report| !report.is_clean())
    }

    /// What counts. Of a failed measurement nothing does, but its place is kept, so that runs stay paired.
    fn figures(&self) -> Vec<(Figure, f64)> {
        match &self.report {
            Some(report) if report.is_clean() => self.case.figures(report),
            _ => self.case.main_figures().iter().map(|&figure| (figure, f64::NAN)).collect(),
        }
    }
}

impl std::fmt::Display for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<9} run {} {:<10}", self.case.name(), self.run + 1, self.server.name())?;
        if let Some(error) = &self.error {
            return write!(f, " failed: {error}");
        }
        for (figure, value) in self.figures() {
            write!(f, " {}", figure.show(value))?;
        }
        for problem in self.report.iter().flat_map(|report| &report.problems) {
            write!(f, " [{problem}]")?;
        }
        Ok(())
    }
}

fn machine() -> Machine {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, n)| n));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cpu: cpu.unwrap_or("unknown").to_owned(),
        cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
        kernel: kernel.trim().to_owned(),
    }
}

/// Tells the waiting user how far it is; not part of the result.
fn say(text: &str) {
    // Nobody listening is no reason to stop measuring.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
