//! A room or a user followed on every node: who asks, who tells, and what is known of those that do not.
//!
//! The asker asks every node it hears of, and again before what it asked for runs out, so that nodes that come later tell, too,
//! and none goes on telling for an asker that has gone. Who tells sends what it has seen a batch at a time, with a pause
//! between two: neither the bus nor the asker can be flooded, and what does not fit is counted on either side
//! ([`Sight::Lost`](crate::Sight::Lost)), gaps on the bus included. A node tells of messages that came in through it; the asker's
//! own also of those that it hears of, and who follows gets each once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ecow::EcoString;
use outspoke_bus::NodeId;
use outspoke_protocol::{ClientId, Epoch, MessageId, Position, RoomName, Timestamp, UserId, decode_record};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Cluster;
use super::ask::Answered;
use super::envelope::{Envelope, FollowOf, Question, SightingWord};
use super::tell::record;
use crate::hub::{Hub, Inner};
use crate::trace::follow::{Follower, Following, Sighting, TooManyFollowers, Whose};

/// For how long a node tells without being asked again.
const LEASE: Duration = Duration::from_secs(20);
/// How often it is asked again, and nodes that were not heard of before are asked.
const RENEWAL: Duration = Duration::from_secs(5);
/// Sightings of other nodes that wait for one follower.
const WAITING_MAX: usize = 1024;
/// Sightings in one batch, and about so many bytes of messages.
const BATCH_MAX: usize = 64;
const BATCH_BYTES_MAX: usize = 128 * 1024;
/// The pause behind a batch.
const PAUSE: Duration = Duration::from_millis(20);
/// Messages that are known to have been told of.
const TOLD_MAX: usize = 4096;

/// Follows of this node's, and those of others that it tells of.
#[derive(Debug, Default)]
pub(super) struct Follows {
    next: AtomicU64,
    own: Mutex<HashMap<u64, Arc<Elsewhere>>>,
    /// Until when, by asker and number. Dropping one ends it. As many as there may be followers, and some that have ended.
    leases: Mutex<HashMap<(NodeId, u64), watch::Sender<Instant>>>,
}

/// Where the sightings of other nodes go.
#[derive(Debug)]
struct Elsewhere {
    sender: mpsc::Sender<(NodeId, Sighting)>,
    lost: AtomicU64,
    /// How many each node has sent.
    heard: Mutex<HashMap<NodeId, u64>>,
}

impl Elsewhere {
    fn take(&self, origin: NodeId, before: u64, words: &[SightingWord<'_>]) {
        let heard = lock(&self.heard).insert(origin, before + words.len() as u64);
        // One that begins anew counts anew.
        let missed = heard.filter(|_| before > 0).map_or(before, |heard| before.saturating_sub(heard));
        let mut lost = missed;
        for word in words {
            let kept = word.read().is_some_and(|sighting| self.sender.try_send((origin, sighting)).is_ok());
            lost += u64::from(!kept);
        }
        self.lost.fetch_add(lost, Ordering::Relaxed);
    }
}

impl Follows {
    /// Another node does not want to be told any more.
    pub(super) fn give_up(&self, asker: NodeId, follow: u64) {
        lock(&self.leases).remove(&(asker, follow));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which nodes tell a follower what they see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coverage {
    /// They do; this one is the first.
    pub telling: Vec<NodeId>,
    /// They do not: with the reason that they gave, or without one if they did not answer within two seconds.
    pub silent: Vec<(NodeId, Option<EcoString>)>,
}

/// What a follower of all nodes is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Told {
    /// This node has seen that.
    Seen(NodeId, Box<Sighting>),
    /// Other nodes tell than before.
    Coverage(Coverage),
}

/// Somebody who watches on all nodes. Dropping it ends that, on all of them.
#[derive(Debug)]
pub struct WideFollower {
    hub: Weak<Inner>,
    id: u64,
    node: NodeId,
    here: Follower,
    elsewhere: Arc<Elsewhere>,
    sightings: mpsc::Receiver<(NodeId, Sighting)>,
    coverage: watch::Receiver<Coverage>,
    told: Recent,
}

impl WideFollower {
    /// Which nodes tell at the moment.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        self.coverage.borrow().clone()
    }

    /// What comes next; `None`: the hub stops.
    ///
    /// # Cancel safety
    /// Cancel safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if self.sightings.is_empty()
                && let Some(lost) = Sighting::lost(self.elsewhere.lost.swap(0, Ordering::Relaxed))
            {
                return Some(Told::Seen(self.node, Box::new(lost)));
            }
            let (node, sighting) = tokio::select! {
                sighting = self.here.next() => (self.node, sighting?),
                Some(seen) = self.sightings.recv() => seen,
                Ok(()) = self.coverage.changed() => {
                    return Some(Told::Coverage(self.coverage.borrow_and_update().clone()));
                }
            };
            if sighting.id.is_none_or(|id| self.told.is_new(id)) {
                return Some(Told::Seen(node, Box::new(sighting)));
            }
        }
    }
}

