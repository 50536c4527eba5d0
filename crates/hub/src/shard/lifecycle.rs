//! A connection from its arrival to its last byte: attach, heartbeat, deadlines, goodbye.
//!
//! There is one way out for each reason, and all lead through [`Shard::depart`] (out of the rooms and the
//! registry, exactly once) and end in [`Shard::close_quietly`] (the socket and its slot).

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::{ClientId, Disconnect, ErrorCode, Event, Refusal, RoomName, StartFrom, Welcome};
use outspoke_websocket::{CloseCode, Decoder, Opcode, Role, encode_close, encode_frame};

use super::command::{Arrival, Command};
use super::connection::Asking;
use super::connection::{Connection, Hot, Membership, Phase, Seat};
use super::toll::Toll;
use super::wheel::Tick;
use super::{Key, Shard};
use crate::client::outbox::{Entry, Origin};
use crate::config::HubConfig;
use crate::hub::Departure;
use crate::room::join::Newcomer;
use crate::stats::count;
use crate::trace::diary::Because;
use crate::trace::follow::Sight;

/// The wheel's step: an eighth of the shortest time-out, so that none is missed by more than that; and never so long that
/// a credential lasts a second longer than it says.
pub(super) fn tick_length(config: &HubConfig) -> Duration {
    let grace = config.heartbeat.pong_timeout.saturating_sub(config.heartbeat.ping_interval);
    let shortest = [
        config.heartbeat.ping_interval,
        grace,
        config.write_timeout,
        config.close_timeout,
        config.handler_timeout,
        config.message_timeout,
    ];
    let shortest =
        shortest.into_iter().filter(|time| !time.is_zero()).min().unwrap_or(Duration::from_secs(8));
    (shortest / 8).clamp(Duration::from_millis(5), Duration::from_millis(250))
}

impl Shard {
    /// Takes over a connection; the former holder of its identity goes first.
    pub(super) fn attach(&mut self, mut arrival: Box<Arrival>) {
        if !arrival.claimed && !self.is_stopping() {
            arrival.claimed = true;
            if let Some(cluster) = &self.hub.cluster {
                cluster.tell_claim(&arrival.client);
            }
            if let Some(former) = self.hub.registry.claim(&arrival.client) {
                let hub = Arc::clone(&self.hub);
                let eviction = Command::Evict { client: former.id(), then: arrival };
                let weight = Command::WEIGHT;
                if usize::from(former.shard) == self.index {
                    self.obey(eviction);
                } else {
                    // A shard that has ended has no connections: nothing is left to evict, or to serve.
                    let _ = hub.shards[usize::from(former.shard)].inbox.push(eviction, weight);
                }
                return;
            }
        }
        self.settle(*arrival);
    }

    /// Ends the former holder of an identity, then sends the new one home.
    pub(super) fn evict(&mut self, client: ClientId, then: Box<Arrival>) {
        // Absent: it has ended meanwhile, or has not settled yet and will find its identity taken.
        if let Some(key) = self.hub.registry.get(client).and_then(|former| former.key.get().copied()) {
            self.begin_close(key, Disconnect::Replaced);
        }
        if usize::from(then.client.shard) == self.index {
            self.attach(then);
        } else {
            let home = usize::from(then.client.shard);
            // A shard that has ended serves nobody.
            let _ = self.hub.shards[home].inbox.push(Command::Attach(then), Command::WEIGHT);
        }
    }

