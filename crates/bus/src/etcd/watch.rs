//! One watch for all that a node hears, kept up by its own task.
//!
//! It covers the whole prefix and begins where the one before has ended, so that a connection that is lost, a member that is
//! restarted or a new leader cost time and no message. When etcd has forgotten what comes next, or is not the one it
//! was, the watch goes on from now and every outlet is told. A member that says nothing is asked whether it is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use super::Inner;
use super::connection::{Connection, Failure};
use super::proto::{
    FILTER_DELETIONS, ResponseHeader, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::BusState;

/// A watch that has said nothing for so long is asked.
const ASKED_AFTER: Duration = Duration::from_secs(2);
/// So long it may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// Pauses before it is tried again: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// How far the watch has come, and in what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    cluster: u64,
    /// Of the leader; grows for as long as a cluster lives.
    term: u64,
    /// All up to this one was delivered.
    revision: i64,
}

/// What outlives a connection.
#[derive(Debug, Default)]
struct Progress {
    place: Option<Place>,
    /// Something may be missing that nobody was told of yet.
    hole: bool,
}

impl Progress {
    /// Where to go on, by where etcd is.
    fn resume(&mut self, now: &ResponseHeader) -> Place {
        let current = Place { cluster: now.cluster_id, term: now.raft_term, revision: now.revision };
        let place = match self.place {
            None => current,
            Some(known) if known.continues_in(&current) => Place { term: current.term, ..known },
            Some(_) => {
                tracing::warn!("etcd is not the one it was: it was restored or replaced");
                self.hole = true;
                current
            }
        };
        self.place = Some(place);
        place
    }

    /// What was to come next is not to be had any more.
    fn lose(&mut self) {
        self.place = None;
        self.hole = true;
    }

    fn delivered(&mut self, revision: i64) {
        if let Some(place) = &mut self.place {
            place.revision = place.revision.max(revision);
        }
    }
}

impl Place {
    /// Whether a cluster that is there now may have been here.
    fn continues_in(&self, now: &Self) -> bool {
        self.cluster == now.cluster && self.term <= now.term && self.revision <= now.revision
    }
}

/// Keeps the watch up until the task is ended.
pub(super) async fn keep(inner: Arc<Inner>) {
    let mut progress = Progress::default();
    let mut pause = RETRY.0;
    for endpoint in inner.endpoints.iter().cycle() {
        let failure = match Connection::open(endpoint, &inner.options).await {
            Ok(connection) => session(&inner, Arc::new(connection), &mut progress).await,
            Err(failure) => failure,
        };
        let was_connected = inner.state.borrow().connected;
        let detail = format!("etcd at {}: {failure}", endpoint.uri());
        if was_connected {
            tracing::warn!(%detail, "the bus is away");
            pause = RETRY.0;
        }
        inner.set_state(None, BusState { connected: false, detail });
        // A token that has had its time is no reason to wait.
        if !(was_connected && failure == Failure::Token) {
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

/// Watches over one connection until that fails.
async fn session(inner: &Inner, connection: Arc<Connection>, progress: &mut Progress) -> Failure {
    loop {
        match watch(inner, &connection, progress).await {
            Err(failure) => return failure,
            // Compacted: the next watch begins now.
            Ok(()) => progress.lose(),
        }
    }
}

/// Watches until etcd has forgotten what comes next, or something fails.
async fn watch(inner: &Inner, connection: &Arc<Connection>, progress: &mut Progress) -> Result<(), Failure> {
    // Asked of a majority: a member that lags behind would be taken for a restored one, and one that is alone does not answer.
    let place = progress.resume(&connection.header(inner.keys.first()).await?);
    let create = WatchCreateRequest {
        key: inner.keys.first(),
        range_end: inner.keys.end(),
        start_revision: place.revision + 1,
        filters: vec![FILTER_DELETIONS],
        fragment: true,
    };
    let (asks, mut answers) = connection.watch(create).await?;
    let mut up = false;
    loop {
        let answer = next(inner, &asks, &mut answers).await?;
        if answer.canceled {
            return if answer.compact_revision > 0 {
                Ok(())
            } else {
                Err(Failure::said(&answer.cancel_reason))
            };
        }
        if answer.created && !up {
            if std::mem::take(&mut progress.hole) {
                inner.subscriptions.interrupted().await;
            }
            inner.set_state(Some(connection.clone()), BusState { connected: true, detail: String::new() });
            up = true;
        }
        deliver(inner, answer, progress).await;
    }
}

/// The watch's next answer. A watch that is silent for long is gone.
async fn next(
    inner: &Inner,
    asks: &mpsc::Sender<WatchRequest>,
    answers: &mut Streaming<WatchResponse>,
) -> Result<WatchResponse, Failure> {
    let since = Instant::now();
    loop {
        let (waits, asked) = match since.elapsed() < ASKED_AFTER {
            true => (ASKED_AFTER, false),
            false => (ANSWERED_WITHIN, true),
        };
        let answer = tokio::select! {
            answer = timeout(waits, answers.message()) => answer,
            () = inner.again.notified() => return Err(Failure::Token),
        };
        match answer {
            Ok(Ok(Some(answer))) => return Ok(answer),
            Ok(Ok(None)) => return Err(Failure::Other("it has ended the watch".to_owned())),
            Ok(Err(status)) => return Err(Failure::from(&status)),
            Err(_) if asked => return Err(Failure::Silent(ASKED_AFTER + ANSWERED_WITHIN)),
            Err(_) => {
                let ask = WatchRequest { create: None, progress: Some(WatchProgressRequest {}) };
                // When it cannot even be sent, no answer comes.
                let _ = asks.try_send(ask);
            }
        }
    }
}

async fn deliver(inner: &Inner, answer: WatchResponse, progress: &mut Progress) {
    // The events of a revision may be in several fragments: it counts when the last of them has come.
    let last =
        (!answer.fragment).then(|| answer.events.last()?.kv.as_ref().map(|kv| kv.mod_revision)).flatten();
    for event in answer.events {
        let Some(kv) = event.kv.filter(|_| event.kind == 0) else { continue };
        if let Some(topic) = inner.keys.decode(&kv.key) {
            inner.subscriptions.deliver(&topic, kv.value).await;
        }
    }
    if let Some(revision) = last {
        progress.delivered(revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster_id: u64, raft_term: u64, revision: i64) -> ResponseHeader {
        ResponseHeader { cluster_id, revision, raft_term }
    }

    #[test]
    fn a_watch_goes_on_where_it_was_also_under_a_new_leader() {
        let mut progress = Progress::default();
        assert_eq!(progress.resume(&header(1, 2, 10)).revision, 10);
        progress.delivered(12);
        progress.delivered(11);
        assert_eq!(progress.resume(&header(1, 3, 20)), Place { cluster: 1, term: 3, revision: 12 });
        assert!(!progress.hole);
    }

    #[test]
    fn another_cluster_an_older_term_and_a_smaller_revision_are_holes() {
        for now in [header(2, 3, 30), header(1, 2, 30), header(1, 3, 9)] {
            let mut progress = Progress::default();
            progress.resume(&header(1, 3, 10));
            assert_eq!(progress.resume(&now).revision, now.revision);
            assert!(progress.hole);
        }
    }

    #[test]
    fn what_was_compacted_is_a_hole() {
        let mut progress = Progress::default();
        progress.resume(&header(1, 3, 10));
        progress.lose();
        assert!(progress.hole);
        assert_eq!(progress.resume(&header(1, 3, 50)).revision, 50);
    }
}
