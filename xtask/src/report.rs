//! Runs jobs one after the other and says, in one line each, how they ended.
//!
//! Every job runs, also after a failure; the failures are listed again at the end. A suite closes with
//! `name: N passed, N failed`, followed by `, N skipped` where tests were skipped; a check closes with `name: ok` or
//! `name: failed`. What a job leaves out it says in a note, never in silence. A job whose turn comes when the time is over is not
//! run, says so, and counts as failed.

use std::fmt;
use std::io::IsTerminal as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::ahead::Ahead;
use crate::context::Context;
use crate::step;

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Tally {
    /// Reads `12 passed, 0 failed`, with or without a name before it and `, 3 skipped` after it.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let counts = line.trim().rsplit_once(": ").map_or(line.trim(), |(_, counts)| counts);
        let mut parts = counts.split(", ").map(|part| part.split_once(' '));
        let mut next = |word: &str| match parts.next()?? {
            (count, found) if found == word => count.parse().ok(),
            _ => None,
        };
        let (passed, failed) = (next("passed")?, next("failed")?);
        Some(Self { passed, failed, skipped: next("skipped").unwrap_or(0) })
    }

    /// Adds another suite's counts.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// What a job says beside its closing line.
pub(crate) type Notes = Vec<String>;

type Run = Box<dyn Fn(&Context, &mut Tally) -> Result<Notes>>;

/// Makes the command by which a job builds what it needs.
type Build = fn(&Context) -> Result<Command>;

/// A suite or a check.
pub(crate) struct Job {
    pub(crate) name: &'static str,
    counts_tests: bool,
    run: Run,
    /// What it begins with, if that can be done while other jobs run.
    build: Option<Build>,
}

impl Job {
    /// A suite: it counts its tests. A failed test is counted in the tally; an error is what kept tests from running.
    pub(crate) fn tests(
        name: &'static str,
        run: impl Fn(&Context, &mut Tally) -> Result<Notes> + 'static,
    ) -> Self {
        Self { name, counts_tests: true, run: Box::new(run), build: None }
    }

    /// A check: it holds or it does not.
    pub(crate) fn check(name: &'static str, run: impl Fn(&Context) -> Result<Notes> + 'static) -> Self {
        Self { name, counts_tests: false, run: Box::new(move |ctx, _| run(ctx)), build: None }
    }

    /// Begins with this build, which may be made before its turn comes.
    pub(crate) fn built_by(self, build: Build) -> Self {
        Self { build: Some(build), ..self }
    }

    /// Runs it, prints how it ended, and says whether it passed.
    fn report(&self, ctx: &Context) -> bool {
        if std::io::stderr().is_terminal() {
            eprintln!("{} …", self.name);
        }
        let mut tally = Tally::default();
        let result = (self.run)(ctx, &mut tally);
        match &result {
            Ok(notes) => notes.iter().for_each(|note| println!("{note}")),
            Err(error) => println!("{error:#}"),
        }
        // An error that no test was blamed for still has to show in the counts.
        if result.is_err() && tally.failed == 0 {
            tally.failed = 1;
        }
        match (self.counts_tests, tally.failed) {
            (true, _) => println!("{}: {tally}", self.name),
            (false, 0) => println!("{}: ok", self.name),
            (false, _) => println!("{}: failed", self.name),
        }
        tally.failed == 0
    }
}

/// Runs every job, and says whether all passed.
pub(crate) fn run_all(ctx: &Context, jobs: &[Job]) -> bool {
    let _ahead = build_ahead(ctx, jobs.get(1..).unwrap_or_default());
    let mut failures = Vec::new();
    let mut durations = Vec::new();
    for job in jobs {
        let start = Instant::now();
        let is_over = step::time_left().is_some_and(|left| left.is_zero());
        if is_over {
            println!("{}: not run, because the time is over", job.name);
        }
        if is_over || !job.report(ctx) {
            failures.push(job.name);
        }
        durations.push((job.name, start.elapsed()));
    }
    if jobs.len() > 1 {
        println!("took {}", durations_line(&durations));
    }
    if !failures.is_empty() {
        println!("failed: {} (logs in {})", failures.join(", "), ctx.shorten(&ctx.logs).display());
    }
    failures.is_empty()
}

/// Begins to build what jobs need whose turn is not yet.
fn build_ahead(ctx: &Context, later: &[Job]) -> Ahead {
    let builds = later.iter().filter_map(|job| Some((job.name, job.build?(ctx).ok()?)));
    Ahead::start(ctx, builds.collect())
}

fn durations_line(durations: &[(&str, Duration)]) -> String {
    let total = durations.iter().map(|(_, took)| *took).sum();
    let each: Vec<_> = durations.iter().map(|(name, took)| format!("{name} {}", clock(*took))).collect();
    format!("{} in all: {}", clock(total), each.join(", "))
}

fn clock(duration: Duration) -> String {
    format!("{}:{:02}", duration.as_secs() / 60, duration.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tally_reads_what_it_writes() {
        let tally = Tally { passed: 12, failed: 0, skipped: 3 };
        assert_eq!(Tally::parse(&format!("browser: {tally}")), Some(tally));
        assert_eq!(Tally::parse(&tally.to_string()), Some(tally));
    }

    #[test]
    fn tally_without_skipped_is_zero_skipped() {
        assert_eq!(Tally::parse("3 passed, 1 failed"), Some(Tally { passed: 3, failed: 1, skipped: 0 }));
    }

    #[test]
    fn tally_of_another_line_is_none() {
        for line in ["", "passed", "test result: ok. 3 passed; 0 failed", "3 failed, 1 passed", "a: b"] {
            assert_eq!(Tally::parse(line), None, "{line}");
        }
    }
}
