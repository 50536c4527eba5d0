//! What a keeper is asked to do, and who waits for it.

use std::sync::Arc;
use std::time::Duration;

use outspoke_store::{FactWrite, StoreError};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Submission;
use super::amend::Amendment;
use super::erase::Erasure;
use super::sweep::Trimming;
use crate::shard::command::LastCall;

/// Something to be done in order.
#[derive(Debug)]
pub(super) enum Job {
    Publish(Box<Submission>),
    Amend(Box<Amendment>),
    Erase(Box<Erasure>),
    Trim(Box<Trimming>),
    /// Facts. Those that nobody waits for may wait as long as it takes.
    Write(Vec<FactWrite>, Option<Asker<()>>),
    /// Begin what the epochs of new logs are made of.
    Seed(Asker<u64>),
    /// Let go of this when everything before is done.
    LastCall(Arc<LastCall>),
}

impl Job {
    /// Not begun by then: refused. Jobs of one origin have their deadlines in their order.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        match self {
            Self::Publish(submission) => Some(submission.deadline),
            Self::Amend(amendment) => Some(amendment.deadline),
            Self::Erase(erasure) => Some(erasure.asker.since + timeout),
            Self::Trim(trimming) => Some(trimming.asker.since + timeout),
            Self::Write(_, asker) => asker.as_ref().map(|asker| asker.since + timeout),
            Self::Seed(asker) => Some(asker.since + timeout),
            Self::LastCall(_) => None,
        }
    }

    /// Whether it is a step of its own. Others that are taken together become durable together.
    pub(super) fn is_done_alone(&self) -> bool {
        !matches!(self, Self::Publish(_) | Self::Write(..))
    }
}

/// Who waits for a job that is no message's.
#[derive(Debug)]
pub(super) struct Asker<T> {
    done: oneshot::Sender<Result<T, StoreError>>,
    since: Instant,
}

impl<T> Asker<T> {
    /// Somebody who asks now, and where the answer will be.
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (done, outcome) = oneshot::channel();
        (Self { done, since: Instant::now() }, outcome)
    }

    pub(super) fn answer(self, outcome: Result<T, StoreError>) {
        // Whoever asked may have stopped waiting.
        let _ = self.done.send(outcome);
    }
}
