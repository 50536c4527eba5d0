//! `outspoke explain`: what an error, a close code or an exit code means, and what to do; this needs no server. Of a message
//! it says what became of it, which `explain_message` asks a server.
//!
//! Meanings are the protocol's own tables; what to do about them, for the people who meet them, is here. The API's refusals
//! take their hints from here as well.

use std::fmt::Write as _;

use clap::Args;
use outspoke_hub::protocol::{Disconnect, ErrorCode, Reconnect};
use serde_json::{Value, json};

use super::explain_message::{self, Meant};
use super::output::{Screen, print, print_json};
use super::reach::ReachArgs;
use crate::config::nearest::nearest;
use crate::exit::Exit;

/// What to explain.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// An error's number or name, for example 162, rate_limited, 4500 or 69; or a message: its id, or ROOM@OFFSET [default: list all errors]
    #[arg(value_name = "ERROR|MESSAGE")]
    what: Option<String>,

    /// The user who did or did not get the message
    #[arg(value_name = "USER")]
    user: Option<String>,

    /// Print JSON lines
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    reach: ReachArgs,
}

/// Not in any table.
#[derive(Debug, thiserror::Error)]
#[error("{}", match user {
    true => format!("{asked:?} is no message"),
    false => format!("there is no error, close code or exit code {asked:?}"),
})]
pub struct UnknownCode {
    asked: String,
    nearest: Option<&'static str>,
    /// A user is named, so a message is meant.
    user: bool,
}

impl UnknownCode {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self.nearest {
            _ if self.user => "write a message's id, or ROOM@OFFSET, for example lobby@42".to_owned(),
            Some(name) => format!("did you mean {name}?"),
            None => "`outspoke explain` lists them all".to_owned(),
        }
    }
}

/// Refusals of the HTTP API whose reason is HTTP's own: status, name, meaning.
const HTTP: [(u16, &str, &str); 9] = [
    (404, "not_found", "There is nothing of that name, or no such path."),
    (405, "method_not_allowed", "The path is there, but takes another method."),
    (408, "request_timeout", "The request's body did not come in time."),
    (413, "content_too_large", "The request's body is longer than api.body_bytes_max."),
    (415, "unsupported_media_type", "The request's body is not declared as JSON."),
    (
        422,
        "invalid_configuration",
        "The configuration that was to be put in force is wrong; nothing changed.",
    ),
    (429, "too_many_requests", "More requests, or wrong keys, than an address or a key may try."),
    (501, "not_implemented", "This server, or this room's class, does not do that."),
    (
        504,
        "outcome_unknown",
        "The storage went away in the middle of it, and nobody can know any more whether it was done.",
    ),
];

/// One entry of one of the tables.
#[derive(Clone, Copy, Debug)]
struct Entry {
    sort: Sort,
    number: u16,
    name: &'static str,
    meaning: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// Answers a request.
    Error { temporary: bool },
    /// Ends a connection.
    Close { comes_back: bool },
    /// Refuses an HTTP request.
    Http,
    /// Ends this program.
    Exit,
}

fn entries() -> impl Iterator<Item = Entry> {
    let errors = ErrorCode::ALL.iter().map(|code| Entry {
        sort: Sort::Error { temporary: code.is_temporary() },
        number: code.number(),
        name: code.name(),
        meaning: code.meaning(),
    });
    let closes = Disconnect::ALL.iter().map(|code| Entry {
        sort: Sort::Close { comes_back: code.reconnect() == Reconnect::Backoff },
        number: code.code(),
        name: code.name(),
        meaning: code.meaning(),
    });
    let http =
        HTTP.iter().map(|(number, name, meaning)| Entry { sort: Sort::Http, number: *number, name, meaning });
    let exits = Exit::ALL.iter().map(|exit| Entry {
        sort: Sort::Exit,
        number: *exit as u16,
        name: exit.name(),
        meaning: exit.meaning(),
    });
    errors.chain(closes).chain(http).chain(exits)
}

