//! The rules that the JSON dialects have in common, so that they cannot drift apart.
//!
//! Called by their `decode` and `encode`. Each dialect has its own envelope and its own names for the fields; what
//! may be in the fields, and which fields an event has in which order, is decided here.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::json::{Field, bad_request, check_portable};
use crate::{ErrorCode, Refusal};

mod kind;
mod requests;
mod write;

pub use kind::custom_kind;
pub(super) use requests::{Ask, addressee, common, idempotency_key, published_kind, room_token, start_from};
pub(super) use write::{
    Words, write_body, write_conversations, write_crowd, write_details, write_history, write_position,
    write_presence, write_reason, write_receipt, write_receipt_counts, write_receipts, write_room,
    write_subscribed, write_typing,
};

/// Longest type name, in bytes.
const TYPE_LEN_MAX: usize = 64;

/// Types that only the server sends. Application handlers cannot have these names.
pub const SERVER_TYPES: &[&str] = &[
    "welcome",
    "authenticated",
    "kicked",
    "subscribed",
    "unsubscribed",
    "ack",
    "pong",
    "error",
    "message",
    "system",
    "action",
    "topic",
    "rename",
    "reaction",
    "presence_change",
    "receipt",
    "receipt_counts",
    "command_result",
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
