//! Promises of the dialects, held against arbitrary frames and events.
#![allow(clippy::unwrap_used)]

mod checks;
#[allow(dead_code, reason = "each test program uses its part of them")]
mod strategies;

use std::sync::Arc;

use checks::{check_frame, encode};
use outspoke_protocol::{Body, Details, Dialect, Event, Kind, Message, Payload, RequestId, dialects};
use proptest::prelude::*;
use serde_json::{Value, json};
use strategies::events::event;
use strategies::{message, text};

fn dialect() -> impl Strategy<Value = Arc<dyn Dialect>> {
    prop::sample::select(dialects::standard())
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
        "last",
        "idempotencyKey",
        "idempotency_key",
        "to",
        "reaction",
        "remove",
        "before",
        "after",
        "limit",
        "active",
        "message_id",
        "message_type",
        "ts",
        "x",
    ]);
    let value = prop_oneof![
        3 => prop::sample::select(vec![
            r#""chat""#, r#""publish""#, r#""subscribe""#, r#""unsubscribe""#, r#""ping""#, r#""vote""#,
            r#""system""#, r#""lobby""#, "1", "0", r#""000000000000001f""#, "true", "false",
            r#""direct""#, r#""edit""#, r#""delete""#, r#""react""#, r#""history""#, r#""presence""#,
            r#""typing""#, r#""delivered""#, r#""seen""#, r#""receipts""#, r#""conversations""#,
            r#""commands""#, r#"{"to":"a","content":"b"}"#, r#"{"offset":1,"data":[1],"idempotency_key":"k"}"#,
            r#"{"offset":1,"reaction":"x","remove":true}"#, r#"{"room":"a","after":1,"limit":2}"#,
            r#"{"room":"a","content":"b"}"#, r#"{"room":"a","data":[1]}"#,
        ]).prop_map(str::to_owned),
        2 => json_text(),
    ];
    prop::collection::vec((name, value), 0..8).prop_map(|fields| {
        let fields = fields.iter().map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    })
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
    let text_name = text_name(&message.kind, gohub);
    match &message.body {
        Body::Text(text) => assert_eq!(inner[text_name], text.as_str()),
        Body::Json(json) => assert_eq!(inner["data"], serde_json::from_slice::<Value>(json).unwrap()),
        Body::Binary(bytes) => {
            use base64::Engine as _;
            let text = inner["base64"].as_str().unwrap();
            assert_eq!(base64::engine::general_purpose::STANDARD.decode(text).unwrap(), bytes.as_ref());
        }
        _ if matches!(message.kind, Kind::Chat | Kind::Action | Kind::Topic) => {
            assert_eq!(inner[text_name], "");
        }
        _ => assert!([text_name, "data", "base64"].iter().all(|name| inner.get(name).is_none())),
    }
    let is_reaction = message.kind == Kind::Reaction;
    check_details(inner, gohub, is_reaction, &message.details.as_deref().cloned().unwrap_or_default());
}

fn text_name(kind: &Kind, gohub: bool) -> &'static str {
    match kind {
        Kind::Chat | Kind::System | Kind::Action | Kind::Edit => "content",
        Kind::Topic => "topic",
        Kind::Rename if gohub => "previous_username",
        Kind::Rename => "previousUsername",
        Kind::Reaction => "reaction",
        _ => "data",
    }
}

fn check_details(inner: &Value, gohub: bool, is_reaction: bool, details: &Details) {
    let time = |time: outspoke_protocol::Timestamp| {
        if gohub { json!(time.as_millis()) } else { json!(time.to_string()) }
    };
    let reactions: Vec<Value> = details
        .reactions
        .iter()
        .map(|reactions| json!({"reaction": reactions.reaction, "users": reactions.users}))
        .collect();
    for (name, expected) in [
        ("to", details.to.as_ref().map(|to| json!(to.as_str()))),
        ("target", details.target.map(|target| json!(target))),
        ("edited", details.edited.map(time)),
        ("deleted", details.deleted.map(time)),
        ("reactions", (!reactions.is_empty()).then_some(Value::Array(reactions))),
    ] {
        assert_eq!(inner.get(name), expected.as_ref(), "{name}");
    }
    if is_reaction && *details != Details::default() {
        assert_eq!(inner["removed"], details.withdrawn);
    } else {
        assert_eq!(inner.get("removed"), None);
    }
}

/// Whether there is JSON in it that is written as it came.
fn passes_json_on(event: &Event) -> bool {
    match event {
        Event::Reply { data, .. } => data.is_some(),
        Event::History(history) => {
            history.messages.iter().any(|message| matches!(message.body, Body::Json(_)))
        }
        Event::Presence(presence) => presence.page.iter().any(|present| present.info.is_some()),
        _ => false,
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

    /// One line each, whatever is inside: people read these in terminals and logs. Only JSON is passed on as its
    /// author wrote it.
    #[test]
    fn dialects_write_answers_as_one_line_of_valid_json(dialect in dialect(), event in event()) {
        let mut out = Vec::new();
        dialect.encode(&event, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let is_one_line = text.chars().all(|c| !matches!(c, '\0'..='\x1f' | '\x7f' | '\u{2028}' | '\u{2029}'));
        prop_assert!(is_one_line || passes_json_on(&event), "{}", text);
        let value = encode(dialect.as_ref(), &event);
        match &event {
            Event::Unsubscribed { request, .. } | Event::Pong { request } | Event::Reply { request, .. }
                if dialect.name() == "native" =>
            {
                let id = request.as_ref().map(|id| json!(id));
                prop_assert_eq!(value.get("id"), id.as_ref());
            }
            Event::History(history) => {
                let inner = if dialect.name() == "gohub" { &value["data"] } else { &value };
                for (written, message) in inner["messages"].as_array().unwrap().iter().zip(&history.messages) {
                    prop_assert_eq!(written, &encode(dialect.as_ref(), &Event::Message(message.clone())));
                }
            }
            _ => {}
        }
    }
}
