//! The rules that the JSON dialects have in common, so that they cannot drift apart.
//!
//! Called by their `decode`. Each dialect has its own field names; what may be in the fields is decided here.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::{Field, bad_request, check_portable};
use crate::{Epoch, ErrorCode, Position, Refusal, StartFrom};

/// Longest type name, in bytes.
const TYPE_LEN_MAX: usize = 64;

/// Types that only the server sends. Application handlers cannot have these names.
pub const SERVER_TYPES: &[&str] = &[
    "welcome",
    "subscribed",
    "unsubscribed",
    "ack",
    "pong",
    "error",
    "message",
    "system",
    "gap",
    "going_away",
];

/// The message's type.
pub(super) fn type_name<'a>(field: Field<'a>, example: &str) -> Result<Cow<'a, str>, Refusal> {
    match field.text()? {
        Some(name) if name.is_empty() => Err(bad_request(format_args!("the type is empty; send {example}"))),
        Some(name) if name.len() > TYPE_LEN_MAX => Err(bad_request(format_args!(
            "a type has at most {TYPE_LEN_MAX} bytes, this one has {}",
            name.len()
        ))),
        Some(name) => Ok(name),
        None => Err(bad_request(format_args!("a message needs a type; send {example}"))),
    }
}

/// Refuses the types that are the server's.
pub(super) fn not_from_the_server(name: &str) -> Result<(), Refusal> {
    if SERVER_TYPES.contains(&name) {
        return Err(bad_request(format_args!("only the server sends messages of type {name:?}")));
    }
    Ok(())
}

/// Where a subscription is to begin.
pub(super) fn start_from(epoch: Field<'_>, offset: Field<'_>) -> Result<StartFrom, Refusal> {
    Ok(since(epoch, offset)?.map_or(StartFrom::Now, StartFrom::After))
}

/// The place a client says it was in a room's log.
pub(super) fn since(epoch: Field<'_>, offset: Field<'_>) -> Result<Option<Position>, Refusal> {
    match (epoch.text()?, offset.integer()?) {
        (None, None) => Ok(None),
        (Some(epoch), Some(offset)) => {
            let epoch = epoch_from_text(&epoch).ok_or_else(|| {
                bad_request("`epoch` must be sixteen hexadecimal digits, as the server sent it")
            })?;
            let offset = u64::try_from(offset).map_err(|_| bad_request("`offset` must not be negative"))?;
            Ok(Some(Position { epoch, offset }))
        }
        _ => Err(bad_request("`epoch` and `offset` only mean something together; send both or neither")),
    }
}

/// Stricter than `Epoch::from_str`, which accepts fewer digits and a sign.
fn epoch_from_text(text: &str) -> Option<Epoch> {
    let exact = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if exact { text.parse().ok() } else { None }
}

/// JSON that is passed on unparsed.
pub(super) fn portable_data(data: &RawValue) -> Result<&RawValue, Refusal> {
    match check_portable(data.get()) {
        Ok(()) => Ok(data),
        Err(wrong) => Err(bad_request(format_args!("`data` {wrong}"))),
    }
}

/// The content of a chat message; whether it is too long or blank is the hub's to judge.
pub(super) fn content(field: Field<'_>) -> Result<Cow<'_, str>, Refusal> {
    field.text()?.ok_or_else(|| {
        Refusal::new(ErrorCode::ContentRequired, "a chat message needs `content`, a non-empty string")
    })
}

/// The room of a request that cannot do without.
pub(super) fn required_room<'a>(room: Option<Cow<'a, str>>, what: &str) -> Result<Cow<'a, str>, Refusal> {
    room.ok_or_else(|| Refusal::new(ErrorCode::RoomRequired, ecow::eco_format!("{what} needs a room's name")))
}

/// The refusal of a binary frame.
pub(super) fn text_only(dialect: &str) -> Refusal {
    Refusal::new(
        ErrorCode::UnsupportedFrame,
        ecow::eco_format!("the {dialect} dialect reads JSON in text frames, this frame is binary"),
    )
}
