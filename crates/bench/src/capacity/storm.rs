//! A reconnect storm: clients that have all lost their connection, and servers that take so many handshakes a second.
//!
//! Time goes in steps of ten milliseconds. A client waits as the client specification says (full jitter: random between nothing
//! and `base * 2^n`, at most `cap`), then asks for a connection. It gets a place in the queue of handshakes, or is refused when that
//! is full; one whose patience ends before its turn gives up. Both wait again, longer. What costs a server nothing here, and
//! something in truth: saying no.
//!
//! Clients are counted, not modelled one by one: a step has a number of arrivals for each number of attempts made before. Each
//! wait is drawn singly, so ten million clients are some hundred million draws: seconds.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::args::duration;
use crate::report::grouped;

/// Milliseconds of a step.
const STEP_MS: u64 = 10;
/// Nobody is waited for longer: a storm that has not ended by then does not end.
const HORIZON: Duration = Duration::from_secs(600);
/// Attempts told apart; beyond it the wait has its upper limit for any sensible settings.
const ATTEMPTS: usize = 16;

/// Arguments of `storm`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StormArgs {
    /// How many clients lose their connection.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) clients: u32,
    /// Handshakes that all servers left can do in a second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) rate: u32,
    /// Handshakes that may wait at all of them together (`server.backlog` of each).
    #[arg(long, default_value_t = 40_960, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) places: u32,
    /// How long a client waits for its connection.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) patience: Duration,
    /// The upper limit of a client's first wait.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) base: Duration,
    /// The upper limit of every wait.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) cap: Duration,
    /// Clients that wait the upper limit instead of a random time below it, as many libraries do.
    #[arg(long)]
    pub(crate) without_jitter: bool,
    /// Over how long they lose their connection: 0 for a crash, the time of a drain otherwise.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    pub(crate) spread: Duration,
    /// Where the random numbers begin: the same seed, the same storm.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Outcome {
    /// Seconds until half of the clients were back; absent if they never were.
    half: Option<f64>,
    /// The same for 99 %.
    most: Option<f64>,
    /// The same for the last one.
    all: Option<f64>,
    /// Requests for a connection, those of the first attempt among them.
    attempts: u64,
    /// Requests that found no place.
    refused: u64,
    /// Requests whose client went away before its turn.
    given_up: u64,
    /// The most requests in a second.
    peak: u64,
    clients: u32,
}

/// Runs `storm`.
pub(crate) fn run(args: &StormArgs) -> Result<()> {
    io::stdout().lock().write_all(render(args)?.as_bytes()).context("cannot print the outcome")
}

/// What is printed.
pub(super) fn render(args: &StormArgs) -> Result<String> {
    let outcome = simulate(args)?;
    Ok(match args.json {
        true => serde_json::to_string_pretty(&outcome)? + "\n",
        false => format!("{}{outcome}", Title(args)),
    })
}

/// Lets it happen.
pub(crate) fn simulate(args: &StormArgs) -> Result<Outcome> {
    ensure!(!args.base.is_zero(), "--base must be above 0: clients that do not wait never stop asking");
    ensure!(args.cap >= args.base, "--cap must be at least --base");
    ensure!(args.cap <= HORIZON && args.spread <= HORIZON, "--cap and --spread must be at most {HORIZON:?}");
    let mut storm = Storm::new(args);
    let end = steps(HORIZON);
    while storm.back < args.clients && storm.now < end {
        storm.step();
    }
    Ok(storm.outcome())
}

fn steps(time: Duration) -> u64 {
    time.as_millis() as u64 / STEP_MS
}

/// Requests that wait for their handshake.
struct Waiting {
    since: u64,
    count: u32,
    attempt: usize,
}

struct Storm<'a> {
    args: &'a StormArgs,
    random: fastrand::Rng,
    now: u64,
    /// Who asks in which step, by the attempts made before; a ring that begins at `now`.
    due: VecDeque<[u32; ATTEMPTS]>,
    queue: VecDeque<Waiting>,
    waiting: u32,
    /// Handshakes that may be done and were not yet, in a thousandth.
    budget: u64,
    back: u32,
    reached: [Option<u64>; 3],
    attempts: u64,
    refused: u64,
    given_up: u64,
    second: u64,
    peak: u64,
}

