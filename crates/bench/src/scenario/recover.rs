//! Everybody loses the connection, misses messages, and comes back at the same time.
//!
//! Members join and note their places; they leave; one publisher in each room publishes, every message acknowledged;
//! then all members connect again, as fast as connections are accepted, each asking for what it missed. Counted is
//! whether each got exactly that, and how long it took until the last one had it.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::args::Recover as Args;
use crate::histogram::Histogram;
use crate::net::{Event, Handler, Net};
use crate::peer::{Heard, Joined, Peer, PeerKind, Place};
use crate::process;
use crate::report::{self, Latency, Recover, Report};
use crate::sequence::{Checker, Tally};
use crate::session::{CONCURRENT, Progress, Session, TURN};
use crate::stamp::{Finder, Stamp, Template};

/// How long to listen after the last message, to catch repeated ones.
const AFTERMATH: Duration = Duration::from_millis(200);

/// Messages of a publisher that wait for their acknowledgements at most.
const WINDOW: u64 = 64;

/// Runs `recover`.
pub(crate) fn run(args: &Args) -> Result<Report> {
    ensure!(args.server.peer == PeerKind::Outspoke, "a raw relay recovers nothing");
    let (members, rooms) = (args.members as usize, args.rooms as usize);
    let mut session = Session::start(&args.server, members + rooms)?;

    let mut coming = Coming { peer: session.peer.clone(), rooms: args.rooms, places: vec![None; members] };
    come(&mut session, &mut coming)?;
    let places = coming.places.into_iter().collect::<Option<Vec<_>>>().context("everybody has a place")?;
    leave(&mut session, 0..members)?;
    let durability = publish(&mut session, args)?;
    leave(&mut session, members..members + rooms)?;
    if let Some(command) = &args.meanwhile {
        meanwhile(command, &session)?;
        // It may have another process now.
        session.server = None;
    }

    let mut returning = Returning::new(&session, args, places);
    let stuck = returning.pump(&mut session)?;
    let plan =
        format!("{members} members in {rooms} room(s), {} messages of {} B missed", args.messages, args.size);
    let mut report = Report::new("recover", args.server.peer, plan);
    let found = returning.found(durability);
    report.problems = found.problems();
    report.problems.extend(stuck);
    report.recover = Some(found);
    Ok(report)
}

