//! A cluster's nodes: which of them has which slot, and the connections to each.
//!
//! One task asks `CLUSTER SLOTS`, every so often and whenever a connection has trouble, and keeps a subscriber and a publisher for each
//! master; each connects again by itself. When slots move, their topics are asked for at the new node, and
//! [`Arrival::Interrupted`](crate::Arrival::Interrupted) follows. Batches are split by node; what fails, also because a slot has
//! moved (`MOVED`), fails the batch, whose repetition finds the new way.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::codec::{Channels, RedisCodec, SLOTS, slot};
use super::options::Target;
use super::resp::Value;
use super::server::{Server, ask};
use crate::Outgoing;
use crate::remote::{Condition, Interest, Lane, Pace, Part, Place, Publisher, Session, Subscriber, Tasks};

/// The cluster as it is known now.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    channels: Channels,
    map: watch::Receiver<Arc<Map>>,
    trouble: Arc<Notify>,
    pace: Pace,
}

/// Who has which slot.
#[derive(Default)]
pub(super) struct Map {
    /// An index into `roads` for each slot, when it is known.
    owners: Vec<Option<u16>>,
    roads: Vec<Road>,
}

/// The ways to one node.
#[derive(Clone)]
struct Road {
    publisher: Publisher,
    lane: Arc<Lane>,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("roads", &self.roads.len()).finish_non_exhaustive()
    }
}

impl Map {
    fn owner(&self, channel: &[u8]) -> Option<usize> {
        self.owners.get(usize::from(slot(channel)))?.map(usize::from)
    }
}

impl Cluster {
    /// Who publishes through it, and who keeps it.
    pub(super) fn new(
        target: Arc<Target>,
        channels: &Channels,
        interest: &Arc<Interest>,
        condition: &Condition,
        pace: Pace,
    ) -> (Self, Keeper) {
        let (sender, map) = watch::channel(Arc::default());
        let trouble = Arc::new(Notify::new());
        let cluster = Self { channels: channels.clone(), map, trouble: Arc::clone(&trouble), pace };
        let keeper = Keeper {
            server: Server::new(&target, channels, pace),
            target,
            channels: channels.clone(),
            interest: Arc::clone(interest),
            part: condition.part(),
            condition: condition.clone(),
            pace,
            trouble,
            map: sender,
            owners: Owners::new(),
            nodes: HashMap::new(),
            asked: None,
            next: 0,
        };
        (cluster, keeper)
    }

    /// Publishes a batch: each node its part, all at the same time.
    pub(super) async fn publish(&self, batch: &[Outgoing]) -> Result<(), String> {
        let map = self.known().await?;
        let published = self.publish_on(&map, batch).await;
        if published.is_err() {
            self.trouble.notify_one();
        }
        published
    }

    async fn publish_on(&self, map: &Map, batch: &[Outgoing]) -> Result<(), String> {
        let mut parts: BTreeMap<usize, BytesMut> = BTreeMap::new();
        for Outgoing { topic, payload } in batch {
            let channel = self.channels.of(topic);
            let owner = map.owner(&channel).ok_or("the cluster has no master for every slot")?;
            self.channels.publish(&channel, payload, parts.entry(owner).or_default());
        }
        let parts = parts.into_iter().map(|(owner, bytes)| map.roads[owner].publisher.publish(bytes));
        // Every part is sent, also when another fails: each is a try of its own.
        join_all(parts).await.into_iter().collect()
    }

    /// The map; at the very beginning it takes a moment.
    async fn known(&self) -> Result<Arc<Map>, String> {
        let mut map = self.map.clone();
        let known = timeout(self.pace.limit, map.wait_for(|map| !map.roads.is_empty())).await;
        match known {
            Ok(Ok(map)) => Ok(Arc::clone(&map)),
            _ => Err("the cluster's nodes are not known yet".to_owned()),
        }
    }
}

/// Slots from here on belong to that master.
type Owners = Vec<(u16, u16, Place)>;

/// Keeps the map right.
pub(super) struct Keeper {
    target: Arc<Target>,
    server: Server,
    channels: Channels,
    interest: Arc<Interest>,
    condition: Condition,
    part: Part,
    pace: Pace,
    trouble: Arc<Notify>,
    map: watch::Sender<Arc<Map>>,
    /// As it was when the map was made.
    owners: Owners,
    nodes: HashMap<Place, Node>,
    /// The node that is asked, and the connection for that.
    asked: Option<(Place, Session<RedisCodec>)>,
    /// Which one is asked when that fails.
    next: usize,
}

struct Node {
    road: Road,
    /// They end with the node.
    tasks: Tasks,
    /// Whether there is a subscriber yet.
    hears: bool,
}

impl Keeper {
    pub(super) async fn run(mut self) {
        loop {
            match self.discover().await {
                Ok(owners) => self.apply(owners),
                Err(error) => self.part.wrong(&error),
            }
            tokio::select! {
                () = self.trouble.notified() => {
                    // One node's word may be old: the next question goes to another.
                    self.asked = None;
                    sleep(self.pace.interval() / 4).await;
                }
                () = sleep(self.pace.limit) => {}
            }
        }
    }

    /// Asks node after node until one answers.
    async fn discover(&mut self) -> Result<Owners, String> {
        let mut places: Vec<Place> = self.target.places.iter().chain(self.nodes.keys()).cloned().collect();
        places.sort_unstable_by_key(Place::to_string);
        places.dedup();
        let mut error = String::new();
        for _ in 0..places.len() {
            let (place, session) = match self.asked.take() {
                Some((place, session)) => (place, Some(session)),
                None => {
                    self.next += 1;
                    (places[self.next % places.len()].clone(), None)
                }
            };
            let answer = timeout(self.pace.interval(), ask_for_slots(&self.server, &place, session)).await;
            match answer.unwrap_or_else(|_| Err(format!("did not answer within {:?}", self.pace.interval())))
            {
                Ok((owners, session)) => {
                    self.asked = Some((place, session));
                    return Ok(owners);
                }
                Err(failed) => {
                    error = format!("the Redis cluster cannot be asked for its slots: {place}: {failed}")
                }
            }
        }
        Err(error)
    }

