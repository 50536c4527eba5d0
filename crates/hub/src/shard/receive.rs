//! Bytes in: from a ready socket through the codec, one message at a time, until there is no more.
//!
//! Everything is read into the shard's one scratch buffer and decoded in place; a connection owns memory only
//! for a message that is not complete. A connection that must wait (for its handler, or because shards are
//! behind) keeps what it has not decoded and is not read from: the peer's own kernel holds it back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::{Disconnect, Payload};
use outspoke_websocket::{
    CloseCode, CloseFrame, Decoder, Item, Limits, Opcode, ProtocolError, Role, encode_close, encode_frame,
};

use super::connection::{Done, Phase, Stall};
use super::{Key, Shard};
use crate::stats::count;

/// Bytes read in a turn of all connections together that had more for us than one read takes. What all others wait for at most
/// is this, or the number of those connections times [`LOUD_READ_BYTES_MIN`].
const LOUD_TURN_BYTES: usize = 8192;
/// Bytes read in a turn of one of them at least: of empty fragments, the dearest bytes there are, it is 10 microseconds.
const LOUD_READ_BYTES_MIN: usize = 2048;

/// A connection that had more for us than its share of a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loud {
    key: Key,
    to_the_end: bool,
}

/// Whether a connection is read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    /// It waits; what is unread is kept.
    Stalled,
    /// It is closing or gone.
    Ended,
}

impl Shard {
    /// Serves every socket that is ready.
    pub(super) fn read_sockets(&mut self) {
        let mut ready = Vec::new();
        self.poller.collect(&mut ready);
        for readiness in ready {
            let Some(connection) = self.connection(readiness.key) else { continue };
            if readiness.failed && connection.stall.is_some() {
                // It cannot be read until it has waited, and it waits for an answer that nobody will get.
                self.lost(readiness.key);
                continue;
            }
            if readiness.writable {
                self.flush(readiness.key.slot);
            }
            if readiness.readable || readiness.ended {
                self.read(readiness.key, readiness.ended);
            }
        }
        // Only now: who has said nothing yet in this turn does not wait for who says much.
        let loud = std::mem::take(&mut self.loud);
        let share = (LOUD_TURN_BYTES / loud.len().max(1)).max(LOUD_READ_BYTES_MIN);
        for Loud { key, to_the_end } in loud {
            let Some(connection) = self.connection(key) else { continue };
            connection.loud = false;
            self.read_some(key, to_the_end, share);
        }
    }

    /// Reads what the connection has. `to_the_end`: the end of the stream is waiting behind it.
    pub(super) fn read(&mut self, key: Key, to_the_end: bool) {
        // One that is loud has its share of this turn.
        if let Some(connection) = self.connection(key).filter(|connection| !connection.loud) {
            connection.loud = false;
            self.read_some(key, to_the_end, self.scratch.len());
        }
    }

    /// Reads at most `max` bytes; where there may be more, the connection is loud until the next turn.
    fn read_some(&mut self, key: Key, to_the_end: bool, max: usize) {
        let waker = match self.connection(key) {
            None => return,
            Some(connection) => {
                if let Some(stall) = &mut connection.stall {
                    stall.readable = true;
                    return;
                }
                self.waker_of(key.slot)
            }
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let read = self.connections[key.slot as usize].read(waker.as_ref(), &mut scratch[..max]);
        let len = match read {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.receive(key, &mut scratch[..count]);
                count
            }
            Poll::Pending => 0,
            Poll::Ready(_) => {
                self.lost(key);
                0
            }
        };
        self.scratch = scratch;
        // A short read has emptied the socket; its next byte is a new event. Streams must be polled until
        // they are pending, or nobody wakes us.
        let more = len == max || (len > 0 && (to_the_end || waker.is_some()));
        if let Some(connection) = self.connection(key).filter(|_| more) {
            connection.loud = true;
            self.loud.push(Loud { key, to_the_end });
        }
    }

