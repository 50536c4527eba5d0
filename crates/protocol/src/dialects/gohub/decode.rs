//! Frames from a client that speaks `gohub`, read as requests.
//!
//! Called once per frame, on the hot path. The envelope is read first; `data` is read a second time only for
//! the types the hub itself knows, and stays unparsed for all others.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::super::shared;
use crate::json::{Field, Object, bad_request, read_object};
use crate::{BodyRef, Command, Kind, Payload, Refusal, Request, RequestId, StartFrom};

/// Largest request id: what a JavaScript number holds exactly.
const MESSAGE_ID_MAX: i64 = (1 << 53) - 1;

const ENVELOPE: [&str; 4] = ["message_id", "message_type", "data", "ts"];
const MESSAGE_ID: usize = 0;
const MESSAGE_TYPE: usize = 1;
const DATA: usize = 2;
const TS: usize = 3;

/// The fields inside `data`.
const INNER: [&str; 5] = ["room", "content", "data", "epoch", "offset"];
const ROOM: usize = 0;
const CONTENT: usize = 1;
const INNER_DATA: usize = 2;
const EPOCH: usize = 3;
const OFFSET: usize = 4;

type Envelope<'a> = Object<'a, { ENVELOPE.len() }>;
type Inner<'a> = Object<'a, { INNER.len() }>;

pub(super) fn decode(payload: Payload<'_>) -> Result<Request<'_>, Refusal> {
    let Payload::Text(text) = payload else { return Err(shared::text_only("gohub")) };
    let (envelope, syntax) = read_object(text, &ENVELOPE);
    let id = request_id(&envelope);
    if let Err(refusal) = syntax {
        return Err(refusal.answering(id.ok().flatten()));
    }
    let id = id?;
    match command(&envelope) {
        Ok(command) => Ok(Request { id, command }),
        Err(refusal) => Err(refusal.answering(id)),
    }
}

/// The request's id; 0 asks for no answer, so it is none.
fn request_id(envelope: &Envelope<'_>) -> Result<Option<RequestId>, Refusal> {
    match envelope.field(MESSAGE_ID).integer()? {
        Some(0) => Ok(None),
        Some(number @ 1..=MESSAGE_ID_MAX) => Ok(Some(RequestId::Number(number))),
        Some(_) => {
            Err(bad_request(format_args!("`message_id` must be 0 to {MESSAGE_ID_MAX}; 0 asks for no answer")))
        }
        None => Err(bad_request("a message needs a `message_id`, an integer; 0 asks for no answer")),
    }
}

fn command<'a>(envelope: &Envelope<'a>) -> Result<Command<'a>, Refusal> {
    envelope.field(TS).integer()?;
    let name = shared::type_name(envelope.field(MESSAGE_TYPE), r#"{"message_id":1,"message_type":"ping"}"#)?;
    let data = envelope.field(DATA);
    match name.as_ref() {
        "ping" => Ok(Command::Ping),
        "chat" => chat(data),
        "publish" => publish(data),
        "subscribe" => {
            let (room, from) = room_and_start(data, "subscribe")?;
            Ok(Command::Subscribe { room, from })
        }
        "unsubscribe" => {
            let (room, _) = room_and_start(data, "unsubscribe")?;
            Ok(Command::Unsubscribe { room })
        }
        "join" | "leave" => Err(bad_request(format_args!(
            "only the server sends messages of type {name:?}; rooms are changed with \"subscribe\" and \"unsubscribe\""
        ))),
        _ => {
            shared::not_from_the_server(&name)?;
            let data = envelope.raw(DATA).map(shared::portable_data).transpose()?;
            Ok(Command::Custom { name, data })
        }
    }
}

/// `"hello"` or `{"content":"hello","room":"lobby"}`.
fn chat(data: Field<'_>) -> Result<Command<'_>, Refusal> {
    let (room, content) = match data.value() {
        Some(value) if is_object(value) => {
            let inner = read_inner(value)?;
            (inner.field(ROOM).text()?, shared::content(inner.field(CONTENT))?)
        }
        _ => (None, shared::content(data)?),
    };
    Ok(Command::Publish { room, kind: Kind::Chat, body: BodyRef::Text(content), key: None })
}

/// `{"room":"builds","data":{"any":"json"}}`.
fn publish(data: Field<'_>) -> Result<Command<'_>, Refusal> {
    let Some(value) = data.value().filter(|value| is_object(value)) else {
        return Err(bad_request(
            "publish needs `data` to be an object such as {\"room\":\"builds\",\"data\":1}",
        ));
    };
    let inner = read_inner(value)?;
    let published = inner.raw(INNER_DATA).ok_or_else(|| {
        bad_request("publish needs a second `data` inside `data`, with what to publish: {\"room\":\"builds\",\"data\":1}")
    })?;
    Ok(Command::Publish {
        room: inner.field(ROOM).text()?,
        kind: Kind::Data,
        body: BodyRef::Json(shared::portable_data(published)?),
        key: None,
    })
}

/// `"builds"` or `{"room":"builds"}`, to subscribe also with `epoch` and `offset`.
fn room_and_start<'a>(data: Field<'a>, what: &str) -> Result<(Cow<'a, str>, StartFrom), Refusal> {
    match data.value() {
        Some(value) if is_object(value) => {
            let inner = read_inner(value)?;
            let from = shared::start_from(inner.field(EPOCH), inner.field(OFFSET))?;
            Ok((shared::required_room(inner.field(ROOM).text()?, what)?, from))
        }
        _ => Ok((shared::required_room(data.text()?, what)?, StartFrom::Now)),
    }
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

fn read_inner(value: &RawValue) -> Result<Inner<'_>, Refusal> {
    let (inner, syntax) = read_object(value.get(), &INNER);
    match syntax {
        Ok(()) => Ok(inner),
        Err(refusal) => Err(bad_request(format_args!("inside `data`: {}", refusal.detail))),
    }
}