    fn apply(&mut self, owners: Owners) {
        if owners != self.owners {
            let map = Arc::new(self.map_of(&owners));
            let (known, channels) = (Arc::clone(&map), self.channels.clone());
            self.interest.reroute(Arc::new(move |topic| {
                known.owner(&channels.of(topic)).map(|owner| Arc::clone(&known.roads[owner].lane))
            }));
            // Only now: they begin with the topics that lead to them.
            self.hear();
            tracing::info!(masters = map.roads.len(), "the Redis cluster's slots are known");
            self.map.send_replace(map);
            self.nodes.retain(|place, _| owners.iter().any(|(_, _, owner)| owner == place));
            self.owners = owners;
        }
        // Subscriptions that a node has ended by itself wait for this.
        self.interest.look_again();
        let covered: u32 = self.owners.iter().map(|(from, to, _)| u32::from(to - from) + 1).sum();
        match covered == u32::from(SLOTS) {
            true => self.part.well(),
            false => self.part.wrong("the Redis cluster has no master for every slot"),
        }
    }

    fn map_of(&mut self, owners: &Owners) -> Map {
        let mut map = Map { owners: vec![None; usize::from(SLOTS)], roads: Vec::new() };
        let mut indices: HashMap<&Place, u16> = HashMap::new();
        for (from, to, place) in owners {
            let index = *indices.entry(place).or_insert_with(|| {
                map.roads.push(self.road(place));
                u16::try_from(map.roads.len() - 1).expect("there are fewer masters than slots")
            });
            map.owners[usize::from(*from)..=usize::from(*to)].fill(Some(index));
        }
        map
    }

    /// The ways to a node; begins to connect if there are none.
    fn road(&mut self, place: &Place) -> Road {
        if let Some(node) = self.nodes.get(place) {
            return node.road.clone();
        }
        let server = self.server.at(place, &self.trouble);
        let (publisher, publishing) = Publisher::start(server, self.condition.part(), self.pace);
        let road = Road { publisher, lane: Arc::default() };
        let node = Node { road: road.clone(), tasks: Tasks::new([publishing]), hears: false };
        self.nodes.insert(place.clone(), node);
        road
    }

    /// Begins to hear from nodes that are new.
    fn hear(&mut self) {
        for (place, node) in self.nodes.iter_mut().filter(|(_, node)| !node.hears) {
            let server = self.server.at(place, &self.trouble);
            let part = self.condition.part();
            node.tasks.add(Subscriber::start(server, &self.interest, &node.road.lane, part, self.pace));
            node.hears = true;
        }
    }
}

/// Asks a node, on a connection that is there already or a new one.
async fn ask_for_slots(
    server: &Server,
    place: &Place,
    session: Option<Session<RedisCodec>>,
) -> Result<(Owners, Session<RedisCodec>), String> {
    let mut session = match session {
        Some(session) => session,
        None => server.log_in(place).await?,
    };
    let owners = ask(&mut session, &[b"CLUSTER", b"SLOTS"], |value| owners(value, place)).await?;
    let owners = owners.ok_or("its answer is not understood")?;
    if owners.is_empty() {
        Err("it knows no slots: is the cluster made yet?".to_owned())
    } else {
        Ok((owners, session))
    }
}

/// Understands `CLUSTER SLOTS`, sorted. A node that does not know its own name means the one that was asked.
fn owners(value: &Value<'_>, asked: &Place) -> Option<Owners> {
    let range = |value: &Value<'_>| {
        let [from, to, master, ..] = value.array()? else { return None };
        let (from, to) = (u16::try_from(from.int()?).ok()?, u16::try_from(to.int()?).ok()?);
        let [host, port, ..] = master.array()? else { return None };
        let host = match host.text() {
            None | Some(b"" | b"?") => asked.host.clone(),
            Some(host) => String::from_utf8(host.to_vec()).ok()?,
        };
        let port = u16::try_from(port.int()?).ok()?;
        (from <= to && to < SLOTS).then_some((from, to, Place { host, port }))
    };
    let mut owners = value.array()?.iter().map(range).collect::<Option<Owners>>()?;
    owners.sort_unstable_by_key(|&(from, ..)| from);
    Some(owners)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::redis::resp::parse;

    #[test]
    fn slots_are_read_with_their_masters() {
        let wire =
            b"*2\r\n*4\r\n:100\r\n:16383\r\n*3\r\n$1\r\nb\r\n:7\r\n$2\r\nid\r\n*2\r\n$1\r\nc\r\n:8\r\n\
            *3\r\n:0\r\n:99\r\n*2\r\n$-1\r\n:6\r\n";
        let place = |host: &str, port| Place { host: host.to_owned(), port };
        let (value, _) = parse(wire).unwrap().unwrap();
        let expected = vec![(0, 99, place("a", 6)), (100, 16383, place("b", 7))];
        assert_eq!(owners(&value, &place("a", 1)).unwrap(), expected);
        for wire in
            [&b"*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:6\r\n"[..], b"+OK\r\n", b"*1\r\n*1\r\n:0\r\n"]
        {
            let (value, _) = parse(wire).unwrap().unwrap();
            assert_eq!(owners(&value, &place("a", 1)), None);
        }
    }
}