    /// Decodes received bytes and acts on them.
    pub(super) fn receive(&mut self, key: Key, input: &mut [u8]) {
        let now = self.now();
        let config = self.hub.config();
        let limits = Limits::new(config.message_bytes_max);
        let rules = self.rules(key, &config);
        let Some(connection) = self.connection(key) else { return };
        connection.heard = now;
        if matches!(connection.phase, Phase::Closing { answered: true, .. }) {
            return;
        }
        let mut decoder = std::mem::replace(&mut connection.decoder, Decoder::new(Role::Server, false));
        let mut inflater = std::mem::take(&mut self.inflater);
        let mut merge = false;
        let (mut frames_read, len) = (0, input.len());
        let mut frames = decoder.feed(input, &limits, &mut inflater);
        let mut unread = Vec::new();
        let mut message_done = false;
        loop {
            let connection = &self.connections[key.slot as usize];
            let mut wait = Duration::ZERO;
            let admit = |opcode: Opcode| {
                message_done |= !opcode.is_control();
                // Of who is leaving only the close frame is of interest.
                let toll = || rules.map_or(Ok(()), |rules| connection.admit(rules));
                connection.is_open() && toll().map_err(|refused| wait = refused).is_ok()
            };
            let Some(item) = frames.next_admitted(admit) else { break };
            frames_read += 1;
            let flow = match item.transpose() {
                Some(item) => self.act(key, item, &mut merge),
                None => match rules.filter(|_| !wait.is_zero()) {
                    Some(rules) => self.too_many_frames(key, wait, rules),
                    None => Flow::Continue,
                },
            };
            match flow {
                Flow::Continue => {}
                Flow::Stalled => {
                    unread = frames.unread().to_vec();
                    break;
                }
                Flow::Ended => break,
            }
        }
        drop(frames);
        self.inflater = inflater;
        let half = !decoder.is_idle();
        let anew = message_done || (frames_read > 0 && !decoder.is_within_message());
        count(&self.counters().frames_read, frames_read);
        count(&self.counters().bytes_read, len as u64);
        if let Some(connection) = self.connection(key) {
            connection.decoder = decoder;
            let before = connection.begun;
            connection.begun = match half {
                true if anew || before == 0 => now.max(1),
                true => before,
                false => 0,
            };
            let begins = half && before == 0;
            if let Some(stall) = &mut connection.stall {
                stall.unread = unread;
            }
            if begins {
                self.look_at_message(key.slot);
            }
            self.send_replies(key.slot, merge);
            self.drained(key.slot);
        }
        self.replies.clear();
    }

    /// Acts on one thing the peer said; a panic in it ends this connection and nothing else.
    fn act(&mut self, key: Key, item: Result<Item<'_>, ProtocolError>, merge: &mut bool) -> Flow {
        let item = match item {
            Ok(item) => item,
            Err(error) => return self.violated(key, error),
        };
        let connection = &self.connections[key.slot as usize];
        if !connection.is_open() && !matches!(item, Item::Close(_)) {
            return Flow::Continue;
        }
        match item {
            Item::Text(text) if connection.echo => self.echo(key, Opcode::Text, text.as_bytes()),
            Item::Binary(bytes) if connection.echo => self.echo(key, Opcode::Binary, bytes),
            Item::Text(text) => self.guarded(key, Payload::Text(text), merge),
            Item::Binary(bytes) => self.guarded(key, Payload::Binary(bytes), merge),
            Item::Ping(payload) => self.pong(key, payload),
            Item::Pong(_) => {
                self.pong_heard(key);
                Flow::Continue
            }
            Item::Close(frame) => self.closed_by_peer(key, frame),
        }
    }

    fn guarded(&mut self, key: Key, payload: Payload<'_>, merge: &mut bool) -> Flow {
        match catch_unwind(AssertUnwindSafe(|| self.request(key, payload, merge))) {
            Ok(flow) => flow,
            Err(_) => self.panicked(key),
        }
    }

    pub(super) fn panicked(&mut self, key: Key) -> Flow {
        count(&self.counters().panics, 1);
        tracing::error!(
            shard = self.index,
            "a panic was contained: its connection is closed, the others go on"
        );
        self.begin_close(key, Disconnect::InternalError);
        Flow::Ended
    }

    fn violated(&mut self, key: Key, error: ProtocolError) -> Flow {
        count(&self.counters().protocol_errors, 1);
        let disconnect = match error.close_code() {
            CloseCode::TOO_BIG => Disconnect::MessageTooBig,
            CloseCode::INVALID_PAYLOAD => Disconnect::InvalidData,
            _ => Disconnect::ProtocolError,
        };
        tracing::debug!(%error, "the peer broke the protocol");
        self.begin_close_because(key, disconnect, &error.to_string());
        if let Some(connection) = self.connection(key)
            && let Phase::Closing { answered, .. } = &mut connection.phase
        {
            // Nothing that follows can be understood.
            *answered = true;
            if connection.outbox.is_none() {
                self.go_on_closing(key.slot);
            }
        }
        Flow::Ended
    }

    fn echo(&mut self, key: Key, opcode: Opcode, payload: &[u8]) -> Flow {
        match self.connections[key.slot as usize].compression {
            Some(window) => {
                let deflater = &mut self.deflater;
                outspoke_websocket::encode_message(
                    opcode,
                    payload,
                    deflater,
                    window,
                    None,
                    &mut self.replies,
                );
            }
            None => encode_frame(opcode, payload, &mut self.replies),
        }
        Flow::Continue
    }

