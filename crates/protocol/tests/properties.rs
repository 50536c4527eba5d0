//! Promises of the dialects, held against arbitrary frames and events.
#![allow(clippy::unwrap_used)]

mod checks;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use checks::{check_frame, encode};
use outspoke_protocol::{
    Acknowledgement, Body, ClientId, Dialect, Epoch, ErrorCode, Event, Gap, Kind, Message, MessageId, Notice,
    Payload, Position, Publisher, Refusal, RequestId, RoomName, Timestamp, UserId, Welcome, dialects,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn dialect() -> impl Strategy<Value = Arc<dyn Dialect>> {
    prop::sample::select(dialects::standard())
}

/// Any text, with a good share of what is special in JSON, in scripts and in terminals.
fn text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        '"',
        '\\',
        '/',
        '\0',
        '\n',
        '\r',
        '\u{7f}',
        '\u{85}',
        '\u{2028}',
        '\u{2029}',
        '\u{202e}',
        '\u{feff}',
        '\u{d7ff}',
        '\u{e000}',
        '\u{ffff}',
        '\u{10ffff}',
        '<',
        '&',
        '😀',
        '\u{20ac}',
    ]);
    prop::collection::vec(prop_oneof![any::<char>(), odd, prop::char::range(' ', '~')], 0..40)
        .prop_map(|chars| chars.into_iter().collect())
}

/// JSON values as clients send them, some of which receivers could not read.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>().prop_filter_map("finite", |value| value.is_finite().then(|| format!("{value:e}"))),
        "-?[1-9][0-9]{0,400}(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?",
        text().prop_map(|value| Value::from(value).to_string()),
        "\"(\\\\u[dD][89a-fA-F][0-9a-f]{2}|\\\\n|\\\\\\\\|[a-z]){0,6}\"",
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(" ,"))),
            prop::collection::vec((text(), inner), 0..5).prop_map(|fields| {
                let fields =
                    fields.iter().map(|(key, value)| format!("{}: {value}", Value::from(key.as_str())));
                format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

/// Objects with the right names and any values: what a broken client sends.
fn nearly_a_message() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "type",
        "id",
        "room",
        "channel",
        "content",
        "data",
        "epoch",
        "offset",
        "message_id",
        "message_type",
        "ts",
        "x",
    ]);
    let value = prop_oneof![
        3 => prop::sample::select(vec![
            r#""chat""#, r#""publish""#, r#""subscribe""#, r#""unsubscribe""#, r#""ping""#, r#""vote""#,
            r#""system""#, r#""lobby""#, "1", "0", r#""000000000000001f""#,
            r#"{"room":"a","content":"b"}"#, r#"{"room":"a","data":[1]}"#,
        ]).prop_map(str::to_owned),
        2 => json_text(),
    ];
    prop::collection::vec((name, value), 0..8).prop_map(|fields| {
        let fields = fields.iter().map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    })
}

fn request_id() -> impl Strategy<Value = RequestId> {
    prop_oneof![
        any::<i64>().prop_map(RequestId::Number),
        text().prop_map(|text| RequestId::Text(text.into()))
    ]
}

fn room() -> impl Strategy<Value = RoomName> {
    text().prop_map(|text| {
        let printable = |c: &char| RoomName::new(&format!("x{c}x"), 8).is_ok();
        let name: String = text.chars().filter(printable).collect();
        RoomName::new(&format!("<{name}>"), 256).unwrap()
    })
}

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u64>())
        .prop_map(|(epoch, offset)| Position { epoch: Epoch::from_u64(epoch), offset })
}

