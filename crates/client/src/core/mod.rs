//! The client without I/O: frames and moments in, frames and answers out.
//!
//! Owned by a mutex that handles and the session share (`shared.rs`); both call it for as long as a look-up takes. It reads
//! no clock and opens no socket: the session (`driver.rs`) tells it what came and when, and sends what it has. Invariant:
//! whatever is decided about a message is decided here, so that the same frames always end the same way.

pub(crate) mod outbox;
pub(crate) mod rooms;
pub(crate) mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::Timestamp;
use outspoke_websocket::Random;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::outbox::{Answer, Frame, Limits, Outbox, Submission, Takes};
use self::rooms::{Alive, Rooms, Subscription};
use self::wire::{Authenticated, Conversations, GoingAway, Head, Welcome, WireGap, WireId};
use crate::error::{Error, Refusal};
use crate::position::Position;
use crate::queue::Queue;

/// A token is renewed so long before it ends, or at half its time if that is shorter.
const REFRESH_BEFORE: Duration = Duration::from_mins(1);
/// How long a silence may be before the server is asked, if it does not say how often it pings; and the bounds of what it says.
const SILENCE: Duration = Duration::from_secs(30);
const SILENCE_MIN: Duration = Duration::from_secs(1);
const SILENCE_MAX: Duration = Duration::from_hours(1);
/// After a refusal of the moment a token is shown again.
const TOKEN_AGAIN: Duration = Duration::from_secs(5);
/// No server is believed that wants a longer absence.
const AWAY_MAX: Duration = Duration::from_mins(5);
/// `rate_limited`.
const RATE_LIMITED: u16 = 162;
/// Frames are within this if the server does not say what it takes.
const FRAME_BYTES_MAX: usize = 8192;

/// What the session is to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Frame(Frame),
    Ping,
}

/// What the session is to do about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Nothing,
    /// A token was refused, and another may do.
    TokenRefused,
    /// The server has answered after so long.
    Pong(Duration),
}

/// Where the connection's credential stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    /// It does not end, or cannot be renewed.
    Lasting,
    /// It is to be renewed then.
    Until(Instant),
    /// The provider was asked.
    Asked,
    /// A fresh one was shown, under this id; `true` if one was refused already.
    Shown(i64, bool),
}

/// What the session needs to know of an open connection.
struct Online {
    bytes_max: usize,
    silence_max: Duration,
    last_heard: Instant,
    /// A sign of life was asked for then.
    probed: Option<Instant>,
    /// The request for it, and when it was made.
    ping: Option<(i64, Instant)>,
    /// The server's clock at a moment of ours.
    clock: (Instant, Timestamp),
    credential: Credential,
    binary: bool,
}

pub(crate) struct Core {
    pub(crate) outbox: Outbox,
    rooms: Rooms,
    /// Streams of private messages.
    inboxes: Vec<Arc<Queue>>,
    next_id: i64,
    frames: VecDeque<Out>,
    online: Option<Online>,
    /// How long the server wants the client to stay away.
    pub(crate) away: Option<Duration>,
    /// Where the server wants the next attempt to go.
    pub(crate) elsewhere: Option<String>,
    grace: Duration,
    renews: bool,
    /// Handles exist no more, or `close` was called: nothing new is begun.
    pub(crate) ending: Option<Ending>,
    pub(crate) wanted: bool,
    /// The first attempt must succeed.
    pub(crate) strict: bool,
    pub(crate) retry_now: bool,
    /// For keys.
    random: Random,
    /// For waits.
    jitter: Box<dyn FnMut() -> u64 + Send>,
}

/// How the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// When nothing waits any more, or at this moment.
    Flush(Instant),
    /// At once.
    Now,
}