    /// Gives an arrival its slot, its rooms and its welcome.
    fn settle(&mut self, arrival: Arrival) {
        let Arrival {
            conn,
            early,
            greeting,
            client,
            place,
            dialect,
            compression,
            room,
            from,
            echo,
            claimed: _,
        } = arrival;
        let stopping = self.is_stopping();
        let expires = self.tick_of(client.identity().expires);
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        self.generation = self.generation.wrapping_add(1);
        let key = Key { slot: slot as u32, generation: self.generation };
        let mut hot = Hot::NOTHING;
        if let Some(socket) = conn.socket() {
            if let Err(error) = self.poller.register(socket, key) {
                tracing::warn!(%error, "cannot wait for a socket: its connection is dropped");
                self.hub.registry.remove(&client);
                return;
            }
            hot.direct = socket.as_raw_fd();
        }
        // An eviction that was ordered before now has found nobody; one that is ordered later finds the key.
        let unwelcome = match () {
            () if stopping => Some(Disconnect::GoingAway),
            () if expires <= self.wheel.now() => Some(Disconnect::CredentialExpired),
            () if !echo && !self.hub.registry.holds(&client) => Some(Disconnect::Replaced),
            () => None,
        };
        if unwelcome.is_none() {
            // Known from here on: whoever finds the client by its id finds its place too.
            let _ = client.key.set(key);
            self.hub.registry.insert(&client);
            if let Some(cluster) = &self.hub.cluster {
                cluster.client_came(client.id());
            }
        }
        // Whatever was decided until now counts here; what is decided from here on finds the client in the registry.
        let unwelcome = unwelcome.or_else(|| self.hub.revoked(client.identity()).filter(|_| !echo));
        entry.insert(Box::new(Connection {
            conn,
            decoder: Decoder::new(Role::Server, compression.is_some()),
            generation: self.generation,
            dialect,
            compression,
            echo,
            loud: false,
            introduced: false,
            phase: Phase::Open,
            heard: self.wheel.now(),
            pinged: 0,
            pinged_micros: 0,
            round_trip: 0,
            slowed_until: 0,
            next_look: 0,
            pong_queued: false,
            pong_owed: None,
            outbox: None,
            memberships: Vec::with_capacity(2),
            next_ticket: 1,
            home: room.clone(),
            unanswered: 0,
            stall: None,
            expires,
            grants: None,
            waker: None,
            client,
            place,
            toll: Toll::default(),
            begun: 0,
        }));
        if self.hot.len() <= slot {
            self.hot.resize(slot + 1, Hot::NOTHING);
        }
        self.hot[slot] = hot;
        count(&self.counters().connections_opened, 1);
        self.look_at(key.slot);
        // Leaves with what follows, be it the welcome or a farewell.
        self.replies.extend_from_slice(&greeting);
        match unwelcome {
            // Too late: it learns why, and nobody learns of it.
            Some(disconnect) => self.begin_close(key, disconnect),
            None if echo => {}
            None => self.introduce(key, room, from),
        }
        // Before anything is read: a connection that is lost in reading must not leave them to the next one.
        self.send_replies(key.slot, false);
        if !early.is_empty() {
            match self.connection(key).and_then(|connection| connection.stall.as_mut()) {
                // It waits for its first room.
                Some(stall) => stall.unread = early.to_vec(),
                None => self.receive(key, &mut early.to_vec()),
            }
        }
        if self.connection(key).is_some_and(|connection| connection.conn.socket().is_none()) {
            // A stream wakes only who has polled it.
            self.read(key, false);
        }
    }

    fn introduce(&mut self, key: Key, room: Option<RoomName>, from: StartFrom) {
        let hub = Arc::clone(&self.hub);
        let everyone = Arc::clone(&self.connections[key.slot as usize].client.tenant.everyone);
        let newcomer = Newcomer {
            shard: self.index,
            key,
            ticket: 0,
            from: StartFrom::Now,
            client: None,
            user: None,
            insists: false,
            asks: false,
            looked: true,
        };
        everyone.admit(&hub, newcomer);
        let connection = &mut self.connections[key.slot as usize];
        connection.introduced = true;
        connection.memberships.push(Membership {
            local: None,
            place: Seat::None,
            room: everyone,
            ticket: 0,
            joined: 0,
            typing: Default::default(),
        });
        let client = Arc::clone(&connection.client);
        self.reply(
            key.slot,
            &Event::Welcome(Box::new(Welcome {
                client: client.id(),
                user: client.user().clone(),
                name: client.name(),
                ts: hub.now(),
                ping_interval: hub.config().heartbeat.ping_interval,
                message_bytes_max: hub.config().message_bytes_max,
                open_mode: hub.authenticator.is_open(),
                expires: client.holds().expires,
                node: hub.node_hint(&client.identity().tenant, client.user()),
            })),
        );
        if let Some(room) = room {
            let asking = Asking { request: None, room: room.clone(), from, reads: 0, granted: None };
            if let Err(refusal) = self.enter(key, asking, None) {
                self.note_refused(key, &room, &refusal);
                self.refuse(key.slot, refusal);
            }
        }
        self.tell_news(key);
        self.show(key.slot, Sight::Connected, |sighting| sighting);
        hub.tell_connected(&client);
    }

