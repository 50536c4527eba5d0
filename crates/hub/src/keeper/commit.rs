//! One batch: gathered, made durable, handed back.
//!
//! Every batch has a time after which the store refuses it ([`fence`](super::fence)). So a batch in doubt does not stay so:
//! either it is found written, or it is too late for it, also for what is still under way to the store. While the store
//! still remembers what it was given at first, that is as good as a refusal; later nobody can know, and clients get no answer.

#![allow(clippy::vec_box)] // submissions are large, and move from one vector to another

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use outspoke_protocol::{Acknowledgement, Epoch, Event, MessageId, Position, Refusal, Timestamp};
use outspoke_store::{Append, Appended, Batch, FactWrite, Log, Outcome, StoreError};

use super::fence::Begun;
use super::job::{Asker, Job};
use super::seed::epoch_of;
use super::{Keeper, Origin, Submission, is_empty, refusal_of_store};
use crate::cluster::PlacedRecord;
use crate::error::PublishError;
use crate::hub::Inner;
use crate::room::follow::{Placed, Source};
use crate::room::{Published, Room, RoomId};
use crate::shard::Key;
use crate::shard::command::Command;

/// How often the queue is looked at for what has waited too long, while the store is busy.
const LOOK: Duration = Duration::from_millis(250);
/// How long to wait before a batch in doubt is tried again: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1000));

/// How often a batch that was never in doubt gets another time, because the store's clock is not yet known.
const CORRECTIONS_MAX: usize = 3;

/// Why a batch is not known to be written.
#[derive(Debug)]
pub(super) struct Undone {
    pub(super) error: StoreError,
    /// Whether it is certain that nothing was written and nothing will be; otherwise nobody can know.
    pub(super) is_certain: bool,
    begun: Begun,
}

impl Undone {
    fn refused(error: StoreError, begun: Begun) -> Self {
        Self { error, is_certain: true, begun }
    }

    /// As whoever asked for it is told.
    pub(super) fn told(&self) -> StoreError {
        match &self.error {
            StoreError::TooLate { .. } => {
                StoreError::Unavailable("it did not come back in time for what was to be written".to_owned())
            }
            error => error.clone(),
        }
    }
}

/// Jobs that become durable together.
#[derive(Default)]
struct Group {
    batch: Batch,
    /// Messages by append, in the order of its records.
    rooms: Vec<(Arc<Room>, Vec<Box<Submission>>)>,
    by_room: HashMap<RoomId, usize>,
    writes: Vec<Asker<()>>,
}

impl Group {
    fn add(&mut self, mut submission: Box<Submission>) {
        let room = Arc::clone(&submission.room);
        let index = *self.by_room.entry(room.id).or_insert_with(|| {
            room.begin_to_write();
            // The epoch counts only for a log that does not exist.
            let epoch = room.epoch_to_begin_with().as_u64();
            let append =
                Append { log: room.log_key(), epoch, records: Vec::new(), replaces: Vec::new(), fence: None };
            self.batch.appends.push(append);
            self.rooms.push((room, Vec::new()));
            self.rooms.len() - 1
        });
        self.batch.appends[index].records.push(submission.record.clone());
        self.batch.facts.append(&mut submission.facts);
        self.rooms[index].1.push(submission);
    }

    fn write(&mut self, mut facts: Vec<FactWrite>, asker: Option<Asker<()>>) {
        self.batch.facts.append(&mut facts);
        self.writes.extend(asker);
    }
}

impl Keeper {
    /// Does jobs, as the queue gives them, in their order; meanwhile refuses what has waited too long behind them.
    pub(super) async fn work(&self, hub: &Arc<Inner>, jobs: Vec<Job>) {
        let mut working = std::pin::pin!(self.do_jobs(hub, jobs));
        while tokio::time::timeout(LOOK, working.as_mut()).await.is_err() {
            let expired = self.queue.take_expired(self.fence.overdue(), hub.config().store_timeout);
            self.refuse_late(hub, expired);
        }
    }

    async fn do_jobs(&self, hub: &Arc<Inner>, jobs: Vec<Job>) {
        let mut group = Group::default();
        let timeout = hub.config().store_timeout;
        self.fence.compare(timeout);
        let now = self.fence.overdue();
        let is_late = |job: &mut Job| job.deadline(timeout).is_some_and(|deadline| deadline <= now);
        let mut jobs = jobs;
        self.refuse_late(hub, jobs.extract_if(.., is_late));
        for job in jobs {
            match job {
                Job::Publish(submission) => group.add(submission),
                Job::Write(facts, asker) => group.write(facts, asker),
                Job::Amend(amendment) => self.amend(hub, *amendment).await,
                Job::Erase(erasure) => self.do_erasure(hub, *erasure).await,
                Job::Trim(trimming) => self.do_trimming(hub, *trimming).await,
                Job::Seed(asker) => asker.answer(self.sow(hub).await),
                Job::LastCall(last_call) => drop(last_call),
            }
        }
        self.commit(hub, group).await;
    }

