//! Who watches a room or a user live, and what they are told.
//!
//! Told from where things happen, by whoever does them: a look at one flag where nobody watches. A follower has space for so many
//! sightings; more are counted and not kept, so that nobody ever waits for a follower.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use ecow::EcoString;
use outspoke_protocol::{ClientId, Message, MessageId, RoomName, Timestamp, UserId};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::hub::{Hub, Inner};

/// Followers of one hub.
const FOLLOWERS_MAX: usize = 32;
/// Of them, users with their own credentials and other nodes: the rest of the places is the application's.
const SHARED_MAX: usize = 24;
/// Of one user.
const USER_MAX: usize = 4;
/// Sightings that wait for one follower.
const SIGHTINGS_MAX: usize = 1024;

/// Whom or what somebody follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Following {
    /// What happens in a room, and to connections that are in it.
    Room(RoomName),
    /// What a user's connections do, and what happens to them.
    User(UserId),
}

/// What was seen. Nodes tell each other by the order of these: new ones come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Sight {
    /// A client is connected.
    Connected,
    /// A connection has ended.
    Closed,
    /// A client has come into a room.
    Joined,
    /// A client is not in a room any more.
    Left,
    /// A message has got its place.
    Published,
    /// A client was refused something.
    Refused,
    /// A connection takes no more bytes for now.
    Slow,
    /// It has read all that waited.
    CaughtUp,
    /// Messages were left out for a client that reads too slowly.
    Skipped,
    /// A client was sent what it had missed.
    Recovered,
    /// So many sightings were not kept, because the follower read too slowly.
    Lost,
}

impl Sight {
    /// Its name in APIs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Closed => "closed",
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Published => "published",
            Self::Refused => "refused",
            Self::Slow => "slow",
            Self::CaughtUp => "caught_up",
            Self::Skipped => "skipped",
            Self::Recovered => "recovered",
            Self::Lost => "lost",
        }
    }
}

/// Something that was seen. What does not belong to it is absent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Sighting {
    /// What.
    pub sight: Sight,
    /// When.
    pub at: Timestamp,
    /// Where.
    pub room: Option<RoomName>,
    /// Whose connection.
    pub user: Option<UserId>,
    /// Which.
    pub client: Option<ClientId>,
    /// The user's device.
    pub device: EcoString,
    /// A place in the room's log: the message's, the room's when somebody came or went, the last of those meant.
    pub offset: Option<u64>,
    /// Behind this place, of what was recovered.
    pub after: Option<u64>,
    /// How many: messages, or lost sightings.
    pub count: Option<u64>,
    /// Why.
    pub code: Option<u16>,
    /// The same in words.
    pub reason: Option<EcoString>,
    /// What the room does with messages for slow clients.
    pub policy: Option<EcoString>,
    /// Bytes that wait for the client.
    pub queued_bytes: Option<u64>,
    /// Of the message that was published.
    pub id: Option<MessageId>,
    /// Its type.
    pub kind: Option<EcoString>,
    /// What was published, for followers that want to know what it says.
    pub message: Option<Box<Message>>,
}

impl Sighting {
    pub(crate) fn new(sight: Sight, at: Timestamp) -> Self {
        Self {
            sight,
            at,
            room: None,
            user: None,
            client: None,
            device: EcoString::new(),
            offset: None,
            after: None,
            count: None,
            code: None,
            reason: None,
            policy: None,
            queued_bytes: None,
            id: None,
            kind: None,
            message: None,
        }
    }

    /// So many were; `None` for none.
    pub(crate) fn lost(count: u64) -> Option<Self> {
        let now = || Timestamp::from_system_time(std::time::SystemTime::now());
        (count > 0).then(|| Self { count: Some(count), ..Self::new(Sight::Lost, now()) })
    }

    pub(crate) fn of(self, client: &Client) -> Self {
        let (user, device) = (Some(client.user().clone()), client.identity().device.clone());
        Self { user, device, client: Some(client.id()), ..self }
    }

    pub(crate) fn at_room(self, room: &RoomName) -> Self {
        Self { room: Some(room.clone()), ..self }
    }
}

/// There are as many followers as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{max} follow already: end one of them, or try again later")]
#[non_exhaustive]
pub struct TooManyFollowers {
    /// So many may, of those for whom there is no place.
    pub max: usize,
}

/// Whose follower it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    Application,
    /// A user's, with a credential of the user's own.
    User(UserId),
    /// Another node's: of messages, it is told of those that were published here, since it may hear of the others, too.
    Node,
}

/// Somebody who watches. Dropping it ends that.
#[derive(Debug)]
pub struct Follower {
    hub: Weak<Inner>,
    watch: Weak<Watch>,
    sightings: mpsc::Receiver<Sighting>,
    lost: Arc<AtomicU64>,
}

impl Follower {
    /// What was seen next; `None`: the hub stops.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Sighting> {
        match self.lost() {
            Some(lost) => Some(lost),
            None => self.sightings.recv().await,
        }
    }

    /// What waits already; for who sends several at once.
    pub(crate) fn try_next(&mut self) -> Option<Sighting> {
        self.sightings.try_recv().ok()
    }

    fn lost(&self) -> Option<Sighting> {
        // They are behind those that were kept.
        if !self.sightings.is_empty() {
            return None;
        }
        Sighting::lost(self.lost.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.watches.remove(&self.watch);
        }
    }
}