    /// Takes the connection out of everything that others see. Idempotent: a second time finds nothing.
    pub(super) fn depart(&mut self, key: Key, departure: Departure) {
        let Some(connection) = self.connection(key) else { return };
        if !connection.is_open() {
            return;
        }
        let client = Arc::clone(&connection.client);
        let introduced = connection.introduced;
        if introduced {
            self.show_end(key.slot, departure);
        }
        self.give_up_waiting(key);
        self.hub.registry.remove(&client);
        if let Some(cluster) = &self.hub.cluster {
            cluster.client_went(client.id());
        }
        self.hot[key.slot as usize].direct = -1;
        let exit = departure.exit(self.hub.stopping.load(Ordering::Acquire));
        while !self.connections[key.slot as usize].memberships.is_empty() {
            self.leave_because(key, 0, exit, Because::Ended(departure));
        }
        count(&self.counters().connections_closed, 1);
        match departure {
            Departure::ByServer(disconnect) => self.measures().closed(disconnect),
            Departure::ByPeer(_) => count(&self.counters().connections_closed_by_peer, 1),
            Departure::Lost => count(&self.counters().connections_lost, 1),
        }
        if introduced {
            self.hub.tell_disconnected(&client, departure);
        }
    }

    /// Nothing holds the connection up any more, so that what its peer sent meanwhile is read: a close frame, maybe.
    fn give_up_waiting(&mut self, key: Key) {
        let Some(connection) = self.connection(key) else { return };
        let Some(stall) = &mut connection.stall else { return };
        (stall.throttled, stall.draining, stall.unanswered, stall.away) = (false, false, false, false);
        if stall.drop_waiting() {
            count(&self.counters().panics, 1);
        }
        self.read_next_turn(key);
    }

    /// Ends a connection for one of our reasons.
    pub(super) fn begin_close(&mut self, key: Key, disconnect: Disconnect) {
        self.begin_close_because(key, disconnect, disconnect.reason());
    }

    /// Ends a connection, with words that fit the case.
    pub(super) fn begin_close_because(&mut self, key: Key, disconnect: Disconnect, reason: &str) {
        let Some(connection) = self.connection(key) else { return };
        if !connection.is_open() {
            return;
        }
        let slow = matches!(disconnect, Disconnect::SlowConsumer | Disconnect::WriteTimeout);
        match disconnect {
            Disconnect::SlowConsumer | Disconnect::WriteTimeout => {
                count(&self.counters().slow_clients_closed, 1)
            }
            Disconnect::HeartbeatTimeout => count(&self.counters().heartbeats_missed, 1),
            Disconnect::Replaced => count(&self.counters().clients_replaced, 1),
            _ => {}
        }
        self.depart(key, Departure::ByServer(disconnect));
        // Who may not be here any more gets nothing more, either.
        let barred = matches!(
            disconnect,
            Disconnect::CredentialExpired | Disconnect::Revoked | Disconnect::Unauthorized
        );
        if slow || barred {
            self.drop_unwritten(key.slot);
        }
        // Answers that are ready go first: they are to requests that were accepted.
        let mut farewell = std::mem::take(&mut self.replies);
        encode_close(CloseCode::new(disconnect.code()), reason, &mut farewell);
        self.close_with(key, Bytes::from(farewell), false);
    }

    /// Memory for a client that does not read goes at once; what is begun must be finished.
    pub(super) fn drop_unwritten(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if let Some(outbox) = connection.outbox.as_mut() {
            let (bytes, _) = outbox.drop_where(|_, _| true);
            connection.client.release(bytes);
        }
    }

    /// Queues the last frames, and lets the closing handshake take its course.
    pub(super) fn close_with(&mut self, key: Key, farewell: Bytes, answered: bool) {
        let now = self.now();
        let connection = &mut self.connections[key.slot as usize];
        connection.phase = Phase::Closing { since: now, answered, shut: false };
        self.queue(key.slot, Entry { bytes: farewell, origin: Origin::Control }, None);
        self.flush(key.slot);
        if self.connection(key).is_some() {
            self.look_at(key.slot);
        }
    }

