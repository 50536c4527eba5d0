//! Requests that wait to be sent or answered, in the order they were made.
//!
//! Filled by the handles, emptied by the session: sent in order, answered in any. Invariants: a publish is in here from
//! the moment it is accepted until its caller knows what became of it, and it always carries the same frame, with the same
//! idempotency key; at most [`Limits::publishes`] publishes and as many other requests wait; nothing waits for ever.
//! Which room is ready to be published to is `rooms.rs`'s to know.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Refusal};

/// Sent and unanswered requests at most; the server stops reading at 256.
const WINDOW: f64 = 64.0;
/// Requests that are no messages and may wait.
const REQUESTS_MAX: usize = 1024;
/// How long an answer may take before the request is made again.
pub(super) const UNANSWERED: Duration = Duration::from_secs(20);
/// How long the server remembers an idempotency key: a message sent before is not sent again.
const KEY_MEMORY: Duration = Duration::from_mins(5);
/// `not_subscribed`: the request overtook a room's end.
const NOT_SUBSCRIBED: u16 = 122;
/// `rate_limited`: all rooms are meant.
const RATE_LIMITED: u16 = 162;

/// A frame to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Text(Arc<str>),
    Binary(Bytes),
}

impl Frame {
    fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }
}

/// What a connection takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Takes {
    pub(crate) bytes_max: usize,
    pub(crate) binary: bool,
}

impl Takes {
    fn check(self, frame: &Frame) -> Result<(), Error> {
        let (bytes, max) = (frame.len(), self.bytes_max);
        if bytes > max {
            // The server would close the connection for it.
            return Err(Error::TooLarge { bytes, max });
        }
        if matches!(frame, Frame::Binary(_)) && !self.binary {
            return Err(Error::Unsupported(
                "the server takes no bytes: it does not speak outspoke.v1.binary",
            ));
        }
        Ok(())
    }
}

/// What the answer is: the frame's text, or why there is none.
pub(crate) type Answer = Result<String, Error>;

/// What may happen to a request whose connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// A publish with its idempotency key: sent again.
    Keyed,
    /// It changes nothing, or the same twice: sent again.
    Harmless,
    /// It fails, since it may have been carried out.
    Never,
}

/// A pause that the server wants, longer with every refusal in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pause {
    until: Option<Instant>,
    refusals: u32,
}

impl Pause {
    const FIRST: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(30);
    /// Nobody is believed who asks for a longer one.
    const ASKED_MAX: Duration = Duration::from_mins(5);

    pub(crate) fn refused(&mut self, retry_after: Option<Duration>, now: Instant) {
        // What is refused during the pause was on its way already.
        if !self.is_over(now) {
            return;
        }
        let pause = (Self::FIRST * 2_u32.saturating_pow(self.refusals.min(5))).min(Self::MAX);
        let asked = retry_after.unwrap_or_default().min(Self::ASKED_MAX);
        self.until = Some(now + pause.max(asked));
        self.refusals += 1;
    }

    /// The server reads nothing now, and does not say so of everything: whatever was, the pause lasts as long as it wants.
    pub(super) fn ignored(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.refused(retry_after, now);
        let least = retry_after.unwrap_or_default().clamp(Self::FIRST, Self::ASKED_MAX);
        self.until = self.until.max(Some(now + least));
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    pub(crate) const fn until(&self) -> Option<Instant> {
        self.until
    }

    /// An acknowledgement ends the row.
    pub(super) const fn accepted(&mut self) {
        self.refusals = 0;
    }
}

/// What to do when the outbox is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Overflow {
    /// The publish fails with [`Error::OutboxFull`].
    #[default]
    Reject,
    /// The oldest message that was not sent yet fails with [`Error::Dropped`].
    DropOldest,
    /// The publish waits for room: back-pressure.
    Wait,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) publishes: usize,
    pub(crate) overflow: Overflow,
}

/// A request to be made.
pub(crate) struct Submission {
    /// The room that the client must be in.
    pub(crate) room: Option<Arc<str>>,
    pub(crate) frame: Frame,
    pub(crate) again: Again,
    pub(crate) expires: Instant,
    /// The id on the wire, if it is not the number that is given for it.
    pub(crate) name: Option<Arc<str>>,
}