impl<'a> Storm<'a> {
    fn new(args: &'a StormArgs) -> Self {
        let mut storm = Self {
            args,
            random: fastrand::Rng::with_seed(args.seed),
            now: 0,
            due: VecDeque::new(),
            queue: VecDeque::new(),
            waiting: 0,
            budget: 0,
            back: 0,
            reached: [None; 3],
            attempts: 0,
            refused: 0,
            given_up: 0,
            second: 0,
            peak: 0,
        };
        let spread = steps(args.spread);
        for client in 0..u64::from(args.clients) {
            let lost = client * spread / u64::from(args.clients);
            storm.wait(0, lost);
        }
        storm
    }

    /// A client that has made so many attempts waits for its next, from `after` steps on.
    fn wait(&mut self, attempt: usize, after: u64) {
        let limit = self.args.base.saturating_mul(1 << attempt).min(self.args.cap);
        let limit = steps(limit).max(1);
        let wait = if self.args.without_jitter { limit } else { self.random.u64(0..limit) };
        let at = (after + wait) as usize;
        if self.due.len() <= at {
            self.due.resize(at + 1, [0; ATTEMPTS]);
        }
        self.due[at][attempt] += 1;
    }

    fn wait_again(&mut self, attempt: usize, count: u32) {
        for _ in 0..count {
            // At the earliest in the next step: this one's are being counted.
            self.wait((attempt + 1).min(ATTEMPTS - 1), 1);
        }
    }

    fn step(&mut self) {
        if self.due.is_empty() {
            self.due.push_back([0; ATTEMPTS]);
        }
        let arrivals = self.due[0];
        self.leave_impatient();
        for (attempt, count) in arrivals.into_iter().enumerate().filter(|(_, count)| *count > 0) {
            self.arrive(attempt, count);
        }
        self.shake_hands();
        self.due.pop_front();
        self.now += 1;
        if self.now.is_multiple_of(1000 / STEP_MS) {
            self.second = 0;
        }
    }

    fn arrive(&mut self, attempt: usize, count: u32) {
        self.attempts += u64::from(count);
        self.second += u64::from(count);
        self.peak = self.peak.max(self.second);
        let taken = count.min(self.args.places.saturating_sub(self.waiting));
        if taken > 0 {
            self.queue.push_back(Waiting { since: self.now, count: taken, attempt });
            self.waiting += taken;
        }
        self.refused += u64::from(count - taken);
        self.wait_again(attempt, count - taken);
    }

    fn leave_impatient(&mut self) {
        let patience = steps(self.args.patience);
        while let Some(first) = self.queue.front()
            && self.now - first.since > patience
        {
            let (count, attempt) = (first.count, first.attempt);
            self.queue.pop_front();
            self.waiting -= count;
            self.given_up += u64::from(count);
            self.wait_again(attempt, count);
        }
    }

    fn shake_hands(&mut self) {
        // A second's worth at most: a server that had nothing to do does not do twice as much afterwards.
        let rate = u64::from(self.args.rate);
        self.budget = (self.budget + rate * STEP_MS).min(rate * STEP_MS + 1000);
        while self.budget >= 1000
            && let Some(first) = self.queue.front_mut()
        {
            let done = u64::from(first.count).min(self.budget / 1000) as u32;
            first.count -= done;
            if first.count == 0 {
                self.queue.pop_front();
            }
            self.budget -= u64::from(done) * 1000;
            self.waiting -= done;
            self.back += done;
        }
        let clients = u64::from(self.args.clients);
        for (reached, part) in self.reached.iter_mut().zip([50, 99, 100]) {
            if reached.is_none() && u64::from(self.back) * 100 >= clients * part {
                *reached = Some(self.now + 1);
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let [half, most, all] = self.reached.map(|step| step.map(|step| (step * STEP_MS) as f64 / 1000.0));
        Outcome {
            half,
            most,
            all,
            attempts: self.attempts,
            refused: self.refused,
            given_up: self.given_up,
            peak: self.peak,
            clients: self.args.clients,
        }
    }
}

struct Title<'a>(&'a StormArgs);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StormArgs { clients, rate, places, base, cap, .. } = self.0;
        let (clients, rate, places) =
            (grouped(f64::from(*clients)), grouped(f64::from(*rate)), grouped(f64::from(*places)));
        let jitter = if self.0.without_jitter { "without jitter" } else { "full jitter" };
        writeln!(
            f,
            "storm: {clients} clients lose their connection over {:?}; {rate} handshakes/s, {places} may wait; they wait {base:?} to {cap:?}, {jitter}",
            self.0.spread,
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: Option<f64>| {
            at.map_or_else(|| format!("not within {HORIZON:?}"), |seconds| format!("{seconds:.1} s"))
        };
        let count = |count: u64| grouped(count as f64);
        writeln!(f, "  half are back          after {}", time(self.half))?;
        writeln!(f, "  99 % are back          after {}", time(self.most))?;
        writeln!(f, "  all are back           after {}", time(self.all))?;
        let each = self.attempts as f64 / f64::from(self.clients);
        writeln!(f, "  attempts               {}, {each:.2} for each client", count(self.attempts))?;
        writeln!(f, "  refused                {}", count(self.refused))?;
        writeln!(f, "  gave up while waiting  {}", count(self.given_up))?;
        writeln!(f, "  most in a second       {}", count(self.peak))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        storm: StormArgs,
    }

