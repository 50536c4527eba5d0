//! `outspoke explain MESSAGE USER`: what became of a message, asked of a running server.

use std::fmt::Write as _;

use serde_json::Value;

use super::api::{Api, encoded, read};
use super::output::{Screen, clean, columns, print};
use super::reach::ReachArgs;

/// Which message is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// By its place.
    At { room: String, offset: u64 },
    /// By its id.
    Id(String),
}

impl Meant {
    /// A message's id or `ROOM@OFFSET`; nothing that is an error's number or name looks like either.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.parse::<outspoke_hub::MessageId>().is_ok() {
            return Some(Self::Id(text.to_owned()));
        }
        // Names of private conversations have signs of their own.
        let (room, offset) = text.rsplit_once('@')?;
        let digits = !offset.is_empty() && offset.bytes().all(|byte| byte.is_ascii_digit());
        let offset = offset.parse().ok().filter(|_| digits && !room.is_empty())?;
        Some(Self::At { room: room.to_owned(), offset })
    }
}

pub(super) fn run(meant: &Meant, user: Option<&str>, reach: &ReachArgs, json: bool) -> anyhow::Result<()> {
    let api = Api::of(reach)?;
    let mut path = match meant {
        Meant::At { room, offset } => format!("/explain?room={}&offset={offset}", encoded(room)),
        Meant::Id(id) => format!("/explain?message={}", encoded(id)),
    };
    if let Some(user) = user {
        let _ = write!(path, "&user={}", encoded(user));
    }
    let answer = api.ask("GET", &path)?;
    if json {
        return print(&format!("{}\n", answer.trim_end()));
    }
    print(&told(&read(&answer)?, Screen::detect()))
}

/// The story as people read it.
fn told(story: &Value, screen: Screen) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => clean(text).into_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut out = format!("{}\n", screen.bold(&text(&story["summary"])));
    let by = match &story["from"]["userId"] {
        Value::Null => "the application".to_owned(),
        user => text(user),
    };
    let _ = writeln!(
        out,
        "  message   {}@{} {} {} by {by}",
        text(&story["room"]),
        text(&story["offset"]),
        text(&story["type"]),
        text(&story["messageId"])
    );
    let published = &story["published"];
    if !published.is_null() {
        let (at, node, via) = (&published["at"], &published["node"], &published["via"]);
        let _ = writeln!(out, "  published {} on {} over {}", text(at), text(node), text(via));
    }
    if !story["stored"].is_null() {
        let took = &story["stored"]["tookMs"];
        let took = if took.is_null() { String::new() } else { format!(" after {} ms", text(took)) };
        let _ = writeln!(out, "  stored    durably{took}");
    }
    if let Some(told) = story["bus"]["told"].as_bool() {
        let word = if told { "told" } else { "not told" };
        let _ = writeln!(out, "  bus       {}: {word}", text(&story["bus"]["kind"]));
    }
    for node in story["nodes"].as_array().into_iter().flatten() {
        let said = match (node["answered"].as_bool(), &node["heard"]) {
            (Some(false), _) => "did not answer".to_owned(),
            (_, Value::Null) => "does not remember it".to_owned(),
            (_, heard) => {
                let handed = node["handedOut"].as_array().into_iter().flatten();
                let members: u64 = handed.filter_map(|handed| handed["members"].as_u64()).sum();
                format!(
                    "had it {} ({}), gave it to {members} members",
                    text(&heard["at"]),
                    text(&heard["how"])
                )
            }
        };
        let _ = writeln!(out, "  node      {}: {said}", text(&node["node"]));
    }
    let receipts = &story["user"]["receipts"];
    if !receipts.is_null() {
        let word = |field: &str| if receipts[field] == true { "yes" } else { "no" };
        let _ = writeln!(out, "  receipts  delivered: {}, seen: {}", word("delivered"), word("seen"));
    }
    let rows: Vec<Vec<String>> = story["user"]["connections"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let mut why = text(&one["why"]);
            for (name, field) in [("policy", "policy"), ("code", "code"), ("", "reason")] {
                if !one[field].is_null() {
                    let _ = write!(
                        why,
                        "; {name}{}{}",
                        if name.is_empty() { "" } else { " " },
                        text(&one[field])
                    );
                }
            }
            let place = |field: &str| text(&one[field]);
            vec![place("node"), place("clientId"), place("device"), place("outcome"), place("at"), why]
        })
        .collect();
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&columns(&["NODE", "CLIENT", "DEVICE", "OUTCOME", "AT", "WHY"], rows));
    }
    for what in story["unknown"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "not known: {}", text(what));
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    /// `explain` has two meanings; no word may have both.
    #[test]
    fn messages_are_told_apart_from_errors() {
        let at = |room: &str, offset| Some(Meant::At { room: room.to_owned(), offset });
        assert_eq!(Meant::parse("lobby@42"), at("lobby", 42));
        assert_eq!(Meant::parse("@ana~ben@7"), at("@ana~ben", 7));
        let id = outspoke_hub::MessageId::from_u128(7).to_string();
        assert_eq!(Meant::parse(&id), Some(Meant::Id(id.clone())));
        for error in
            ["4500", "E162", "rate_limited", "slow_consumer", "lobby", "lobby@", "@7", "lobby@-1", ""]
        {
            assert_eq!(Meant::parse(error), None, "{error}");
        }
    }

    #[test]
    fn story_is_told_with_what_is_not_known() {
        let story = json!({
            "room": "lobby", "offset": 42, "type": "chat", "messageId": "m", "summary": "ana was sent it",
            "from": { "userId": "ben" }, "published": { "node": "a", "at": "then", "via": "socket" },
            "stored": { "durability": "stored", "tookMs": 1.5 }, "bus": { "kind": "redis", "told": true },
            "nodes": [
                { "node": "a", "answered": true, "heard": { "how": "published", "at": "then" },
                  "handedOut": [{ "members": 3 }] },
                { "node": "b\u{1b}[2J", "answered": false }
            ],
            "user": { "userId": "ana", "connections": [
                { "node": "a", "clientId": "c", "outcome": "ended", "code": 4000, "reason": "slow", "why": "it ended" }
            ] },
            "unknown": ["node b did not answer"]
        });
        let told = told(&story, Screen::PLAIN);
        for wanted in [
            "lobby@42 chat m by ben",
            "published then on a over socket",
            "stored    durably after 1.5 ms",
            "redis: told",
            "a: had it then (published), gave it to 3 members",
            "did not answer",
            "it ended; code 4000; slow",
            "not known: node b",
        ] {
            assert!(told.contains(wanted), "{wanted:?} is not in {told}");
        }
        assert!(!told.contains('\u{1b}'), "{told}");
    }
}
