//! One connection's state, split by how often it is touched.
//!
//! [`Hot`] is what a delivery reads; everything else is behind it in [`Connection`].

use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use outspoke_protocol::{Body, Event, Refusal, RequestId, RoomName, StartFrom};
use outspoke_store::StoreError;
use outspoke_websocket::{Decoder, Window};

use super::Key;
use super::command::Command;
use super::presence::TypingState;
use super::toll::Toll;
use super::wheel::Tick;
use crate::auth::{AuthError, Grant, Identity};
use crate::client::Client;
use crate::client::outbox::Outbox;
use crate::client::registry::Place;
use crate::conn::WsConn;
use crate::dispatcher::{Handling, Reply};
use crate::hub::Inner;
use crate::policy::{Granted, Grants};
use crate::room::amend::Amending;
use crate::room::{Draft, Room};

/// What a delivery needs to know of a member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hot {
    /// The socket, if a frame may be sent on it right away: open, plain, and nothing waiting before it.
    /// Otherwise -1.
    pub(super) direct: RawFd,
    /// In more than one room: its writes may be worth merging.
    pub(super) several_rooms: bool,
}

impl Hot {
    pub(super) const NOTHING: Self = Self { direct: -1, several_rooms: false };
}

/// Everything the shard has of one connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) conn: Box<dyn WsConn>,
    pub(super) client: Arc<Client>,
    pub(super) decoder: Decoder,
    pub(super) generation: u32,
    pub(super) dialect: u8,
    pub(super) compression: Option<Window>,
    pub(super) echo: bool,
    /// It has more for us, and is in the shard's list of those.
    pub(super) loud: bool,
    /// Others know of it: its end must be told.
    pub(super) introduced: bool,
    pub(super) phase: Phase,
    /// When something last came from the peer.
    pub(super) heard: Tick,
    /// When it was last pinged.
    pub(super) pinged: Tick,
    /// When the ping was sent that is not answered, by the shard's clock; 0: none is out.
    pub(super) pinged_micros: u32,
    /// From the last answered ping to its answer; 0: there was none.
    pub(super) round_trip: u32,
    /// Until then nothing is written, since an operator wants it so; 0: it is as usual.
    pub(super) slowed_until: Tick,
    /// The tick of the wheel entry that counts; others are stale.
    pub(super) next_look: Tick,
    /// A pong waits in the outbox already.
    pub(super) pong_queued: bool,
    /// The newest ping's payload, if it came while a pong was waiting: seldom, so it takes a pointer's room.
    pub(super) pong_owed: Option<Box<Bytes>>,
    pub(super) outbox: Option<Box<Outbox>>,
    pub(super) memberships: Vec<Membership>,
    pub(super) next_ticket: u32,
    /// The room it was put into at connect: where a publish goes that names none.
    pub(super) home: Option<RoomName>,
    /// Messages it has published that its store has not answered for.
    pub(super) unanswered: u32,
    /// Not reading: why, and what was read too much.
    pub(super) stall: Option<Box<Stall>>,
    /// When its credential ends; `Tick::MAX` for never.
    pub(super) expires: Tick,
    /// What it may do in single rooms besides.
    pub(super) grants: Option<Box<Grants>>,
    /// For streams and handlers that wake by waker.
    pub(super) waker: Option<Arc<ConnectionWaker>>,
    /// Gives the connection's place back when dropped.
    pub(super) place: Place,
    pub(super) toll: Toll,
    /// Since when something of a message or a frame is there, and the rest is not; 0: nothing is.
    pub(super) begun: Tick,
}

/// How far a connection is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Our close frame is queued or sent; waiting for the peer's, or for the deadline.
    Closing {
        since: Tick,
        /// Both close frames are exchanged, or nothing more is to be understood: only writing is left.
        answered: bool,
        shut: bool,
    },
}

/// A client's membership in a room, on this shard.
#[derive(Debug)]
pub(super) struct Membership {
    /// The room's number in [`LocalRooms`](super::rooms::LocalRooms); `None` until activated.
    pub(super) local: Option<u32>,
    /// The client's place in its group there, or among the late.
    pub(super) place: Seat,
    pub(super) room: Arc<Room>,
    pub(super) ticket: u32,
    /// The room's offset at the join: messages after it follow.
    pub(super) joined: u64,
    pub(super) typing: TypingState,
}

/// Where in a room's member list a client sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// Not yet.
    None,
    /// Joined while deliveries of this turn were pending.
    Late,
    /// In group `.0` at `.1`.
    In(u8, u32),
}

/// Why a connection is not being read, and what to do when it is again.
#[derive(Default)]
pub(super) struct Stall {
    /// What is at work for it.
    pub(super) waiting: Option<Waiting>,
    /// The request it answers.
    pub(super) request: Option<RequestId>,
    pub(super) since: Tick,
    /// Shards are behind.
    pub(super) throttled: bool,
    /// It has been sent much at once, and reads that first.
    pub(super) draining: bool,
    /// The store has much of it to answer for.
    pub(super) unanswered: bool,
    /// It was sent away: nothing more is read of it, and it ends when what it waits for is answered.
    pub(super) away: bool,
    /// Received, and not yet decoded.
    pub(super) unread: Vec<u8>,
    /// The socket became readable meanwhile.
    pub(super) readable: bool,
}

