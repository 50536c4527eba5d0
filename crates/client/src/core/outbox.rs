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

/// Sent and unanswered requests; the server stops reading at 256.
const WINDOW: usize = 128;
/// How long the server remembers an idempotency key: a message sent before is not sent again.
const KEY_MEMORY: Duration = Duration::from_mins(5);
/// The first pause after a refusal of the moment that names none; doubled up to the highest.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// `not_subscribed`: the request overtook a room's end.
const NOT_SUBSCRIBED: u16 = 122;

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
}

struct Entry {
    room: Option<Arc<str>>,
    frame: Frame,
    again: Again,
    expires: Instant,
    sent: bool,
    ever_sent: bool,
    refusals: u32,
    reply: oneshot::Sender<Answer>,
}

pub(crate) struct Outbox {
    limits: Limits,
    entries: BTreeMap<i64, Entry>,
    /// Nothing before this one is unsent.
    cursor: i64,
    in_flight: usize,
    publishes: usize,
    rooms: HashMap<Arc<str>, usize>,
    /// Nothing is sent before: the server asked for a pause.
    hold_until: Option<Instant>,
    /// No entry expires before.
    expiry: Option<Instant>,
}

impl Outbox {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            cursor: i64::MIN,
            in_flight: 0,
            publishes: 0,
            rooms: HashMap::new(),
            hold_until: None,
            expiry: None,
        }
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
        let Submission { room, frame, again, expires } = submission;
        if again == Again::Keyed {
            self.make_space()?;
            self.publishes += 1;
        } else if self.entries.len() - self.publishes >= self.limits.publishes.max(WINDOW) {
            return Err(Error::OutboxFull { queued: self.entries.len() });
        }
        if let Some(room) = &room {
            *self.rooms.entry(Arc::clone(room)).or_default() += 1;
        }
        self.expiry = Some(self.expiry.map_or(expires, |earliest| earliest.min(expires)));
        let (reply, answer) = oneshot::channel();
        let entry = Entry { room, frame, again, expires, sent: false, ever_sent: false, refusals: 0, reply };
        self.entries.insert(id, entry);
        Ok(answer)
    }

    /// The next frame to send, of a room that is `ready`.
    pub(crate) fn next(&mut self, now: Instant, takes: Takes, ready: impl Fn(&str) -> bool) -> Option<Frame> {
        if self.in_flight >= WINDOW || self.hold_until.is_some_and(|until| now < until) {
            return None;
        }
        self.hold_until = None;
        let mut skipped = None;
        loop {
            let mut unsent = self.entries.range_mut(self.cursor..).filter(|(_, entry)| !entry.sent);
            let found = unsent.find_map(|(&id, entry)| {
                if entry.room.as_deref().is_none_or(&ready) {
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
            entry.sent = true;
            if !entry.ever_sent {
                entry.ever_sent = true;
                if entry.again == Again::Keyed {
                    entry.expires = entry.expires.min(now + KEY_MEMORY);
                }
            }
            self.in_flight += 1;
            let frame = entry.frame.clone();
            self.expiry = Some(self.expiry.map_or(entry.expires, |earliest| earliest.min(entry.expires)));
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
        self.finish(id, Ok(json))
    }

    /// The server's refusal: of the moment, and the request is made again; or for good.
    pub(crate) fn refuse(&mut self, id: i64, refusal: Refusal, now: Instant, rejoins: bool) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let again = refusal.temporary || (refusal.code == NOT_SUBSCRIBED && rejoins && entry.refusals < 3);
        if !again || entry.again == Again::Never {
            return self.finish(id, Err(Error::Refused(Box::new(refusal))));
        }
        let pause = PAUSE_FIRST * 2_u32.saturating_pow(entry.refusals.min(5));
        entry.refusals += 1;
        if entry.sent {
            entry.sent = false;
            self.in_flight -= 1;
        }
        self.cursor = self.cursor.min(id);
        if refusal.temporary {
            // Everything waits, so that messages keep their order.
            let until = now + refusal.retry_after.unwrap_or_else(|| pause.min(PAUSE_MAX));
            self.hold_until = Some(self.hold_until.map_or(until, |held| held.max(until)));
        }
        true
    }

    /// The room whose readiness a request waits for.
    pub(crate) fn room_of(&self, id: i64) -> Option<Arc<str>> {
        self.entries.get(&id)?.room.clone()
    }

    fn finish(&mut self, id: i64, answer: Answer) -> bool {
        let Some(entry) = self.entries.remove(&id) else { return false };
        self.in_flight -= usize::from(entry.sent);
        self.publishes -= usize::from(entry.again == Again::Keyed);
        if let Some(room) = &entry.room
            && let Some(count) = self.rooms.get_mut(room)
        {
            *count -= 1;
            if *count == 0 {
                self.rooms.remove(room);
            }
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
        let lost = |entry: &&Entry| entry.sent && entry.again == Again::Never;
        let lost: Vec<i64> =
            self.entries.iter().filter(|(_, entry)| lost(entry)).map(|(id, _)| *id).collect();
        for id in lost {
            self.finish(id, Err(Error::Interrupted));
        }
        for entry in self.entries.values_mut() {
            entry.sent = false;
        }
        self.in_flight = 0;
        self.cursor = i64::MIN;
        self.hold_until = None;
    }

    /// Ends what has waited for too long.
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
        self.expiry = self.entries.values().map(|entry| entry.expires).min();
    }

    /// When something must be looked at again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.expiry, self.hold_until].into_iter().flatten().min()
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
        Submission { room: Some("r".into()), frame, again: Again::Keyed, expires }
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
        assert!(outbox.refuse(1, temporary(500), now, false));
        assert_eq!(sent(&mut outbox, now), [""; 0]);
        assert_eq!(outbox.deadline(), Some(now + Duration::from_millis(500)));
        assert_eq!(sent(&mut outbox, now + Duration::from_millis(500)), ["a", "b", "c"]);
    }

    #[test]
    fn outbox_ends_what_waits_too_long_and_says_whether_it_left() {
        let now = Instant::now();
        let mut outbox = outbox(10, Overflow::Reject);
        let mut sent = outbox.push(1, publish("a", now + Duration::from_secs(600))).unwrap();
        assert!(outbox.next(now, ANY, |_| true).is_some());
        let mut unsent = outbox.push(2, publish("b", now + Duration::from_secs(10))).unwrap();
        assert_eq!(outbox.deadline(), Some(now + Duration::from_secs(10)));
        outbox.expire(now + Duration::from_secs(10));
        assert!(matches!(unsent.try_recv(), Ok(Err(Error::TimedOut { sent: false }))));
        // The server forgets keys after five minutes: from then on a second sending could double the message.
        outbox.expire(now + KEY_MEMORY);
        assert!(matches!(sent.try_recv(), Ok(Err(Error::TimedOut { sent: true }))));
        assert!(outbox.is_empty());
        assert_eq!(outbox.deadline(), None);
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
