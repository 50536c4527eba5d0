//! What became of a message: asked of every shard here, and of every other node.
//!
//! [`Hub::explain`] puts together what each says; whoever does not answer in time is named as one who did not. Nothing here is on
//! a message's road.

use std::time::{Duration, Instant};

use ecow::EcoString;
use outspoke_bus::NodeId;
use outspoke_protocol::{
    ClientId, Durability, Epoch, MessageId, PageFrom, Position, Publisher, RoomName, Timestamp, UserId,
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{Heard, Trace};
use crate::cluster::AccountOf;
use crate::error::PublishError;
use crate::hub::{Hub, Inner};
use crate::shard::Key;
use crate::shard::account::{Inquiry, ShardAccount};
use crate::shard::command::Command;

/// How long a shard may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Connections of which one node tells at most.
const CONNECTIONS_MAX: usize = 256;

/// Which message is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Which {
    /// The one at that offset of a room.
    At(RoomName, u64),
    /// The one with that id, in that room if it is known which.
    Id(Option<RoomName>, MessageId),
}

/// What became of a message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The room.
    pub room: RoomName,
    /// Its place, as the node that was asked counts: in rooms that are not stored, every node counts by itself.
    pub position: Position,
    /// Its id, where that is known.
    pub id: Option<MessageId>,
    /// What sort of message it is; empty where it is not known.
    pub kind: String,
    /// Who said it.
    pub from: Option<Publisher>,
    /// When it was accepted.
    pub ts: Option<Timestamp>,
    /// What an acknowledgement means in the room.
    pub durability: Durability,
    /// What each node knows, the one that was asked first.
    pub nodes: Vec<NodeAccount>,
    /// Whether the user has received it, and read it, by the user's own receipts; `None`: there are none here.
    pub receipts: Option<(bool, bool)>,
    /// What is not known, in words.
    pub unknown: Vec<String>,
}

/// What a node knows.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeAccount {
    /// The node.
    pub node: NodeId,
    /// It is the one that was asked.
    pub here: bool,
    /// What it says; `None`: it did not answer in time.
    pub account: Option<Account>,
}

/// What a node knows of a message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Account {
    /// How it had the message; `None`: it does not remember it.
    pub heard: Option<HeardMessage>,
    /// By shard, when members there got it.
    pub handed_out: Vec<HandOut>,
    /// The user's connections.
    pub connections: Vec<ConnectionAccount>,
    /// What is not known, in words.
    pub unknown: Vec<String>,
}

/// A message, as a node had it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HeardMessage {
    /// How.
    pub how: Heard,
    /// When, in milliseconds since 1970: where it was published, and is stored, when it was durable.
    pub at: i64,
    /// Where it was published: from acceptance to durability, in microseconds.
    pub stored_micros: Option<u64>,
    /// It was given to the bus.
    pub told: bool,
    room: String,
    epoch: u64,
    offset: u64,
    id: u128,
    kind: String,
    from: Option<(String, String, u128)>,
    ts: i64,
}

/// A shard has given a message to its members.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HandOut {
    /// Which shard of its node.
    pub shard: usize,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// To how many members.
    pub members: u32,
}

/// What became of a message for one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// All its bytes were given to the socket.
    Written,
    /// It waits for the client to read.
    Queued,
    /// Its shard has not come to it.
    Pending,
    /// The policy for slow clients left it out.
    Skipped,
    /// It was sent from history when the client came.
    Recovered,
    /// The client came into the room behind it.
    JoinedLater,
    /// The client had left the room.
    Left,
    /// The client had been taken out of the room.
    Removed,
    /// The connection had ended, or ended before the client had read it.
    Ended,
    /// The client was refused the room.
    Refused,
    /// The client was not in the room.
    #[default]
    NotMember,
    /// The client's dialect has no words for it.
    Unspeakable,
    /// That is not remembered any more.
    Unknown,
}

impl Outcome {
    /// Its name in APIs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Queued => "queued",
            Self::Pending => "pending",
            Self::Skipped => "skipped",
            Self::Recovered => "recovered",
            Self::JoinedLater => "joined_later",
            Self::Left => "left",
            Self::Removed => "removed",
            Self::Ended => "ended",
            Self::Refused => "refused",
            Self::NotMember => "not_member",
            Self::Unspeakable => "unspeakable",
            Self::Unknown => "unknown",
        }
    }

    /// Whether the client was sent it.
    #[must_use]
    pub fn is_sent(self) -> bool {
        matches!(self, Self::Written | Self::Recovered)
    }
}

