//! How both dialects write what rooms with a memory send, byte for byte.
#![allow(clippy::unwrap_used)]

mod samples;

use outspoke_protocol::{Event, dialects};

/// The event in each dialect's words, one line each.
fn lines(events: impl IntoIterator<Item = Event>) -> String {
    let mut lines = Vec::new();
    for event in events {
        for dialect in dialects::standard() {
            dialect.encode(&event, &mut lines).unwrap();
            lines.push(b'\n');
        }
    }
    String::from_utf8(lines).unwrap()
}

/// Compares with the file beside this one; `UPDATE=1` writes it anew.
fn check(file: &str, found: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shapes").join(file);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(path, found).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected);
        serde_json::from_str::<serde_json::Value>(found).unwrap();
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn shapes_of_messages_are_the_documented_ones() {
    check("messages.txt", &lines(samples::messages().into_iter().map(Event::Message)));
}

#[test]
fn shapes_of_answers_and_notices_are_the_documented_ones() {
    check("events.txt", &lines(samples::events()));
}
