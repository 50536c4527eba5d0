//! Making receipts durable: what is wanted gathers while the last of it is being written, and goes as one write.

use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::{Event, Position, UserId};
use outspoke_store::{Direction, FactWrite, Range, StoreError};

use super::cursors::{Marks, Receipts, Wanted};
use super::read::{DELIVERED, SEEN};
use super::{Waiter, acknowledgement};
use crate::hub::Inner;
use crate::keeper::{Keeper, refusal_of_store};
use crate::room::Room;
use crate::shard::Key;
use crate::shard::command::Command;
use crate::sync::Arc;

/// How long is waited for more of what people have read by saying something.
const OWN_WORDS: Duration = Duration::from_secs(1);
/// Users whose places are written at once.
const USERS_PER_WRITE: usize = 4096;

/// What one write is to make durable for one user.
#[derive(Debug)]
struct Going {
    user: UserId,
    delivered: u64,
    seen: u64,
    ordinal: Option<u64>,
    said: bool,
    waiting: Vec<Waiter>,
    /// What the store has of the user, where that was not known.
    found: Option<Marks>,
}

impl Room {
    /// Writes what is wanted, unless somebody does.
    pub(super) fn write_receipts_soon(self: &Arc<Self>, hub: &Inner, receipts: &mut Receipts) {
        let hub = hub.myself.get().and_then(Weak::upgrade);
        let (Some(keeper), Some(hub), false) = (&self.keeper, hub, receipts.writing) else { return };
        receipts.writing = true;
        let room = Arc::clone(self);
        keeper.spawn(async move { room.write_receipts(&hub).await });
    }

    /// Writes what people have read by saying something, together, in a while. Nobody waits for it, and what a crash
    /// takes is found again in the log.
    pub(super) fn write_own_words_later(self: &Arc<Self>, hub: &Inner, receipts: &mut Receipts) {
        let hub = hub.myself.get().and_then(Weak::upgrade);
        let (Some(keeper), Some(hub), false) = (&self.keeper, hub, receipts.writing || receipts.later) else {
            return;
        };
        receipts.later = true;
        let room = Arc::clone(self);
        keeper.spawn(async move {
            tokio::time::sleep(OWN_WORDS).await;
            let mut state = room.lock();
            if let Some(receipts) = &mut state.receipts {
                receipts.later = false;
                room.write_receipts_soon(&hub, receipts);
            }
        });
    }

    async fn write_receipts(self: Arc<Self>, hub: &Inner) {
        let Some(keeper) = &self.keeper else { return };
        loop {
            let mut going = self.take_wanted();
            if going.is_empty() {
                return;
            }
            while !going.is_empty() {
                let rest = going.split_off(going.len().min(USERS_PER_WRITE));
                let outcome = self.write_going(keeper, &mut going).await;
                self.settle(hub, going, outcome);
                going = rest;
            }
        }
    }

    /// Everything wanted; nothing: nobody is writing any more.
    fn take_wanted(&self) -> Vec<Going> {
        let mut state = self.lock();
        let Some(receipts) = &mut state.receipts else { return Vec::new() };
        receipts.writing = !receipts.wanted.is_empty();
        let going = |(user, wanted): (&UserId, &mut Wanted)| Going {
            user: user.clone(),
            delivered: wanted.delivered.max(wanted.seen),
            seen: wanted.seen,
            ordinal: wanted.ordinal,
            said: wanted.said,
            waiting: std::mem::take(&mut wanted.waiting),
            found: None,
        };
        receipts.wanted.iter_mut().map(going).collect()
    }

    async fn write_going(&self, keeper: &Keeper, going: &mut [Going]) -> Result<(), StoreError> {
        let mut ordinals = HashMap::new();
        for going in going.iter_mut().filter(|going| going.ordinal.is_none()) {
            let ordinal = match ordinals.get(&going.seen) {
                Some(ordinal) => *ordinal,
                None => self.read_ordinal(keeper, going.seen).await?,
            };
            ordinals.insert(going.seen, ordinal);
            going.ordinal = Some(ordinal);
        }
        let unknown = {
            let state = self.lock();
            let known = |user: &UserId| state.receipts.as_ref().is_none_or(|held| held.known(user).is_some());
            going.iter().filter(|going| !known(&going.user)).map(|going| going.user.clone()).collect()
        };
        let mut found = self.read_cursors_of(keeper, unknown).await?;
        for going in going.iter_mut() {
            going.found = found.remove(&going.user);
        }
        let writes = going.iter().flat_map(|going| self.facts_of(going)).collect();
        keeper.write(writes).await
    }

