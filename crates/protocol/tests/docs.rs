//! Keeps `docs/protocol/` true: tables of codes, transcripts and field names come from the code.
//!
//! `UPDATE=1 cargo test -p outspoke-protocol --test docs` writes the generated parts anew. Outside of the
//! repository (in the published crate) there is no documentation to check.
#![allow(clippy::unwrap_used)]

mod asyncapi;
mod samples;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use outspoke_protocol::transcript::{self, illustrate};
use outspoke_protocol::{
    Acknowledgement, Body, ClientId, Disconnect, Epoch, ErrorCode, Event, FrameKind, Gap, Kind, Message,
    MessageId, Notice, Position, Publisher, Reconnect, Refusal, RequestId, RoomName, Timestamp, UserId,
    Welcome, dialects,
};
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol")
}

/// The generated part that a marker asks for.
fn generate(kind: &str, name: &str) -> String {
    match (kind, name) {
        ("table", "errors") => errors(),
        ("table", "disconnects") => disconnects(),
        ("transcript", name) => conversation(name),
        _ => panic!("no such part: {kind} {name}"),
    }
}

fn errors() -> String {
    let mut table = "| `code` | `error` | `temporary` | Meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for code in ErrorCode::ALL {
        let temporary = if code.is_temporary() { "yes" } else { "" };
        writeln!(table, "| {} | `{}` | {temporary} | {} |", code.number(), code.name(), code.meaning())
            .unwrap();
    }
    table
}

fn disconnects() -> String {
    let mut table = "| Code | Name | Come back? | Reason in the frame | Meaning |\n".to_owned();
    table += "| --- | --- | --- | --- | --- |\n";
    for disconnect in Disconnect::ALL {
        let again = match disconnect.reconnect() {
            Reconnect::Backoff => "yes",
            Reconnect::Never => "no",
        };
        let (code, name, reason) = (disconnect.code(), disconnect.name(), disconnect.reason());
        let reason = if reason.is_empty() { String::new() } else { format!("`{reason}`") };
        writeln!(table, "| {code} | `{name}` | {again} | {reason} | {} |", disconnect.meaning()).unwrap();
    }
    table
}

fn transcripts() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    transcript::SHIPPED.iter().chain(transcript::REMEMBERING)
}

/// A transcript for readers: examples in the place of placeholders, and what happens in words.
fn conversation(name: &str) -> String {
    let (_, text) = transcripts().find(|(known, _)| *known == name).unwrap();
    let mut block = "```text\n".to_owned();
    for line in text.lines().filter(|line| !line.starts_with("needs: ")) {
        block += &match line.split_once(' ') {
            Some(("@", connection)) => connects(connection),
            Some(("!", client)) => format!("{client} disconnects"),
            _ => illustrate(&line.replacen("<~ ", "< ", 1)),
        };
        block.push('\n');
    }
    block + "```\n"
}

fn connects(connection: &str) -> String {
    let words: Vec<&str> = connection.split(' ').collect();
    let [client, dialect, query] = words[..] else { panic!("{connection}") };
    let dialect = dialects::standard().into_iter().find(|known| known.name() == dialect).unwrap();
    let subprotocol = match dialect.name() {
        "native" => String::new(),
        _ => format!(" with subprotocol {}", dialect.subprotocols()[0]),
    };
    format!("{client} connects to /ws{query}{subprotocol}")
}

/// The page with its generated parts made anew.
fn regenerated(page: &str) -> String {
    let mut fresh = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("<!-- ") {
        let (marker, after) = after.split_once(" -->\n").unwrap();
        let (kind, name) = marker.split_once(": ").unwrap_or_else(|| panic!("no marker: {marker}"));
        let (_, after) = after.split_once("<!-- end -->").unwrap_or_else(|| panic!("{marker} has no end"));
        write!(fresh, "{before}<!-- {marker} -->\n{}<!-- end -->", generate(kind, name)).unwrap();
        rest = after;
    }
    fresh + rest
}

#[test]
fn docs_generated_parts_are_up_to_date() {
    if !folder().exists() {
        return;
    }
    for name in ["README.md", "native.md", "gohub.md", "codes.md"] {
        let path = folder().join(name);
        let page = fs::read_to_string(&path).unwrap();
        let fresh = regenerated(&page);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, fresh).unwrap();
        } else {
            assert!(
                page == fresh,
                "docs/protocol/{name} is not what the code says: \
                 run `UPDATE=1 cargo test -p outspoke-protocol --test docs` and look at the difference"
            );
        }
    }
}

