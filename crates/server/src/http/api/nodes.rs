//! Nodes: which servers act as one, what each says of itself, and what an operator asks of them.
//!
//! Any of them answers, for all: what it knows of the others is what it hears of them. A server that is on its own is a list
//! of one.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use ecow::EcoString;
use outspoke_hub::affinity::{room_key, user_key};
use outspoke_hub::bus::NodeId;
use outspoke_hub::{DrainOrder, ErrorCode, NodeInfo, Route, Timestamp};
use serde::Serialize;

use super::error::ApiError;
use super::input::{Named, Query};
use super::key::Caller;
use super::{Api, Of, room_name, users};

/// A node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    id: String,
    name: String,
    version: String,
    /// Where clients reach it.
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    /// It is the one that answers.
    here: bool,
    draining: bool,
    connections: u64,
    rooms: u64,
    uptime_seconds: u64,
    /// How long ago it was last heard.
    silent_seconds: f64,
    /// It should have been heard of meanwhile.
    silent: bool,
    /// How long its last word was on the way, and how far clocks differ.
    lag_ms: i64,
    hears_us: bool,
}

/// What connects the nodes, seen from here.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bus {
    kind: &'static str,
    connected: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    queued_bytes: usize,
    sent: u64,
    heard: u64,
    unsent: u64,
    missed: u64,
    repeated: u64,
    garbage: u64,
    foreign: u64,
    forged: u64,
    stale: u64,
}

/// What nodes were called at a moment.
#[derive(Debug)]
pub(super) struct NodeNames(HashMap<NodeId, String>);

impl NodeNames {
    /// A node's name, or its id if it was not heard of.
    pub(super) fn of(&self, id: NodeId) -> String {
        self.0.get(&id).map_or_else(|| id.to_string(), Clone::clone)
    }
}

/// All of them.
#[derive(Debug, Serialize)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    /// Absent for a server that is on its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    bus: Option<Bus>,
}

impl Api {
    pub(super) fn nodes(&self) -> Vec<NodeInfo> {
        let mut nodes = self.hub.nodes();
        for node in nodes.iter_mut().filter(|node| node.here && node.name.is_empty()) {
            node.name = self.name.to_string();
        }
        nodes
    }

    /// What a node is called; its id, if it is not heard of.
    pub(super) fn node_name(&self, id: NodeId) -> String {
        self.node_names().of(id)
    }

    /// What nodes are called now: of one that is asked something it may not be known any more when it has not answered.
    pub(super) fn node_names(&self) -> NodeNames {
        NodeNames(self.nodes().into_iter().map(|node| (node.id, node.name)).collect())
    }

    fn node(&self, name_or_id: &str) -> Result<NodeInfo, ApiError> {
        let named = |node: &NodeInfo| node.name == name_or_id || node.id.to_string() == name_or_id;
        let unknown =
            || ApiError::not_found("no node of this name or id is heard of; /nodes lists those that are");
        self.nodes().into_iter().find(named).ok_or_else(unknown)
    }

    fn bus(&self) -> Option<Bus> {
        let (kind, state) = (self.hub.bus_name()?, self.hub.bus_state()?);
        let counts = self.hub.cluster_counts()?;
        let link = counts.link;
        Some(Bus {
            kind,
            connected: state.connected,
            detail: state.detail,
            queued_bytes: counts.queued_bytes,
            sent: link.sent,
            heard: link.heard,
            unsent: link.unsent,
            missed: link.missed,
            repeated: link.repeated,
            garbage: link.garbage + counts.garbage,
            foreign: link.foreign,
            forged: link.forged,
            stale: link.stale,
        })
    }
}

impl From<NodeInfo> for Node {
    fn from(info: NodeInfo) -> Self {
        let now = Timestamp::from_system_time(std::time::SystemTime::now()).as_millis();
        // By its own clock, as far as that is known.
        let up = now - info.lag - info.started.as_millis();
        Self {
            id: info.id.to_string(),
            name: info.name,
            version: info.version,
            url: info.advertise,
            here: info.here,
            draining: info.draining,
            connections: info.clients,
            rooms: info.rooms,
            uptime_seconds: u64::try_from(up).unwrap_or(0) / 1000,
            silent_seconds: (info.silent.as_secs_f64() * 10.0).round() / 10.0,
            silent: info.overdue,
            lag_ms: info.lag,
            hears_us: info.hears_us,
        }
    }
}

