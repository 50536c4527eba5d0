//! Rooms with one publisher each: `fanout` is one large room, `rooms` many small ones.
//!
//! Closed loop: a room's next messages are sent, in one write, when every member has all of the last ones.
//! Fixed rate: messages are sent on a schedule whatever the server does, and their age counts from the
//! scheduled time, so that a server that stalls cannot hide it (no coordinated omission).
//!
//! Invariant: `outstanding` of a room is the number of first deliveries still to come to members that read.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::args::{Fanout, Load as LoadArgs, Rooms, ServerArgs};
use crate::net::{Closed, Event, Handler, Net};
use crate::peer::{Heard, Peer};
use crate::process::{Memory, Process};
use crate::report::{self, Report};
use crate::scenario::window::{Phase, Window};
use crate::sequence::{Checker, Tally};
use crate::session::{Progress, Session, TURN};
use crate::stamp::{Finder, Stamp, Template};

/// How long to listen after the last delivery, to catch repeated ones.
const AFTERMATH: Duration = Duration::from_millis(100);

/// Publishes in a row before arrivals get their turn, when the schedule is ahead of the driver.
const BURST: usize = 256;

/// How often memory is read while it is watched.
const MEMORY_EVERY: u64 = 200_000_000;

/// Runs `fanout`.
pub(crate) fn fanout(args: &Fanout) -> Result<Report> {
    let plan = Plan { rooms: 1, members: args.members, in_flight: args.in_flight };
    run("fanout", plan, &args.server, &args.load)
}

/// Runs `rooms`.
pub(crate) fn rooms(args: &Rooms) -> Result<Report> {
    let plan = Plan { rooms: args.rooms, members: args.members, in_flight: args.in_flight };
    run("rooms", plan, &args.server, &args.load)
}

fn run(scenario: &'static str, plan: Plan, server: &ServerArgs, load: &LoadArgs) -> Result<Report> {
    let mut session = Session::start(server, plan.slots())?;
    session.gather(plan.rooms, plan.members)?;
    let mut relay = Relay::new(&session, plan, load.size);
    let (found, stuck) = relay.run(&mut session, load.rate, load.warm_up, load.duration)?;
    let pace = load.rate.map_or_else(
        || format!("{} in flight", plan.in_flight),
        |rate| format!("{} messages/s", report::grouped(rate)),
    );
    let Plan { rooms, members, .. } = plan;
    let words = format!("{rooms} room(s) of {members}, {} B, {pace}", load.size);
    let mut report = Report::new(scenario, server.peer, words);
    report.problems = found.problems();
    report.problems.extend(stuck);
    report.load = Some(found);
    Ok(report)
}

/// Who is there, and how much is on its way in a closed loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) rooms: u32,
    pub(crate) members: u32,
    pub(crate) in_flight: u32,
}

impl Plan {
    fn slots(self) -> usize {
        self.rooms as usize * self.members as usize
    }
}

#[derive(Debug, Default)]
struct Group {
    sent: u64,
    outstanding: u64,
    /// Members that read.
    audience: u64,
}

/// The members of all rooms, and what they have received.
pub(crate) struct Relay {
    plan: Plan,
    peer: Peer,
    server: Option<Process>,
    template: Template,
    finder: Finder,
    groups: Vec<Group>,
    members: Vec<Checker>,
    stalled: Vec<bool>,
    /// How members that do not read ended.
    pub(crate) endings: Vec<Closed>,
    foreign: u64,
    first_arrivals: u64,
    outstanding: u64,
    window: Window,
    /// `None` in a closed loop.
    schedule: Option<Schedule>,
    memory_due: u64,
    /// The highest memory seen, while it is watched.
    pub(crate) memory_peak: Option<Memory>,
}

/// When messages are due: the `next`th at `origin + next * interval`.
struct Schedule {
    origin: u64,
    interval: f64,
    next: u64,
}

impl Schedule {
    fn due(&self) -> u64 {
        self.origin + (self.next as f64 * self.interval) as u64
    }
}

