//! The live inspector: what happens to a room or a user as it happens, and one connection looked at closely.
//!
//! Sightings of all nodes go out as Server-Sent Events, for as long as whoever asked may see them: that is asked again before each
//! of them, and every second while there are none; a stream is begun anew at the latest after an hour. Which nodes tell, the
//! first event says, and another one when that changes.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body as Answer, Bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use outspoke_hub::protocol::{Disconnect, Event};
use outspoke_hub::{
    Action, Coverage, ErrorCode, Following, Hub, Sight, Sighting, SlowDown, Told, UserId, WideFollower,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::clients::{self, Disconnected};
use super::error::ApiError;
use super::history::{encoded, timestamp};
use super::input::{Body, Named, Query, Whole};
use super::key::{Caller, For};
use super::{Api, Of, room_name, users};
use crate::http::Progress;

/// How often something is sent at least.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How often it is asked whether a stream that has nothing to say may go on.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a stream may last.
const LASTING_MAX: Duration = Duration::from_secs(60 * 60);
/// Longest time for which a connection is slowed down.
const SLOW_SECONDS_MAX: u64 = 60;

/// Somebody who follows.
struct Watching {
    hub: Hub,
    caller: Caller,
    of: Following,
    payload: bool,
    api: Api,
    follower: WideFollower,
    until: Instant,
    begun: bool,
    /// Of the connection, whose requests have a time to be answered in.
    progress: Option<Progress>,
}

pub(super) async fn follow(
    State(api): State<Api>,
    asked: For,
    query: Query,
    parts: Parts,
) -> Result<Response, ApiError> {
    query.only(&["room", "user", "payload"])?;
    let hub = &asked.hub;
    let payload = query.parsed("payload", "true or false")?.unwrap_or(false);
    let of = match (query.text("room"), query.text("user")) {
        (Some(room), None) => Following::Room(room_name(hub, room)?),
        (None, Some(user)) => Following::User(UserId::new(users::checked_id(hub, user)?)),
        _ => return Err(ApiError::bad_request("say what to follow: `room` or `user`, one of them")),
    };
    check(&asked, &of, payload).await?;
    let user = asked.caller.user().map(|identity| &identity.user);
    let follower = hub.follow_everywhere(of.clone(), payload, user).await;
    let follower = follower.map_err(|full| ApiError::new(ErrorCode::Unavailable, full.to_string()))?;
    let until = Instant::now() + LASTING_MAX;
    let For { hub, caller, .. } = asked;
    let progress = parts.extensions.get::<Progress>().cloned();
    let following = Watching { hub, caller, of, payload, api, follower, until, begun: false, progress };
    let events = futures_util::stream::unfold(following, |mut following| async move {
        let next = following.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(next)), following))
    });
    let mut response = Answer::from_stream(events).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // nginx holds answers back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Whether somebody may begin to follow that.
async fn check(asked: &For, of: &Following, payload: bool) -> Result<(), ApiError> {
    check_permitted(&asked.hub, &asked.caller, of, payload)?;
    match of {
        Following::Room(room) => asked.check(Action::Moderate, room.as_str()).await,
        Following::User(_) => Ok(()),
    }
}

/// Whether somebody is permitted to follow that, and to go on with it.
fn check_permitted(hub: &Hub, caller: &Caller, of: &Following, payload: bool) -> Result<(), ApiError> {
    match of {
        _ if caller.is_application() => Ok(()),
        Following::Room(room) => {
            caller.check_permitted(hub, Action::Moderate, room.as_str())?;
            if payload { caller.check_permitted(hub, Action::History, room.as_str()) } else { Ok(()) }
        }
        Following::User(_) => {
            Err(ApiError::new(ErrorCode::Forbidden, "this credential is for some rooms: follow a `room`"))
        }
    }
}