    /// The farewell is written: what is left depends on the peer.
    pub(super) fn go_on_closing(&mut self, slot: u32) {
        let waker = self.waker_of(slot);
        let key = self.connections[slot as usize].key(slot as usize);
        let connection = &mut self.connections[slot as usize];
        let Phase::Closing { answered: true, shut: false, since } = connection.phase else { return };
        let waker = waker.unwrap_or_else(|| std::task::Waker::noop().clone());
        // Failing means that the peer is gone, which the next read says too. A layer that must wait wakes us.
        if connection.conn.poll_shutdown(&mut std::task::Context::from_waker(&waker)).is_ready() {
            connection.phase = Phase::Closing { answered: true, shut: true, since };
            // Its end of the stream follows; closing before that could destroy our last frames on their way.
            self.read_next_turn(key);
        }
    }

    /// Reads on for the end of the stream, next turn.
    fn read_next_turn(&self, key: Key) {
        let _ = self.mailbox().inbox.push(Command::Wake(key), 0);
    }

    /// The stream has ended or failed.
    pub(super) fn lost(&mut self, key: Key) {
        self.depart(key, Departure::Lost);
        self.close_quietly(key);
    }

    /// Like [`lost`](Self::lost), found out where members may not change: the connection ends with the turn.
    pub(super) fn lost_later(&mut self, slot: u32) {
        let key = self.connections[slot as usize].key(slot as usize);
        self.hot[slot as usize].direct = -1;
        self.lost.push(key);
    }

    /// Closes the socket and frees the slot.
    pub(super) fn close_quietly(&mut self, key: Key) {
        if self.connection(key).is_none() {
            return;
        }
        self.hot[key.slot as usize] = Hot::NOTHING;
        let connection = self.connections.remove(key.slot as usize);
        if let Some(outbox) = &connection.outbox {
            connection.client.release(outbox.bytes());
        }
        drop(connection);
        if self.connections.is_empty() {
            self.connections.shrink_to_fit();
            self.hot = Vec::new();
            if self.is_stopping() {
                // The others may have waited for this one.
                self.hub.nudge_all();
            }
        }
    }

    /// Looks at every connection whose time has come.
    pub(super) fn ring(&mut self) {
        let passed = self.began.elapsed().as_nanos() / self.tick.as_nanos();
        let now = self.base.saturating_add(Tick::try_from(passed).unwrap_or(Tick::MAX));
        let mut due = Vec::new();
        self.wheel.advance(now, &mut due);
        for (key, at) in due {
            if self.connection(key).is_some_and(|connection| connection.next_look == at) {
                self.look_at(key.slot);
            }
        }
    }

    /// Acts on whatever deadline of a connection has passed, and asks for the next look.
    pub(super) fn look_at(&mut self, slot: u32) {
        let key = self.connections[slot as usize].key(slot as usize);
        let next = match self.connections[slot as usize].phase {
            Phase::Open => self.look_at_open(key),
            Phase::Closing { since, .. } => self.look_at_closing(key, since),
        };
        if let Some(next) = next
            && self.connection(key).is_some()
        {
            self.look_by(slot, next);
        }
    }

    fn look_at_open(&mut self, key: Key) -> Option<Tick> {
        let now = self.now();
        let ticks = self.ticks();
        self.end_slowness(key);
        self.connection(key)?;
        if self.connections[key.slot as usize].next_end() <= now && !self.look_at_authority(key) {
            return None;
        }
        let connection = &mut self.connections[key.slot as usize];
        if let Some(stall) = &connection.stall {
            // We do not read: the silence is ours, and so is what is missing of a message.
            connection.heard = now;
            if connection.begun > 0 {
                connection.begun = now.max(1);
            }
            if stall.waiting.is_some() && passed(stall.since, ticks.handler, now) {
                self.time_out_handler(key);
                return Some(now + 1);
            }
        }
        let connection = &mut self.connections[key.slot as usize];
        if let Some(outbox) = &connection.outbox
            && passed(outbox.progress, ticks.write, now)
        {
            self.begin_close(key, Disconnect::WriteTimeout);
            return None;
        }
        if passed(connection.heard, ticks.pong, now) {
            self.begin_close(key, Disconnect::HeartbeatTimeout);
            return None;
        }
        if connection.begun > 0 && passed(connection.begun, ticks.message, now) {
            self.begin_close(key, Disconnect::MessageTimeout);
            return None;
        }
        let connection = &mut self.connections[key.slot as usize];
        let silent_since = connection.heard.max(connection.pinged);
        if passed(silent_since, ticks.ping, now) {
            connection.pinged = now;
            self.ping_sent(key.slot);
            encode_frame(Opcode::Ping, &[], &mut self.replies);
            self.send_replies(key.slot, false);
        }
        let connection = self.connection(key)?;
        let write = connection.outbox.as_ref().and_then(|outbox| due(outbox.progress, ticks.write));
        let handler = connection
            .stall
            .as_ref()
            .and_then(|stall| stall.waiting.as_ref().and_then(|_| due(stall.since, ticks.handler)));
        let ping = due(connection.heard.max(connection.pinged), ticks.ping);
        let pong = due(connection.heard, ticks.pong);
        let ends = Some(connection.next_end()).filter(|ends| *ends < Tick::MAX);
        let slowed = Some(connection.slowed_until).filter(|until| *until > 0);
        let message = (connection.begun > 0).then(|| due(connection.begun, ticks.message)).flatten();
        [write, handler, ping, pong, ends, message, slowed].into_iter().flatten().min()
    }