pub(super) async fn list(State(api): State<Api>, query: Query) -> Result<Json<Nodes>, ApiError> {
    query.only(&[])?;
    Ok(Json(Nodes { nodes: api.nodes().into_iter().map(Node::from).collect(), bus: api.bus() }))
}

pub(super) async fn one(
    State(api): State<Api>,
    Named(name): Named,
    query: Query,
) -> Result<Json<Node>, ApiError> {
    query.only(&[])?;
    Ok(Json(api.node(&name)?.into()))
}

pub(super) async fn drain(
    State(api): State<Api>,
    Named(name): Named,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Node>, ApiError> {
    query.only(&["batch", "intervalMs", "to"])?;
    let mut how = DrainOrder::default();
    let whole = |name, max: u64| {
        let what = format!("a number from 1 to {max}");
        let number = query.parsed::<u64>(name, &what)?;
        match number {
            Some(number) if !(1..=max).contains(&number) => {
                Err(ApiError::bad_request(format!("the parameter `{name}` must be {what}")))
            }
            number => Ok(number),
        }
    };
    how.batch = whole("batch", BATCH_MAX)?.map(|batch| usize::try_from(batch).unwrap_or(usize::MAX));
    how.interval = whole("intervalMs", INTERVAL_MAX_MS)?.map(Duration::from_millis);
    let node = api.node(&name)?;
    how.target = query.text("to").map(|to| target(&api, &node, to)).transpose()?;
    let understood = api.hub.drain_node_as(node.id, &how).await;
    ordered(node, true, understood, &caller)
}

/// Batches of that many clients, or of more, are the whole node.
const BATCH_MAX: u64 = 1_000_000;
/// Nobody waits longer for the next batch.
const INTERVAL_MAX_MS: u64 = 60_000;
/// Longer addresses are none.
const URL_BYTES_MAX: usize = 2048;

/// Where clients are sent: the address given, or that of the node named.
fn target(api: &Api, from: &NodeInfo, to: &str) -> Result<EcoString, ApiError> {
    if let Some((scheme, rest)) = to.split_once("://") {
        let plain = |c: char| !c.is_whitespace() && !c.is_control();
        let good = ["ws", "wss"].contains(&scheme) && !rest.is_empty() && to.chars().all(plain);
        if !good || to.len() > URL_BYTES_MAX {
            let message =
                "the parameter `to` must be a node or an address such as wss://hub-2.example.com/ws";
            return Err(ApiError::bad_request(message));
        }
        return Ok(to.into());
    }
    let unknown = || {
        ApiError::not_found(
            "the parameter `to`: no node of this name or id is heard of; /nodes lists those that are",
        )
    };
    let node = api.hub.node(to).ok_or_else(unknown)?;
    if node.id == from.id {
        return Err(ApiError::bad_request(format!("node {to} cannot send its clients to itself")));
    }
    if !node.takes_clients() {
        return Err(ApiError::bad_request(format!("node {to} takes no clients: it drains")));
    }
    match node.advertise.as_str() {
        "" => Err(ApiError::bad_request(format!(
            "node {to} does not say where clients reach it: set its cluster.advertise"
        ))),
        url => Ok(url.into()),
    }
}

pub(super) async fn resume(
    State(api): State<Api>,
    Named(name): Named,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Node>, ApiError> {
    query.only(&[])?;
    let node = api.node(&name)?;
    let understood = api.hub.drain_node(node.id, false).await;
    ordered(node, false, understood, &caller)
}

/// Answers with the node as it is after the order.
fn ordered(node: NodeInfo, drain: bool, understood: bool, caller: &Caller) -> Result<Json<Node>, ApiError> {
    if !understood {
        let message = format!("node {} does not answer: it may or may not have understood", node.name);
        return Err(ApiError::new(ErrorCode::Unavailable, message));
    }
    let what = if drain { "a node was told to drain" } else { "a node was told to take clients again" };
    tracing::info!(target: "outspoke::audit", by = ?caller.name(), node = %node.id, name = ?node.name, "{what}");
    // What it says of itself may still be on the way.
    Ok(Json(Node { draining: drain, ..node.into() }))
}

/// A node, by both its names.
#[derive(Clone, Debug, Serialize)]
struct Label {
    id: String,
    name: String,
}

/// How a node reaches another.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reached {
    to: Label,
    /// Absent: there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_ahead_ms: Option<i64>,
}

/// What one node found.
#[derive(Debug, Serialize)]
struct Found {
    from: Label,
    /// Whether it told what it found.
    answered: bool,
    routes: Vec<Reached>,
}

/// What all found.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    /// Every node reaches every other.
    ok: bool,
    checks: Vec<Found>,
}

