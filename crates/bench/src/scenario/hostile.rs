//! Hostile clients beside healthy ones: what do those feel, and what does the server's memory?
//!
//! The same schedule is run by turns on the same connections, alone and with the hostile ones. Those are threads of their own
//! that run only while nobody else wants their core, and the driver sleeps until it has something to do, so that they get some
//! of it. How late the driver itself sends is part of every latency here, and reported beside it.

mod attack;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use self::attack::Attack;
use crate::args::Hostile as Args;
use crate::report::{self, Hostile, Report, Round};
use crate::scenario::relay::{Plan, Relay};
use crate::session::Session;

/// A thread that only reads and writes needs no more.
const STACK: usize = 256 * 1024;
/// How long the healthy ones listen while the hostile ones begin.
const BEGINNING: Duration = Duration::from_secs(1);

/// Runs `hostile`.
pub(crate) fn run(args: &Args) -> Result<Report> {
    let plan = Plan { rooms: args.rooms, members: args.members, in_flight: 1 };
    let mut session = Session::start(&args.server, args.rooms as usize * args.members as usize)?;
    session.gather(args.rooms, args.members)?;
    #[cfg(target_os = "linux")]
    session.net.nap()?;
    let mut relay = Relay::new(&session, plan, args.size);
    let memory_before = session.server.map(|server| server.memory()).transpose()?;
    let mut endings = Endings::new();
    let (mut rounds, mut problems) = (Vec::new(), Vec::new());
    for round in 0..args.rounds {
        let warm_up = if round == 0 { args.warm_up } else { BEGINNING };
        let (before, stopped_before) = relay.run(&mut session, Some(args.rate), warm_up, args.duration)?;
        relay.watch_memory_from(session.net.now());
        let crowd = Crowd::begin(session.net.target().addr, args)?;
        let (during, stopped_during) = relay.run(&mut session, Some(args.rate), BEGINNING, args.duration)?;
        crowd.end(&mut endings);
        problems.extend(before.problems().into_iter().chain(during.problems()));
        problems.extend(stopped_before.into_iter().chain(stopped_during));
        rounds.push(Round {
            p99_ratio: report::ratio(during.latency.p99, before.latency.p99),
            before,
            during,
        });
    }

    let words = format!(
        "{} room(s) of {}, {} B, {} messages/s; {} hostile connections, {:?} between two attacks of each",
        args.rooms,
        args.members,
        args.size,
        report::grouped(args.rate),
        args.hostile,
        args.pause,
    );
    let mut report = Report::new("hostile", args.server.peer, words);
    report.problems = problems;
    report.hostile = Some(Hostile {
        connections: args.hostile,
        rounds,
        attacks: endings.into_iter().map(|((attack, how), count)| (attack.to_owned(), how, count)).collect(),
        memory: memory_before.zip(relay.memory_peak),
    });
    Ok(report)
}

/// How the attacks of one kind ended, and how often.
type Endings = BTreeMap<(&'static str, String), u64>;

/// The hostile ones.
struct Crowd {
    over: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Endings>>,
}

impl Crowd {
    fn begin(addr: SocketAddr, args: &Args) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let thread = |number: u32| {
            let (over, pause, count) = (Arc::clone(&over), args.pause, args.hostile);
            let attack = Attack::ALL[number as usize % Attack::ALL.len()];
            std::thread::Builder::new()
                .name(format!("hostile-{number}"))
                .stack_size(STACK)
                .spawn(move || attack_again_and_again(addr, attack, number, count, pause, &over))
                .context("cannot start a thread for a hostile client")
        };
        let threads = (0..args.hostile).map(thread).collect::<Result<_>>()?;
        Ok(Self { over, threads })
    }

    fn end(self, endings: &mut Endings) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // One that panicked attacked no more; the others did.
            for (key, count) in thread.join().unwrap_or_default() {
                *endings.entry(key).or_default() += count;
            }
        }
    }
}

/// This thread runs only while nobody else wants its core. Where that is refused it has the common priority: the figures are
/// worse then, and no less true.
fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
        let _ = thread_priority::set_thread_priority_and_policy(
            thread_priority::thread_native_id(),
            ThreadPriority::Min,
            ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
        );
    }
}

fn attack_again_and_again(
    addr: SocketAddr,
    attack: Attack,
    number: u32,
    count: u32,
    pause: Duration,
    over: &AtomicBool,
) -> Endings {
    give_way();
    let mut endings = Endings::new();
    // Not all at the same moment.
    let mut wait = pause.mul_f64(f64::from(number) / f64::from(count));
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(wait);
        wait = pause;
        let how = attack.run(addr, number, over);
        if !over.load(Ordering::Relaxed) {
            *endings.entry((attack.name(), how)).or_default() += 1;
        }
    }
    endings
}
