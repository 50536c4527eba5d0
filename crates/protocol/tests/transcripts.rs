//! Replays every transcript through the dialects.
//!
//! Between decode and encode sits a small model of a hub. A line that a dialect reads or writes otherwise than the
//! transcript says fails here, before any server is built.
#![allow(clippy::unwrap_used)]

mod model;

use model::ModelHub;
use outspoke_protocol::transcript::{self, Captures, REMEMBERING, SHIPPED, Step};

fn all() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    SHIPPED.iter().chain(REMEMBERING)
}

fn replay(name: &str, text: &str) {
    let mut hub = ModelHub::new(&transcript::needs(text));
    let mut captures = Captures::default();
    for step in transcript::parse(text).unwrap_or_else(|error| panic!("{name}: {error}")) {
        match step {
            Step::Connect { client, dialect, query } => hub.connect(&client, &dialect, &query),
            Step::Close { client } => hub.close(&client),
            Step::Send { client, text } => hub.receive(&client, &captures.fill(&text).unwrap()),
            Step::Expect { client, group } => {
                let received = hub.received(&client);
                if let Err(mismatch) = group.verify(&received, &mut captures) {
                    panic!("{name}, {client}: {mismatch}");
                }
            }
        }
    }
    let left = hub.left_over().next();
    assert!(left.is_none(), "{name}: more is received than written: {left:?}");
}

/// The documentation shows these lines: a reader who types them must get these answers.
#[test]
fn transcripts_are_what_the_dialects_read_and_write() {
    for (name, text) in all() {
        replay(name, text);
    }
}

/// A server that remembers nothing must find all it needs to replay in `SHIPPED`.
#[test]
fn transcripts_that_need_something_are_apart() {
    for (name, text) in SHIPPED {
        assert!(transcript::needs(text).is_empty(), "{name}");
    }
    for (name, text) in REMEMBERING {
        assert!(!transcript::needs(text).is_empty(), "{name}");
    }
}

#[test]
fn transcripts_all_ship() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let mut shipped: Vec<&str> = all().map(|(name, _)| *name).collect();
    files.sort();
    shipped.sort_unstable();
    assert_eq!(
        files, shipped,
        "a file in transcripts/ is missing in the lists of `transcript`, or the other way round"
    );
}

/// Placeholders stand in for JSON values, so every line is JSON by itself.
#[test]
fn transcripts_server_lines_are_valid_json() {
    for (name, text) in all() {
        for line in text.lines() {
            if let Some((_, json)) = line.split_once("< ").or_else(|| line.split_once("<~ ")) {
                serde_json::from_str::<serde_json::Value>(json)
                    .unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
            }
        }
    }
}
