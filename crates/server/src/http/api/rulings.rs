//! What is decided about credentials that are out: revoked, other permissions, kept out of a room; and taken back.
//!
//! Removing somebody from a room is also for moderators; everything else is the application's. Who decided what is in the log.

use std::time::Duration;

use axum::Json;
use axum::extract::Path;
use outspoke_hub::{
    Action, AuthError, Listing, Permissions, RULING_LASTS_MAX, Refusal, Ruled, Ruling, RulingError,
    RulingInfo, Subject, UserId, Verdict,
};
use serde::Serialize;

use super::error::ApiError;
use super::history::timestamp;
use super::input::{Body, Fields, Named, Query, Whole};
use super::key::For;
use super::{room_name, users};

/// How long somebody is kept out of a room where the request does not say.
const BARRED: Duration = Duration::from_secs(300);

/// A ruling that was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    ruling: String,
    /// Whether it outlives a restart.
    durable: bool,
    /// Connections on this node that it was about.
    clients: usize,
    until: String,
}

impl From<Ruled> for Made {
    fn from(ruled: Ruled) -> Self {
        Self {
            ruling: ruled.id.to_string(),
            durable: ruled.durable,
            clients: ruled.clients,
            until: timestamp(ruled.until),
        }
    }
}

/// A ruling that holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    ruling: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(flatten)]
    what: What,
    issued_before: String,
    made: String,
    until: String,
}

#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
enum What {
    Revoked { reconnect: bool },
    Permissions { permissions: Permissions },
    Barred { room: String },
    Other,
}

impl From<RulingInfo> for Held {
    fn from(info: RulingInfo) -> Self {
        let RulingInfo { id, ruling, made, .. } = info;
        let (token, user, device) = match &ruling.subject {
            Subject::Token(id) => (Some(id.to_string()), None, None),
            Subject::User(user) => (None, Some(user.to_string()), None),
            Subject::Device { user, device } => (None, Some(user.to_string()), Some(device.to_string())),
            _ => (None, None, None),
        };
        let what = match ruling.verdict {
            Verdict::Revoked { reconnect } => What::Revoked { reconnect },
            Verdict::Permissions(permissions) => What::Permissions { permissions },
            Verdict::Barred { room } => What::Barred { room: room.to_string() },
            _ => What::Other,
        };
        Self {
            ruling: id.to_string(),
            token,
            user,
            device,
            what,
            issued_before: timestamp(ruling.issued_before),
            made: timestamp(made),
            until: timestamp(ruling.until),
        }
    }
}

/// A page of rulings.
#[derive(Debug, Serialize)]
pub(super) struct Rulings {
    rulings: Vec<Held>,
    /// What to give as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

pub(super) async fn list(asked: For, query: Query) -> Result<Json<Rulings>, ApiError> {
    query.only(&["after", "limit"])?;
    let Listing { items, more } = asked.hub.rulings(query.text("after"), query.limit()?);
    let next = items.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(Rulings { rulings: items.into_iter().map(Held::from).collect(), next }))
}

/// Whether there was such a ruling.
#[derive(Debug, Serialize)]
pub(super) struct Lifted {
    lifted: bool,
}

pub(super) async fn lift(asked: For, Named(id): Named, query: Query) -> Result<Json<Lifted>, ApiError> {
    query.only(&[])?;
    let lifted = asked.hub.lift(&id).await?;
    if !lifted {
        return Err(ApiError::not_found("there is no such ruling: it has ended, or was lifted already"));
    }
    audit(&asked, "a ruling was lifted", &id, "");
    Ok(Json(Lifted { lifted }))
}

/// A token, by its id, is not accepted any more.
pub(super) async fn revoke_token(
    asked: For,
    Named(token): Named,
    body: Body,
) -> Result<Json<Made>, ApiError> {
    let fields = body.fields(&["seconds", "reconnect"])?;
    let reconnect = fields.optional::<bool>("reconnect")?.unwrap_or(false);
    let ruling = Ruling::new(Subject::Token(token.as_str().into()), Verdict::Revoked { reconnect });
    let made = asked.hub.rule(lasting(ruling, &fields)?).await?;
    audit(&asked, "a token was revoked", &token, "");
    Ok(Json(made.into()))
}

