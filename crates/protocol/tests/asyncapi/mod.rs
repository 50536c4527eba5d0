//! The native dialect as AsyncAPI 3.0, written from frames that tests hold: the transcripts, which are replayed against the server, and
//! the recorded shapes of every event.
//!
//! What a type of message may have is what it has in any of these frames, what it must have is what it has in all of them. So the description
//! can lag behind nothing that a test knows, and says nothing that no test has seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use outspoke_protocol::transcript::{REMEMBERING, SHIPPED, illustrate};
use outspoke_protocol::{FrameKind, dialects};
use serde_json::{Map, Value, json};

/// Frames of each type, in the order in which they were found.
type Frames = BTreeMap<String, Vec<Value>>;

/// A description of values that were seen: types, and of objects and arrays what is in them.
#[derive(Default)]
struct Shape {
    types: BTreeSet<&'static str>,
    objects: usize,
    fields: BTreeMap<String, (usize, Self)>,
    items: Option<Box<Self>>,
}

impl Shape {
    fn see(&mut self, value: &Value) {
        let name = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        self.types.insert(name);
        if let Value::Object(fields) = value {
            self.objects += 1;
            for (name, value) in fields {
                let (times, shape) = self.fields.entry(name.clone()).or_default();
                *times += 1;
                shape.see(value);
            }
        }
        for item in value.as_array().into_iter().flatten() {
            self.items.get_or_insert_default().see(item);
        }
    }

    fn schema(&self) -> Value {
        let types: Vec<_> = self.types.iter().copied().collect();
        let mut schema = Map::new();
        schema.insert("type".to_owned(), if let [only] = types[..] { json!(only) } else { json!(types) });
        if self.types.contains("object") {
            let fields = self.fields.iter().map(|(name, (_, shape))| {
                // What people publish passes through as it is.
                let schema = if ["data", "info"].contains(&name.as_str()) {
                    json!({ "description": "Any JSON." })
                } else {
                    shape.schema()
                };
                (name.clone(), schema)
            });
            schema.insert("properties".to_owned(), Value::Object(fields.collect()));
            let always =
                self.fields.iter().filter(|(_, (times, _))| *times == self.objects).map(|(name, _)| name);
            let always: Vec<_> = always.collect();
            if !always.is_empty() {
                schema.insert("required".to_owned(), json!(always));
            }
        }
        if let Some(items) = &self.items {
            schema.insert("items".to_owned(), items.schema());
        }
        Value::Object(schema)
    }
}

fn keep(frames: &mut Frames, text: &str) {
    let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
    let Some(name) = frame["type"].as_str().map(str::to_owned) else { return };
    frames.entry(name).or_default().push(frame);
}

/// What clients send and what the server sends, in the native dialect.
fn frames() -> (Frames, Frames) {
    let (mut requests, mut events) = (Frames::new(), Frames::new());
    for (name, text) in SHIPPED.iter().chain(REMEMBERING) {
        let native: BTreeSet<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("@ "))
            .filter_map(|line| line.split_once(' ').filter(|(_, rest)| rest.starts_with("native")))
            .map(|(client, _)| client)
            // A client that is alone is not named in its lines.
            .chain(text.lines().find_map(|line| {
                line.starts_with("@ ").then(|| if line.contains(" native ") { "" } else { "@" })
            }))
            .collect();
        for line in text.lines() {
            let Some((head, frame)) = line.split_once(' ') else { continue };
            let Some(client) =
                head.get(..head.find(['<', '>']).unwrap_or(0)).filter(|client| native.contains(client))
            else {
                continue;
            };
            let frame = illustrate(frame);
            if head[client.len()..].starts_with('<') {
                keep(&mut events, &frame);
            } else if *name != "errors" {
                // What is sent there is wrong on purpose.
                keep(&mut requests, &frame);
            }
        }
    }
    let mut encoded = Vec::new();
    let native = dialects::standard().into_iter().find(|dialect| dialect.name() == "native").unwrap();
    for event in super::every_event() {
        encoded.clear();
        if native.encode(&event, &mut encoded) == Some(FrameKind::Text) {
            keep(&mut events, std::str::from_utf8(&encoded).unwrap());
        }
    }
    for shapes in [include_str!("../shapes/events.txt"), include_str!("../shapes/messages.txt")] {
        shapes.lines().filter(|line| line.starts_with("{\"type\"")).for_each(|line| keep(&mut events, line));
    }
    (requests, events)
}

