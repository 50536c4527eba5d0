//! Connections that come, join, leave and close, again and again.
//!
//! What is looked for is what stays behind: memory, threads, descriptors. Each cycle closes in order, with a
//! close frame, and waits for the server's end of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::args::Churn as Args;
use crate::histogram::Histogram;
use crate::net::{Closed, Event, Handler, Net};
use crate::peer::{Heard, Peer};
use crate::process::Process;
use crate::report::{self, Churn, Footprint, Latency, Report};
use crate::session::{Progress, Session, TURN};

/// Runs `churn`.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let slots = args.concurrent.min(args.cycles) as usize;
    let mut session = Session::start(&args.server, slots)?;
    let before = session.server.map(footprint).transpose()?;
    let mut churn = Cycles::new(&session, args, slots);
    let begin = session.net.now();
    for slot in 0..slots {
        churn.begin(&mut session.net, slot)?;
    }
    let stuck = churn.pump(&mut session)?;
    let seconds = (session.net.now() - begin) as f64 / 1e9;
    session.quiet(args.settle)?;
    let after = session.server.map(footprint).transpose()?;

    let words = format!("{} cycles, {slots} at a time, {} room(s)", args.cycles, args.rooms);
    let mut report = Report::new("churn", args.server.peer, words);
    report.problems = churn.problems();
    report.problems.extend(stuck);
    report.churn = Some(Churn {
        cycles: churn.finished,
        seconds,
        cycles_per_s: report::ratio(churn.finished as f64, seconds),
        connect: Latency::from(&churn.connect),
        cycle: Latency::from(&churn.cycle),
        endings: churn.endings.into_iter().collect(),
        server: before.zip(after),
    });
    Ok(report)
}

fn footprint(server: Process) -> Result<Footprint> {
    Ok(Footprint { memory: server.memory()?, threads: server.threads()?, descriptors: server.descriptors()? })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Connecting,
    Joining,
    Leaving,
    Closing,
}

#[derive(Clone, Copy)]
struct Visit {
    step: Step,
    room: u32,
    since: u64,
}

struct Cycles {
    peer: Peer,
    rooms: u32,
    wanted: u64,
    started: u64,
    finished: u64,
    visits: Vec<Visit>,
    /// Ended before their time, by the server.
    cut_short: u64,
    connect: Histogram,
    cycle: Histogram,
    endings: BTreeMap<String, u64>,
}

impl Cycles {
    fn new(session: &Session, args: &Args, slots: usize) -> Self {
        Self {
            peer: session.peer.clone(),
            rooms: args.rooms,
            wanted: u64::from(args.cycles),
            started: 0,
            finished: 0,
            visits: vec![Visit { step: Step::Connecting, room: 0, since: 0 }; slots],
            cut_short: 0,
            connect: Histogram::new(),
            cycle: Histogram::new(),
            endings: BTreeMap::new(),
        }
    }

    fn pump(&mut self, session: &mut Session) -> Result<Option<String>> {
        let mut progress = Progress::new(session.net.now(), session.timeout);
        while self.finished < self.wanted {
            session.net.turn(TURN, self)?;
            if progress.is_stuck(self.finished, session.net.now()) {
                return Ok(Some(self.describe_stuck(session.timeout)));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, net: &mut Net, slot: usize) -> Result<()> {
        // A new user each time: the same one twice would make the server close the older connection.
        let user = self.started as usize;
        let room = (self.started % u64::from(self.rooms)) as u32;
        self.started += 1;
        self.visits[slot] = Visit { step: Step::Connecting, room, since: net.now() };
        net.open(slot, &self.peer.path(user, room))
    }

    fn opened(&mut self, net: &mut Net, slot: usize, now: u64) -> Result<()> {
        let visit = &mut self.visits[slot];
        self.connect.record(now - visit.since);
        if self.peer.joins_by_request() {
            visit.step = Step::Joining;
            let join = self.peer.join(visit.room);
            net.send(slot, join.as_bytes())
        } else {
            visit.step = Step::Closing;
            net.close(slot)
        }
    }

    fn heard(&mut self, net: &mut Net, slot: usize, heard: Heard) -> Result<()> {
        let visit = &mut self.visits[slot];
        match (visit.step, heard) {
            (Step::Joining, Heard::Joined) => {
                visit.step = Step::Leaving;
                let leave = self.peer.leave(visit.room);
                net.send(slot, leave.as_bytes())
            }
            (Step::Leaving, Heard::Left) => {
                visit.step = Step::Closing;
                net.close(slot)
            }
            (_, Heard::Error(said)) => bail!("the server refused a request: {said}"),
            _ => Ok(()),
        }
    }

    fn closed(&mut self, net: &mut Net, slot: usize, cause: Closed, now: u64) -> Result<()> {
        let visit = self.visits[slot];
        if let (Step::Connecting, Closed::Refused(why)) = (visit.step, &cause) {
            bail!("{why}");
        }
        if visit.step != Step::Closing {
            self.cut_short += 1;
        }
        self.cycle.record(now - visit.since);
        self.finished += 1;
        *self.endings.entry(cause.to_string()).or_insert(0) += 1;
        if self.started < self.wanted { self.begin(net, slot) } else { Ok(()) }
    }

    fn problems(&self) -> Vec<String> {
        let cut = (self.cut_short > 0)
            .then(|| format!("{} connections were ended by the server before they had left", self.cut_short));
        cut.into_iter().collect()
    }

    fn describe_stuck(&self, limit: Duration) -> String {
        let (started, finished) = (self.started, self.finished);
        let count = |step| self.visits.iter().filter(|visit| visit.step == step).count();
        let [connecting, joining] = [Step::Connecting, Step::Joining].map(count);
        let [leaving, closing] = [Step::Leaving, Step::Closing].map(count);
        format!(
            "no cycle ended for {limit:?}; {} of {started} are open (last steps: {connecting} connecting, \
             {joining} joining, {leaving} leaving, {closing} closing)",
            started - finished
        )
    }
}

impl Handler for Cycles {
    fn on_event(&mut self, net: &mut Net, slot: usize, event: Event<'_>, now: u64) -> Result<()> {
        match event {
            Event::Open => self.opened(net, slot, now),
            Event::Message(payload) => {
                let heard = self.peer.hear(payload);
                self.heard(net, slot, heard)
            }
            Event::Closed(cause) => self.closed(net, slot, cause, now),
        }
    }
}