    /// At most one pong waits for a peer that pings and does not read.
    fn pong(&mut self, key: Key, payload: &[u8]) -> Flow {
        let connection = &mut self.connections[key.slot as usize];
        if connection.outbox.is_some() {
            if connection.pong_queued {
                // The newest one counts (RFC 6455 section 5.5.3).
                connection.pong_owed = Some(Box::new(Bytes::copy_from_slice(payload)));
                return Flow::Continue;
            }
            connection.pong_queued = true;
        }
        encode_frame(Opcode::Pong, payload, &mut self.replies);
        Flow::Continue
    }

    fn closed_by_peer(&mut self, key: Key, frame: Option<CloseFrame<'_>>) -> Flow {
        let slot = key.slot;
        let connection = &mut self.connections[slot as usize];
        let code = frame.map(|frame| frame.code);
        match &mut connection.phase {
            Phase::Closing { answered, .. } => {
                *answered = true;
                if connection.outbox.is_none() {
                    self.go_on_closing(slot);
                }
            }
            Phase::Open => {
                // Answers to what came before the close frame go before ours.
                encode_close(code, "", &mut self.replies);
                let farewell = std::mem::take(&mut self.replies);
                self.depart(key, crate::hub::Departure::ByPeer(code.map(CloseCode::get)));
                self.close_with(key, Bytes::from(farewell), true);
            }
        }
        Flow::Ended
    }

    /// Something a connection waited for has happened: its handler, its stream, or its next turn to read.
    pub(super) fn woken(&mut self, key: Key) {
        let Some(connection) = self.connection(key) else { return };
        if let Some(waker) = &connection.waker {
            waker.rearm();
        }
        match &connection.stall {
            Some(stall) if stall.waiting.is_some() => self.poll_waiting(key),
            Some(stall) if !stall.holds() => self.resume(key),
            _ => {}
        }
        let Some(connection) = self.connection(key) else { return };
        if connection.outbox.is_some() && connection.conn.socket().is_none() {
            self.flush(key.slot);
        } else if connection.outbox.is_none() {
            self.go_on_closing(key.slot);
        }
        self.read(key, true);
    }

    /// Goes on with a connection that had to wait.
    pub(super) fn resume(&mut self, key: Key) {
        let Some(connection) = self.connection(key) else { return };
        if let Some(stall) = connection.stall.as_mut().filter(|stall| stall.away) {
            stall.throttled = false;
            return self.end_if_away(key);
        }
        let Some(stall) = connection.stall.take() else { return };
        let Stall { mut unread, readable, .. } = *stall;
        if !unread.is_empty() {
            self.receive(key, &mut unread);
        }
        if let Some(connection) = self.connection(key) {
            match &mut connection.stall {
                Some(stall) => stall.readable |= readable,
                None if readable => self.read(key, true),
                None => {}
            }
        }
    }

    /// Polls what a connection waits for.
    pub(super) fn poll_waiting(&mut self, key: Key) {
        let hub = Arc::clone(&self.hub);
        let index = self.index;
        let Some(connection) = self.connection(key) else { return };
        let waker = connection.waker(&hub, index, key.slot as usize);
        let Some(stall) = &mut connection.stall else { return };
        let Some(waiting) = &mut stall.waiting else { return };
        let polled = catch_unwind(AssertUnwindSafe(|| waiting.poll(&mut Context::from_waker(&waker))));
        let done = match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(done)) => done,
            Err(_) => {
                self.panicked(key);
                return;
            }
        };
        let request = stall.request.take();
        if stall.drop_waiting() {
            self.panicked(key);
            return;
        }
        match done {
            Done::Handler(outcome) => self.respond(key.slot, request, outcome),
            Done::Look(Ok(event)) => self.reply(key.slot, &event),
            Done::Look(Err(refusal)) => self.refuse(key.slot, refusal.answering(request)),
            Done::Room(outcome, asking) => self.ask_again(key, outcome, *asking),
            Done::Refresh(outcome) => self.refreshed(key, request, outcome),
            Done::Authorize(outcome, pending) => {
                if let Some(pending) = pending {
                    self.authorized(key, request, outcome, *pending);
                }
            }
            Done::Review(outcome, said) => {
                if let Some(said) = said {
                    self.reviewed(key, request, outcome, *said);
                }
            }
        }
        if self.connection(key).is_none() {
            self.replies.clear();
            return;
        }
        self.send_replies(key.slot, false);
        self.drained(key.slot);
        // It may have to wait for something else by now.
        if self
            .connection(key)
            .and_then(|connection| connection.stall.as_ref())
            .is_some_and(|stall| !stall.holds())
        {
            self.resume(key);
        }
        self.end_if_away(key);
    }
}