    async fn commit(&self, hub: &Arc<Inner>, group: Group) {
        let Group { batch, rooms, writes, .. } = group;
        if is_empty(&batch) {
            return writes.into_iter().for_each(|asker| asker.answer(Ok(())));
        }
        let mut batch = batch;
        self.foretell(hub, &mut batch, &rooms).await;
        let began = std::time::Instant::now();
        let outcome = self.commit_until_known(hub, &mut batch).await;
        self.counters.commit_times.record(began.elapsed());
        self.counters
            .commit_messages
            .record_number(rooms.iter().map(|(_, messages)| messages.len() as u64).sum());
        for asker in writes {
            asker.answer(match &outcome {
                Ok(_) => Ok(()),
                // Of facts alone nobody can tell whether an earlier try wrote them.
                Err(undone) if undone.begun.in_doubt => Err(StoreError::InDoubt(undone.told().to_string())),
                Err(undone) => Err(undone.told()),
            });
        }
        match outcome {
            Ok(appended) => {
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                self.hand_back(hub, rooms, appended).await;
            }
            Err(Undone { error: StoreError::TooLate { .. }, begun, .. }) if rooms.len() > 1 => {
                self.settle(hub, batch, rooms, begun).await;
            }
            Err(undone) => self.give_up(hub, rooms, &undone),
        }
    }

    /// Gives logs that may not exist the epoch with which members on other nodes were told that they will begin. A room that was
    /// read knows it; one that was not, because nobody here is in it, asks now: once in its life.
    async fn foretell(
        &self,
        hub: &Arc<Inner>,
        batch: &mut Batch,
        rooms: &[(Arc<Room>, Vec<Box<Submission>>)],
    ) {
        let unread = |room: &Room| room.bus_topic.is_some() && !room.is_known();
        let unread: Vec<bool> = rooms.iter().map(|(room, _)| unread(room)).collect();
        if !unread.contains(&true) {
            return;
        }
        let seed = match self.seed_now(hub).await {
            Ok(seed) => seed,
            // It will hardly be written to either. If it is, those members are told that something is missing, which is not so.
            Err(error) => {
                return tracing::debug!(store = %self.name, %error, "the epochs to come cannot be read");
            }
        };
        for (append, _) in batch.appends.iter_mut().zip(unread).filter(|(_, unread)| *unread) {
            append.epoch = epoch_of(seed, &append.log).as_u64();
        }
    }

    /// Finds out what became of each part of a batch that as a whole is too late: a store that needs several steps may have
    /// done some.
    async fn settle(
        &self,
        hub: &Arc<Inner>,
        batch: Batch,
        rooms: Vec<(Arc<Room>, Vec<Box<Submission>>)>,
        begun: Begun,
    ) {
        for (append, room) in batch.appends.into_iter().zip(rooms) {
            let part = Batch { appends: vec![append], facts: Vec::new(), not_after: batch.not_after };
            let mut begun = begun;
            match self.commit_begun(&part, &mut begun).await {
                Ok(appended) => self.hand_back(hub, vec![room], appended).await,
                Err(undone) => self.give_up(hub, vec![room], &undone),
            }
        }
    }

    /// Refuses what was certainly not written; of the rest nobody can know.
    fn give_up(&self, hub: &Inner, rooms: Vec<(Arc<Room>, Vec<Box<Submission>>)>, undone: &Undone) {
        let error = undone.told();
        let submissions = rooms.into_iter().flat_map(|(_, submissions)| submissions);
        let mut answers = Answers::new(hub);
        if undone.is_certain {
            tracing::warn!(store = %self.name, %error, "messages were refused");
            submissions.for_each(|submission| self.refuse(&mut answers, *submission, &error));
        } else {
            let messages = submissions.map(|submission| answers.unknown(submission.origin)).count();
            tracing::warn!(
                store = %self.name, messages, error = %undone.error,
                "the store was away for so long that nobody can know whether it has some messages: \
                 clients that sent them get no answer, the application is told so"
            );
        }
        answers.send();
    }