/// Lets every node ping every other.
pub(super) async fn check(State(api): State<Api>, query: Query) -> Result<Json<Checked>, ApiError> {
    query.only(&[])?;
    // Before: one that vanishes meanwhile was not reached.
    let nodes: Vec<(NodeId, Label)> = api
        .nodes()
        .into_iter()
        .map(|node| (node.id, Label { id: node.id.to_string(), name: node.name }))
        .collect();
    let found = api.hub.check_cluster().await;
    let checks: Vec<Found> = nodes
        .iter()
        .map(|(from, name)| {
            let own = found.iter().find(|check| check.from == *from);
            let routes = own.and_then(|check| check.routes.as_deref());
            let others = nodes.iter().filter(|(to, _)| to != from);
            Found {
                from: name.clone(),
                // On its own there is nothing to ask.
                answered: routes.is_some() || nodes.len() == 1,
                routes: others.map(|(to, name)| reached(name, *to, routes.unwrap_or_default())).collect(),
            }
        })
        .collect();
    let reaches_all =
        |found: &Found| found.answered && found.routes.iter().all(|to| to.round_trip_ms.is_some());
    Ok(Json(Checked { ok: checks.iter().all(reaches_all), checks }))
}

fn reached(name: &Label, to: NodeId, routes: &[Route]) -> Reached {
    // A node that has not heard of another has no route to it.
    let route = routes.iter().find(|route| route.to == to);
    let round_trip = route.and_then(|route| route.round_trip);
    Reached {
        to: name.clone(),
        round_trip_ms: round_trip.map(|took| took.as_micros() as f64 / 1000.0),
        clock_ahead_ms: round_trip.and(route).map(|route| route.clock_ahead),
    }
}

/// Whom a user or a room prefers.
#[derive(Debug, Serialize)]
struct Preferred {
    /// What is hashed.
    key: String,
    node: String,
    /// Where clients reach it.
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    here: bool,
}

/// Which node is preferred, of those that take clients.
#[derive(Debug, Serialize)]
pub(super) struct Affinity {
    nodes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Preferred>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<Preferred>,
}

pub(super) async fn affinity(
    State(api): State<Api>,
    Of(hub): Of,
    query: Query,
) -> Result<Json<Affinity>, ApiError> {
    query.only(&["user", "room"])?;
    let prefer = |key: String| {
        let none =
            || ApiError::new(ErrorCode::Unavailable, "no node takes clients: all of them are draining");
        let node = hub.preferred_node(&key).ok_or_else(none)?;
        let name = if node.name.is_empty() { api.name.to_string() } else { node.name };
        Ok::<_, ApiError>(Preferred { key, node: name, url: node.advertise, here: node.here })
    };
    let user = query.text("user").map(|user| Ok(user_key(hub.tenant(), &users::checked_id(&hub, user)?)));
    let room = query.text("room").map(|room| Ok(room_key(hub.tenant(), room_name(&hub, room)?.as_str())));
    let takes = api.nodes().into_iter().filter(NodeInfo::takes_clients);
    Ok(Json(Affinity {
        nodes: takes.map(|node| node.name).collect(),
        user: user.map(|key| key.and_then(prefer)).transpose()?,
        room: room.map(|key| key.and_then(prefer)).transpose()?,
    }))
}
