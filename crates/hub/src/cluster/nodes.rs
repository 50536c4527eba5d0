//! The other nodes, as far as they are heard of.
//!
//! A node that has not been heard for two of its beats, and a moment, is gone: its clients are in no room any more. One
//! that says goodbye is gone at once. Ids are never used again, so a node that was taken for gone and is heard again is there
//! again, and says who is with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ecow::EcoString;
use outspoke_bus::NodeId;
use outspoke_protocol::Timestamp;
use tokio::time::Instant;

use super::envelope::BeatWord;
use crate::affinity::prefer;

/// Nodes that are remembered: more are not listened to.
const NODES_MAX: usize = 1024;
/// Longest time between beats that is believed.
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// Texts of a beat are cut to so many characters.
const TEXT_CHARS_MAX: usize = 256;

/// Everybody but this node.
#[derive(Debug, Default)]
pub(super) struct Nodes(Mutex<BTreeMap<NodeId, Heard>>);

#[derive(Clone, Debug)]
struct Heard {
    word: BeatWord,
    at: Instant,
    /// How far its clock is ahead of ours, in milliseconds, the time on the way included.
    ahead: i64,
}

impl Heard {
    /// How often it wants to be heard.
    fn interval(&self) -> Duration {
        Duration::from_millis(self.word.interval).min(INTERVAL_MAX)
    }
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// This life of it.
    pub id: NodeId,
    /// Its configured name.
    pub name: String,
    /// Of the program.
    pub version: String,
    /// Where clients reach it, if it says so.
    pub advertise: String,
    /// When it started, by its own clock.
    pub started: Timestamp,
    /// Its connections.
    pub clients: u64,
    /// Its rooms.
    pub rooms: u64,
    /// It takes no new clients.
    pub draining: bool,
    /// It is the one that tells.
    pub here: bool,
    /// How long ago it was last heard.
    pub silent: Duration,
    /// It should have been heard of meanwhile: a beat of its is overdue.
    pub overdue: bool,
    /// How long what it said last was on the way, together with how far its clock is ahead, in milliseconds.
    pub lag: i64,
    /// Whether it hears this node.
    pub hears_us: bool,
}

impl NodeInfo {
    /// Whether clients can be sent to it.
    #[must_use]
    pub fn takes_clients(&self) -> bool {
        !self.draining
    }
}

impl Nodes {
    /// A node is heard. Returns whether it was not known.
    pub(super) fn hear(&self, id: NodeId, word: BeatWord, sent: i64, now: Timestamp) -> bool {
        let mut nodes = self.lock();
        let known = nodes.contains_key(&id);
        if !known && nodes.len() >= NODES_MAX {
            return false;
        }
        let mut word = word;
        for text in [&mut word.name, &mut word.version, &mut word.advertise] {
            if let Some((end, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
                text.truncate(end);
            }
        }
        nodes.insert(id, Heard { word, at: Instant::now(), ahead: sent - now.as_millis() });
        !known
    }

    /// A node is gone. Returns whether it was known.
    pub(super) fn remove(&self, id: NodeId) -> bool {
        self.lock().remove(&id).is_some()
    }

    /// Takes out those that have been silent for too long.
    pub(super) fn take_silent(&self, now: Instant) -> Vec<(NodeId, String)> {
        let mut nodes = self.lock();
        let silent = |heard: &Heard| now.duration_since(heard.at) > 2 * heard.interval();
        let gone: Vec<_> = nodes
            .iter()
            .filter(|(_, heard)| silent(heard))
            .map(|(id, heard)| (*id, heard.word.name.clone()))
            .collect();
        gone.iter().for_each(|(id, _)| drop(nodes.remove(id)));
        gone
    }

    /// Name and address of the node that a key prefers: `own`, if that takes clients, or one of the others that do.
    ///
    /// *Cost*: a hash for each node, under the lock; two short texts are copied.
    pub(super) fn prefer(&self, own: Option<(&str, &str)>, key: &str) -> Option<(EcoString, EcoString)> {
        let nodes = self.lock();
        let others = nodes.values().map(|heard| &heard.word).filter(|word| !word.draining);
        let (names, addresses): (Vec<&str>, Vec<&str>) =
            own.into_iter().chain(others.map(|word| (&*word.name, &*word.advertise))).unzip();
        prefer(&names, key).map(|place| (names[place].into(), addresses[place].into()))
    }

    pub(super) fn name(&self, id: NodeId) -> Option<EcoString> {
        self.lock().get(&id).map(|heard| heard.word.name.as_str().into())
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.lock().keys().copied().collect()
    }

    pub(super) fn infos(&self, us: NodeId) -> Vec<NodeInfo> {
        let nodes = self.lock();
        let info = |(id, heard): (&NodeId, &Heard)| NodeInfo {
            id: *id,
            name: heard.word.name.clone(),
            version: heard.word.version.clone(),
            advertise: heard.word.advertise.clone(),
            started: Timestamp::from_millis(heard.word.started),
            clients: heard.word.clients,
            rooms: heard.word.rooms,
            draining: heard.word.draining,
            here: false,
            silent: heard.at.elapsed(),
            overdue: heard.at.elapsed() > heard.interval().mul_f32(1.25),
            lag: -heard.ahead,
            hears_us: heard.word.hears(us),
        };
        nodes.iter().map(info).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