impl Drop for WideFollower {
    fn drop(&mut self) {
        let Some(hub) = self.hub.upgrade() else { return };
        let Some(cluster) = &hub.cluster else { return };
        lock(&cluster.follows.own).remove(&self.id);
        for node in cluster.nodes.ids() {
            cluster.say_to_node(node, &Envelope::Unfollow(self.id));
        }
    }
}

/// The last messages that were told of.
#[derive(Debug, Default)]
struct Recent {
    known: HashSet<MessageId>,
    order: VecDeque<MessageId>,
}

impl Recent {
    fn is_new(&mut self, id: MessageId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > TOLD_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Hub {
    /// As [`follow`](Self::follow), on all nodes: each that is heard of is asked at once, which takes two seconds where one does not
    /// answer, and those that come later within five. Which of them tell, [`WideFollower::coverage`] says. `user`: who follows, if
    /// that is not the application but a user with a credential of the user's own; some places are not for those, and each has few.
    ///
    /// # Errors
    /// There are as many followers of this node as there may be, or the hub stops.
    ///
    /// # Cancel safety
    /// Dropping the future ends it.
    pub async fn follow_everywhere(
        &self,
        of: Following,
        payload: bool,
        user: Option<&UserId>,
    ) -> Result<WideFollower, TooManyFollowers> {
        let hub = &self.inner;
        let whose = user.map_or(Whose::Application, |user| Whose::User(user.clone()));
        let here = self.follow_for(of.clone(), payload, whose)?;
        let (sender, sightings) = mpsc::channel(WAITING_MAX);
        let elsewhere = Arc::new(Elsewhere { sender, lost: AtomicU64::new(0), heard: Mutex::default() });
        let (changes, coverage) = watch::channel(Coverage { telling: vec![hub.life], silent: Vec::new() });
        let mut follower = WideFollower {
            hub: Arc::downgrade(hub),
            id: 0,
            node: hub.life,
            here,
            elsewhere: Arc::clone(&elsewhere),
            sightings,
            coverage,
            told: Recent::default(),
        };
        let Some(cluster) = &hub.cluster else { return Ok(follower) };
        follower.id = cluster.follows.next.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&cluster.follows.own).insert(follower.id, elsewhere);
        let wanted = Wanted { follow: follower.id, tenant: self.tenant.name.clone(), of, payload };
        changes.send_replace(cluster.ask_to_tell(&wanted).await);
        follower.coverage.mark_unchanged();
        tokio::spawn(wanted.keep(Arc::downgrade(hub), changes));
        Ok(follower)
    }
}

/// What is asked for.
struct Wanted {
    follow: u64,
    tenant: EcoString,
    of: Following,
    payload: bool,
}

impl Wanted {
    /// Asks again and again, until nobody is told any more.
    async fn keep(self, hub: Weak<Inner>, changes: watch::Sender<Coverage>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                () = changes.closed() => return,
            }
            let Some(hub) = hub.upgrade() else { return };
            let Some(cluster) = &hub.cluster else { return };
            let now = cluster.ask_to_tell(&self).await;
            changes.send_if_modified(|coverage| {
                let differs = *coverage != now;
                *coverage = now;
                differs
            });
        }
    }
}

impl Cluster {
    /// Asks every node to tell, or to go on.
    async fn ask_to_tell(&self, wanted: &Wanted) -> Coverage {
        let (room, user) = match &wanted.of {
            Following::Room(room) => (Some(room.as_str()), None),
            Following::User(user) => (None, Some(user.as_str())),
        };
        let (follow, payload) = (wanted.follow, wanted.payload);
        let question = FollowOf { follow, tenant: &wanted.tenant, room, user, payload };
        let mut coverage = Coverage { telling: vec![self.node()], silent: Vec::new() };
        for (node, answer) in self.ask_each(Question::Follow(question)).await {
            match answer {
                Some(Answered::Done) => coverage.telling.push(node),
                Some(Answered::Refused(why)) => coverage.silent.push((node, Some(why.into()))),
                _ => coverage.silent.push((node, None)),
            }
        }
        // In no order otherwise, and an order that changes is no change.
        coverage.telling[1..].sort_unstable();
        coverage.silent.sort_unstable();
        coverage
    }