fn publisher() -> impl Strategy<Value = Publisher> {
    (text(), text(), any::<u128>()).prop_map(|(user, name, client)| Publisher {
        user: UserId::new(user),
        name: name.into(),
        client: ClientId::from_u128(client),
    })
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::Empty),
        text().prop_map(|text| Body::Text(text.into())),
        prop::collection::vec(text(), 0..3).prop_map(|texts| Body::json(&texts).unwrap()),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(|bytes| Body::Binary(Bytes::from(bytes))),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let kind = prop_oneof![
        prop::sample::select(vec![Kind::Chat, Kind::System, Kind::Join, Kind::Leave, Kind::Data]),
        text().prop_map(|name| Kind::Custom(name.into())),
    ];
    let place = (prop::option::of(room()), prop::option::of(position()));
    (any::<u128>(), place, kind, prop::option::of(publisher()), any::<i64>(), body()).prop_map(
        |(id, (room, position), kind, from, ts, body)| Message {
            id: MessageId::from_u128(id),
            room,
            position,
            kind,
            from,
            ts: Timestamp::from_millis(ts),
            body,
        },
    )
}

fn answer() -> impl Strategy<Value = Event> {
    let request = || prop::option::of(request_id());
    prop_oneof![
        (request(), room(), position(), any::<u32>()).prop_map(|(request, room, position, members)| {
            Event::Subscribed { request, room, position, members: members as usize }
        }),
        (request(), room()).prop_map(|(request, room)| Event::Unsubscribed { request, room }),
        (request_id(), room(), any::<u128>(), position(), any::<i64>(), any::<bool>()).prop_map(
            |(request, room, id, position, ts, duplicate)| {
                let (id, ts) = (MessageId::from_u128(id), Timestamp::from_millis(ts));
                Event::Acknowledged(Acknowledgement { request, room, id, position, ts, duplicate })
            }
        ),
        request().prop_map(|request| Event::Pong { request }),
        (request(), prop::sample::select(ErrorCode::ALL.to_vec()), text(), any::<Option<Duration>>())
            .prop_map(|(request, code, detail, retry_after)| {
                Event::Refused(Refusal { request, code, detail: detail.into(), retry_after })
            }),
        (request(), text(), prop::option::of(text())).prop_map(|(request, name, data)| Event::Reply {
            request,
            name: name.into(),
            data: data.map(|text| Bytes::from(serde_json::to_vec(&text).unwrap())),
        }),
        (room(), position(), any::<u64>()).prop_map(|(room, to, missed)| Event::Gap(Gap {
            room,
            to,
            missed
        })),
        any::<Duration>().prop_map(|reconnect_after| Event::Notice(Notice::GoingAway { reconnect_after })),
        (publisher(), any::<i64>(), any::<Duration>(), any::<bool>()).prop_map(
            |(who, ts, ping_interval, open_mode)| {
                Event::Welcome(Box::new(Welcome {
                    client: who.client,
                    user: who.user,
                    name: who.name,
                    ts: Timestamp::from_millis(ts),
                    ping_interval,
                    message_bytes_max: usize::MAX,
                    open_mode,
                }))
            }
        ),
    ]
}

/// The fields of a message, read back from either dialect.
fn check_message(dialect: &dyn Dialect, message: &Message) {
    let value = encode(dialect, &Event::Message(message.clone()));
    let gohub = dialect.name() == "gohub";
    let inner = if gohub { &value["data"] } else { &value };
    assert_eq!(value[if gohub { "message_type" } else { "type" }], message.kind.name());
    if gohub {
        assert_eq!(value["ts"], message.ts.as_millis());
        assert_eq!(value["message_id"], 0);
    } else {
        assert_eq!(value["timestamp"], message.ts.to_string());
    }
    assert_eq!(inner.get("room"), message.room.as_ref().map(|room| json!(room.as_str())).as_ref());
    assert_eq!(inner.get("offset"), message.position.map(|position| json!(position.offset)).as_ref());
    assert_eq!(
        inner.get("epoch"),
        message.position.map(|position| json!(position.epoch.to_string())).as_ref()
    );
    let user = inner.get(if gohub { "user_id" } else { "userId" });
    assert_eq!(user, message.from.as_ref().map(|from| json!(from.user.as_str())).as_ref());
    assert_eq!(inner.get("username"), message.from.as_ref().map(|from| json!(from.name)).as_ref());
    let is_for_people = matches!(message.kind, Kind::Chat | Kind::System);
    match &message.body {
        Body::Text(text) => assert_eq!(inner[if is_for_people { "content" } else { "data" }], text.as_str()),
        Body::Json(json) => assert_eq!(inner["data"], serde_json::from_slice::<Value>(json).unwrap()),
        Body::Binary(bytes) => {
            use base64::Engine as _;
            let text = inner["base64"].as_str().unwrap();
            assert_eq!(base64::engine::general_purpose::STANDARD.decode(text).unwrap(), bytes.as_ref());
        }
        _ => assert!(["content", "data", "base64"].iter().all(|name| inner.get(name).is_none())),
    }
}

