//! The connection that messages leave on.
//!
//! One batch at a time is written with a ping behind it; the pong is the answer. While there is no connection, batches are refused at once
//! with the reason; only while an attempt to connect is under way they wait for how it ends.

use bytes::BytesMut;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep, timeout};

use super::backoff::Backoff;
use super::{Codec as _, Event, Pace, Part, Service, Session};

/// Batches that may wait; a bus is asked one at a time, but callers may have gone before their answer.
const WAITING: usize = 4;

/// Hands batches to the task that owns the connection.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    batches: mpsc::Sender<Batch>,
    pace: Pace,
    place: String,
}

#[derive(Debug)]
struct Batch {
    /// As the protocol has it.
    bytes: BytesMut,
    answer: oneshot::Sender<Result<(), String>>,
}

struct Task<S> {
    service: S,
    part: Part,
    pace: Pace,
    batches: mpsc::Receiver<Batch>,
    backoff: Backoff,
}

impl Publisher {
    /// Begins to connect; on the runtime of the caller, until the task is aborted.
    pub(crate) fn start<S: Service>(service: S, part: Part, pace: Pace) -> (Self, JoinHandle<()>) {
        let (sender, batches) = mpsc::channel(WAITING);
        let publisher = Self { batches: sender, pace, place: service.place() };
        let task = Task { service, part, pace, batches, backoff: Backoff::default() };
        (publisher, tokio::spawn(task.run()))
    }

    /// Publishes, and answers when the server has done it.
    pub(crate) async fn publish(&self, bytes: BytesMut) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let published = async {
            self.batches.send(Batch { bytes, answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(self.pace.limit, published).await {
            Ok(answer) => answer.unwrap_or_else(|| Err("the connection was given up".to_owned())),
            Err(_) => Err(self.pace.too_slow(&self.place)),
        }
    }
}

impl<S: Service> Task<S> {
    async fn run(mut self) {
        loop {
            let error = match self.connect().await {
                Ok(session) => {
                    self.part.well();
                    self.backoff.worked();
                    self.serve(session).await
                }
                Err(error) => error,
            };
            tracing::debug!(server = %self.service.place(), error, "cannot publish");
            self.part.wrong(&error);
            self.service.failed();
            self.refuse(&error).await;
        }
    }

    async fn connect(&self) -> Result<Session<S::Codec>, String> {
        let connected = timeout(self.pace.limit, self.service.connect()).await;
        connected.unwrap_or_else(|_| Err(self.pace.too_slow(&self.service.place())))
    }

    /// Refuses what comes until it is time for the next attempt.
    async fn refuse(&mut self, error: &str) {
        let pause = sleep(self.backoff.next());
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                Some(batch) = self.batches.recv() => answer(batch.answer, Err(error.to_owned())),
            }
        }
    }

    /// Publishes until the connection fails, and says why it did.
    async fn serve(&mut self, mut session: Session<S::Codec>) -> String {
        let interval = self.pace.interval();
        let mut idle = interval_at(Instant::now() + interval, interval);
        let mut stale = std::mem::replace(&mut session.stale, super::never());
        loop {
            let outcome = tokio::select! {
                Some(batch) = self.batches.recv() => {
                    idle.reset();
                    self.exchange(&mut session, batch).await
                }
                _ = idle.tick() => {
                    let mut check = BytesMut::new();
                    session.codec.check(&mut check);
                    self.limited(&mut session, &check).await
                }
                reason = &mut stale => Err(reason),
                // Nothing was asked; this notices when the connection ends.
                filled = session.fill() => filled,
            };
            let outcome = match outcome {
                Ok(()) => session.heard().await.map(drop),
                error => error,
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    async fn exchange(&self, session: &mut Session<S::Codec>, mut batch: Batch) -> Result<(), String> {
        // Who asked may have been told long ago that it took too long.
        if batch.answer.is_closed() {
            return Ok(());
        }
        session.codec.check(&mut batch.bytes);
        let outcome = self.limited(session, &batch.bytes).await;
        answer(batch.answer, outcome.clone());
        outcome
    }

    /// Writes what has a ping at its end, and waits for the pong.
    async fn limited(&self, session: &mut Session<S::Codec>, bytes: &[u8]) -> Result<(), String> {
        let exchanged = timeout(self.pace.limit, async {
            session.write(bytes).await?;
            while session.next().await? != Event::Pong {}
            Ok(())
        });
        exchanged.await.unwrap_or_else(|_| Err(self.pace.too_slow(&self.service.place())))
    }
}

/// The caller may have gone.
fn answer(to: oneshot::Sender<Result<(), String>>, outcome: Result<(), String>) {
    let _ = to.send(outcome);
}