    /// Messages said up to an offset that is not in memory; up to the oldest message kept, if it is older.
    async fn read_ordinal(&self, keeper: &Keeper, offset: u64) -> Result<u64, StoreError> {
        let range = Range { direction: Direction::After(offset), records_max: 1, bytes_max: 1 };
        let page = keeper.range(&self.log_key(), range).await?;
        let Some(next) = page.records.into_iter().next() else { return Ok(page.state.ordinal) };
        let ordinal = next.ordinal;
        let next = self.message_of(next, self.epoch())?;
        Ok(ordinal - u64::from(next.kind.is_said()))
    }

    fn facts_of(&self, going: &Going) -> impl Iterator<Item = FactWrite> + use<> {
        let seen = (going.seen > 0).then(|| {
            let value = [going.seen, going.ordinal.unwrap_or_default()].map(u64::to_be_bytes).concat();
            FactWrite::Max(self.cursor_key(&going.user, SEEN), Bytes::from(value))
        });
        let delivered = (going.delivered > going.seen).then(|| {
            let value = Bytes::copy_from_slice(&going.delivered.to_be_bytes());
            FactWrite::Max(self.cursor_key(&going.user, DELIVERED), value)
        });
        seen.into_iter().chain(delivered)
    }

    /// What was on its way has arrived, or not.
    fn settle(self: &Arc<Self>, hub: &Inner, going: Vec<Going>, outcome: Result<(), StoreError>) {
        let mut answers = Vec::new();
        {
            let mut state = self.lock();
            let head = state.head;
            for mut going in going {
                let marks = Marks { delivered: going.delivered, ..Marks::default() }
                    .raised(Marks::read_up_to(going.seen, going.ordinal.unwrap_or_default()));
                let Some(receipts) = &mut state.receipts else { continue };
                let unchanged = receipts.wanted.get(&going.user).is_some_and(|wanted| {
                    wanted.waiting.is_empty()
                        && (wanted.delivered.max(wanted.seen), wanted.seen) == (going.delivered, going.seen)
                });
                if unchanged || outcome.is_err() {
                    // Who came to wait meanwhile waited for the same store.
                    let gone = receipts.wanted.remove(&going.user).unwrap_or_default();
                    going.said |= gone.said;
                    answers.extend(gone.waiting.into_iter().map(|waiter| (waiter, marks)));
                }
                if outcome.is_ok() {
                    if let Some(found) = going.found {
                        receipts.advance(&going.user, found, head);
                    }
                    let moved = receipts.advance(&going.user, marks, head);
                    let now = receipts.known(&going.user).unwrap_or(marks);
                    if let Some(cluster) = hub.cluster.as_ref().filter(|_| going.said) {
                        cluster.tell_read(self, &going.user, (now.delivered, now.seen, now.ordinal));
                    }
                    answers.extend(going.waiting.into_iter().map(|waiter| (waiter, now)));
                    if going.said {
                        self.note_untold(&mut state, &going.user, moved);
                    }
                } else {
                    answers.extend(going.waiting.into_iter().map(|waiter| (waiter, marks)));
                }
            }
            self.tell_receipts(hub, &mut state);
        }
        if let Err(error) = &outcome {
            tracing::warn!(store = self.keeper.as_ref().map_or("", |keeper| &keeper.name), %error, "receipts were not written");
        }
        self.answer(hub, answers, &outcome);
    }

    fn answer(&self, hub: &Inner, answers: Vec<(Waiter, Marks)>, outcome: &Result<(), StoreError>) {
        let mut by_shard: Vec<Vec<(Key, Option<Event>)>> = hub.shards.iter().map(|_| Vec::new()).collect();
        for (waiter, marks) in answers {
            match waiter {
                Waiter::Client { shard, key, request, receipt } => {
                    let answer = match (outcome, &self.name) {
                        (Ok(()), Some(room)) => {
                            let position = Position { epoch: self.epoch(), offset: marks.at(receipt) };
                            acknowledgement(request, room, receipt, position)
                        }
                        (Err(error), _) => Event::Refused(refusal_of_store(error).answering(Some(request))),
                        (Ok(()), None) => continue,
                    };
                    by_shard[shard].push((key, Some(answer)));
                }
                Waiter::Api(done) => {
                    // Whoever asked may have stopped waiting.
                    let _ = done.send(outcome.clone().map(|()| marks));
                }
            }
        }
        for (shard, answers) in by_shard.into_iter().enumerate().filter(|(_, answers)| !answers.is_empty()) {
            let weight = Command::WEIGHT * answers.len();
            // A shard that has ended has nobody who waits.
            let _ = hub.shards[shard].inbox.push(Command::Answers(answers), weight);
        }
    }

    // ---- to the members ----
}