/// What one follower wants.
#[derive(Debug)]
pub(crate) struct Watch {
    tenant: EcoString,
    pub(crate) of: Following,
    payload: bool,
    whose: Whose,
    sightings: mpsc::Sender<Sighting>,
    lost: Arc<AtomicU64>,
}

impl Watch {
    /// Whether something in a room of a tenant, said or done by that user, is meant.
    fn means(&self, tenant: &str, room: Option<&RoomName>, user: Option<&UserId>) -> bool {
        self.tenant == tenant
            && match &self.of {
                Following::Room(wanted) => room == Some(wanted),
                Following::User(wanted) => user == Some(wanted),
            }
    }

    /// Whether it is about that tenant.
    pub(crate) fn is_of(&self, tenant: &str) -> bool {
        self.tenant == tenant
    }

    pub(crate) fn tell(&self, mut sighting: Sighting) {
        if !self.payload
            && let Some(message) = &mut sighting.message
        {
            // How long it is may be known.
            sighting.count = Some(message.body.len() as u64);
            sighting.message = None;
        }
        if self.sightings.try_send(sighting).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Everybody who follows.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    list: ArcSwap<Vec<Arc<Watch>>>,
    any: AtomicBool,
    /// One change after the other.
    changing: Mutex<bool>,
}

impl Watches {
    /// Whether anybody follows anything. *Cost*: one load.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Everybody, to look at.
    pub(crate) fn all(&self) -> arc_swap::Guard<Arc<Vec<Arc<Watch>>>> {
        self.list.load()
    }

    /// Tells those who follow the room, or the user.
    pub(crate) fn tell(
        &self,
        tenant: &str,
        room: Option<&RoomName>,
        user: Option<&UserId>,
        sighting: impl Fn() -> Sighting,
    ) {
        if !self.any() {
            return;
        }
        for watch in self.all().iter().filter(|watch| watch.means(tenant, room, user)) {
            watch.tell(sighting());
        }
    }

    /// Tells those who follow the room, or who said it, of a message.
    pub(crate) fn tell_message(
        &self,
        tenant: &str,
        room: &RoomName,
        user: Option<&UserId>,
        published_here: bool,
        sighting: impl Fn() -> Sighting,
    ) {
        let meant = |watch: &&Arc<Watch>| {
            (published_here || watch.whose != Whose::Node) && watch.means(tenant, Some(room), user)
        };
        for watch in self.all().iter().filter(meant) {
            watch.tell(sighting());
        }
    }

    /// The hub stops: nobody follows any more.
    pub(crate) fn close(&self) {
        let mut closed = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        *closed = true;
        self.any.store(false, Ordering::Relaxed);
        self.list.store(Arc::default());
    }

    fn add(&self, watch: &Arc<Watch>) -> Result<(), TooManyFollowers> {
        let closed = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = Vec::clone(&self.list.load());
        let max = if *closed { Some(0) } else { full(&list, watch) };
        if let Some(max) = max {
            return Err(TooManyFollowers { max });
        }
        list.push(Arc::clone(watch));
        self.list.store(Arc::new(list));
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn remove(&self, watch: &Weak<Watch>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = Vec::clone(&self.list.load());
        list.retain(|known| !std::ptr::eq(Arc::as_ptr(known), watch.as_ptr()));
        self.any.store(!list.is_empty(), Ordering::Relaxed);
        self.list.store(Arc::new(list));
    }
}

/// How many there may be, if there is no place for another one.
fn full(list: &[Arc<Watch>], watch: &Watch) -> Option<usize> {
    let shared = || list.iter().filter(|known| known.whose != Whose::Application).count();
    let same =
        || list.iter().filter(|known| known.whose == watch.whose && known.tenant == watch.tenant).count();
    match &watch.whose {
        Whose::User(_) if same() >= USER_MAX => Some(USER_MAX),
        Whose::User(_) | Whose::Node if shared() >= SHARED_MAX => Some(SHARED_MAX),
        _ => (list.len() >= FOLLOWERS_MAX).then_some(FOLLOWERS_MAX),
    }
}

impl Hub {
    /// Watches a room or a user of the tenant on this node. `payload`: what was said is wanted, too; otherwise only how long it was
    /// ([`Sighting::count`]).
    ///
    /// A follower has space for 1024 sightings; more are not kept, and told as [`Sight::Lost`] when it has read those.
    ///
    /// # Errors
    /// There are as many followers as there may be, or the hub stops.
    pub fn follow(&self, of: Following, payload: bool) -> Result<Follower, TooManyFollowers> {
        self.follow_for(of, payload, Whose::Application)
    }

    pub(crate) fn follow_for(
        &self,
        of: Following,
        payload: bool,
        whose: Whose,
    ) -> Result<Follower, TooManyFollowers> {
        self.inner.watch(self.tenant.name.clone(), of, payload, whose)
    }
}

impl Inner {
    /// Watches something of a tenant on this node.
    pub(crate) fn watch(
        self: &Arc<Self>,
        tenant: EcoString,
        of: Following,
        payload: bool,
        whose: Whose,
    ) -> Result<Follower, TooManyFollowers> {
        let (sender, sightings) = mpsc::channel(SIGHTINGS_MAX);
        let lost = Arc::<AtomicU64>::default();
        let watch =
            Arc::new(Watch { tenant, of, payload, whose, sightings: sender, lost: Arc::clone(&lost) });
        self.watches.add(&watch)?;
        // Only the list holds the watch: when that is closed, the channel is, too.
        Ok(Follower { hub: Arc::downgrade(self), watch: Arc::downgrade(&watch), sightings, lost })
    }
}
