//! Request and reply, one in flight on each connection.
//!
//! `ping` asks for the cheapest reply there is; `publish` publishes with an acknowledgement, each connection in
//! a room of its own; `stored` does so where the acknowledgement means durable, in as many rooms as it is told. With a rate, each connection has its own schedule; a request that is due while the last
//! one is unanswered goes out late, and its latency counts from when it was due.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::args::{Echo as Args, Load as LoadArgs, Stored};
use crate::net::{Event, Handler, Net};
use crate::peer::{EchoMode, Heard, Peer, PeerKind};
use crate::report::{self, Report};
use crate::scenario::window::{Phase, Window};
use crate::sequence::{Checker, Tally};
use crate::session::{CONCURRENT, Progress, Session, TURN};
use crate::stamp::{Stamp, Template};

/// Runs `echo`.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let count = args.connections as usize;
    ensure!(
        args.mode == EchoMode::Ping || args.server.peer == PeerKind::Outspoke,
        "--mode publish needs acknowledgements, which a raw relay does not have"
    );
    let mut session = Session::start(&args.server, count)?;
    match args.mode {
        EchoMode::Ping => {
            session.connect_all(count, CONCURRENT, |peer, slot| peer.echo_path(slot))?;
            session.quiet(Duration::from_millis(150))?;
        }
        EchoMode::Publish => session.gather(args.connections, 1)?,
    }
    let echo = Echo::new(&session, args.mode, args.connections, args.connections, &args.load);
    let pace = pace(&args.load);
    let asked = match args.mode {
        EchoMode::Ping => "ping".to_owned(),
        EchoMode::Publish => format!("publish of {} B with acknowledgement", args.load.size),
    };
    let report = Report::new("echo", args.server.peer, format!("{count} connections, {asked}, {pace}"));
    echo.run(&mut session, report)
}

/// Runs `stored`.
pub(crate) fn stored(args: &Stored) -> Result<Report> {
    ensure!(args.server.peer == PeerKind::Outspoke, "a raw relay keeps and acknowledges nothing");
    let count = args.connections as usize;
    let mut session = Session::start(&args.server, count)?;
    session.peer.keys = args.keys;
    session.connect_all(count, CONCURRENT, |peer, slot| peer.path(slot, 0))?;
    session.join_all(count, CONCURRENT, |slot| slot as u32 % args.rooms)?;
    session.quiet(Duration::from_millis(150))?;
    let durability = session.durability.clone().unwrap_or_default();
    ensure!(
        args.durability == durability,
        "rooms called bench-* are {durability:?} on this server, not {:?}: give them a class in rooms.classes, or say \
         --durability {durability}",
        args.durability
    );
    let echo = Echo::new(&session, EchoMode::Publish, args.connections, args.rooms, &args.load);
    let keys = if args.keys { ", each with an idempotency key" } else { "" };
    let Stored { connections, rooms, load, .. } = args;
    let (size, pace) = (load.size, pace(load));
    let plan = format!("{connections} publishers in {rooms} {durability} room(s), {size} B{keys}, {pace}");
    echo.run(&mut session, Report::new("stored", args.server.peer, plan))
}

fn pace(load: &LoadArgs) -> String {
    load.rate.map_or_else(
        || "one in flight on each".to_owned(),
        |rate| format!("{} requests/s in all", report::grouped(rate)),
    )
}

#[derive(Default)]
struct Asker {
    asked: u64,
    answers: Checker,
    busy: bool,
    /// When the request in flight should have been sent.
    sent: u64,
}

struct Echo {
    peer: Peer,
    mode: EchoMode,
    /// Connections are spread over so many rooms.
    rooms: u32,
    on_schedule: bool,
    template: Template,
    askers: Vec<Asker>,
    /// Nanoseconds between two requests of one connection; `None` in a closed loop.
    interval: Option<f64>,
    origin: u64,
    /// Counts the schedule's slots over all connections: whose turn it is next.
    turn: u64,
    in_flight: usize,
    answered: u64,
    window: Window,
}

impl Echo {
    fn new(session: &Session, mode: EchoMode, connections: u32, rooms: u32, load: &LoadArgs) -> Self {
        let count = connections as usize;
        Self {
            peer: session.peer.clone(),
            mode,
            rooms,
            on_schedule: load.rate.is_some(),
            template: Template::new(load.size, true),
            askers: (0..count).map(|_| Asker::default()).collect(),
            interval: load.rate.map(|rate| 1e9 * count as f64 / rate),
            origin: session.net.now(),
            turn: 0,
            in_flight: 0,
            answered: 0,
            window: Window::after(&session.net, load.warm_up, load.duration, session.server),
        }
    }

