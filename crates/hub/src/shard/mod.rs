//! One core's part of the hub: it owns its connections and the local members of each room.
//!
//! A shard is one task on one thread; nothing in it is locked. Other threads reach it through its
//! [`inbox`]. A turn reads what sockets have (`receive`), works off the inbox (`command`), then writes: per
//! room once, per member once (`fanout`). So whatever arrives within a turn leaves in one write, which is the
//! largest saving there is. Sockets wait in the shard's own poller, nested in the runtime's: an idle
//! connection costs no task, no buffer and no timer.

pub(crate) mod account;
mod amends;
mod authority;
mod authorize;
mod away;
pub(crate) mod command;
mod connection;
mod fanout;
mod history;
pub(crate) mod inbox;
pub(crate) mod inspect;
mod joins;
mod lifecycle;
mod poller;
mod presence;
mod publishes;
mod receive;
mod reconfigure;
mod requests;
mod rooms;
mod send;
mod slash;
mod slow;
mod social;
mod toll;
pub(crate) mod wheel;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use outspoke_protocol::Disconnect;
use outspoke_websocket::{Deflater, Inflater};
use slab::Slab;
use tokio::time::{Instant, Sleep};

use self::command::Command;
use self::connection::{Connection, Hot};
use self::inbox::Inbox;
use self::poller::Poller;
use self::receive::Loud;
use self::rooms::LocalRooms;
use self::wheel::{Tick, Wheel};
use crate::config::HeartbeatConfig;
use crate::hub::Inner;
use crate::room::RoomId;
use crate::stats::{Counters, Measures};
use crate::trace::diary::Diary;

/// What others hold of a shard.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) inbox: Inbox<Command>,
    pub(crate) counters: Counters,
    pub(crate) measures: Measures,
}

/// A connection's place in its shard. The generation tells a connection from a later one in the same slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// A shard's state. Created on any thread, then moved to its own.
#[derive(Debug)]
pub(crate) struct Shard {
    index: usize,
    hub: Arc<Inner>,
    poller: Poller,
    /// Boxed: a slab that doubles in place would leave its former self behind, a third of all memory.
    connections: Slab<Box<Connection>>,
    /// The fields a delivery needs, by slot: four members to a cache line.
    hot: Vec<Hot>,
    generation: u32,
    rooms: LocalRooms,
    wheel: Wheel,
    /// What pings are measured by.
    clock: std::time::Instant,
    /// When the clock showed `base`.
    began: Instant,
    base: Tick,
    tick: Duration,
    /// What every connection of the shard reads into.
    scratch: Box<[u8]>,
    /// Frames in answer to the connection being read.
    replies: Vec<u8>,
    /// The payload being encoded.
    payload: Vec<u8>,
    inflater: Inflater,
    deflater: Deflater,
    /// Its level, and the smallest message it compresses.
    deflates: (u32, usize),
    /// What connections were told to keep to.
    heartbeat: HeartbeatConfig,
    /// Connections with more to read than their share of a turn.
    loud: Vec<Loud>,
    /// Connections whose outbox must be tried at the end of the turn.
    dirty: Vec<Key>,
    /// Connections not read from until the congestion ends.
    throttled: Vec<Key>,
    /// Connections to end when the loop that found out is over.
    doomed: Vec<(Key, Disconnect)>,
    /// Connections whose stream has failed, likewise.
    lost: Vec<Key>,
    /// Devices that a conversation waits for: it is being read for them.
    enrolling: Vec<(Key, RoomId)>,
    /// What befell them lately.
    diary: Diary,
    stage: Stage,
}

/// How far a shard is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// No message is accepted any more, and no connection; what others accepted is still coming in.
    Refusing,
    /// Everything that was accepted anywhere is here, and is delivered this turn.
    Delivering,
    /// Everybody has been told goodbye.
    Leaving,
}

/// Bytes read at once: a message of the usual greatest size. Who has more waits for the next turn.
const SCRATCH_BYTES: usize = 8 * 1024;

/// How often the inbox is looked at again before the turn writes: commands that a turn causes (a join's
/// announcement, say) still leave with it, and a flood cannot keep it from writing.
const INBOX_ROUNDS: usize = 4;

