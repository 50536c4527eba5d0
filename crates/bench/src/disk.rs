//! The reference for stored messages: the same bytes appended to a file, and nothing else.
//!
//! As many records as there are publishers are written with one `write(2)` and one `fdatasync(2)`, again and again: the
//! line above which nobody gets who makes a message durable before it is acknowledged, with so many in flight.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::histogram::Histogram;
use crate::process::{self, Process};
use crate::report::{self, Latency, Load, Report};
use crate::sequence::Tally;

/// What a message takes in a log beside its body: length, checksum, id, time, publisher.
const ENVELOPE: usize = 128;

/// Writes groups of records to a file in `folder` for `duration`, after `warm_up`.
pub(crate) fn measure(
    folder: &Path,
    group: u32,
    size: usize,
    warm_up: Duration,
    duration: Duration,
) -> Result<Report> {
    let path = folder.join("outspoke-bench-disk");
    let measured = write_groups(&path, group, size + ENVELOPE, warm_up, duration);
    // What cannot be removed stays in the folder for temporary files.
    let _ = fs::remove_file(&path);
    let load = measured.with_context(|| format!("cannot write {}", path.display()))?;
    let plan = format!("{group} records of {} B, one write and one fdatasync", size + ENVELOPE);
    let mut report = Report::of_disk(plan);
    report.load = Some(load);
    Ok(report)
}

fn write_groups(
    path: &Path,
    group: u32,
    record: usize,
    warm_up: Duration,
    duration: Duration,
) -> Result<Load> {
    let mut file = File::create(path)?;
    let bytes = vec![b'x'; group as usize * record];
    let mut latency = Histogram::new();
    let begin = Instant::now();
    while begin.elapsed() < warm_up {
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    let (cpu, threads) = (process::own_cpu(), Process::own().cpu().ok());
    let begin = Instant::now();
    let mut groups = 0;
    while begin.elapsed() < duration {
        let written = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        latency.record(written.elapsed().as_nanos() as u64);
        groups += 1;
    }
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), process::own_cpu() - cpu);
    let waited = threads.and_then(|before| Some(Process::own().cpu().ok()?.since(before).waited));
    let messages = groups * u64::from(group);
    Ok(Load {
        seconds,
        messages,
        deliveries: messages,
        deliveries_per_s: report::ratio(messages as f64, seconds),
        latency: Latency::from(&latency),
        faults: Tally::default(),
        foreign: 0,
        bytes_per_delivery: record as f64,
        bytes: messages * record as u64,
        server_cpu_us: Some(report::us_each(cpu, messages)),
        server_busy: Some(report::ratio(cpu.as_secs_f64(), seconds)),
        driver_busy: 0.0,
        disturbed: waited.map(|waited| report::ratio(waited.as_secs_f64(), seconds)),
        send_lag_p99_us: None,
    })
}
