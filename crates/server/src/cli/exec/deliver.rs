//! From the queue to the server: batches, in order, each message until it is there.
//!
//! Invariants: a message keeps its number and with it its idempotency key however often it is sent; the next batch is not
//! begun before all of this one is there or refused for good; what waits is bounded by the queue. A server that is away is
//! tried again with growing, random pauses.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::News;
use super::courier::{Courier, Parcel, Refused};
use crate::cli::output::{count, say};

/// Bytes in one batch: below the default of `api.body_bytes_max`.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// The first pause before trying again, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What became of everything.
#[derive(Debug, Default)]
pub(super) struct Report {
    lost: u64,
    why: Option<String>,
}

impl Report {
    pub(super) fn given_up() -> Self {
        Self { lost: 1, why: Some("interrupted before all output was delivered".to_owned()) }
    }

    /// What is to be said about it, if something is.
    pub(super) fn trouble(&self) -> Option<String> {
        let why = self.why.as_deref().unwrap_or("refused");
        (self.lost > 0).then(|| format!("{} not delivered: {why}", count(self.lost, "message")))
    }

    fn lose(&mut self, lost: usize, why: impl Into<String>) {
        self.lost += lost as u64;
        self.why.get_or_insert_with(|| why.into());
    }
}

/// The work of delivering.
#[derive(Debug)]
pub(super) struct Delivery {
    courier: Courier,
    process: String,
    quiet: bool,
    /// The next message's number; 0 was the first.
    seq: u64,
    report: Report,
    /// Nothing more can be delivered, and why.
    broken: bool,
}

impl Delivery {
    pub(super) fn new(courier: Courier, process: String, quiet: bool) -> Self {
        Self { courier, process, quiet, seq: 1, report: Report::default(), broken: false }
    }

    /// Until the queue ends; when `deadline` says one, until then.
    pub(super) async fn run(
        mut self,
        mut queue: mpsc::Receiver<News>,
        mut deadline: watch::Receiver<Option<Instant>>,
    ) -> Report {
        let batch_max = self.courier.batch_max();
        let (mut waiting, mut next) = (VecDeque::new(), Vec::with_capacity(batch_max));
        loop {
            if waiting.is_empty() {
                if queue.recv_many(&mut next, batch_max).await == 0 {
                    self.courier.close().await;
                    return self.report;
                }
                for news in next.drain(..) {
                    let message = news.message(&self.process, self.seq);
                    waiting.push_back(self.courier.parcel(message, self.seq));
                    self.seq += 1;
                }
            }
            if self.broken {
                self.report.lose(waiting.len(), "");
                waiting.clear();
                continue;
            }
            let delivered = tokio::select! {
                biased;
                () = self.deliver(&mut waiting) => true,
                () = passed(&mut deadline) => false,
            };
            if !delivered {
                // The queue's sender is the program's end, which waits for nothing: what is there is all there is.
                queue.close();
                while queue.recv().await.is_some() {
                    self.report.lose(1, "");
                }
                self.report.lose(waiting.len(), "the server was away for too long");
                return self.report;
            }
        }
    }

    /// Brings all of them there. Dropped in between, `waiting` has what was not answered.
    async fn deliver(&mut self, waiting: &mut VecDeque<Parcel>) {
        let mut pause = PAUSE;
        let mut away = false;
        while !waiting.is_empty() {
            let batch = first_batch(waiting, self.courier.batch_max());
            match self.courier.send(&batch).await {
                Ok(fates) => {
                    let mut again = VecDeque::new();
                    for fate in fates {
                        let Some(parcel) = waiting.pop_front() else { break };
                        match fate {
                            Ok(()) => {}
                            Err(Refused::Now) => again.push_back(parcel),
                            Err(Refused::Ever(why)) => self.report.lose(1, why),
                        }
                    }
                    let refused = !again.is_empty();
                    again.append(waiting);
                    *waiting = again;
                    if !refused {
                        pause = PAUSE;
                        if std::mem::take(&mut away) {
                            self.remark("the server is back");
                        }
                        continue;
                    }
                }
                Err(trouble) if trouble.temporary => {
                    if !std::mem::replace(&mut away, true) {
                        self.remark(&format!("{}; output waits until the server is back", trouble.why));
                    }
                }
                Err(trouble) => {
                    self.remark(&format!("{}; the program goes on, its output stays here", trouble.why));
                    self.report.lose(waiting.len(), trouble.why);
                    self.broken = true;
                    waiting.clear();
                    return;
                }
            }
            // Full jitter: many that lost the same server must not come back at the same moment.
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn remark(&self, text: &str) {
        if !self.quiet {
            say(&format!("outspoke: {text}"));
        }
    }
}

/// So many from the front as fit into one request; one at least.
fn first_batch(waiting: &VecDeque<Parcel>, batch_max: usize) -> Vec<Parcel> {
    let mut bytes = 0;
    let fits = |parcel: &&Parcel| {
        bytes += parcel.bytes();
        bytes <= BATCH_BYTES_MAX
    };
    let fitting = waiting.iter().take(batch_max).take_while(fits).count().max(1);
    waiting.iter().take(fitting).cloned().collect()
}

/// Ready when the deadline, once there is one, has passed.
async fn passed(deadline: &mut watch::Receiver<Option<Instant>>) {
    let until = match deadline.wait_for(Option::is_some).await {
        Ok(until) => *until,
        // Nobody will set one any more.
        Err(_) => None,
    };
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_in_number_and_bytes() {
        let parcel = |bytes: usize| Parcel {
            event: "process_output",
            data: serde_json::json!({ "line": "x".repeat(bytes) }),
            key: String::new(),
        };
        assert_eq!(first_batch(&(0..2000).map(|_| parcel(1)).collect(), 500).len(), 500);
        assert!(first_batch(&(0..500).map(|_| parcel(4000)).collect(), 500).len() < 50);
        assert_eq!(first_batch(&[parcel(1_000_000)].into(), 500).len(), 1);
    }
}