/// Turns without a pause before the runtime gets a look at its other tasks, timers and sockets: handlers' ones.
const TURNS_PER_YIELD: usize = 16;

impl Shard {
    pub(crate) fn new(index: usize, hub: Arc<Inner>) -> std::io::Result<Self> {
        let config = hub.config.load_full();
        let deflater = Deflater::with_level(config.compression.level, config.compression.bytes_min);
        let tick = lifecycle::tick_length(&config);
        Ok(Self {
            index,
            poller: Poller::new()?,
            connections: Slab::new(),
            hot: Vec::new(),
            generation: 0,
            rooms: LocalRooms::default(),
            wheel: Wheel::new(),
            clock: inspect::clock(),
            began: Instant::now(),
            base: 0,
            tick,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            replies: Vec::new(),
            payload: Vec::new(),
            inflater: Inflater::new(),
            deflater,
            heartbeat: config.heartbeat,
            deflates: (config.compression.level, config.compression.bytes_min),
            loud: Vec::new(),
            dirty: Vec::new(),
            throttled: Vec::new(),
            doomed: Vec::new(),
            lost: Vec::new(),
            enrolling: Vec::new(),
            stage: Stage::Serving,
            diary: Diary::new(config.remembered_messages_max, config.remembered_events_max),
            hub,
        })
    }

