//! The process's limit on open files, which is the limit on connections.
//!
//! Raised once at start, before anything is accepted. Login shells and service managers commonly give a soft limit
//! of 1,024 with a far higher hard limit; raising soft to hard needs no privilege.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, epoll, wake-ups, log, data files, with room to spare.
pub const RESERVED: u64 = 64;
/// Below this many descriptors starting makes no sense.
const USABLE_MIN: u64 = 2 * RESERVED;
/// A hub that holds fewer connections than this deserves a warning.
const COMFORTABLE: u64 = 10_000;
/// Where the hard limit is "unlimited" the kernel still has a ceiling; this is Linux's default `fs.nr_open`.
const CEILING: u64 = 1_048_576;
/// macOS refuses more than its `OPEN_MAX` even when it reports "unlimited".
const OPEN_MAX: u64 = 10_240;

/// What the cure for a low hard limit looks like.
pub const CURE: &str = "raise it with `ulimit -n 1048576` before the start, LimitNOFILE=1048576 in a systemd unit, \
                        or --ulimit nofile=1048576 for docker run";

/// The process's limit on file descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What the process may open now.
    pub soft: u64,
    /// What the process could raise that to without privilege.
    pub hard: u64,
}

impl DescriptorLimit {
    /// The limit as it is.
    pub fn current() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
    }

    /// Raises the soft limit to the hard one, as far as the system lets it, and gives the result.
    pub fn raise() -> Self {
        let before = Self::current();
        let steps = [before.hard, CEILING, OPEN_MAX].into_iter();
        for target in steps.filter(|target| *target <= before.hard && *target > before.soft) {
            let maximum = getrlimit(Resource::Nofile).maximum;
            if setrlimit(Resource::Nofile, Rlimit { current: Some(target), maximum }).is_ok() {
                break;
            }
        }
        Self::current()
    }

    /// Connections that fit, given `server.connections_max`, where 0 means as many as fit.
    pub fn connections(&self, connections_max: usize) -> usize {
        let fit = usize::try_from(self.soft.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
        if connections_max == 0 { fit } else { fit.min(connections_max) }
    }

    /// Whether a server can run at all.
    pub fn is_usable(&self) -> bool {
        self.soft >= USABLE_MIN
    }

    /// What to warn of at start: more connections asked for than fit, or fewer than a hub should hold.
    pub fn warning(&self, connections_max: usize) -> Option<String> {
        let fit = self.soft.saturating_sub(RESERVED);
        let asked = connections_max as u64;
        let soft = self.soft;
        if asked > fit {
            return Some(format!(
                "server.connections_max is {asked}, but the limit of {soft} file descriptors leaves room for {fit} \
                 connections; {CURE}"
            ));
        }
        (asked == 0 && soft < COMFORTABLE).then(|| {
            format!("the limit of {soft} file descriptors leaves room for {fit} connections; {CURE}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_limit_equals_the_hard_limit_and_nothing_is_lost() {
        let before = DescriptorLimit::current();
        let after = DescriptorLimit::raise();
        assert!(after.soft >= before.soft);
        assert_eq!(after.hard, before.hard, "the hard limit stays as it is");
        assert!(after.soft == after.hard || after.soft >= OPEN_MAX);
    }

    #[test]
    fn connections_keep_a_reserve_of_descriptors() {
        let limit = DescriptorLimit { soft: 1024, hard: 1024 };
        assert_eq!(limit.connections(0), 960);
        assert_eq!(limit.connections(100), 100);
        assert_eq!(limit.connections(5000), 960);
    }

    #[test]
    fn low_limit_is_warned_of_unless_fewer_connections_were_asked_for() {
        let low = DescriptorLimit { soft: 1024, hard: 1024 };
        assert_eq!(low.warning(500), None);
        let text = low.warning(0).unwrap_or_default();
        assert!(
            text.starts_with("the limit of 1024 file descriptors leaves room for 960 connections; raise it")
        );
        let text = low.warning(2000).unwrap_or_default();
        assert!(text.starts_with("server.connections_max is 2000, but the limit of 1024"), "{text}");
        let high = DescriptorLimit { soft: 1 << 20, hard: 1 << 20 };
        assert_eq!(high.warning(0), None);
        assert_eq!(high.warning(500_000), None);
    }

    #[test]
    fn handful_of_descriptors_is_not_usable() {
        assert!(!DescriptorLimit { soft: 100, hard: 100 }.is_usable());
        assert!(DescriptorLimit { soft: 256, hard: 256 }.is_usable());
    }
}