/// A message for each type, under names that begin with `side`.
fn messages(side: &str, frames: &Frames) -> Map<String, Value> {
    let of = |(name, frames): (&String, &Vec<Value>)| {
        let mut shape = Shape::default();
        frames.iter().for_each(|frame| shape.see(frame));
        let mut payload = shape.schema();
        payload["properties"]["type"] = json!({ "const": name });
        let example = frames.iter().max_by_key(|frame| frame.as_object().map(Map::len)).unwrap();
        let message = json!({
            "name": name,
            "title": format!("{name}, from the {side}"),
            "contentType": "application/json",
            "payload": payload,
            "examples": [{ "payload": example }],
        });
        (format!("{side}.{name}"), message)
    };
    frames.iter().map(of).collect()
}

fn document() -> Value {
    let (requests, events) = frames();
    let (requests, events) = (messages("client", &requests), messages("server", &events));
    let refer = |messages: &Map<String, Value>, to: &str| -> Vec<Value> {
        messages.keys().map(|name| json!({ "$ref": format!("{to}/{name}") })).collect()
    };
    let of_channel: Map<_, _> = requests
        .keys()
        .chain(events.keys())
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    let operation = |action: &str, summary: &str, messages: &Map<String, Value>| {
        json!({
            "action": action,
            "summary": summary,
            "channel": { "$ref": "#/channels/native" },
            "messages": refer(messages, "#/channels/native/messages"),
        })
    };
    json!({
        "asyncapi": "3.0.0",
        "id": "urn:outspoke:native",
        "info": {
            "title": "Outspoke, the native dialect",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What clients and the server say to each other over a WebSocket, one JSON object in each text frame. \
                            Told in words in docs/protocol/native.md. Unknown fields are ignored by both sides; programs may publish types of \
                            their own, which arrive as they were sent.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "local": { "host": "localhost:8080", "protocol": "ws", "description": "A server as `outspoke serve` starts it." },
        },
        "channels": {
            "native": {
                "address": "/ws",
                "title": "A connection",
                "messages": of_channel,
                "bindings": { "ws": { "query": {
                    "type": "object",
                    "properties": {
                        "userId": { "type": "string", "description": "Who connects; counts only where no authentication is configured." },
                        "username": { "type": "string", "description": "The name shown to people; likewise." },
                        "device": { "type": "string", "description": "Which of the user's devices; a newer connection replaces one of the same." },
                        "join": { "type": "string", "description": "The first room; `none` for no room." },
                    },
                } } },
            },
        },
        "operations": {
            "fromClient": operation("receive", "What the server takes.", &requests),
            "fromServer": operation("send", "What clients get.", &events),
        },
        "components": { "messages": requests.into_iter().chain(events).collect::<Map<_, _>>() },
    })
}

/// A generator of clients must not work from what is no longer so.
#[test]
fn asyncapi_document_is_what_transcripts_and_shapes_have() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/asyncapi.json");
    let wanted = format!("{:#}\n", document());
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(path, wanted).unwrap();
    }
    let found = fs::read_to_string(path).unwrap();
    assert!(
        found == wanted,
        "docs/protocol/asyncapi.json lags behind; run: UPDATE=1 cargo test -p outspoke-protocol --test docs"
    );
}

/// An event that no transcript and no shape has would be missing in silence.
#[test]
fn asyncapi_document_has_the_messages_that_a_client_cannot_do_without() {
    let document = document();
    let messages = document["components"]["messages"].as_object().unwrap();
    for name in [
        "client.subscribe",
        "client.unsubscribe",
        "client.publish",
        "client.chat",
        "client.ping",
        "client.history",
        "server.welcome",
        "server.subscribed",
        "server.ack",
        "server.error",
        "server.message",
        "server.chat",
        "server.gap",
        "server.pong",
        "server.history",
        "server.going_away",
    ] {
        assert!(messages.contains_key(name), "{name}: {:?}", messages.keys().collect::<Vec<_>>());
    }
    let publish = &messages["client.publish"]["payload"];
    assert_eq!(publish["properties"]["type"], json!({ "const": "publish" }));
    assert!(messages["server.ack"]["payload"]["required"].as_array().unwrap().contains(&json!("id")));
}
