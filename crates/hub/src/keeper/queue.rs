//! What waits for a keeper, in its order.
//!
//! Filled from any thread, emptied by the keeper as a batch. Bounded in bytes: what may be refused is, when it is full.

#![allow(clippy::vec_box)] // submissions are large, and move from one vector to another

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Job, Submission};

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

    /// Queues a job, or gives it back when too much waits already.
    pub(super) fn offer(&self, job: Job, weight: usize) -> Result<(), Job> {
        let mut state = self.lock();
        if state.bytes + weight > self.bytes_max.load(Ordering::Relaxed) {
            return Err(job);
        }
        state.bytes += weight;
        state.jobs.push_back((job, weight));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Queues what must not be refused.
    pub(super) fn push(&self, job: Job) {
        self.lock().jobs.push_back((job, 0));
        self.filled.notify_one();
    }

    /// The next jobs, at least one.
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
            let Some((job, weight)) = state.jobs.pop_front() else { break };
            bytes += weight;
            jobs.push(job);
        }
        state.bytes -= bytes;
        jobs
    }

    /// Takes out the messages whose time is over. Those of one publisher have their deadlines in their order, so none
    /// overtakes another.
    pub(super) fn take_expired(&self, now: Instant) -> Vec<Box<Submission>> {
        let mut state = self.lock();
        let mut expired = Vec::new();
        while let Some((Job::Publish(submission), _)) = state.jobs.front() {
            if submission.deadline > now {
                break;
            }
            if let Some((Job::Publish(submission), weight)) = state.jobs.pop_front() {
                state.bytes -= weight;
                expired.push(submission);
            }
        }
        expired
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