/// One connection of a user, and a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectionAccount {
    /// The connection.
    #[serde(with = "client_id")]
    pub client: ClientId,
    /// The user's device.
    pub device: String,
    /// It is connected now.
    pub connected: bool,
    /// What became of the message.
    pub outcome: Outcome,
    /// The same in words.
    pub why: String,
    /// When, in milliseconds since 1970, where that is known.
    pub at: Option<i64>,
    /// Bytes that wait for the client.
    pub queued_bytes: Option<u64>,
    /// The policy that left the message out.
    pub policy: Option<String>,
    /// Why the connection ended, or was refused.
    pub code: Option<u16>,
    /// The same in words.
    pub reason: Option<String>,
    /// Where the room was when the client came.
    pub joined: Option<u64>,
}

impl Default for ConnectionAccount {
    fn default() -> Self {
        Self {
            client: ClientId::from_u128(0),
            device: String::new(),
            connected: false,
            outcome: Outcome::default(),
            why: String::new(),
            at: None,
            queued_bytes: None,
            policy: None,
            code: None,
            reason: None,
            joined: None,
        }
    }
}

mod client_id {
    use outspoke_protocol::ClientId;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &ClientId, serializer: S) -> Result<S::Ok, S::Error> {
        id.as_u128().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ClientId, D::Error> {
        u128::deserialize(deserializer).map(ClientId::from_u128)
    }
}

/// A question, as a node keeps it while it answers.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    room: Option<EcoString>,
    offset: u64,
    id: Option<MessageId>,
    user: Option<UserId>,
}

impl From<AccountOf<'_>> for Asked {
    fn from(asked: AccountOf<'_>) -> Self {
        Self {
            room: asked.room.map(EcoString::from),
            offset: asked.offset,
            id: asked.id.map(MessageId::from_u128),
            user: asked.user.map(UserId::new),
        }
    }
}

impl Inner {
    /// The time of day of a moment.
    pub(crate) fn time_of(&self, at: Instant) -> Timestamp {
        let ago = i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(self.now().as_millis().saturating_sub(ago))
    }
}

