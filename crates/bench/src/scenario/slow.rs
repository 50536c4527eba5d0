//! Some members of a room stop reading: what do the others feel, and what becomes of the stuck ones?
//!
//! The same schedule is run twice on the same connections, first with everybody reading. Afterwards the stuck
//! members read again, to see what was waiting for them and how they were closed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::args::Slow as Args;
use crate::report::{self, Report, Slow};
use crate::scenario::relay::{Plan, Relay};
use crate::session::Session;

/// How long stuck members that read again may take to find their end.
const RECKONING: Duration = Duration::from_secs(1);

/// Runs `slow`.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let plan = Plan { rooms: 1, members: args.members, in_flight: 1 };
    // The publisher is slot 0 and always reads.
    let stalled = ((f64::from(args.members) * args.stalled).round() as u32).min(args.members - 1);
    let stuck_slots = (args.members - stalled) as usize..args.members as usize;
    let mut session = Session::start(&args.server, args.members as usize)?;
    session.net.limit_receive_buffers(Some(args.receive_buffer));
    session.gather(1, args.members)?;
    let mut relay = Relay::new(&session, plan, args.size);
    let rate = Some(args.rate);

    let (before, stopped_before) = relay.run(&mut session, rate, args.warm_up, args.duration)?;
    let memory_before = session.server.map(|server| server.memory()).transpose()?;
    let sent_before = relay.sent();
    for slot in stuck_slots.clone() {
        relay.stall(&mut session.net, slot);
    }
    relay.watch_memory_from(session.net.now());
    let (during, stopped_during) = relay.run(&mut session, rate, Duration::ZERO, args.duration)?;
    let offered = (relay.sent() - sent_before) as f64 * before.bytes_per_delivery;

    for slot in stuck_slots.clone() {
        session.net.resume(slot, &mut relay)?;
    }
    relay.listen(&mut session, RECKONING)?;
    let endings = endings(&relay, stuck_slots.len());

    let words = format!(
        "1 room of {}, {stalled} stop reading, {} B, {} messages/s",
        args.members,
        args.size,
        report::grouped(args.rate)
    );
    let mut report = Report::new("slow", args.server.peer, words);
    report.problems = before.problems();
    report.problems.extend(during.problems());
    report.problems.extend(stopped_before.into_iter().chain(stopped_during));
    let stuck_faults = relay.stalled_tally();
    if stuck_faults.duplicated + stuck_faults.reordered > 0 {
        report.problems.push(format!(
            "members that had stopped reading got messages twice or disordered: {stuck_faults:?}"
        ));
    }
    report.slow = Some(Slow {
        stalled,
        p99_ratio: report::ratio(during.latency.p99, before.latency.p99),
        before,
        during,
        endings,
        offered_bytes_each: offered as u64,
        memory: memory_before.zip(relay.memory_peak),
    });
    Ok(report)
}

/// How the stuck members ended, most frequent first.
fn endings(relay: &Relay, stalled: usize) -> Vec<(String, u64)> {
    let mut counts = BTreeMap::new();
    for cause in &relay.endings {
        *counts.entry(cause.to_string()).or_insert(0) += 1;
    }
    let open = stalled - relay.endings.len();
    if open > 0 {
        counts.insert("still open (the server's bounds were not reached)".to_owned(), open as u64);
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sorted
}
