//! What must hold for every frame, whoever makes it: the property tests here and the fuzz targets.
//!
//! Depends on nothing but the crate's public face and `serde_json`, which is also the oracle.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use outspoke_protocol::{
    Amendment, Body, BodyRef, ClientId, Command, Dialect, Epoch, Event, FrameKind, History, Kind, Message,
    MessageId, Payload, Position, Publisher, Refusal, Request, RequestId, RoomName, Timestamp, UserId,
    dialects,
};
use serde_json::{Value, value::RawValue};

/// Decodes the frame and checks what came out, whichever way it went.
///
/// # Panics
/// When a promise of the dialects is broken.
pub(crate) fn check_frame(dialect: &dyn Dialect, payload: Payload<'_>) {
    match dialect.decode(payload) {
        Ok(request) => check_request(dialect, payload, &request),
        Err(refusal) => check_refusal(dialect, refusal),
    }
}

/// Refusals can be written down, are short, and name the request they answer.
fn check_refusal(dialect: &dyn Dialect, refusal: Refusal) {
    assert!(!refusal.detail.is_empty() && refusal.detail.len() < 600, "{refusal}");
    let request = refusal.request.clone();
    let (code, detail) = (refusal.code, refusal.detail.to_string());
    let value = encode(dialect, &Event::Refused(refusal));
    let error = if dialect.name() == "gohub" { &value["data"] } else { &value };
    assert_eq!(error["code"], code.number());
    assert_eq!(error["message"], detail);
    check_echo(dialect, &value, request.as_ref());
}

fn check_request(dialect: &dyn Dialect, payload: Payload<'_>, request: &Request<'_>) {
    let text = match payload {
        Payload::Text(text) => text,
        Payload::Binary(frame) => header(frame),
    };
    check_echo(dialect, &encode(dialect, &Event::Pong { request: request.id.clone() }), request.id.as_ref());
    if let Some(RequestId::Text(id)) = &request.id {
        assert!(id.len() <= 64);
    }
    match &request.command {
        Command::Publish { kind, body, room, key } => {
            check_kind(text, kind);
            check_is_in_frame(text, room.as_deref());
            check_key(text, key.as_deref());
            check_published(kind.clone(), body);
        }
        Command::Direct { to, kind, body, key } => {
            check_kind(text, kind);
            check_is_in_frame(text, Some(to));
            check_key(text, key.as_deref());
            check_published(kind.clone(), body);
        }
        Command::Amend { room, target, amendment, key } => {
            assert!(*target > 0);
            check_is_in_frame(text, room.as_deref());
            check_key(text, key.as_deref());
            check_amendment(text, amendment);
        }
        Command::Typing { room, .. } | Command::Receipt { room, .. } => {
            check_is_in_frame(text, room.as_deref());
        }
        Command::Presence { room, after, .. } | Command::Receipts { room, after, .. } => {
            check_is_in_frame(text, Some(room));
            check_is_in_frame(text, after.as_deref());
        }
        Command::Conversations { after, .. } => check_is_in_frame(text, after.as_deref()),
        Command::Custom { name, data } => {
            assert!((1..=64).contains(&name.len()));
            assert!(!dialects::SERVER_TYPES.contains(&name.as_ref()), "{name}");
            check_is_in_frame(text, Some(name));
            if let Some(data) = data {
                check_strict_parse(data);
            }
        }
        Command::Authenticate { token } => check_is_in_frame(text, Some(token.reveal())),
        Command::Kick { room, user, .. } => {
            check_is_in_frame(text, room.as_deref());
            check_is_in_frame(text, Some(user));
        }
        Command::Subscribe { room, .. } | Command::Unsubscribe { room } | Command::History { room, .. } => {
            check_is_in_frame(text, Some(room));
        }
        _ => {}
    }
}

/// The JSON before the bytes of a binary frame.
fn header(frame: &[u8]) -> &str {
    let length = usize::from(u16::from_be_bytes([frame[0], frame[1]]));
    std::str::from_utf8(&frame[2..2 + length]).expect("what was read is UTF-8")
}

/// The texts that came out are somewhere in the frame, as another parser reads it.
fn check_is_in_frame(frame: &str, wanted: Option<&str>) {
    fn has(value: &Value, wanted: &str) -> bool {
        match value {
            Value::String(text) => text == wanted,
            Value::Array(items) => items.iter().any(|item| has(item, wanted)),
            Value::Object(fields) => fields.values().any(|item| has(item, wanted)),
            _ => false,
        }
    }
    // Deeper or larger than the oracle reads, in fields that nobody uses, is fine.
    if let (Some(wanted), Ok(value)) = (wanted, serde_json::from_str::<Value>(frame)) {
        assert!(has(&value, wanted), "{wanted:?} is not in {frame}");
    }
}