    fn storm(words: &str) -> Outcome {
        let args = Cli::try_parse_from(["storm"].into_iter().chain(words.split_whitespace())).unwrap().storm;
        simulate(&args).unwrap()
    }

    #[test]
    fn servers_that_are_fast_enough_have_everybody_back_within_the_first_wait() {
        let outcome = storm("--clients 10000 --rate 1000000 --places 1000000");
        assert_eq!((outcome.attempts, outcome.refused, outcome.given_up), (10_000, 0, 0));
        let all = outcome.all.unwrap();
        assert!(all <= 1.0 && all > 0.9, "{all}");
        let half = outcome.half.unwrap();
        assert!((half - 0.5).abs() < 0.05, "uniform over the first second: {half}");
    }

    #[test]
    fn nobody_is_back_sooner_than_the_servers_can_shake_hands() {
        for words in ["--clients 100000 --rate 10000", "--clients 100000 --rate 10000 --without-jitter"] {
            let outcome = storm(words);
            assert!(outcome.all.unwrap() >= 10.0, "{words}");
            assert!(outcome.most.unwrap() >= 9.9, "{words}");
        }
    }

    #[test]
    fn every_client_is_counted_once_and_every_failure_is_another_attempt() {
        let outcome = storm("--clients 50000 --rate 2000 --places 500 --patience 100ms");
        assert!(outcome.all.is_some());
        assert!(outcome.given_up > 0 && outcome.refused > 0);
        assert_eq!(outcome.attempts, 50_000 + outcome.refused + outcome.given_up);
    }

    #[test]
    fn storm_is_the_same_for_the_same_seed_and_differs_for_another() {
        let words = "--clients 20000 --rate 3000 --places 1000";
        assert_eq!(storm(words), storm(words));
        assert_ne!(storm(words), storm(&format!("{words} --seed 2")));
    }

    #[test]
    fn without_jitter_everybody_asks_at_the_same_moments() {
        let with = storm("--clients 100000 --rate 10000 --places 1000");
        let without = storm("--clients 100000 --rate 10000 --places 1000 --without-jitter");
        assert_eq!(without.peak, 100_000);
        assert!(without.all.is_none_or(|all| all > with.all.unwrap() * 2.0), "{without:?} {with:?}");
    }

    #[test]
    fn spread_loss_of_connections_asks_no_faster_than_it_happens() {
        let outcome = storm("--clients 100000 --rate 50000 --spread 20s");
        assert_eq!((outcome.refused, outcome.given_up), (0, 0));
        assert!(outcome.peak < 8_000, "{}", outcome.peak);
    }

    #[test]
    fn storm_that_cannot_end_says_so() {
        let outcome = storm("--clients 1000000 --rate 1000");
        assert_eq!(outcome.all, None);
        assert!(outcome.half.is_some());
        assert!(outcome.to_string().contains("not within 600s"), "{outcome}");
    }

    #[test]
    fn settings_that_mean_no_wait_are_refused() {
        for words in ["--base 0s", "--base 2s --cap 1s", "--cap 700s"] {
            let args = Cli::try_parse_from(["storm"].into_iter().chain(words.split_whitespace())).unwrap();
            assert!(simulate(&args.storm).is_err(), "{words}");
        }
    }
}
