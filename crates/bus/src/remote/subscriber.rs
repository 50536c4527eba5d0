//! The connection that messages arrive on.
//!
//! Asks for topics in rounds: some that changed, and a ping behind them, whose pong confirms them; the next round begins when this one has
//! ended, so that little is under way however many topics there are. What arrives on topics that are not confirmed, or
//! while a feed has yet to be told that something is missing, is held back until then; what is too much for that is dropped, and said to be missing.
//!
//! Delivering waits for feeds that are full. Nothing is read meanwhile, and nothing is held against the server.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::backoff::Backoff;
use super::interest::Wish;
use super::{Codec as _, Event, Interest, Lane, Pace, Part, Service, Session};
use crate::Topic;

/// Topics in one round.
const ROUND: usize = 512;
/// Messages held back, and their bytes.
const HELD: (usize, usize) = (4096, 8 * 1024 * 1024);

/// The task that owns the connection.
#[derive(Debug)]
pub(crate) struct Subscriber<S> {
    service: S,
    interest: Arc<Interest>,
    lane: Arc<Lane>,
    part: Part,
    pace: Pace,
    backoff: Backoff,
}

/// What is known of one connection.
#[derive(Debug, Default)]
struct Known {
    /// What the server was asked for.
    topics: HashMap<Topic, Asked>,
    rounds: u64,
    round: Option<Round>,
    /// Feeds must be told that something is missing, before they get anything else.
    interrupted: bool,
    held: VecDeque<(Topic, Bytes)>,
    held_bytes: usize,
}

/// Topics whose pong is awaited.
#[derive(Debug)]
struct Round {
    number: u64,
    topics: Vec<Topic>,
    since: Instant,
}

#[derive(Debug)]
struct Asked {
    /// In which round.
    round: u64,
    confirmed: bool,
}

impl<S: Service> Subscriber<S> {
    /// Begins to connect; on the runtime of the caller, until the task is aborted.
    pub(crate) fn start(
        service: S,
        interest: &Arc<Interest>,
        lane: &Arc<Lane>,
        part: Part,
        pace: Pace,
    ) -> JoinHandle<()> {
        let (interest, lane) = (Arc::clone(interest), Arc::clone(lane));
        tokio::spawn(Self { service, interest, lane, part, pace, backoff: Backoff::default() }.run())
    }

    async fn run(mut self) {
        loop {
            let connected = timeout(self.pace.limit, self.service.connect()).await;
            let connected = connected.unwrap_or_else(|_| Err(self.pace.too_slow(&self.service.place())));
            let error = match connected {
                Ok(session) => {
                    let mut known = Known::default();
                    let error = self.serve(session, &mut known).await;
                    self.interest.lose(&self.lane, known.topics.keys());
                    error
                }
                Err(error) => error,
            };
            tracing::debug!(server = %self.service.place(), error, "cannot hear");
            self.part.wrong(&error);
            self.service.failed();
            sleep(self.backoff.next()).await;
        }
    }