impl Core {
    pub(crate) fn new(
        limits: Limits,
        grace: Duration,
        renews: bool,
        jitter: Box<dyn FnMut() -> u64 + Send>,
    ) -> Self {
        Self {
            outbox: Outbox::new(limits),
            rooms: Rooms::new(),
            inboxes: Vec::new(),
            next_id: 0,
            frames: VecDeque::new(),
            online: None,
            away: None,
            elsewhere: None,
            grace,
            renews,
            ending: None,
            wanted: false,
            strict: false,
            retry_now: false,
            random: Random::new(),
            jitter,
        }
    }

    // ---- from the handles ----

    /// Takes a request in; `frame` is given the id that it goes under.
    pub(crate) fn submit(
        &mut self,
        room: Option<&Arc<str>>,
        again: outbox::Again,
        expires: Instant,
        name: Option<&str>,
        frame: impl FnOnce(WireId<'_>) -> Frame,
    ) -> Result<(i64, oneshot::Receiver<Answer>), Error> {
        if self.ending.is_some() {
            return Err(Error::Closed);
        }
        self.next_id += 1;
        let id = self.next_id;
        // Two messages under one name at a time, of different rooms, are told apart by numbers.
        let name: Option<Arc<str>> = name.filter(|name| self.outbox.named(name).is_none()).map(Arc::from);
        let frame = frame(name.as_deref().map_or(WireId::Number(id), |name| WireId::Text(name.into())));
        if let Some(room) = room {
            self.rooms.need(room);
        }
        let submission = Submission { room: room.cloned(), frame, again, expires, name };
        self.wanted = true;
        Ok((id, self.outbox.push(id, submission)?))
    }

    /// Sends a frame that nobody answers, if the client is in the room now.
    pub(crate) fn send_volatile(&mut self, room: &str, frame: String) -> bool {
        let joined = self.online.is_some() && self.rooms.is_joined(room);
        if joined {
            self.frames.push_back(Out::Frame(Frame::Text(frame.into())));
        }
        joined
    }

    /// Whether a message to this room, or to a user, would be sent at once.
    pub(crate) fn is_ready(&self, room: Option<&str>) -> bool {
        self.online.is_some() && room.is_none_or(|room| self.rooms.is_joined(room))
    }

    pub(crate) fn subscribe(&mut self, room: &Arc<str>, subscription: Subscription) -> Result<(), Error> {
        if self.ending.is_some() {
            return Err(Error::Closed);
        }
        self.wanted = true;
        self.rooms.subscribe(room, subscription);
        Ok(())
    }

    /// A handle uses a room: the client stays in it for as long as `user` lives.
    pub(crate) fn uses(&mut self, room: &Arc<str>, user: &Arc<Alive>) {
        self.rooms.uses(room, user);
    }

    pub(crate) fn set_room_token(&mut self, room: &Arc<str>, token: Arc<str>, holder: &Arc<Alive>) {
        self.rooms.set_token(room, token, holder);
    }

    /// A stream of all private messages.
    pub(crate) fn follow_conversations(&mut self, queue: Arc<Queue>) -> Result<(), Error> {
        if self.ending.is_some() {
            return Err(Error::Closed);
        }
        self.wanted = true;
        for (room, place) in self.rooms.conversations() {
            self.rooms.follow(&room, place, std::slice::from_ref(&queue));
        }
        self.inboxes.push(queue);
        Ok(())
    }

    /// Whether a publish would be taken: also one that only learns that the client has ended.
    pub(crate) fn has_space(&self) -> bool {
        self.ending.is_some() || self.outbox.has_space()
    }

    /// A random text of 128 bits: an idempotency key.
    pub(crate) fn key(&mut self) -> String {
        format!("{:016x}{:016x}", self.random.next_u64(), self.random.next_u64())
    }

    /// A random number for a wait.
    pub(crate) fn random(&mut self) -> u64 {
        (self.jitter)()
    }

    /// Where a room stands, for tests.
    #[cfg(test)]
    pub(crate) fn room(&self, name: &str) -> &'static str {
        match (self.rooms.is_joined(name), self.rooms.contains(name)) {
            (true, _) => "joined",
            (false, true) => "joining",
            (false, false) => "left",
        }
    }

