//! What this node hears of the others, and what it does about it.
//!
//! One task for everything that is heard, so that what one node says of a room keeps its order; nothing in it waits. What
//! takes time (reading a store, asking others) is done beside it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use outspoke_bus::{LinkEvent, LinkEvents, NodeId, Topic};
use outspoke_protocol::{
    ClientId, Disconnect, Epoch, FrameKind, Message, Position, Publisher, RoomName, Typing, UserId,
    decode_record,
};

use super::Cluster;
use super::envelope::{BeatWord, Envelope, PlacedRef, Question, Reply};
use super::repair::{all_rooms, compare, everywhere, look_for_news, meet_soon};
use crate::direct::Pair;
use crate::drain::DrainOrder;
use crate::error::PushError;
use crate::hub::{Frame, Hub, Inner};
use crate::publication::Publication;
use crate::room::Room;
use crate::room::follow::{Placed, Source};
use crate::spans::TRACE_TARGET;
use crate::trace::explain::{Account, Asked};

/// How often, and how many times, it is looked whether shards have caught up before the next thing is heard.
const GIVE_WAY: (Duration, u32) = (Duration::from_millis(2), 50);

/// Hears until the bus is closed.
pub(super) async fn hear(hub: &Arc<Inner>, cluster: &Cluster, mut events: LinkEvents) {
    while let Some(event) = events.next().await {
        give_way(hub).await;
        match event {
            LinkEvent::Message { topic, origin, payload, .. } => match Envelope::decode(&payload) {
                Some(envelope) => Hearing { hub, cluster, topic: &topic, origin }.hear(envelope),
                None => count_garbage(cluster),
            },
            LinkEvent::Beat { origin, sent, payload } => match BeatWord::decode(&payload) {
                Some(word) => hear_beat(hub, cluster, origin, sent, word),
                None => count_garbage(cluster),
            },
            LinkEvent::Missed { topic, .. } => missed(hub, cluster, &topic),
            LinkEvent::Interrupted => {
                tracing::info!("the bus was away: rooms are compared with their stores");
                let rooms = all_rooms(hub);
                meet_soon(hub, rooms.clone());
                compare(hub, rooms);
                look_for_news(cluster);
                hub.rulings.doubt();
                hub.doubt_tenants();
            }
            _ => {}
        }
    }
}

/// Lets shards that are behind catch up: what is not heard meanwhile waits in the bus. Not for long, or the others would
/// seem to be silent.
async fn give_way(hub: &Inner) {
    for _ in 0..GIVE_WAY.1 {
        if !hub.congestion.is_congested() {
            return;
        }
        tokio::time::sleep(GIVE_WAY.0).await;
    }
}

fn count_garbage(cluster: &Cluster) {
    cluster.garbage.fetch_add(1, Ordering::Relaxed);
}

fn hear_beat(hub: &Arc<Inner>, cluster: &Cluster, origin: NodeId, sent: i64, word: BeatWord) {
    if word.leaving {
        if cluster.nodes.remove(origin) {
            tracing::info!(node = %origin, name = word.name, "a node has left");
            // Its clients are on their way to other nodes.
            everywhere(hub, |room| room.node_gone(hub, origin, true));
            cluster.repairs.miss_last_words();
        }
        return;
    }
    let (clients, name) = (word.clients, word.name.clone());
    if word.name == *cluster.options.name {
        tracing::warn!(node = %origin, name, "another node has this node's name: give each its own (cluster.name)");
    }
    if !cluster.nodes.hear(origin, word, sent, hub.now()) {
        return;
    }
    tracing::info!(node = %origin, name, "a node is heard of");
    // It learns of this one without waiting, and of what was decided.
    cluster.beat(hub, false);
    hub.rulings.doubt();
    // It may have been cut off for longer than its beats tell of.
    cluster.repairs.miss_last_words();
    hub.doubt_tenants();
    if clients > 0 {
        // It was there before: who is with it is not known any more.
        meet_soon(hub, all_rooms(hub));
    }
}

/// Something that another node has said was not heard.
fn missed(hub: &Arc<Inner>, cluster: &Cluster, topic: &Topic) {
    if *topic == cluster.direct {
        compare(hub, all_rooms(hub).into_iter().filter(|room| room.pair.is_some()).collect());
        look_for_news(cluster);
    } else if *topic == cluster.everybody || *topic == cluster.own {
        hub.rulings.doubt();
        if *topic == cluster.everybody {
            hub.doubt_tenants();
        }
    } else if let Some(room) = room_of(hub, topic) {
        room.meet(hub);
        room.doubt(hub);
    }
}