impl Hub {
    /// Says what became of a recent message on every node, and for a user if one is named. `None`: no node knows the message.
    ///
    /// *Cost*: a look at what is remembered, on each node; for a user, at each of its connections' keys.
    ///
    /// # Errors
    /// What the room has cannot be read now.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn explain(
        &self,
        which: &Which,
        user: Option<&UserId>,
    ) -> Result<Option<Explanation>, PublishError> {
        let mut asked = Asked { room: None, offset: 0, id: None, user: user.cloned() };
        match which {
            Which::At(room, offset) => {
                (asked.room, asked.offset) = (Some(EcoString::from(room.as_str())), *offset);
            }
            Which::Id(room, id) => {
                (asked.room, asked.id) =
                    (room.as_ref().map(|room| EcoString::from(room.as_str())), Some(*id));
            }
        }
        let Some(found) = self.find(&asked).await? else { return Ok(None) };
        (asked.room, asked.offset) = (Some(EcoString::from(found.room.as_str())), found.position.offset);
        asked.id = found.id.or(asked.id);
        let mut explanation = found;
        let (here, others) = tokio::join!(self.account(&asked), self.accounts_elsewhere(&asked));
        explanation.nodes.push(NodeAccount { node: self.inner.life, here: true, account: Some(here) });
        explanation.nodes.extend(others);
        if let Some(user) = user {
            explanation.receipts = self.receipts_of(&explanation, user).await;
        }
        if !self.inner.traces.is_on() {
            explanation
                .unknown
                .push("this server remembers no messages: inspect.messages_max is 0".to_owned());
        }
        Ok(Some(explanation))
    }

    /// What the message is, from whoever knows it.
    async fn find(&self, asked: &Asked) -> Result<Option<Explanation>, PublishError> {
        if let Some(trace) = self.trace(asked) {
            let heard = HeardMessage::new(&self.inner, &trace);
            return Ok(heard.explained(&self.inner));
        }
        for node in self.accounts_elsewhere(asked).await {
            let heard = node.account.and_then(|account| account.heard);
            if let Some(explanation) = heard.and_then(|heard| heard.explained(&self.inner)) {
                return Ok(Some(explanation));
            }
        }
        let Some(room) = &asked.room else { return Ok(None) };
        self.find_in_history(room, asked).await
    }

    /// It is not remembered, but may still be there.
    async fn find_in_history(&self, room: &str, asked: &Asked) -> Result<Option<Explanation>, PublishError> {
        if asked.offset == 0 || self.room(room).await?.is_none_or(|room| room.head < asked.offset) {
            return Ok(None);
        }
        let page = self.history(room, PageFrom::After(asked.offset - 1), 1).await?;
        let found = page
            .messages
            .into_iter()
            .find(|message| message.position.is_some_and(|position| position.offset == asked.offset));
        let Some(message) = found else { return Ok(None) };
        let (Some(room), Some(position)) = (message.room, message.position) else { return Ok(None) };
        let unknown = "no node remembers when it came and to whom it went, only the room's history has it";
        Ok(Some(Explanation {
            durability: self.inner.class_of(room.as_str()).durability,
            room,
            position,
            id: Some(message.id),
            kind: message.kind.name().to_owned(),
            from: message.from,
            ts: Some(message.ts),
            nodes: Vec::new(),
            receipts: None,
            unknown: vec![unknown.to_owned()],
        }))
    }

    fn trace(&self, asked: &Asked) -> Option<Trace> {
        let traces = &self.inner.traces;
        match (&asked.room, asked.id) {
            (Some(room), id) => traces.in_room(&self.tenant.name, room, id, asked.offset),
            (None, Some(id)) => traces.anywhere(&self.tenant.name, id),
            (None, None) => None,
        }
    }

    async fn accounts_elsewhere(&self, asked: &Asked) -> Vec<NodeAccount> {
        let Some(cluster) = &self.inner.cluster else { return Vec::new() };
        let question = AccountOf {
            tenant: &self.tenant.name,
            room: asked.room.as_deref(),
            offset: asked.offset,
            id: asked.id.map(MessageId::as_u128),
            user: asked.user.as_ref().map(UserId::as_str),
        };
        let accounts = cluster.accounts(question).await.into_iter();
        accounts.map(|(node, account)| NodeAccount { node, here: false, account }).collect()
    }

    /// What this node knows.
    pub(crate) async fn account(&self, asked: &Asked) -> Account {
        let mut account = Account::default();
        let trace = self.trace(asked);
        account.heard = trace.as_ref().map(|trace| HeardMessage::new(&self.inner, trace));
        let Some(inquiry) = self.inquiry(asked, trace.as_ref()) else { return account };
        let clients = asked.user.as_ref().map(|user| self.keys_of(user)).unwrap_or_default();
        if clients.len() >= CONNECTIONS_MAX {
            account.unknown.push(format!(
                "the user has more than {CONNECTIONS_MAX} connections: only so many are told of"
            ));
        }
        let shards = self.inner.shards.iter().enumerate().map(|(index, shard)| {
            let of_shard = |(at, key, id): &(usize, Key, ClientId)| (*at == index).then_some((*key, *id));
            let clients = clients.iter().filter_map(of_shard).collect();
            let (done, answer) = oneshot::channel();
            let command = Command::Account(Box::new(Inquiry { clients, ..inquiry.clone() }), done);
            // A shard that has ended says nothing.
            let _ = shard.inbox.push(command, Command::WEIGHT);
            async move { tokio::time::timeout(PATIENCE, answer).await.ok()?.ok() }
        });
        for (index, answer) in futures_util::future::join_all(shards).await.into_iter().enumerate() {
            match answer {
                Some(ShardAccount { handed, connections }) => {
                    account.handed_out.extend(handed);
                    account.connections.extend(connections);
                }
                None => account.unknown.push(format!("shard {index} did not answer within a second")),
            }
        }
        account.connections.truncate(CONNECTIONS_MAX);
        account
    }

    /// What shards are asked. `None`: it is not known which message is meant here.
    fn inquiry(&self, asked: &Asked, trace: Option<&Trace>) -> Option<Inquiry> {
        let name = trace.map(|trace| trace.room.clone());
        let name = name.or_else(|| RoomName::new(asked.room.as_deref()?, usize::MAX).ok())?;
        let room = self.tenant.directory.get(name.as_str());
        // Where nothing is stored, every node counts by itself.
        let shared = self.inner.class_of(name.as_str()).durability == Durability::Stored;
        let offset = match trace {
            Some(trace) => trace.position.offset,
            None if shared || self.inner.cluster.is_none() => asked.offset,
            None => return None,
        };
        Some(Inquiry {
            tenant: self.tenant.name.clone(),
            room: name,
            room_id: trace.map(|trace| trace.room_id).or_else(|| room.as_ref().map(|room| room.id)),
            epoch: trace
                .map(|trace| trace.position.epoch)
                .or_else(|| room.as_ref().map(|room| room.epoch()).filter(|epoch| epoch.as_u64() != 0)),
            offset,
            at: trace.map(|trace| trace.at),
            user: asked.user.clone(),
            clients: Vec::new(),
        })
    }

    /// The shards and places of a user's connections.
    fn keys_of(&self, user: &UserId) -> Vec<(usize, Key, ClientId)> {
        let clients = self.list_clients(Some(user.as_str()), None, CONNECTIONS_MAX).items;
        let place = |client: &std::sync::Arc<crate::client::Client>| {
            Some((usize::from(client.shard), *client.key.get()?, client.id()))
        };
        clients.iter().filter_map(place).collect()
    }

    async fn receipts_of(&self, explanation: &Explanation, user: &UserId) -> Option<(bool, bool)> {
        let after = just_before(user.as_str());
        let page = self.receipts(explanation.room.as_str(), after.as_deref(), 1).await.ok()?;
        if page.epoch != explanation.position.epoch {
            return None;
        }
        let cursor = page.page.into_iter().find(|cursor| cursor.user == *user)?;
        let offset = explanation.position.offset;
        Some((cursor.delivered >= offset, cursor.seen >= offset))
    }
}