/// Something at work for a connection.
pub(super) enum Waiting {
    /// The application's handler, or one of ours.
    Handler(Handling),
    /// A look at a store, whose answer is an event.
    Look(Look),
    /// A room reads what its newcomer needs.
    Room(Preparation, Box<Asking>),
    /// The authenticator judges a fresh credential.
    Refresh(Refreshing),
    /// The authorizer judges what is to be done next; taken when it has.
    Authorize(Authorizing, Option<Box<Pending>>),
    /// The reviewer looks at what is to be said, in that room; taken when it has.
    Review(Looking, Option<Box<(Arc<Room>, Draft)>>),
}

/// A reviewer at work.
pub(super) type Looking = Pin<Box<dyn Future<Output = Result<Body, Refusal>> + Send>>;

/// An authenticator at work.
pub(super) type Refreshing = Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send>>;

/// An authorizer at work.
pub(super) type Authorizing = Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send>>;

/// What is done once the authorizer allows it.
pub(super) enum Pending {
    /// Coming into a room; with a token for it or without.
    Join { asking: Asking, by_token: bool },
    /// Saying something.
    Say { room: Arc<Room>, draft: Draft },
    /// Giving an earlier message other words.
    Amend { room: Arc<Room>, amending: Amending },
}

/// A look at a store.
pub(super) type Look = Pin<Box<dyn Future<Output = Result<Event, Refusal>> + Send>>;

/// A room at reading.
pub(super) type Preparation = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send>>;

/// A client asks to come into a room.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) request: Option<RequestId>,
    pub(super) room: RoomName,
    pub(super) from: StartFrom,
    /// How often the room has read for it.
    pub(super) reads: u8,
    /// What it was granted there.
    pub(super) granted: Option<Granted>,
}

/// What came of what was waited for.
pub(super) enum Done {
    Handler(Outcome),
    Look(Result<Event, Refusal>),
    Room(Result<(), StoreError>, Box<Asking>),
    Refresh(Result<Identity, AuthError>),
    Authorize(Result<Grant, Refusal>, Option<Box<Pending>>),
    Review(Result<Body, Refusal>, Option<Box<(Arc<Room>, Draft)>>),
}

impl Waiting {
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Done> {
        match self {
            Self::Handler(handling) => handling.as_mut().poll(context).map(Done::Handler),
            Self::Look(look) => look.as_mut().poll(context).map(Done::Look),
            Self::Room(preparation, asking) => {
                preparation.as_mut().poll(context).map(|outcome| Done::Room(outcome, asking.clone()))
            }
            Self::Refresh(refreshing) => refreshing.as_mut().poll(context).map(Done::Refresh),
            Self::Authorize(authorizing, pending) => {
                authorizing.as_mut().poll(context).map(|outcome| Done::Authorize(outcome, pending.take()))
            }
            Self::Review(looking, said) => {
                looking.as_mut().poll(context).map(|outcome| Done::Review(outcome, said.take()))
            }
        }
    }
}

impl Stall {
    /// Gives up what is at work. Returns whether it ended in a panic.
    pub(super) fn drop_waiting(&mut self) -> bool {
        let waiting = self.waiting.take();
        catch_unwind(AssertUnwindSafe(|| drop(waiting))).is_err()
    }

    /// Whether it must wait for something other than its next turn.
    pub(super) fn holds(&self) -> bool {
        self.throttled || self.draining || self.unanswered || self.away || self.waiting.is_some()
    }
}

impl std::fmt::Debug for Stall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stall")
            .field("waiting", &self.waiting.is_some())
            .field("throttled", &self.throttled)
            .field("unread", &self.unread.len())
            .finish_non_exhaustive()
    }
}

/// What a handler came to.
pub(super) type Outcome = Result<Option<Reply>, Refusal>;

impl Connection {
    pub(super) fn key(&self, slot: usize) -> Key {
        Key { slot: slot as u32, generation: self.generation }
    }

    /// The client's rooms, or its conversations; the room that everybody is in is neither.
    pub(super) fn rooms_like(&self, conversations: bool) -> impl Iterator<Item = &Membership> {
        self.memberships.iter().filter(move |held| {
            let named = |name: &RoomName| crate::direct::is_reserved(name.as_str()) == conversations;
            held.room.name.as_ref().is_some_and(named)
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// The waker of this connection, made when first needed.
    pub(super) fn waker(&mut self, hub: &Arc<Inner>, shard: usize, slot: usize) -> Waker {
        let key = self.key(slot);
        let make =
            || ConnectionWaker { hub: Arc::downgrade(hub), shard, key, queued: AtomicBool::new(false) };
        Waker::from(Arc::clone(self.waker.get_or_insert_with(|| Arc::new(make()))))
    }
}

/// Puts its connection into the shard's inbox, once however often it is woken.
#[derive(Debug)]
pub(super) struct ConnectionWaker {
    hub: std::sync::Weak<Inner>,
    shard: usize,
    key: Key,
    queued: AtomicBool,
}

impl ConnectionWaker {
    /// The shard looks at the connection now: the next wake counts again.
    pub(super) fn rearm(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(hub) = self.hub.upgrade() {
            // An ended shard has nothing to wake.
            let _ = hub.shards[self.shard].inbox.push(Command::Wake(self.key), 0);
        }
    }
}

// Allocators have a class of 256 bytes and then one of 320; there is one of these per client.
const _: () = assert!(size_of::<Connection>() <= 256);