    /// Asks until the time is over, and adds what was found to the report.
    fn run(mut self, session: &mut Session, mut report: Report) -> Result<Report> {
        let stuck = self.pump(session)?;
        let faults = self.tally();
        let found = self.window.into_load(self.on_schedule, faults, 0);
        report.problems = found.problems();
        report.problems.extend(stuck);
        report.load = Some(found);
        Ok(report)
    }

    fn pump(&mut self, session: &mut Session) -> Result<Option<String>> {
        let mut progress = Progress::new(session.net.now(), session.timeout);
        if self.interval.is_none() {
            for slot in 0..self.askers.len() {
                let now = session.net.now();
                self.ask(&mut session.net, slot, now)?;
            }
        }
        loop {
            let wait = self.ask_due(&mut session.net)?;
            session.net.turn(wait, self)?;
            self.window.advance(&session.net)?;
            if self.window.phase == Phase::Draining && self.in_flight == 0 && self.has_asked_all() {
                return Ok(None);
            }
            let moving = if self.in_flight == 0 { session.net.now() } else { self.answered };
            if progress.is_stuck(moving, session.net.now()) {
                self.window.finish(&session.net)?;
                let text = format!(
                    "nothing was answered for {:?}: {} replies are missing",
                    session.timeout, self.in_flight
                );
                return Ok(Some(text));
            }
        }
    }

    /// When connection `slot` should send its next request.
    fn due(&self, slot: usize, interval: f64) -> u64 {
        let share = slot as f64 / self.askers.len() as f64;
        self.origin + ((self.askers[slot].asked as f64 + share) * interval) as u64
    }

    /// Sends what is due on connections that wait for nothing; returns how long nothing more is due.
    fn ask_due(&mut self, net: &mut Net) -> Result<Duration> {
        let Some(interval) = self.interval else { return Ok(TURN) };
        for _ in 0..self.askers.len() {
            let slot = (self.turn % self.askers.len() as u64) as usize;
            let (now, due) = (net.now(), self.due_of_turn(interval));
            if !self.window.wants(due) {
                return Ok(TURN);
            }
            if due > now {
                return Ok(net.until(due - now).min(TURN));
            }
            self.turn += 1;
            let due = self.due(slot, interval);
            if !self.askers[slot].busy && due <= now {
                self.ask(net, slot, due)?;
            }
        }
        Ok(Duration::ZERO)
    }

    /// When the connection whose turn it is should send.
    fn due_of_turn(&self, interval: f64) -> u64 {
        self.origin + (self.turn as f64 * interval / self.askers.len() as f64) as u64
    }

    fn has_asked_all(&self) -> bool {
        self.interval.is_none_or(|interval| !self.window.wants(self.due_of_turn(interval)))
    }

    fn ask(&mut self, net: &mut Net, slot: usize, due: u64) -> Result<()> {
        let asker = &mut self.askers[slot];
        let number = asker.asked;
        asker.asked += 1;
        asker.busy = true;
        asker.sent = due;
        self.in_flight += 1;
        let lag = net.now().saturating_sub(due);
        self.window.sent(1, due, lag);
        let text = match self.mode {
            EchoMode::Ping => self.peer.ping(number),
            EchoMode::Publish => {
                let room = slot as u32 % self.rooms;
                let stamp = Stamp { group: room, sequence: number, time: due };
                self.peer.publish(room, self.template.stamped(stamp), Some(number))
            }
        };
        net.send(slot, text)
    }

    fn answer(&mut self, net: &mut Net, slot: usize, number: u64, now: u64) -> Result<()> {
        let asker = &mut self.askers[slot];
        if !asker.answers.accept(number).is_first() || !asker.busy {
            return Ok(());
        }
        asker.busy = false;
        self.in_flight -= 1;
        self.answered += 1;
        self.window.delivered(asker.sent, now);
        let due = self.interval.map_or(now, |interval| self.due(slot, interval));
        if due <= now && self.window.wants(due) { self.ask(net, slot, due) } else { Ok(()) }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        self.askers.iter().for_each(|asker| tally.add(asker.answers.tally(asker.asked)));
        tally
    }
}

impl Handler for Echo {
    fn on_event(&mut self, net: &mut Net, slot: usize, event: Event<'_>, now: u64) -> Result<()> {
        match event {
            Event::Message(payload) => match self.peer.hear(payload) {
                Heard::Answer(number) => self.answer(net, slot, number, now),
                Heard::Error(said) => bail!("the server refused a request: {said}"),
                _ => Ok(()),
            },
            Event::Closed(cause) => {
                bail!("the server closed connection {slot} in the middle of the run: {cause}")
            }
            Event::Open => Ok(()),
        }
    }
}