    /// Another node wants to be told. `None`: it does not say of what.
    pub(super) fn hear_follow(
        &self,
        hub: &Arc<Inner>,
        asker: NodeId,
        wanted: FollowOf<'_>,
    ) -> Option<Result<(), TooManyFollowers>> {
        let of = match (wanted.room, wanted.user) {
            (Some(room), None) => Following::Room(RoomName::new(room, usize::MAX).ok()?),
            (None, Some(user)) => Following::User(UserId::new(user)),
            _ => return None,
        };
        let (place, until) = ((asker, wanted.follow), Instant::now() + LEASE);
        let mut leases = lock(&self.follows.leases);
        leases.retain(|_, lease| !lease.is_closed());
        if leases.get(&place).is_some_and(|lease| lease.send(until).is_ok()) {
            return Some(Ok(()));
        }
        let follower = match hub.watch(wanted.tenant.into(), of, wanted.payload, Whose::Node) {
            Ok(follower) => follower,
            Err(full) => return Some(Err(full)),
        };
        let (lease, lasting) = watch::channel(until);
        leases.insert(place, lease);
        tokio::spawn(tell(Arc::downgrade(hub), place, follower, lasting));
        Some(Ok(()))
    }

    /// Another node has seen something for one of this node's followers.
    pub(super) fn hear_seen(&self, origin: NodeId, follow: u64, before: u64, words: &[SightingWord<'_>]) {
        let elsewhere = lock(&self.follows.own).get(&follow).cloned();
        match elsewhere {
            Some(elsewhere) => elsewhere.take(origin, before, words),
            // It has gone meanwhile.
            None => self.say_to_node(origin, &Envelope::Unfollow(follow)),
        }
    }
}

/// Tells another node what is seen here, until it does not ask any more.
async fn tell(
    hub: Weak<Inner>,
    (asker, follow): (NodeId, u64),
    mut follower: Follower,
    mut lease: watch::Receiver<Instant>,
) {
    let mut before = 0;
    loop {
        let first = tokio::select! {
            sighting = follower.next() => sighting,
            () = over(&mut lease) => None,
        };
        let Some(first) = first else { return };
        let mut batch = vec![(record_of(&first), first)];
        let mut bytes = batch[0].0.len();
        while batch.len() < BATCH_MAX
            && bytes < BATCH_BYTES_MAX
            && let Some(more) = follower.try_next()
        {
            let record = record_of(&more);
            bytes += record.len();
            batch.push((record, more));
        }
        let Some(hub) = hub.upgrade() else { return };
        let Some(cluster) = &hub.cluster else { return };
        let sightings = batch.iter().map(|(record, sighting)| SightingWord::of(sighting, record)).collect();
        cluster.say_to_node(asker, &Envelope::Seen { follow, before, sightings });
        before += batch.len() as u64;
        drop(hub);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until a lease has run out, or was given up.
async fn over(lease: &mut watch::Receiver<Instant>) {
    loop {
        let until = *lease.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(until) => return,
            longer = lease.changed() => if longer.is_err() { return },
        }
    }
}

/// The message, if what it says is wanted.
fn record_of(sighting: &Sighting) -> Vec<u8> {
    sighting.message.as_deref().map(record).unwrap_or_default()
}

impl<'a> SightingWord<'a> {
    fn of(sighting: &'a Sighting, record: &'a [u8]) -> Self {
        let place = |position: Position| (position.epoch.as_u64(), position.offset);
        Self {
            sight: sighting.sight,
            at: sighting.at.as_millis(),
            room: sighting.room.as_ref().map(RoomName::as_str),
            user: sighting.user.as_ref().map(UserId::as_str),
            client: sighting.client.map(ClientId::as_u128),
            device: &sighting.device,
            offset: sighting.offset,
            after: sighting.after,
            count: sighting.count,
            code: sighting.code,
            reason: sighting.reason.as_deref(),
            policy: sighting.policy.as_deref(),
            queued_bytes: sighting.queued_bytes,
            id: sighting.id.map(MessageId::as_u128),
            kind: sighting.kind.as_deref(),
            message: sighting.message.as_ref().map(|message| (message.position.map(place), record)),
        }
    }

    /// `None` for what another node cannot have seen.
    fn read(&self) -> Option<Sighting> {
        let room = self.room.map(|room| RoomName::new(room, usize::MAX)).transpose().ok()?;
        let message = match self.message {
            Some((place, record)) => {
                let (epoch, offset) = place.unwrap_or_default();
                let position = Position { epoch: Epoch::from_u64(epoch), offset };
                let mut message = decode_record(record, room.clone()?, position).ok()?;
                message.position = place.map(|_| position);
                Some(Box::new(message))
            }
            None => None,
        };
        Some(Sighting {
            room,
            user: self.user.map(UserId::new),
            client: self.client.map(ClientId::from_u128),
            device: self.device.into(),
            offset: self.offset,
            after: self.after,
            count: self.count,
            code: self.code,
            reason: self.reason.map(Into::into),
            policy: self.policy.map(Into::into),
            queued_bytes: self.queued_bytes,
            id: self.id.map(MessageId::from_u128),
            kind: self.kind.map(Into::into),
            message,
            ..Sighting::new(self.sight, Timestamp::from_millis(self.at))
        })
    }
}