#[test]
fn docs_show_every_transcript() {
    if !folder().exists() {
        return;
    }
    let pages: String = ["README.md", "native.md", "gohub.md"]
        .map(|name| fs::read_to_string(folder().join(name)).unwrap())
        .concat();
    for (name, _) in transcripts() {
        assert!(pages.contains(&format!("<!-- transcript: {name} -->")), "nobody shows {name}");
    }
}

/// A field that the server sends and no page names would be a secret.
#[test]
fn docs_name_every_field_and_type_that_the_server_sends() {
    if !folder().exists() {
        return;
    }
    for dialect in dialects::standard() {
        let page = dialect.name().trim_end_matches("-binary");
        let page = fs::read_to_string(folder().join(format!("{page}.md"))).unwrap();
        let mut words = BTreeSet::new();
        for event in every_event() {
            let mut out = Vec::new();
            if dialect.encode(&event, &mut out) == Some(FrameKind::Binary) {
                continue;
            }
            let value: Value = serde_json::from_slice(&out).unwrap();
            collect_keys(&value, &mut words);
            let name = value.get("type").or(value.get("message_type")).unwrap();
            words.insert(name.as_str().unwrap().to_owned());
        }
        words.extend(dialects::SERVER_TYPES.iter().map(|name| (*name).to_owned()));
        for word in words {
            assert!(page.contains(&format!("`{word}`")), "{}.md does not name `{word}`", dialect.name());
        }
    }
}

fn collect_keys(value: &Value, keys: &mut BTreeSet<String>) {
    for (key, inner) in value.as_object().into_iter().flatten() {
        keys.insert(key.clone());
        // What is inside `data` or `info` is the application's, unless it is an envelope's `data`.
        if value.get("message_type").is_some() || !matches!(key.as_str(), "data" | "info") {
            collect_keys(inner, keys);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        collect_keys(item, keys);
    }
}

/// One event of each sort, with every optional field set somewhere.
fn every_event() -> Vec<Event> {
    let remembered = samples::messages().into_iter().map(Event::Message).chain(samples::events());
    remembered.chain(other_events()).collect()
}

fn other_events() -> Vec<Event> {
    let room = RoomName::new("lobby", 8).unwrap();
    let position = Position { epoch: Epoch::from_u64(1), offset: 1 };
    let (ts, client) = (Timestamp::from_millis(0), ClientId::from_u128(1));
    let request = || Some(RequestId::Number(1));
    let message = |kind, body| {
        Event::Message(Message {
            id: MessageId::from_u128(1),
            room: Some(room.clone()),
            position: Some(position),
            kind,
            from: Some(Publisher { user: UserId::new("user123"), name: "Alice".into(), client }),
            ts,
            body,
            details: None,
        })
    };
    let refusal = Refusal { retry_after: Some(Duration::ZERO), ..Refusal::new(ErrorCode::Internal, "") };
    vec![
        message(Kind::Chat, Body::Text("".into())),
        message(Kind::System, Body::Text("".into())),
        message(Kind::Join, Body::Empty),
        message(Kind::Leave, Body::Empty),
        message(Kind::Data, Body::Json(Bytes::from_static(b"1"))),
        message(Kind::Data, Body::Binary(Bytes::new())),
        Event::Welcome(Box::new(Welcome {
            client,
            user: UserId::new("user123"),
            name: "Alice".into(),
            ts,
            ping_interval: Duration::ZERO,
            message_bytes_max: 0,
            open_mode: true,
            expires: Some(ts),
            node: None,
        })),
        Event::Authenticated { request: request(), expires: Some(ts) },
        Event::Kicked { request: request(), room: room.clone(), user: UserId::new("user123") },
        Event::Unsubscribed {
            request: request(),
            room: room.clone(),
            because: Some(Box::new(Refusal::new(ErrorCode::Forbidden, ""))),
        },
        Event::Acknowledged(Acknowledgement {
            request: RequestId::Number(1),
            room: room.clone(),
            id: MessageId::from_u128(1),
            position,
            ts,
            duplicate: true,
        }),
        Event::Pong { request: request() },
        Event::Refused(refusal.answering(request())),
        Event::Gap(Gap { room, to: position, missed: 1 }),
        Event::Notice(Notice::GoingAway { reconnect_after: Duration::ZERO, url: Some("".into()) }),
    ]
}
