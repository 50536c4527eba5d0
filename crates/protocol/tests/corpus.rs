//! Every malformed frame of the corpus gets its documented error.
#![allow(clippy::unwrap_used)]

use outspoke_protocol::{Dialect, Event, Payload, Refusal, RequestId, dialects};
use serde::Deserialize;

/// See `corpus/README.md`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    frame: Option<String>,
    binary: Option<String>,
    error: String,
    words: Option<String>,
    id: Option<RequestId>,
    judge: Option<String>,
}

impl Case {
    fn decode(&self, dialect: &dyn Dialect) -> Result<(), Refusal> {
        let binary = self.binary.as_deref().map(unhex);
        let payload = match (&self.frame, &binary) {
            (Some(text), None) => Payload::Text(text),
            (None, Some(bytes)) => Payload::Binary(bytes),
            _ => panic!("{}: either `frame` or `binary`", self.name),
        };
        dialect.decode(payload).map(drop)
    }

    fn check(&self, dialect: &dyn Dialect) {
        let what = format!("{}: {}", dialect.name(), self.name);
        if self.judge.is_some() {
            self.decode(dialect).unwrap_or_else(|refusal| panic!("{what} is the hub's to judge: {refusal}"));
            return;
        }
        let refusal = self.decode(dialect).expect_err(&what);
        assert_eq!(refusal.code.name(), self.error, "{what}: {refusal}");
        assert_eq!(refusal.request, self.id, "{what}: {refusal}");
        let words = self.words.as_deref().unwrap_or_default();
        assert!(refusal.detail.contains(words), "{what}: {words:?} is not in {:?}", refusal.detail);
        assert!(!refusal.detail.is_empty() && refusal.detail.len() < 300, "{what}: {}", refusal.detail);
        let mut out = Vec::new();
        dialect.encode(&Event::Refused(refusal), &mut out).unwrap();
        serde_json::from_slice::<serde_json::Value>(&out).unwrap();
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn corpus_frames_get_their_documented_error() {
    let files =
        [("native", include_str!("corpus/native.json")), ("gohub", include_str!("corpus/gohub.json"))];
    let mut cases = 0;
    for (name, json) in files {
        let dialect = dialects::standard().into_iter().find(|known| known.name() == name).unwrap();
        for case in serde_json::from_str::<Vec<Case>>(json).unwrap() {
            case.check(dialect.as_ref());
            cases += 1;
        }
    }
    assert!(cases >= 430, "only {cases} cases: has a file been cut?");
}

/// Frames that end anywhere, of requests of every kind: refused or read, never a panic.
#[test]
fn corpus_frames_cut_at_every_place_are_refused() {
    let whole = [
        (
            "native",
            r#"{"type":"publish","id":"a","room":"b\u00e9","data":{"x":[1,-2.5e3,"\ud83d\ude00",null]},"y":[{}]}"#,
        ),
        (
            "native",
            r#"{"type":"direct","to":"b\u00f6b","content":"\ud83d\ude00","data":null,"idempotencyKey":"k","id":-1}"#,
        ),
        (
            "gohub",
            r#"{"message_id":1,"message_type":"react","data":{"offset":1,"reaction":"👍","remove":true}}"#,
        ),
        ("gohub", r#"{"message_id":1,"message_type":"chat","data":{"room":"é","content":"a\\b"},"ts":1}"#),
    ];
    for (name, text) in whole {
        let dialect = dialects::standard().into_iter().find(|known| known.name() == name).unwrap();
        dialect.decode(Payload::Text(text)).unwrap();
        for end in (0..text.len()).filter(|&end| text.is_char_boundary(end)) {
            assert!(dialect.decode(Payload::Text(&text[..end])).is_err(), "{}", &text[..end]);
        }
    }
}