proptest! {
    // A failure prints its smallest input; that belongs into a test of its own, not into a file of seeds.
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn dialects_keep_their_promises_on_any_text(dialect in dialect(), text in text()) {
        check_frame(dialect.as_ref(), Payload::Text(&text));
    }

    #[test]
    fn dialects_keep_their_promises_on_any_bytes(dialect in dialect(), bytes in any::<Vec<u8>>()) {
        check_frame(dialect.as_ref(), Payload::Binary(&bytes));
        check_frame(dialect.as_ref(), Payload::Text(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn dialects_keep_their_promises_on_any_json(dialect in dialect(), text in json_text()) {
        check_frame(dialect.as_ref(), Payload::Text(&text));
    }

    #[test]
    fn dialects_keep_their_promises_on_nearly_messages(dialect in dialect(), text in nearly_a_message()) {
        check_frame(dialect.as_ref(), Payload::Text(&text));
    }

    /// The poison pill: accepted from one client, unreadable for the others.
    #[test]
    fn dialects_accept_only_data_that_every_receiver_can_read(data in json_text()) {
        let (native, gohub) = (&dialects::standard()[0], &dialects::standard()[1]);
        let strict = serde_json::from_str::<Value>(&data).is_ok();
        for (dialect, frame) in [
            (native, format!(r#"{{"type":"publish","room":"a","data":{data}}}"#)),
            (native, format!(r#"{{"type":"vote","data":{data}}}"#)),
            (gohub, format!(r#"{{"message_id":1,"message_type":"publish","data":{{"room":"a","data":{data}}}}}"#)),
            (gohub, format!(r#"{{"message_id":1,"message_type":"vote","data":{data}}}"#)),
        ] {
            prop_assert_eq!(dialect.decode(Payload::Text(&frame)).is_ok(), strict, "{}", frame);
            check_frame(dialect.as_ref(), Payload::Text(&frame));
        }
    }

    #[test]
    fn dialects_read_chat_as_any_json_library_writes_it(content in text(), room in text(), id in any::<i64>()) {
        let frame = json!({"type": "chat", "content": content, "room": room, "id": id, "extra": [room]}).to_string();
        let request = dialects::standard()[0].decode(Payload::Text(&frame)).unwrap();
        prop_assert_eq!(request.id, Some(RequestId::Number(id)));
        let outspoke_protocol::Command::Publish { room: Some(read_room), body, .. } = request.command else {
            panic!("{frame}")
        };
        let outspoke_protocol::BodyRef::Text(read) = body else { panic!("{frame}") };
        prop_assert_eq!(read.as_ref(), content.as_str());
        prop_assert_eq!(read_room.as_ref(), room.as_str());
    }

    #[test]
    fn dialects_write_messages_that_read_back_the_same(dialect in dialect(), message in message()) {
        check_message(dialect.as_ref(), &message);
    }

    /// One line each, whatever is inside: people read these in terminals and logs. Only the data of an
    /// application's handler is passed on as the application wrote it.
    #[test]
    fn dialects_write_answers_as_one_line_of_valid_json(dialect in dialect(), event in answer()) {
        let mut out = Vec::new();
        dialect.encode(&event, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let is_one_line = text.chars().all(|c| !matches!(c, '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}'));
        prop_assert!(is_one_line || matches!(event, Event::Reply { data: Some(_), .. }), "{}", text);
        let value = encode(dialect.as_ref(), &event);
        match &event {
            Event::Subscribed { request, .. } | Event::Pong { request } | Event::Reply { request, .. }
                if dialect.name() == "native" =>
            {
                let id = request.as_ref().map(|id| json!(id));
                prop_assert_eq!(value.get("id"), id.as_ref());
            }
            _ => {}
        }
    }
}