struct Entry {
    room: Option<Arc<str>>,
    frame: Frame,
    again: Again,
    expires: Instant,
    name: Option<Arc<str>>,
    /// On this connection, and unanswered.
    sent: Option<Instant>,
    ever_sent: bool,
    overtaken: u32,
    reply: oneshot::Sender<Answer>,
}

pub(crate) struct Outbox {
    limits: Limits,
    entries: BTreeMap<i64, Entry>,
    /// Nothing before this one is unsent.
    cursor: i64,
    in_flight: usize,
    /// How many may be in flight: less when the server is asked for too much.
    window: f64,
    publishes: usize,
    rooms: HashMap<Arc<str>, usize>,
    /// Entries that the wire knows by a text.
    names: HashMap<Arc<str>, i64>,
    /// No room is written to before its pause is over; the empty name stands for no room.
    pauses: HashMap<Arc<str>, Pause>,
    /// The same for all.
    pause: Pause,
    /// No entry expires, and none is overdue, before.
    expiry: Option<Instant>,
}

impl Outbox {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            cursor: i64::MIN,
            in_flight: 0,
            window: WINDOW,
            publishes: 0,
            rooms: HashMap::new(),
            names: HashMap::new(),
            pauses: HashMap::new(),
            pause: Pause::default(),
            expiry: None,
        }
    }

    /// The entry that the wire knows by this text.
    pub(crate) fn named(&self, name: &str) -> Option<i64> {
        self.names.get(name).copied()
    }

    /// Publishes that are not acknowledged.
    pub(crate) fn publishes(&self) -> usize {
        self.publishes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether something waits that needs this room.
    pub(crate) fn needs(&self, room: &str) -> bool {
        self.rooms.contains_key(room)
    }

    /// Whether a message is on its way, for tests.
    #[cfg(test)]
    pub(crate) fn is_sent(&self, name: &str) -> bool {
        self.named(name).is_some_and(|id| self.entries[&id].sent.is_some())
    }

    /// Whether a publish would be taken without dropping another.
    pub(crate) fn has_space(&self) -> bool {
        self.publishes < self.limits.publishes
    }

    /// Makes room for a publish, as the policy says.
    fn make_space(&mut self) -> Result<(), Error> {
        if self.has_space() {
            return Ok(());
        }
        if self.limits.overflow == Overflow::DropOldest {
            let mut unsent = self.entries.range(self.cursor..);
            let oldest = unsent.find(|(_, entry)| entry.again == Again::Keyed && !entry.ever_sent);
            if let Some((&id, _)) = oldest {
                self.finish(id, Err(Error::Dropped));
                return Ok(());
            }
        }
        Err(Error::OutboxFull { queued: self.publishes })
    }

    /// Takes a request in. Ids grow.
    pub(crate) fn push(
        &mut self,
        id: i64,
        submission: Submission,
    ) -> Result<oneshot::Receiver<Answer>, Error> {
        let Submission { room, frame, again, expires, name } = submission;
        if again == Again::Keyed {
            self.make_space()?;
            self.publishes += 1;
        } else if self.entries.len() - self.publishes >= REQUESTS_MAX {
            return Err(Error::OutboxFull { queued: self.entries.len() });
        }
        if let Some(room) = &room {
            *self.rooms.entry(Arc::clone(room)).or_default() += 1;
        }
        if let Some(name) = &name {
            self.names.insert(Arc::clone(name), id);
        }
        self.look_at(expires);
        let (reply, answer) = oneshot::channel();
        let entry =
            Entry { room, frame, again, expires, name, sent: None, ever_sent: false, overtaken: 0, reply };
        self.entries.insert(id, entry);
        Ok(answer)
    }

    fn look_at(&mut self, moment: Instant) {
        self.expiry = Some(self.expiry.map_or(moment, |earliest| earliest.min(moment)));
    }

    /// The next frame to send, of a room that is `ready`.
    pub(crate) fn next(&mut self, now: Instant, takes: Takes, ready: impl Fn(&str) -> bool) -> Option<Frame> {
        if self.in_flight >= self.window as usize || !self.pause.is_over(now) {
            return None;
        }
        let mut skipped = None;
        loop {
            let pauses = &self.pauses;
            let mut unsent = self.entries.range_mut(self.cursor..).filter(|(_, entry)| entry.sent.is_none());
            let found = unsent.find_map(|(&id, entry)| {
                let room = entry.room.as_deref();
                let paused = pauses.get(room.unwrap_or_default()).is_some_and(|pause| !pause.is_over(now));
                if !paused && room.is_none_or(&ready) {
                    return Some((id, entry));
                }
                skipped.get_or_insert(id);
                None
            });
            let Some((id, entry)) = found else {
                self.cursor = skipped.unwrap_or(i64::MAX).min(self.next_id());
                return None;
            };
            if let Err(error) = takes.check(&entry.frame) {
                self.finish(id, Err(error));
                continue;
            }
            entry.sent = Some(now);
            if !entry.ever_sent {
                entry.ever_sent = true;
                if entry.again == Again::Keyed {
                    entry.expires = entry.expires.min(now + KEY_MEMORY);
                }
            }
            self.in_flight += 1;
            let frame = entry.frame.clone();
            let look = entry.expires.min(now + UNANSWERED);
            self.look_at(look);
            self.cursor = skipped.unwrap_or(id + 1);
            return Some(frame);
        }
    }

    /// One more than the newest entry's id.
    fn next_id(&self) -> i64 {
        self.entries.last_key_value().map_or(self.cursor, |(id, _)| id + 1)
    }

    /// The server's answer. Returns whether anybody had asked.
    pub(crate) fn answer(&mut self, id: i64, json: String) -> bool {
        let Some(entry) = self.entries.get(&id) else { return false };
        if let Some(pause) = self.pauses.get_mut(entry.room.as_deref().unwrap_or_default()) {
            pause.accepted();
        }
        self.pause.accepted();
        self.window = (self.window + 1.0 / self.window).min(WINDOW);
        self.finish(id, Ok(json))
    }

    /// The server's refusal: of the moment, and the request is made again; or for good.
    pub(crate) fn refuse(&mut self, id: i64, refusal: Refusal, now: Instant, rejoins: bool) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let overtaken = refusal.code == NOT_SUBSCRIBED && rejoins && entry.overtaken < 3;
        if !(refusal.temporary || overtaken) || entry.again == Again::Never {
            return self.finish(id, Err(Error::Refused(Box::new(refusal))));
        }
        entry.overtaken += u32::from(overtaken);
        let room = entry.room.clone().unwrap_or_default();
        if entry.sent.take().is_some() {
            self.in_flight -= 1;
        }
        self.cursor = self.cursor.min(id);
        if refusal.code == RATE_LIMITED {
            self.slow_down(refusal.retry_after, now);
        } else if refusal.temporary {
            self.pauses.entry(room).or_default().refused(refusal.retry_after, now);
        }
        true
    }

    /// The server did not even read what it was sent.
    pub(crate) fn ignored(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.unsend(|entry| entry.again != Again::Never);
        self.slow_down(retry_after, now);
    }

    /// The server is asked for too much: one at a time, until it is found how much it takes.
    fn slow_down(&mut self, retry_after: Option<Duration>, now: Instant) {
        self.window = 1.0;
        self.pause.refused(retry_after, now);
    }

    /// What was sent and has no answer is to be sent again.
    fn unsend(&mut self, which: impl Fn(&Entry) -> bool) {
        for (id, entry) in &mut self.entries {
            if entry.sent.is_some() && which(entry) {
                entry.sent = None;
                self.in_flight -= 1;
                self.cursor = self.cursor.min(*id);
            }
        }
    }

    /// The room whose readiness a request waits for.
    pub(crate) fn room_of(&self, id: i64) -> Option<Arc<str>> {
        self.entries.get(&id)?.room.clone()
    }

    fn finish(&mut self, id: i64, answer: Answer) -> bool {
        let Some(entry) = self.entries.remove(&id) else { return false };
        self.in_flight -= usize::from(entry.sent.is_some());
        self.publishes -= usize::from(entry.again == Again::Keyed);
        if let Some(room) = &entry.room
            && let Some(count) = self.rooms.get_mut(room)
        {
            *count -= 1;
            if *count == 0 {
                self.rooms.remove(room);
            }
        }
        if let Some(name) = &entry.name {
            self.names.remove(name);
        }
        // Nobody may wait any more: a dropped future leaves its message to be sent.
        let _ = entry.reply.send(answer);
        true
    }

    /// Takes back a request that has not left the client.
    pub(crate) fn cancel(&mut self, id: i64) -> bool {
        let unsent = self.entries.get(&id).is_some_and(|entry| !entry.ever_sent);
        unsent && self.finish(id, Err(Error::Dropped))
    }

    /// The connection broke: what may be is sent again on the next.
    pub(crate) fn disconnected(&mut self) {
        let lost = |entry: &&Entry| entry.sent.is_some() && entry.again == Again::Never;
        let lost: Vec<i64> =
            self.entries.iter().filter(|(_, entry)| lost(entry)).map(|(id, _)| *id).collect();
        for id in lost {
            self.finish(id, Err(Error::Interrupted));
        }
        self.unsend(|_| true);
        self.pauses.clear();
        self.pause = Pause::default();
    }

    /// Ends what has waited for too long, and gives up waiting for answers that do not come.
    pub(crate) fn expire(&mut self, now: Instant) {
        if self.expiry.is_none_or(|earliest| now < earliest) {
            return;
        }
        let due = |entry: &&Entry| entry.expires <= now;
        let due: Vec<(i64, bool)> = self
            .entries
            .iter()
            .filter(|(_, entry)| due(entry))
            .map(|(id, entry)| (*id, entry.ever_sent))
            .collect();
        for (id, sent) in due {
            self.finish(id, Err(Error::TimedOut { sent }));
        }
        let overdue = |entry: &Entry| entry.sent.is_some_and(|sent| now >= sent + UNANSWERED);
        self.unsend(|entry| entry.again != Again::Never && overdue(entry));
        let looks = self.entries.values().map(|entry| {
            let answer = entry.sent.filter(|_| entry.again != Again::Never).map(|sent| sent + UNANSWERED);
            answer.map_or(entry.expires, |answer| answer.min(entry.expires))
        });
        self.expiry = looks.min();
    }

    /// When something must be looked at again.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let pauses = self.pauses.values().chain([&self.pause]);
        let pauses = pauses.filter_map(Pause::until).filter(|until| *until > now).min();
        [self.expiry, pauses].into_iter().flatten().min()
    }

    /// Ends all that waits for a room.
    pub(crate) fn fail_room(&mut self, room: &str, error: &Error) {
        let of_room = |entry: &&Entry| entry.room.as_deref() == Some(room);
        let ids: Vec<i64> =
            self.entries.iter().filter(|(_, entry)| of_room(entry)).map(|(id, _)| *id).collect();
        for id in ids {
            self.finish(id, Err(error.clone()));
        }
    }

    /// Ends everything.
    pub(crate) fn fail_all(&mut self, error: &Error) {
        let ids: Vec<i64> = self.entries.keys().copied().collect();
        for id in ids {
            self.finish(id, Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Takes = Takes { bytes_max: 1000, binary: true };

    fn outbox(publishes: usize, overflow: Overflow) -> Outbox {
        Outbox::new(Limits { publishes, overflow })
    }

    fn publish(text: &str, expires: Instant) -> Submission {
        let frame = Frame::Text(text.into());
        Submission { room: Some("r".into()), frame, again: Again::Keyed, expires, name: None }
    }

    fn sent(outbox: &mut Outbox, now: Instant) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(Frame::Text(text)) = outbox.next(now, ANY, |_| true) {
            all.push(text.to_string());
        }
        all
    }

    fn temporary(retry_after: u64) -> Refusal {
        let json = format!(
            r#"{{"code":162,"error":"rate_limited","message":"","temporary":true,"retryAfter":{retry_after}}}"#
        );
        Refusal::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn outbox_sends_unacknowledged_messages_again_in_order_after_a_disconnect() {
        let now = Instant::now();
        let mut outbox = outbox(10, Overflow::Reject);
        for (id, text) in [(1, "a"), (2, "b"), (3, "c")] {
            drop(outbox.push(id, publish(text, now + Duration::from_secs(60))).unwrap());
        }
        assert_eq!(sent(&mut outbox, now), ["a", "b", "c"]);
        assert!(outbox.answer(2, String::new()));
        assert!(!outbox.answer(2, String::new()));
        outbox.disconnected();
        assert_eq!(sent(&mut outbox, now), ["a", "c"]);
        assert_eq!(outbox.publishes(), 2);
    }

    #[test]
    fn outbox_holds_a_room_that_is_not_ready_and_sends_the_others() {
        let now = Instant::now();
        let mut outbox = outbox(10, Overflow::Reject);
        let later = now + Duration::from_secs(60);
        drop(outbox.push(1, publish("a", later)).unwrap());
        let other = Submission { room: Some("s".into()), ..publish("b", later) };
        drop(outbox.push(2, other).unwrap());
        assert_eq!(outbox.next(now, ANY, |room| room == "s"), Some(Frame::Text("b".into())));
        assert_eq!(outbox.next(now, ANY, |room| room == "s"), None);
        assert_eq!(sent(&mut outbox, now), ["a"]);
    }

    #[test]
    fn outbox_that_is_full_refuses_or_drops_what_was_never_sent() {
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let mut full = outbox(2, Overflow::Reject);
        drop(full.push(1, publish("a", later)).unwrap());
        drop(full.push(2, publish("b", later)).unwrap());
        assert!(matches!(full.push(3, publish("c", later)), Err(Error::OutboxFull { queued: 2 })));

        let mut dropping = outbox(2, Overflow::DropOldest);
        let mut first = dropping.push(1, publish("a", later)).unwrap();
        assert_eq!(dropping.next(now, ANY, |_| true), Some(Frame::Text("a".into())));
        let mut second = dropping.push(2, publish("b", later)).unwrap();
        drop(dropping.push(3, publish("c", later)).unwrap());
        // The first has left: nobody knows what became of it.
        assert!(first.try_recv().is_err());
        assert!(matches!(second.try_recv(), Ok(Err(Error::Dropped))));
        assert_eq!(sent(&mut dropping, now), ["c"]);
    }

    #[test]
    fn outbox_pauses_as_the_server_asks_and_sends_again() {
        let now = Instant::now();
        let mut outbox = outbox(10, Overflow::Reject);
        for (id, text) in [(1, "a"), (2, "b"), (3, "c")] {
            drop(outbox.push(id, publish(text, now + Duration::from_secs(60))).unwrap());
        }
        assert_eq!(outbox.next(now, ANY, |_| true), Some(Frame::Text("a".into())));
        assert!(outbox.refuse(1, temporary(1500), now, false));
        assert_eq!(sent(&mut outbox, now), [""; 0]);
        let again = now + Duration::from_millis(1500);
        assert_eq!(outbox.deadline(now), Some(again));
        assert_eq!(sent(&mut outbox, again), ["a"]);
        assert!(outbox.answer(1, String::new()));
        assert_eq!(sent(&mut outbox, again), ["b", "c"]);
    }

    #[test]
    fn outbox_ends_what_waits_too_long_and_says_whether_it_left() {
        let now = Instant::now();
        let mut outbox = outbox(10, Overflow::Reject);
        let mut sent = outbox.push(1, publish("a", now + Duration::from_secs(600))).unwrap();
        assert!(outbox.next(now, ANY, |_| true).is_some());
        let mut unsent = outbox.push(2, publish("b", now + Duration::from_secs(10))).unwrap();
        assert_eq!(outbox.deadline(now), Some(now + Duration::from_secs(10)));
        outbox.expire(now + Duration::from_secs(10));
        assert!(matches!(unsent.try_recv(), Ok(Err(Error::TimedOut { sent: false }))));
        // The server forgets keys after five minutes: from then on a second sending could double the message.
        outbox.expire(now + KEY_MEMORY);
        assert!(matches!(sent.try_recv(), Ok(Err(Error::TimedOut { sent: true }))));
        assert!(outbox.is_empty());
        assert_eq!(outbox.deadline(now), None);
    }

    #[test]
    fn outbox_does_not_repeat_what_may_have_been_done() {
        let now = Instant::now();
        let mut outbox = outbox(10, Overflow::Reject);
        let mut kick = outbox
            .push(
                1,
                Submission {
                    again: Again::Never,
                    room: None,
                    ..publish("kick", now + Duration::from_secs(9))
                },
            )
            .unwrap();
        assert_eq!(sent(&mut outbox, now), ["kick"]);
        outbox.disconnected();
        assert!(matches!(kick.try_recv(), Ok(Err(Error::Interrupted))));
        assert_eq!(sent(&mut outbox, now), [""; 0]);
    }

    #[test]
    fn outbox_refuses_what_the_server_would_close_the_connection_for() {
        let now = Instant::now();
        let mut outbox = outbox(10, Overflow::Reject);
        let mut answer = outbox.push(1, publish("abc", now + Duration::from_secs(9))).unwrap();
        assert_eq!(outbox.next(now, Takes { bytes_max: 2, binary: true }, |_| true), None);
        assert!(matches!(answer.try_recv(), Ok(Err(Error::TooLarge { bytes: 3, max: 2 }))));
    }
}