    /// Runs until told to stop and every connection has ended. Must be polled in a tokio runtime with time
    /// and I/O enabled.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.poller.attach() {
            tracing::error!(shard = self.index, %error, "cannot wait for sockets: the shard ends");
            return;
        }
        let _ = self.hub.timers.set(tokio::runtime::Handle::current());
        // The clock starts with the runtime's, which a test may have paused.
        self.began = Instant::now();
        let mut alarm = pin!(tokio::time::sleep(self.tick));
        // Whoever has been given a place is waited for: a connection between its upgrade and its shard, too, gets a
        // close frame.
        let mut turns = 0;
        while !(self.stage == Stage::Leaving && self.hub.registry.count() == 0) {
            let slept = self.wait(alarm.as_mut()).await;
            turns = if slept { 0 } else { turns + 1 };
            if turns == TURNS_PER_YIELD {
                turns = 0;
                tokio::task::yield_now().await;
            }
            if Instant::now() >= alarm.deadline() {
                self.ring();
                if self.index == 0 {
                    self.hub.idle.sweep(&self.hub, Instant::now());
                    self.hub.overdue.sweep(&self.hub, Instant::now());
                    self.hub.last_seen.flush();
                    self.hub.sweep_rulings(Instant::now());
                    self.hub.gate.sweep();
                }
                alarm.as_mut().reset(Instant::now() + self.tick);
            }
            let began = std::time::Instant::now();
            self.turn().await;
            self.measures().turns.record(began.elapsed());
        }
        // The keepers end when the last shard has, and write first what is queued by then.
        self.hub.last_seen.flush();
    }

    /// Waits for a socket, a command or the clock. Returns whether it had to.
    async fn wait(&mut self, mut alarm: Pin<&mut Sleep>) -> bool {
        let mut slept = false;
        std::future::poll_fn(|context| {
            // Each is polled, so that each can wake; which was first does not matter, a turn looks at all.
            let sockets = self.poller.poll_ready(context).is_ready();
            let inbox = self.hub.shards[self.index].inbox.poll_ready(context).is_ready();
            let alarm = alarm.as_mut().poll(context).is_ready();
            if sockets || inbox || alarm || !self.loud.is_empty() {
                return Poll::Ready(());
            }
            slept = true;
            Poll::Pending
        })
        .await;
        self.mailbox().inbox.stay_awake();
        slept
    }

    /// Whatever causes writes comes first, and nothing that is queued is left for a turn that may never come.
    async fn turn(&mut self) {
        self.release_throttled();
        self.read_sockets();
        let mut batch = Vec::new();
        for _ in 0..INBOX_ROUNDS {
            if self.mailbox().inbox.take(&mut batch) {
                self.hub.nudge_all();
            }
            if batch.is_empty() {
                break;
            }
            for command in batch.drain(..) {
                self.obey(command);
            }
        }
        self.fan_out().await;
        self.say_goodbye();
        self.write_dirty();
        self.bury_doomed();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Attach(arrival) => self.attach(arrival),
            Command::Evict { client, then } => self.evict(client, then),
            Command::Activate { room, client, ticket } => self.activate(&room, client, ticket),
            Command::Deliver { room, publication } => self.rooms.deliver(&room, publication),
            Command::Answers(answers) => self.answer(answers),
            Command::Push { client, frame, written } => self.push(&client, frame, written),
            Command::Join { client, room, done } => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(self.join_for_api(client, room));
            }
            Command::Leave { client, room, done } => {
                let _ = done.send(self.leave_for_api(client, &room));
            }
            Command::Remove { client, room, because, done } => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(self.take_out(client, room.as_str(), because));
            }
            Command::Reconsider(client) => self.reconsider(client),
            Command::Enroll { room, client, after, tried } => self.enroll(&room, client, after, tried),
            Command::Tell(client, event) => self.tell(client, &event),
            Command::Close { client, disconnect, reason } => {
                let reason = reason.as_deref().unwrap_or(disconnect.reason());
                self.begin_close_because(client, disconnect, reason);
            }
            Command::SendAway { client, notice } => self.send_away(client, &notice),
            Command::CutLeavers => self.cut_leavers(),
            Command::Reached(done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(());
            }
            Command::Account(inquiry, done) => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(self.account(&inquiry));
            }
            Command::Look { clients, rooms, done } => {
                let states = clients.into_iter().map(|key| self.state_of(key, rooms)).collect();
                // Whoever asked may have stopped waiting.
                let _ = done.send(states);
            }
            Command::SlowDown { client, lasting, done } => {
                // Whoever asked may have stopped waiting.
                let _ = done.send(self.slow_down(client, lasting));
            }
            Command::Wake(client) => self.woken(client),
            Command::Reconfigured => self.reconfigured(),
            Command::Stop(last_call) => {
                self.stage = Stage::Refusing;
                // What was accepted before and is on its way into a store comes back before the farewell.
                for keeper in &self.hub.keepers {
                    keeper.last_call(Arc::clone(&last_call));
                }
                drop(last_call);
            }
            Command::Farewell => self.stage = Stage::Delivering,
        }
    }

    fn mailbox(&self) -> &Mailbox {
        &self.hub.shards[self.index]
    }

    fn counters(&self) -> &Counters {
        &self.mailbox().counters
    }

    fn measures(&self) -> &Measures {
        &self.mailbox().measures
    }

    fn connection(&mut self, key: Key) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(key.slot as usize)?;
        (connection.generation == key.generation).then_some(connection)
    }

    fn now(&self) -> Tick {
        self.wheel.now()
    }

    /// Lets held-back publishers go on when nobody is behind any more.
    fn release_throttled(&mut self) {
        if self.throttled.is_empty() || self.hub.congestion.is_congested() {
            return;
        }
        for key in std::mem::take(&mut self.throttled) {
            self.resume(key);
        }
    }

    fn bury_doomed(&mut self) {
        // A farewell may find out that its stream has failed.
        while !(self.lost.is_empty() && self.doomed.is_empty()) {
            for key in std::mem::take(&mut self.lost) {
                self.lost(key);
            }
            for (key, disconnect) in std::mem::take(&mut self.doomed) {
                self.begin_close(key, disconnect);
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.stage > Stage::Serving
    }

    /// Once the farewell has come up, and what was before it is delivered.
    fn say_goodbye(&mut self) {
        if self.stage != Stage::Delivering {
            return;
        }
        self.stage = Stage::Leaving;
        let keys: Vec<Key> = self.connections.iter().map(|(slot, connection)| connection.key(slot)).collect();
        for key in keys {
            self.begin_close(key, Disconnect::GoingAway);
            // Those that were closing before have less time now.
            if self.connection(key).is_some() {
                self.look_at(key.slot);
            }
        }
    }
}