    /// Commits, and commits the same again for as long as the store cannot say whether it did.
    pub(super) async fn commit_until_known(
        &self,
        hub: &Inner,
        batch: &mut Batch,
    ) -> Result<Vec<Appended>, Undone> {
        let timeout = hub.config().store_timeout;
        let in_time = self.is_in_time(timeout).await;
        let mut begun = self.fence.begin(timeout);
        if !in_time {
            let stopped = StoreError::Unavailable("the hub was stopped for a while".to_owned());
            return Err(Undone::refused(stopped, begun));
        }
        let mut corrections = 0;
        loop {
            batch.not_after = Some(begun.not_after);
            match self.commit_begun(batch, &mut begun).await {
                Err(undone @ Undone { error: StoreError::TooLate { now }, .. }) => {
                    if !self.fence.forgives(&begun, now, timeout) || corrections >= CORRECTIONS_MAX {
                        return Err(undone);
                    }
                    corrections += 1;
                    begun = self.fence.begin(timeout);
                }
                outcome => return outcome,
            }
        }
    }

    /// Commits as long as it takes, always with the time that it was given first.
    async fn commit_begun(&self, batch: &Batch, begun: &mut Begun) -> Result<Vec<Appended>, Undone> {
        let mut pause = RETRY.0;
        loop {
            match self.store.commit(batch).await {
                Ok(appended) => return Ok(appended),
                Err(error @ StoreError::InDoubt(_)) => {
                    tracing::warn!(store = %self.name, %error, "trying again until it is known what was written");
                    begun.in_doubt = true;
                }
                Err(error @ StoreError::TooLate { now }) => {
                    let is_certain = !begun.in_doubt || begun.is_certain(now);
                    return Err(Undone { error, is_certain, begun: *begun });
                }
                Err(error @ StoreError::Conflict) => return Err(Undone::refused(error, *begun)),
                // Nothing of *this* try was written; an earlier one may have been.
                Err(error) if begun.in_doubt => {
                    tracing::debug!(store = %self.name, %error, "still in doubt");
                }
                Err(error) => return Err(Undone::refused(error, *begun)),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }

    /// Answers that something was not begun in time.
    fn refuse_late(&self, hub: &Inner, jobs: impl IntoIterator<Item = Job>) {
        let late = "it was busy for too long with what came before: nothing was written";
        self.turn_away(hub, jobs, &StoreError::Unavailable(late.to_owned()));
    }

    /// Answers that something was not begun, and will not be.
    pub(super) fn turn_away(&self, hub: &Inner, jobs: impl IntoIterator<Item = Job>, why: &StoreError) {
        let mut answers = Answers::new(hub);
        for job in jobs {
            match job {
                Job::Publish(submission) => self.refuse(&mut answers, *submission, why),
                Job::Amend(amendment) => answers.refused(amendment.origin, why),
                Job::Erase(erasure) => erasure.asker.answer(Err(why.clone())),
                Job::Trim(trimming) => trimming.asker.answer(Err(why.clone())),
                Job::Write(_, asker) => asker.into_iter().for_each(|asker| asker.answer(Err(why.clone()))),
                Job::Seed(asker) => asker.answer(Err(why.clone())),
                Job::LastCall(last_call) => drop(last_call),
            }
        }
        answers.send();
    }

    /// Gives durable messages to their rooms, and their publishers the answers, behind the messages.
    async fn hand_back(
        &self,
        hub: &Arc<Inner>,
        rooms: Vec<(Arc<Room>, Vec<Box<Submission>>)>,
        appended: Vec<Appended>,
    ) {
        let mut answers = Answers::new(hub);
        let mut due = Vec::new();
        for ((room, submissions), appended) in rooms.into_iter().zip(appended) {
            let epoch = Epoch::from_u64(appended.epoch);
            let mut placed = Vec::with_capacity(submissions.len());
            let mut told = Vec::new();
            let mut origins = Vec::with_capacity(submissions.len());
            for (submission, outcome) in submissions.into_iter().zip(appended.outcomes) {
                let Submission { mut message, record, origin, charge, accepted, span, .. } = *submission;
                let published = published(&outcome, epoch, message.id);
                if !published.duplicate {
                    message.position = published.position;
                    charge.keep();
                    told.push(PlacedRecord::new(&outcome, &record.payload));
                    let stored = Some(accepted.elapsed());
                    placed.push(Placed { message, ordinal: outcome.ordinal, amended: None, stored });
                }
                origins.push((origin, published, accepted, span));
            }
            self.counters.committed.fetch_add(placed.len() as u64, Ordering::Relaxed);
            let members = room.place(hub, Source::Keeper(appended.state), epoch, placed);
            if let Some(cluster) = &hub.cluster {
                // Of several that are told together, the first one's trace has it.
                let _span = origins.first().map(|(.., span)| span.enter());
                cluster.tell_placed(&room, epoch, told);
            }
            for (origin, published, accepted, _span) in origins {
                self.counters.acknowledgements.record(accepted.elapsed());
                answers.accepted(&room, origin, Published { members, ..published });
            }
            if room.is_due_for_trimming(&appended.state) {
                due.push((room, appended.state.bytes));
            } else if let (true, Some(keeper)) = (room.is_due_for_sweeping(), &room.keeper) {
                keeper.sweep_soon(hub, Log { key: room.log_key(), state: appended.state });
            }
        }
        answers.send();
        for (room, bytes) in due {
            self.trim(hub, &room, bytes).await;
        }
    }

    async fn trim(&self, hub: &Inner, room: &Room, bytes: u64) {
        let now = self.age_clock(hub);
        let history = room.class().history;
        match self.store.trim(&room.log_key(), history, now).await {
            Ok(state) => {
                room.meter.stored_changed(bytes, state.bytes);
                room.trimmed(state);
            }
            Err(error) => tracing::warn!(store = %self.name, %error, "a log was not trimmed"),
        }
    }

    fn refuse(&self, answers: &mut Answers<'_>, submission: Submission, error: &StoreError) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
        answers.refused(submission.origin, error);
    }
}

/// What became of a record. One that repeats *itself*, since its batch was in doubt, is no duplicate.
pub(super) fn published(outcome: &Outcome, epoch: Epoch, id: MessageId) -> Published {
    Published {
        id: MessageId::from_u128(outcome.id),
        position: Some(Position { epoch, offset: outcome.offset }),
        ts: Timestamp::from_millis(outcome.ts),
        members: 0,
        duplicate: outcome.duplicate && outcome.id != id.as_u128(),
    }
}

/// Answers on their way to their shards, one command for each.
pub(super) struct Answers<'a> {
    hub: &'a Inner,
    by_shard: Vec<Vec<(Key, Option<Event>)>>,
}

impl<'a> Answers<'a> {
    pub(super) fn new(hub: &'a Inner) -> Self {
        Self { hub, by_shard: (0..hub.shards.len()).map(|_| Vec::new()).collect() }
    }

