//! What became of a message, for whoever asks why it did or did not arrive.

use axum::Json;
use axum::extract::State;
use outspoke_hub::protocol::ClientId;
use outspoke_hub::{
    Action, ConnectionAccount, Durability, ErrorCode, Explanation, Heard, MessageId, NodeAccount, Outcome,
    RoomName, Timestamp, UserId, Which,
};
use serde::Serialize;

use super::error::ApiError;
use super::history::timestamp;
use super::input::Query;
use super::key::For;
use super::{Api, room_name, users};

/// The whole story.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explained {
    room: String,
    offset: u64,
    epoch: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Speaker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published: Option<PublishedAt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored: Option<Stored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bus: Option<Told>,
    nodes: Vec<NodeSays>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserGot>,
    unknown: Vec<String>,
    summary: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Speaker {
    user_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    /// Absent for one that the application spoke for.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PublishedAt {
    node_id: String,
    node: String,
    at: String,
    via: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    durability: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Told {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeSays {
    node_id: String,
    node: String,
    here: bool,
    answered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    heard: Option<HeardAt>,
    handed_out: Vec<HandedOut>,
}

#[derive(Debug, Serialize)]
struct HeardAt {
    how: &'static str,
    at: String,
}

#[derive(Debug, Serialize)]
struct HandedOut {
    shard: usize,
    at: String,
    members: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UserGot {
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts: Option<Receipts>,
    connections: Vec<ConnectionGot>,
}

#[derive(Debug, Serialize)]
struct Receipts {
    delivered: bool,
    seen: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionGot {
    node_id: String,
    node: String,
    client_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    device: String,
    connected: bool,
    outcome: &'static str,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The offset behind which it came into the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    joined: Option<u64>,
}

pub(super) async fn explain(
    State(api): State<Api>,
    asked: For,
    query: Query,
) -> Result<Json<Explained>, ApiError> {
    query.only(&["room", "offset", "message", "user"])?;
    let hub = &asked.hub;
    let room = query.text("room").map(|room| room_name(hub, room)).transpose()?;
    let which = which(&query, room.as_ref())?;
    let user = query.text("user").map(|user| users::checked_id(hub, user).map(UserId::new)).transpose()?;
    match &room {
        Some(room) => asked.check(Action::Moderate, room.as_str()).await?,
        // Whoever may look into every room need not say which.
        None if asked.caller.is_application() => {}
        None => {
            let message = "this credential is for some rooms: name the `room`, too";
            return Err(ApiError::new(ErrorCode::Forbidden, message));
        }
    }
    let Some(explanation) = hub.explain(&which, user.as_ref()).await? else {
        let message =
            "no node knows such a message (any more): it is not there yet, too old, or was never published";
        return Err(ApiError::new(ErrorCode::MessageNotFound, message));
    };
    Ok(Json(Explained::new(&api, explanation, user.as_ref())))
}

fn which(query: &Query, room: Option<&RoomName>) -> Result<Which, ApiError> {
    let message = query.parsed::<MessageId>("message", "a message's id")?;
    match (room, query.offset("offset")?, message) {
        (Some(room), Some(offset), None) => Ok(Which::At(room.clone(), offset)),
        (room, None, Some(message)) => Ok(Which::Id(room.cloned(), message)),
        _ => Err(ApiError::bad_request(
            "say which message: `room` and `offset`; or `message`, its id, with `room` if you know it",
        )),
    }
}

impl Explained {
    fn new(api: &Api, explanation: Explanation, user: Option<&UserId>) -> Self {
        let names = api.nodes();
        let name = |node: &NodeAccount| {
            let known = names.iter().find(|info| info.id == node.node);
            known.map_or_else(|| node.node.to_string(), |info| info.name.clone())
        };
        let Explanation {
            room, position, id, kind, from, ts, durability, nodes, receipts, mut unknown, ..
        } = explanation;
        let origin = nodes.iter().find_map(|node| {
            let heard = node.account.as_ref()?.heard.as_ref()?;
            (heard.how == Heard::Published).then_some((node, heard))
        });
        let socket = from.as_ref().is_some_and(|from| from.client != ClientId::from_u128(0));
        let published = origin.map(|(node, _)| PublishedAt {
            node_id: node.node.to_string(),
            node: name(node),
            at: ts.map(timestamp).unwrap_or_default(),
            via: if socket { "socket" } else { "api" },
        });
        if origin.is_none() {
            unknown.push("which node it was published through is not remembered any more".to_owned());
        }
        for node in &nodes {
            match &node.account {
                None => unknown.push(format!(
                    "node {} did not answer within two seconds: what it did is not known",
                    name(node)
                )),
                Some(account) => {
                    unknown.extend(account.unknown.iter().map(|what| format!("node {}: {what}", name(node))))
                }
            }
        }
        let took = origin.and_then(|(_, heard)| heard.stored_micros);
        let connections: Vec<ConnectionGot> = nodes
            .iter()
            .flat_map(|node| {
                let accounts = node.account.iter().flat_map(|account| &account.connections);
                accounts.map(|account| ConnectionGot::new(node, name(node), account)).collect::<Vec<_>>()
            })
            .collect();
        let accounts = nodes.iter().filter_map(|node| node.account.as_ref());
        let outcomes: Vec<(bool, Outcome)> = accounts
            .flat_map(|account| account.connections.iter().map(|one| (one.connected, one.outcome)))
            .collect();
        let silent = nodes.iter().any(|node| node.account.is_none());
        let summary = summary(user, receipts, &outcomes, silent, &nodes);
        Self {
            room: room.to_string(),
            offset: position.offset,
            epoch: position.epoch.to_string(),
            message_id: id.map(|id| id.to_string()),
            r#type: kind,
            ts: ts.map(timestamp),
            from: from.map(|from| Speaker {
                user_id: from.user.to_string(),
                username: from.name.to_string(),
                client_id: socket.then(|| from.client.to_string()),
            }),
            published,
            stored: (durability == Durability::Stored)
                .then(|| Stored { durability: "stored", took_ms: took.map(|took| took as f64 / 1000.0) }),
            bus: api.hub.bus_name().map(|kind| Told { kind, told: origin.map(|(_, heard)| heard.told) }),
            nodes: nodes.iter().map(|node| NodeSays::new(node, name(node))).collect(),
            user: user.map(|user| UserGot {
                user_id: user.to_string(),
                receipts: receipts.map(|(delivered, seen)| Receipts { delivered, seen }),
                connections,
            }),
            unknown,
            summary,
        }
    }
}

impl NodeSays {
    fn new(node: &NodeAccount, name: String) -> Self {
        let account = node.account.as_ref();
        let heard = account.and_then(|account| account.heard.as_ref());
        let how = |heard: Heard| match heard {
            Heard::Published => "published",
            Heard::Bus => "bus",
            _ => "store",
        };
        let handed = account.into_iter().flat_map(|account| &account.handed_out);
        Self {
            node_id: node.node.to_string(),
            node: name,
            here: node.here,
            answered: account.is_some(),
            heard: heard.map(|heard| HeardAt { how: how(heard.how), at: time(heard.at) }),
            handed_out: handed
                .map(|handed| HandedOut { shard: handed.shard, at: time(handed.at), members: handed.members })
                .collect(),
        }
    }
}

impl ConnectionGot {
    fn new(node: &NodeAccount, name: String, account: &ConnectionAccount) -> Self {
        Self {
            node_id: node.node.to_string(),
            node: name,
            client_id: account.client.to_string(),
            device: account.device.clone(),
            connected: account.connected,
            outcome: account.outcome.name(),
            why: account.why.clone(),
            at: account.at.map(time),
            queued_bytes: account.queued_bytes,
            policy: account.policy.clone(),
            code: account.code,
            reason: account.reason.clone(),
            joined: account.joined,
        }
    }
}

fn time(millis: i64) -> String {
    timestamp(Timestamp::from_millis(millis))
}

/// The answer in one sentence.
fn summary(
    user: Option<&UserId>,
    receipts: Option<(bool, bool)>,
    connections: &[(bool, Outcome)],
    silent: bool,
    nodes: &[NodeAccount],
) -> String {
    let Some(user) = user else {
        let handed = nodes.iter().filter_map(|node| node.account.as_ref());
        let members: u64 =
            handed.flat_map(|account| &account.handed_out).map(|handed| u64::from(handed.members)).sum();
        return match nodes.iter().any(|node| node.account.as_ref().is_some_and(|known| known.heard.is_some()))
        {
            true => format!("it was handed out to {members} members"),
            false => "only the room's history has it: to whom it went is not remembered any more".to_owned(),
        };
    };
    let sent = connections.iter().filter(|(_, outcome)| outcome.is_sent()).count();
    let but = if silent { ", as far as nodes answered" } else { "" };
    match (receipts, connections.first()) {
        (Some((_, true)), _) => format!("{user} has read it"),
        (Some((true, _)), _) => format!("{user} has received it"),
        (_, None) => format!("{user} is not connected, and is not known to have been there{but}"),
        _ if sent > 0 => {
            format!("{user} was sent it: on {sent} of {} connections{but}", connections.len())
        }
        (_, Some(_)) => {
            let mut names: Vec<&str> = connections.iter().map(|(_, outcome)| outcome.name()).collect();
            names.dedup();
            format!("{user} was not sent it, as far as is known: {}{but}", names.join(", "))
        }
    }
}
