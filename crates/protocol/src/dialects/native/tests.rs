//! The rules of `native`, one test each.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;

use super::{Native, NativeBinary};
use crate::{
    Acknowledgement, Body, BodyRef, ClientId, Command, Details, Dialect, Durability, Epoch, ErrorCode, Event,
    FrameKind, Gap, Kind, Message, MessageId, NodeHint, Notice, Payload, Position, Publisher, Reactions,
    Refusal, Request, RequestId, RoomName, StartFrom, Subscribed, Timestamp, UserId, Welcome,
};

fn decode(text: &str) -> Request<'_> {
    Native.decode(Payload::Text(text)).unwrap_or_else(|refusal| panic!("{text}: {refusal}"))
}

fn refusal(text: &str) -> Refusal {
    Native.decode(Payload::Text(text)).expect_err(text)
}

fn bad_request(text: &str) -> String {
    let refusal = refusal(text);
    assert_eq!(refusal.code, ErrorCode::BadRequest, "{text}: {refusal}");
    refusal.detail.to_string()
}

fn encode(event: &Event) -> String {
    let mut out = b"before".to_vec();
    assert_eq!(Native.encode(event, &mut out), Some(FrameKind::Text));
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
fn native_chat_is_a_publish_of_text() {
    let request = decode(r#"{"type":"chat","content":"Hello everyone!"}"#);
    assert_eq!(request.id, None);
    let Command::Publish { room: None, kind: Kind::Chat, body: BodyRef::Text(text), key: None } =
        request.command
    else {
        panic!("{request:?}");
    };
    assert_eq!(text, "Hello everyone!");
}

#[test]
fn native_chat_without_content_says_so_by_code() {
    for text in [r#"{"type":"chat"}"#, r#"{"type":"chat","content":null}"#] {
        assert_eq!(refusal(text).code, ErrorCode::ContentRequired);
    }
    assert!(bad_request(r#"{"type":"chat","content":5}"#).contains("`content` must be a string"));
}

/// An empty content is well-formed; the hub judges it where it judges the length.
#[test]
fn native_chat_with_empty_content_is_left_to_the_hub() {
    let request = decode(r#"{"type":"chat","content":""}"#);
    assert!(matches!(request.command, Command::Publish { body: BodyRef::Text(text), .. } if text.is_empty()));
}

#[test]
fn native_escapes_in_texts_are_resolved() {
    let request = decode(r#"{"\u0074ype":"ch\u0061t","content":"a\n\ud83d\ude00","room":"l\u006fbby"}"#);
    let Command::Publish { room: Some(room), body: BodyRef::Text(text), .. } = request.command else {
        panic!("{request:?}");
    };
    assert_eq!((room.as_ref(), text.as_ref()), ("lobby", "a\n😀"));
}

#[test]
fn native_publish_keeps_data_byte_for_byte() {
    let request = decode(r#"{"type":"publish","room":"builds","data": {"b" :1, "a":[1.0,1e2]} ,"x":1}"#);
    let Command::Publish { room: Some(room), kind: Kind::Data, body: BodyRef::Json(data), key: None } =
        request.command
    else {
        panic!("{request:?}");
    };
    assert_eq!(room, "builds");
    assert_eq!(data.get(), r#"{"b" :1, "a":[1.0,1e2]}"#);
}

#[test]
fn native_publish_of_null_is_data_and_of_nothing_is_not() {
    assert!(matches!(
        decode(r#"{"type":"publish","data":null}"#).command,
        Command::Publish { room: None, body: BodyRef::Json(data), .. } if data.get() == "null"
    ));
    assert!(bad_request(r#"{"type":"publish","room":"builds"}"#).contains("`data`"));
}

#[test]
fn native_subscribe_takes_room_channel_or_data() {
    for text in [
        r#"{"type":"subscribe","room":"builds"}"#,
        r#"{"type":"subscribe","channel":"builds"}"#,
        r#"{"type":"subscribe","data":"builds"}"#,
        r#"{"type":"join","room":"builds"}"#,
        r#"{"type":"subscribe","room":"builds","channel":"builds","data":"builds"}"#,
    ] {
        let request = decode(text);
        assert!(
            matches!(&request.command, Command::Subscribe { room, from: StartFrom::Now, token: None } if room == "builds"),
            "{request:?}"
        );
    }
    for text in [r#"{"type":"unsubscribe","data":"builds"}"#, r#"{"type":"leave","channel":"builds"}"#] {
        let request = decode(text);
        assert!(matches!(&request.command, Command::Unsubscribe { room } if room == "builds"), "{request:?}");
    }
}

#[test]
fn native_two_different_rooms_are_refused() {
    for text in [
        r#"{"type":"chat","content":"x","room":"a","channel":"b"}"#,
        r#"{"type":"subscribe","room":"a","data":"b"}"#,
        r#"{"type":"unsubscribe","channel":"a","data":"b"}"#,
    ] {
        assert!(bad_request(text).contains("name the same thing"), "{text}");
    }
}

#[test]
fn native_subscribe_to_no_room_or_to_no_text_is_refused() {
    assert_eq!(refusal(r#"{"type":"subscribe"}"#).code, ErrorCode::RoomRequired);
    assert_eq!(refusal(r#"{"type":"leave","room":null}"#).code, ErrorCode::RoomRequired);
    assert!(bad_request(r#"{"type":"subscribe","data":5}"#).contains("`data` must be a string"));
    assert!(bad_request(r#"{"type":"unsubscribe","data":{"room":"a"}}"#).contains("this is an object"));
}

#[test]
fn native_subscribe_since_needs_epoch_and_offset() {
    let request = decode(r#"{"type":"subscribe","room":"a","epoch":"000000000000001F","offset":42}"#);
    assert!(
        matches!(request.command, Command::Subscribe { from: StartFrom::After(place), .. } if place == position())
    );
    for (field, words) in [
        (r#""epoch":"000000000000001f""#, "together"),
        (r#""offset":1"#, "together"),
        (r#""epoch":"1f","offset":1"#, "sixteen"),
        (r#""epoch":"+00000000000001f","offset":1"#, "sixteen"),
        (r#""epoch":31,"offset":1"#, "must be a string"),
        (r#""epoch":"000000000000001f","offset":-1"#, "negative"),
        (r#""epoch":"000000000000001f","offset":"1""#, "an integer"),
        (r#""epoch":"000000000000001f","offset":1.5"#, "a fraction"),
    ] {
        let text = format!(r#"{{"type":"subscribe","room":"a",{field}}}"#);
        assert!(bad_request(&text).contains(words), "{text}: {}", bad_request(&text));
    }
}

#[test]
fn native_request_id_is_a_short_text_or_an_integer() {
    let id = |id: &str| decode(&format!(r#"{{"type":"ping","id":{id}}}"#)).id;
    assert_eq!(id("7"), Some(RequestId::Number(7)));
    assert_eq!(id("-9223372036854775808"), Some(RequestId::Number(i64::MIN)));
    assert_eq!(id(r#""a\"b""#), Some(RequestId::Text("a\"b".into())));
    assert_eq!(id("null"), None);
    assert_eq!(id(&format!("{:?}", "x".repeat(64))), Some(RequestId::Text("x".repeat(64).into())));
    for wrong in ["1.5", "1e3", "true", "[1]", "{}", "9223372036854775808", r#""\ud800""#] {
        let text = format!(r#"{{"type":"ping","id":{wrong}}}"#);
        assert!(bad_request(&text).contains("`id`"), "{text}");
        assert_eq!(refusal(&text).request, None);
    }
    assert!(bad_request(&format!(r#"{{"type":"ping","id":{:?}}}"#, "é".repeat(33))).contains("64 bytes"));
}

/// Without this a client could not tell which of its requests went wrong.
#[test]
fn native_refusals_carry_the_request_id_where_it_was_readable() {
    for text in [
        r#"{"id":7,"type":"chat"}"#,
        r#"{"type":"chat","id":7}"#,
        r#"{"id":7}"#,
        r#"{"id":7,"type":"#,
        r#"{"id":7,"type":"chat","type":"chat"}"#,
        r#"{"id":7,"type":"chat"} x"#,
    ] {
        assert_eq!(refusal(text).request, Some(RequestId::Number(7)), "{text}");
    }
}

#[test]
fn native_unknown_types_are_the_applications() {
    let request = decode(r#"{"type":"vote","data":{"for":[1, 2]},"content":7,"room":{}}"#);
    let Command::Custom { name, data: Some(data) } = request.command else { panic!("{request:?}") };
    assert_eq!((name.as_ref(), data.get()), ("vote", r#"{"for":[1, 2]}"#));
    assert!(matches!(decode(r#"{"type":"vote"}"#).command, Command::Custom { data: None, .. }));
}

#[test]
fn native_server_types_are_refused() {
    for name in crate::dialects::SERVER_TYPES {
        assert!(bad_request(&format!(r#"{{"type":"{name}"}}"#)).contains("only the server"), "{name}");
    }
}

#[test]
fn native_unknown_fields_are_ignored_even_when_odd() {
    let deep = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    assert!(matches!(decode(&deep).command, Command::Ping));
    assert!(matches!(
        decode(r#"{"x":1,"x":2,"type":"ping","content":{},"data":1e999}"#).command,
        Command::Ping
    ));
}

#[test]
fn native_data_that_receivers_could_not_read_is_refused() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (data, words) in
        [(nested(59), "58 levels"), ("1e999".into(), "double"), (r#""\udead""#.into(), "surrogate")]
    {
        for name in ["publish", "vote"] {
            assert!(bad_request(&format!(r#"{{"type":"{name}","data":{data}}}"#)).contains(words));
        }
    }
    decode(&format!(r#"{{"type":"publish","data":{}}}"#, nested(58)));
}

#[test]
fn native_frames_that_are_no_message_say_what_and_where() {
    for (text, words) in [
        ("", "empty"),
        (" \n", "empty"),
        ("hello", "starts with 'h'"),
        ("[]", "starts with '['"),
        ("\u{feff}{}", "starts with '\\u{feff}'"),
        ("{}", "needs a type"),
        (r#"{"type":null}"#, "needs a type"),
        (r#"{"type":5}"#, "`type` must be a string"),
        (r#"{"type":""}"#, "empty"),
        (r#"{"type":"chat""#, "line 1 column 14"),
        ("{\n\"type\": chat}", "line 2 column 9"),
        (r#"{"type":"chat",}"#, "column 16"),
        (r#"{"type":"ping"}{"type":"ping"}"#, "trailing characters at line 1 column 16"),
        (r#"{"type":"ping","type":"chat"}"#, "`type` is given twice"),
        (r#"{"room":"a","type":"ping","room":"a"}"#, "`room` is given twice"),
        (r#"{"type":"a\x"}"#, "escape"),
        ("{\"type\":\"a\u{1}\"}", "control character"),
    ] {
        assert!(bad_request(text).contains(words), "{text}: {}", bad_request(text));
    }
    assert!(bad_request(&format!(r#"{{"type":"{}"}}"#, "x".repeat(65))).contains("64 bytes"));
}

#[test]
fn native_binary_frames_are_unsupported_where_nobody_asked_for_them() {
    let refused = Native.decode(Payload::Binary(b"{\"type\":\"ping\"}")).unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnsupportedFrame);
    assert!(refused.detail.contains("outspoke.v1.binary"), "{refused}");
}

/// The header's length, the header, the bytes.
fn frame(header: &str, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(header.len()).unwrap().to_be_bytes();
    [&length[..], header.as_bytes(), bytes].concat()
}

#[test]
fn native_binary_frame_publishes_its_bytes() {
    let sent = frame(r#"{"type":"publish","id":1,"room":"camera","event":"shot"}"#, b"\x00\xff{");
    let request = NativeBinary.decode(Payload::Binary(&sent)).unwrap();
    assert_eq!(request.id, Some(RequestId::Number(1)));
    let Command::Publish { room, kind, body: BodyRef::Binary(bytes), .. } = request.command else { panic!() };
    assert_eq!(
        (room.as_deref(), kind, bytes),
        (Some("camera"), Kind::Custom("shot".into()), &b"\x00\xff{"[..])
    );
    let sent = frame(r#"{"type":"direct","to":"bob"}"#, b"");
    let request = NativeBinary.decode(Payload::Binary(&sent)).unwrap();
    assert!(matches!(request.command, Command::Direct { body: BodyRef::Binary(b""), kind: Kind::Data, .. }));
    let text = NativeBinary.decode(Payload::Text(r#"{"type":"ping"}"#)).unwrap();
    assert!(matches!(text.command, Command::Ping));
}

#[test]
fn native_binary_frame_that_is_no_publish_is_refused_with_its_id() {
    for (header, words) in [
        (r#"{"type":"chat","id":1}"#, "this is chat"),
        (r#"{"type":"ping","id":1}"#, "this is ping"),
        (r#"{"type":"publish","id":1,"data":null}"#, "one with both"),
        (r#"{"type":"direct","id":1,"to":"bob","content":"x"}"#, "one with both"),
        (r#"{"type":"direct","id":1}"#, "needs `to`"),
        (r#"{"type":"publish","id":1,"event":"chat"}"#, "protocol's own"),
    ] {
        let refused = NativeBinary.decode(Payload::Binary(&frame(header, b"x"))).unwrap_err();
        assert_eq!(
            (refused.code, refused.request.clone()),
            (ErrorCode::BadRequest, Some(RequestId::Number(1)))
        );
        assert!(refused.detail.contains(words), "{header}: {refused}");
    }
    for sent in [&b""[..], b"\x00", b"\x00\x01", b"\xff\xff{}", b"\x00\x01\xff", b"\x00\x00x"] {
        let refused = NativeBinary.decode(Payload::Binary(sent)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::BadRequest, "{sent:?}");
    }
}

#[test]
fn native_binary_writes_bytes_behind_the_message_without_them() {
    let said = message(Kind::Custom("shot".into()), Body::Binary(Bytes::from_static(b"\x00\xff")));
    let mut out = b"before".to_vec();
    assert_eq!(NativeBinary.encode(&Event::Message(said), &mut out), Some(FrameKind::Binary));
    let header = r#"{"type":"shot","room":"lobby","userId":"user123","username":"Alice","timestamp":"2025-12-30T10:30:00.000Z","id":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42}"#;
    assert_eq!(out.strip_prefix(b"before").unwrap(), frame(header, b"\x00\xff"));
    let text = Event::Message(message(Kind::Chat, Body::Text("hello".into())));
    let mut out = Vec::new();
    assert_eq!(NativeBinary.encode(&text, &mut out), Some(FrameKind::Text));
    assert_eq!(out, encode(&text).as_bytes());
}

#[test]
fn native_binary_header_that_does_not_fit_its_length_is_sent_as_text() {
    let users = (0..8192).map(|n| UserId::new(format!("user-{n}"))).collect();
    let details =
        Details { reactions: vec![Reactions { reaction: "x".into(), users }], ..Details::default() };
    let said = message(Kind::Data, Body::Binary(Bytes::from_static(b"\x00\xff")));
    let said = Event::Message(Message { details: Some(Box::new(details)), ..said });
    let mut out = Vec::new();
    assert_eq!(NativeBinary.encode(&said, &mut out), Some(FrameKind::Text));
    assert_eq!(out, encode(&said).as_bytes());
}

/// B2's line: five keys, in this order, before everything else.
#[test]
fn native_chat_message_begins_with_the_documented_five_keys() {
    assert_eq!(
        encode(&Event::Message(message(Kind::Chat, Body::Text("Hello everyone!".into())))),
        r#"{"type":"chat","userId":"user123","username":"Alice","content":"Hello everyone!","timestamp":"2025-12-30T10:30:00.000Z","room":"lobby","id":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42}"#
    );
}

#[test]
fn native_every_kind_of_message_has_its_documented_shape() {
    for (message, expected) in [
        (
            Message {
                from: None,
                position: None,
                room: None,
                ..message(Kind::System, Body::Text("bye".into()))
            },
            r#"{"type":"system","content":"bye","timestamp":"2025-12-30T10:30:00.000Z","id":"00000000-0000-0000-0000-000000000007"}"#,
        ),
        (
            Message { position: None, ..message(Kind::Join, Body::Empty) },
            r#"{"type":"join","userId":"user123","username":"Alice","timestamp":"2025-12-30T10:30:00.000Z","room":"lobby","clientId":"00000000-0000-0000-0000-000000000009"}"#,
        ),
        (
            Message { position: None, ..message(Kind::Leave, Body::Empty) },
            r#"{"type":"leave","userId":"user123","username":"Alice","timestamp":"2025-12-30T10:30:00.000Z","room":"lobby","clientId":"00000000-0000-0000-0000-000000000009"}"#,
        ),
        (
            message(Kind::Data, Body::Json(Bytes::from_static(b"{\"a\": 1}"))),
            r#"{"type":"message","room":"lobby","data":{"a": 1},"userId":"user123","username":"Alice","timestamp":"2025-12-30T10:30:00.000Z","id":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42}"#,
        ),
        (
            message(Kind::Data, Body::Binary(Bytes::from_static(b"\x00\xff\x10\x80"))),
            r#"{"type":"message","room":"lobby","base64":"AP8QgA==","userId":"user123","username":"Alice","timestamp":"2025-12-30T10:30:00.000Z","id":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42}"#,
        ),
        (
            Message { from: None, ..message(Kind::Custom("process_output".into()), Body::Text("ok".into())) },
            r#"{"type":"process_output","room":"lobby","data":"ok","timestamp":"2025-12-30T10:30:00.000Z","id":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42}"#,
        ),
    ] {
        assert_eq!(encode(&Event::Message(message)), expected);
    }
}

#[test]
fn native_every_answer_has_its_documented_shape() {
    let request = || Some(RequestId::Text("a\"1".into()));
    for (event, expected) in [
        (
            Event::Welcome(Box::new(Welcome {
                client: ClientId::from_u128(9),
                user: UserId::new("user123"),
                name: "Alice".into(),
                ts: Timestamp::from_millis(0),
                ping_interval: Duration::from_secs(54),
                message_bytes_max: 8192,
                open_mode: true,
                expires: None,
                node: None,
            })),
            r#"{"type":"welcome","clientId":"00000000-0000-0000-0000-000000000009","userId":"user123","username":"Alice","timestamp":"1970-01-01T00:00:00.000Z","pingInterval":54000,"maxMessageBytes":8192,"openMode":true}"#,
        ),
        (
            Event::Welcome(Box::new(Welcome {
                client: ClientId::from_u128(9),
                user: UserId::new("u"),
                name: "".into(),
                ts: Timestamp::from_millis(0),
                ping_interval: Duration::from_secs(54),
                message_bytes_max: 8192,
                open_mode: false,
                expires: None,
                node: Some(NodeHint {
                    name: "hub-1".into(),
                    prefer: "hub-2".into(),
                    url: "wss://hub-2.example.com/ws".into(),
                }),
            })),
            r#"{"type":"welcome","clientId":"00000000-0000-0000-0000-000000000009","userId":"u","username":"","timestamp":"1970-01-01T00:00:00.000Z","pingInterval":54000,"maxMessageBytes":8192,"openMode":false,"node":{"name":"hub-1","prefer":"hub-2","url":"wss://hub-2.example.com/ws"}}"#,
        ),
        (
            Event::Subscribed(Box::new(subscribed(request()))),
            r#"{"type":"subscribed","id":"a\"1","room":"lobby","epoch":"000000000000001f","offset":42,"members":3,"head":42,"first":40,"durability":"stored"}"#,
        ),
        (
            Event::Unsubscribed { request: None, room: lobby(), because: None },
            r#"{"type":"unsubscribed","room":"lobby"}"#,
        ),
        (
            Event::Acknowledged(Acknowledgement {
                request: RequestId::Number(-1),
                room: lobby(),
                id: MessageId::from_u128(7),
                position: position(),
                ts: Timestamp::from_millis(1),
                duplicate: true,
            }),
            r#"{"type":"ack","id":-1,"room":"lobby","messageId":"00000000-0000-0000-0000-000000000007","epoch":"000000000000001f","offset":42,"timestamp":"1970-01-01T00:00:00.001Z","duplicate":true}"#,
        ),
        (Event::Pong { request: None }, r#"{"type":"pong"}"#),
        (Event::Pong { request: Some(RequestId::Number(5)) }, r#"{"type":"pong","id":5}"#),
        (
            Event::Refused(
                Refusal {
                    retry_after: Some(Duration::from_millis(1500)),
                    ..Refusal::new(ErrorCode::RoomFull, "full")
                }
                .answering(Some(RequestId::Number(5))),
            ),
            r#"{"type":"error","id":5,"code":124,"error":"room_full","message":"full","temporary":true,"retryAfter":1500}"#,
        ),
        (
            Event::Reply { request: request(), name: "voted".into(), data: Some(Bytes::from_static(b"[1]")) },
            r#"{"type":"voted","id":"a\"1","data":[1]}"#,
        ),
        (
            Event::Gap(Gap { room: lobby(), to: position(), missed: 3 }),
            r#"{"type":"gap","room":"lobby","missed":3,"epoch":"000000000000001f","offset":42}"#,
        ),
        (
            Event::Notice(Notice::GoingAway { reconnect_after: Duration::from_secs(2), url: None }),
            r#"{"type":"going_away","reconnectAfter":2000}"#,
        ),
        (
            Event::Notice(Notice::GoingAway {
                reconnect_after: Duration::from_secs(2),
                url: Some("wss://hub-2.example.com/ws".into()),
            }),
            r#"{"type":"going_away","reconnectAfter":2000,"url":"wss://hub-2.example.com/ws"}"#,
        ),
    ] {
        assert_eq!(encode(&event), expected);
    }
}

/// A message is one line, and safe to paste into a script.
#[test]
fn native_texts_are_escaped() {
    let text = "\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\"\\/\u{7f}\u{2027}\u{2028}\u{2029}\u{202a}é<😀>";
    let line = encode(&Event::Message(message(Kind::Chat, Body::Text(text.into()))));
    assert!(line.contains(r#""\u0000\b\t\n\u000b\f\r\u001f\"\\/\u007f‧\u2028\u2029"#), "{line}");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["content"], text);
}
