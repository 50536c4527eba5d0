//! What rooms with a memory are asked, in both dialects: the same request, whatever it is written in.
#![allow(clippy::unwrap_used)]

use outspoke_protocol::dialects::{gohub::Gohub, native::Native};
use outspoke_protocol::{Command, Dialect, ErrorCode, Payload, Refusal};

/// What the dialect makes of the request: its type, and its fields with the braces around them (`null` for none).
fn decode<'a>(
    dialect: &dyn Dialect,
    frame: &'a mut String,
    name: &str,
    fields: &str,
) -> Result<Command<'a>, Refusal> {
    *frame = match (dialect.name(), fields) {
        ("native", "null" | "{}") => format!(r#"{{"type":"{name}"}}"#),
        ("native", fields) => format!(r#"{{"type":"{name}",{}"#, fields.strip_prefix('{').unwrap()),
        _ => {
            let fields = fields.replace("idempotencyKey", "idempotency_key");
            format!(r#"{{"message_id":1,"message_type":"{name}","data":{fields}}}"#)
        }
    };
    dialect.decode(Payload::Text(frame)).map(|request| request.command)
}

/// Both dialects read this request as this command.
fn check(name: &str, fields: &str, expected: &str) {
    for dialect in [&Native as &dyn Dialect, &Gohub] {
        let mut frame = String::new();
        let command = decode(dialect, &mut frame, name, fields)
            .unwrap_or_else(|refusal| panic!("{name} {fields}: {refusal}"));
        assert_eq!(format!("{command:?}"), expected, "{} {name} {fields}", dialect.name());
    }
}

/// Both dialects refuse this request with these words.
fn refuse(name: &str, fields: &str, words: &str) {
    for dialect in [&Native as &dyn Dialect, &Gohub] {
        let refusal = decode(dialect, &mut String::new(), name, fields).expect_err(fields);
        assert_eq!(refusal.code, ErrorCode::BadRequest, "{name} {fields}: {refusal}");
        assert!(refusal.detail.contains(words), "{} {name} {fields}: {refusal}", dialect.name());
    }
}

fn refuse_with(name: &str, fields: &str, code: ErrorCode) {
    for dialect in [&Native as &dyn Dialect, &Gohub] {
        let refusal = decode(dialect, &mut String::new(), name, fields).expect_err(fields);
        assert_eq!(refusal.code, code, "{name} {fields}: {refusal}");
    }
}

#[test]
fn request_subscribe_says_where_to_begin() {
    let begins = |fields: &str, from: &str| {
        check(
            "subscribe",
            &format!(r#"{{"room":"a"{fields}}}"#),
            &format!(r#"Subscribe {{ room: "a", from: {from}, token: None }}"#),
        );
    };
    begins("", "Now");
    begins(r#","last":null,"offset":null,"epoch":null"#, "Now");
    begins(r#","last":20"#, "Last(20)");
    begins(r#","last":9000000000"#, "Last(4294967295)");
    begins(r#","epoch":"000000000000001f","offset":42"#, "After(Position { epoch: Epoch(31), offset: 42 })");
    for (fields, words) in [
        (r#""last":1,"epoch":"000000000000001f","offset":42"#, "both say where to begin"),
        (r#""last":-1"#, "`last` must not be negative"),
        (r#""last":"1""#, "`last` must be an integer"),
        (r#""offset":1"#, "together"),
    ] {
        refuse("subscribe", &format!(r#"{{"room":"a",{fields}}}"#), words);
    }
}

/// Whoever leaves needs no place: fields that a type does not use are ignored.
#[test]
fn request_unsubscribe_ignores_where_to_begin() {
    check("unsubscribe", r#"{"room":"a","offset":"?","last":-1}"#, r#"Unsubscribe { room: "a" }"#);
}

#[test]
fn request_idempotency_key_has_1_to_64_bytes() {
    let key = "k".repeat(64);
    let fields = |key: &str| {
        format!(r#"{{"content":"x","offset":1,"to":"b","reaction":"x","data":null,"idempotencyKey":{key}}}"#)
    };
    for name in ["chat", "direct", "edit", "delete", "react"] {
        for dialect in [&Native as &dyn Dialect, &Gohub] {
            let (mut frame, text) = (String::new(), fields(&format!("{key:?}")));
            let read = match decode(dialect, &mut frame, name, &text).unwrap() {
                Command::Publish { key, .. } | Command::Direct { key, .. } | Command::Amend { key, .. } => {
                    key
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(read.as_deref(), Some(key.as_str()), "{name}");
        }
        refuse(name, &fields(r#""""#), "1 to 64 bytes of UTF-8, this one has 0");
        refuse(name, &fields(&format!("\"{key}k\"")), "1 to 64 bytes of UTF-8, this one has 65");
        refuse(name, &fields("7"), "must be a string");
    }
    check(
        "publish",
        r#"{"room":"a","data":1,"idempotencyKey":"k"}"#,
        r#"Publish { room: Some("a"), kind: Data, body: Json(RawValue(1)), key: Some("k") }"#,
    );
}

#[test]
fn request_publish_and_direct_name_their_own_sort_of_message() {
    check(
        "publish",
        r#"{"room":"a","data":1,"event":"process_output"}"#,
        r#"Publish { room: Some("a"), kind: Custom("process_output"), body: Json(RawValue(1)), key: None }"#,
    );
    check(
        "direct",
        r#"{"to":"bob","data":1,"event":"a.b:c-d"}"#,
        r#"Direct { to: "bob", kind: Custom("a.b:c-d"), body: Json(RawValue(1)), key: None }"#,
    );
    check(
        "chat",
        r#"{"content":"a","event":7}"#,
        r#"Publish { room: None, kind: Chat, body: Text("a"), key: None }"#,
    );
    let taken =
        ["chat", "publish", "join", "leave", "ping", "typing", "auth", "seen", "message", "system", "ack"];
    for name in taken {
        refuse("publish", &format!(r#"{{"data":1,"event":"{name}"}}"#), "the protocol's own");
        refuse("direct", &format!(r#"{{"to":"bob","data":1,"event":"{name}"}}"#), "the protocol's own");
    }
    for name in ["", "a b", "é", &"x".repeat(65)] {
        refuse("publish", &format!(r#"{{"data":1,"event":"{name}"}}"#), "1 to 64 letters");
    }
    refuse("publish", r#"{"data":1,"event":7}"#, "`event` must be a string");
}

#[test]
fn request_direct_has_an_addressee_and_one_body() {
    check(
        "direct",
        r#"{"to":"bob","content":"psst"}"#,
        r#"Direct { to: "bob", kind: Chat, body: Text("psst"), key: None }"#,
    );
    check(
        "direct",
        r#"{"to":"bob","content":"psst","data":null}"#,
        r#"Direct { to: "bob", kind: Chat, body: Text("psst"), key: None }"#,
    );
    check(
        "direct",
        r#"{"to":"bob","data":null}"#,
        r#"Direct { to: "bob", kind: Data, body: Json(RawValue(null)), key: None }"#,
    );
    refuse("direct", r#"{"to":"bob","content":"a","data":1}"#, "this one has both");
    refuse("direct", r#"{"content":"a"}"#, "direct needs `to`");
    refuse("direct", r#"{"to":7,"content":"a"}"#, "`to` must be a string");
    refuse_with("direct", r#"{"to":"bob"}"#, ErrorCode::ContentRequired);
}

#[test]
fn request_amendments_name_their_message() {
    check(
        "edit",
        r#"{"room":"a","offset":7,"content":"better"}"#,
        r#"Amend { room: Some("a"), target: 7, amendment: Edit(Text("better")), key: None }"#,
    );
    check(
        "edit",
        r#"{"offset":7,"data":{"a":1}}"#,
        r#"Amend { room: None, target: 7, amendment: Edit(Json(RawValue({"a":1}))), key: None }"#,
    );
    check("delete", r#"{"offset":7}"#, r#"Amend { room: None, target: 7, amendment: Delete, key: None }"#);
    for (remove, withdraw) in [("", false), (r#","remove":false"#, false), (r#","remove":true"#, true)] {
        check(
            "react",
            &format!(r#"{{"offset":7,"reaction":"👍"{remove}}}"#),
            &format!(
                r#"Amend {{ room: None, target: 7, amendment: React {{ reaction: "👍", withdraw: {withdraw} }}, key: None }}"#
            ),
        );
    }
    for name in ["edit", "delete", "react"] {
        let with = |offset: &str| format!(r#"{{"content":"x","reaction":"x"{offset}}}"#);
        refuse(name, &with(""), &format!("{name} needs `offset`"));
        refuse(name, &with(r#","offset":0"#), "the first one's is 1");
        refuse(name, &with(r#","offset":-1"#), "must not be negative");
        refuse(name, &with(r#","offset":"7""#), "must be an integer");
    }
    refuse_with("edit", r#"{"offset":7}"#, ErrorCode::ContentRequired);
    refuse("edit", r#"{"offset":7,"content":"a","data":"b"}"#, "this one has both");
    refuse("react", r#"{"offset":7}"#, "needs `reaction`");
    refuse(
        "react",
        r#"{"offset":7,"reaction":"x","remove":1}"#,
        "`remove` must be true or false, this is an integer",
    );
}

/// Every emoji there is can be a reaction; a line of text, or what nobody can see, cannot.
#[test]
fn request_reactions_are_short_and_visible() {
    for fine in ["👍", "+1", "👩🏽‍❤️‍💋‍👨🏿", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "❤️", "genau so"]
    {
        check(
            "react",
            &format!(r#"{{"offset":1,"reaction":"{fine}"}}"#),
            &format!(
                "Amend {{ room: None, target: 1, amendment: React {{ reaction: {fine:?}, withdraw: false }}, key: None }}"
            ),
        );
    }
    let long = "x".repeat(41);
    for (reaction, words) in [
        ("", "1 to 40 bytes"),
        (long.as_str(), "this one has 41"),
        (" x", "no blank"),
        (" ", "no blank"),
        ("\\u0007", "control"),
        ("\u{202e}x", "invisible"),
        ("\u{200b}", "invisible"),
    ] {
        refuse("react", &format!(r#"{{"offset":1,"reaction":"{reaction}"}}"#), words);
    }
}

#[test]
fn request_history_has_one_fixed_end() {
    for (fields, page, limit) in [
        ("", "Newest", "None"),
        (r#","before":31"#, "Before(31)", "None"),
        (r#","after":0,"limit":50"#, "After(0)", "Some(50)"),
    ] {
        check(
            "history",
            &format!(r#"{{"room":"a"{fields}}}"#),
            &format!(r#"History {{ room: "a", page: {page}, limit: {limit} }}"#),
        );
    }
    refuse("history", r#"{"room":"a","before":1,"after":2}"#, "send one of them");
    refuse("history", r#"{"room":"a","before":"x"}"#, "`before` must be an integer");
    refuse("history", r#"{"room":"a","limit":-5}"#, "`limit` must not be negative");
    refuse_with("history", r#"{"limit":5}"#, ErrorCode::RoomRequired);
}

#[test]
fn request_pages_of_users_go_on_after_a_user() {
    for (name, variant) in [("presence", "Presence"), ("receipts", "Receipts")] {
        check(name, r#"{"room":"a"}"#, &format!(r#"{variant} {{ room: "a", after: None, limit: None }}"#));
        check(
            name,
            r#"{"room":"a","after":"ada","limit":0}"#,
            &format!(r#"{variant} {{ room: "a", after: Some("ada"), limit: Some(0) }}"#),
        );
        refuse(name, r#"{"room":"a","after":5}"#, "`after` must be a string");
        refuse_with(name, "{}", ErrorCode::RoomRequired);
        refuse_with(name, "null", ErrorCode::RoomRequired);
    }
    check("conversations", "null", "Conversations { after: None, limit: None }");
    check(
        "conversations",
        r#"{"after":"ada","limit":10,"room":{}}"#,
        r#"Conversations { after: Some("ada"), limit: Some(10) }"#,
    );
}

#[test]
fn request_typing_and_receipts_go_to_the_room_one_started_in() {
    check("typing", "null", "Typing { room: None, active: true }");
    check("typing", r#"{"room":"a","active":false}"#, r#"Typing { room: Some("a"), active: false }"#);
    refuse("typing", r#"{"active":"yes"}"#, "`active` must be true or false, this is a string");
    for (name, receipt) in [("delivered", "Delivered"), ("seen", "Seen")] {
        check(name, r#"{"offset":17}"#, &format!("Receipt {{ room: None, receipt: {receipt}, offset: 17 }}"));
        check(
            name,
            r#"{"room":"a","offset":0}"#,
            &format!(r#"Receipt {{ room: Some("a"), receipt: {receipt}, offset: 0 }}"#),
        );
        refuse(name, r#"{"room":"a"}"#, "needs `offset`");
        refuse(name, r#"{"offset":1.5}"#, "must be an integer");
    }
}

#[test]
fn request_commands_needs_nothing() {
    check("commands", "null", "Commands");
    check("commands", r#"{"room":5}"#, "Commands");
}

/// In `native`, `channel` names a room wherever `room` does.
#[test]
fn request_native_channel_is_a_room() {
    for (name, more) in
        [("history", ""), ("presence", ""), ("receipts", ""), ("typing", ""), ("seen", r#","offset":1"#)]
    {
        let frame = format!(r#"{{"type":"{name}","channel":"a"{more}}}"#);
        let request = Native.decode(Payload::Text(&frame)).unwrap();
        assert!(format!("{:?}", request.command).contains(r#""a""#), "{request:?}");
        let both = format!(r#"{{"type":"{name}","channel":"a","room":"b"{more}}}"#);
        assert!(Native.decode(Payload::Text(&both)).unwrap_err().detail.contains("name the same thing"));
    }
}

/// In `gohub`, a room's name may be all of `data` where it can be all of the request.
#[test]
fn request_gohub_data_can_be_a_room() {
    let frame =
        |name: &str, data: &str| format!(r#"{{"message_id":1,"message_type":"{name}","data":{data}}}"#);
    for name in ["history", "presence", "receipts", "typing"] {
        let text = frame(name, r#""builds""#);
        let request = Gohub.decode(Payload::Text(&text)).unwrap();
        assert!(format!("{:?}", request.command).contains(r#""builds""#), "{request:?}");
        let refusal = Gohub.decode(Payload::Text(&frame(name, "[]"))).unwrap_err().detail;
        assert!(refusal.contains("`data` must be a string"), "{refusal}");
    }
    for name in ["direct", "edit", "delete", "react", "delivered", "seen", "conversations"] {
        let refusal = Gohub.decode(Payload::Text(&frame(name, r#""builds""#))).unwrap_err().detail;
        assert!(refusal.contains("needs `data` to be an object"), "{refusal}");
    }
}

#[test]
fn request_auth_has_a_token_that_does_not_show_itself() {
    check("auth", r#"{"token":"a.b.c"}"#, "Authenticate { token: Token(5 bytes) }");
    refuse("auth", r#"{"token":null}"#, "auth needs `token`");
    refuse("auth", r#"{"token":""}"#, "`token` has 1 to 8192 bytes, this one has 0");
    let long = format!(r#"{{"token":"{}"}}"#, "s3cret".repeat(2000));
    refuse("auth", &long, "`token` has 1 to 8192 bytes, this one has 12000");
    for dialect in [&Native as &dyn Dialect, &Gohub] {
        for fields in [long.as_str(), r#"{"token":["s3cret"]}"#, r#"{"token":"s3cret","token":"s3cret"}"#] {
            let refusal = decode(dialect, &mut String::new(), "auth", fields).expect_err(fields);
            assert!(!format!("{refusal:?}").contains("s3cret"), "{refusal:?}");
        }
    }
}

#[test]
fn request_subscribe_may_show_a_token_for_the_room() {
    check(
        "subscribe",
        r#"{"room":"a","token":"t"}"#,
        r#"Subscribe { room: "a", from: Now, token: Some(Token(1 bytes)) }"#,
    );
    refuse("subscribe", r#"{"room":"a","token":7}"#, "`token` must be a string");
}

#[test]
fn request_kick_names_a_user_and_maybe_a_room_and_a_time() {
    check("kick", r#"{"room":"a","user":"b"}"#, r#"Kick { room: Some("a"), user: "b", seconds: None }"#);
    check("kick", r#"{"user":"b","seconds":60}"#, r#"Kick { room: None, user: "b", seconds: Some(60) }"#);
    refuse("kick", r#"{"room":"a"}"#, "kick needs `user`");
    refuse("kick", r#"{"user":"b","seconds":-1}"#, "`seconds`");
}
