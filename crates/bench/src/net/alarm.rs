//! A timer in the event queue: finer than the queue's own time-out, which counts in milliseconds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Wakes the event queue; its events mean nothing else.
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    /// The token of its events.
    pub(super) const TOKEN: Token = Token(usize::MAX);

    /// Not set.
    pub(super) fn new(registry: &Registry) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), Self::TOKEN, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Goes off after `time`, once; what it was set to before is forgotten.
    pub(super) fn set(&self, time: Duration) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
        // To set it takes back an event that nobody read.
        timerfd_settime(
            &self.0,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: zero, it_value: value },
        )?;
        Ok(())
    }
}
