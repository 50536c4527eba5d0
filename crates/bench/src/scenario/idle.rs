//! Quiet connections: how fast they come, and what each takes of the server's memory.
//!
//! Memory is read before the first connection and when nothing has moved for a while; the difference counts
//! everything, also what the server needs only once. Socket buffers belong to the kernel and are not in it.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::args::Idle as Args;
use crate::net::{Event, Handler, Net};
use crate::process;
use crate::report::{self, Idle, Report};
use crate::session::{Session, TURN};

/// Runs `idle`.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let count = args.connections as usize;
    let rooms = args.rooms.unwrap_or(args.connections);
    let room = |slot: usize| slot as u32 % rooms;
    let mut session = Session::start(&args.server, count)?;
    let before = session.server.map(|server| server.memory()).transpose()?;
    let kernel_before = process::kernel_memory();
    let cpu_before = session.server.map(|server| server.cpu()).transpose()?;
    let concurrent = args.concurrent as usize;
    let connecting = session.connect_all(count, concurrent, |peer, slot| peer.path(slot, room(slot)))?;
    let cpu_after = session.server.map(|server| server.cpu()).transpose()?;
    let joining = session.join_all(count, concurrent, room)?;
    session.quiet(args.settle)?;
    let after = session.server.map(|server| server.memory()).transpose()?;
    let kernel_after = process::kernel_memory();
    ensure_open(&mut session, count)?;
    let held = hold(&mut session, args.hold)?;
    let a_second =
        |used: Duration| report::us_each(used, u64::from(args.connections)) / args.hold.as_secs_f64();

    let words = format!("{count} connections in {rooms} room(s), {concurrent} connecting at a time");
    let mut report = Report::new("idle", args.server.peer, words);
    let memory = before.zip(after);
    let each = |part: fn(&process::Memory) -> u64| {
        memory.map(|(before, after)| (part(&after) as f64 - part(&before) as f64) / count as f64)
    };
    report.idle = Some(Idle {
        connections: args.connections,
        connects_per_s: report::ratio(count as f64, connecting.as_secs_f64()),
        connect_cpu_us: cpu_before
            .zip(cpu_after)
            .map(|(before, after)| report::us_each(after.since(before).used, u64::from(args.connections))),
        joins_per_s: joining.map(|joining| report::ratio(count as f64, joining.as_secs_f64())),
        memory,
        pss_per_connection: each(|memory| memory.pss),
        rss_per_connection: each(|memory| memory.rss),
        kernel_per_connection: kernel_before
            .zip(kernel_after)
            .map(|(before, after)| (after as f64 - before as f64) / count as f64),
        heartbeat_cpu_us: held.map(a_second),
    });
    Ok(report)
}

/// Stays for `time`; returns the server's CPU time meanwhile, if it may be observed and was to be held at all.
fn hold(session: &mut Session, time: Duration) -> Result<Option<Duration>> {
    let Some(server) = session.server.filter(|_| !time.is_zero()) else { return Ok(None) };
    let begin = server.cpu()?;
    let end = session.net.now() + time.as_nanos() as u64;
    while session.net.now() < end {
        session.net.turn(TURN, &mut StayOpen)?;
    }
    Ok(Some(server.cpu()?.since(begin).used))
}

/// A server that drops quiet connections would look frugal.
fn ensure_open(session: &mut Session, count: usize) -> Result<()> {
    session.net.turn(Duration::ZERO, &mut StayOpen)?;
    match (0..count).find(|&slot| !session.net.is_open(slot)) {
        Some(slot) => bail!("connection {slot} did not stay open"),
        None => Ok(()),
    }
}

struct StayOpen;

impl Handler for StayOpen {
    fn on_event(&mut self, _: &mut Net, slot: usize, event: Event<'_>, _: u64) -> Result<()> {
        match event {
            Event::Closed(cause) => bail!("connection {slot} did not stay open: {cause}"),
            _ => Ok(()),
        }
    }
}