impl Relay {
    /// Ready to run on connections that have been gathered.
    pub(crate) fn new(session: &Session, plan: Plan, size: usize) -> Self {
        let audience = u64::from(plan.members);
        Self {
            plan,
            peer: session.peer.clone(),
            server: session.server,
            template: Template::new(size, session.peer.quotes_data()),
            finder: Finder::new(),
            groups: (0..plan.rooms).map(|_| Group { audience, ..Group::default() }).collect(),
            members: (0..plan.slots()).map(|_| Checker::default()).collect(),
            stalled: vec![false; plan.slots()],
            endings: Vec::new(),
            foreign: 0,
            first_arrivals: 0,
            outstanding: 0,
            window: Window::after(&session.net, Duration::ZERO, Duration::ZERO, None),
            schedule: None,
            memory_due: u64::MAX,
            memory_peak: None,
        }
    }

    /// Runs for `warm_up` and `length`, then waits for what is on its way. The text says why it had to stop.
    pub(crate) fn run(
        &mut self,
        session: &mut Session,
        rate: Option<f64>,
        warm_up: Duration,
        length: Duration,
    ) -> Result<(report::Load, Option<String>)> {
        self.window = Window::after(&session.net, warm_up, length, self.server);
        let origin = session.net.now();
        self.schedule = rate.map(|rate| Schedule { origin, interval: 1e9 / rate, next: 0 });
        if self.schedule.is_none() {
            for group in 0..self.groups.len() {
                self.publish_round(&mut session.net, group)?;
            }
        }
        let stuck = self.pump(session)?;
        self.listen(session, AFTERMATH)?;
        let window = std::mem::replace(&mut self.window, Window::after(&session.net, warm_up, length, None));
        Ok((window.into_load(self.schedule.is_some(), self.tally(), self.foreign), stuck))
    }

    /// Turns the loop until all is sent and received, or nothing has arrived for the time limit.
    fn pump(&mut self, session: &mut Session) -> Result<Option<String>> {
        let mut progress = Progress::new(session.net.now(), session.timeout);
        loop {
            let wait = self.publish_due(&mut session.net)?;
            session.net.turn(wait, self)?;
            self.watch_memory(session.net.now())?;
            if self.window.phase == Phase::Draining && self.outstanding == 0 && self.has_sent_all() {
                return Ok(None);
            }
            // With nothing outstanding the wait is for the schedule, not for the server.
            let moving = if self.outstanding == 0 { session.net.now() } else { self.first_arrivals };
            if progress.is_stuck(moving, session.net.now()) {
                let text = self.describe_stuck(session.timeout);
                self.window.finish(&session.net)?;
                return Ok(Some(text));
            }
        }
    }

    /// Receives for `length` without sending.
    pub(crate) fn listen(&mut self, session: &mut Session, length: Duration) -> Result<()> {
        let end = session.net.now() + length.as_nanos() as u64;
        while session.net.now() < end {
            session.net.turn(Duration::from_millis(10), self)?;
        }
        Ok(())
    }

    /// Makes a member of room 0 stop reading; it is no longer waited for.
    pub(crate) fn stall(&mut self, net: &mut Net, slot: usize) {
        net.stall(slot);
        self.stalled[slot] = true;
        self.groups[0].audience -= 1;
    }

    /// Notes the highest memory of the server from now on.
    pub(crate) fn watch_memory_from(&mut self, now: u64) {
        self.memory_due = now;
    }

    fn watch_memory(&mut self, now: u64) -> Result<()> {
        if now < self.memory_due {
            return Ok(());
        }
        self.memory_due = now + MEMORY_EVERY;
        if let Some(server) = self.server {
            let memory = server.memory()?;
            if self.memory_peak.is_none_or(|peak| memory.pss > peak.pss) {
                self.memory_peak = Some(memory);
            }
        }
        Ok(())
    }

    /// Publishes what the schedule asks for by now; returns how long nothing more is due.
    fn publish_due(&mut self, net: &mut Net) -> Result<Duration> {
        if self.schedule.is_none() {
            return Ok(TURN);
        }
        self.window.advance(net)?;
        for _ in 0..BURST {
            let Some(schedule) = &mut self.schedule else { return Ok(TURN) };
            let (now, due) = (net.now(), schedule.due());
            if !self.window.wants(due) {
                self.flush_publishers(net)?;
                return Ok(TURN);
            }
            if due > now {
                self.flush_publishers(net)?;
                return Ok(net.until(due - now).min(TURN));
            }
            let group = (schedule.next % self.groups.len() as u64) as usize;
            schedule.next += 1;
            self.publish(net, group, due);
            self.window.sent(1, due, now - due);
            if self.groups.len() > 1 {
                net.flush(group * self.plan.members as usize)?;
            }
        }
        self.flush_publishers(net)?;
        Ok(Duration::ZERO)
    }

