//! Frames from a client that speaks `gohub`, read as requests.
//!
//! Called once per frame, on the hot path. The envelope is read first; `data` is read a second time only for
//! the types the hub itself knows, and stays unparsed for all others.

use serde_json::value::RawValue;

use super::super::shared::{
    self, Ask,
    common::{self, CONTENT, KEY, ROOM},
};
use crate::json::{Field, Names, Object, bad_request, read_object};
use crate::{BodyRef, Command, Kind, Payload, Refusal, Request, RequestId, StartFrom};

/// Largest request id: what a JavaScript number holds exactly.
const MESSAGE_ID_MAX: i64 = (1 << 53) - 1;

static ENVELOPE: Names<4> = Names::new(["message_id", "message_type", "data", "ts"]);
const MESSAGE_ID: usize = 0;
const MESSAGE_TYPE: usize = 1;
const DATA: usize = 2;
const TS: usize = 3;

/// The fields inside `data`: what `shared::common` knows, in its order.
static INNER: Names<18> = Names::new([
    "room",
    "content",
    "data",
    "idempotency_key",
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
]);

type Envelope<'a> = Object<'a, 4>;
type Inner<'a> = Object<'a, 18>;

pub(super) fn decode(payload: Payload<'_>) -> Result<Request<'_>, Refusal> {
    let Payload::Text(text) = payload else { return Err(shared::text_only("gohub")) };
    let mut envelope = Object::empty(&ENVELOPE);
    let syntax = read_object(text, &mut envelope);
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
        "subscribe" => subscribe(data),
        "unsubscribe" => unsubscribe(data),
        "join" | "leave" => Err(bad_request(format_args!(
            "only the server sends messages of type {name:?}; rooms are changed with \"subscribe\" and \"unsubscribe\""
        ))),
        _ => match Ask::from_name(&name) {
            Some(ask) => asked(ask, &name, data),
            None => {
                shared::not_from_the_server(&name)?;
                let data = envelope.raw(DATA).map(shared::portable_data).transpose()?;
                Ok(Command::Custom { name, data })
            }
        },
    }
}

/// `"hello"` or `{"content":"hello","room":"lobby"}`.
fn chat(data: Field<'_>) -> Result<Command<'_>, Refusal> {
    let (room, content, key) = match data.value() {
        Some(value) if is_object(value) => {
            let mut inner = Object::empty(&INNER);
            read_inner(value, &mut inner)?;
            let content = shared::content(inner.field(CONTENT))?;
            (inner.field(ROOM).text()?, content, shared::idempotency_key(inner.field(KEY))?)
        }
        _ => (None, shared::content(data)?, None),
    };
    Ok(Command::Publish { room, kind: Kind::Chat, body: BodyRef::Text(content), key })
}

/// `{"room":"builds","data":{"any":"json"}}`.
fn publish(data: Field<'_>) -> Result<Command<'_>, Refusal> {
    let Some(value) = data.value().filter(|value| is_object(value)) else {
        return Err(bad_request(
            "publish needs `data` to be an object such as {\"room\":\"builds\",\"data\":1}",
        ));
    };
    let mut inner = Object::empty(&INNER);
    read_inner(value, &mut inner)?;
    let published = inner.raw(common::DATA).ok_or_else(|| {
        bad_request("publish needs a second `data` inside `data`, with what to publish: {\"room\":\"builds\",\"data\":1}")
    })?;
    Ok(Command::Publish {
        room: inner.field(ROOM).text()?,
        kind: shared::published_kind(&inner)?,
        body: BodyRef::Json(shared::portable_data(published)?),
        key: shared::idempotency_key(inner.field(KEY))?,
    })
}

/// `"builds"` or `{"room":"builds"}`, the latter also with where to begin.
fn subscribe(data: Field<'_>) -> Result<Command<'_>, Refusal> {
    let (room, from, token) = match data.value() {
        Some(value) if is_object(value) => {
            let mut inner = Object::empty(&INNER);
            read_inner(value, &mut inner)?;
            (inner.field(ROOM).text()?, shared::start_from(&inner)?, shared::room_token(&inner)?)
        }
        _ => (data.text()?, StartFrom::Now, None),
    };
    Ok(Command::Subscribe { room: shared::required_room(room, "subscribe")?, from, token })
}

/// `"builds"` or `{"room":"builds"}`.
fn unsubscribe(data: Field<'_>) -> Result<Command<'_>, Refusal> {
    let room = match data.value() {
        Some(value) if is_object(value) => {
            let mut inner = Object::empty(&INNER);
            read_inner(value, &mut inner)?;
            inner.field(ROOM).text()?
        }
        _ => data.text()?,
    };
    Ok(Command::Unsubscribe { room: shared::required_room(room, "unsubscribe")? })
}

/// An object with the request's fields; the room's name alone, or nothing, where that is enough.
fn asked<'a>(ask: Ask, name: &str, data: Field<'a>) -> Result<Command<'a>, Refusal> {
    match data.value() {
        Some(value) if is_object(value) => {
            let mut inner = Object::empty(&INNER);
            read_inner(value, &mut inner)?;
            ask.read(name, &inner, || inner.field(ROOM).text())
        }
        Some(_) if ask.is_of_a_room() => ask.read(name, &Object::empty(&INNER), || data.text()),
        Some(value) if ask != Ask::Commands => Err(bad_request(format_args!(
            "{name} needs `data` to be an object with its fields, this one starts with {:?}",
            value.get().chars().next().unwrap_or_default()
        ))),
        _ => ask.read(name, &Object::empty(&INNER), || Ok(None)),
    }
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

fn read_inner<'a>(value: &'a RawValue, inner: &mut Inner<'a>) -> Result<(), Refusal> {
    read_object(value.get(), inner)
        .map_err(|refusal| bad_request(format_args!("inside `data`: {}", refusal.detail)))
}
