//! Questions to other nodes and their answers; what an operator asks of the whole cluster.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use outspoke_bus::NodeId;
use outspoke_protocol::{Body, ClientId, Disconnect, Kind, Message, MessageId, UserId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::envelope::{AccountOf, Envelope, Question, Reply, RouteWord};
use super::tell::record;
use super::{Cluster, NodeInfo};
use crate::client::Client;
use crate::drain::DrainOrder;
use crate::error::{PublishError, PushError};
use crate::hub::{Frame, Hub, Inner};
use crate::trace::explain::Account;
use crate::trace::look::SlowDown;

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long a node that pings all others may take.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether what was asked for is there.
const LOOK: Duration = Duration::from_millis(10);
/// Questions without an answer so far: more are not asked.
const OPEN_MAX: usize = 10_000;

/// Answers to one question that wait to be looked at: one is wanted.
const ANSWERS_MAX: usize = 16;

/// Questions that wait for answers.
#[derive(Debug, Default)]
pub(super) struct Asks {
    next: AtomicU64,
    open: Mutex<HashMap<u64, mpsc::Sender<(NodeId, Answered)>>>,
}

/// An answer, as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answered {
    Pong(i64),
    Checked(Vec<RouteWord>),
    Done,
    Count(u64),
    Refused(String),
    Said(Vec<(u128, bool)>),
    Account(Box<Account>),
    Program(Vec<u8>),
}

impl From<Reply<'_>> for Answered {
    fn from(reply: Reply<'_>) -> Self {
        match reply {
            Reply::Pong(at) => Self::Pong(at),
            Reply::Checked(routes) => Self::Checked(routes),
            Reply::Done => Self::Done,
            Reply::Count(count) => Self::Count(count),
            Reply::Refused(why) => Self::Refused(why.to_owned()),
            Reply::Said(clients) => Self::Said(clients),
            Reply::Account(account) => Self::Account(account),
            Reply::Program(answer) => Self::Program(answer.to_vec()),
        }
    }
}

/// How one node reaches another over the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Route {
    /// The other node.
    pub to: NodeId,
    /// There and back; `None`: there was no answer within two seconds.
    pub round_trip: Option<Duration>,
    /// How far its clock is ahead of the asking node's, in milliseconds, as exactly as half of the round trip.
    pub clock_ahead: i64,
}

/// What one node found when it pinged every other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeChecks {
    /// The node that pinged.
    pub from: NodeId,
    /// What it found; `None`: it did not answer.
    pub routes: Option<Vec<Route>>,
}

/// A question that is forgotten when nobody waits for its answers any more.
struct Open<'a> {
    asks: &'a Asks,
    id: u64,
    answers: mpsc::Receiver<(NodeId, Answered)>,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.asks.lock().remove(&self.id);
    }
}