impl Recover {
    fn problems(&self) -> Vec<String> {
        let Tally { lost, duplicated, reordered } = self.faults;
        let not = u64::from(self.members - self.recovered);
        [
            (not, "members were not recovered"),
            (lost, "missed messages never came"),
            (duplicated, "missed messages came twice"),
            (reordered, "missed messages came out of order"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

/// Connects and joins the members for the first time.
fn come(session: &mut Session, coming: &mut Coming) -> Result<()> {
    let (count, rooms) = (coming.places.len(), coming.rooms);
    session.connect_all(count, CONCURRENT, |peer, slot| peer.path(slot, slot as u32 % rooms))?;
    let (mut started, mut ready) = (0, 0);
    let mut progress = Progress::new(session.net.now(), session.timeout);
    while ready < count {
        while started < count && started - ready < CONCURRENT {
            let join = session.peer.join(started as u32 % rooms);
            session.net.send(started, join.as_bytes())?;
            started += 1;
        }
        session.net.turn(TURN, coming)?;
        while ready < count && coming.places[ready].is_some() {
            ready += 1;
        }
        if progress.is_stuck(ready as u64, session.net.now()) {
            bail!("{} of {count} joins were not confirmed within {:?}", count - ready, session.timeout);
        }
    }
    Ok(())
}

/// Notes the places of those who join.
struct Coming {
    peer: Peer,
    rooms: u32,
    places: Vec<Option<Place>>,
}

impl Handler for Coming {
    fn on_event(&mut self, _: &mut Net, slot: usize, event: Event<'_>, _: u64) -> Result<()> {
        match event {
            Event::Message(payload) => match self.peer.hear(payload) {
                Heard::Joined => {
                    let joined =
                        Joined::read(payload).context("the server does not say where its rooms are")?;
                    self.places[slot] = Some(joined.place);
                }
                Heard::Error(said) => bail!("the server refused a join: {said}"),
                _ => {}
            },
            Event::Closed(cause) => bail!("the server closed connection {slot}: {cause}"),
            Event::Open => {}
        }
        Ok(())
    }
}

/// Closes connections, and waits until they are gone.
fn leave(session: &mut Session, slots: std::ops::Range<usize>) -> Result<()> {
    let mut leaving = Leaving { left: 0 };
    let count = slots.len();
    let mut progress = Progress::new(session.net.now(), session.timeout);
    for slot in slots {
        session.net.close(slot)?;
        if slot % CONCURRENT == 0 {
            session.net.turn(Duration::ZERO, &mut leaving)?;
        }
    }
    while leaving.left < count {
        session.net.turn(TURN, &mut leaving)?;
        if progress.is_stuck(leaving.left as u64, session.net.now()) {
            bail!("{} connections did not close within {:?}", count - leaving.left, session.timeout);
        }
    }
    Ok(())
}

struct Leaving {
    left: usize,
}

impl Handler for Leaving {
    fn on_event(&mut self, _: &mut Net, _: usize, event: Event<'_>, _: u64) -> Result<()> {
        self.left += usize::from(matches!(event, Event::Closed(_)));
        Ok(())
    }
}

/// Publishes what the members miss, and returns what the acknowledgements meant.
fn publish(session: &mut Session, args: &Args) -> Result<String> {
    let (members, rooms) = (args.members as usize, args.rooms as usize);
    let mut publishing = Publishing {
        peer: session.peer.clone(),
        first_slot: members,
        template: Template::new(args.size, true),
        wanted: u64::from(args.messages),
        sent: vec![0; rooms],
        acknowledged: vec![0; rooms],
        joined: 0,
        durability: String::new(),
    };
    for room in 0..rooms {
        session.net.open(members + room, &session.peer.path(members + room, room as u32))?;
    }
    let mut progress = Progress::new(session.net.now(), session.timeout);
    loop {
        session.net.turn(TURN, &mut publishing)?;
        let done: u64 = publishing.acknowledged.iter().sum();
        if done == publishing.wanted * rooms as u64 {
            return Ok(publishing.durability);
        }
        if progress.is_stuck(done + publishing.joined, session.net.now()) {
            bail!("nothing was acknowledged for {:?}, after {done} messages", session.timeout);
        }
    }
}

/// One publisher per room.
struct Publishing {
    peer: Peer,
    first_slot: usize,
    template: Template,
    wanted: u64,
    sent: Vec<u64>,
    acknowledged: Vec<u64>,
    joined: u64,
    durability: String,
}

impl Publishing {
    fn publish(&mut self, net: &mut Net, room: usize) -> Result<()> {
        while self.sent[room] < self.wanted && self.sent[room] < self.acknowledged[room] + WINDOW {
            let stamp = Stamp { group: room as u32, sequence: self.sent[room], time: net.now() };
            let text = self.peer.publish(room as u32, self.template.stamped(stamp), Some(self.sent[room]));
            net.queue(self.first_slot + room, crate::frame::TEXT, text);
            self.sent[room] += 1;
        }
        net.flush(self.first_slot + room)
    }
}

impl Handler for Publishing {
    fn on_event(&mut self, net: &mut Net, slot: usize, event: Event<'_>, _: u64) -> Result<()> {
        let room = slot - self.first_slot;
        match event {
            Event::Open => {
                let join = self.peer.join(room as u32);
                net.send(slot, join.as_bytes())
            }
            Event::Message(payload) => match self.peer.hear(payload) {
                Heard::Joined => {
                    self.joined += 1;
                    self.durability =
                        Joined::read(payload).map(|joined| joined.durability).unwrap_or_default();
                    self.publish(net, room)
                }
                Heard::Answer(_) => {
                    self.acknowledged[room] += 1;
                    self.publish(net, room)
                }
                Heard::Error(said) => bail!("the server refused a message: {said}"),
                _ => Ok(()),
            },
            Event::Closed(cause) => bail!("the server closed publisher {room}: {cause}"),
        }
    }
}

/// Runs the user's command, then waits until somebody listens.
fn meanwhile(command: &str, session: &Session) -> Result<()> {
    let status = Command::new("/bin/sh").args(["-c", command]).status().context("cannot run --meanwhile")?;
    ensure!(status.success(), "--meanwhile {command:?}: {status}");
    let begin = session.net.now();
    let addr = session.net.target().addr;
    while TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_err() {
        ensure!(
            session.net.now() - begin < session.timeout.as_nanos() as u64,
            "nobody listens on {addr} after --meanwhile {command:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Members on their way back.
struct Returning {
    peer: Peer,
    rooms: u32,
    messages: u64,
    concurrent: usize,
    places: Vec<Place>,
    finder: Finder,
    checkers: Vec<Checker>,
    /// When each began to connect.
    begun: Vec<u64>,
    opened: usize,
    complete: usize,
    recovered: u32,
    arrivals: u64,
    each: Histogram,
    first: u64,
    last: u64,
    server: Option<process::Process>,
    cpu: Option<Duration>,
    driver: Duration,
}

impl Returning {
    fn new(session: &Session, args: &Args, places: Vec<Place>) -> Self {
        let count = places.len();
        Self {
            peer: session.peer.clone(),
            rooms: args.rooms,
            messages: u64::from(args.messages),
            concurrent: args.concurrent as usize,
            places,
            finder: Finder::new(),
            checkers: (0..count).map(|_| Checker::default()).collect(),
            begun: Vec::with_capacity(count),
            opened: 0,
            complete: 0,
            recovered: 0,
            arrivals: 0,
            each: Histogram::new(),
            first: 0,
            last: 0,
            server: session.server,
            cpu: None,
            driver: Duration::ZERO,
        }
    }

    fn pump(&mut self, session: &mut Session) -> Result<Option<String>> {
        let count = self.places.len();
        let cpu = self.server.map(process::Process::cpu).transpose()?;
        let own = process::own_cpu();
        self.first = session.net.now();
        let mut progress = Progress::new(self.first, session.timeout);
        let mut stuck = None;
        while self.complete < count {
            while self.begun.len() < count && self.begun.len() - self.opened < self.concurrent {
                let slot = self.begun.len();
                self.begun.push(session.net.now());
                session.net.open(slot, &self.peer.path(slot, slot as u32 % self.rooms))?;
            }
            session.net.turn(TURN, self)?;
            if progress.is_stuck(self.arrivals + self.opened as u64, session.net.now()) {
                let (limit, missing) = (session.timeout, count - self.complete);
                stuck = Some(format!("nothing came for {limit:?}: {missing} members do not have everything"));
                break;
            }
        }
        self.last = session.net.now();
        self.driver = process::own_cpu() - own;
        if let (Some(server), Some(before)) = (self.server, cpu) {
            self.cpu = Some(server.cpu()?.since(before).used);
        }
        let end = self.last + AFTERMATH.as_nanos() as u64;
        while session.net.now() < end {
            session.net.turn(Duration::from_millis(10), self)?;
        }
        Ok(stuck)
    }

    fn found(self, durability: String) -> Recover {
        let mut faults = Tally::default();
        self.checkers.iter().for_each(|checker| faults.add(checker.tally(self.messages)));
        let seconds = (self.last - self.first) as f64 / 1e9;
        Recover {
            members: self.places.len() as u32,
            recovered: self.recovered,
            seconds,
            each: Latency::from(&self.each),
            deliveries: self.arrivals,
            deliveries_per_s: report::ratio(self.arrivals as f64, seconds),
            faults,
            durability,
            server_cpu_s: self.cpu.map(|cpu| cpu.as_secs_f64()),
            driver_busy: report::ratio(self.driver.as_secs_f64(), seconds),
        }
    }

    fn delivered(&mut self, slot: usize, stamp: Stamp, now: u64) -> Result<()> {
        let room = slot as u32 % self.rooms;
        ensure!(
            stamp.group == room,
            "member {slot} of room {room} received a message of room {}",
            stamp.group
        );
        let first = self.checkers[slot].accept(stamp.sequence).is_first();
        self.arrivals += u64::from(first);
        // The last one in order: whoever has it misses nothing that could still come.
        if first && stamp.sequence + 1 == self.messages {
            self.complete += 1;
            self.each.record(now - self.begun[slot]);
        }
        Ok(())
    }
}

impl Handler for Returning {
    fn on_event(&mut self, net: &mut Net, slot: usize, event: Event<'_>, now: u64) -> Result<()> {
        match event {
            Event::Open => {
                self.opened += 1;
                let text = self.peer.return_to(slot as u32 % self.rooms, &self.places[slot]);
                net.send(slot, text.as_bytes())
            }
            Event::Message(payload) => match self.finder.find(payload) {
                Some(stamp) => self.delivered(slot, stamp, now),
                None => match self.peer.hear(payload) {
                    Heard::Joined => {
                        let joined =
                            Joined::read(payload).context("the server does not say where its rooms are")?;
                        self.recovered += u32::from(joined.recovered == Some(true));
                        ensure!(
                            joined.recovered == Some(true),
                            "member {slot} came back from {:?} and was not recovered: {}",
                            self.places[slot],
                            String::from_utf8_lossy(payload)
                        );
                        Ok(())
                    }
                    Heard::Error(said) => bail!("the server refused member {slot}: {said}"),
                    _ => Ok(()),
                },
            },
            Event::Closed(cause) => bail!("the server closed member {slot} on its way back: {cause}"),
        }
    }
}
