//! What the operating system says of processes: CPU time, memory, cores, descriptors.
//!
//! Figures of the server come from `/proc` (Linux) by its process id, so the server need not cooperate.
//! Elsewhere they are absent, and reports say nothing of them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: event queue, standard streams, files being read.
const SPARE_DESCRIPTORS: u64 = 64;

/// A process that is being observed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pid: u32,
}

/// What the threads of a process have had of the cores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// Time on a core.
    pub(crate) used: Duration,
    /// Time ready to run while something else had the core; zero where the kernel does not count it.
    pub(crate) waited: Duration,
}

impl CpuTime {
    /// What was used and waited since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        let used = self.used.saturating_sub(earlier.used);
        Self { used, waited: self.waited.saturating_sub(earlier.waited) }
    }
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Resident set size.
    pub rss: u64,
    /// Proportional set size: shared pages count in part.
    pub pss: u64,
}

impl Process {
    /// Observes `pid`; fails if there is no such process or it may not be observed.
    pub(crate) fn observe(pid: u32) -> Result<Self> {
        let process = Self { pid };
        process.cpu().with_context(|| {
            format!("cannot observe process {pid}: give --server-pid the id of a running process of yours")
        })?;
        Ok(process)
    }

    /// This process.
    pub(crate) fn own() -> Self {
        Self { pid: std::process::id() }
    }

    /// CPU time of all its threads. The scheduler's nanoseconds where the kernel counts them, else ticks.
    pub(crate) fn cpu(self) -> Result<CpuTime> {
        let mut total = CpuTime::default();
        let tasks = format!("/proc/{}/task", self.pid);
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            let task = task.with_context(|| format!("cannot read {tasks}"))?.path();
            // A thread may end between the listing and the reading: it no longer counts.
            let precise = fs::read_to_string(task.join("schedstat")).ok();
            if let Some(time) = precise.as_deref().and_then(schedstat_cpu) {
                total.used += time.used;
                total.waited += time.waited;
            } else if let Ok(stat) = fs::read_to_string(task.join("stat")) {
                total.used += stat_cpu(&stat).unwrap_or_default();
            }
        }
        Ok(total)
    }

    /// Its memory now.
    pub(crate) fn memory(self) -> Result<Memory> {
        let path = format!("/proc/{}/smaps_rollup", self.pid);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        smaps_memory(&text).with_context(|| format!("cannot understand {path}"))
    }

    /// How many threads it has.
    pub(crate) fn threads(self) -> Result<usize> {
        let tasks = format!("/proc/{}/task", self.pid);
        Ok(fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))?.count())
    }

    /// How many descriptors it holds.
    pub(crate) fn descriptors(self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.pid);
        Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count())
    }
}

/// The first two numbers of a `schedstat` line: nanoseconds on a core, and waiting for one.
fn schedstat_cpu(text: &str) -> Option<CpuTime> {
    let mut fields = text.split_whitespace();
    let mut next = || fields.next()?.parse().ok().map(Duration::from_nanos);
    Some(CpuTime { used: next()?, waited: next()? })
}

/// User and system ticks of a `stat` line: fields 14 and 15, counted after the name, which may hold anything.
fn stat_cpu(text: &str) -> Option<Duration> {
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

fn smaps_memory(text: &str) -> Option<Memory> {
    Some(Memory { rss: field(text, "Rss:")?, pss: field(text, "Pss:")? })
}

/// The bytes that a line of `name` and a number of kB tells.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// What the kernel itself has in its slabs, sockets among it; absent where it does not say.
pub(crate) fn kernel_memory() -> Option<u64> {
    field(&fs::read_to_string("/proc/meminfo").ok()?, "Slab:")
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// Makes room for `connections` descriptors, or says how to.
pub(crate) fn allow_connections(connections: usize) -> Result<()> {
    let needed = connections as u64 + SPARE_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let maximum = if limit.maximum.is_none_or(|maximum| maximum >= needed) {
        limit.maximum
    } else {
        // Only a privileged process may raise the hard limit; others get the text below.
        Some(needed)
    };
    if setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum }).is_err() {
        let allowed = limit.maximum.unwrap_or_default();
        bail!(
            "{connections} connections need {needed} file descriptors, {allowed} are allowed; \
             raise the limit (`ulimit -Hn {needed}` as root) or use fewer connections"
        );
    }
    Ok(())
}

/// Takes all the descriptors that the hard limit allows; for a server that does not know how many it needs.
pub(crate) fn allow_all_connections() {
    let limit = getrlimit(Resource::Nofile);
    // Failing leaves the limit as it was, and the driver reports the connections that are then refused.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Which cores the calling thread, and what it starts, may use.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores(rustix::thread::CpuSet);

#[cfg(target_os = "linux")]
impl Cores {
    /// Those of the calling thread.
    pub(crate) fn current() -> Result<Self> {
        rustix::thread::sched_getaffinity(None).map(Self).context("cannot read the allowed cores")
    }

    /// One core only.
    pub(crate) fn one(core: usize) -> Result<Self> {
        if core >= rustix::thread::CpuSet::MAX_CPU || !Self::current()?.0.is_set(core) {
            bail!("core {core} is not available; this process may use {}", Self::current()?.listed());
        }
        let mut set = rustix::thread::CpuSet::new();
        set.set(core);
        Ok(Self(set))
    }

    /// Moves the calling thread there.
    pub(crate) fn apply(self) -> Result<()> {
        rustix::thread::sched_setaffinity(None, &self.0).context("cannot move to another core")
    }

    fn listed(self) -> String {
        let cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| self.0.is_set(core));
        cores.map(|core| core.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// Pinning is only known on Linux; elsewhere asking for it is an error.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores;

#[cfg(not(target_os = "linux"))]
impl Cores {
    pub(crate) fn current() -> Result<Self> {
        Ok(Self)
    }

    pub(crate) fn one(_: usize) -> Result<Self> {
        bail!("pinning to a core works on Linux only")
    }

    pub(crate) fn apply(self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn schedstat_is_time_on_a_core_and_time_waiting_for_it() {
        let (used, waited) = (Duration::from_nanos(1_234_567), Duration::from_nanos(89));
        assert_eq!(schedstat_cpu("1234567 89 3\n"), Some(CpuTime { used, waited }));
        assert_eq!(schedstat_cpu(""), None);
    }

    #[test]
    fn stat_of_a_process_with_spaces_and_brackets_in_its_name_is_understood() {
        let text = "42 (a ) b) S 1 42 42 0 -1 4194560 104 0 0 0 150 50 0 0 20 0 1 0 46 8671232 225";
        let seconds = 200.0 / rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(stat_cpu(text), Some(Duration::from_secs_f64(seconds)));
    }

    #[test]
    fn smaps_memory_is_in_bytes() {
        let text = "5592f0375000-7ffc2db49000 ---p 0 00:00 0 [rollup]\nRss:    1784 kB\nPss:     324 kB\n";
        assert_eq!(smaps_memory(text), Some(Memory { rss: 1784 * 1024, pss: 324 * 1024 }));
        assert_eq!(smaps_memory("Rss: 1 kB\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn process_of_this_test_can_be_observed() {
        let process = Process::observe(std::process::id()).unwrap();
        assert!(process.memory().unwrap().rss > 0);
        assert!(process.threads().unwrap() > 0 && process.descriptors().unwrap() > 0);
    }

    #[test]
    fn process_that_does_not_exist_is_an_error_with_a_cure() {
        let error = Process::observe(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("--server-pid"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn cores_beyond_the_machine_are_refused() {
        assert!(Cores::one(rustix::thread::CpuSet::MAX_CPU).is_err());
    }
}