    /// A client that takes our last bytes slowly has the write time-out, one that has them all the closing time-out.
    fn look_at_closing(&mut self, key: Key, since: Tick) -> Option<Tick> {
        let now = self.now();
        let ticks = self.ticks();
        let connection = &self.connections[key.slot as usize];
        let deadline = match &connection.outbox {
            Some(outbox) => due(outbox.progress.max(since), ticks.write.max(ticks.close)),
            None => due(since, ticks.close),
        };
        let deadline = if self.is_stopping() { due(since, ticks.close) } else { deadline };
        match deadline {
            Some(deadline) if deadline > now => Some(deadline),
            _ => {
                self.close_quietly(key);
                None
            }
        }
    }

    fn time_out_handler(&mut self, key: Key) {
        let Some(connection) = self.connection(key) else { return };
        let Some(stall) = &mut connection.stall else { return };
        let request = stall.request.take();
        if stall.drop_waiting() {
            self.panicked(key);
            return;
        }
        let detail = "the handler took too long; try again later";
        self.refuse(key.slot, Refusal::new(ErrorCode::TimedOut, detail).answering(request));
        self.send_replies(key.slot, false);
        self.resume(key);
    }

    /// Asks for a look when the write time-out could pass.
    pub(super) fn look_at_write(&mut self, slot: u32) {
        let write = self.ticks().write;
        if let Some(at) = due(self.now(), write) {
            self.look_by(slot, at);
        }
    }

    /// Asks for a look when the handler's time-out could pass.
    pub(super) fn look_at_handler(&mut self, slot: u32) {
        let handler = self.ticks().handler;
        if let Some(at) = due(self.now(), handler) {
            self.look_by(slot, at);
        }
    }

    /// Asks for a look when what has begun should be whole.
    pub(super) fn look_at_message(&mut self, slot: u32) {
        let message = self.ticks().message;
        if let Some(at) = due(self.now(), message) {
            self.look_by(slot, at);
        }
    }

    /// Makes sure that the connection is looked at by `at`.
    pub(super) fn look_by(&mut self, slot: u32, at: Tick) {
        let now = self.now();
        let connection = &mut self.connections[slot as usize];
        if connection.next_look <= now || at < connection.next_look {
            let key = connection.key(slot as usize);
            connection.next_look = self.wheel.schedule(key, at);
        }
    }

    fn ticks(&self) -> Deadlines {
        let config = &self.hub.config();
        let ticks = |time: Duration| {
            if time.is_zero() { 0 } else { (time.as_nanos().div_ceil(self.tick.as_nanos())) as Tick }
        };
        Deadlines {
            ping: ticks(config.heartbeat.ping_interval),
            pong: ticks(config.heartbeat.pong_timeout),
            write: ticks(config.write_timeout),
            close: ticks(config.close_timeout),
            handler: ticks(config.handler_timeout),
            message: ticks(config.message_timeout),
        }
    }
}

/// The configured times in ticks; zero: never.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    ping: Tick,
    pong: Tick,
    write: Tick,
    close: Tick,
    handler: Tick,
    message: Tick,
}

fn due(since: Tick, ticks: Tick) -> Option<Tick> {
    (ticks > 0).then(|| since.saturating_add(ticks))
}

fn passed(since: Tick, ticks: Tick, now: Tick) -> bool {
    due(since, ticks).is_some_and(|due| due <= now)
}
