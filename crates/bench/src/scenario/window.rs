//! The measured part of a run: when it starts and ends, and what was spent in between.
//!
//! Shared by all scenarios under load. Latencies belong to the window in which the message should have been
//! sent, deliveries to the one in which they arrived. The scenario decides when to move on (in a closed loop
//! between two rounds, so that whole rounds are counted).

use std::time::Duration;

use anyhow::Result;

use crate::histogram::Histogram;
use crate::net::{Net, Traffic};
use crate::process::{self, CpuTime, Process};
use crate::report::{self, Latency, Load};
use crate::sequence::Tally;

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    WarmUp,
    Measuring,
    /// Nothing new is sent; what is on its way arrives.
    Draining,
}

/// Counts what happens in the measured part of a run.
pub(crate) struct Window {
    pub(crate) phase: Phase,
    due: u64,
    length: u64,
    /// Messages that should be sent between these are counted, with their latency.
    from: u64,
    to: u64,
    server: Option<Process>,
    at_start: Spent,
    spent: Spent,
    messages: u64,
    deliveries: u64,
    latency: Histogram,
    lag: Histogram,
}

#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    server: Option<CpuTime>,
    driver_cpu: Duration,
    /// Absent where the system has no `/proc`.
    driver: Option<CpuTime>,
    traffic: Traffic,
}

impl Spent {
    fn now(server: Option<Process>, net: &Net) -> Result<Self> {
        Ok(Self {
            server: server.map(Process::cpu).transpose()?,
            driver_cpu: process::own_cpu(),
            driver: Process::own().cpu().ok(),
            traffic: net.traffic,
        })
    }

    fn since(self, earlier: Self) -> Self {
        let between = |now: Option<CpuTime>, then: Option<CpuTime>| Some(now?.since(then?));
        Self {
            server: between(self.server, earlier.server),
            driver_cpu: self.driver_cpu - earlier.driver_cpu,
            driver: between(self.driver, earlier.driver),
            traffic: self.traffic.since(earlier.traffic),
        }
    }
}

impl Window {
    /// Measures for `length`, after `warm_up` from now.
    pub(crate) fn after(net: &Net, warm_up: Duration, length: Duration, server: Option<Process>) -> Self {
        Self {
            phase: Phase::WarmUp,
            due: net.now() + warm_up.as_nanos() as u64,
            length: length.as_nanos() as u64,
            from: u64::MAX,
            to: u64::MAX,
            server,
            at_start: Spent::default(),
            spent: Spent::default(),
            messages: 0,
            deliveries: 0,
            latency: Histogram::new(),
            lag: Histogram::new(),
        }
    }

    /// Moves to the next phase if it is time.
    pub(crate) fn advance(&mut self, net: &Net) -> Result<()> {
        if self.phase == Phase::Draining || net.now() < self.due {
            return Ok(());
        }
        if self.phase == Phase::WarmUp {
            self.at_start = Spent::now(self.server, net)?;
            self.from = net.now();
            self.due = self.from + self.length;
            self.phase = Phase::Measuring;
            return Ok(());
        }
        self.finish(net)
    }

    /// Ends the measurement now, if it has begun.
    pub(crate) fn finish(&mut self, net: &Net) -> Result<()> {
        if self.phase == Phase::Measuring {
            self.to = net.now();
            self.spent = Spent::now(self.server, net)?.since(self.at_start);
        }
        self.phase = Phase::Draining;
        Ok(())
    }

    /// Whether a message that is due then is still to be sent. Those that were due within the window are, however
    /// late the driver is: leaving them out would hide just the moments in which it was slow.
    pub(crate) fn wants(&self, due: u64) -> bool {
        self.phase != Phase::Draining || due < self.to && self.to != u64::MAX
    }

    /// Counts messages that were just sent, `lag` nanoseconds after they were due.
    pub(crate) fn sent(&mut self, messages: u64, due: u64, lag: u64) {
        if due >= self.from && due < self.to {
            self.messages += messages;
            self.lag.record(lag);
        }
    }

    /// Counts a delivery of what should have been sent at `sent`.
    #[inline]
    pub(crate) fn delivered(&mut self, sent: u64, now: u64) {
        if self.phase == Phase::Measuring {
            self.deliveries += 1;
        }
        if sent >= self.from && sent < self.to {
            self.latency.record(now.saturating_sub(sent));
        }
    }

    /// What was found.
    pub(crate) fn into_load(self, on_schedule: bool, faults: Tally, foreign: u64) -> Load {
        let length = if self.to == u64::MAX { 0 } else { self.to - self.from };
        let seconds = length as f64 / 1e9;
        let Spent { server, driver_cpu, driver, traffic } = self.spent;
        let share = |time: Duration| report::ratio(time.as_secs_f64(), seconds);
        let waited = server.iter().chain(&driver).map(|time| share(time.waited)).reduce(f64::max);
        Load {
            seconds,
            messages: self.messages,
            deliveries: self.deliveries,
            deliveries_per_s: report::ratio(self.deliveries as f64, seconds),
            latency: Latency::from(&self.latency),
            faults,
            foreign,
            bytes_per_delivery: report::ratio(traffic.bytes_in as f64, self.deliveries as f64),
            bytes: traffic.bytes_in,
            server_cpu_us: server.map(|cpu| report::us_each(cpu.used, self.deliveries)),
            server_busy: server.map(|cpu| share(cpu.used)),
            driver_busy: share(driver_cpu),
            disturbed: waited,
            send_lag_p99_us: on_schedule.then(|| self.lag.quantile(0.99) as f64 / 1e3),
        }
    }
}
