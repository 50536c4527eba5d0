//! A process and everything it started, so that none of it is left behind.
//!
//! `cargo test` ended in the middle leaves its test program running, and that one its servers. Read from `/proc`; where
//! there is none, a family is the process alone. A process id may be given to somebody else at any time, so each is kept
//! with its start time, and only what still has both is signalled.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One process.
#[derive(Debug, Clone, Copy)]
struct Member {
    pid: i32,
    parent: i32,
    /// In clock ticks since the machine started.
    started: u64,
}

/// A process and its descendants, as they were when this was made.
#[derive(Debug)]
pub(crate) struct Family(Vec<Member>);

impl Family {
    /// The family of the process `head`.
    pub(crate) fn of(head: u32) -> Self {
        let all = processes();
        let mut children: HashMap<i32, Vec<Member>> = HashMap::new();
        all.iter().for_each(|&member| children.entry(member.parent).or_default().push(member));
        let mut family: Vec<_> =
            all.into_iter().filter(|member| i64::from(member.pid) == i64::from(head)).collect();
        let mut next = 0;
        while next < family.len() {
            family.extend(children.remove(&family[next].pid).unwrap_or_default());
            next += 1;
        }
        Self(family)
    }

    /// Sends `signal` to every member that is still there.
    pub(crate) fn signal(&self, signal: Signal) {
        for member in &self.0 {
            // The parent may be another by now: orphans are adopted.
            let same = read(member.pid).is_some_and(|found| found.started == member.started);
            if let (Some(pid), true) = (Pid::from_raw(member.pid), same) {
                // It may end in this very moment, which is what is wanted.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

fn processes() -> Vec<Member> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn read(pid: i32) -> Option<Member> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may contain anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    // The 22nd field of the line, counted as proc(5) does; the 5th of all is next.
    let started = fields.nth(17)?.parse().ok()?;
    Some(Member { pid, parent, started })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{BufRead as _, BufReader, Read as _};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn family_has_grandchildren_and_a_signal_reaches_them() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();

        let family = Family::of(shell.id());
        assert!(family.0.iter().any(|member| member.pid == grandchild));
        family.signal(Signal::KILL);

        shell.wait().unwrap();
        // The pipe closes when the last process that holds it has gone.
        output.read_to_string(&mut line).unwrap();
    }

    #[test]
    fn family_of_this_process_has_its_start_time_after_the_machines() {
        let me = read(std::process::id().try_into().unwrap()).unwrap();
        let first = read(1).unwrap();
        assert!(me.started >= first.started);
    }
}
