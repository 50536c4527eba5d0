//! What waits for a keeper, in its order.
//!
//! Filled from any thread, emptied by the keeper as a batch. Bounded in bytes: what may be refused is, when it is full.
//! What is taken is begun; all else stays here, where its time can be over. Closed when its keeper ends: nothing waits for
//! nobody.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::NotQueued;
use super::job::Job;

/// Jobs taken at once: a commit of more takes longer without costing less per message.
const JOBS_MAX: usize = 4096;
/// Bytes taken at once.
const BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
    bytes_max: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<(Job, usize)>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), filled: Notify::new(), bytes_max: AtomicUsize::new(bytes_max) }
    }

    /// What waits now.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// What may wait from now on. What waits already stays.
    pub(super) fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Queues a job, unless too much waits already or nobody would do it.
    pub(super) fn offer(&self, job: Job, weight: usize) -> Result<(), NotQueued> {
        let mut state = self.lock();
        if state.closed {
            return Err(NotQueued::Closed);
        }
        if state.bytes + weight > self.bytes_max.load(Ordering::Relaxed) {
            return Err(NotQueued::Full);
        }
        state.bytes += weight;
        state.jobs.push_back((job, weight));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Queues what must not be refused. It is let go of at once if nobody would do it.
    pub(super) fn push(&self, job: Job) {
        let mut state = self.lock();
        if !state.closed {
            state.jobs.push_back((job, 0));
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Takes nothing more, and gives what waits.
    pub(super) fn close(&self) -> impl Iterator<Item = Job> + use<> {
        let mut state = self.lock();
        state.closed = true;
        state.bytes = 0;
        std::mem::take(&mut state.jobs).into_iter().map(|(job, _)| job)
    }

    /// The next jobs: some that become durable together, or one that is done alone.
    ///
    /// # Cancel safety
    /// Nothing is taken until it is returned.
    pub(super) async fn take(&self) -> Vec<Job> {
        loop {
            let jobs = self.take_now();
            if !jobs.is_empty() {
                return jobs;
            }
            self.filled.notified().await;
        }
    }

    fn take_now(&self) -> Vec<Job> {
        let mut state = self.lock();
        let mut jobs = Vec::new();
        let mut bytes = 0;
        while jobs.len() < JOBS_MAX && bytes < BYTES_MAX {
            let alone = state.jobs.front().is_some_and(|(job, _)| job.is_done_alone());
            if alone && !jobs.is_empty() {
                break;
            }
            let Some((job, weight)) = state.jobs.pop_front() else { break };
            bytes += weight;
            jobs.push(job);
            if alone {
                break;
            }
        }
        state.bytes -= bytes;
        jobs
    }

    /// Takes out the jobs whose time is over, in their order. What has no deadline stays, and does not hide what is behind it.
    ///
    /// # Cost
    /// Deadlines grow along the queue but for what several threads offer at once, so the first that is not over ends the search.
    pub(super) fn take_expired(&self, now: Instant, timeout: Duration) -> Vec<Job> {
        let mut state = self.lock();
        let mut expired = Vec::new();
        let mut kept = Vec::new();
        while let Some((job, weight)) = state.jobs.pop_front() {
            match job.deadline(timeout) {
                Some(deadline) if deadline <= now => {
                    state.bytes -= weight;
                    expired.push(job);
                }
                Some(_) => {
                    state.jobs.push_front((job, weight));
                    break;
                }
                None => kept.push((job, weight)),
            }
        }
        for job in kept.into_iter().rev() {
            state.jobs.push_front(job);
        }
        expired
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