impl HeardMessage {
    fn new(hub: &Inner, trace: &Trace) -> Self {
        let from = trace.from.as_ref();
        Self {
            how: trace.heard,
            at: hub.time_of(trace.at).as_millis(),
            stored_micros: trace.stored.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            told: trace.told,
            room: trace.room.as_str().to_owned(),
            epoch: trace.position.epoch.as_u64(),
            offset: trace.position.offset,
            id: trace.id.as_u128(),
            kind: trace.kind.name().to_owned(),
            from: from.map(|from| (from.user.to_string(), from.name.to_string(), from.client.as_u128())),
            ts: trace.ts.as_millis(),
        }
    }

    fn explained(self, hub: &Inner) -> Option<Explanation> {
        let room = RoomName::new(&self.room, usize::MAX).ok()?;
        let from = self.from.map(|(user, name, client)| Publisher {
            user: UserId::new(user),
            name: name.into(),
            client: ClientId::from_u128(client),
        });
        Some(Explanation {
            durability: hub.class_of(room.as_str()).durability,
            room,
            position: Position { epoch: Epoch::from_u64(self.epoch), offset: self.offset },
            id: Some(MessageId::from_u128(self.id)),
            kind: self.kind,
            from,
            ts: Some(Timestamp::from_millis(self.ts)),
            nodes: Vec::new(),
            receipts: None,
            unknown: Vec::new(),
        })
    }
}

/// A text that comes before that one in the order of bytes, and after all that people use.
fn just_before(text: &str) -> Option<String> {
    let last = text.chars().next_back()?;
    let before = (1..=u32::from(last)).find_map(|back| char::from_u32(u32::from(last) - back))?;
    Some(format!("{}{before}{}", &text[..text.len() - last.len_utf8()], char::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn just_before_a_user_comes_nobody_else() {
        for user in ["ana", "a", "анна", "u\u{e000}"] {
            let before = just_before(user).unwrap_or_default();
            assert!(before.as_str() < user, "{before:?} {user:?}");
            let shorter = &user[..user.len() - user.chars().next_back().map_or(0, char::len_utf8)];
            assert!(shorter < before.as_str() || shorter.is_empty());
        }
        assert_eq!(just_before(""), None);
    }
}
