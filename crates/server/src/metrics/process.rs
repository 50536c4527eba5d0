//! The process, under the names that Prometheus' own clients have for it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::family::Families;

/// What the system says of this process. Only Linux is asked; elsewhere there is the version alone.
#[derive(Debug)]
pub(super) struct ProcessFamilies;

impl Collector for ProcessFamilies {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        families.gauges(
            "outspoke_build_info",
            "1, with the version that runs",
            [([("version", env!("CARGO_PKG_VERSION"))], 1.0)],
        )?;
        #[cfg(target_os = "linux")]
        if let Some(process) = linux::Process::look() {
            process.write(&mut families)?;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{fmt, fs};

    use super::Families;

    /// One look at `/proc/self` (proc(5)).
    pub(super) struct Process {
        cpu_seconds: f64,
        start_time: f64,
        resident_bytes: f64,
        virtual_bytes: f64,
        threads: f64,
        descriptors: f64,
        descriptors_max: f64,
    }

    impl Process {
        pub(super) fn look() -> Option<Self> {
            let stat = fs::read_to_string("/proc/self/stat").ok()?;
            // The name before may have blanks and brackets in it. What follows begins with field 3.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
            let ticks = rustix::param::clock_ticks_per_second() as f64;
            let page = rustix::param::page_size() as f64;
            let system = fs::read_to_string("/proc/stat").ok()?;
            let boot: f64 =
                system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
            Some(Self {
                cpu_seconds: (field(14)? + field(15)?) / ticks,
                threads: field(20)?,
                start_time: boot + field(22)? / ticks,
                virtual_bytes: field(23)?,
                resident_bytes: field(24)? * page,
                descriptors: fs::read_dir("/proc/self/fd").ok()?.count() as f64,
                descriptors_max: limit.map_or(f64::INFINITY, |limit| limit as f64),
            })
        }

        pub(super) fn write(&self, families: &mut Families<'_>) -> fmt::Result {
            families.seconds(
                "process_cpu_seconds",
                "CPU time used, by the process and for it",
                self.cpu_seconds,
            )?;
            families.gauge(
                "process_start_time_seconds",
                "When the process began, since 1970",
                self.start_time,
            )?;
            families.gauge("process_resident_memory_bytes", "Memory in use", self.resident_bytes)?;
            families.gauge("process_virtual_memory_bytes", "Addresses in use", self.virtual_bytes)?;
            families.gauge("process_threads", "Threads", self.threads)?;
            families.gauge("process_open_fds", "Descriptors in use: connections, files", self.descriptors)?;
            families.gauge("process_max_fds", "Descriptors that may be in use", self.descriptors_max)
        }
    }
}