impl Watching {
    /// What is sent next; `None`: no more.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if !std::mem::replace(&mut self.begun, true) {
            let mut data = self.covered(&self.follower.coverage());
            match &self.of {
                Following::Room(room) => data["room"] = room.as_str().into(),
                Following::User(user) => data["userId"] = user.as_str().into(),
            }
            return Some(event("following", &data));
        }
        let silent = Instant::now() + SIGN_OF_LIFE;
        loop {
            // Who takes what is sent may have nothing to wait for as long as it likes; who does not is not asked for more, and is
            // late as with any answer.
            self.progress.iter().for_each(Progress::moved);
            let told = tokio::select! {
                told = self.follower.next() => Some(told?),
                () = tokio::time::sleep(LOOK_AGAIN) => None,
            };
            // Behind the wait: nothing is told that happened after the credential had ended.
            if !self.may_go_on().await {
                return None;
            }
            return Some(match told {
                Some(Told::Seen(node, sighting)) => self.told(&self.api.node_name(node), &sighting),
                Some(Told::Coverage(coverage)) => event("nodes", &self.covered(&coverage)),
                // Of a later version of the hub.
                Some(_) => b": something else\n\n".to_vec(),
                None if Instant::now() < silent => continue,
                None => b": still there\n\n".to_vec(),
            });
        }
    }

    /// Whether the stream is not over, its credential still counts, and this is still permitted.
    async fn may_go_on(&self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        let Some(identity) = self.caller.identity() else { return true };
        let now = outspoke_hub::Timestamp::from_system_time(std::time::SystemTime::now());
        identity.expires.is_none_or(|expires| now < expires)
            && self.hub.check_credential(identity).await.is_ok()
            && check_permitted(&self.hub, &self.caller, &self.of, self.payload).is_ok()
    }

    /// Which nodes tell, and which do not and why.
    fn covered(&self, coverage: &Coverage) -> Value {
        let now = outspoke_hub::Timestamp::from_system_time(std::time::SystemTime::now());
        let telling: Vec<String> = coverage.telling.iter().map(|node| self.api.node_name(*node)).collect();
        let silent = coverage.silent.iter().map(|(node, why)| {
            let why = why.as_deref().unwrap_or("it did not answer within two seconds");
            json!({ "node": self.api.node_name(*node), "why": why })
        });
        json!({ "at": timestamp(now), "node": telling.first(), "nodes": telling, "silent": silent.collect::<Value>() })
    }

    fn told(&self, node: &str, sighting: &Sighting) -> Vec<u8> {
        let mut data = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                data.insert(name.to_owned(), value);
            }
        };
        put("at", Some(timestamp(sighting.at).into()));
        put("node", Some(node.into()));
        put("room", sighting.room.as_ref().map(|room| room.as_str().into()));
        put("userId", sighting.user.as_ref().map(|user| user.as_str().into()));
        put("clientId", sighting.client.map(|client| client.to_string().into()));
        put("device", Some(sighting.device.as_str()).filter(|device| !device.is_empty()).map(Value::from));
        put("offset", sighting.offset.map(Value::from));
        put("after", sighting.after.map(Value::from));
        put("code", sighting.code.map(Value::from));
        put("reason", sighting.reason.as_ref().map(|reason| reason.as_str().into()));
        put("policy", sighting.policy.as_ref().map(|policy| policy.as_str().into()));
        put("queuedBytes", sighting.queued_bytes.map(Value::from));
        put("messageId", sighting.id.map(|id| id.to_string().into()));
        put("type", sighting.kind.as_ref().map(|kind| kind.as_str().into()));
        match (&sighting.message, sighting.sight) {
            (Some(message), _) => {
                put("bytes", Some(message.body.len().into()));
                // In the form in which clients get it.
                let written = encoded(&self.hub, &Event::Message((**message).clone())).ok();
                put("message", written.and_then(|written| serde_json::from_slice(&written).ok()));
            }
            (None, Sight::Published) => put("bytes", sighting.count.map(Value::from)),
            (None, _) => put("count", sighting.count.map(Value::from)),
        }
        event(sighting.sight.name(), &Value::Object(data))
    }
}

/// One event of the stream. JSON has no line ends.
fn event(name: &str, data: &Value) -> Vec<u8> {
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

/// Ends one connection, on whichever node it is.
pub(super) async fn disconnect(
    Of(hub): Of,
    Named(client): Named,
    body: Body,
) -> Result<Json<Disconnected>, ApiError> {
    let client = clients::parsed(&client)?;
    let fields = body.fields(&["reason", "reconnect"])?;
    let disconnect = match fields.optional::<bool>("reconnect")?.unwrap_or(false) {
        true => Disconnect::ReconnectRequested,
        false => Disconnect::Kicked,
    };
    let reason = clients::reason(&fields, disconnect)?;
    match hub.disconnect_anywhere(client, disconnect, &reason).await {
        true => Ok(Json(Disconnected::one())),
        false => Err(ApiError::new(ErrorCode::ClientNotFound, "no node that answers has this connection")),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slowed {
    client_id: String,
    seconds: u64,
    /// The node that has it.
    node: String,
}

/// Treats a connection for a while as if its peer read nothing, on whichever node it is.
pub(super) async fn slow(
    State(api): State<Api>,
    Of(hub): Of,
    Named(client): Named,
    body: Body,
) -> Result<Json<Slowed>, ApiError> {
    let client = clients::parsed(&client)?;
    let seconds = body.fields(&["seconds"])?.required::<Whole>("seconds")?.0;
    if !(1..=SLOW_SECONDS_MAX).contains(&seconds) {
        let message = format!("the field `seconds` must be a number from 1 to {SLOW_SECONDS_MAX}");
        return Err(ApiError::bad_request(message));
    }
    if !hub.config().slow_down && hub.bus_name().is_none() {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            "this server slows no clients down: set inspect.slow to true",
        ));
    }
    let names = api.node_names();
    let refused = match hub.slow_down_anywhere(client, Duration::from_secs(seconds)).await {
        SlowDown::Done(node) => {
            return Ok(Json(Slowed { client_id: client.to_string(), seconds, node: api.node_name(node) }));
        }
        SlowDown::NotPermitted(node) => (
            ErrorCode::Forbidden,
            format!("node {} slows no clients down: set inspect.slow to true there", api.node_name(node)),
        ),
        SlowDown::NotFound { silent } if silent.is_empty() => {
            (ErrorCode::ClientNotFound, "no node has such a connection".to_owned())
        }
        SlowDown::NotFound { silent } => {
            let silent: Vec<String> = silent.into_iter().map(|node| names.of(node)).collect();
            let message = format!(
                "no node that answered has such a connection, and of these there was no answer within two seconds: {}",
                silent.join(", ")
            );
            (ErrorCode::Unavailable, message)
        }
        _ => (ErrorCode::Internal, "the connection is as it was".to_owned()),
    };
    Err(ApiError::new(refused.0, refused.1))
}
