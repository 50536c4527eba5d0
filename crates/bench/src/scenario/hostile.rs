//! Hostile clients beside healthy ones: what do those feel, and what does the server's memory?
//!
//! The same schedule is run twice on the same connections, first alone. The hostile ones are threads of their own with the
//! lowest priority, so that they take what the driver leaves: what is measured is the server, not the lack of a third core.

mod attack;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use self::attack::Attack;
use crate::args::Hostile as Args;
use crate::report::{self, Hostile, Report};
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
    let mut relay = Relay::new(&session, plan, args.size);
    let rate = Some(args.rate);

    let (before, stopped_before) = relay.run(&mut session, rate, args.warm_up, args.duration)?;
    let memory_before = session.server.map(|server| server.memory()).transpose()?;
    relay.watch_memory_from(session.net.now());
    let crowd = Crowd::begin(session.net.target().addr, args)?;
    let (during, stopped_during) = relay.run(&mut session, rate, BEGINNING, args.duration)?;
    let attacks = crowd.end();

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
    report.problems = before.problems();
    report.problems.extend(during.problems());
    report.problems.extend(stopped_before.into_iter().chain(stopped_during));
    report.hostile = Some(Hostile {
        connections: args.hostile,
        p99_ratio: report::ratio(during.latency.p99, before.latency.p99),
        before,
        during,
        attacks,
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

    fn end(self) -> Vec<(String, String, u64)> {
        self.over.store(true, Ordering::Relaxed);
        let mut endings = Endings::new();
        for thread in self.threads {
            // One that panicked attacked no more; the others did.
            for (key, count) in thread.join().unwrap_or_default() {
                *endings.entry(key).or_default() += count;
            }
        }
        endings.into_iter().map(|((attack, how), count)| (attack.to_owned(), how, count)).collect()
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
    // Without a lower priority they have the same: the figures are worse, and no less true.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, 19);
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