impl Asks {
    fn open(&self) -> Option<Open<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answers) = mpsc::channel(ANSWERS_MAX);
        let mut open = self.lock();
        if open.len() >= OPEN_MAX {
            return None;
        }
        open.insert(id, sender);
        drop(open);
        Some(Open { asks: self, id, answers })
    }

    /// An answer has come; nobody may wait for it any more.
    pub(super) fn answer(&self, id: u64, node: NodeId, reply: Reply<'_>) {
        if let Some(sender) = self.lock().get(&id) {
            // More than fit are more than were asked for.
            let _ = sender.try_send((node, reply.into()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<(NodeId, Answered)>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    pub(super) async fn ask(
        &self,
        node: NodeId,
        question: Question<'_>,
        patience: Duration,
    ) -> Option<Answered> {
        let mut open = self.asks.open()?;
        self.say_to_node(node, &Envelope::Ask(open.id, question));
        let answer = tokio::time::timeout(patience, async {
            // Only the node that was asked is believed.
            while let Some((from, answer)) = open.answers.recv().await {
                if from == node {
                    return Some(answer);
                }
            }
            None
        });
        answer.await.ok().flatten()
    }

    /// Asks every node that is known; those that do not answer in time are left out.
    async fn ask_all(&self, question: Question<'_>, patience: Duration) -> Vec<(NodeId, Answered)> {
        let asks =
            self.nodes.ids().into_iter().map(|node| async move {
                self.ask(node, question, patience).await.map(|answer| (node, answer))
            });
        futures_util::future::join_all(asks).await.into_iter().flatten().collect()
    }

    /// Asks every node for a number; those that do not answer in time have none.
    async fn count(&self, question: Question<'_>) -> usize {
        let answers = self.ask_all(question, PATIENCE).await;
        let count = |(_, answer): &(NodeId, Answered)| match answer {
            Answered::Count(count) => usize::try_from(*count).unwrap_or(usize::MAX),
            _ => 0,
        };
        answers.iter().map(count).fold(0, usize::saturating_add)
    }

    /// Asks every node; `None` for those that did not answer in time.
    pub(super) async fn ask_each(&self, question: Question<'_>) -> Vec<(NodeId, Option<Answered>)> {
        let asks = self.nodes.ids().into_iter();
        let asks = asks.map(|node| async move { (node, self.ask(node, question, PATIENCE).await) });
        futures_util::future::join_all(asks).await
    }

    /// Asks every node what it knows of a message; `None` for those that did not answer in time.
    pub(crate) async fn accounts(&self, question: AccountOf<'_>) -> Vec<(NodeId, Option<Account>)> {
        let answers = self.ask_each(Question::Account(question)).await.into_iter();
        let account = |answer| match answer {
            Some(Answered::Account(account)) => Some(*account),
            _ => None,
        };
        answers.map(|(node, answer)| (node, account(answer))).collect()
    }

    /// Lets the node that has this client slow it down: the first that says that it has it counts.
    pub(crate) async fn slow_down(&self, tenant: &str, client: ClientId, lasting: Duration) -> SlowDown {
        let lasting_ms = u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX);
        let question = Question::Slow { tenant, client: client.as_u128(), lasting_ms };
        let asks = self.nodes.ids().into_iter();
        let asks = asks.map(|node| async move { (node, self.ask(node, question, PATIENCE).await) });
        let mut answers = asks.collect::<FuturesUnordered<_>>();
        let mut silent = Vec::new();
        while let Some((node, answer)) = answers.next().await {
            match answer {
                Some(Answered::Done) => return SlowDown::Done(node),
                Some(Answered::Refused(_)) => return SlowDown::NotPermitted(node),
                Some(_) => {}
                None => silent.push(node),
            }
        }
        SlowDown::NotFound { silent }
    }

    /// Pings every node.
    pub(super) async fn check(&self, hub: &Inner) -> Vec<RouteWord> {
        let pings = self.nodes.ids().into_iter().map(|node| async move {
            let (begun, sent) = (Instant::now(), hub.now().as_millis());
            let answer = self.ask(node, Question::Ping, PATIENCE).await;
            let took = begun.elapsed();
            match answer {
                Some(Answered::Pong(at)) => RouteWord {
                    to: node.as_u128(),
                    round_trip: u64::try_from(took.as_micros()).ok(),
                    clock: at - sent - (took / 2).as_millis() as i64,
                },
                _ => RouteWord { to: node.as_u128(), round_trip: None, clock: 0 },
            }
        });
        futures_util::future::join_all(pings).await
    }

    pub(super) fn reply(&self, to: NodeId, id: u64, reply: Reply<'_>) {
        self.say_to_node(to, &Envelope::Answer(id, reply));
    }
}

impl Hub {
    /// Lets every node of the cluster ping every other over the bus. Empty for a hub that is on its own.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the answers.
    pub async fn check_cluster(&self) -> Vec<NodeChecks> {
        let Some(cluster) = &self.inner.cluster else { return Vec::new() };
        let own = async { cluster.check(&self.inner).await };
        let (own, others) = tokio::join!(own, cluster.ask_all(Question::Check, CHECK_PATIENCE));
        let mut checks =
            vec![NodeChecks { from: cluster.node(), routes: Some(own.iter().map(Route::from).collect()) }];
        for node in cluster.nodes.ids() {
            let found = others.iter().find(|(from, _)| *from == node);
            let routes = match found {
                Some((_, Answered::Checked(routes))) => Some(routes.iter().map(Route::from).collect()),
                _ => None,
            };
            checks.push(NodeChecks { from: node, routes });
        }
        checks
    }

    /// The node of that name or id.
    #[must_use]
    pub fn node(&self, name_or_id: &str) -> Option<NodeInfo> {
        let named = |node: &NodeInfo| node.name == name_or_id || node.id.to_string() == name_or_id;
        self.nodes().into_iter().find(named)
    }

    /// Lets a node take no new clients and send those it has away, or take clients again. Returns whether it has
    /// understood; `false` for a hub that is on its own and asked for another node than itself.
    ///
    /// # Cancel safety
    /// The order is given when this is first polled.
    pub async fn drain_node(&self, node: NodeId, drain: bool) -> bool {
        if node == self.inner.life {
            self.drain(drain);
            return true;
        }
        let Some(cluster) = &self.inner.cluster else { return false };
        let answer = cluster.ask(node, Question::Drain(drain), PATIENCE).await;
        answer == Some(Answered::Done)
    }

    /// Lets a node [drain](Self::drain_as) as this order says. Returns whether it has understood, which a node of a version
    /// without such orders does not, unless the order is plain.
    ///
    /// # Cancel safety
    /// The order is given when this is first polled.
    pub async fn drain_node_as(&self, node: NodeId, order: &DrainOrder) -> bool {
        if order.is_plain() {
            return self.drain_node(node, true).await;
        }
        if node == self.inner.life {
            self.drain_as(order);
            return true;
        }
        let Some(cluster) = &self.inner.cluster else { return false };
        let question = Question::DrainAs {
            batch: order.batch.map(|batch| batch as u64),
            interval_ms: order.interval.map(|interval| interval.as_millis() as u64),
            target: order.target.as_deref(),
        };
        cluster.ask(node, question, PATIENCE).await == Some(Answered::Done)
    }

    /// Connections of a user on all nodes.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn devices_everywhere(&self, user: &UserId) -> usize {
        self.devices(user, None, None, "").await
    }

    /// Ends every connection of a user, on all nodes. Returns how many there were, as far as nodes answered within two seconds.
    ///
    /// # Cancel safety
    /// The order is given when this is first polled.
    pub async fn disconnect_everywhere(&self, user: &UserId, disconnect: Disconnect, reason: &str) -> usize {
        self.devices(user, None, Some(disconnect), reason).await
    }

    /// As [`disconnect_everywhere`](Self::disconnect_everywhere), for one of the user's devices.
    ///
    /// # Cancel safety
    /// The order is given when this is first polled.
    pub async fn disconnect_device_everywhere(
        &self,
        user: &UserId,
        device: &str,
        disconnect: Disconnect,
        reason: &str,
    ) -> usize {
        self.devices(user, Some(device), Some(disconnect), reason).await
    }

    async fn devices(
        &self,
        user: &UserId,
        device: Option<&str>,
        disconnect: Option<Disconnect>,
        reason: &str,
    ) -> usize {
        let here = match self.devices_here(user, device, disconnect, reason) {
            // Users who are nobody in particular are in no index; only this node looks through all clients for them.
            0 => disconnect.map_or(0, |disconnect| {
                let clients = self.list_clients(Some(user.as_str()), None, usize::MAX - 1).items;
                self.end(clients, device, disconnect, reason)
            }),
            here => here,
        };
        let Some(cluster) = &self.inner.cluster else { return here };
        let tenant = &*self.tenant.name;
        let code = disconnect.map(|disconnect| disconnect.code());
        let question = Question::Devices { tenant, user: user.as_str(), device, disconnect: code, reason };
        here + cluster.count(question).await
    }

    /// Connections of a user on this node, which end if a reason is given.
    pub(super) fn devices_here(
        &self,
        user: &UserId,
        device: Option<&str>,
        disconnect: Option<Disconnect>,
        reason: &str,
    ) -> usize {
        let devices = self.inner.registry.devices(&self.tenant.name, user);
        match disconnect {
            None => devices.len(),
            Some(disconnect) => self.end(devices, device, disconnect, reason),
        }
    }

    /// Ends the connections of a device, or all. Returns how many.
    fn end(
        &self,
        clients: Vec<std::sync::Arc<Client>>,
        device: Option<&str>,
        disconnect: Disconnect,
        reason: &str,
    ) -> usize {
        let meant =
            clients.iter().filter(|client| device.is_none_or(|device| client.identity().device == device));
        meant.filter(|client| self.disconnect_because(client.id(), disconnect, reason)).count()
    }

    /// Ends the connection of one of the tenant's clients, on whichever node it is. Returns whether a node had it, as far as
    /// nodes answered within two seconds.
    ///
    /// # Cancel safety
    /// The order is given when this is first polled.
    pub async fn disconnect_anywhere(&self, id: ClientId, disconnect: Disconnect, reason: &str) -> bool {
        let Some(cluster) = self.inner.cluster.as_ref().filter(|_| self.client(id).is_none()) else {
            return self.disconnect_here(id, disconnect, reason);
        };
        let (tenant, client) = (&*self.tenant.name, id.as_u128());
        cluster.count(Question::Client { tenant, client, disconnect: disconnect.code(), reason }).await > 0
    }

    /// Ends the connection of one of the tenant's clients, if it is here.
    pub(super) fn disconnect_here(&self, id: ClientId, disconnect: Disconnect, reason: &str) -> bool {
        let ours = self.client(id).is_some_and(|client| client.identity().tenant == self.tenant.name);
        ours && self.disconnect_because(id, disconnect, reason)
    }

    /// Sees to it that this node knows who is in a room on other nodes, where rooms of its class tell that. A room that this
    /// node does not have, and others do, is opened, and closed again after a while; that waits until its members are
    /// known, two seconds at most.
    ///
    /// # Errors
    /// The name is no room name, or there are as many rooms as there may be.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn look_for_members(&self, room: &str) -> Result<(), PublishError> {
        let name = self.inner.room_name(room)?;
        let class = self.inner.class_of(name.as_str());
        let Some(cluster) = self.inner.cluster.as_ref().filter(|_| class.presence || class.announce) else {
            return Ok(());
        };
        // What is here is told of by the others.
        if self.tenant.directory.get(name.as_str()).is_some() {
            return Ok(());
        }
        let there = cluster.count(Question::Members { tenant: &self.tenant.name, room: name.as_str() }).await;
        if there == 0 {
            return Ok(());
        }
        let room = self.tenant.directory.open(&self.inner, &name)?;
        self.inner.idle.put(&room, room.lingers());
        let known = async {
            while room.extent().0 < there {
                tokio::time::sleep(LOOK).await;
            }
        };
        // Some may have gone since they were counted.
        drop(tokio::time::timeout(PATIENCE, known).await);
        Ok(())
    }

    /// Sends a frame to one client, on whichever node it is, and waits until that node has queued it.
    ///
    /// # Errors
    /// See [`PushError`]; a client that no node has, or whose node does not answer within two seconds, is not found.
    ///
    /// # Cancel safety
    /// The frame is on its way when this is first polled.
    pub async fn push_anywhere(&self, id: ClientId, frame: &Frame) -> Result<(), PushError> {
        let here = self.push_here(id, frame);
        let (Err(PushError::ClientNotFound), Some(cluster)) = (&here, &self.inner.cluster) else {
            return here;
        };
        let Some(mut open) = cluster.asks.open() else { return Err(PushError::Overloaded) };
        cluster.push(id, frame, open.id);
        self.queued(&mut open).await
    }

    /// Sends a message to one client of the tenant, in its dialect and outside any room, on whichever node it is, and waits until
    /// that node has queued it.
    ///
    /// # Errors
    /// As [`push_anywhere`](Self::push_anywhere).
    ///
    /// # Cancel safety
    /// The message is on its way when this is first polled.
    pub async fn send_anywhere(&self, id: ClientId, kind: Kind, body: Body) -> Result<MessageId, PushError> {
        let message = self.message_outside_rooms(kind, body);
        if self.is_ours(id) {
            return self.send_message(id, message);
        }
        let Some(cluster) = &self.inner.cluster else { return Err(PushError::ClientNotFound) };
        let Some(mut open) = cluster.asks.open() else { return Err(PushError::Overloaded) };
        cluster.tell_client(id, &self.tenant.name, &message, open.id);
        self.queued(&mut open).await.map(|()| message.id)
    }

    /// Sends a message to every connection of a user, in their dialects and outside any room, on all nodes. Returns what became
    /// of it for each, as far as nodes answered within two seconds; nothing for a user who is not connected.
    ///
    /// # Cancel safety
    /// The message is on its way when this is first polled.
    pub async fn send_to_user_anywhere(
        &self,
        user: &UserId,
        kind: Kind,
        body: Body,
    ) -> Vec<(ClientId, Result<MessageId, PushError>)> {
        let message = self.message_outside_rooms(kind, body);
        let mut sent = self.send_to_user_here(user.as_str(), &message);
        let Some(cluster) = &self.inner.cluster else { return sent };
        let record = record(&message);
        let question = Question::Say { tenant: &self.tenant.name, user: user.as_str(), record: &record };
        for (_, answer) in cluster.ask_all(question, PATIENCE).await {
            let Answered::Said(clients) = answer else { continue };
            sent.extend(clients.into_iter().map(|(client, queued)| {
                let full = || PushError::SendBufferFull { queued: self.inner.config().outbox_bytes_max };
                (ClientId::from_u128(client), queued.then_some(message.id).ok_or_else(full))
            }));
        }
        sent
    }

    /// Sends a message to the connections that a user has on this node.
    pub(super) fn send_to_user_here(
        &self,
        user: &str,
        message: &Message,
    ) -> Vec<(ClientId, Result<MessageId, PushError>)> {
        let clients = self.list_clients(Some(user), None, usize::MAX - 1).items;
        clients.iter().map(|client| (client.id(), self.send_message(client.id(), message.clone()))).collect()
    }

    /// Whether the client is connected to this node, and the tenant's.
    pub(super) fn is_ours(&self, id: ClientId) -> bool {
        self.client(id).is_some_and(|client| client.identity().tenant == self.tenant.name)
    }

    /// Waits until another node has queued what it was sent for one of its clients.
    async fn queued(&self, open: &mut Open<'_>) -> Result<(), PushError> {
        match tokio::time::timeout(PATIENCE, open.answers.recv()).await {
            Ok(Some((_, Answered::Done))) => Ok(()),
            Ok(Some((_, Answered::Refused(_)))) => {
                Err(PushError::SendBufferFull { queued: self.inner.config().outbox_bytes_max })
            }
            _ => Err(PushError::ClientNotFound),
        }
    }
}

impl From<&RouteWord> for Route {
    fn from(word: &RouteWord) -> Self {
        Self {
            to: NodeId::from_u128(word.to),
            round_trip: word.round_trip.map(Duration::from_micros),
            clock_ahead: word.clock,
        }
    }
}