/// Every credential that a user, or a device of the user's, has now is not accepted any more.
pub(super) async fn revoke_user(asked: For, Named(user): Named, body: Body) -> Result<Json<Made>, ApiError> {
    let fields = body.fields(&["device", "seconds", "reconnect"])?;
    let user = users::checked_id(&asked.hub, &user)?;
    let device = fields.optional::<String>("device")?;
    let reconnect = fields.optional::<bool>("reconnect")?.unwrap_or(false);
    let subject = match &device {
        None => Subject::User(UserId::new(user.as_str())),
        Some(device) => Subject::Device { user: UserId::new(user.as_str()), device: device.as_str().into() },
    };
    let ruling = Ruling::new(subject, Verdict::Revoked { reconnect });
    let made = asked.hub.rule(lasting(ruling, &fields)?).await?;
    audit(&asked, "a user's credentials were revoked", &user, device.as_deref().unwrap_or_default());
    Ok(Json(made.into()))
}

/// A user may do this from now on, whatever the credentials say that are out.
pub(super) async fn set_permissions(
    asked: For,
    Named(user): Named,
    body: Body,
) -> Result<Json<Made>, ApiError> {
    let fields = body.fields(&["permissions", "seconds"])?;
    let user = users::checked_id(&asked.hub, &user)?;
    let given = fields.raw("permissions").map_or("null", |permissions| permissions.get());
    let permissions: Permissions = serde_json::from_str(given).map_err(|error| {
        ApiError::bad_request(format!(
            "the field `permissions` must be an object with lists of patterns, such as {{\"join\": [\"*\"]}}: {error}"
        ))
    })?;
    let ruling = Ruling::new(Subject::User(UserId::new(user.as_str())), Verdict::Permissions(permissions));
    let made = asked.hub.rule(lasting(ruling, &fields)?).await?;
    audit(&asked, "a user's permissions were changed", &user, "");
    Ok(Json(made.into()))
}

/// A user's credentials mean again what they say.
pub(super) async fn restore_permissions(
    asked: For,
    Named(user): Named,
    query: Query,
) -> Result<Json<Lifted>, ApiError> {
    query.only(&[])?;
    let user = users::checked_id(&asked.hub, &user)?;
    let lifted = asked.hub.restore_permissions(&UserId::new(user.as_str())).await?;
    audit(&asked, "a user's permissions were restored", &user, "");
    Ok(Json(Lifted { lifted }))
}

/// Takes a user out of a room, and keeps the user out for a while.
pub(super) async fn remove(
    asked: For,
    Path((room, user)): Path<(String, String)>,
    body: Body,
) -> Result<Json<Made>, ApiError> {
    let fields = body.fields(&["seconds"])?;
    let user = may_remove(&asked, &room, &user).await?;
    let seconds = fields.optional::<Whole>("seconds")?;
    let time = seconds.map_or(BARRED, |seconds| Duration::from_secs(seconds.0));
    let made = asked.hub.remove_from_room(&room, &UserId::new(user.as_str()), time).await?;
    audit(&asked, "a user was removed from a room", &user, &room);
    Ok(Json(made.into()))
}

/// Lets a user into a room again.
pub(super) async fn readmit(
    asked: For,
    Path((room, user)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Lifted>, ApiError> {
    query.only(&[])?;
    let user = may_remove(&asked, &room, &user).await?;
    let lifted = asked.hub.readmit(&room, &UserId::new(user.as_str())).await?;
    audit(&asked, "a user was readmitted to a room", &user, &room);
    Ok(Json(Lifted { lifted }))
}

async fn may_remove(asked: &For, room: &str, user: &str) -> Result<String, ApiError> {
    room_name(&asked.hub, room)?;
    asked.check(Action::Moderate, room).await?;
    users::checked_id(&asked.hub, user)
}

/// For how long, if the request says so.
fn lasting(ruling: Ruling, fields: &Fields<'_>) -> Result<Ruling, ApiError> {
    let Some(Whole(seconds)) = fields.optional::<Whole>("seconds")? else { return Ok(ruling) };
    let max = RULING_LASTS_MAX.as_secs();
    if !(1..=max).contains(&seconds) {
        return Err(ApiError::bad_request(format!("the field `seconds` must be a number from 1 to {max}")));
    }
    Ok(ruling.lasting(Duration::from_secs(seconds)))
}

/// Who decided what, about whom. Names are others' and may hold anything: they are escaped.
fn audit(asked: &For, what: &'static str, about: &str, with: &str) {
    let (by, tenant) = (asked.caller.name(), asked.hub.tenant());
    tracing::info!(target: "outspoke::audit", by = ?by, about = ?about, with = ?with, tenant = ?tenant, "{what}");
}

impl From<RulingError> for ApiError {
    fn from(error: RulingError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        Self::new(error.code, error.detail)
    }
}