    pub(super) fn accepted(&mut self, room: &Room, origin: Origin, published: Published) {
        match origin {
            Origin::Client { shard, key, request } => {
                let answer = match (request, room.name.clone(), published.position) {
                    (Some(request), Some(room), Some(position)) => {
                        Some(Event::Acknowledged(Acknowledgement {
                            request,
                            room,
                            id: published.id,
                            position,
                            ts: published.ts,
                            duplicate: published.duplicate,
                        }))
                    }
                    _ => None,
                };
                self.by_shard[shard].push((key, answer));
            }
            Origin::Api(done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(Ok(published));
            }
        }
    }

    fn refused(&mut self, origin: Origin, error: &StoreError) {
        match origin {
            Origin::Client { .. } => self.refused_with(origin, refusal_of_store(error)),
            Origin::Api(done) => {
                let _ = done.send(Err(error.into()));
            }
        }
    }

    pub(super) fn refused_with(&mut self, origin: Origin, refusal: Refusal) {
        match origin {
            Origin::Client { shard, key, request } => {
                self.by_shard[shard].push((key, Some(Event::Refused(refusal.answering(request)))));
            }
            Origin::Api(done) => {
                let _ = done.send(Err(PublishError::Refused(refusal)));
            }
        }
    }

    /// Nobody can know. No protocol has words for that: a client gets no answer, and its shard no longer waits for one.
    pub(super) fn unknown(&mut self, origin: Origin) {
        match origin {
            Origin::Client { shard, key, .. } => self.by_shard[shard].push((key, None)),
            Origin::Api(done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(Err(PublishError::Unknown));
            }
        }
    }

    pub(super) fn send(self) {
        for (shard, answers) in self.by_shard.into_iter().enumerate() {
            if !answers.is_empty() {
                let weight = Command::WEIGHT * answers.len();
                // A shard that has ended has nobody who waits.
                let _ = self.hub.shards[shard].inbox.push(Command::Answers(answers), weight);
            }
        }
    }
}