/// The room that a topic is of, if it is here.
pub(super) fn room_of(hub: &Inner, topic: &Topic) -> Option<Arc<Room>> {
    let (tenant, room) = topic.as_str().strip_prefix("room/")?.split_once('/')?;
    hub.tenants.find(tenant)?.directory.get(room)
}

/// One envelope, and where it came from.
struct Hearing<'a> {
    hub: &'a Arc<Inner>,
    cluster: &'a Cluster,
    topic: &'a Topic,
    origin: NodeId,
}

impl Hearing<'_> {
    fn hear(&self, envelope: Envelope<'_>) {
        let Self { hub, cluster, topic, origin } = *self;
        let _span = tracing::debug_span!(target: TRACE_TARGET, "bus hear", node = %origin).entered();
        match envelope {
            Envelope::Broadcast { tenant, binary, bytes } => {
                if let Some(tenant) = hub.tenants.find(tenant) {
                    let publication = Publication::frame(kind_of(binary), &Bytes::copy_from_slice(bytes));
                    tenant.everyone.tell(hub, &Arc::new(publication));
                }
            }
            Envelope::Announce { tenant, record } => self.hear_announcement(tenant, record),
            Envelope::Direct { tenant, room, placed, epoch } => {
                self.hear_direct(tenant, room, &placed, epoch)
            }
            Envelope::Claim { tenant, user, device, client } => {
                cluster.hear_claim(hub, tenant, user, device, client);
            }
            Envelope::Tenant(name) => hub.read_tenant_again(name),
            Envelope::Rulings(records) => hub.hear_told_rulings(&records),
            Envelope::PutOut { tenant, room, user } => {
                if let (Some(hub), Ok(room)) = (self.of(tenant), RoomName::new(room, usize::MAX)) {
                    // Nobody waits for it.
                    drop(hub.order_out(&room, &UserId::new(user)));
                }
            }
            Envelope::Digest(digest) => hub.hear_digest(cluster, origin, digest),
            Envelope::Push { binary, bytes, ask } => self.hear_push(binary, bytes, ask),
            Envelope::Tell { tenant, record, ask } => self.hear_tell(tenant, record, ask),
            Envelope::Ask(id, question) => self.hear_question(id, question),
            Envelope::Answer(id, reply) => cluster.asks.answer(id, origin, reply),
            Envelope::Seen { follow, before, sightings } => {
                cluster.hear_seen(origin, follow, before, &sightings);
            }
            Envelope::Unfollow(follow) => cluster.follows.give_up(origin, follow),
            // A room that has just ended here needs no news.
            of_room => {
                if let Some(room) = room_of(hub, topic) {
                    self.hear_of_room(&room, of_room);
                }
            }
        }
    }

    fn hear_of_room(&self, room: &Arc<Room>, envelope: Envelope<'_>) {
        let Self { hub, cluster, origin, .. } = *self;
        match envelope {
            Envelope::Placed(placed, epoch) => self.place(room, &placed, epoch),
            Envelope::Head { epoch, head } => room.hear_head(hub, Epoch::from_u64(epoch), head),
            Envelope::Void => room.forget_what_is_read(hub),
            Envelope::Said(record, target) => match message_of(room, record, 0, Epoch::from_u64(0)) {
                Some(message) => room.relay(hub, message, target),
                None => count_garbage(cluster),
            },
            Envelope::Arrived(seat, members) => room.guest_arrives(hub, origin, &seat, members),
            Envelope::Parted { client, exit, members } => {
                room.guest_parts(hub, origin, ClientId::from_u128(client), exit, members);
            }
            Envelope::Seats { begin, end, members, seats } => {
                room.guests_are(hub, origin, (begin, end), members, &seats);
            }
            Envelope::Who => {
                if room.members() > 0 {
                    cluster.tell_seats(room);
                }
            }
            Envelope::Typing { user, name, client, active } => {
                let Some(room_name) = room.name.clone() else { return };
                let from = Publisher {
                    user: UserId::new(user),
                    name: name.into(),
                    client: ClientId::from_u128(client),
                };
                let expires = hub.config().typing_timeout;
                room.tell_typing(hub, Typing { room: room_name, from, active, expires });
            }
            Envelope::Read { user, epoch, delivered, seen, ordinal } => {
                room.hear_read(hub, Epoch::from_u64(epoch), &UserId::new(user), (delivered, seen, ordinal));
            }
            Envelope::Renamed { client, name, former } => {
                room.guest_renamed(hub, origin, ClientId::from_u128(client), name, former);
            }
            _ => count_garbage(cluster),
        }
    }

    fn place(&self, room: &Arc<Room>, placed: &[PlacedRef<'_>], epoch: u64) {
        let epoch = Epoch::from_u64(epoch);
        if room.keeper.is_none() {
            return count_garbage(self.cluster);
        }
        match placed_of(room, placed, epoch) {
            Some(placed) => drop(room.place(self.hub, Source::Bus, epoch, placed)),
            None => count_garbage(self.cluster),
        }
    }

    /// A private message: the conversation is opened where one of the two has a device.
    fn hear_direct(&self, tenant: &str, name: &str, placed: &[PlacedRef<'_>], epoch: u64) {
        let hub = self.hub;
        let (Some(tenant), Some(pair)) = (hub.tenants.find(tenant), Pair::parse(name)) else { return };
        let Some(first) = placed.first() else { return };
        tenant.conversations.use_it();
        if let Some(room) = tenant.directory.get(name).filter(|room| room.is_known()) {
            return self.place(&room, placed, epoch);
        }
        if pair.users().all(|user| hub.registry.devices(&tenant.name, user).is_empty()) {
            return;
        }
        let room =
            RoomName::new(name, usize::MAX).ok().and_then(|name| tenant.directory.open(hub, &name).ok());
        if let Some(room) = room {
            hub.idle.put(&room, room.lingers());
            hub.open_for_devices(&room, first.offset.saturating_sub(1));
        }
    }

    fn hear_announcement(&self, tenant: &str, record: &[u8]) {
        let Some(tenant) = self.hub.tenants.find(tenant) else { return };
        let Some(message) = message_outside_rooms(record) else { return count_garbage(self.cluster) };
        let publication = Publication::message(message, self.hub.dialects.len());
        tenant.everyone.tell(self.hub, &Arc::new(publication));
    }

    fn hear_push(&self, binary: bool, bytes: &[u8], ask: u64) {
        let Some(client) = self.client() else { return count_garbage(self.cluster) };
        let frame = Frame { kind: kind_of(binary), bytes: Bytes::copy_from_slice(bytes) };
        self.answer_push(ask, Hub::from(Arc::clone(self.hub)).push_here(client, &frame));
    }

    fn hear_tell(&self, tenant: &str, record: &[u8], ask: u64) {
        let (Some(client), Some(message)) = (self.client(), message_outside_rooms(record)) else {
            return count_garbage(self.cluster);
        };
        let hub = self.of(tenant).filter(|hub| hub.is_ours(client));
        let sent = hub.map(|hub| hub.send_message(client, message).map(drop));
        self.answer_push(ask, sent.unwrap_or(Err(PushError::ClientNotFound)));
    }

    /// The client that the topic names.
    fn client(&self) -> Option<ClientId> {
        self.topic.as_str().strip_prefix("unicast/").and_then(|id| id.parse().ok())
    }

    fn answer_push(&self, ask: u64, outcome: Result<(), PushError>) {
        if ask == 0 {
            return;
        }
        match outcome {
            Ok(()) => self.cluster.reply(self.origin, ask, Reply::Done),
            // Not here any more; it may be somewhere else.
            Err(PushError::ClientNotFound) => {}
            Err(error) => self.cluster.reply(self.origin, ask, Reply::Refused(&error.to_string())),
        }
    }

    fn hear_question(&self, id: u64, question: Question<'_>) {
        let Self { hub, cluster, origin, .. } = *self;
        let hub_of_answer = Arc::downgrade(hub);
        match question {
            Question::Ping => cluster.reply(origin, id, Reply::Pong(hub.now().as_millis())),
            Question::Check => {
                let hub = Arc::clone(hub);
                tokio::spawn(async move {
                    if let Some(cluster) = &hub.cluster {
                        let routes = cluster.check(&hub).await;
                        cluster.reply(origin, id, Reply::Checked(routes));
                    }
                });
            }
            Question::Drain(drain) => {
                Hub::from(Arc::clone(hub)).drain(drain);
                cluster.reply(origin, id, Reply::Done);
            }
            Question::DrainAs { batch, interval_ms, target } => {
                let order = DrainOrder {
                    batch: batch.map(|batch| usize::try_from(batch).unwrap_or(usize::MAX)),
                    interval: interval_ms.map(Duration::from_millis),
                    target: target.map(Into::into),
                };
                Hub::from(Arc::clone(hub)).drain_as(&order);
                cluster.reply(origin, id, Reply::Done);
            }
            Question::Devices { tenant, user, device, disconnect, reason } => {
                let disconnect = disconnect.and_then(Disconnect::from_code);
                let count = self
                    .of(tenant)
                    .map_or(0, |hub| hub.devices_here(&UserId::new(user), device, disconnect, reason));
                cluster.reply(origin, id, Reply::Count(count as u64));
            }
            Question::Client { tenant, client, disconnect, reason } => {
                let client = ClientId::from_u128(client);
                let ended = |hub: Hub| {
                    Disconnect::from_code(disconnect)
                        .is_some_and(|why| hub.disconnect_here(client, why, reason))
                };
                cluster.reply(origin, id, Reply::Count(u64::from(self.of(tenant).is_some_and(ended))));
            }
            Question::Say { tenant, user, record } => {
                let Some(message) = message_outside_rooms(record) else { return count_garbage(cluster) };
                let sent =
                    self.of(tenant).map(|hub| hub.send_to_user_here(user, &message)).unwrap_or_default();
                let said = sent.iter().map(|(client, outcome)| (client.as_u128(), outcome.is_ok())).collect();
                cluster.reply(origin, id, Reply::Said(said));
            }
            Question::Slow { tenant, client, lasting_ms } => {
                let (of, client) = (self.of(tenant), ClientId::from_u128(client));
                tokio::spawn(async move {
                    let slowed = match of {
                        Some(hub) => hub.slow_down_here(client, Duration::from_millis(lasting_ms)).await,
                        None => None,
                    };
                    if let Some(hub) = hub_of_answer.upgrade()
                        && let Some(cluster) = &hub.cluster
                    {
                        cluster.reply(
                            origin,
                            id,
                            match slowed {
                                Some(true) => Reply::Done,
                                Some(false) => Reply::Refused("not permitted here"),
                                None => Reply::Count(0),
                            },
                        );
                    }
                });
            }
            Question::Follow(wanted) => match cluster.hear_follow(hub, origin, wanted) {
                Some(Ok(())) => cluster.reply(origin, id, Reply::Done),
                Some(Err(full)) => cluster.reply(origin, id, Reply::Refused(&full.to_string())),
                None => count_garbage(cluster),
            },
            Question::Program(question) => cluster.hear_program(hub, origin, id, question),
            Question::Account(inquiry) => {
                let of = self.of(inquiry.tenant);
                let asked = Asked::from(inquiry);
                tokio::spawn(async move {
                    let account = match of {
                        Some(hub) => hub.account(&asked).await,
                        None => Account::default(),
                    };
                    if let Some(hub) = hub_of_answer.upgrade()
                        && let Some(cluster) = &hub.cluster
                    {
                        cluster.reply(origin, id, Reply::Account(Box::new(account)));
                    }
                });
            }
            Question::Members { tenant, room } => {
                let room = hub.tenants.find(tenant).and_then(|tenant| tenant.directory.get(room));
                cluster.reply(origin, id, Reply::Count(room.map_or(0, |room| room.members() as u64)));
            }
        }
    }

    /// This node's hub for a tenant, if there is one of that name.
    fn of(&self, tenant: &str) -> Option<Hub> {
        self.hub.tenants.find(tenant).map(|tenant| Hub { inner: Arc::clone(self.hub), tenant })
    }
}

/// A message as it was, which is in no room.
fn message_outside_rooms(record: &[u8]) -> Option<Message> {
    let nowhere = RoomName::new("nowhere", usize::MAX).expect("it is a name");
    let position = Position { epoch: Epoch::from_u64(0), offset: 0 };
    let message = decode_record(record, nowhere, position).ok()?;
    Some(Message { room: None, position: None, ..message })
}

fn kind_of(binary: bool) -> FrameKind {
    if binary { FrameKind::Binary } else { FrameKind::Text }
}

fn placed_of(room: &Room, placed: &[PlacedRef<'_>], epoch: Epoch) -> Option<Vec<Placed>> {
    let placed = placed.iter().map(|placed| {
        let amended = match placed.amended {
            Some((target, record)) => Some(Box::new(message_of(room, record, target, epoch)?)),
            None => None,
        };
        let message = message_of(room, placed.record, placed.offset, epoch)?;
        Some(Placed { message, ordinal: placed.ordinal, amended, stored: None })
    });
    placed.collect()
}

fn message_of(room: &Room, record: &[u8], offset: u64, epoch: Epoch) -> Option<Message> {
    decode_record(record, room.name.clone()?, Position { epoch, offset }).ok()
}
