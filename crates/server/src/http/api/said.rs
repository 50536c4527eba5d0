//! What a request wants to be said: a type and its body.
//!
//! The same everywhere that something is said: `content` is text for people, `data` any JSON for programs.

use outspoke_hub::protocol::{check_portable, dialects};
use outspoke_hub::{Body, ErrorCode, Hub, Kind};

use super::error::ApiError;
use super::input::Fields;

/// Something to say.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) kind: Kind,
    pub(super) body: Body,
}

impl Said {
    /// Reads `type`, `content` and `data`.
    pub(super) fn read(fields: &Fields<'_>, hub: &Hub) -> Result<Self, ApiError> {
        let content = fields.optional::<String>("content")?;
        let data = fields.raw("data");
        let kind = match fields.optional::<String>("type")? {
            Some(name) => kind_of(&name)?,
            None if data.is_some() => Kind::Data,
            None => Kind::Chat,
        };
        let body = match (content, data) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_request(
                    "`content` is for people and `data` for programs: send one of them",
                ));
            }
            (None, None) => {
                let message = "there is nothing to say: send `content`, a string, or `data`, any JSON";
                return Err(ApiError::new(ErrorCode::ContentRequired, message));
            }
            (Some(content), None) if kind != Kind::Data => Body::Text(checked(&kind, content, hub)?.into()),
            (None, Some(data)) if !is_for_people(&kind) => Body::Json(portable(data.get())?),
            (Some(_), None) => {
                return Err(ApiError::bad_request(
                    "a message of type \"message\" has `data`, and no `content`",
                ));
            }
            (None, Some(_)) => {
                let message = format!("a message of type {:?} has `content`, and no `data`", kind.name());
                return Err(ApiError::bad_request(message));
            }
        };
        let max = hub.config().message_bytes_max;
        if body.len() > max {
            let message = format!("the message has {} bytes; at most {max} are allowed", body.len());
            return Err(ApiError::new(ErrorCode::ContentTooLong, message));
        }
        Ok(Self { kind, body })
    }
}

fn is_for_people(kind: &Kind) -> bool {
    matches!(kind, Kind::Chat | Kind::System | Kind::Action)
}

fn kind_of(name: &str) -> Result<Kind, ApiError> {
    match name {
        "chat" => Ok(Kind::Chat),
        "system" => Ok(Kind::System),
        "action" => Ok(Kind::Action),
        "message" => Ok(Kind::Data),
        name => dialects::custom_kind(name).map_err(|refusal| {
            ApiError::bad_request(format!(
                "the field `type` is chat, system, action, message, or your own name: {}",
                refusal.detail
            ))
        }),
    }
}

fn checked(kind: &Kind, content: String, hub: &Hub) -> Result<String, ApiError> {
    if is_for_people(kind) && content.trim().is_empty() {
        return Err(ApiError::new(ErrorCode::ContentRequired, "content is empty: say something"));
    }
    let (len, max) = (content.chars().count(), hub.config().content_chars_max);
    if is_for_people(kind) && len > max {
        let message = format!("content has {len} characters; at most {max} are allowed");
        return Err(ApiError::new(ErrorCode::ContentTooLong, message));
    }
    Ok(content)
}

fn portable(json: &str) -> Result<bytes::Bytes, ApiError> {
    check_portable(json).map_err(|wrong| ApiError::bad_request(format!("`data` {wrong}")))?;
    Ok(bytes::Bytes::copy_from_slice(json.as_bytes()))
}
