//! What the application is sent and what it answers. Documented in `docs/operating/authentication.md`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use outspoke_hub::{Action, Body, Identity, Permissions};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Question<'a> {
    Connect(Connect<'a>),
    Subscribe(InRoom<'a>),
    Publish(InRoom<'a>),
}

#[derive(Debug, Serialize)]
pub(super) struct Connect<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<&'a str>,
    pub(super) headers: BTreeMap<&'a str, &'a str>,
}

#[derive(Debug, Serialize)]
pub(super) struct InRoom<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) tenant: &'a str,
    pub(super) user: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) device: &'a str,
    pub(super) room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<&'a serde_json::Value>,
    #[serde(flatten)]
    pub(super) said: Said,
}

/// What is to be said: one of these, or nothing.
#[derive(Debug, Default, Serialize)]
pub(super) struct Said {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<String>,
}

impl Said {
    pub(super) fn of(body: Option<&Body>) -> Self {
        match body {
            Some(Body::Text(text)) => Self { text: Some(text.to_string()), ..Self::default() },
            Some(Body::Json(json)) => Self { data: serde_json::from_slice(json).ok(), ..Self::default() },
            Some(Body::Binary(bytes)) => Self { binary: Some(STANDARD.encode(bytes)), ..Self::default() },
            _ => Self::default(),
        }
    }
}

impl<'a> InRoom<'a> {
    pub(super) fn new(identity: &'a Identity, room: &'a str, token: Option<&'a str>, said: Said) -> Self {
        Self {
            tenant: &identity.tenant,
            user: identity.user.as_str(),
            name: &identity.name,
            device: &identity.device,
            room,
            token,
            // What a hook said at connect comes back; a token's claims do too.
            info: identity.claims.as_deref(),
            said,
        }
    }
}

/// An answer with status 200. Fields that are not known are ignored, so that the application may say more than this version
/// understands.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    /// Absent means yes for a connect that names a user, and nothing else.
    pub(super) allow: Option<bool>,
    /// Why not, for the client.
    pub(super) reason: Option<String>,
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) tenant: String,
    #[serde(default)]
    pub(super) device: String,
    #[serde(default, deserialize_with = "rooms")]
    pub(super) rooms: Option<Permissions>,
    /// Seconds since 1970.
    pub(super) expires: Option<i64>,
    #[serde(default)]
    pub(super) credential: String,
    pub(super) info: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) actions: Vec<Action>,
}

/// Absent is not the same as something else than permissions.
fn rooms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Permissions>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let permissions = crate::permissions::from_json(&value);
    permissions.map(Some).ok_or_else(|| D::Error::custom("rooms is no object of lists"))
}