/// What to do about an error or a close code of that name.
pub(super) fn cure(name: &str) -> Option<&'static str> {
    Some(match name {
        "bad_request" => {
            "the message says what is wrong; the formats are in docs/protocol/native.md and, for HTTP, at /api/v1/openapi.json"
        }
        "unknown_type" => {
            "correct the type, or register a handler for it in the application that embeds the hub"
        }
        "unsupported_frame" => {
            "send text frames, or use a subprotocol that has binary ones (outspoke.v1.binary)"
        }
        "content_required" => "say something, or send data instead",
        "content_too_long" => {
            "say it in several messages, or raise limits.content_chars_max or limits.message_bytes_max"
        }
        "username_required" => "give a name: ?username= in open mode, else the name claim of the token",
        "username_too_long" => "choose a shorter name",
        "invalid_identity" => "use printable characters in ids and names",
        "invalid_room" => "use a non-empty, printable name of at most limits.room_name_bytes_max bytes",
        "room_required" => "name the room",
        "not_subscribed" => "subscribe to the room first; `outspoke tail ROOM` does",
        "too_many_rooms" => "leave a room, or raise limits.rooms_per_client_max",
        "room_full" => "try again when somebody has left, or raise the limit of the room's class",
        "room_limit" => "try again later, or raise limits.rooms_max",
        "unauthorized" => {
            "show a token or key that the server accepts; `outspoke token inspect` says what is wrong with one"
        }
        "forbidden" => {
            "use a credential with the permission that the message names; see docs/operating/authorization.md"
        }
        "token_expired" => "get a fresh token; `outspoke token create` makes one",
        "too_many_connections" => "close some, wait, or raise the limits under `limits` in the configuration",
        "client_not_found" => "the connection has ended; `outspoke presence ROOM` shows who is there",
        "send_buffer_full" => {
            "try again, or raise limits.queue_bytes_max; `outspoke top` shows who reads slowly"
        }
        "user_not_found" => "check the id; a user is known while connected, or by what is kept",
        "message_not_found" => "`outspoke history ROOM` shows which messages there are",
        "unknown_command" => "/help lists the commands; // says a text that begins with a slash",
        "unavailable" => "try again in a moment; the server's log says what is away",
        "timed_out" => "try again; the application's handler took too long",
        "internal" | "internal_error" => "report it, with the server's log; trying again may help",
        "storage_full" => "make room on the disk that keeps messages, or shorten what rooms keep",
        "quota_exceeded" => "wait, or raise the tenant's quotas; see docs/operating/http-api.md#tenants",
        "tenant_not_found" => "check the tenant's name, or make the tenant first",
        "rate_limited" => {
            "send less, or wait as long as the server says; operators raise the rates under `rate`"
        }
        "normal" => "nothing is wrong",
        "going_away" => "come back; the server restarts, or hands its clients to others",
        "protocol_error" => "correct the client, or what stands between it and the server: it broke RFC 6455",
        "invalid_data" => "send UTF-8 in text frames",
        "message_too_big" => "send smaller messages, or raise limits.message_bytes_max",
        "try_again_later" => "come back later, or raise server.connections_max",
        "slow_consumer" => {
            "read faster, subscribe to less, or give the room's class another policy for slow clients"
        }
        "write_timeout" => "look at the client's network; it comes back and recovers what it missed",
        "heartbeat_timeout" => {
            "answer pings, as WebSocket libraries do by themselves; or the network between is gone"
        }
        "reconnect_requested" => "come back",
        "credential_expired" => "come back with a fresh token, or show one before the old one ends",
        "authentication_timeout" => "send `auth` as the first message, within the server's time",
        "message_timeout" => "send a message's frames without long pauses",
        "replaced" => "use a device name of its own for every connection (?device=), if both should stay",
        "kicked" => "ask whoever runs the server",
        "tenant_removed" => "ask whoever runs the server",
        "revoked" => "get a new credential, if you should have one",
        "not_found" => "check the name; `outspoke rooms` and `outspoke cluster nodes` list what there is",
        "method_not_allowed" => "see /api/v1/openapi.json for the methods of the path",
        "request_timeout" => "send it again, over a better network",
        "content_too_large" => "send smaller requests, or raise api.body_bytes_max",
        "unsupported_media_type" => "send the header Content-Type: application/json",
        "invalid_configuration" => "correct the configuration at the place that the message names",
        "too_many_requests" => "wait as long as Retry-After says",
        "not_implemented" => "give the room's class what is missing; see docs/operating/rooms.md",
        "outcome_unknown" => {
            "look at the room's history before you send it again, and send it with the same idempotency key"
        }
        _ => return None,
    })
}

/// What to do about a close code.
pub(super) fn cure_of_close(code: u16) -> Option<&'static str> {
    let close = |entry: &Entry| matches!(entry.sort, Sort::Close { .. }) && entry.number == code;
    entries().find(close)?.cure()
}