    // ---- from the session ----

    /// The connection is open, and the server has said so.
    pub(crate) fn connected(&mut self, welcome: &Welcome, binary: bool, now: Instant) {
        let interval = welcome.ping_interval.filter(|millis| *millis > 0).map(Duration::from_millis);
        let silence_max = interval.map_or(SILENCE, |interval| interval.clamp(SILENCE_MIN, SILENCE_MAX));
        let mut online = Online {
            bytes_max: welcome.max_message_bytes.unwrap_or(FRAME_BYTES_MAX),
            silence_max,
            last_heard: now,
            probed: None,
            ping: None,
            clock: (now, welcome.timestamp),
            credential: Credential::Lasting,
            binary,
        };
        if let Some(expires) = welcome.expires.filter(|_| self.renews) {
            online.credential = Credential::Until(online.renewal(expires, now));
        }
        self.online = Some(online);
        (self.away, self.elsewhere) = (None, None);
        self.frames.clear();
        // The answer tells how long the way is.
        self.frames.push_back(Out::Ping);
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self) {
        self.online = None;
        self.frames.clear();
        self.rooms.disconnected();
        self.outbox.disconnected();
    }

    /// The client is at its end.
    pub(crate) fn end(&mut self, error: &Error) {
        self.disconnected();
        self.rooms.end(error);
        for inbox in self.inboxes.drain(..) {
            inbox.push(crate::queue::Item::End(error.clone()));
        }
        self.outbox.fail_all(error);
        self.ending = Some(Ending::Now);
    }

    /// Something came, whatever it was.
    pub(crate) fn heard(&mut self, now: Instant) {
        if let Some(online) = &mut self.online {
            online.last_heard = now;
            online.probed = None;
        }
    }