/// Clients choose their own names for what they say, never the server's.
fn check_kind(frame: &str, kind: &Kind) {
    match kind {
        Kind::Chat | Kind::Data => {}
        Kind::Custom(name) => {
            assert!((1..=64).contains(&name.len()) && !dialects::SERVER_TYPES.contains(&name.as_str()));
            check_is_in_frame(frame, Some(name));
        }
        other => panic!("a client says {other:?}"),
    }
}

fn check_key(frame: &str, key: Option<&str>) {
    check_is_in_frame(frame, key);
    assert!(key.is_none_or(|key| (1..=64).contains(&key.len())));
}

fn check_amendment(frame: &str, amendment: &Amendment<'_>) {
    match amendment {
        Amendment::Edit(body) => {
            let kind = if matches!(body, BodyRef::Text(_)) { Kind::Chat } else { Kind::Data };
            check_published(kind, body);
        }
        Amendment::React { reaction, .. } => {
            check_is_in_frame(frame, Some(reaction));
            assert!((1..=40).contains(&reaction.len()) && !reaction.contains(char::is_control));
        }
        Amendment::Delete => {}
    }
}

/// What one client may publish, every receiver must be able to read, in every dialect.
fn check_published(kind: Kind, body: &BodyRef<'_>) {
    let body = match body {
        BodyRef::Text(text) => Body::Text(text.as_ref().into()),
        BodyRef::Json(data) => {
            check_strict_parse(data);
            Body::Json(Bytes::copy_from_slice(data.get().as_bytes()))
        }
        BodyRef::Binary(bytes) => Body::Binary(Bytes::copy_from_slice(bytes)),
    };
    let message = Message {
        id: MessageId::from_u128(7),
        room: RoomName::new("lobby", 5).ok(),
        position: Some(Position { epoch: Epoch::from_u64(1), offset: 1 }),
        kind,
        from: Some(Publisher {
            user: UserId::new("user123"),
            name: "Alice".into(),
            client: ClientId::from_u128(9),
        }),
        ts: Timestamp::from_millis(0),
        body,
        details: None,
    };
    for dialect in dialects::standard() {
        let value = encode(dialect.as_ref(), &Event::Message(message.clone()));
        check_body(dialect.as_ref(), &value, &message.body);
        // The deepest place that it ever gets to.
        let history = History {
            request: None,
            room: RoomName::new("lobby", 5).expect("a printable name of five bytes"),
            epoch: Epoch::from_u64(1),
            first: 1,
            head: 1,
            messages: vec![message.clone()],
            more: false,
        };
        let page = encode(dialect.as_ref(), &Event::History(Box::new(history)));
        assert!(depth(&page) <= 64, "some receivers read 64 levels only: {page}");
        let page = if dialect.name() == "gohub" { &page["data"] } else { &page };
        assert_eq!(page["messages"][0], value);
    }
}

fn check_body(dialect: &dyn Dialect, value: &Value, body: &Body) {
    let inner = if dialect.name() == "gohub" { &value["data"] } else { value };
    match body {
        Body::Text(text) => assert_eq!(inner["content"], text.as_str()),
        Body::Json(json) => {
            assert_eq!(inner["data"], serde_json::from_slice::<Value>(json).expect("was parsed before"));
        }
        Body::Binary(bytes) => {
            assert_eq!(inner["base64"].as_str(), Some(BASE64_STANDARD.encode(bytes).as_str()));
        }
        _ => {}
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// `serde_json` is as strict as receivers get: 128 levels, doubles only, whole surrogate pairs.
fn check_strict_parse(data: &RawValue) {
    serde_json::from_str::<Value>(data.get()).unwrap_or_else(|error| panic!("{error}: {data}"));
}

fn check_echo(dialect: &dyn Dialect, value: &Value, request: Option<&RequestId>) {
    let echoed = if dialect.name() == "gohub" { &value["message_id"] } else { &value["id"] };
    match request {
        Some(RequestId::Number(number)) => assert_eq!(echoed, number),
        Some(RequestId::Text(text)) => assert_eq!(echoed, text.as_str()),
        None if dialect.name() == "gohub" => assert_eq!(echoed, 0),
        None => assert!(echoed.is_null()),
    }
}

/// The event as one line of valid JSON, parsed back. Control characters inside would be no JSON. The bytes of a binary frame
/// are put where a text frame has them.
pub(crate) fn encode(dialect: &dyn Dialect, event: &Event) -> Value {
    let mut out = Vec::new();
    let kind = dialect.encode(event, &mut out).expect("the dialects have a word for everything");
    if kind == FrameKind::Text {
        return parse(&out);
    }
    let header = header(&out);
    let mut value = parse(header.as_bytes());
    let bytes = BASE64_STANDARD.encode(&out[2 + header.len()..]);
    assert!(value["data"].is_null() && value["base64"].is_null(), "{value}");
    value["base64"] = bytes.into();
    value
}

fn parse(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(json)))
}
