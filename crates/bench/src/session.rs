//! One run's connections: opened, upgraded and joined before a scenario takes over.
//!
//! Every wait here ends: with success, with what the server did wrong, or with the time limit.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::ServerArgs;
use crate::net::{Event, Handler, Net, Trust};
use crate::peer::{Heard, Joined, Peer};
use crate::process::{self, Cores, Process};

/// Longest wait for events, so that time limits are noticed.
pub(crate) const TURN: Duration = Duration::from_millis(50);

/// How many connections are being opened, or joins awaited, at the same time, unless the scenario says.
pub(crate) const CONCURRENT: usize = 128;

/// A server, the way to talk to it, and connections to it.
pub(crate) struct Session {
    pub(crate) net: Net,
    pub(crate) peer: Peer,
    /// Present if the process may be observed.
    pub(crate) server: Option<Process>,
    pub(crate) timeout: Duration,
    /// What an acknowledgement means in the room that was joined last; `None` if the server did not say.
    pub(crate) durability: Option<String>,
}

impl Session {
    /// Prepares for up to `slots` connections; none is opened yet.
    pub(crate) fn start(args: &ServerArgs, slots: usize) -> Result<Self> {
        if let Some(core) = args.pin {
            Cores::one(core)?.apply()?;
        }
        process::allow_connections(slots)?;
        let server = args.server_pid.map(Process::observe).transpose()?;
        let target: crate::net::Target = args.url.parse().with_context(|| format!("--url {}", args.url))?;
        let trust = Trust::of(&target, args.ca.as_deref(), args.insecure)?;
        let peer = Peer::new(args.peer, &target.path, nonce());
        Ok(Self {
            net: Net::new(target, trust, slots)?,
            peer,
            server,
            timeout: args.timeout,
            durability: None,
        })
    }

    /// Opens slots 0 to `count - 1` at the paths given, `concurrent` at a time; returns how long it took.
    pub(crate) fn connect_all(
        &mut self,
        count: usize,
        concurrent: usize,
        path: impl Fn(&Peer, usize) -> String,
    ) -> Result<Duration> {
        let mut entering = Entering::new(&self.peer, Step::Open, count);
        let begin = self.net.now();
        let mut started = 0;
        let mut progress = Progress::new(begin, self.timeout);
        while entering.ready < count {
            while started < count && started - entering.ready < concurrent {
                self.net.open(started, &path(&self.peer, started))?;
                started += 1;
            }
            self.net.turn(TURN, &mut entering)?;
            if progress.is_stuck(entering.ready as u64, self.net.now()) {
                bail!(
                    "{} of {count} connections were not upgraded within {:?}",
                    count - entering.ready,
                    self.timeout
                );
            }
        }
        Ok(Duration::from_nanos(self.net.now() - begin))
    }

    /// Makes slots 0 to `count - 1` join their rooms. `None` if connecting already did.
    pub(crate) fn join_all(
        &mut self,
        count: usize,
        concurrent: usize,
        room: impl Fn(usize) -> u32,
    ) -> Result<Option<Duration>> {
        if !self.peer.joins_by_request() {
            return Ok(None);
        }
        let mut entering = Entering::new(&self.peer, Step::Joined, count);
        let begin = self.net.now();
        let mut started = 0;
        let mut progress = Progress::new(begin, self.timeout);
        while entering.ready < count {
            while started < count && started - entering.ready < concurrent {
                let join = self.peer.join(room(started));
                self.net.send(started, join.as_bytes())?;
                started += 1;
            }
            self.net.turn(TURN, &mut entering)?;
            if progress.is_stuck(entering.ready as u64, self.net.now()) {
                bail!(
                    "{} of {count} joins were not confirmed within {:?}",
                    count - entering.ready,
                    self.timeout
                );
            }
        }
        self.durability = entering.durability;
        Ok(Some(Duration::from_nanos(self.net.now() - begin)))
    }

    /// Opens and joins `rooms` times `members` connections; members of a room have neighbouring slots.
    pub(crate) fn gather(&mut self, rooms: u32, members: u32) -> Result<()> {
        let count = rooms as usize * members as usize;
        let room = |slot: usize| (slot / members as usize) as u32;
        self.connect_all(count, CONCURRENT, |peer, slot| peer.path(slot, room(slot)))?;
        self.join_all(count, CONCURRENT, room)?;
        self.quiet(Duration::from_millis(150))
    }

    /// Waits until nothing has arrived for `length` (announcements of joins, say), within the time limit.
    pub(crate) fn quiet(&mut self, length: Duration) -> Result<()> {
        let mut listening = Entering::new(&self.peer, Step::Never, 0);
        let begin = self.net.now();
        let mut last = begin;
        loop {
            let frames = self.net.traffic.frames_in;
            self.net.turn(length.min(TURN), &mut listening)?;
            let now = self.net.now();
            if self.net.traffic.frames_in != frames {
                last = now;
            }
            if now - last >= length.as_nanos() as u64 || now - begin > self.timeout.as_nanos() as u64 {
                return Ok(());
            }
        }
    }
}

/// Whether something still moves.
pub(crate) struct Progress {
    seen: u64,
    since: u64,
    limit: u64,
}

impl Progress {
    pub(crate) fn new(now: u64, limit: Duration) -> Self {
        Self { seen: 0, since: now, limit: limit.as_nanos() as u64 }
    }

    /// True when `count` has been the same for longer than the limit.
    pub(crate) fn is_stuck(&mut self, count: u64, now: u64) -> bool {
        if count != self.seen {
            (self.seen, self.since) = (count, now);
        }
        now.saturating_sub(self.since) > self.limit
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Open,
    Joined,
    Never,
}

/// Counts the connections that have come as far as wanted; anything wrong ends the run.
struct Entering {
    peer: Peer,
    until: Step,
    done: Vec<bool>,
    ready: usize,
    durability: Option<String>,
}

impl Entering {
    fn new(peer: &Peer, until: Step, count: usize) -> Self {
        Self { peer: peer.clone(), until, done: vec![false; count], ready: 0, durability: None }
    }

    fn reached(&mut self, slot: usize) {
        if !std::mem::replace(&mut self.done[slot], true) {
            self.ready += 1;
        }
    }
}

impl Handler for Entering {
    fn on_event(&mut self, _: &mut Net, slot: usize, event: Event<'_>, _: u64) -> Result<()> {
        match event {
            Event::Open if self.until == Step::Open => self.reached(slot),
            Event::Open => {}
            Event::Message(payload) => match self.peer.hear(payload) {
                Heard::Joined if self.until == Step::Joined => {
                    self.durability = Joined::read(payload).map(|joined| joined.durability);
                    self.reached(slot);
                }
                Heard::Error(said) => bail!("the server refused a request of connection {slot}: {said}"),
                _ => {}
            },
            Event::Closed(cause) => bail!("connection {slot} ended before the run began: {cause}"),
        }
        Ok(())
    }
}

/// Different for each run, so that runs do not meet in the same rooms.
fn nonce() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // 32 bits, since names travel in every delivery and should not make it longer than they must.
    u64::from(since_epoch.as_micros() as u32 ^ std::process::id().rotate_left(16))
}