impl Entry {
    fn cure(self) -> Option<&'static str> {
        match self.sort {
            Sort::Exit => None,
            Sort::Close { .. } if self.name == "unauthorized" => {
                Some("show a credential that the server accepts")
            }
            _ => cure(self.name),
        }
    }

    fn what(self) -> &'static str {
        match self.sort {
            Sort::Error { .. } => "error",
            Sort::Close { .. } => "close code",
            Sort::Http => "HTTP status",
            Sort::Exit => "exit code",
        }
    }

    fn text(self, screen: Screen) -> String {
        let Self { number, name, meaning, .. } = self;
        let mut text = format!("{}\n  {meaning}\n", screen.bold(&format!("{} {number} {name}", self.what())));
        match self.sort {
            Sort::Error { temporary: true } => {
                text.push_str("  temporary: the same request may succeed later, unchanged\n");
            }
            Sort::Error { temporary: false } => {
                text.push_str("  permanent: the same request will fail again\n")
            }
            Sort::Close { comes_back: true } => text.push_str("  clients come back, with growing pauses\n"),
            Sort::Close { comes_back: false } => text.push_str("  clients stay away\n"),
            Sort::Http | Sort::Exit => {}
        }
        if let Some(cure) = self.cure() {
            let _ = writeln!(text, "  hint: {cure}");
        }
        text
    }

    fn json(self) -> Value {
        let Self { number, name, meaning, .. } = self;
        let mut json = json!({ "kind": self.what(), "code": number, "name": name, "meaning": meaning });
        match self.sort {
            Sort::Error { temporary } => json["temporary"] = temporary.into(),
            Sort::Close { comes_back } => json["reconnect"] = comes_back.into(),
            Sort::Http | Sort::Exit => {}
        }
        if let Some(cure) = self.cure() {
            json["hint"] = cure.into();
        }
        json
    }
}

/// A close code that is not in the table means what its range says.
fn by_range(number: u16) -> Option<Entry> {
    let close =
        |comes_back, name, meaning| Some(Entry { sort: Sort::Close { comes_back }, number, name, meaning });
    match number {
        1005 | 1006 => {
            close(true, "none", "The connection broke without a close frame: a network, a proxy, or a crash.")
        }
        4000..=4499 => {
            close(true, "unknown", "Not known to this version; codes from 4000 to 4499 mean: come back.")
        }
        4500..=4999 => {
            close(false, "unknown", "Not known to this version; codes from 4500 to 4999 mean: stay away.")
        }
        1000..=2999 => {
            close(false, "unknown", "One of RFC 6455's (section 7.4.1) that the server never sends.")
        }
        _ => None,
    }
}

fn find(asked: &str) -> Result<Vec<Entry>, UnknownCode> {
    let folded = asked.trim().to_lowercase().replace(['-', ' '], "_");
    // People copy the letter that some programs put before an error's number.
    let number = folded.strip_prefix('e').unwrap_or(&folded).parse::<u16>().ok();
    let found: Vec<Entry> =
        entries().filter(|entry| entry.name == folded || Some(entry.number) == number).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    match number.and_then(by_range) {
        Some(entry) => Ok(vec![entry]),
        None => {
            let nearest = nearest(&folded, entries().map(|entry| entry.name));
            Err(UnknownCode { asked: asked.to_owned(), nearest, user: false })
        }
    }
}

pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    if let Some(meant) = args.what.as_deref().and_then(Meant::parse) {
        return explain_message::run(&meant, args.user.as_deref(), &args.reach, args.json);
    }
    if let (Some(asked), Some(_)) = (&args.what, &args.user) {
        return Err(UnknownCode { asked: asked.clone(), nearest: None, user: true }.into());
    }
    let found = match &args.what {
        Some(asked) => find(asked)?,
        None => entries().collect(),
    };
    if args.json {
        return print_json(&found.into_iter().map(Entry::json).collect::<Vec<_>>());
    }
    let text = match &args.what {
        Some(_) => found.into_iter().map(|entry| entry.text(Screen::detect())).collect::<Vec<_>>().join("\n"),
        None => {
            let row = |entry: Entry| {
                vec![
                    entry.what().to_owned(),
                    entry.number.to_string(),
                    entry.name.to_owned(),
                    entry.meaning.to_owned(),
                ]
            };
            super::output::columns(&["KIND", "CODE", "NAME", "MEANING"], found.into_iter().map(row).collect())
        }
    };
    print(&text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A code that is added to a table must be explained, too.
    #[test]
    fn every_code_has_a_cure() {
        for entry in entries().filter(|entry| entry.sort != Sort::Exit) {
            assert!(entry.cure().is_some(), "{} {} has no cure", entry.what(), entry.name);
        }
    }

    #[test]
    fn codes_are_found_by_number_and_by_name_in_every_table() {
        let names = |asked: &str| find(asked).unwrap().iter().map(|entry| entry.what()).collect::<Vec<_>>();
        assert_eq!(names("rate_limited"), ["error", "close code"]);
        assert_eq!(names("Rate-Limited"), ["error", "close code"]);
        assert_eq!(names("162"), ["error"]);
        assert_eq!(names("E162"), ["error"]);
        assert_eq!(names("4500"), ["close code"]);
        assert_eq!(names("69"), ["exit code"]);
        assert_eq!(find("4999").unwrap()[0].name, "unknown");
        let unknown = find("rate_limitd").unwrap_err();
        assert_eq!(unknown.hint(), "did you mean rate_limited?");
        assert!(find("99999").is_err() && find("").is_err());
    }
}
