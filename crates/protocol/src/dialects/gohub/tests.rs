//! The rules of `gohub`, one test each.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;

use super::Gohub;
use crate::{
    Acknowledgement, Body, BodyRef, ClientId, Command, Dialect, Durability, Epoch, ErrorCode, Event,
    FrameKind, Gap, Kind, Message, MessageId, Notice, Payload, Position, Publisher, Refusal, Request,
    RequestId, RoomName, StartFrom, Subscribed, Timestamp, UserId, Welcome,
};

fn decode(text: &str) -> Request<'_> {
    Gohub.decode(Payload::Text(text)).unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
}

fn refusal(text: &str) -> Refusal {
    Gohub.decode(Payload::Text(text)).expect_err(text)
}

fn bad_request(text: &str) -> String {
    let refusal = refusal(text);
    assert_eq!(refusal.code, ErrorCode::BadRequest, "{text}: {refusal}");
    refusal.detail.to_string()
}

/// A request of this type with this data.
fn request(message_type: &str, data: &str) -> String {
    format!(r#"{{"message_id":1,"message_type":"{message_type}","data":{data}}}"#)
}

fn encode(event: &Event) -> String {
    let mut out = b"before".to_vec();
    assert_eq!(Gohub.encode(event, &mut out), Some(FrameKind::Text));
    let text = String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    text
}

fn lobby() -> RoomName {
    RoomName::new("lobby", 64).unwrap()
}

fn position() -> Position {
    Position { epoch: Epoch::from_u64(0x1f), offset: 42 }
}

fn message(kind: Kind, body: Body) -> Message {
    Message {
        id: MessageId::from_u128(7),
        room: Some(lobby()),
        position: Some(position()),
        kind,
        from: Some(Publisher {
            user: UserId::new("user123"),
            name: "Alice".into(),
            client: ClientId::from_u128(9),
        }),
        ts: Timestamp::from_millis(1_767_090_600_000),
        body,
        details: None,
    }
}

fn subscribed(request: Option<RequestId>) -> Subscribed {
    Subscribed {
        request,
        room: lobby(),
        position: position(),
        head: 42,
        first: 40,
        recovered: None,
        members: 3,
        durability: Durability::Stored,
        unread: None,
        topic: "".into(),
    }
}

#[test]
fn gohub_message_id_names_the_request_and_zero_names_none() {
    let ping = |id: &str| format!(r#"{{"message_id":{id},"message_type":"ping"}}"#);
    assert_eq!(decode(&ping("1")).id, Some(RequestId::Number(1)));
    assert_eq!(decode(&ping("9007199254740991")).id, Some(RequestId::Number(9_007_199_254_740_991)));
    assert_eq!(decode(&ping("0")).id, None);
    for wrong in ["-1", "9007199254740992", "1.5", "\"1\"", "true", "[]", "null", "99999999999999999999"] {
        assert!(bad_request(&ping(wrong)).contains("`message_id`"), "{wrong}");
        assert_eq!(refusal(&ping(wrong)).request, None);
    }
    assert!(bad_request(r#"{"message_type":"ping"}"#).contains("`message_id`"));
}

#[test]
fn gohub_envelope_fields_of_the_wrong_type_are_refused_with_the_id() {
    for (text, words) in [
        (r#"{"message_id":1}"#, "needs a type"),
        (r#"{"message_id":1,"message_type":null}"#, "needs a type"),
        (r#"{"message_id":1,"message_type":7}"#, "`message_type` must be a string"),
        (r#"{"message_id":1,"message_type":""}"#, "empty"),
        (r#"{"message_id":1,"message_type":"ping","ts":"now"}"#, "`ts` must be an integer"),
        (r#"{"message_id":1,"message_type":"ping","ts":1.5}"#, "`ts` must be an integer"),
        (r#"{"message_id":1,"message_type":"ping","message_type":"ping"}"#, "twice"),
        (r#"{"message_id":1,"message_type":"ping""#, "line 1 column 37"),
    ] {
        assert!(bad_request(text).contains(words), "{text}: {}", bad_request(text));
        assert_eq!(refusal(text).request, Some(RequestId::Number(1)), "{text}");
    }
    for text in ["", "ping", "[]", "1", "{}", "{\"message_id\":"] {
        assert_eq!(refusal(text).request, None);
        bad_request(text);
    }
}

#[test]
fn gohub_ping_needs_no_data_and_ignores_unknown_fields() {
    for text in [
        r#"{"message_id":1,"message_type":"ping"}"#,
        r#"{"message_id":1,"message_type":"ping","ts":1767090600000,"data":{"x":1}}"#,
        r#"{"message_type":"ping","trace":{"a":[1]},"message_id":1,"ts":null,"data":null}"#,
    ] {
        assert!(matches!(decode(text).command, Command::Ping), "{text}");
    }
}

#[test]
fn gohub_subscribe_takes_a_name_or_an_object() {
    for data in [r#""builds""#, r#"{"room":"builds"}"#, r#"{ "x":{}, "room":"bu\u0069lds" }"#] {
        let text = request("subscribe", data);
        assert!(
            matches!(decode(&text).command, Command::Subscribe { room, from: StartFrom::Now, token: None } if room == "builds"),
            "{text}"
        );
        let text = request("unsubscribe", data);
        assert!(matches!(decode(&text).command, Command::Unsubscribe { room } if room == "builds"), "{text}");
    }
    let text = request("subscribe", r#"{"room":"a","epoch":"000000000000001f","offset":42}"#);
    assert!(
        matches!(decode(&text).command, Command::Subscribe { from: StartFrom::After(place), .. } if place == position())
    );
}

#[test]
fn gohub_subscribe_without_a_room_or_with_a_wrong_one_is_refused() {
    for data in ["null", "{}", r#"{"room":null}"#] {
        assert_eq!(refusal(&request("subscribe", data)).code, ErrorCode::RoomRequired, "{data}");
    }
    for (data, words) in [
        ("5", "`data` must be a string"),
        ("[\"a\"]", "`data` must be a string"),
        (r#"{"room":5}"#, "`room` must be a string"),
        (r#"{"room":"a","room":"b"}"#, "inside `data`: the field `room` is given twice"),
        (r#"{"room":"a","offset":1}"#, "together"),
    ] {
        let text = request("subscribe", data);
        assert!(bad_request(&text).contains(words), "{text}: {}", bad_request(&text));
        assert_eq!(refusal(&text).request, Some(RequestId::Number(1)));
    }
}

#[test]
fn gohub_chat_takes_a_text_or_an_object() {
    for (data, named) in [
        (r#""hello""#, None),
        (r#"{"content":"hello"}"#, None),
        (r#"{"room":"builds","content":"hello"}"#, Some("builds")),
    ] {
        let text = request("chat", data);
        let Command::Publish { room, kind: Kind::Chat, body: BodyRef::Text(content), key: None } =
            decode(&text).command
        else {
            panic!("{text}");
        };
        assert_eq!((room.as_deref(), content.as_ref()), (named, "hello"), "{text}");
    }
    for data in ["null", "{}", r#"{"room":"a","content":null}"#] {
        assert_eq!(refusal(&request("chat", data)).code, ErrorCode::ContentRequired, "{data}");
    }
    assert_eq!(refusal(r#"{"message_id":1,"message_type":"chat"}"#).code, ErrorCode::ContentRequired);
    for data in ["5", "[]", "true", r#"{"content":5}"#, r#"{"content":"x","room":5}"#] {
        assert!(bad_request(&request("chat", data)).contains("must be a string"), "{data}");
    }
}

#[test]
fn gohub_publish_passes_the_inner_data_on() {
    let text = request("publish", r#"{"room":"builds","data": [1, {"a":null}] }"#);
    let Command::Publish { room: Some(room), kind: Kind::Data, body: BodyRef::Json(data), key: None } =
        decode(&text).command
    else {
        panic!("{text}");
    };
    assert_eq!((room.as_ref(), data.get()), ("builds", r#"[1, {"a":null}]"#));
    for data in ["null", "5", r#""x""#, "[]", r#"{"room":"builds"}"#] {
        assert!(bad_request(&request("publish", data)).contains("publish needs"), "{data}");
    }
    assert!(bad_request(&request("publish", r#"{"data":1e999}"#)).contains("double"));
}

#[test]
fn gohub_unknown_types_are_the_applications_with_data_unparsed() {
    let text = request("vote", r#"{"for" : [1.50, "\u0061"]}"#);
    let Command::Custom { name, data: Some(data) } = decode(&text).command else { panic!("{text}") };
    assert_eq!((name.as_ref(), data.get()), ("vote", r#"{"for" : [1.50, "\u0061"]}"#));
    assert!(matches!(
        decode(r#"{"message_id":0,"message_type":"vote"}"#).command,
        Command::Custom { data: None, .. }
    ));
    let deep = request("vote", &format!("{}{}", "[".repeat(59), "]".repeat(59)));
    assert!(bad_request(&deep).contains("58 levels"));
}

#[test]
fn gohub_server_types_are_refused() {
    for name in crate::dialects::SERVER_TYPES.iter().chain(&["join", "leave"]) {
        assert!(bad_request(&request(name, "1")).contains("only the server"), "{name}");
    }
}

#[test]
fn gohub_binary_frames_are_unsupported() {
    let refused = Gohub.decode(Payload::Binary(b"{}")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnsupportedFrame);
}

#[test]
fn gohub_every_kind_of_message_has_its_documented_shape() {
    for (message, expected) in [
        (
            message(Kind::Chat, Body::Text("Hello everyone!".into())),
            r#"{"message_id":0,"message_type":"chat","data":{"room":"lobby","user_id":"user123","username":"Alice","client_id":"00000000-0000-0000-0000-000000000009","content":"Hello everyone!","id":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42},"ts":1767090600000}"#,
        ),
        (
            Message {
                from: None,
                position: None,
                room: None,
                ..message(Kind::System, Body::Text("bye".into()))
            },
            r#"{"message_id":0,"message_type":"system","data":{"content":"bye","id":"00000000-0000-0000-0000-000000000007"},"ts":1767090600000}"#,
        ),
        (
            Message { position: None, ..message(Kind::Join, Body::Empty) },
            r#"{"message_id":0,"message_type":"join","data":{"room":"lobby","user_id":"user123","username":"Alice","client_id":"00000000-0000-0000-0000-000000000009","id":"00000000-0000-0000-0000-000000000007"},"ts":1767090600000}"#,
        ),
        (
            Message { from: None, ..message(Kind::Data, Body::Json(Bytes::from_static(b"{\"a\": 1}"))) },
            r#"{"message_id":0,"message_type":"message","data":{"room":"lobby","data":{"a": 1},"id":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42},"ts":1767090600000}"#,
        ),
        (
            Message {
                from: None,
                position: None,
                ..message(Kind::Custom("blob".into()), Body::Binary(Bytes::from_static(b"\x00\xff\x10")))
            },
            r#"{"message_id":0,"message_type":"blob","data":{"room":"lobby","base64":"AP8Q","id":"00000000-0000-0000-0000-000000000007"},"ts":1767090600000}"#,
        ),
    ] {
        assert_eq!(encode(&Event::Message(message)), expected);
    }
}

#[test]
fn gohub_every_answer_has_its_documented_shape() {
    let request = || Some(RequestId::Number(5));
    for (event, expected) in [
        (
            Event::Welcome(Box::new(Welcome {
                client: ClientId::from_u128(9),
                user: UserId::new("user123"),
                name: "".into(),
                ts: Timestamp::from_millis(-1),
                ping_interval: Duration::MAX,
                message_bytes_max: 8192,
                open_mode: false,
                expires: None,
                node: None,
            })),
            r#"{"message_id":0,"message_type":"welcome","data":{"client_id":"00000000-0000-0000-0000-000000000009","user_id":"user123","username":"","ping_interval_ms":9007199254740991,"message_bytes_max":8192,"open_mode":false},"ts":-1}"#,
        ),
        (
            Event::Subscribed(Box::new(subscribed(request()))),
            r#"{"message_id":5,"message_type":"subscribed","data":{"room":"lobby","epoch":"000000000000001f","offset":42,"members":3,"head":42,"first":40,"durability":"stored"}}"#,
        ),
        (
            Event::Unsubscribed { request: None, room: lobby(), because: None },
            r#"{"message_id":0,"message_type":"unsubscribed","data":{"room":"lobby"}}"#,
        ),
        (
            Event::Acknowledged(Acknowledgement {
                request: RequestId::Number(5),
                room: lobby(),
                id: MessageId::from_u128(7),
                position: position(),
                ts: Timestamp::from_millis(1),
                duplicate: true,
            }),
            r#"{"message_id":5,"message_type":"ack","data":{"room":"lobby","id":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42,"duplicate":true},"ts":1}"#,
        ),
        (Event::Pong { request: request() }, r#"{"message_id":5,"message_type":"pong"}"#),
        (
            Event::Refused(
                Refusal {
                    retry_after: Some(Duration::from_millis(1500)),
                    ..Refusal::new(ErrorCode::RoomFull, "full")
                }
                .answering(request()),
            ),
            r#"{"message_id":5,"message_type":"error","data":{"code":124,"error":"room_full","message":"full","temporary":true,"retry_after_ms":1500}}"#,
        ),
        (
            Event::Reply { request: request(), name: "voted".into(), data: Some(Bytes::from_static(b"[1]")) },
            r#"{"message_id":5,"message_type":"voted","data":[1]}"#,
        ),
        (
            Event::Reply { request: None, name: "voted".into(), data: None },
            r#"{"message_id":0,"message_type":"voted"}"#,
        ),
        (
            Event::Gap(Gap { room: lobby(), to: position(), missed: 3 }),
            r#"{"message_id":0,"message_type":"gap","data":{"room":"lobby","missed":3,"epoch":"000000000000001f","offset":42}}"#,
        ),
        (
            Event::Notice(Notice::GoingAway { reconnect_after: Duration::from_secs(2), url: None }),
            r#"{"message_id":0,"message_type":"going_away","data":{"reconnect_after_ms":2000}}"#,
        ),
        (
            Event::Notice(Notice::GoingAway {
                reconnect_after: Duration::from_secs(2),
                url: Some("wss://hub-2.example.com/ws".into()),
            }),
            r#"{"message_id":0,"message_type":"going_away","data":{"reconnect_after_ms":2000,"url":"wss://hub-2.example.com/ws"}}"#,
        ),
    ] {
        assert_eq!(encode(&event), expected);
    }
}
