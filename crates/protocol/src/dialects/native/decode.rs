//! Frames from a client that speaks `native`, read as requests.
//!
//! Called once per frame, on the hot path. Syntax and the fields a type needs are judged here; names, lengths
//! and rights are the hub's.

use std::borrow::Cow;

use super::super::shared::{
    self, Ask,
    common::{CONTENT, DATA, KEY, ROOM, TO},
};
use super::binary::not_for_bytes;
use crate::json::{Names, Object, bad_request, read_object};
use crate::{BodyRef, Command, Kind, Refusal, Request, RequestId};

/// Longest request id that is a text, in bytes.
const ID_LEN_MAX: usize = 64;

/// First what `shared::common` knows, in its order.
static FIELDS: Names<21> = Names::new([
    "room",
    "content",
    "data",
    "idempotencyKey",
    "offset",
    "epoch",
    "last",
    "to",
    "reaction",
    "remove",
    "before",
    "after",
    "limit",
    "active",
    "token",
    "user",
    "seconds",
    "event",
    "type",
    "id",
    "channel",
]);
const TYPE: usize = 18;
const ID: usize = 19;
const CHANNEL: usize = 20;

type Fields<'a> = Object<'a, 21>;

/// A whole text frame.
pub(super) fn decode_text(text: &str) -> Result<Request<'_>, Refusal> {
    decode(text, command)
}

/// The header of a binary frame, whose bytes are `body`.
pub(super) fn decode_header<'a>(header: &'a str, body: BodyRef<'a>) -> Result<Request<'a>, Refusal> {
    decode(header, |fields| published_bytes(fields, body))
}

fn decode<'a>(
    text: &'a str,
    command: impl FnOnce(&Fields<'a>) -> Result<Command<'a>, Refusal>,
) -> Result<Request<'a>, Refusal> {
    let mut fields = Object::empty(&FIELDS);
    let syntax = read_object(text, &mut fields);
    let id = request_id(&fields);
    if let Err(refusal) = syntax {
        return Err(refusal.answering(id.ok().flatten()));
    }
    let id = id?;
    match command(&fields) {
        Ok(command) => Ok(Request { id, command }),
        Err(refusal) => Err(refusal.answering(id)),
    }
}

fn request_id(fields: &Fields<'_>) -> Result<Option<RequestId>, Refusal> {
    let field = fields.field(ID);
    let Some(value) = field.value() else { return Ok(None) };
    if !value.get().starts_with('"') {
        return match field.integer() {
            Ok(number) => Ok(number.map(RequestId::Number)),
            Err(_) => Err(bad_request("`id` must be a string or an integer of at most 64 bits")),
        };
    }
    match field.text()? {
        Some(text) if text.len() > ID_LEN_MAX => Err(bad_request(format_args!(
            "`id` has at most {ID_LEN_MAX} bytes of UTF-8, this one has {}",
            text.len()
        ))),
        text => Ok(text.map(|text| RequestId::Text(text.as_ref().into()))),
    }
}

fn command<'a>(fields: &Fields<'a>) -> Result<Command<'a>, Refusal> {
    let name = shared::type_name(fields.field(TYPE), r#"{"type":"chat","content":"hello"}"#)?;
    match name.as_ref() {
        "chat" => Ok(Command::Publish {
            kind: Kind::Chat,
            body: BodyRef::Text(shared::content(fields.field(CONTENT))?),
            room: room(fields)?,
            key: shared::idempotency_key(fields.field(KEY))?,
        }),
        "publish" => Ok(Command::Publish {
            kind: shared::published_kind(fields)?,
            body: published_data(fields)?,
            room: room(fields)?,
            key: shared::idempotency_key(fields.field(KEY))?,
        }),
        "subscribe" | "join" => {
            let room = room_or_data(fields, &name)?;
            Ok(Command::Subscribe {
                room,
                from: shared::start_from(fields)?,
                token: shared::room_token(fields)?,
            })
        }
        "unsubscribe" | "leave" => Ok(Command::Unsubscribe { room: room_or_data(fields, &name)? }),
        "ping" => Ok(Command::Ping),
        _ => match Ask::from_name(&name) {
            Some(ask) => ask.read(&name, fields, || room(fields)),
            None => custom(name, fields),
        },
    }
}

fn published_bytes<'a>(fields: &Fields<'a>, body: BodyRef<'a>) -> Result<Command<'a>, Refusal> {
    let name = shared::type_name(fields.field(TYPE), r#"{"type":"publish","room":"sensors"}"#)?;
    if !matches!(name.as_ref(), "publish" | "direct") {
        return Err(not_for_bytes(&name));
    }
    if fields.raw(DATA).is_some() || fields.raw(CONTENT).is_some() {
        return Err(not_for_bytes("one with both"));
    }
    let kind = shared::published_kind(fields)?;
    let key = shared::idempotency_key(fields.field(KEY))?;
    Ok(match name.as_ref() {
        "direct" => Command::Direct { to: shared::addressee(fields.field(TO))?, kind, body, key },
        _ => Command::Publish { room: room(fields)?, kind, body, key },
    })
}

fn custom<'a>(name: Cow<'a, str>, fields: &Fields<'a>) -> Result<Command<'a>, Refusal> {
    shared::not_from_the_server(&name)?;
    let data = fields.raw(DATA).map(shared::portable_data).transpose()?;
    Ok(Command::Custom { name, data })
}

fn published_data<'a>(fields: &Fields<'a>) -> Result<BodyRef<'a>, Refusal> {
    let data = fields.raw(DATA).ok_or_else(|| bad_request("publish needs `data`, any JSON value"))?;
    shared::portable_data(data).map(BodyRef::Json)
}

/// The room a request names, by either word.
fn room<'a>(fields: &Fields<'a>) -> Result<Option<Cow<'a, str>>, Refusal> {
    one_room(fields.field(ROOM).text()?, fields.field(CHANNEL).text()?, "`room` and `channel`")
}

/// The room to come into or go out of: here `data` may hold its name, too.
fn room_or_data<'a>(fields: &Fields<'a>, what: &str) -> Result<Cow<'a, str>, Refusal> {
    let named = one_room(room(fields)?, fields.field(DATA).text()?, "`room` and `data`")?;
    shared::required_room(named, what)
}

fn one_room<'a>(
    one: Option<Cow<'a, str>>,
    other: Option<Cow<'a, str>>,
    both: &str,
) -> Result<Option<Cow<'a, str>>, Refusal> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(bad_request(format_args!(
            "{both} name the same thing here; these two differ, send one of them"
        ))),
        (one, other) => Ok(one.or(other)),
    }
}