    /// Whether the server has been silent for so long that the connection counts as dead.
    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), Error> {
        self.outbox.expire(now);
        self.inboxes.retain(|inbox| !inbox.is_closed());
        let grace = self.grace;
        if let Some(online) = self.online.as_mut().filter(|_| !grace.is_zero()) {
            match online.probed {
                Some(probed) if now >= probed + grace => return Err(Error::Silent),
                None if now >= online.last_heard + online.silence_max => {
                    online.probed = Some(now);
                    self.next_id += 1;
                    online.ping = Some((self.next_id, now));
                    let ping = json!({ "type": "ping", "id": self.next_id }).to_string();
                    self.frames.push_back(Out::Frame(Frame::Text(ping.into())));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// When [`tick`](Self::tick) and [`next_frame`](Self::next_frame) must be called although nothing came.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let watched = self.online.as_ref().filter(|_| !self.grace.is_zero());
        let watchdog = watched.map(|online| match online.probed {
            Some(probed) => probed + self.grace,
            None => online.last_heard + online.silence_max,
        });
        let ending = match self.ending {
            Some(Ending::Flush(until)) => Some(until),
            _ => None,
        };
        let renewal = match self.online.as_ref().map(|online| online.credential) {
            Some(Credential::Until(moment)) => Some(moment),
            _ => None,
        };
        let rooms = self.online.as_ref().and_then(|_| self.rooms.deadline(now));
        [watchdog, renewal, ending, rooms, self.outbox.deadline(now)].into_iter().flatten().min()
    }

    /// Whether a fresh token is to be asked for now. Says so once.
    pub(crate) fn wants_token(&mut self, now: Instant) -> bool {
        let Some(online) = &mut self.online else { return false };
        let due = matches!(online.credential, Credential::Until(moment) if now >= moment);
        if due {
            online.credential = Credential::Asked;
        }
        due
    }

    /// Shows a fresh token.
    pub(crate) fn show_token(&mut self, token: &str, second: bool) {
        self.next_id += 1;
        let id = self.next_id;
        let Some(online) = &mut self.online else { return };
        online.credential = Credential::Shown(id, second);
        let frame = json!({ "type": "auth", "id": id, "token": token }).to_string();
        self.frames.push_front(Out::Frame(Frame::Text(frame.into())));
    }

    /// There is no token now; it is asked for again then.
    pub(crate) fn token_failed(&mut self, again: Instant) {
        if let Some(online) = &mut self.online {
            online.credential = Credential::Until(again);
        }
    }

    /// The next frame to send.
    pub(crate) fn next_frame(&mut self, now: Instant) -> Option<Out> {
        let online = self.online.as_ref()?;
        let takes = Takes { bytes_max: online.bytes_max, binary: online.binary };
        if self.frames.is_empty() {
            let mut frames = Vec::new();
            self.rooms.poll(now, &self.outbox, &mut self.next_id, &mut frames);
            self.frames.extend(frames.into_iter().map(|frame| Out::Frame(Frame::Text(frame.into()))));
        }
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        let rooms = &self.rooms;
        self.outbox.next(now, takes, |room| rooms.is_joined(room)).map(Out::Frame)
    }

    /// A text frame.
    pub(crate) fn text(&mut self, json: String, now: Instant) -> Result<Heard, Error> {
        let head: Head<'_> = match serde_json::from_str(&json) {
            Ok(head) => head,
            Err(error) => {
                tracing::debug!(%error, "a frame is not understood");
                return Ok(Heard::Nothing);
            }
        };
        let id = match head.id() {
            Some(WireId::Number(number)) => Some(number),
            Some(WireId::Text(name)) => self.outbox.named(&name),
            None => None,
        };
        let room = head.room.as_deref().unwrap_or_default();
        match (head.kind.as_ref(), id) {
            ("subscribed", Some(id)) if self.rooms.subscribed(room, id, &json) => {}
            ("subscribed", None) => self.put_into(room, &json),
            ("unsubscribed", None) => {
                self.rooms.removed(room, Refusal::parse(json.as_bytes()), &mut self.outbox);
            }
            ("history", Some(id)) if self.rooms.page(id, &json) => {}
            ("error", Some(id)) => return self.refused(id, &json, now),
            ("error", None) => self.complained(&json, now),
            ("authenticated", Some(id)) => self.authenticated(id, &json, now),
            ("pong", Some(id)) => {
                let ping =
                    self.online.as_mut().and_then(|online| online.ping.take_if(|(ping, _)| *ping == id));
                if let Some((_, since)) = ping {
                    return Ok(Heard::Pong(now - since));
                }
                self.outbox.answer(id, json);
            }
            (_, Some(id)) => {
                self.outbox.answer(id, json);
            }
            ("gap", None) => {
                if let Ok(gap) = serde_json::from_str::<WireGap>(&json) {
                    self.rooms.gap(room, &gap);
                }
            }
            ("going_away", None) => {
                if let Ok(going) = serde_json::from_str::<GoingAway>(&json) {
                    self.away = Some(Duration::from_millis(going.reconnect_after).min(AWAY_MAX));
                    self.elsewhere = going.url.and_then(|url| url.as_str().map(ToOwned::to_owned));
                }
            }
            ("conversations", None) => self.unread(&json),
            ("system", None) if head.room.is_none() => self.rooms.announce(&json),
            _ => self.rooms.deliver(room, &head, &json, None),
        }
        Ok(Heard::Nothing)
    }

    /// An error that answers no request of ours.
    fn complained(&mut self, json: &str, now: Instant) {
        let Some(refusal) = Refusal::parse(json.as_bytes()) else { return };
        if refusal.code == RATE_LIMITED {
            self.outbox.ignored(refusal.retry_after, now);
            self.rooms.ignored(refusal.retry_after, now);
        } else {
            tracing::warn!(error = %refusal, "the server refuses something that has no id");
        }
    }

    /// A binary frame: a header in JSON, preceded by its length, and the bytes behind it.
    pub(crate) fn binary(&mut self, frame: &Bytes) {
        let parts = frame.split_first_chunk::<2>().and_then(|(length, rest)| {
            let length = usize::from(u16::from_be_bytes(*length));
            let json = std::str::from_utf8(rest.get(..length)?).ok()?;
            Some((json, frame.slice(2 + length..)))
        });
        let Some((json, bytes)) = parts else {
            tracing::warn!("a binary frame is not understood");
            return;
        };
        if let Ok(head) = serde_json::from_str::<Head<'_>>(json) {
            self.rooms.deliver(head.room.as_deref().unwrap_or_default(), &head, json, Some(&bytes));
        }
    }

    fn refused(&mut self, id: i64, json: &str, now: Instant) -> Result<Heard, Error> {
        let Some(refusal) = Refusal::parse(json.as_bytes()) else { return Ok(Heard::Nothing) };
        if let Some(online) = &mut self.online
            && let Credential::Shown(shown, second) = online.credential
            && shown == id
        {
            if refusal.temporary {
                let again = refusal.retry_after.unwrap_or(TOKEN_AGAIN).min(AWAY_MAX);
                online.credential = Credential::Until(now + again);
                return Ok(Heard::Nothing);
            }
            online.credential = Credential::Asked;
            return if second { Err(Error::Refused(Box::new(refusal))) } else { Ok(Heard::TokenRefused) };
        }
        if self.rooms.refused(id, &refusal, now, &mut self.outbox) {
            return Ok(Heard::Nothing);
        }
        let room = self.outbox.room_of(id);
        if let Some(room) = room.as_deref().filter(|_| refusal.code == 122) {
            self.rooms.absent(room);
        }
        self.outbox.refuse(id, refusal, now, room.is_some());
        Ok(Heard::Nothing)
    }

    fn authenticated(&mut self, id: i64, json: &str, now: Instant) {
        let Some(online) = &mut self.online else { return };
        if !matches!(online.credential, Credential::Shown(shown, _) if shown == id) {
            return;
        }
        let wire: Option<Authenticated> = serde_json::from_str(json).ok();
        online.credential = match wire.and_then(|wire| wire.expires) {
            Some(expires) => Credential::Until(online.renewal(expires, now)),
            None => Credential::Lasting,
        };
    }

    /// The server has put the client into a room: a conversation, mostly.
    fn put_into(&mut self, room: &str, json: &str) {
        let name: Arc<str> = room.into();
        if room.starts_with('@') && !self.rooms.contains(room) {
            let Ok(wire) = serde_json::from_str::<wire::Subscribed>(json) else { return };
            self.rooms.follow(&name, wire.position(), &self.inboxes);
        }
        if self.rooms.contains(room) {
            self.rooms.put_into(&name, json);
        }
    }

    /// Conversations in which something came while the client was away.
    fn unread(&mut self, json: &str) {
        let Ok(wire) = serde_json::from_str::<Conversations>(json) else { return };
        for conversation in wire.conversations {
            let name: Arc<str> = conversation.room.into();
            if !self.rooms.contains(&name) {
                let place = Position { epoch: conversation.epoch, offset: conversation.seen };
                self.rooms.follow(&name, place, &self.inboxes);
            }
        }
    }
}

impl Online {
    /// When a credential that ends at `expires`, by the server's clock, is to be renewed.
    fn renewal(&self, expires: Timestamp, now: Instant) -> Instant {
        let (then, time) = self.clock;
        let ends = u64::try_from(expires.as_millis() - time.as_millis()).unwrap_or(0);
        let left = (then + Duration::from_millis(ends)).saturating_duration_since(now);
        now + left.saturating_sub(REFRESH_BEFORE.min(left / 2))
    }
}