    /// Hears until the connection fails, and says why it did.
    async fn serve(&mut self, session: Session<S::Codec>, known: &mut Known) -> String {
        match self.hear(session, known).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn hear(
        &mut self,
        mut session: Session<S::Codec>,
        known: &mut Known,
    ) -> Result<std::convert::Infallible, String> {
        self.interest.begin(&self.lane);
        self.round(&mut session, known).await?;
        let mut stale = std::mem::replace(&mut session.stale, super::never());
        let mut heard = Instant::now();
        loop {
            let deadline = match &known.round {
                Some(round) => round.since.max(heard) + self.pace.limit,
                None => heard + self.pace.interval(),
            };
            tokio::select! {
                filled = session.fill() => filled?,
                () = self.lane.changed(), if known.round.is_none() => self.round(&mut session, known).await?,
                reason = &mut stale => return Err(reason),
                () = sleep_until(deadline) => match known.round {
                    Some(_) => return Err(self.pace.too_slow(&self.service.place())),
                    None => self.round(&mut session, known).await?,
                },
            }
            while let Some(event) = session.heard().await? {
                self.handle(event, &mut session, known).await?;
            }
            // Whatever delivering has taken, the server had no say in it.
            heard = Instant::now();
        }
    }

    /// Asks for what has changed, or only whether the server lives.
    async fn round(&self, session: &mut Session<S::Codec>, known: &mut Known) -> Result<(), String> {
        known.rounds += 1;
        let (mut topics, mut out) = (Vec::new(), BytesMut::new());
        for (topic, wish) in self.interest.take(&self.lane, ROUND) {
            match (wish, known.topics.contains_key(&topic)) {
                (Wish::Have, asked) => {
                    if !asked {
                        session.codec.subscribe(&topic, &mut out);
                        known.topics.insert(topic.clone(), Asked { round: known.rounds, confirmed: false });
                    }
                    topics.push(topic);
                }
                (Wish::Drop, true) => {
                    session.codec.unsubscribe(&topic, &mut out);
                    known.topics.remove(&topic);
                }
                (Wish::Drop, false) => {}
            }
        }
        session.codec.ping(&mut out);
        known.round = Some(Round { number: known.rounds, topics, since: Instant::now() });
        let written = timeout(self.pace.limit, session.write(&out)).await;
        written.unwrap_or_else(|_| Err(self.pace.too_slow(&self.service.place())))
    }

    async fn handle(
        &mut self,
        event: Event,
        session: &mut Session<S::Codec>,
        known: &mut Known,
    ) -> Result<(), String> {
        match event {
            Event::Message { topic, payload } if known.may_deliver(&topic) => {
                self.interest.subscriptions.deliver(&topic, payload).await;
            }
            Event::Message { topic, payload } => known.hold(topic, payload),
            Event::Pong => {
                self.confirm(known);
                // Feeds are told of an interruption when all their topics work again, not round by round.
                if self.lane.is_empty() || !known.interrupted {
                    self.caught_up(known).await;
                }
                if !self.lane.is_empty() {
                    self.round(session, known).await?;
                }
            }
            Event::Ended(topic) => {
                known.topics.remove(&topic);
                self.interest.lose(&self.lane, std::iter::once(&topic));
                // Who serves it now is for others to find out.
                self.service.failed();
            }
            Event::Ping | Event::Other => {}
        }
        Ok(())
    }

    fn confirm(&self, known: &mut Known) {
        let Some(round) = known.round.take() else { return };
        let confirmed = round.topics.into_iter().filter(|topic| {
            // It may have ended, and have been asked for again since.
            let Some(asked) = known.topics.get_mut(topic) else { return false };
            asked.confirmed |= asked.round <= round.number;
            asked.confirmed
        });
        let lost = self.interest.confirm(&self.lane, confirmed);
        known.interrupted |= lost;
    }

    /// What was asked for is confirmed: says so, and that something was lost before, and hands on what has waited for that.
    async fn caught_up(&mut self, known: &mut Known) {
        self.backoff.worked();
        self.part.well();
        if std::mem::take(&mut known.interrupted) {
            self.interest.subscriptions.interrupted().await;
        }
        known.held_bytes = 0;
        for (topic, payload) in std::mem::take(&mut known.held) {
            self.interest.subscriptions.deliver(&topic, payload).await;
        }
    }
}

impl Known {
    fn may_deliver(&self, topic: &Topic) -> bool {
        // In the order in which it came: not before what is held.
        self.held.is_empty()
            && !self.interrupted
            && self.topics.get(topic).is_some_and(|asked| asked.confirmed)
    }

    fn hold(&mut self, topic: Topic, payload: Bytes) {
        self.held_bytes += payload.len();
        self.held.push_back((topic, payload));
        while self.held.len() > HELD.0 || self.held_bytes > HELD.1 {
            let Some((_, payload)) = self.held.pop_front() else { return };
            self.held_bytes -= payload.len();
            self.interrupted = true;
        }
    }
}