    fn has_sent_all(&self) -> bool {
        self.schedule.as_ref().is_none_or(|schedule| !self.window.wants(schedule.due()))
    }

    fn flush_publishers(&mut self, net: &mut Net) -> Result<()> {
        // With several rooms each publish was flushed at once.
        if self.groups.len() == 1 { net.flush(0) } else { Ok(()) }
    }

    /// The closed loop's step: all of a room's messages in one write.
    fn publish_round(&mut self, net: &mut Net, group: usize) -> Result<()> {
        let now = net.now();
        for _ in 0..self.plan.in_flight {
            self.publish(net, group, now);
        }
        self.window.sent(u64::from(self.plan.in_flight), now, 0);
        net.flush(group * self.plan.members as usize)
    }

    fn publish(&mut self, net: &mut Net, index: usize, time: u64) {
        let group = &mut self.groups[index];
        let stamp = Stamp { group: index as u32, sequence: group.sent, time };
        let text = self.peer.publish(index as u32, self.template.stamped(stamp), None);
        group.sent += 1;
        group.outstanding += group.audience;
        self.outstanding += group.audience;
        net.queue(index * self.plan.members as usize, crate::frame::TEXT, text);
    }

    #[inline]
    fn delivered(&mut self, net: &mut Net, slot: usize, stamp: Stamp, now: u64) -> Result<()> {
        let index = slot / self.plan.members as usize;
        if stamp.group as usize != index || stamp.sequence >= self.groups[index].sent {
            self.foreign += 1;
            return Ok(());
        }
        if !self.members[slot].accept(stamp.sequence).is_first() || self.stalled[slot] {
            return Ok(());
        }
        self.first_arrivals += 1;
        self.window.delivered(stamp.time, now);
        self.outstanding -= 1;
        let group = &mut self.groups[index];
        group.outstanding -= 1;
        if group.outstanding == 0 && self.schedule.is_none() {
            self.window.advance(net)?;
            if self.window.phase != Phase::Draining {
                self.publish_round(net, index)?;
            }
        }
        Ok(())
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (slot, member) in self.members.iter().enumerate().filter(|(slot, _)| !self.stalled[*slot]) {
            tally.add(member.tally(self.groups[slot / self.plan.members as usize].sent));
        }
        tally
    }

    /// Faults of the members that do not read: they may miss messages, but not get them twice or disordered.
    pub(crate) fn stalled_tally(&self) -> Tally {
        let mut tally = Tally::default();
        for (slot, member) in self.members.iter().enumerate().filter(|(slot, _)| self.stalled[*slot]) {
            tally.add(member.tally(self.groups[slot / self.plan.members as usize].sent));
        }
        tally
    }

    /// How many messages have been published to room 0.
    pub(crate) fn sent(&self) -> u64 {
        self.groups[0].sent
    }

    fn describe_stuck(&self, limit: Duration) -> String {
        let waiting = self.groups.iter().filter(|group| group.outstanding > 0).count();
        format!(
            "nothing was delivered for {limit:?}: {} deliveries in {waiting} room(s) are missing",
            self.outstanding
        )
    }
}

impl Handler for Relay {
    #[inline]
    fn on_event(&mut self, net: &mut Net, slot: usize, event: Event<'_>, now: u64) -> Result<()> {
        match event {
            Event::Message(payload) => match self.finder.find(payload) {
                Some(stamp) => self.delivered(net, slot, stamp, now),
                None => match self.peer.hear(payload) {
                    Heard::Error(said) => bail!("the server refused a message: {said}"),
                    _ => Ok(()),
                },
            },
            Event::Closed(cause) if self.stalled[slot] => {
                self.endings.push(cause);
                Ok(())
            }
            Event::Closed(cause) => {
                bail!("the server closed member {slot} in the middle of the run: {cause}")
            }
            Event::Open => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn schedule_has_no_drift_after_many_messages() {
        let schedule = Schedule { origin: 7, interval: 1e9 / 3.0, next: 3_000_000 };
        assert_eq!(schedule.due(), 7 + 1_000_000 * 1_000_000_000);
    }
}
